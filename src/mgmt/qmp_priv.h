/* SPDX-License-Identifier: Apache-2.0 */
/* QMP's parts: qmp.c (connections, events), qmp_query.c (commands), dump.c, monitor_command.c. */
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

/* qmp_query.c: all commands but qmp_capabilities; given struct qmp. */
extern const struct json_commands qmp_commands;
json_t *qmp_version(void);

/* qmp.c: tells all clients; @data is given away, NULL: the event has none. */
void qmp_event(struct qmp *q, const char *name, json_t *data);

#endif
