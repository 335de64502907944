/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between mmu.c, tlb.c, tlb_space.c and tlb_frames.c: what backs the tables of tlb.h, and the record
 * of which of their parts are in use, so that a flush touches nothing else.
 *
 * Units: a region is 2 MiB of guest-virtual addresses, which is one host page (512
 * entries) of each table; a granule is 1 GiB.
 */
#ifndef VIREO_CPU_TLB_PRIV_H
#define VIREO_CPU_TLB_PRIV_H

#include "cpu/vcpu.h"

#define REGION_PAGES	512
#define REGION_BITS	(TLB_INDEX_BITS - 9)
#define GRANULE_BITS	(TLB_INDEX_BITS - 18)
#define TABLE_BYTES	(sizeof(int64_t) << TLB_INDEX_BITS)
#define UPPER_INDEX	BIT(TLB_INDEX_BITS - 1)	/* bit 47 of the address */

/*
 * A region's flags: bit 2 * view + access says that this table may hold entries; the
 * shared half uses view 0's two bits.
 */
#define REGION_TABLE(view, access) (1U << (2 * (view) + (access)))
#define REGION_TABLES	0x3fU
#define REGION_LARGE	0x40U	/* some of the entries belong to a page of more than 4 KiB */
#define REGION_RESIDENT	0x80U	/* host memory may stand behind it, even if it is empty */
#define REGION_USED	(REGION_TABLES | REGION_LARGE)

/* What one set of tables holds. */
struct tlb_record {
	uint8_t *flags;		/* by region; sparse */
	uint8_t *huge;		/* by granule: entries of a page larger than a region */
	uint32_t *used;		/* the regions with REGION_USED flags */
	unsigned int used_count;
	unsigned int resident;	/* regions with REGION_RESIDENT */
	unsigned int limit;	/* at most so many resident, then all memory is returned */
	bool any_huge;
	struct window_set *window; /* shows the user view, or NULL */
	struct cell_map *cell;	/* likewise */
};

struct tlb_space {
	struct tlb_view view[VIEW_COUNT];
	int64_t *chain[2];	/* compact: three halves of tables side by side; else NULL */
	struct tlb_record rec;	/* all but the shared half */
	uint16_t pcid;
	gpa_t root;		/* of the tables that it was last filled from, with PCIDs */
	bool low_global;	/* a global page of the lower half was walked */
	uint64_t tag;		/* fetch_tag while this space is current */
	/*
	 * Pages that were walked for execution under this tag: a bit for 4 KiB, in the other for
	 * 2 MiB, by their number modulo 65536; and was there a larger one?
	 */
	uint64_t fetched[1024], fetched_large[1024];
	bool fetched_any, fetched_huge;
	uint64_t used_at;	/* tlb.clock */
};

#define NONGLOBAL_MAX	1024
#define NONGLOBAL_TOO_MANY (NONGLOBAL_MAX + 1)

/* The half with address bit 47 set, of both supervisor views of all spaces. */
struct tlb_kernel_half {
	bool shared;		/* false: the host refused, each space has its own */
	int fd[2];
	struct tlb_view view;	/* our own mapping; only indices >= UPPER_INDEX exist */
	struct tlb_record rec;
	uint32_t nonglobal_count;	/* NONGLOBAL_TOO_MANY: drop all */
	uint64_t nonglobal[NONGLOBAL_MAX];	/* indices of entries that are not global */
};

/* --- tlb_space.c --- */

/* Clears @count 64-bit words; libc's memset uses SIMD registers, which may be the guest's. */
void zero_entries(void *p, uint64_t count);

/* A table of zeros that all vCPUs of @s share, for reading; NULL: the host refuses. */
int64_t *tlb_zeros(struct gpa_space *s);

/* Zeroed, sparse memory; NULL: the host refuses. */
void *tlb_reserve(uint64_t bytes, int prot);
void tlb_release(void *p, uint64_t bytes);

