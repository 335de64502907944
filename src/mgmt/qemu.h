/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The QEMU personality: `vireo qemu`, or this program under the name qemu-system-x86_64, takes the
 * options that programs give to QEMU and runs what `vireo run` would with the same meaning.
 */
#ifndef VIREO_MGMT_QEMU_H
#define VIREO_MGMT_QEMU_H

#include "base/types.h"

/* Is the program called as QEMU is? */
bool qemu_is_name(const char *argv0);
/* @argv[0] is the name that errors begin with.  Returns the process's exit status. */
int qemu_main(int argc, char **argv);

#endif
