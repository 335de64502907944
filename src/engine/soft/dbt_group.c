// SPDX-License-Identifier: Apache-2.0
/*
 * Groups: instructions whose memory operands have the same base and index, so that their
 * distances are known, share one lookup of the page that all of them must be in.  Runs of
 * PUSH and POP are groups too.  In a group r14 is the host address of its lowest byte.
 *
 *	lea	r14, [lowest effective address]
 *	(does the range cross a page?  else the lookup of dbt_mem.c)
 *	lea	r14, [r14 + rcx]
 *	op1	[r14 + distance]
 *	op2	[r14 + distance]	...
 *
 * Where the lookup does not succeed the interpreter executes all of them.  Should that happen
 * often the block is made anew, and the same instructions stand behind it once more, each with a
 * lookup of its own: the cold code.  Entries into the middle of a group (after a step, or by a
 * branch) go there too.
 */
#include "engine/soft/dbt_tr.h"
#include "x86/regs.h"

#define GROUP_INSNS	32
#define MISSES_MAX	8

static bool same_place(const struct mem_operand *a, const struct mem_operand *b)
{
	return a->base == b->base && a->index == b->index && a->scale == b->scale &&
	       a->seg == b->seg;
}

/* The displacement, of RIP-relative operands the address itself. */
static int64_t place_of(const struct tr *t, unsigned int n)
{
	const struct mem_operand *m = &t->insn[n].mem;

	return m->base == REG_RIP ? m->disp + (int64_t)(t->b->gva + t->b->guest_off[n + 1])
				  : m->disp;
}

static bool has_operand(const struct insn *i)
{
	return i->flags & INSN_HAS_MEM && !i->mem.is_address;
}

static bool can_be_member(struct tr *t, const struct insn *i)
{
	if (!has_operand(i) || i->mem.addr_size != word_of(t) || !i->modrm_at || copy_temps(t, i) > 1)
		return false;
	if (t->b->mode & MODE_32 && i->mem.seg >= SEG_FS)	/* whose end is looked for */
		return false;
	for (unsigned int k = 0; k < i->op_count; k++)
		if (i->op[k].kind == OPND_GPR && i->op[k].high)
			return false;
	return block_copies(t, i);
}

/* Between members: leaves r14 alone. */
static bool can_be_between(struct tr *t, const struct insn *i)
{
	if (has_operand(i) || !block_copies(t, i))
		return false;
	if (i->info->id != INSN_ID_LEA)
		return i->mem.is_address || copy_temps(t, i) <= 1;
	return i->opsize != 2 && host_reg(t, i->op[0].reg) != IN_MEMORY &&
	       (i->mem.base >= REG_RIP || host_reg(t, i->mem.base) != IN_MEMORY);
}

static bool changes_place(const struct insn *i, const struct mem_operand *m)
{
	return (m->base < REG_RIP && i->gpr_written & BIT(m->base)) ||
	       (m->index < REG_RIP && i->gpr_written & BIT(m->index));
}

/* Takes instruction @n in if the range stays small enough. */
static bool group_extend(const struct tr *t, struct group *g, unsigned int n)
{
	const struct insn *i = &t->insn[n];
	int64_t place = place_of(t, n);
	int64_t low = g->range ? MIN(g->min, place) : place;
	int64_t high = place + i->mem.size;

	if (g->range)
		high = MAX(high, g->min + (int64_t)g->range);
	if (high - low > GROUP_RANGE || !fits_s32(low) || !fits_s32(high))
		return false;
	g->min = low;
	g->range = high - low;
	g->last = n;
	g->write |= (i->flags & INSN_MEM_WRITE) != 0;
	return true;
}

/* The last instruction has bytes in another page, and so a check of its own. */
static unsigned int group_limit(const struct tr *t, unsigned int n)
{
	unsigned int end = t->second != GPA_NONE ? t->count - 1 : t->count;

	return MIN(end, n + GROUP_INSNS);
}

static bool find_mem(struct tr *t, unsigned int n, struct group *g)
{
	const struct mem_operand *m = &t->insn[n].mem;
	unsigned int limit = group_limit(t, n), members = 0;

	*g = (struct group){ .kind = GROUP_MEM, .first = n };
	for (unsigned int k = n; k < limit; k++) {
		const struct insn *i = &t->insn[k];

		if (can_be_member(t, i) && same_place(&i->mem, m)) {
			if (!group_extend(t, g, k))
				break;
			members++;
		} else if (k == n || !can_be_between(t, i)) {
			break;
		}
		if (changes_place(i, m))
			break;
	}
	return members > 1;
}

static bool pushes(const struct insn *i)
{
	return i->info->id == INSN_ID_PUSH && i->stack_size == insn_word(i) &&
	       ((i->op[0].kind == OPND_GPR && i->op[0].reg != REG_RSP) ||
		(i->op[0].kind == OPND_IMM && fits_s32(i->imm)));
}

static bool pops(const struct insn *i)
{
	return i->info->id == INSN_ID_POP && i->stack_size == insn_word(i) && i->op[0].kind == OPND_GPR &&
	       i->op[0].reg != REG_RSP;
}

