// SPDX-License-Identifier: Apache-2.0
/*
 * The software TLB: filling, flushing and selecting the tables of tlb.h.
 *
 * More may be dropped than the manual asks for, never less.  What mmu.h declares runs on
 * the vCPU's thread with SIMD state live, but for tlb_init and tlb_destroy.
 *
 * Source: Intel SDM volume 3, "Caching Translation Information".
 */
#include "cpu/cell_map.h"
#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "cpu/tlb_priv.h"

#include <errno.h>
#include <sys/mman.h>

#define TIB		1024ULL	/* in GiB */
#define HOST_GIB	(120 * TIB)	/* of a process's 128 TiB, for tables */
#define SPACE_GIB	(3 * TIB)
#define OTHERS_GIB	640	/* the kernel's half, slots of windows */
#define STALE_LEAST	64	/* regions with memory behind them, ... */
#define STALE_TIMES	3	/* ... so many times those in use: it is given back at a flush */
#define EMPTY_MISSES 4096	/* then the memory behind the empty table is given back */

/* --- filling --- */

void tlb_note_miss(struct vcpu *v, enum tlb_view_kind kind, gva_t gva)
{
	struct tlb *t = &v->tlb;
	uint64_t index = tlb_index(gva), region = tlb_region(index);
	bool upper = t->kernel->shared && kind != VIEW_USER && (index & UPPER_INDEX);
	struct tlb_record *r = upper ? &t->kernel->rec : &t->current->rec;

	if (unlikely(v->view->table[TLB_READ] == t->empty.table[TLB_READ]) &&
	    ++t->empty_misses == EMPTY_MISSES) {
		madvise(t->empty.table[TLB_READ], TABLE_BYTES, MADV_DONTNEED);
		t->empty_misses = 0;
	}
	if (likely(r->flags[region] & REGION_RESIDENT))
		return;
	if (r->resident == r->limit) {
		if (upper)
			tlb_kernel_trim(t->kernel);
		else
			tlb_space_trim(t->current, t->kernel->shared);
	}
	r->flags[region] |= REGION_RESIDENT;
	r->resident++;
}

static void note_nonglobal(struct tlb_kernel_half *k, uint64_t index)
{
	if (k->nonglobal_count < NONGLOBAL_MAX)
		k->nonglobal[k->nonglobal_count++] = index;
	else
		k->nonglobal_count = NONGLOBAL_TOO_MANY;
}

void tlb_enter(struct vcpu *v, enum tlb_view_kind kind, const struct tlb_fill *f)
{
	struct tlb_kernel_half *k = v->tlb.kernel;
	struct tlb_space *s = v->tlb.current;
	uint64_t index = tlb_index(f->gva), region = tlb_region(index);
	bool upper = k->shared && kind != VIEW_USER && (index & UPPER_INDEX);
	struct tlb_record *r = upper ? &k->rec : &s->rec;
	unsigned int slot = upper ? 0 : kind;
	unsigned int bits = REGION_TABLE(slot, TLB_READ);
	int64_t entry = f->delta | tlb_tag(f->gva);
	bool write;

	if (unlikely(!tlb_has_place(&v->tlb, kind, index)))
		return;
	write = f->write && tlb_frames_note(v, f->extent, f->gpa, index);

	if (write)
		bits |= REGION_TABLE(slot, TLB_WRITE);
	if (f->page_shift > 12)
		bits |= REGION_LARGE;
	if (f->page_shift > 21) {
		r->huge[region / REGION_PAGES] = 1;
		r->any_huge = true;
	}
	if ((r->flags[region] & bits) != bits)
		tlb_record_use(r, region, bits);
	/* (What is there already was noted, unless it may belong to another address.) */
	if (upper && !f->global && (TLB_TAG || !s->view[kind].table[TLB_READ][index] ||
				    (write && !s->view[kind].table[TLB_WRITE][index])))
		note_nonglobal(k, index);
	/* Accesses that cross a page come here each time. */
	if (s->view[kind].table[TLB_READ][index] != entry ||
	    (write && s->view[kind].table[TLB_WRITE][index] != entry))
		stat_add(&v->stats.tlb_fills, 1);
	s->view[kind].table[TLB_READ][index] = entry;
	if (write)
		s->view[kind].table[TLB_WRITE][index] = entry;
}

/* --- dropping write entries --- */

/* Whatever else shows the user view has the page no more. */
static void drop_from_shown(const struct tlb_record *r, uint64_t index)
{
	if (r->window)
		window_drop_page(r->window, index);
	if (r->cell)
		cell_map_drop_page(r->cell, index);
}

