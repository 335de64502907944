// SPDX-License-Identifier: Apache-2.0
/*
 * The code cache: one memfd mapped twice, writable and executable (never both at one
 * address), filled from the front and, with what hardly runs, from the middle, and emptied
 * whole when either half is full.  Blocks are found by guest address and guest-physical address, so they outlive address-space switches;
 * direct jumps between blocks of a page are chained by patching.
 */
#include "base/pages.h"
#include "cpu/fpu.h"
#include "engine/soft/dbt_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#define CACHE_MIN	(1ULL << 20)
#define HWCAP2_FSGSBASE	BIT(1)
#define BYTES_A_BLOCK	256	/* the least a block takes, stubs included, on average */

/* perf looks names up only for memory without a file: two mappings of shared anonymous memory. */
static int map_cache_anonymous(struct dbt *d, struct err *e)
{
	d->rw = mmap(NULL, d->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (d->rw != MAP_FAILED)	/* old size 0: maps the same pages once more */
		d->rx = mremap(d->rw, 0, d->size, MREMAP_MAYMOVE);
	if (d->rx == MAP_FAILED || mprotect(d->rx, d->size, PROT_READ | PROT_EXEC))
		return err_errno(e, errno, "could not map the code cache (is memory allowed to be executable here?)");
	return 0;
}

static int map_cache(struct dbt *d, struct err *e)
{
	if (d->cfg.perf_map)
		return map_cache_anonymous(d, e);
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

int dbt_create(struct dbt **out, struct gpa_space *s, const struct dbt_config *c, struct err *e)
{
	struct dbt *d;
	int rc;

	if (!__builtin_cpu_supports("bmi2") || !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		return err_set(e, ENOTSUP, "the translator needs a processor with BMI2 and a kernel that allows FSGSBASE");
	d = pages_alloc(sizeof(*d));
	if (!d)
		return err_set(e, ENOMEM, "out of memory for the translator");
	d->cfg = *c;
	d->space = s;
	d->fd = -1;
	d->rw = d->rx = MAP_FAILED;
	d->size = ALIGN_UP(MAX(c->cache_bytes, CACHE_MIN), 4096);
	d->block_max = d->size / BYTES_A_BLOCK;
	d->slot_max = d->block_max * 4;
	d->records = pages_alloc(d->size);
	d->blocks = pages_alloc(d->block_max * sizeof(*d->blocks));
	d->slots = pages_alloc(d->slot_max * sizeof(*d->slots));
	d->work = malloc(sizeof(*d->work));
	if (c->lockstep)
		d->lockstep = lockstep_create();
	if (d->records && d->blocks && d->slots && d->work && (d->lockstep || !c->lockstep))
		rc = map_cache(d, e);
	else
		rc = err_set(e, ENOMEM, "out of memory for the translator");
	if (!rc)
		rc = windows_create(d, c->windows, e);
	if (rc) {
		dbt_destroy(d);
		return rc;
	}
	dbt_emit_fixed(d);
	dbt_trap_init(d);
	dbt_perf_fixed(d);
	*out = d;
	return 0;
}

void dbt_destroy(struct dbt *d)
{
	if (!d)
		return;
	if (d->rw != MAP_FAILED)
		munmap(d->rw, d->size);
	if (d->rx != MAP_FAILED)
		munmap(d->rx, d->size);
	if (d->fd >= 0)
		close(d->fd);
	pages_free(d->records, d->size);
	pages_free(d->blocks, d->block_max * sizeof(*d->blocks));
	pages_free(d->slots, d->slot_max * sizeof(*d->slots));
	free(d->lockstep);
	free(d->work);
	windows_destroy(d);
	pages_free(d, sizeof(*d));
}

void dbt_flush(struct dbt *d)
{
	d->block_count = d->slot_count = 0;
	d->records_used = 0;
	for (unsigned int i = 0; i < BLOCK_HASH; i++)
		d->hash[i] = NULL;
	for (unsigned int i = 0; i < PAGE_HASH; i++)
		d->page[i] = NULL;
	d->next = d->first;
	d->next_cold = d->first_cold;
	jumps_clear(d);
	d->changed++;
	d->generation++;
	d->stats.flushes++;
}

/* Not by guest address: translations for all places of a page are in one list. */
static unsigned int block_hash(gpa_t gpa, uint32_t mode)
{
	uint64_t x = ((gpa << 7) ^ mode) * 0x9e3779b97f4a7c15ULL;

	return x >> 40 & (BLOCK_HASH - 1);
}

static unsigned int page_hash(gpa_t gpa)
{
	return (gpa >> GUEST_PAGE_SHIFT) & (PAGE_HASH - 1);
}

struct tblock *dbt_next(struct tblock *b, gpa_t gpa, uint32_t mode)
{
	while (b && (b->gpa != gpa || b->mode != mode))
		b = b->next_hash;
	return b;
}

struct tblock *dbt_first(struct dbt *d, gpa_t gpa, uint32_t mode)
{
	return dbt_next(d->hash[block_hash(gpa, mode)], gpa, mode);
}

struct tblock *dbt_find(struct dbt *d, gva_t gva, gpa_t gpa, uint32_t mode)
{
	struct tblock *b = dbt_first(d, gpa, mode);

	while (b && b->gva != gva)
		b = dbt_next(b->next_hash, gpa, mode);
	return b;
}

static gpa_t page_of(const struct tblock *b, unsigned int which)
{
	return which ? b->second : ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE);
}

void dbt_insert(struct dbt *d, struct tblock *b)
{
	struct tblock **h = &d->hash[block_hash(b->gpa, b->mode)];

	b->next_hash = *h;
	*h = b;
	for (unsigned int w = 0; w < 2 && page_of(b, w) != GPA_NONE; w++) {
		struct page_link *l = &b->page[w];

		l->block = b;
		l->page = page_of(b, w);
		l->next = d->page[page_hash(l->page)];
		l->link = &d->page[page_hash(l->page)];
		if (l->next)
			l->next->link = &l->next;
		*l->link = l;
	}
	d->stats.blocks++;
}

/* The block whose code holds @host_pc, or NULL.  Blocks lie in the order of their ids. */
struct tblock *dbt_block_at(struct dbt *d, const void *host_pc)
{
	const uint8_t *pc = host_pc;
	bool cold = pc >= d->first_cold + (d->rx - d->rw);
	unsigned int lo = 0, hi = d->block_count;

	while (lo < hi) {
		unsigned int mid = (lo + hi) / 2;
		struct tblock *b = d->blocks[mid];

		if (pc < (cold ? b->cold : b->code))
			hi = mid;
		else if (pc >= (cold ? b->cold_end : b->end))
			lo = mid + 1;
		else
			return b;
	}
	return NULL;
}

struct slot *dbt_slot(struct dbt *d)
{
	return &d->slots[d->slot_count++];
}

void dbt_link(struct slot *s, struct tblock *to, ptrdiff_t to_exec)
{
	s->to = to;
	s->next_in = to->in;
	s->link_in = &to->in;
	if (to->in)
		to->in->link_in = &s->next_in;
	to->in = s;
	emit_patch32(s->patch, to_exec, to->code);
}

/* The jump goes through its stub again. */
void dbt_unlink(struct dbt *d, struct slot *s)
{
	*s->link_in = s->next_in;
	if (s->next_in)
		s->next_in->link_in = s->link_in;
	s->to = NULL;
	s->far_link = false;
	emit_patch32(s->patch, d->rx - d->rw, s->stub);
}

/* A global page may be mapped anew: jumps from page to page are to be made again. */
void dbt_unlink_far(struct dbt *d)
{
	for (unsigned int i = 0; i < d->slot_count; i++)
		if (d->slots[i].far_link)
			dbt_unlink(d, &d->slots[i]);
}

static void unlink_hash(struct dbt *d, struct tblock *b)
{
	struct tblock **p = &d->hash[block_hash(b->gpa, b->mode)];

	while (*p != b)
		p = &(*p)->next_hash;
	*p = b->next_hash;
}

void dbt_kill(struct dbt *d, struct tblock *b)
{
	for (unsigned int w = 0; w < 2 && page_of(b, w) != GPA_NONE; w++) {
		*b->page[w].link = b->page[w].next;
		if (b->page[w].next)
			b->page[w].next->link = b->page[w].link;
	}
	unlink_hash(d, b);
	while (b->in)
		dbt_unlink(d, b->in);
	jumps_forget(d, b);
	b->dead = true;
	d->changed++;
	d->stats.invalidated++;
}

/* Does @b depend on a byte of [gpa, gpa+len), in its first or second page? */
static bool overlaps(const struct tblock *b, unsigned int w, gpa_t gpa, uint64_t len)
{
	gpa_t first = b->gpa, end = b->gpa + b->size;
	gpa_t boundary = ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE) + GUEST_PAGE_SIZE;

	if (w) {
		first = b->second;
		end = b->second + (end - boundary);
	} else {
		end = MIN(end, boundary);
	}
	return gpa < end && first < gpa + len;
}

void dbt_invalidate(struct dbt *d, gpa_t gpa, uint64_t len)
{
	for (gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE); page < gpa + len; page += GUEST_PAGE_SIZE) {
		struct page_link *l = d->page[page_hash(page)], *next;

		for (; l; l = next) {
			struct tblock *b = l->block;

			next = l->next;
			if (l->page != page || !overlaps(b, l == &b->page[1], gpa, len))
				continue;
			/* Both of its places may be in this very list. */
			if (next && next->block == b)
				next = next->next;
			dbt_kill(d, b);
		}
	}
}

