/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks on image files: one writer, or any number of readers.  The same bytes are locked as by
 * QEMU (docs/system/qemu-block-drivers.rst.inc, "Disk image file locking"), so that either notices
 * the other.  They are locks of the open file description (fcntl(2), F_OFD_SETLK): two VMs of
 * one process are kept apart too, and the kernel lets go however the process ends.
 */
#ifndef VIREO_BACKEND_LOCK_H
#define VIREO_BACKEND_LOCK_H

#include "base/err.h"

#include <stdbool.h>

/* -EBUSY with a sentence that names @path if somebody else's use conflicts. */
int image_lock(int fd, const char *path, bool write, struct err *e);

#endif
