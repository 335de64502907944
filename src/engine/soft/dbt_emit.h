/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Emitting host code for the translator: one short function per form, named for the
 * instruction, operands in Intel order (destination first).
 *
 * Invariants:
 * 1. Nothing here changes the flags unless its name says so: translated code keeps the
 *    guest's arithmetic flags in the host's, and everything we add goes around them
 *    (LEA, MOV, MOVZX, PEXT, JRCXZ).
 * 2. emit.p is in the writable mapping; emit_here() is the address it will run at.
 * 3. The caller made sure that there is room (DBT_BLOCK_ROOM).
 * 4. struct vcpu is below 2 GiB (cpu/window.h): its fields are absolute addresses.
 */
#ifndef VIREO_ENGINE_SOFT_DBT_EMIT_H
#define VIREO_ENGINE_SOFT_DBT_EMIT_H

#include "base/types.h"

#include <assert.h>

#define MOVES_MAX	512
#define MOVE_MINUS	BIT(31)

/* Where a block's code holds guest addresses that move with it: dbt_move.c. */
struct moves {
	uint32_t at[MOVES_MAX];		/* 64-bit values, from 'base'; MOVE_MINUS: negative ones */
	unsigned int count;
	bool fixed;			/* it holds one otherwise, and cannot be moved */
	const uint8_t *base;
};

struct emit {
	uint8_t *p;		/* writable mapping */
	ptrdiff_t to_exec;	/* executable address = p + to_exec */
	uint32_t vcpu;		/* address of the struct vcpu */
	struct moves *moves;	/* or NULL */
};

#define NO_REG	0xff

#define SEG_NONE	0
#define PREFIX_FS	0x64
#define PREFIX_GS	0x65

/* A host memory operand: seg:[base + index << scale + disp]. */
struct host_mem {
	uint8_t base, index, scale;
	uint8_t seg;		/* prefix, or SEG_NONE */
	bool vcpu;		/* plus the address of the struct vcpu */
	int32_t disp;
};

#define AT_SCALE_DISP(b, i, s, d) \
	((struct host_mem){ .base = (b), .index = (i), .scale = (s), .disp = (d) })
#define AT_VCPU(off) \
	((struct host_mem){ .base = NO_REG, .index = NO_REG, .vcpu = true, .disp = (int32_t)(off) })
#define AT(b)			AT_SCALE_DISP(b, NO_REG, 0, 0)
#define AT_DISP(b, d)		AT_SCALE_DISP(b, NO_REG, 0, d)
#define AT_INDEX(b, i)		AT_SCALE_DISP(b, i, 0, 0)
#define AT_SCALE(b, i, s)	AT_SCALE_DISP(b, i, s, 0)

static inline void e8(struct emit *e, unsigned int b)
{
	*e->p++ = b;
}

static inline void e32(struct emit *e, uint32_t x)
{
	__builtin_memcpy(e->p, &x, 4);
	e->p += 4;
}

static inline void e64(struct emit *e, uint64_t x)
{
	__builtin_memcpy(e->p, &x, 8);
	e->p += 8;
}

static inline void *emit_here(const struct emit *e)
{
	return e->p + e->to_exec;
}

/*
 * ModRM, SIB and displacement for @m; @reg's low three bits go into ModRM.reg.  @disp8: the
 * displacement may be a byte (EVEX would scale it).
 */
static inline void e_modrm_mem(struct emit *e, unsigned int reg, const struct host_mem *m,
			       bool disp8)
{
	unsigned int r = (reg & 7) << 3, mod;
	int32_t disp = m->vcpu ? m->disp + (int32_t)e->vcpu : m->disp;

	if (m->base == NO_REG) {		/* absolute or index only */
		e8(e, r | 4);
		e8(e, m->scale << 6 | (m->index == NO_REG ? 4 : m->index & 7) << 3 | 5);
		e32(e, disp);
		return;
	}
	disp8 = disp8 && disp == (int8_t)disp;
	mod = !disp && (m->base & 7) != 5 ? 0 : disp8 ? 0x40 : 0x80;
	if (m->index == NO_REG && (m->base & 7) != 4) {
		e8(e, mod | r | (m->base & 7));
	} else {
		e8(e, mod | r | 4);
		e8(e, m->scale << 6 | (m->index == NO_REG ? 4 : m->index & 7) << 3 | (m->base & 7));
	}
	if (mod == 0x40)
		e8(e, disp);
	else if (mod)
		e32(e, disp);
}

static inline unsigned int rex_bits(unsigned int w, unsigned int reg, const struct host_mem *m)
{
	return w << 3 | (reg >> 3 & 1) << 2 |
	       (m->index != NO_REG ? m->index >> 3 & 1 : 0) << 1 |
	       (m->base != NO_REG ? m->base >> 3 & 1 : 0);
}

