/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of a qcow2 image.
 *
 *	qcow2_open.c	 opening and closing, tables, backing chain
 *	qcow2_header.c	 the header, what is refused
 *	qcow2_cache.c	 L2 tables and refcount blocks in memory; the commit
 *	qcow2_refcount.c clusters: which are free, taking and giving back, growing the table
 *	qcow2_map.c	 guest offset to host offset
 *	qcow2_io.c	 reading, writing, zeroing, discarding
 *	qcow2_inflate.c	 compressed clusters
 *	qcow2_snapshot.c the table of internal snapshots, which are left as they are
 *	qcow2_resize.c	 growing and shrinking
 *	qcow2_check.c	 the refcounts against the references
 *	qcow2_create.c	 a new image
 *
 * Locks.  q->lock protects the metadata in memory and everything marked (m); it is held while
 * metadata is read, never while guest data is.  Who touches guest clusters first claims them
 * (struct claim): shared to read or to write in place, alone to change where they are.  So a
 * cluster is never given back while somebody's data is on its way to it.  commit_lock makes one
 * commit at a time, and is taken before q->lock.
 *
 * Order.  Changed tables stay in memory until a commit, which writes them in steps:
 *	1. refcounts that grew, then wait for the disk (guest data goes with it)
 *	2. L2 tables, wait;  3. L1 entries, wait
 *	4. in memory only: refcounts of what was given up fall, to be written by the next commit
 * At any moment what the disk refers to is written and has its refcount, and what was given up
 * is taken by nobody else before the disk has forgotten it.  A crash leaves leaks at most.
 */
#ifndef VIREO_BACKEND_QCOW2_PRIV_H
#define VIREO_BACKEND_QCOW2_PRIV_H

#include "backend/qcow2.h"

#include <endian.h>
#include <pthread.h>

#define QCOW2_MAGIC		0x514649fbU
#define QCOW2_MIN_CLUSTER_BITS	9U
#define QCOW2_MAX_CLUSTER_BITS	21U
#define QCOW2_MAX_L1		(32U << 20)	/* bytes, as QEMU has it */
#define QCOW2_MAX_REFTABLE	(8U << 20)
#define QCOW2_MAX_SNAPSHOTS	65536U

/* Entries of L1 and L2 tables: "L1 table entry", "Standard Cluster Descriptor". */
#define ENTRY_COPIED		BIT(63)
#define ENTRY_COMPRESSED	BIT(62)
#define ENTRY_ZERO		BIT(0)
#define ENTRY_OFFSET		0x00fffffffffffe00ULL
#define L1_RESERVED		0x7f000000000001ffULL
#define L2_RESERVED		0x3f000000000001feULL

#define INCOMPAT_DIRTY		BIT(0)
#define INCOMPAT_CORRUPT	BIT(1)
#define INCOMPAT_DATA_FILE	BIT(2)
#define INCOMPAT_COMPRESSION	BIT(3)
#define INCOMPAT_EXTENDED_L2	BIT(4)
#define COMPAT_LAZY_REFCOUNTS	BIT(0)

/* Header extensions. */
#define EXT_END			0U
#define EXT_BACKING_FORMAT	0xe2792acaU
#define EXT_FEATURE_NAMES	0x6803f857U

/* The header as it stands in the file, big-endian. */
struct qcow2_header {
	uint32_t magic, version;
	uint64_t backing_offset;
	uint32_t backing_len, cluster_bits;
	uint64_t size;
	uint32_t crypt_method, l1_size;
	uint64_t l1_offset, reftable_offset;
	uint32_t reftable_clusters, snapshot_count;
	uint64_t snapshot_offset;
	uint64_t incompatible, compatible, autoclear;
	uint32_t refcount_order, header_len;
	uint8_t compression_type, reserved[7];
} __attribute__((packed));

#define HEADER_V2_LEN	72U
#define HEADER_V3_LEN	104U

enum table_kind { TABLE_REFCOUNTS, TABLE_L2 };

