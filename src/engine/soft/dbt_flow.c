// SPDX-License-Identifier: Apache-2.0
/*
 * Stack and control flow in translated code: PUSH, POP, LEAVE, CALL, RET, JMP, Jcc and
 * JRCXZ with operands of the mode's own size, the word.  Other forms stay with the interpreter.
 *
 * A guest CALL pushes the guest's return address on the guest's stack and is a host CALL
 * on the private stack; a guest RET pops the guest's address into r14 and is a host RET.
 * Behind each host CALL stands the check that r14 is the address expected there; if not,
 * r14 is looked up like any indirect target.  So the host's return predictor works for
 * the guest's returns.  The private stack is only a hint: it may be emptied at any time
 * (its bottom is the address of ret_miss), and a guard page below it turns an overflow
 * into a signal that empties it.
 *
 * A target that is not canonical is the branch's own fault.  Of direct branches it is known;
 * an indirect CALL looks before it pushes.  An indirect JMP or a RET is found out when no
 * translation is found: nothing but RIP and, by 8, RSP has changed then, and dbt_run.c takes
 * that back (hot.branch says from where).  In 32-bit code all of them are.
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

/* Loads guest register @reg into @tmp unless it has a host register. */
static unsigned int value_of(struct tr *t, unsigned int reg, unsigned int tmp)
{
	if (host_reg(t, reg) != IN_MEMORY)
		return host_reg(t, reg);
	e_load(&t->e, tmp, IN_GPR(reg));
	return tmp;
}

/* RSP into its host register. */
void emit_settle_stack(struct tr *t)
{
	if (t->known.rsp_off)
		e_lea_word(t, H_GRSP, AT_DISP(H_GRSP, t->known.rsp_off));
	t->known.rsp_off = 0;
}

/* RSP += @by: in code for windows when it is wanted, see stack_may_wait(). */
static void emit_adjust_stack(struct tr *t, int by)
{
	t->known.rsp_off += by;
	if (!(t->b->mode & MODE_WINDOW) || !with(t->d, TRANSLATOR_OPT_STACK))
		emit_settle_stack(t);
}

static bool names_rsp(const struct insn *i)
{
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind == OPND_GPR && i->op[k].reg == REG_RSP && !i->op[k].implicit)
			return true;
	return false;
}

/*
 * Does the present instruction do with a stack pointer that is known.rsp_off behind its host
 * register?  The register may then be moved later, for several instructions at once; after an
 * exit at the instruction C code does (settle).
 */
bool stack_may_wait(struct tr *t)
{
	const struct insn *i = t->i;

	if (t->known.rsp_off < -RSP_OFF_MAX || t->known.rsp_off > RSP_OFF_MAX || loop_end(t) ||
	    names_rsp(i) || (i->mem.base == REG_RSP && !fits_s32(2 * (int64_t)i->mem.disp)))
		return false;
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_POP: case INSN_ID_CALL: case INSN_ID_RET:
		return true;
	default:
		return block_copies(t, i);
	}
}

/* Room for a word below the guest's stack pointer, without the use of r14. */
static struct host_mem emit_push_place(struct tr *t)
{
	struct host_mem m = emit_pointed(t, REG_RSP, -(int)word_of(t), true);

	if (m.index == H_TMP) {
		e_lea(&t->e, H_TMP, m);
		m = AT(H_TMP);
	}
	t->known.held[1] = NO_REG;
	return m;
}

static void emit_push_reg(struct tr *t, unsigned int reg)
{
	struct host_mem m = emit_push_place(t);

	e_store_word(t, m, value_of(t, reg, H_ADDR));
	emit_adjust_stack(t, -(int)word_of(t));
}

/* Pushes what is in hot.scratch. */
void emit_push_scratch(struct tr *t)
{
	struct host_mem m = emit_push_place(t);

	e_load(&t->e, H_ADDR, IN_HOT(scratch));
	e_store_word(t, m, H_ADDR);
	emit_adjust_stack(t, -(int)word_of(t));
}

static void emit_push_imm(struct tr *t, int32_t imm)
{
	e_store_word_imm(t, emit_push_place(t), imm);
	emit_adjust_stack(t, -(int)word_of(t));
}

