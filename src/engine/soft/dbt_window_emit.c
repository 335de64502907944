// SPDX-License-Identifier: Apache-2.0
/*
 * Memory operands in code for windows (cpu/window.h): no lookup, only the check that the
 * address is in one.
 *
 *	rorx	rcx, base, 32
 *	movzx	ecx, cx				; bits 32-47
 *	movzx	ecx, byte [rcx * 8 + checks]	; faults unless it is of a window
 *	op	gs:[base + displacement]	; fs: for the low window
 *
 * An address that went through the check, or was accessed, is a fact: base + index + offset
 * is in a window.  It spares the check of operands near it, and moves along when constants
 * are added to its registers.  Where it is not known which window it is, its constant is loaded
 * into rcx and takes the place of the segment, and there is always a check.
 *
 * RSP is near a window wherever a block is entered: C code looks before it enters one, and
 * a block that moves RSP without an access near there checks it before it leaves.
 *
 * At the head of a loop within the block, the checks of what each turn surely accesses are
 * made before the loop; the jump back goes behind them if at the jump the same facts hold,
 * because an access of this very turn says so or nothing has changed.
 */
#include "engine/soft/dbt_priv.h"
#include "x86/regs.h"

enum where { WHERE_LOW, WHERE_HIGH, WHERE_ANY };

#define REACH	BIT(32)		/* from a fact to an operand that needs no check */
#define BY_ENTRY 0xff		/* struct fact.by: true wherever the block is entered */
#define HOISTED_MAX 5		/* there has to be room for other facts */
#define OFF_MAX	BIT(31)		/* of a fact, and between two that a loop takes for one */
#define LOOP_ALIGN 32		/* as the host fetches */
#define TURNS_MAX 64		/* of a loop that is not asked whether something wants attention */
#define COUNTER_MAX BIT(16)	/* of such a loop's counter, and of other small values */
#define STACK_SLACK BIT(20)	/* from an access or check in a block to RSP at its end */
_Static_assert(REACH + OFF_MAX + BIT(30) + STACK_SLACK + 8 * COUNTER_MAX < WINDOW_GUARD, "operands could reach beyond the guard");

static bool value_known(const struct tr *t, unsigned int reg)
{
	return reg < REG_RIP && !(t->known.written & BIT(reg));
}

static enum where where_is(gva_t gva)
{
	if (!window_covers(gva))
		return WHERE_ANY;
	return gva < WINDOW_LOW_END ? WHERE_LOW : WHERE_HIGH;
}

/* The address of @m, were the block run with the registers as they are now; or false. */
static bool foresee(const struct tr *t, const struct mem_operand *m, gva_t *gva)
{
	*gva = m->disp;
	if (m->seg == SEG_FS || m->seg == SEG_GS)
		*gva += t->v->seg[m->seg].base;
	if (m->base == REG_RIP)
		*gva += t->next;
	else if (m->base != REG_NONE && !value_known(t, m->base))
		return false;
	else if (m->base != REG_NONE)
		*gva += t->known.value[m->base];
	if (m->index != REG_NONE && !value_known(t, m->index))
		return false;
	if (m->index != REG_NONE)
		*gva += t->known.value[m->index] << m->scale;
	if (m->addr_size == 4)
		*gva = (uint32_t)*gva;
	return true;
}

/* The window that @m is likely to be in. */
static enum where guess(const struct tr *t, const struct mem_operand *m)
{
	gva_t gva;

	if (windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_ANY)
		return WHERE_ANY;
	if (foresee(t, m, &gva))
		return where_is(gva);
	return m->base == REG_RSP ? where_is(t->v->gpr[REG_RSP]) : WHERE_ANY;
}

/* Faults unless host register @reg is in a window.  Clobbers rcx. */
static void emit_check(struct tr *t, unsigned int reg)
{
	struct host_mem check = AT_VCPU(VCPU_CHECKS);

	t->known.held[0] = NO_REG;
	check.index = H_TMP;
	check.scale = WINDOW_CHECK_SHIFT;
	e_rorx(&t->e, H_TMP, reg, WINDOW_CHECK_BIT);
	e_movzx16_rr(&t->e, H_TMP, H_TMP);
	e_movzx8(&t->e, H_TMP, check);
}

