// SPDX-License-Identifier: Apache-2.0
/*
 * Makes cases of many instructions: up to 60 of the forms in a row, 64-bit code, or 32-bit code
 * in flat segments but for FS and GS, with forward branches, calls, a loop around, runs of
 * accesses near one address and runs of pushes and pops.  Before an instruction with a memory
 * operand the registers of its address are loaded, so that it lies where gen.c wants it; few of
 * these targets fault.
 *
 * Left out are forms whose outcome the processors do not agree on, jumps to anywhere, and
 * what changes segments; what user mode may not do at all is rare, since it ends a block.
 */
#include "gen.h"

#include <string.h>

#define INSNS_MAX	60
#define COUNTER		(PAGE_VA(STACK_PAGE) + 4095)	/* of the loop */
#define LEFT_OUT	(F_JUMP | F_SEGREG | F_FAR | F_POPF | F_ANY_FAULT | \
			 F_FAULT_FLAGS | F_PARTIAL | F_NO_CR2)

struct pending {		/* a branch whose target comes later */
	unsigned int at;	/* of its 32-bit displacement, 0: none */
	unsigned int insns;	/* to go */
};

static void put(struct gen *g, const void *bytes, unsigned int n)
{
	memcpy(g->c->code + g->c->len, bytes, n);
	g->c->len += n;
}

static void put_le(struct gen *g, uint64_t v, unsigned int n)
{
	put(g, &v, n);
}

static bool is_wide(const struct gen *g)
{
	return g->c->code_size == CODE_64;
}

static unsigned int pick_reg(struct gen *g)
{
	return below(g, is_wide(g) ? 16 : 8);
}

/* mov @reg, @v */
static void put_load(struct gen *g, unsigned int reg, uint64_t v)
{
	if (!is_wide(g)) {
		put_le(g, 0xb8 | reg, 1);
		put_le(g, v, 4);
		return;
	}
	put_le(g, 0xb848 + (reg >> 3) + ((reg & 7) << 8), 2);
	put_le(g, v, 8);
}

static bool ends_a_block(const struct form *f)
{
	static const char *const names[] = {
		"hlt", "cli", "sti", "clts", "wbinvd", "in", "out", "rdmsr", "wrmsr", "ud2", "swapgs",
		"mov_cr", "mov_dr", "xsetbv", "sysret", "invd", "clac", "stac", "ud", "lgdt", "lidt",
		"invlpg", "lldt", "ltr", "lmsw", "ins", "outs", "int", "int3", "wrfsbase", "wrgsbase",
		"div", "idiv", "enter", "leave", "sha1rnds4", "into", "bound", "aam",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(f->name, names[i]))
			return true;
	return f->flags & F_BITSTR;
}

static void pick_block_form(struct gen *g)
{
	uint32_t left_out = LEFT_OUT | (is_wide(g) ? F_NO64 : F_ONLY64);

	do
		g->f = &forms[below(g, BLOCK_FORM)];
	while (g->f->flags & left_out || (g->f->flags & F_NO64 && g->f->undef) ||
	       !strcmp(g->f->name, "any") ||
	       (ends_a_block(g->f) && !chance(g, 16)));
}

/* One instruction at c->len, its registers' values into c->in.gpr. */
static void encode_here(struct gen *g)
{
	g->start = g->c->len;
	g->used = 0;
	g->opcode_len = g->tail_len = 0;
	g->mandatory = g->vex_kind = 0;
	g->modrm_reg = g->bits_rxb = 0;
	g->has_mem = false;
	pick_sizes(g);
	if (g->addrsize == 2 && !chance(g, 16))		/* where there is nothing, in flat segments */
		g->addrsize = 4;
	if (g->flags & F_STACK && chance(g, 2))
		set_address(g, REG_RSP, PAGE_VA(STACK_PAGE) +
			    (chance(g, 12) ? below(g, 64) : 1024 + 8 * below(g, 256)));
	if (!chance(g, 12))
		g->flags |= F_INSIDE;
	if (g->flags & F_STRING) {
		place_strings(g);
		set_address(g, REG_RCX, below(g, 40));
	}
	g->target = pick_target(g);
	if (g->flags & F_INSIDE && !chance(g, 4))
		g->target = ALIGN_DOWN(g->target, 64);
	case_encode(g);
}

/* The same instruction twice: first to learn which registers have to be loaded. */
static void put_insn(struct gen *g)
{
	unsigned int start = g->c->len, r;
	uint64_t gpr[16], wanted[16], rng;
	uint32_t used;

	pick_block_form(g);
	memcpy(gpr, g->c->in.gpr, sizeof(gpr));
	rng = g->rng;
	encode_here(g);
	memcpy(wanted, g->c->in.gpr, sizeof(wanted));
	used = g->used;
	g->c->len = start;
	for (r = 0; r < 16; r++)
		if (used >> r & 1)
			put_load(g, r, wanted[r]);
	memcpy(g->c->in.gpr, gpr, sizeof(gpr));
	g->rng = rng;
	encode_here(g);
	memcpy(g->c->in.gpr, gpr, sizeof(gpr));
}

