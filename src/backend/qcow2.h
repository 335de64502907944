/* SPDX-License-Identifier: Apache-2.0 */
/*
 * qcow2 images, versions 2 and 3, over any image that stores them.  What is supported stands at
 * the head of qcow2_open.c.
 *
 * Source: QEMU's docs/interop/qcow2.txt.
 */
#ifndef VIREO_BACKEND_QCOW2_H
#define VIREO_BACKEND_QCOW2_H

#include "backend/image.h"

/* Opens what is in @file, which belongs to the new image if this returns 0. */
int qcow2_open(struct image **out, struct image *file, const struct image_open *how,
	       struct err *e);
/* The same with @backing (taken over too) in place of what the header names. */
int qcow2_open_over(struct image **out, struct image *file, struct image *backing,
		    const struct image_open *how, struct err *e);

struct qcow2_create {
	uint64_t size;			/* bytes, a multiple of 512 */
	unsigned int cluster_bits;	/* 9 to 21; 0: 16 */
	const char *backing;		/* as it stands in the header; NULL: none */
	const char *backing_format;	/* needed with @backing */
};

/* Writes an empty image into @file, which was empty. */
int qcow2_create(struct image *file, const struct qcow2_create *c, struct err *e);

struct qcow2_check {
	uint64_t errors;		/* places where the image contradicts itself */
	uint64_t leaks;			/* clusters taken but not used */
	uint64_t fixed;			/* of both, what was mended */
	uint64_t clusters, allocated, zero, compressed; /* of the active disk */
	uint64_t end;			/* offset behind the last cluster in use */
	char first[256];		/* the first error, as a sentence */
};

/*
 * Compares refcounts with what is really referenced, and looks for impossible offsets.
 * @repair: corrects refcounts and the copied flags; nothing else may use the image meanwhile.
 */
int qcow2_check(struct image *img, bool repair, struct qcow2_check *out, struct err *e);

struct qcow2_info {
	unsigned int version, cluster_bits, refcount_bits, snapshots;
	const char *backing, *backing_format, *compression;
	bool lazy_refcounts, dirty, corrupt;
};

/* False: @img is not qcow2. */
bool qcow2_info(struct image *img, struct qcow2_info *out);

/* The path of the backing image that the header names, malloc'ed; NULL: none, or no memory. */
char *qcow2_backing_path(struct image *img);

/* Why the last operation failed with -EIO: what is damaged and at which offset; or "". */
void qcow2_damage(struct image *img, char *text, size_t size);

#endif