/* rcx = the constant of the window that host register @reg is in; faults if it is in none. */
static void emit_constant(struct tr *t, unsigned int reg)
{
	struct host_mem constant = IN_VCPU(tlb.window.constant);

	emit_check(t, reg);
	constant.index = H_TMP;
	constant.scale = 3;
	e_pext(&t->e, H_TMP, reg, IN_HOT(tib_mask));
	e_load(&t->e, H_TMP, constant);
}

/* --- facts --- */

static uint64_t distance(int64_t a, int64_t b)
{
	return a > b ? (uint64_t)a - b : (uint64_t)b - a;
}

static bool same_registers(const struct fact *f, const struct mem_operand *m)
{
	return f->base == m->base && f->index == m->index &&
	       (m->index == REG_NONE || f->scale == m->scale);
}

static struct fact *find_fact(struct known *k, const struct mem_operand *m)
{
	for (unsigned int i = 0; i < k->facts; i++)
		if (same_registers(&k->fact[i], m))
			return &k->fact[i];
	return NULL;
}

/* Of operand registers @m it is known from here on that they + @off are in a window. */
static void set_fact(struct tr *t, const struct mem_operand *m, int64_t off)
{
	struct known *k = &t->known;
	struct fact *f = find_fact(k, m);

	if (!f) {
		/* The oldest goes. */
		if (k->facts == ARRAY_SIZE(k->fact)) {
			for (unsigned int i = 1; i < k->facts; i++)
				k->fact[i - 1] = k->fact[i];
			k->facts--;
		}
		f = &k->fact[k->facts++];
	}
	*f = (struct fact){ .base = m->base, .index = m->index, .scale = m->scale, .by = t->n,
			    .off = off };
}

static void drop_fact(struct known *k, unsigned int i)
{
	k->fact[i] = k->fact[--k->facts];
}

static bool involves(const struct fact *f, unsigned int regs)
{
	return regs >> f->base & 1 || (f->index != REG_NONE && regs >> f->index & 1);
}

static void drop_facts(struct known *k, unsigned int regs)
{
	for (unsigned int i = 0; i < k->facts;)
		if (involves(&k->fact[i], regs))
			drop_fact(k, i);
		else
			i++;
}

/* Register @reg grew by @by. */
static void move_facts(struct known *k, unsigned int reg, int64_t by)
{
	for (unsigned int i = 0; i < k->facts;) {
		struct fact *f = &k->fact[i];

		if (f->base == reg)
			f->off -= by;
		if (f->index == reg)
			f->off -= by * (1 << f->scale);
		if (distance(f->off, 0) > OFF_MAX)
			drop_fact(k, i);
		else
			i++;
	}
}

/* Register @to is @from + @by, what it was before is lost. */
static void copy_facts(struct tr *t, unsigned int to, unsigned int from, int64_t by)
{
	const struct mem_operand old = { .base = from, .index = REG_NONE };
	const struct mem_operand new = { .base = to, .index = REG_NONE };
	const struct fact *f = find_fact(&t->known, &old);
	struct fact was;

	if (f)
		was = *f;
	drop_facts(&t->known, BIT(to));
	if (!f || distance(was.off - by, 0) > OFF_MAX)
		return;
	set_fact(t, &new, was.off - by);
	if (was.by != BY_ENTRY)
		find_fact(&t->known, &new)->by = was.by;
}

/* Entries between the instruction that made the fact and this one would miss it. */
static void rely_on(struct tr *t, const struct fact *f)
{
	if (f->by != BY_ENTRY)
		t->no_entry |= ~0ULL >> (63 - t->n) & ~(~0ULL >> (63 - f->by));
}

static bool near_fact(const struct fact *f, const struct mem_operand *m)
{
	return f && distance(m->disp, f->off) <= REACH;
}

/* Checks @m, whose registers + @off are in host register @at, unless a fact says enough. */
static void ensure(struct tr *t, const struct mem_operand *m, unsigned int at, int64_t off,
		   enum where w)
{
	const struct fact *f = find_fact(&t->known, m);

