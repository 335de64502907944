// SPDX-License-Identifier: Apache-2.0
/*
 * The software TLB: keeping, filling and flushing the tables of tlb.h.
 *
 * Address space: one address space of the guest takes 3 TiB of ours (6 tables of 512 GiB),
 * and a vCPU keeps up to TLB_SPACES of them and half a TiB besides.  All vCPUs share the
 * 128 TiB of a 47-bit process: with five or more, the later spaces are refused by the host
 * and fewer are kept.
 *
 * Host memory: a region (2 MiB of guest addresses) takes up to a page a table once it was
 * looked up.  What a hostile guest can make us take is bounded: beyond a limit, a set of
 * tables is emptied and its memory given back.
 *
 * More may be dropped than the manual asks for, never less.  Functions named tlb_* that
 * mmu.h declares run on the vCPU's thread with SIMD state live, but for tlb_init and
 * tlb_destroy; a space that must be made is mapped by bare system calls.
 *
 * Source: Intel SDM volume 3, "Caching Translation Information".
 */
#include "cpu/mmu.h"
#include "cpu/tlb_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define SPACE_REGIONS	4096U	/* 8 GiB of a process's addresses */
#define KERNEL_REGIONS	32768U	/* 64 GiB of the kernel's */
#define HALF_BYTES	(TABLE_BYTES / 2)
#define TOO_MANY	(NONGLOBAL_MAX + 1)

/* libc's memset uses SIMD registers. */
static void zero_entries(int64_t *p, uint64_t count)
{
	asm volatile("rep stosq" : "+D" (p), "+c" (count) : "a" (0) : "memory");
}