void dbt_cover(const struct dbt *d, gpa_t page, uint64_t bytes[GUEST_PAGE_SIZE / 64])
{
	for (const struct page_link *l = d->page[page_hash(page)]; l; l = l->next) {
		const struct tblock *b = l->block;
		unsigned int first = b->gpa & GUEST_PAGE_MASK, end = first + b->size;

		if (l->page != page)
			continue;
		if (l == &b->page[1]) {
			first = 0;
			end -= GUEST_PAGE_SIZE;
		}
		end = MIN(end, GUEST_PAGE_SIZE);
		for (unsigned int n = first / 64; n * 64 < end; n++) {
			unsigned int a = MAX(first, n * 64) % 64, z = (MIN(end, n * 64 + 64) - 1) % 64;

			bytes[n] |= ~0ULL << a & ~0ULL >> (63 - z);
		}
	}
}

void dbt_watch(struct vcpu *v, bool on)
{
	dbt_hot(v)->watch = on;
}

/* What the present state makes a translation depend on. */
uint32_t dbt_mode(const struct vcpu *v)
{
	uint32_t mode = v->cpl ? MODE_USER : 0;

	if (v->cr4 & CR4_TSD && v->cpl)
		mode |= MODE_TSD;
	if (v->cr4 & CR4_FSGSBASE)
		mode |= MODE_FSGSBASE;
	if (!(v->cr0 & (CR0_TS | CR0_EM)) && v->cr4 & CR4_OSFXSR) {
		mode |= MODE_SSE;
		if (v->cr4 & CR4_OSXSAVE && v->xcr0 & XCR0_AVX)
			mode |= MODE_AVX;
		if (mode & MODE_AVX && (v->xcr0 & XCR0_AVX512) == XCR0_AVX512)
			mode |= MODE_AVX512;
	}
	if (v->tlb.window.active)
		mode |= MODE_WINDOW;
	if (unlikely(v->code_size != CODE_64))
		mode |= code32_mode(v);
	return mode;
}

