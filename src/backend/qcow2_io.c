// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: reading, writing, zeroing and discarding.  Each goes piece by piece: a piece is a run
 * of guest clusters with the same mapping, claimed under the lock, its data moved without it.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* --- claims; with q->lock held --- */

static bool claim_conflicts(const struct qcow2 *q, const struct claim *c)
{
	for (const struct claim *o = q->claims; o; o = o->next)
		if (o->first <= c->last && c->first <= o->last && (o->alone || c->alone))
			return true;
	return false;
}

/* True: the claim is ours.  False: waited; look again at what there is now. */
static bool claim_take(struct qcow2 *q, struct claim *c, uint64_t first, uint64_t count, bool alone)
{
	*c = (struct claim){ .first = first, .last = first + count - 1, .alone = alone };
	if (claim_conflicts(q, c)) {
		pthread_cond_wait(&q->unclaimed, &q->lock);
		return false;
	}
	c->next = q->claims;
	q->claims = c;
	return true;
}

static void claim_drop(struct qcow2 *q, struct claim *c)
{
	struct claim **at = &q->claims;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	pthread_cond_broadcast(&q->unclaimed);
}

/* Guest clusters that @len bytes at @off touch. */
static uint64_t clusters_of(const struct qcow2 *q, uint64_t off, uint64_t len)
{
	return ((off + len - 1) >> q->cluster_bits) - (off >> q->cluster_bits) + 1;
}

/* Bytes from @off on within @count clusters, at most @len. */
static uint64_t bytes_within(const struct qcow2 *q, uint64_t off, uint64_t count, uint64_t len)
{
	return MIN(len, (count << q->cluster_bits) - (off & (q->cluster_size - 1)));
}

/* Nobody has allocated it here, and reads give zeroes. */
static bool reads_zero(const struct qcow2 *q, const struct mapping *m)
{
	return m->kind == MAP_ZERO || (m->kind == MAP_NONE && !q->has_backing);
}

/* --- reading --- */

static int read_backing(struct qcow2 *q, uint64_t off, const struct span *s)
{
	const uint64_t end = q->img.backing ? (uint64_t)q->img.backing->size : 0;
	const size_t n = off >= end ? 0 : MIN(s->len, end - off);
	const struct span part = span_part(s, 0, n), rest = span_part(s, n, s->len - n);

	if (q->has_backing && !q->img.backing)
		return -ENOTSUP;	/* opened without it */
	span_zero(&rest);
	return n ? image_read(q->img.backing, off, &part) : 0;
}

/* @s within what @m maps, which begins at the cluster of @off. */
static int read_mapped(struct qcow2 *q, const struct mapping *m, uint64_t off, const struct span *s)
{
	const uint64_t in = off & (q->cluster_size - 1);

	switch (m->kind) {
	case MAP_NONE:
		return read_backing(q, off, s);
	case MAP_ZERO:
		span_zero(s);
		return 0;
	case MAP_DATA:
		return q->img.file->ops->read(q->img.file, m->host + in, s);
	case MAP_COMPRESSED:
		return inflate_read(q, m->entry, in, s);
	}
	return -EIO;
}

int qcow2_read(struct image *img, uint64_t off, const struct span *s)
{
	struct qcow2 *q = qcow2_of(img);
	struct span left = *s, part;
	struct mapping m;
	struct claim c;
	int rc = 0;

	while (left.len && !rc) {
		const uint64_t index = off >> q->cluster_bits;

		pthread_mutex_lock(&q->lock);
		do
			rc = map_lookup(q, index, clusters_of(q, off, left.len), &m);
		while (!rc && !claim_take(q, &c, index, m.count, false));
		pthread_mutex_unlock(&q->lock);
		if (rc)
			break;
		part = span_part(&left, 0, bytes_within(q, off, m.count, left.len));
		rc = read_mapped(q, &m, off, &part);
		pthread_mutex_lock(&q->lock);
		claim_drop(q, &c);
		pthread_mutex_unlock(&q->lock);
		span_skip(&left, part.len);
		off += part.len;
	}
	return rc;
}

/* --- writing --- */

/* Copies @len bytes at guest offset @off, as they were before, to the new place @host. */
static int copy_old(struct qcow2 *q, const struct mapping *old, uint64_t off, uint64_t len,
		    uint64_t host)
{
	struct iovec v = { NULL, len };
	const struct span s = span_of(&v, 1, len);
	struct mapping m = *old;
	int rc;

	if (!len)
		return 0;
	v.iov_base = malloc(len);
	if (!v.iov_base)
		return -ENOMEM;
	rc = read_mapped(q, &m, off, &s);
	if (!rc)
		rc = file_write(q, host, v.iov_base, len);
	free(v.iov_base);
	return rc;
}

