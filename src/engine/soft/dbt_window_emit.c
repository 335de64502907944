// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands in code for windows (cpu/window.h): no lookup, only the check that the
 * address is in one.
 *
 *	shrx	rcx, base, r15			; r15 is 30 modulo 64: the slot
 *	mov	rcx, gs:[rcx * 8 + VCPU_SLOTS]	; faults unless it is of a window
 *	op	[base + r15 + displacement - 30]	; r13 for the low window
 *
 * A register that went through the check is good for every displacement, and stays so
 * while only small constants are added to it.  Operands with an index or a segment are
 * computed into r14 and checked each time.  Where it is not known which window it is,
 * the slot's constant, then in rcx, takes the place of r15.
 */
#include "engine/soft/dbt_priv.h"
#include "x86/regs.h"

enum where { WHERE_LOW, WHERE_HIGH, WHERE_ANY };

static bool value_known(const struct tr *t, unsigned int reg)
{
	return reg < REG_RIP && !(t->known.written & BIT(reg));
}

static enum where where_is(gva_t gva)
{
	if (!window_covers(gva))
		return WHERE_ANY;
	return gva < WINDOW_LOW_END ? WHERE_LOW : WHERE_HIGH;
}

/* The window of register @reg + index + displacement, as the registers are now. */
static enum where guess(const struct tr *t, const struct mem_operand *m, bool site)
{
	const uint64_t *gpr = t->v->gpr;
	gva_t gva = m->disp;

	if (site && windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_ANY)
		return WHERE_ANY;
	if (m->seg == SEG_FS || m->seg == SEG_GS)
		gva += t->v->seg[m->seg].base;
	if (m->base != REG_NONE) {
		if (!value_known(t, m->base))
			return m->base == REG_RSP ? where_is(gpr[REG_RSP]) : WHERE_ANY;
		gva += gpr[m->base];
	}
	if (m->index != REG_NONE) {
		if (!value_known(t, m->index))
			return WHERE_ANY;
		gva += gpr[m->index] << m->scale;
	}
	return where_is(m->addr_size == 4 ? (uint32_t)gva : gva);
}

/* Faults unless host register @reg is in a window; rcx = that window's constant. */
static void emit_check(struct tr *t, unsigned int reg)
{
	struct host_mem slot = GS_MEM(VCPU_SLOTS);

	t->known.held[0] = NO_REG;
	slot.index = H_TMP;
	slot.scale = 3;
	e_shrx(&t->e, H_TMP, reg, H_HIGH);
	e_load(&t->e, H_TMP, slot);
}

static struct host_mem operand_at(unsigned int base, enum where w, int32_t disp)
{
	if (w == WHERE_ANY)
		return (struct host_mem){ base, H_TMP, 0, false, disp };
	return (struct host_mem){ base, w == WHERE_LOW ? H_LOW : H_HIGH, 0, false,
				  disp - WINDOW_BIAS };
}

/* Entries between the instruction that checked @reg and this one would skip the check. */
static void rely_on_check(struct tr *t, unsigned int reg)
{
	uint64_t upto = ~0ULL >> (63 - t->n), before = ~0ULL >> (63 - t->known.checked_by[reg]);

	t->no_entry |= upto & ~before;
}

static void note_checked(struct tr *t, unsigned int reg)
{
	t->known.checked |= BIT(reg);
	t->known.checked_by[reg] = t->n;
}

/* The host register with guest register @reg, r14 if it has none of its own. */
static unsigned int base_in_register(struct tr *t, unsigned int reg)
{
	if (host_reg[reg] != IN_MEMORY)
		return host_reg[reg];
	if (t->known.held[1] == reg) {
		t->no_entry |= ~0ULL >> (63 - t->n) & ~(~0ULL >> (63 - t->known.held_by[1]));
	} else {
		e_load(&t->e, H_ADDR, GS_GPR(reg));
		t->known.held[1] = reg;
		t->known.held_by[1] = t->n;
	}
	return H_ADDR;
}

static bool only_base(const struct mem_operand *m)
{
	return m->base < REG_RIP && m->index == REG_NONE && m->seg != SEG_FS && m->seg != SEG_GS &&
	       m->addr_size == 8 && fits_s32((int64_t)m->disp - WINDOW_BIAS);
}

