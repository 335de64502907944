// SPDX-License-Identifier: Apache-2.0
/*
 * Images: opening by format, and the checks that every format may rely on.
 *
 * A raw image's contents are the guest's, who could make its head look like a qcow2 image with a
 * backing file of his choice.  So where the format is guessed, a raw image keeps a head that is
 * not qcow2's; and a backing image without a named format is raw or refused (qcow2_open.c).
 */
#include "backend/image.h"
#include "backend/qcow2.h"
#include "backend/vmdk.h"

#include <errno.h>
#include <string.h>

const char *image_probe(struct image *file)
{
	uint8_t head[4];
	const int rc = image_pread(file, 0, head, sizeof(head));

	if (rc == -EINVAL)
		return "raw";	/* shorter than a head */
	if (rc)
		return NULL;
	return memcmp(head, "QFI\xfb", 4) ? "raw" : "qcow2";
}

static bool format_known(const char *format)
{
	return !strcmp(format, "raw") || !strcmp(format, "qcow2") || !strcmp(format, "vmdk");
}

int image_open(struct image **out, const struct image_open *how, struct err *e)
{
	const char *format = how->format && how->format[0] ? how->format : NULL;
	const bool guessed = !format;
	struct image *file;
	int rc;

	if (format && !format_known(format))
		return err_set(e, EINVAL, "disk '%s': '%s' is no format; it is raw, qcow2 or vmdk",
			       how->path, format);
	rc = raw_open(&file, how, e);
	if (rc)
		return rc;
	if (!format)
		format = image_probe(file);
	if (!format) {
		image_close(file);
		return err_set(e, EIO, "cannot read the head of disk '%s'", how->path);
	}
	if (!strcmp(format, "raw")) {
		if (guessed)
			raw_guard_head(file);
		*out = file;
		return 0;
	}
	/* Its clusters may be anywhere, so a part of what it shows is nobody's alone. */
	rc = how->part && !how->unlocked ? raw_lock_whole(file, e) : 0;
	if (!rc)
		rc = strcmp(format, "vmdk") ? qcow2_open(out, file, how, e) : vmdk_open(out, file, e);
	if (rc)
		image_close(file);
	return rc;
}

static void each_file(const struct image *img, bool below, void (*tell)(void *arg, const char *path),
		      void *arg)
{
	if (img->backing)
		each_file(img->backing, true, tell, arg);
	if (img->file)
		each_file(img->file, below, tell, arg);
	else if (below && img->path)
		tell(arg, img->path);
}

void image_each_backing(const struct image *img, void (*tell)(void *arg, const char *path), void *arg)
{
	each_file(img, false, tell, arg);
}

int image_close(struct image *img)
{
	return img ? img->ops->close(img) : 0;
}

static int check_range(const struct image *img, uint64_t off, uint64_t len, bool change)
{
	if (off > img->size || len > img->size - off)
		return -EINVAL;
	return change && img->read_only ? -EROFS : 0;
}

int image_read(struct image *img, uint64_t off, const struct span *s)
{
	const int rc = check_range(img, off, s->len, false);

	return rc || !s->len ? rc : img->ops->read(img, off, s);
}

int image_write(struct image *img, uint64_t off, const struct span *s)
{
	const int rc = check_range(img, off, s->len, true);

	return rc || !s->len ? rc : img->ops->write(img, off, s);
}

int image_zero(struct image *img, uint64_t off, uint64_t len, bool unmap)
{
	const int rc = check_range(img, off, len, true);

	return rc || !len ? rc : img->ops->zero(img, off, len, unmap);
}

int image_discard(struct image *img, uint64_t off, uint64_t len)
{
	const int rc = check_range(img, off, len, true);

	return rc || !len ? rc : img->ops->discard(img, off, len);
}

int image_flush(struct image *img)
{
	return img->read_only ? 0 : img->ops->flush(img);
}

int image_resize(struct image *img, uint64_t size, struct err *e)
{
	if (img->read_only)
		return err_set(e, EROFS, "disk '%s' is open for reading only", img->path);
	if (size % 512)
		return err_set(e, EINVAL, "a disk's size is a multiple of 512 bytes, not %llu",
			       (unsigned long long)size);
	if (!img->ops->resize)
		return err_set(e, ENOTSUP, "disk '%s' cannot be resized", img->path);
	return img->ops->resize(img, size, e);
}

int image_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x)
{
	int rc = check_range(img, off, len, false);

	if (rc || !len)
		return rc ? rc : -EINVAL;
	*x = (struct image_extent){ .len = len, .here = true };
	return img->ops->map ? img->ops->map(img, off, len, x) : 0;
}

int image_pread(struct image *img, uint64_t off, void *buf, size_t len)
{
	const struct iovec v = { buf, len };
	const struct span s = span_of(&v, 1, len);

	return image_read(img, off, &s);
}

int image_pwrite(struct image *img, uint64_t off, const void *buf, size_t len)
{
	const struct iovec v = { (void *)buf, len };
	const struct span s = span_of(&v, 1, len);

	return image_write(img, off, &s);
}
