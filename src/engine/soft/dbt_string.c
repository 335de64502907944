// SPDX-License-Identifier: Apache-2.0
/*
 * String instructions in translated code: MOVS and STOS, alone or repeated, and CLD.
 *
 * Repeated ones are done in line when all they read is in one page and all they write in one:
 * then the host's own instruction does it at once, on host addresses, and RSI, RDI and RCX
 * are what they come to.  Before that a byte is loaded of both places, since the tables do not
 * tell an address that is not canonical: from there on nothing faults.  The rest is
 * the interpreter's: DF set, longer runs, pages that the tables do not have, segments with a
 * base, other address sizes.
 *
 * In code for windows runs may be longer.  There the host's instruction may fault on the way;
 * string_settle() then makes the guest's registers what they have come to.
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

/* Bytes of an element, 0: none of these instructions. */
static unsigned int element(const struct insn *i, bool *moves)
{
	*moves = true;
	switch (i->info->id) {
	case INSN_ID_MOVSB: return 1;
	case INSN_ID_MOVSW: return 2;
	case INSN_ID_MOVSD: return 4;
	case INSN_ID_MOVSQ: return 8;
	default: *moves = false;
	}
	switch (i->info->id) {
	case INSN_ID_STOSB: return 1;
	case INSN_ID_STOSW: return 2;
	case INSN_ID_STOSD: return 4;
	case INSN_ID_STOSQ: return 8;
	default: return 0;
	}
}

bool string_is_long(const struct insn *i)
{
	bool moves;

	return element(i, &moves);
}

static void exit_to_step(struct tr *t)
{
	struct emit *e = &t->e;

	t->step[t->step_count++] = (struct far_exit){ .rel32 = e_jmp(e, emit_here(e)), .n = t->n };
}

/* To the interpreter unless rcx is 0. */
static void emit_step_unless_zero(struct tr *t)
{
	uint8_t *zero = e_jrcxz(&t->e);

	exit_to_step(t);
	e_bind8(&t->e, zero);
}

static void emit_check_direction(struct tr *t)
{
	e_load(&t->e, H_TMP, IN_VCPU(rflags));
	e_pext(&t->e, H_TMP, H_TMP, IN_HOT(df_mask));
	emit_step_unless_zero(t);
}

static void emit_advance(struct tr *t, unsigned int host, unsigned int by)
{
	e_lea_word(t, host, AT_DISP(host, by));
}

/* mov of @size bytes from or to a register, of one byte not RSP to RDI */
static void emit_element(struct emit *e, unsigned int size, bool store, unsigned int reg,
			 struct host_mem m)
{
	if (size == 2)
		e8(e, 0x66);
	e_op_mem(e, size == 8, (store ? 0x88 : 0x8a) | (size > 1), reg, m);
}

static bool in_windows(const struct tr *t)
{
	return t->b->mode & MODE_WINDOW;
}

/* Where @size bytes at guest register @reg are. */
static struct host_mem emit_place(struct tr *t, unsigned int reg, unsigned int size, bool write)
{
	return in_windows(t) ? emit_pointed(t, reg, 0, write) : emit_bytes_at(t, reg, size, write);
}

static void emit_stos(struct tr *t, unsigned int size)
{
	emit_element(&t->e, size, true, H_RAX, emit_place(t, REG_RDI, size, true));
	emit_advance(t, H_RDI, size);
}

static void emit_movs(struct tr *t, unsigned int size)
{
	struct emit *e = &t->e;
	struct host_mem to;

	emit_element(e, size, false, H_TMP, emit_place(t, REG_RSI, size, false));
	e_store(e, IN_HOT(scratch), H_TMP);
	if (in_windows(t)) {
		to = emit_place(t, REG_RDI, size, true);
		e_load(e, H_ADDR, IN_HOT(scratch));
		emit_element(e, size, true, H_ADDR, to);
	} else {
		emit_islands(t, true);
		e_lea(e, H_ADDR, emit_place(t, REG_RDI, size, true));
		e_load(e, H_TMP, IN_HOT(scratch));
		emit_element(e, size, true, H_TMP, AT(H_ADDR));
	}
	emit_advance(t, H_RSI, size);
	emit_advance(t, H_RDI, size);
}

/* r14 = host address of RCX elements at guest register @reg, all in one page, RCX up to 4096 */
static void emit_run_at(struct tr *t, unsigned int reg, unsigned int size, bool write)
{
	struct host_mem last = AT_SCALE(H_TMP, H_GRCX, __builtin_ctz(size));
	struct emit *e = &t->e;
	struct host_mem m;

	last.disp = -1;
	e_pext(e, H_TMP, host_reg(t, reg), IN_HOT(offset_mask));
	e_lea(e, H_TMP, last);
	e_pext(e, H_TMP, H_TMP, IN_HOT(page_mask));
	emit_step_unless_zero(t);
	m = emit_bytes_at(t, reg, 1, write);
	e_lea(e, H_ADDR, m);
	e_movzx8(e, H_TMP, AT(H_ADDR));
	emit_islands(t, true);
}

