// SPDX-License-Identifier: Apache-2.0
/*
 * What backs the tables of the TLB: reservations, the record of the parts in use, emptying
 * them, and giving host memory back.  See tlb_priv.h; tlb.c decides what and when.
 *
 * Address space: one address space of the guest takes 3 TiB of ours (6 tables of 512 GiB),
 * and a vCPU keeps up to TLB_SPACES of them and half a TiB besides.  All vCPUs share the
 * 128 TiB of a 47-bit process: with many, each keeps fewer spaces (tlb.c, spaces_that_fit),
 * and in the end one compact space of 1.5 TiB.
 *
 * A compact space has three half tables side by side, a, b and c, for each kind of access.
 * Under SMAP, the user view is a and b, the supervisor's b and c; b, where they overlap, is
 * the user's upper half and the supervisor's lower one, and stays empty.  Without SMAP the
 * supervisor's view is b and c, both in use, and the user has none.
 *
 * Host memory: a region (2 MiB of guest addresses) takes up to a page a table once it was
 * looked up.  What a hostile guest can make us take is bounded: beyond a limit, a set of
 * tables is emptied and its memory given back.
 *
 * Bare system calls, so SIMD state may be live.
 */
#include "cpu/cell_map.h"
#include "cpu/tlb_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define SPACE_REGIONS	4096U	/* 8 GiB of a process's addresses */
#define KERNEL_REGIONS	32768U	/* 64 GiB of the kernel's */
#define HALF_BYTES	(TABLE_BYTES / 2)
#define CHAIN_BYTES	(3 * HALF_BYTES)

void zero_entries(void *p, uint64_t count)
{
	asm volatile("rep stosq" : "+D" (p), "+c" (count) : "a" (0) : "memory");
}

void *tlb_reserve(uint64_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* A huge page would put 2 MiB behind each region of a table; a core dump is ours. */
	madvise(p, bytes, MADV_NOHUGEPAGE);
	madvise(p, bytes, MADV_DONTDUMP);
	return p;
}

int64_t *tlb_zeros(struct gpa_space *s)
{
	if (!s->zeros) {
		s->zeros = tlb_reserve(TABLE_BYTES, PROT_READ);
		s->zeros_bytes = TABLE_BYTES;
	}
	return s->zeros;
}

