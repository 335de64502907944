// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: from guest clusters to clusters of the file ("Cluster mapping").  Every entry is
 * checked before it is believed; one that points at the image's own metadata would let the
 * guest write it.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <string.h>

static uint64_t entry_at(const struct table *t, uint64_t i)
{
	return be64toh(((const uint64_t *)t->data)[i]);
}

void map_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *off, uint64_t *len)
{
	const unsigned int x = 62 - (q->cluster_bits - 8);

	*off = entry & (BIT(x) - 1);
	*len = ((entry & (BIT(62) - 1)) >> x) * 512 + 512 - (*off & 511);
}

/* The clusters that a used entry holds; *count 0: none. */
static void entry_clusters(const struct qcow2 *q, uint64_t entry, uint64_t *first, uint64_t *count)
{
	uint64_t off, len;

	if (entry & ENTRY_COMPRESSED) {
		map_compressed(q, entry, &off, &len);
		*first = cluster_floor(q, off);
		*count = ((cluster_floor(q, off + len - 1) - *first) >> q->cluster_bits) + 1;
		return;
	}
	*first = entry & ENTRY_OFFSET;
	*count = *first ? 1 : 0;
}

static int entry_check(struct qcow2 *q, uint64_t entry, uint64_t index, uint64_t table)
{
	const unsigned long long guest = index << q->cluster_bits;
	const unsigned long long at = table + 8 * (index % q->l2_entries);
	uint64_t first, count;

	if (!(entry & ENTRY_COMPRESSED)) {
		if (entry & L2_RESERVED || (q->version < 3 && entry & ENTRY_ZERO))
			return damaged(q, "the L2 entry at offset %#llx (guest offset %#llx) has bits "
				       "that mean nothing", at, guest);
		if (entry & ENTRY_OFFSET & (q->cluster_size - 1))
			return damaged(q, "the L2 entry at offset %#llx (guest offset %#llx) points "
				       "into the middle of a cluster", at, guest);
	}
	entry_clusters(q, entry, &first, &count);
	if (count && !(entry & ENTRY_ZERO && !(entry & ENTRY_COMPRESSED)) &&
	    (first >= q->file_end || (count - 1) << q->cluster_bits >= q->file_end - first))
		return damaged(q, "the L2 entry at offset %#llx (guest offset %#llx) points behind "
			       "the end of the file, to %#llx", at, guest, (unsigned long long)first);
	for (uint64_t i = 0; i < count; i++)
		if (set_has(&q->meta, first + (i << q->cluster_bits)))
			return damaged(q, "the L2 entry at offset %#llx (guest offset %#llx) points "
				       "at metadata, to %#llx", at, guest,
				       (unsigned long long)(first + (i << q->cluster_bits)));
	return 0;
}

static int l1_check(struct qcow2 *q, uint64_t i)
{
	const uint64_t entry = q->l1[i], offset = entry & ENTRY_OFFSET;

	if (entry & L1_RESERVED || offset & (q->cluster_size - 1) || offset >= q->file_end)
		return damaged(q, "the L1 entry at offset %#llx is %#llx, which is no cluster",
			       (unsigned long long)(q->l1_offset + 8 * i), (unsigned long long)entry);
	return 0;
}

/* The table that covers guest cluster @index as it is; *t NULL: there is none. */
static int table_find(struct qcow2 *q, uint64_t index, struct table **t)
{
	const uint64_t i = index / q->l2_entries;
	int rc;

	*t = NULL;
	if (i >= q->l1_size)
		return damaged(q, "the L1 table is too short for guest offset %#llx",
			       (unsigned long long)index << q->cluster_bits);
	rc = l1_check(q, i);
	if (rc || !(q->l1[i] & ENTRY_OFFSET))
		return rc;
	return cache_get(q, TABLE_L2, q->l1[i] & ENTRY_OFFSET, t);
}

