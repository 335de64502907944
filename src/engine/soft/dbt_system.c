// SPDX-License-Identifier: Apache-2.0
/*
 * Sensitive instructions that are frequent in kernels and simple enough to be done in
 * line: CLI, STI, PUSHF, SWAPGS, RDTSC(P), STAC, CLAC, reading segment and control
 * registers, reading and writing the bases of FS and GS.  What they mean stands in cpu/; here only the cases that need no check are
 * done, for the mode that the block was translated in.  Flags are kept: bits are cleared
 * by PEXT and PDEP, set by LEA after that.
 *
 * v->rflags holds all flags but the arithmetic ones, which are the host's.
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

static struct host_mem segment_selector(unsigned int seg)
{
	return AT_VCPU(offsetof(struct vcpu, seg) + seg * sizeof(struct segment) +
		       offsetof(struct segment, sel));
}

static bool kernel_mode(const struct tr *t)
{
	return !(t->b->mode & MODE_USER);
}

/* r15 = the view's address: both tables from there */
void emit_load_tables(struct emit *e)
{
	e_load(e, H_WRITE, AT_DISP(H_READ, offsetof(struct tlb_view, table[TLB_WRITE])));
	e_load(e, H_READ, AT_DISP(H_READ, offsetof(struct tlb_view, table[TLB_READ])));
	e_lea(e, H_WRITE, AT_DISP(H_WRITE, TABLE_BIAS));
	e_lea(e, H_READ, AT_DISP(H_READ, TABLE_BIAS));
}

/* v->rflags = (v->rflags & @mask) + @add */
static void emit_rflags(struct emit *e, struct host_mem mask, uint32_t add)
{
	e_load(e, H_TMP, IN_VCPU(rflags));
	e_and_mask(e, H_TMP, H_TMP, mask);
	if (add)
		e_lea(e, H_TMP, AT_DISP(H_TMP, add));
	e_store(e, IN_VCPU(rflags), H_TMP);
}

/*
 * The shadow of STI needs nothing: interrupts are looked for at jumps, and the first of
 * those is executed before.  But what waits for IF is woken by the interpreter.
 */
static void emit_sti(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *none;

	e_movzx8(e, H_TMP, IN_VCPU(intr_parked));
	none = e_jrcxz(e);
	t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
	e_bind8(e, none);
	emit_rflags(e, IN_HOT(not_if), RFLAGS_IF);
}

static void emit_pushf(struct tr *t)
{
	struct emit *e = &t->e;

	e8(e, 0x9c);			/* pushfq */
	e8(e, 0x59);			/* pop rcx */
	e_and_mask(e, H_TMP, H_TMP, IN_HOT(flags_mask));
	e_load(e, H_ADDR, IN_VCPU(rflags));
	e_and_mask(e, H_ADDR, H_ADDR, IN_HOT(pushf_mask));
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	e_store(e, IN_HOT(scratch), H_TMP);
	emit_push_scratch(t);
}

static void emit_swapgs(struct emit *e)
{
	e_load(e, H_TMP, IN_VCPU(seg[SEG_GS].base));
	e_load(e, H_ADDR, IN_VCPU(kernel_gs_base));
	e_store(e, IN_VCPU(kernel_gs_base), H_TMP);
	e_store(e, IN_VCPU(seg[SEG_GS].base), H_ADDR);
}

static void emit_rdtsc(struct emit *e)
{
	e8(e, 0x0f);			/* rdtsc */
	e8(e, 0x31);
	e_rorx(e, H_RDX, H_RDX, 32);
	e_lea(e, H_RAX, AT_INDEX(H_RAX, H_RDX));
	e_load(e, H_TMP, IN_VCPU(tsc_offset));
	e_lea(e, H_RAX, AT_INDEX(H_RAX, H_TMP));
	e_rorx(e, H_RDX, H_RAX, 32);
	e_mov32_rr(e, H_RDX, H_RDX);
	e_mov32_rr(e, H_RAX, H_RAX);
}

static void emit_ac(struct emit *e, bool set)
{
	emit_rflags(e, IN_HOT(not_ac), set ? RFLAGS_AC : 0);
	e_load(e, H_READ, set ? IN_HOT(view_ac) : IN_HOT(view_no_ac));
	e_store(e, IN_VCPU(view), H_READ);
	emit_load_tables(e);
}

/* The value in rcx into guest register @reg. */
static void emit_to(struct tr *t, unsigned int reg)
{
	unsigned int h = host_reg(t, reg);

	if (h == IN_MEMORY)
		e_store(&t->e, IN_GPR(reg), H_TMP);
	else
		e_mov_rr(&t->e, h, H_TMP);
}

/* ... into the instruction's first operand, a 32- or 64-bit register. */
static void emit_result(struct tr *t, const struct insn *i)
{
	emit_to(t, i->op[0].reg);
}

/* LFENCE waits for the loads before it, as RDTSCP does; the host's own would give the host's TSC_AUX. */
static void emit_rdtscp(struct tr *t)
{
	struct emit *e = &t->e;

	e8(e, 0x0f);			/* lfence */
	e8(e, 0xae);
	e8(e, 0xe8);
	emit_rdtsc(e);
	e_load32(e, H_TMP, IN_VCPU(tsc_aux));
	emit_to(t, REG_RCX);
}

/* MOV of a selector to memory; in code for windows its address is the interpreter's. */
static bool emit_store_segment(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (t->b->mode & (MODE_WINDOW | MODE_32) || i->op[1].kind != OPND_SEG)
		return false;
	e_lea(e, H_TMP, emit_operand(t, i, 2));
	e_movzx16(e, H_ADDR, segment_selector(i->op[1].reg));
	e8(e, 0x66);
	e_op_mem(e, 0, 0x89, H_ADDR, AT(H_TMP));	/* mov [rcx], r14w */
	return true;
}

