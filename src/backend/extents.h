/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Images made of other images: pieces of one, one after the other, as a disk of its own; and a
 * throwaway overlay.  Each function takes the image *img over and puts the new one in its
 * place; after an error *img is still the caller's.
 */
#ifndef VIREO_BACKEND_EXTENTS_H
#define VIREO_BACKEND_EXTENTS_H

#include "backend/block.h"
#include "backend/image.h"

/* The pieces must lie within the image and not overlap. */
int extents_open(struct image **img, const struct block_extent *x, unsigned int count,
		 struct err *e);
/* Partition @part, from 1, of the GPT or MBR on the image (partition.c). */
int extents_open_part(struct image **img, unsigned int part, struct err *e);
/* Finds it; @x is filled. */
int partition_find(struct image *img, unsigned int part, struct block_extent *x, struct err *e);

/* A qcow2 overlay in a temporary file without a name (overlay.c). */
int overlay_open(struct image **img, struct err *e);

#endif
