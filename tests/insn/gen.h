/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A case in the making: between gen.c, which chooses, and encode.c.
 */
#ifndef VIREO_TESTS_INSN_GEN_H
#define VIREO_TESTS_INSN_GEN_H

#include "case.h"

struct gen {
	uint64_t rng;
	struct test_case *c;
	unsigned int start;		/* of the instruction in c->code */
	const struct form *f;
	unsigned int flags;
	unsigned int opsize, addrsize;	/* bytes */
	unsigned int seg;		/* of the memory operand, SEG_* */
	bool seg_override;
	uint64_t target;		/* linear address of the memory operand */
	bool has_mem;
	uint32_t used;			/* registers that hold an address */
	/* the encoding under construction */
	uint8_t opcode[4], opcode_len;
	uint8_t mandatory;
	uint8_t tail[16], tail_len;	/* ModRM and what follows */
	uint8_t modrm_reg, bits_rxb;	/* REX bits R, X, B as 4, 2, 1 */
	uint8_t vex[4], vex_kind;	/* 'v', 'e' or 0; PP, MAP, W, L as written */
	int rip_disp_at;		/* in tail, -1: none */
};

uint64_t rnd(struct gen *g);
unsigned int below(struct gen *g, unsigned int n);
bool chance(struct gen *g, unsigned int one_in);
/* A number at which something may change: of a size, a sign, a digit. */
uint64_t corner(struct gen *g);
uint64_t seg_base(struct gen *g, unsigned int seg);
/* Gives register @r the address part @v; bits above the address size keep their noise. */
void set_address(struct gen *g, unsigned int r, uint64_t v);

/* gen.c: what a block needs of it */
void pick_mode(struct gen *g);
void pick_sizes(struct gen *g);
void pick_registers(struct gen *g);
uint64_t pick_target(struct gen *g);
void place_strings(struct gen *g);
void fill_arena(struct gen *g);
void fill_xsave(struct gen *g);

/* block.c: many instructions instead of one */
void block_make(struct test_case *c, uint64_t seed, uint64_t number);

/* Adds to c->code; sets has_mem, used, and the base registers that the encoding took. */
void case_encode(struct gen *g);

#endif
