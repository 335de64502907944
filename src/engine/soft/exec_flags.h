/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Arithmetic by the host's own instructions, so that the flags are the processor's, the
 * undefined ones included.
 *
 * Flags travel as AX: AH as LAHF leaves them (SF ZF AF PF CF), bit 0 of AL is OF.  The
 * way in is ADD AL, 7Fh (sets OF if AL was 1) and SAHF (leaves OF alone).
 */
#ifndef VIREO_ENGINE_SOFT_EXEC_FLAGS_H
#define VIREO_ENGINE_SOFT_EXEC_FLAGS_H

#include "base/types.h"
#include "x86/regs.h"

/* Expands M(bits) for the four operand sizes. */
#define FOR_SIZES(M)		M(8) M(16) M(32) M(64)
#define FOR_SIZES_1(M, a)	M(a, 8) M(a, 16) M(a, 32) M(a, 64)

#define FLAGS_IN	"addb $0x7f, %%al\n\tsahf\n\t"
#define FLAGS_OUT	"\n\tlahf\n\tseto %%al"

static inline uint16_t flags_to_ax(uint64_t f)
{
	return (f & 0xff) << 8 | (f >> 11 & 1);
}

/* LAHF's bit 1 is always one, as in RFLAGS. */
static inline uint64_t flags_merge(uint64_t f, uint16_t ax)
{
	return (f & ~RFLAGS_ARITH) | ax >> 8 | (ax & 1) << 11;
}

/* op b, a: flags are written only. */
#define DEFINE_ALU(op, bits) \
static inline uint##bits##_t op##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t b) \
{ \
	uint16_t ax; \
	asm(#op " %[b], %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "=&a" (ax) : [b] "r" (b) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
}

/* op b, a: CF is read. */
#define DEFINE_ALU_CARRY(op, bits) \
static inline uint##bits##_t op##bits(uint64_t *f, uint##bits##_t a, uint##bits##_t b) \
{ \
	uint16_t ax; \
	asm("btl $0, %k[f]\n\t" #op " %[b], %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "=&a" (ax) : [b] "r" (b), [f] "r" (*f) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
}

/* op a: CF is kept (INC, DEC) or overwritten (NEG). */
#define DEFINE_ALU_UNARY(op, bits) \
static inline uint##bits##_t op##bits(uint64_t *f, uint##bits##_t a) \
{ \
	uint16_t ax; \
	asm("btl $0, %k[f]\n\t" #op " %[a]" FLAGS_OUT \
	    : [a] "+r" (a), "=&a" (ax) : [f] "r" (*f) : "cc"); \
	*f = flags_merge(*f, ax); \
	return a; \
}

FOR_SIZES_1(DEFINE_ALU, add)
FOR_SIZES_1(DEFINE_ALU, sub)
FOR_SIZES_1(DEFINE_ALU, and)
FOR_SIZES_1(DEFINE_ALU, or)
FOR_SIZES_1(DEFINE_ALU, xor)
FOR_SIZES_1(DEFINE_ALU, cmp)
FOR_SIZES_1(DEFINE_ALU, test)
FOR_SIZES_1(DEFINE_ALU_CARRY, adc)
FOR_SIZES_1(DEFINE_ALU_CARRY, sbb)
FOR_SIZES_1(DEFINE_ALU_UNARY, inc)
FOR_SIZES_1(DEFINE_ALU_UNARY, dec)
FOR_SIZES_1(DEFINE_ALU_UNARY, neg)

/*
 * Condition @cc (0-15) of Jcc, SETcc, CMOVcc.  Bit 3 of RFLAGS is always zero and
 * stands for "less" (SF != OF) here.
 */
static inline bool flags_condition(uint64_t f, unsigned int cc)
{
	static const uint16_t mask[8] = {
		RFLAGS_OF, RFLAGS_CF, RFLAGS_ZF, RFLAGS_CF | RFLAGS_ZF,
		RFLAGS_SF, RFLAGS_PF, BIT(3), BIT(3) | RFLAGS_ZF,
	};
	uint64_t less = (f >> 7 ^ f >> 11) & 1;

	return ((f | less << 3) & mask[cc >> 1]) != 0 ? !(cc & 1) : cc & 1;
}

#endif
