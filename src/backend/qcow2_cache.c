// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: L2 tables and refcount blocks in memory, and the commit that brings the file up to
 * date; its order stands in qcow2_priv.h.
 *
 * The cache has a limit, which changed tables may exceed for a moment: only a commit can make
 * them clean, and operations ask for one before they begin (commit_if_full()).
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CACHE_BYTES	(4U << 20)
#define CACHE_MIN	16U
#define CACHE_MAX	1024U
#define FREED_MAX	4096U	/* pieces given up that wait for a commit */
#define L1_SECTOR	64U	/* entries of L1 in 512 bytes */

/* What one commit writes: copies, so that the lock is free meanwhile. */
struct commit_table {
	struct table *t;
	uint8_t *copy;
};

struct commit {
	struct commit_table *tables;	/* refcounts first */
	unsigned int count, refcounts;
	uint64_t *l1;			/* big-endian copy, or NULL: unchanged */
	uint8_t *l1_dirty;
	uint64_t l1_size, l1_offset;
	struct freed *freed;
	size_t freed_count;
};

/* --- sets of clusters --- */

static size_t set_slot(const struct offset_set *s, uint64_t offset)
{
	size_t i = (offset >> 9) * 0x9e3779b97f4a7c15ULL >> 20 & (s->size - 1);

	while (s->slot[i] && s->slot[i] != offset + 1)
		i = (i + 1) & (s->size - 1);
	return i;
}

static int set_grow(struct offset_set *s)
{
	struct offset_set bigger = { .size = s->size ? 2 * s->size : 64, .count = s->count };

	bigger.slot = calloc(bigger.size, sizeof(*bigger.slot));
	if (!bigger.slot)
		return -ENOMEM;
	for (size_t i = 0; i < s->size; i++)
		if (s->slot[i])
			bigger.slot[set_slot(&bigger, s->slot[i] - 1)] = s->slot[i];
	free(s->slot);
	*s = bigger;
	return 0;
}

int set_add(struct offset_set *s, uint64_t offset)
{
	size_t i;

	if (2 * s->count >= s->size && set_grow(s))
		return -ENOMEM;
	i = set_slot(s, offset);
	if (s->slot[i])
		return -EEXIST;
	s->slot[i] = offset + 1;	/* the header's offset is 0 */
	s->count++;
	return 0;
}

bool set_has(const struct offset_set *s, uint64_t offset)
{
	return s->size && s->slot[set_slot(s, offset)];
}

void set_remove(struct offset_set *s, uint64_t offset)
{
	size_t i = s->size ? set_slot(s, offset) : 0;

	if (!s->size || !s->slot[i])
		return;
	s->slot[i] = 0;
	s->count--;
	/* What was put further on because this slot was taken moves up. */
	for (i = (i + 1) & (s->size - 1); s->slot[i]; i = (i + 1) & (s->size - 1)) {
		const uint64_t moved = s->slot[i];

		s->slot[i] = 0;
		s->slot[set_slot(s, moved - 1)] = moved;
	}
}

int meta_add(struct qcow2 *q, uint64_t offset, uint64_t bytes)
{
	const uint64_t end = offset + bytes;
	int rc;

	for (; offset < end; offset += q->cluster_size) {
		rc = set_add(&q->meta, offset);
		if (rc == -EEXIST)
			return damaged(q, "two pieces of metadata share the cluster at offset %#llx",
				       (unsigned long long)offset);
		if (rc)
			return rc;
	}
	return 0;
}

/* --- tables --- */

int cache_init(struct qcow2 *q)
{
	struct table_cache *c = &q->cache;

	c->limit = MIN(MAX(CACHE_BYTES >> q->cluster_bits, CACHE_MIN), CACHE_MAX);
	c->buckets = 2 * CACHE_MAX;
	c->hash = calloc(c->buckets, sizeof(*c->hash));
	return c->hash ? 0 : -ENOMEM;
}

static void table_free(struct table *t)
{
	free(t->data);
	free(t);
}

void cache_destroy(struct qcow2 *q)
{
	struct table *t;

	for (unsigned int i = 0; q->cache.hash && i < q->cache.buckets; i++) {
		while ((t = q->cache.hash[i])) {
			q->cache.hash[i] = t->next;
			table_free(t);
		}
	}
	free(q->cache.hash);
}

static struct table **cache_bucket(struct qcow2 *q, uint64_t offset)
{
	return &q->cache.hash[(offset >> q->cluster_bits) % q->cache.buckets];
}

