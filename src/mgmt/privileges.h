/* SPDX-License-Identifier: Apache-2.0 */
/* Capabilities of a VM's process that root started: capabilities(7). */
#ifndef VIREO_MGMT_PRIVILEGES_H
#define VIREO_MGMT_PRIVILEGES_H

#include "base/err.h"
#include "base/types.h"

/* Is there any to give up?  Ordinary users have none. */
bool privileges_any(void);
/*
 * Takes all capabilities but those of @keep, a bit for each, from every thread; @threads:
 * threads_list()'s.  What is taken never comes back.
 */
int privileges_drop(uint64_t keep, int threads, struct err *e);
/* From the calling thread alone; @keep is a uint64_t.  An errno; nothing but system calls is done. */
int privileges_drop_thread(const void *keep);

#endif
