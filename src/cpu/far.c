// SPDX-License-Identifier: Apache-2.0
/*
 * Far jumps and calls, direct and through call gates, and far returns.
 *
 * Source: Intel SDM volume 2, "JMP", "CALL", "RET"; volume 3, "Privilege Checking When
 * Transferring Program Control Between Code Segments".
 */
#include "cpu/system_priv.h"

enum exec_status code_check_target(struct vcpu *v, const struct segment *cs, uint64_t off)
{
	if (in_long_mode(v) && cs->attr & SEG_L) {
		if (!gva_canonical(off))
			return raise_gp(v, 0);
	} else if (off > cs->limit) {
		return raise_gp(v, 0);
	}
	return EXEC_OK;
}

void code_commit(struct vcpu *v, const struct segment *cs, unsigned int cpl, uint64_t rip)
{
	v->seg[SEG_CS] = *cs;
	v->seg[SEG_CS].sel = sel_error(cs->sel) | cpl;
	v->rip = rip;
	vcpu_update_mode(v);
}

void segs_drop_inner(struct vcpu *v)
{
	static const uint8_t segs[] = { SEG_ES, SEG_DS, SEG_FS, SEG_GS };

	for (unsigned int i = 0; i < ARRAY_SIZE(segs); i++) {
		struct segment *s = &v->seg[segs[i]];

		/* Any null selector becomes 0, also 1 to 3. */
		if (s->attr & SEG_UNUSABLE)
			s->sel = 0;
		if (s->attr & SEG_UNUSABLE || seg_is_conforming(s))
			continue;
		if (SEG_DPL(s->attr) < v->cpl)
			*s = seg_null(0, 0);
	}
}

/* A reserved combination in long mode; ignored outside it. */
static bool bad_long_code(const struct vcpu *v, const struct segment *cs)
{
	return in_long_mode(v) && (cs->attr & (SEG_L | SEG_DB)) == (SEG_L | SEG_DB);
}

static uint64_t truncate_offset(uint64_t off, unsigned int opsize)
{
	if (opsize == 8)
		return off;
	return opsize == 4 ? (uint32_t)off : (uint16_t)off;
}

/* Direct jump or call to the code segment @d: privilege stays. */
static enum exec_status check_direct(struct vcpu *v, uint16_t sel, uint64_t off,
				     struct descriptor *d)
{
	unsigned int dpl = SEG_DPL(d->seg.attr);
	enum exec_status rc;

	if (seg_is_conforming(&d->seg) ? dpl > v->cpl : (sel & SEL_RPL) > v->cpl || dpl != v->cpl)
		return raise_gp(v, sel_error(sel));
	if (bad_long_code(v, &d->seg))
		return raise_gp(v, sel_error(sel));
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	rc = code_check_target(v, &d->seg, off);
	if (rc == EXEC_OK)
		rc = desc_set_accessed(v, d);
	return rc;
}

/*
 * The gate or TSS @d, named by @sel in a far jump or call, and its privilege; *type is
 * what it is.
 */
