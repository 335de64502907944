// SPDX-License-Identifier: Apache-2.0
/*
 * Encodes an instruction of a form (forms.def) with random operands.  The base register
 * of a memory operand gets what makes it point at gen.target, whatever the displacement
 * and the index register happen to be.
 *
 * Source: Intel SDM volume 2, "Instruction Format".
 */
#include "gen.h"

#include <stdlib.h>
#include <string.h>

static void tail8(struct gen *g, uint8_t b)
{
	g->tail[g->tail_len++] = b;
}

static void tail_le(struct gen *g, uint64_t v, unsigned int n)
{
	memcpy(g->tail + g->tail_len, &v, n);
	g->tail_len += n;
}

/* A displacement of a random kind for mod 0-2; EVEX would scale 8-bit ones: none there. */
static unsigned int pick_mod(struct gen *g)
{
	unsigned int mod = below(g, 3);

	return g->vex_kind == 'e' && mod == 1 ? 2 : mod;
}

static void encode_mem16(struct gen *g)
{
	static const uint8_t bases[8][2] = {
		{ REG_RBX, REG_RSI }, { REG_RBX, REG_RDI }, { REG_RBP, REG_RSI },
		{ REG_RBP, REG_RDI }, { REG_RSI, 0xff }, { REG_RDI, 0xff }, { REG_RBP, 0xff },
		{ REG_RBX, 0xff },
	};
	unsigned int rm = below(g, 8), mod = pick_mod(g);
	int16_t disp = mod == 1 ? (int8_t)rnd(g) : mod == 2 ? (int16_t)rnd(g) : 0;
	uint64_t off;

	if (!g->seg_override)
		g->seg = (rm == 2 || rm == 3 || (rm == 6 && mod)) ? SEG_SS : SEG_DS;
	off = g->target - seg_base(g, g->seg);
	tail8(g, mod << 6 | g->modrm_reg << 3 | rm);
	if (rm == 6 && !mod) {
		tail_le(g, off, 2);
		return;
	}
	off -= disp;
	if (bases[rm][1] != 0xff) {
		off -= g->c->in.gpr[bases[rm][1]];
		g->used |= 1U << bases[rm][1];
	}
	set_address(g, bases[rm][0], off);
	tail_le(g, disp, mod);
}

/* No base register: an absolute or RIP-relative displacement. */
static void encode_absolute(struct gen *g, bool sib)
{
	uint64_t off;

	if (!g->seg_override)
		g->seg = SEG_DS;
	off = g->target - seg_base(g, g->seg);
	tail8(g, g->modrm_reg << 3 | (sib ? 4 : 5));
	if (sib)
		tail8(g, 0x25);
	if (!sib && g->c->code_size == CODE_64)
		g->rip_disp_at = g->tail_len;
	tail_le(g, off, 4);
}

static unsigned int pick_index(struct gen *g)
{
	unsigned int index;

	do
		index = below(g, g->c->code_size == CODE_64 ? 16 : 8);
	while (index == REG_RSP);
	return index;
}

