// SPDX-License-Identifier: Apache-2.0
/*
 * The high precision event timers: a 64-bit counter at 100 MHz, three comparators, each
 * one-shot or periodic, 64 or 32 bits wide, edge or level.
 *
 * Source: Intel "IA-PC HPET (High Precision Event Timers) Specification", "Register
 * Overview" and "Theory Of Operation".
 *
 * A comparator is looked at when a register is touched and when the host's timer fires,
 * and has matched if its value lies in what the counter went through since.  The host's
 * timer is set only for comparators that may interrupt.
 *
 * Not modelled: delivery by messages (FSB).
 */
#include "dev/hpet.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define LATE_MAX	250ULL	/* edges at once, of periods that the host came too late for */
#define HPET_TIMERS	3
#define HPET_SIZE	0x400
#define TICK_NS		(HPET_PERIOD_FS / 1000000)

#define REG_CAP		0x000
#define REG_CONF	0x010
#define REG_STATUS	0x020
#define REG_COUNTER	0x0f0
#define REG_TIMER	0x100	/* 20h bytes each: configuration, comparator, FSB route */

#define CAP_ID		(0x80860000U | BIT(15) | BIT(13) | (HPET_TIMERS - 1) << 8 | 1)
#define CONF_ENABLE	BIT(0)
#define CONF_LEGACY	BIT(1)

#define TN_LEVEL	BIT(1)
#define TN_INT		BIT(2)
#define TN_PERIODIC	BIT(3)
#define TN_CAPS		(BIT(4) | BIT(5))	/* periodic and 64 bits wide */
#define TN_VAL_SET	BIT(6)
#define TN_32BIT	BIT(8)
#define TN_ROUTE(conf)	((conf) >> 9 & 31)
#define TN_WRITABLE	(TN_LEVEL | TN_INT | TN_PERIODIC | TN_VAL_SET | TN_32BIT | 0x3e00)

/*
 * Departure: a periodic comparator interrupts at most once in 20 us, whatever its period,
 * so that a guest cannot keep the host busy.  Its value is exact all the same.
 */
#define PERIOD_MIN_TICKS (20000 / TICK_NS)
/* The host's timer is set no further ahead; the comparator is looked at again then. */
#define AHEAD_MAX_TICKS	(3600 * NS_PER_SEC / TICK_NS)

struct hpet_timer {
	uint64_t conf;		/* the writable bits */
	uint64_t cmp;		/* the comparator */
	uint64_t period;	/* what it grows by when it matches, in periodic mode */
	uint64_t seen;		/* the counter up to which matches were looked for */
	bool line;		/* a level-triggered interrupt is asserted ... */
	uint8_t line_pin;	/* ... at this input, 32 + n: legacy[n] */
};

/* Lock: lock protects all but the wires; lines are driven with it held. */
struct hpet {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;
	gpa_t base;
	struct clock *clock;
	struct hpet_wires wires;
	struct timer timer;
	uint64_t routes;	/* connected pins */
	uint64_t conf;
	uint64_t status;
	uint64_t counter;	/* its value while halted, or at VM time counter_at */
	uint64_t counter_at;
	uint64_t due;		/* VM ns of the next look, CLOCK_NEVER: none */
	bool legacy_in[2];	/* what PIT and RTC drive */
	struct hpet_timer tn[HPET_TIMERS];
};

static uint64_t counter_locked(const struct hpet *h)
{
	if (!(h->conf & CONF_ENABLE))
		return h->counter;
	return h->counter + (clock_now(h->clock) - h->counter_at) / TICK_NS;
}

static uint64_t width_mask(const struct hpet_timer *t)
{
	return t->conf & TN_32BIT ? UINT32_MAX : UINT64_MAX;
}

/* Ticks from t->seen to the match, at least 1; 2^64 is given as UINT64_MAX. */
static uint64_t ticks_ahead(const struct hpet_timer *t)
{
	uint64_t n = (t->cmp - t->seen - 1) & width_mask(t);

	return n == UINT64_MAX ? n : n + 1;
}

/* --- Lines --- */

/* Where comparator @n interrupts. */
static unsigned int pin_of(const struct hpet *h, unsigned int n)
{
	return h->conf & CONF_LEGACY && n < 2 ? HPET_PINS + n : TN_ROUTE(h->tn[n].conf);
}

static const struct irq_line *wire(const struct hpet *h, unsigned int pin)
{
	return pin < HPET_PINS ? &h->wires.pin[pin] : &h->wires.legacy[pin - HPET_PINS];
}