static void drop_writes_to(struct tlb_record *r, struct tlb_view *view, unsigned int views,
			   const uint8_t *hva)
{
	for (unsigned int i = 0; i < r->used_count; i++)
		for (unsigned int kind = 0; kind < views; kind++) {
			uint64_t first = (uint64_t)r->used[i] * REGION_PAGES;
			int64_t *entry = view[kind].table[TLB_WRITE] + first;

			if (!(r->flags[r->used[i]] & REGION_TABLE(kind, TLB_WRITE)))
				continue;
			for (unsigned int j = 0; j < REGION_PAGES; j++)
				if (tlb_leads_to(first + j, entry[j], hva)) {
					entry[j] = 0;
					drop_from_shown(r, first + j);
				}
		}
}

void tlb_drop_writes_to(struct vcpu *v, const uint8_t *hva)
{
	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
		drop_writes_to(&v->tlb.space[i]->rec, v->tlb.space[i]->view, VIEW_COUNT, hva);
	if (v->tlb.kernel->shared)
		drop_writes_to(&v->tlb.kernel->rec, &v->tlb.kernel->view, 1, hva);
}

/* The write entry of @index for the @n-th set of tables, or NULL if there is none. */
static int64_t *write_entry(struct vcpu *v, unsigned int n, uint64_t index)
{
	struct tlb_kernel_half *k = v->tlb.kernel;
	struct tlb_record *r = &k->rec;
	struct tlb_view *view = &k->view;
	unsigned int slot = 0;

	if (n == TLB_SPACES * VIEW_COUNT) {
		if (!k->shared || !(index & UPPER_INDEX))
			return NULL;
	} else {
		struct tlb_space *s = v->tlb.space[n / VIEW_COUNT];

		if (!s)
			return NULL;
		slot = n % VIEW_COUNT;
		r = &s->rec;
		view = &s->view[slot];
	}
	if (!(r->flags[tlb_region(index)] & REGION_TABLE(slot, TLB_WRITE)))
		return NULL;
	return &view->table[TLB_WRITE][index];
}

void tlb_drop_writes(struct vcpu *v, uint64_t index)
{
	for (unsigned int n = 0; n <= TLB_SPACES * VIEW_COUNT; n++) {
		int64_t *entry = write_entry(v, n, index);

		if (!entry || !*entry)
			continue;
		*entry = 0;
		if (n % VIEW_COUNT == VIEW_USER && n < TLB_SPACES * VIEW_COUNT)
			drop_from_shown(&v->tlb.space[n / VIEW_COUNT]->rec, index);
	}
}

bool tlb_writes_to(struct vcpu *v, uint64_t index, const uint8_t *hva)
{
	for (unsigned int n = 0; n <= TLB_SPACES * VIEW_COUNT; n++) {
		int64_t *entry = write_entry(v, n, index);

		if (entry && tlb_leads_to(index, *entry, hva))
			return true;
	}
	return false;
}

/* --- flushes --- */

static void set_bit(uint64_t map[1024], uint64_t n)
{
	map[n >> 6 & 1023] |= BIT(n & 63);
}

static bool has_bit(const uint64_t map[1024], uint64_t n)
{
	return map[n >> 6 & 1023] >> (n & 63) & 1;
}

void tlb_note_fetch(struct tlb_space *s, gva_t gva, unsigned int shift)
{
	if (shift <= 12)
		set_bit(s->fetched, gva >> 12);
	else if (shift <= 22)
		set_bit(s->fetched_large, gva >> 21);
	if (shift == 22)
		set_bit(s->fetched_large, gva >> 21 ^ 1);
	s->fetched_huge |= shift > 22;
	s->fetched_any = true;
}

/* May the page at @gva, of whatever size, have been walked for execution? */
static bool was_fetched(const struct tlb_space *s, gva_t gva)
{
	return s->fetched_huge || has_bit(s->fetched, gva >> 12) ||
	       has_bit(s->fetched_large, gva >> 21);
}

static void new_tag(struct vcpu *v, struct tlb_space *s)
{
	s->tag = v->tlb.next_tag++;
	if (!s->fetched_any)
		return;
	zero_entries(s->fetched, ARRAY_SIZE(s->fetched));
	zero_entries(s->fetched_large, ARRAY_SIZE(s->fetched_large));
	s->fetched_any = s->fetched_huge = false;
}

/* Processes come and go, each at addresses of its own: what stands behind the last ones' goes. */
static bool mostly_stale(const struct tlb_record *r)
{
	return r->resident > STALE_LEAST && r->resident / STALE_TIMES > r->used_count;
}

static void space_flush(struct vcpu *v, struct tlb_space *s)
{
	if (unlikely(mostly_stale(&s->rec)))
		tlb_space_trim(s, v->tlb.kernel->shared);
	else
		tlb_record_flush(&s->rec, s->view);
	s->low_global = false;
	new_tag(v, s);
	stat_add(&v->stats.tlb_flushes, 1);
}

