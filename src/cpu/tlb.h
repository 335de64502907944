/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The software TLB: flat tables of page deltas.
 *
 * A table has one int64_t for each of the 2^36 pages of a 48-bit address space,
 * indexed by address bits 12-47; memory for it is reserved and sparse.  Zero is a
 * miss; else host address = guest-virtual address + delta.  There is one table for
 * reads and one for writes in each view, a view for each kind of access:
 *
 *   VIEW_USER	accesses at CPL 3
 *   VIEW_SUPER	accesses at CPL 0-2 with SMAP in force (user pages are misses)
 *   VIEW_SUPER_AC	the same with EFLAGS.AC set or CR4.SMAP clear
 *
 * A view's tables belong to an address space, named by PCID; several are kept, so
 * that a switch back finds its entries.  The kernel half of both supervisor views
 * (bit 47 set) is one mapping shared by all spaces: global pages live there across
 * switches, others are recorded and dropped at a switch.
 *
 * With more than some thirty vCPUs the host's address space does not hold six tables for each.
 * Then they are 'compact': one space, a user and one supervisor view that overlap by half a
 * table, which is never used where it would belong to both.  What has no table then takes
 * the slow path: supervisor accesses to the lower half under SMAP, and user mode without
 * SMAP.
 *
 * What is not in a table: devices, ROM and code pages (writes), pages without A (or,
 * for writes, D) set, pages under a data breakpoint.  Those take the slow path.
 *
 * Sound for non-canonical addresses: the index ignores bits 48-63, and adding a
 * delta cannot turn such an address into a canonical one, so the host's access
 * faults.  C code checks canonicality itself.
 */
#ifndef VIREO_CPU_TLB_H
#define VIREO_CPU_TLB_H

#include "base/err.h"
#include "base/types.h"
#include "cpu/window.h"

#ifndef TLB_INDEX_BITS	/* the thread sanitizer has less room */
#define TLB_INDEX_BITS	36
#endif
/*
 * What a smaller index leaves out of an address is in the entry's low bits, where a delta is zero, and
 * compared.  (Translated code does not: it needs the full index, with which this is nothing.)
 */
#define TLB_TAG_BITS	(36 - TLB_INDEX_BITS)
#define TLB_TAG		(BIT(TLB_TAG_BITS) - 1)
_Static_assert(TLB_TAG_BITS <= GUEST_PAGE_SHIFT, "a delta has no more zeros");
#define TLB_SPACES	8	/* address spaces kept, at most */

enum tlb_view_kind { VIEW_USER, VIEW_SUPER, VIEW_SUPER_AC, VIEW_COUNT };
enum tlb_access { TLB_READ, TLB_WRITE };

struct tlb_view {
	int64_t *table[2];	/* [TLB_READ], [TLB_WRITE] */
};

struct cell_map;
struct tlb_space;		/* one address space: its views and what they hold; tlb_priv.h */

struct tlb {
	struct tlb_space *space[TLB_SPACES];
	unsigned int spaces_max;	/* so many fit into the host's address space */
	struct tlb_space *current;
	struct tlb_kernel_half *kernel;	/* shared upper half; tlb_priv.h */
	struct tlb_window window;	/* the host's page tables in place of the user view's */
	struct cell_map *cell;	/* shows the current space's user view, or NULL: cell_map.h */
	struct tlb_frames *frames;	/* which addresses write to a RAM page; tlb_frames.c */
	struct tlb_view empty;	/* always misses: for #AC checks by the slow path, and in compact */
	unsigned int empty_misses;
	bool compact;
	uint8_t *pair;		/* two pages of RAM side by side: mmu.c; or NULL */
	uint64_t mode;			/* control bits that the entries were made under */
	gpa_t apic_page;		/* intc_ops->mmio_base() as of the last flush ... */
	bool apic_known;		/* ... and whether it was asked since */
	uint64_t clock;			/* counts switches: which space was used last */
	/*
	 * Changes whenever a cached gva -> gpa translation for execution may have become
	 * stale, and differs between address spaces: engines tag fetch caches with it.
	 */
	uint64_t fetch_tag;
	uint64_t next_tag;
	/*
	 * For engines that jump straight between global pages of the upper half: changes when
	 * such a page that they noted by tlb_note_code may have been mapped anew.
	 */
	uint64_t upper_tag;
	uint8_t upper_code[8192];	/* a bit for 2 MiB, by their number modulo 65536 */
};

static inline void tlb_note_code(struct tlb *t, gva_t gva)
{
	t->upper_code[gva >> 24 & 8191] |= 1U << (gva >> 21 & 7);
}

static inline uint64_t tlb_index(gva_t gva)
{
	return gva >> GUEST_PAGE_SHIFT & (BIT(TLB_INDEX_BITS) - 1);
}

static inline uint64_t tlb_tag(gva_t gva)
{
	return gva >> (GUEST_PAGE_SHIFT + TLB_INDEX_BITS) & TLB_TAG;
}

static inline bool gva_canonical(gva_t gva)
{
	return (gva_t)((int64_t)(gva << 16) >> 16) == gva;
}

/*
 * The host address of [gva, gva+size) for reading or writing in @view, if it is within
 * one page that the table holds; NULL is a miss and says nothing more.
 */
static inline void *tlb_lookup(const struct tlb_view *view, gva_t gva, unsigned int size,
			       enum tlb_access access)
{
	int64_t entry = view->table[access][tlb_index(gva)];

	if (unlikely(!entry || !gva_canonical(gva) || (entry & TLB_TAG) != tlb_tag(gva) ||
		     (gva & GUEST_PAGE_MASK) + size > GUEST_PAGE_SIZE))
		return NULL;
	return (void *)(gva + (entry & ~TLB_TAG));
}

#endif