/* Accesses at small distances from one register. */
static void put_neighbours(struct gen *g)
{
	static const uint8_t opcodes[] = { 0x8b, 0x89, 0x03, 0x01, 0x39, 0x3b, 0x8a, 0x88, 0x63,
					   0x85, 0x87, 0x11, 0x2b, 0x21 };
	unsigned int base = pick_reg(g), n = 2 + below(g, 7), reg, shape;
	uint64_t at = PAGE_VA(DATA_PAGE) + (chance(g, 4) ? 4096 - below(g, 300) : below(g, 3000));
	bool sib = (base & 7) == REG_RSP;

	if (chance(g, 12))
		at = PAGE_VA(RO_PAGE + chance(g, 2)) - below(g, 200);
	put_load(g, base, at);
	while (n--) {
		reg = pick_reg(g);
		if (reg == base && !chance(g, 8))
			reg ^= 1;
		shape = below(g, 8);
		if (shape == 0)
			put_le(g, 0x66, 1);
		if (is_wide(g))
			put_le(g, 0x40 | (shape > 2) << 3 | reg >> 3 << 2 | base >> 3, 1);
		put_le(g, opcodes[below(g, ARRAY_SIZE(opcodes))], 1);
		put_le(g, (shape & 1 ? 0x40 : 0x80) | (reg & 7) << 3 | (base & 7), 1);
		if (sib)
			put_le(g, 0x24, 1);
		put_le(g, below(g, 120), shape & 1 ? 1 : 4);
	}
}

/* REX and opcode, register or digit @reg, r/m register @rm. */
static void put_rr(struct gen *g, bool w, unsigned int op, unsigned int reg, unsigned int rm)
{
	put_le(g, 0x40 | w << 3 | reg >> 3 << 2 | rm >> 3, 1);
	put_le(g, op, 1);
	put_le(g, 0xc0 | (reg & 7) << 3 | (rm & 7), 1);
}

/* An access at @base + @index * 2^scale + a small distance. */
static void put_indexed(struct gen *g, unsigned int base, unsigned int index, unsigned int other)
{
	static const uint8_t opcodes[] = { 0x8b, 0x89, 0x03, 0x01, 0x39, 0x3b, 0x8a, 0x88 };

	put_le(g, 0x48 | other >> 3 << 2 | index >> 3 << 1 | base >> 3, 1);
	put_le(g, opcodes[below(g, ARRAY_SIZE(opcodes))], 1);
	put_le(g, 0x44 | (other & 7) << 3, 1);
	put_le(g, below(g, 4) << 6 | (index & 7) << 3 | (base & 7), 1);
	put_le(g, below(g, 64), 1);
}

/*
 * A loop that counts its turns in a register, which is also an index:
 * xor c, c; l: accesses; add c, step; cmp c, limit; jcc l
 */
static void put_counted(struct gen *g)
{
	static const uint8_t conds[] = { 0x75, 0x72, 0x7c, 0x76, 0x7e };
	unsigned int counter = pick_reg(g), base = pick_reg(g), other = pick_reg(g), n = below(g, 4);
	unsigned int step = 1 + below(g, 16), turns = 1 + below(g, 127 / step), head;

	if (counter == REG_RSP || counter == base || other == counter || other == base)
		return;
	put_load(g, base, PAGE_VA(DATA_PAGE) + (chance(g, 6) ? 4096 - below(g, 1200) : below(g, 2000)));
	put_rr(g, false, 0x31, counter, counter);
	head = g->c->len;
	while (n--)
		put_indexed(g, base, counter, other);
	put_rr(g, true, 0x83, 0, counter);
	put_le(g, step, 1);
	put_rr(g, true, 0x83, 7, counter);
	put_le(g, step * turns, 1);
	put_le(g, conds[below(g, ARRAY_SIZE(conds))], 1);
	put_le(g, head - g->c->len - 1, 1);
}

/* movzx i, r8; accesses by i */
static void put_small(struct gen *g)
{
	unsigned int index = pick_reg(g), base = pick_reg(g), other = pick_reg(g), n = 1 + below(g, 4);

	if (index == REG_RSP || index == base || other == index || other == base)
		return;
	put_load(g, base, PAGE_VA(DATA_PAGE) + below(g, chance(g, 4) ? 4000 : 1500));
	put_le(g, 0x40 | index >> 3 << 2 | other >> 3, 1);
	put_le(g, 0xb60f, 2);
	put_le(g, 0xc0 | (index & 7) << 3 | (other & 7), 1);
	while (n--)
		put_indexed(g, base, index, other);
}

