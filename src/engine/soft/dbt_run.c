// SPDX-License-Identifier: Apache-2.0
/*
 * Running translated code: finding it, entering it, and seeing to what it leaves for.
 */
#include "cpu/fpu.h"
#include "engine/soft/dbt_priv.h"
#include "x86/regs.h"

#include <assert.h>
#include <stdatomic.h>

#define FOREIGN_MAX	32
#define IDS_MAX		0xfff0	/* of 16 bits, with room for those of both sides */
#define SPACES_MAX	(BIT(64 - CALM_SPACE) - 1)

static void flags_out(struct vcpu *v, const struct dbt_hot *hot)
{
	v->rflags = (v->rflags & ~RFLAGS_ARITH) | (hot->flags >> 8 & LAHF_FLAGS) |
		    (hot->flags & 1) << 11;
}

/* Numbers that have all been used begin again: what was found under them is forgotten. */
static void ids_renew(struct dbt *d, struct dbt_hot *hot)
{
	if (hot->last_id < IDS_MAX)
		return;
	hot->last_id = 0;
	for (unsigned int i = 0; i < TAG_SETS; i++)
		for (unsigned int k = 0; k < TAG_WAYS; k++)
			hot->ids[i][k].tag = 0;
	jumps_clear_found(hot);
	hot->side[0].tag = hot->side[1].tag = NO_TAG;
	dbt_adopt_none(d);
}

/* A small number for an address space and mode, the same as long as it is remembered. */
static struct tag_id *tag_id(struct dbt_hot *hot, uint64_t tag)
{
	struct tag_id *set = hot->ids[(tag ^ tag >> MODE_BITS) % TAG_SETS];
	struct tag_id found = { .tag = tag + 1 };
	unsigned int k = 0;

	while (k < TAG_WAYS - 1 && set[k].tag != tag + 1)
		k++;
	if (set[k].tag == tag + 1)
		found = set[k];
	else
		found.id = ++hot->last_id;
	for (; k; k--)
		set[k] = set[k - 1];
	set[0] = found;
	return &set[0];
}

/* Likewise for cells, smaller and for user code alone: kernels' code need not be found again. */
static uint64_t space_of(struct dbt_hot *hot, struct tag_id *t)
{
	if (t->space)
		return t->space;
	if (hot->last_space == SPACES_MAX) {
		hot->last_space = 0;
		for (unsigned int i = 0; i < TAG_SETS; i++)
			for (unsigned int k = 0; k < TAG_WAYS; k++)
				hot->ids[i][k].space = 0;
		cells_expire(hot);
	}
	return t->space = ++hot->last_space;
}

/* The side of @mode is for that mode in the present address space. */
void side_use(struct dbt *d, struct vcpu *v, uint32_t mode)
{
	uint64_t tag = v->tlb.fetch_tag << MODE_BITS | mode, upper;
	struct dbt_hot *hot = dbt_hot(v);
	struct side *s = side_of(hot, mode);
	bool lower = lower_half(mode);
	struct tag_id *t;

	if (s->tag == tag)
		return;
	dbt_empty_private_stack(d, s);
	if (mode & MODE_USER)
		again_forget(hot);
	s->tag = tag;
	t = tag_id(hot, tag);
	s->id[0] = (uint64_t)t->id << 48;
	s->space = mode & MODE_USER ? space_of(hot, t) : 0;
	upper = BIT(63) | v->tlb.upper_tag << MODE_BITS | mode;
	s->id[1] = (uint64_t)tag_id(hot, upper)->id << 48;
	s->own_id = s->id[!lower];
	jumps_use(d, hot, s, lower ? tag : upper, lower);
}

/*
 * What was found and the private stacks hold host addresses that are right for one
 * address space, one mode and the blocks alive: tags tell the first two apart.  A block
 * that dies is taken out of what was found, and empties the stacks.
 */
