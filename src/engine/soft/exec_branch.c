// SPDX-License-Identifier: Apache-2.0
/*
 * Near and far control transfer.
 *
 * Source: Intel SDM volume 2.  In 64-bit mode near branches are 64 bits wide whatever
 * the prefixes, as on Intel's processors; the decoder says so in opsize.
 */
#include "engine/soft/exec_priv.h"

/* --- conditional --- */

#define CONDITIONS(M) \
	M(jo, 0) M(jno, 1) M(jb, 2) M(jnb, 3) M(jz, 4) M(jnz, 5) M(jbe, 6) M(jnbe, 7) \
	M(js, 8) M(jns, 9) M(jp, 10) M(jnp, 11) M(jl, 12) M(jnl, 13) M(jle, 14) M(jnle, 15)

#define DEFINE_JCC(name, cc) \
static int exec_##name(struct vcpu *v, const struct insn *i) \
{ \
	if (!flags_condition(v->rflags, cc)) \
		return exec_next(v, i); \
	return branch_to(v, branch_target(v, i)); \
}
CONDITIONS(DEFINE_JCC)

/* LOOP counts in CX, ECX or RCX, by address size. */
static int loop(struct vcpu *v, const struct insn *i, bool more)
{
	unsigned int size = i->mem.addr_size;
	uint64_t count = (v->gpr[REG_RCX] - 1) & size_mask(size);
	uint64_t target = v->rip + i->len;

	if (count && more) {
		target = branch_target(v, i);
		TRY(branch_check(v, target));
	}
	reg_set(v, REG_RCX, size, count);
	v->rip = target;
	return EXEC_OK;
}

static int exec_loop(struct vcpu *v, const struct insn *i)
{
	return loop(v, i, true);
}

static int exec_loope(struct vcpu *v, const struct insn *i)
{
	return loop(v, i, v->rflags & RFLAGS_ZF);
}

static int exec_loopne(struct vcpu *v, const struct insn *i)
{
	return loop(v, i, !(v->rflags & RFLAGS_ZF));
}

/* JCXZ JECXZ JRCXZ */
static int exec_jcxz(struct vcpu *v, const struct insn *i)
{
	if (v->gpr[REG_RCX] & size_mask(i->mem.addr_size))
		return exec_next(v, i);
	return branch_to(v, branch_target(v, i));
}

/* --- near --- */

static int exec_jmp_rel(struct vcpu *v, const struct insn *i)
{
	return branch_to(v, branch_target(v, i));
}

static int exec_jmp_r(struct vcpu *v, const struct insn *i)
{
	return branch_to(v, v->gpr[i->op[0].reg] & size_mask(i->opsize));
}

static int exec_jmp_m(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	if (likely(i->opsize == 8))
		TRY(load64(v, i, &target));
	else
		TRY(exec_load(v, i, i->opsize, &target));
	return branch_to(v, target);
}

/* The stack's limit is checked before the target, the target before anything is pushed. */
static int call_near(struct vcpu *v, const struct insn *i, uint64_t target)
{
	uint64_t next = v->rip + i->len;
	gva_t gva;

	TRY(stack_linear(v, stack_at(v, -(int64_t)i->opsize), i->opsize, ACC_WRITE, &gva));
	TRY(branch_check(v, target));
	if (likely(i->opsize == 8))
		TRY(push64(v, next));
	else
		TRY(exec_stack_push(v, i->opsize, next));
	v->rip = target;
	return EXEC_OK;
}

static int exec_call_rel(struct vcpu *v, const struct insn *i)
{
	return call_near(v, i, branch_target(v, i));
}

static int exec_call_r(struct vcpu *v, const struct insn *i)
{
	return call_near(v, i, v->gpr[i->op[0].reg] & size_mask(i->opsize));
}

static int exec_call_m(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	if (likely(i->opsize == 8))
		TRY(load64(v, i, &target));
	else
		TRY(exec_load(v, i, i->opsize, &target));
	return call_near(v, i, target);
}

/* RET and RET imm16; the immediate is zero where there is none. */
static int exec_ret64(struct vcpu *v, const struct insn *i)
{
	uint64_t target, sp = v->gpr[REG_RSP];

	TRY(load_at64(v, sp, SEG_SS, &target));
	TRY(branch_check(v, target));
	v->gpr[REG_RSP] = sp + 8 + (uint16_t)i->imm;
	v->rip = target;
	return EXEC_OK;
}

static int exec_ret(struct vcpu *v, const struct insn *i)
{
	uint64_t target;

	TRY(exec_stack_load(v, stack_at(v, 0), i->opsize, &target));
	TRY(branch_check(v, target));
	stack_set(v, stack_at(v, i->opsize + (uint16_t)i->imm));
	v->rip = target;
	return EXEC_OK;
}

/* --- far --- */

