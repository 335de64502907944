/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control group (version 2) with a VM's share of the processors, where this user may make one,
 * and in it a threaded one for each vCPU.
 */
#ifndef VIREO_MACHINE_CPU_GROUP_H
#define VIREO_MACHINE_CPU_GROUP_H

#include "base/err.h"
#include "machine/cpu_share.h"

#include <limits.h>

#define CPU_THREADS_MAX	64

/* Its files, opened for good: a confined process opens nothing. */
struct cpu_group {
	char path[PATH_MAX];
	int procs, weight, max;
	int cpuset;		/* -1: this controller is not to be had */
	bool entered;
};

/* The group of one of its threads, which has no other files either. */
struct cpu_thread_group {
	int threads, weight, max;
	bool entered;
};

/*
 * The group below which VMs get theirs: of this process's own group and those above it the
 * topmost that this user may divide by processors, so that all VMs of the user are side by side.
 * @mountinfo and @cgroup are files as /proc/self has them.  -ENOTSUP: there is none.
 */
int cpu_group_find(char dir[PATH_MAX], const char *mountinfo, const char *cgroup, struct err *e);
/* Makes this process's group below @dir; it is not in it yet. */
int cpu_group_open(struct cpu_group *g, const char *dir, struct err *e);
/* Puts this process into it, and has the host keep @l. */
int cpu_group_set(struct cpu_group *g, const struct cpu_limits *l, struct err *e);
/* Another process that runs for this one's VM, of which @tid is a thread, goes along. */
void cpu_group_add(struct cpu_group *g, int tid);
void cpu_group_close(struct cpu_group *g);

/* Makes a group in @g for thread @n of it, below CPU_THREADS_MAX; the thread is not in it yet. */
int cpu_thread_group_open(struct cpu_thread_group *t, const struct cpu_group *g, unsigned int n,
			  struct err *e);
/*
 * Has the host keep @l's weight and cap for thread @tid of this process, 0: the caller; the process
 * has to be in its own group.  Pinning is the thread's own affair.
 */
int cpu_thread_group_set(struct cpu_thread_group *t, int tid, const struct cpu_limits *l, struct err *e);
/* Another process's thread goes along; its process is in the VM's group. */
void cpu_thread_group_add(struct cpu_thread_group *t, int tid);
void cpu_thread_group_close(struct cpu_thread_group *t);

#endif