static void emit_push_next(struct tr *t)
{
	struct host_mem m = emit_push_place(t);
	struct emit *e = &t->e;

	if (t->b->mode & MODE_32 || fits_s32(t->next)) {
		t->moves.fixed = true;
		e_store_word_imm(t, m, t->next);
	} else {
		e_mov_gva(e, H_ADDR, t->next);
		e_store(e, m, H_ADDR);
	}
	emit_adjust_stack(t, -(int)word_of(t));
}

/* rcx = the memory operand's value */
static void emit_load_operand(struct tr *t, const struct insn *i)
{
	e_load_word(t, H_TMP, emit_operand(t, i, word_of(t)));
	t->known.held[0] = NO_REG;
}

static bool emit_push(struct tr *t, const struct insn *i)
{
	if (i->stack_size != word_of(t))
		return false;
	switch (i->op[0].kind) {
	case OPND_GPR:
		emit_push_reg(t, i->op[0].reg);
		return true;
	case OPND_IMM:
		emit_push_imm(t, i->imm);
		return true;
	case OPND_MEM:
		emit_load_operand(t, i);
		e_store(&t->e, IN_HOT(scratch), H_TMP);
		emit_islands(t, true);
		emit_push_scratch(t);
		return true;
	default:
		return false;
	}
}

static bool emit_pop(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;
	unsigned int reg = i->op[0].reg;
	struct host_mem m;

	if (i->stack_size != word_of(t) || i->op[0].kind != OPND_GPR)
		return false;
	m = emit_pointed(t, REG_RSP, 0, false);
	if (host_reg(t, reg) == IN_MEMORY) {
		temps_lost(t);
		e_load(e, H_TMP, m);
		e_store(e, IN_GPR(reg), H_TMP);
	} else {
		e_load_word(t, host_reg(t, reg), m);
	}
	if (reg != REG_RSP)
		emit_adjust_stack(t, word_of(t));
	return true;
}

static bool emit_leave(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (i->opsize != word_of(t))
		return false;
	e_load_word(t, H_TMP, emit_pointed(t, REG_RBP, 0, false));
	e_lea_word(t, H_GRSP, AT_DISP(H_RBP, word_of(t)));
	e_mov_rr(e, H_RBP, H_TMP);
	t->known.held[0] = NO_REG;
	return true;
}

/* Not calm: the interpreter takes this instruction, and then looks what there is. */
static void emit_poll(struct tr *t)
{
	t->known.held[0] = NO_REG;
	e_load(&t->e, H_TMP, IN_VCPU(calm[user_side(t)]));
	emit_near_step(t, e_jrcxz(&t->e));
}

/* PAUSE, counted: see vcpu_pause(). */
static void emit_pause(struct tr *t)
{
	struct emit *e = &t->e;

	t->known.held[0] = NO_REG;
	e8(e, 0xf3);
	e8(e, 0x90);
	e_load(e, H_TMP, IN_VCPU(pauses));
	e_lea(e, H_TMP, AT_DISP(H_TMP, -1));
	emit_near_step(t, e_jrcxz(e));
	e_store(e, IN_VCPU(pauses), H_TMP);
}

static bool same_page(const struct tr *t, gva_t target)
{
	return target >> GUEST_PAGE_SHIFT == t->b->gva >> GUEST_PAGE_SHIFT;
}

/* From kernel to kernel: may be chained from page to page (tlb.upper_tag). */
static bool kernel_target(const struct tr *t, gva_t target)
{
	return !(t->b->mode & MODE_USER) && target >> 63 && t->b->gva >> 63;
}

/* From page to page of a program, to a function: chained as well, to where the page is checked. */
static bool far_target(const struct tr *t, gva_t target)
{
	return far_entered(t->d, t->b->mode, target) && !same_page(t, target);
}

/* To @target by the jump cache, which is right however its page is mapped the next time. */
static void *emit_probe(struct tr *t, gva_t target)
{
	void *here = emit_here(&t->e);

	e_mov_gva(&t->e, H_ADDR, target);
	emit_jump_cached(&t->e, user_side(t));
	return here;
}

