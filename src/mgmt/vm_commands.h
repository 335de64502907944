/* SPDX-License-Identifier: Apache-2.0 */
/* The commands that mean the same at the control socket, in QMP and at a monitor. */
#ifndef VIREO_MGMT_VM_COMMANDS_H
#define VIREO_MGMT_VM_COMMANDS_H

#include "mgmt/json_command.h"

struct run_chars;
struct run_disks;
struct run_nets;
struct run_options;
struct vm;

/* The running VM: the first member of each server's struct, to which its commands are given. */
struct vm_access {
	struct vm *vm;
	struct run_disks *disks;
	struct run_nets *nets;
	struct run_chars *chars;
	const struct run_options *options;
};

/* qmp_device.c, for QMP and monitors: devices on files and networks that are known by a name. */
json_t *vm_device_add(struct vm_access *at, const json_t *arguments);
json_t *vm_device_del(struct vm_access *at, const char *id);
json_t *vm_netdev_add(struct vm_access *at, const json_t *arguments);
json_t *vm_netdev_del(struct vm_access *at, const char *id);

/* stop, cont, quit, system_reset, system_powerdown. */
extern const struct json_commands vm_commands;

#endif
