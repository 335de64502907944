/* SPDX-License-Identifier: Apache-2.0 */
/* What each disk and network card of a running VM has done, as JSON. */
#ifndef VIREO_MGMT_IO_JSON_H
#define VIREO_MGMT_IO_JSON_H

#include "mgmt/vm_commands.h"

/* {ID: {"reads": N, "read-bytes": N, "writes": N, "written-bytes": N, "discards": N, "flushes": N}} */
json_t *io_json_disks(const struct vm_access *at);
/* {ID: {"received-frames": N, "received-bytes": N, "sent-frames": N, "sent-bytes": N}} */
json_t *io_json_nets(const struct vm_access *at);
/* Adds the same to @counters as "disk ID: reads" and "net ID: received-frames". */
void io_json_flatten(json_t *counters, const struct vm_access *at);
/* QMP's query-blockstats. */
json_t *io_json_blockstats(const struct vm_access *at);

#endif
