// SPDX-License-Identifier: Apache-2.0
/*
 * The packed ring: one ring of descriptors that both sides write; two flags of each, compared
 * with a wrap counter, say whose it is.
 *
 * Source: VIRTIO 1.2, "Packed Virtqueues".
 */
#include "virtio/core_priv.h"

#include <string.h>

#define DESC_AVAIL	BIT(7)
#define DESC_USED	BIT(15)

/* The event structures: an offset with a wrap flag, then flags. */
#define EVENT_OFFSET	0
#define EVENT_FLAGS	2
#define EVENT_SIZE	4
#define EVENT_WRAP	0x8000U
#define EVENT_ALWAYS	0U
#define EVENT_NEVER	1U
#define EVENT_AT	2U

static uint16_t load(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static void ring_store(uint8_t *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

bool packed_map(struct virtq *q)
{
	return virtq_map_area(q, AREA_DESC, (uint64_t)DESC_SIZE * q->size, 16) &&
	       virtq_map_area(q, AREA_DRIVER, EVENT_SIZE, 4) &&
	       virtq_map_area(q, AREA_DEVICE, EVENT_SIZE, 4);
}

static void advance(const struct virtq *q, uint16_t *at, bool *wrap, uint16_t by)
{
	unsigned int next = *at + by;

	if (next >= q->size) {
		next -= q->size;
		*wrap = !*wrap;
	}
	*at = next;
}

/* --- the driver's doorbell --- */

static void tell_driver(struct virtq *q, uint16_t flags)
{
	uint8_t *event = q->mem[AREA_DEVICE];

	if (flags == EVENT_AT)
		ring_store(event + EVENT_OFFSET, q->avail | (q->avail_wrap ? EVENT_WRAP : 0));
	ring_store(event + EVENT_FLAGS, flags);
	guest_written(q->core, q->area[AREA_DEVICE], EVENT_SIZE);
}

static void be_quiet(struct virtq *q)
{
	if (q->quiet)
		return;
	q->quiet = true;
	tell_driver(q, EVENT_NEVER);
}

static void ask_for_doorbell(struct virtq *q)
{
	q->quiet = false;
	tell_driver(q, virtq_has(q, VIRTIO_F_EVENT_IDX) ? EVENT_AT : EVENT_ALWAYS);
	/* Ask first, look again second; the driver adds first and looks whether we ask second. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- available --- */

/* Reads the descriptor at @p; its flags first, with acquire: they say that the rest is there. */
static void read_desc(struct desc *d, const uint8_t *p)
{
	d->flags = load(p + 14);
	memcpy(&d->addr, p, 8);
	memcpy(&d->len, p + 8, 4);
	memcpy(&d->id, p + 12, 2);
}

static bool is_available(const struct virtq *q)
{
	const uint16_t flags = load(q->mem[AREA_DESC] + DESC_SIZE * q->avail + 14);

	return !!(flags & DESC_AVAIL) == q->avail_wrap && !!(flags & DESC_USED) != q->avail_wrap;
}

static bool walk_inner(struct virtq *q, struct walk *w, const struct desc *d, const char **why)
{
	uint32_t entries;
	const uint8_t *table = walk_table(q, d, &entries, why);
	struct desc inner;

	for (uint32_t i = 0; table && i < entries; i++) {
		read_desc(&inner, table + DESC_SIZE * (uint64_t)i);
		if (inner.flags & DESC_INDIRECT) {
			*why = "a table refers to a table";
			return false;
		}
		if (!walk_add(q, w, &inner, why))
			return false;
	}
	return table;
}

enum walk_result packed_walk(struct virtq *q, struct walk *w, const char **why)
{
	uint16_t at = q->avail;
	bool wrap = q->avail_wrap;
	struct desc d;

	if (!is_available(q)) {
		ask_for_doorbell(q);
		if (!is_available(q))
			return WALK_NONE;
	}
	be_quiet(q);
	w->span = 0;
	do {
		if (w->span++ == q->size) {
			*why = "a chain is longer than its ring";
			return WALK_BROKEN;
		}
		read_desc(&d, q->mem[AREA_DESC] + DESC_SIZE * at);
		if (d.flags & DESC_INDIRECT && w->span > 1) {
			*why = "a table follows a buffer";
			return WALK_BROKEN;
		}
		if (!(d.flags & DESC_INDIRECT ? walk_inner(q, w, &d, why) : walk_add(q, w, &d, why)))
			return WALK_BROKEN;
		advance(q, &at, &wrap, 1);
	} while (d.flags & DESC_NEXT);
	w->id = d.id;
	q->avail = at;
	q->avail_wrap = wrap;
	return WALK_CHAIN;
}

void packed_unpop(struct virtq *q, uint16_t span)
{
	if (q->avail < span) {
		q->avail += q->size;
		q->avail_wrap = !q->avail_wrap;
	}
	q->avail -= span;
}

/* --- used --- */

/* Makes the descriptor at @p used; what is before it in memory is the driver's to see first. */
static void set_used(struct virtq *q, uint8_t *p, bool wrap, uint32_t written)
{
	/* Release: the driver reads the flags before the rest. */
	ring_store(p + 14, (wrap ? DESC_AVAIL | DESC_USED : 0) | (written ? DESC_WRITE : 0));
	guest_written(q->core, q->area[AREA_DESC] + (p - q->mem[AREA_DESC]), DESC_SIZE);
}

void packed_push(struct virtq *q, struct chain *const *c, const uint32_t *written,
		 unsigned int count)
{
	uint8_t *const first = q->mem[AREA_DESC] + DESC_SIZE * q->used;
	const bool first_wrap = q->used_wrap;

	for (unsigned int i = 0; i < count; i++) {
		uint8_t *p = q->mem[AREA_DESC] + DESC_SIZE * q->used;

		memcpy(p + 8, &written[i], 4);
		memcpy(p + 12, &c[i]->id, 2);
		if (i)
			set_used(q, p, q->used_wrap, written[i]);
		if (q->used + c[i]->span >= q->size)
			q->told_valid = false;	/* positions before the wrap do not compare */
		advance(q, &q->used, &q->used_wrap, c[i]->span);
	}
	/* The driver looks at the first, so the others are there before it. */
	set_used(q, first, first_wrap, written[0]);
}

bool packed_wants_interrupt(struct virtq *q)
{
	const uint16_t told = q->told;
	const bool valid = q->told_valid;
	uint16_t flags, at;
	int event;

	if (valid && told == q->used)
		return false;
	/* The used descriptor first, the driver's wish second; the driver does the reverse. */
	atomic_thread_fence(memory_order_seq_cst);
	q->told = q->used;
	q->told_valid = true;
	flags = load(q->mem[AREA_DRIVER] + EVENT_FLAGS);
	if (flags == EVENT_NEVER)
		return false;
	if (flags != EVENT_AT || !virtq_has(q, VIRTIO_F_EVENT_IDX) || !valid)
		return true;
	at = load(q->mem[AREA_DRIVER] + EVENT_OFFSET);
	event = at & ~EVENT_WRAP;
	if (!!(at & EVENT_WRAP) != q->used_wrap)
		event -= q->size;
	return (uint16_t)(q->used - event - 1) < (uint16_t)(q->used - told);
}