static void mapping_of(const struct qcow2 *q, uint64_t entry, struct mapping *m)
{
	*m = (struct mapping){ .entry = entry, .count = 1 };
	if (entry & ENTRY_COMPRESSED) {
		m->kind = MAP_COMPRESSED;
		return;
	}
	m->host = entry & ENTRY_OFFSET;
	m->copied = entry & ENTRY_COPIED && m->host;
	m->kind = entry & ENTRY_ZERO && q->version >= 3 ? MAP_ZERO : m->host ? MAP_DATA : MAP_NONE;
}

int map_lookup(struct qcow2 *q, uint64_t index, uint64_t max, struct mapping *m)
{
	const uint64_t at = index % q->l2_entries;
	struct mapping next;
	struct table *t;
	int rc;

	max = MIN(max, q->l2_entries - at);
	rc = table_find(q, index, &t);
	if (rc)
		return rc;
	if (!t) {
		*m = (struct mapping){ .kind = MAP_NONE, .count = max };
		return 0;
	}
	rc = entry_check(q, entry_at(t, at), index, t->offset);
	mapping_of(q, entry_at(t, at), m);
	for (; !rc && m->kind != MAP_COMPRESSED && m->count < max; m->count++) {
		mapping_of(q, entry_at(t, at + m->count), &next);
		if (next.kind != m->kind || next.copied != m->copied ||
		    next.host != (m->host ? m->host + (m->count << q->cluster_bits) : 0))
			break;
		rc = entry_check(q, next.entry, index + m->count, t->offset);
	}
	return rc;
}

/* A new table in place of entry @i of L1, with the contents of @old if there is one. */
static int table_make(struct qcow2 *q, uint64_t i, uint64_t old, struct table **out)
{
	struct table *t, *from = NULL;
	uint64_t offset, got;
	int rc;

	rc = cluster_alloc(q, 1, &offset, &got);
	if (rc)
		return rc;
	rc = cache_new(q, TABLE_L2, offset, &t);
	if (!rc && old)
		rc = cache_get(q, TABLE_L2, old, &from);
	if (!rc)
		rc = meta_add(q, offset, q->cluster_size);
	if (!rc && old)
		rc = cluster_free(q, old, 1);
	if (rc) {
		set_remove(&q->meta, offset);
		cache_drop(q, offset);
		cluster_free_now(q, offset, 1);
		return rc;
	}
	if (from)
		memcpy(t->data, from->data, q->cluster_size);
	if (old) {
		set_remove(&q->meta, old);
		cache_drop(q, old);
	}
	l1_set(q, i, offset | ENTRY_COPIED);
	*out = t;
	return 0;
}

int map_table(struct qcow2 *q, uint64_t index, struct table **t)
{
	const uint64_t i = index / q->l2_entries;
	int rc;

	rc = table_find(q, index, t);
	if (rc || (*t && q->l1[i] & ENTRY_COPIED))
		return rc;
	return table_make(q, i, q->l1[i] & ENTRY_OFFSET, t);
}

int map_set(struct qcow2 *q, uint64_t index, uint64_t count, uint64_t entry, bool advance)
{
	const uint64_t at = index % q->l2_entries;
	uint64_t first, clusters;
	struct table *t;
	int rc;

	rc = map_table(q, index, &t);
	for (uint64_t i = 0; i < count && !rc; i++)
		rc = entry_check(q, entry_at(t, at + i), index + i, t->offset);
	for (uint64_t i = 0; i < count && !rc; i++) {
		const uint64_t old = entry_at(t, at + i);
		const uint64_t new = entry + (advance ? i << q->cluster_bits : 0);

		entry_clusters(q, old, &first, &clusters);
		if (clusters && (old & ENTRY_COMPRESSED || first != (new & ENTRY_OFFSET)))
			rc = cluster_free(q, first, clusters);
		if (rc)
			break;
		((uint64_t *)t->data)[at + i] = htobe64(new);
		cache_dirty(q, t);
	}
	return rc;
}
