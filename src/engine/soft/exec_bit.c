// SPDX-License-Identifier: Apache-2.0
/*
 * Bit tests and scans.
 *
 * Source: Intel SDM volume 2.  A bit offset in a register reaches beyond the memory
 * operand, in units of the operand size, signed.
 */
#include "engine/soft/exec_priv.h"

/* BSF, BSR: a source of zero leaves the whole destination register as it was. */
#define DEFINE_SCAN(name, bits, modifier) \
static int exec_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t *d = &v->gpr[i->op[0].reg], value = *d; \
	uint16_t ax = flags_to_ax(v->rflags); \
	uint##bits##_t source; \
	TRY(source##bits(v, i, &i->op[1], &source)); \
	asm(FLAGS_IN #name " %[s], %" #modifier "[d]" FLAGS_OUT \
	    : [d] "+r" (value), "+a" (ax) : [s] "r" (source) : "cc"); \
	*d = value; \
	v->rflags = flags_merge(v->rflags, ax); \
	return exec_next(v, i); \
}
DEFINE_SCAN(bsf, 16, w)
DEFINE_SCAN(bsf, 32, k)
DEFINE_SCAN(bsf, 64, q)
DEFINE_SCAN(bsr, 16, w)
DEFINE_SCAN(bsr, 32, k)
DEFINE_SCAN(bsr, 64, q)

/* The linear address of the unit that holds bit @offset; *@bit is the place in it. */
static int bit_linear(struct vcpu *v, const struct insn *i, unsigned int size,
		      unsigned int access, int64_t *bit, gva_t *gva)
{
	uint64_t off = exec_offset(v, i);

	if (i->op[1].kind == OPND_GPR)
		off += (*bit >> __builtin_ctz(size * 8)) * (int64_t)size;
	*bit &= size * 8 - 1;
	if (i->mem.addr_size == 8) {
		*gva = off + seg_base64(v, i->mem.seg);
		return EXEC_OK;
	}
	return exec_linear(v, i->mem.seg, off & size_mask(i->mem.addr_size), size, access, gva);
}

static inline int64_t bit_offset(const struct vcpu *v, const struct insn *i, unsigned int size)
{
	uint64_t value;

	if (i->op[1].kind != OPND_GPR)
		return i->imm & (size * 8 - 1);
	value = v->gpr[i->op[1].reg];
	return (int64_t)(value << (64 - size * 8)) >> (64 - size * 8);
}

#define DEFINE_BIT_OP(name, bits) \
static inline uint##bits##_t name##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t bit) \
{ \
	uint16_t ax = flags_to_ax(*f); \
	asm(FLAGS_IN #name " %[b], %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "+a" (ax) : [b] "r" (bit) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
}

#define DEFINE_BIT_TEST(bits) \
DEFINE_BIT_OP(bt, bits) \
static int exec_bt##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	bt##bits(&v->rflags, gpr_get##bits(v, &i->op[0]), bit_offset(v, i, bits / 8)); \
	return exec_next(v, i); \
} \
static int exec_bt##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	int64_t bit = bit_offset(v, i, bits / 8); \
	uint##bits##_t a; \
	gva_t gva; \
	TRY(bit_linear(v, i, bits / 8, ACC_READ, &bit, &gva)); \
	TRY(load_at##bits(v, gva, i->mem.seg, &a)); \
	bt##bits(&v->rflags, a, bit); \
	return exec_next(v, i); \
}
DEFINE_BIT_TEST(16)
DEFINE_BIT_TEST(32)
DEFINE_BIT_TEST(64)

#define DEFINE_BIT_CHANGE(name, bits) \
DEFINE_BIT_OP(name, bits) \
static int exec_##name##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), \
				       bit_offset(v, i, bits / 8))); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	int64_t bit = bit_offset(v, i, bits / 8); \
	uint64_t f = v->rflags; \
	struct rmw m; \
	gva_t gva; \
	TRY(bit_linear(v, i, bits / 8, ACC_WRITE, &bit, &gva)); \
	TRY(rmw_open_at(v, gva, i->mem.seg, bits / 8, false, &m)); \
	raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p), bit)); \
	TRY(rmw_close(v, &m)); \
	v->rflags = f; \
	return exec_next(v, i); \
} \
static int exec_lock_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	int64_t bit = bit_offset(v, i, bits / 8); \
	uint16_t ax = flags_to_ax(v->rflags); \
	struct rmw m; \
	gva_t gva; \
	TRY(bit_linear(v, i, bits / 8, ACC_WRITE, &bit, &gva)); \
	TRY(rmw_open_at(v, gva, i->mem.seg, bits / 8, true, &m)); \
	asm volatile(FLAGS_IN "lock " #name " %[b], (%[p])" FLAGS_OUT \
		     : "+a" (ax) : [p] "r" (m.p), [b] "r" ((uint##bits##_t)bit) \
		     : "cc", "memory"); \
	TRY(rmw_close(v, &m)); \
	v->rflags = flags_merge(v->rflags, ax); \
	return exec_next(v, i); \
}
#define DEFINE_BIT_CHANGES(name) \
	DEFINE_BIT_CHANGE(name, 16) DEFINE_BIT_CHANGE(name, 32) DEFINE_BIT_CHANGE(name, 64)
DEFINE_BIT_CHANGES(bts)
DEFINE_BIT_CHANGES(btr)
DEFINE_BIT_CHANGES(btc)

#define BIT_ROW(name, form) { NULL, exec_##name##16##form, exec_##name##32##form, \
			      exec_##name##64##form }

/* Rows: register, memory, locked. */
static exec_fn select_bit(const struct insn *i, const exec_fn table[3][4])
{
	unsigned int row = i->op[0].kind != OPND_MEM ? 0 : i->flags & INSN_LOCK ? 2 : 1;

	return table[row][size_index(i->op[0].size)];
}

exec_fn exec_bit_select(const struct insn *i)
{
	static const exec_fn bsf[4] = BIT_ROW(bsf,), bsr[4] = BIT_ROW(bsr,);
	static const exec_fn bt[3][4] = { BIT_ROW(bt, _r), BIT_ROW(bt, _m) };
	static const exec_fn bts[3][4] = { BIT_ROW(bts, _r), BIT_ROW(bts, _m),
					   BIT_ROW(lock_bts,) };
	static const exec_fn btr[3][4] = { BIT_ROW(btr, _r), BIT_ROW(btr, _m),
					   BIT_ROW(lock_btr,) };
	static const exec_fn btc[3][4] = { BIT_ROW(btc, _r), BIT_ROW(btc, _m),
					   BIT_ROW(lock_btc,) };

	switch (i->info->id) {
	case INSN_ID_BSF: return bsf[size_index(i->op[0].size)];
	case INSN_ID_BSR: return bsr[size_index(i->op[0].size)];
	case INSN_ID_BT: return select_bit(i, bt);
	case INSN_ID_BTS: return select_bit(i, bts);
	case INSN_ID_BTR: return select_bit(i, btr);
	case INSN_ID_BTC: return select_bit(i, btc);
	default: return NULL;
	}
}
