// SPDX-License-Identifier: Apache-2.0
/*
 * PUSH and POP in all forms, ENTER, LEAVE.
 *
 * Source: Intel SDM volume 2.  The operand size (insn.stack_size) is what moves, the
 * stack-address size (vcpu.stack_size) is the width of the stack pointer.
 */
#include "engine/soft/exec_priv.h"

static int exec_push64_r(struct vcpu *v, const struct insn *i)
{
	TRY(push64(v, v->gpr[i->op[0].reg]));
	return exec_next(v, i);
}

static int exec_push64_i(struct vcpu *v, const struct insn *i)
{
	TRY(push64(v, i->imm));
	return exec_next(v, i);
}

static int exec_push64_m(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(load64(v, i, &value));
	TRY(push64(v, value));
	return exec_next(v, i);
}

static int exec_push(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(exec_source(v, i, &i->op[0], i->stack_size, &value));
	TRY(exec_stack_push(v, i->stack_size, value));
	return exec_next(v, i);
}

/*
 * A selector is zero-extended to 64 bits; in a slot of 32 bits only the lower 16 are
 * written, as the manual says of recent Intel processors (AMD's write all 32).
 */
static int exec_push_seg(struct vcpu *v, const struct insn *i)
{
	uint64_t sp = stack_at(v, -(int64_t)i->stack_size);

	TRY(exec_stack_store(v, sp, i->stack_size == 4 ? 2 : i->stack_size,
			     v->seg[i->op[0].reg].sel));
	stack_set(v, sp);
	return exec_next(v, i);
}

/* The stack pointer moves first, so that POP RSP leaves the value popped. */
static int exec_pop64_r(struct vcpu *v, const struct insn *i)
{
	uint64_t value, sp = v->gpr[REG_RSP];

	TRY(load_at64(v, sp, SEG_SS, &value));
	v->gpr[REG_RSP] = sp + 8;
	v->gpr[i->op[0].reg] = value;
	return exec_next(v, i);
}

/* An address that uses the stack pointer sees it already moved. */
static int exec_pop(struct vcpu *v, const struct insn *i)
{
	uint64_t value, old = v->gpr[REG_RSP];
	int status;

	TRY(exec_stack_load(v, stack_at(v, 0), i->stack_size, &value));
	stack_set(v, stack_at(v, i->stack_size));
	status = exec_dest(v, i, &i->op[0], i->stack_size, value);
	if (status != EXEC_OK) {
		v->gpr[REG_RSP] = old;
		return status;
	}
	return exec_next(v, i);
}

static int exec_pop_seg(struct vcpu *v, const struct insn *i)
{
	uint64_t value, sp = stack_at(v, i->stack_size);
	unsigned int width = v->stack_size;

	TRY(exec_stack_load(v, stack_at(v, 0), 2, &value));
	TRY(seg_load(v, i->op[0].reg, value));
	reg_set(v, REG_RSP, width, sp);
	return exec_next(v, i);
}

/* PUSHA, PUSHAD: rSP is pushed as it was before. */
static int exec_pusha(struct vcpu *v, const struct insn *i)
{
	int64_t size = i->stack_size;

	for (int k = 0; k < 8; k++)
		TRY(exec_stack_store(v, stack_at(v, -(k + 1) * size), size, v->gpr[k]));
	stack_set(v, stack_at(v, -8 * size));
	return exec_next(v, i);
}

static int exec_popa(struct vcpu *v, const struct insn *i)
{
	int64_t size = i->stack_size;
	uint64_t value[8];

	for (int k = 0; k < 8; k++)
		TRY(exec_stack_load(v, stack_at(v, k * size), size, &value[7 - k]));
	for (int k = 0; k < 8; k++)
		if (k != REG_RSP)
			reg_set(v, k, size, value[k]);
	stack_set(v, stack_at(v, 8 * size));
	return exec_next(v, i);
}

static int exec_pushf(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(sys_pushf(v, &value));
	TRY(exec_stack_push(v, i->stack_size, value));
	return exec_next(v, i);
}

static int exec_popf(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(exec_stack_load(v, stack_at(v, 0), i->stack_size, &value));
	TRY(sys_popf(v, value, i->stack_size));
	stack_set(v, stack_at(v, i->stack_size));
	return exec_next(v, i);
}

/* The value of rBP at the width of the stack segment, @delta bytes further. */
static uint64_t frame_at(const struct vcpu *v, int64_t delta)
{
	return (v->gpr[REG_RBP] + delta) & size_mask(v->stack_size);
}

/*
 * ENTER size, level: pushes rBP, copies level - 1 frame pointers of the enclosing
 * procedures, pushes the new one.  The final stack pointer must be within the limit, and a
 * store there possible.
 */
static int exec_enter(struct vcpu *v, const struct insn *i)
{
	int64_t size = i->stack_size, depth = -size;
	unsigned int level = i->imm2 & 31;
	uint64_t frame = stack_at(v, depth), value;
	uint64_t sp = stack_at(v, depth - level * size - (uint16_t)i->imm);
	gva_t gva;

	TRY(stack_linear(v, sp, size, ACC_WRITE, &gva));
	TRY(exec_stack_store(v, frame, size, v->gpr[REG_RBP]));
	for (unsigned int k = 1; k < level; k++) {
		TRY(exec_stack_load(v, frame_at(v, -(int64_t)k * size), size, &value));
		depth -= size;
		TRY(exec_stack_store(v, stack_at(v, depth), size, value));
	}
	if (level)
		TRY(exec_stack_store(v, stack_at(v, depth - size), size, frame));
	TRY(mem_status(mem_probe_write(v, gva, size, ACC_WRITE | ACC_STACK)));
	reg_set(v, REG_RBP, size, frame);
	stack_set(v, sp);
	return exec_next(v, i);
}

static int exec_leave(struct vcpu *v, const struct insn *i)
{
	uint64_t sp = frame_at(v, 0), value;

	TRY(exec_stack_load(v, sp, i->stack_size, &value));
	stack_set(v, sp);
	stack_set(v, stack_at(v, i->stack_size));
	reg_set(v, REG_RBP, i->stack_size, value);
	return exec_next(v, i);
}

static exec_fn select_push(const struct insn *i)
{
	if (i->stack_size != 8)
		return exec_push;
	switch (i->op[0].kind) {
	case OPND_GPR: return exec_push64_r;
	case OPND_MEM: return exec_push64_m;
	default: return exec_push64_i;
	}
}

exec_fn exec_stack_select(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_PUSH: return select_push(i);
	case INSN_ID_POP:
		if (i->stack_size == 8 && i->op[0].kind == OPND_GPR)
			return exec_pop64_r;
		return exec_pop;
	case INSN_ID_PUSH_SEG: return exec_push_seg;
	case INSN_ID_POP_SEG: return exec_pop_seg;
	case INSN_ID_PUSHA: case INSN_ID_PUSHAD: return exec_pusha;
	case INSN_ID_POPA: case INSN_ID_POPAD: return exec_popa;
	case INSN_ID_PUSHF: case INSN_ID_PUSHFD: case INSN_ID_PUSHFQ: return exec_pushf;
	case INSN_ID_POPF: case INSN_ID_POPFD: case INSN_ID_POPFQ: return exec_popf;
	case INSN_ID_ENTER: return exec_enter;
	case INSN_ID_LEAVE: return exec_leave;
	default: return NULL;
	}
}
