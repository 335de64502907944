// SPDX-License-Identifier: Apache-2.0
/*
 * Between the user's translated code and the kernel's without leaving it: SYSCALL and SYSRET of
 * 64-bit code, with what all systems make of them: LSTAR in the upper half, a mask that clears
 * the arithmetic flags and AC, a return to the lower half without TF and AC.  (IRETQ: dbt_iret.c.)
 * What cpu/syscall.c does is done by fixed code, and what C code does when it finds the mode
 * changed is there before: either side's ids, jump cache and private stack (struct side) stay
 * as they are.
 *
 * The gate is shut, and the interpreter executes the instruction, unless all that is so; it is
 * looked at again whenever C code comes back here and something it depends on has changed.
 * Behind the gate nothing fails, and the flags need no care.
 *
 * After code for windows FS and GS keep the windows' bases while the kernel's code runs, which
 * has no use for them.
 *
 * Source: Intel SDM volume 2, "SYSCALL", "SYSRET".
 */
#include "cpu/system.h"
#include "engine/soft/dbt_tr.h"

#define CLEARED	(RFLAGS_ARITH | RFLAGS_AC)	/* flags that SFMASK has to clear */

_Static_assert(offsetof(struct segment, base) == 8 && sizeof(struct segment) == 16,
	       "a segment is copied as one word beside its base");

/* --- the gate --- */

static struct gate_key present_key(const struct vcpu *v)
{
	return (struct gate_key){
		.star = v->star, .lstar = v->lstar, .sfmask = v->sfmask, .efer = v->efer,
		.cr0 = v->cr0, .cr4 = v->cr4, .gdt = v->gdtr.base, .gdt_limit = v->gdtr.limit,
		.windows = v->tlb.window.now, .cell = v->tlb.cell,
	};
}

bool gate_fits(struct vcpu *v)
{
	const struct gate_key *k = &dbt_hot(v)->gate.key;

	return k->star == v->star && k->lstar == v->lstar && k->sfmask == v->sfmask &&
	       k->efer == v->efer && k->cr0 == v->cr0 && k->cr4 == v->cr4 &&
	       k->gdt == v->gdtr.base && k->gdt_limit == v->gdtr.limit &&
	       k->windows == v->tlb.window.now && k->cell == v->tlb.cell;
}

static bool gate_possible(const struct dbt *d, const struct vcpu *v)
{
	return with(d, TRANSLATOR_OPT_SWITCH) && with(d, TRANSLATOR_OPT_SYSTEM) && !d->lockstep &&
	       !v->tlb.cell &&
	       v->code_size == CODE_64 && v->efer & EFER_SCE && v->lstar >> 63 &&
	       gva_canonical(v->lstar) && !(CLEARED & ~v->sfmask);
}

static uint64_t without_base(const struct segment *s)
{
	uint64_t word;

	__builtin_memcpy(&word, s, sizeof(word));
	return word;
}

static void gate_segments(struct gate *g, const struct vcpu *v)
{
	struct segment cs, ss;

	syscall_segments(v, &cs, &ss);
	g->kernel_cs = without_base(&cs);
	g->kernel_ss = without_base(&ss);
	sysret_segments(v, true, &cs, &ss);
	g->user_cs = without_base(&cs);
	g->user_ss = without_base(&ss);
	g->null_ss = without_base(&(struct segment){ .attr = SEG_UNUSABLE });
}

void gate_set(struct dbt *d, struct vcpu *v, uint32_t mode)
{
	struct gate *g = &dbt_hot(v)->gate;
	bool windows = v->tlb.window.now;
	uint32_t user = dbt_mode64(v, true) | (windows ? MODE_WINDOW : 0);

	g->shut = g->iret[0].shut = g->iret[1].shut = 1;
	g->key = present_key(v);
	/* Not what SYSRET would come to: CPL 1, or AC set. */
	if (!gate_possible(d, v) || (mode & MODE_USER && (mode != user || v->cpl != 3)))
		return;
	side_use(d, v, dbt_mode64(v, false));
	side_use(d, v, user);
	gate_segments(g, v);
	gate_set_iret(g, v);
	g->to_user = (uint64_t)d->to_user[windows];
	g->iret_to_user = (uint64_t)d->iret_to_user[windows];
	g->rsp_mask = windows ? (BIT(16) - 1) << WINDOW_CHECK_BIT : 0;
	g->refused = RFLAGS_TF | RFLAGS_AC;
	g->shut = 0;
}

/* --- code behind it, where the flags are free --- */

static void f_and(struct emit *e, unsigned int reg, int32_t imm)
{
	e_op_reg(e, 1, 0x81, 4, reg);
	e32(e, imm);
}

static void f_or(struct emit *e, unsigned int reg, int32_t imm)
{
	e_op_reg(e, 1, 0x81, 1, reg);
	e32(e, imm);
}

static void e_store8_imm(struct emit *e, struct host_mem m, uint8_t imm)
{
	e_op_mem(e, 0, 0xc6, 0, m);
	e8(e, imm);
}

