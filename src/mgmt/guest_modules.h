/* SPDX-License-Identifier: Apache-2.0 */
/* The modules of a guest's kernel: where they are on the host, and into an initramfs with them. */
#ifndef VIREO_MGMT_GUEST_MODULES_H
#define VIREO_MGMT_GUEST_MODULES_H

#include "mgmt/initramfs.h"

#define KERNEL_VERSION_MAX	128

/* "6.1.0-18-amd64" of the bzImage or vmlinux @kernel; false: it does not say. */
int kernel_version(const char *kernel, char version[KERNEL_VERSION_MAX]);

/*
 * Adds what a guest needs to reach its root and the host, with what that needs, as /modules/NAME.ko
 * and NAME.needs.  They are looked for beside @kernel, in the tree that it was built in, in
 * lib/modules of @root (NULL: none) and of this host.  What is nowhere may be part of the kernel.
 */
void guest_modules_add(struct initramfs *i, const char *kernel, const char *root);

#endif
