// SPDX-License-Identifier: Apache-2.0
/*
 * BT, BTS, BTR and BTC of a bit in memory whose number is in a register, which kernels use for
 * their bit maps: the number reaches beyond the operand, in units of its size.  The unit's address
 * is looked up as any other, and the number within it is left to the host's own instruction.
 *
 * The interpreter's: negative numbers and those from 2^31 on, words, code for windows, 32-bit code.
 *
 * Source: Intel SDM volume 2, "BT", "Bit(BitBase, BitOffset)".
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

/* Opcode with a register, 0: none of these. */
static uint32_t bit_opcode(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_BT: return 0x0fa3;
	case INSN_ID_BTS: return 0x0fab;
	case INSN_ID_BTR: return 0x0fb3;
	case INSN_ID_BTC: return 0x0fbb;
	default: return 0;
	}
}

/* rcx = what @mask takes out of the bit's number */
static void emit_number(struct tr *t, const struct insn *i, struct host_mem mask)
{
	unsigned int reg = host_reg(t, i->op[1].reg);

	if (reg == IN_MEMORY) {
		e_load(&t->e, H_TMP, IN_GPR(i->op[1].reg));
		reg = H_TMP;
	}
	e_pext(&t->e, H_TMP, reg, mask);
}

/* r14 += where the unit is that the bit is in; or to the interpreter */
static void emit_unit(struct tr *t, const struct insn *i, bool wide)
{
	struct emit *e = &t->e;
	uint8_t *near;

	emit_number(t, i, wide ? IN_HOT(bit_far[1]) : IN_HOT(bit_far[0]));
	near = e_jrcxz(e);
	t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
	e_bind8(e, near);
	emit_effective(t, &i->mem, H_ADDR, false);
	emit_segment_base(t, &i->mem);
	emit_number(t, i, wide ? IN_HOT(bit_unit[1]) : IN_HOT(bit_unit[0]));
	e_lea(e, H_ADDR, AT_SCALE(H_ADDR, H_TMP, wide ? 3 : 2));
}

bool emit_bit(struct tr *t, const struct insn *i)
{
	uint32_t opcode = bit_opcode(i);
	bool wide = i->opsize == 8;
	struct emit *e = &t->e;

	if (!opcode || !(i->flags & INSN_HAS_MEM) || i->op[1].kind != OPND_GPR || i->opsize < 4 ||
	    i->mem.addr_size != 8 || t->b->mode & (MODE_WINDOW | MODE_32) ||
	    !with(t->d, TRANSLATOR_OPT_BIT))
		return false;
	temps_lost(t);
	emit_unit(t, i, wide);
	e_lea(e, H_ADDR, emit_looked_up(t, i->opsize, opcode != 0x0fa3));
	emit_number(t, i, wide ? IN_HOT(bit_in[1]) : IN_HOT(bit_in[0]));
	if (i->flags & INSN_LOCK)
		e8(e, 0xf0);
	e_op_mem(e, wide, opcode, H_TMP, AT(H_ADDR));
	return true;
}
