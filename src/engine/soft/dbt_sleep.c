// SPDX-License-Identifier: Apache-2.0
/*
 * Translations that may be right again.  Of pages whose code changes, each translation keeps
 * the bytes that it was made from.  When those are overwritten, or when so many stores go to
 * such a page that it is to be data for a while, the translation falls asleep: as good
 * as dead, found by nobody.  Where the same code is to be translated again, and its bytes are
 * those again, it is woken instead.
 *
 * The bytes are looked at where a new translation would take them from, between 'open' and
 * 'keep' of struct dbt_config: so what is promised of stores to them holds as for a new one.
 */
#include "engine/soft/dbt_priv.h"

#define ASLEEP_MAX	4	/* of one place and mode: the newest */

static uint32_t *asleep_list(struct dbt *d, gpa_t gpa)
{
	return &d->asleep[gpa * 0x9e3779b97f4a7c15ULL >> 40 & (ASLEEP_HASH - 1)];
}

void sleep_forget(struct dbt *d, struct tblock *b)
{
	uint32_t *p = asleep_list(d, b->gpa), place = place_of_block(d, b);

	if (!b->asleep)
		return;
	while (*p != place)
		p = &block_at_place(d, *p)->next_hash;
	*p = b->next_hash;
	b->asleep = false;
}

void sleep_clear(struct dbt *d)
{
	for (unsigned int i = 0; i < ASLEEP_HASH; i++)
		d->asleep[i] = 0;
}

static bool same_place(const struct tblock *a, const struct tblock *b)
{
	return a->gpa == b->gpa && a->gva == b->gva && a->mode == b->mode;
}

void sleep_begin(struct dbt *d, struct tblock *b)
{
	uint32_t *list = asleep_list(d, b->gpa);
	struct tblock *s, *last = NULL;
	unsigned int count = 0;

	if (!b->bytes_at)
		return;
	for (s = block_at_place(d, *list); s; s = block_at_place(d, s->next_hash))
		if (same_place(s, b)) {
			last = s;
			count++;
		}
	if (count >= ASLEEP_MAX)
		sleep_forget(d, last);
	b->next_hash = *list;
	*list = place_of_block(d, b);
	b->asleep = true;
}

void sleep_keep_bytes(struct tblock *b, uint8_t *room, const uint8_t *page)
{
	for (unsigned int k = 0; k < b->size; k++)
		room[k] = page[(b->gpa & GUEST_PAGE_MASK) + k];
}

static bool same_bytes(struct tblock *b, const uint8_t *page)
{
	const uint8_t *now = page + (b->gpa & GUEST_PAGE_MASK), *then = block_part(b, b->bytes_at);

	for (unsigned int k = 0; k < b->size; k++)
		if (now[k] != then[k])
			return false;
	return true;
}

struct tblock *sleep_find(struct dbt *d, gva_t gva, gpa_t gpa, uint32_t mode, const uint8_t *page)
{
	struct tblock *b = block_at_place(d, *asleep_list(d, gpa));

	while (b && (b->gpa != gpa || b->gva != gva || b->mode != mode || !same_bytes(b, page)))
		b = block_at_place(d, b->next_hash);
	return b;
}

void sleep_end(struct dbt *d, struct tblock *b)
{
	sleep_forget(d, b);
	b->dead = false;
	dbt_insert(d, b);
	d->stats.blocks--;
	d->stats.woken++;
}
