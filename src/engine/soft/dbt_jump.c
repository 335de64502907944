// SPDX-License-Identifier: Apache-2.0
/*
 * The jump cache: from guest addresses to code, for indirect jumps and for direct ones to
 * other pages.
 *
 *	mov	rcx, [calm]			; r14: guest address
 *	lea	rcx, [r14 + rcx]
 *	pext	rcx, rcx, [jump_mask]		; JUMP_CACHE, bits 48-50
 *	jmp	jump[rcx * 8]
 *
 * An entry is where a block checks that r14 is its address; the others lead to
 * exit_indirect.  There are eight sets of entries.  A set belongs to one address space and
 * mode of code in the lower half, or to global kernel pages of one tlb.upper_tag and mode.
 * 'calm' has its number in bits 48 and up, such that it is in bits 48-50 of the sum: lower
 * addresses are 0 there, upper ones are all ones.  When somebody clears 'calm', the sum falls
 * into set 0 or 7, where all entries leave for attention.  Above that it has a number
 * of the address space and mode, for dbt_far.c.
 *
 * User code that jumps to an upper address looks into the set before its own, kernel code
 * that jumps to a lower one into the set behind.  None of these must be the other's, whose
 * code would run without the checks of its mode: so the lower half's come first.
 */
#include "engine/soft/dbt_priv.h"

#define SET_FIRST	1
#define SET_UPPER	5	/* the first of the upper half's */
#define SET_LAST	6

static unsigned int jump_index(gva_t gva)
{
	return gva >> JUMP_SHIFT & (JUMP_CACHE - 1);
}

static uint64_t *entry_of(struct dbt_hot *hot, unsigned int set, gva_t gva)
{
	return &hot->jump[set * JUMP_CACHE + jump_index(gva)];
}

static void set_fill(struct dbt_hot *hot, unsigned int set, const void *code)
{
	for (unsigned int i = 0; i < JUMP_CACHE; i++)
		hot->jump[set * JUMP_CACHE + i] = (uint64_t)code;
	hot->set[set].used = 0;
}

/* Most sets are left with few entries. */
static void set_clear(struct dbt *d, struct dbt_hot *hot, unsigned int set)
{
	struct jump_set *s = &hot->set[set];

	if (s->used > ARRAY_SIZE(s->list)) {
		set_fill(hot, set, d->exit_indirect);
		return;
	}
	for (unsigned int i = 0; i < s->used; i++)
		hot->jump[set * JUMP_CACHE + s->list[i]] = (uint64_t)d->exit_indirect;
	s->used = 0;
}

void jumps_init(struct dbt *d, struct dbt_hot *hot)
{
	hot->found_mask = (BIT(FOUND_BITS) - 1) << FOUND_SHIFT;
	hot->jump_mask = (uint64_t)(JUMP_CACHE - 1) << JUMP_SHIFT | 7ULL << 48;
	for (unsigned int i = 0; i <= SET_LAST + 1; i++) {
		set_fill(hot, i, i < SET_FIRST || i > SET_LAST ? d->exit_poll : d->exit_indirect);
		hot->set[i].tag = UINT64_MAX;
	}
}

void jumps_clear_found(struct dbt_hot *hot)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(hot->found); i++)
		hot->found[i].minus_id = 0;
}

void jumps_clear(struct dbt *d)
{
	if (d->hot) {
		jumps_clear_found(d->hot);
		again_forget(d->hot);
	}
	for (unsigned int i = SET_FIRST; d->hot && i <= SET_LAST; i++)
		set_clear(d, d->hot, i);
}

/* The set for @tag, or the one that was used last the longest time ago. */
static unsigned int choose_set(struct dbt *d, struct dbt_hot *hot, uint64_t tag, bool lower)
{
	unsigned int oldest = lower ? SET_FIRST : SET_UPPER, i;
	unsigned int last = lower ? SET_UPPER - 1 : SET_LAST;

	for (i = oldest; i <= last && hot->set[i].tag != tag; i++)
		if (hot->set[i].used_at < hot->set[oldest].used_at)
			oldest = i;
	if (i > last) {
		i = oldest;
		set_clear(d, hot, i);
		hot->set[i].tag = tag;
	}
	hot->set[i].used_at = ++hot->set_clock;
	return i;
}

