/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows: places of ours where the host's own page tables stand for the guest's.
 *
 * The pages of one of the guest's address spaces, as user mode sees them, are mapped once
 * more at guest address + constant, so that translated code reaches them without a lookup.
 * A page is mapped only while the TLB's user table holds it, for writing only while the
 * write table does: whoever drops an entry there drops the page here.
 *
 * A vCPU has some sets of windows, each with an address space as its owner or free, so that a
 * space finds its pages again after others ran.  Code reaches those of the current space only:
 * the constants that it takes are changed with the space, and no address that went through the
 * check leads from one set into another, for it leads into its own or out of user space.
 *
 * A set has two windows, for the places where user programs are: low for programs linked
 * to a fixed address, high for position-independent ones, libraries and stacks.  Which
 * guest addresses are in one says a table with a page for every two TiB, which can be read only
 * for such addresses: loading from it, by bits 32 to 47, is the check.  So an operand is sound
 * if a register went through that check and the operand is within WINDOW_GUARD of it.  What
 * is in bits 48 and up need not be looked at: neither constant leads from there to user space.
 *
 *   gva			window	host address
 *   0 - 2 TiB		low	gva + low
 *   84 - 88, 126 - 128 TiB	high	gva + high
 *
 * With the other window's constant, an address that went through the check leads out of
 * user space, where the host's processor refuses it.
 */
#ifndef VIREO_CPU_WINDOW_H
#define VIREO_CPU_WINDOW_H

#include "base/types.h"

struct vcpu;
struct tlb_space;

#define WINDOW_CHECK_BIT	32	/* the check looks at 16 bits of an address from this one on */
#define WINDOW_CHECK_SHIFT	3	/* they are multiplied to be an offset in its table */
#define WINDOW_TIB_BIT		40
#define WINDOW_TIBS		128U	/* of a user's address space */
#define WINDOW_GUARD_BIT	36
#define WINDOW_GUARD		BIT(WINDOW_GUARD_BIT)	/* around each window, never mapped but for window_fs_save() */
#define WINDOW_LOW_END		BIT(41)
#define WINDOW_TIB		9	/* of our address space for a set, about ... */
#define WINDOW_CPUS		6	/* ... and so with more vCPUs there are none */
#define WINDOW_SETS		6	/* of all vCPUs, if each has more than one */

struct window_set {
	uint64_t low, high;	/* host address - guest address; 0: there is none */
	struct tlb_window *all;	/* the vCPU's */
	struct tlb_space *owner; /* whose pages are mapped, or NULL */
	uint64_t seen;		/* TSC: the owner ran; for whoever gives them */
	uint64_t (*mapped)[8];	/* by region of 2 MiB, a bit for each page that is mapped; sparse */
	uint8_t *used;		/* by region: it is listed; sparse */
	uint32_t *regions;	/* in which pages were mapped since all were hidden */
	unsigned int region_count;
	unsigned int changes;	/* mappings and holes made since then */
	unsigned int emptied;	/* all were hidden so many times; for whoever gives them */
};

struct tlb_window {
	/* Of the current space if it has a set; else of whose constants were used last.  0: there are none. */
	uint64_t low, high;
	uint64_t constant[WINDOW_TIBS];	/* the one or the other, of each TiB that is in a window */
	bool active;		/* vcpu.view is the user's of a space with a set: data accesses of 64-bit code go there */
	gva_t expected;		/* the system was told of a fault there, and will have a page; 0: none */
	struct window_set *now;	/* the current space's, or NULL */
	struct window_set set[WINDOW_SETS];
	unsigned int sets;
	unsigned int changes;	/* of all sets */
	unsigned int changes_max; /* the host allows some 65,000 mappings */
	uint64_t spent;		/* TSC cycles on mapping and hiding; for whoever gives them */
};

/*
 * Memory for a struct vcpu, zeroed, below 2 GiB, so that generated code has its address in an
 * instruction; behind it the table of checks.  NULL: out of memory there.
 */
struct vcpu *vcpu_alloc(void);
void vcpu_free(struct vcpu *v);

/* Where in a struct vcpu's memory the table of checks is. */
#define VCPU_CHECKS		BIT(22)

/*
 * While code for windows runs, FS and GS have the constants low and high.  A signal handler
 * knows the former, a multiple of WINDOW_GUARD, and finds in the first page of the guard before it
 * what FS is at other times.
 */
static inline uint64_t *window_fs_save(uint64_t low)
{
	return (uint64_t *)(low - WINDOW_GUARD);
}

/* How many sets each of @cpus has. */
unsigned int window_sets(unsigned int cpus);
/* Makes v's sets, as many as there is room for; without any v->tlb.window.low stays 0. */
void window_init(struct vcpu *v);
void window_destroy(struct vcpu *v);

/* From now on @set shows the current space, which has none; it starts empty. */
void window_give(struct vcpu *v, struct window_set *set);
/* From now on @set shows nothing. */
void window_take(struct vcpu *v, struct window_set *set);
/* The current space is another one, or has got or lost its set. */
void window_select(struct vcpu *v, struct window_set *set);

/* Is the page at @gva in one of the windows' ranges? */
bool window_covers(gva_t gva);
/* The guest address that @hva in one of the constants' windows shows, or false. */
bool window_gva(const struct tlb_window *w, uint64_t hva, gva_t *gva);

/*
 * Maps the page at @gva of the current space, which has a set, and neighbours, as the
 * user tables have them; false: they don't, or the host refused.
 */
bool window_fill(struct vcpu *v, gva_t gva);

/* The owner runs again after a fault: the page that was missing is mapped, if it is there. */
void window_fill_expected(struct vcpu *v);

/* For tlb_space.c and tlb.c: an entry, a region's entries, all entries are dropped. */
void window_drop_page(struct window_set *w, uint64_t index);
void window_drop_region(struct window_set *w, uint64_t region);
void window_drop_all(struct window_set *w);

#endif