	if (w != WHERE_ANY && near_fact(f, m)) {
		rely_on(t, f);
		return;
	}
	(w == WHERE_ANY ? emit_constant : emit_check)(t, at);
	set_fact(t, m, off);
}

/* The access itself is as good as a check, if the instruction surely makes it. */
static void accessed(struct tr *t, const struct mem_operand *m)
{
	if (t->i->encoding != ENC_LEGACY || m->size > 16 || !fits_s32(m->disp))
		return;
	set_fact(t, m, m->disp);
	if (m->base == REG_RSP && m->index == REG_NONE)
		t->known.stack_moved = false;
}

/* --- operands --- */

/* @m as an operand in window @w; of any, rcx is the constant and @m has no index. */
static struct host_mem in_window(struct host_mem m, enum where w)
{
	if (w == WHERE_ANY)
		m.index = H_TMP;
	else
		m.seg = w == WHERE_LOW ? PREFIX_FS : PREFIX_GS;
	return m;
}

static bool has_register(const struct tr *t, unsigned int reg)
{
	return reg == REG_NONE || host_reg(t, reg) != IN_MEMORY;
}

/* The host register with guest register @reg, r14 if it has none of its own. */
static unsigned int base_in_register(struct tr *t, unsigned int reg)
{
	if (has_register(t, reg))
		return host_reg(t, reg);
	if (t->known.held[1] == reg) {
		t->no_entry |= ~0ULL >> (63 - t->n) & ~(~0ULL >> (63 - t->known.held_by[1]));
	} else {
		e_load(&t->e, H_ADDR, IN_GPR(reg));
		t->known.held[1] = reg;
		t->known.held_by[1] = t->n;
	}
	return H_ADDR;
}

/* Operands whose place facts can speak of. */
static bool has_facts(const struct mem_operand *m)
{
	return m->base < REG_RIP && m->seg != SEG_FS && m->seg != SEG_GS && m->addr_size == 8;
}

static bool only_constant(const struct mem_operand *m)
{
	return (m->base == REG_RIP || (m->base == REG_NONE && m->index == REG_NONE)) &&
	       m->seg != SEG_FS && m->seg != SEG_GS;
}

/* With one register only, so that the register itself is what is checked. */
static struct host_mem base_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w = guess(t, m);
	unsigned int base = base_in_register(t, m->base);

	ensure(t, m, base, -base_disp(t, m->base, 0), w);
	accessed(t, m);
	return in_window(AT_DISP(base, base_disp(t, m->base, m->disp)), w);
}

/* Its place is known, and so is the window. */
static struct host_mem constant_operand(struct tr *t, const struct mem_operand *m)
{
	gva_t gva = m->disp + (m->base == REG_RIP ? t->next : 0);
	enum where w;

	if (m->addr_size == 4)
		gva = (uint32_t)gva;
	w = where_is(gva);
	if (w == WHERE_LOW && gva <= INT32_MAX) {
		t->moves.fixed |= m->base == REG_RIP;
		return in_window(AT_DISP(NO_REG, gva), w);
	}
	t->known.held[1] = NO_REG;
	if (m->base == REG_RIP)
		e_mov_gva(&t->e, H_ADDR, gva);
	else
		e_mov_imm(&t->e, H_ADDR, gva);
	if (w == WHERE_ANY)
		emit_constant(t, H_ADDR);
	return in_window(AT(H_ADDR), w);
}

static bool is_absolute_low(const struct tr *t, const struct mem_operand *m)
{
	gva_t gva = m->disp + (m->base == REG_RIP ? t->next : 0);

	return gva <= INT32_MAX;
}

/* Will the operand be reached without r14 and rcx being in use when the copy runs? */
bool window_direct(const struct tr *t, const struct mem_operand *m)
{
	if (only_constant(m))
		return is_absolute_low(t, m);
	return has_facts(m) && has_register(t, m->base) && has_register(t, m->index) &&
	       guess(t, m) != WHERE_ANY;
}

