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
 */
#include "engine/soft/dbt_window.h"
#include "x86/regs.h"

static enum where where_is(gva_t gva)
{
	if (!window_covers(gva))
		return WHERE_ANY;
	return gva < WINDOW_LOW_END ? WHERE_LOW : WHERE_HIGH;
}

/* The window that @m is likely to be in. */
enum where window_guess(const struct tr *t, const struct mem_operand *m)
{
	gva_t gva;

	if (windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_ANY)
		return WHERE_ANY;
	if (window_foresee(t, m, &gva))
		return where_is(gva);
	return m->base == REG_RSP ? where_is(t->v->gpr[REG_RSP]) : WHERE_ANY;
}

/* Faults unless host register @reg is in a window.  Clobbers rcx. */
void emit_window_check(struct tr *t, unsigned int reg)
{
	struct host_mem check = AT_VCPU(VCPU_CHECKS);

	t->known.held[0] = NO_REG;
	check.index = H_TMP;
	check.scale = WINDOW_CHECK_SHIFT;
	e_rorx(&t->e, H_TMP, reg, WINDOW_CHECK_BIT);
	e_movzx16_rr(&t->e, H_TMP, H_TMP);
	e_movzx8(&t->e, H_TMP, check);
}

void emit_window_constant(struct tr *t, unsigned int reg)
{
	struct host_mem constant = IN_VCPU(tlb.window.constant);

	emit_window_check(t, reg);
	constant.index = H_TMP;
	constant.scale = 3;
	e_pext(&t->e, H_TMP, reg, IN_HOT(tib_mask));
	e_load(&t->e, H_TMP, constant);
}

/* --- facts --- */

static bool same_registers(const struct fact *f, const struct mem_operand *m)
{
	return f->base == m->base && f->index == m->index &&
	       (m->index == REG_NONE || f->scale == m->scale);
}

struct fact *window_find_fact(struct known *k, const struct mem_operand *m)
{
	for (unsigned int i = 0; i < k->facts; i++)
		if (same_registers(&k->fact[i], m))
			return &k->fact[i];
	return NULL;
}

/* Of operand registers @m it is known from here on that they + @off are in a window. */
void window_set_fact(struct tr *t, const struct mem_operand *m, int64_t off)
{
	struct known *k = &t->known;
	struct fact *f = window_find_fact(k, m);

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
	const struct fact *f = window_find_fact(&t->known, &old);
	struct fact was;

	if (f)
		was = *f;
	drop_facts(&t->known, BIT(to));
	if (!f || distance(was.off - by, 0) > OFF_MAX)
		return;
	window_set_fact(t, &new, was.off - by);
	if (was.by != BY_ENTRY)
		window_find_fact(&t->known, &new)->by = was.by;
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
	const struct fact *f = window_find_fact(&t->known, m);

	if (w != WHERE_ANY && near_fact(f, m)) {
		rely_on(t, f);
		return;
	}
	(w == WHERE_ANY ? emit_window_constant : emit_window_check)(t, at);
	window_set_fact(t, m, off);
}

/* The access itself is as good as a check, if the instruction surely makes it. */
static void accessed(struct tr *t, const struct mem_operand *m)
{
	if (t->i->encoding != ENC_LEGACY || m->size > 16 || !fits_s32(m->disp))
		return;
	window_set_fact(t, m, m->disp);
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
unsigned int window_base_register(struct tr *t, unsigned int reg)
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
bool window_has_facts(const struct mem_operand *m)
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
	enum where w = window_guess(t, m);
	unsigned int base = window_base_register(t, m->base);

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
		emit_window_constant(t, H_ADDR);
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
	return window_has_facts(m) && has_register(t, m->base) && has_register(t, m->index) &&
	       window_guess(t, m) != WHERE_ANY;
}

/* Base and index in registers, at most one of them r14. */
static struct host_mem in_registers(struct tr *t, const struct mem_operand *m)
{
	struct host_mem h = { .scale = m->scale, .disp = base_disp(t, m->base, m->disp) };

