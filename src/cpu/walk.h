/* SPDX-License-Identifier: Apache-2.0 */
/* Page walks: what mmu.c needs to know of a translation.  Private to cpu/. */
#ifndef VIREO_CPU_WALK_H
#define VIREO_CPU_WALK_H

#include "cpu/mmu.h"

/* What all levels of a walk allow together. */
struct walk_rights {
	bool user;
	bool write;
	bool nx;
};

struct walk {
	gpa_t gpa;
	struct walk_rights rights;
	struct walk_rights upper;	/* of the levels above a 4-KiB page's entry */
	const void *leaf;		/* that entry in host memory; NULL: no such entry */
	uint8_t entry_size;
	uint8_t page_shift;		/* 12, 21, 22, 30; 12 while paging is off */
	bool dirty;			/* the leaf's D is set */
	bool global;
	bool paging;
};

/* A translation that a neighbouring entry would give, if it needs no A or D set. */
struct walk_neighbour {
	gpa_t gpa;
	struct walk_rights rights;
	bool dirty;
	bool global;
};

/*
 * Walks for @gva, which must be canonical: checks rights, sets A and D (not with
 * ACC_PROBE).  MEM_FAULT: v->fault is the #PF.
 */
enum mem_result walk(struct vcpu *v, gva_t gva, unsigned int access, struct walk *w);

/*
 * The entry @distance entries from @w's leaf, which the caller knows to be in the same
 * table: true if it is present, valid and accessed.
 */
bool walk_neighbour(const struct vcpu *v, const struct walk *w, int distance,
		    struct walk_neighbour *n);

/* May an access of this kind go through a page with these rights, at the present CPL? */
bool walk_permits(const struct vcpu *v, unsigned int access, const struct walk_rights *r);

/* Is the access one of user mode? */
static inline bool access_is_user(const struct vcpu *v, unsigned int access)
{
	return v->cpl == 3 && !(access & ACC_SUPER);
}

#endif