/* Where the jump at @rel32 to @target goes: out, for it to be found and chained. */
static void emit_slot_exit(struct tr *t, uint8_t *rel32, gva_t target)
{
	void *probe = same_page(t, target) || far_target(t, target) ? NULL : emit_probe(t, target);
	struct slot *s = dbt_slot(t->d);
	struct emit *e = &t->e;

	*s = (struct slot){
		.from = place_of_block(t->d, t->b), .distance = target - t->b->gva,
		.patch = rel32 - t->d->rw,
		.unchained = (uint8_t *)emit_here(e) - block_cold(t->b),
		.probe = probe ? (uint8_t *)probe - block_cold(t->b) + 1 : 0,
	};
	emit_patch32(rel32, e->to_exec, emit_here(e));
	e_mov_imm(e, H_TMP, s - t->d->slots);
	e_jmp(e, t->d->exit_chain);
}

/* The host address of the block's own instruction at @target, or NULL. */
static void *own_code(const struct tr *t, gva_t target)
{
	if (in_lockstep(t->d, t->b->mode) || !with(t->d, TRANSLATOR_OPT_LOOP))
		return NULL;
	for (unsigned int k = 0; k < t->n; k++)
		if (t->b->gva + t->b->guest_off[k] == target)
			return block_entry(t->b, k);
	return NULL;
}

static void emit_taken_later(struct tr *t, uint8_t *rel32, gva_t target)
{
	t->jump[t->jump_count].own = t->b->mode & MODE_WINDOW ? window_loop_back(t, target) : NULL;
	t->jump[t->jump_count].probed = false;
	t->jump[t->jump_count].rel32 = rel32;
	t->jump[t->jump_count++].target = target;
}

/* The jumps that stay in the block or may be chained. */
void emit_taken(struct tr *t)
{
	for (unsigned int k = 0; k < t->jump_count; k++) {
		uint8_t *rel32 = t->jump[k].rel32;
		void *own = t->jump[k].own ? t->jump[k].own : own_code(t, t->jump[k].target);

		if (own)
			emit_patch32(rel32, t->e.to_exec, own);
		else if (!t->jump[k].probed)
			emit_slot_exit(t, rel32, t->jump[k].target);
	}
}

/* The others: a program's from page to page, and indirect calls. */
void emit_probes(struct tr *t)
{
	for (unsigned int k = 0; k < t->jump_count; k++) {
		gva_t target = t->jump[k].target;

		if (t->jump[k].own || same_page(t, target) || kernel_target(t, target) ||
		    far_target(t, target))
			continue;
		t->jump[k].probed = true;
		emit_patch32(t->jump[k].rel32, t->e.to_exec, emit_probe(t, target));
	}
	for (unsigned int k = 0; k < t->probe_calls; k++) {
		emit_patch32(t->probe_call[k], t->e.to_exec, emit_here(&t->e));
		emit_jump_cached(&t->e, user_side(t));
	}
}

/* The block ends before @rip, which follows in the guest. */
void emit_continue(struct tr *t, gva_t rip)
{
	window_leave(t);
	emit_taken_later(t, e_jmp(&t->e, emit_here(&t->e)), rip);
}

static gva_t target_of(const struct tr *t, const struct insn *i)
{
	return code_gva(t, t->next + i->imm);
}

/* Who jumps to @target in the block, does he come to a poll there before anything leads elsewhere? */
static bool polled_from(const struct tr *t, gva_t target)
{
	unsigned int k = 0;

	if (!with(t->d, TRANSLATOR_OPT_LOOP))
		return false;
	while (k < t->n && t->b->gva + t->b->guest_off[k] != target)
		k++;
	for (; k < t->n && !(t->polled >> k & 1); k++)
		if (t->insn[k].flags & INSN_BRANCH && !(t->counted >> k & 1))
			return false;
	return k < t->n;
}

/*
 * Loops go backwards: there the engine is asked whether it wants the processor, but not in
 * one that makes some turns only, and not in one around a loop that asks.
 */
static void emit_poll_backward(struct tr *t, const struct insn *i)
{
	if (target_of(t, i) > t->rip)
		return;
	if (window_turns_counted(t)) {
		t->counted |= BIT(t->n);
	} else if (!polled_from(t, target_of(t, i))) {
		t->polled |= BIT(t->n);
		emit_poll(t);
	}
}

static void emit_jcc(struct tr *t, const struct insn *i)
{
	window_leave(t);
	emit_poll_backward(t, i);
	emit_taken_later(t, e_jcc(&t->e, i->cond, emit_here(&t->e)), target_of(t, i));
}