static void *reserve(uint64_t bytes, int prot)
{
	void *p = mmap(NULL, bytes, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	/* A huge page would put 2 MiB behind each region of a table; a core dump is ours. */
	madvise(p, bytes, MADV_NOHUGEPAGE);
	madvise(p, bytes, MADV_DONTDUMP);
	return p;
}

static void release(void *p, uint64_t bytes)
{
	if (p)
		munmap(p, bytes);
}

/* --- the record of what is in use --- */

static int record_init(struct tlb_record *r, unsigned int limit)
{
	*r = (struct tlb_record){ .limit = limit };
	r->flags = reserve(BIT(REGION_BITS), PROT_READ | PROT_WRITE);
	r->huge = reserve(BIT(GRANULE_BITS), PROT_READ | PROT_WRITE);
	r->used = reserve(limit * sizeof(*r->used), PROT_READ | PROT_WRITE);
	return r->flags && r->huge && r->used ? 0 : -ENOMEM;
}

static void record_free(struct tlb_record *r)
{
	release(r->flags, BIT(REGION_BITS));
	release(r->huge, BIT(GRANULE_BITS));
	release(r->used, r->limit * sizeof(*r->used));
}

static uint64_t region_of(uint64_t index)
{
	return index / REGION_PAGES;
}

/* Empties the tables of one region; @view is an array of all views the flags speak of. */
static void region_clear(struct tlb_record *r, struct tlb_view *view, uint64_t region)
{
	unsigned int tables = r->flags[region] & REGION_TABLES;

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

static void record_flush(struct tlb_record *r, struct tlb_view *view)
{
	for (unsigned int i = 0; i < r->used_count; i++)
		region_clear(r, view, r->used[i]);
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

/* The INVLPG of one set of tables. */
static void record_flush_page(struct tlb_record *r, struct tlb_view *view, uint64_t index)
{
	uint64_t region = region_of(index);
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
}

/* Gives the memory behind the record back; its tables' memory is the caller's. */
static void record_trim(struct tlb_record *r)
{
	madvise(r->flags, BIT(REGION_BITS), MADV_DONTNEED);
	record_clear_huge(r);
	r->used_count = 0;
	r->resident = 0;
}

/* Notes that @bits of @region are going to be used. */
static void record_use(struct tlb_record *r, uint64_t region, unsigned int bits)
{
	uint8_t old = r->flags[region];

	if (!(old & REGION_USED))
		r->used[r->used_count++] = region;
	r->flags[region] = old | bits;
}

/* --- spaces --- */

static void space_free(struct tlb_space *s)
{
	for (int k = 0; k < VIEW_COUNT; k++)
		for (int a = 0; a < 2; a++)
			release(s->view[k].table[a], TABLE_BYTES);
	record_free(&s->rec);
	release(s, sizeof(*s));
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

static struct tlb_space *space_create(struct tlb_kernel_half *k)
{
	struct tlb_space *s = reserve(sizeof(*s), PROT_READ | PROT_WRITE);

	if (!s)
		return NULL;
	if (record_init(&s->rec, SPACE_REGIONS))
		goto fail;
	for (int kind = 0; kind < VIEW_COUNT; kind++)
		for (int a = 0; a < 2; a++) {
			s->view[kind].table[a] = reserve(TABLE_BYTES, PROT_READ | PROT_WRITE);
			if (!s->view[kind].table[a])
				goto fail;
		}
	if (k->shared && space_map_kernel(s, k))
		goto fail;
	return s;
fail:
	space_free(s);
	return NULL;
}

static void space_flush(struct vcpu *v, struct tlb_space *s)
{
	record_flush(&s->rec, s->view);
	s->low_global = false;
	s->tag = v->tlb.next_tag++;
	v->stats.tlb_flushes++;
}

/* Empties @s and gives its memory back. */
static void space_trim(struct tlb_space *s, bool shared)
{
	record_flush(&s->rec, s->view);
	for (int kind = 0; kind < VIEW_COUNT; kind++)
		for (int a = 0; a < 2; a++)
			madvise(s->view[kind].table[a],
				shared && kind != VIEW_USER ? HALF_BYTES : TABLE_BYTES,
				MADV_DONTNEED);
	record_trim(&s->rec);
}

/* --- the shared half --- */

static void kernel_unshare(struct tlb_kernel_half *k)
{
	for (int a = 0; a < 2; a++) {
		if (k->view.table[a])
			release(k->view.table[a] + UPPER_INDEX, HALF_BYTES);
		if (k->fd[a] >= 0)
			close(k->fd[a]);
		k->view.table[a] = NULL;
		k->fd[a] = -1;
	}
	record_free(&k->rec);
	k->rec = (struct tlb_record){ 0 };
	k->shared = false;
}

static void kernel_share(struct tlb_kernel_half *k)
{
	if (record_init(&k->rec, KERNEL_REGIONS))
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
	kernel_unshare(k);
}

static void kernel_flush(struct tlb_kernel_half *k)
{
	record_flush(&k->rec, &k->view);
	k->nonglobal_count = 0;
}

/* Drops what is not global: at every switch or flush of a space. */
static void kernel_flush_nonglobal(struct tlb_kernel_half *k)
{
	if (k->nonglobal_count == TOO_MANY) {
		kernel_flush(k);
		return;
	}
	for (unsigned int i = 0; i < k->nonglobal_count; i++) {
		k->view.table[TLB_READ][k->nonglobal[i]] = 0;
		k->view.table[TLB_WRITE][k->nonglobal[i]] = 0;
	}
	k->nonglobal_count = 0;
}

static void kernel_trim(struct tlb_kernel_half *k)
{
	kernel_flush(k);
	for (int a = 0; a < 2; a++)
		fallocate(k->fd[a], FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, HALF_BYTES);
	record_trim(&k->rec);
}

/* --- filling --- */

void tlb_note_miss(struct vcpu *v, enum tlb_view_kind kind, gva_t gva)
{
	struct tlb *t = &v->tlb;
	uint64_t index = tlb_index(gva), region = region_of(index);
	bool upper = t->kernel->shared && kind != VIEW_USER && (index & UPPER_INDEX);
	struct tlb_record *r = upper ? &t->kernel->rec : &t->current->rec;

	if (unlikely(v->view == &t->unaligned) && ++t->unaligned_misses == SPACE_REGIONS) {
		madvise(t->unaligned.table[TLB_READ], TABLE_BYTES, MADV_DONTNEED);
		t->unaligned_misses = 0;
	}
	if (likely(r->flags[region] & REGION_RESIDENT))
		return;
	if (r->resident == r->limit) {
		if (upper)
			kernel_trim(t->kernel);
		else
			space_trim(t->current, t->kernel->shared);
	}
	r->flags[region] |= REGION_RESIDENT;
	r->resident++;
}

static void note_nonglobal(struct tlb_kernel_half *k, uint64_t index)
{
	if (k->nonglobal_count < NONGLOBAL_MAX)
		k->nonglobal[k->nonglobal_count++] = index;
	else
		k->nonglobal_count = TOO_MANY;
}

void tlb_enter(struct vcpu *v, enum tlb_view_kind kind, const struct tlb_fill *f)
{
	struct tlb_kernel_half *k = v->tlb.kernel;
	struct tlb_space *s = v->tlb.current;
	uint64_t index = tlb_index(f->gva), region = region_of(index);
	bool upper = k->shared && kind != VIEW_USER && (index & UPPER_INDEX);
	struct tlb_record *r = upper ? &k->rec : &s->rec;
	unsigned int slot = upper ? 0 : kind;
	unsigned int bits = REGION_TABLE(slot, TLB_READ);
	bool write = f->write && tlb_frames_note(v, f->extent, f->gpa, index);

	if (write)
		bits |= REGION_TABLE(slot, TLB_WRITE);
	if (f->page_shift > 12)
		bits |= REGION_LARGE;
	if (f->page_shift > 21) {
		r->huge[region / REGION_PAGES] = 1;
		r->any_huge = true;
	}
	if ((r->flags[region] & bits) != bits)
		record_use(r, region, bits);
	if (upper && !f->global && (!s->view[kind].table[TLB_READ][index] ||
				    (write && !s->view[kind].table[TLB_WRITE][index])))
		note_nonglobal(k, index);
	s->view[kind].table[TLB_READ][index] = f->delta;
	if (write)
		s->view[kind].table[TLB_WRITE][index] = f->delta;
	v->stats.tlb_fills++;
}

/* --- dropping write entries --- */

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
				if (entry[j] && tlb_index_gva(first + j) + entry[j] == (uintptr_t)hva)
					entry[j] = 0;
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
	if (!(r->flags[region_of(index)] & REGION_TABLE(slot, TLB_WRITE)))
		return NULL;
	return &view->table[TLB_WRITE][index];
}

void tlb_drop_writes(struct vcpu *v, uint64_t index)
{
	for (unsigned int n = 0; n <= TLB_SPACES * VIEW_COUNT; n++) {
		int64_t *entry = write_entry(v, n, index);

		if (entry)
			*entry = 0;
	}
}

bool tlb_writes_to(struct vcpu *v, uint64_t index, const uint8_t *hva)
{
	for (unsigned int n = 0; n <= TLB_SPACES * VIEW_COUNT; n++) {
		int64_t *entry = write_entry(v, n, index);

		if (entry && *entry && tlb_index_gva(index) + *entry == (uintptr_t)hva)
			return true;
	}
	return false;
}

/* --- flushes --- */

static void update_tag(struct vcpu *v)
{
	v->tlb.fetch_tag = v->tlb.current->tag;
}

void tlb_flush_all(struct vcpu *v)
{
	for (int i = 0; i < TLB_SPACES && v->tlb.space[i]; i++)
		space_flush(v, v->tlb.space[i]);
	if (v->tlb.kernel->shared)
		kernel_flush(v->tlb.kernel);
	v->tlb.apic_known = false;
	update_tag(v);
}

void tlb_flush_nonglobal(struct vcpu *v)
{
	space_flush(v, v->tlb.current);
	kernel_flush_nonglobal(v->tlb.kernel);
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

		if (!everywhere && s != v->tlb.current)
			continue;
		record_flush_page(&s->rec, s->view, index);
		s->tag = v->tlb.next_tag++;
	}
	if (v->tlb.kernel->shared && (index & UPPER_INDEX))
		record_flush_page(&v->tlb.kernel->rec, &v->tlb.kernel->view, index);
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
		record_flush_page(&s->rec, s->view, tlb_index(gva));
		s->tag = v->tlb.next_tag++;
	}
	/* In the shared half, only the current space's entries are not global. */
	if (s == v->tlb.current)
		kernel_flush_nonglobal(v->tlb.kernel);
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
		kernel_flush_nonglobal(v->tlb.kernel);
	}
	update_tag(v);
}

