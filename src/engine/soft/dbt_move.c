// SPDX-License-Identifier: Apache-2.0
/*
 * Moving translations to another guest address.  Each process has its libraries and its
 * position-independent program at addresses of its own, but in the same pages of memory.
 * Where code runs whose bytes were translated at another address, that block is moved: guest
 * addresses in its code, which are 64-bit immediates, are changed by the distance.  Its host
 * address stays what it is.
 *
 * A block that two programs use in turn is not moved to and fro: one that has just come is
 * left alone, and translated for the other one as well.
 *
 * A block whose last instruction ends in another page asks whether that one is as it was: by
 * the number of the address space, or by looking once more (dbt_adopt).
 */
#include "engine/soft/dbt_priv.h"

#define SETTLED_US	2000		/* since a block was made or moved */
#define PLACES_MAX	16		/* that the same bytes have translations for */
#define FAR_AWAY	BIT(33)		/* from here on addresses are immediates of 64 bits ... */
#define REACH		BIT(31)		/* ... even of what is so far from the code */

static gva_t page_gva(gva_t gva)
{
	return gva & ~GUEST_PAGE_MASK;
}

/* May code for windows have been, or be, at @gva: all that it reaches is in the high one? */
static bool in_high_window(gva_t gva)
{
	return gva - REACH >= WINDOW_LOW_END && window_covers(gva - REACH) && window_covers(gva + REACH);
}

/* Of user mode, as all that the code reaches. */
static bool far_away(gva_t gva)
{
	return gva >= FAR_AWAY && gva + REACH < BIT(47);
}

static bool can_move(const struct dbt *d, const struct tblock *b, gva_t to)
{
	if (d->lockstep || !with(d, TRANSLATOR_OPT_MOVE))
		return false;
	if (!b->moves_at || !far_away(b->gva) || !far_away(to))
		return false;
	return !(b->mode & MODE_WINDOW) || (in_high_window(b->gva) && in_high_window(to));
}

static bool settled(const struct vcpu *v, const struct tblock *b)
{
	uint32_t age = (__builtin_ia32_rdtsc() >> MADE_AT_SHIFT) - b->made_at;

	return age > (v->tsc_hz / 1000000 * SETTLED_US) >> MADE_AT_SHIFT;
}

static void add(uint8_t *at, int64_t distance)
{
	uint64_t value;

	__builtin_memcpy(&value, at, 8);
	value += distance;
	__builtin_memcpy(at, &value, 8);
}

/* Jumps from and to @b are made again when they run: others of its page may stay. */
static void unlink_all(struct dbt *d, struct tblock *b)
{
	while (b->in)
		dbt_unlink(d, &d->slots[b->in - 1]);
	for (unsigned int k = 0; k < b->slots; k++)
		if (d->slots[b->first_slot + k].to)
			dbt_unlink(d, &d->slots[b->first_slot + k]);
}

static void move_block(struct dbt *d, struct tblock *b, int64_t distance)
{
	const uint32_t *moves = block_part(b, b->moves_at);

	jumps_forget(d, b);
	unlink_all(d, b);
	cell_drop(d, b);
	for (unsigned int k = 0; k < b->move_count; k++)
		add(d->rw + (moves[k] & ~MOVE_MINUS), moves[k] & MOVE_MINUS ? -distance : distance);
	b->gva += distance;
	cell_take(d, b);
	b->made_at = __builtin_ia32_rdtsc() >> MADE_AT_SHIFT;
	d->stats.moved++;
}

struct tblock *dbt_move(struct dbt *d, struct vcpu *v, gpa_t gpa, uint32_t mode)
{
	struct tblock *b, *last = NULL;
	unsigned int places = 0;

	for (b = dbt_first(d, gpa, mode); b; b = dbt_next(d, b)) {
		if (can_move(d, b, v->rip) && settled(v, b)) {
			move_block(d, b, v->rip - b->gva);
			return b;
		}
		last = b;
		places++;
	}
	if (places >= PLACES_MAX)
		dbt_kill(d, last);
	return NULL;
}

static void set_id(struct dbt *d, struct crossing *c, uint64_t id)
{
	c->id = id;
	if (c->id_at)
		__builtin_memcpy(d->rw + c->id_at, &(uint64_t){ -id }, 8);
}

bool dbt_adopt(struct dbt *d, struct vcpu *v, struct tblock *b)
{
	gva_t next = page_gva(b->gva) + GUEST_PAGE_SIZE;
	struct crossing *c = crossing_of(b);
	uint64_t id;
	gpa_t gpa;

	dbt_refresh(d, v);
	id = side_of(dbt_hot(v), b->mode)->id[b->gva >> 63];
	if (c->id == id)
		return true;
	if (gva_to_gpa(v, next, ACC_FETCH, &gpa) != MEM_OK) {
		v->fault = (struct fault){ 0 };
		return false;
	}
	if (gpa != c->second || (next >> 63 && !gva_is_global(v, next)))
		return false;
	if (next >> 63)
		tlb_note_code(&v->tlb, next);
	set_id(d, c, id);
	c->foreign = 0;
	return true;
}

void dbt_adopt_none(struct dbt *d)
{
	for (unsigned int i = 0; i < SECOND_HASH; i++)
		for (struct page_link *l = d->second[i]; l; l = l->next)
			set_id(d, container_of(l, struct crossing, page), 0);
}
