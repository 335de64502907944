// SPDX-License-Identifier: Apache-2.0
/*
 * Loops within a block of code for windows.  At the head, the checks of what each turn surely
 * accesses are made before the loop; the jump back goes behind them if at the jump the same
 * facts hold, because an access of this very turn says so or nothing has changed.  A loop
 * that counts a few turns is not asked whether something wants attention.
 */
#include "engine/soft/dbt_window.h"
#include "x86/regs.h"

#define HOISTED_MAX 12		/* there has to be room for other facts */
#define LOOP_ALIGN 32		/* as the host fetches */
#define TURNS_MAX 64		/* of a loop that is not asked whether something wants attention */

/* Registers that @i changes otherwise than by a constant. */
static unsigned int really_written(const struct insn *i)
{
	int64_t by;

	if (i->gpr_written == BIT(i->op[0].reg) && insn_moved_from(i, &by) == i->op[0].reg)
		return 0;
	return i->gpr_written;
}

static bool is_transfer(const struct insn *i)
{
	return i->flags & INSN_BRANCH || i->info->id == INSN_ID_CALL;
}

/* The first instruction of the block at @target, of those before the present one; or -1. */
static int own_insn(const struct tr *t, gva_t target)
{
	for (unsigned int k = 0; k <= t->n; k++)
		if (t->b->gva + t->b->guest_off[k] == target)
			return k;
	return -1;
}

/* The last jump back to the present instruction in the block, or 0. */
unsigned int loop_end(const struct tr *t)
{
	unsigned int last = 0;

	for (unsigned int n = t->n; n < t->count; n++) {
		const struct insn *i = &t->insn[n];

		if (i->op_count && i->op[0].kind == OPND_REL && i->info->id != INSN_ID_CALL &&
		    t->b->gva + t->b->guest_off[n + 1] + i->imm == t->rip)
			last = n;
	}
	return last;
}

/*
 * Does @i, a jump behind a comparison of @a and @b, of 64 bits, surely not jump?  Of jumps
 * that look at something else, or at nothing, it is not known.
 */
static bool stays(const struct insn *i, uint64_t a, uint64_t b)
{
	switch (i->info->id) {
	case INSN_ID_JB:  return a >= b;
	case INSN_ID_JNZ: return a == b;
	case INSN_ID_JBE: return a > b;
	case INSN_ID_JL:  return (int64_t)a >= (int64_t)b;
	case INSN_ID_JLE: return (int64_t)a > (int64_t)b;
	default: return false;
	}
}

/*
 * A loop that adds a constant to a register of known value and compares it with another
 * constant: how many turns it makes, 0: not known or too many.  @last jumps back to the
 * present instruction.
 */
static unsigned int count_turns(const struct tr *t, unsigned int last, unsigned int reg)
{
	const struct insn *cmp = &t->insn[last - 1];
	uint64_t value = t->known.value[reg];
	int64_t by, step = 0;
	unsigned int turns;

	for (unsigned int n = t->n; n < last; n++) {
		const struct insn *i = &t->insn[n];

		if (is_transfer(i) || (i->gpr_written >> reg & 1 &&
				       (step || insn_moved_from(i, &step) != reg || i->op[0].reg != reg)))
			return 0;
	}
	by = step;
	for (turns = 1; turns <= TURNS_MAX; turns++) {
		value += by;
		if (value > COUNTER_MAX && -value > COUNTER_MAX)
			return 0;
		if (stays(&t->insn[last], value, cmp->imm))
			return turns;
	}
	return 0;
}

/* If the turns of the loop at the present instruction can be counted, says so in @l. */
static void bound_loop(struct tr *t, struct loop *l, unsigned int last)
{
	const struct insn *cmp = &t->insn[last - 1];
	unsigned int reg = cmp->op[0].reg;

	if (last < t->n + 2 || cmp->info->id != INSN_ID_CMP || cmp->opsize != 8 ||
	    cmp->op[0].kind != OPND_GPR || cmp->op[1].kind != OPND_IMM ||
	    !(t->known.sure >> reg & 1) ||
	    distance(t->known.value[reg], 0) > COUNTER_MAX || !count_turns(t, last, reg))
		return;
	l->last = last;
	l->counter = reg;
	/* It is as it is at the head, wherever the loop is entered. */
	t->no_entry |= ~0ULL >> (63 - last) & ~(~0ULL >> (63 - t->known.sure_by[reg]));
}

/* Need the present instruction, a jump back, not ask whether something wants attention? */
bool window_turns_counted(const struct tr *t)
{
	for (unsigned int k = 0; k < t->loops; k++)
		if (t->loop[k].last && t->loop[k].last == t->n)
			return true;
	return false;
}

/* One check before the loop instead of one in each turn. */
static void hoist(struct tr *t, struct mem_operand m, int64_t moved)
{
	unsigned int at = H_ADDR;

	m = window_without_small(t, &m);
	m.disp += moved;
	if (!window_has_facts(&m) || !fits_s32(m.disp) || window_find_fact(&t->known, &m) ||
	    t->known.facts > HOISTED_MAX ||
	    window_guess(t, &m) == WHERE_ANY)
		return;
	if (m.index == REG_NONE) {
		at = window_base_register(t, m.base);
		m.disp = 0;
	} else {
		emit_effective(t, &m, H_ADDR, false);
	}
	emit_window_check(t, at);
	window_set_fact(t, &m, m.disp);
}

