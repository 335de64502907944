// SPDX-License-Identifier: Apache-2.0
/*
 * Far return and IRET: to the same level, to an outer one, to virtual-8086 mode, and to
 * the task that was interrupted.
 *
 * Source: Intel SDM volume 2, "RET", "IRET/IRETD/IRETQ"; volume 3, "Nonmaskable Interrupt
 * (NMI)" for what unblocks NMIs.
 */
#include "cpu/system_priv.h"

#define FLAGS_IRET_ALL	(RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)
#define FLAGS_IRET_WIDE	(RFLAGS_RF | RFLAGS_AC | RFLAGS_ID)	/* with 32 and 64 bits */

/* Where a return goes; ss is used if privilege falls, or always (IRETQ). */
struct target {
	uint64_t rip, rsp;
	uint16_t cs_sel, ss_sel;
	struct descriptor cs, ss;
	unsigned int cpl;
	bool pops_stack;
};

static enum exec_status check_code(struct vcpu *v, struct target *t)
{
	uint16_t sel = t->cs_sel, error = sel_error(sel);
	unsigned int dpl;
	enum exec_status rc;

	if (sel_null(sel))
		return raise_gp(v, 0);
	rc = desc_read(v, sel, EXC_GP, &t->cs);
	if (rc != EXEC_OK)
		return rc;
	dpl = SEG_DPL(t->cs.seg.attr);
	if (!seg_is_code(&t->cs.seg) || t->cpl < v->cpl)
		return raise_gp(v, error);
	if (seg_is_conforming(&t->cs.seg) ? dpl > t->cpl : dpl != t->cpl)
		return raise_gp(v, error);
	if (in_long_mode(v) && (t->cs.seg.attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB))
		return raise_gp(v, error);
	if (!(t->cs.seg.attr & SEG_P))
		return raise_err(v, EXC_NP, error);
	return desc_set_accessed(v, &t->cs);
}

static enum exec_status check_stack(struct vcpu *v, struct target *t)
{
	bool to_64 = in_long_mode(v) && t->cs.seg.attr & SEG_L;

	if (sel_null(t->ss_sel) && to_64 && t->cpl != 3) {
		if ((t->ss_sel & SEL_RPL) != t->cpl)
			return raise_gp(v, 0);
		t->ss.seg = seg_null(t->ss_sel, t->cpl);
		return EXEC_OK;
	}
	return stack_segment_check(v, t->ss_sel, t->cpl, EXC_GP, &t->ss);
}

static enum exec_status check_target(struct vcpu *v, struct target *t)
{
	enum exec_status rc = check_code(v, t);

	if (rc == EXEC_OK && t->pops_stack)
		rc = check_stack(v, t);
	if (rc == EXEC_OK)
		rc = code_check_target(v, &t->cs.seg, t->rip);
	return rc;
}

/* RSP as wide as the stack of the target; in 16 bits the rest of RSP stays. */
static void set_outer_rsp(struct vcpu *v, const struct target *t, uint64_t rsp)
{
	struct stack st = stack_of(&t->ss.seg, rsp, t->cpl);

	if (in_long_mode(v) && t->cs.seg.attr & SEG_L) {
		st.mask = UINT64_MAX;
		st.sp = rsp;
	}
	stack_load(v, &st);
}

static void commit_target(struct vcpu *v, const struct target *t, const struct stack *st,
			  unsigned int pop_bytes)
{
	bool outer = t->cpl > v->cpl;

	if (t->pops_stack)
		set_outer_rsp(v, t, t->rsp + pop_bytes);
	else
		stack_commit(v, st);
	code_commit(v, &t->cs.seg, t->cpl, t->rip);
	if (outer)
		segs_drop_inner(v);
}

static enum exec_status return_real(struct vcpu *v, struct stack *st, uint64_t ip, uint16_t cs)
{
	if (ip > v->seg[SEG_CS].limit)
		return raise_gp(v, 0);
	stack_commit(v, st);
	seg_load_real(v, SEG_CS, cs);
	v->rip = ip;
	vcpu_update_mode(v);
	return EXEC_OK;
}

enum exec_status far_return(struct vcpu *v, unsigned int opsize, unsigned int pop_bytes)
{
	struct stack st = stack_current(v);
	uint64_t words[2], outer[2];
	enum exec_status rc;
	struct target t;

	rc = stack_peek(v, &st, 0, words, 2, opsize);
	if (rc != EXEC_OK)
		return rc;
	t.rip = words[0];
	t.cs_sel = words[1];
	t.cpl = t.cs_sel & SEL_RPL;
	t.pops_stack = !in_real_or_vm86(v) && t.cpl > v->cpl;
	if (t.pops_stack) {
		rc = stack_peek(v, &st, 2 * opsize + pop_bytes, outer, 2, opsize);
		if (rc != EXEC_OK)
			return rc;
		t.rsp = outer[0];
		t.ss_sel = outer[1];
	}
	st.sp = (st.sp + 2 * opsize + pop_bytes) & st.mask;
	if (in_real_or_vm86(v))
		return return_real(v, &st, t.rip, t.cs_sel);
	rc = check_target(v, &t);
	if (rc == EXEC_OK)
		commit_target(v, &t, &st, pop_bytes);
	return rc;
}