/* Makes a level-triggered comparator's line what its state asks for. */
static void update_line(struct hpet *h, unsigned int n)
{
	struct hpet_timer *t = &h->tn[n];
	bool level = h->status >> n & 1 && t->conf & TN_LEVEL && t->conf & TN_INT;
	unsigned int pin = pin_of(h, n);

	if (t->line && (!level || pin != t->line_pin)) {
		irq_set(wire(h, t->line_pin), false);
		t->line = false;
	}
	if (level && !t->line) {
		t->line = true;
		t->line_pin = pin;
		irq_set(wire(h, pin), true);
	}
}

static void interrupt(struct hpet *h, unsigned int n)
{
	struct hpet_timer *t = &h->tn[n];

	if (t->conf & TN_LEVEL) {
		h->status |= BIT(n);
		update_line(h, n);
	} else if (t->conf & TN_INT) {
		irq_pulse(wire(h, pin_of(h, n)));
	}
}

/* --- Time --- */

/*
 * Looks for a match since the last time.  Each period that the host came too late for has its
 * edge, up to LATE_MAX: whether they are merged is the interrupt controller's to say.
 */
static void sync_timer(struct hpet *h, unsigned int n, uint64_t counter)
{
	struct hpet_timer *t = &h->tn[n];
	uint64_t passed = counter - t->seen, ahead = ticks_ahead(t), late = 0;

	if (passed < ahead)
		return;
	if (t->conf & TN_PERIODIC && t->period) {
		late = (passed - ahead) / t->period;
		t->cmp += (late + 1) * t->period;
		late = t->period < PERIOD_MIN_TICKS ? 0 : MIN(late, LATE_MAX);
		t->cmp &= width_mask(t);
	}
	t->seen = counter;
	for (late++; late; late--)
		interrupt(h, n);
}

static void sync_locked(struct hpet *h)
{
	uint64_t counter = counter_locked(h);

	if (!(h->conf & CONF_ENABLE))
		return;
	for (unsigned int n = 0; n < HPET_TIMERS; n++)
		sync_timer(h, n, counter);
}

static void set_due(struct hpet *h, uint64_t ns)
{
	h->due = ns;
	if (ns == CLOCK_NEVER)
		timer_cancel(&h->timer);
	else
		timer_set(&h->timer, ns);
}

/* Sets the host's timer to the next match that may interrupt. */
static void arm_locked(struct hpet *h)
{
	uint64_t best = UINT64_MAX, counter = counter_locked(h), ahead, passed;

	for (unsigned int n = 0; n < HPET_TIMERS; n++) {
		struct hpet_timer *t = &h->tn[n];

		if (!(t->conf & TN_INT) || (t->conf & TN_LEVEL && h->status >> n & 1))
			continue;
		ahead = ticks_ahead(t);
		passed = counter - t->seen;
		ahead = ahead > passed ? ahead - passed : 0;
		if (t->conf & TN_PERIODIC && t->period && t->period < PERIOD_MIN_TICKS)
			ahead = MAX(ahead, PERIOD_MIN_TICKS);
		best = MIN(best, ahead);
	}
	if (!(h->conf & CONF_ENABLE) || best == UINT64_MAX) {
		set_due(h, CLOCK_NEVER);
		return;
	}
	best = MIN(best, AHEAD_MAX_TICKS);
	set_due(h, h->counter_at + (counter - h->counter + best) * TICK_NS);
}

static void hpet_fire(void *arg)
{
	struct hpet *h = arg;

	pthread_mutex_lock(&h->lock);
	sync_locked(h);
	arm_locked(h);
	pthread_mutex_unlock(&h->lock);
}

/* --- Registers --- */

static uint64_t read_timer(const struct hpet *h, unsigned int n, unsigned int reg)
{
	const struct hpet_timer *t = &h->tn[n];

	switch (reg) {
	case 0x00:
		return t->conf | TN_CAPS | h->routes << 32;
	case 0x08:
		return t->cmp;
	default:
		return 0;
	}
}

static uint64_t read_register(const struct hpet *h, unsigned int reg)
{
	switch (reg) {
	case REG_CAP:
		return (uint64_t)HPET_PERIOD_FS << 32 | CAP_ID;
	case REG_CONF:
		return h->conf;
	case REG_STATUS:
		return h->status;
	case REG_COUNTER:
		return counter_locked(h);
	}
	if (reg >= REG_TIMER && reg < REG_TIMER + HPET_TIMERS * 0x20)
		return read_timer(h, (reg - REG_TIMER) / 0x20, reg & 0x1f);
	return 0;
}

