// SPDX-License-Identifier: Apache-2.0
/*
 * Hardware task switches, by JMP, CALL, IRET and task gates, between 16- and 32-bit TSSs.
 *
 * What can fail before the old task's state is saved is checked first and is the old
 * task's fault.  What is found wrong in the new task's selectors is the new task's fault,
 * with its registers loaded, as the manual's table of task-switch checks has it.
 *
 * Source: Intel SDM volume 3, "Task Management".
 */
#include "cpu/system_priv.h"

#define FLAGS_DEFINED	0x3f7fd7ULL
#define DR7_LOCAL	0x155ULL	/* L0-L3 and LE end with the task */

#define TSS32_SIZE	104
#define TSS16_SIZE	44
#define TSS32_CR3	28
#define TSS32_STATE	32		/* EIP, EFLAGS, 8 registers, 6 selectors: dwords */
#define TSS16_STATE	14		/* IP, FLAGS, 8 registers, 4 selectors: words */
#define TSS32_LDT	96
#define TSS32_T		100
#define TSS16_LDT	42
#define STATE32_WORDS	16
#define STATE16_WORDS	14

/* A task's registers as its TSS has them, widened. */
struct task_state {
	uint32_t cr3;
	uint32_t eip, eflags;
	uint32_t gpr[8];
	uint16_t seg[6];	/* ES CS SS DS FS GS */
	uint16_t ldt;
	bool trap;		/* the T bit */
};

static bool is_tss32(const struct segment *tss)
{
	return desc_type(tss) & 8;
}

static uint16_t get16(const uint8_t *p)
{
	return p[0] | p[1] << 8;
}

static uint32_t get32(const uint8_t *p)
{
	return get16(p) | (uint32_t)get16(p + 2) << 16;
}

static void put(uint8_t *p, uint32_t value, unsigned int size)
{
	for (unsigned int i = 0; i < size; i++)
		p[i] = value >> i * 8;
}

/* The new task's TSS descriptor. */
static enum exec_status check_tss(struct vcpu *v, uint16_t sel, enum task_reason why,
				  struct descriptor *d)
{
	unsigned int vector = why == TASK_IRET ? EXC_TS : EXC_GP;
	unsigned int types = BIT(DESC_TSS16) | BIT(DESC_TSS32);
	enum exec_status rc;

	if (why == TASK_IRET)
		types = BIT(DESC_TSS16_BUSY) | BIT(DESC_TSS32_BUSY);
	if (sel & SEL_TI)
		return raise_err(v, vector, sel_error(sel));
	rc = desc_read(v, sel, vector, d);
	if (rc != EXEC_OK)
		return rc;
	if (!(types & BIT(desc_type(&d->seg))))
		return raise_err(v, vector, sel_error(sel));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	if (d->seg.limit < (is_tss32(&d->seg) ? TSS32_SIZE : TSS16_SIZE) - 1)
		return raise_err(v, EXC_TS, sel_error(sel));
	return EXEC_OK;
}

static enum exec_status read_state(struct vcpu *v, const struct segment *tss,
				   struct task_state *t)
{
	bool wide = is_tss32(tss);
	unsigned int size = wide ? 4 : 2;
	uint8_t raw[TSS32_SIZE];
	const uint8_t *p = raw + (wide ? TSS32_STATE : TSS16_STATE);
	enum mem_result r;

	r = mem_read(v, (uint32_t)tss->base, raw, wide ? TSS32_SIZE : TSS16_SIZE,
		     ACC_READ | ACC_SUPER);
	if (r != MEM_OK)
		return mem_status(r);
	t->eip = wide ? get32(p) : get16(p);
	t->eflags = wide ? get32(p + 4) : get16(p + 2);
	p += 2 * size;
	for (unsigned int i = 0; i < 8; i++, p += size)
		t->gpr[i] = wide ? get32(p) : get16(p);
	for (unsigned int i = 0; i < 6; i++, p += size)
		t->seg[i] = wide || i < 4 ? get16(p) : 0;
	t->ldt = get16(raw + (wide ? TSS32_LDT : TSS16_LDT));
	t->cr3 = wide ? get32(raw + TSS32_CR3) : v->cr3;
	t->trap = wide && raw[TSS32_T] & 1;
	return EXEC_OK;
}

