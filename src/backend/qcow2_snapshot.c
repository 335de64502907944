// SPDX-License-Identifier: Apache-2.0
/*
 * qcow2: the table of internal snapshots ("Snapshots").  Only where their L1 tables are is of
 * interest: the clusters that they refer to have refcounts of more than one, so what the guest
 * writes goes elsewhere.
 */
#include "backend/qcow2_priv.h"

#include <errno.h>
#include <stdlib.h>

#define TABLE_MAX	(64U << 20)	/* bytes, as QEMU has it */

struct snapshot_header {
	uint64_t l1_offset;
	uint32_t l1_size;
	uint16_t id_len, name_len;
	uint32_t seconds, nanoseconds;
	uint64_t vm_clock;
	uint32_t vm_state_size, extra_len;
} __attribute__((packed));

static int snapshot_check(struct qcow2 *q, const struct snapshot *s, uint64_t at)
{
	if (s->l1_offset & (q->cluster_size - 1) || s->l1_size * 8 > QCOW2_MAX_L1 ||
	    s->l1_offset > q->file_end || s->l1_size * 8 > q->file_end - s->l1_offset)
		return damaged(q, "the snapshot at offset %#llx has its L1 table where none can be",
			       (unsigned long long)at);
	return 0;
}

int snapshots_read(struct qcow2 *q, struct snapshot **out, uint64_t *bytes)
{
	uint64_t at = q->snapshot_offset;
	struct snapshot_header h;
	struct snapshot *list = calloc(q->snapshot_count + 1, sizeof(*list));
	int rc = list ? 0 : -ENOMEM;

	for (uint32_t i = 0; i < q->snapshot_count && !rc; i++) {
		rc = file_read(q, at, &h, sizeof(h));
		if (rc)
			break;
		list[i].l1_offset = be64toh(h.l1_offset);
		list[i].l1_size = be32toh(h.l1_size);
		rc = snapshot_check(q, &list[i], at);
		at += sizeof(h) + (uint64_t)be32toh(h.extra_len) + be16toh(h.id_len) +
		      be16toh(h.name_len);
		at = ALIGN_UP(at, 8);
		if (!rc && at - q->snapshot_offset > TABLE_MAX)
			rc = damaged(q, "the table of snapshots at offset %#llx has no end",
				     (unsigned long long)q->snapshot_offset);
	}
	if (rc) {
		free(list);
		return rc;
	}
	*bytes = at - q->snapshot_offset;
	*out = list;
	return 0;
}
