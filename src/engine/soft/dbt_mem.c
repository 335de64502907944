// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands in translated code: effective address, lookup in the table of page
 * deltas, and the way out where the table does not help.  Nothing here touches flags.
 *
 *	lea	r14, [effective address]
 *	pext	rcx, r14, gs:offset_mask	; an access that may cross a page:
 *	movzx	ecx, gs:in_page[rcx + size - 1]	; 0 if it does
 *	jrcxz	island
 *	pext	rcx, r14, gs:index_mask
 *	mov	rcx, [r15 + rcx * 8]		; r13 for writes
 *	jrcxz	island				; a miss
 *	op	[r14 + rcx]
 *
 * island:	jmp step stub: the interpreter executes the instruction, which also fills
 * the table.  JRCXZ reaches 127 bytes, so islands are put between instructions.
 */
#include "engine/soft/dbt_priv.h"

/* The host register holding guest register @reg; IN_MEMORY ones are loaded into @tmp. */
static unsigned int address_part(struct tr *t, unsigned int reg, unsigned int tmp)
{
	if (host_reg[reg] != IN_MEMORY)
		return host_reg[reg];
	e_load(&t->e, tmp, GS_GPR(reg));
	return tmp;
}

static void emit_effective(struct tr *t, const struct insn *i, unsigned int dst, bool narrow)
{
	const struct mem_operand *m = &i->mem;
	struct host_mem h = { NO_REG, NO_REG, m->scale, false, 0 };
	struct emit *e = &t->e;

	if (m->base == REG_RIP || (m->base == REG_NONE && m->index == REG_NONE)) {
		uint64_t a = m->disp + (m->base == REG_RIP ? t->next : 0);

		e_mov_imm(e, dst, narrow ? (uint32_t)a : a);
		return;
	}
	if (m->base != REG_NONE)
		h.base = address_part(t, m->base, H_ADDR);
	if (m->index != REG_NONE)
		h.index = address_part(t, m->index, H_TMP);
	h.disp = m->disp;
	if (narrow)
		e_lea32(e, dst, h);
	else if (h.index == NO_REG && !h.disp && h.base != NO_REG)
		e_mov_rr(e, dst, h.base);
	else
		e_lea(e, dst, h);
}

/* r14 = linear address of @i's memory operand; clobbers rcx. */
void emit_address(struct tr *t, const struct insn *i)
{
	const struct mem_operand *m = &i->mem;
	struct emit *e = &t->e;

	emit_effective(t, i, H_ADDR, m->addr_size == 4);
	if (m->seg == SEG_FS || m->seg == SEG_GS) {
		e_load(e, H_TMP, GS_MEM(offsetof(struct vcpu, seg) +
					m->seg * sizeof(struct segment) +
					offsetof(struct segment, base)));
		e_lea(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
	}
}

/* LEA: the address is the value. */
void emit_lea(struct tr *t, const struct insn *i)
{
	unsigned int dst = host_reg[i->op[0].reg];
	bool narrow = i->mem.addr_size == 4 || i->opsize == 4;

	emit_effective(t, i, dst == IN_MEMORY ? H_ADDR : dst, narrow);
	if (dst == IN_MEMORY)
		e_store(&t->e, GS_GPR(i->op[0].reg), H_ADDR);
}

/* The JRCXZ at @rel8 goes to the interpreter with the present instruction. */
void emit_near_step(struct tr *t, uint8_t *rel8)
{
	t->near[t->near_count].rel8 = rel8;
	t->near[t->near_count++].n = t->n;
}

/*
 * Puts islands for the waiting JRCXZs here; @fallthrough: code before it runs on to what
 * follows and must jump over them.
 */
void emit_islands(struct tr *t, bool fallthrough)
{
	struct emit *e = &t->e;
	uint8_t *over = NULL;

	if (!t->near_count)
		return;
	if (fallthrough)
		over = e_jmp(e, emit_here(e));
	for (unsigned int k = 0; k < t->near_count; k++) {
		e_bind8(e, t->near[k].rel8);
		if (k + 1 < t->near_count && t->near[k + 1].n == t->near[k].n)
			continue;	/* the same instruction: one island */
		t->step[t->step_count].rel32 = e_jmp(e, emit_here(e));
		t->step[t->step_count++].n = t->near[k].n;
	}
	t->near_count = 0;
	if (over)
		emit_patch32(over, e->to_exec, emit_here(e));
}

/*
 * rcx = host address - r14 for an access of @size bytes at r14, or to the interpreter.
 */
void emit_lookup(struct tr *t, unsigned int size, bool write)
{
	struct emit *e = &t->e;

	if (size > 1) {
		struct host_mem in_page = GS_HOT(in_page);

		in_page.disp += size - 1;
		in_page.base = H_TMP;
		e_pext(e, H_TMP, H_ADDR, GS_HOT(offset_mask));
		e_movzx8(e, H_TMP, in_page);
		emit_near_step(t, e_jrcxz(e));
	}
	e_pext(e, H_TMP, H_ADDR, GS_HOT(index_mask));
	e_load(e, H_TMP, AT_SCALE(write ? H_WRITE : H_READ, H_TMP, 3));
	emit_near_step(t, e_jrcxz(e));
}
