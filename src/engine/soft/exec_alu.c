// SPDX-License-Identifier: Apache-2.0
/*
 * Addition, subtraction, logic and comparison, and the instructions on single flags.
 * LOCK forms are in exec_atomic.c.
 *
 * Source: Intel SDM volume 2; the flags are the host's (exec_flags.h).
 */
#include "engine/soft/exec_priv.h"

/* op a, b -> a, in a register */
#define DEFINE_ALU_REG_HANDLERS(name, bits) \
static int exec_##name##bits##_rr(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), \
				     gpr_get##bits(v, &i->op[1]))); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_ri(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), i->imm)); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_rm(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	uint##bits##_t b; \
	TRY(load##bits(v, i, &b)); \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), b)); \
	return exec_next(v, i); \
}

/* The same, and in memory. */
#define DEFINE_ALU_HANDLERS(name, bits) \
DEFINE_ALU_REG_HANDLERS(name, bits) \
static int exec_##name##bits##_mr(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t f = v->rflags; \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, false, &m)); \
	raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p), gpr_get##bits(v, &i->op[1]))); \
	TRY(rmw_close(v, &m)); \
	v->rflags = f; \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_mi(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t f = v->rflags; \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, false, &m)); \
	raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p), i->imm)); \
	TRY(rmw_close(v, &m)); \
	v->rflags = f; \
	return exec_next(v, i); \
}

/* op a, b: flags only */
#define DEFINE_COMPARE_HANDLERS(name, bits) \
static int exec_##name##bits##_rr(struct vcpu *v, const struct insn *i) \
{ \
	name##bits(&v->rflags, gpr_get##bits(v, &i->op[0]), gpr_get##bits(v, &i->op[1])); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_ri(struct vcpu *v, const struct insn *i) \
{ \
	name##bits(&v->rflags, gpr_get##bits(v, &i->op[0]), i->imm); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_rm(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t b; \
	TRY(load##bits(v, i, &b)); \
	name##bits(&v->rflags, gpr_get##bits(v, &i->op[0]), b); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_mr(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t a; \
	TRY(load##bits(v, i, &a)); \
	name##bits(&v->rflags, a, gpr_get##bits(v, &i->op[1])); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_mi(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t a; \
	TRY(load##bits(v, i, &a)); \
	name##bits(&v->rflags, a, i->imm); \
	return exec_next(v, i); \
}

/* op a -> a */
#define DEFINE_UNARY_HANDLERS(name, bits) \
static int exec_##name##bits##_r(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d))); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t f = v->rflags; \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, false, &m)); \
	raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p))); \
	TRY(rmw_close(v, &m)); \
	v->rflags = f; \
	return exec_next(v, i); \
}

#define ALU_FORMS(name) \
static const exec_forms name##_forms = { \
	[FORM_RR] = FORM_ROW(name, rr), [FORM_RI] = FORM_ROW(name, ri), \
	[FORM_RM] = FORM_ROW(name, rm), [FORM_MR] = FORM_ROW(name, mr), \
	[FORM_MI] = FORM_ROW(name, mi), \
}
#define UNARY_FORMS(name) \
static const exec_forms name##_forms = { \
	[FORM_R] = FORM_ROW(name, r), [FORM_M] = FORM_ROW(name, m), \
}

FOR_SIZES_1(DEFINE_ALU_HANDLERS, add)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, adc)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, sub)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, sbb)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, and)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, or)
FOR_SIZES_1(DEFINE_ALU_HANDLERS, xor)
FOR_SIZES_1(DEFINE_COMPARE_HANDLERS, cmp)
FOR_SIZES_1(DEFINE_COMPARE_HANDLERS, test)
FOR_SIZES_1(DEFINE_UNARY_HANDLERS, inc)
FOR_SIZES_1(DEFINE_UNARY_HANDLERS, dec)
FOR_SIZES_1(DEFINE_UNARY_HANDLERS, neg)

#define DEFINE_NOT(bits) \
static inline uint##bits##_t not##bits(uint64_t *f, uint##bits##_t a) \
{ \
	(void)f; \
	return ~a; \
} \
DEFINE_UNARY_HANDLERS(not, bits)
FOR_SIZES(DEFINE_NOT)

/*
 * Where nobody sees the flags (INSN_FLAGS_DEAD), the compiler's arithmetic does.  A memory
 * destination never has dead flags.
 */