/* The legacy lines change hands: ours start low, the others' are as they are driven. */
static void switch_legacy(struct hpet *h)
{
	for (unsigned int i = 0; i < 2; i++)
		irq_set(&h->wires.legacy[i], !(h->conf & CONF_LEGACY) && h->legacy_in[i]);
}

static void write_conf(struct hpet *h, uint64_t value)
{
	uint64_t counter = counter_locked(h), changed = value ^ h->conf;

	if (changed & CONF_ENABLE) {
		h->counter = counter;
		h->counter_at = clock_now(h->clock);
	}
	h->conf = value & (CONF_ENABLE | CONF_LEGACY);
	if (changed & CONF_LEGACY)
		switch_legacy(h);
	for (unsigned int n = 0; n < HPET_TIMERS; n++)
		update_line(h, n);
}

/* What the counter skips here matches nothing. */
static void write_counter(struct hpet *h, uint64_t value)
{
	h->counter = value;
	h->counter_at = clock_now(h->clock);
	for (unsigned int n = 0; n < HPET_TIMERS; n++)
		h->tn[n].seen = value - 1;
}

static void write_timer_conf(struct hpet *h, unsigned int n, uint64_t value)
{
	struct hpet_timer *t = &h->tn[n];

	t->conf = value & TN_WRITABLE;
	if (!(h->routes >> TN_ROUTE(t->conf) & 1))
		t->conf &= ~0x3e00ULL;	/* a route that is not there does not stick */
	t->cmp &= width_mask(t);
	t->period &= width_mask(t);
	t->seen = counter_locked(h);
	if (!(t->conf & TN_LEVEL))
		h->status &= ~BIT(n);
	update_line(h, n);
}

/* @bits: what of the register is written. */
static void write_comparator(struct hpet *h, unsigned int n, uint64_t value, uint64_t bits)
{
	struct hpet_timer *t = &h->tn[n];

	bits &= width_mask(t);
	if (!(t->conf & TN_PERIODIC) || t->conf & TN_VAL_SET)
		t->cmp = (t->cmp & ~bits) | (value & bits);
	if (t->conf & TN_PERIODIC)
		t->period = (t->period & ~bits) | (value & bits);
	t->conf &= ~TN_VAL_SET;
	/* A comparator that equals the counter already counts as a match. */
	t->seen = counter_locked(h) - 1;
}

static void write_register(struct hpet *h, unsigned int reg, uint64_t value, uint64_t bits)
{
	unsigned int n = (reg - REG_TIMER) / 0x20;
	uint64_t merged = (read_register(h, reg) & ~bits) | (value & bits);

	switch (reg) {
	case REG_CONF:
		write_conf(h, merged);
		return;
	case REG_STATUS:	/* ones written clear */
		h->status &= ~(value & bits);
		for (unsigned int i = 0; i < HPET_TIMERS; i++)
			update_line(h, i);
		return;
	case REG_COUNTER:
		write_counter(h, merged);
		return;
	}
	if (reg < REG_TIMER || n >= HPET_TIMERS)
		return;
	if ((reg & 0x1f) == 0x00)
		write_timer_conf(h, n, merged);
	else if ((reg & 0x1f) == 0x08)
		write_comparator(h, n, value, bits);
}

static uint64_t size_mask(unsigned int size)
{
	return size >= 8 ? UINT64_MAX : BIT(8 * size) - 1;
}

static uint64_t hpet_read(void *dev, uint64_t off, unsigned int size)
{
	struct hpet *h = dev;
	uint64_t value;

	if ((off & 7) + size > 8)
		return 0;
	pthread_mutex_lock(&h->lock);
	sync_locked(h);
	value = read_register(h, off & ~7ULL) >> (8 * (off & 7));
	pthread_mutex_unlock(&h->lock);
	return value & size_mask(size);
}

/* The specification allows aligned words of 32 and 64 bits; others are dropped. */
static void hpet_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct hpet *h = dev;
	unsigned int shift = 8 * (off & 7);

	if (size < 4 || off & (size - 1))
		return;
	pthread_mutex_lock(&h->lock);
	sync_locked(h);
	write_register(h, off & ~7ULL, value << shift, size_mask(size) << shift);
	sync_locked(h);
	arm_locked(h);
	pthread_mutex_unlock(&h->lock);
}

static const struct io_ops hpet_io = { .read = hpet_read, .write = hpet_write };

/* --- The wires that pass through --- */

static void legacy_set(void *sink, unsigned int n, bool level)
{
	struct hpet *h = sink;

	pthread_mutex_lock(&h->lock);
	h->legacy_in[n] = level;
	if (!(h->conf & CONF_LEGACY))
		irq_set(&h->wires.legacy[n], level);
	pthread_mutex_unlock(&h->lock);
}

