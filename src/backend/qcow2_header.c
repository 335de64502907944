// SPDX-License-Identifier: Apache-2.0
/* qcow2: the header: what it must be, what is refused by name, and writing what changes. */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdio.h>

static void header_to_host(struct qcow2_header *h)
{
	h->magic = be32toh(h->magic);
	h->version = be32toh(h->version);
	h->backing_offset = be64toh(h->backing_offset);
	h->backing_len = be32toh(h->backing_len);
	h->cluster_bits = be32toh(h->cluster_bits);
	h->size = be64toh(h->size);
	h->crypt_method = be32toh(h->crypt_method);
	h->l1_size = be32toh(h->l1_size);
	h->l1_offset = be64toh(h->l1_offset);
	h->reftable_offset = be64toh(h->reftable_offset);
	h->reftable_clusters = be32toh(h->reftable_clusters);
	h->snapshot_count = be32toh(h->snapshot_count);
	h->snapshot_offset = be64toh(h->snapshot_offset);
	h->incompatible = be64toh(h->incompatible);
	h->compatible = be64toh(h->compatible);
	h->autoclear = be64toh(h->autoclear);
	h->refcount_order = be32toh(h->refcount_order);
	h->header_len = be32toh(h->header_len);
}

int header_write(struct qcow2 *q)
{
	struct qcow2_header h;
	const size_t len = q->version < 3 ? HEADER_V2_LEN : HEADER_V3_LEN;
	int rc = file_read(q, 0, &h, len);

	if (rc)
		return rc;
	h.size = htobe64(q->img.size);
	h.l1_size = htobe32(q->l1_size);
	h.l1_offset = htobe64(q->l1_offset);
	h.reftable_offset = htobe64(q->reftable_offset);
	h.reftable_clusters = htobe32(q->reftable_size * 8 >> q->cluster_bits);
	if (q->version >= 3) {
		h.incompatible = htobe64(q->incompatible);
		h.compatible = htobe64(q->compatible);
		h.autoclear = 0;	/* what we do not know does not survive a change */
	}
	return file_write(q, 0, &h, len);	/* one sector: all or nothing */
}

int bad_header(struct opening *o, unsigned int offset, const char *what)
{
	return err_set(o->e, EINVAL, "disk '%s' is a damaged qcow2 image: %s (header, offset %u)",
		       o->how->path, what, offset);
}

static int header_check_v3(struct opening *o)
{
	struct qcow2_header *h = &o->h;

	if (h->version == 2) {
		h->incompatible = h->compatible = h->autoclear = 0;
		h->refcount_order = 4;
		h->header_len = HEADER_V2_LEN;
		h->compression_type = 0;
		return 0;
	}
	if (h->header_len < HEADER_V3_LEN || h->header_len > 1U << h->cluster_bits)
		return bad_header(o, 100, "the header's length is impossible");
	if (h->header_len <= HEADER_V3_LEN)
		h->compression_type = 0;
	if (h->refcount_order > 6)
		return bad_header(o, 96, "refcounts have more than 64 bits");
	if (h->compression_type > 1 || (h->compression_type && !(h->incompatible & INCOMPAT_COMPRESSION)))
		return err_set(o->e, ENOTSUP, "disk '%s': its compression type %u is not known",
			       o->how->path, h->compression_type);
	return 0;
}

static int header_check_tables(struct opening *o)
{
	const struct qcow2_header *h = &o->h;
	const uint64_t mask = (1U << h->cluster_bits) - 1;
	const unsigned int l1_bits = 2 * h->cluster_bits - 3;

	if (h->size > INT64_MAX - mask)
		return bad_header(o, 24, "the disk's size is impossible");
	if (h->l1_size > QCOW2_MAX_L1 / 8)
		return bad_header(o, 36, "the L1 table is too large");
	if (h->l1_size < (h->size >> l1_bits) + !!(h->size & (BIT(l1_bits) - 1)))
		return bad_header(o, 36, "the L1 table is too small for the disk's size");
	if (h->l1_offset & mask || h->l1_offset > ENTRY_OFFSET)
		return bad_header(o, 40, "the L1 table's offset is impossible");
	if (!h->reftable_clusters || (uint64_t)h->reftable_clusters << h->cluster_bits > QCOW2_MAX_REFTABLE)
		return bad_header(o, 56, "the refcount table's size is impossible");
	if (!h->reftable_offset || h->reftable_offset & mask || h->reftable_offset > ENTRY_OFFSET)
		return bad_header(o, 48, "the refcount table's offset is impossible");
	if (h->snapshot_count > QCOW2_MAX_SNAPSHOTS || h->snapshot_offset & mask ||
	    h->snapshot_offset > ENTRY_OFFSET)
		return bad_header(o, 60, "the table of snapshots is impossible");
	return 0;
}

