// SPDX-License-Identifier: Apache-2.0
/*
 * Read-modify-write that other processors see as one access: LOCK forms of arithmetic,
 * XCHG, XADD, CMPXCHG, CMPXCHG8B, CMPXCHG16B.  The host's own locked instruction works
 * on the guest's memory in place; on a device or across a page boundary it works on a
 * copy, and the access is not atomic.  (LOCK BTS, BTR, BTC are in exec_bit.c.)
 *
 * Source: Intel SDM volume 2; volume 3, "Locked Atomic Operations".
 *
 * XADD and CMPXCHG of memory are atomic without LOCK as well, which the manual allows.
 */
#include "engine/soft/exec_priv.h"

#define DEFINE_LOCK_ALU(name, bits) \
static int exec_lock_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint16_t ax = flags_to_ax(v->rflags); \
	uint##bits##_t b = i->imm; \
	struct rmw m; \
	if (i->op[1].kind == OPND_GPR) \
		b = gpr_get##bits(v, &i->op[1]); \
	TRY(rmw_open(v, i, bits / 8, true, &m)); \
	asm volatile(FLAGS_IN "lock " #name " %[b], (%[p])" FLAGS_OUT \
		     : "+a" (ax) : [p] "r" (m.p), [b] "r" (b) \
		     : "cc", "memory"); \
	TRY(rmw_close(v, &m)); \
	v->rflags = flags_merge(v->rflags, ax); \
	return exec_next(v, i); \
}
FOR_SIZES_1(DEFINE_LOCK_ALU, add)
FOR_SIZES_1(DEFINE_LOCK_ALU, adc)
FOR_SIZES_1(DEFINE_LOCK_ALU, sub)
FOR_SIZES_1(DEFINE_LOCK_ALU, sbb)
FOR_SIZES_1(DEFINE_LOCK_ALU, and)
FOR_SIZES_1(DEFINE_LOCK_ALU, or)
FOR_SIZES_1(DEFINE_LOCK_ALU, xor)

#define DEFINE_LOCK_UNARY(name, bits, suffix) \
static int exec_lock_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint16_t ax = flags_to_ax(v->rflags); \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, true, &m)); \
	asm volatile(FLAGS_IN "lock " #name #suffix " (%[p])" FLAGS_OUT \
		     : "+a" (ax) : [p] "r" (m.p) : "cc", "memory"); \
	TRY(rmw_close(v, &m)); \
	v->rflags = flags_merge(v->rflags, ax); \
	return exec_next(v, i); \
}
#define DEFINE_LOCK_UNARIES(name) \
	DEFINE_LOCK_UNARY(name, 8, b) DEFINE_LOCK_UNARY(name, 16, w) \
	DEFINE_LOCK_UNARY(name, 32, l) DEFINE_LOCK_UNARY(name, 64, q)
DEFINE_LOCK_UNARIES(inc)
DEFINE_LOCK_UNARIES(dec)
DEFINE_LOCK_UNARIES(neg)
DEFINE_LOCK_UNARIES(not)

/* XCHG: memory is locked with or without the prefix. */
#define DEFINE_XCHG(bits) \
static int exec_xchg##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t a = gpr_get##bits(v, &i->op[0]), b = gpr_get##bits(v, &i->op[1]); \
	gpr_set##bits(v, &i->op[0], b); \
	gpr_set##bits(v, &i->op[1], a); \
	return exec_next(v, i); \
} \
static int exec_xchg##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *r = &i->op[i->op[0].kind == OPND_MEM]; \
	uint##bits##_t value = gpr_get##bits(v, r); \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, true, &m)); \
	asm volatile("xchg %[r], (%[p])" : [r] "+r" (value) : [p] "r" (m.p) : "memory"); \
	TRY(rmw_close(v, &m)); \
	gpr_set##bits(v, r, value); \
	return exec_next(v, i); \
}
FOR_SIZES(DEFINE_XCHG)

/* XADD: the sum goes to the destination, its old value to the source. */
#define DEFINE_XADD(bits) \
static int exec_xadd##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t old = gpr_get##bits(v, &i->op[0]); \
	uint##bits##_t sum = add##bits(&v->rflags, old, gpr_get##bits(v, &i->op[1])); \
	gpr_set##bits(v, &i->op[1], old); \
	gpr_set##bits(v, &i->op[0], sum); \
	return exec_next(v, i); \
} \
static int exec_xadd##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t value = gpr_get##bits(v, &i->op[1]); \
	struct rmw m; \
	uint16_t ax; \
	TRY(rmw_open(v, i, bits / 8, true, &m)); \
	asm volatile("lock xadd %[r], (%[p])" FLAGS_OUT \
		     : [r] "+&r" (value), "=&a" (ax) : [p] "r" (m.p) : "cc", "memory"); \
	TRY(rmw_close(v, &m)); \
	gpr_set##bits(v, &i->op[1], value); \
	v->rflags = flags_merge(v->rflags, ax); \
	return exec_next(v, i); \
}
FOR_SIZES(DEFINE_XADD)

/*
 * CMPXCHG.  Whole registers go in and come out, so that what happens to their upper
 * halves is what the host does.  (%m is the operand modifier of the size.)
 */
