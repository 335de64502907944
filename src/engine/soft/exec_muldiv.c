// SPDX-License-Identifier: Apache-2.0
/*
 * Multiplication and division.  The host's instruction runs with the guest's flags
 * loaded: what the manual leaves undefined is what this processor does.  Division is
 * checked first, since the host would raise #DE in us.
 *
 * Source: Intel SDM volume 2.
 */
#include "engine/soft/exec_priv.h"

/* rDX:rAX op source -> rDX:rAX.  AX holds the flags before and after (exec_flags.h). */
#define DEFINE_WIDE(name, bits) \
static inline void name##bits(uint64_t *f, uint##bits##_t *lo, uint##bits##_t *hi, \
			      uint##bits##_t source) \
{ \
	uint##bits##_t ax = flags_to_ax(*f), l = *lo, h = *hi; \
	asm(FLAGS_IN "mov %[l], %[ax]\n\t" #name " %[s]\n\tmov %[ax], %[l]" FLAGS_OUT \
	    : [ax] "+a" (ax), [l] "+&r" (l), "+&d" (h) : [s] "r" (source) : "cc"); \
	*lo = l; \
	*hi = h; \
	*f = flags_merge(*f, ax); \
}
#define DEFINE_WIDES(bits) DEFINE_WIDE(mul, bits) DEFINE_WIDE(imul, bits) \
			   DEFINE_WIDE(div, bits) DEFINE_WIDE(idiv, bits)
DEFINE_WIDES(16)
DEFINE_WIDES(32)
DEFINE_WIDES(64)

/* The same on AX alone: AL and AH are the two halves. */
#define DEFINE_WIDE8(name) \
static inline void name##8(uint64_t *f, uint16_t *acc, uint8_t source) \
{ \
	uint16_t ax = flags_to_ax(*f), l = *acc; \
	asm(FLAGS_IN "mov %[l], %[ax]\n\t" #name " %[s]\n\tmov %[ax], %[l]" FLAGS_OUT \
	    : [ax] "+a" (ax), [l] "+&r" (l) : [s] "r" (source) : "cc"); \
	*acc = l; \
	*f = flags_merge(*f, ax); \
}
DEFINE_WIDE8(mul)
DEFINE_WIDE8(imul)
DEFINE_WIDE8(div)
DEFINE_WIDE8(idiv)

/* Does hi:lo / source fit?  For IDIV: magnitudes, then the quotient's sign bit. */
static bool div_fits64(uint64_t lo, uint64_t hi, uint64_t source)
{
	(void)lo;
	return hi < source;
}

static bool idiv_fits64(uint64_t lo, uint64_t hi, uint64_t source)
{
	bool negative = (int64_t)(hi ^ source) < 0;
	uint64_t s = (int64_t)source < 0 ? -source : source, q, r;

	if ((int64_t)hi < 0) {
		hi = ~hi + !lo;
		lo = -lo;
	}
	if (hi >= s)
		return false;
	asm("divq %[s]" : "=a" (q), "=d" (r) : "a" (lo), "d" (hi), [s] "r" (s) : "cc");
	return q <= INT64_MAX + (uint64_t)negative;
}

