// SPDX-License-Identifier: Apache-2.0
/*
 * Guest-virtual memory: the slow path behind tlb_lookup, and accesses of any size.  See
 * mmu.h; walk.c walks, tlb.c keeps the tables.
 *
 * Built without SIMD registers: the guest's may be live.  Devices are called only after
 * they were put away.  gpa_space.code_written is called with them live.
 *
 * Source: Intel SDM volume 3, "Paging", "Debug Registers" and, for #AC, "Exception and
 * Interrupt Reference".
 */
#include "cpu/mmu.h"

#include "cpu/debugger.h"
#include "cpu/except.h"
#include "cpu/fpu.h"
#include "cpu/tlb_priv.h"
#include "cpu/walk.h"

#include <sys/mman.h>

#define ACCESS_MAX	65536U
#define PIECES_MAX	(ACCESS_MAX / GUEST_PAGE_SIZE + 1)
#define DR7_ENABLED	0xffU
#define NEIGHBOURS	8	/* a cache line of page table entries */

/* Where an access within one page ends up. */
struct target {
	gva_t gva;
	gpa_t gpa;
	uint8_t *hva;			/* NULL: a device */
	struct ram_extent *extent;
	unsigned int len;
};

/* libc's memcpy uses SIMD registers.  The sizes of operands are one access each. */
static inline void copy(void *to, const void *from, unsigned int n)
{
	uint64_t count = n;

	switch (n) {
	case 1:
		__builtin_memcpy(to, from, 1);
		break;
	case 2:
		__builtin_memcpy(to, from, 2);
		break;
	case 4:
		__builtin_memcpy(to, from, 4);
		break;
	case 8:
		__builtin_memcpy(to, from, 8);
		break;
	default:
		asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (count) : : "memory");
	}
}

static inline bool crosses_page(gva_t gva, unsigned int size)
{
	return (gva & GUEST_PAGE_MASK) + size > GUEST_PAGE_SIZE;
}

static enum tlb_view_kind view_of(const struct vcpu *v, unsigned int access)
{
	if (access_is_user(v, access))
		return VIEW_USER;
	if ((v->cr4 & CR4_SMAP) && (!(v->rflags & RFLAGS_AC) || (access & ACC_SUPER)))
		return VIEW_SUPER;
	return VIEW_SUPER_AC;
}

/* Are accesses of this kind checked for alignment (and so never entered)? */
static inline bool checks_alignment(const struct vcpu *v, unsigned int access)
{
	return unlikely(v->view == &v->tlb.empty) && !(access & ACC_SUPER);
}

/*
 * #AC for operands of up to 64 bytes: by the largest power of two in the size, at most 8
 * and 16 for vectors.  Larger ones are blocks of bytes, or have checks of their own.
 */
static bool misaligned(gva_t gva, unsigned int size)
{
	unsigned int align = size < 16 ? 8 : 16;

	if (!size || size > 64)
		return false;
	while (align > size)
		align /= 2;
	return (gva & (align - 1)) != 0;
}

/* --- data breakpoints --- */

struct breakpoint {
	gva_t first;
	unsigned int len;
	bool on_read;
};

/* Data breakpoint @i of DR7, if it is armed. */
static bool breakpoint_get(const struct vcpu *v, unsigned int i, struct breakpoint *b)
{
	static const uint8_t lengths[] = { 1, 2, 8, 4 };
	unsigned int control = v->dr[7] >> (16 + 4 * i) & 0xf;

	if (!(v->dr[7] >> (2 * i) & 3) || !(control & 1))
		return false;	/* off, or of code or ports */
	b->len = lengths[control >> 2];
	b->first = v->dr[i] & ~(gva_t)(b->len - 1);
	b->on_read = (control & 3) == 3;
	return true;
}

static bool page_has_breakpoint(const struct vcpu *v, gva_t gva)
{
	struct breakpoint b;

	if (unlikely(v->debugger != NULL) && debugger_watches_page(v->debugger, gva))
		return true;
	if (likely(!(v->dr[7] & DR7_ENABLED)))
		return false;
	for (unsigned int i = 0; i < 4; i++)
		if (breakpoint_get(v, i, &b) && !((b.first ^ gva) & ~GUEST_PAGE_MASK))
			return true;
	return false;
}

