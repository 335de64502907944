/* SPDX-License-Identifier: Apache-2.0 */
/* Which guest memory is where in a core file. */
#ifndef VIREO_MGMT_DUMP_MAP_H
#define VIREO_MGMT_DUMP_MAP_H

#include "base/err.h"
#include "base/types.h"

#define DUMP_PIECES_MAX	0xfff0U	/* as many segments as an ELF header counts, and the note */

struct gpa_space;
struct vcpu;

struct dump_piece {
	uint64_t gva;
	gpa_t gpa;
	uint64_t size;
	uint64_t offset;	/* in the file */
};

struct dump_map {
	struct dump_piece *piece;
	unsigned int count, room;
	unsigned int tables;	/* page tables that may still be looked at */
};

/*
 * All RAM, in the order of its extents from offset 0 on; with @v, as its page tables show it,
 * at the same offsets.  -E2BIG: there are too many pieces; -ENOTSUP: it is not in 64-bit mode.
 */
int dump_map_make(struct dump_map *m, struct gpa_space *s, const struct vcpu *v, struct err *e);
/* The memory begins at @offset. */
void dump_map_move(struct dump_map *m, uint64_t offset);
void dump_map_free(struct dump_map *m);

#endif
