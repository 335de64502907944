/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Locks on image files: one writer, or any number of readers.  The same bytes are locked as by
 * QEMU (docs/system/qemu-block-drivers.rst.inc, "Disk image file locking"), so that either notices
 * the other.  They are locks of the open file description (fcntl(2), F_OFD_SETLK): two VMs of
 * one process are kept apart too, and the kernel lets go however the process ends.
 *
 * Several VMs may have parts of one disk.  They then lock these parts, and keep those out who
 * want all of it.
 */
#ifndef VIREO_BACKEND_LOCK_H
#define VIREO_BACKEND_LOCK_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum lock_mode {
	LOCK_READ,		/* nobody may write */
	LOCK_WRITE,		/* nobody else may read or write */
	LOCK_PART_READ,		/* only a part is read; others may have their parts */
	LOCK_PART_WRITE,
};

/* -EBUSY with a sentence that names @path if somebody else's use conflicts. */
int image_lock(int fd, const char *path, enum lock_mode mode, struct err *e);
/* Besides LOCK_PART_*: the part itself, which nobody else may have. */
int image_lock_part(int fd, const char *path, uint64_t offset, uint64_t size, bool write,
		    struct err *e);

#endif
