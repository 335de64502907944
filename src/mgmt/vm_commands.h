/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that mean the same at the control socket, in QMP and at a monitor. */
#ifndef VIREO_MGMT_VM_COMMANDS_H
#define VIREO_MGMT_VM_COMMANDS_H

#include "mgmt/json_command.h"

struct run_chars;
struct run_disks;
struct run_options;
struct vm;

/* The running VM: the first member of each server's struct, to which its commands are given. */
struct vm_access {
	struct vm *vm;
	struct run_disks *disks;
	struct run_chars *chars;
	const struct run_options *options;
};

/* qmp_device.c: a virtio-blk on a file that is known by a name, for QMP and monitors. */
json_t *vm_device_add(struct vm_access *at, const char *driver, const char *drive, const char *id,
		      const char *serial);
json_t *vm_device_del(struct vm_access *at, const char *id);

/* stop, cont, quit, system_reset, system_powerdown. */
extern const struct json_commands vm_commands;

#endif
