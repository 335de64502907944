/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands for people, as QEMU's monitor has them: `vireo run --monitor` and QMP's
 * human-monitor-command.
 */
#ifndef VIREO_MGMT_MONITOR_COMMAND_H
#define VIREO_MGMT_MONITOR_COMMAND_H

struct vm_access;

/* What the command says, malloc'ed, lines ending in CR LF; NULL: out of memory. */
char *monitor_command(struct vm_access *at, const char *line);

#endif
