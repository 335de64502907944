// SPDX-License-Identifier: Apache-2.0
/*
 * A vCPU's store of blocks, and which bytes of which pages its code was made from.
 *
 * Stores to such pages come by code_written() (code.c).  Those beside the code cost that and
 * nothing more.  A page whose blocks are hit again and again is run without blocks for a
 * while (block_worthwhile).
 */
#include "base/pages.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/soft_priv.h"

#include <errno.h>

#define ARENA_MIN	(1ULL << 20)
#define LEAST_SHARE	8	/* of the cache, besides, for decoded code while the rest is in use, */
#define PAGES_SHARE	8	/* and for what is known of pages */
#define DROPS_MAX	64	/* hits before a page is run without blocks ... */
#define UNCACHED_RUNS	50000	/* ... for so many instructions */
#define RETIRED_MAX	8	/* in a page's list before their room is reclaimed */
#define CHUNK		64	/* bytes a bit of code_page.chunks stands for */

int blocks_init(struct soft_vcpu *sv, uint64_t cache, struct err *e)
{
	bool alone = sv->engine->config.translate == TRANSLATOR_OFF;

	sv->cache_bytes = cache;
	sv->arena_least = MAX(ALIGN_UP(alone ? cache : cache / LEAST_SHARE, GUEST_PAGE_SIZE), ARENA_MIN);
	sv->arena_size = MAX(ALIGN_UP(alone ? cache : cache / 8 * 3, GUEST_PAGE_SIZE), ARENA_MIN);
	sv->arena = pages_alloc(sv->arena_size);
	sv->code_page_max = MAX(cache / PAGES_SHARE, ARENA_MIN) / sizeof(struct code_page);
	sv->code_page = pages_alloc_small(sv->code_page_max * sizeof(struct code_page));
	if (!sv->arena || !sv->code_page)
		return err_set(e, ENOMEM, "could not reserve %llu MiB for decoded instructions",
				 (unsigned long long)sv->arena_size >> 20);
	return 0;
}

void blocks_destroy(struct soft_vcpu *sv)
{
	pages_free(sv->arena, sv->arena_size);
	pages_free(sv->code_page, sv->code_page_max * sizeof(struct code_page));
}

static struct block **hash_slot(struct soft_vcpu *sv, gpa_t gpa, unsigned int code_size)
{
	uint64_t h = (gpa ^ (uint64_t)code_size << 60) * 0x9e3779b97f4a7c15ULL;

	return &sv->hash[h >> (64 - HASH_BITS)];
}

static struct code_page **page_slot(struct soft_vcpu *sv, gpa_t base)
{
	return &sv->pages[(base >> GUEST_PAGE_SHIFT) % BIT(PAGE_HASH_BITS)];
}

struct code_page *page_find_locked(const struct soft_vcpu *sv, gpa_t base)
{
	struct code_page *p = sv->pages[(base >> GUEST_PAGE_SHIFT) % BIT(PAGE_HASH_BITS)];

	while (p && p->base != base)
		p = p->hash_next;
	return p;
}

/* What translations do not need blocks may have, up to a point. */
static uint64_t arena_limit(const struct soft_vcpu *sv)
{
	uint64_t taken = sv->dbt ? dbt_memory(sv->dbt) : 0;

	return MIN(sv->arena_size, sv->arena_least + sv->cache_bytes - MIN(taken, sv->cache_bytes));
}

/* A retired one's room, or from the bottom; NULL: translations want what is there. */
static void *arena_alloc(struct soft_vcpu *sv, uint64_t size)
{
	void *p = sv->arena + sv->arena_used;
	struct block **room = &sv->room[size / ROOM_UNIT];
	uint64_t limit = arena_limit(sv);

	_Static_assert(sizeof(struct insn) % ROOM_UNIT == 0 && sizeof(struct block) % ROOM_UNIT == 0,
		       "a block's size is a multiple of the unit");
	if (sv->arena_used > limit)
		return NULL;
	if (*room) {
		p = *room;
		*room = (*room)->hash_next;
		return p;
	}
	if (sv->arena_used + size > limit)
		return NULL;
	sv->arena_used += size;
	return p;
}

static void forget_blocks_locked(struct soft_vcpu *sv)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->hash); i++)
		sv->hash[i] = NULL;
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->lookup); i++)
		sv->lookup[i].key = 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->room); i++)
		sv->room[i] = NULL;
	sv->arena_used = 0;
}

static void flush_locked(struct soft_vcpu *sv)
{
	forget_blocks_locked(sv);
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->pages); i++)
		sv->pages[i] = NULL;
	sv->news.asked = NULL;
	sv->code_page_count = 0;
	if (sv->dbt)
		dbt_flush(sv->dbt);
}

/* Forgets every block and every translation; none is running. */
void blocks_flush(struct soft_vcpu *sv)
{
	fpu_put(sv->v);		/* libc's free() may use SIMD registers */
	soft_lock(&sv->lock);
	flush_locked(sv);
	soft_unlock(&sv->lock);
}

struct block *block_find(struct soft_vcpu *sv, gpa_t gpa, unsigned int code_size)
{
	struct block *b;