/* The far pointer: an immediate, or offset and selector in memory. */
static int far_pointer(struct vcpu *v, const struct insn *i, uint16_t *sel, uint64_t *off)
{
	uint64_t s;

	if (i->op[0].kind != OPND_MEM) {
		*off = i->imm & size_mask(i->opsize);
		*sel = i->imm2;
		return EXEC_OK;
	}
	TRY(exec_load(v, i, i->opsize, off));
	TRY(exec_load_part(v, i, i->opsize, 2, &s));
	*sel = s;
	return EXEC_OK;
}

static int exec_jmp_far(struct vcpu *v, const struct insn *i)
{
	uint64_t off;
	uint16_t sel;

	TRY(far_pointer(v, i, &sel, &off));
	return far_jump(v, sel, off, i->opsize, v->rip + i->len);
}

static int exec_call_far(struct vcpu *v, const struct insn *i)
{
	uint64_t off;
	uint16_t sel;

	TRY(far_pointer(v, i, &sel, &off));
	return far_call(v, sel, off, i->opsize, v->rip + i->len);
}

static int exec_ret_far(struct vcpu *v, const struct insn *i)
{
	return far_return(v, i->opsize, (uint16_t)i->imm);
}

static int exec_iret(struct vcpu *v, const struct insn *i)
{
	return sys_iret(v, i->opsize, v->rip + i->len);
}

/* --- software interrupts --- */

static int exec_int(struct vcpu *v, const struct insn *i)
{
	return vcpu_software_interrupt(v, i->imm, i->len, false);
}

static int exec_int3(struct vcpu *v, const struct insn *i)
{
	return vcpu_software_interrupt(v, EXC_BP, i->len, true);
}

static int exec_int1(struct vcpu *v, const struct insn *i)
{
	return vcpu_software_interrupt(v, EXC_DB, i->len, true);
}

static int exec_into(struct vcpu *v, const struct insn *i)
{
	if (!(v->rflags & RFLAGS_OF))
		return exec_next(v, i);
	return vcpu_software_interrupt(v, EXC_OF, i->len, true);
}

/* BOUND: #BR unless lower <= index <= upper, signed. */
static int exec_bound(struct vcpu *v, const struct insn *i)
{
	unsigned int size = i->opsize, shift = 64 - size * 8;
	uint64_t index = v->gpr[i->op[0].reg], lower, upper;

	TRY(exec_load(v, i, size, &lower));
	TRY(exec_load_part(v, i, size, size, &upper));
	if ((int64_t)(index << shift) < (int64_t)(lower << shift) ||
	    (int64_t)(index << shift) > (int64_t)(upper << shift))
		return raise_exc(v, EXC_BR);
	return exec_next(v, i);
}

static exec_fn select_near(const struct insn *i, exec_fn rel, exec_fn r, exec_fn m)
{
	switch (i->op[0].kind) {
	case OPND_GPR: return r;
	case OPND_MEM: return m;
	default: return rel;
	}
}

exec_fn exec_branch_select(const struct insn *i)
{
	static const exec_fn jcc[16] = {
#define JCC_ROW(name, cc) exec_##name,
		CONDITIONS(JCC_ROW)
	};

	switch (i->info->id) {
	case INSN_ID_JO: case INSN_ID_JNO: case INSN_ID_JB: case INSN_ID_JNB:
	case INSN_ID_JZ: case INSN_ID_JNZ: case INSN_ID_JBE: case INSN_ID_JNBE:
	case INSN_ID_JS: case INSN_ID_JNS: case INSN_ID_JP: case INSN_ID_JNP:
	case INSN_ID_JL: case INSN_ID_JNL: case INSN_ID_JLE: case INSN_ID_JNLE:
		return jcc[i->cond & 15];
	case INSN_ID_JCXZ: case INSN_ID_JECXZ: case INSN_ID_JRCXZ: return exec_jcxz;
	case INSN_ID_LOOP: return exec_loop;
	case INSN_ID_LOOPE: return exec_loope;
	case INSN_ID_LOOPNE: return exec_loopne;
	case INSN_ID_JMP: return select_near(i, exec_jmp_rel, exec_jmp_r, exec_jmp_m);
	case INSN_ID_CALL: return select_near(i, exec_call_rel, exec_call_r, exec_call_m);
	case INSN_ID_RET: return i->opsize == 8 ? exec_ret64 : exec_ret;
	case INSN_ID_JMP_FAR: return exec_jmp_far;
	case INSN_ID_CALL_FAR: return exec_call_far;
	case INSN_ID_RET_FAR: return exec_ret_far;
	case INSN_ID_IRET: case INSN_ID_IRETD: case INSN_ID_IRETQ: return exec_iret;
	case INSN_ID_INT: return exec_int;
	case INSN_ID_INT3: return exec_int3;
	case INSN_ID_UD2: return exec_ud;
	case INSN_ID_INT1: return exec_int1;
	case INSN_ID_INTO: return exec_into;
	case INSN_ID_BOUND: return exec_bound;
	default: return NULL;
	}
}
