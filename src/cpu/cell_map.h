/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a cell shows: the pages of one of the guest's address spaces, as user mode sees them.
 *
 * A page is mapped only while the TLB's user table holds it, for writing only while the write
 * table does, and for execution only where the guest's tables allow that, while it cannot be
 * written to there, and as cell_code_look() has it: whoever drops an entry drops the page here.
 */
#ifndef VIREO_CPU_CELL_MAP_H
#define VIREO_CPU_CELL_MAP_H

#include "cpu/cell.h"

struct tlb_space;

/* A page that is shown with some instructions replaced. */
struct cell_copy {
	const uint8_t *hva;	/* the guest's page; NULL: free */
	uint64_t index;		/* where it is shown, if it is */
	bool shown;
	uint8_t page[4096];	/* what it was */
};

struct cell_map {
	struct cell *cell;
	struct tlb_space *owner; /* whose pages are mapped, or NULL */
	gpa_t root;		/* of the owner's tables then; for whoever gives them */
	uint64_t seen;		/* TSC: the owner ran; for whoever gives them */
	uint64_t (*mapped)[8];	/* by region of 2 MiB, a bit for each page that is mapped; sparse */
	uint64_t (*code)[8];	/* likewise: and for execution */
	uint8_t *used;		/* by region: it is listed; sparse */
	uint32_t *regions;	/* in which pages were mapped since all were taken away */
	unsigned int region_count;
	unsigned int changes;	/* mappings and holes made since then */
	unsigned int emptied;	/* all was taken away so many times */
	unsigned int copy_next;	/* is taken next */
	bool copies_shown;	/* some of them */
	unsigned int copies_checked; /* so often since they were hidden */
	uint64_t host_xcr0;
	unsigned int flips;	/* pages that were written to after they ran, or the other way round */
	unsigned int mapped_now; /* mappings made; whoever counts them clears it */
	struct cell_copy *copy;	/* CELL_COPIES */
};

/* With a new cell; false: the host refuses. */
bool cell_map_init(struct cell_map *m, struct vcpu *v);
void cell_map_destroy(struct cell_map *m);

/* From now on @m shows the current space, which has none; it starts empty. */
void cell_map_give(struct vcpu *v, struct cell_map *m);
/* From now on @m shows nothing. */
void cell_map_take(struct vcpu *v, struct cell_map *m);

/*
 * Maps the page at @gva of the current space, which has @m, as the user tables have it, for
 * execution if @fetch, and neighbours.  False: it cannot be reached as wanted.  SIMD state must be put away.
 */
bool cell_map_fill(struct cell_map *m, struct vcpu *v, gva_t gva, bool write, bool fetch);

enum cell_code { CELL_CODE_PLAIN, CELL_CODE_PATCHED, CELL_CODE_UNFIT };

/*
 * May code in @page run on the processor itself?  PATCHED: as it is in @copy, without instructions
 * to which the guest is to have other answers than the host gives: CPUID, RDTSC and their like, and
 * XSAVE unless @same_xcr0: the guest's XCR0 is the host's.  @before: the page before it, or NULL.
 */
enum cell_code cell_code_look(const uint8_t page[4096], const uint8_t *before, bool same_xcr0,
			      uint8_t copy[4096]);

/* Copies of pages that are not what their pages are now are shown no longer. */
void cell_map_check_copies(struct cell_map *m);

/* For tlb_space.c and tlb.c: an entry, a region's entries, all entries are dropped. */
void cell_map_drop_page(struct cell_map *m, uint64_t index);
void cell_map_drop_region(struct cell_map *m, uint64_t region);
void cell_map_drop_all(struct cell_map *m);

#endif
