// SPDX-License-Identifier: Apache-2.0
/*
 * Shifts and rotates.  The host's instruction runs with the guest's flags loaded, so that
 * a count of zero keeps them and rotates keep what they do not define.
 *
 * Source: Intel SDM volume 2.
 */
#include "engine/soft/exec_priv.h"

/* The count in CL or the immediate; the instruction masks it itself. */
static inline uint8_t shift_count(const struct vcpu *v, const struct insn *i, unsigned int op)
{
	return i->op[op].kind == OPND_GPR ? (uint8_t)v->gpr[REG_RCX] : (uint8_t)i->imm;
}

#define DEFINE_SHIFT(name, bits) \
static inline uint##bits##_t name##bits(uint64_t *f, uint##bits##_t a, uint8_t count) \
{ \
	uint16_t ax = flags_to_ax(*f); \
	asm(FLAGS_IN #name " %%cl, %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "+a" (ax) : "c" (count) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
} \
static int exec_##name##bits##_ri(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), i->imm)); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_rr(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, name##bits(&v->rflags, gpr_get##bits(v, d), v->gpr[REG_RCX])); \
	return exec_next(v, i); \
} \
static int exec_##name##bits##_m(struct vcpu *v, const struct insn *i) \
{ \
	uint64_t f = v->rflags; \
	struct rmw m; \
	TRY(rmw_open(v, i, bits / 8, false, &m)); \
	raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p), shift_count(v, i, 1))); \
	TRY(rmw_close(v, &m)); \
	v->rflags = f; \
	return exec_next(v, i); \
}

#define SHIFT_FORMS(name) \
static const exec_forms name##_forms = { \
	[FORM_RR] = FORM_ROW(name, rr), [FORM_RI] = FORM_ROW(name, ri), \
	[FORM_MR] = FORM_ROW(name, m), [FORM_MI] = FORM_ROW(name, m), \
}

/* Where nobody sees the flags (INSN_FLAGS_DEAD), by an immediate. */
#define DEFINE_QUIET_SHIFT(name, bits, result) \
static int exec_quiet_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	uint##bits##_t a = gpr_get##bits(v, d); \
	unsigned int count = i->imm & (bits == 64 ? 63 : 31); \
	gpr_set##bits(v, d, result); \
	return exec_next(v, i); \
}
#define DEFINE_QUIET_SHIFTS(bits, wide) \
	DEFINE_QUIET_SHIFT(shl, bits, (uint##wide##_t)a << count) \
	DEFINE_QUIET_SHIFT(shr, bits, a >> count) \
	DEFINE_QUIET_SHIFT(sar, bits, (int##bits##_t)a >> count)
DEFINE_QUIET_SHIFTS(8, 32)
DEFINE_QUIET_SHIFTS(16, 32)
DEFINE_QUIET_SHIFTS(32, 32)
DEFINE_QUIET_SHIFTS(64, 64)

FOR_SIZES_1(DEFINE_SHIFT, rol)
FOR_SIZES_1(DEFINE_SHIFT, ror)
FOR_SIZES_1(DEFINE_SHIFT, rcl)
FOR_SIZES_1(DEFINE_SHIFT, rcr)
FOR_SIZES_1(DEFINE_SHIFT, shl)
FOR_SIZES_1(DEFINE_SHIFT, shr)
FOR_SIZES_1(DEFINE_SHIFT, sar)
SHIFT_FORMS(rol);
SHIFT_FORMS(ror);
SHIFT_FORMS(rcl);
SHIFT_FORMS(rcr);
SHIFT_FORMS(shl);
SHIFT_FORMS(shr);
SHIFT_FORMS(sar);

/* SHLD, SHRD: bits come in from a second register. */
#define DEFINE_DOUBLE_SHIFT(name, bits) \
static inline uint##bits##_t name##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t b, \
					uint8_t count) \
{ \
	uint16_t ax = flags_to_ax(*f); \
	asm(FLAGS_IN #name " %%cl, %[b], %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "+a" (ax) : [b] "r" (b), "c" (count) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
} \
static int exec_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	uint##bits##_t b = gpr_get##bits(v, &i->op[1]); \
	uint8_t count = shift_count(v, i, 2); \
	uint64_t f = v->rflags; \
	struct rmw m; \
	if (d->kind == OPND_MEM) { \
		TRY(rmw_open(v, i, bits / 8, false, &m)); \
		raw_set##bits(m.p, name##bits(&f, raw_get##bits(m.p), b, count)); \
		TRY(rmw_close(v, &m)); \
	} else { \
		gpr_set##bits(v, d, name##bits(&f, gpr_get##bits(v, d), b, count)); \
	} \
	v->rflags = f; \
	return exec_next(v, i); \
}
DEFINE_DOUBLE_SHIFT(shld, 16)
DEFINE_DOUBLE_SHIFT(shld, 32)
DEFINE_DOUBLE_SHIFT(shld, 64)
DEFINE_DOUBLE_SHIFT(shrd, 16)
DEFINE_DOUBLE_SHIFT(shrd, 32)
DEFINE_DOUBLE_SHIFT(shrd, 64)

static exec_fn select_quiet(const struct insn *i)
{
	static const exec_fn shl[4] = SIZE_ROW(quiet_shl), shr[4] = SIZE_ROW(quiet_shr);
	static const exec_fn sar[4] = SIZE_ROW(quiet_sar);
	unsigned int size = size_index(i->op[0].size);

	if (exec_form(i) != FORM_RI)
		return NULL;
	switch (i->info->id) {
	case INSN_ID_SHL: return shl[size];
	case INSN_ID_SHR: return shr[size];
	case INSN_ID_SAR: return sar[size];
	default: return NULL;
	}
}

exec_fn exec_shift_select(const struct insn *i)
{
	exec_fn quiet = i->flags & INSN_FLAGS_DEAD ? select_quiet(i) : NULL;
	static const exec_fn shld[4] = { NULL, exec_shld16, exec_shld32, exec_shld64 };
	static const exec_fn shrd[4] = { NULL, exec_shrd16, exec_shrd32, exec_shrd64 };

	if (quiet)
		return quiet;
	switch (i->info->id) {
	case INSN_ID_ROL: return exec_from_forms(rol_forms, i);
	case INSN_ID_ROR: return exec_from_forms(ror_forms, i);
	case INSN_ID_RCL: return exec_from_forms(rcl_forms, i);
	case INSN_ID_RCR: return exec_from_forms(rcr_forms, i);
	case INSN_ID_SHL: return exec_from_forms(shl_forms, i);
	case INSN_ID_SHR: return exec_from_forms(shr_forms, i);
	case INSN_ID_SAR: return exec_from_forms(sar_forms, i);
	case INSN_ID_SHLD: return shld[size_index(i->op[0].size)];
	case INSN_ID_SHRD: return shrd[size_index(i->op[0].size)];
	default: return NULL;
	}
}
