// SPDX-License-Identifier: Apache-2.0
/*
 * Windows over the host's page tables; see window.h.
 *
 * Nothing here allocates from libc or uses SIMD registers: the guest's may be live.
 */
#include "cpu/window.h"

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "cpu/tlb_priv.h"

#include <sys/mman.h>

#define TIB		BIT(40)
#define CHECKS_BYTES	(BIT(16) << WINDOW_CHECK_SHIFT)
#define CLUSTER		16		/* pages that are mapped together */
#define REGIONS_MAX	4096U
#define CHANGES_MAX	48000U		/* of all vCPUs; each may make two mappings more of one, ... */
#define CHANGE		2U		/* ... of which the host allows some 65,000 */

_Static_assert(sizeof(struct vcpu) <= VCPU_CHECKS, "the checks begin behind struct vcpu");

/* The ranges of guest addresses. */
static const struct range {
	gva_t start, end;
	bool high;
} ranges[] = {
	{ 0, WINDOW_LOW_END, false },
	{ 0x54 * TIB, 0x58 * TIB, true },
	{ 0x7e * TIB, 0x80 * TIB, true },
};

/* --- the vCPU's memory --- */

struct vcpu *vcpu_alloc(void)
{
	struct vcpu *v = mmap(NULL, VCPU_CHECKS + CHECKS_BYTES, PROT_NONE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);

	if (v == MAP_FAILED)
		return NULL;
	madvise(v, VCPU_CHECKS, MADV_NOHUGEPAGE);
	if (mprotect(v, VCPU_CHECKS, PROT_READ | PROT_WRITE)) {
		munmap(v, VCPU_CHECKS + CHECKS_BYTES);
		return NULL;
	}
	v->has_checks = true;
	return v;
}

void vcpu_free(struct vcpu *v)
{
	if (v)
		munmap(v, VCPU_CHECKS + CHECKS_BYTES);
}

/* --- making windows --- */

static uint64_t constant(const struct window_set *w, const struct range *r)
{
	return r->high ? w->high : w->low;
}

static bool reserve(uint64_t at, uint64_t bytes)
{
	void *want = (void *)(at - WINDOW_GUARD);
	void *p = mmap(want, bytes + 2 * WINDOW_GUARD, PROT_NONE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	if (p != want) {	/* an old kernel, which takes it for a hint */
		munmap(p, bytes + 2 * WINDOW_GUARD);
		return false;
	}
	madvise(p, bytes + 2 * WINDOW_GUARD, MADV_DONTDUMP);
	return true;
}

static void unreserve(uint64_t at, uint64_t bytes)
{
	munmap((void *)(at - WINDOW_GUARD), bytes + 2 * WINDOW_GUARD);
}

/*
 * A low window from 45 TiB on, so that low + a high address, less the guard, is beyond user
 * space; a high one whose constant takes low addresses below zero.
 */
static bool reserve_low(struct window_set *w)
{
	for (uint64_t at = 0x52 * TIB; at >= 0x2d * TIB; at -= WINDOW_GUARD)
		if (reserve(at, WINDOW_LOW_END)) {
			w->low = at;
			return !mprotect(window_fs_save(at), GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE);
		}
	return false;
}

static bool reserve_high(struct window_set *w)
{
	const uint64_t first = ranges[1].end - ranges[1].start, apart = ranges[2].start - ranges[1].start;

	for (uint64_t at = 2 * TIB; at + apart + 3 * TIB < 0x54 * TIB; at += TIB) {
		if (!reserve(at, first))
			continue;
		if (reserve(at + apart, ranges[2].end - ranges[2].start)) {
			w->high = at - ranges[1].start;
			return true;
		}
		unreserve(at, first);
	}
	return false;
}

static void destroy_set(struct window_set *w)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ranges); i++)
		if (constant(w, &ranges[i]))
			unreserve(ranges[i].start + constant(w, &ranges[i]),
				  ranges[i].end - ranges[i].start);
	tlb_release(w->mapped, BIT(REGION_BITS) * sizeof(*w->mapped));
	tlb_release(w->used, BIT(REGION_BITS));
	tlb_release(w->regions, REGIONS_MAX * sizeof(*w->regions));
	*w = (struct window_set){ 0 };
}

