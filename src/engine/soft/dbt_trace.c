// SPDX-License-Identifier: Apache-2.0
/*
 * Saying what became of each instruction, and why (engine/trace.h).  While a block is
 * translated only a sentence for each instruction is kept; nothing here chooses anything.
 */
#include "engine/soft/dbt_tr.h"

#include <stdlib.h>

static const char *why_group(const struct group *g)
{
	switch (g->kind) {
	case GROUP_PUSH:
		return "one of several PUSHes that share one lookup";
	case GROUP_POP:
		return "one of several POPs (and a RET) that share one lookup";
	default:
		return "in a group whose operands share one lookup";
	}
}

static bool in_memory(const struct tr *t, const struct insn *i)
{
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind == OPND_GPR && host_reg(t, i->op[k].reg) == IN_MEMORY)
			return true;
	return false;
}

static bool moved(const struct tr *t, const struct insn *i)
{
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind == OPND_GPR && host_reg(t, i->op[k].reg) != i->op[k].reg)
			return true;
	return false;
}

static const char *why_copied(const struct tr *t, const struct insn *i)
{
	if (i->info->id == INSN_ID_LEA)
		return "address computed with the registers' host places";
	if (i->mem.is_address)
		return "left out: it has no effect here";
	if (i->flags & INSN_HAS_MEM)
		return t->b->mode & MODE_WINDOW ? "copied, its operand through a window" :
		       "copied, its operand's page looked up";
	if (in_memory(t, i))
		return "copied, a register loaded from and stored to the vCPU";
	return moved(t, i) ? "copied with registers renamed" : "copied as it is";
}

static const char *why_flow(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_POP: case INSN_ID_LEAVE:
		return "done in line, the stack's page looked up";
	case INSN_ID_CALL:
		return i->op[0].kind == OPND_REL ? "guest's return address pushed, host call, chained when it ran"
						 : "guest's return address pushed, host call of a lookup";
	case INSN_ID_RET:
		return "guest's return address popped, host return checked behind its call";
	default:
		if (i->op_count && i->op[0].kind == OPND_REL)
			return "a host jump, chained when it ran";
		return i->flags & INSN_BRANCH ? "the target looked up in the jump cache" : NULL;
	}
}

static const char *why_step(const struct tr *t, const struct insn *i)
{
	if (i->info->how == HOW_UD || !t->d->cfg.allowed(t->d->cfg.arg, t->v, i))
		return "step: this processor model does not have it";
	if (i->info->insn_class != CLASS_INNOCUOUS)
		return "step: it concerns the system, the interpreter has its meaning";
	if (i->flags & INSN_BRANCH)
		return "step: this form of transfer is the interpreter's";
	if (!code32_reaches(t, i))
		return "step: the operand's segment or address size is the interpreter's";
	if (!code32_copies(t, i))
		return "step: in 64-bit mode these bytes are something else";
	return "step: this form is left to the interpreter";
}

void trace_insn(struct tr *t)
{
	const struct insn *i = t->i;
	const char *why;

	if (!t->d->cfg.trace || t->cold)
		return;
	if (t->in_group)
		why = why_group(t->in_group);
	else if (t->always_step & BIT(t->n))
		why = why_step(t, i);
	else if (i->info->insn_class != CLASS_INNOCUOUS && i->flags & INSN_BRANCH)
		why = "straight to the other side's translations, if nothing is unusual";
	else if (i->info->insn_class != CLASS_INNOCUOUS)
		why = "sensitive, frequent, and simple enough: done in line";
	else if (!(why = why_flow(i)))
		why = why_copied(t, i);
	t->why[t->n] = why;
}

static const char *class_name(const struct insn *i)
{
	if (i->info->insn_class & CLASS_PRIVILEGED)
		return "privileged";
	return i->info->insn_class ? "sensitive" : "innocuous";
}

static bool has_insn_at(struct tblock *b, gva_t at)
{
	for (unsigned int n = 0; n < b->count; n++)
		if (b->gva + b->guest_off[n] == at)
			return true;
	return false;
}

void trace_block(const struct tr *t)
{
	const struct engine_trace *trace = t->d->cfg.trace;
	struct tblock *b = t->b;
	struct trace_insn *insn;

	if (!trace || !has_insn_at(b, trace->at))
		return;
	insn = calloc(b->count, sizeof(*insn));
	if (!insn)
		return;
	for (unsigned int n = 0; n < b->count; n++) {
		insn[n] = (struct trace_insn){
			.gva = b->gva + b->guest_off[n], .len = t->insn[n].len,
			.code32 = b->mode & MODE_32, .insn_class = class_name(&t->insn[n]), .why = t->why[n],
			.code = b->code + host_off(b)[n],
			.code_len = host_off(b)[n + 1] - host_off(b)[n],
		};
		for (unsigned int k = 0; k < insn[n].len; k++)
			insn[n].bytes[k] = t->insn[n].bytes[k];
	}
	trace->block(trace->arg, &(struct trace_block){
		.gva = b->gva, .gpa = b->gpa, .user = b->mode & MODE_USER, .count = b->count,
		.insn = insn, .rest = b->code + host_off(b)[b->count],
		.rest_len = b->code_len - host_off(b)[b->count],
		.cold = block_cold(b), .cold_len = b->cold_len,
	});
	free(insn);
}
