/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QMP's parts: qmp.c (connections, events), qmp_query.c, qmp_machine.c, qmp_device.c (commands),
 * dump.c, monitor_command.c.
 */
#ifndef VIREO_MGMT_QMP_PRIV_H
#define VIREO_MGMT_QMP_PRIV_H

#include "machine/vm.h"
#include "mgmt/run_char.h"
#include "mgmt/vm_commands.h"

struct qmp {
	struct vm_access at;		/* first: see there */
	struct line_place place[RUN_MONITORS_MAX];
	unsigned int places;
	struct vm_watcher watcher;
};

/* Whose version is spoken: what clients compare is QEMU's. */
#define QMP_MAJOR	7
#define QMP_MINOR	2
#define QMP_MICRO	0

/* All commands but qmp_capabilities; given struct qmp.  One table leads to the next. */
extern const struct json_commands qmp_commands;		/* qmp_query.c */
extern const struct json_commands qmp_machine_commands;	/* qmp_machine.c */
extern const struct json_commands qmp_device_commands;	/* qmp_device.c */
/* qmp.c: ends with NULL. */
extern const char *const qmp_event_names[];
json_t *qmp_version(void);

/* qmp.c: tells all clients; @data is given away, NULL: the event has none. */
void qmp_event(struct qmp *q, const char *name, json_t *data);

#endif
