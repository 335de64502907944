/* SPDX-License-Identifier: Apache-2.0 */
/* All VMs of this user: those that are kept, and those that run with --name. */
#ifndef VIREO_MGMT_ROSTER_H
#define VIREO_MGMT_ROSTER_H

#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/*
 * A new array of objects, sorted by name: "name", "state" (stopped, starting, running, paused,
 * crashed, unresponsive), "directory" or null, and while it runs what query-vm tells (control.c).
 * NULL: @e says why.
 */
json_t *roster(bool only_running, struct err *e);
/* One of them; NULL with -ENOENT: there is none. */
json_t *roster_entry(const char *name, struct err *e);

#endif
