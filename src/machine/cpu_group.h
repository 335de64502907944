/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A control group (version 2) with a VM's share of the processors, where this user may make one.
 */
#ifndef VIREO_MACHINE_CPU_GROUP_H
#define VIREO_MACHINE_CPU_GROUP_H

#include "base/err.h"
#include "machine/cpu_share.h"

#include <limits.h>

/* Its files, opened for good: a confined process opens nothing. */
struct cpu_group {
	char path[PATH_MAX];
	int procs, weight, max;
	int cpuset;		/* -1: this controller is not to be had */
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
void cpu_group_close(struct cpu_group *g);

#endif