/* LOOP with a counter of 64 or 32 bits */
static bool emit_loop(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;
	uint8_t *zero;

	temps_lost(t);
	if (i->mem.addr_size == 2)
		return false;
	window_leave(t);
	emit_poll_backward(t, i);
	(i->mem.addr_size == 8 ? e_lea : e_lea32)(e, H_GRCX, AT_DISP(H_GRCX, -1));
	e_mov_rr(e, H_TMP, H_GRCX);
	zero = e_jrcxz(e);
	emit_taken_later(t, e_jmp(e, emit_here(e)), target_of(t, i));
	e_bind8(e, zero);
	return true;
}

static bool emit_jrcxz_insn(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;
	uint8_t *zero, *over;

	temps_lost(t);
	window_leave(t);
	emit_poll_backward(t, i);
	if (i->mem.addr_size == 8)
		e_mov_rr(e, H_TMP, H_GRCX);
	else
		e_mov32_rr(e, H_TMP, H_GRCX);
	zero = e_jrcxz(e);
	e8(e, 0xeb);		/* jmp over the jump */
	e8(e, 0);
	over = e->p - 1;
	e_bind8(e, zero);
	emit_taken_later(t, e_jmp(e, emit_here(e)), target_of(t, i));
	e_bind8(e, over);
	return true;
}

/* Behind a host CALL: is r14 where this code goes on? */
static void emit_return_point(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *same;

	regs_lost(t);
	same = emit_if_address(e, t->next);
	e_jmp(e, t->d->indirect[user_side(t)]);
	e_bind8(e, same);
}

/* The CALL itself, its target still to be filled in; without returns a jump does. */
static uint8_t *emit_host_call(struct tr *t)
{
	return with(t->d, TRANSLATOR_OPT_RETURN) ? e_call(&t->e, emit_here(&t->e))
						 : e_jmp(&t->e, emit_here(&t->e));
}

/* To r14, through a lookup of this call's own: the host predicts it by its place. */
static void emit_indirect_call(struct tr *t)
{
	t->probe_call[t->probe_calls++] = emit_host_call(t);
}

/*
 * To the interpreter unless r14 is a canonical address in the half that this code is in:
 * there a CALL faults before it pushes.
 */
static void emit_check_target(struct tr *t)
{
	struct emit *e = &t->e;
	uint8_t *good;

	t->known.held[0] = NO_REG;
	e_pext(e, H_TMP, H_ADDR, IN_HOT(sign_mask));
	if (t->b->gva >> 63)
		e_lea(e, H_TMP, AT_DISP(H_TMP, -0x1ffff));
	good = e_jrcxz(e);
	t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
	e_bind8(e, good);
}

/* r14 = the target of an indirect CALL or JMP; false: not such a one. */
static bool emit_load_target(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;

	if (i->opsize != word_of(t))
		return false;
	if (i->op[0].kind == OPND_MEM)
		e_load_word(t, H_ADDR, emit_operand(t, i, word_of(t)));
	else if (t->b->mode & MODE_32)
		e_mov32_rr(e, H_ADDR, host_reg(t, i->op[0].reg));
	else
		e_mov_rr(e, H_ADDR, value_of(t, i->op[0].reg, H_ADDR));
	t->known.held[1] = NO_REG;
	return true;
}

/* Pushes the return address and keeps r14. */
static void emit_push_return(struct tr *t)
{
	struct emit *e = &t->e;
	struct host_mem m;

	if (!(t->b->mode & MODE_WINDOW)) {	/* where finding the place takes r14 */
		e_store(e, IN_HOT(target), H_ADDR);
		if (t->i->op[0].kind == OPND_MEM)	/* see two_lookups() */
			emit_islands(t, true);
		emit_push_next(t);
		e_load(e, H_ADDR, IN_HOT(target));
		return;
	}
	m = emit_pointed(t, REG_RSP, -8, true);
	if (fits_s32(t->next)) {
		t->moves.fixed = true;
		e_store_imm(e, m, t->next);
	} else if (m.index != H_TMP) {
		e_mov_gva(e, H_TMP, t->next);
		e_store(e, m, H_TMP);
	} else {
		e_lea(e, H_TMP, m);
		e_store(e, IN_HOT(target), H_ADDR);
		e_mov_gva(e, H_ADDR, t->next);
		e_store(e, AT(H_TMP), H_ADDR);
		e_load(e, H_ADDR, IN_HOT(target));
	}
	emit_adjust_stack(t, -8);
}