#define DEFINE_FITS(bits, wide) \
static bool div_fits##bits(uint##bits##_t lo, uint##bits##_t hi, uint##bits##_t source) \
{ \
	(void)lo; \
	return hi < source; \
} \
static bool idiv_fits##bits(uint##bits##_t lo, uint##bits##_t hi, uint##bits##_t source) \
{ \
	int##wide##_t n = (uint##wide##_t)hi << bits | lo, s = (int##bits##_t)source; \
	if (!s || (s == -1 && n == INT##wide##_MIN)) \
		return false; \
	return n / s == (int##bits##_t)(n / s); \
}
DEFINE_FITS(8, 16)
DEFINE_FITS(16, 32)
DEFINE_FITS(32, 64)

#define DEFINE_WIDE_HANDLER(name, bits, fits) \
static int exec_##name##bits(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t source, lo = v->gpr[REG_RAX], hi = v->gpr[REG_RDX]; \
	TRY(source##bits(v, i, &i->op[0], &source)); \
	if (!(fits)) \
		return raise_exc(v, EXC_DE); \
	name##bits(&v->rflags, &lo, &hi, source); \
	reg_set(v, REG_RAX, bits / 8, lo); \
	reg_set(v, REG_RDX, bits / 8, hi); \
	return exec_next(v, i); \
}
#define DEFINE_WIDE8_HANDLER(name, fits) \
static int exec_##name##8(struct vcpu *v, const struct insn *i) \
{ \
	uint16_t acc = v->gpr[REG_RAX]; \
	uint8_t source; \
	TRY(source8(v, i, &i->op[0], &source)); \
	if (!(fits)) \
		return raise_exc(v, EXC_DE); \
	name##8(&v->rflags, &acc, source); \
	reg_set16(v, REG_RAX, acc); \
	return exec_next(v, i); \
}
#define DEFINE_WIDE_HANDLERS(bits) \
	DEFINE_WIDE_HANDLER(mul, bits, true) \
	DEFINE_WIDE_HANDLER(imul, bits, true) \
	DEFINE_WIDE_HANDLER(div, bits, div_fits##bits(lo, hi, source)) \
	DEFINE_WIDE_HANDLER(idiv, bits, idiv_fits##bits(lo, hi, source))
DEFINE_WIDE8_HANDLER(mul, true)
DEFINE_WIDE8_HANDLER(imul, true)
DEFINE_WIDE8_HANDLER(div, div_fits8(acc, acc >> 8, source))
DEFINE_WIDE8_HANDLER(idiv, idiv_fits8(acc, acc >> 8, source))
DEFINE_WIDE_HANDLERS(16)
DEFINE_WIDE_HANDLERS(32)
DEFINE_WIDE_HANDLERS(64)

/* IMUL r, r/m and IMUL r, r/m, imm: the lower half only. */
#define DEFINE_IMUL(bits) \
static inline uint##bits##_t imul_low##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t b) \
{ \
	uint16_t ax = flags_to_ax(*f); \
	asm(FLAGS_IN "imul %[b], %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "+a" (ax) : [b] "r" (b) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
} \
static int exec_imul##bits##_rr(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	gpr_set##bits(v, d, imul_low##bits(&v->rflags, gpr_get##bits(v, d), \
				       gpr_get##bits(v, &i->op[1]))); \
	return exec_next(v, i); \
} \
static int exec_imul##bits##_rm(struct vcpu *v, const struct insn *i) \
{ \
	const struct operand *d = &i->op[0]; \
	uint##bits##_t b; \
	TRY(load##bits(v, i, &b)); \
	gpr_set##bits(v, d, imul_low##bits(&v->rflags, gpr_get##bits(v, d), b)); \
	return exec_next(v, i); \
} \
static int exec_imul##bits##_imm(struct vcpu *v, const struct insn *i) \
{ \
	uint##bits##_t a; \
	TRY(source##bits(v, i, &i->op[1], &a)); \
	gpr_set##bits(v, &i->op[0], imul_low##bits(&v->rflags, a, i->imm)); \
	return exec_next(v, i); \
}
DEFINE_IMUL(16)
DEFINE_IMUL(32)
DEFINE_IMUL(64)

static exec_fn select_imul(const struct insn *i)
{
	static const exec_fn wide[4] = SIZE_ROW(imul);
	static const exec_fn rr[4] = { NULL, exec_imul16_rr, exec_imul32_rr, exec_imul64_rr };
	static const exec_fn rm[4] = { NULL, exec_imul16_rm, exec_imul32_rm, exec_imul64_rm };
	static const exec_fn imm[4] = { NULL, exec_imul16_imm, exec_imul32_imm, exec_imul64_imm };
	unsigned int size = size_index(i->op[0].size);

	if (i->op_count < 2 || i->op[1].implicit)
		return wide[size];
	if (i->op_count > 2 && i->op[2].kind == OPND_IMM)
		return imm[size];
	return i->op[1].kind == OPND_MEM ? rm[size] : rr[size];
}

exec_fn exec_muldiv_select(const struct insn *i)
{
	static const exec_fn mul[4] = SIZE_ROW(mul), div[4] = SIZE_ROW(div);
	static const exec_fn idiv[4] = SIZE_ROW(idiv);

	switch (i->info->id) {
	case INSN_ID_MUL: return mul[size_index(i->op[0].size)];
	case INSN_ID_DIV: return div[size_index(i->op[0].size)];
	case INSN_ID_IDIV: return idiv[size_index(i->op[0].size)];
	case INSN_ID_IMUL: return select_imul(i);
	default: return NULL;
	}
}