/* Notes that @bits of @region, which is resident, are going to be used. */
void tlb_record_use(struct tlb_record *r, uint64_t region, unsigned int bits);
/* Empties the tables that @r speaks of; @view is an array of all its views. */
void tlb_record_flush(struct tlb_record *r, struct tlb_view *view);
/* INVLPG: the entry at @index, and all others of the same large page. */
void tlb_record_flush_page(struct tlb_record *r, struct tlb_view *view, uint64_t index);

/* A page of 1 << @shift bytes was walked for execution: engines may keep that under the tag. */
void tlb_note_fetch(struct tlb_space *s, gva_t gva, unsigned int shift);

/* An empty space; NULL: the host refuses. */
struct tlb_space *tlb_space_create(struct tlb_kernel_half *k);
/* The same for compact TLBs, without tables in its views before tlb_space_arrange(). */
struct tlb_space *tlb_space_create_compact(void);
/* Gives the views of the compact @s, which is empty, their tables. */
void tlb_space_arrange(struct tlb_space *s, const struct tlb_view *empty, bool smap);
void tlb_space_free(struct tlb_space *s);
/* Empties @s and gives its memory back. */
void tlb_space_trim(struct tlb_space *s, bool shared);

/* Makes the shared half; k->shared stays false if the host refuses. */
void tlb_kernel_share(struct tlb_kernel_half *k);
void tlb_kernel_unshare(struct tlb_kernel_half *k);
void tlb_kernel_flush(struct tlb_kernel_half *k);
/* Drops what is not global: at every switch or flush of a space. */
void tlb_kernel_flush_nonglobal(struct tlb_kernel_half *k);
void tlb_kernel_trim(struct tlb_kernel_half *k);

/*
 * May pages of @index be entered into @kind?  Not where a compact view has no table, and not
 * where it overlaps with another view's.
 */
static inline bool tlb_has_place(const struct tlb *t, enum tlb_view_kind kind, uint64_t index)
{
	bool upper = index & UPPER_INDEX;

	if (likely(!t->compact))
		return true;
	return t->current->view[kind].table[TLB_READ] != t->empty.table[TLB_READ] &&
	       (kind == VIEW_SUPER_AC || upper == (kind == VIEW_SUPER));
}

static inline uint64_t tlb_region(uint64_t index)
{
	return index / REGION_PAGES;
}

/* --- tlb.c --- */

/* A translation to be entered. */
struct tlb_fill {
	gva_t gva;		/* of the page */
	int64_t delta;
	struct ram_extent *extent;
	gpa_t gpa;
	bool write;		/* into the write table, too */
	bool global;
	uint8_t page_shift;	/* 12, 21, 22 or 30; 12 while paging is off */
};

/*
 * To be called for each miss in the tables before they are filled: even a failing lookup
 * makes the host put memory behind the table.
 */
void tlb_note_miss(struct vcpu *v, enum tlb_view_kind view, gva_t gva);
/* Enters @f into @view of the current space; a full table of reverse entries leaves it out. */
void tlb_enter(struct vcpu *v, enum tlb_view_kind view, const struct tlb_fill *f);

/* Drops the write entries of page index @index in all spaces and views. */
void tlb_drop_writes(struct vcpu *v, uint64_t index);
/* The same for all entries that lead to the page at @hva: a scan of all that is in use. */
void tlb_drop_writes_to(struct vcpu *v, const uint8_t *hva);
/* Does some write entry of page @index lead to @hva? */
bool tlb_writes_to(struct vcpu *v, uint64_t index, const uint8_t *hva);

/* --- tlb_frames.c --- */

/* Reverse lookup: remembers that page @index was entered for writing to @gpa. */
bool tlb_frames_note(struct vcpu *v, struct ram_extent *x, gpa_t gpa, uint64_t index);
void tlb_frames_free(struct vcpu *v);

/* Does @entry, which is at @index of a table, lead to the page at @hva? */
static inline bool tlb_leads_to(uint64_t index, int64_t entry, const uint8_t *hva)
{
	uint64_t page = index | (entry & TLB_TAG) << TLB_INDEX_BITS;
	gva_t gva = (int64_t)(page << 28) >> 16;

	return entry && gva + (entry & ~TLB_TAG) == (uintptr_t)hva;
}

#endif