#define DEFINE_CMPXCHG(bits, m_) \
static int exec_cmpxchg##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *o = &i->op[0]; \
	uint64_t d = v->gpr[o->reg] >> o->high * 8, acc = v->gpr[REG_RAX], old; \
	uint64_t new = v->gpr[i->op[1].reg] >> i->op[1].high * 8; \
	asm("cmpxchg %" #m_ "[n], %" #m_ "[d]\n\tmov %[acc], %[old]" FLAGS_OUT \
	    : [d] "+&r" (d), [acc] "+&a" (acc), [old] "=&r" (old) : [n] "r" (new) : "cc"); \
	v->gpr[REG_RAX] = old; \
	if (bits == 8) \
		gpr_set8(v, o, d); \
	else \
		v->gpr[o->reg] = d; \
	v->rflags = flags_merge(v->rflags, acc); \
	return exec_next(v, i); \
} \
static int exec_cmpxchg##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t acc = v->gpr[REG_RAX], old; \
	uint64_t new = v->gpr[i->op[1].reg] >> i->op[1].high * 8; \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, true, &m)); \
	asm volatile("lock cmpxchg %" #m_ "[n], (%[p])\n\tmov %[acc], %[old]" FLAGS_OUT \
		     : [acc] "+&a" (acc), [old] "=&r" (old) \
		     : [n] "r" (new), [p] "r" (m.p) : "cc", "memory"); \
	TRY(rmw_close(v, &m)); \
	v->gpr[REG_RAX] = old; \
	v->rflags = flags_merge(v->rflags, acc); \
	return exec_next(v, i); \
}
DEFINE_CMPXCHG(8, b)
DEFINE_CMPXCHG(16, w)
DEFINE_CMPXCHG(32, k)
DEFINE_CMPXCHG(64, q)

static int exec_cmpxchg8b(struct vcpu *v, const struct insn *i)
{
	uint32_t lo = v->gpr[REG_RAX], hi = v->gpr[REG_RDX];
	struct rmw m;
	bool equal;

	TRY(rmw_open(v, i, 8, true, &m));
	asm volatile("lock cmpxchg8b (%[p])" : "+a" (lo), "+d" (hi), "=@ccz" (equal)
		     : "b" ((uint32_t)v->gpr[REG_RBX]), "c" ((uint32_t)v->gpr[REG_RCX]),
		       [p] "r" (m.p) : "memory");
	TRY(rmw_close(v, &m));
	v->rflags = (v->rflags & ~RFLAGS_ZF) | (equal ? RFLAGS_ZF : 0);
	if (!equal) {
		v->gpr[REG_RAX] = lo;
		v->gpr[REG_RDX] = hi;
	}
	return exec_next(v, i);
}

static int exec_cmpxchg16b(struct vcpu *v, const struct insn *i)
{
	uint64_t lo = v->gpr[REG_RAX], hi = v->gpr[REG_RDX];
	struct rmw m;
	bool equal;
	gva_t gva;

	TRY(mem_linear(v, i, 16, ACC_WRITE, &gva));
	if (gva & 15)
		return raise_gp(v, 0);
	TRY(rmw_open_at(v, gva, i->mem.seg, 16, true, &m));
	asm volatile("lock cmpxchg16b (%[p])" : "+a" (lo), "+d" (hi), "=@ccz" (equal)
		     : "b" (v->gpr[REG_RBX]), "c" (v->gpr[REG_RCX]), [p] "r" (m.p)
		     : "memory");
	TRY(rmw_close(v, &m));
	v->rflags = (v->rflags & ~RFLAGS_ZF) | (equal ? RFLAGS_ZF : 0);
	v->gpr[REG_RAX] = lo;
	v->gpr[REG_RDX] = hi;
	return exec_next(v, i);
}

#define PAIR_TABLE(name) { \
	{ exec_##name##8_r, exec_##name##16_r, exec_##name##32_r, exec_##name##64_r }, \
	{ exec_##name##8_m, exec_##name##16_m, exec_##name##32_m, exec_##name##64_m } }

static exec_fn select_locked(const struct insn *i)
{
	static const struct { unsigned int id; exec_fn fn[4]; } table[] = {
		{ INSN_ID_ADD, SIZE_ROW(lock_add) }, { INSN_ID_ADC, SIZE_ROW(lock_adc) },
		{ INSN_ID_SUB, SIZE_ROW(lock_sub) }, { INSN_ID_SBB, SIZE_ROW(lock_sbb) },
		{ INSN_ID_AND, SIZE_ROW(lock_and) }, { INSN_ID_OR, SIZE_ROW(lock_or) },
		{ INSN_ID_XOR, SIZE_ROW(lock_xor) }, { INSN_ID_INC, SIZE_ROW(lock_inc) },
		{ INSN_ID_DEC, SIZE_ROW(lock_dec) }, { INSN_ID_NEG, SIZE_ROW(lock_neg) },
		{ INSN_ID_NOT, SIZE_ROW(lock_not) },
	};

	for (unsigned int k = 0; k < ARRAY_SIZE(table); k++)
		if (table[k].id == i->info->id)
			return table[k].fn[size_index(i->op[0].size)];
	return NULL;
}

exec_fn exec_atomic_select(const struct insn *i)
{
	static const exec_fn xchg[2][4] = PAIR_TABLE(xchg), xadd[2][4] = PAIR_TABLE(xadd);
	static const exec_fn cmpxchg[2][4] = PAIR_TABLE(cmpxchg);
	unsigned int size = size_index(i->op[0].size);
	bool mem = i->flags & INSN_HAS_MEM;

	switch (i->info->id) {
	case INSN_ID_XCHG: return xchg[mem][size];
	case INSN_ID_XADD: return xadd[mem][size];
	case INSN_ID_CMPXCHG: return cmpxchg[mem][size];
	case INSN_ID_CMPXCHG8B: return exec_cmpxchg8b;
	case INSN_ID_CMPXCHG16B: return exec_cmpxchg16b;
	default: return mem && i->flags & INSN_LOCK ? select_locked(i) : NULL;
	}
}