/* A cluster of metadata in memory, as it is on disk or will be. */
struct table {
	enum table_kind kind;
	uint64_t offset;		/* in the file */
	bool dirty;			/* differs from the file */
	bool committing;		/* a copy is being written */
	uint64_t used;			/* for choosing the oldest */
	struct table *next;		/* of its hash chain */
	uint8_t *data;			/* cluster_size bytes, big-endian */
};

struct table_cache {
	struct table **hash;		/* by offset */
	unsigned int buckets, count, limit, dirty;
	uint64_t tick;
};

/* Guest clusters [first, last] that somebody works on. */
struct claim {
	uint64_t first, last;
	bool alone;
	struct claim *next;
};

/* Clusters given up, taken until the disk has forgotten them. */
struct freed {
	uint64_t offset, count;		/* clusters */
};

struct offset_set {
	uint64_t *slot;			/* offsets; 0 is none */
	size_t size, count;		/* size is a power of two */
};

struct qcow2 {
	struct image img;
	unsigned int version, cluster_bits, refcount_order;	/* (i) */
	uint64_t cluster_size;		/* (i) */
	uint64_t l2_entries;		/* (i) of a table */
	uint64_t block_entries;		/* (i) refcounts of a block */
	uint64_t incompatible, compatible; /* (m) as in the header */
	bool zstd;			/* (i) compressed clusters are zstd's */
	bool has_backing;		/* (i) the header names one, opened or not */
	char *backing_name, *backing_format; /* (i) or NULL */

	pthread_mutex_t lock;
	pthread_cond_t unclaimed;
	struct claim *claims;		/* (m) */

	uint64_t *l1;			/* (m) host byte order */
	uint64_t l1_size, l1_offset;	/* (m) entries */
	uint8_t *l1_dirty;		/* (m) one for each 512 bytes of L1 */
	uint64_t *reftable;		/* (m) host byte order */
	uint64_t reftable_size, reftable_offset; /* (m) entries */
	uint32_t snapshot_count;
	uint64_t snapshot_offset;
	struct table_cache cache;	/* (m) */
	struct offset_set meta;		/* (m) clusters of metadata: never guest data */
	struct freed *freed;		/* (m) */
	size_t freed_count, freed_size;
	uint64_t free_hint;		/* (m) no free cluster below this index */
	uint64_t file_end;		/* (m) clusters of the file ever in use end here */
	char damage[256];		/* (m) the first contradiction found, or "" */

	pthread_mutex_t commit_lock;

	pthread_mutex_t inflate_lock;
	uint64_t inflated_entry;	/* of the cluster in it; 0: none */
	uint8_t *inflated;		/* the cluster that was inflated last */
};

static inline struct qcow2 *qcow2_of(struct image *img)
{
	return container_of(img, struct qcow2, img);
}

static inline uint64_t cluster_floor(const struct qcow2 *q, uint64_t off)
{
	return off & ~(q->cluster_size - 1);
}

/* The file below, beyond its end too: reads give zeroes there, writes make it longer. */
int file_read(struct qcow2 *q, uint64_t off, void *buf, size_t len);
int file_write(struct qcow2 *q, uint64_t off, const void *buf, size_t len);

