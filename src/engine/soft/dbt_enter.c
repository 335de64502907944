// SPDX-License-Identifier: Apache-2.0
/*
 * The translator's fixed code: into translated code, out of it, and the lookup of
 * indirect targets; emitted once at the start of the code cache.
 */
#include "engine/soft/dbt_tr.h"

void emit_set_base(struct emit *e, unsigned int prefix, unsigned int reg)
{
	e8(e, 0xf3);
	e8(e, 0x48 | reg >> 3);
	e8(e, 0x0f);
	e8(e, 0xae);
	e8(e, (prefix == PREFIX_FS ? 0xd0 : 0xd8) | (reg & 7));
}

/* The guest's state into the registers, then to hot.entry. */
static void *emit_enter(struct emit *e, bool windows)
{
	const uint8_t *place = host_regs[windows];
	void *here = emit_here(e);

	if (windows) {
		e_load(e, H_RAX, IN_HOT(base[0]));
		emit_set_base(e, PREFIX_FS, H_RAX);
		e_load(e, H_RAX, IN_HOT(base[1]));
		emit_set_base(e, PREFIX_GS, H_RAX);
	}
	e_load32(e, H_RAX, IN_HOT(flags));
	e8(e, 0x04);			/* add al, 0x7f: OF from bit 0 */
	e8(e, 0x7f);
	e8(e, 0x9e);			/* sahf */
	for (unsigned int n = 0; n < 16; n++)
		if (place[n] != IN_MEMORY)
			e_load(e, place[n], IN_GPR(n));
	if (!windows) {
		e_load(e, H_READ, IN_HOT(base[0]));
		e_load(e, H_WRITE, IN_HOT(base[1]));
	}
	e_load(e, H_RSP, IN_HOT(private_sp));
	e_op_mem(e, 0, 0xff, 4, IN_HOT(entry));		/* jmp */
	return here;
}

/* The reverse, then on the host's stack to dbt_event(), or to hot.resume. */
static void *emit_leave_code(struct dbt *d, struct emit *e, unsigned int how)
{
	const uint8_t *place = host_regs[how == LEAVE_WINDOWS];
	void *here = emit_here(e);

	for (unsigned int n = 0; n < 16; n++)
		if (place[n] != IN_MEMORY)
			e_store(e, IN_GPR(n), place[n]);
	e8(e, 0x9f);			/* lahf */
	e8(e, 0x0f);			/* seto al */
	e8(e, 0x90);
	e8(e, 0xc0);
	e_store32(e, IN_HOT(flags), H_RAX);
	if (how != LEAVE_TABLES) {
		e_load(e, H_RAX, IN_HOT(host_fs));
		emit_set_base(e, PREFIX_FS, H_RAX);
	}
	e_store(e, IN_HOT(private_sp), H_RSP);
	e_load(e, H_RSP, IN_HOT(host_sp));
	if (in_place(d))
		emit_call_event(d, e);
	else
		e_op_mem(e, 0, 0xff, 4, IN_HOT(resume));
	return here;
}

enum exit_saves { SAVE_NOTHING, SAVE_TARGET, SAVE_ARG, SAVE_PLACE };

/* hot.fault_pc = where this was called from, by a RET for the CALL: the host's predictor counts. */
static void emit_take_place(struct emit *e)
{
	uint8_t *there;

	e_load(e, H_TMP, AT(H_RSP));
	e_store(e, IN_HOT(fault_pc), H_TMP);
	e8(e, 0x48);			/* lea rcx, [rip + ...] */
	e8(e, 0x8d);
	e8(e, 0x0d);
	e32(e, 0);
	there = e->p - 4;
	e_store(e, AT(H_RSP), H_TMP);
	e8(e, 0xc3);
	emit_patch32(there, e->to_exec, emit_here(e));
}

/*
 * What exits leave by: r14 is where the guest was going, or ecx the argument, or this
 * was called from the place.
 */
static void *emit_exit(struct emit *e, enum dbt_reason why, enum exit_saves saves)
{
	void *here = emit_here(e);

	if (saves == SAVE_TARGET)
		e_store(e, IN_HOT(target), H_ADDR);
	else if (saves == SAVE_ARG)
		e_store32(e, IN_HOT(arg), H_TMP);
	if (saves == SAVE_PLACE)
		emit_take_place(e);
	e_store32_imm(e, IN_HOT(reason), why);
	e_op_mem(e, 0, 0xff, 4, IN_HOT(leave));		/* jmp */
	return here;
}

