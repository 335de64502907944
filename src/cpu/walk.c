// SPDX-License-Identifier: Apache-2.0
/*
 * Guest page walks: 32-bit paging with 4-MiB pages, PAE paging, 4-level paging.
 *
 * Not modelled: PSE-36 (CPUID does not report it), 5-level paging, protection keys.
 * Paging-structure entries are never cached, which the manual allows.
 *
 * Source: Intel SDM volume 3, "Paging".
 */
#include "cpu/walk.h"

#include "cpu/except.h"
#include "cpu/tlb_priv.h"

#define LEVELS_MAX	4
#define PHYS_MASK	(BIT(GPA_BITS) - 1)
#define ENTRY_GPA	(PHYS_MASK & ~GUEST_PAGE_MASK)
/* Another vCPU that keeps changing an entry must not keep us here. */
#define RETRIES		64

/* A level's entry as it was read. */
struct step {
	void *hva;	/* NULL: not in RAM, or in ROM: A and D cannot be set */
	uint64_t value;
	gpa_t gpa;
};

static enum mem_result page_fault(struct vcpu *v, gva_t gva, unsigned int access,
				  uint32_t error)
{
	bool nx = (v->efer & EFER_NXE) && (v->cr4 & CR4_PAE);

	if (access & ACC_WRITE)
		error |= PF_W;
	if (access_is_user(v, access))
		error |= PF_U;
	if ((access & ACC_FETCH) && (nx || (v->cr4 & CR4_SMEP)))
		error |= PF_I;
	raise_pf(v, gva, error);
	return MEM_FAULT;
}

bool walk_permits(const struct vcpu *v, unsigned int access, const struct walk_rights *r)
{
	if ((access & ACC_FETCH) && r->nx)
		return false;
	if (access_is_user(v, access))
		return r->user && (r->write || !(access & ACC_WRITE));
	if (r->user) {
		bool ac = (v->rflags & RFLAGS_AC) && !(access & ACC_SUPER);

		if ((access & ACC_FETCH) && (v->cr4 & CR4_SMEP))
			return false;
		if (!(access & ACC_FETCH) && (v->cr4 & CR4_SMAP) && !ac)
			return false;
	}
	return r->write || !(access & ACC_WRITE) || !(v->cr0 & CR0_WP);
}

/* Reads one entry.  Where there is no RAM it reads all ones, as a bus without answer does. */
static void read_entry(struct vcpu *v, gpa_t gpa, unsigned int size, struct step *s)
{
	struct ram_extent *x = gpa_to_extent(v->space, gpa);

	s->gpa = gpa;
	s->hva = NULL;
	s->value = size == 8 ? UINT64_MAX : UINT32_MAX;
	if (!x)
		return;
	/* Extents are made of whole pages, entries are aligned: the entry is inside. */
	s->hva = x->hva + (gpa - x->base);
	s->value = size == 8 ? __atomic_load_n((uint64_t *)s->hva, __ATOMIC_RELAXED)
			     : __atomic_load_n((uint32_t *)s->hva, __ATOMIC_RELAXED);
	if (x->readonly)
		s->hva = NULL;
}