static bool emit_call(struct tr *t, const struct insn *i)
{
	if (i->op[0].kind == OPND_REL) {
		emit_poll_backward(t, i);
		emit_push_next(t);
		emit_settle_stack(t);
		emit_taken_later(t, emit_host_call(t), target_of(t, i));
	} else {
		if (!emit_load_target(t, i))
			return false;
		if (!(t->b->mode & MODE_32))
			emit_check_target(t);
		emit_push_return(t);
		emit_settle_stack(t);
		emit_indirect_call(t);
	}
	emit_return_point(t);
	return true;
}

/* The rest of a RET to r14. */
void emit_host_ret(struct tr *t)
{
	if (!(t->b->mode & MODE_32))
		e_store32_imm(&t->e, IN_HOT(branch), branch_id(t) | BRANCH_RET);
	if (with(t->d, TRANSLATOR_OPT_RETURN)) {
		e8(&t->e, 0xc3);
		return;
	}
	emit_islands(t, true);
	emit_jump_cached(&t->e, user_side(t));
}

static bool emit_ret(struct tr *t, const struct insn *i)
{
	/* hot.branch has no room for what else is popped. */
	unsigned int more = i->op_count && i->op[0].kind == OPND_IMM ? (uint16_t)i->imm : 0;

	if (i->opsize != word_of(t) || (more && !(t->b->mode & MODE_32)))
		return false;
	e_load_word(t, H_ADDR, emit_pointed(t, REG_RSP, 0, false));
	t->known.held[1] = NO_REG;
	emit_adjust_stack(t, word_of(t) + more);
	emit_settle_stack(t);
	emit_host_ret(t);
	return true;
}

static bool emit_jmp(struct tr *t, const struct insn *i)
{
	struct emit *e = &t->e;

	switch (i->op[0].kind) {
	case OPND_REL:
		window_leave(t);
		emit_poll_backward(t, i);
		emit_taken_later(t, e_jmp(e, emit_here(e)), target_of(t, i));
		return true;
	default:
		if (!emit_load_target(t, i))
			return false;
		window_leave(t);
		/* For the interpreter, if r14 turns out not to be an address. */
		if (!(t->b->mode & MODE_32))
			e_store32_imm(e, IN_HOT(branch), branch_id(t));
		emit_jump_cached(e, user_side(t));
		return true;
	}
}

bool emit_flow(struct tr *t, const struct insn *i, bool *ends)
{
	/* struct slot has 32 bits for the way from the block's beginning. */
	if (i->op_count && i->op[0].kind == OPND_REL &&
	    (i->opsize != word_of(t) || !gva_canonical(target_of(t, i)) ||
	     (!(t->b->mode & MODE_32) && !fits_s32(target_of(t, i) - t->b->gva))))
		return false;
	switch (i->info->id) {
	case INSN_ID_PUSH:
		return emit_push(t, i);
	case INSN_ID_POP:
		return emit_pop(t, i);
	case INSN_ID_LEAVE:
		return emit_leave(t, i);
	case INSN_ID_CALL:
		return emit_call(t, i);
	case INSN_ID_RET:
		return *ends = emit_ret(t, i);
	case INSN_ID_JMP:
		return *ends = emit_jmp(t, i);
	case INSN_ID_JRCXZ:
	case INSN_ID_JECXZ:
		return emit_jrcxz_insn(t, i);
	case INSN_ID_LOOP:
		return emit_loop(t, i);
	case INSN_ID_PAUSE:
		emit_pause(t);
		return true;
	case INSN_ID_JB: case INSN_ID_JBE: case INSN_ID_JL: case INSN_ID_JLE:
	case INSN_ID_JNB: case INSN_ID_JNBE: case INSN_ID_JNL: case INSN_ID_JNLE:
	case INSN_ID_JNO: case INSN_ID_JNP: case INSN_ID_JNS: case INSN_ID_JNZ:
	case INSN_ID_JO: case INSN_ID_JP: case INSN_ID_JS: case INSN_ID_JZ:
		emit_jcc(t, i);
		return true;
	default:
		return false;
	}
}
