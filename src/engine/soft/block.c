// SPDX-License-Identifier: Apache-2.0
/*
 * The store of blocks, and what happens when the guest or a device writes to their code.
 *
 * A page with blocks has PAGE_CODE set and is in no write table, so each write to it comes
 * by blocks_code_write() before it takes effect.  Writes beside the blocks cost that and
 * nothing more.  A page whose blocks are hit again and again is run without blocks for a
 * while (block_worthwhile).
 *
 * Source for what must hold: Intel SDM volume 3, "Handling Self- and Cross-Modifying Code".
 */
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/soft_priv.h"

#include <errno.h>
#include <sys/mman.h>

#define ARENA_DEFAULT	(64ULL << 20)
#define ARENA_MIN	(1ULL << 20)
#define DROPS_MAX	64	/* hits before a page is run without blocks ... */
#define UNCACHED_RUNS	50000	/* ... for so many instructions */
#define CHUNK_SHIFT	6	/* of code_page.map */

int blocks_init(struct soft *s, struct err *e)
{
	uint64_t size = s->config.cache_bytes ? s->config.cache_bytes : ARENA_DEFAULT;
	void *p;

	size = MAX(ALIGN_UP(size, GUEST_PAGE_SIZE), ARENA_MIN);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return err_errno(e, errno, "could not reserve %llu MiB for decoded instructions",
				 (unsigned long long)size >> 20);
	s->arena = p;
	s->arena_size = size;
	return 0;
}

void blocks_destroy(struct soft *s)
{
	blocks_flush(s);
	if (s->arena)
		munmap(s->arena, s->arena_size);
}

static struct block **hash_slot(struct soft *s, gpa_t gpa, unsigned int code_size)
{
	uint64_t h = (gpa ^ (uint64_t)code_size << 60) * 0x9e3779b97f4a7c15ULL;

	return &s->hash[h >> (64 - HASH_BITS)];
}

static struct code_page **page_slot(struct soft *s, gpa_t base)
{
	return &s->pages[(base >> GUEST_PAGE_SHIFT) % BIT(PAGE_HASH_BITS)];
}

static struct code_page *page_find(struct soft *s, gpa_t base)
{
	struct code_page *p = *page_slot(s, base);

	while (p && p->base != base)
		p = p->hash_next;
	return p;
}

static void page_flag(struct soft *s, gpa_t base, bool set)
{
	struct ram_extent *x = gpa_to_extent(s->space, base);
	uint8_t *flags;

	/* Translations cover other bytes than blocks do. */
	if (!x || (!set && s->dbt && dbt_holds(s->dbt, base)))
		return;
	flags = &x->page_flags[(base - x->base) >> GUEST_PAGE_SHIFT];
	if (set)
		__atomic_or_fetch(flags, PAGE_CODE, __ATOMIC_SEQ_CST);
	else
		__atomic_and_fetch(flags, (uint8_t)~PAGE_CODE, __ATOMIC_SEQ_CST);
}

static void *arena_alloc(struct soft *s, uint64_t size)
{
	void *p;

	size = ALIGN_UP(size, 64);
	if (size > s->arena_size - s->arena_used)
		return NULL;
	p = s->arena + s->arena_used;
	s->arena_used += size;
	return p;
}

/* Forgets every block.  No vCPU is inside one. */
void blocks_flush(struct soft *s)
{
	if (s->vcpu)	/* libc's free() may use SIMD registers */
		fpu_put(s->vcpu->v);
	if (s->dbt)
		dbt_flush(s->dbt);
	for (unsigned int i = 0; i < ARRAY_SIZE(s->pages); i++) {
		for (struct code_page *p = s->pages[i]; p; p = p->hash_next)
			page_flag(s, p->base, false);
		s->pages[i] = NULL;
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(s->hash); i++)
		s->hash[i] = NULL;
	s->arena_used = 0;
	if (!s->vcpu)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(s->vcpu->lookup); i++)
		s->vcpu->lookup[i].key = 0;
}

struct block *block_find(struct soft *s, gpa_t gpa, unsigned int code_size)
{
	struct block *b;

	soft_lock(s);
	for (b = *hash_slot(s, gpa, code_size); b; b = b->hash_next)
		if (b->gpa == gpa && b->code_size == code_size)
			break;
	soft_unlock(s);
	return b;
}

