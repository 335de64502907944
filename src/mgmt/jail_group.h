/* SPDX-License-Identifier: Apache-2.0 */
/* A control group (version 2) for one process; see jail.h. */
#ifndef VIREO_MGMT_JAIL_GROUP_H
#define VIREO_MGMT_JAIL_GROUP_H

#include "mgmt/jail.h"

#include <limits.h>
#include <sys/types.h>

struct jail_group {
	char path[PATH_MAX];		/* "": there is none */
};

/* Makes one with @l, beside this process's own.  -errno with a sentence and a way out. */
int jail_group_create(struct jail_group *g, const struct jail_limits *l, struct err *e);
int jail_group_add(const struct jail_group *g, pid_t pid, struct err *e);
/* When nobody is in it any more. */
void jail_group_remove(const struct jail_group *g);

/* Can this user make one here?  -errno, the reason in @e. */
int jail_group_probe(struct err *e);

#endif