/* The linear address and the size of the part of the present TSS that a switch writes. */
static gva_t saved_part(const struct vcpu *v, unsigned int *size)
{
	bool wide = is_tss32(&v->tr);

	*size = wide ? STATE32_WORDS * 4 : STATE16_WORDS * 2;
	return (uint32_t)(v->tr.base + (wide ? TSS32_STATE : TSS16_STATE));
}

static enum exec_status save_state(struct vcpu *v, gva_t next, uint64_t rflags)
{
	unsigned int word = is_tss32(&v->tr) ? 4 : 2, size;
	gva_t at = saved_part(v, &size);
	uint8_t raw[STATE32_WORDS * 4], *p = raw;

	put(p, next, word);
	put(p += word, rflags, word);
	for (unsigned int i = 0; i < 8; i++)
		put(p += word, v->gpr[i], word);
	for (unsigned int i = 0; i < (word == 4 ? 6 : 4); i++)
		put(p += word, v->seg[i].sel, word);
	return mem_status(mem_write(v, at, raw, size, ACC_WRITE | ACC_SUPER));
}

static enum exec_status probe(struct vcpu *v, gva_t at, unsigned int size)
{
	return mem_status(mem_probe_write(v, (uint32_t)at, size, ACC_WRITE | ACC_SUPER));
}

/* Everything that the switch is going to write can be written. */
static enum exec_status probe_writes(struct vcpu *v, const struct descriptor *old,
				     const struct descriptor *new)
{
	unsigned int size;
	gva_t at = saved_part(v, &size);
	enum exec_status rc;

	rc = probe(v, at, size);
	if (rc == EXEC_OK)
		rc = probe(v, new->seg.base, 2);
	if (rc == EXEC_OK)
		rc = probe(v, new->at, 8);
	if (rc == EXEC_OK)
		rc = probe(v, old->at, 8);
	return rc;
}

/* Writes the old TSS, the back link and the busy bits. */
static enum exec_status leave_old(struct vcpu *v, struct descriptor *old,
				  struct descriptor *new, enum task_reason why, gva_t next)
{
	bool nests = why == TASK_CALL || why == TASK_GATE;
	uint64_t rflags = v->rflags;
	uint16_t link = v->tr.sel;
	enum exec_status rc = EXEC_OK;

	if (why == TASK_IRET)
		rflags &= ~RFLAGS_NT;
	if (!nests)
		rc = desc_clear_type(v, old, DESC_BUSY);
	if (rc == EXEC_OK)
		rc = save_state(v, next, rflags);
	if (rc == EXEC_OK && nests)
		rc = mem_status(mem_write(v, (uint32_t)new->seg.base, &link, 2,
					  ACC_WRITE | ACC_SUPER));
	if (rc == EXEC_OK && why != TASK_IRET)
		rc = desc_set_type(v, new, DESC_BUSY);
	return rc;
}

/* Registers of the new task; its segments hold selectors only as yet. */
static void load_registers(struct vcpu *v, const struct segment *tss,
			   const struct task_state *t, bool nests)
{
	unsigned int cpl = t->eflags & RFLAGS_VM ? 3 : t->seg[SEG_CS] & SEL_RPL;

	v->tr = *tss;
	v->cr0 |= CR0_TS;
	v->dr[7] &= ~DR7_LOCAL;
	if (v->cr0 & CR0_PG && t->cr3 != v->cr3)
		cr3_commit(v, t->cr3, false);
	v->rip = t->eip;
	v->rflags = (t->eflags & FLAGS_DEFINED) | RFLAGS_FIXED | (nests ? RFLAGS_NT : 0);
	for (unsigned int i = 0; i < 8; i++)
		v->gpr[i] = t->gpr[i];
	for (unsigned int i = 0; i < 6; i++)
		v->seg[i] = seg_null(t->seg[i], cpl);
	v->ldtr = seg_null(t->ldt, 0);
	atomic_fetch_and_explicit(&v->attention, ~(uint32_t)ATTN_SHADOW, memory_order_relaxed);
	vcpu_update_mode(v);
}

static enum exec_status load_ldt(struct vcpu *v, uint16_t sel)
{
	struct descriptor d;
	enum exec_status rc;

