// SPDX-License-Identifier: Apache-2.0
/*
 * The translator's fixed code: into translated code, out of it, and the lookup of
 * indirect targets; emitted once at the start of the code cache.
 */
#include "engine/soft/dbt_priv.h"

static const uint8_t saved[] = {	/* guest registers with a host register, RAX apart */
	REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R12,
};

/* enter: the guest's state into the registers, then to hot.entry. */
static void emit_enter(struct dbt *d, struct emit *e)
{
	d->enter = emit_here(e);
	e_load32(e, H_RAX, GS_HOT(flags));
	e8(e, 0x04);			/* add al, 0x7f: OF from bit 0 */
	e8(e, 0x7f);
	e8(e, 0x9e);			/* sahf */
	e_load(e, H_RAX, GS_GPR(REG_RAX));
	for (unsigned int k = 0; k < ARRAY_SIZE(saved); k++)
		e_load(e, host_reg[saved[k]], GS_GPR(saved[k]));
	e_load(e, H_READ, GS_HOT(base[0]));
	e_load(e, H_WRITE, GS_HOT(base[1]));
	e_load(e, H_RSP, GS_HOT(private_sp));
	e_op_mem(e, 0, 0xff, 4, GS_HOT(entry));		/* jmp */
}

/* leave: the reverse, then to hot.resume on the host's stack. */
static void *emit_leave_code(struct emit *e)
{
	void *here = emit_here(e);

	e_store(e, GS_GPR(REG_RAX), H_RAX);
	e8(e, 0x9f);			/* lahf */
	e8(e, 0x0f);			/* seto al */
	e8(e, 0x90);
	e8(e, 0xc0);
	e_store32(e, GS_HOT(flags), H_RAX);
	for (unsigned int k = 0; k < ARRAY_SIZE(saved); k++)
		e_store(e, GS_GPR(saved[k]), host_reg[saved[k]]);
	e_store(e, GS_HOT(private_sp), H_RSP);
	e_load(e, H_RSP, GS_HOT(host_sp));
	e_op_mem(e, 0, 0xff, 4, GS_HOT(resume));
	return here;
}

enum exit_saves { SAVE_NOTHING, SAVE_TARGET, SAVE_ARG, SAVE_PLACE };

/*
 * What the stubs leave by: r14 is where the guest was going, or ecx the argument, or this
 * was called from the place.
 */
static void *emit_exit(struct emit *e, void *leave, enum dbt_reason why, enum exit_saves saves)
{
	void *here = emit_here(e);

	if (saves == SAVE_TARGET)
		e_store(e, GS_HOT(target), H_ADDR);
	else if (saves == SAVE_ARG)
		e_store32(e, GS_HOT(arg), H_TMP);
	if (saves == SAVE_PLACE) {
		e8(e, 0x59);		/* pop rcx */
		e_store(e, GS_HOT(fault_pc), H_TMP);
	}
	e_store32_imm(e, GS_HOT(reason), why);
	e_jmp(e, leave);
	return here;
}

/* ret_miss: the private stack was empty; its bottom stays where it is. */
static void emit_ret_miss(struct dbt *d, struct emit *e)
{
	d->ret_miss = emit_here(e);
	e_lea(e, H_RSP, AT_DISP(H_RSP, -8));
	e_jmp(e, d->indirect);
}

void dbt_emit_fixed(struct dbt *d)
{
	struct emit e = { .p = d->rw, .to_exec = d->rx - d->rw };
	void *leave, *miss;

	emit_enter(d, &e);
	leave = emit_leave_code(&e);
	d->exit_chain = emit_exit(&e, leave, REASON_CHAIN, SAVE_ARG);
	d->exit_step = emit_exit(&e, leave, REASON_STEP, SAVE_ARG);
	d->exit_here = emit_exit(&e, leave, REASON_STEP_HERE, SAVE_PLACE);
	d->exit_signal = emit_exit(&e, leave, REASON_SIGNAL, SAVE_NOTHING);
	miss = emit_exit(&e, leave, REASON_INDIRECT, SAVE_TARGET);
	d->exit_indirect = emit_here(&e);
	emit_jump_found(&e, miss);
	d->exit_poll = emit_exit(&e, leave, REASON_POLL, SAVE_TARGET);
	d->indirect = emit_here(&e);
	emit_jump_cached(&e);
	emit_ret_miss(d, &e);
	emit_cross_checks(d, &e);
	d->first = e.p;
}

/* r15 and r13 for code of the present mode. */
static void set_bases(const struct vcpu *v, struct dbt_hot *hot)
{
	if (v->tlb.window.active) {
		hot->base[0] = v->tlb.window.high + WINDOW_BIAS;
		hot->base[1] = v->tlb.window.low + WINDOW_BIAS;
	} else {
		hot->base[0] = (uint64_t)v->view->table[TLB_READ] + TABLE_BIAS;
		hot->base[1] = (uint64_t)v->view->table[TLB_WRITE] + TABLE_BIAS;
	}
}

/*
 * Runs at @code until translated code leaves.  Entered and left by jumps: a CALL and RET
 * here would take the return predictor out of step with the guest's calls.
 */
void dbt_enter(struct dbt *d, struct vcpu *v, void *code)
{
	struct dbt_hot *hot = dbt_hot(v);
	void *enter = d->enter;

	set_bases(v, hot);
	hot->entry = (uint64_t)code;
	asm volatile(
		"sub $128, %%rsp\n\t"		/* the red zone */
		"push %%rbp\n\t"
		"lea 1f(%%rip), %%rcx\n\t"
		"mov %%rcx, %c[resume](%[hot])\n\t"
		"mov %%rsp, %c[sp](%[hot])\n\t"
		"jmp *%[enter]\n"
		"1:\n\t"
		"pop %%rbp\n\t"
		"add $128, %%rsp\n\t"
		: [hot] "+D" (hot), [enter] "+S" (enter)
		: [resume] "i" (offsetof(struct dbt_hot, resume)),
		  [sp] "i" (offsetof(struct dbt_hot, host_sp))
		: "rax", "rcx", "rdx", "rbx", "r8", "r9", "r10", "r11", "r12",
		  "r13", "r14", "r15", "memory", "cc");
}

void dbt_empty_private_stack(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);

	*(uint64_t *)hot->private_base = (uint64_t)d->ret_miss;
	hot->private_sp = hot->private_base;
	*(uint64_t *)hot->other_base = (uint64_t)d->ret_miss;
	hot->other_sp = hot->other_base;
}

static void exchange(uint64_t *a, uint64_t *b)
{
	uint64_t was = *a;

	*a = *b;
	*b = was;
}

void dbt_use_stack(struct dbt *d, struct vcpu *v, uint32_t mode)
{
	struct dbt_hot *hot = dbt_hot(v);
	uint32_t other = mode & (MODE_WINDOW | MODE_32);

	if (other && hot->other_mode != other) {
		dbt_empty_private_stack(d, v);
		hot->other_mode = other;
	}
	if (hot->on_other_stack == !!other)
		return;
	exchange(&hot->private_base, &hot->other_base);
	exchange(&hot->private_sp, &hot->other_sp);
	hot->on_other_stack = other;
}
