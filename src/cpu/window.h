/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Windows: places of ours where the host's own page tables stand for the guest's.
 *
 * The pages of one of the guest's address spaces, as user mode sees them, are mapped once
 * more at guest address + constant, so that translated code reaches them without a lookup.
 * A page is mapped only while the TLB's user table holds it, for writing only while the
 * write table does: whoever drops an entry there drops the page here.
 *
 * There are two windows, for the places where user programs are: low for programs linked
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
#define WINDOW_GUARD		BIT(36)	/* around each window, never mapped but for window_fs_save() */
#define WINDOW_LOW_END		BIT(41)
#define WINDOW_TIB		8	/* of our address space, about ... */
#define WINDOW_CPUS		6	/* ... and so with more vCPUs there are none */

struct tlb_window {
	uint64_t low, high;	/* host address - guest address; both 0: there are none */
	uint64_t constant[WINDOW_TIBS];	/* the one or the other, of each TiB that is in a window */
	struct tlb_space *owner; /* whose pages are mapped, or NULL */
	bool active;		/* vcpu.view is the owner's user view: data accesses of 64-bit code go there */
	uint8_t *used;		/* by region of 2 MiB: pages of it may be mapped; sparse */
	uint32_t *regions;	/* those that are */
	unsigned int region_count;
	unsigned int pages;	/* mapped since they were emptied */
	gva_t expected;		/* the system was told of a fault there, and will have a page; 0: none */
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
 * knows the former by its whole TiBs, and finds in the first page of the guard before it
 * what FS is at other times.
 */
static inline uint64_t *window_fs_save(uint64_t low)
{
	return (uint64_t *)(low - WINDOW_GUARD);
}

/* Makes v's windows; without them (no room) v->tlb.window.low stays 0. */
void window_init(struct vcpu *v);
void window_destroy(struct vcpu *v);

/* From now on the windows show @s, NULL: nothing; they start empty. */
void window_give(struct vcpu *v, struct tlb_space *s);

/* Is the page at @gva in one of the windows' ranges? */
bool window_covers(gva_t gva);
/* The guest address that @hva in a window shows, or false. */
bool window_gva(const struct tlb_window *w, uint64_t hva, gva_t *gva);

/*
 * Maps the page at @gva of the current space, which is the owner, and neighbours, as the
 * user tables have them; false: they don't, or the host refused.
 */
bool window_fill(struct vcpu *v, gva_t gva);

/* The owner runs again after a fault: the page that was missing is mapped, if it is there. */
void window_fill_expected(struct vcpu *v);

/* For tlb_space.c and tlb.c: an entry, a region's entries, all entries are dropped. */
void window_drop_page(struct tlb_window *w, uint64_t index);
void window_drop_region(struct tlb_window *w, uint64_t region);
void window_drop_all(struct tlb_window *w);

#endif
