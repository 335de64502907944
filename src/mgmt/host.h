/* SPDX-License-Identifier: Apache-2.0 */
/* What the host has to give: read from /proc and the control groups. */
#ifndef VIREO_MGMT_HOST_H
#define VIREO_MGMT_HOST_H

#include "base/types.h"

struct host_memory {
	uint64_t total;		/* bytes of RAM */
	uint64_t limit;		/* what this process may use of it: total or less */
	const char *limited_by;	/* "this control group", NULL if nothing does */
};

void host_memory_read(struct host_memory *m);
/* Does the first processor's "flags" line in /proc/cpuinfo have @flag as a word? */
bool host_cpu_flag(const char *flag);
/* The unsigned number that the file at @path starts with; false if there is none. */
bool host_read_number(const char *path, uint64_t *value);
/* The value after "@key:" in a file like /proc/meminfo. */
bool host_read_key(const char *path, const char *key, char *value, size_t size);

#endif
