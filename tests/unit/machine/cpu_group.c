// SPDX-License-Identifier: Apache-2.0
/*
 * Shares by control group, against directories and files that look like one: which group is
 * divided, what is written, and that what cannot be is refused.  (The files here take what they
 * are given; a kernel with the real ones is in tests/sched/cgroup.sh.)
 */
#include "machine/cpu_group.h"

#include "base/types.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench {
	char root[64], mountinfo[96], cgroup[96], found[PATH_MAX];
};

static const char *in(const struct bench *b, const char *name)
{
	static char path[512];

	snprintf(path, sizeof(path), "%s/%s", b->root, name);
	return path;
}

static void write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void expect_text(const struct bench *b, const char *name, const char *want)
{
	char text[256] = "";
	FILE *f = fopen(in(b, name), "r");

	assert_non_null(f);
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	assert_string_equal(text, want);
}

static void file(const struct bench *b, const char *dir, const char *name, const char *text)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	write_text(in(b, path), text);
}

/* A group with the files that every group has. */
static void group(const struct bench *b, const char *dir, const char *controllers)
{
	assert_int_equal(mkdir(in(b, dir), 0755), 0);
	file(b, dir, "cgroup.procs", "");
	file(b, dir, "cgroup.controllers", controllers);
	file(b, dir, "cgroup.subtree_control", "");
}

static int set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));
	char text[256];

	strcpy(b->root, "/tmp/vireo-group-XXXXXX");
	assert_non_null(mkdtemp(b->root));
	snprintf(b->mountinfo, sizeof(b->mountinfo), "%s/mountinfo", b->root);
	snprintf(b->cgroup, sizeof(b->cgroup), "%s/cgroup", b->root);
	snprintf(text, sizeof(text),
		 "22 1 0:20 / /sys rw - sysfs sysfs rw\n"
		 "30 22 0:27 /part /elsewhere rw - cgroup2 cgroup2 rw\n"
		 "31 22 0:27 / %s/fs rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n", b->root);
	write_text(b->mountinfo, text);
	group(b, "fs", "memory\n");
	group(b, "fs/user", "cpuset cpu memory\n");
	group(b, "fs/user/app", "cpu\n");
	*state = b;
	return 0;
}

static int tear_down(void **state)
{
	struct bench *b = *state;
	char command[128];
	int rc;

	snprintf(command, sizeof(command), "rm -rf %s", b->root);
	rc = system(command);
	free(b);
	return rc;
}

static int find(struct bench *b, const char *cgroup)
{
	struct err e = { 0 };
	int rc;

	write_text(b->cgroup, cgroup);
	rc = cpu_group_find(b->found, b->mountinfo, b->cgroup, &e);
	assert_true(!rc || e.text[0]);
	return rc;
}

static void test_find(void **state)
{
	struct bench *b = *state;

	/* The topmost one with the controller; the mount's root has none. */
	assert_int_equal(find(b, "1:cpu:/x\n0::/user/app\n"), 0);
	assert_string_equal(b->found, in(b, "fs/user"));
	expect_text(b, "fs/user/cgroup.subtree_control", "+cpu");
	assert_int_equal(find(b, "0::/user/app/gone\n"), 0);
	assert_int_equal(find(b, "0::/\n"), -ENOTSUP);
	assert_int_equal(find(b, "0::/../user\n"), -ENOTSUP);
	assert_int_equal(find(b, "1:cpu:/user\n"), -ENOTSUP);
	assert_int_equal(find(b, "0::/nowhere\n"), -ENOTSUP);
	file(b, "fs", "cgroup.subtree_control", "memory cpu\n");
	assert_int_equal(find(b, "0::/user/app\n"), 0);
	assert_string_equal(b->found, in(b, "fs"));
	write_text(b->mountinfo, "30 22 0:27 / /sys rw - sysfs sysfs rw\n");
	assert_int_equal(find(b, "0::/user/app\n"), -ENOTSUP);
}

/* What the kernel would make with the directory. */
static void make_ours(struct bench *b, char name[96])
{
	snprintf(name, 96, "fs/user/vireo.shares/%d", (int)getpid());
	group(b, "fs/user/vireo.shares", "cpuset cpu\n");
	group(b, name, "cpu\n");
	file(b, name, "cpu.weight", "");
	file(b, name, "cpu.max", "");
	file(b, name, "cpuset.cpus", "");
}

static void expect_in(struct bench *b, const char *group, const char *name, const char *want)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s", group, name);
	expect_text(b, path, want);
	write_text(in(b, path), "");
}