static bool find_stack(struct tr *t, unsigned int n, struct group *g)
{
	bool push = pushes(&t->insn[n]);
	unsigned int limit = group_limit(t, n), k = n;

	while (k < limit && (push ? pushes(&t->insn[k]) : pops(&t->insn[k])))
		k++;
	if (!push && k < limit && is_plain_ret(&t->insn[k]))
		k++;
	*g = (struct group){
		.kind = push ? GROUP_PUSH : GROUP_POP, .first = n, .last = k - 1,
		.range = word_of(t) * (k - n), .write = push,
		.min = push ? -(int64_t)word_of(t) * (k - n) : 0,
	};
	return k - n > 1;
}

static unsigned int wanted_bit(gpa_t gpa)
{
	return gpa * 0x9e3779b97f4a7c15ULL >> (64 - WANTED_BITS);
}

bool group_wants_cold(const struct dbt *d, gpa_t gpa)
{
	unsigned int bit = wanted_bit(gpa);

	return d->cold_wanted[bit / 64] >> bit % 64 & 1;
}

void group_missed(struct dbt *d, struct tblock *b, unsigned int n)
{
	unsigned int bit = wanted_bit(b->gpa);

	if (b->cold_groups || !(b->leaders >> n & 1) || ++b->group_misses < MISSES_MAX)
		return;
	d->cold_wanted[bit / 64] |= BIT(bit % 64);
	dbt_kill(d, b);
}

bool group_find(struct tr *t, unsigned int n, struct group *g)
{
	const struct insn *i = &t->insn[n];

	if (t->group_count == ARRAY_SIZE(t->group) || t->b->mode & MODE_WINDOW ||
	    !with(t->d, TRANSLATOR_OPT_GROUP))
		return false;
	if (pushes(i) || pops(i))
		return find_stack(t, n, g);
	return has_operand(i) && find_mem(t, n, g);
}

static void emit_group_start(struct tr *t, const struct group *g)
{
	struct mem_operand m = t->i->mem;

	if (g->kind == GROUP_MEM) {
		if (m.base == REG_RIP)
			m.base = REG_NONE;
		m.disp = g->min;
		emit_effective(t, &m, H_ADDR, t->b->mode & MODE_32);
		emit_segment_base(t, &m);
	} else {
		e_lea_word(t, H_ADDR, AT_DISP(H_GRSP, g->min));
	}
	emit_group_lookup(t, g->range, g->write);
}

static void emit_group_push(struct tr *t, const struct group *g, const struct insn *i)
{
	struct host_mem at = AT_DISP(H_ADDR, (int)(word_of(t) * (g->last - t->n)));
	struct emit *e = &t->e;

	if (i->op[0].kind == OPND_IMM) {
		e_store_word_imm(t, at, i->imm);
	} else if (host_reg(t, i->op[0].reg) == IN_MEMORY) {
		e_load(e, H_TMP, IN_GPR(i->op[0].reg));
		e_store(e, at, H_TMP);
	} else {
		e_store_word(t, at, host_reg(t, i->op[0].reg));
	}
}

static void emit_group_pop(struct tr *t, const struct group *g, const struct insn *i)
{
	struct host_mem at = AT_DISP(H_ADDR, (int)(word_of(t) * (t->n - g->first)));
	struct emit *e = &t->e;

	if (host_reg(t, i->op[0].reg) == IN_MEMORY) {
		e_load(e, H_TMP, at);
		e_store(e, IN_GPR(i->op[0].reg), H_TMP);
	} else {
		e_load_word(t, host_reg(t, i->op[0].reg), at);
	}
}

/* RET behind POPs: its address is the group's last value. */
static void emit_group_ret(struct tr *t, const struct group *g)
{
	e_load_word(t, H_ADDR, AT_DISP(H_ADDR, (int)(word_of(t) * (t->n - g->first))));
	e_lea_word(t, H_GRSP, AT_DISP(H_GRSP, g->range));
	emit_host_ret(t);
}

/* The present instruction as part of t->in_group; true if nothing runs on behind it. */
bool emit_group_member(struct tr *t, const struct insn *i)
{
	const struct group *g = t->in_group;

	if (t->n == g->first)
		emit_group_start(t, g);
	switch (g->kind) {
	case GROUP_PUSH:
		emit_group_push(t, g, i);
		break;
	case GROUP_POP:
		if (i->info->id == INSN_ID_RET) {
			emit_group_ret(t, g);
			return true;
		}
		emit_group_pop(t, g, i);
		break;
	default:
		if (has_operand(i))
			emit_copy_at(t, i, place_of(t, t->n) - g->min);
		else
			emit_copy(t, i);
		return false;
	}
	/* The stack pointer moves once, when nothing can fault any more. */
	if (t->n == g->last)
		e_lea_word(t, H_GRSP, AT_DISP(H_GRSP, g->kind == GROUP_PUSH ? -(int)g->range
									    : (int)g->range));
	return false;
}
