// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: a new image: header, refcount table, one refcount block, L1 table, in this order, each
 * on clusters of its own.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define REFCOUNT_ORDER	4U	/* 16 bits, as everybody has it */

struct layout {
	uint64_t cluster_size, l1_entries, l1_clusters, blocks, reftable_clusters;
	uint64_t reftable, block, l1, end;	/* cluster indices */
};

static void layout_plan(struct layout *l, const struct qcow2_create *c, unsigned int bits)
{
	const unsigned int l1_bits = 2 * bits - 3;

	l->cluster_size = 1U << bits;
	l->l1_entries = MAX((c->size + BIT(l1_bits) - 1) >> l1_bits, 1);
	l->l1_clusters = ALIGN_UP(8 * l->l1_entries, l->cluster_size) >> bits;
	l->reftable_clusters = 1;
	l->blocks = 1;
	/* Small clusters and a large disk: L1 alone may need many blocks. */
	for (;;) {
		l->end = 1 + l->reftable_clusters + l->blocks + l->l1_clusters;
		if (l->blocks * (l->cluster_size / 2) < l->end)
			l->blocks++;
		else if (l->reftable_clusters * l->cluster_size / 8 < l->blocks)
			l->reftable_clusters++;
		else
			break;
	}
	l->reftable = 1;
	l->block = l->reftable + l->reftable_clusters;
	l->l1 = l->block + l->blocks;
}

static int backing_put(uint8_t *head, size_t room, const struct qcow2_create *c,
		       struct qcow2_header *h, struct err *e)
{
	const size_t format_len = strlen(c->backing_format), len = strlen(c->backing);
	size_t at = sizeof(*h);
	const uint32_t ext[2] = { htobe32(EXT_BACKING_FORMAT), htobe32(format_len) };

	if (len > 1023 || at + 8 + ALIGN_UP(format_len, 8) + 8 + len > room)
		return err_set(e, ENAMETOOLONG, "the backing image's name '%s' is too long", c->backing);
	memcpy(head + at, ext, 8);
	memcpy(head + at + 8, c->backing_format, format_len);
	at += 8 + ALIGN_UP(format_len, 8) + 8;	/* the end of extensions is 8 zeroes */
	memcpy(head + at, c->backing, len);
	h->backing_offset = htobe64(at);
	h->backing_len = htobe32(len);
	return 0;
}

static int header_put(uint8_t *head, const struct layout *l, const struct qcow2_create *c,
		      unsigned int bits, struct err *e)
{
	struct qcow2_header h = {
		.magic = htobe32(QCOW2_MAGIC), .version = htobe32(3),
		.cluster_bits = htobe32(bits), .size = htobe64(c->size),
		.l1_size = htobe32(l->l1_entries), .l1_offset = htobe64(l->l1 << bits),
		.reftable_offset = htobe64(l->reftable << bits),
		.reftable_clusters = htobe32(l->reftable_clusters),
		.refcount_order = htobe32(REFCOUNT_ORDER), .header_len = htobe32(sizeof(h)),
	};
	int rc = c->backing ? backing_put(head, l->cluster_size, c, &h, e) : 0;

	memcpy(head, &h, sizeof(h));
	return rc;
}

int qcow2_create(struct image *file, const struct qcow2_create *c, struct err *e)
{
	const unsigned int bits = c->cluster_bits ? c->cluster_bits : 16;
	struct layout l;
	uint8_t *buf;
	int rc;

	if (bits < QCOW2_MIN_CLUSTER_BITS || bits > QCOW2_MAX_CLUSTER_BITS)
		return err_set(e, EINVAL, "a qcow2 cluster has 512 bytes to 2 MiB");
	layout_plan(&l, c, bits);
	if (8 * l.l1_entries > QCOW2_MAX_L1)
		return err_set(e, EFBIG, "a qcow2 image with clusters of %llu bytes cannot have %llu "
			       "bytes", (unsigned long long)l.cluster_size, (unsigned long long)c->size);
	buf = calloc(l.end, l.cluster_size);
	if (!buf)
		return err_errno(e, ENOMEM, "a new image");
	rc = header_put(buf, &l, c, bits, e);
	for (uint64_t i = 0; i < l.blocks; i++)
		((uint64_t *)(buf + (l.reftable << bits)))[i] = htobe64((l.block + i) << bits);
	for (uint64_t i = 0; i < l.end; i++)
		((uint16_t *)(buf + (l.block << bits)))[i] = htobe16(1);
	if (!rc) {
		const struct iovec v = { buf, l.end << bits };
		const struct span s = span_of(&v, 1, v.iov_len);

		rc = file->ops->write(file, 0, &s);
		if (rc)
			err_errno(e, -rc, "cannot write '%s'", file->path);
	}
	free(buf);
	return rc;
}
