// SPDX-License-Identifier: Apache-2.0
/*
 * Control groups, version 2: Linux's Documentation/admin-guide/cgroup-v2.rst.
 *
 * A group may have either processes or, with controllers, groups below.  So the process that
 * supervises moves to a group "vireo" below the one it was in, and the VM gets "vireo-PID" beside
 * that, which works where the user was given the group with nobody else in it ("delegated").
 */
#include "mgmt/jail_group.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define WAY_OUT	"systemd-run --user --scope -p Delegate=yes vireo run ... gives one"

/* --- files of the group --- */

static int write_file(const char *dir, const char *name, const char *text)
{
	char path[PATH_MAX + 64];
	ssize_t n;
	int fd, rc;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, strlen(text));
	rc = n < 0 ? -errno : 0;
	close(fd);
	return rc;
}

static bool has_word(const char *dir, const char *name, const char *word)
{
	char path[PATH_MAX + 64], text[512], *rest = text, *item;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = '\0';
	if (f)
		fclose(f);
	while ((item = strsep(&rest, " \n")))
		if (!strcmp(item, word))
			return true;
	return false;
}

/* --- where we are --- */

/* Where version 2 is mounted. */
static bool find_mount(char mount[PATH_MAX])
{
	char line[PATH_MAX + 256], at[PATH_MAX];
	FILE *f = fopen("/proc/self/mountinfo", "re");
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f)) {
		if (!strstr(line, " - cgroup2 ") || sscanf(line, "%*s %*s %*s %*s %4095s", at) != 1)
			continue;
		strcpy(mount, at);
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static int find_own(char dir[PATH_MAX], struct err *e)
{
	char line[PATH_MAX + 16], mount[PATH_MAX], own[PATH_MAX] = "";
	FILE *f;

	if (!find_mount(mount))
		return err_set(e, ENOTSUP, "--limit needs control groups of version 2, which are not "
			       "mounted here");
	f = fopen("/proc/self/cgroup", "re");
	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "0::%4095[^\n]", own) == 1)
			break;
	if (f)
		fclose(f);
	if (!own[0])
		return err_set(e, ENOTSUP, "--limit needs a control group of version 2, and this process "
			       "is in none");
	if (snprintf(dir, PATH_MAX, "%s%s", mount, strcmp(own, "/") ? own : "") >= PATH_MAX - 64)
		return err_set(e, ENAMETOOLONG, "the name of the control group is too long");
	return 0;
}

/* --- controllers --- */

static int cannot(struct err *e, int rc, const char *dir)
{
	return err_errno(e, -rc, "the control group %s is not this user's to divide: " WAY_OUT, dir);
}

/* The children of @dir get @controller. */
static int enable(const char *dir, const char *controller, struct err *e)
{
	char text[32];
	int rc;

	if (has_word(dir, "cgroup.subtree_control", controller))
		return 0;
	if (!has_word(dir, "cgroup.controllers", controller))
		return err_set(e, ENOTSUP, "--limit needs the controller '%s', which the control group "
			       "%s does not have", controller, dir);
	snprintf(text, sizeof(text), "+%s", controller);
	rc = write_file(dir, "cgroup.subtree_control", text);
	if (rc == -EBUSY)
		return err_set(e, EBUSY, "other processes are in the control group %s: " WAY_OUT, dir);
	return rc ? cannot(e, rc, dir) : 0;
}

/* Out of @dir itself, unless it is the root, which may have both. */
static int step_aside(const char *dir, struct err *e)
{
	char own[PATH_MAX + 16];
	struct stat st;
	int rc;

	snprintf(own, sizeof(own), "%s/cgroup.type", dir);
	if (stat(own, &st))
		return 0;		/* the root has none */
	snprintf(own, sizeof(own), "%s/vireo", dir);
	if (mkdir(own, 0755) && errno != EEXIST)
		return cannot(e, -errno, dir);
	rc = write_file(own, "cgroup.procs", "0");
	return rc ? cannot(e, rc, dir) : 0;
}

struct setting {
	const char *controller, *file;
	bool wanted;
	char text[64];
};