	for (b = *hash_slot(sv, gpa, code_size); b; b = b->hash_next)
		if (b->gpa == gpa && b->code_size == code_size)
			break;
	return b;
}

bool block_worthwhile(struct soft_vcpu *sv, gpa_t gpa)
{
	struct code_page *p = page_find_locked(sv, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));

	if (!p || p->drops < DROPS_MAX)
		return true;
	if (++p->uncached < UNCACHED_RUNS)
		return false;
	p->drops = p->uncached = 0;
	return true;
}

void block_paid(struct soft_vcpu *sv, gpa_t gpa)
{
	struct code_page *p = page_find_locked(sv, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));

	if (p)
		p->drops = 0;
}

/* Compilers would call memset() for so much, which may use the guest's registers. */
static void page_clear(struct code_page *p)
{
	size_t count = sizeof(*p) / 8;

	_Static_assert(sizeof(*p) % 8 == 0, "cleared by words");
	asm volatile("rep stosq" : "+D" (p), "+c" (count) : "a" (0) : "memory");
}

static struct code_page *page_make(struct soft_vcpu *sv, gpa_t base)
{
	struct code_page *p = page_find_locked(sv, base);

	if (p)
		return p;
	if (sv->code_page_count == sv->code_page_max)
		return NULL;
	p = &sv->code_page[sv->code_page_count++];
	page_clear(p);
	p->base = base;
	p->hash_next = *page_slot(sv, base);
	*page_slot(sv, base) = p;
	return p;
}

/* The bytes of @b that lie in the page at @base: first and last offset. */
static void part_in_page(const struct block *b, gpa_t base, unsigned int *first,
			 unsigned int *last)
{
	unsigned int start = b->gpa & GUEST_PAGE_MASK;

	if (base == ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE)) {
		*first = start;
		*last = MIN(start + b->len, GUEST_PAGE_SIZE) - 1;
	} else {
		*first = 0;
		*last = start + b->len - GUEST_PAGE_SIZE - 1;
	}
}

uint64_t chunk_mask(unsigned int first, unsigned int last)
{
	unsigned int a = first / CHUNK, z = last / CHUNK;

	return ~0ULL << a & ~0ULL >> (63 - z);
}

/* The bytes of chunk @n that are among @first to @last. */
static uint64_t byte_mask(unsigned int n, unsigned int first, unsigned int last)
{
	unsigned int a = MAX(first, n * CHUNK) % CHUNK, z = MIN(last, n * CHUNK + 63) % CHUNK;

	return ~0ULL << a & ~0ULL >> (63 - z);
}

static void page_cover(struct code_page *p, unsigned int first, unsigned int last)
{
	p->chunks |= chunk_mask(first, last);
	for (unsigned int n = first / CHUNK; n <= last / CHUNK; n++)
		p->bytes[n] |= byte_mask(n, first, last);
}

bool page_covers(const struct code_page *p, unsigned int first, unsigned int last)
{
	if (!(p->chunks & chunk_mask(first, last)))
		return false;
	for (unsigned int n = first / CHUNK; n <= last / CHUNK; n++)
		if (p->bytes[n] & byte_mask(n, first, last))
			return true;
	return false;
}

static void page_add(struct code_page *p, struct block *b, unsigned int which)
{
	unsigned int first, last;

	part_in_page(b, p->base, &first, &last);
	page_cover(p, first, last);
	b->page_next[which] = p->blocks;
	b->lists++;
	p->blocks = b;
}

/* Takes the dead out of the page's list, and computes anew which bytes are code. */
static void page_sweep(struct soft_vcpu *sv, struct code_page *p)
{
	struct block *b = p->blocks, *next;

	p->blocks = NULL;
	p->retired = 0;
	p->chunks = 0;
	for (unsigned int n = 0; n < ARRAY_SIZE(p->bytes); n++)
		p->bytes[n] = 0;
	for (; b; b = next) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;

		next = b->page_next[which];
		b->lists--;
		if (b->serial)
			page_add(p, b, which);
	}
	if (sv->dbt)
		dbt_cover(sv->dbt, p->base, p->bytes);
	for (unsigned int n = 0; n < ARRAY_SIZE(p->bytes); n++)
		if (p->bytes[n])
			p->chunks |= BIT(n);
}

