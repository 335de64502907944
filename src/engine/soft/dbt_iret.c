// SPDX-License-Identifier: Apache-2.0
/*
 * IRETQ of the kernel's in line: to the user of 64-bit code, with the segments that SYSRET would
 * load, and none in DS, ES, FS and GS; and within the kernel, with the segments that SYSCALL would
 * load, or none in SS.  The descriptors are looked at each time, and must be what those have.
 *
 * It serializes: who changed code meanwhile wants attention, for which the jump at the end looks.
 *
 * The frame is read once.  What IRETQ may not do, and what is to happen with it (an NMI that
 * waits, an interrupt that waits for IF), is the interpreter's: nothing has changed then.
 *
 * It loads RF without keeping it: that holds off breakpoints, of which there are none while
 * translated code runs.
 *
 * Source: Intel SDM volume 2, "IRET/IRETD/IRETQ".
 */
#include "cpu/system.h"
#include "engine/soft/dbt_tr.h"

/* What IRETQ takes of flags, but for RF, and TF, which is refused; AC is for the kernel only. */
#define FLAGS_IRETQ (RFLAGS_ARITH | RFLAGS_DF | RFLAGS_NT | RFLAGS_ID | RFLAGS_IF | RFLAGS_IOPL | \
		     RFLAGS_VIF | RFLAGS_VIP)

/* --- the gate --- */

/* The descriptor that flat segment @s is loaded from, with its accessed bit set. */
static uint64_t flat_descriptor(const struct segment *s)
{
	return 0x000f00000000ffffULL | (uint64_t)s->attr << 40;
}

/* Of the pair at @low and behind it at @high, where they would have to be. */
static void iret_set(struct iret_gate *g, const struct vcpu *v, const struct segment *low,
		     const struct segment *high)
{
	unsigned int at = low->sel & ~7U;

	g->shut = 1;
	if (high->sel != low->sel + 8 || at < 8 || at + 15U > v->gdtr.limit)
		return;
	g->descriptors = v->gdtr.base + at;
	if ((g->descriptors & GUEST_PAGE_MASK) > GUEST_PAGE_SIZE - 16)
		return;
	g->minus_low = -flat_descriptor(low);
	g->minus_high = -flat_descriptor(high);
	g->shut = 0;
}

void gate_set_iret(struct gate *g, const struct vcpu *v)
{
	struct segment cs, ss;

	sysret_segments(v, true, &cs, &ss);
	iret_set(&g->iret[1], v, &ss, &cs);
	if ((ss.sel & 7) != 3)
		g->iret[1].shut = 1;
	g->iret[1].minus_cs_sel = -(uint64_t)cs.sel;
	g->iret[1].minus_ss_sel = -(uint64_t)ss.sel;
	syscall_segments(v, &cs, &ss);
	iret_set(&g->iret[0], v, &cs, &ss);
	if (ss.sel & 7)
		g->iret[0].shut = 1;
	g->iret[0].minus_cs_sel = -(uint64_t)cs.sel;
	g->iret[0].minus_ss_sel = -(uint64_t)ss.sel;
	/* AC as well: it is not for reading descriptors. */
	g->nt_mask = RFLAGS_NT | RFLAGS_AC;
	g->if_mask = RFLAGS_IF;
	g->tf_mask = RFLAGS_TF;
	g->two = 2;
	g->unusable_mask = SEG_UNUSABLE;
}

/* --- fixed code, where the flags are free --- */

/* RFLAGS takes of the frame's what is in @mask; rcx = those.  Clobbers rax. */
static void emit_frame(struct emit *e, uint32_t mask)
{
	emit_load_rflags(e, IN_HOT(gate.frame[2]), mask);
	e_load(e, H_GRSP, IN_HOT(gate.frame[3]));
	e_load(e, H_ADDR, IN_HOT(gate.frame[0]));
}

void emit_iret_frame(struct emit *e)
{
	emit_frame(e, FLAGS_IRETQ);
}

/* The tables are those for AC as it is in ecx. */
static void emit_view(struct emit *e)
{
	uint8_t *over;

	e_load(e, H_READ, IN_HOT(view_no_ac));
	e_op_reg(e, 0, 0xf7, 0, H_TMP);		/* test */
	e32(e, RFLAGS_AC);
	e8(e, 0x74);				/* jz */
	e8(e, 0);
	over = e->p - 1;
	e_load(e, H_READ, IN_HOT(view_ac));
	e_bind8(e, over);
	e_store(e, IN_VCPU(view), H_READ);
	emit_load_tables(e);
}