void jumps_use(struct dbt *d, struct dbt_hot *hot, struct side *s, uint64_t tag, bool lower)
{
	struct side *other = &hot->side[s == hot->side];

	hot->set[other->set].used_at = ++hot->set_clock;	/* stays its */
	s->set = choose_set(d, hot, tag, lower);
	s->calm = (uint64_t)(s->set + !lower) << 48 | s->space << CALM_SPACE;
}

void jumps_remember(struct dbt_hot *hot, const struct tblock *b)
{
	unsigned int set = side_of(hot, b->mode)->set, k = jump_index(b->gva);
	struct jump_set *s = &hot->set[set];

	/* What the present mode jumps to in the other half is found the long way. */
	if ((b->gva >> 63 != 0) == lower_half(b->mode))
		return;
	if (s->used < ARRAY_SIZE(s->list))
		s->list[s->used] = k;
	if (s->used <= ARRAY_SIZE(s->list))
		s->used++;
	hot->jump[set * JUMP_CACHE + k] = (uint64_t)(b->code - b->entry_len);
}

void jumps_forget(struct dbt *d, const struct tblock *b)
{
	struct found *f = found_slot(d->hot, b->gva);

	if (f->block == b)
		f->minus_id = 0;
	if (d->hot->again_block == b)
		again_forget(d->hot);
	for (unsigned int i = SET_FIRST; i <= SET_LAST; i++)
		if (*entry_of(d->hot, i, b->gva) == (uint64_t)(b->code - b->entry_len))
			*entry_of(d->hot, i, b->gva) = (uint64_t)d->exit_indirect;
}

/* To the code for guest address r14. */
void emit_jump_cached(struct emit *e, bool user)
{
	struct host_mem code = IN_HOT(jump[0]);

	code.index = H_TMP;
	code.scale = 3;
	e_load(e, H_TMP, IN_VCPU(calm[user]));
	e_lea(e, H_TMP, AT_INDEX(H_ADDR, H_TMP));
	e_pext(e, H_TMP, H_TMP, IN_HOT(jump_mask));
	e_op_mem(e, 0, 0xff, 4, code);
}

/*
 * The same for what the jump cache does not have: among the lookups that C code did, or to
 * @miss.  Clobbers hot.target and rcx.
 */
void emit_jump_found(struct emit *e, void *miss)
{
	struct host_mem minus_gva = IN_HOT(found[0].minus_gva), code = IN_HOT(found[0].code),
			minus_id = IN_HOT(found[0].minus_id);
	const struct host_mem eight_times = AT_SCALE(NO_REG, H_TMP, 3);
	uint8_t *same, *right;

	minus_gva.index = code.index = H_TMP;
	minus_id.index = H_ADDR;
	minus_gva.scale = code.scale = minus_id.scale = 2;
	e_store(e, IN_HOT(target), H_ADDR);
	e_rorx(e, H_TMP, H_ADDR, GUEST_PAGE_SHIFT);
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	e_pext(e, H_TMP, H_TMP, IN_HOT(found_mask));
	e_lea(e, H_TMP, eight_times);	/* 32 bytes each: by 8 here, by 4 there */
	e_store(e, IN_HOT(scratch), H_TMP);
	e_load(e, H_TMP, minus_gva);
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	same = e_jrcxz(e);
	e_jmp(e, miss);
	e_bind8(e, same);
	e_load(e, H_ADDR, IN_HOT(scratch));
	e_load(e, H_TMP, minus_id);
	e_load(e, H_ADDR, IN_HOT(present_id));
	e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	e_load(e, H_ADDR, IN_HOT(target));
	right = e_jrcxz(e);
	e_jmp(e, miss);
	e_bind8(e, right);
	e_load(e, H_TMP, IN_HOT(scratch));
	e_op_mem(e, 0, 0xff, 4, code);
}

/* jrcxz to be bound: r14 is @gva.  Clobbers rcx. */
uint8_t *emit_if_address(struct emit *e, gva_t gva)
{
	if (fits_s32(-gva)) {
		if (e->moves)
			e->moves->fixed = true;
		e_lea(e, H_TMP, AT_DISP(H_ADDR, -gva));
	} else {
		e_mov_minus_gva(e, H_TMP, gva);
		e_lea(e, H_TMP, AT_INDEX(H_TMP, H_ADDR));
	}
	return e_jrcxz(e);
}