static enum exec_status check_system(struct vcpu *v, uint16_t sel, struct descriptor *d,
				     unsigned int *type)
{
	unsigned int legacy = BIT(DESC_CALL16) | BIT(DESC_TASK_GATE) | BIT(DESC_TSS16) |
			      BIT(DESC_TSS32);
	unsigned int known = BIT(DESC_CALL32) | (in_long_mode(v) ? 0 : legacy);
	unsigned int dpl = SEG_DPL(d->seg.attr);
	enum exec_status rc;

	*type = desc_type(&d->seg);
	if (!(known & BIT(*type)) || dpl < v->cpl || dpl < (sel & SEL_RPL))
		return raise_gp(v, sel_error(sel));
	rc = desc_read_high(v, sel, EXC_GP, d);
	if (rc != EXEC_OK)
		return rc;
	if (!(d->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(sel));
	return EXEC_OK;
}

/* The code segment behind a call gate.  A call may go to an inner level, a jump may not. */
static enum exec_status check_gate_code(struct vcpu *v, const struct gate *g, bool call,
					struct descriptor *cs)
{
	enum exec_status rc;
	unsigned int dpl;
	bool inner_ok;

	if (sel_null(g->sel))
		return raise_gp(v, 0);
	rc = desc_read(v, g->sel, EXC_GP, cs);
	if (rc != EXEC_OK)
		return rc;
	dpl = SEG_DPL(cs->seg.attr);
	inner_ok = call || seg_is_conforming(&cs->seg);
	if (!seg_is_code(&cs->seg) || dpl > v->cpl || (dpl < v->cpl && !inner_ok))
		return raise_gp(v, sel_error(g->sel));
	if (in_long_mode(v) && (cs->seg.attr & (SEG_L | SEG_DB)) != SEG_L)
		return raise_gp(v, sel_error(g->sel));
	if (!(cs->seg.attr & SEG_P))
		return raise_err(v, EXC_NP, sel_error(g->sel));
	rc = code_check_target(v, &cs->seg, g->off);
	if (rc == EXEC_OK)
		rc = desc_set_accessed(v, cs);
	return rc;
}

static enum exec_status far_real(struct vcpu *v, uint16_t sel, uint64_t off)
{
	if (off > v->seg[SEG_CS].limit)
		return raise_gp(v, 0);
	seg_load_real(v, SEG_CS, sel);
	v->rip = off;
	vcpu_update_mode(v);
	return EXEC_OK;
}

/* Outside long mode a far transfer to a TSS or task gate switches tasks. */
static bool is_task(unsigned int type)
{
	return type == DESC_TSS16 || type == DESC_TSS32 || type == DESC_TASK_GATE;
}

static enum exec_status to_task(struct vcpu *v, uint16_t sel, const struct descriptor *d,
				enum task_reason why, gva_t next)
{
	if (desc_type(&d->seg) == DESC_TASK_GATE)
		sel = desc_gate(d).sel;
	return task_switch(v, sel, why, next, false, 0);
}

static struct gate call_gate(const struct descriptor *d)
{
	struct gate g = desc_gate(d);

	if (desc_type(&d->seg) == DESC_CALL16)
		g.off &= 0xffff;
	return g;
}

static enum exec_status jump_system(struct vcpu *v, uint16_t sel, struct descriptor *d,
				    gva_t next)
{
	struct descriptor cs;
	enum exec_status rc;
	unsigned int type;
	struct gate g;

	rc = check_system(v, sel, d, &type);
	if (rc != EXEC_OK)
		return rc;
	if (is_task(type))
		return to_task(v, sel, d, TASK_JUMP, next);
	g = call_gate(d);
	rc = check_gate_code(v, &g, false, &cs);
	if (rc == EXEC_OK)
		code_commit(v, &cs.seg, v->cpl, g.off);
	return rc;
}

enum exec_status far_jump(struct vcpu *v, uint16_t sel, uint64_t off, unsigned int opsize,
			  gva_t next)
{
	struct descriptor d;
	enum exec_status rc;

	off = truncate_offset(off, opsize);
	if (in_real_or_vm86(v))
		return far_real(v, sel, off);
	if (sel_null(sel))
		return raise_gp(v, 0);
	rc = desc_read(v, sel, EXC_GP, &d);
	if (rc != EXEC_OK)
		return rc;
	if (!seg_is_code(&d.seg))
		return d.seg.attr & SEG_S ? raise_gp(v, sel_error(sel)) :
					    jump_system(v, sel, &d, next);
	rc = check_direct(v, sel, off, &d);
	if (rc == EXEC_OK)
		code_commit(v, &d.seg, v->cpl, off);
	return rc;
}

/* A call through a gate to the same level. */
static enum exec_status call_same(struct vcpu *v, const struct gate *g,
				  const struct descriptor *cs, unsigned int size, gva_t next)
{
	uint64_t words[2] = { v->seg[SEG_CS].sel, next };
	struct stack st = stack_current(v);
	enum exec_status rc;

	rc = stack_push(v, &st, words, 2, size);
	if (rc != EXEC_OK)
		return rc;
	stack_commit(v, &st);
	code_commit(v, &cs->seg, v->cpl, g->off);
	return EXEC_OK;
}

/* A call through a gate to an inner level: its stack gets the old one and the parameters. */
static enum exec_status call_inner(struct vcpu *v, const struct gate *g,
				   const struct descriptor *cs, unsigned int size, gva_t next)
{
	unsigned int cpl = SEG_DPL(cs->seg.attr), count = in_long_mode(v) ? 0 : g->params, n = 0;
	struct stack old = stack_current(v), st;
	uint64_t params[31], words[35];
	enum exec_status rc;

	rc = in_long_mode(v) ? stack_inner64(v, cpl, 0, &st) : stack_inner(v, cpl, &st);
	if (rc == EXEC_OK)
		rc = stack_peek(v, &old, 0, params, count, size);
	if (rc != EXEC_OK)
		return rc;
	words[n++] = v->seg[SEG_SS].sel;
	words[n++] = v->gpr[REG_RSP];
	while (count)
		words[n++] = params[--count];
	words[n++] = v->seg[SEG_CS].sel;
	words[n++] = next;
	rc = stack_push(v, &st, words, n, size);
	if (rc != EXEC_OK)
		return rc;
	stack_load(v, &st);
	code_commit(v, &cs->seg, cpl, g->off);
	return EXEC_OK;
}

static enum exec_status call_system(struct vcpu *v, uint16_t sel, struct descriptor *d,
				    gva_t next)
{
	struct descriptor cs;
	enum exec_status rc;
	unsigned int type, size;
	struct gate g;

	rc = check_system(v, sel, d, &type);
	if (rc != EXEC_OK)
		return rc;
	if (is_task(type))
		return to_task(v, sel, d, TASK_CALL, next);
	g = call_gate(d);
	rc = check_gate_code(v, &g, true, &cs);
	if (rc != EXEC_OK)
		return rc;
	size = in_long_mode(v) ? 8 : type == DESC_CALL32 ? 4 : 2;
	if (!seg_is_conforming(&cs.seg) && SEG_DPL(cs.seg.attr) < v->cpl)
		return call_inner(v, &g, &cs, size, next);
	return call_same(v, &g, &cs, size, next);
}

static enum exec_status push_return(struct vcpu *v, struct stack *st, unsigned int opsize,
				    gva_t next)
{
	uint64_t words[2] = { v->seg[SEG_CS].sel, next };

	*st = stack_current(v);
	return stack_push(v, st, words, 2, opsize);
}

enum exec_status far_call(struct vcpu *v, uint16_t sel, uint64_t off, unsigned int opsize,
			  gva_t next)
{
	bool flat = in_real_or_vm86(v);
	struct descriptor d;
	enum exec_status rc;
	struct stack st;

	off = truncate_offset(off, opsize);
	if (flat && off > v->seg[SEG_CS].limit)
		return raise_gp(v, 0);
	if (!flat) {
		if (sel_null(sel))
			return raise_gp(v, 0);
		rc = desc_read(v, sel, EXC_GP, &d);
		if (rc != EXEC_OK)
			return rc;
		if (!(d.seg.attr & SEG_S))
			return call_system(v, sel, &d, next);
		if (!seg_is_code(&d.seg))
			return raise_gp(v, sel_error(sel));
		rc = check_direct(v, sel, off, &d);
		if (rc != EXEC_OK)
			return rc;
	}
	rc = push_return(v, &st, opsize, next);
	if (rc != EXEC_OK)
		return rc;
	stack_commit(v, &st);
	if (flat)
		return far_real(v, sel, off);
	code_commit(v, &d.seg, v->cpl, off);
	return EXEC_OK;
}