static struct table *cache_find(struct qcow2 *q, uint64_t offset)
{
	struct table *t = *cache_bucket(q, offset);

	while (t && t->offset != offset)
		t = t->next;
	return t;
}

static void cache_remove(struct qcow2 *q, struct table *t)
{
	struct table **at = cache_bucket(q, t->offset);

	while (*at != t)
		at = &(*at)->next;
	*at = t->next;
	q->cache.count--;
	if (t->dirty)
		q->cache.dirty--;
	table_free(t);
}

void cache_drop(struct qcow2 *q, uint64_t offset)
{
	struct table *t = cache_find(q, offset);

	if (t && !t->committing)
		cache_remove(q, t);
}

static void cache_evict(struct qcow2 *q)
{
	struct table *oldest = NULL;

	for (unsigned int i = 0; i < q->cache.buckets; i++)
		for (struct table *t = q->cache.hash[i]; t; t = t->next)
			if (!t->dirty && !t->committing && (!oldest || t->used < oldest->used))
				oldest = t;
	if (oldest)
		cache_remove(q, oldest);
}

static struct table *cache_add(struct qcow2 *q, enum table_kind kind, uint64_t offset)
{
	struct table *t;

	if (q->cache.count >= q->cache.limit)
		cache_evict(q);
	t = calloc(1, sizeof(*t));
	if (!t)
		return NULL;
	*t = (struct table){ .kind = kind, .offset = offset, .used = ++q->cache.tick,
			     .next = *cache_bucket(q, offset), .data = calloc(1, q->cluster_size) };
	if (!t->data) {
		free(t);
		return NULL;
	}
	*cache_bucket(q, offset) = t;
	q->cache.count++;
	return t;
}

int cache_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table **out)
{
	struct table *t = cache_find(q, offset);
	int rc;

	if (t && t->kind != kind)
		return damaged(q, "the cluster at offset %#llx is an L2 table and a refcount block",
			       (unsigned long long)offset);
	if (t) {
		t->used = ++q->cache.tick;
		*out = t;
		return 0;
	}
	t = cache_add(q, kind, offset);
	if (!t)
		return -ENOMEM;
	rc = file_read(q, offset, t->data, q->cluster_size);
	if (rc) {
		cache_remove(q, t);
		return rc;
	}
	*out = t;
	return 0;
}

int cache_new(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table **out)
{
	struct table *t;
	int rc;

	cache_drop(q, offset);
	t = cache_add(q, kind, offset);
	if (!t)
		return -ENOMEM;
	rc = file_write(q, offset, t->data, q->cluster_size);
	if (rc) {
		cache_remove(q, t);
		return rc;
	}
	cache_dirty(q, t);
	*out = t;
	return 0;
}

void cache_dirty(struct qcow2 *q, struct table *t)
{
	if (!t->dirty)
		q->cache.dirty++;
	t->dirty = true;
}

void l1_set(struct qcow2 *q, uint64_t index, uint64_t entry)
{
	q->l1[index] = entry;
	q->l1_dirty[index / L1_SECTOR] = 1;
}

/* --- the commit --- */

static void commit_free(struct commit *c)
{
	for (unsigned int i = 0; i < c->count; i++)
		free(c->tables[i].copy);
	free(c->tables);
	free(c->l1);
	free(c->l1_dirty);
	free(c->freed);
}

static int commit_take_tables(struct qcow2 *q, struct commit *c, enum table_kind kind)
{
	for (unsigned int i = 0; i < q->cache.buckets; i++) {
		for (struct table *t = q->cache.hash[i]; t; t = t->next) {
			uint8_t *copy;

			if (!t->dirty || t->kind != kind)
				continue;
			copy = malloc(q->cluster_size);
			if (!copy)
				return -ENOMEM;
			memcpy(copy, t->data, q->cluster_size);
			c->tables[c->count++] = (struct commit_table){ t, copy };
			t->dirty = false;
			t->committing = true;
			q->cache.dirty--;
		}
	}
	return 0;
}