/* Base and index in registers, at most one of them r14. */
static struct host_mem in_registers(struct tr *t, const struct mem_operand *m)
{
	struct host_mem h = { .scale = m->scale, .disp = base_disp(t, m->base, m->disp) };

	if (has_register(t, m->base)) {
		h.index = base_in_register(t, m->index);
		h.base = host_reg(t, m->base);
	} else {
		h.base = base_in_register(t, m->base);
		h.index = host_reg(t, m->index);
	}
	return h;
}

/* Is the present instruction in a loop whose turns are counted by register @reg? */
static bool counts_turns(const struct tr *t, unsigned int reg)
{
	for (unsigned int k = 0; k < t->loops; k++)
		if (t->loop[k].last && t->loop[k].last >= t->n && t->loop[k].counter == reg)
			return true;
	return false;
}

/* Is register @reg not above COUNTER_MAX, wherever the block may be entered from now on? */
static bool is_small(struct tr *t, unsigned int reg)
{
	if (counts_turns(t, reg))
		return true;
	if (!(t->known.small >> reg & 1))
		return false;
	t->no_entry |= ~0ULL >> (63 - t->n) & ~(~0ULL >> (63 - t->known.small_by[reg]));
	return true;
}

/* @m, without an index that is so small that the base is near the operand. */
static struct mem_operand without_small(struct tr *t, const struct mem_operand *m)
{
	struct mem_operand near = *m;

	if (m->index != REG_NONE && is_small(t, m->index))
		near.index = REG_NONE;
	return near;
}

static struct host_mem index_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w = guess(t, m);
	bool reachable = has_register(t, m->base) || has_register(t, m->index);
	const struct mem_operand near = without_small(t, m);
	struct host_mem h = AT(H_ADDR);

	if (near.index == REG_NONE && reachable && w != WHERE_ANY) {
		h = in_registers(t, m);
		ensure(t, &near, h.base, -base_disp(t, m->base, 0), w);
		accessed(t, &near);
		return in_window(h, w);
	}
	if (w == WHERE_ANY || !reachable || !near_fact(find_fact(&t->known, m), m)) {
		emit_effective(t, m, H_ADDR, false);
		reachable = window_direct(t, m);
	}
	ensure(t, m, H_ADDR, m->disp, w);
	accessed(t, m);
	if (w != WHERE_ANY && reachable)
		h = in_registers(t, m);
	return in_window(h, w);
}

/* Behind a segment's base, or with an address of 32 bits: nothing is known of those. */
static struct host_mem other_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w = guess(t, m);
	int32_t disp = 0;

	if (m->base == REG_NONE && m->index == REG_NONE && m->addr_size == 8) {
		temps_lost(t);
		e_load(&t->e, H_ADDR, segment_base(m->seg));
		disp = m->disp;		/* near the segment's base */
	} else {
		emit_effective(t, m, H_ADDR, m->addr_size == 4);
		emit_segment_base(t, m);
	}
	(w == WHERE_ANY ? emit_constant : emit_check)(t, H_ADDR);
	return in_window(AT_DISP(H_ADDR, disp), w);
}

struct host_mem emit_window_operand(struct tr *t, const struct mem_operand *m)
{
	if (only_constant(m))
		return constant_operand(t, m);
	if (!has_facts(m))
		return other_operand(t, m);
	return m->index == REG_NONE ? base_operand(t, m) : index_operand(t, m);
}

/* --- loops --- */

/* Where an instruction that adds a constant to a register takes it from, and how much. */
static unsigned int moved_from(const struct insn *i, int64_t *by)
{
	const struct operand *o = i->op;

	*by = 0;
	if (i->opsize != 8 || o[0].kind != OPND_GPR || o[0].size != 8)
		return NO_REG;
	switch (i->info->id) {
	case INSN_ID_ADD: case INSN_ID_SUB:
		*by = i->info->id == INSN_ID_ADD ? i->imm : -i->imm;
		return o[1].kind == OPND_IMM && fits_s32(i->imm) ? o[0].reg : NO_REG;
	case INSN_ID_INC: case INSN_ID_DEC:
		*by = i->info->id == INSN_ID_INC ? 1 : -1;
		return o[0].reg;
	case INSN_ID_MOV:
		return o[1].kind == OPND_GPR ? o[1].reg : NO_REG;
	case INSN_ID_LEA:
		*by = i->mem.disp;
		return i->mem.base < REG_RIP && i->mem.index == REG_NONE &&
		       i->mem.addr_size == 8 && fits_s32(i->mem.disp) ? i->mem.base : NO_REG;
	default:
		return NO_REG;
	}
}