static void note_breakpoints(struct vcpu *v, gva_t gva, unsigned int size, unsigned int access)
{
	struct breakpoint b;

	if (unlikely(v->debugger != NULL))
		debugger_note_access(v, gva, size, (access & ACC_WRITE) != 0);
	if (likely(!(v->dr[7] & DR7_ENABLED)))
		return;
	for (unsigned int i = 0; i < 4; i++)
		if (breakpoint_get(v, i, &b) && (b.on_read || (access & ACC_WRITE)) &&
		    gva <= b.first + (b.len - 1) && b.first <= gva + (size - 1))
			v->db_pending |= BIT(i);
}

/* --- translating and filling --- */

static gpa_t apic_page(struct vcpu *v)
{
	struct tlb *t = &v->tlb;

	if (unlikely(!t->apic_known)) {
		t->apic_page = GPA_NONE;
		if (v->intc_ops && v->intc_ops->mmio_base) {
			fpu_put(v);
			t->apic_page = v->intc_ops->mmio_base(v->intc);
		}
		t->apic_known = true;
	}
	return t->apic_page;
}

/* The RAM at @gpa, or NULL where a device answers. */
static struct ram_extent *ram_at(struct vcpu *v, gpa_t gpa)
{
	if (unlikely((gpa & ~GUEST_PAGE_MASK) == apic_page(v)))
		return NULL;
	return gpa_to_extent(v->space, gpa);
}

static bool is_code(const struct ram_extent *x, gpa_t gpa)
{
	return x->page_flags[(gpa - x->base) >> GUEST_PAGE_SHIFT] & PAGE_CODE;
}

/* A page of @x as it may be entered into @kind; false: not at all. */
static bool may_enter(struct vcpu *v, enum tlb_view_kind kind, gva_t gva, bool user)
{
	if (kind != VIEW_USER && user && (tlb_index(gva) & UPPER_INDEX))
		return false;	/* the shared half would show it with SMAP in force, too */
	return !page_has_breakpoint(v, gva);
}

static void enter(struct vcpu *v, enum tlb_view_kind kind, unsigned int access,
		  struct tlb_fill *f, const struct walk_rights *rights, bool dirty)
{
	struct ram_extent *x = f->extent;

	f->write = dirty && !x->readonly && !is_code(x, f->gpa) &&
		   walk_permits(v, access | ACC_WRITE, rights);
	f->delta = (uintptr_t)(x->hva + (f->gpa - x->base)) - f->gva;
	tlb_enter(v, kind, f);
}

/* Enters what else is cheap to know: the pages around, if no A or D must be set for them. */
static void enter_neighbours(struct vcpu *v, enum tlb_view_kind kind, unsigned int access,
			     const struct tlb_fill *centre, const struct walk *w)
{
	int at = centre->gva >> GUEST_PAGE_SHIFT & (NEIGHBOURS - 1);
	const int64_t *present = v->tlb.current->view[kind].table[TLB_READ];

	if (w->paging && w->page_shift == GUEST_PAGE_SHIFT && !w->leaf)
		return;
	for (int d = -at; d < NEIGHBOURS - at; d++) {
		int64_t off = d * (int64_t)GUEST_PAGE_SIZE;
		struct walk_neighbour n = { .gpa = centre->gpa + off, .rights = w->rights,
					    .dirty = w->dirty, .global = w->global };
		struct tlb_fill f = *centre;

		f.gva += off;
		if (!d || present[tlb_index(f.gva)] || page_has_breakpoint(v, f.gva))
			continue;
		if (w->leaf && (!walk_neighbour(v, w, d, &n) ||
				!walk_permits(v, access & ~ACC_WRITE, &n.rights)))
			continue;
		if (kind != VIEW_USER && n.rights.user && (tlb_index(f.gva) & UPPER_INDEX))
			continue;
		f.gpa = n.gpa;
		f.global = n.global;
		if (n.gpa - f.extent->base >= f.extent->size || n.gpa == apic_page(v))
			continue;
		enter(v, kind, access & ~ACC_WRITE, &f, &n.rights, n.dirty);
	}
}

static enum mem_result non_canonical(struct vcpu *v, unsigned int access)
{
	raise_err(v, access & ACC_STACK ? EXC_SS : EXC_GP, 0);
	return MEM_FAULT;
}

/* Translates one page's @gva, fills the tables, and describes where it leads. */
static enum mem_result translate(struct vcpu *v, gva_t gva, unsigned int access,
				 struct target *t)
{
	enum tlb_view_kind kind = view_of(v, access);
	struct walk w;

