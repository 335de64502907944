// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: another size.  Growing needs at most a longer L1 table, which is put somewhere else
 * and then named by the header.  Shrinking gives up the clusters behind the new end first.
 * Nothing else happens to the image meanwhile.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int resize_failed(struct qcow2 *q, int rc, struct err *e)
{
	return err_errno(e, -rc, "cannot resize disk '%s'", q->img.path);
}

/* @clusters in a row; they may cross refcount blocks, which cluster_alloc() does not. */
static int alloc_row(struct qcow2 *q, uint64_t clusters, uint64_t *offset)
{
	uint64_t at, got, have = 0;
	int rc = 0;

	while (have < clusters) {
		rc = cluster_alloc(q, clusters - have, &at, &got);
		if (rc)
			break;
		if (have && at != *offset + (have << q->cluster_bits)) {
			cluster_free(q, *offset, have);	/* later: it would be found again */
			have = 0;
		}
		if (!have)
			*offset = at;
		have += got;
	}
	if (rc && have)
		cluster_free_now(q, *offset, have);
	return rc;
}

/* A table of zeroes behind its present entries, at @offset on disk and in memory. */
static int l1_write(struct qcow2 *q, uint64_t entries, uint64_t offset)
{
	const uint64_t bytes = ALIGN_UP(8 * entries, q->cluster_size);
	uint64_t *copy = calloc(1, bytes);
	int rc = copy ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < q->l1_size && !rc; i++)
		copy[i] = htobe64(q->l1[i]);
	if (!rc)
		rc = file_write(q, offset, copy, bytes);
	free(copy);
	return rc ? rc : image_flush(q->img.file);
}

/* The commit before has written everything, so the new table may be named at once. */
static int l1_move(struct qcow2 *q, uint64_t entries, uint64_t offset)
{
	const uint64_t old = q->l1_offset, old_bytes = ALIGN_UP(8 * q->l1_size, q->cluster_size);
	uint64_t *l1 = calloc(entries + 1, sizeof(*l1));
	uint8_t *dirty = calloc(1, entries / 64 + 1);
	int rc = l1 && dirty ? meta_add(q, offset, ALIGN_UP(8 * entries, q->cluster_size)) : -ENOMEM;

	if (rc) {
		free(l1);
		free(dirty);
		return rc;
	}
	memcpy(l1, q->l1, 8 * q->l1_size);
	memcpy(dirty, q->l1_dirty, q->l1_size / 64 + 1);
	free(q->l1);
	free(q->l1_dirty);
	q->l1 = l1;
	q->l1_dirty = dirty;
	q->l1_size = entries;
	q->l1_offset = offset;
	rc = header_write(q);
	if (!rc)
		rc = image_flush(q->img.file);
	for (uint64_t i = 0; i < old_bytes && !rc; i += q->cluster_size)
		set_remove(&q->meta, old + i);
	return rc || !old_bytes ? rc : cluster_free(q, old, old_bytes >> q->cluster_bits);
}

/* Its clusters' refcounts are to be on disk before the header names the new table. */
static int l1_grow(struct qcow2 *q, uint64_t entries)
{
	uint64_t offset = 0;
	int rc;

	if (8 * entries > QCOW2_MAX_L1)
		return -EFBIG;
	pthread_mutex_lock(&q->lock);
	rc = alloc_row(q, ALIGN_UP(8 * entries, q->cluster_size) >> q->cluster_bits, &offset);
	pthread_mutex_unlock(&q->lock);
	if (!rc)
		rc = qcow2_commit(q);
	if (rc)
		return rc;
	pthread_mutex_lock(&q->lock);
	rc = l1_write(q, entries, offset);
	if (!rc)
		rc = l1_move(q, entries, offset);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

static uint64_t l1_needed(const struct qcow2 *q, uint64_t size)
{
	const unsigned int bits = 2 * q->cluster_bits - 3;

	return (size >> bits) + !!(size & (BIT(bits) - 1));
}

static int grow(struct qcow2 *q, uint64_t size)
{
	const uint64_t entries = l1_needed(q, size), old = q->img.size;
	int rc = 0;

	if (entries > q->l1_size)
		rc = l1_grow(q, entries);
	if (rc)
		return rc;
	pthread_mutex_lock(&q->lock);
	q->img.size = size;
	rc = header_write(q);
	if (rc)
		q->img.size = old;
	pthread_mutex_unlock(&q->lock);
	return rc;
}

/*
 * What is new reads as zeroes: the rest of the last cluster may have something in it, and a
 * longer backing image would show through.
 */
static int zero_new(struct qcow2 *q, uint64_t old, uint64_t size)
{
	uint64_t end = MIN(ALIGN_UP(old, q->cluster_size), size);

	if (q->img.backing && q->img.backing->size > end)
		end = MIN(q->img.backing->size, size);
	return end > old ? qcow2_zero(&q->img, old, end - old, true) : 0;
}

static int shrink(struct qcow2 *q, uint64_t size)
{
	const uint64_t first = ALIGN_UP(size, q->cluster_size), old = q->img.size;
	int rc = 0;

	/* Without a backing image's contents showing up should it grow again: they are hidden. */
	if (first < old)
		rc = qcow2_zero(&q->img, first, old - first, true);
	if (!rc)
		rc = qcow2_commit(q);
	if (rc)
		return rc;
	pthread_mutex_lock(&q->lock);
	q->img.size = size;
	rc = header_write(q);
	pthread_mutex_unlock(&q->lock);
	return rc;
}

int qcow2_resize(struct image *img, uint64_t size, struct err *e)
{
	struct qcow2 *q = qcow2_of(img);
	const uint64_t old = img->size;
	int rc;

	if (size < old && q->snapshot_count)
		return err_set(e, ENOTSUP, "disk '%s' has snapshots inside and cannot become smaller",
			       img->path);
	if (size > INT64_MAX - q->cluster_size)
		return resize_failed(q, -EFBIG, e);
	rc = qcow2_commit(q);
	if (!rc && size < old)
		rc = shrink(q, size);
	if (!rc && size > old)
		rc = grow(q, size);
	if (!rc && size > old)
		rc = zero_new(q, old, size);
	if (!rc)
		rc = qcow2_commit(q);
	return rc ? resize_failed(q, rc, e) : 0;
}
