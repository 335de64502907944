// SPDX-License-Identifier: Apache-2.0
/*
 * What is known of translations: blocks are found by guest address and guest-physical address,
 * so they outlive address-space switches; direct jumps between blocks of a page are chained by
 * patching.  Their memory is in dbt_part.c.
 */
#include "base/pages.h"
#include "cpu/fpu.h"
#include "engine/soft/dbt_tr.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define DBT_BYTES	MAX(sizeof(struct dbt), 2UL << 20)	/* so that it is in a huge page */

int dbt_create(struct dbt **out, struct gpa_space *s, const struct dbt_config *c, struct err *e)
{
	struct dbt *d;
	int rc;

	if (!__builtin_cpu_supports("bmi2") || !(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		return err_set(e, ENOTSUP, "the translator needs a processor with BMI2 and a kernel that allows FSGSBASE");
	d = pages_alloc(DBT_BYTES);
	if (!d)
		return err_set(e, ENOMEM, "out of memory for the translator");
	d->cfg = *c;
	d->space = s;
	d->fd = -1;
	d->rw = d->rx = MAP_FAILED;
	d->work = malloc(sizeof(*d->work));
	if (c->lockstep)
		d->lockstep = lockstep_create();
	if (d->work && (d->lockstep || !c->lockstep))
		rc = parts_create(d, e);
	else
		rc = err_set(e, ENOMEM, "out of memory for the translator");
	if (!rc)
		rc = windows_create(d, c->windows, e);
	if (rc) {
		dbt_destroy(d);
		return rc;
	}
	dbt_trap_init(d);
	*out = d;
	return 0;
}

void dbt_destroy(struct dbt *d)
{
	if (!d)
		return;
	parts_destroy(d);
	free(d->lockstep);
	free(d->work);
	windows_destroy(d);
	pages_free(d, DBT_BYTES);
}

/* Not by guest address: translations for all places of a page are in one list. */
static uint64_t block_hash(gpa_t gpa, uint32_t mode)
{
	return ((gpa << 7) ^ mode) * 0x9e3779b97f4a7c15ULL;
}

static struct bucket *bucket_of(struct dbt *d, uint64_t hash)
{
	return &d->hash[hash >> 40 & (BLOCK_HASH - 1)];
}

/* A bit that most other blocks of a bucket do not have: what is not there is rarely looked for. */
static uint32_t kind_of(uint64_t hash)
{
	return BIT(hash >> 35 & 31);
}

static unsigned int page_hash(gpa_t gpa)
{
	return (gpa >> GUEST_PAGE_SHIFT) & (PAGE_HASH - 1);
}

static struct tblock *find_from(struct dbt *d, uint32_t place, gpa_t gpa, uint32_t mode)
{
	struct tblock *b = block_at_place(d, place);

	while (b && (b->gpa != gpa || b->mode != mode))
		b = block_at_place(d, b->next_hash);
	return b;
}

struct tblock *dbt_next(struct dbt *d, const struct tblock *b)
{
	return find_from(d, b->next_hash, b->gpa, b->mode);
}

struct tblock *dbt_first(struct dbt *d, gpa_t gpa, uint32_t mode)
{
	uint64_t hash = block_hash(gpa, mode);
	const struct bucket *bucket = bucket_of(d, hash);

	return bucket->kinds & kind_of(hash) ? find_from(d, bucket->first, gpa, mode) : NULL;
}

struct tblock *dbt_find(struct dbt *d, gva_t gva, gpa_t gpa, uint32_t mode)
{
	struct tblock *b = dbt_first(d, gpa, mode);

	while (b && b->gva != gva)
		b = dbt_next(d, b);
	return b;
}

static gpa_t page_of(const struct tblock *b)
{
	return ALIGN_DOWN(b->gpa, GUEST_PAGE_SIZE);
}

static struct tblock *block_of(struct page_link *l)
{
	return container_of(l, struct tblock, page);
}

static struct crossing *crossing_at(struct page_link *l)
{
	return container_of(l, struct crossing, page);
}

static struct page_link **second_list(struct dbt *d, gpa_t page)
{
	return &d->second[page >> GUEST_PAGE_SHIFT & (SECOND_HASH - 1)];
}

static void list_add(struct page_link **list, struct page_link *l)
{
	l->next = *list;
	l->link = list;
	if (l->next)
		l->next->link = &l->next;
	*list = l;
}

static void list_remove(struct page_link *l)
{
	*l->link = l->next;
	if (l->next)
		l->next->link = l->link;
}

void dbt_insert(struct dbt *d, struct tblock *b)
{
	uint64_t hash = block_hash(b->gpa, b->mode);
	struct bucket *bucket = bucket_of(d, hash);

	b->next_hash = bucket->first;
	bucket->first = place_of_block(d, b);
	bucket->kinds |= kind_of(hash);
	list_add(&d->page[page_hash(b->gpa)], &b->page);
	if (b->crossing_at)
		list_add(second_list(d, crossing_of(b)->second), &crossing_of(b)->page);
	cell_take(d, b);
	d->stats.blocks++;
}

struct slot *dbt_slot(struct dbt *d)
{
	return &d->slots[d->slot_count++];
}

bool slot_is_far(const struct dbt *d, const struct slot *s)
{
	return (slot_from(d, s)->gva ^ slot_target(d, s)) >> GUEST_PAGE_SHIFT;
}

void dbt_link(struct dbt *d, struct slot *s, struct tblock *to)
{
	bool far = to->mode & MODE_USER && slot_is_far(d, s);
	uint32_t id = s - d->slots + 1;

	s->to = place_of_block(d, to);
	s->next_in = to->in;
	s->before_in = 0;
	if (to->in)
		d->slots[to->in - 1].before_in = id;
	to->in = id;
	emit_patch32(d->rw + s->patch, d->rx - d->rw, far ? far_entry(to) : to->code);
}

/* The jump leaves the cache again. */
void dbt_unlink(struct dbt *d, struct slot *s)
{
	if (s->before_in)
		d->slots[s->before_in - 1].next_in = s->next_in;
	else
		block_at_place(d, s->to)->in = s->next_in;
	if (s->next_in)
		d->slots[s->next_in - 1].before_in = s->before_in;
	s->to = 0;
	s->far_link = false;
	emit_patch32(d->rw + s->patch, d->rx - d->rw,
		     block_cold(slot_from(d, s)) + s->unchained);
}

/* A global page may be mapped anew: jumps from page to page are to be made again. */
void dbt_unlink_far(struct dbt *d)
{
	for (unsigned int n = 0; n < d->parts; n++)
		for (unsigned int i = d->part[n].first_slot; i < d->part[n].slot_count; i++)
			if (d->slots[i].far_link)
				dbt_unlink(d, &d->slots[i]);
}

static void unlink_hash(struct dbt *d, struct tblock *b)
{
	struct bucket *bucket = bucket_of(d, block_hash(b->gpa, b->mode));
	uint32_t *p = &bucket->first, place = place_of_block(d, b);

	while (*p != place)
		p = &block_at_place(d, *p)->next_hash;
	*p = b->next_hash;
	if (!bucket->first)
		bucket->kinds = 0;
}

void dbt_forget(struct dbt *d, struct tblock *b)
{
	list_remove(&b->page);
	if (b->crossing_at)
		list_remove(&crossing_of(b)->page);
	unlink_hash(d, b);
	cell_drop(d, b);
	while (b->in)
		dbt_unlink(d, &d->slots[b->in - 1]);
	b->dead = true;
}

void dbt_kill(struct dbt *d, struct tblock *b)
{
	dbt_forget(d, b);
	jumps_forget(d, b);
	d->changed++;
	d->stats.invalidated++;
}

/* The bytes of @b in its first page, or in the second: from the page's beginning. */
static void extent(const struct tblock *b, bool second, unsigned int *first, unsigned int *end)
{
	*first = second ? 0 : b->gpa & GUEST_PAGE_MASK;
	*end = (b->gpa & GUEST_PAGE_MASK) + b->size;
	*end = second ? *end - GUEST_PAGE_SIZE : MIN(*end, GUEST_PAGE_SIZE);
}

/* @b, of which a part is in @page, if it depends on a byte of [gpa, gpa+len) there. */
static void kill_if_hit(struct dbt *d, struct tblock *b, bool second, gpa_t page, gpa_t gpa,
			uint64_t len)
{
	unsigned int first, end;

	extent(b, second, &first, &end);
	if (gpa >= page + end || page + first >= gpa + len)
		return;
	dbt_kill(d, b);
	sleep_begin(d, b);
}

static void invalidate_page(struct dbt *d, gpa_t page, gpa_t gpa, uint64_t len)
{
	struct page_link *l, *next;

	for (l = d->page[page_hash(page)]; l; l = next) {
		next = l->next;
		if (page_of(block_of(l)) == page)
			kill_if_hit(d, block_of(l), false, page, gpa, len);
	}
	for (l = *second_list(d, page); l; l = next) {
		next = l->next;
		if (crossing_at(l)->second == page)
			kill_if_hit(d, crossing_at(l)->block, true, page, gpa, len);
	}
}

void dbt_invalidate(struct dbt *d, gpa_t gpa, uint64_t len)
{
	for (gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE); page < gpa + len; page += GUEST_PAGE_SIZE)
		invalidate_page(d, page, gpa, len);
}

void dbt_suspend(struct dbt *d, gpa_t page)
{
	struct page_link *l, *next;

	for (l = d->page[page_hash(page)]; l; l = next) {
		struct tblock *b = block_of(l);

		next = l->next;
		if (page_of(b) != page)
			continue;
		d->cfg.evicted(d->cfg.arg, b->gpa);
		dbt_kill(d, b);
		sleep_begin(d, b);
	}
	invalidate_page(d, page, page, GUEST_PAGE_SIZE);	/* what only ends there */
}

static void cover(const struct tblock *b, bool second, uint64_t bytes[GUEST_PAGE_SIZE / 64])
{
	unsigned int first, end;

	extent(b, second, &first, &end);
	for (unsigned int n = first / 64; n * 64 < end; n++) {
		unsigned int a = MAX(first, n * 64) % 64, z = (MIN(end, n * 64 + 64) - 1) % 64;

		bytes[n] |= ~0ULL << a & ~0ULL >> (63 - z);
	}
}

void dbt_cover(struct dbt *d, gpa_t page, uint64_t bytes[GUEST_PAGE_SIZE / 64])
{
	struct page_link *l;

	for (l = d->page[page_hash(page)]; l; l = l->next)
		if (page_of(block_of(l)) == page)
			cover(block_of(l), false, bytes);
	for (l = *second_list(d, page); l; l = l->next)
		if (crossing_at(l)->second == page)
			cover(crossing_at(l)->block, true, bytes);
}

void dbt_watch(struct vcpu *v, bool on)
{
	dbt_hot(v)->watch = on;
}

uint32_t dbt_mode64(const struct vcpu *v, bool user)
{
	uint32_t mode = user ? MODE_USER : 0;

	if (v->cr4 & CR4_TSD && user)
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
	return mode;
}

/* What the present state makes a translation depend on. */
uint32_t dbt_mode(const struct vcpu *v)
{
	uint32_t mode = dbt_mode64(v, v->cpl);

	if (v->tlb.window.active)
		mode |= MODE_WINDOW;
	if (unlikely(v->code_size != CODE_64))
		mode |= code32_mode(v);
	return mode;
}

struct tblock *dbt_get(struct dbt *d, struct vcpu *v, gpa_t gpa)
{
	struct tblock *b = dbt_find(d, v->rip, gpa, dbt_mode(v));

	if (b)
		return b;
	vcpu_does(v, VCPU_TRANSLATION);
	b = dbt_translate(d, v, v->rip, gpa);
	vcpu_does(v, VCPU_GUEST);
	return b;
}

struct tblock *dbt_known(struct dbt *d, struct vcpu *v, gpa_t gpa)
{
	uint32_t mode = dbt_mode(v);
	struct tblock *b = dbt_find(d, v->rip, gpa, mode);

	if (!b)
		b = dbt_move(d, v, gpa, mode);
	if (b && b->crossing_at && crossing_of(b)->id_at)
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

	if (!v->has_checks)
		return err_set(e, ENOTSUP, "the translator needs the processor's state below 2 GiB");
	vcpu_disturb(v);
	d->vcpu = v;
	d->hot = hot;
	for (unsigned int user = 0; user < 2; user++) {
		hot->side[user].stack_base = map_private_stack();
		hot->side[user].tag = NO_TAG;
	}
	if (!hot->side[0].stack_base || !hot->side[1].stack_base) {
		dbt_vcpu_destroy(d, v);
		return err_errno(e, ENOMEM, "could not map the translator's stack");
	}
	hot->offset_mask = GUEST_PAGE_MASK;
	hot->flags_mask = RFLAGS_ARITH;
	hot->pushf_mask = ~(RFLAGS_ARITH | RFLAGS_VM | RFLAGS_RF);
	hot->not_if = ~RFLAGS_IF;
	hot->not_ac = ~RFLAGS_AC;
	hot->not_df = ~RFLAGS_DF;
	hot->df_mask = RFLAGS_DF;
	hot->page_mask = ~(uint64_t)GUEST_PAGE_MASK;
	for (unsigned int i = 0; i < ARRAY_SIZE(hot->run_mask); i++)
		hot->run_mask[i] = -(uint64_t)(STRING_RUN_MAX >> i);
	hot->sign_mask = 0x1ffffULL << 47;
	hot->bit_far[0] = BIT(31);
	hot->bit_far[1] = -BIT(31);
	hot->bit_unit[0] = BIT(31) - BIT(5);
	hot->bit_unit[1] = BIT(31) - BIT(6);
	hot->bit_in[0] = BIT(5) - 1;
	hot->bit_in[1] = BIT(6) - 1;
	hot->tib_mask = (uint64_t)(WINDOW_TIBS - 1) << WINDOW_TIB_BIT;
	dbt_emit_fixed(d, v);
	parts_init(d);
	dbt_perf_fixed(d);
	jumps_init(d, hot);
	again_forget(hot);
	cells_expire(hot);
	for (unsigned int i = 0; i < 256; i++)
		hot->in_chunk[i] = 1;
	for (unsigned int i = 0; i < GUEST_PAGE_SIZE; i++)
		hot->in_page[i] = 1;
	dbt_empty_private_stacks(d);
	return 0;
}

void dbt_vcpu_destroy(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);

	(void)d;
	unmap_private_stack(hot->side[0].stack_base);
	unmap_private_stack(hot->side[1].stack_base);
	/* As vcpu_alloc() gave it, for the next translator of this processor. */
	__builtin_memset(hot, 0, sizeof(*hot));
}