struct irq_line hpet_legacy_line(struct device *hpet, unsigned int n)
{
	struct hpet *h = container_of(hpet, struct hpet, dev);

	return (struct irq_line){ .set = legacy_set, .sink = h, .pin = n };
}

uint32_t hpet_block_id(void)
{
	return CAP_ID;
}

/* --- Life --- */

static void hpet_reset(struct device *d)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	pthread_mutex_lock(&h->lock);
	set_due(h, CLOCK_NEVER);
	h->conf = h->status = h->counter = h->counter_at = 0;
	for (unsigned int n = 0; n < HPET_TIMERS; n++) {
		update_line(h, n);
		h->tn[n] = (struct hpet_timer){ .cmp = UINT64_MAX };
	}
	switch_legacy(h);
	pthread_mutex_unlock(&h->lock);
}

static void hpet_destroy(struct device *d)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	timer_cancel(&h->timer);
	gpa_space_remove_mmio(h->space, h->base);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

#define TIMER_FIELDS(n) \
	STATE_FIELD(struct hpet, tn[n].conf, TN_WRITABLE), \
	STATE_FIELD(struct hpet, tn[n].cmp, UINT64_MAX), \
	STATE_FIELD(struct hpet, tn[n].period, UINT64_MAX), \
	STATE_FIELD(struct hpet, tn[n].seen, UINT64_MAX), \
	STATE_FIELD(struct hpet, tn[n].line, 1), \
	STATE_FIELD(struct hpet, tn[n].line_pin, HPET_PINS + 1)

static const struct state_field hpet_fields[] = {
	STATE_FIELD(struct hpet, conf, CONF_ENABLE | CONF_LEGACY),
	STATE_FIELD(struct hpet, status, BIT(HPET_TIMERS) - 1),
	STATE_FIELD(struct hpet, counter, UINT64_MAX),
	STATE_FIELD(struct hpet, counter_at, UINT64_MAX),
	STATE_FIELD(struct hpet, due, UINT64_MAX),
	STATE_ARRAY(struct hpet, legacy_in, 1),
	TIMER_FIELDS(0), TIMER_FIELDS(1), TIMER_FIELDS(2),
};

/* Matches that the host is late for come before the interrupt controllers are saved. */
static void hpet_save_prepare(struct device *d)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	pthread_mutex_lock(&h->lock);
	sync_locked(h);
	pthread_mutex_unlock(&h->lock);
}

static int hpet_load_finish(struct device *d, struct err *e)
{
	struct hpet *h = container_of(d, struct hpet, dev);

	for (unsigned int n = 0; n < HPET_TIMERS; n++)
		if (h->tn[n].conf & ~(uint64_t)TN_WRITABLE ||
		    (h->tn[n].cmp | h->tn[n].period) & ~width_mask(&h->tn[n]))
			return err_set(e, EINVAL, "hpet: comparator %u of the saved state is impossible", n);
	if (h->counter_at > clock_now(h->clock))
		return err_set(e, EINVAL, "hpet: the saved counter is of a time to come");
	pthread_mutex_lock(&h->lock);
	set_due(h, h->due);
	pthread_mutex_unlock(&h->lock);
	return 0;
}

static const struct device_ops hpet_ops = {
	.model = "hpet",
	.version = 1,
	.reset = hpet_reset,
	.destroy = hpet_destroy,
	.fields = hpet_fields,
	.field_count = ARRAY_SIZE(hpet_fields),
	.save_prepare = hpet_save_prepare,
	.load_finish = hpet_load_finish,
};

int hpet_create(struct device **out, struct gpa_space *s, gpa_t base, struct clock *clock,
		const struct hpet_wires *wires, struct err *e)
{
	struct hpet *h = calloc(1, sizeof(*h));
	struct io_region r = { .name = "hpet", .base = base, .size = HPET_SIZE,
			       .ops = &hpet_io, .dev = h };
	int rc;

	if (!h)
		return err_set(e, ENOMEM, "out of memory for the HPET");
	h->dev.ops = &hpet_ops;
	h->space = s;
	h->base = base;
	h->clock = clock;
	h->wires = *wires;
	for (unsigned int i = 0; i < HPET_PINS; i++)
		if (wires->pin[i].set)
			h->routes |= BIT(i);
	pthread_mutex_init(&h->lock, NULL);
	timer_init(&h->timer, clock, hpet_fire, h);
	hpet_reset(&h->dev);
	rc = gpa_space_add_mmio(s, &r, e);
	if (rc) {
		pthread_mutex_destroy(&h->lock);
		free(h);
		return rc;
	}
	*out = &h->dev;
	return 0;
}