static void put_pushes(struct gen *g)
{
	unsigned int n = 1 + below(g, 8), reg;
	bool push = chance(g, 2);

	if (chance(g, 2))
		put_load(g, REG_RSP, PAGE_VA(STACK_PAGE) + (chance(g, 4) ? 8 * below(g, 8) :
			 chance(g, 4) ? 4096 - below(g, 64) : 2048));
	while (n--) {
		reg = pick_reg(g);
		if (reg == REG_RSP && !chance(g, 4))
			reg = REG_RBP;
		if (is_wide(g))
			put_le(g, 0x40 | reg >> 3, 1);
		put_le(g, (push ? 0x50 : 0x58) | (reg & 7), 1);
		push = chance(g, 6) ? !push : push;
	}
}

/* A Jcc, JMP or CALL to a place some instructions on. */
static void put_branch(struct gen *g, struct pending *p)
{
	unsigned int kind = below(g, 10);

	if (kind > 1)
		put_le(g, 0x800f + (below(g, 16) << 8), 2);
	else
		put_le(g, kind ? 0xe9 : 0xe8, 1);
	p->at = g->c->len;
	p->insns = 1 + below(g, 5);
	put_le(g, 0, 4);
}

static void land_branch(struct gen *g, struct pending *p)
{
	uint32_t rel = g->c->len - p->at - 4;

	memcpy(g->c->code + p->at, &rel, 4);
	p->at = 0;
}

/* dec byte [COUNTER]; jnz @to */
static void put_loop(struct gen *g, unsigned int to)
{
	put_le(g, 0x250cfe, 3);
	put_le(g, COUNTER, 4);
	put_le(g, 0x850f, 2);
	put_le(g, to - g->c->len - 4, 4);
	g->c->arena[COUNTER - ARENA_VA] = 1 + below(g, 4);
}

static void put_code(struct gen *g)
{
	unsigned int n = 1 + below(g, chance(g, 2) ? INSNS_MAX : 12);
	struct pending branch = { 0 };

	while (n-- && g->c->len < CODE_MAX - 600) {
		unsigned int kind = below(g, 16);

		if (kind == 0)
			put_neighbours(g);
		else if (kind == 1)
			put_pushes(g);
		else if (kind == 2 && !branch.at)
			put_branch(g, &branch);
		else if (kind == 3 && is_wide(g) && !branch.at)
			put_counted(g);
		else if (kind == 4 && is_wide(g))
			put_small(g);
		else
			put_insn(g);
		if (branch.at && !--branch.insns)
			land_branch(g, &branch);
	}
	if (branch.at)
		land_branch(g, &branch);
	if (chance(g, 4))
		put_loop(g, 0);
}

/* Flat segments; FS and GS may have a base. */
static void make_narrow(struct gen *g)
{
	struct cpu_image *in = &g->c->in;

	g->c->code_size = CODE_32;
	in->sel[SEG_CS] = SEL_CODE32;
	in->fs_base = in->gs_base = 0;
	in->sel[SEG_FS] = chance(g, 2) ? SEL_LDT(LDT_TLS) : SEL_DATA;
	in->sel[SEG_GS] = chance(g, 4) ? SEL_LDT(LDT_DATA32) : SEL_LDT(LDT_TLS);
}

void block_make(struct test_case *c, uint64_t seed, uint64_t number)
{
	struct gen g = { .rng = seed * 0xd1342543de82ef95ULL ^ number << 20, .c = c };

	memset(&c->in, 0, sizeof(c->in));
	c->number = number;
	c->len = 0;
	g.f = c->form = &forms[BLOCK_FORM];
	g.flags = F_ONLY64;
	pick_mode(&g);
	if (chance(&g, 3))
		make_narrow(&g);
	c->in.rip = ARENA_VA + 0x100 + below(&g, 0xe00);
	fill_arena(&g);
	g.flags = F_STACK | F_JUMP | F_NO_AC;
	pick_registers(&g);
	c->in.rflags &= ~(uint64_t)(RFLAGS_AC | RFLAGS_TF);
	put_code(&g);
	g.flags = F_SIMD | (chance(&g, 4) ? F_X87 : 0);
	fill_xsave(&g);
	for (unsigned int i = 0; i < 16 && !is_wide(&g); i++)
		c->in.gpr[i] = (uint32_t)c->in.gpr[i];
	memcpy(c->arena + (c->in.rip - ARENA_VA), c->code, c->len);
}
