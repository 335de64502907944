// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: opening and closing.  Versions 2 and 3, clusters of 512 bytes to 2 MiB, any width of
 * refcounts, backing images (raw and qcow2), internal snapshots (kept, not used), compressed
 * clusters (zlib, zstd; read).  Refused by name: encryption, external data files, extended L2
 * entries, incompatible features that are not known, images marked corrupt (for writing).
 *
 * An image that was being written with lazy refcounts when its program died has its refcounts
 * corrected before it is written to.  Refcounts are never written lazily here.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define BACKING_NAME_MAX	1023U

int file_read(struct qcow2 *q, uint64_t off, void *buf, size_t len)
{
	const struct iovec v = { buf, len };
	const struct span s = span_of(&v, 1, len);

	return q->img.file->ops->read(q->img.file, off, &s);
}

int file_write(struct qcow2 *q, uint64_t off, const void *buf, size_t len)
{
	const struct iovec v = { (void *)buf, len };
	const struct span s = span_of(&v, 1, len);

	return q->img.file->ops->write(q->img.file, off, &s);
}

int damaged(struct qcow2 *q, const char *fmt, ...)
{
	va_list ap;

	if (!q->damage[0]) {
		va_start(ap, fmt);
		vsnprintf(q->damage, sizeof(q->damage), fmt, ap);
		va_end(ap);
	}
	return -EIO;
}

void qcow2_damage(struct image *img, char *text, size_t size)
{
	struct qcow2 *q;

	text[0] = '\0';
	if (strcmp(img->ops->format, "qcow2"))
		return;
	q = qcow2_of(img);
	pthread_mutex_lock(&q->lock);
	snprintf(text, size, "%s", q->damage);
	pthread_mutex_unlock(&q->lock);
}

/* --- tables --- */

static int table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out)
{
	uint64_t *t = calloc(entries + 1, sizeof(*t));
	int rc = t ? file_read(q, offset, t, 8 * entries) : -ENOMEM;

	for (uint64_t i = 0; i < entries && !rc; i++)
		t[i] = be64toh(t[i]);
	*out = t;
	return rc;
}

/* Notes where all metadata is, and that no two pieces of it are in one place. */
static int note_metadata(struct qcow2 *q)
{
	struct snapshot *snapshots;
	uint64_t bytes;
	int rc = meta_add(q, 0, q->cluster_size);

	if (!rc)
		rc = meta_add(q, q->reftable_offset, 8 * q->reftable_size);
	if (!rc)
		rc = meta_add(q, q->l1_offset, 8 * q->l1_size);
	for (uint64_t i = 0; i < q->reftable_size && !rc; i++) {
		if (q->reftable[i] & (q->cluster_size - 1) || q->reftable[i] > ENTRY_OFFSET)
			rc = damaged(q, "the refcount table's entry at offset %#llx is no cluster",
				     (unsigned long long)(q->reftable_offset + 8 * i));
		else if (q->reftable[i])
			rc = meta_add(q, q->reftable[i], q->cluster_size);
	}
	for (uint64_t i = 0; i < q->l1_size && !rc; i++)
		if (q->l1[i] & ENTRY_OFFSET)
			rc = meta_add(q, cluster_floor(q, q->l1[i] & ENTRY_OFFSET), q->cluster_size);
	if (rc || !q->snapshot_count)
		return rc;
	rc = snapshots_read(q, &snapshots, &bytes);
	if (rc)
		return rc;
	rc = meta_add(q, q->snapshot_offset, bytes);
	for (uint32_t i = 0; i < q->snapshot_count && !rc; i++)
		rc = meta_add(q, snapshots[i].l1_offset, 8 * snapshots[i].l1_size);
	free(snapshots);
	return rc;
}

static int tables_load(struct opening *o)
{
	struct qcow2 *q = o->q;
	uint64_t length = 0, allocated;
	int rc;

	if (raw_usage(q->img.file, &length, &allocated))
		length = q->img.file->size;
	q->file_end = ALIGN_UP(length, q->cluster_size);
	/* A table of 32 MiB in a file of 1 KiB is not worth the memory. */
	if (q->reftable_offset + 8 * q->reftable_size > q->file_end)
		return bad_header(o, 48, "the refcount table lies behind the end of the file");
	if (q->l1_size && q->l1_offset + 8 * q->l1_size > q->file_end)
		return bad_header(o, 40, "the L1 table lies behind the end of the file");
	rc = table_read(q, q->l1_offset, q->l1_size, &q->l1);
	if (!rc)
		rc = table_read(q, q->reftable_offset, q->reftable_size, &q->reftable);
	q->l1_dirty = calloc(1, q->l1_size / 64 + 1);
	if (!rc && !q->l1_dirty)
		rc = -ENOMEM;
	if (!rc)
		rc = cache_init(q);
	if (rc)
		return err_errno(o->e, -rc, "cannot read the tables of disk '%s'", o->how->path);
	rc = note_metadata(q);
	/* Readers may see what there is; a writer could make it worse. */
	if (rc == -EIO && (q->img.read_only || o->how->damaged))
		return 0;
	if (rc)
		return err_set(o->e, -rc, "disk '%s' is a damaged qcow2 image: %s", o->how->path,
			       q->damage[0] ? q->damage : strerror(-rc));
	return 0;
}

