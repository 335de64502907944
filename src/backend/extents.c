// SPDX-License-Identifier: Apache-2.0
/*
 * Pieces of an image, one after the other, as a disk of its own.  Every access is cut at the
 * pieces' ends, so that it cannot reach what lies between them; one behind the last piece was
 * refused before it got here (image.c).
 */
#include "backend/extents.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct extents {
	struct image img;
	unsigned int count;
	struct block_extent x[BLOCK_EXTENTS_MAX];
};

static struct extents *extents_of(struct image *img)
{
	return container_of(img, struct extents, img);
}

/* Where @off is in the image below, and how much of @len lies in the same piece. */
static uint64_t locate(const struct extents *x, uint64_t off, uint64_t len, uint64_t *below)
{
	unsigned int i = 0;

	for (; off >= x->x[i].size; i++)
		off -= x->x[i].size;
	*below = x->x[i].offset + off;
	return MIN(len, x->x[i].size - off);
}

static int extents_rw(struct image *img, uint64_t off, const struct span *s,
		      int (*rw)(struct image *img, uint64_t off, const struct span *s))
{
	struct span left = *s, part;
	uint64_t below;
	int rc = 0;

	while (left.len && !rc) {
		part = span_part(&left, 0, locate(extents_of(img), off, left.len, &below));
		rc = rw(img->file, below, &part);
		off += part.len;
		span_skip(&left, part.len);
	}
	return rc;
}

static int extents_read(struct image *img, uint64_t off, const struct span *s)
{
	return extents_rw(img, off, s, image_read);
}

static int extents_write(struct image *img, uint64_t off, const struct span *s)
{
	return extents_rw(img, off, s, image_write);
}

static int extents_zero(struct image *img, uint64_t off, uint64_t len, bool unmap)
{
	uint64_t below, n;
	int rc = 0;

	for (; len && !rc; off += n, len -= n) {
		n = locate(extents_of(img), off, len, &below);
		rc = image_zero(img->file, below, n, unmap);
	}
	return rc;
}

static int extents_discard(struct image *img, uint64_t off, uint64_t len)
{
	uint64_t below, n;
	int rc = 0;

	for (; len && !rc; off += n, len -= n) {
		n = locate(extents_of(img), off, len, &below);
		rc = image_discard(img->file, below, n);
	}
	return rc;
}

static int extents_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x)
{
	uint64_t below;
	const uint64_t n = locate(extents_of(img), off, len, &below);
	const int rc = image_map(img->file, below, n, x);

	x->here = true;
	return rc;
}

static int extents_flush(struct image *img)
{
	return image_flush(img->file);
}

static int extents_close(struct image *img)
{
	const int rc = image_close(img->file);

	free(img->path);
	free(extents_of(img));
	return rc;
}

static const struct image_ops extents_ops = {
	.format = "extents",
	.read = extents_read,
	.write = extents_write,
	.zero = extents_zero,
	.discard = extents_discard,
	.flush = extents_flush,
	.map = extents_map,
	.close = extents_close,
};

/* Puts in the size that was left open, and looks whether @x lies within @img. */
static int extent_check(const struct image *img, struct block_extent *x, struct err *e)
{
	if (x->offset % 512 || x->size % 512)
		return err_set(e, EINVAL, "disk '%s': a piece's offset and size are multiples of 512",
			       img->path);
	if (!x->size && x->offset < img->size)
		x->size = img->size - x->offset;
	if (!x->size || x->offset > img->size || x->size > img->size - x->offset)
		return err_set(e, EINVAL, "disk '%s' has %llu bytes: a piece at %llu of %llu bytes is "
			       "not within", img->path, (unsigned long long)img->size,
			       (unsigned long long)x->offset, (unsigned long long)x->size);
	return 0;
}

int extents_open(struct image **img, const struct block_extent *list, unsigned int count,
		 struct err *e)
{
	struct extents *x = calloc(1, sizeof(*x));
	char *path = strdup((*img)->path);
	uint64_t size = 0;
	int rc = x && path ? 0 : err_errno(e, ENOMEM, "disk '%s'", (*img)->path);

	for (unsigned int i = 0; i < count && !rc; i++) {
		x->x[i] = list[i];
		rc = extent_check(*img, &x->x[i], e);
		for (unsigned int j = 0; j < i && !rc; j++)
			if (x->x[i].offset < x->x[j].offset + x->x[j].size &&
			    x->x[j].offset < x->x[i].offset + x->x[i].size)
				rc = err_set(e, EINVAL, "disk '%s': pieces %u and %u overlap", path,
					     j + 1, i + 1);
		if (!rc && !(*img)->file && raw_fd(*img) >= 0)
			rc = raw_lock_part(*img, x->x[i].offset, x->x[i].size, e);
		size += x ? x->x[i].size : 0;
	}
	if (rc) {
		free(path);
		free(x);
		return rc;
	}
	x->count = count;
	x->img = (struct image){
		.ops = &extents_ops, .size = size, .read_only = (*img)->read_only,
		.can_discard = (*img)->can_discard, .cluster = (*img)->cluster, .path = path,
		.file = *img,
	};
	*img = &x->img;
	return 0;
}

int extents_open_part(struct image **img, unsigned int part, struct err *e)
{
	struct block_extent x;
	const int rc = partition_find(*img, part, &x, e);

	return rc ? rc : extents_open(img, &x, 1, e);
}