int header_read(struct opening *o)
{
	struct qcow2_header *h = &o->h;
	int rc = file_read(o->q, 0, h, sizeof(*h));

	if (rc)
		return err_errno(o->e, -rc, "cannot read the head of disk '%s'", o->how->path);
	header_to_host(h);
	if (h->magic != QCOW2_MAGIC)
		return err_set(o->e, EINVAL, "disk '%s' is no qcow2 image", o->how->path);
	if (h->version != 2 && h->version != 3)
		return err_set(o->e, ENOTSUP, "disk '%s' is a qcow2 image of version %u, of which "
			       "nothing is known here", o->how->path, h->version);
	if (h->cluster_bits < QCOW2_MIN_CLUSTER_BITS || h->cluster_bits > QCOW2_MAX_CLUSTER_BITS)
		return bad_header(o, 20, "clusters have 512 bytes to 2 MiB");
	rc = header_check_v3(o);
	return rc ? rc : header_check_tables(o);
}

/* The name that the image itself gives incompatible feature @bit, if it does. */
static void feature_name(struct opening *o, unsigned int bit, char *name)
{
	uint64_t at = o->h.header_len;
	const uint64_t end = 1U << o->h.cluster_bits;
	struct { uint32_t type, len; } ext;
	struct { uint8_t type, bit; char name[46]; } f;

	snprintf(name, 64, "bit %u", bit);
	while (at + 8 <= end && !file_read(o->q, at, &ext, 8)) {
		const uint32_t len = be32toh(ext.len);

		if (be32toh(ext.type) == EXT_END || len > end - at - 8)
			return;
		for (uint32_t i = 0; be32toh(ext.type) == EXT_FEATURE_NAMES && i + 48 <= len; i += 48)
			if (!file_read(o->q, at + 8 + i, &f, 48) && !f.type && f.bit == bit) {
				for (char *p = f.name; p < f.name + 46 && *p; p++)
					*p = *p < ' ' || *p > '~' ? '?' : *p;
				snprintf(name, 64, "'%.46s'", f.name);
			}
		at += 8 + ALIGN_UP(len, 8);
	}
}

int features_check(struct opening *o)
{
	const uint64_t known = INCOMPAT_DIRTY | INCOMPAT_CORRUPT | INCOMPAT_COMPRESSION;
	const uint64_t in = o->h.incompatible;
	const char *path = o->how->path;
	char name[64];

	if (o->h.crypt_method)
		return err_set(o->e, ENOTSUP, "disk '%s' is encrypted, which is not supported: "
			       "qemu-img convert can decrypt it", path);
	if (in & INCOMPAT_DATA_FILE)
		return err_set(o->e, ENOTSUP, "disk '%s' keeps its data in an external data file, "
			       "which is not supported: qemu-img convert makes one file of it", path);
	if (in & INCOMPAT_EXTENDED_L2)
		return err_set(o->e, ENOTSUP, "disk '%s' has extended L2 entries, which are not "
			       "supported: qemu-img convert makes an image without", path);
	if (in & ~known) {
		feature_name(o, __builtin_ctzll(in & ~known), name);
		return err_set(o->e, ENOTSUP, "disk '%s' needs the qcow2 feature %s, which is not known "
			       "here", path, name);
	}
	if (in & INCOMPAT_CORRUPT && !o->how->read_only && !o->how->damaged)
		return err_set(o->e, EIO, "disk '%s' is marked as corrupt: repair it with "
			       "vireo image check --repair, or open it read-only", path);
	return 0;
}