/* Enough room for one more block; else everything goes. */
void dbt_make_room(struct dbt *d)
{
	if (d->next + BLOCK_ROOM > d->first_cold ||
	    d->next_cold + BLOCK_ROOM > d->rw + d->size || d->records_used + BLOCK_ROOM > d->size ||
	    d->block_count == d->block_max ||
	    d->slot_count + 2 * TBLOCK_INSNS > d->slot_max)
		dbt_flush(d);
}

struct tblock *dbt_get(struct dbt *d, struct vcpu *v, gpa_t gpa)
{
	struct tblock *b = dbt_find(d, v->rip, gpa, dbt_mode(v));
	uint64_t begin;

	if (b)
		return b;
	vcpu_does(v, VCPU_TRANSLATION);
	begin = __builtin_ia32_rdtsc();
	b = dbt_translate(d, v, v->rip, gpa);
	if (v->tlb.window.active)
		v->tlb.window.spent += __builtin_ia32_rdtsc() - begin;
	vcpu_does(v, VCPU_GUEST);
	return b;
}

struct tblock *dbt_known(struct dbt *d, struct vcpu *v, gpa_t gpa)
{
	uint32_t mode = dbt_mode(v);
	struct tblock *b = dbt_find(d, v->rip, gpa, mode);

	if (!b)
		b = dbt_move(d, v, gpa, mode);
	if (b && b->id_at)
		dbt_adopt(d, v, b);
	if (!b && mode & MODE_WINDOW && dbt_find(d, v->rip, gpa, mode & ~MODE_WINDOW))
		b = dbt_get(d, v, gpa);
	return b;
}