void dbt_refresh(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);
	uint32_t mode = dbt_mode(v);

	if (unlikely(hot->seen_changed != d->changed)) {
		dbt_empty_private_stacks(d);
		hot->seen_changed = d->changed;
	}
	if (unlikely(hot->seen_upper != v->tlb.upper_tag)) {
		dbt_unlink_far(d);
		hot->seen_upper = v->tlb.upper_tag;
		hot->side[0].tag = hot->side[1].tag = NO_TAG;
	}
	hot->view_ac = tlb_view_of(v, VIEW_SUPER_AC);
	hot->view_no_ac = tlb_view_of(v, v->cr4 & CR4_SMAP ? VIEW_SUPER : VIEW_SUPER_AC);
	hot->view_user = tlb_view_of(v, VIEW_USER);
	if (likely(side_of(hot, mode)->tag == (v->tlb.fetch_tag << MODE_BITS | mode) && gate_fits(v)))
		return;
	ids_renew(d, hot);
	side_use(d, v, mode);
	gate_set(d, v, mode);
}

static void remember(const struct dbt *d, struct vcpu *v, struct tblock *b)
{
	struct dbt_hot *hot = dbt_hot(v);
	struct found *f = found_slot(hot, b->gva);

	if (in_lockstep(d, b->mode))
		return;
	cell_hold(hot, b);
	if (!with(d, TRANSLATOR_OPT_CACHE))
		return;
	if (b->gva >> 63) {
		if (!gva_is_global(v, b->gva))
			return;
		tlb_note_code(&v->tlb, b->gva);
	}
	*f = (struct found){ -b->gva, -side_of(hot, b->mode)->id[b->gva >> 63], b->code, b };
	jumps_remember(hot, b);
}

struct tblock *dbt_recall(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);
	const struct found *f = found_slot(hot, v->rip);

	dbt_refresh(d, v);
	if (f->minus_gva != -v->rip || f->minus_id != -present_side(v)->id[v->rip >> 63])
		return NULL;
	cell_hold(hot, f->block);
	jumps_remember(hot, f->block);
	return f->block;
}

/* The host address to run v->rip at, or NULL. */
static void *find_code(struct dbt *d, struct vcpu *v)
{
	struct tblock *b = dbt_recall(d, v);

	if (b)
		return b->code;
	d->stats.lookups++;
	b = d->cfg.find(d->cfg.arg, v);
	if (!b)
		return NULL;
	dbt_refresh(d, v);	/* finding may have made, and so flushed */
	remember(d, v, b);
	return b->code;
}

bool dbt_translates(const struct dbt *d, const struct vcpu *v)
{
	return v->code_size == CODE_64 || (with(d, TRANSLATOR_OPT_CODE32) && code32_runs(v));
}

bool dbt_runnable(const struct dbt *d, const struct vcpu *v)
{
	/* A switch to a task that is to be trapped leaves db_pending. */
	return !v->attention && dbt_translates(d, v) && !(v->rflags & RFLAGS_RF) &&
	       !(v->dr[7] & 0xff) && !v->db_pending;
}

/* The interpreter's meaning of instruction @n of @b, at v->rip. */
static enum exec_status execute(struct dbt *d, struct vcpu *v, struct tblock *b, unsigned int n)
{
	const struct insn *i = block_step(b, n);
	enum exec_status st;

	if (!i)
		return d->cfg.step(d->cfg.arg, v);
	dbt_count_step(d, i);
	st = i->exec(v, i);
	if (unlikely(v->code_size != CODE_64))
		v->rip = (uint32_t)v->rip;
	v->stats.insns++;
	return st == EXEC_FAULT ? vcpu_deliver(v) : st;
}

/* IRETQ has set it: like that in line, with no breakpoints for it to hold off. */
static void forget_rf(const struct dbt *d, struct vcpu *v)
{
	if (with(d, TRANSLATOR_OPT_SWITCH) && !d->lockstep && !(v->dr[7] & 0xff))
		v->rflags &= ~RFLAGS_RF;
}