void tlb_release(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

/* --- the record of what is in use --- */

static int record_init(struct tlb_record *r, unsigned int limit)
{
	*r = (struct tlb_record){ .limit = limit };
	r->flags = tlb_reserve(BIT(REGION_BITS), PROT_READ | PROT_WRITE);
	r->huge = tlb_reserve(BIT(GRANULE_BITS), PROT_READ | PROT_WRITE);
	r->used = tlb_reserve(limit * sizeof(*r->used), PROT_READ | PROT_WRITE);
	return r->flags && r->huge && r->used ? 0 : -ENOMEM;
}

static void record_free(struct tlb_record *r)
{
	tlb_release(r->flags, BIT(REGION_BITS));
	tlb_release(r->huge, BIT(GRANULE_BITS));
	tlb_release(r->used, r->limit * sizeof(*r->used));
}

/* Empties the tables of one region; @view is an array of all views the flags speak of. */
static void region_clear(struct tlb_record *r, struct tlb_view *view, uint64_t region)
{
	unsigned int tables = r->flags[region] & REGION_TABLES;

	if (unlikely(r->window != NULL))
		window_drop_region(r->window, region);
	if (unlikely(r->cell != NULL))
		cell_map_drop_region(r->cell, region);
	while (tables) {
		unsigned int bit = __builtin_ctz(tables);

		tables &= tables - 1;
		zero_entries(view[bit / 2].table[bit % 2] + region * REGION_PAGES, REGION_PAGES);
	}
	r->flags[region] &= ~REGION_USED;
}

static void record_clear_huge(struct tlb_record *r)
{
	if (!r->any_huge)
		return;
	madvise(r->huge, BIT(GRANULE_BITS), MADV_DONTNEED);
	r->any_huge = false;
}

void tlb_record_flush(struct tlb_record *r, struct tlb_view *view)
{
	struct window_set *window = r->window;
	struct cell_map *cell = r->cell;

	if (window)
		window_drop_all(window);
	if (cell)
		cell_map_drop_all(cell);
	r->window = NULL;	/* is empty */
	r->cell = NULL;
	for (unsigned int i = 0; i < r->used_count; i++)
		region_clear(r, view, r->used[i]);
	r->window = window;
	r->cell = cell;
	r->used_count = 0;
	record_clear_huge(r);
}

/* Empties the regions of one granule, which stay listed as used. */
static void record_flush_granule(struct tlb_record *r, struct tlb_view *view, uint64_t granule)
{
	for (unsigned int i = 0; i < r->used_count; i++)
		if (r->used[i] / REGION_PAGES == granule) {
			region_clear(r, view, r->used[i]);
			/* Still in the list, so it must not enter it twice. */
			r->flags[r->used[i]] |= REGION_LARGE;
		}
	r->huge[granule] = 0;
}

void tlb_record_flush_page(struct tlb_record *r, struct tlb_view *view, uint64_t index)
{
	uint64_t region = tlb_region(index);
	unsigned int tables;

	if (r->any_huge && r->huge[region / REGION_PAGES])
		record_flush_granule(r, view, region / REGION_PAGES);
	if (r->flags[region] & REGION_LARGE) {
		region_clear(r, view, region);
		r->flags[region] |= REGION_LARGE;
	}
	for (tables = r->flags[region] & REGION_TABLES; tables; tables &= tables - 1) {
		unsigned int bit = __builtin_ctz(tables);

		view[bit / 2].table[bit % 2][index] = 0;
	}
	if (unlikely(r->window != NULL))
		window_drop_page(r->window, index);
	if (unlikely(r->cell != NULL))
		cell_map_drop_page(r->cell, index);
}

/* Gives the memory behind the record back; its tables' memory is the caller's. */
static void record_trim(struct tlb_record *r)
{
	madvise(r->flags, BIT(REGION_BITS), MADV_DONTNEED);
	record_clear_huge(r);
	r->used_count = 0;
	r->resident = 0;
}

void tlb_record_use(struct tlb_record *r, uint64_t region, unsigned int bits)
{
	uint8_t old = r->flags[region];

	if (!(old & REGION_USED))
		r->used[r->used_count++] = region;
	r->flags[region] = old | bits;
}

/* --- spaces --- */

void tlb_space_free(struct tlb_space *s)
{
	for (int a = 0; a < 2; a++) {
		tlb_release(s->chain[a], CHAIN_BYTES);
		for (int k = 0; k < VIEW_COUNT && !s->chain[a]; k++)
			tlb_release(s->view[k].table[a], TABLE_BYTES);
	}
	record_free(&s->rec);
	tlb_release(s, sizeof(*s));
}

/* Puts the shared half into both supervisor views. */
static int space_map_kernel(struct tlb_space *s, const struct tlb_kernel_half *k)
{
	for (int kind = VIEW_SUPER; kind <= VIEW_SUPER_AC; kind++)
		for (int a = 0; a < 2; a++)
			if (mmap(s->view[kind].table[a] + UPPER_INDEX, HALF_BYTES,
				 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE,
				 k->fd[a], 0) == MAP_FAILED)
				return -ENOMEM;
	return 0;
}

struct tlb_space *tlb_space_create(struct tlb_kernel_half *k)
{
	struct tlb_space *s = tlb_reserve(sizeof(*s), PROT_READ | PROT_WRITE);

	if (!s)
		return NULL;
	if (record_init(&s->rec, SPACE_REGIONS))
		goto fail;
	for (int kind = 0; kind < VIEW_COUNT; kind++)
		for (int a = 0; a < 2; a++) {
			s->view[kind].table[a] = tlb_reserve(TABLE_BYTES, PROT_READ | PROT_WRITE);
			if (!s->view[kind].table[a])
				goto fail;
		}
	if (k->shared && space_map_kernel(s, k))
		goto fail;
	return s;
fail:
	tlb_space_free(s);
	return NULL;
}

struct tlb_space *tlb_space_create_compact(void)
{
	struct tlb_space *s = tlb_reserve(sizeof(*s), PROT_READ | PROT_WRITE);

	if (!s)
		return NULL;
	for (int a = 0; a < 2; a++)
		s->chain[a] = tlb_reserve(CHAIN_BYTES, PROT_READ | PROT_WRITE);
	if (!s->chain[0] || !s->chain[1] || record_init(&s->rec, SPACE_REGIONS)) {
		tlb_space_free(s);
		return NULL;
	}
	return s;
}

void tlb_space_arrange(struct tlb_space *s, const struct tlb_view *empty, bool smap)
{
	for (int a = 0; a < 2; a++) {
		int64_t *super = s->chain[a] + UPPER_INDEX;

		s->view[VIEW_USER].table[a] = smap ? s->chain[a] : empty->table[a];
		s->view[VIEW_SUPER].table[a] = smap ? super : empty->table[a];
		s->view[VIEW_SUPER_AC].table[a] = smap ? empty->table[a] : super;
	}
}

void tlb_space_trim(struct tlb_space *s, bool shared)
{
	tlb_record_flush(&s->rec, s->view);
	for (int a = 0; a < 2 && s->chain[a]; a++)
		madvise(s->chain[a], CHAIN_BYTES, MADV_DONTNEED);
	for (int kind = 0; kind < VIEW_COUNT && !s->chain[0]; kind++)
		for (int a = 0; a < 2; a++)
			madvise(s->view[kind].table[a],
				shared && kind != VIEW_USER ? HALF_BYTES : TABLE_BYTES,
				MADV_DONTNEED);
	record_trim(&s->rec);
}

/* --- the shared half --- */

void tlb_kernel_unshare(struct tlb_kernel_half *k)
{
	for (int a = 0; a < 2; a++) {
		if (k->view.table[a])
			tlb_release(k->view.table[a] + UPPER_INDEX, HALF_BYTES);
		if (k->fd[a] >= 0)
			close(k->fd[a]);
		k->view.table[a] = NULL;
		k->fd[a] = -1;
	}
	record_free(&k->rec);
	k->rec = (struct tlb_record){ 0 };
	k->shared = false;
}

/* Beyond this limit, making the file would end in a signal. */
static bool file_size_allowed(void)
{
	struct rlimit limit;

	return !getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur >= HALF_BYTES;
}

void tlb_kernel_share(struct tlb_kernel_half *k)
{
	if (!file_size_allowed() || record_init(&k->rec, KERNEL_REGIONS))
		goto refused;
	for (int a = 0; a < 2; a++) {
		int64_t *p;

		k->fd[a] = memfd_create("tlb-kernel-half", MFD_CLOEXEC);
		if (k->fd[a] < 0 || ftruncate(k->fd[a], HALF_BYTES))
			goto refused;
		p = mmap(NULL, HALF_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE,
			 k->fd[a], 0);
		if (p == MAP_FAILED)
			goto refused;
		k->view.table[a] = p - UPPER_INDEX;
	}
	k->shared = true;
	return;
refused:
	tlb_kernel_unshare(k);
}

void tlb_kernel_flush(struct tlb_kernel_half *k)
{
	tlb_record_flush(&k->rec, &k->view);
	k->nonglobal_count = 0;
}

void tlb_kernel_flush_nonglobal(struct tlb_kernel_half *k)
{
	if (k->nonglobal_count == NONGLOBAL_TOO_MANY) {
		tlb_kernel_flush(k);
		return;
	}
	for (unsigned int i = 0; i < k->nonglobal_count; i++) {
		k->view.table[TLB_READ][k->nonglobal[i]] = 0;
		k->view.table[TLB_WRITE][k->nonglobal[i]] = 0;
	}
	k->nonglobal_count = 0;
}

void tlb_kernel_trim(struct tlb_kernel_half *k)
{
	tlb_kernel_flush(k);
	for (int a = 0; a < 2; a++)
		fallocate(k->fd[a], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HALF_BYTES);
	record_trim(&k->rec);
}
