/* SPDX-License-Identifier: Apache-2.0 */
/* Within the confinement of processes; for its files only. */
#ifndef VIREO_BASE_CONFINE_PRIV_H
#define VIREO_BASE_CONFINE_PRIV_H

#include "base/confine.h"

/* A ruleset without rules, as a descriptor; -errno.  @version: confine_landlock_version()'s. */
int landlock_open(unsigned int version, bool network);
/* 0, also where there is no such path; -errno. */
int landlock_allow(int ruleset, unsigned int version, const char *path,
		   enum confine_access access);
/* The calling thread's; 0 or an errno. */
int landlock_enter(int ruleset);

/* Has violations of the filter end the process with a sentence. */
int violations_report(struct err *e);

#endif
