// SPDX-License-Identifier: Apache-2.0
/*
 * VMDK, streamOptimized: one file with an embedded descriptor, whose grains (64 KiB as a rule) are
 * deflated, each behind a marker, found by a directory of tables of sector numbers.  Where the
 * directory is stands in the header or, as the file is written in one go, in a copy of the header
 * at its end.
 *
 * Source: VMware's "Virtual Disk Format 5.0", Hosted Sparse Extents and Stream-Optimized
 * Compressed Sparse Extents.  Not supported: everything that is not compressed, several extents,
 * a parent disk.
 */
#include "backend/vmdk.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define SECTOR		512U
#define MAGIC		0x564d444bU	/* "KDMV" */
#define FLAG_ZEROED	BIT(2)		/* an entry of 1 is a grain of zeroes */
#define FLAG_COMPRESSED	BIT(16)
#define DEFLATE		1U
#define AT_END		UINT64_MAX
#define FOOTER_BACK	1024U		/* the copy of the header, from the file's end */
#define TABLE_ENTRIES	512U
#define GRAIN_MAX	(1U << 20)
#define SIZE_MAX_BYTES	(1ULL << 44)
#define DESCRIPTOR_MAX	65536U

struct header {
	uint32_t magic, version, flags;
	uint64_t capacity, grain, descriptor, descriptor_size;
	uint32_t table_entries;
	uint64_t spare_directory, directory, overhead;
	uint8_t unclean, line_ends[4];
	uint16_t compression;
} __attribute__((packed));

struct marker {
	uint64_t sector;		/* of the disk */
	uint32_t size;			/* deflated bytes that follow */
} __attribute__((packed));

/* (g) under lock */
struct vmdk {
	struct image img;
	uint32_t grain;			/* bytes */
	bool zeroed;
	uint32_t *directory;		/* sectors of tables */
	uint64_t directory_count;
	pthread_mutex_t lock;
	uint8_t *data, *packed;		/* (g) the grain unpacked last; room for one deflated */
	uint64_t data_index;		/* (g) which it is; UINT64_MAX: none */
};

static struct vmdk *vmdk_of(struct image *img)
{
	return container_of(img, struct vmdk, img);
}

/* --- grains --- */

/* The sector of the grain's marker; 0: zeroes. */
static int find_grain(struct vmdk *v, uint64_t index, uint32_t *entry)
{
	const uint32_t table = v->directory[index / TABLE_ENTRIES];
	uint32_t le;
	int rc;

	*entry = 0;
	if (!table)
		return 0;
	rc = image_pread(v->img.file, (uint64_t)table * SECTOR + index % TABLE_ENTRIES * sizeof(le), &le,
			 sizeof(le));
	if (rc)
		return rc == -EINVAL ? -EIO : rc;
	*entry = le32toh(le);
	if (v->zeroed && *entry == 1)
		*entry = 0;
	return 0;
}

/* With the lock held.  The last grain of a disk may be shorter. */
static int unpack(struct vmdk *v, uint64_t index, uint32_t entry)
{
	const uint64_t at = (uint64_t)entry * SECTOR, room = compressBound(v->grain) + SECTOR;
	const uint64_t want = MIN(v->grain, v->img.size - index * v->grain);
	struct marker m;
	uLongf len = v->grain;
	int rc;

	v->data_index = UINT64_MAX;
	rc = image_pread(v->img.file, at, &m, sizeof(m));
	if (rc)
		return rc == -EINVAL ? -EIO : rc;
	if (le64toh(m.sector) != index * (v->grain / SECTOR) || !m.size || le32toh(m.size) > room)
		return -EIO;
	rc = image_pread(v->img.file, at + sizeof(m), v->packed, le32toh(m.size));
	if (rc)
		return rc == -EINVAL ? -EIO : rc;
	if (uncompress(v->data, &len, v->packed, le32toh(m.size)) != Z_OK || len < want)
		return -EIO;
	v->data_index = index;
	return 0;
}

/* Within one grain. */
static int read_grain(struct vmdk *v, uint64_t off, const struct span *s)
{
	const uint64_t index = off / v->grain;
	uint32_t entry;
	int rc = find_grain(v, index, &entry);

	if (rc)
		return rc;
	if (!entry) {
		span_zero(s);
		return 0;
	}
	pthread_mutex_lock(&v->lock);
	if (v->data_index != index)
		rc = unpack(v, index, entry);
	if (!rc)
		span_copy_in(s, v->data + off % v->grain);
	pthread_mutex_unlock(&v->lock);
	return rc;
}

static int vmdk_read(struct image *img, uint64_t off, const struct span *s)
{
	struct vmdk *v = vmdk_of(img);
	struct span left = *s, part;
	int rc = 0;

	while (left.len && !rc) {
		part = span_part(&left, 0, MIN(left.len, v->grain - off % v->grain));
		rc = read_grain(v, off, &part);
		off += part.len;
		span_skip(&left, part.len);
	}
	return rc;
}

static int vmdk_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x)
{
	struct vmdk *v = vmdk_of(img);
	uint64_t n = v->grain - off % v->grain;
	uint32_t entry, next;
	int rc = find_grain(v, off / v->grain, &entry);

	if (rc)
		return rc;
	for (; n < len; n += v->grain) {
		rc = find_grain(v, (off + n) / v->grain, &next);
		if (rc || !next != !entry)
			break;
	}
	*x = (struct image_extent){ .len = MIN(n, len), .zero = !entry, .here = true };
	return 0;
}

