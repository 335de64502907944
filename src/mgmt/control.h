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
struct vm_access;

/*
 * Serves the VM @at on its loop: a machine that is kept at a socket in its directory, another at
 * one of its name.  -EBUSY: the name is taken.
 */
int control_create(struct control **out, const struct vm_access *at, struct err *e);
void control_destroy(struct control *c);

#endif