static int commit_take_l1(struct qcow2 *q, struct commit *c)
{
	const uint64_t sectors = ALIGN_UP(q->l1_size, L1_SECTOR) / L1_SECTOR;
	uint64_t *copy;

	if (!q->l1_size || !memchr(q->l1_dirty, 1, sectors))
		return 0;
	copy = calloc(sectors * L1_SECTOR, sizeof(*copy));
	c->l1_dirty = calloc(1, sectors);
	if (!copy || !c->l1_dirty) {
		free(copy);
		return -ENOMEM;
	}
	c->l1 = copy;
	c->l1_size = q->l1_size;
	c->l1_offset = q->l1_offset;
	for (uint64_t i = 0; i < q->l1_size; i++)
		copy[i] = htobe64(q->l1[i]);
	memcpy(c->l1_dirty, q->l1_dirty, sectors);
	memset(q->l1_dirty, 0, sectors);
	return 0;
}

static int commit_take(struct qcow2 *q, struct commit *c)
{
	int rc;

	c->tables = calloc(q->cache.dirty + 1, sizeof(*c->tables));
	if (!c->tables)
		return -ENOMEM;
	rc = commit_take_tables(q, c, TABLE_REFCOUNTS);
	c->refcounts = c->count;
	if (!rc)
		rc = commit_take_tables(q, c, TABLE_L2);
	if (!rc)
		rc = commit_take_l1(q, c);
	c->freed = q->freed;
	c->freed_count = q->freed_count;
	q->freed = NULL;
	q->freed_count = q->freed_size = 0;
	return rc;
}

static int commit_write_l1(struct qcow2 *q, const struct commit *c)
{
	int rc = 0;

	for (uint64_t i = 0; i < c->l1_size && !rc; i += L1_SECTOR) {
		const uint64_t n = MIN(c->l1_size - i, L1_SECTOR);

		if (c->l1_dirty[i / L1_SECTOR])
			rc = file_write(q, c->l1_offset + 8 * i, c->l1 + i, 8 * n);
	}
	return rc;
}

static int commit_write(struct qcow2 *q, const struct commit *c)
{
	struct image *file = q->img.file;
	int rc = 0;

	for (unsigned int i = 0; i < c->refcounts && !rc; i++)
		rc = file_write(q, c->tables[i].t->offset, c->tables[i].copy, q->cluster_size);
	if (!rc)
		rc = image_flush(file);
	for (unsigned int i = c->refcounts; i < c->count && !rc; i++)
		rc = file_write(q, c->tables[i].t->offset, c->tables[i].copy, q->cluster_size);
	if (!rc && c->count > c->refcounts)
		rc = image_flush(file);
	if (!rc && c->l1)
		rc = commit_write_l1(q, c);
	if (!rc && c->l1)
		rc = image_flush(file);
	return rc;
}

/* It failed: everything is still to be written. */
static void commit_put_back(struct qcow2 *q, const struct commit *c)
{
	for (unsigned int i = 0; i < c->count; i++)
		cache_dirty(q, c->tables[i].t);
	for (uint64_t i = 0; c->l1 && i < ALIGN_UP(c->l1_size, L1_SECTOR) / L1_SECTOR; i++)
		q->l1_dirty[i] |= c->l1_dirty[i];
	for (size_t i = 0; i < c->freed_count; i++)
		if (cluster_free(q, c->freed[i].offset, c->freed[i].count))
			break;	/* no memory: the rest leaks, until the next check */
}

int qcow2_commit(struct qcow2 *q)
{
	struct commit c = { 0 };
	int rc;

	pthread_mutex_lock(&q->commit_lock);
	pthread_mutex_lock(&q->lock);
	rc = commit_take(q, &c);
	pthread_mutex_unlock(&q->lock);
	if (!rc)
		rc = commit_write(q, &c);
	pthread_mutex_lock(&q->lock);
	for (unsigned int i = 0; i < c.count; i++)
		c.tables[i].t->committing = false;
	if (rc)
		commit_put_back(q, &c);
	for (size_t i = 0; i < c.freed_count && !rc; i++)
		cluster_free_now(q, c.freed[i].offset, c.freed[i].count);
	while (q->cache.count > q->cache.limit) {
		const unsigned int before = q->cache.count;

		cache_evict(q);
		if (q->cache.count == before)
			break;
	}
	pthread_mutex_unlock(&q->lock);
	pthread_mutex_unlock(&q->commit_lock);
	commit_free(&c);
	return rc;
}

int commit_if_full(struct qcow2 *q)
{
	bool full;

	pthread_mutex_lock(&q->lock);
	full = q->cache.dirty > q->cache.limit / 2 || q->freed_count > FREED_MAX;
	pthread_mutex_unlock(&q->lock);
	return full ? qcow2_commit(q) : 0;
}