/*
 * What registers come to in the first turn of a loop: their value at the head plus 'moved',
 * or in any case 'moved', if their bit in 'constant' is set.
 */
struct turn {
	int64_t moved[16];
	unsigned int constant;
	unsigned int narrow;	/* registers that the turn has made so */
};

static void turn_insn(struct turn *r, const struct insn *i)
{
	unsigned int reg = i->op[0].reg, from;
	int64_t by;

	r->narrow &= ~i->gpr_written;
	if (i->op[0].kind != OPND_GPR || i->gpr_written != BIT(reg))
		return;
	if (insn_makes_narrow(i))
		r->narrow |= BIT(reg);
	from = insn_moved_from(i, &by);
	if (from == reg) {
		r->moved[reg] += by;
	} else if (insn_is_constant(i)) {
		r->moved[reg] = i->info->id == INSN_ID_XOR ? 0 : i->imm;
		r->constant |= BIT(reg);
	}
}

/* Hoists what all turns of the loop at the present instruction access. */
static void hoist_all(struct tr *t, unsigned int last)
{
	unsigned int written = 0;
	struct turn turn = { .constant = 0 };

	for (unsigned int n = t->n; n <= last; n++) {
		if (t->insn[n].info->id == INSN_ID_CALL)
			return;
		written |= really_written(&t->insn[n]);
	}
	for (unsigned int n = t->n; n <= last && !is_transfer(&t->insn[n]); n++) {
		const struct insn *i = &t->insn[n];
		struct mem_operand m = i->mem;
		bool near_base = m.index < REG_RIP && window_has_facts(&m) &&
				 window_by_base(t, &m, turn.narrow | t->known.narrow) != WHERE_ANY;
		int64_t moved = m.base < REG_RIP ? turn.moved[m.base] : 0;

		if (near_base) {
			m.index = REG_NONE;
			m.disp = 0;
		} else if (m.index < REG_RIP) {
			moved += turn.moved[m.index] * (1 << m.scale);
			if (turn.constant >> m.index & 1 && distance(moved, 0) <= COUNTER_MAX)
				m.index = REG_NONE;
		}
		if (i->flags & INSN_HAS_MEM && !m.is_address && window_has_facts(&m) && !m.vsib &&
		    !(written >> m.base & 1) && (m.index == REG_NONE || !(written >> m.index & 1)))
			hoist(t, m, moved);
		turn_insn(&turn, i);
	}
}

/* What the loop up to @last changes is not known for sure in it. */
static void drop_sure(struct tr *t, unsigned int last)
{
	for (unsigned int n = t->n; n <= last; n++) {
		t->known.sure &= ~t->insn[n].gpr_written;
		t->known.narrow &= ~t->insn[n].gpr_written;
		t->known.small &= ~t->insn[n].gpr_written;
	}
}

void window_loop_head(struct tr *t)
{
	unsigned int last = loop_end(t);
	struct loop *l = &t->loop[t->loops];

	if (!last)
		return;
	if (t->loops == ARRAY_SIZE(t->loop) || in_lockstep(t->d, t->b->mode) ||
	    !with(t->d, TRANSLATOR_OPT_LOOP) || !with(t->d, TRANSLATOR_OPT_CHECK)) {
		drop_sure(t, last);
		return;
	}
	*l = (struct loop){ .head = t->n };
	bound_loop(t, l, last);
	drop_sure(t, last);
	t->loops++;
	temps_lost(t);
	if (windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_NEW)
		hoist_all(t, last);
	temps_lost(t);
	e_align(&t->e, LOOP_ALIGN);
	l->known = t->known;
	l->off = t->e.p + t->e.to_exec - t->b->code;
}

/* Is every fact of loop @l's head true at the present jump to it? */
static bool facts_hold(struct tr *t, const struct loop *l)
{
	for (unsigned int i = 0; i < l->known.facts; i++) {
		const struct fact *then = &l->known.fact[i];
		const struct mem_operand m = { .base = then->base, .index = then->index,
					       .scale = then->scale };
		const struct fact *now = window_find_fact(&t->known, &m);

		if (!now || (now->off != then->off &&
			     (now->by < l->head || now->by == BY_ENTRY || distance(now->off, then->off) > OFF_MAX)))
			return false;
	}
	return true;
}

void *window_loop_back(struct tr *t, gva_t target)
{
	int head = own_insn(t, target);

	/* A jump itself changes no register; CALL and LOOP do. */
	if (t->i->gpr_written)
		return NULL;
	for (unsigned int i = 0; head >= 0 && i < t->loops; i++)
		if (t->loop[i].head == head && facts_hold(t, &t->loop[i]) &&
		    (!t->loop[i].last || t->loop[i].last == t->n))
			return t->b->code + t->loop[i].off;
	return NULL;
}