/* ret_miss: the private stack was empty; its bottom stays where it is. */
static void emit_ret_miss(struct dbt *d, struct emit *e, bool user)
{
	d->ret_miss[user] = emit_here(e);
	e_lea(e, H_RSP, AT_DISP(H_RSP, -8));
	e_jmp(e, d->indirect[user]);
}

void dbt_emit_fixed(struct dbt *d, const struct vcpu *v)
{
	struct emit e = { .p = d->rw, .to_exec = d->rx - d->rw, .vcpu = (uintptr_t)v };
	void *miss;

	for (unsigned int windows = 0; windows < 2; windows++)
		d->enter[windows] = emit_enter(&e, windows);
	for (unsigned int how = 0; how < LEAVES; how++)
		d->leave[how] = emit_leave_code(d, &e, how);
	d->exit_chain = emit_exit(&e, REASON_CHAIN, SAVE_ARG);
	d->exit_step = emit_exit(&e, REASON_STEP, SAVE_ARG);
	d->exit_here = emit_exit(&e, REASON_STEP_HERE, SAVE_PLACE);
	d->exit_signal = emit_exit(&e, REASON_SIGNAL, SAVE_NOTHING);
	miss = emit_exit(&e, REASON_INDIRECT, SAVE_TARGET);
	d->exit_indirect = emit_here(&e);
	emit_jump_found(&e, miss);
	d->exit_poll = emit_exit(&e, REASON_POLL, SAVE_TARGET);
	for (unsigned int user = 0; user < 2; user++) {
		d->indirect[user] = emit_here(&e);
		emit_jump_cached(&e, user);
		emit_ret_miss(d, &e, user);
	}
	emit_cross_checks(d, &e);
	emit_lookups(d, &e);
	emit_go(d, &e);
	emit_switches(d, &e, v);
	d->first = e.p;
}

static uint64_t read_fs_base(void)
{
	uint64_t base;

	asm volatile("rdfsbase %0" : "=r" (base));
	return base;
}

/* What code of the present mode finds memory by, and how it leaves. */
static void set_bases(const struct dbt *d, const struct vcpu *v, struct dbt_hot *hot)
{
	const struct tlb_window *w = &v->tlb.window;

	hot->leave = (uint64_t)d->leave[w->active ? LEAVE_WINDOWS : LEAVE_TABLES];
	hot->fs_taken = w->active;
	if (w->active) {
		hot->base[0] = w->low;
		hot->base[1] = w->high;
		hot->host_fs = read_fs_base();
		*window_fs_save(w->low) = hot->host_fs;
	} else {
		hot->base[0] = (uint64_t)v->view->table[TLB_READ] + TABLE_BIAS;
		hot->base[1] = (uint64_t)v->view->table[TLB_WRITE] + TABLE_BIAS;
	}
}

void *dbt_prepare(struct dbt *d, struct vcpu *v, void *code)
{
	struct dbt_hot *hot = dbt_hot(v);

	set_bases(d, v, hot);
	hot->present_id = present_side(v)->own_id;
	hot->private_sp = present_side(v)->stack_sp;
	hot->entry = (uint64_t)code;
	return d->enter[v->tlb.window.active];
}

/*
 * Runs at @code until translated code leaves.  Entered and left by jumps: a CALL and RET
 * here would take the return predictor out of step with the guest's calls.
 */
void dbt_enter(struct dbt *d, struct vcpu *v, void *code)
{
	struct dbt_hot *hot = dbt_hot(v);
	void *enter = dbt_prepare(d, v, code);

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
	present_side(v)->stack_sp = dbt_hot(v)->private_sp;	/* hot is clobbered */
}

void dbt_empty_private_stack(struct dbt *d, struct side *s)
{
	*(uint64_t *)s->stack_base = (uint64_t)d->ret_miss[s != d->hot->side];
	s->stack_sp = s->stack_base;
}

void dbt_empty_private_stacks(struct dbt *d)
{
	dbt_empty_private_stack(d, &d->hot->side[0]);
	dbt_empty_private_stack(d, &d->hot->side[1]);
}