static void space_flush_page(struct vcpu *v, struct tlb_space *s, gva_t gva)
{
	tlb_record_flush_page(&s->rec, s->view, tlb_index(gva));
	if (was_fetched(s, gva))
		new_tag(v, s);
}

static void update_tag(struct vcpu *v)
{
	v->tlb.fetch_tag = v->tlb.current->tag;
}

void tlb_flush_all(struct vcpu *v)
{
	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
		space_flush(v, v->tlb.space[i]);
	if (v->tlb.kernel->shared)
		tlb_kernel_flush(v->tlb.kernel);
	v->tlb.apic_known = false;
	v->tlb.upper_tag++;
	update_tag(v);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
	space_flush(v, v->tlb.current);
	tlb_kernel_flush_nonglobal(v->tlb.kernel);
	update_tag(v);
}

/* Is a page at @index possibly held, as a global one, by spaces other than the current? */
static bool maybe_global(const struct vcpu *v, uint64_t index)
{
	if (index & UPPER_INDEX)
		return true;
	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
		if (v->tlb.space[i]->low_global)
			return true;
	return false;
}

void tlb_flush_page(struct vcpu *v, gva_t gva)
{
	uint64_t index = tlb_index(gva);
	bool everywhere = maybe_global(v, index);

	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++) {
		struct tlb_space *s = v->tlb.space[i];

		if (everywhere || s == v->tlb.current)
			space_flush_page(v, s, gva);
	}
	if (v->tlb.upper_code[gva >> 24 & 8191] >> (gva >> 21 & 7) & 1)
		v->tlb.upper_tag++;
	if (v->tlb.kernel->shared && (index & UPPER_INDEX))
		tlb_record_flush_page(&v->tlb.kernel->rec, &v->tlb.kernel->view, index);
	update_tag(v);
}

static struct tlb_space *find_space(struct vcpu *v, uint16_t pcid)
{
	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
		if (v->tlb.space[i]->pcid == pcid)
			return v->tlb.space[i];
	return NULL;
}

static void invpcid_one(struct vcpu *v, bool whole, uint16_t pcid, gva_t gva)
{
	struct tlb_space *s = find_space(v, pcid);

	if (s && whole) {
		space_flush(v, s);
	} else if (s) {
		space_flush_page(v, s, gva);
	}
	/* In the shared half, only the current space's entries are not global. */
	if (s == v->tlb.current)
		tlb_kernel_flush_nonglobal(v->tlb.kernel);
}

void tlb_invpcid(struct vcpu *v, unsigned int type, uint16_t pcid, gva_t gva)
{
	switch (type) {
	case 0:
	case 1:
		invpcid_one(v, type == 1, pcid, gva);
		break;
	case 2:
		tlb_flush_all(v);
		break;
	default:
		for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
			space_flush(v, v->tlb.space[i]);
		tlb_kernel_flush_nonglobal(v->tlb.kernel);
	}
	update_tag(v);
}

/* A space for a PCID that has none: an unused one, a new one, or the least recently used. */
static struct tlb_space *take_space(struct vcpu *v, uint16_t pcid)
{
	struct tlb_space *oldest = v->tlb.space[0];

	for (unsigned int i = 0; i < v->tlb.spaces_max; i++) {
		struct tlb_space *s = v->tlb.space[i];

		if (!s)
			s = v->tlb.space[i] = tlb_space_create(v->tlb.kernel);
		if (!s)
			break;
		if (s->used_at == 0) {
			oldest = s;
			break;
		}
		if (s->used_at < oldest->used_at)
			oldest = s;
	}
	oldest->pcid = pcid;
	return oldest;
}

/* With PCIDs another root is another program, to which nothing of the last one's is of use. */
static void note_root(struct vcpu *v, struct tlb_space *s)
{
	gpa_t root = v->cr4 & CR4_PCIDE ? v->cr3 & CR3_ROOT : 0;

	if (s->root == root)
		return;
	s->root = root;
	if (s->rec.window)
		window_take(v, s->rec.window);
	if (s->rec.cell)
		cell_map_take(v, s->rec.cell);
}

gpa_t tlb_space_root(const struct vcpu *v)
{
	return v->tlb.current->root;
}

void tlb_switch_space(struct vcpu *v, bool keep)
{
	uint16_t pcid = v->cr4 & CR4_PCIDE ? v->cr3 & CR3_PCID : 0;
	struct tlb_space *s = find_space(v, pcid);

	if (!s) {
		s = take_space(v, pcid);
		keep = false;
	}
	if (s != v->tlb.current || !keep)
		tlb_kernel_flush_nonglobal(v->tlb.kernel);
	if (!keep) {
		space_flush(v, s);
		note_root(v, s);
	}
	s->used_at = ++v->tlb.clock;
	v->tlb.current = s;
	update_tag(v);
	tlb_select_view(v);
}