/* Sets its first operand, a whole register, to a constant. */
static bool is_constant(const struct insn *i)
{
	if (i->opsize < 4 || i->op[0].kind != OPND_GPR)
		return false;
	return (i->info->id == INSN_ID_MOV && i->op[1].kind == OPND_IMM && i->imm >= 0) ||
	       (i->info->id == INSN_ID_XOR && i->op[1].kind == OPND_GPR &&
		i->op[1].reg == i->op[0].reg);
}

/* Registers that @i changes otherwise than by a constant. */
static unsigned int really_written(const struct insn *i)
{
	int64_t by;

	if (i->gpr_written == BIT(i->op[0].reg) && moved_from(i, &by) == i->op[0].reg)
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
				       (step || moved_from(i, &step) != reg || i->op[0].reg != reg)))
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

	m = without_small(t, &m);
	m.disp += moved;
	if (!has_facts(&m) || !fits_s32(m.disp) || find_fact(&t->known, &m) ||
	    t->known.facts > HOISTED_MAX ||
	    guess(t, &m) == WHERE_ANY)
		return;
	if (m.index == REG_NONE) {
		at = base_in_register(t, m.base);
		m.disp = 0;
	} else {
		emit_effective(t, &m, H_ADDR, false);
	}
	emit_check(t, at);
	set_fact(t, &m, m.disp);
}

/*
 * What registers come to in the first turn of a loop: their value at the head plus 'moved',
 * or in any case 'moved', if their bit in 'constant' is set.
 */
struct turn {
	int64_t moved[16];
	unsigned int constant;
};

