// SPDX-License-Identifier: Apache-2.0
/*
 * Moving translations to another guest address.  Each process has its libraries and its
 * position-independent program at addresses of its own, but in the same pages of memory.
 * Where code runs whose bytes were translated at another address, all translations of that
 * page are moved: guest addresses in their code, which are 64-bit immediates, are changed by
 * the distance.  Host addresses stay as they are, and so do the jumps among the page's blocks.
 *
 * A page that two programs use in turn is not moved to and fro: one that has just come is
 * left alone, and translated for the other one as well.
 *
 * A block whose last instruction ends in another page asks whether that one is as it was: by
 * the number of the address space, or by looking once more (dbt_adopt).
 */
#include "engine/soft/dbt_priv.h"

#define SETTLED_US	2000		/* since a block was made or moved */
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

static bool far_away(gva_t gva)
{
	return gva >= FAR_AWAY && !(gva >> 47);
}

static bool can_move(const struct tblock *b, gva_t to)
{
	if (!b->movable || !far_away(b->gva) || !far_away(to))
		return false;
	return !(b->mode & MODE_WINDOW) || (in_high_window(b->gva) && in_high_window(to));
}

static bool settled(const struct vcpu *v, const struct tblock *b)
{
	return __builtin_ia32_rdtsc() - b->made_at > v->tsc_hz / 1000000 * SETTLED_US;
}

static void add(uint8_t *at, int64_t distance)
{
	uint64_t value;

	__builtin_memcpy(&value, at, 8);
	value += distance;
	__builtin_memcpy(at, &value, 8);
}

static void move_block(struct dbt *d, struct tblock *b, int64_t distance)
{
	jumps_forget(d, b);
	for (unsigned int k = 0; k < b->move_count; k++)
		add(d->rw + (b->moves[k] & ~MOVE_MINUS), b->moves[k] & MOVE_MINUS ? -distance : distance);
	for (unsigned int k = 0; k < b->slots; k++)
		d->slots[b->first_slot + k].target += distance;
	dbt_rehash(d, b, b->gva + distance);
	b->made_at = __builtin_ia32_rdtsc();
	d->stats.moved++;
}

/* All blocks of the page at @gpa that are at page @from.  Jumps lead from one to another. */
static void move_page(struct dbt *d, gpa_t page, gva_t from, gva_t to)
{
	struct page_link *l, *next;

	for (l = dbt_page_blocks(d, page); l; l = next) {
		struct tblock *b = l->block;

		next = l->next;
		if (l != &b->page[0] || l->page != page || page_gva(b->gva) != from)
			continue;
		if (can_move(b, b->gva - from + to) &&
		    !dbt_find(d, b->gva - from + to, b->gpa, b->mode)) {
			move_block(d, b, to - from);
			continue;
		}
		/* Both of its places may be in this very list. */
		if (next && next->block == b)
			next = next->next;
		dbt_kill(d, b);
	}
}

struct tblock *dbt_move(struct dbt *d, struct vcpu *v, gpa_t gpa, uint32_t mode)
{
	gpa_t page = ALIGN_DOWN(gpa, GUEST_PAGE_SIZE);

	if (d->lockstep)
		return NULL;
	for (struct page_link *l = dbt_page_blocks(d, page); l; l = l->next) {
		struct tblock *b = l->block;

		if (l == &b->page[0] && b->gpa == gpa && b->mode == mode && can_move(b, v->rip) &&
		    settled(v, b)) {
			move_page(d, page, page_gva(b->gva), page_gva(v->rip));
			return dbt_find(d, v->rip, gpa, mode);
		}
	}
	return NULL;
}

bool dbt_adopt(struct dbt *d, struct vcpu *v, struct tblock *b)
{
	gva_t next = page_gva(b->gva) + GUEST_PAGE_SIZE;
	uint64_t id;
	gpa_t gpa;

	dbt_refresh(d, v);
	id = dbt_hot(v)->id[b->gva >> 63];
	if (b->id == id)
		return true;
	if (gva_to_gpa(v, next, ACC_FETCH, &gpa) != MEM_OK) {
		v->fault = (struct fault){ 0 };
		return false;
	}
	if (gpa != b->second || (next >> 63 && !gva_is_global(v, next)))
		return false;
	if (next >> 63)
		tlb_note_code(&v->tlb, next);
	b->id = id;
	__builtin_memcpy(d->rw + b->id_at, &(uint64_t){ -id }, 8);
	b->foreign = 0;
	return true;
}
