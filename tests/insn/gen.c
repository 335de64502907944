// SPDX-License-Identifier: Apache-2.0
/*
 * Makes cases: picks a form, encodes it with random operands, and chooses registers and
 * memory such that its memory operand lies where something can happen: in the data pages,
 * across their borders, in the read-only page, in no page, at no canonical address.
 *
 * Everything follows from (seed, number), so one case can be made again alone.
 */
#include "gen.h"

#include <stdlib.h>
#include <string.h>

#define FORM(name, encoding, flags, undef) { #name, encoding, flags, undef },
const struct form forms[] = {
#include "forms.def"
};
#undef FORM
const unsigned int form_count = ARRAY_SIZE(forms);

uint64_t rnd(struct gen *g)
{
	uint64_t z = g->rng += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

unsigned int below(struct gen *g, unsigned int n)
{
	return (rnd(g) >> 32) % n;
}

bool chance(struct gen *g, unsigned int one_in)
{
	return below(g, one_in) == 0;
}

uint64_t corner(struct gen *g)
{
	static const uint64_t values[] = {
		0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000,
		0xffffffff, 0x100000000, INT64_MAX, 1ULL << 63, UINT64_MAX, UINT64_MAX - 1,
		0x0f, 0x10, 0x99, 0x9a, 0x5555555555555555, 0xaaaaaaaaaaaaaaaa,
	};
	uint64_t v = rnd(g);

	switch (below(g, 8)) {
	case 0: case 1: case 2:
		return values[below(g, ARRAY_SIZE(values))];
	case 3:
		return v & 0xff;
	case 4:
		return (int64_t)v >> below(g, 64);
	case 5:		/* a corner in the low half, noise above */
		return (v & ~0xffffULL) | (values[below(g, ARRAY_SIZE(values))] & 0xffff);
	default:
		return v;
	}
}

uint64_t pick_target(struct gen *g)
{
	unsigned int near = 1 + below(g, 32);

	if (g->flags & F_INSIDE)
		return PAGE_VA(DATA_PAGE) + 16 + below(g, 4000);
	switch (below(g, 24)) {
	case 0: return PAGE_VA(RO_PAGE) - near;
	case 1: return PAGE_VA(RO_PAGE) + below(g, 4000);
	case 2: return PAGE_VA(RO_PAGE + 1) - near;
	case 3: return PAGE_VA(6) + below(g, 4000);
	case 4: return PAGE_VA(DATA_PAGE) - near;
	case 5: case 6: return PAGE_VA(DATA_PAGE + 1) - near;
	case 7:
		if (g->addrsize == 8)
			return 0x800000000000ULL + (rnd(g) >> 2);
		__attribute__((fallthrough));
	case 8: case 9: case 10: case 11: case 12:
		return PAGE_VA(DATA_PAGE) + below(g, 8000);
	default: return PAGE_VA(DATA_PAGE) + 64 * below(g, 127);
	}
}

uint64_t seg_base(struct gen *g, unsigned int seg)
{
	uint16_t sel = g->c->in.sel[seg];

	if (g->c->code_size == CODE_64)
		return seg == SEG_FS ? g->c->in.fs_base : seg == SEG_GS ? g->c->in.gs_base : 0;
	return (sel & 4) ? ldt_entries[sel >> 3].base : 0;
}

static uint64_t addr_mask(struct gen *g)
{
	return g->addrsize == 8 ? UINT64_MAX : g->addrsize == 4 ? UINT32_MAX : 0xffff;
}

void set_address(struct gen *g, unsigned int r, uint64_t v)
{
	uint64_t mask = addr_mask(g);

	g->c->in.gpr[r] = (g->c->in.gpr[r] & ~mask) | (v & mask);
	g->used |= 1U << r;
}

static uint16_t pick_selector(struct gen *g)
{
	static const uint16_t sels[] = {
		0, 3, SEL_DATA, SEL_DATA, SEL_CODE32, SEL_CODE64, 0x10, 0x18, 0x08, 0x28, 0x43,
		0x63, 0x3b, 0x53, SEL_LDT(0), SEL_LDT(1), SEL_LDT(2), SEL_LDT(3), SEL_LDT(4),
		SEL_LDT(5), SEL_LDT(6), SEL_LDT(7), SEL_LDT(8), SEL_LDT(2) & ~3, 0x87, 0x803,
		0xfff8,
	};

	return sels[below(g, ARRAY_SIZE(sels))];
}

void pick_mode(struct gen *g)
{
	struct cpu_image *in = &g->c->in;
	unsigned int kind = g->flags & F_ONLY64 ? 0 : g->flags & F_NO64 ? 8 + below(g, 4) :
			    below(g, 12);
	static const uint16_t data[] = { SEL_LDT(LDT_DATA32), SEL_LDT(LDT_DATA16),
		SEL_LDT(LDT_DATA16), SEL_LDT(LDT_DATA16), SEL_LDT(LDT_RO), SEL_LDT(LDT_DOWN) };
	unsigned int i;

	in->rip = ARENA_VA + 0x400 + 16 * below(g, 16);
	if (chance(g, 8))
		in->rip = PAGE_VA(1) - 1 - below(g, 8);
	in->sel[SEG_SS] = in->sel[SEG_DS] = in->sel[SEG_ES] = SEL_DATA;
	g->c->code_size = kind < 8 ? CODE_64 : kind < 10 ? CODE_32 : CODE_16;
	in->sel[SEG_CS] = SEL_CODE64;
	in->fs_base = PAGE_VA(DATA_PAGE) + 8 * below(g, 100);
	in->gs_base = -(uint64_t)below(g, 0x10000);
	if (kind < 8)
		return;
	in->fs_base = in->gs_base = 0;
	in->sel[SEG_FS] = in->sel[SEG_GS] = SEL_DATA;
	in->sel[SEG_CS] = SEL_CODE32;
	if (kind == 8)
		return;
	in->sel[SEG_CS] = SEL_LDT(kind == 9 ? LDT_CODE32 : LDT_CODE16);
	in->rip -= ARENA_VA;
	in->sel[SEG_SS] = SEL_LDT(chance(g, 3) ? LDT_DATA32 : LDT_DATA16);
	for (i = 0; i < 4; i++)
		in->sel[i == 0 ? SEG_ES : SEG_DS + i - 1] = data[below(g, ARRAY_SIZE(data))];
}

void pick_sizes(struct gen *g)
{
	unsigned int size = g->c->code_size;

	g->flags = g->f->flags;
	g->addrsize = size == CODE_64 ? (chance(g, 8) ? 4 : 8) :
		      (size == CODE_16) != chance(g, 5) ? 2 : 4;
	g->opsize = size == CODE_16 ? 2 : 4;
	if (size == CODE_64 && (g->flags & (F_D64 | F_F64)))
		g->opsize = 8;
	if (g->flags & (F_V | F_D64) && !(g->flags & F_F64 && size == CODE_64) && chance(g, 3))
		g->opsize = g->opsize == 2 ? 4 : 2;
	if (g->flags & (F_V | F_Y) && !(g->flags & F_NO_REXW) && size == CODE_64 && chance(g, 2))
		g->opsize = 8;
	if (g->flags & F_Y && g->opsize == 2)
		g->opsize = 4;
	if (g->flags & F_SEG16 && size != CODE_64)
		g->opsize = 2;
	g->seg_override = chance(g, 10);
	g->seg = g->seg_override ? below(g, 6) : SEG_DS;
	if (g->flags & F_JUMP)
		g->seg_override = false;	/* branch hints, NOTRACK */
}

void fill_arena(struct gen *g)
{
	struct test_case *c = g->c;
	uint64_t *p;
	unsigned int i, j;

	memset(c->arena, 0xcc, 2 * GUEST_PAGE_SIZE);
	for (i = DATA_PAGE; i < ARENA_PAGES; i++) {
		if (!(ARENA_MAPPED >> i & 1))
			continue;
		p = (uint64_t *)(c->arena + i * GUEST_PAGE_SIZE);
		for (j = 0; j < GUEST_PAGE_SIZE / 8; j += 2, p += 2) {
			p[0] = rnd(g);
			p[1] = p[0] >> (p[0] & 63);
		}
	}
}

static void poke(struct test_case *c, uint64_t gva, uint64_t value, unsigned int size)
{
	if (gva >= PAGE_VA(DATA_PAGE) && gva + size <= ARENA_VA + ARENA_SIZE)
		memcpy(c->arena + (gva - ARENA_VA), &value, size);
}

/* Interesting floats, in each 32-bit lane. */
static uint32_t lane(struct gen *g)
{
	static const uint32_t v[] = { 0, 0x80000000, 0x3f800000, 0xbf800000, 0x7f800000,
		0x7fc00000, 0x7f800001, 0x00000001, 0x40490fdb, 0x4b000000, 0x3ff00000 };

	return chance(g, 2) ? v[below(g, ARRAY_SIZE(v))] : rnd(g);
}

void fill_xsave(struct gen *g)
{
	static const uint8_t parts[] = { 1, 2, 5, 6, 7 };
	uint8_t *x = g->c->in.xsave;
	uint64_t features = xstate_host_features();
	uint16_t fcw = 0x37f, fsw = 0;
	uint32_t mxcsr = 0x1f80, v;
	unsigned int i, j;

	if (g->flags & F_X87) {
		fcw = chance(g, 3) ? 0x340 | (rnd(g) & 0xc3f) : 0x37f;
		fsw = below(g, 8) << 11 | (rnd(g) & 0x4700);
		if (chance(g, 4))
			fsw |= rnd(g) & 0x7f;
		if (fsw & ~fcw & 0x3f)
			fsw |= 0x8080;		/* ES and B: the next one gets #MF */
	}
	if (g->flags & F_SIMD && chance(g, 3))
		mxcsr = (rnd(g) & 0xffc0) | 0x1c80 | (rnd(g) & 0x1f);
	memset(x, 0, 576);
	memcpy(x, &fcw, 2);
	memcpy(x + 2, &fsw, 2);
	x[4] = g->flags & F_X87 ? rnd(g) : 0;
	memcpy(x + 24, &mxcsr, 4);
	memcpy(x + 512, &features, 8);
	for (i = 0; i < 8; i++) {
		for (j = 0; j < 8; j++)
			x[32 + 16 * i + j] = rnd(g);
		v = chance(g, 4) ? corner(g) & 0xffff : 0x3ff0 + below(g, 32);
		memcpy(x + 32 + 16 * i + 8, &v, 2);
		x[32 + 16 * i + 7] |= 0x80;
	}
	for (i = 0; i < ARRAY_SIZE(parts); i++) {
		struct xpart p = xstate_part(parts[i]);

		for (j = 0; j < p.size; j += 4) {
			v = lane(g);
			memcpy(x + p.offset + j, &v, 4);
		}
	}
}

void pick_registers(struct gen *g)
{
	struct cpu_image *in = &g->c->in;
	unsigned int i;

	for (i = 0; i < 16; i++)
		in->gpr[i] = corner(g);
	in->rflags = RFLAGS_FIXED | RFLAGS_IF | (rnd(g) & RFLAGS_ARITH);
	if (g->flags & F_STRING ? chance(g, 3) : chance(g, 32))
		in->rflags |= RFLAGS_DF;
	if (chance(g, 32) && g->f->encoding[1] != '.' && !(g->flags & F_NO_AC))
		in->rflags |= RFLAGS_AC;
	if (chance(g, 64) && !(g->flags & (F_SEGREG | F_FAR | F_POPF)))
		in->rflags |= RFLAGS_TF;
	if (g->flags & F_SEGREG)
		for (i = 0; i < 16; i++)
			in->gpr[i] = (in->gpr[i] & ~0xffffULL) | pick_selector(g);
	if (g->flags & F_STRING && g->flags & F_REP) {
		i = chance(g, 8) ? below(g, 6000) : below(g, 24);
		set_address(g, REG_RCX, i);
	}
	if (g->flags & F_STACK) {
		bool edge = !(g->flags & F_JUMP);
		uint64_t at = PAGE_VA(STACK_PAGE) + (edge && chance(g, 8) ? below(g, 24) :
			edge && chance(g, 8) ? 4096 - below(g, 24) : 1024 + 8 * below(g, 256));

		in->gpr[REG_RSP] = at - seg_base(g, SEG_SS);
		if (chance(g, 2))
			in->gpr[REG_RBP] = at + 8 * below(g, 64) - seg_base(g, SEG_SS);
	}
	if (g->flags & F_BITSTR)
		for (i = 0; i < 16; i++)
			in->gpr[i] = (in->gpr[i] & ~0xffffffffULL) | (uint32_t)(int16_t)rnd(g);
	if (g->flags & F_BITSTR && g->opsize == 8)
		for (i = 0; i < 16; i++)
			in->gpr[i] = (int64_t)(int32_t)in->gpr[i];
}

void place_strings(struct gen *g)
{
	uint64_t src, dst;

	src = pick_target(g);
	dst = chance(g, 6) ? src + below(g, 16) - 8 : pick_target(g);
	set_address(g, REG_RSI, src - seg_base(g, g->seg));
	set_address(g, REG_RDI, dst - seg_base(g, g->seg_override && g->flags & F_SIMD ?
					       g->seg : g->flags & F_SIMD ? SEG_DS : SEG_ES));
	if (!(g->flags & F_REP))
		set_address(g, REG_RBX, src - seg_base(g, g->seg) -
			    (g->c->in.gpr[REG_RAX] & 0xff));
	else if (chance(g, 2))	/* equal strings, so that a repeat goes on */
		memset(g->c->arena + DATA_PAGE * GUEST_PAGE_SIZE, rnd(g), GUEST_PAGE_SIZE);
}

/* Where an indirect branch or a return goes. */
static uint64_t pick_branch_target(struct gen *g)
{
	uint64_t cs = seg_base(g, SEG_CS), at = ARENA_VA + 0x800 + below(g, 4096) - cs;

	switch (below(g, 8)) {
	case 0: return PAGE_VA(DATA_PAGE) + below(g, 4096) - cs;
	case 1: return PAGE_VA(6) + below(g, 4096) - cs;
	case 2: return corner(g) | BIT(47) | BIT(20);
	default: return at - g->c->in.rip < 16 ? at + 16 : at;	/* no endless loop */
	}
}

static void place_memory(struct gen *g)
{
	struct test_case *c = g->c;
	uint64_t at = c->in.gpr[REG_RSP] + seg_base(g, SEG_SS);
	unsigned int i;

	if (g->flags & F_FAR)
		poke(c, g->target + g->opsize, pick_selector(g), 2);
	if (g->flags & F_SEGREG)
		poke(c, g->target, pick_selector(g), 2);
	if (g->flags & F_JUMP) {
		poke(c, g->target, pick_branch_target(g), 8);
		if (g->f->encoding[0] == 'c')
			poke(c, at, pick_branch_target(g), 8);
		for (i = 0; i < 16; i++)
			if (!(g->used >> i & 1) && i != REG_RSP && i != REG_RCX)
				c->in.gpr[i] = pick_branch_target(g);
	}
	if (g->flags & F_POPF)
		poke(c, at, corner(g), 8);
	else if (chance(g, 3))
		poke(c, g->target, corner(g), 8);
}

static const struct form *pick_form(struct gen *g, const char *only)
{
	const struct form *f;
	unsigned int tries = 100000;

	do
		f = &forms[below(g, BLOCK_FORM)];
	while (only && strcmp(f->name, only) && --tries);
	return f;
}

void case_make(struct test_case *c, uint64_t seed, uint64_t number, const char *only)
{
	struct gen g = { .rng = seed * 0xd1342543de82ef95ULL ^ number << 20, .c = c };
	unsigned int i;

	if (only && !strcmp(only, forms[BLOCK_FORM].name)) {
		block_make(c, seed, number);
		return;
	}
	memset(&c->in, 0, sizeof(c->in));
	c->number = number;
	c->len = 0;
	g.f = c->form = pick_form(&g, only);
	g.flags = g.f->flags;
	pick_mode(&g);
	pick_sizes(&g);
	fill_arena(&g);
	pick_registers(&g);
	if (g.flags & F_STRING)
		place_strings(&g);
	g.target = pick_target(&g);
	case_encode(&g);
	place_memory(&g);
	fill_xsave(&g);
	if (c->code_size != CODE_64)
		for (i = 0; i < 16; i++)
			c->in.gpr[i] = (uint32_t)c->in.gpr[i];
	memcpy(c->arena + (c->in.rip + seg_base(&g, SEG_CS) - ARENA_VA), c->code, c->len);
}