static void test_limits(void **state)
{
	struct cpu_limits l = { .weight = 512, .cap = 150, .pinned = true };
	struct bench *b = *state;
	char ours[96];
	struct cpu_group g;
	struct stat st;

	make_ours(b, ours);
	assert_int_equal(mkdir(in(b, "fs/user/vireo.shares/99999999"), 0755), 0);
	assert_int_equal(mkdir(in(b, "fs/user/vireo.shares/1"), 0755), 0);
	strcpy(b->found, in(b, "fs/user"));
	assert_int_equal(cpu_group_open(&g, b->found, NULL), 0);
	/* That of a VM that has ended is gone. */
	assert_int_equal(stat(in(b, "fs/user/vireo.shares/99999999"), &st), -1);
	assert_int_equal(stat(in(b, "fs/user/vireo.shares/1"), &st), 0);
	expect_text(b, "fs/user/vireo.shares/cgroup.subtree_control", "+cpuset");
	expect_in(b, ours, "cgroup.procs", "");
	CPU_ZERO(&l.pin);
	CPU_SET(0, &l.pin);
	CPU_SET(3, &l.pin);
	assert_int_equal(cpu_group_set(&g, &l, NULL), 0);
	expect_in(b, ours, "cpu.weight", "512");
	expect_in(b, ours, "cpu.max", "30000 20000");
	expect_in(b, ours, "cpuset.cpus", "0,3");
	expect_in(b, ours, "cgroup.procs", "0");
	l = (struct cpu_limits){ .cap = 1 };
	assert_int_equal(cpu_group_set(&g, &l, NULL), 0);
	expect_in(b, ours, "cpu.weight", "100");
	expect_in(b, ours, "cpu.max", "1000 100000");
	expect_in(b, ours, "cpuset.cpus", "\n");
	expect_in(b, ours, "cgroup.procs", "");
	l.cap = 0;
	assert_int_equal(cpu_group_set(&g, &l, NULL), 0);
	expect_in(b, ours, "cpu.max", "max");
	cpu_group_close(&g);
}

/* A vCPU's: threaded, with its own weight and cap; the thread goes in once. */
static void test_threads(void **state)
{
	const struct cpu_limits l = { .weight = 7, .cap = 50 }, none = { 0 };
	struct bench *b = *state;
	struct cpu_thread_group t;
	char ours[96], one[112];
	struct cpu_group g;

	make_ours(b, ours);
	strcpy(b->found, in(b, "fs/user"));
	assert_int_equal(cpu_group_open(&g, b->found, NULL), 0);
	/* A kernel without threaded groups. */
	assert_int_equal(cpu_thread_group_open(&t, &g, 2, NULL), -ENOENT);
	snprintf(one, sizeof(one), "%s/vcpu2", ours);
	file(b, one, "cgroup.type", "");
	file(b, one, "cgroup.threads", "");
	file(b, one, "cpu.weight", "");
	file(b, one, "cpu.max", "");
	assert_int_equal(cpu_thread_group_open(&t, &g, 2, NULL), 0);
	expect_in(b, one, "cgroup.type", "threaded");
	expect_in(b, ours, "cgroup.subtree_control", "+cpu");
	assert_int_equal(cpu_thread_group_set(&t, 4711, &l, NULL), 0);
	expect_in(b, one, "cpu.weight", "7");
	expect_in(b, one, "cpu.max", "10000 20000");
	expect_in(b, one, "cgroup.threads", "4711");
	assert_int_equal(cpu_thread_group_set(&t, 4711, &none, NULL), 0);
	expect_in(b, one, "cpu.weight", "100");
	expect_in(b, one, "cgroup.threads", "");
	cpu_thread_group_close(&t);
	cpu_group_close(&g);
}

/* Nothing is left open, and no group without a process is left behind. */
static void test_refused(void **state)
{
	struct bench *b = *state;
	struct err e = { 0 };
	struct cpu_group g;
	struct stat st;
	char name[96];

	/* A directory that the kernel put no files into. */
	assert_int_equal(cpu_group_open(&g, b->root, &e), -ENOTSUP);
	snprintf(name, sizeof(name), "fs/user/vireo.shares/%d", (int)getpid());
	group(b, "fs/user/vireo.shares", "cpu\n");
	strcpy(b->found, in(b, "fs/user"));
	assert_int_equal(cpu_group_open(&g, b->found, &e), -ENOENT);
	assert_non_null(strstr(e.text, "cgroup.procs"));
	assert_int_equal(stat(in(b, name), &st), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_find, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