/* Into a register of 16 bits: the rest of it stays. */
static void emit_read_segment16(struct tr *t, const struct insn *i)
{
	unsigned int reg = host_reg(t, i->op[0].reg), to = reg == IN_MEMORY ? H_TMP : reg;
	struct emit *e = &t->e;

	e8(e, 0x66);
	e_op_mem(e, 0, 0x8b, to, segment_selector(i->op[1].reg));
	if (reg != IN_MEMORY)
		return;
	e8(e, 0x66);
	e_op_mem(e, 0, 0x89, H_TMP, IN_GPR(i->op[0].reg));
}

static bool emit_read_segment(struct tr *t, const struct insn *i)
{
	if (i->op[0].kind == OPND_MEM)
		return emit_store_segment(t, i);
	if (i->op[0].kind != OPND_GPR || i->op[1].kind != OPND_SEG)
		return false;
	if (i->opsize == 2) {
		emit_read_segment16(t, i);
		return true;
	}
	e_movzx16(&t->e, H_TMP, segment_selector(i->op[1].reg));
	emit_result(t, i);
	return true;
}

static bool emit_read_cr(struct tr *t, const struct insn *i)
{
	static const uint16_t places[] = {
		[0] = offsetof(struct vcpu, cr0), [2] = offsetof(struct vcpu, cr2),
		[3] = offsetof(struct vcpu, cr3), [4] = offsetof(struct vcpu, cr4),
	};
	unsigned int cr = i->op[1].reg;

	if (i->op[0].kind != OPND_GPR || i->op[1].kind != OPND_CR || cr > 4 || !places[cr])
		return false;
	e_load(&t->e, H_TMP, AT_VCPU(places[cr]));
	emit_result(t, i);
	return true;
}

/* Privileged ones, at CPL 0. */
static bool emit_privileged(struct tr *t, const struct insn *i, bool *ends)
{
	struct emit *e = &t->e;

	switch (i->info->id) {
	case INSN_ID_CLI:
		emit_rflags(e, IN_HOT(not_if), 0);
		return true;
	case INSN_ID_STI:
		emit_sti(t);
		return true;
	case INSN_ID_SWAPGS:
		emit_swapgs(e);
		return true;
	case INSN_ID_STAC:
	case INSN_ID_CLAC:
		emit_ac(e, i->info->id == INSN_ID_STAC);
		return true;
	case INSN_ID_MOV_CR:
		return emit_read_cr(t, i);
	case INSN_ID_SYSRET:
		return *ends = emit_sysret(t, i);
	case INSN_ID_IRETQ:
		return emit_iretq(t, i);
	default:
		return false;
	}
}

static bool emit_read_base(struct tr *t, const struct insn *i)
{
	bool fs = i->info->id == INSN_ID_RDFSBASE;

	if (!(t->b->mode & MODE_FSGSBASE))
		return false;
	if (fs)
		(i->opsize == 8 ? e_load : e_load32)(&t->e, H_TMP, IN_VCPU(seg[SEG_FS].base));
	else
		(i->opsize == 8 ? e_load : e_load32)(&t->e, H_TMP, IN_VCPU(seg[SEG_GS].base));
	emit_result(t, i);
	return true;
}

/* Of the lower half; in code for windows something may be known of addresses by them. */
static bool emit_write_base(struct tr *t, const struct insn *i)
{
	unsigned int seg = i->info->id == INSN_ID_WRFSBASE ? SEG_FS : SEG_GS;
	unsigned int reg = host_reg(t, i->op[0].reg);
	struct emit *e = &t->e;
	uint8_t *lower;

	if (!(t->b->mode & MODE_FSGSBASE) || t->b->mode & (MODE_WINDOW | MODE_32))
		return false;
	if (reg == IN_MEMORY)
		e_load(e, H_ADDR, IN_GPR(i->op[0].reg));
	else
		e_mov_rr(e, H_ADDR, reg);
	if (i->opsize == 8) {
		e_pext(e, H_TMP, H_ADDR, IN_HOT(sign_mask));
		lower = e_jrcxz(e);
		t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
		e_bind8(e, lower);
	} else {
		e_mov32_rr(e, H_ADDR, H_ADDR);
	}
	e_store(e, segment_base(seg), H_ADDR);
	return true;
}

bool emit_system(struct tr *t, const struct insn *i, bool *ends)
{
	if (i->flags & INSN_LOCK || !with(t->d, TRANSLATOR_OPT_SYSTEM))
		return false;
	temps_lost(t);
	switch (i->info->id) {
	case INSN_ID_RDTSC:
		if (t->b->mode & MODE_TSD)
			return false;
		emit_rdtsc(&t->e);
		return true;
	case INSN_ID_RDTSCP:
		if (t->b->mode & MODE_TSD)
			return false;
		emit_rdtscp(t);
		return true;
	case INSN_ID_PUSHFQ:
		emit_pushf(t);
		return true;
	case INSN_ID_RDFSBASE:
	case INSN_ID_RDGSBASE:
		return emit_read_base(t, i);
	case INSN_ID_WRFSBASE:
	case INSN_ID_WRGSBASE:
		return emit_write_base(t, i);
	case INSN_ID_MOV_SEG:
		return emit_read_segment(t, i);
	case INSN_ID_SYSCALL:
		return *ends = emit_syscall(t);
	default:
		return kernel_mode(t) && emit_privileged(t, i, ends);
	}
}