/* And what it was is remembered. */
static enum exec_status interpret(struct dbt *d, struct vcpu *v, struct tblock *b,
				  unsigned int n)
{
	enum exec_status st = execute(d, v, b, n);

	d->stats.steps++;
	if (b->mode & MODE_USER && !v->cpl)
		again_note(d, v, b, n);
	if (v->rflags & RFLAGS_RF)
		forget_rf(d, v);
	return st;
}

/* A block whose second page is another one now: after some time it is made anew. */
static void count_foreign(struct dbt *d, struct vcpu *v, struct tblock *b, unsigned int n)
{
	struct crossing *c = crossing_of(b);

	if (c && c->id_at && n + 1U == b->count && !dbt_adopt(d, v, b) &&
	    ++c->foreign > FOREIGN_MAX)
		dbt_kill(d, b);
}

/*
 * Interprets instruction @n of @b, and those behind it at which the block cannot be
 * entered; *code: where to go on, or NULL.
 */
static enum exec_status step(struct dbt *d, struct vcpu *v, struct tblock *b, unsigned int n,
			     void **code)
{
	uint64_t tag = v->tlb.fetch_tag;
	uint32_t changed = d->changed, mode = b->mode;	/* before anything is killed */
	enum exec_status st;
	gva_t next;

	*code = NULL;
	v->rip = b->gva + b->guest_off[n];
	count_foreign(d, v, b, n);
	if (!b->dead)
		group_missed(d, b, n);
	do {
		next = b->gva + b->guest_off[n + 1];
		st = interpret(d, v, b, n++);
		if (st == EXEC_EXIT || !dbt_runnable(d, v) || dbt_hot(v)->watch)
			return st;
		/* 'changed' counts flushes too, after which @b is gone. */
		if (v->rip != next || d->changed != changed || v->tlb.fetch_tag != tag ||
		    dbt_mode(v) != mode) {
			*code = in_place(d) ? dbt_go(d, v) : find_code(d, v);
			return EXEC_OK;
		}
		*code = block_entry(b, n);
	} while (!*code);
	dbt_refresh(d, v);
	return EXEC_OK;
}

/*
 * On the jump's own page, whose mapping holds while its code runs, to the far entry of a
 * program's other page, or to another global page of the kernel's; else the jump goes through
 * the jump cache for good.
 */
static void link(struct dbt *d, struct vcpu *v, struct slot *s, struct tblock *to)
{
	struct tblock *from = slot_from(d, s);

	if (s->probe) {
		if (!with(d, TRANSLATOR_OPT_FAR) || !gva_is_global(v, from->gva) ||
		    !gva_is_global(v, slot_target(d, s))) {
			emit_patch32(d->rw + s->patch, d->rx - d->rw, block_cold(from) + s->probe - 1);
			return;
		}
		s->far_link = true;
		tlb_note_code(&v->tlb, from->gva);
		tlb_note_code(&v->tlb, slot_target(d, s));
	}
	dbt_link(d, s, to);
	d->stats.chains++;
}

static enum exec_status chain(struct dbt *d, struct vcpu *v, struct slot *s, void **code)
{
	struct tblock *from = slot_from(d, s), *to;
	uint32_t generation = d->generation;

	v->rip = slot_target(d, s);
	*code = NULL;
	to = d->cfg.find(d->cfg.arg, v);
	if (!to)
		return EXEC_OK;
	if (d->generation == generation && !from->dead && !in_lockstep(d, from->mode) &&
	    from->mode == to->mode && (slot_is_far(d, s) || with(d, TRANSLATOR_OPT_CHAIN)))
		link(d, v, s, to);
	dbt_refresh(d, v);
	cell_hold(dbt_hot(v), to);
	*code = to->code;
	return EXEC_OK;
}

