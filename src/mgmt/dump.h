/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's memory and its processors' registers as an ELF core file, which gdb, crash and the
 * like read: QMP's dump-guest-memory.
 */
#ifndef VIREO_MGMT_DUMP_H
#define VIREO_MGMT_DUMP_H

#include "base/err.h"
#include "base/types.h"

struct vm;

/*
 * Writes to @fd, an empty file, while the VM's processors stand still.  Without @paging the
 * segments are guest-physical, and their virtual addresses are the physical ones; with it they
 * are what the first processor's page tables map, which has to be in 64-bit mode.
 */
int dump_guest_memory(struct vm *vm, int fd, bool paging, struct err *e);

#endif