/* Sets @bits in an entry; false if it changed since it was read. */
static bool set_bits(struct vcpu *v, struct step *s, unsigned int size, uint64_t bits)
{
	struct ram_extent *x;
	uint32_t old32 = s->value;
	bool done;

	if ((s->value & bits) == bits || !s->hva)
		return true;
	if (size == 8)
		done = __atomic_compare_exchange_n((uint64_t *)s->hva, &s->value,
						   s->value | bits, false, __ATOMIC_SEQ_CST,
						   __ATOMIC_RELAXED);
	else
		done = __atomic_compare_exchange_n((uint32_t *)s->hva, &old32, old32 | bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	x = gpa_to_extent(v->space, s->gpa);
	if (unlikely(x->page_flags[(s->gpa - x->base) >> GUEST_PAGE_SHIFT] & PAGE_CODE) &&
	    v->space->code_written)
		v->space->code_written(v->space->code_written_arg, v, s->gpa, size);
	return done;
}

/* Bits that must be zero in an 8-byte entry which maps or points at level @shift. */
static uint64_t reserved_bits(const struct vcpu *v, unsigned int shift, bool leaf)
{
	uint64_t r = ~PHYS_MASK & (BIT(52) - 1);

	if (!(v->efer & EFER_LMA))
		r |= ~PHYS_MASK & ~PTE_NX;
	if (!(v->efer & EFER_NXE))
		r |= PTE_NX;
	if (shift == 39)
		r |= PTE_PS;
	if (leaf && shift > 12)
		r |= (BIT(shift) - 1) & ~(BIT(13) - 1);
	return r;
}

static bool is_leaf(const struct vcpu *v, uint64_t entry, unsigned int shift, unsigned int size)
{
	if (shift == 12)
		return true;
	if (!(entry & PTE_PS) || shift == 39)
		return false;
	return size == 8 || (v->cr4 & CR4_PSE);
}

static bool is_reserved(const struct vcpu *v, uint64_t entry, unsigned int shift,
			unsigned int size, bool leaf)
{
	if (size == 8)
		return (entry & reserved_bits(v, shift, leaf)) != 0;
	return leaf && shift == 22 && (entry & 0x3fe000);
}

/*
 * The PDPTE of a PAE walk; it has no rights and no A.
 * Departure: it is read at each walk instead of being kept from the load of CR3.  Software
 * that changes one must load CR3 anyway, and sees the change earlier.
 */
static enum mem_result read_pdpte(struct vcpu *v, gva_t gva, unsigned int access, gpa_t *table)
{
	struct step s;

	read_entry(v, (v->cr3 & 0xffffffe0) + (gva >> 30 & 3) * 8, 8, &s);
	if (!(s.value & PTE_P))
		return page_fault(v, gva, access, 0);
	if (s.value & (~PHYS_MASK | 0x1e6))
		return page_fault(v, gva, access, PF_P | PF_RSVD);
	*table = s.value & ENTRY_GPA;
	return MEM_OK;
}

static void add_rights(struct walk_rights *r, uint64_t entry)
{
	r->user &= (entry & PTE_U) != 0;
	r->write &= (entry & PTE_W) != 0;
	r->nx |= (entry & PTE_NX) != 0;
}

/* Fills @w from the leaf @entry at level @shift. */
static void finish(struct vcpu *v, gva_t gva, const struct step *s, unsigned int shift,
		   struct walk *w)
{
	gpa_t base = w->entry_size == 8 ? s->value & PHYS_MASK : (uint32_t)s->value;

	w->gpa = (base & ~(BIT(shift) - 1)) | (gva & (BIT(shift) - 1));
	w->leaf = shift == 12 ? s->hva : NULL;
	w->page_shift = shift;
	w->global = (s->value & PTE_G) && (v->cr4 & CR4_PGE);
	if (w->global && !(tlb_index(gva) & UPPER_INDEX))
		v->tlb.current->low_global = true;
}

/* Sets A in the @count entries at @path and D in the last; false: one of them changed. */
static bool set_accessed(struct vcpu *v, struct step *path, unsigned int count,
			 unsigned int access, struct walk *w)
{
	if (access & ACC_PROBE)
		return true;
	for (unsigned int i = 0; i < count; i++) {
		bool dirty = i == count - 1 && (access & ACC_WRITE);

		if (!set_bits(v, &path[i], w->entry_size, PTE_A | (dirty ? PTE_D : 0)))
			return false;
	}
	return true;
}

/* One attempt; *again when an entry changed under us. */
static enum mem_result walk_once(struct vcpu *v, gva_t gva, unsigned int access,
				 struct walk *w, bool *again)
{
	unsigned int shift = 39, bits = 9, count = 0;
	gpa_t table = v->cr3 & ENTRY_GPA;
	struct step path[LEVELS_MAX];

	w->rights = (struct walk_rights){ .user = true, .write = true };
	w->entry_size = 8;
	if (!(v->cr4 & CR4_PAE)) {
		table &= UINT32_MAX;
		w->entry_size = 4;
		shift = 22;
		bits = 10;
	} else if (!(v->efer & EFER_LMA)) {
		if (read_pdpte(v, gva, access, &table))
			return MEM_FAULT;
		shift = 21;
	}
	for (;; shift -= bits) {
		struct step *s = &path[count++];
		bool leaf;

		read_entry(v, table + (gva >> shift & (BIT(bits) - 1)) * w->entry_size,
			   w->entry_size, s);
		if (!(s->value & PTE_P))
			return page_fault(v, gva, access, 0);
		leaf = is_leaf(v, s->value, shift, w->entry_size);
		if (is_reserved(v, s->value, shift, w->entry_size, leaf))
			return page_fault(v, gva, access, PF_P | PF_RSVD);
		w->upper = w->rights;
		add_rights(&w->rights, s->value);
		if (leaf)
			break;
		table = w->entry_size == 8 ? s->value & ENTRY_GPA : s->value & 0xfffff000;
	}
	if (!walk_permits(v, access, &w->rights))
		return page_fault(v, gva, access, PF_P);
	finish(v, gva, &path[count - 1], shift, w);
	*again = !set_accessed(v, path, count, access, w);
	w->dirty = (path[count - 1].value & PTE_D) ||
		   ((access & ACC_WRITE) && !(access & ACC_PROBE));
	return MEM_OK;
}

enum mem_result walk(struct vcpu *v, gva_t gva, unsigned int access, struct walk *w)
{
	enum mem_result rc = MEM_OK;
	bool again = true;

	*w = (struct walk){ .gpa = gva, .page_shift = GUEST_PAGE_SHIFT };
	if (!(v->cr0 & CR0_PG)) {
		w->rights = (struct walk_rights){ .write = true };
		w->dirty = true;
		return MEM_OK;
	}
	w->paging = true;
	stat_add(&v->stats.page_walks, 1);
	for (int i = 0; again && rc == MEM_OK && i < RETRIES; i++)
		rc = walk_once(v, gva, access, w, &again);
	return rc;
}

bool walk_neighbour(const struct vcpu *v, const struct walk *w, int distance,
		    struct walk_neighbour *n)
{
	uint64_t e;

	if (w->entry_size == 8)
		e = __atomic_load_n((const uint64_t *)w->leaf + distance, __ATOMIC_RELAXED);
	else
		e = __atomic_load_n((const uint32_t *)w->leaf + distance, __ATOMIC_RELAXED);
	if ((e & (PTE_P | PTE_A)) != (PTE_P | PTE_A) ||
	    is_reserved(v, e, GUEST_PAGE_SHIFT, w->entry_size, true))
		return false;
	n->gpa = w->entry_size == 8 ? e & ENTRY_GPA : e & 0xfffff000;
	n->rights = w->upper;
	add_rights(&n->rights, e);
	n->dirty = (e & PTE_D) != 0;
	n->global = (e & PTE_G) && (v->cr4 & CR4_PGE);
	return true;
}