static unsigned int cold_insn_at(struct tblock *b, const uint8_t *pc)
{
	unsigned int off = pc - block_cold(b) + 1, best = 0;
	const uint16_t *at = cold_off(b);

	for (unsigned int n = 0; b->cold_groups && n < b->count; n++)
		if (at[n] && at[n] <= off && at[n] >= at[best])
			best = n;
	return best;
}

/* The instruction of @b whose code, hot or cold, @pc is in. */
unsigned int dbt_insn_at(struct tblock *b, const uint8_t *pc)
{
	unsigned int n = 0;

	if (pc < b->code || pc >= block_end(b))
		return cold_insn_at(b, pc);
	while (n < b->count && pc >= b->code + host_off(b)[n + 1])
		n++;
	return n;	/* behind the last RSP is checked before it goes on */
}

/*
 * A host fault in code for windows: the interpreter executes the instruction, which fills
 * the TLB, and the window may be filled from there.
 */
static enum exec_status window_fault(struct dbt *d, struct vcpu *v, struct tblock *b,
				     unsigned int n)
{
	gpa_t site = b->gpa + b->guest_off[n];
	gva_t next = b->gva + b->guest_off[n + 1];
	uint32_t generation = d->generation;
	enum exec_status st;

	st = interpret(d, v, b, n);
	if (windows_fault(d, v, site, st == EXEC_OK && v->rip == next) &&
	    d->generation == generation && !b->dead)
		dbt_kill(d, b);
	return st;
}

static enum exec_status host_fault(struct dbt *d, struct vcpu *v, void **code)
{
	const uint8_t *pc = (const uint8_t *)dbt_hot(v)->fault_pc;
	struct tblock *b = dbt_block_at(d, pc);
	enum exec_status st;
	unsigned int n;

	assert(b);	/* fixed code does not fault */
	n = dbt_insn_at(b, pc);
	if (!(b->mode & MODE_WINDOW))
		return step(d, v, b, n, code);
	/* One instruction only, so that it is known what it did. */
	v->rip = b->gva + b->guest_off[n];
	st = n < b->count ? window_fault(d, v, b, n) : EXEC_OK;
	if (st == EXEC_OK && dbt_runnable(d, v))
		*code = find_code(d, v);
	return st;
}

enum exec_status dbt_handle(struct dbt *d, struct vcpu *v, void **code)
{
	struct dbt_hot *hot = dbt_hot(v);

	*code = NULL;
	d->stats.exits[hot->reason]++;
	switch ((enum dbt_reason)hot->reason) {
	case REASON_CHAIN:
		return chain(d, v, &d->slots[hot->arg], code);
	case REASON_INDIRECT:
		v->rip = hot->target;
		*code = find_code(d, v);
		return EXEC_OK;
	case REASON_STEP:
		return step(d, v, d->blocks[hot->arg >> 8], hot->arg & 0xff, code);
	case REASON_POLL:
		v->rip = hot->target;
		*code = dbt_runnable(d, v) ? find_code(d, v) : NULL;
		return EXEC_OK;
	case REASON_SIGNAL:
		return host_fault(d, v, code);
	case REASON_SEEN_TO:
		return hot->status;
	case REASON_STEP_HERE:
	case DBT_REASONS:
		break;
	}
	return EXEC_OK;
}

/*
 * A jump or RET to no canonical address has not happened: translated code has left for the
 * interpreter at it.
 */
static void undo_branch(struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);

	if (likely((hot->reason != REASON_INDIRECT && hot->reason != REASON_POLL) ||
		   gva_canonical(hot->target)))
		return;
	if (hot->branch & BRANCH_RET)
		v->gpr[REG_RSP] -= 8;
	hot->arg = hot->branch & ~BRANCH_RET;
	hot->reason = REASON_STEP;
}

/* What left by a call from its place says which instruction it is as others do. */
static void name_step(struct dbt *d, struct dbt_hot *hot)
{
	const uint8_t *place = (const uint8_t *)hot->fault_pc;

	if (hot->reason != REASON_STEP_HERE)
		return;
	hot->arg = dbt_id_at(d, place) << 8 | *place;
	hot->reason = REASON_STEP;
}

