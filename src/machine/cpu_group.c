// SPDX-License-Identifier: Apache-2.0
/*
 * Shares of the processors by control group; see cpu_group.h.
 *
 * Source: Linux's Documentation/admin-guide/cgroup-v2.rst, "Delegation", "CPU", "Cpuset",
 * "Threads".
 *
 *	DIR/vireo.shares/PID		one for each VM, with its cpu.weight, cpu.max, cpuset.cpus
 *	DIR/vireo.shares/PID/vcpuN	one for each of its vCPUs, threaded
 *
 * A group with processes in it cannot be divided, but for the root: DIR is one that is divided
 * already, or can be.  A group goes with the next VM that starts after its own has ended: who is
 * in a group cannot remove it.
 */
#include "machine/cpu_group.h"

#include "base/types.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ALL_VMS		"vireo.shares"
#define WEIGHT_DEFAULT	100
#define PERIOD		20000U	/* us: a cap is kept over each of them ... */
#define QUOTA_LEAST	1000U	/* ... which is longer where the kernel would not take so little */
#define LINE		(PATH_MAX + 256)

/* --- files --- */

static int open_in(const char *dir, const char *name)
{
	char path[PATH_MAX];
	int fd;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) >= (int)sizeof(path))
		return -ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int put(int fd, const char *text)
{
	return pwrite(fd, text, strlen(text), 0) < 0 ? -errno : 0;
}

static int put_in(const char *dir, const char *name, const char *text)
{
	const int fd = open_in(dir, name);
	int rc;

	if (fd < 0)
		return fd;
	rc = put(fd, text);
	close(fd);
	return rc;
}

static bool has_word(const char *dir, const char *name, const char *word)
{
	char path[PATH_MAX], text[512] = "", *rest = text, *item;
	FILE *f = NULL;

	if (snprintf(path, sizeof(path), "%s/%s", dir, name) < (int)sizeof(path))
		f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	while ((item = strsep(&rest, " \n")))
		if (!strcmp(item, word))
			return true;
	return false;
}

/* --- which group --- */

