// SPDX-License-Identifier: Apache-2.0
/*
 * Faults, software interrupts and interrupts without leaving the code cache: where translated code
 * leaves at an instruction, or because somebody wants attention, fixed code saves the registers
 * and calls dbt_event().  That has the interpreter execute the instruction, or takes the
 * interrupt; what an event does to the processor is in cpu/deliver.c, for this as for all.  Then
 * fixed code goes on, behind the instruction or at the handler, which it finds as any jump does
 * (go).  Only if there is something else to be seen to, code to be found or made, does it
 * return to the loop in dbt_run.c.
 *
 * A handler most often returns to where its fault was, in the middle of a block.  So that is
 * remembered for the user's last fault (hot.again), and IRETQ looks there first.  It is forgotten
 * when the block goes, or moves, or the user's side has something else.
 *
 * With lockstep, which compares after each time that code left, there is none of this.
 */
#include "cpu/except.h"
#include "cpu/fpu.h"
#include "engine/soft/dbt_tr.h"

#define NOWHERE	BIT(62)		/* plus a lower address, with calm or without, this is never 0 */

bool in_place(const struct dbt *d)
{
	return with(d, TRANSLATOR_OPT_EVENT) && !d->lockstep;
}

/* --- where the user's code goes on after its fault --- */

static uint64_t again_key(const struct dbt_hot *hot, gva_t rip)
{
	return -(rip + hot->side[1].calm);
}

void again_forget(struct dbt_hot *hot)
{
	hot->again = NOWHERE;
	hot->again_block = NULL;
}

void again_note(struct dbt *d, struct vcpu *v, struct tblock *b, unsigned int n)
{
	struct dbt_hot *hot = dbt_hot(v);
	void *code = b->dead ? NULL : block_entry(b, n);

	again_forget(hot);
	if (!code || !in_place(d) || (hot->side[1].tag & (BIT(MODE_BITS) - 1)) != b->mode)
		return;
	hot->again = again_key(hot, b->gva + b->guest_off[n]);
	hot->again_code = (uint64_t)code;
	hot->again_block = b;
}

/* In the present state, whose side was seen to; NULL: not there. */
static void *again_code(struct vcpu *v)
{
	const struct dbt_hot *hot = dbt_hot(v);

	return v->cpl && hot->again == again_key(hot, v->rip) ? (void *)hot->again_code : NULL;
}

/*
 * To the user's guest address r14, which is at @rip: where its fault was, or by the jump cache,
 * also when somebody wants attention.
 */
void emit_jump_again(struct emit *e, struct host_mem rip)
{
	uint8_t *same;

	e_load(e, H_TMP, IN_VCPU(calm[1]));
	e_lea(e, H_ADDR, AT_INDEX(H_ADDR, H_TMP));
	e_load(e, H_TMP, IN_HOT(again));
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	same = e_jrcxz(e);
	e_load(e, H_ADDR, rip);
	emit_jump_cached(e, true);
	e_bind8(e, same);
	e_op_mem(e, 0, 0xff, 4, IN_HOT(again_code));	/* jmp */
}

/* --- going on --- */

void *dbt_go(struct dbt *d, struct vcpu *v)
{
	void *again;

	dbt_refresh(d, v);
	again = again_code(v);
	if (again)
		return again;
	dbt_hot(v)->target = v->rip;
	return d->go[v->cpl != 0];
}

/* An interrupt, if that is all that somebody wants; where its handler is, or NULL. */
static void *take_interrupt(struct dbt *d, struct vcpu *v, enum exec_status *st)
{
	dbt_sample(d, v);
	*st = d->cfg.interrupt(d->cfg.arg, v);
	if (*st != EXEC_OK || !dbt_runnable(d, v) || (d->windows && windows_demand(d, v)))
		return NULL;
	return dbt_calm_down(v) ? dbt_go(d, v) : NULL;
}

void *dbt_event(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);
	enum exec_status st;
	void *code;

	if (hot->reason == REASON_CHAIN || hot->reason == REASON_INDIRECT)
		return (void *)hot->resume;
	present_side(v)->stack_sp = hot->private_sp;
	dbt_came_out(d, v);
	st = dbt_handle(d, v, &code);
	if (st == EXEC_OK && !code && v->attention)
		code = take_interrupt(d, v, &st);
	flags_in(v, hot);
	if (st == EXEC_OK && code && !dbt_elsewhere(d, v) && windows_fit(v) && dbt_calm_down(v)) {
		d->stats.events++;
		fpu_get(v);
		return dbt_prepare(d, v, code);
	}
	hot->private_sp = present_side(v)->stack_sp;
	hot->reason = REASON_SEEN_TO;
	hot->status = st;
	return (void *)hot->resume;
}

/* --- fixed code --- */

/* On the host's stack, with the registers saved: dbt_event() says where to go. */
void emit_call_event(struct dbt *d, struct emit *e)
{
	e_mov_imm(e, H_RDI, (uint64_t)d);
	e_mov_imm(e, H_RSI, (uint64_t)d->vcpu);
	e_mov_imm(e, H_RAX, (uint64_t)dbt_event);
	e_op_reg(e, 1, 0x83, 4, H_RSP);		/* and rsp, -16 */
	e8(e, -16 & 0xff);
	e_op_reg(e, 0, 0xff, 2, H_RAX);		/* call */
	e_load(e, H_RSP, IN_HOT(host_sp));
	e_op_reg(e, 0, 0xff, 4, H_RAX);		/* jmp */
}

/* To hot.target, by the jump cache. */
void emit_go(struct dbt *d, struct emit *e)
{
	for (unsigned int user = 0; user < 2; user++) {
		d->go[user] = emit_here(e);
		e_load(e, H_ADDR, IN_HOT(target));
		emit_jump_cached(e, user);
	}
}