/* The mapping of cluster @n of those that @m stands for. */
static struct mapping mapping_part(const struct qcow2 *q, const struct mapping *m, uint64_t n)
{
	struct mapping part = *m;

	if (m->kind == MAP_DATA)
		part.host += n << q->cluster_bits;
	return part;
}

/*
 * Fills @count new clusters at @host with @s at guest offset @off, and around it with what was
 * there.  @blank: the new clusters read as zeroes already, and so did the old.
 */
static int fill_new(struct qcow2 *q, const struct mapping *old, uint64_t off, const struct span *s,
		    uint64_t host, uint64_t count, bool blank)
{
	const uint64_t head = off & (q->cluster_size - 1);
	const uint64_t end = head + s->len, tail = (count << q->cluster_bits) - end;
	struct mapping last = mapping_part(q, old, count - 1);
	int rc = 0;

	if (!blank)
		rc = copy_old(q, old, off - head, head, host);
	if (!rc)
		rc = q->img.file->ops->write(q->img.file, host + head, s);
	if (!rc && !blank)
		rc = copy_old(q, &last, off + s->len, tail, host + end);
	return rc;
}

/* A run that @m maps and that is claimed alone: give it clusters of its own, with the data. */
static int write_new(struct qcow2 *q, const struct mapping *m, uint64_t off, const struct span *s,
		     struct claim *c, uint64_t *done)
{
	const uint64_t index = off >> q->cluster_bits, end = q->file_end;
	const bool reuse = m->kind == MAP_ZERO && m->copied;
	uint64_t host = m->host, count = m->count;
	struct span part;
	int rc = 0;

	if (!reuse)
		rc = cluster_alloc(q, m->count, &host, &count);
	if (rc)
		return rc;
	c->last = index + count - 1;
	pthread_mutex_unlock(&q->lock);
	part = span_part(s, 0, bytes_within(q, off, count, s->len));
	rc = fill_new(q, m, off, &part, host, count, !reuse && host >= end && reads_zero(q, m));
	pthread_mutex_lock(&q->lock);
	if (!rc)
		rc = map_set(q, index, count, host | ENTRY_COPIED, true);
	if (rc && !reuse)
		cluster_free_now(q, host, count);
	*done = part.len;
	return rc;
}

static int write_in_place(struct qcow2 *q, const struct mapping *m, uint64_t off,
			  const struct span *s, uint64_t *done)
{
	const struct span part = span_part(s, 0, bytes_within(q, off, m->count, s->len));
	int rc;

	pthread_mutex_unlock(&q->lock);
	rc = q->img.file->ops->write(q->img.file, m->host + (off & (q->cluster_size - 1)), &part);
	pthread_mutex_lock(&q->lock);
	*done = part.len;
	return rc;
}

int qcow2_write(struct image *img, uint64_t off, const struct span *s)
{
	struct qcow2 *q = qcow2_of(img);
	struct span left = *s;
	uint64_t done = 0;
	struct mapping m;
	struct claim c;
	bool in_place;
	int rc = commit_if_full(q);

	while (left.len && !rc) {
		const uint64_t index = off >> q->cluster_bits;

		pthread_mutex_lock(&q->lock);
		do {
			rc = map_lookup(q, index, clusters_of(q, off, left.len), &m);
			in_place = !rc && m.kind == MAP_DATA && m.copied;
		} while (!rc && !claim_take(q, &c, index, m.count, !in_place));
		if (!rc) {
			rc = in_place ? write_in_place(q, &m, off, &left, &done) :
					write_new(q, &m, off, &left, &c, &done);
			claim_drop(q, &c);
		}
		pthread_mutex_unlock(&q->lock);
		if (rc)
			break;
		span_skip(&left, done);
		off += done;
	}
	return rc;
}

/* --- zeroing --- */

/* Less than a cluster, or where clusters cannot be marked: zeroes like any data. */
static int zero_by_writing(struct qcow2 *q, uint64_t off, uint64_t len)
{
	const size_t size = MIN(len, 1U << 20);
	uint8_t *zeroes = calloc(1, size);
	int rc = zeroes ? 0 : -ENOMEM;

	while (len && !rc) {
		const struct iovec v = { zeroes, MIN(len, size) };
		const struct span s = span_of(&v, 1, v.iov_len);

		rc = qcow2_write(&q->img, off, &s);
		off += s.len;
		len -= s.len;
	}
	free(zeroes);
	return rc;
}

