// SPDX-License-Identifier: Apache-2.0
/*
 * The split ring: a table of descriptors, a ring of heads by the driver, a ring of used heads
 * by the device.
 *
 * Source: VIRTIO 1.2, "Split Virtqueues".
 *
 * Each field of guest memory is read once, so that what was checked is what is used.
 */
#include "virtio/core_priv.h"

#include <string.h>

#define RING_NO_NOTICE	1U	/* in the flags of either ring: no need to tell me */

/* The rings: flags, index, entries, the event of the other side. */
#define RING_FLAGS	0
#define RING_INDEX	2
#define RING_ENTRIES	4

static uint16_t load(const uint8_t *p)
{
	return __atomic_load_n((const uint16_t *)p, __ATOMIC_ACQUIRE);
}

static void ring_store(uint8_t *p, uint16_t value)
{
	__atomic_store_n((uint16_t *)p, value, __ATOMIC_RELEASE);
}

static uint8_t *used_event(struct virtq *q)
{
	return q->mem[AREA_DRIVER] + RING_ENTRIES + 2 * q->size;
}

static uint8_t *avail_event(struct virtq *q)
{
	return q->mem[AREA_DEVICE] + RING_ENTRIES + 8 * q->size;
}

bool split_map(struct virtq *q)
{
	const uint64_t n = q->size;

	return !(n & (n - 1)) && virtq_map_area(q, AREA_DESC, DESC_SIZE * n, 16) &&
	       virtq_map_area(q, AREA_DRIVER, RING_ENTRIES + 2 * n + 2, 2) &&
	       virtq_map_area(q, AREA_DEVICE, RING_ENTRIES + 8 * n + 2, 4);
}

static void device_area_written(struct virtq *q, const uint8_t *p, unsigned int len)
{
	guest_written(q->core, q->area[AREA_DEVICE] + (p - q->mem[AREA_DEVICE]), len);
}

/* --- the driver's doorbell --- */

static void be_quiet(struct virtq *q)
{
	if (q->quiet)
		return;
	q->quiet = true;
	/* With event indices the old index is quiet enough: it lies behind. */
	if (!virtq_has(q, VIRTIO_F_EVENT_IDX)) {
		ring_store(q->mem[AREA_DEVICE] + RING_FLAGS, RING_NO_NOTICE);
		device_area_written(q, q->mem[AREA_DEVICE], 2);
	}
}

static void ask_for_doorbell(struct virtq *q)
{
	uint8_t *p = virtq_has(q, VIRTIO_F_EVENT_IDX) ? avail_event(q)
						      : q->mem[AREA_DEVICE] + RING_FLAGS;

	q->quiet = false;
	ring_store(p, virtq_has(q, VIRTIO_F_EVENT_IDX) ? q->avail : 0);
	device_area_written(q, p, 2);
	/* Ask first, look again second; the driver adds first and looks whether we ask second. */
	atomic_thread_fence(memory_order_seq_cst);
}

/* --- available --- */

static void read_desc(struct desc *d, const uint8_t *p)
{
	uint64_t rest;

	memcpy(&d->addr, p, 8);
	memcpy(&rest, p + 8, 8);
	d->len = rest;
	d->flags = rest >> 32;
	d->next = rest >> 48;
}

/* From entry @at on, in the queue's table or in one that a descriptor refers to. */
static bool walk_chain(struct virtq *q, struct walk *w, uint16_t at, const char **why)
{
	const uint8_t *table = q->mem[AREA_DESC];
	uint32_t entries = q->size;
	bool inner = false;
	struct desc d;

	for (;;) {
		if (at >= entries) {
			*why = "a descriptor's number is out of range";
			return false;
		}
		read_desc(&d, table + DESC_SIZE * at);
		if (d.flags & DESC_INDIRECT) {
			if (inner) {
				*why = "a table refers to a table";
				return false;
			}
			inner = true;
			table = walk_table(q, &d, &entries, why);
			if (!table)
				return false;
			at = 0;
			continue;
		}
		if (!walk_add(q, w, &d, why))
			return false;
		if (!(d.flags & DESC_NEXT))
			return true;
		at = d.next;
	}
}

enum walk_result split_walk(struct virtq *q, struct walk *w, const char **why)
{
	uint16_t index = load(q->mem[AREA_DRIVER] + RING_INDEX), head;

	if (index == q->avail) {
		ask_for_doorbell(q);
		index = load(q->mem[AREA_DRIVER] + RING_INDEX);
		if (index == q->avail)
			return WALK_NONE;
	}
	if ((uint16_t)(index - q->avail) > q->size) {
		*why = "the available index jumped";
		return WALK_BROKEN;
	}
	be_quiet(q);
	head = load(q->mem[AREA_DRIVER] + RING_ENTRIES + 2 * (q->avail & (q->size - 1)));
	if (!walk_chain(q, w, head, why))
		return WALK_BROKEN;
	w->id = head;
	w->span = 1;
	q->avail++;
	return WALK_CHAIN;
}

void split_unpop(struct virtq *q, uint16_t span)
{
	q->avail -= span;
}

/* --- used --- */

void split_push(struct virtq *q, struct chain *const *c, const uint32_t *written,
		unsigned int count)
{
	for (unsigned int i = 0; i < count; i++) {
		const uint16_t at = (q->used + i) & (q->size - 1);
		uint8_t *entry = q->mem[AREA_DEVICE] + RING_ENTRIES + 8 * at;
		const uint32_t value[2] = { c[i]->id, written[i] };

		memcpy(entry, value, sizeof(value));
		device_area_written(q, entry, sizeof(value));
	}
	q->used += count;
	/* Release: pairs with the driver's read of the index before the entry. */
	ring_store(q->mem[AREA_DEVICE] + RING_INDEX, q->used);
	device_area_written(q, q->mem[AREA_DEVICE], 4);
}

bool split_wants_interrupt(struct virtq *q)
{
	const uint16_t told = q->told;

	if (told == q->used)
		return false;
	/* The used index first, the driver's wish second; the driver does the reverse. */
	atomic_thread_fence(memory_order_seq_cst);
	q->told = q->used;
	if (!virtq_has(q, VIRTIO_F_EVENT_IDX))
		return !(load(q->mem[AREA_DRIVER] + RING_FLAGS) & RING_NO_NOTICE);
	/* Did 'used' pass the event since the last time? */
	return (uint16_t)(q->used - load(used_event(q)) - 1) < (uint16_t)(q->used - told);
}
