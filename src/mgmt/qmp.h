/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vireo run --qmp`: QEMU's machine protocol, as far as this VMM has what it asks for.  Any
 * number of clients; each has to say qmp_capabilities first, as the protocol wants it.
 *
 * Source: QEMU's documentation, "QEMU Machine Protocol Specification" and "QEMU QMP Reference
 * Manual".  Not here: out-of-band execution, the schema, jobs, and every command that
 * query-commands does not name.
 */
#ifndef VIREO_MGMT_QMP_H
#define VIREO_MGMT_QMP_H

#include "base/err.h"

struct qmp;
struct vm_access;

/* At the places of its options, on the VM's loop. */
int qmp_create(struct qmp **out, const struct vm_access *at, struct err *e);
/* After vm_run(), before vm_destroy(); NULL is none. */
void qmp_destroy(struct qmp *q);

#endif
