/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a running VM can be asked, at the socket that its name leads to: a JSON object a line,
 *
 *	{"execute": "query-stats", "id": 1}
 *	{"return": {"counters": {...}}, "id": 1}	or
 *	{"error": {"class": "CommandNotFound", "desc": "..."}, "id": 1}
 *
 * "arguments" (an object) and "id" (anything) may be left out.
 */
#ifndef VIREO_MGMT_CONTROL_H
#define VIREO_MGMT_CONTROL_H

#include "base/err.h"

struct control;
struct run_disks;
struct vm;

/* 1 to 48 letters, digits, '-', '_', '.', or -EINVAL. */
int control_name_check(const char *name, struct err *e);

/* Serves @vm with its @disks as @name on its loop; -EBUSY: the name is taken. */
int control_create(struct control **out, struct vm *vm, struct run_disks *disks,
		   const char *name, struct err *e);
void control_destroy(struct control *c);

#endif