/* Within the kernel; what is needed was looked at by emit_iretq(). */
void emit_iret_kernel(struct dbt *d, struct emit *e)
{
	uint8_t *over;

	d->iret_to_kernel = emit_here(e);
	e_store(e, IN_HOT(scratch), H_RAX);
	emit_frame(e, FLAGS_IRETQ | RFLAGS_AC);
	emit_view(e);
	emit_segment(e, SEG_CS, IN_HOT(gate.kernel_cs), H_RAX);
	emit_segment(e, SEG_SS, IN_HOT(gate.kernel_ss), H_RAX);
	e8(e, 0x66);				/* cmp word, 0 */
	e_op_mem(e, 0, 0x83, 7, IN_HOT(gate.frame[4]));
	e8(e, 0);
	e8(e, 0x75);				/* jne */
	e8(e, 0);
	over = e->p - 1;
	emit_segment(e, SEG_SS, IN_HOT(gate.null_ss), H_RAX);
	e_bind8(e, over);
	emit_arith_flags(e);
	e_load(e, H_RAX, IN_HOT(scratch));
	emit_jump_cached(e, false);
}

/* --- the instruction --- */

static struct host_mem iret_gate_at(bool user, unsigned int offset)
{
	struct host_mem m = IN_HOT(gate.iret[0]);

	m.disp += user * sizeof(struct iret_gate) + offset;
	return m;
}

#define IN_IRET(user, field)	iret_gate_at(user, offsetof(struct iret_gate, field))