static bool init_set(struct tlb_window *all, struct window_set *w)
{
	w->all = all;
	if (reserve_low(w) && reserve_high(w)) {
		w->mapped = tlb_reserve(BIT(REGION_BITS) * sizeof(*w->mapped), PROT_READ | PROT_WRITE);
		w->used = tlb_reserve(BIT(REGION_BITS), PROT_READ | PROT_WRITE);
		w->regions = tlb_reserve(REGIONS_MAX * sizeof(*w->regions), PROT_READ | PROT_WRITE);
	}
	if (w->mapped && w->used && w->regions)
		return true;
	destroy_set(w);
	return false;
}

/* Addresses in @r pass the check. */
static bool open_checks(struct vcpu *v, const struct range *r)
{
	uint8_t *checks = (uint8_t *)v + VCPU_CHECKS;

	return !mprotect(checks + (r->start >> WINDOW_CHECK_BIT << WINDOW_CHECK_SHIFT),
			 (r->end - r->start) >> WINDOW_CHECK_BIT << WINDOW_CHECK_SHIFT, PROT_READ);
}

static void use_constants(struct tlb_window *w, const struct window_set *set)
{
	w->low = set->low;
	w->high = set->high;
	for (const struct range *r = ranges; r < ranges + ARRAY_SIZE(ranges); r++)
		for (uint64_t i = r->start >> WINDOW_TIB_BIT; i < r->end >> WINDOW_TIB_BIT; i++)
			w->constant[i] = constant(set, r);
}

unsigned int window_sets(unsigned int cpus)
{
	return cpus > WINDOW_CPUS ? 0 : MAX(WINDOW_SETS / cpus, 1U);
}

void window_init(struct vcpu *v)
{
	struct tlb_window *w = &v->tlb.window;

	if (!v->has_checks)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(ranges); i++)
		if (!open_checks(v, &ranges[i]))
			return;
	while (w->sets < window_sets(v->model->cpus) && init_set(w, &w->set[w->sets]))
		w->sets++;
	w->changes_max = CHANGES_MAX / v->model->cpus;
	if (w->sets)
		use_constants(w, &w->set[0]);
}

void window_destroy(struct vcpu *v)
{
	struct tlb_window *w = &v->tlb.window;

	for (unsigned int i = 0; i < w->sets; i++)
		destroy_set(&w->set[i]);
	w->low = w->high = w->sets = 0;
	w->now = NULL;
}

/* --- what they show --- */

static const struct range *range_of(gva_t gva)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ranges); i++)
		if (gva - ranges[i].start < ranges[i].end - ranges[i].start)
			return &ranges[i];
	return NULL;
}

bool window_covers(gva_t gva)
{
	return range_of(gva) != NULL;
}

bool window_gva(const struct tlb_window *w, uint64_t hva, gva_t *gva)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(ranges); i++) {
		*gva = hva - (ranges[i].high ? w->high : w->low);
		if (*gva - ranges[i].start < ranges[i].end - ranges[i].start)
			return true;
	}
	return false;
}

static void hide(struct window_set *w, uint64_t at, uint64_t bytes)
{
	uint64_t start = __builtin_ia32_rdtsc();

	mmap((void *)at, bytes, PROT_NONE,
	     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
	w->changes += CHANGE;
	w->all->changes += CHANGE;
	w->all->spent += __builtin_ia32_rdtsc() - start;
}

static bool any_mapped(const struct window_set *w, uint64_t region)
{
	uint64_t any = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(w->mapped[region]); i++)
		any |= w->mapped[region][i];
	return any;
}

void window_drop_all(struct window_set *w)
{
	if (!w->region_count)
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(ranges); i++)
		hide(w, ranges[i].start + constant(w, &ranges[i]), ranges[i].end - ranges[i].start);
	for (unsigned int i = 0; i < w->region_count; i++) {
		w->used[w->regions[i]] = 0;
		zero_entries(w->mapped[w->regions[i]], ARRAY_SIZE(w->mapped[0]));
	}
	w->all->changes -= w->changes;
	w->region_count = w->changes = 0;
	w->emptied++;
}

/* It stays listed: other pages of it come again soon. */
void window_drop_region(struct window_set *w, uint64_t region)
{
	gva_t gva = region * REGION_PAGES << GUEST_PAGE_SHIFT;
	const struct range *r = range_of(gva);

	if (!r || !any_mapped(w, region))
		return;
	hide(w, gva + constant(w, r), REGION_PAGES * GUEST_PAGE_SIZE);
	zero_entries(w->mapped[region], ARRAY_SIZE(w->mapped[region]));
}