/* r14 = host address of guest register @reg, for up to STRING_RUN_MAX bytes; faults where no window is. */
static void emit_run_in_window(struct tr *t, unsigned int reg)
{
	emit_window_constant(t, host_reg(t, reg));
	e_lea(&t->e, H_ADDR, AT_INDEX(host_reg(t, reg), H_TMP));
}

/* [66] F3 [REX.W] A4, A5, AA or AB */
static void emit_host_insn(struct emit *e, unsigned int size, bool moves)
{
	if (size == 2)
		e8(e, 0x66);
	e8(e, 0xf3);
	if (size == 8)
		e8(e, 0x48);
	e8(e, (moves ? 0xa4 : 0xaa) | (size > 1));
}

/* The host's own instruction, from hot.scratch to r14; what it leaves in RSI and RDI is made. */
static void emit_host_run(struct tr *t, unsigned int size, bool moves)
{
	struct host_mem source = AT_SCALE(H_RSI, H_GRCX, __builtin_ctz(size));
	struct host_mem target = AT_SCALE(H_RDI, H_GRCX, __builtin_ctz(size));
	struct emit *e = &t->e;

	if (moves) {
		e_store(e, IN_HOT(string_rsi), H_RSI);
		e_load(e, H_RSI, IN_HOT(scratch));
	}
	e_store(e, IN_HOT(target), H_RDI);
	e_mov_rr(e, H_RDI, H_ADDR);
	e_mov_rr(e, H_TMP, H_GRCX);
	emit_host_insn(e, size, moves);
	if (moves) {
		e_load(e, H_RSI, IN_HOT(string_rsi));
		e_lea_word(t, H_RSI, source);
	}
	e_load(e, H_RDI, IN_HOT(target));
	e_lea_word(t, H_RDI, target);
	e_mov_imm(e, H_GRCX, 0);
}

void string_settle(struct vcpu *v, const uint8_t *pc)
{
	const struct dbt_hot *hot = dbt_hot(v);
	const bool words = pc[0] == 0x66;
	uint64_t done = v->gpr[REG_RCX] - hot->fault_rcx;
	unsigned int size;
	bool moves;

	pc += words;
	if (*pc++ != 0xf3)
		return;
	size = words ? 2 : *pc == 0x48 ? 8 : 4;
	pc += *pc == 0x48;
	moves = (*pc & ~1) == 0xa4;
	if (!moves && (*pc & ~1) != 0xaa)
		return;
	if (!(*pc & 1))
		size = 1;
	if (moves)
		v->gpr[REG_RSI] = hot->string_rsi + done * size;
	v->gpr[REG_RDI] = hot->target + done * size;
	v->gpr[REG_RCX] -= done;
}

static void emit_run(struct tr *t, unsigned int reg, unsigned int size, bool write)
{
	if (in_windows(t))
		emit_run_in_window(t, reg);
	else
		emit_run_at(t, reg, size, write);
}

static void emit_repeated(struct tr *t, unsigned int size, bool moves)
{
	struct emit *e = &t->e;
	uint8_t *none, *some, *end;

	(word_of(t) == 8 ? e_mov_rr : e_mov32_rr)(e, H_TMP, H_GRCX);
	none = e_jrcxz(e);
	e8(e, 0xeb);			/* jmp over the jump */
	e8(e, 0);
	some = e->p - 1;
	e_bind8(e, none);
	end = e_jmp(e, emit_here(e));
	e_bind8(e, some);
	if (in_windows(t)) {
		e_pext(e, H_TMP, H_GRCX, IN_HOT(run_mask[__builtin_ctz(size)]));
	} else {	/* 4096 as well: kernels clear pages by bytes */
		e_lea(e, H_TMP, AT_DISP(H_GRCX, -1));
		e_pext(e, H_TMP, H_TMP, IN_HOT(page_mask));
	}
	emit_step_unless_zero(t);
	emit_check_direction(t);
	if (moves) {
		emit_run(t, REG_RSI, size, false);
		e_store(e, IN_HOT(scratch), H_ADDR);
	}
	emit_run(t, REG_RDI, size, true);
	emit_host_run(t, size, moves);
	emit_patch32(end, e->to_exec, emit_here(e));
}

static void emit_cld(struct tr *t)
{
	struct emit *e = &t->e;

	e_load(e, H_TMP, IN_VCPU(rflags));
	e_and_mask(e, H_TMP, H_TMP, IN_HOT(not_df));
	e_store(e, IN_VCPU(rflags), H_TMP);
}

bool emit_string(struct tr *t, const struct insn *i)
{
	bool moves, repeated = i->flags & (INSN_REP | INSN_REPNE);
	unsigned int size = element(i, &moves);

	if (!with(t->d, TRANSLATOR_OPT_STRING))
		return false;
	if (i->info->id == INSN_ID_CLD) {
		temps_lost(t);
		emit_cld(t);
		return true;
	}
	if (!size || i->mem.addr_size != word_of(t) || i->mem.seg == SEG_FS || i->mem.seg == SEG_GS)
		return false;
	temps_lost(t);
	if (repeated) {
		emit_repeated(t, size, moves);
		return true;
	}
	emit_check_direction(t);
	(moves ? emit_movs : emit_stos)(t, size);
	return true;
}
