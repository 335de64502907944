// SPDX-License-Identifier: Apache-2.0
/*
 * The code cache's memory: one memfd mapped twice, writable and executable (never both at one
 * address), and what is known of the blocks in it, in parts that are filled in turn.  When
 * there is no room the oldest part's blocks go, so that most of what runs stays.
 *
 * Behind the fixed code each part has an area for code and one for what hardly runs; in
 * 'records' it has a third one, and its own ids of blocks and slots.  The areas are larger
 * than they can all get: what counts is the memory that a part takes in all.
 */
#include "base/pages.h"
#include "engine/soft/dbt_priv.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#define PART_MIN	(1ULL << 20)	/* bytes */
#define BYTES_A_BLOCK	256		/* the least a block takes in all, about, */
#define SLOTS_A_BLOCK	4		/* and the most of these */
#define FIXED_BYTES	16384		/* more than the fixed code takes */

/* perf looks names up only for memory without a file: two mappings of shared anonymous memory. */
static int map_code_anonymous(struct dbt *d, struct err *e)
{
	d->rw = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (d->rw != MAP_FAILED)	/* old size 0: maps the same pages once more */
		d->rx = mremap(d->rw, 0, d->size, MREMAP_MAYMOVE);
	if (d->rx == MAP_FAILED || mprotect(d->rx, d->size, PROT_READ | PROT_EXEC))
		return err_errno(e, errno, "could not map the code cache (is memory allowed to be executable here?)");
	return 0;
}

static int map_code(struct dbt *d, struct err *e)
{
	if (d->cfg.perf_map)
		return map_code_anonymous(d, e);
	d->fd = memfd_create("vireo-code", MFD_CLOEXEC);
	if (d->fd < 0 || ftruncate(d->fd, d->size))
		return err_errno(e, errno, "could not make a code cache of %llu MiB",
				 (unsigned long long)d->size >> 20);
	d->rw = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED, d->fd, 0);
	d->rx = mmap(NULL, d->size, PROT_READ | PROT_EXEC, MAP_SHARED, d->fd, 0);
	if (d->rw == MAP_FAILED || d->rx == MAP_FAILED)
		return err_errno(e, errno, "could not map the code cache (is memory allowed to be executable here?)");
	return 0;
}

int parts_create(struct dbt *d, struct err *e)
{
	d->parts = MIN(MAX(d->cfg.cache_bytes / PART_MIN, 1ULL), (uint64_t)PARTS_MAX);
	d->part_bytes = MAX(d->cfg.cache_bytes / d->parts, PART_MIN);
	d->area = ALIGN_UP(d->part_bytes / 8 * 5, 4096);
	d->part_blocks = d->part_bytes / BYTES_A_BLOCK;
	d->part_slots = d->part_blocks * SLOTS_A_BLOCK;
	d->size = FIXED_BYTES + 2 * d->parts * d->area;
	d->records = pages_alloc_small(d->parts * d->area);
	d->blocks = pages_alloc_small(d->parts * d->part_blocks * sizeof(*d->blocks));
	d->slots = pages_alloc_small(d->parts * d->part_slots * sizeof(*d->slots));
	if (!d->records || !d->blocks || !d->slots)
		return err_set(e, ENOMEM, "out of memory for the translator");
	return map_code(d, e);
}

void parts_destroy(struct dbt *d)
{
	if (d->rw != MAP_FAILED)
		munmap(d->rw, d->size);
	if (d->rx != MAP_FAILED)
		munmap(d->rx, d->size);
	if (d->fd >= 0)
		close(d->fd);
	pages_free(d->records, d->parts * d->area);
	pages_free(d->blocks, d->parts * d->part_blocks * sizeof(*d->blocks));
	pages_free(d->slots, d->parts * d->part_slots * sizeof(*d->slots));
}

static uint8_t *part_code(const struct dbt *d, unsigned int n)
{
	return d->rw + FIXED_BYTES + 2 * n * d->area;
}

static uint8_t *part_cold(const struct dbt *d, unsigned int n)
{
	return part_code(d, n) + d->area;
}

/* Part @n, which is empty, is filled from now on. */
static void part_begin(struct dbt *d, unsigned int n)
{
	struct part *p = &d->part[n];

	d->present = n;
	d->next = part_code(d, n);
	d->next_cold = part_cold(d, n);
	d->records_used = n * d->area;
	p->first_block = p->block_count = d->block_count = n * d->part_blocks;
	p->first_slot = p->slot_count = d->slot_count = n * d->part_slots;
	p->bytes = 0;
}

void parts_init(struct dbt *d)
{
	assert(d->first <= part_code(d, 0));
	for (unsigned int n = d->parts; n--; )
		part_begin(d, n);
}