bool block_worthwhile(struct soft_vcpu *sv, gpa_t gpa)
{
	struct soft *s = sv->engine;
	struct code_page *p;
	bool yes = true;

	soft_lock(s);
	p = page_find(s, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
	if (p && p->drops >= DROPS_MAX) {
		yes = ++p->uncached >= UNCACHED_RUNS;
		if (yes)
			p->drops = p->uncached = 0;
	}
	soft_unlock(s);
	return yes;
}

void block_paid(struct soft *s, gpa_t gpa)
{
	struct code_page *p;

	soft_lock(s);
	p = page_find(s, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
	if (p)
		p->drops = 0;
	soft_unlock(s);
}

static struct code_page *page_make(struct soft *s, gpa_t base)
{
	struct code_page *p = page_find(s, base);

	if (p)
		return p;
	p = arena_alloc(s, sizeof(*p));
	if (!p)
		return NULL;
	*p = (struct code_page){ .base = base, .hash_next = *page_slot(s, base) };
	*page_slot(s, base) = p;
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

static uint64_t chunk_mask(unsigned int first, unsigned int last)
{
	unsigned int a = first >> CHUNK_SHIFT, z = last >> CHUNK_SHIFT;

	return (z == 63 ? ~0ULL : BIT(z + 1) - 1) & ~(BIT(a) - 1);
}

static void page_add(struct code_page *p, struct block *b, unsigned int which)
{
	unsigned int first, last;

	part_in_page(b, p->base, &first, &last);
	p->map |= chunk_mask(first, last);
	b->page_next[which] = p->blocks;
	p->blocks = b;
}

/* Room for a block and its pages; when there is none everything goes first. */
static struct block *block_alloc(struct soft *s, gpa_t gpa, gpa_t second, unsigned int count,
				 struct code_page *pages[2])
{
	uint64_t size = sizeof(struct block) + count * sizeof(struct insn);

	for (int tries = 0; tries < 2; tries++) {
		struct block *b = arena_alloc(s, size);

		pages[0] = page_make(s, ALIGN_DOWN(gpa, GUEST_PAGE_SIZE));
		pages[1] = second == GPA_NONE ? NULL : page_make(s, second);
		if (b && pages[0] && (pages[1] || second == GPA_NONE))
			return b;
		blocks_flush(s);
	}
	return NULL;
}

/* Before the bytes were read, the caller has marked and protected the pages. */
struct block *block_insert(struct soft_vcpu *sv, gpa_t gpa, gpa_t second, unsigned int len,
			   unsigned int count)
{
	struct soft *s = sv->engine;
	unsigned int code_size = sv->scratch[0].code_size;
	struct code_page *pages[2];
	struct block **slot, *b;

	soft_lock(s);
	b = block_alloc(s, gpa, second, count, pages);
	if (!b)
		goto out;
	b->gpa = gpa;
	b->second = second;
	b->len = len;
	b->count = count;
	b->code_size = code_size;
	b->dead = false;
	b->heat = 0;
	b->translation.block = NULL;
	for (unsigned int i = 0; i < count; i++)
		b->insn[i] = sv->scratch[i];
	slot = hash_slot(s, gpa, code_size);
	b->hash_next = *slot;
	*slot = b;
	page_add(pages[0], b, 0);
	page_flag(s, pages[0]->base, true);
	if (pages[1]) {
		page_add(pages[1], b, 1);
		page_flag(s, pages[1]->base, true);
	}
	sv->v->stats.blocks_decoded++;
out:
	soft_unlock(s);
	return b;
}

static int exec_stale(struct vcpu *v, const struct insn *i)
{
	(void)v;
	(void)i;
	return EXEC_STALE;
}

static void block_kill(struct soft *s, struct block *b)
{
	struct block **link = hash_slot(s, b->gpa, b->code_size);

	while (*link != b)
		link = &(*link)->hash_next;
	*link = b->hash_next;
	b->dead = true;
	for (unsigned int i = 0; i < b->count; i++)
		__atomic_store_n(&b->insn[i].exec, exec_stale, __ATOMIC_RELEASE);
}

/* Takes the dead out of the page's list and computes its map anew. */
static void page_sweep(struct soft *s, struct code_page *p)
{
	struct block *b = p->blocks, *next;

	p->blocks = NULL;
	p->map = 0;
	for (; b; b = next) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;

		next = b->page_next[which];
		if (!b->dead)
			page_add(p, b, which);
	}
	if (!p->blocks)
		page_flag(s, p->base, false);
}

static unsigned int page_write(struct soft *s, struct code_page *p, unsigned int first,
			       unsigned int last)
{
	unsigned int hit = 0;

	if (!(p->map & chunk_mask(first, last)))
		return 0;
	for (struct block *b = p->blocks; b; ) {
		unsigned int which = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) != p->base;
		unsigned int start, end;

		part_in_page(b, p->base, &start, &end);
		if (!b->dead && start <= last && end >= first) {
			block_kill(s, b);
			hit++;
		}
		b = b->page_next[which];
	}
	if (hit) {
		p->drops++;
		page_sweep(s, p);
	}
	return hit;
}

void blocks_code_write(void *arg, gpa_t gpa, uint64_t len)
{
	struct soft *s = arg;
	gpa_t end = gpa + len;
	unsigned int hit = 0;

	soft_lock(s);
	if (s->dbt)
		dbt_invalidate(s->dbt, gpa, len);
	while (gpa < end) {
		gpa_t base = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);
		gpa_t stop = MIN(end, base + GUEST_PAGE_SIZE);
		struct code_page *p = page_find(s, base);

		if (p && p->blocks)
			hit += page_write(s, p, gpa - base, stop - 1 - base);
		else	/* marked, but then nothing was kept */
			page_flag(s, base, false);
		gpa = stop;
	}
	if (s->vcpu)
		s->vcpu->v->stats.blocks_invalidated += hit;
	soft_unlock(s);
}