static int vmdk_close(struct image *img)
{
	struct vmdk *v = vmdk_of(img);
	const int rc = image_close(img->file);

	pthread_mutex_destroy(&v->lock);
	free(v->directory);
	free(v->data);
	free(v->packed);
	free(img->path);
	free(v);
	return rc;
}

static const struct image_ops vmdk_ops = {
	.format = "vmdk", .read = vmdk_read, .map = vmdk_map, .close = vmdk_close,
};

/* --- opening --- */

static int read_header(struct image *file, uint64_t at, struct header *h, struct err *e)
{
	const int rc = image_pread(file, at, h, sizeof(*h));

	if (rc || le32toh(h->magic) != MAGIC)
		return err_set(e, EINVAL, "'%.300s' is no VMDK image, or its end is missing", file->path);
	h->version = le32toh(h->version);
	h->flags = le32toh(h->flags);
	h->capacity = le64toh(h->capacity);
	h->grain = le64toh(h->grain);
	h->descriptor = le64toh(h->descriptor);
	h->descriptor_size = le64toh(h->descriptor_size);
	h->table_entries = le32toh(h->table_entries);
	h->directory = le64toh(h->directory);
	h->compression = le16toh(h->compression);
	return 0;
}

static int check_header(const struct header *h, const char *path, struct err *e)
{
	if (h->version < 1 || h->version > 3 || !(h->flags & FLAG_COMPRESSED) || h->compression != DEFLATE)
		return err_set(e, ENOTSUP, "'%.300s' is a VMDK image of a kind that vireo does not read: "
			       "qemu-img convert -O qcow2 makes one that it does", path);
	if (h->grain < 8 || h->grain > GRAIN_MAX / SECTOR || h->grain & (h->grain - 1) ||
	    h->table_entries != TABLE_ENTRIES || !h->capacity ||
	    h->capacity > SIZE_MAX_BYTES / SECTOR)
		return err_set(e, EINVAL, "'%.300s' is damaged: its header makes no sense", path);
	return 0;
}

/* The text at the front names a parent for a disk that is only what differs. */
static int check_descriptor(struct image *file, const struct header *h, struct err *e)
{
	const uint64_t size = MIN(h->descriptor_size, DESCRIPTOR_MAX / SECTOR) * SECTOR;
	char *text;
	int rc = 0;

	if (!h->descriptor || !size)
		return 0;
	text = calloc(1, size + 1);
	if (!text)
		return err_set(e, ENOMEM, "out of memory for '%.300s'", file->path);
	if (h->descriptor > file->size / SECTOR || image_pread(file, h->descriptor * SECTOR, text, size))
		rc = err_set(e, EINVAL, "'%.300s' is damaged: its descriptor is missing", file->path);
	else if (strstr(text, "parentCID=") && !strstr(text, "parentCID=ffffffff"))
		rc = err_set(e, ENOTSUP, "'%.300s' is only what differs from another disk", file->path);
	free(text);
	return rc;
}

static int read_directory(struct vmdk *v, struct image *file, const struct header *h, struct err *e)
{
	const uint64_t grains = (h->capacity + h->grain - 1) / h->grain;

	v->directory_count = (grains + TABLE_ENTRIES - 1) / TABLE_ENTRIES;
	/* Not more memory than the file has bytes for. */
	if (h->directory > file->size / SECTOR ||
	    v->directory_count > (file->size - h->directory * SECTOR) / sizeof(uint32_t))
		return err_set(e, EINVAL, "'%.300s' is damaged: its directory is not within", file->path);
	v->directory = calloc(v->directory_count, sizeof(uint32_t));
	v->data = malloc(v->grain);
	v->packed = malloc(compressBound(v->grain) + SECTOR);
	if (!v->directory || !v->data || !v->packed)
		return err_set(e, ENOMEM, "out of memory for '%.300s'", file->path);
	if (image_pread(file, h->directory * SECTOR, v->directory, v->directory_count * sizeof(uint32_t)))
		return err_set(e, EIO, "could not read '%.300s'", file->path);
	for (uint64_t i = 0; i < v->directory_count; i++)
		v->directory[i] = le32toh(v->directory[i]);
	return 0;
}

static int read_all(struct vmdk *v, struct image *file, struct err *e)
{
	struct header h;
	int rc = read_header(file, 0, &h, e);

	if (!rc && h.directory == AT_END)
		rc = file->size < FOOTER_BACK ? err_set(e, EINVAL, "'%.300s' has no end", file->path) :
		     read_header(file, file->size - FOOTER_BACK, &h, e);
	if (!rc)
		rc = check_header(&h, file->path, e);
	if (!rc)
		rc = check_descriptor(file, &h, e);
	if (rc)
		return rc;
	v->grain = h.grain * SECTOR;
	v->zeroed = h.flags & FLAG_ZEROED;
	v->img.size = h.capacity * SECTOR;
	v->img.cluster = v->grain;
	return read_directory(v, file, &h, e);
}

int vmdk_open(struct image **out, struct image *file, struct err *e)
{
	struct vmdk *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(e, ENOMEM, "out of memory for '%.300s'", file->path);
	v->img.ops = &vmdk_ops;
	v->img.read_only = true;
	v->data_index = UINT64_MAX;
	pthread_mutex_init(&v->lock, NULL);
	rc = read_all(v, file, e);
	v->img.path = rc ? NULL : strdup(file->path);
	if (!rc && !v->img.path)
		rc = err_set(e, ENOMEM, "out of memory for '%.300s'", file->path);
	if (rc) {
		pthread_mutex_destroy(&v->lock);
		free(v->directory);
		free(v->data);
		free(v->packed);
		free(v);
		return rc;
	}
	v->img.file = file;
	*out = &v->img;
	return 0;
}