bool block_cover(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len)
{
	unsigned int first = gpa & GUEST_PAGE_MASK, end = first + len;
	struct code_page *p, *q = NULL;
	bool done = false;

	soft_lock(&sv->lock);
	sv->news.reading_count = 0;
	p = page_make(sv, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
	if (end > GUEST_PAGE_SIZE)
		q = page_make(sv, second);
	if (sv->news.read_hit || !p || (!q && end > GUEST_PAGE_SIZE))
		goto out;
	page_cover(p, first, MIN(end, GUEST_PAGE_SIZE) - 1);
	if (q)
		page_cover(q, 0, end - GUEST_PAGE_SIZE - 1);
	done = true;
out:
	soft_unlock(&sv->lock);
	return done;
}

/*
 * Room by forgetting what was decoded, not what was translated, while that is enough.  Which
 * bytes were code is found out anew where one of them is written.
 */
static void make_room_locked(struct soft_vcpu *sv)
{
	if (sv->code_page_count + 2 > sv->code_page_max) {
		flush_locked(sv);
		return;
	}
	forget_blocks_locked(sv);
	pages_give_back(sv->arena, arena_limit(sv), sv->arena_size);
	for (unsigned int i = 0; i < ARRAY_SIZE(sv->pages); i++)
		for (struct code_page *p = sv->pages[i]; p; p = p->hash_next) {
			p->blocks = NULL;
			p->retired = 0;
		}
}

static uint64_t block_size(unsigned int count)
{
	return sizeof(struct block) + count * sizeof(struct insn);
}

/* Room for a block and its pages; when there is none others go first. */
static struct block *block_alloc(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int count,
				 struct code_page *pages[2])
{
	uint64_t size = block_size(count);

	for (int tries = 0; tries < 2; tries++) {
		struct block *b = arena_alloc(sv, size);

		pages[0] = page_make(sv, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
		pages[1] = second == GPA_NONE ? NULL : page_make(sv, second);
		if (b && pages[0] && (pages[1] || second == GPA_NONE))
			return b;
		make_room_locked(sv);
	}
	return NULL;
}

struct block *block_insert(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len,
			   unsigned int count)
{
	unsigned int code_size = sv->scratch[0].code_size;
	struct code_page *pages[2];
	struct block **slot, *b = NULL;

	fpu_put(sv->v);		/* a flush may come to libc's free() */
	soft_lock(&sv->lock);
	sv->news.reading_count = 0;
	if (sv->news.read_hit)
		goto out;
	b = block_alloc(sv, gpa, second, count, pages);
	if (!b)
		goto out;
	b->gpa = gpa;
	b->second = second;
	b->len = len;
	b->count = count;
	b->code_size = code_size;
	b->serial = ++sv->serial;
	b->lists = 0;
	for (unsigned int i = 0; i < count; i++)
		b->insn[i] = sv->scratch[i];
	slot = hash_slot(sv, gpa, code_size);
	b->hash_next = *slot;
	*slot = b;
	page_add(pages[0], b, 0);
	if (pages[1])
		page_add(pages[1], b, 1);
	stat_add(&sv->v->stats.blocks_decoded, 1);
out:
	soft_unlock(&sv->lock);
	return b;
}

static int exec_stale(struct vcpu *v, const struct insn *i)
{
	(void)v;
	(void)i;
	return EXEC_STALE;
}

static void block_kill(struct soft_vcpu *sv, struct block *b)
{
	struct block **link = hash_slot(sv, b->gpa, b->code_size);

	while (*link != b)
		link = &(*link)->hash_next;
	*link = b->hash_next;
	b->serial = 0;
	for (unsigned int i = 0; i < b->count; i++)
		__atomic_store_n(&b->insn[i].exec, exec_stale, __ATOMIC_RELEASE);
}

/* Where the dead of the page's list were, others may be. */
static void page_reclaim(struct soft_vcpu *sv, struct code_page *p)
{
	struct block *b = p->blocks, *next;

	p->blocks = NULL;
	p->retired = 0;
	for (; b; b = next) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;
		struct block **room = &sv->room[block_size(b->count) / ROOM_UNIT];

		next = b->page_next[which];
		if (b->serial) {
			b->page_next[which] = p->blocks;
			p->blocks = b;
		} else if (!--b->lists) {
			b->hash_next = *room;
			*room = b;
		}
	}
}

void block_retire(struct soft_vcpu *sv, struct block *b)
{
	struct code_page *p;

	if (block_find(sv, b->gpa, b->code_size) != b)	/* the store has been emptied since */
		return;
	soft_lock(&sv->lock);
	block_kill(sv, b);
	p = page_find_locked(sv, ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE));
	if (p && ++p->retired == RETIRED_MAX)
		page_reclaim(sv, p);
	soft_unlock(&sv->lock);
}

void page_drop_locked(struct soft_vcpu *sv, struct code_page *p, unsigned int first,
		      unsigned int last)
{
	unsigned int hit = 0;

	if (sv->dbt)
		dbt_invalidate(sv->dbt, p->base + first, last - first + 1);
	for (struct block *b = p->blocks; b; ) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;
		unsigned int start, end;

		part_in_page(b, p->base, &start, &end);
		if (b->serial && start <= last && end >= first) {
			block_kill(sv, b);
			*code_heat(sv, b->gpa) = 0;	/* that was other code */
			hit++;
		}
		b = b->page_next[which];
	}
	if (hit)
		p->drops++;
	p->changes = true;
	page_sweep(sv, p);
	stat_add(&sv->v->stats.blocks_invalidated, hit);
}

void page_suspend_locked(struct soft_vcpu *sv, struct code_page *p)
{
	for (struct block *b = p->blocks; b; ) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;

		if (b->serial)
			block_kill(sv, b);
		b = b->page_next[which];
	}
	if (sv->dbt)
		dbt_suspend(sv->dbt, p->base);
	p->changes = true;
	page_sweep(sv, p);
}