static void turn_insn(struct turn *r, const struct insn *i)
{
	unsigned int reg = i->op[0].reg, from;
	int64_t by;

	if (i->op[0].kind != OPND_GPR || i->gpr_written != BIT(reg))
		return;
	from = moved_from(i, &by);
	if (from == reg) {
		r->moved[reg] += by;
	} else if (is_constant(i)) {
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
		int64_t moved = m.base < REG_RIP ? turn.moved[m.base] : 0;

		if (m.index < REG_RIP) {
			moved += turn.moved[m.index] * (1 << m.scale);
			if (turn.constant >> m.index & 1 && distance(moved, 0) <= COUNTER_MAX)
				m.index = REG_NONE;
		}
		if (i->flags & INSN_HAS_MEM && !m.is_address && has_facts(&m) && !m.vsib &&
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
		const struct fact *now = find_fact(&t->known, &m);

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

/* --- what comes behind an instruction --- */

/* The value of @i's first operand behind it, as far as it can be foreseen. */
static bool new_value(const struct tr *t, const struct insn *i, uint64_t *value)
{
	const struct operand *o = i->op;
	const void *p;
	gva_t gva;
	int64_t by;

	if (o[0].kind != OPND_GPR || i->opsize < 4)
		return false;
	switch (i->info->id) {
	case INSN_ID_XOR:
		*value = 0;
		return o[1].kind == OPND_GPR && o[1].reg == o[0].reg;
	case INSN_ID_LEA:
		return foresee(t, &i->mem, value);
	case INSN_ID_MOV:
		*value = i->imm;
		if (o[1].kind == OPND_IMM)
			return true;
		if (o[1].kind == OPND_GPR)
			break;
		if (i->opsize != 8 || !foresee(t, &i->mem, &gva))
			return false;
		p = tlb_lookup(t->v->view, gva, 8, TLB_READ);
		if (p)
			__builtin_memcpy(value, p, 8);
		return p != NULL;
	default:
		break;
	}
	if (moved_from(i, &by) == NO_REG || !value_known(t, moved_from(i, &by)))
		return false;
	*value = t->known.value[moved_from(i, &by)] + by;
	return true;
}

/* Is @i's first operand, a whole register, not above COUNTER_MAX behind it? */
static bool makes_small(const struct insn *i)
{
	if (i->opsize < 4 || i->op[0].kind != OPND_GPR || i->gpr_written != BIT(i->op[0].reg))
		return false;
	switch (i->info->id) {
	case INSN_ID_MOVZX:
		return i->op[1].size <= 2;
	case INSN_ID_AND:
		return i->op[1].kind == OPND_IMM && (uint64_t)i->imm <= COUNTER_MAX;
	default:
		return is_constant(i) && (i->info->id == INSN_ID_XOR || (uint64_t)i->imm <= COUNTER_MAX);
	}
}

static void foresee_values(struct tr *t, const struct insn *i)
{
	uint64_t value;
	bool known = new_value(t, i, &value);

	t->known.written |= i->gpr_written;
	t->known.sure &= ~i->gpr_written;
	t->known.small &= ~i->gpr_written;
	if (makes_small(i)) {
		t->known.small |= BIT(i->op[0].reg);
		t->known.small_by[i->op[0].reg] = t->n;
	}
	if (known && i->gpr_written == BIT(i->op[0].reg)) {
		t->known.written &= ~BIT(i->op[0].reg);
		t->known.value[i->op[0].reg] = i->opsize == 4 ? (uint32_t)value : value;
	}
	if (known && is_constant(i)) {
		t->known.sure |= BIT(i->op[0].reg);
		t->known.sure_by[i->op[0].reg] = t->n;
	}
}

/* What is known of the registers behind @i, which was emitted. */
void window_after(struct tr *t, const struct insn *i)
{
	struct known *k = &t->known;
	int64_t by;
	unsigned int from = moved_from(i, &by);

	foresee_values(t, i);
	switch (i->info->id) {
	case INSN_ID_PUSH: case INSN_ID_PUSHFQ:
		move_facts(k, REG_RSP, -8);
		return;
	case INSN_ID_POP:
		drop_facts(k, BIT(i->op[0].reg));
		if (i->op[0].reg != REG_RSP)
			move_facts(k, REG_RSP, 8);
		else
			k->stack_moved = true;
		return;
	case INSN_ID_LEAVE:
		copy_facts(t, REG_RSP, REG_RBP, 8);
		drop_facts(k, BIT(REG_RBP));
		return;
	case INSN_ID_CALL: case INSN_ID_RET: case INSN_ID_JMP:
		k->facts = 0;
		k->written = UINT16_MAX;
		k->sure = k->small = 0;
		window_entered(t);
		return;
	default:
		k->stack_moved |= i->gpr_written >> REG_RSP & 1;
	}
	if (from == NO_REG || i->gpr_written != BIT(i->op[0].reg))
		drop_facts(k, i->gpr_written);
	else if (from == i->op[0].reg)
		move_facts(k, from, by);
	else
		copy_facts(t, i->op[0].reg, from, by);
}

static const struct mem_operand stack = { .base = REG_RSP, .index = REG_NONE };

/* At the beginning of a block the registers are what they are. */
void window_begin(struct tr *t)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(t->known.value); i++)
		t->known.value[i] = t->v->gpr[i];
	window_entered(t);
}

/* Behind what may come back from elsewhere. */
void window_entered(struct tr *t)
{
	if (!(t->b->mode & MODE_WINDOW))
		return;
	t->known.stack_moved = false;
	set_fact(t, &stack, 0);
	find_fact(&t->known, &stack)->by = BY_ENTRY;
}

void window_leave(struct tr *t)
{
	const struct fact *f = find_fact(&t->known, &stack);

	if (!(t->b->mode & MODE_WINDOW) || !t->known.stack_moved)
		return;
	if (f && f->by != BY_ENTRY && distance(f->off, 0) <= STACK_SLACK) {
		rely_on(t, f);
		return;
	}
	emit_check(t, H_GRSP);
	set_fact(t, &stack, 0);
	t->known.stack_moved = false;
}
