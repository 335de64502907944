// SPDX-License-Identifier: Apache-2.0
/*
 * Partition tables, to find one partition.
 *
 * Sources: UEFI Specification, "GUID Partition Table (GPT) Disk Layout", for GPT with sectors
 * of 512 or 4096 bytes, both copies' checksums; and for the MBR, "Legacy Master Boot Record":
 * primary partitions are 1 to 4, the logical ones of an extended partition count from 5.
 */
#include "backend/extents.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define GPT_ENTRIES_MAX	(1U << 20)	/* bytes */
#define LOGICAL_MAX	64U

struct gpt_header {
	char signature[8];
	uint32_t revision, size, crc, reserved;
	uint64_t self, other, first, last;
	uint8_t disk[16];
	uint64_t entries;
	uint32_t count, entry_size, entries_crc;
} __attribute__((packed));

struct mbr_entry {
	uint8_t boot, chs_first[3], type, chs_last[3];
	uint32_t start, count;
} __attribute__((packed));

struct mbr {
	uint8_t code[446];
	struct mbr_entry entry[4];
	uint16_t signature;
} __attribute__((packed));

/* --- GPT --- */

static bool gpt_header_good(struct image *img, uint64_t lba, unsigned int sector,
			    struct gpt_header *h)
{
	uint8_t buf[512];
	uint32_t crc;

	if (image_pread(img, lba * sector, buf, sizeof(buf)))
		return false;
	memcpy(h, buf, sizeof(*h));
	if (memcmp(h->signature, "EFI PART", 8) || le64toh(h->self) != lba ||
	    le32toh(h->size) < sizeof(*h) || le32toh(h->size) > sizeof(buf))
		return false;
	memset(buf + offsetof(struct gpt_header, crc), 0, 4);
	crc = crc32(0, buf, le32toh(h->size));
	return crc == le32toh(h->crc);
}

/* 0, -ENOENT: no such partition, -EIO: the table cannot be trusted. */
static int gpt_entry(struct image *img, const struct gpt_header *h, unsigned int sector,
		     unsigned int part, struct block_extent *x)
{
	const uint32_t count = le32toh(h->count), size = le32toh(h->entry_size);
	const uint64_t bytes = (uint64_t)count * size, at = le64toh(h->entries);
	static const uint8_t unused[16];
	uint64_t first, last;
	uint8_t *list;
	int rc = -EIO;

	if (size < 128 || bytes > GPT_ENTRIES_MAX || at > img->size / sector)
		return -EIO;
	if (part > count)
		return -ENOENT;
	list = malloc(bytes);
	if (list && !image_pread(img, at * sector, list, bytes) &&
	    crc32(0, list, bytes) == le32toh(h->entries_crc)) {
		const uint8_t *entry = list + (uint64_t)(part - 1) * size;

		memcpy(&first, entry + 32, 8);
		memcpy(&last, entry + 40, 8);
		first = le64toh(first);
		last = le64toh(last);
		rc = !memcmp(entry, unused, 16) ? -ENOENT : 0;
		if (!rc && (first > last || last >= img->size / sector))
			rc = -EIO;
		*x = (struct block_extent){ first * sector, (last - first + 1) * sector };
	}
	free(list);
	return rc;
}

/* 1: there is no GPT. */
static int gpt_find(struct image *img, unsigned int part, struct block_extent *x)
{
	static const unsigned int sectors[] = { 512, 4096 };
	struct gpt_header h;

	for (unsigned int i = 0; i < ARRAY_SIZE(sectors); i++) {
		const uint64_t lbas[] = { 1, img->size / sectors[i] - 1 };
		bool seen = false;

		for (unsigned int j = 0; j < ARRAY_SIZE(lbas); j++) {
			int rc;

			if (img->size < 4 * sectors[i] || !gpt_header_good(img, lbas[j], sectors[i], &h))
				continue;
			seen = true;
			rc = gpt_entry(img, &h, sectors[i], part, x);
			if (rc != -EIO)
				return rc;
		}
		if (seen)
			return -EIO;
	}
	return 1;
}

/* --- MBR --- */

static bool mbr_read(struct image *img, uint64_t lba, struct mbr *m)
{
	return !image_pread(img, lba * 512, m, sizeof(*m)) && le16toh(m->signature) == 0xaa55;
}

static bool mbr_extended(const struct mbr_entry *p)
{
	return p->type == 0x05 || p->type == 0x0f || p->type == 0x85;
}

static int mbr_extent(const struct mbr_entry *p, uint64_t base, struct block_extent *x)
{
	if (!p->type || !p->count)
		return -ENOENT;
	*x = (struct block_extent){ (base + le32toh(p->start)) * 512, le32toh(p->count) * 512ULL };
	return 0;
}

/* The chain of logical partitions: each link describes one, and where the next link is. */
static int mbr_logical(struct image *img, const struct mbr_entry *extended, unsigned int part,
		       struct block_extent *x)
{
	const uint64_t base = le32toh(extended->start);
	uint64_t at = base;
	struct mbr m;

	for (unsigned int n = 5; n < 5 + LOGICAL_MAX; n++) {
		if (!mbr_read(img, at, &m))
			return -EIO;
		if (n == part)
			return mbr_extent(&m.entry[0], at, x);
		if (!mbr_extended(&m.entry[1]))
			return -ENOENT;
		at = base + le32toh(m.entry[1].start);
	}
	return -ENOENT;
}

static int mbr_find(struct image *img, unsigned int part, struct block_extent *x)
{
	struct mbr m;

	if (!mbr_read(img, 0, &m))
		return 1;
	if (part <= 4 && !mbr_extended(&m.entry[part - 1]))
		return mbr_extent(&m.entry[part - 1], 0, x);
	for (unsigned int i = 0; i < 4 && part > 4; i++)
		if (mbr_extended(&m.entry[i]))
			return mbr_logical(img, &m.entry[i], part, x);
	return -ENOENT;
}

int partition_find(struct image *img, unsigned int part, struct block_extent *x, struct err *e)
{
	int rc = gpt_find(img, part, x);

	if (rc == 1)
		rc = mbr_find(img, part, x);
	if (rc == 1)
		return err_set(e, EINVAL, "disk '%s' has no partition table", img->path);
	if (rc == -ENOENT)
		return err_set(e, ENOENT, "disk '%s' has no partition %u", img->path, part);
	if (rc)
		return err_set(e, EIO, "disk '%s': its partition table is damaged", img->path);
	return 0;
}
