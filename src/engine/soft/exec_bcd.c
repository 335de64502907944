// SPDX-License-Identifier: Apache-2.0
/*
 * Decimal arithmetic, outside 64-bit mode only.  The host cannot run it in our mode, so
 * this is the manual's pseudo-code; flags it leaves undefined are those of the result
 * (SF, ZF, PF) or cleared (OF, and CF and AF of AAM and AAD).
 *
 * Source: Intel SDM volume 2.
 */
#include "engine/soft/exec_priv.h"

static uint64_t with(uint64_t flags, uint64_t bit, bool on)
{
	return on ? flags | bit : flags & ~bit;
}

/* AL, and the flags of it; CF and AF as given. */
static void set_al(struct vcpu *v, uint8_t al, bool cf, bool af)
{
	reg_set(v, REG_RAX, 1, al);
	test8(&v->rflags, al, al);
	v->rflags = with(with(v->rflags, RFLAGS_CF, cf), RFLAGS_AF, af);
}

static bool low_digit_carries(const struct vcpu *v)
{
	return (v->gpr[REG_RAX] & 15) > 9 || v->rflags & RFLAGS_AF;
}

static int exec_daa(struct vcpu *v, const struct insn *i)
{
	uint8_t old = v->gpr[REG_RAX], al = old;
	bool af = low_digit_carries(v), cf = old > 0x99 || v->rflags & RFLAGS_CF;

	if (af)
		al += 6;
	if (cf)
		al += 0x60;
	set_al(v, al, cf, af);
	return exec_next(v, i);
}

static int exec_das(struct vcpu *v, const struct insn *i)
{
	uint8_t old = v->gpr[REG_RAX], al = old;
	bool af = low_digit_carries(v), high = old > 0x99 || v->rflags & RFLAGS_CF;
	bool cf = high || (af && (old < 6 || v->rflags & RFLAGS_CF));

	if (af)
		al -= 6;
	if (high)
		al -= 0x60;
	set_al(v, al, cf, af);
	return exec_next(v, i);
}

/* AAA and AAS: to unpacked digits in AL, with the carry into AH. */
static int adjust_unpacked(struct vcpu *v, const struct insn *i, uint16_t delta)
{
	bool carry = low_digit_carries(v);
	uint16_t ax = v->gpr[REG_RAX];

	if (carry)
		ax += delta;
	reg_set16(v, REG_RAX, ax);
	set_al(v, ax & 15, carry, carry);
	return exec_next(v, i);
}

static int exec_aaa(struct vcpu *v, const struct insn *i)
{
	return adjust_unpacked(v, i, 0x106);
}

static int exec_aas(struct vcpu *v, const struct insn *i)
{
	return adjust_unpacked(v, i, -0x106);
}

static int exec_aam(struct vcpu *v, const struct insn *i)
{
	uint8_t al = v->gpr[REG_RAX], base = i->imm;

	if (!base)
		return raise_exc(v, EXC_DE);
	reg_set16(v, REG_RAX, (al / base) << 8);
	set_al(v, al % base, false, false);
	return exec_next(v, i);
}

static int exec_aad(struct vcpu *v, const struct insn *i)
{
	uint16_t ax = v->gpr[REG_RAX];

	reg_set16(v, REG_RAX, 0);
	set_al(v, ax + (ax >> 8) * (uint8_t)i->imm, false, false);
	return exec_next(v, i);
}

exec_fn exec_bcd_select(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_DAA: return exec_daa;
	case INSN_ID_DAS: return exec_das;
	case INSN_ID_AAA: return exec_aaa;
	case INSN_ID_AAS: return exec_aas;
	case INSN_ID_AAM: return exec_aam;
	case INSN_ID_AAD: return exec_aad;
	default: return NULL;
	}
}