#define DEFINE_QUIET(name, bits, result) \
static inline uint##bits##_t quiet_##name##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t b) \
{ \
	(void)f; \
	return result; \
} \
DEFINE_ALU_REG_HANDLERS(quiet_##name, bits)
#define DEFINE_QUIETS(name, result) \
	DEFINE_QUIET(name, 8, result) DEFINE_QUIET(name, 16, result) \
	DEFINE_QUIET(name, 32, result) DEFINE_QUIET(name, 64, result)
DEFINE_QUIETS(add, a + b)
DEFINE_QUIETS(sub, a - b)
DEFINE_QUIETS(and, a & b)
DEFINE_QUIETS(or, a | b)
DEFINE_QUIETS(xor, a ^ b)

#define QUIET_FORMS(name) \
static const exec_forms quiet_##name##_forms = { \
	[FORM_RR] = FORM_ROW(quiet_##name, rr), [FORM_RI] = FORM_ROW(quiet_##name, ri), \
	[FORM_RM] = FORM_ROW(quiet_##name, rm), \
}
QUIET_FORMS(add);
QUIET_FORMS(sub);
QUIET_FORMS(and);
QUIET_FORMS(or);
QUIET_FORMS(xor);

ALU_FORMS(add);
ALU_FORMS(adc);
ALU_FORMS(sub);
ALU_FORMS(sbb);
ALU_FORMS(and);
ALU_FORMS(or);
ALU_FORMS(xor);
ALU_FORMS(cmp);
ALU_FORMS(test);
UNARY_FORMS(inc);
UNARY_FORMS(dec);
UNARY_FORMS(neg);
UNARY_FORMS(not);

/* --- single flags --- */

static int exec_clc(struct vcpu *v, const struct insn *i)
{
	v->rflags &= ~RFLAGS_CF;
	return exec_next(v, i);
}

static int exec_stc(struct vcpu *v, const struct insn *i)
{
	v->rflags |= RFLAGS_CF;
	return exec_next(v, i);
}

static int exec_cmc(struct vcpu *v, const struct insn *i)
{
	v->rflags ^= RFLAGS_CF;
	return exec_next(v, i);
}

static int exec_cld(struct vcpu *v, const struct insn *i)
{
	v->rflags &= ~RFLAGS_DF;
	return exec_next(v, i);
}

static int exec_std(struct vcpu *v, const struct insn *i)
{
	v->rflags |= RFLAGS_DF;
	return exec_next(v, i);
}

static int exec_lahf(struct vcpu *v, const struct insn *i)
{
	v->gpr[REG_RAX] = (v->gpr[REG_RAX] & ~0xff00ULL) | (v->rflags & 0xff) << 8;
	return exec_next(v, i);
}

static int exec_sahf(struct vcpu *v, const struct insn *i)
{
	const uint64_t mask = RFLAGS_ARITH & ~RFLAGS_OF;

	v->rflags = (v->rflags & ~mask) | (v->gpr[REG_RAX] >> 8 & mask);
	return exec_next(v, i);
}

static int exec_salc(struct vcpu *v, const struct insn *i)
{
	reg_set(v, REG_RAX, 1, v->rflags & RFLAGS_CF ? 0xff : 0);
	return exec_next(v, i);
}

static exec_fn select_quiet(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_ADD: return exec_from_forms(quiet_add_forms, i);
	case INSN_ID_SUB: return exec_from_forms(quiet_sub_forms, i);
	case INSN_ID_AND: return exec_from_forms(quiet_and_forms, i);
	case INSN_ID_OR: return exec_from_forms(quiet_or_forms, i);
	case INSN_ID_XOR: return exec_from_forms(quiet_xor_forms, i);
	default: return NULL;
	}
}

exec_fn exec_alu_select(const struct insn *i)
{
	exec_fn quiet = i->flags & INSN_FLAGS_DEAD ? select_quiet(i) : NULL;

	if (quiet)
		return quiet;
	switch (i->info->id) {
	case INSN_ID_ADD: return exec_from_forms(add_forms, i);
	case INSN_ID_ADC: return exec_from_forms(adc_forms, i);
	case INSN_ID_SUB: return exec_from_forms(sub_forms, i);
	case INSN_ID_SBB: return exec_from_forms(sbb_forms, i);
	case INSN_ID_AND: return exec_from_forms(and_forms, i);
	case INSN_ID_OR: return exec_from_forms(or_forms, i);
	case INSN_ID_XOR: return exec_from_forms(xor_forms, i);
	case INSN_ID_CMP: return exec_from_forms(cmp_forms, i);
	case INSN_ID_TEST: return exec_from_forms(test_forms, i);
	case INSN_ID_INC: return exec_from_forms(inc_forms, i);
	case INSN_ID_DEC: return exec_from_forms(dec_forms, i);
	case INSN_ID_NEG: return exec_from_forms(neg_forms, i);
	case INSN_ID_NOT: return exec_from_forms(not_forms, i);
	case INSN_ID_CLC: return exec_clc;
	case INSN_ID_STC: return exec_stc;
	case INSN_ID_CMC: return exec_cmc;
	case INSN_ID_CLD: return exec_cld;
	case INSN_ID_STD: return exec_std;
	case INSN_ID_LAHF: return exec_lahf;
	case INSN_ID_SAHF: return exec_sahf;
	case INSN_ID_SALC: return exec_salc;
	default: return NULL;
	}
}