/* Clobbers @tmp, as the following do. */
void emit_segment(struct emit *e, unsigned int seg, struct host_mem from, unsigned int tmp)
{
	e_load(e, tmp, from);
	e_store(e, segment_word(seg), tmp);
	e_store_imm(e, segment_base(seg), 0);
}

/* From now on the code of side @user runs. */
static void emit_side(struct emit *e, bool user, unsigned int tmp)
{
	e_store8_imm(e, IN_VCPU(cpl), user ? 3 : 0);
	e_load(e, tmp, IN_SIDE(user, own_id));
	e_store(e, IN_HOT(present_id), tmp);
	e_store(e, IN_SIDE(!user, stack_sp), H_RSP);
	e_load(e, H_RSP, IN_SIDE(user, stack_sp));
}

static void emit_leave_by(struct dbt *d, struct emit *e, unsigned int how, unsigned int tmp)
{
	e_mov_imm(e, tmp, (uint64_t)d->leave[how]);
	e_store(e, IN_HOT(leave), tmp);
}

/* R11 = RFLAGS; RFLAGS = RFLAGS & ~SFMASK, which leaves no arithmetic ones */
static void emit_syscall_flags(struct emit *e)
{
	e8(e, 0x9c);				/* pushfq */
	e8(e, 0x59);				/* pop rcx */
	f_and(e, H_TMP, RFLAGS_ARITH);
	e_load(e, H_ADDR, IN_VCPU(rflags));
	f_and(e, H_ADDR, ~(int32_t)RFLAGS_ARITH);
	e_op_reg(e, 1, 0x0b, H_TMP, H_ADDR);	/* or */
	e_store(e, IN_GPR(REG_R11), H_TMP);
	e_load(e, H_ADDR, IN_VCPU(sfmask));
	e_op_reg(e, 1, 0xf7, 2, H_ADDR);	/* not */
	e_op_reg(e, 1, 0x23, H_TMP, H_ADDR);	/* and */
	f_or(e, H_TMP, RFLAGS_FIXED);
	e_store(e, IN_VCPU(rflags), H_TMP);
}

static void emit_no_flags(struct emit *e)
{
	e_op_reg(e, 0, 0x33, H_TMP, H_TMP);	/* xor ecx, ecx */
	e_op_reg(e, 0, 0x83, 0, H_TMP);		/* add ecx, 1: an odd number of bits, nothing else */
	e8(e, 1);
}

/* SYSCALL: r14 is the next instruction. */
static void emit_to_kernel(struct dbt *d, struct emit *e, bool windows)
{
	d->to_kernel[windows] = emit_here(e);
	e_mov_rr(e, H_GRCX, H_ADDR);
	emit_syscall_flags(e);
	emit_segment(e, SEG_CS, IN_HOT(gate.kernel_cs), H_TMP);
	emit_segment(e, SEG_SS, IN_HOT(gate.kernel_ss), H_TMP);
	emit_side(e, false, H_TMP);
	if (windows) {
		e_store(e, IN_GPR(REG_R13), H_R13);
		e_store(e, IN_GPR(REG_R15), H_R15);
		e_store8_imm(e, IN_VCPU(tlb.window.active), false);
		emit_leave_by(d, e, LEAVE_TABLES_FS, H_TMP);
	}
	e_load(e, H_READ, IN_HOT(view_no_ac));
	e_store(e, IN_VCPU(view), H_READ);
	emit_load_tables(e);
	emit_no_flags(e);
	e_load(e, H_ADDR, IN_VCPU(lstar));
	emit_jump_cached(e, false);
}

/* FS and GS get the windows' bases unless they have them; see window_fs_save().  Clobbers r13 and r15. */
static void emit_take_fs(struct emit *e)
{
	uint8_t *taken;

	e_op_mem(e, 0, 0x80, 7, IN_HOT(fs_taken));	/* cmp byte, 0 */
	e8(e, 0);
	e8(e, 0x75);					/* jne */
	e8(e, 0);
	taken = e->p - 1;
	e8(e, 0xf3);					/* rdfsbase rax */
	e8(e, 0x48);
	e8(e, 0x0f);
	e8(e, 0xae);
	e8(e, 0xc0);
	e_store(e, IN_HOT(host_fs), H_RAX);
	e_load(e, H_READ, IN_VCPU(tlb.window.low));
	e_mov_imm(e, H_WRITE, -(uint64_t)WINDOW_GUARD);
	e_store(e, AT_INDEX(H_READ, H_WRITE), H_RAX);
	emit_set_base(e, PREFIX_FS, H_READ);
	e_load(e, H_RAX, IN_VCPU(tlb.window.high));
	emit_set_base(e, PREFIX_GS, H_RAX);
	e_store8_imm(e, IN_HOT(fs_taken), true);
	e_bind8(e, taken);
}