static bool only_constant(const struct mem_operand *m)
{
	return (m->base == REG_RIP || (m->base == REG_NONE && m->index == REG_NONE)) &&
	       m->seg != SEG_FS && m->seg != SEG_GS;
}

static struct host_mem base_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w = guess(t, m, true);
	unsigned int base = base_in_register(t, m->base);

	if (w == WHERE_ANY || !(t->known.checked & BIT(m->base))) {
		emit_check(t, base);
		note_checked(t, m->base);
	} else {
		rely_on_check(t, m->base);
	}
	return operand_at(base, w, m->disp);
}

/* Its place is known, and so is the window. */
static struct host_mem constant_operand(struct tr *t, const struct mem_operand *m)
{
	gva_t gva = m->disp + (m->base == REG_RIP ? t->next : 0);
	enum where w;

	if (m->addr_size == 4)
		gva = (uint32_t)gva;
	w = where_is(gva);
	if (w == WHERE_LOW && gva <= INT32_MAX)
		return AT_DISP(H_LOW, gva - WINDOW_BIAS);
	t->known.held[1] = NO_REG;
	e_mov_imm(&t->e, H_ADDR, gva);
	if (w == WHERE_ANY)
		emit_check(t, H_ADDR);
	return operand_at(H_ADDR, w, 0);
}

static bool is_absolute_low(const struct tr *t, const struct mem_operand *m)
{
	gva_t gva = m->disp + (m->base == REG_RIP ? t->next : 0);

	return gva <= INT32_MAX;
}

/* Will the operand be reached without r14 and rcx being in use when the copy runs? */
bool window_direct(const struct tr *t, const struct mem_operand *m)
{
	if (only_constant(m))
		return is_absolute_low(t, m);
	return only_base(m) && host_reg[m->base] != IN_MEMORY && guess(t, m, true) != WHERE_ANY;
}

struct host_mem emit_window_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w;

	if (only_constant(m))
		return constant_operand(t, m);
	if (only_base(m))
		return base_operand(t, m);
	w = guess(t, m, true);
	emit_effective(t, m, H_ADDR, m->addr_size == 4);
	emit_segment_base(t, m);
	emit_check(t, H_ADDR);
	return operand_at(H_ADDR, w, 0);
}

/* --- what stays checked --- */

static bool small(int64_t by)
{
	return by <= (int64_t)DRIFT_MAX && by >= -(int64_t)DRIFT_MAX;
}

/* The register that @i computes its first operand from by adding a small constant. */
static unsigned int moved_from(const struct insn *i)
{
	const struct operand *o = i->op;

	if (i->opsize != 8 || o[0].kind != OPND_GPR || o[0].size != 8)
		return NO_REG;
	switch (i->info->id) {
	case INSN_ID_ADD: case INSN_ID_SUB:
		return o[1].kind == OPND_IMM && small(i->imm) ? o[0].reg : NO_REG;
	case INSN_ID_INC: case INSN_ID_DEC:
		return o[0].reg;
	case INSN_ID_MOV:
		return o[1].kind == OPND_GPR ? o[1].reg : NO_REG;
	case INSN_ID_LEA:
		return i->mem.base < REG_RIP && i->mem.index == REG_NONE && i->mem.addr_size == 8 &&
		       small(i->mem.disp) ? i->mem.base : NO_REG;
	default:
		return NO_REG;
	}
}

/* What is known of the registers behind @i, which was emitted. */
void window_after(struct tr *t, const struct insn *i)
{
	uint16_t lost = i->gpr_written;
	unsigned int from = moved_from(i);

	t->known.written |= i->gpr_written;
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_PUSHFQ:
		lost = 0;
		break;
	case INSN_ID_POP:
		lost = BIT(i->op[0].reg);
		break;
	case INSN_ID_LEAVE:	/* RSP is where RBP was */
		t->known.checked &= ~BIT(REG_RBP);
		note_checked(t, REG_RSP);
		return;
	case INSN_ID_CALL: case INSN_ID_RET: case INSN_ID_JMP:
		t->known.checked = 0;
		t->known.written = UINT16_MAX;
		return;
	default:
		break;
	}
	if (from != NO_REG && t->known.checked & BIT(from)) {
		t->known.checked |= BIT(i->op[0].reg);
		t->known.checked_by[i->op[0].reg] = t->known.checked_by[from];
		return;
	}
	t->known.checked &= ~lost;
}
