// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: which clusters are taken ("Host cluster management").  Refcounts have 1 to 64 bits.
 *
 * A refcount block that is missing is put at the first of the clusters that it counts, all of
 * which are free.  When the table of blocks is full, a new one goes behind everything that the
 * old one covers, with the blocks that count it; the header names it once it is on disk.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

uint64_t refcount_read(const struct qcow2 *q, const uint8_t *block, uint64_t index)
{
	const unsigned int bits = 1U << q->refcount_order;

	switch (bits) {
	case 8:
		return block[index];
	case 16:
		return be16toh(((const uint16_t *)block)[index]);
	case 32:
		return be32toh(((const uint32_t *)block)[index]);
	case 64:
		return be64toh(((const uint64_t *)block)[index]);
	}
	return block[index * bits / 8] >> index * bits % 8 & ((1U << bits) - 1);
}

void refcount_write(const struct qcow2 *q, uint8_t *block, uint64_t index, uint64_t value)
{
	const unsigned int bits = 1U << q->refcount_order;
	unsigned int shift;

	switch (bits) {
	case 8:
		block[index] = value;
		return;
	case 16:
		((uint16_t *)block)[index] = htobe16(value);
		return;
	case 32:
		((uint32_t *)block)[index] = htobe32(value);
		return;
	case 64:
		((uint64_t *)block)[index] = htobe64(value);
		return;
	}
	shift = index * bits % 8;
	block += index * bits / 8;
	*block = (*block & ~(((1U << bits) - 1) << shift)) | value << shift;
}

/* The block that counts @cluster; *out NULL if there is none. */
static int block_get(struct qcow2 *q, uint64_t cluster, struct table **out)
{
	const uint64_t n = cluster / q->block_entries;

	*out = NULL;
	if (n >= q->reftable_size || !q->reftable[n])
		return 0;
	return cache_get(q, TABLE_REFCOUNTS, q->reftable[n], out);
}

int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *out)
{
	struct table *t;
	const int rc = block_get(q, cluster, &t);

	if (rc)
		return rc;
	*out = t ? refcount_read(q, t->data, cluster % q->block_entries) : 0;
	return 0;
}

/* Makes block @n of the table that there is, counting itself. */
static int block_make(struct qcow2 *q, uint64_t n)
{
	const uint64_t offset = n * q->block_entries << q->cluster_bits;
	const uint64_t entry = htobe64(offset);
	struct table *t;
	int rc;

	rc = meta_add(q, offset, q->cluster_size);
	if (rc)
		return rc;
	rc = cache_new(q, TABLE_REFCOUNTS, offset, &t);
	if (rc)
		goto undo;
	refcount_write(q, t->data, 0, 1);
	rc = file_write(q, offset, t->data, q->cluster_size);
	if (!rc)
		rc = image_flush(q->img.file);
	/* Now that it is there the table may refer to it. */
	if (!rc)
		rc = file_write(q, q->reftable_offset + 8 * n, &entry, 8);
	if (rc) {
		cache_drop(q, offset);
		goto undo;
	}
	q->reftable[n] = offset;
	q->file_end = MAX(q->file_end, offset + q->cluster_size);
	return 0;
undo:
	set_remove(&q->meta, offset);
	return rc;
}

struct growth {
	uint64_t start;			/* cluster index */
	uint64_t blocks, clusters;	/* new blocks; clusters of the new table behind them */
	uint64_t *table;		/* host byte order */
	uint64_t entries;
};

static int growth_plan(struct qcow2 *q, struct growth *g)
{
	uint64_t need;

	g->start = q->reftable_size * q->block_entries;
	g->blocks = 1;
	do {
		need = q->reftable_size + g->blocks;
		g->entries = ALIGN_UP(8 * (need + need / 2), q->cluster_size) / 8;
		g->clusters = 8 * g->entries >> q->cluster_bits;
	} while (g->blocks * q->block_entries < g->blocks + g->clusters && g->blocks++);
	if (8 * g->entries > QCOW2_MAX_REFTABLE)
		return -EFBIG;
	g->table = calloc(g->entries, 8);
	if (!g->table)
		return -ENOMEM;
	memcpy(g->table, q->reftable, 8 * q->reftable_size);
	for (uint64_t i = 0; i < g->blocks; i++)
		g->table[q->reftable_size + i] = (g->start + i) << q->cluster_bits;
	return 0;
}

/* Writes blocks and table to where nothing refers to yet. */
static int growth_write(struct qcow2 *q, const struct growth *g)
{
	const uint64_t taken = g->blocks + g->clusters;
	uint64_t *buf = calloc(1, MAX(q->cluster_size, 8 * g->entries));
	int rc = buf ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < g->blocks && !rc; i++) {
		const uint64_t base = i * q->block_entries;

		memset(buf, 0, q->cluster_size);
		for (uint64_t c = base; c < taken && c < base + q->block_entries; c++)
			refcount_write(q, (uint8_t *)buf, c - base, 1);
		rc = file_write(q, (g->start + i) << q->cluster_bits, buf, q->cluster_size);
	}
	for (uint64_t i = 0; i < g->entries && !rc; i++)
		buf[i] = htobe64(g->table[i]);
	if (!rc)
		rc = file_write(q, (g->start + g->blocks) << q->cluster_bits, buf, 8 * g->entries);
	free(buf);
	return rc ? rc : image_flush(q->img.file);
}