	if (unlikely(!gva_canonical(gva)))
		return non_canonical(v, access);
	tlb_note_miss(v, kind, gva);
	if (walk(v, gva, access, &w))
		return MEM_FAULT;
	t->gva = gva;
	t->gpa = w.gpa;
	t->extent = ram_at(v, w.gpa);
	t->hva = t->extent ? t->extent->hva + (w.gpa - t->extent->base) : NULL;
	if (!t->hva || (access & ACC_PROBE) || checks_alignment(v, access) ||
	    !tlb_has_place(&v->tlb, kind, tlb_index(gva)) ||
	    !may_enter(v, kind, gva, w.rights.user))
		return MEM_OK;

	struct tlb_fill f = {
		.gva = gva & ~GUEST_PAGE_MASK, .extent = t->extent,
		.gpa = w.gpa & ~GUEST_PAGE_MASK, .global = w.global,
		.page_shift = w.page_shift,
	};

	enter(v, kind, access & ~ACC_WRITE, &f, &w.rights, w.dirty);
	enter_neighbours(v, kind, access, &f, &w);
	return MEM_OK;
}

bool gva_is_global(struct vcpu *v, gva_t gva)
{
	struct walk w;

	return gva_canonical(gva) && v->cr4 & CR4_PGE &&
	       walk(v, gva, ACC_FETCH | ACC_PROBE, &w) == MEM_OK && w.global &&
	       w.page_shift <= 21;
}

enum mem_result gva_to_gpa(struct vcpu *v, gva_t gva, unsigned int access, gpa_t *gpa)
{
	struct walk w;

	if (unlikely(!gva_canonical(gva)))
		return non_canonical(v, access);
	if (walk(v, gva, access, &w))
		return MEM_FAULT;
	if (access & ACC_FETCH)
		tlb_note_fetch(v->tlb.current, gva, w.page_shift);
	*gpa = w.gpa;
	return MEM_OK;
}

enum mem_result mem_fill(struct vcpu *v, gva_t gva, unsigned int size, unsigned int access,
			 void **hva)
{
	struct target t;

	*hva = NULL;
	if (crosses_page(gva, size) || checks_alignment(v, access))
		return MEM_OK;
	if (translate(v, gva, access, &t))
		return MEM_FAULT;
	if (!t.hva || page_has_breakpoint(v, gva))
		return MEM_OK;
	if ((access & ACC_WRITE) && (t.extent->readonly || is_code(t.extent, t.gpa)))
		return MEM_OK;
	*hva = t.hva;
	return MEM_OK;
}

/* --- reaching the target --- */

/* The largest naturally aligned piece of [gpa, gpa+len) that starts at @gpa. */
static unsigned int device_piece(gpa_t gpa, unsigned int len)
{
	unsigned int size = 8;

	while (size > len || (gpa & (size - 1)))
		size /= 2;
	return size;
}

static void device_read(struct vcpu *v, gpa_t gpa, uint8_t *buf, unsigned int len)
{
	bool apic = (gpa & ~GUEST_PAGE_MASK) == apic_page(v);
	unsigned int size;
	uint64_t value;

	fpu_put(v);
	vcpu_does(v, VCPU_DEVICE);
	for (; len; len -= size, gpa += size, buf += size) {
		size = device_piece(gpa, len);
		value = apic ? v->intc_ops->mmio_read(v->intc, gpa & GUEST_PAGE_MASK, size)
			     : mmio_read(v->space, gpa, size);
		copy(buf, &value, size);
		stat_add(&v->stats.mmio, 1);
	}
	vcpu_does(v, VCPU_GUEST);
}

static void device_write(struct vcpu *v, gpa_t gpa, const uint8_t *buf, unsigned int len)
{
	bool apic = (gpa & ~GUEST_PAGE_MASK) == apic_page(v);
	unsigned int size;

	fpu_put(v);
	vcpu_does(v, VCPU_DEVICE);
	for (; len; len -= size, gpa += size, buf += size) {
		uint64_t value = 0;

		size = device_piece(gpa, len);
		copy(&value, buf, size);
		if (apic)
			v->intc_ops->mmio_write(v->intc, gpa & GUEST_PAGE_MASK, size, value);
		else
			mmio_write(v->space, gpa, size, value);
		stat_add(&v->stats.mmio, 1);
	}
	vcpu_does(v, VCPU_GUEST);
}