/* Opcode bytes: 0xNN, 0x0fNN, 0x0f38NN. */
static inline void e_opcode(struct emit *e, uint32_t op)
{
	if (op > 0xffff)
		e8(e, op >> 16);
	if (op > 0xff)
		e8(e, op >> 8 & 0xff);
	e8(e, op & 0xff);
}

static inline void e_op_mem(struct emit *e, unsigned int w, uint32_t op, unsigned int reg,
			    struct host_mem m)
{
	unsigned int rex = rex_bits(w, reg, &m);

	if (m.seg)
		e8(e, m.seg);
	if (rex)
		e8(e, 0x40 | rex);
	e_opcode(e, op);
	e_modrm_mem(e, reg, &m, true);
}

static inline void e_op_reg(struct emit *e, unsigned int w, uint32_t op, unsigned int reg,
			    unsigned int rm)
{
	unsigned int rex = w << 3 | (reg >> 3 & 1) << 2 | (rm >> 3 & 1);

	if (rex)
		e8(e, 0x40 | rex);
	e_opcode(e, op);
	e8(e, 0xc0 | (reg & 7) << 3 | (rm & 7));
}

static inline void e_mov_rr(struct emit *e, unsigned int dst, unsigned int src)
{
	e_op_reg(e, 1, 0x8b, dst, src);
}

static inline void e_mov32_rr(struct emit *e, unsigned int dst, unsigned int src)
{
	e_op_reg(e, 0, 0x8b, dst, src);
}

static inline void e_load(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 1, 0x8b, dst, m);
}

static inline void e_load32(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 0, 0x8b, dst, m);
}

static inline void e_store(struct emit *e, struct host_mem m, unsigned int src)
{
	e_op_mem(e, 1, 0x89, src, m);
}

static inline void e_store32(struct emit *e, struct host_mem m, unsigned int src)
{
	e_op_mem(e, 0, 0x89, src, m);
}

static inline void e_movzx8(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 0, 0x0fb6, dst, m);
}

static inline void e_movzx16(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 0, 0x0fb7, dst, m);
}

/* movzx dst, low byte of src; src is not RSP..RDI */
static inline void e_movzx8_rr(struct emit *e, unsigned int dst, unsigned int src)
{
	e_op_reg(e, 0, 0x0fb6, dst, src);
}

static inline void e_lea(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 1, 0x8d, dst, m);
}

static inline void e_lea32(struct emit *e, unsigned int dst, struct host_mem m)
{
	e_op_mem(e, 0, 0x8d, dst, m);
}

static inline void e_movzx16_rr(struct emit *e, unsigned int dst, unsigned int src)
{
	e_op_reg(e, 0, 0x0fb7, dst, src);
}

/* mov qword m, simm32 */
static inline void e_store_imm(struct emit *e, struct host_mem m, int32_t imm)
{
	e_op_mem(e, 1, 0xc7, 0, m);
	e32(e, imm);
}

/* mov dword m, imm32 */
static inline void e_store32_imm(struct emit *e, struct host_mem m, uint32_t imm)
{
	e_op_mem(e, 0, 0xc7, 0, m);
	e32(e, imm);
}

static inline bool fits_s32(int64_t x)
{
	return x == (int32_t)x;
}

static inline void e_mov_imm(struct emit *e, unsigned int dst, uint64_t imm)
{
	if (imm == (uint32_t)imm) {
		if (dst > 7)
			e8(e, 0x41);
		e8(e, 0xb8 | (dst & 7));
		e32(e, imm);
	} else if (fits_s32(imm)) {
		e_op_reg(e, 1, 0xc7, 0, dst);
		e32(e, imm);
	} else {
		e8(e, 0x48 | dst >> 3);
		e8(e, 0xb8 | (dst & 7));
		e64(e, imm);
	}
}

/* The 64-bit value just emitted moves with the code; a shorter one does not. */
static inline void e_note_move(struct emit *e, uint64_t value, uint32_t minus)
{
	struct moves *m = e->moves;

	if (!m)
		return;
	if (m->count == MOVES_MAX || value == (uint32_t)value || fits_s32(value))
		m->fixed = true;
	else
		m->at[m->count++] = (e->p - 8 - m->base) | minus;
}

/* dst = guest address @gva, of the code or at a distance from it */
static inline void e_mov_gva(struct emit *e, unsigned int dst, gva_t gva)
{
	e_mov_imm(e, dst, gva);
	e_note_move(e, gva, 0);
}

static inline void e_mov_minus_gva(struct emit *e, unsigned int dst, gva_t gva)
{
	e_mov_imm(e, dst, -gva);
	e_note_move(e, -gva, MOVE_MINUS);
}