/* Notes what is wrong, with q->lock held; returns -EIO. */
int damaged(struct qcow2 *q, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* --- qcow2_cache.c; with q->lock held unless it says otherwise --- */

int cache_init(struct qcow2 *q);
void cache_destroy(struct qcow2 *q);
/* The table at @offset, read if need be; good until the lock is let go. */
int cache_get(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table **out);
/* A new table of zeroes, written at once so that there is room for it. */
int cache_new(struct qcow2 *q, enum table_kind kind, uint64_t offset, struct table **out);
void cache_dirty(struct qcow2 *q, struct table *t);
/* Forgets the table at @offset, if it is there. */
void cache_drop(struct qcow2 *q, uint64_t offset);
void l1_set(struct qcow2 *q, uint64_t index, uint64_t entry);
/* Without the lock: brings the file up to date, and waits for the disk. */
int qcow2_commit(struct qcow2 *q);
/* Without the lock: the same if much has gathered. */
int commit_if_full(struct qcow2 *q);

int set_add(struct offset_set *s, uint64_t offset);	/* -EEXIST, -ENOMEM */
bool set_has(const struct offset_set *s, uint64_t offset);
void set_remove(struct offset_set *s, uint64_t offset);
/* Adds @bytes from @offset on, cluster by cluster. */
int meta_add(struct qcow2 *q, uint64_t offset, uint64_t bytes);

/* --- qcow2_refcount.c; with q->lock held --- */

uint64_t refcount_read(const struct qcow2 *q, const uint8_t *block, uint64_t index);
void refcount_write(const struct qcow2 *q, uint8_t *block, uint64_t index, uint64_t value);
int refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *out);
/* Takes 1 to @want free clusters in a row. */
int cluster_alloc(struct qcow2 *q, uint64_t want, uint64_t *offset, uint64_t *got);
/* Gives @count clusters up once the disk has forgotten them. */
int cluster_free(struct qcow2 *q, uint64_t offset, uint64_t count);
/* Gives up clusters that the disk was never told of. */
void cluster_free_now(struct qcow2 *q, uint64_t offset, uint64_t count);

/* --- qcow2_map.c; with q->lock held --- */

enum mapping_kind { MAP_NONE, MAP_ZERO, MAP_DATA, MAP_COMPRESSED };

struct mapping {
	enum mapping_kind kind;
	uint64_t entry;			/* of the first cluster */
	uint64_t host;			/* MAP_DATA, and MAP_ZERO with a cluster: its offset */
	bool copied;			/* nobody else has the cluster: it may be written */
	uint64_t count;			/* clusters alike (and in a row), at least 1 */
};

/* What is at guest cluster @index and up to @max - 1 further ones. */
int map_lookup(struct qcow2 *q, uint64_t index, uint64_t max, struct mapping *m);
/* The L2 table for guest cluster @index, made or made ours if need be. */
int map_table(struct qcow2 *q, uint64_t index, struct table **t);
/* Sets @count entries from @index on; within one L2 table.  Gives up what was there. */
int map_set(struct qcow2 *q, uint64_t index, uint64_t count, uint64_t entry, bool advance);
/* The place of a compressed cluster in the file. */
void map_compressed(const struct qcow2 *q, uint64_t entry, uint64_t *off, uint64_t *len);

/* --- qcow2_inflate.c; without the lock --- */

/* Reads from byte @at of compressed cluster @entry on; @at + s->len within a cluster. */
int inflate_read(struct qcow2 *q, uint64_t entry, uint64_t at, const struct span *s);

/* --- qcow2_snapshot.c; before the image is shared --- */

struct snapshot {
	uint64_t l1_offset, l1_size;	/* entries */
};

/* Reads the table of snapshots: *out is malloc'ed, q->snapshot_count long. *bytes: its size. */
int snapshots_read(struct qcow2 *q, struct snapshot **out, uint64_t *bytes);

/* --- qcow2_io.c --- */

int qcow2_read(struct image *img, uint64_t off, const struct span *s);
int qcow2_write(struct image *img, uint64_t off, const struct span *s);
int qcow2_zero(struct image *img, uint64_t off, uint64_t len, bool unmap);
int qcow2_discard(struct image *img, uint64_t off, uint64_t len);
int qcow2_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x);

int qcow2_resize(struct image *img, uint64_t size, struct err *e);	/* qcow2_resize.c */

/* --- qcow2_header.c --- */

/* What opening an image has in hand. */
struct opening {
	struct qcow2 *q;
	const struct image_open *how;
	struct qcow2_header h;		/* host byte order */
	uint64_t autoclear;
	struct err *e;
};

/* Reads and checks o->h; then whether its features are known. */
int header_read(struct opening *o);
int features_check(struct opening *o);
/* -EINVAL: @what is wrong at @offset of the header. */
int bad_header(struct opening *o, unsigned int offset, const char *what);
/* Rewrites the header's fields that change; waits for nothing. */
int header_write(struct qcow2 *q);

#endif
