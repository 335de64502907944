// SPDX-License-Identifier: Apache-2.0
/*
 * What is known of the registers' values while a block is translated for windows.  Some is
 * only likely, as the block is translated with the registers that it is about to be run with:
 * from that follows which window an operand is guessed to be in.  Some is sure: constants,
 * and what is small because of the instruction that made it.
 */
#include "engine/soft/dbt_window.h"
#include "x86/regs.h"

bool window_value_known(const struct tr *t, unsigned int reg)
{
	return reg < REG_RIP && !(t->known.written & BIT(reg));
}

/* The address of @m, were the block run with the registers as they are now; or false. */
bool window_foresee(const struct tr *t, const struct mem_operand *m, gva_t *gva)
{
	*gva = m->disp;
	if (m->seg == SEG_FS || m->seg == SEG_GS)
		*gva += t->v->seg[m->seg].base;
	if (m->base == REG_RIP)
		*gva += t->next;
	else if (m->base != REG_NONE && !window_value_known(t, m->base))
		return false;
	else if (m->base != REG_NONE)
		*gva += t->known.value[m->base];
	if (m->index != REG_NONE && !window_value_known(t, m->index))
		return false;
	if (m->index != REG_NONE)
		*gva += t->known.value[m->index] << m->scale;
	if (m->addr_size == 4)
		*gva = (uint32_t)*gva;
	return true;
}

/* Where an instruction that adds a constant to a register takes it from, and how much. */
unsigned int insn_moved_from(const struct insn *i, int64_t *by)
{
	const struct operand *o = i->op;

	*by = 0;
	if (i->opsize != 8 || o[0].kind != OPND_GPR || o[0].size != 8)
		return NO_REG;
	switch (i->info->id) {
	case INSN_ID_ADD: case INSN_ID_SUB:
		*by = i->info->id == INSN_ID_ADD ? i->imm : -i->imm;
		return o[1].kind == OPND_IMM && fits_s32(i->imm) ? o[0].reg : NO_REG;
	case INSN_ID_INC: case INSN_ID_DEC:
		*by = i->info->id == INSN_ID_INC ? 1 : -1;
		return o[0].reg;
	case INSN_ID_MOV:
		return o[1].kind == OPND_GPR ? o[1].reg : NO_REG;
	case INSN_ID_LEA:
		*by = i->mem.disp;
		return i->mem.base < REG_RIP && i->mem.index == REG_NONE &&
		       i->mem.addr_size == 8 && fits_s32(i->mem.disp) ? i->mem.base : NO_REG;
	default:
		return NO_REG;
	}
}

/* Sets its first operand, a whole register, to a constant. */
bool insn_is_constant(const struct insn *i)
{
	if (i->opsize < 4 || i->op[0].kind != OPND_GPR)
		return false;
	return (i->info->id == INSN_ID_MOV && i->op[1].kind == OPND_IMM && i->imm >= 0) ||
	       (i->info->id == INSN_ID_XOR && i->op[1].kind == OPND_GPR &&
		i->op[1].reg == i->op[0].reg);
}

/* The value of @i's first operand behind it, as far as it can be foreseen. */
static bool new_value(const struct tr *t, const struct insn *i, uint64_t *value)
{
	const struct operand *o = i->op;
	const void *p;
	gva_t gva;
	int64_t by;

	if (o[0].kind != OPND_GPR || i->opsize < 4)
		return false;
	switch (i->info->id) {
	case INSN_ID_XOR:
		*value = 0;
		return o[1].kind == OPND_GPR && o[1].reg == o[0].reg;
	case INSN_ID_LEA:
		return window_foresee(t, &i->mem, value);
	case INSN_ID_MOV:
		*value = i->imm;
		if (o[1].kind == OPND_IMM)
			return true;
		if (o[1].kind == OPND_GPR && i->opsize == 8)
			break;
		if (o[1].kind == OPND_GPR) {
			*value = t->known.value[o[1].reg];
			return window_value_known(t, o[1].reg);
		}
		if (i->opsize != 8 || !window_foresee(t, &i->mem, &gva))
			return false;
		p = tlb_lookup(t->v->view, gva, 8, TLB_READ);
		if (p)
			__builtin_memcpy(value, p, 8);
		return p != NULL;
	default:
		break;
	}
	if (insn_moved_from(i, &by) == NO_REG || !window_value_known(t, insn_moved_from(i, &by)))
		return false;
	*value = t->known.value[insn_moved_from(i, &by)] + by;
	return true;
}

/* Is @i's first operand, a whole register, not above COUNTER_MAX behind it? */
static bool makes_small(const struct insn *i)
{
	if (i->opsize < 4 || i->op[0].kind != OPND_GPR || i->gpr_written != BIT(i->op[0].reg))
		return false;
	switch (i->info->id) {
	case INSN_ID_MOVZX:
		return i->op[1].size <= 2;
	case INSN_ID_AND:
		return i->op[1].kind == OPND_IMM && (uint64_t)i->imm <= COUNTER_MAX;
	default:
		return insn_is_constant(i) && (i->info->id == INSN_ID_XOR || (uint64_t)i->imm <= COUNTER_MAX);
	}
}

bool insn_makes_narrow(const struct insn *i)
{
	if (i->opsize < 4 || i->op[0].kind != OPND_GPR || i->gpr_written != BIT(i->op[0].reg))
		return false;
	switch (i->info->id) {
	case INSN_ID_MOV: case INSN_ID_LEA: case INSN_ID_ADD: case INSN_ID_SUB: case INSN_ID_AND:
	case INSN_ID_OR: case INSN_ID_XOR: case INSN_ID_INC: case INSN_ID_DEC: case INSN_ID_NEG:
	case INSN_ID_NOT: case INSN_ID_IMUL:
		return i->opsize == 4 || makes_small(i);
	case INSN_ID_MOVZX: case INSN_ID_MOVSX: case INSN_ID_MOVSXD:
		return i->op[1].size <= 4;
	default:
		return makes_small(i);
	}
}

void window_foresee_values(struct tr *t, const struct insn *i)
{
	uint64_t value;
	bool known = new_value(t, i, &value);

	t->known.written |= i->gpr_written;
	t->known.sure &= ~i->gpr_written;
	t->known.narrow &= ~i->gpr_written;
	t->known.small &= ~i->gpr_written;
	if (insn_makes_narrow(i)) {
		t->known.narrow |= BIT(i->op[0].reg);
		t->known.narrow_by[i->op[0].reg] = t->n;
	}
	if (makes_small(i))
		t->known.small |= BIT(i->op[0].reg);
	if (known && i->gpr_written == BIT(i->op[0].reg)) {
		t->known.written &= ~BIT(i->op[0].reg);
		t->known.value[i->op[0].reg] = i->opsize == 4 ? (uint32_t)value : value;
	}
	if (known && insn_is_constant(i)) {
		t->known.sure |= BIT(i->op[0].reg);
		t->known.sure_by[i->op[0].reg] = t->n;
	}
}