static unsigned int settings_of(const struct jail_limits *l, struct setting s[6])
{
	const struct setting all[] = {
		{ "cpu", "cpu.weight", l->cpu_weight, "" },
		{ "cpu", "cpu.max", l->cpu, "" },
		{ "memory", "memory.max", l->memory, "" },
		{ "memory", "memory.swap.max", l->memory, "0" },
		{ "pids", "pids.max", l->pids, "" },
		{ "io", "io.weight", l->io_weight, "" },
	};

	memcpy(s, all, sizeof(all));
	snprintf(s[0].text, sizeof(s[0].text), "%u", l->cpu_weight);
	snprintf(s[1].text, sizeof(s[1].text), "%llu 100000", l->cpu * 1000ULL);
	snprintf(s[2].text, sizeof(s[2].text), "%llu", (unsigned long long)l->memory);
	snprintf(s[4].text, sizeof(s[4].text), "%u", l->pids);
	snprintf(s[5].text, sizeof(s[5].text), "default %u", l->io_weight);
	return ARRAY_SIZE(all);
}

static bool wants_rates(const struct jail_limits *l)
{
	return l->io_read || l->io_write;
}

/* A line of io.max: "8:0 rbps=N wbps=max". */
static int write_rates(const struct jail_group *g, const struct jail_limits *l, dev_t dev,
		       struct err *e)
{
	char text[128], in[32] = "max", out[32] = "max";
	int rc;

	if (l->io_read)
		snprintf(in, sizeof(in), "%llu", (unsigned long long)l->io_read);
	if (l->io_write)
		snprintf(out, sizeof(out), "%llu", (unsigned long long)l->io_write);
	snprintf(text, sizeof(text), "%u:%u rbps=%s wbps=%s", major(dev), minor(dev), in, out);
	rc = write_file(g->path, "io.max", text);
	if (rc == -ENOENT)
		return err_set(e, ENOTSUP, "--limit io-read= and io-write= need a kernel with "
			       "CONFIG_BLK_DEV_THROTTLING, which this is not");
	return rc ? err_errno(e, -rc, "could not write '%s' to %s/io.max", text, g->path) : 0;
}

int jail_group_create(struct jail_group *g, const struct jail_limits *l, struct err *e)
{
	struct setting s[6];
	const unsigned int count = settings_of(l, s);
	char dir[PATH_MAX];
	int rc;

	g->path[0] = '\0';
	rc = find_own(dir, e);
	if (!rc && access(dir, W_OK))
		rc = cannot(e, -errno, dir);
	if (!rc)
		rc = step_aside(dir, e);
	for (unsigned int i = 0; i < count && !rc; i++)
		if (s[i].wanted)
			rc = enable(dir, s[i].controller, e);
	if (!rc && wants_rates(l))
		rc = enable(dir, "io", e);
	if (rc)
		return rc;
	snprintf(g->path, sizeof(g->path), "%.*s/vireo-%d", PATH_MAX - 32, dir, (int)getpid());
	if (mkdir(g->path, 0755)) {
		g->path[0] = '\0';
		return cannot(e, -errno, dir);
	}
	for (unsigned int i = 0; i < count && !rc; i++) {
		if (!s[i].wanted)
			continue;
		rc = write_file(g->path, s[i].file, s[i].text);
		if (rc == -ENOENT && !strcmp(s[i].file, "memory.swap.max"))
			rc = 0;		/* no swap here */
		if (rc)
			err_errno(e, -rc, "could not write '%s' to %s/%s", s[i].text, g->path, s[i].file);
	}
	for (unsigned int i = 0; i < l->io_device_count && !rc && wants_rates(l); i++)
		rc = write_rates(g, l, l->io_device[i], e);
	if (rc)
		jail_group_remove(g);
	return rc;
}

int jail_group_add(const struct jail_group *g, pid_t pid, struct err *e)
{
	char text[16];
	int rc;

	snprintf(text, sizeof(text), "%d", (int)pid);
	rc = write_file(g->path, "cgroup.procs", text);
	return rc ? err_errno(e, -rc, "could not put the VM into the control group %s", g->path) : 0;
}

void jail_group_remove(const struct jail_group *g)
{
	if (g->path[0])
		rmdir(g->path);
}

int jail_group_probe(struct err *e)
{
	static const char *const controllers[] = { "cpu", "memory", "pids" };
	char dir[PATH_MAX];
	int rc = find_own(dir, e);

	if (!rc && access(dir, W_OK))
		rc = cannot(e, -errno, dir);
	for (unsigned int i = 0; i < ARRAY_SIZE(controllers) && !rc; i++)
		if (!has_word(dir, "cgroup.controllers", controllers[i]))
			rc = err_set(e, ENOTSUP, "the control group %s lacks the controller '%s'", dir,
				     controllers[i]);
	return rc;
}