/* Nobody knows anything of blocks that are gone. */
static void blocks_gone(struct dbt *d)
{
	jumps_clear(d);
	d->changed++;
	d->generation++;
	d->stats.flushes++;
}

void dbt_flush(struct dbt *d)
{
	for (unsigned int i = 0; i < BLOCK_HASH; i++)
		d->hash[i] = (struct bucket){ 0 };
	for (unsigned int i = 0; i < PAGE_HASH; i++)
		d->page[i] = NULL;
	for (unsigned int i = 0; i < SECOND_HASH; i++)
		d->second[i] = NULL;
	sleep_clear(d);
	cells_clear(d);
	parts_init(d);
	blocks_gone(d);
}

/*
 * The memory goes back: the next blocks need not be of the same proportions, and areas must
 * not all grow to the most that each ever had.
 */
static void part_release(struct dbt *d, unsigned int n)
{
	madvise(part_code(d, n), 2 * d->area, MADV_REMOVE);
	madvise(d->records + n * d->area, d->area, MADV_DONTNEED);
}

/* Its blocks go; with one part it is the present one. */
static void part_empty(struct dbt *d, unsigned int n)
{
	struct part *p = &d->part[n];

	if (p->block_count == p->first_block)
		return;
	for (unsigned int i = p->first_block; i < p->block_count; i++) {
		struct tblock *b = d->blocks[i];

		sleep_forget(d, b);
		if (b->dead)
			continue;
		d->cfg.evicted(d->cfg.arg, b->gpa);
		dbt_forget(d, b);
	}
	/* The dead may still be chained to others. */
	for (unsigned int i = p->first_slot; i < p->slot_count; i++)
		if (d->slots[i].to)
			dbt_unlink(d, &d->slots[i]);
	blocks_gone(d);
	part_release(d, n);
}

/* What the present part takes so far. */
static uint64_t present_bytes(const struct dbt *d)
{
	return d->next - part_code(d, d->present) + (d->next_cold - part_cold(d, d->present)) +
	       (d->records_used - d->present * d->area) +
	       (d->block_count - d->present * d->part_blocks) * sizeof(*d->blocks) +
	       (d->slot_count - d->present * d->part_slots) * sizeof(*d->slots);
}

uint64_t dbt_memory(const struct dbt *d)
{
	uint64_t all = present_bytes(d);

	for (unsigned int n = 0; n < d->parts; n++)
		all += n != d->present ? d->part[n].bytes : 0;
	return all;
}

static bool part_has_room(const struct dbt *d)
{
	uint64_t code = d->next - part_code(d, d->present);
	uint64_t cold = d->next_cold - part_cold(d, d->present);
	uint64_t records = d->records_used - d->present * d->area;
	unsigned int blocks = d->block_count - d->present * d->part_blocks;
	unsigned int slots = d->slot_count - d->present * d->part_slots;

	return MAX(MAX(code, cold), records) + BLOCK_ROOM <= d->area &&
	       blocks < d->part_blocks && slots + 2 * TBLOCK_INSNS <= d->part_slots &&
	       present_bytes(d) + BLOCK_ROOM <= d->part_bytes;
}

void parts_make_room(struct dbt *d)
{
	unsigned int next = (d->present + 1) % d->parts;

	if (part_has_room(d))
		return;
	d->part[d->present].bytes = present_bytes(d);
	/* It will hardly be written to again: only the executable mapping keeps it. */
	madvise(part_code(d, d->present), 2 * d->area, MADV_DONTNEED);
	part_empty(d, next);
	part_begin(d, next);
}

void parts_add(struct dbt *d, struct tblock *b)
{
	d->blocks[d->block_count++] = b;
	d->part[d->present].block_count = d->block_count;
	d->part[d->present].slot_count = d->slot_count;
}

/* Blocks of a part lie in the order of their ids. */
unsigned int dbt_id_at(struct dbt *d, const void *host_pc)
{
	const uint8_t *pc = host_pc;
	uint64_t off = pc - d->rx - FIXED_BYTES, n = off / (2 * d->area);
	bool cold = off % (2 * d->area) >= d->area;
	unsigned int lo, hi;

	if (pc < d->rx + FIXED_BYTES || n >= d->parts)
		return NO_BLOCK;
	lo = d->part[n].first_block;
	hi = d->part[n].block_count;
	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		const struct tblock *b = d->blocks[mid];

		if (pc < (cold ? block_cold(b) : b->code))
			hi = mid;
		else if (pc >= (cold ? block_cold(b) + b->cold_len : block_end(b)))
			lo = mid + 1;
		else
			return mid;
	}
	return NO_BLOCK;
}

struct tblock *dbt_block_at(struct dbt *d, const void *host_pc)
{
	unsigned int id = dbt_id_at(d, host_pc);

	return id == NO_BLOCK ? NULL : d->blocks[id];
}