static int zero_part(struct qcow2 *q, uint64_t off, uint64_t len)
{
	struct mapping m;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = map_lookup(q, off >> q->cluster_bits, 1, &m);
	pthread_mutex_unlock(&q->lock);
	if (rc || reads_zero(q, &m))
		return rc;
	return zero_by_writing(q, off, len);
}

enum zeroing { ZERO_KEEP, ZERO_UNMAP, ZERO_DISCARD };

/*
 * What the entries of a run become.  False: they stay.  Without a backing image an entry of 0
 * reads as zeroes; with one, the zero flag hides what is below.
 */
static bool zero_entry(const struct qcow2 *q, const struct mapping *m, enum zeroing how,
		       uint64_t *entry)
{
	*entry = q->has_backing ? ENTRY_ZERO : 0;
	if (m->kind == MAP_NONE)
		return q->has_backing && how != ZERO_DISCARD;
	if (how == ZERO_KEEP && m->copied) {
		*entry = m->host | ENTRY_COPIED | ENTRY_ZERO;
		return m->kind != MAP_ZERO;
	}
	return m->kind != MAP_ZERO || m->host;
}

/* Whole clusters, all of which can be marked. */
static int zero_clusters(struct qcow2 *q, uint64_t index, uint64_t count, enum zeroing how)
{
	struct mapping m;
	struct claim c;
	uint64_t entry;
	int rc = 0;

	while (count && !rc) {
		rc = commit_if_full(q);
		if (rc)
			break;
		pthread_mutex_lock(&q->lock);
		do
			rc = map_lookup(q, index, count, &m);
		while (!rc && !claim_take(q, &c, index, m.count, true));
		if (!rc) {
			if (zero_entry(q, &m, how, &entry))
				rc = map_set(q, index, m.count, entry, entry & ENTRY_OFFSET);
			claim_drop(q, &c);
		}
		pthread_mutex_unlock(&q->lock);
		index += m.count;
		count -= m.count;
	}
	return rc;
}

/* The whole clusters within a range; the disk's last one may be a part. */
static void whole_clusters(const struct qcow2 *q, uint64_t off, uint64_t len, uint64_t *first,
			   uint64_t *end)
{
	*first = ALIGN_UP(off, q->cluster_size);
	*end = off + len == q->img.size ? ALIGN_UP(off + len, q->cluster_size) :
					   cluster_floor(q, off + len);
}

int qcow2_zero(struct image *img, uint64_t off, uint64_t len, bool unmap)
{
	struct qcow2 *q = qcow2_of(img);
	/* Version 2 cannot mark a cluster, nor may one that it frees show a backing image. */
	const bool plain = q->version < 3 && (q->has_backing || !unmap);
	uint64_t first, end;
	int rc = 0;

	whole_clusters(q, off, len, &first, &end);
	if (plain)
		return zero_by_writing(q, off, len);
	if (first >= end)
		first = end = off + len;	/* none: all of it is parts */
	for (uint64_t at = off, n; at < MIN(first, off + len) && !rc; at += n) {
		n = MIN(q->cluster_size - (at & (q->cluster_size - 1)), MIN(first, off + len) - at);
		rc = zero_part(q, at, n);
	}
	if (!rc && first < end)
		rc = zero_clusters(q, first >> q->cluster_bits, (end - first) >> q->cluster_bits,
				   unmap ? ZERO_UNMAP : ZERO_KEEP);
	if (!rc && end < off + len)
		rc = zero_part(q, end, off + len - end);
	return rc;
}

int qcow2_discard(struct image *img, uint64_t off, uint64_t len)
{
	struct qcow2 *q = qcow2_of(img);
	uint64_t first, end;

	whole_clusters(q, off, len, &first, &end);
	if (first >= end || (q->version < 3 && q->has_backing))
		return 0;	/* a discard is a hint */
	return zero_clusters(q, first >> q->cluster_bits, (end - first) >> q->cluster_bits,
			     ZERO_DISCARD);
}

/* --- what is where --- */

int qcow2_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x)
{
	struct qcow2 *q = qcow2_of(img);
	struct mapping m;
	int rc;

	pthread_mutex_lock(&q->lock);
	rc = map_lookup(q, off >> q->cluster_bits, clusters_of(q, off, len), &m);
	pthread_mutex_unlock(&q->lock);
	if (rc)
		return rc;
	x->len = bytes_within(q, off, m.count, len);
	x->here = m.kind != MAP_NONE;
	x->zero = reads_zero(q, &m);
	if (m.kind != MAP_NONE || !q->img.backing)
		return 0;
	if (off >= q->img.backing->size) {
		x->zero = true;
		return 0;
	}
	x->len = MIN(x->len, q->img.backing->size - off);
	rc = image_map(q->img.backing, off, x->len, x);
	x->here = false;
	return rc;
}
