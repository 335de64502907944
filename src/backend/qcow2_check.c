// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: the refcounts against what is really referenced: header, tables, the clusters of the
 * active disk and of every snapshot.  Repairing writes the right refcounts; what two owners
 * share and what points nowhere is reported and left to the user.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	struct qcow2 *q;
	struct qcow2_check *out;
	uint32_t *seen;			/* references of each cluster of the file */
	uint64_t clusters;		/* of the file */
	uint64_t *table;		/* one L2 table, host byte order */
	bool repair, active;
};

static void wrong(struct walk *w, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

static void wrong(struct walk *w, const char *fmt, ...)
{
	va_list ap;

	w->out->errors++;
	if (w->out->first[0])
		return;
	va_start(ap, fmt);
	vsnprintf(w->out->first, sizeof(w->out->first), fmt, ap);
	va_end(ap);
}

/* @bytes at @off are referenced once more, by @what at @from. */
static void reference(struct walk *w, uint64_t off, uint64_t bytes, const char *what, uint64_t from)
{
	const struct qcow2 *q = w->q;
	const uint64_t first = off >> q->cluster_bits, last = (off + bytes - 1) >> q->cluster_bits;

	if (!bytes)
		return;
	if (off > ENTRY_OFFSET || last >= w->clusters) {
		wrong(w, "%s at offset %#llx points behind the end of the file, to %#llx", what,
		      (unsigned long long)from, (unsigned long long)off);
		return;
	}
	for (uint64_t c = first; c <= last; c++)
		if (w->seen[c] < UINT32_MAX)
			w->seen[c]++;
	w->out->end = MAX(w->out->end, (last + 1) << q->cluster_bits);
}

static void walk_entry(struct walk *w, uint64_t entry, uint64_t at)
{
	const struct qcow2 *q = w->q;
	uint64_t off = entry & ENTRY_OFFSET, len = q->cluster_size;

	if (entry & ENTRY_COMPRESSED) {
		map_compressed(q, entry, &off, &len);
		if (entry & ENTRY_COPIED)
			wrong(w, "the L2 entry at offset %#llx is compressed and says copied",
			      (unsigned long long)at);
		/* The last sector may be cut off at the end of the file. */
		if (off < w->clusters << q->cluster_bits)
			len = MIN(len, (w->clusters << q->cluster_bits) - off);
		w->out->compressed += w->active;
	} else {
		if (entry & L2_RESERVED || (q->version < 3 && entry & ENTRY_ZERO)) {
			wrong(w, "the L2 entry at offset %#llx has bits that mean nothing",
			      (unsigned long long)at);
			return;
		}
		w->out->zero += w->active && entry & ENTRY_ZERO;
		if (!off)
			return;
		if (off & (q->cluster_size - 1)) {
			wrong(w, "the L2 entry at offset %#llx points into the middle of a cluster",
			      (unsigned long long)at);
			return;
		}
	}
	w->out->allocated += w->active;
	reference(w, off, len, "the L2 entry", at);
}

static int walk_l2(struct walk *w, uint64_t offset)
{
	struct qcow2 *q = w->q;
	int rc = file_read(q, offset, w->table, q->cluster_size);

	for (uint64_t i = 0; i < q->l2_entries && !rc; i++)
		if (w->table[i])
			walk_entry(w, be64toh(w->table[i]), offset + 8 * i);
	return rc;
}

static int walk_l1(struct walk *w, uint64_t offset, uint64_t entries)
{
	struct qcow2 *q = w->q;
	uint64_t *l1 = calloc(entries + 1, sizeof(*l1));
	int rc = l1 ? file_read(q, offset, l1, 8 * entries) : -ENOMEM;

	reference(w, offset, 8 * entries, "the L1 table", offset);
	for (uint64_t i = 0; i < entries && !rc; i++) {
		const uint64_t entry = be64toh(l1[i]), off = entry & ENTRY_OFFSET;

		if (!entry)
			continue;
		if (entry & L1_RESERVED || off & (q->cluster_size - 1)) {
			wrong(w, "the L1 entry at offset %#llx is no cluster",
			      (unsigned long long)(offset + 8 * i));
			continue;
		}
		if (!off)
			continue;
		reference(w, off, q->cluster_size, "the L1 entry", offset + 8 * i);
		if (off >> q->cluster_bits < w->clusters)
			rc = walk_l2(w, off);
	}
	free(l1);
	return rc;
}

static int walk_snapshots(struct walk *w)
{
	struct qcow2 *q = w->q;
	struct snapshot *s;
	uint64_t bytes;
	int rc;

	if (!q->snapshot_count)
		return 0;
	rc = snapshots_read(q, &s, &bytes);
	if (rc)
		return rc;
	reference(w, q->snapshot_offset, bytes, "the header", 64);
	for (uint32_t i = 0; i < q->snapshot_count && !rc; i++)
		rc = walk_l1(w, s[i].l1_offset, s[i].l1_size);
	free(s);
	return rc;
}

static int walk_all(struct walk *w)
{
	struct qcow2 *q = w->q;
	int rc;

	reference(w, 0, q->cluster_size, "the header", 0);
	reference(w, q->reftable_offset, 8 * q->reftable_size, "the header", 48);
	for (uint64_t i = 0; i < q->reftable_size; i++) {
		if (q->reftable[i] & (q->cluster_size - 1))
			wrong(w, "the refcount table's entry at offset %#llx is no cluster",
			      (unsigned long long)(q->reftable_offset + 8 * i));
		else if (q->reftable[i])
			reference(w, q->reftable[i], q->cluster_size, "the refcount table's entry",
				  q->reftable_offset + 8 * i);
	}
	w->active = true;
	rc = walk_l1(w, q->l1_offset, q->l1_size);
	w->active = false;
	return rc ? rc : walk_snapshots(w);
}

/* --- comparing --- */

static bool metadata_shared(const struct walk *w, uint64_t cluster)
{
	return w->seen[cluster] > 1 && set_has(&w->q->meta, cluster << w->q->cluster_bits);
}

static void compare(struct walk *w, uint64_t cluster, uint64_t count)
{
	const unsigned long long offset = cluster << w->q->cluster_bits;

	if (count > w->seen[cluster])
		w->out->leaks += 1;
	else if (count < w->seen[cluster])
		wrong(w, "the cluster at offset %#llx is used %u times, but its refcount is %llu",
		      offset, w->seen[cluster], (unsigned long long)count);
	if (!w->q->snapshot_count && metadata_shared(w, cluster))
		wrong(w, "the metadata at offset %#llx is used by somebody else too", offset);
}

/* Corrects a refcount; @t is the block that has it, NULL if there is none. */
static int correct(struct walk *w, struct table *t, uint64_t cluster)
{
	struct qcow2 *q = w->q;
	const unsigned int bits = 1U << q->refcount_order;

	if (!t || (bits < 32 && w->seen[cluster] >> bits))
		return 0;	/* cannot be; stays an error */
	refcount_write(q, t->data, cluster % q->block_entries, w->seen[cluster]);
	cache_dirty(q, t);
	w->out->fixed++;
	q->free_hint = 0;
	return 0;
}

static int compare_all(struct walk *w)
{
	struct qcow2 *q = w->q;
	int rc = 0;

	for (uint64_t c = 0; c < q->reftable_size * q->block_entries && !rc; c++) {
		const uint64_t block = q->reftable[c / q->block_entries];
		struct table *t = NULL;
		uint64_t count = 0;

		if (block && !(block & (q->cluster_size - 1)) && block < q->file_end) {
			rc = cache_get(q, TABLE_REFCOUNTS, block, &t);
			if (rc)
				break;
			count = refcount_read(q, t->data, c % q->block_entries);
		} else if (c >= w->clusters) {
			c |= q->block_entries - 1;
			continue;
		}
		if (c >= w->clusters) {
			w->out->leaks += count ? 1 : 0;
			continue;
		}
		if (count == w->seen[c]) {
			if (count > 1)
				compare(w, c, count);
			continue;
		}
		compare(w, c, count);
		if (w->repair)
			rc = correct(w, t, c);
		if (!rc && w->repair && q->cache.dirty > q->cache.limit / 2) {
			pthread_mutex_unlock(&q->lock);
			rc = qcow2_commit(q);
			pthread_mutex_lock(&q->lock);
		}
	}
	for (uint64_t c = q->reftable_size * q->block_entries; c < w->clusters && !rc; c++)
		if (w->seen[c])
			compare(w, c, 0);
	return rc;
}

/* Nothing is wrong any more: says so in the header. */
static int mark_clean(struct qcow2 *q)
{
	int rc = qcow2_commit(q);

	if (rc || !(q->incompatible & (INCOMPAT_DIRTY | INCOMPAT_CORRUPT)))
		return rc;
	q->incompatible &= ~(INCOMPAT_DIRTY | INCOMPAT_CORRUPT);
	rc = header_write(q);
	return rc ? rc : image_flush(q->img.file);
}

int qcow2_check(struct image *img, bool repair, struct qcow2_check *out, struct err *e)
{
	struct qcow2 *q = qcow2_of(img);
	struct walk w = { .q = q, .out = out, .repair = repair && !img->read_only };
	int rc = 0;

	memset(out, 0, sizeof(*out));
	if (!img->read_only)
		rc = qcow2_commit(q);
	w.clusters = q->file_end >> q->cluster_bits;
	w.seen = calloc(w.clusters + 1, sizeof(*w.seen));
	w.table = malloc(q->cluster_size);
	if (!rc && (!w.seen || !w.table))
		rc = -ENOMEM;
	if (!rc) {
		pthread_mutex_lock(&q->lock);
		out->clusters = (img->size + q->cluster_size - 1) >> q->cluster_bits;
		rc = walk_all(&w);
		if (!rc)
			rc = compare_all(&w);
		pthread_mutex_unlock(&q->lock);
	}
	if (!rc && w.repair && out->fixed == out->errors + out->leaks)
		rc = mark_clean(q);
	free(w.seen);
	free(w.table);
	if (rc == -EIO && q->damage[0])
		return err_set(e, EIO, "disk '%s' is damaged: %s", img->path, q->damage);
	return rc ? err_errno(e, -rc, "cannot check disk '%s'", img->path) : 0;
}
