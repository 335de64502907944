/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bench for one chip: an address space, a clock that moves by hand, and probes that
 * count the edges of a line.
 */
#ifndef VIREO_TESTS_DEV_RIG_H
#define VIREO_TESTS_DEV_RIG_H

#include "dev/device.h"
#include "unit.h"

struct rig {
	struct gpa_space space;
	struct clock clock;
};

struct probe {
	bool level;
	unsigned int rises;
	uint64_t risen_at;	/* VM ns of the last rise */
	struct clock *clock;
};

static inline void rig_init(struct rig *r)
{
	assert_int_equal(gpa_space_init(&r->space, NULL), 0);
	clock_init(&r->clock, true);
}

static inline void rig_destroy(struct rig *r, struct device *d)
{
	d->ops->destroy(d);
	assert_int_equal(r->space.mmio_count, 0);
	assert_int_equal(r->space.pio_count, 0);
	assert_true(clock_deadline(&r->clock) == CLOCK_NEVER);
	gpa_space_destroy(&r->space);
	clock_destroy(&r->clock);
}

static inline void probe_set(void *sink, unsigned int pin, bool level)
{
	struct probe *p = sink;

	(void)pin;
	if (level && !p->level) {
		p->rises++;
		if (p->clock)
			p->risen_at = clock_now(p->clock);
	}
	p->level = level;
}

static inline struct irq_line probe_line(struct probe *p)
{
	return (struct irq_line){ .set = probe_set, .sink = p };
}

static inline void outb(struct rig *r, uint16_t port, uint8_t value)
{
	pio_write(&r->space, port, 1, value);
}

static inline uint8_t inb(struct rig *r, uint16_t port)
{
	return pio_read(&r->space, port, 1);
}


/* A small generator whose sequence a seed repeats (xorshift64). */
static inline uint64_t rig_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

#endif