static void target_read(struct vcpu *v, const struct target *t, uint8_t *buf)
{
	if (t->hva)
		copy(buf, t->hva, t->len);
	else
		device_read(v, t->gpa, buf, t->len);
}

/*
 * After a store that went by no write table.  A page that becomes code just now is watched
 * by the engine until this vCPU has said that it is past such a store.
 */
static void tell_code(struct vcpu *v, gpa_t gpa, unsigned int len)
{
	if (v->space->code_written)
		v->space->code_written(v->space->code_written_arg, v, gpa, len);
}

static void target_write(struct vcpu *v, const struct target *t, const uint8_t *buf)
{
	if (!t->hva) {
		device_write(v, t->gpa, buf, t->len);
	} else if (!t->extent->readonly) {
		copy(t->hva, buf, t->len);
		if (unlikely(is_code(t->extent, t->gpa)))
			tell_code(v, t->gpa, t->len);
	}
}

/* The address after [gva, gva+len): outside 64-bit mode the linear space wraps at 4 GiB. */
static gva_t advance(const struct vcpu *v, gva_t gva, unsigned int len)
{
	gva_t next = gva + len;

	if (v->code_size != CODE_64 && gva <= UINT32_MAX && next > UINT32_MAX)
		next &= UINT32_MAX;
	return next;
}

/* Translates all pages of an access, before anything of it is done. */
static enum mem_result translate_all(struct vcpu *v, gva_t gva, unsigned int size,
				     unsigned int access, struct target *t,
				     unsigned int *count)
{
	unsigned int n = 0;

	if (size > ACCESS_MAX)
		return non_canonical(v, access);
	for (unsigned int left = size; left; left -= t[n++].len) {
		unsigned int room = GUEST_PAGE_SIZE - (gva & GUEST_PAGE_MASK);

		if (translate(v, gva, access, &t[n]))
			return MEM_FAULT;
		t[n].len = MIN(left, room);
		gva = advance(v, gva, t[n].len);
	}
	*count = n;
	return MEM_OK;
}

static enum mem_result check_alignment(struct vcpu *v, gva_t gva, unsigned int size,
				       unsigned int access)
{
	if (!checks_alignment(v, access) || !misaligned(gva, size))
		return MEM_OK;
	if (!gva_canonical(gva))
		return non_canonical(v, access);
	raise_err(v, EXC_AC, 0);
	return MEM_FAULT;
}

/* A host pointer from the tables, for what is neither checked nor crosses a page. */
static void *quick(struct vcpu *v, gva_t gva, unsigned int size, unsigned int access)
{
	const struct tlb_view *view = &v->tlb.current->view[view_of(v, access)];

	if (checks_alignment(v, access))
		return NULL;
	return tlb_lookup(view, gva, size, access & ACC_WRITE ? TLB_WRITE : TLB_READ);
}

enum mem_result mem_read(struct vcpu *v, gva_t gva, void *buf, unsigned int size,
			 unsigned int access)
{
	const void *p = quick(v, gva, size, access);
	struct target t[PIECES_MAX];
	unsigned int count;
	uint8_t *to = buf;

	if (p) {
		copy(buf, p, size);
		return MEM_OK;
	}
	if (check_alignment(v, gva, size, access) ||
	    translate_all(v, gva, size, access, t, &count))
		return MEM_FAULT;
	for (unsigned int i = 0; i < count; i++) {
		target_read(v, &t[i], to);
		note_breakpoints(v, t[i].gva, t[i].len, access);
		to += t[i].len;
	}
	return MEM_OK;
}

enum mem_result mem_write(struct vcpu *v, gva_t gva, const void *buf, unsigned int size,
			  unsigned int access)
{
	void *p = quick(v, gva, size, access | ACC_WRITE);
	struct target t[PIECES_MAX];
	const uint8_t *from = buf;
	unsigned int count;

	if (p) {
		copy(p, buf, size);
		return MEM_OK;
	}
	access |= ACC_WRITE;
	if (check_alignment(v, gva, size, access) ||
	    translate_all(v, gva, size, access, t, &count))
		return MEM_FAULT;
	for (unsigned int i = 0; i < count; i++) {
		target_write(v, &t[i], from);
		note_breakpoints(v, t[i].gva, t[i].len, access);
		from += t[i].len;
	}
	return MEM_OK;
}

