/* SPDX-License-Identifier: Apache-2.0 */
/*
 * VMDK images of the subformat streamOptimized, which products export appliances with: to read
 * only, over any image that stores them.  What is supported stands at the head of vmdk.c.
 */
#ifndef VIREO_BACKEND_VMDK_H
#define VIREO_BACKEND_VMDK_H

#include "backend/image.h"

/* Opens what is in @file, which belongs to the new image if this returns 0. */
int vmdk_open(struct image **out, struct image *file, struct err *e);

#endif