/* r14 += rcx */
static void emit_sum(struct emit *e)
{
	e_lea(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
}

/* To the interpreter unless rcx is 0; all by the same jump, at *@step once there is one. */
static void emit_refuse(struct tr *t, void **step)
{
	struct emit *e = &t->e;
	uint8_t *zero = e_jrcxz(e);

	if (*step) {
		e_jmp(e, *step);
	} else {
		*step = emit_here(e);
		t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
	}
	e_bind8(e, zero);
}

/* Unless rcx + @minus is 0.  Clobbers r14. */
static void emit_refuse_unless(struct tr *t, void **step, struct host_mem minus)
{
	e_load(&t->e, H_ADDR, minus);
	e_lea(&t->e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	emit_refuse(t, step);
}

/* Whether NT forbids it, NMIs come back with it, or code is to be looked at when it serializes. */
static void emit_check_now(struct tr *t, void **step)
{
	struct emit *e = &t->e;

	e_load(e, H_ADDR, IN_VCPU(rflags));
	e_pext(e, H_ADDR, H_ADDR, IN_HOT(gate.nt_mask));
	e_movzx8(e, H_TMP, IN_VCPU(nmi_blocked));
	emit_sum(e);
	e_movzx8(e, H_TMP, IN_HOT(watch));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	emit_refuse(t, step);
}

/* The frame, each word read once: others may write to it. */
static void emit_read_frame(struct tr *t)
{
	struct emit *e = &t->e;

	e_mov_rr(e, H_ADDR, H_GRSP);
	e_lea(e, H_ADDR, emit_looked_up(t, 40, false));
	for (unsigned int k = 0; k < 5; k++) {
		struct host_mem word = IN_HOT(gate.frame[0]);

		word.disp += 8 * k;
		e_load(e, H_TMP, AT_DISP(H_ADDR, 8 * k));
		e_store(e, word, H_TMP);
	}
	emit_islands(t, true);
}

/* The descriptors are those of what SYSRET or SYSCALL loads. */
static void emit_check_descriptors(struct tr *t, void **step, bool user)
{
	struct emit *e = &t->e;
	uint8_t *miss, *hit;

	e_load(e, H_ADDR, IN_IRET(user, descriptors));
	emit_table_load(e, H_READ);
	miss = e_jrcxz(e);
	hit = e_jmp8(e);
	e_bind8(e, miss);
	e_jmp(e, *step);
	e_bind8(e, hit);
	emit_sum(e);
	e_load(e, H_TMP, AT_DISP(H_ADDR, 8));
	e_store(e, IN_HOT(scratch), H_TMP);
	e_load(e, H_TMP, AT(H_ADDR));
	emit_refuse_unless(t, step, IN_IRET(user, minus_low));
	e_load(e, H_TMP, IN_HOT(scratch));
	emit_refuse_unless(t, step, IN_IRET(user, minus_high));
}

/* To the user: what has to do with the processor's state ... */
static void emit_check_user_state(struct tr *t, void **step)
{
	static const uint8_t segs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	struct emit *e = &t->e;

	e_load(e, H_ADDR, IN_IRET(true, shut));
	e_movzx8(e, H_TMP, IN_VCPU(intr_parked));
	emit_sum(e);
	e_load(e, H_TMP, IN_VCPU(tlb.window.expected));	/* C code maps it */
	emit_sum(e);
	for (unsigned int k = 0; k < ARRAY_SIZE(segs); k++) {
		e_movzx16(e, H_TMP, segment_word(segs[k]));
		emit_sum(e);
	}
	e_mov_rr(e, H_TMP, H_ADDR);
	emit_refuse(t, step);
	e_mov_imm(e, H_ADDR, -(uint64_t)ARRAY_SIZE(segs));	/* null, and not just by their number */
	for (unsigned int k = 0; k < ARRAY_SIZE(segs); k++) {
		e_movzx16(e, H_TMP, AT_VCPU(offsetof(struct vcpu, seg) + segs[k] * sizeof(struct segment) +
					   offsetof(struct segment, attr)));
		e_pext(e, H_TMP, H_TMP, IN_HOT(gate.unusable_mask));
		emit_sum(e);
	}
	e_mov_rr(e, H_TMP, H_ADDR);
	emit_refuse(t, step);
}

/* ... and with the frame: it goes where SYSRET would, with such flags. */
static void emit_check_user_frame(struct tr *t, void **step)
{
	struct emit *e = &t->e;

	e_load(e, H_ADDR, IN_HOT(gate.frame[0]));
	e_pext(e, H_ADDR, H_ADDR, IN_HOT(sign_mask));
	e_load(e, H_TMP, IN_HOT(gate.frame[2]));
	e_pext(e, H_TMP, H_TMP, IN_HOT(gate.refused));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	emit_refuse(t, step);
	e_movzx16(e, H_TMP, IN_HOT(gate.frame[1]));
	emit_refuse_unless(t, step, IN_IRET(true, minus_cs_sel));
	e_movzx16(e, H_TMP, IN_HOT(gate.frame[4]));
	emit_refuse_unless(t, step, IN_IRET(true, minus_ss_sel));
	e_load(e, H_ADDR, IN_HOT(gate.frame[3]));
	emit_check_stack(t, H_ADDR);
}

/* Within the kernel, whose CS the frame has: to an upper address, without TF. */
static void emit_check_kernel(struct tr *t, void **step)
{
	struct emit *e = &t->e;
	uint8_t *null;

	e_load(e, H_TMP, IN_HOT(gate.frame[0]));
	e_pext(e, H_TMP, H_TMP, IN_HOT(sign_mask));
	e_lea(e, H_TMP, AT_DISP(H_TMP, -0x1ffff));
	emit_refuse(t, step);
	e_load(e, H_TMP, IN_HOT(gate.frame[2]));
	e_pext(e, H_ADDR, H_TMP, IN_HOT(gate.if_mask));
	e_movzx8(e, H_TMP, IN_VCPU(intr_parked));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));	/* 2: it waits for IF, which comes */
	e_pext(e, H_ADDR, H_TMP, IN_HOT(gate.two));
	e_load(e, H_TMP, IN_HOT(gate.frame[2]));
	e_pext(e, H_TMP, H_TMP, IN_HOT(gate.tf_mask));
	emit_sum(e);
	e_load(e, H_TMP, IN_IRET(false, shut));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	emit_refuse(t, step);
	e_movzx16(e, H_TMP, IN_HOT(gate.frame[4]));
	null = e_jrcxz(e);
	emit_refuse_unless(t, step, IN_IRET(false, minus_ss_sel));
	e_bind8(e, null);
}

/* The block goes on behind it: one that is stepped may lead there, in the kernel. */
bool emit_iretq(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;
	uint8_t *kernel, *user;
	void *step = NULL;

	if (!switches(t) || i->opsize != 8 || user_side(t))
		return false;
	emit_check_now(t, &step);
	emit_read_frame(t);
	e_movzx16(e, H_TMP, IN_HOT(gate.frame[1]));
	e_load(e, H_ADDR, IN_IRET(false, minus_cs_sel));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	kernel = e_jrcxz(e);
	user = e_jmp(e, emit_here(e));
	e_bind8(e, kernel);
	emit_check_kernel(t, &step);
	emit_check_descriptors(t, &step, false);
	e_jmp(e, t->d->iret_to_kernel);
	emit_patch32(user, e->to_exec, emit_here(e));
	emit_check_user_state(t, &step);
	emit_check_user_frame(t, &step);
	emit_check_descriptors(t, &step, true);
	regs_lost(t);
	e_op_mem(e, 0, 0xff, 4, IN_HOT(gate.iret_to_user));	/* jmp */
	return true;
}