	if (sel_null(sel))
		return EXEC_OK;
	if (sel & SEL_TI)
		return raise_err(v, EXC_TS, sel_error(sel));
	rc = desc_read(v, sel, EXC_TS, &d);
	if (rc != EXEC_OK)
		return rc;
	if (desc_type(&d.seg) != DESC_LDT || !(d.seg.attr & SEG_P))
		return raise_err(v, EXC_TS, sel_error(sel));
	v->ldtr = d.seg;
	return EXEC_OK;
}

static enum exec_status load_code(struct vcpu *v, uint16_t sel)
{
	unsigned int rpl = sel & SEL_RPL, dpl;
	struct descriptor d;
	enum exec_status rc;

	if (sel_null(sel))
		return raise_err(v, EXC_TS, 0);
	rc = desc_read(v, sel, EXC_TS, &d);
	if (rc != EXEC_OK)
		return rc;
	dpl = SEG_DPL(d.seg.attr);
	if (!seg_is_code(&d.seg) || (seg_is_conforming(&d.seg) ? dpl > rpl : dpl != rpl))
		return raise_err(v, EXC_TS, sel_error(sel));
	if (!(d.seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	rc = desc_set_accessed(v, &d);
	if (rc == EXEC_OK)
		v->seg[SEG_CS] = d.seg;
	return rc;
}

static enum exec_status load_segments(struct vcpu *v, const struct task_state *t)
{
	static const uint8_t data[] = { SEG_DS, SEG_ES, SEG_FS, SEG_GS };
	struct descriptor d;
	enum exec_status rc;

	rc = load_ldt(v, t->ldt);
	if (rc != EXEC_OK)
		return rc;
	if (in_vm86(v)) {
		for (unsigned int i = 0; i < 6; i++)
			seg_load_real(v, i, t->seg[i]);
		return EXEC_OK;
	}
	rc = load_code(v, t->seg[SEG_CS]);
	if (rc == EXEC_OK)
		rc = stack_segment_check(v, t->seg[SEG_SS], v->cpl, EXC_TS, &d);
	if (rc != EXEC_OK)
		return rc;
	v->seg[SEG_SS] = d.seg;
	for (unsigned int i = 0; i < ARRAY_SIZE(data); i++) {
		uint16_t sel = t->seg[data[i]];

		if (sel_null(sel))
			continue;
		rc = data_segment_check(v, sel, EXC_TS, &d);
		if (rc != EXEC_OK)
			return rc;
		v->seg[data[i]] = d.seg;
	}
	return EXEC_OK;
}

/* The error code of the exception that came through a task gate. */
static enum exec_status push_error(struct vcpu *v, uint32_t error)
{
	struct stack st = stack_current(v);
	uint64_t word = error;
	enum exec_status rc;

	rc = stack_push(v, &st, &word, 1, is_tss32(&v->tr) ? 4 : 2);
	if (rc == EXEC_OK)
		stack_commit(v, &st);
	return rc;
}

static enum exec_status enter_new(struct vcpu *v, const struct task_state *t, bool has_error,
				  uint32_t error)
{
	enum exec_status rc = load_segments(v, t);

	vcpu_update_mode(v);
	if (t->trap)
		v->db_pending |= DR6_BT;
	if (rc == EXEC_OK && has_error)
		rc = push_error(v, error);
	if (rc == EXEC_OK)
		rc = code_check_target(v, &v->seg[SEG_CS], v->rip);
	vcpu_recheck_interrupts(v);
	return rc;
}

enum exec_status task_switch(struct vcpu *v, uint16_t sel, enum task_reason why, gva_t next,
			     bool has_error, uint32_t error)
{
	bool nests = why == TASK_CALL || why == TASK_GATE;
	struct descriptor old, new;
	struct task_state t;
	enum exec_status rc;

	rc = check_tss(v, sel, why, &new);
	if (rc == EXEC_OK)
		rc = desc_read(v, v->tr.sel, EXC_TS, &old);
	if (rc == EXEC_OK)
		rc = read_state(v, &new.seg, &t);
	if (rc == EXEC_OK)
		rc = probe_writes(v, &old, &new);
	if (rc == EXEC_OK)
		rc = leave_old(v, &old, &new, why, next);
	if (rc != EXEC_OK)
		return rc;
	load_registers(v, &new.seg, &t, nests);
	return enter_new(v, &t, has_error, error);
}