static void encode_mem(struct gen *g)
{
	unsigned int regs = g->c->code_size == CODE_64 ? 16 : 8;
	unsigned int mod = pick_mod(g), base = below(g, regs), index = 0, scale = below(g, 4);
	bool sib = chance(g, 2) || (base & 7) == REG_RSP, indexed = sib && chance(g, 2);
	unsigned int reg = g->modrm_reg | (g->bits_rxb & 4U) << 1;
	int32_t disp;
	uint64_t off;

	if (chance(g, 8) && g->target < BIT(31) - 65536) {
		encode_absolute(g, chance(g, 2));
		return;
	}
	if ((g->flags & F_STACK) && base == REG_RSP)
		indexed = false;
	if ((g->flags & F_BITSTR) && base == reg)
		base ^= 1;
	if (indexed) {
		index = pick_index(g);
		indexed = index != base &&
			!((g->flags & F_BITSTR) && index == reg);
		sib = indexed || (base & 7) == REG_RSP;
	}
	if ((base & 7) == REG_RSP)
		sib = true;
	if ((base & 7) == REG_RBP && !mod)
		mod = g->vex_kind == 'e' ? 2 : 1;
	if (!g->seg_override)
		g->seg = base == REG_RSP || base == REG_RBP ? SEG_SS : SEG_DS;
	disp = mod == 1 ? (int8_t)rnd(g) : mod == 2 ? (int32_t)rnd(g) >> below(g, 24) : 0;
	off = g->target - seg_base(g, g->seg) - disp;
	if (indexed) {
		off -= g->c->in.gpr[index] << scale;
		g->used |= 1U << index;
	}
	if ((g->flags & F_STACK) && base == REG_RSP)
		g->target = g->c->in.gpr[REG_RSP] + disp + seg_base(g, g->seg);
	else
		set_address(g, base, off);
	tail8(g, mod << 6 | g->modrm_reg << 3 | (sib ? 4 : base & 7));
	if (sib)
		tail8(g, scale << 6 | (indexed ? index & 7 : 4) << 3 | (base & 7));
	g->bits_rxb |= base >> 3 | (indexed ? index >> 3 << 1 : 0);
	tail_le(g, disp, mod == 2 ? 4 : mod);
}

static void encode_modrm(struct gen *g, int digit)
{
	bool wide = g->c->code_size == CODE_64;
	bool mem = (g->flags & F_MEM) || (!(g->flags & F_REG) && below(g, 100) < 55);

	if (g->flags & F_X87)
		mem = true;
	g->modrm_reg = digit >= 0 ? (unsigned int)digit : below(g, 8);
	if ((g->flags & F_SEGREG) && digit < 0 && g->opcode_len == 1) {
		static const uint8_t segs[] = { 0, 2, 3, 4, 5, 0, 3, 4, 5, 1, 6, 7 };

		g->modrm_reg = segs[below(g, ARRAY_SIZE(segs))];
	} else if (digit < 0 && wide && !(g->flags & F_KREG) && chance(g, 2)) {
		g->bits_rxb |= 4;
	}
	/* Often #UD; 0f 01 would be RDTSCP and the like, 0f 0d is #UD on AMD alone. */
	if ((g->flags & F_MEM) && !(g->flags & F_X87) && g->opcode[1] != 0x01 &&
	    g->opcode[1] != 0x0d && chance(g, 64))
		mem = false;
	if (!mem) {
		unsigned int rm = below(g, 8);

		if (wide && chance(g, 2))
			g->bits_rxb |= 1;
		if (g->vex_kind == 'e' && chance(g, 2))
			g->bits_rxb |= 2;
		tail8(g, 0xc0 | g->modrm_reg << 3 | rm);
		return;
	}
	g->has_mem = true;
	if (g->addrsize == 2)
		encode_mem16(g);
	else
		encode_mem(g);
}

/* A branch displacement to a byte outside the instruction, which is @len long. */
static int64_t pick_rel(struct gen *g, unsigned int bytes)
{
	int64_t d = bytes == 1 ? (int8_t)rnd(g) : (int64_t)below(g, 3000) - 1500;

	if (d < 0 && d > -20)
		d = 40;
	if (chance(g, 40) && bytes == 4)
		d = (int64_t)PAGE_VA(DATA_PAGE) - (int64_t)g->c->in.rip + below(g, 2000);
	return d;
}

static unsigned int imm_size(struct gen *g, const char *token)
{
	switch (token[1]) {
	case 'b': return 1;
	case 'w': return 2;
	case 'z': return g->opsize == 2 ? 2 : 4;
	case 'v': return g->opsize;
	default: return 4;
	}
}

/*
 * Opcodes that an ANY form may have.  Refused are what would leave the arena or the child
 * (branches, system calls, bit strings, gathers), what differs by nature (time, random
 * numbers, CPUID, descriptor tables, XSAVE) and what other forms try with care.
 */
