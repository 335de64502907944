/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An initramfs that is made as it is needed: a cpio archive ("newc") in memory, behind another
 * initramfs if there is one, whose files it adds to.
 */
#ifndef VIREO_MGMT_INITRAMFS_H
#define VIREO_MGMT_INITRAMFS_H

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

struct initramfs {
	FILE *out;
	int fd;			/* of the memory file, to be closed by who made it */
	unsigned int inode;
};

/* @before: a file to begin with, or NULL. */
int initramfs_begin(struct initramfs *i, const char *before, struct err *e);
void initramfs_folder(struct initramfs *i, const char *path);
void initramfs_file(struct initramfs *i, const char *path, const void *data, size_t size,
		    unsigned int mode);
/* The host's file @from as @path; false: it cannot be read. */
int initramfs_copy(struct initramfs *i, const char *path, const char *from, unsigned int mode);
/* The descriptor, at whose /proc/self/fd the archive is; after an error it is closed. */
int initramfs_end(struct initramfs *i, struct err *e);

#endif