/* --- the backing image --- */

static char *string_read(struct qcow2 *q, uint64_t offset, uint32_t len)
{
	char *s = calloc(1, len + 1);

	if (s && (file_read(q, offset, s, len) || strlen(s) != len)) {
		free(s);
		return NULL;
	}
	return s;
}

static int extensions_read(struct opening *o)
{
	struct qcow2 *q = o->q;
	uint64_t at = o->h.header_len;
	const uint64_t end = o->h.backing_offset ? o->h.backing_offset : q->cluster_size;
	struct { uint32_t type, len; } ext;

	while (at + 8 <= end) {
		uint32_t len;

		if (file_read(q, at, &ext, 8))
			return err_set(o->e, EIO, "cannot read the header of disk '%s'", o->how->path);
		len = be32toh(ext.len);
		if (be32toh(ext.type) == EXT_END)
			return 0;
		if (len > end - at - 8)
			return bad_header(o, at, "an extension is too long");
		if (be32toh(ext.type) == EXT_BACKING_FORMAT && len && len < 64 &&
		    !q->backing_format)
			q->backing_format = string_read(q, at + 8, len);
		at += 8 + ALIGN_UP(len, 8);
	}
	return 0;
}

static int backing_name_read(struct opening *o)
{
	const struct qcow2_header *h = &o->h;

	if (h->backing_offset && (h->backing_len > BACKING_NAME_MAX || !h->backing_len ||
				  h->backing_offset > o->q->cluster_size - h->backing_len))
		return bad_header(o, 8, "the backing image's name is impossible");
	if (extensions_read(o))
		return -EINVAL;
	if (!h->backing_offset)
		return 0;
	o->q->has_backing = true;
	o->q->backing_name = string_read(o->q, h->backing_offset, h->backing_len);
	return o->q->backing_name ? 0 : bad_header(o, h->backing_offset,
						   "the backing image's name cannot be read");
}

/* A relative name is meant from the folder of the image that names it. */
static char *backing_path(const char *overlay, const char *name)
{
	char *path = NULL, *copy;

	if (!strncmp(name, "file:", 5))
		name += 5;
	if (name[0] == '/')
		return strdup(name);
	copy = strdup(overlay);
	if (copy && asprintf(&path, "%s/%s", dirname(copy), name) < 0)
		path = NULL;
	free(copy);
	return path;
}

static int backing_open(struct opening *o)
{
	struct qcow2 *q = o->q;
	struct image_open above = *o->how, how = {
		.read_only = true, .unlocked = o->how->unlocked, .format = q->backing_format,
		.above = &above, .depth = o->how->depth + 1,
	};
	char *path = backing_path(o->how->path, q->backing_name);
	struct stat st;
	int rc;

	if (!path)
		return err_errno(o->e, ENOMEM, "disk '%s'", o->how->path);
	if (!fstat(raw_fd(q->img.file), &st)) {
		above.dev = st.st_dev;
		above.ino = st.st_ino;
	}
	how.path = path;
	rc = image_open(&q->img.backing, &how, o->e);
	if (rc && o->e && !o->how->depth)	/* the top one and the one that it failed at */
		err_prefix(o->e, "backing image of '%s'", o->how->path);
	if (!rc && !q->backing_format && strcmp(q->img.backing->ops->format, "raw")) {
		rc = err_set(o->e, EINVAL, "disk '%s' does not say of which format its backing image "
			     "'%s' is: qemu-img rebase -u -F qcow2 -b %s %s writes it down",
			     o->how->path, path, q->backing_name, o->how->path);
		image_close(q->img.backing);
		q->img.backing = NULL;
	}
	free(path);
	return rc;
}

/* --- opening and closing --- */

static void qcow2_free(struct qcow2 *q)
{
	cache_destroy(q);
	pthread_mutex_destroy(&q->lock);
	pthread_mutex_destroy(&q->commit_lock);
	pthread_mutex_destroy(&q->inflate_lock);
	pthread_cond_destroy(&q->unclaimed);
	free(q->l1);
	free(q->l1_dirty);
	free(q->reftable);
	free(q->meta.slot);
	free(q->freed);
	free(q->inflated);
	free(q->backing_name);
	free(q->backing_format);
	free(q->img.path);
	free(q);
}

static int qcow2_flush(struct image *img)
{
	return qcow2_commit(qcow2_of(img));
}

static int qcow2_close(struct image *img)
{
	struct qcow2 *q = qcow2_of(img);
	int rc = 0, rc2;

	if (!img->read_only) {
		rc = qcow2_commit(q);
		/* Once more: the refcounts of what the first one let go. */
		if (!rc && q->cache.dirty)
			rc = qcow2_commit(q);
	}
	rc2 = image_close(img->file);
	image_close(img->backing);
	qcow2_free(q);
	return rc ? rc : rc2;
}