static bool allowed(unsigned int map, uint8_t op, bool vex)
{
	static const uint8_t refused[] = {
		0x00, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0d, 0x0f, 0x1a, 0x1b,
		0x24, 0x26, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x77, 0x78, 0x79, 0xa0, 0xa1,
		0xa2, 0xa3, 0xa8, 0xa9, 0xaa, 0xab, 0xae, 0xb2, 0xb3, 0xb4, 0xb5, 0xbb, 0xc7, 0xf7,
	};
	unsigned int i;

	if (map == 1 && !vex) {
		if ((op >= 0x80 && op <= 0x8f) || (op >= 0x20 && op <= 0x23) ||
		    (op >= 0xc8 && op <= 0xcf))
			return false;
		for (i = 0; i < sizeof(refused); i++)
			if (refused[i] == op)
				return false;
		return true;
	}
	if (map == 1)
		return op != 0xae && op != 0xf7 && op != 0xc7 && op != 0x77;
	if (map == 3)
		return op != 0xcc && op != 0xf0 && op != 0x16 && op != 0x22;	/* W1: AMD #UD */
	if (vex)
		return !(op >= 0x90 && op <= 0x93) && !(op >= 0xa0 && op <= 0xa3) &&
		       op != 0xc6 && op != 0xc7 && op != 0x49 && op != 0x4b && op != 0x5c &&
		       op != 0x5e && op != 0x8c && op != 0x8e && !(op >= 0x2c && op <= 0x2f);
	return !(op >= 0x80 && op <= 0x82) && !(op >= 0xc8 && op <= 0xcd) && op < 0xf2;
}

static void encode_any(struct gen *g)
{
	unsigned int map = g->vex_kind ? g->vex[1] : 1;
	uint8_t op;

	if (!g->vex_kind && g->opcode_len == 2)
		map = g->opcode[1] == 0x38 ? 2 : 3;
	do
		op = rnd(g);
	while (!allowed(map, op, g->vex_kind));
	/* 0f 38 and 0f 3a are not opcodes but maps. */
	if (map == 1 && !g->vex_kind && (op == 0x38 || op == 0x3a || op == 0x39 || op == 0x3b))
		op = 0x58;
	g->opcode[g->opcode_len++] = op;
}

static void encode_token(struct gen *g, const char *t)
{
	unsigned int n;

	if (t[0] == '?') {
		encode_any(g);
	} else if (t[0] == 'p') {
		g->mandatory = strtoul(t + 1, NULL, 16);
	} else if ((t[0] == 'v' || t[0] == 'e') && t[1] == '.') {
		g->vex_kind = t[0];
		g->vex[0] = strtoul(t + 2, (char **)&t, 16);
		g->vex[1] = t[1] - '0';
		g->vex[2] = t[3];
		g->vex[3] = t[5];
	} else if (t[0] == '/') {
		encode_modrm(g, t[1] == 'r' ? -1 : t[1] - '0');
	} else if (t[0] == '+') {
		n = below(g, g->c->code_size == CODE_64 ? 16 : 8);
		g->opcode[g->opcode_len - 1] += n & 7;
		g->bits_rxb |= n >> 3;
	} else if (t[0] == 'i') {
		n = imm_size(g, t);
		tail_le(g, corner(g), n);
	} else if (t[0] == 'r') {
		n = t[1] == 'b' ? 1 : g->opsize == 2 ? 2 : 4;
		tail_le(g, pick_rel(g, n), n);
	} else if (t[0] == 'm') {
		g->has_mem = true;
		if (!g->seg_override)
			g->seg = SEG_DS;
		tail_le(g, g->target - seg_base(g, g->seg), g->addrsize);
	} else if (g->tail_len) {
		tail8(g, strtoul(t, NULL, 16));
	} else {
		g->opcode[g->opcode_len++] = strtoul(t, NULL, 16);
	}
}

static void put8(struct gen *g, uint8_t b)
{
	if (g->c->len < g->start + 15)
		g->c->code[g->c->len++] = b;
}

static uint8_t pp_code(uint8_t mandatory)
{
	return mandatory == 0x66 ? 1 : mandatory == 0xf3 ? 2 : mandatory == 0xf2 ? 3 : 0;
}