static int reftable_grow(struct qcow2 *q)
{
	const uint64_t old = q->reftable_offset, old_size = q->reftable_size;
	struct growth g;
	int rc;

	rc = growth_plan(q, &g);
	if (rc)
		return rc;
	rc = growth_write(q, &g);
	if (!rc)
		rc = meta_add(q, g.start << q->cluster_bits,
			      (g.blocks + g.clusters) << q->cluster_bits);
	if (rc) {
		free(g.table);
		return rc;
	}
	free(q->reftable);
	q->reftable = g.table;
	q->reftable_size = g.entries;
	q->reftable_offset = (g.start + g.blocks) << q->cluster_bits;
	q->file_end = MAX(q->file_end, q->reftable_offset + 8 * g.entries);
	rc = header_write(q);
	if (!rc)
		rc = image_flush(q->img.file);
	if (rc)
		return rc;	/* the old one stays taken, as the header may still name it */
	for (uint64_t i = 0; i < 8 * old_size; i += q->cluster_size)
		set_remove(&q->meta, old + i);
	cluster_free_now(q, old, 8 * old_size >> q->cluster_bits);
	return 0;
}

/* The block that counts @cluster, made if need be. */
static int block_need(struct qcow2 *q, uint64_t cluster, struct table **out)
{
	const uint64_t n = cluster / q->block_entries;
	int rc = 0;

	if (n >= q->reftable_size)
		rc = reftable_grow(q);
	if (!rc && !q->reftable[n])
		rc = block_make(q, n);
	return rc ? rc : block_get(q, cluster, out);
}

int cluster_alloc(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got)
{
	uint64_t c = q->free_hint, i, end;
	struct table *t;
	int rc;

	for (;;) {
		rc = block_need(q, c, &t);
		if (rc)
			return rc;
		i = c % q->block_entries;
		while (i < q->block_entries && refcount_read(q, t->data, i))
			i++;
		c = ALIGN_DOWN(c, q->block_entries) + i;
		q->free_hint = c;
		if (i < q->block_entries)
			break;
	}
	if (c << q->cluster_bits > ENTRY_OFFSET)
		return -EFBIG;
	for (end = i; end < q->block_entries && end - i < want; end++) {
		if (refcount_read(q, t->data, end))
			break;
		if (set_has(&q->meta, (c + end - i) << q->cluster_bits))
			return damaged(q, "the metadata at offset %#llx is counted as free",
				       (unsigned long long)(c + end - i) << q->cluster_bits);
	}
	for (uint64_t k = i; k < end; k++)
		refcount_write(q, t->data, k, 1);
	cache_dirty(q, t);
	*offset = c << q->cluster_bits;
	*got = end - i;
	q->free_hint = c + *got;
	q->file_end = MAX(q->file_end, *offset + (*got << q->cluster_bits));
	return 0;
}

int cluster_free(struct qcow2 *q, uint64_t offset, uint64_t count)
{
	struct freed *last = q->freed_count ? &q->freed[q->freed_count - 1] : NULL;
	size_t size;

	if (last && last->offset + (last->count << q->cluster_bits) == offset) {
		last->count += count;
		return 0;
	}
	if (q->freed_count == q->freed_size) {
		size = q->freed_size ? 2 * q->freed_size : 64;
		last = realloc(q->freed, size * sizeof(*last));
		if (!last)
			return -ENOMEM;
		q->freed = last;
		q->freed_size = size;
	}
	q->freed[q->freed_count++] = (struct freed){ offset, count };
	return 0;
}

/* Lets the host have the place of clusters that nobody uses any more. */
static void give_back(struct qcow2 *q, uint64_t offset, uint64_t count)
{
	const struct image_ops *ops = q->img.file->ops;

	if (count && ops->discard)
		ops->discard(q->img.file, offset, count << q->cluster_bits);
}

void cluster_free_now(struct qcow2 *q, uint64_t offset, uint64_t count)
{
	const uint64_t first = offset >> q->cluster_bits;
	uint64_t free_run = 0, n;
	struct table *t;

	for (uint64_t c = first; c < first + count; c++) {
		n = 0;
		if (!block_get(q, c, &t) && t)
			n = refcount_read(q, t->data, c % q->block_entries);
		if (n) {
			refcount_write(q, t->data, c % q->block_entries, n - 1);
			cache_dirty(q, t);
		}
		if (n == 1) {
			q->free_hint = MIN(q->free_hint, c);
			free_run++;
			continue;
		}
		give_back(q, (c - free_run) << q->cluster_bits, free_run);
		free_run = 0;
	}
	give_back(q, (first + count - free_run) << q->cluster_bits, free_run);
}