/* --- IRET --- */

/* From IRET, successful or not: NMIs are taken again. */
static void unblock_nmi(struct vcpu *v)
{
	v->nmi_blocked = false;
	if (v->nmi_parked) {
		v->nmi_parked = false;
		atomic_fetch_or_explicit(&v->attention, ATTN_NMI, memory_order_relaxed);
	}
}

/* The flags that IRET may change at the present privilege. */
static uint64_t iret_flags_mask(const struct vcpu *v, unsigned int opsize)
{
	uint64_t mask = FLAGS_IRET_ALL;

	if (opsize > 2)
		mask |= FLAGS_IRET_WIDE;
	if (v->cpl <= rflags_iopl(v))
		mask |= RFLAGS_IF;
	if (v->cpl == 0) {
		mask |= RFLAGS_IOPL;
		if (opsize > 2 && !in_real_mode(v))
			mask |= RFLAGS_VIF | RFLAGS_VIP;
	}
	return mask;
}

static uint64_t merge(uint64_t old, uint64_t value, uint64_t mask)
{
	return (old & ~mask) | (value & mask) | RFLAGS_FIXED;
}

/* Real mode, and virtual-8086 mode with IOPL 3 (where IOPL stays). */
static enum exec_status iret_real(struct vcpu *v, unsigned int opsize)
{
	uint64_t mask = iret_flags_mask(v, opsize), words[3];
	struct stack st = stack_current(v);
	enum exec_status rc;

	if (in_vm86(v) && rflags_iopl(v) < 3)
		return raise_gp(v, 0);
	unblock_nmi(v);
	rc = stack_peek(v, &st, 0, words, 3, opsize);
	if (rc != EXEC_OK)
		return rc;
	st.sp = (st.sp + 3 * opsize) & st.mask;
	rc = return_real(v, &st, words[0], words[1]);
	if (rc == EXEC_OK)
		flags_commit(v, merge(v->rflags, words[2], mask));
	return rc;
}

/* From CPL 0 to virtual-8086 mode: six more words are on the stack. */
static enum exec_status iret_to_vm86(struct vcpu *v, const struct stack *st,
				     const uint64_t *words)
{
	static const uint8_t segs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };
	enum exec_status rc;
	uint64_t more[6];

	rc = stack_peek(v, st, 12, more, 6, 4);
	if (rc != EXEC_OK)
		return rc;
	if (words[0] > 0xffff)
		return raise_gp(v, 0);
	v->rflags = merge(v->rflags, words[2], iret_flags_mask(v, 4) | RFLAGS_VM);
	v->gpr[REG_RSP] = more[0];
	seg_load_real(v, SEG_SS, more[1]);
	for (unsigned int i = 0; i < ARRAY_SIZE(segs); i++)
		seg_load_real(v, segs[i], more[2 + i]);
	seg_load_real(v, SEG_CS, words[1]);
	v->rip = words[0];
	vcpu_update_mode(v);
	flags_commit(v, v->rflags);
	return EXEC_OK;
}

static enum exec_status iret_task(struct vcpu *v, gva_t next)
{
	gva_t at = v->tr.base;
	enum mem_result r;
	uint16_t link;

	r = mem_read(v, (uint32_t)at, &link, 2, ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	return task_switch(v, link, TASK_IRET, next, false, 0);
}

enum exec_status sys_iret(struct vcpu *v, unsigned int opsize, gva_t next)
{
	struct stack st = stack_current(v);
	uint64_t words[5], mask;
	enum exec_status rc;
	struct target t;

	if (in_real_or_vm86(v))
		return iret_real(v, opsize);
	unblock_nmi(v);
	if (v->rflags & RFLAGS_NT)
		return in_long_mode(v) ? raise_gp(v, 0) : iret_task(v, next);
	rc = stack_peek(v, &st, 0, words, 3, opsize);
	if (rc != EXEC_OK)
		return rc;
	if (opsize == 4 && words[2] & RFLAGS_VM && v->cpl == 0 && !in_long_mode(v))
		return iret_to_vm86(v, &st, words);

	t.rip = words[0];
	t.cs_sel = words[1];
	t.cpl = t.cs_sel & SEL_RPL;
	t.pops_stack = v->code_size == CODE_64 || t.cpl > v->cpl;
	if (t.pops_stack) {
		rc = stack_peek(v, &st, 3 * opsize, words + 3, 2, opsize);
		if (rc != EXEC_OK)
			return rc;
		t.rsp = words[3];
		t.ss_sel = words[4];
	}
	rc = check_target(v, &t);
	if (rc != EXEC_OK)
		return rc;
	st.sp = (st.sp + 3 * opsize) & st.mask;
	mask = iret_flags_mask(v, opsize);
	commit_target(v, &t, &st, 0);
	flags_commit(v, merge(v->rflags, words[2], mask));
	return EXEC_OK;
}