static void put_vex(struct gen *g)
{
	unsigned int w = g->vex[2] == 'y' ? g->opsize == 8 : g->vex[2] == 'x' ? below(g, 2) :
			 (unsigned int)g->vex[2] - '0';
	unsigned int l = g->vex[3] == 'x' ? below(g, g->vex_kind == 'e' ? 3 : 2) :
			 (unsigned int)g->vex[3] - '0';
	unsigned int v = g->flags & F_VVVV ? below(g, 16) : 0;
	unsigned int rxb = ~g->bits_rxb & 7;

	if (g->flags & F_KREG)
		v &= 7;
	if (g->flags & F_ANY_FAULT && chance(g, 2))
		v = 0;		/* any opcode: most have no third operand */
	if (g->c->code_size != CODE_64) {
		rxb |= 6;	/* else it is LES, LDS or BOUND */
		v &= 7;
	}
	if (g->vex_kind == 'v') {
		if (g->vex[1] == 1 && !w && (rxb & 3) == 3 && chance(g, 2)) {
			put8(g, 0xc5);
			put8(g, rxb >> 2 << 7 | (~v & 15) << 3 | l << 2 | pp_code(g->vex[0]));
			return;
		}
		put8(g, 0xc4);
		put8(g, rxb << 5 | g->vex[1]);
		put8(g, w << 7 | (~v & 15) << 3 | l << 2 | pp_code(g->vex[0]));
		return;
	}
	put8(g, 0x62);
	put8(g, rxb << 5 | 0x10 | g->vex[1]);
	put8(g, w << 7 | (~v & 15) << 3 | 4 | pp_code(g->vex[0]));
	put8(g, chance(g, 4) << 7 | l << 5 | 8 |
	     (g->flags & F_MASKED ? below(g, 8) : 0));
}

static void put_prefixes(struct gen *g)
{
	static const uint8_t seg_bytes[] = { 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65 };
	struct test_case *c = g->c;
	unsigned int dflt = c->code_size == CODE_16 ? 2 : 4;
	unsigned int asz = c->code_size == CODE_64 ? 8 : dflt;
	bool op66 = g->flags & (F_V | F_D64 | F_Y) &&
		    ((g->opsize == 2) != (dflt == 2));
	bool lock = g->flags & F_LOCK ? chance(g, g->has_mem ? 3 : 40) :
		    !(g->flags & (F_SEGREG | F_NO_LOCK)) && chance(g, 200);
	uint8_t rex;

	if (g->vex_kind) {
		lock = false;
		op66 = false;
	}
	if ((g->flags & F_SIMD) || (g->flags & F_F64 && c->code_size == CODE_64))
		op66 = false;
	if (g->flags & F_REP && chance(g, 2))
		put8(g, chance(g, 2) ? 0xf3 : 0xf2);
	if (op66)
		put8(g, 0x66);
	if (lock)
		put8(g, 0xf0);
	if (g->addrsize != asz)
		put8(g, 0x67);
	if (g->seg_override)
		put8(g, seg_bytes[g->seg]);
	if (g->mandatory)
		put8(g, g->mandatory);
	if (g->vex_kind) {
		put_vex(g);
		return;
	}
	rex = 0x40 | g->bits_rxb | (g->opsize == 8 && !(g->flags & (F_D64 | F_BYTE)) ? 8 : 0);
	if ((g->flags & F_V) && g->opsize == 8)
		rex |= 8;
	if (c->code_size == CODE_64 && (rex != 0x40 || chance(g, 4)))
		put8(g, rex);
}

void case_encode(struct gen *g)
{
	struct test_case *c = g->c;
	char text[64], *save, *t;
	unsigned int i;

	g->rip_disp_at = -1;
	strncpy(text, g->f->encoding, sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	for (t = strtok_r(text, " ", &save); t; t = strtok_r(NULL, " ", &save))
		encode_token(g, t);
	put_prefixes(g);
	for (i = 0; i < g->opcode_len; i++)
		put8(g, g->opcode[i]);
	if (g->rip_disp_at >= 0) {
		uint64_t next = c->in.rip + c->len + g->tail_len;
		uint64_t off = g->target - seg_base(g, g->seg) - next;

		memcpy(g->tail + g->rip_disp_at, &off, 4);
	}
	for (i = 0; i < g->tail_len; i++)
		put8(g, g->tail[i]);
}