/* Where version 2 is mounted, whole: its root is "/" there. */
static bool find_mount(char at[PATH_MAX], const char *mountinfo)
{
	char line[LINE], root[PATH_MAX];
	FILE *f = fopen(mountinfo, "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = strstr(line, " - cgroup2 ") &&
			sscanf(line, "%*s %*s %*s %4095s %4095s", root, at) == 2 &&
			!strcmp(root, "/");
	if (f)
		fclose(f);
	return found;
}

static bool find_own(char path[PATH_MAX], const char *cgroup)
{
	char line[LINE];
	FILE *f = fopen(cgroup, "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = sscanf(line, "0::%4095[^\n]", path) == 1;
	if (f)
		fclose(f);
	return found && path[0] == '/' && !strstr(path, "/..");
}

/* The groups below @dir get @controller. */
static bool enable(const char *dir, const char *controller)
{
	char text[16];

	if (has_word(dir, "cgroup.subtree_control", controller))
		return true;
	snprintf(text, sizeof(text), "+%s", controller);
	return has_word(dir, "cgroup.controllers", controller) &&
	       !put_in(dir, "cgroup.subtree_control", text);
}

/* May this user put processes there, and groups that share processors? */
static bool can_divide(const char *dir)
{
	char procs[PATH_MAX];

	return snprintf(procs, sizeof(procs), "%s/cgroup.procs", dir) < (int)sizeof(procs) &&
	       !access(dir, W_OK) && !access(procs, W_OK) && enable(dir, "cpu");
}

int cpu_group_find(char dir[PATH_MAX], const char *mountinfo, const char *cgroup, struct err *e)
{
	char mount[PATH_MAX], own[PATH_MAX], at[2 * PATH_MAX];
	size_t len = 0;

	if (!find_mount(mount, mountinfo) || !find_own(own, cgroup))
		return err_set(e, ENOTSUP, "there are no control groups of version 2 here");
	for (;;) {
		snprintf(at, sizeof(at), "%s%.*s", mount, (int)len, own);
		if (strlen(at) < PATH_MAX - 64 && can_divide(at)) {
			strcpy(dir, at);
			return 0;
		}
		if (!own[len] || !own[len + 1])
			break;
		len += 1 + strcspn(own + len + 1, "/");
	}
	return err_set(e, ENOTSUP, "this user may divide no control group from %s%s upwards by "
		       "processors", mount, own);
}

/* --- one of our own --- */

static void remove_group(const char *path)
{
	char child[PATH_MAX];

	for (unsigned int i = 0; i < CPU_THREADS_MAX; i++)
		if (snprintf(child, sizeof(child), "%s/vcpu%u", path, i) < (int)sizeof(child) &&
		    rmdir(child) && errno == ENOENT)
			break;
	rmdir(path);
}

/*
 * Of VMs that have ended; where somebody is in it, that fails.  A VM that has not been given limits
 * yet is not in its group.
 */
static void remove_old(const char *all)
{
	char path[PATH_MAX];
	DIR *d = opendir(all);
	const struct dirent *entry;

	while (d && (entry = readdir(d))) {
		const int pid = atoi(entry->d_name);

		if (pid > 0 && kill(pid, 0) && errno == ESRCH &&
		    snprintf(path, sizeof(path), "%s/%d", all, pid) < (int)sizeof(path))
			remove_group(path);
	}
	if (d)
		closedir(d);
}

static int open_files(struct cpu_group *g, struct err *e)
{
	static const char *const names[] = { "cgroup.procs", "cpu.weight", "cpu.max" };
	int *const fds[] = { &g->procs, &g->weight, &g->max };

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		*fds[i] = open_in(g->path, names[i]);
		if (*fds[i] < 0)
			return err_errno(e, -*fds[i], "could not open %s/%s", g->path, names[i]);
	}
	g->cpuset = open_in(g->path, "cpuset.cpus");
	return 0;
}

int cpu_group_open(struct cpu_group *g, const char *dir, struct err *e)
{
	char all[PATH_MAX];
	int rc;

	*g = (struct cpu_group){ .procs = -1, .weight = -1, .max = -1, .cpuset = -1 };
	if (snprintf(all, sizeof(all), "%s/" ALL_VMS, dir) >= (int)sizeof(all) - 32)
		return err_set(e, ENAMETOOLONG, "the name of the control group is too long");
	enable(dir, "cpuset");
	if (mkdir(all, 0755) && errno != EEXIST)
		return err_errno(e, errno, "could not make the control group %s", all);
	if (!enable(all, "cpu"))
		return err_set(e, ENOTSUP, "the control group %s does not divide processors", all);
	enable(all, "cpuset");
	remove_old(all);
	snprintf(g->path, sizeof(g->path), "%.*s/%d", PATH_MAX - 32, all, (int)getpid());
	if (mkdir(g->path, 0755) && errno != EEXIST) {
		rc = err_errno(e, errno, "could not make the control group %s", g->path);
		g->path[0] = '\0';
		return rc;
	}
	rc = open_files(g, e);
	if (rc)
		cpu_group_close(g);
	return rc;
}

/* "0,2,3"; an empty line takes the limit away. */
static void list_cpus(char *text, size_t size, const struct cpu_limits *l)
{
	size_t len = 0;

	text[0] = '\0';
	for (unsigned int i = 0; l->pinned && i < CPU_SETSIZE && len + 8 < size; i++)
		if (CPU_ISSET(i, &l->pin))
			len += snprintf(text + len, size - len, "%u,", i);
	if (len)
		text[len - 1] = '\0';
	else
		strcpy(text, "\n");
}

static void tell_cap(char *text, size_t size, unsigned int cap)
{
	const unsigned int period = MAX(PERIOD, (100 * QUOTA_LEAST + cap - 1) / cap);

	snprintf(text, size, "%llu %u", (unsigned long long)cap * period / 100, period);
}

/* Into cpu.weight and cpu.max. */
static int put_limits(int weight_fd, int max_fd, const struct cpu_limits *l)
{
	char weight[16], max[32] = "max";
	int rc;

	snprintf(weight, sizeof(weight), "%u", l->weight ? l->weight : WEIGHT_DEFAULT);
	if (l->cap)
		tell_cap(max, sizeof(max), l->cap);
	rc = put(weight_fd, weight);
	return rc ? rc : put(max_fd, max);
}

int cpu_group_set(struct cpu_group *g, const struct cpu_limits *l, struct err *e)
{
	char cpus[6 * CPU_SETSIZE];
	int rc;

	list_cpus(cpus, sizeof(cpus), l);
	rc = put_limits(g->weight, g->max, l);
	/* Threads are pinned one by one as well, so this is not missed where it cannot be. */
	if (!rc && g->cpuset >= 0)
		put(g->cpuset, cpus);
	if (!rc && !g->entered)
		rc = put(g->procs, "0");	/* the writer */
	if (rc)
		return err_errno(e, -rc, "the control group %s did not take this VM", g->path);
	g->entered = true;
	return 0;
}

static void put_number(int fd, int number)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", number);
	put(fd, text);
}