/*
 * Where code left at an instruction, the stack pointer may still be behind: see
 * stack_may_wait(); and a string instruction may have done a part.
 */
static void settle(struct dbt *d, struct vcpu *v)
{
	const struct dbt_hot *hot = dbt_hot(v);
	struct tblock *b;
	unsigned int n;

	if (hot->reason == REASON_SIGNAL) {
		b = dbt_block_at(d, (const uint8_t *)hot->fault_pc);
		n = dbt_insn_at(b, (const uint8_t *)hot->fault_pc);
		string_settle(v, (const uint8_t *)hot->fault_pc);
	} else if (hot->reason == REASON_STEP) {
		b = d->blocks[hot->arg >> 8];
		n = hot->arg & 0xff;
	} else {
		return;
	}
	if (b->stack_waits && n < b->count)
		v->gpr[REG_RSP] += rsp_off(b)[n];
}

void dbt_came_out(struct dbt *d, struct vcpu *v)
{
	struct dbt_hot *hot = dbt_hot(v);

	flags_out(v, hot);
	name_step(d, hot);
	settle(d, v);
	undo_branch(v);
}

void dbt_enter_once(struct dbt *d, struct vcpu *v, void *code)
{
	struct dbt_hot *hot = dbt_hot(v);

	flags_in(v, hot);
	fpu_get(v);
	dbt_enter(d, v, code);
	dbt_came_out(d, v);
}

/* One at a time with the interpreter; *ran: it did, and left for a reason. */
static enum exec_status enter(struct dbt *d, struct vcpu *v, void *code, bool *ran)
{
	*ran = true;
	if (unlikely(d->lockstep) && in_lockstep(d, dbt_block_at(d, code)->mode))
		return lockstep_run(d, v, code, ran);
	dbt_enter_once(d, v, code);
	return EXEC_OK;
}

/*
 * False: something wants attention.  Pairs with vcpu_attention: 'calm' is set before
 * attention is looked at.
 */
bool dbt_calm_down(struct vcpu *v)
{
	const struct side *s = dbt_hot(v)->side;

	if (likely(atomic_load_explicit(&v->calm[0], memory_order_relaxed) == s[0].calm &&
		   atomic_load_explicit(&v->calm[1], memory_order_relaxed) == s[1].calm))
		return true;
	atomic_store(&v->calm[0], s[0].calm);
	atomic_store(&v->calm[1], s[1].calm);
	return !v->attention;
}

/* Who is to run elsewhere, or to have windows? */
void dbt_sample(struct dbt *d, struct vcpu *v)
{
	if (!d->cfg.sample(d->cfg.arg, v) && d->windows)
		windows_sample(d, v);
}

/* Code of a space that has a cell: the loop will see to it. */
bool dbt_elsewhere(const struct dbt *d, struct vcpu *v)
{
	return unlikely(v->tlb.cell != NULL) && v->cpl == 3 && d->cfg.elsewhere(d->cfg.arg, v);
}

enum exec_status dbt_run(struct dbt *d, struct vcpu *v, struct tblock *b)
{
	enum exec_status st = EXEC_OK;
	void *code = b->code;
	bool ran = true;

	if (!dbt_runnable(d, v) || (d->windows && windows_demand(d, v)))
		return EXEC_OK;
	dbt_refresh(d, v);
	cell_hold(dbt_hot(v), b);
	while (code && st == EXEC_OK && !dbt_elsewhere(d, v) && windows_fit(v) && dbt_calm_down(v)) {
		d->stats.entries++;
		st = enter(d, v, code, &ran);
		if (st != EXEC_OK || !ran)
			return st;
		st = dbt_handle(d, v, &code);
	}
	dbt_sample(d, v);
	return st;
}