/* A space for a PCID that has none: an unused one, a new one, or the least recently used. */
static struct tlb_space *take_space(struct vcpu *v, uint16_t pcid)
{
	struct tlb_space *oldest = v->tlb.space[0];

	for (int i = 0; i < TLB_SPACES; i++) {
		struct tlb_space *s = v->tlb.space[i];

		if (!s)
			s = v->tlb.space[i] = space_create(v->tlb.kernel);
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

void tlb_switch_space(struct vcpu *v, bool keep)
{
	uint16_t pcid = v->cr4 & CR4_PCIDE ? v->cr3 & CR3_PCID : 0;
	struct tlb_space *s = find_space(v, pcid);

	if (!s) {
		s = take_space(v, pcid);
		keep = false;
	}
	if (s != v->tlb.current || !keep)
		kernel_flush_nonglobal(v->tlb.kernel);
	if (!keep)
		space_flush(v, s);
	s->used_at = ++v->tlb.clock;
	v->tlb.current = s;
	update_tag(v);
	tlb_select_view(v);
}

/* --- views --- */

/* What the permissions in the entries depend on, apart from the page tables. */
static uint64_t entry_mode(const struct vcpu *v)
{
	return (v->cr0 & (CR0_PG | CR0_WP)) |
	       (v->cr4 & (CR4_PAE | CR4_PSE | CR4_PGE | CR4_PCIDE | CR4_SMEP)) << 32 |
	       (v->efer & (EFER_LMA | EFER_NXE)) << 1;
}

void tlb_select_view(struct vcpu *v)
{
	struct tlb *t = &v->tlb;
	uint64_t mode = entry_mode(v);
	enum tlb_view_kind kind = VIEW_SUPER_AC;

	if (unlikely(mode != t->mode)) {
		t->mode = mode;
		tlb_flush_all(v);
	}
	if (v->cpl == 3) {
		if (unlikely((v->cr0 & CR0_AM) && (v->rflags & RFLAGS_AC))) {
			v->view = &t->unaligned;
			return;
		}
		kind = VIEW_USER;
	} else if ((v->cr4 & CR4_SMAP) && !(v->rflags & RFLAGS_AC)) {
		kind = VIEW_SUPER;
	}
	v->view = &t->current->view[kind];
}

/* --- life --- */

int tlb_init(struct vcpu *v, struct err *e)
{
	struct tlb *t = &v->tlb;
	int64_t *empty = reserve(TABLE_BYTES, PROT_READ);

	*t = (struct tlb){ .next_tag = 1, .unaligned.table = { empty, empty } };
	t->kernel = reserve(sizeof(*t->kernel), PROT_READ | PROT_WRITE);
	if (!empty || !t->kernel)
		goto fail;
	t->kernel->fd[0] = t->kernel->fd[1] = -1;
	kernel_share(t->kernel);
	t->space[0] = space_create(t->kernel);
	if (!t->space[0] && t->kernel->shared) {
		kernel_unshare(t->kernel);
		t->space[0] = space_create(t->kernel);
	}
	if (!t->space[0])
		goto fail;
	t->current = t->space[0];
	t->current->used_at = ++t->clock;
	t->current->tag = t->next_tag++;
	update_tag(v);
	tlb_select_view(v);
	return 0;
fail:
	tlb_destroy(v);
	return err_set(e, ENOMEM, "vCPU %u needs 3.5 TiB of address space for its page tables, which this host refuses; look for a limit (ulimit -v) or vm.overcommit_memory=2",
		       v->index);
}

void tlb_destroy(struct vcpu *v)
{
	struct tlb *t = &v->tlb;

	for (int i = 0; i < TLB_SPACES; i++)
		if (t->space[i])
			space_free(t->space[i]);
	if (t->kernel) {
		kernel_unshare(t->kernel);
		release(t->kernel, sizeof(*t->kernel));
	}
	tlb_frames_free(v);
	release(t->unaligned.table[TLB_READ], TABLE_BYTES);
	*t = (struct tlb){ 0 };
}