/* --- views --- */

/* What the permissions in the entries depend on, apart from the page tables. */
static uint64_t entry_mode(const struct vcpu *v)
{
	uint64_t cr4 = CR4_PAE | CR4_PSE | CR4_PGE | CR4_PCIDE | CR4_SMEP;

	if (v->tlb.compact)
		cr4 |= CR4_SMAP;
	return (v->cr0 & (CR0_PG | CR0_WP)) | (v->cr4 & cr4) << 32 |
	       (v->efer & (EFER_LMA | EFER_NXE)) << 1;
}

struct tlb_view *tlb_view_of(struct vcpu *v, enum tlb_view_kind kind)
{
	return &v->tlb.current->view[kind];
}

void tlb_select_view(struct vcpu *v)
{
	struct tlb *t = &v->tlb;
	uint64_t mode = entry_mode(v);
	enum tlb_view_kind kind = VIEW_SUPER_AC;

	t->window.active = false;
	t->cell = t->current->rec.cell;
	if (t->current->rec.window != t->window.now)
		window_select(v, t->current->rec.window);
	if (unlikely(mode != t->mode)) {
		t->mode = mode;
		tlb_flush_all(v);
		if (t->compact)
			tlb_space_arrange(t->current, &t->empty, v->cr4 & CR4_SMAP);
	}
	if (v->cpl == 3) {
		if (unlikely((v->cr0 & CR0_AM) && (v->rflags & RFLAGS_AC))) {
			v->view = &t->empty;
			return;
		}
		kind = VIEW_USER;
		t->window.active = t->window.now && v->code_size == CODE_64;
	} else if ((v->cr4 & CR4_SMAP) && !(v->rflags & RFLAGS_AC)) {
		kind = VIEW_SUPER;
	}
	v->view = &t->current->view[kind];
}

/* --- life --- */

/* How many spaces each of @cpus may have; 0: not one, but for a compact one. */
static unsigned int spaces_that_fit(unsigned int cpus)
{
	unsigned int gib = HOST_GIB / cpus;
	unsigned int others = OTHERS_GIB + window_sets(cpus) * WINDOW_TIB * TIB;

	return gib > others ? MIN((gib - others) / SPACE_GIB, (unsigned int)TLB_SPACES) : 0;
}

static struct tlb_space *first_space(struct vcpu *v)
{
	struct tlb *t = &v->tlb;
	struct tlb_space *s;

	if (t->compact) {
		s = tlb_space_create_compact();
		if (s)
			tlb_space_arrange(s, &t->empty, false);
		return s;
	}
	tlb_kernel_share(t->kernel);
	s = tlb_space_create(t->kernel);
	if (!s && t->kernel->shared) {
		tlb_kernel_unshare(t->kernel);
		s = tlb_space_create(t->kernel);
	}
	return s;
}

int tlb_init(struct vcpu *v, struct err *e)
{
	struct tlb *t = &v->tlb;
	int64_t *empty = tlb_zeros(v->space);

	zero_entries(t, sizeof(*t) / 8);
	t->next_tag = 1;
	t->spaces_max = spaces_that_fit(v->model->cpus);
	t->compact = !t->spaces_max;
	t->empty = (struct tlb_view){ .table = { empty, empty } };
	t->kernel = tlb_reserve(sizeof(*t->kernel), PROT_READ | PROT_WRITE);
	if (!empty || !t->kernel)
		goto fail;
	t->kernel->fd[0] = t->kernel->fd[1] = -1;
	t->space[0] = first_space(v);
	if (!t->space[0])
		goto fail;
	t->current = t->space[0];
	t->current->used_at = ++t->clock;
	t->current->tag = t->next_tag++;
	update_tag(v);
	tlb_select_view(v);
	window_init(v);
	return 0;
fail:
	tlb_destroy(v);
	return err_set(e, ENOMEM, "vCPU %u needs terabytes of address space for its page tables, which this host refuses; look for a limit (ulimit -v) or vm.overcommit_memory=2",
		       v->index);
}

void tlb_destroy(struct vcpu *v)
{
	struct tlb *t = &v->tlb;

	window_destroy(v);
	for (int i = 0; i < TLB_SPACES; i++)
		if (t->space[i])
			tlb_space_free(t->space[i]);
	if (t->kernel) {
		tlb_kernel_unshare(t->kernel);
		tlb_release(t->kernel, sizeof(*t->kernel));
	}
	tlb_frames_free(v);
	tlb_release(t->pair, 2 * GUEST_PAGE_SIZE);
	zero_entries(t, sizeof(*t) / 8);
}