/* VEX with map 0F38 and a memory operand; @pp 2: F3, 3: F2. */
static inline void e_vex38_mem(struct emit *e, unsigned int pp, unsigned int op, unsigned int reg,
			       unsigned int vvvv, struct host_mem m)
{
	unsigned int x = m.index != NO_REG ? m.index >> 3 & 1 : 0;
	unsigned int b = m.base != NO_REG ? m.base >> 3 & 1 : 0;

	if (m.seg)
		e8(e, m.seg);
	e8(e, 0xc4);
	e8(e, (reg >> 3 & 1 ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | 2);
	e8(e, 0x80 | (~vvvv & 15) << 3 | pp);
	e8(e, op);
	e_modrm_mem(e, reg, &m, true);
}

/* pext dst, src, mask; pdep likewise */
static inline void e_pext(struct emit *e, unsigned int dst, unsigned int src, struct host_mem mask)
{
	e_vex38_mem(e, 2, 0xf5, dst, src, mask);
}

static inline void e_pdep(struct emit *e, unsigned int dst, unsigned int src, struct host_mem mask)
{
	e_vex38_mem(e, 3, 0xf5, dst, src, mask);
}

/* dst = src & mask, without flags */
static inline void e_and_mask(struct emit *e, unsigned int dst, unsigned int src,
			      struct host_mem mask)
{
	e_pext(e, dst, src, mask);
	e_pdep(e, dst, dst, mask);
}

/* rorx dst, src, imm8 (VEX.LZ.F2.0F3A.W1 F0 /r ib) */
static inline void e_rorx(struct emit *e, unsigned int dst, unsigned int src, unsigned int n)
{
	e8(e, 0xc4);
	e8(e, (dst >> 3 & 1 ? 0 : 0x80) | 0x40 | (src >> 3 & 1 ? 0 : 0x20) | 3);
	e8(e, 0xfb);
	e8(e, 0xf0);
	e8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
	e8(e, n);
}

/* shrx dst, src, count (VEX.LZ.F2.0F38.W1 F7 /r) */
static inline void e_shrx(struct emit *e, unsigned int dst, unsigned int src, unsigned int count)
{
	e8(e, 0xc4);
	e8(e, (dst >> 3 & 1 ? 0 : 0x80) | 0x40 | (src >> 3 & 1 ? 0 : 0x20) | 2);
	e8(e, 0x80 | (~count & 15) << 3 | 3);
	e8(e, 0xf7);
	e8(e, 0xc0 | (dst & 7) << 3 | (src & 7));
}

/* jmp and jrcxz to a place at most 127 bytes ahead; return the displacement byte to bind. */
static inline uint8_t *e_jmp8(struct emit *e)
{
	e8(e, 0xeb);
	e8(e, 0);
	return e->p - 1;
}

static inline uint8_t *e_jrcxz(struct emit *e)
{
	e8(e, 0xe3);
	e8(e, 0);
	return e->p - 1;
}

static inline void e_bind8(struct emit *e, uint8_t *rel8)
{
	ptrdiff_t distance = e->p - (rel8 + 1);

	assert(distance <= INT8_MAX);
	*rel8 = distance;
}

/* Up to the next multiple of @align bytes, a power of two. */
static inline void e_align(struct emit *e, unsigned int align)
{
	static const uint8_t nops[9][9] = {
		{ 0x90 }, { 0x66, 0x90 }, { 0x0f, 0x1f, 0x00 }, { 0x0f, 0x1f, 0x40, 0x00 },
		{ 0x0f, 0x1f, 0x44, 0x00, 0x00 }, { 0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00 },
		{ 0x0f, 0x1f, 0x80, 0x00, 0x00, 0x00, 0x00 },
		{ 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
		{ 0x66, 0x0f, 0x1f, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00 },
	};
	unsigned int room = -(uintptr_t)emit_here(e) & (align - 1), n;

	for (; room; room -= n) {
		n = room < 9 ? room : 9;
		__builtin_memcpy(e->p, nops[n - 1], n);
		e->p += n;
	}
}

/* jmp, call, jcc rel32 to an executable address; return the displacement's place. */
static inline uint8_t *e_jmp(struct emit *e, const void *target)
{
	e8(e, 0xe9);
	e32(e, (uintptr_t)target - (uintptr_t)emit_here(e) - 4);
	return e->p - 4;
}

static inline uint8_t *e_call(struct emit *e, const void *target)
{
	e8(e, 0xe8);
	e32(e, (uintptr_t)target - (uintptr_t)emit_here(e) - 4);
	return e->p - 4;
}

static inline uint8_t *e_jcc(struct emit *e, unsigned int cond, const void *target)
{
	e8(e, 0x0f);
	e8(e, 0x80 | cond);
	e32(e, (uintptr_t)target - (uintptr_t)emit_here(e) - 4);
	return e->p - 4;
}

/* Points the rel32 at @at (writable address) to @target (executable address). */
static inline void emit_patch32(uint8_t *at, ptrdiff_t to_exec, const void *target)
{
	int32_t rel = (uintptr_t)target - (uintptr_t)(at + to_exec) - 4;

	__atomic_store_n((int32_t *)at, rel, __ATOMIC_RELEASE);
}

#endif