/* The host's arithmetic flags are those in rcx.  Clobbers rax. */
void emit_arith_flags(struct emit *e)
{
	e_mov32_rr(e, H_RAX, H_TMP);
	e_op_reg(e, 0, 0xc1, 5, H_RAX);		/* shr eax, 11: OF */
	e8(e, 11);
	e_op_reg(e, 0, 0x83, 4, H_RAX);		/* and eax, 1 */
	e8(e, 1);
	e8(e, 0x88);				/* mov ah, cl */
	e8(e, 0xcc);
	e8(e, 0x04);				/* add al, 0x7f */
	e8(e, 0x7f);
	e8(e, 0x9e);				/* sahf */
}

/* rcx = the flags to load, of which RFLAGS takes @mask; clobbers rax. */
void emit_load_rflags(struct emit *e, struct host_mem from, uint32_t mask)
{
	e_load(e, H_TMP, from);
	e_mov_rr(e, H_RAX, H_TMP);
	f_and(e, H_RAX, mask & ~RFLAGS_ARITH);
	f_or(e, H_RAX, RFLAGS_FIXED);
	e_store(e, IN_VCPU(rflags), H_RAX);
}

/* The user's side; what it needs was looked at by emit_sysret() or emit_iretq(). */
static void *emit_to_user(struct dbt *d, struct emit *e, bool windows, bool iret)
{
	void *here = emit_here(e);

	e_store(e, IN_HOT(scratch), H_RAX);
	if (iret) {
		emit_iret_frame(e);
	} else {
		emit_load_rflags(e, IN_GPR(REG_R11), FLAGS_SYSRET);
		e_mov_rr(e, H_ADDR, H_GRCX);
	}
	emit_segment(e, SEG_CS, IN_HOT(gate.user_cs), H_RAX);
	emit_segment(e, SEG_SS, IN_HOT(gate.user_ss), H_RAX);
	emit_side(e, true, H_RAX);
	e_load(e, H_READ, IN_HOT(view_user));
	e_store(e, IN_VCPU(view), H_READ);
	if (windows) {
		e_store8_imm(e, IN_VCPU(tlb.window.active), true);
		emit_take_fs(e);
		emit_leave_by(d, e, LEAVE_WINDOWS, H_RAX);
		e_load(e, H_R13, IN_GPR(REG_R13));
		e_load(e, H_R15, IN_GPR(REG_R15));
	} else {
		emit_load_tables(e);
	}
	emit_arith_flags(e);
	e_load(e, H_RAX, IN_HOT(scratch));
	if (iret)
		emit_jump_again(e, IN_HOT(gate.frame[0]));
	else
		emit_jump_cached(e, true);
	return here;
}

void emit_switches(struct dbt *d, struct emit *e, const struct vcpu *v)
{
	emit_iret_kernel(d, e);
	for (unsigned int windows = 0; windows < (v->tlb.window.low ? 2 : 1); windows++) {
		emit_to_kernel(d, e, windows);
		d->to_user[windows] = emit_to_user(d, e, windows, false);
		d->iret_to_user[windows] = emit_to_user(d, e, windows, true);
	}
}

/* --- the instructions --- */

bool switches(const struct tr *t)
{
	return with(t->d, TRANSLATOR_OPT_SWITCH) && !t->d->lockstep;
}

/* To the interpreter unless rcx is 0. */
static void emit_step_unless_zero(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *zero = e_jrcxz(e);

	t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
	e_bind8(e, zero);
}

bool emit_syscall(struct tr *t)
{
	struct emit *e = &t->e;

	if (!switches(t) || !user_side(t))
		return false;
	e_load(e, H_TMP, IN_HOT(gate.shut));
	emit_step_unless_zero(t);
	e_mov_gva(e, H_ADDR, t->next);
	e_jmp(e, t->d->to_kernel[!!(t->b->mode & MODE_WINDOW)]);
	return true;
}

/* A stack pointer, in @reg, for code with windows has passed their check; faults if it does not. */
void emit_check_stack(struct tr *t, unsigned int reg)
{
	struct host_mem check = AT_VCPU(VCPU_CHECKS);

	if (!t->v->tlb.window.low)
		return;
	check.index = H_TMP;
	check.scale = WINDOW_CHECK_SHIFT;
	e_pext(&t->e, H_TMP, reg, IN_HOT(gate.rsp_mask));
	e_movzx8(&t->e, H_TMP, check);
}

bool emit_sysret(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (!switches(t) || i->opsize != 8)
		return false;
	e_pext(e, H_ADDR, H_GRCX, IN_HOT(sign_mask));
	e_load(e, H_TMP, IN_GPR(REG_R11));
	e_pext(e, H_TMP, H_TMP, IN_HOT(gate.refused));
	e_lea(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
	e_movzx8(e, H_TMP, IN_VCPU(intr_parked));
	e_lea(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
	e_load(e, H_TMP, IN_HOT(gate.shut));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	emit_step_unless_zero(t);
	emit_check_stack(t, H_GRSP);
	e_op_mem(e, 0, 0xff, 4, IN_HOT(gate.to_user));	/* jmp */
	return true;
}
