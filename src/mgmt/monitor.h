/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vireo run --monitor`: a socket at which people, and programs that do as if, type the
 * commands of monitor_command.h.  Clients find the prompt that QEMU's monitor has.
 */
#ifndef VIREO_MGMT_MONITOR_H
#define VIREO_MGMT_MONITOR_H

#include "base/err.h"

struct monitor_server;
struct vm_access;

/* At the places of its options, on the VM's loop. */
int monitor_create(struct monitor_server **out, const struct vm_access *at, struct err *e);
void monitor_destroy(struct monitor_server *s);

#endif