enum mem_result mem_probe_write(struct vcpu *v, gva_t gva, unsigned int size,
				unsigned int access)
{
	struct target t[PIECES_MAX];
	unsigned int count;

	access |= ACC_WRITE;
	if (quick(v, gva, size, access))
		return MEM_OK;
	if (check_alignment(v, gva, size, access))
		return MEM_FAULT;
	return translate_all(v, gva, size, access, t, &count);
}

/*
 * Two pages of RAM side by side, so that the host's locked instructions work across their
 * boundary.  NULL: the host refuses.
 */
static void *join(struct vcpu *v, const struct target *t)
{
	uint8_t *pair = v->tlb.pair;

	if (t[1].hva == t[0].hva + t[0].len && t[0].extent == t[1].extent)
		return t[0].hva;
	if (!pair) {
		pair = tlb_reserve(2 * GUEST_PAGE_SIZE, PROT_NONE);
		v->tlb.pair = pair;
	}
	for (unsigned int i = 0; pair && i < 2; i++) {
		uint64_t off = ALIGN_DOWN(t[i].gpa, GUEST_PAGE_SIZE) - t[i].extent->base;

		if (mmap(pair + i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_SHARED | MAP_FIXED, t[i].extent->fd, off) == MAP_FAILED)
			return NULL;
	}
	return pair ? pair + GUEST_PAGE_SIZE - t[0].len : NULL;
}

enum mem_result mem_pin_write(struct vcpu *v, gva_t gva, unsigned int size, struct mem_pin *pin)
{
	struct target t[PIECES_MAX];
	unsigned int count;

	pin->code = false;
	pin->len[1] = 0;
	pin->hva = quick(v, gva, size, ACC_WRITE);
	if (pin->hva)
		return MEM_OK;
	if (check_alignment(v, gva, size, ACC_WRITE) ||
	    translate_all(v, gva, size, ACC_WRITE, t, &count))
		return MEM_FAULT;
	for (unsigned int i = 0; i < count; i++)
		if (!t[i].hva || t[i].extent->readonly)
			return MEM_OK;
	pin->hva = count > 1 ? join(v, t) : t[0].hva;
	if (!pin->hva)
		return MEM_OK;
	/* It may have become code since, or become so before the write: mem_unpin() looks. */
	pin->code = true;
	for (unsigned int i = 0; i < count; i++) {
		pin->gpa[i] = t[i].gpa;
		pin->len[i] = t[i].len;
		note_breakpoints(v, t[i].gva, t[i].len, ACC_WRITE);
	}
	return MEM_OK;
}

void mem_unpin(struct vcpu *v, const struct mem_pin *pin)
{
	for (unsigned int i = 0; i < 2 && pin->len[i]; i++) {
		const struct ram_extent *x = gpa_to_extent(v->space, pin->gpa[i]);

		if (is_code(x, pin->gpa[i]))
			tell_code(v, pin->gpa[i], pin->len[i]);
	}
}

/* --- instruction bytes --- */

static enum mem_result fetch_piece(struct vcpu *v, gva_t gva, uint8_t *buf, unsigned int len)
{
	struct target t = { .gva = gva, .len = len };

	if (gva_to_gpa(v, gva, ACC_FETCH, &t.gpa))
		return MEM_FAULT;
	t.extent = ram_at(v, t.gpa);
	if (t.extent)
		t.hva = t.extent->hva + (t.gpa - t.extent->base);
	target_read(v, &t, buf);
	return MEM_OK;
}

enum mem_result mem_fetch(struct vcpu *v, gva_t gva, uint8_t *buf, unsigned int max,
			  unsigned int *got)
{
	unsigned int room = GUEST_PAGE_SIZE - (gva & GUEST_PAGE_MASK);
	unsigned int first = MIN(max, room);

	*got = 0;
	if (fetch_piece(v, gva, buf, first))
		return MEM_FAULT;
	*got = first;
	if (first == max)
		return MEM_OK;
	/* The rest may not belong to the instruction: a fault there is not its own yet. */
	if (fetch_piece(v, advance(v, gva, first), buf + first, max - first) == MEM_OK)
		*got = max;
	else
		v->fault = (struct fault){ 0 };
	return MEM_OK;
}