static const struct image_ops qcow2_ops = {
	.format = "qcow2",
	.read = qcow2_read,
	.write = qcow2_write,
	.zero = qcow2_zero,
	.discard = qcow2_discard,
	.flush = qcow2_flush,
	.resize = qcow2_resize,
	.map = qcow2_map,
	.close = qcow2_close,
};

static void take_header(struct opening *o)
{
	struct qcow2 *q = o->q;
	const struct qcow2_header *h = &o->h;

	q->version = h->version;
	q->cluster_bits = h->cluster_bits;
	q->refcount_order = h->refcount_order;
	q->cluster_size = BIT(h->cluster_bits);
	q->l2_entries = q->cluster_size / 8;
	q->block_entries = q->cluster_size * 8 >> h->refcount_order;
	q->incompatible = h->incompatible;
	q->compatible = h->compatible;
	o->autoclear = h->autoclear;
	q->zstd = h->compression_type == 1;
	q->l1_size = h->l1_size;
	q->l1_offset = h->l1_offset;
	q->reftable_size = (uint64_t)h->reftable_clusters * q->cluster_size / 8;
	q->reftable_offset = h->reftable_offset;
	q->snapshot_count = h->snapshot_count;
	q->snapshot_offset = h->snapshot_offset;
	q->img.size = ALIGN_UP(h->size, 512);
	q->img.cluster = q->cluster_size;
}

/* Puts right what an earlier writer left: lazy refcounts, features that it knew and we do not. */
static int make_writable(struct opening *o)
{
	struct qcow2 *q = o->q;
	struct qcow2_check check;
	int rc = 0;

	if (q->img.read_only || o->how->damaged)
		return 0;
	if (q->incompatible & INCOMPAT_DIRTY) {
		rc = qcow2_check(&q->img, true, &check, o->e);
		if (!rc && check.errors + check.leaks > check.fixed)
			rc = err_set(o->e, EIO, "disk '%s' was not closed and cannot be repaired: %s",
				     o->how->path, check.first);
	} else if (o->autoclear) {
		rc = header_write(q);
		if (rc)
			err_errno(o->e, -rc, "cannot write the header of disk '%s'", o->how->path);
	}
	return rc;
}

static struct qcow2 *qcow2_new(struct image *file, const struct image_open *how)
{
	struct qcow2 *q = calloc(1, sizeof(*q));

	if (!q)
		return NULL;
	q->img.ops = &qcow2_ops;
	q->img.file = file;
	q->img.read_only = how->read_only;
	q->img.can_discard = file->can_discard;
	q->img.path = strdup(how->path);
	pthread_mutex_init(&q->lock, NULL);
	pthread_mutex_init(&q->commit_lock, NULL);
	pthread_mutex_init(&q->inflate_lock, NULL);
	pthread_cond_init(&q->unclaimed, NULL);
	if (q->img.path)
		return q;
	qcow2_free(q);
	return NULL;
}

/* @backing: NULL to open what the header names. */
static int open_with(struct image **out, struct image *file, struct image *backing,
		     const struct image_open *how, struct err *e)
{
	struct opening o = { .q = qcow2_new(file, how), .how = how, .e = e };
	int rc;

	if (!o.q)
		return err_errno(e, ENOMEM, "disk '%s'", how->path);
	rc = header_read(&o);
	if (!rc)
		rc = features_check(&o);
	if (!rc) {
		take_header(&o);
		rc = tables_load(&o);
	}
	if (!rc)
		rc = backing_name_read(&o);
	if (!rc && o.q->has_backing && !backing && !how->no_backing)
		rc = backing_open(&o);
	if (!rc)
		rc = make_writable(&o);
	if (rc) {
		image_close(o.q->img.backing);
		qcow2_free(o.q);
		return rc;
	}
	if (backing) {
		o.q->img.backing = backing;
		o.q->has_backing = true;
	}
	*out = &o.q->img;
	return 0;
}

int qcow2_open(struct image **out, struct image *file, const struct image_open *how,
	       struct err *e)
{
	return open_with(out, file, NULL, how, e);
}

int qcow2_open_over(struct image **out, struct image *file, struct image *backing,
		    const struct image_open *how, struct err *e)
{
	return open_with(out, file, backing, how, e);
}

char *qcow2_backing_path(struct image *img)
{
	struct qcow2 *q = qcow2_of(img);

	if (img->ops != &qcow2_ops || !q->backing_name)
		return NULL;
	return backing_path(img->path, q->backing_name);
}

bool qcow2_info(struct image *img, struct qcow2_info *out)
{
	struct qcow2 *q;

	if (img->ops != &qcow2_ops)
		return false;
	q = qcow2_of(img);
	*out = (struct qcow2_info){
		.version = q->version, .cluster_bits = q->cluster_bits,
		.refcount_bits = 1U << q->refcount_order, .snapshots = q->snapshot_count,
		.backing = q->backing_name, .backing_format = q->backing_format,
		.compression = q->zstd ? "zstd" : "zlib",
		.lazy_refcounts = q->compatible & COMPAT_LAZY_REFCOUNTS,
		.dirty = q->incompatible & INCOMPAT_DIRTY,
		.corrupt = q->incompatible & INCOMPAT_CORRUPT,
	};
	return true;
}