void dbt_count_step(struct dbt *d, const struct insn *i)
{
	d->stats.stepped[i->info ? i->info->id : INSN_ID_NONE]++;
}

const struct dbt_stats *dbt_get_stats(const struct dbt *d)
{
	return &d->stats;
}

/* Its bottom, or 0; guard pages on both sides: overflow and a stray return fault. */
static uint64_t map_private_stack(void)
{
	uint8_t *stack = mmap(NULL, PRIVATE_STACK + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
			      -1, 0);

	if (stack == MAP_FAILED || mprotect(stack + 4096, PRIVATE_STACK, PROT_READ | PROT_WRITE))
		return 0;
	return (uint64_t)stack + 4096 + PRIVATE_STACK - 64;
}

static void unmap_private_stack(uint64_t base)
{
	if (base)
		munmap((void *)(base + 64 - PRIVATE_STACK - 4096), PRIVATE_STACK + 2 * 4096);
}

int dbt_vcpu_init(struct dbt *d, struct vcpu *v, struct err *e)
{
	struct dbt_hot *hot = dbt_hot(v);

	atomic_store(&v->calm, 0);
	hot->private_base = map_private_stack();
	hot->other_base = map_private_stack();
	if (!hot->private_base || !hot->other_base) {
		dbt_vcpu_destroy(d, v);
		return err_errno(e, ENOMEM, "could not map the translator's stack");
	}
	hot->offset_mask = GUEST_PAGE_MASK;
	hot->flags_mask = RFLAGS_ARITH;
	hot->pushf_mask = ~(RFLAGS_ARITH | RFLAGS_VM | RFLAGS_RF);
	hot->not_if = ~RFLAGS_IF;
	hot->not_ac = ~RFLAGS_AC;
	hot->not_df = ~RFLAGS_DF;
	hot->sign_mask = 0x1ffffULL << 47;
	jumps_init(d, hot);
	for (unsigned int i = 0; i < 256; i++)
		hot->in_chunk[i] = 1;
	for (unsigned int i = 0; i < GUEST_PAGE_SIZE; i++)
		hot->in_page[i] = 1;
	dbt_empty_private_stack(d, v);
	return 0;
}

void dbt_vcpu_destroy(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);

	(void)d;
	unmap_private_stack(hot->private_base);
	unmap_private_stack(hot->other_base);
	/* As vcpu_alloc() gave it, for the next translator of this processor. */
	__builtin_memset(hot, 0, sizeof(*hot));
}