	if (has_register(t, m->base)) {
		h.index = window_base_register(t, m->index);
		h.base = host_reg(t, m->base);
	} else {
		h.base = window_base_register(t, m->base);
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

/* From now on no entry behind the instruction that made register @reg narrow. */
static void rely_on_narrow(struct tr *t, unsigned int reg)
{
	t->no_entry |= ~0ULL >> (63 - t->n) & ~(~0ULL >> (63 - t->known.narrow_by[reg]));
}

/* Is register @reg not above COUNTER_MAX, wherever the block may be entered from now on? */
static bool is_small(struct tr *t, unsigned int reg)
{
	if (counts_turns(t, reg))
		return true;
	if (!(t->known.small >> reg & 1))
		return false;
	rely_on_narrow(t, reg);
	return true;
}

/* @m, without an index that is so small that the base is near the operand. */
struct mem_operand window_without_small(struct tr *t, const struct mem_operand *m)
{
	struct mem_operand near = *m;

	if (m->index != REG_NONE && is_small(t, m->index))
		near.index = REG_NONE;
	return near;
}

enum where window_by_base(const struct tr *t, struct mem_operand *m, unsigned int narrow)
{
	struct mem_operand base = { .base = m->base, .index = REG_NONE, .addr_size = 8 };
	gva_t gva, base_gva;

	if (!m->scale && narrow >> m->base & 1 && !(narrow >> m->index & 1)) {
		base.base = m->index;
		m->index = m->base;
		m->base = base.base;
	}
	if (!(narrow >> m->index & 1) || m->base == REG_RSP ||
	    windows_site(t->d, t->b->gpa + t->b->guest_off[t->n]) == SITE_ANY ||
	    !window_foresee(t, &base, &base_gva) ||
	    (window_foresee(t, m, &gva) && where_is(gva) != where_is(base_gva)))
		return WHERE_ANY;
	return where_is(base_gva);
}

/* The base is checked, not the operand, which a narrow index keeps near it.  False: not so. */
static bool narrow_operand(struct tr *t, struct mem_operand m, struct host_mem *out)
{
	enum where w = window_by_base(t, &m, t->known.narrow);
	struct mem_operand base = m;

	if (w == WHERE_ANY || !has_register(t, m.base))
		return false;
	rely_on_narrow(t, m.index);
	base.index = REG_NONE;
	*out = in_registers(t, &m);
	ensure(t, &base, out->base, 0, w);
	*out = in_window(*out, w);
	return true;
}

static struct host_mem index_operand(struct tr *t, const struct mem_operand *m)
{
	enum where w = window_guess(t, m);
	bool reachable = has_register(t, m->base) || has_register(t, m->index);
	const struct mem_operand near = window_without_small(t, m);
	struct host_mem h = AT(H_ADDR);

	if (near.index == REG_NONE && reachable && w != WHERE_ANY) {
		h = in_registers(t, m);
		ensure(t, &near, h.base, -base_disp(t, m->base, 0), w);
		accessed(t, &near);
		return in_window(h, w);
	}
	if (narrow_operand(t, *m, &h))
		return h;
	if (w == WHERE_ANY || !reachable || !near_fact(window_find_fact(&t->known, m), m)) {
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
	enum where w = window_guess(t, m);
	int32_t disp = 0;

	if (m->base == REG_NONE && m->index == REG_NONE && m->addr_size == 8) {
		temps_lost(t);
		e_load(&t->e, H_ADDR, segment_base(m->seg));
		disp = m->disp;		/* near the segment's base */
	} else {
		emit_effective(t, m, H_ADDR, m->addr_size == 4);
		emit_segment_base(t, m);
	}
	(w == WHERE_ANY ? emit_window_constant : emit_window_check)(t, H_ADDR);
	return in_window(AT_DISP(H_ADDR, disp), w);
}

struct host_mem emit_window_operand(struct tr *t, const struct mem_operand *m)
{
	if (only_constant(m))
		return constant_operand(t, m);
	if (!window_has_facts(m))
		return other_operand(t, m);
	return m->index == REG_NONE ? base_operand(t, m) : index_operand(t, m);
}

/* --- what comes behind an instruction --- */

/* What is known of the registers behind @i, which was emitted. */
void window_after(struct tr *t, const struct insn *i)
{
	struct known *k = &t->known;
	int64_t by;
	unsigned int from = insn_moved_from(i, &by);

	window_foresee_values(t, i);
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
		k->sure = k->narrow = k->small = 0;
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
	window_set_fact(t, &stack, 0);
	window_find_fact(&t->known, &stack)->by = BY_ENTRY;
}

void window_leave(struct tr *t)
{
	const struct fact *f = window_find_fact(&t->known, &stack);

	if (!(t->b->mode & MODE_WINDOW) || !t->known.stack_moved)
		return;
	if (f && f->by != BY_ENTRY && distance(f->off, 0) <= STACK_SLACK) {
		rely_on(t, f);
		return;
	}
	emit_window_check(t, H_GRSP);
	window_set_fact(t, &stack, 0);
	t->known.stack_moved = false;
}
