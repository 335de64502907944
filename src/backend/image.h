/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An opened disk image as the tools and struct block see it: a format over a file, perhaps over
 * another image.  All operations wait until they are done, and may be called by several threads
 * at once; only resize and close want to be alone.
 *
 * Formats: raw (raw.c), qcow2 (qcow2.h), extents of another image (extents.h).
 */
#ifndef VIREO_BACKEND_IMAGE_H
#define VIREO_BACKEND_IMAGE_H

#include "backend/span.h"
#include "base/err.h"
#include "base/types.h"

#define IMAGE_CHAIN_MAX	32U	/* images on top of each other */

struct image;

/* What is at a place of an image. */
struct image_extent {
	uint64_t len;		/* bytes that are alike */
	bool zero;		/* reads give zeroes, here or in a backing image */
	bool here;		/* this image decides; false: the backing image below does */
};

/* @off and @len were checked by the wrappers below; only close and read are needed. */
struct image_ops {
	const char *format;
	int (*read)(struct image *img, uint64_t off, const struct span *s);
	int (*write)(struct image *img, uint64_t off, const struct span *s);
	int (*zero)(struct image *img, uint64_t off, uint64_t len, bool unmap);
	int (*discard)(struct image *img, uint64_t off, uint64_t len);
	int (*flush)(struct image *img);
	int (*resize)(struct image *img, uint64_t size, struct err *e);
	int (*map)(struct image *img, uint64_t off, uint64_t len, struct image_extent *x);
	/* Flushes as far as it can and frees @img; 0 or the flush's error. */
	int (*close)(struct image *img);
};

struct image {
	const struct image_ops *ops;
	_Atomic uint64_t size;	/* bytes, a multiple of 512 */
	bool read_only;
	bool can_discard;	/* gives room back to the host */
	uint32_t cluster;	/* bytes in which room is taken */
	char *path;		/* for messages */
	struct image *file;	/* (i) what the format is stored in; NULL: it is the bottom */
	struct image *backing;	/* (i) where unallocated clusters are read from, or NULL */
};

/* How to open: @format NULL or "" means to look at the file's head. */
struct image_open {
	const char *path;
	const char *format;
	bool read_only;
	bool no_backing;	/* leave a qcow2 file's backing image alone (info) */
	bool part;		/* raw: others may have other parts of it (raw_lock_part()) */
	bool unlocked;		/* do not lock: for looking at an image in use */
	bool damaged;		/* open although marked corrupt, and do not repair: for check */
	/* Of a chain: the images above, for depth and loops. */
	const struct image_open *above;
	unsigned int depth;
	uint64_t dev, ino;
};

int image_open(struct image **out, const struct image_open *how, struct err *e);
/* Calls @tell with the name of each file that a backing image of @img, or of those below, is in. */
void image_each_backing(const struct image *img, void (*tell)(void *arg, const char *path),
			void *arg);
/* Frees; 0, or the error of the last flush. */
int image_close(struct image *img);

/* -EINVAL outside of the image, -EROFS for a change of a read-only one, -errno. */
int image_read(struct image *img, uint64_t off, const struct span *s);
int image_write(struct image *img, uint64_t off, const struct span *s);
int image_zero(struct image *img, uint64_t off, uint64_t len, bool unmap);
int image_discard(struct image *img, uint64_t off, uint64_t len);
int image_flush(struct image *img);
int image_resize(struct image *img, uint64_t size, struct err *e);
/* The first extent at @off; @len at least 1. */
int image_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x);

/* One buffer in place of a span. */
int image_pread(struct image *img, uint64_t off, void *buf, size_t len);
int image_pwrite(struct image *img, uint64_t off, const void *buf, size_t len);

/* --- raw files and block devices --- */

int raw_open(struct image **out, const struct image_open *how, struct err *e);
/* A new file of @size bytes; -EEXIST unless @replace. */
int raw_create(struct image **out, const char *path, uint64_t size, bool replace, struct err *e);
/* A file without a name in $TMPDIR or /var/tmp, gone with the process. */
int raw_temporary(struct image **out, uint64_t size, struct err *e);
/* Makes flushes of the raw image @img cost nothing: for what is thrown away at the end. */
void raw_never_sync(struct image *img);
/* The file's length, which is not rounded up to sectors, and what it takes on the host. */
int raw_usage(struct image *img, uint64_t *length, uint64_t *allocated);
/* The descriptor below @img, for looking; -1 if there is none. */
int raw_fd(struct image *img);
/* Opened with how->part: this much of it is ours alone (to write) or shared (to read). */
int raw_lock_part(struct image *img, uint64_t offset, uint64_t size, struct err *e);
/* The same image is to be all ours after all. */
int raw_lock_whole(struct image *img, struct err *e);
/*
 * From now on writes that would turn the head of the raw image @img into another format's fail
 * with -EPERM: for images whose format was guessed, and will be again.
 */
void raw_guard_head(struct image *img);
/* Of the raw image @img: a write at @off is to be looked at, so it goes by image_write(). */
bool raw_head_guarded(struct image *img, uint64_t off);

/* "raw" or "qcow2", by the head of the bottom image @file; NULL and -EIO if unreadable. */
const char *image_probe(struct image *file);

#endif
