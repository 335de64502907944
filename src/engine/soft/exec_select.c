// SPDX-License-Identifier: Apache-2.0
/*
 * From a decoded instruction to its handler.  Each exec_*.c knows its own mnemonics;
 * here they are asked in turn, the frequent ones first.  Runs once for an instruction
 * that is put into a block, never on the hot path.
 */
#include "engine/soft/exec_priv.h"

enum exec_form exec_form(const struct insn *i)
{
	unsigned int a = i->op_count > 0 ? i->op[0].kind : OPND_NONE;
	unsigned int b = i->op_count > 1 ? i->op[1].kind : OPND_NONE;

	if (a == OPND_GPR && b == OPND_GPR)
		return FORM_RR;
	if (a == OPND_GPR && b == OPND_MEM)
		return FORM_RM;
	if (a == OPND_GPR && b == OPND_IMM)
		return FORM_RI;
	if (a == OPND_MEM && b == OPND_GPR)
		return FORM_MR;
	if (a == OPND_MEM && b == OPND_IMM)
		return FORM_MI;
	if (b != OPND_NONE)
		return FORM_OTHER;
	switch (a) {
	case OPND_GPR: return FORM_R;
	case OPND_MEM: return FORM_M;
	case OPND_IMM: return FORM_I;
	default: return FORM_OTHER;
	}
}

exec_fn exec_from_forms(const exec_forms forms, const struct insn *i)
{
	enum exec_form form = exec_form(i);

	if (form == FORM_OTHER)
		return NULL;
	return forms[form][size_index(i->op[0].size)];
}

int exec_ud(struct vcpu *v, const struct insn *i)
{
	(void)i;
	return raise_ud(v);
}

exec_fn exec_select(const struct insn *i)
{
	static exec_fn (*const select[])(const struct insn *i) = {
		exec_atomic_select,	/* before exec_alu_select: takes the LOCK forms */
		exec_alu_select, exec_mov_select, exec_branch_select, exec_stack_select,
		exec_shift_select, exec_bit_select, exec_muldiv_select, exec_string_select,
		exec_sys_select, exec_seg_select, exec_io_select, exec_bcd_select,
	};
	exec_fn fn;

	for (unsigned int k = 0; k < ARRAY_SIZE(select); k++) {
		fn = select[k](i);
		if (fn)
			return fn;
	}
	return exec_ud;
}