void window_drop_page(struct window_set *w, uint64_t index)
{
	gva_t gva = index << GUEST_PAGE_SHIFT;
	const struct range *r = range_of(gva);
	uint64_t *word, bit = BIT(index % 64);

	if (!r)
		return;
	word = &w->mapped[tlb_region(index)][index % REGION_PAGES / 64];
	if (!(*word & bit))
		return;
	hide(w, gva + constant(w, r), GUEST_PAGE_SIZE);
	*word &= ~bit;
}

/* --- whose they are --- */

void window_select(struct vcpu *v, struct window_set *set)
{
	struct tlb_window *w = &v->tlb.window;

	w->now = set;
	w->expected = 0;
	if (set)
		use_constants(w, set);
}

void window_take(struct vcpu *v, struct window_set *set)
{
	window_drop_all(set);
	if (!set->owner)
		return;
	set->owner->rec.window = NULL;
	set->owner = NULL;
	tlb_select_view(v);
}

void window_give(struct vcpu *v, struct window_set *set)
{
	window_take(v, set);
	set->owner = v->tlb.current;
	set->owner->rec.window = set;
	tlb_select_view(v);
}

/* --- filling --- */

/* Pages around index that are as this one: the same distance to host memory, writable or not. */
static void find_run(const struct tlb_view *view, uint64_t index, uint64_t *first, uint64_t *end)
{
	const int64_t *read = view->table[TLB_READ], *write = view->table[TLB_WRITE];
	uint64_t low = ALIGN_DOWN(index, (uint64_t)CLUSTER), high = low + CLUSTER;

	*first = index;
	*end = index + 1;
	while (*first > low && read[*first - 1] == read[index] && write[*first - 1] == write[index])
		--*first;
	while (*end < high && read[*end] == read[index] && write[*end] == write[index])
		++*end;
}

static bool map_run(struct vcpu *v, const struct range *r, uint64_t first, uint64_t end,
		    int64_t delta, bool write)
{
	gva_t gva = first << GUEST_PAGE_SHIFT;
	uint8_t *hva = (uint8_t *)(gva + delta);
	void *at = (void *)(gva + constant(v->tlb.window.now, r));

	for (unsigned int i = 0; i < v->space->ram_count; i++) {
		const struct ram_extent *x = &v->space->ram[i];

		if (hva >= x->hva && hva < x->hva + x->size)
			return mmap(at, (end - first) << GUEST_PAGE_SHIFT,
				    PROT_READ | (write ? PROT_WRITE : 0),
				    MAP_SHARED | MAP_FIXED | MAP_POPULATE, x->fd, hva - x->hva) == at;
	}
	return false;
}

/* A run, which is in one region, is going to be mapped. */
static void note_run(struct window_set *w, uint64_t first, uint64_t end)
{
	uint64_t region = tlb_region(first);

	if (w->all->changes >= w->all->changes_max)
		for (unsigned int i = 0; i < w->all->sets; i++)
			window_drop_all(&w->all->set[i]);
	if (!w->used[region] && w->region_count == REGIONS_MAX)
		window_drop_all(w);
	if (!w->used[region]) {
		w->used[region] = 1;
		w->regions[w->region_count++] = region;
	}
	for (uint64_t i = first; i < end; i++)
		w->mapped[region][i % REGION_PAGES / 64] |= BIT(i % 64);
	w->changes += CHANGE;
	w->all->changes += CHANGE;
}

bool window_fill(struct vcpu *v, gva_t gva)
{
	const struct tlb_view *view = &v->tlb.current->view[VIEW_USER];
	struct tlb_window *w = &v->tlb.window;
	const struct range *r = range_of(gva);
	uint64_t index = tlb_index(gva), first, end;
	uint64_t start = __builtin_ia32_rdtsc();
	int64_t delta;
	bool done;

	if (!r || !(delta = view->table[TLB_READ][index]))
		return false;
	find_run(view, index, &first, &end);
	note_run(w->now, first, end);
	done = map_run(v, r, first, end, delta, view->table[TLB_WRITE][index] != 0);
	w->spent += __builtin_ia32_rdtsc() - start;
	return done;
}

void window_fill_expected(struct vcpu *v)
{
	gva_t gva = v->tlb.window.expected;
	gpa_t gpa;
	void *hva;

	v->tlb.window.expected = 0;
	if (gva_to_gpa(v, gva, ACC_PROBE, &gpa) == MEM_OK &&
	    mem_fill(v, gva, 1, ACC_READ, &hva) == MEM_OK && hva)
		window_fill(v, gva);
	v->fault = (struct fault){ 0 };		/* nobody is told */
}