void cpu_group_add(struct cpu_group *g, int tid)
{
	put_number(g->procs, tid);
}

void cpu_group_close(struct cpu_group *g)
{
	int *const fds[] = { &g->procs, &g->weight, &g->max, &g->cpuset };

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
	if (g->path[0] && !g->entered)
		remove_group(g->path);
	g->path[0] = '\0';
}

/* --- one of a thread --- */

int cpu_thread_group_open(struct cpu_thread_group *t, const struct cpu_group *g, unsigned int n,
			  struct err *e)
{
	static const char *const names[] = { "cgroup.threads", "cpu.weight", "cpu.max" };
	int *const fds[] = { &t->threads, &t->weight, &t->max };
	char path[PATH_MAX];
	int rc;

	*t = (struct cpu_thread_group){ .threads = -1, .weight = -1, .max = -1 };
	if (snprintf(path, sizeof(path), "%s/vcpu%u", g->path, n) >= (int)sizeof(path))
		return err_set(e, ENAMETOOLONG, "the name of the control group is too long");
	if (mkdir(path, 0755) && errno != EEXIST)
		return err_errno(e, errno, "could not make the control group %s", path);
	rc = put_in(path, "cgroup.type", "threaded");
	if (rc)
		return err_errno(e, -rc, "could not make %s a group of threads", path);
	if (!enable(g->path, "cpu"))
		return err_set(e, ENOTSUP, "the control group %s does not divide processors", g->path);
	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		*fds[i] = open_in(path, names[i]);
		if (*fds[i] < 0) {
			rc = err_errno(e, -*fds[i], "could not open %s/%s", path, names[i]);
			cpu_thread_group_close(t);
			return rc;
		}
	}
	return 0;
}

int cpu_thread_group_set(struct cpu_thread_group *t, int tid, const struct cpu_limits *l, struct err *e)
{
	char who[16];
	int rc = put_limits(t->weight, t->max, l);

	snprintf(who, sizeof(who), "%d", tid);
	if (!rc && !t->entered)
		rc = put(t->threads, who);
	if (rc)
		return err_errno(e, -rc, "the control group of a processor did not take it");
	t->entered = true;
	return 0;
}

void cpu_thread_group_add(struct cpu_thread_group *t, int tid)
{
	put_number(t->threads, tid);
}

void cpu_thread_group_close(struct cpu_thread_group *t)
{
	int *const fds[] = { &t->threads, &t->weight, &t->max };

	for (unsigned int i = 0; i < ARRAY_SIZE(fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}
