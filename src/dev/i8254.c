// SPDX-License-Identifier: Apache-2.0
/*
 * The 8254 programmable interval timer: three channels, six modes; and port 61h, which
 * gates channel 2 and shows its output.
 *
 * Source: Intel 8254 datasheet, "Mode Definitions" and "Programming the 8254"; port 61h:
 * Intel 82371AB (PIIX4) datasheet, "NMI Status and Control".
 *
 * A channel is never ticked: what it shows follows from the clock tick at which it was
 * loaded.  The host's timer is set only where the output of channel 0 rises.
 *
 * Not modelled: the speaker; channel 1's DRAM refresh, but for its toggle in port 61h;
 * NMI sources of port 61h.
 */
#include "dev/i8254.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define CONTROL_RW	0x30	/* of the control word; 0: latch the count */
#define READ_BACK	0xc0
#define RB_NO_COUNT	BIT(5)
#define RB_NO_STATUS	BIT(4)
#define STATUS_OUT	BIT(7)
#define STATUS_NULL	BIT(6)

#define P61_GATE2	BIT(0)
#define P61_SPEAKER	BIT(1)
#define P61_WRITABLE	0x0f
#define P61_REFRESH	BIT(4)
#define P61_OUT2	BIT(5)
#define REFRESH_NS	15085	/* 18 ticks: a row of DRAM */

/*
 * Departure: channel 0 interrupts at most once in 20 us, whatever its count, so that a
 * guest cannot keep the host busy.  Its count and output are exact all the same.
 */
#define IRQ_MIN_NS	20000
#define LATE_MAX	250ULL

enum { RW_LOW = 1, RW_HIGH, RW_BOTH };

struct pit_channel {
	uint8_t mode;		/* 0-5 */
	uint8_t rw;		/* RW_* */
	bool bcd;
	bool gate;
	bool loaded;		/* the counting element has a count */
	bool running;		/* it counts: T - start ticks have passed */
	bool waiting;		/* next is to be loaded: by the gate, or at the tick next_at */
	uint32_t count;		/* in force, 1 to 65536 (10000 in BCD) */
	uint32_t next;
	uint64_t next_at;	/* CLOCK_NEVER: the gate loads it */
	uint64_t start;		/* the tick at which the count was loaded */
	uint64_t stopped_at;	/* !running: ticks that had passed */
	bool write_high;	/* the second byte of a count is expected */
	uint8_t write_low;
	bool read_high;
	uint8_t latched;	/* bytes of latch that are still to be read: RW_* bits */
	uint16_t latch;
	bool status_latched;
	uint8_t status;
};

/* Lock: lock protects all but the wires; irq0 is driven with it held. */
struct pit {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;
	struct clock *clock;
	struct irq_line irq0;
	struct timer timer;
	uint64_t due;		/* VM ns of the next rise of irq0, CLOCK_NEVER: none */
	uint64_t last_irq;	/* VM ns of the last one */
	bool irq0_level;
	uint8_t port61;
	struct pit_channel ch[3];
};

static uint64_t ns_to_ticks(uint64_t ns)
{
	return muldiv64(ns, PIT_HZ, NS_PER_SEC);
}

/* The first ns at which ns_to_ticks() gives @ticks. */
static uint64_t ticks_to_ns(uint64_t ticks)
{
	unsigned __int128 ns = ((unsigned __int128)ticks * NS_PER_SEC + PIT_HZ - 1) / PIT_HZ;

	return ns < CLOCK_NEVER ? (uint64_t)ns : CLOCK_NEVER;
}

static uint64_t ticks_now(struct pit *p)
{
	return ns_to_ticks(clock_now(p->clock));
}

static uint32_t wrap(const struct pit_channel *c)
{
	return c->bcd ? 10000 : 65536;
}

static bool is_periodic(const struct pit_channel *c)
{
	return c->mode == 2 || c->mode == 3;
}

/* Modes whose counting the gate starts with its rising edge. */
static bool is_triggered(const struct pit_channel *c)
{
	return c->mode == 1 || c->mode == 5;
}

static uint64_t elapsed(const struct pit_channel *c, uint64_t t)
{
	if (!c->running)
		return c->stopped_at;
	return t > c->start ? t - c->start : 0;
}

static void load(struct pit_channel *c, uint32_t count, uint64_t t, bool run)
{
	c->count = count;
	c->start = t;
	c->stopped_at = 0;
	c->loaded = true;
	c->running = run;
	c->waiting = false;
}

/* Brings the channel to tick @t: a count that waited for its tick is loaded. */
static void sync(struct pit_channel *c, uint64_t t)
{
	if (c->waiting && t >= c->next_at)
		load(c, c->next, c->next_at, c->gate);
}

static bool output(const struct pit_channel *c, uint64_t t)
{
	uint64_t e = elapsed(c, t);

	if (!c->loaded)
		return c->mode != 0;
	switch (c->mode) {
	case 0:
		return e >= c->count;
	case 1:
		return e >= c->count;
	case 2:
		return !c->running || e % c->count != c->count - 1;
	case 3:
		return !c->running || e % c->count < (c->count + 1) / 2;
	default:
		return e != c->count;
	}
}

/* The counting element, in binary. */
static uint32_t counter(const struct pit_channel *c, uint64_t t)
{
	uint64_t e = elapsed(c, t);
	uint32_t half, in_half;

	if (!c->loaded)
		return 0;
	switch (c->mode) {
	case 2:
		return c->count - e % c->count;
	case 3:
		/* By two; an odd count loses one at the load, and its high half is longer. */
		half = (c->count + 1) / 2;
		in_half = e % c->count < half ? e % c->count : e % c->count - half;
		return (c->count & ~1U) - 2 * in_half;
	default:
		return (c->count + (wrap(c) - e % wrap(c))) % wrap(c);
	}
}

static uint16_t to_bcd(uint32_t n)
{
	return n % 10 | n / 10 % 10 << 4 | n / 100 % 10 << 8 | n / 1000 % 10 << 12;
}

/* Digits above nine count what they are worth. */
static uint32_t from_bcd(uint16_t n)
{
	return (n & 15) + (n >> 4 & 15) * 10 + (n >> 8 & 15) * 100 + (n >> 12) * 1000;
}

static uint16_t count_shown(const struct pit_channel *c, uint64_t t)
{
	uint32_t n = counter(c, t) % wrap(c);

	return c->bcd ? to_bcd(n) : n;
}

/* The tick after @t at which the output rises by itself, CLOCK_NEVER: it does not. */
static uint64_t next_rise(const struct pit_channel *c, uint64_t t)
{
	uint64_t start = c->start, rise;
	uint32_t count = c->count;

	if (c->waiting && c->next_at != CLOCK_NEVER && c->gate) {
		if (c->loaded && is_periodic(c))
			return c->next_at;	/* the end of the present period */
		start = c->next_at;
		count = c->next;
	} else if (!c->loaded || !c->running) {
		return CLOCK_NEVER;
	}
	if (is_periodic(c))
		return t < start ? start + count : start + ((t - start) / count + 1) * count;
	rise = start + count + (c->mode >= 4);
	return rise > t ? rise : CLOCK_NEVER;
}

static void set_due(struct pit *p, uint64_t ns)
{
	p->due = ns;
	if (ns == CLOCK_NEVER)
		timer_cancel(&p->timer);
	else
		timer_set(&p->timer, ns);
}

static void arm(struct pit *p)
{
	const struct pit_channel *c = &p->ch[0];
	uint64_t rise = next_rise(c, ticks_now(p)), soonest = p->last_irq + IRQ_MIN_NS;

	if (rise == CLOCK_NEVER) {
		set_due(p, CLOCK_NEVER);
		return;
	}
	/* One edge stands for those that come too soon. */
	if (is_periodic(c) && ticks_to_ns(rise) < soonest)
		rise = MAX(rise, next_rise(c, ns_to_ticks(soonest)));
	set_due(p, ticks_to_ns(rise));
}

static void drive_irq0(struct pit *p, bool level)
{
	p->irq0_level = level;
	irq_set(&p->irq0, level);
}

/* Whole periods from tick @from to @to; those that are shorter than our interrupts do not count. */
static uint64_t late_periods(const struct pit_channel *c, uint64_t from, uint64_t to)
{
	if (!is_periodic(c) || !c->running || c->waiting || c->count < ns_to_ticks(IRQ_MIN_NS))
		return 0;
	return MIN((to - from) / c->count, LATE_MAX);
}

/*
 * The output of channel 0 rises if it is time, once for each period that the host came too late
 * for, up to LATE_MAX: whether they are merged is the interrupt controller's to say.  A low phase
 * is shown only here, as a pulse: so a period needs one host timer, not two.
 */
static void sync_irq0(struct pit *p)
{
	uint64_t now = clock_now(p->clock), late;

	if (now < p->due)
		return;
	late = late_periods(&p->ch[0], ns_to_ticks(p->due), ns_to_ticks(now));
	sync(&p->ch[0], ns_to_ticks(now));
	p->last_irq = now;
	for (late++; late; late--) {
		drive_irq0(p, false);
		drive_irq0(p, true);
	}
	arm(p);
}

/* Finds nothing due if the guest has changed the channel meanwhile. */
static void pit_fire(void *arg)
{
	struct pit *p = arg;

	pthread_mutex_lock(&p->lock);
	sync_irq0(p);
	pthread_mutex_unlock(&p->lock);
}

/* After the guest touched channel 0. */
static void channel0_changed(struct pit *p)
{
	drive_irq0(p, output(&p->ch[0], ticks_now(p)));
	arm(p);
}

/* A whole count was written. */
static void new_count(struct pit_channel *c, uint16_t value, uint64_t t)
{
	uint32_t n = c->bcd ? from_bcd(value) : value;

	if (!n || n > wrap(c))
		n = wrap(c);
	c->next = n;
	c->waiting = true;
	if (is_triggered(c)) {
		c->next_at = CLOCK_NEVER;
	} else if (is_periodic(c) && c->loaded) {
		/* Departure: in mode 3 too at the end of the period, not of its half. */
		c->next_at = c->running ? c->start + (elapsed(c, t) / c->count + 1) * c->count
					: CLOCK_NEVER;
	} else {
		if (c->mode == 0)
			c->loaded = false;	/* OUT goes low */
		c->next_at = t + 1;
	}
}

static void write_count(struct pit_channel *c, uint8_t value, uint64_t t)
{
	switch (c->rw) {
	case RW_LOW:
		new_count(c, value, t);
		break;
	case RW_HIGH:
		new_count(c, value << 8, t);
		break;
	default:
		c->write_high = !c->write_high;
		if (c->write_high) {
			c->write_low = value;
			if (c->mode == 0) {	/* stops counting, OUT goes low */
				c->loaded = false;
				c->waiting = false;
			}
		} else {
			new_count(c, c->write_low | value << 8, t);
		}
	}
}

static void latch_count(struct pit_channel *c, uint64_t t)
{
	if (c->latched)
		return;
	c->latch = count_shown(c, t);
	c->latched = c->rw;
}

static void latch_status(struct pit_channel *c, uint64_t t)
{
	if (c->status_latched)
		return;
	c->status = (output(c, t) ? STATUS_OUT : 0) |
		    (c->waiting || !c->loaded ? STATUS_NULL : 0) |
		    c->rw << 4 | c->mode << 1 | c->bcd;
	c->status_latched = true;
}

static void read_back(struct pit *p, uint8_t value, uint64_t t)
{
	for (unsigned int i = 0; i < 3; i++) {
		if (!(value >> (i + 1) & 1))
			continue;
		if (!(value & RB_NO_COUNT))
			latch_count(&p->ch[i], t);
		if (!(value & RB_NO_STATUS))
			latch_status(&p->ch[i], t);
	}
}

static void set_mode(struct pit_channel *c, uint8_t value)
{
	c->rw = value >> 4 & 3;
	c->mode = value >> 1 & 7;
	if (c->mode > 5)
		c->mode -= 4;	/* bit 2 is not decoded in modes 2 and 3 */
	c->bcd = value & 1;
	c->loaded = c->running = c->waiting = false;
	c->count = c->next = 0;
	c->write_high = c->read_high = false;
	c->latched = 0;
	c->status_latched = false;
}

static void write_control(struct pit *p, uint8_t value, uint64_t t)
{
	unsigned int n = value >> 6;

	if ((value & READ_BACK) == READ_BACK) {
		read_back(p, value, t);
	} else if (!(value & CONTROL_RW)) {
		latch_count(&p->ch[n], t);
	} else {
		set_mode(&p->ch[n], value);
		if (n == 0)
			channel0_changed(p);
	}
}

static uint8_t read_channel(struct pit_channel *c, uint64_t t)
{
	uint16_t value;
	bool high;

	if (c->status_latched) {
		c->status_latched = false;
		return c->status;
	}
	value = c->latched ? c->latch : count_shown(c, t);
	high = c->rw == RW_HIGH || (c->rw == RW_BOTH && c->read_high);
	if (c->rw == RW_BOTH)
		c->read_high = !c->read_high;
	c->latched &= high ? ~RW_HIGH : ~RW_LOW;
	return high ? value >> 8 : value;
}

static void set_gate(struct pit_channel *c, bool gate, uint64_t t)
{
	bool rises = gate && !c->gate;

	if (c->gate == gate)
		return;
	c->gate = gate;
	if (is_triggered(c)) {
		if (rises && (c->loaded || c->waiting))
			load(c, c->waiting ? c->next : c->count, t + 1, true);
	} else if (!c->loaded) {
		return;
	} else if (!rises) {
		c->stopped_at = elapsed(c, t);
		c->running = false;
		if (c->waiting && is_periodic(c))
			c->next_at = CLOCK_NEVER;
	} else if (is_periodic(c)) {
		load(c, c->waiting ? c->next : c->count, t + 1, true);
	} else {
		c->start = t - c->stopped_at;
		c->running = true;
	}
}

static uint64_t pit_read(void *dev, uint64_t off, unsigned int size)
{
	struct pit *p = dev;
	uint64_t value = 0, t;

	pthread_mutex_lock(&p->lock);
	t = ticks_now(p);
	for (unsigned int i = 0; i < size; i++) {
		uint64_t byte = 0xff;

		if (off + i < 3) {
			sync(&p->ch[off + i], t);
			byte = read_channel(&p->ch[off + i], t);
		}
		value |= byte << (8 * i);
	}
	pthread_mutex_unlock(&p->lock);
	return value;
}

static void pit_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pit *p = dev;
	uint64_t t;

	pthread_mutex_lock(&p->lock);
	sync_irq0(p);
	t = ticks_now(p);
	for (unsigned int n = 0; n < 3; n++)
		sync(&p->ch[n], t);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t byte = value >> (8 * i);

		if (off + i == 3)
			write_control(p, byte, t);
		else
			write_count(&p->ch[off + i], byte, t);
		if (off + i == 0)
			channel0_changed(p);
	}
	pthread_mutex_unlock(&p->lock);
}

static uint64_t port61_read(void *dev, uint64_t off, unsigned int size)
{
	struct pit *p = dev;
	uint64_t value, now;

	(void)off;
	(void)size;
	pthread_mutex_lock(&p->lock);
	now = clock_now(p->clock);
	sync(&p->ch[2], ns_to_ticks(now));
	value = p->port61;
	if (now / REFRESH_NS & 1)
		value |= P61_REFRESH;
	if (output(&p->ch[2], ns_to_ticks(now)))
		value |= P61_OUT2;
	pthread_mutex_unlock(&p->lock);
	return value;
}

static void port61_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pit *p = dev;
	uint64_t t;

	(void)off;
	(void)size;
	pthread_mutex_lock(&p->lock);
	t = ticks_now(p);
	sync(&p->ch[2], t);
	p->port61 = value & P61_WRITABLE;
	set_gate(&p->ch[2], value & P61_GATE2, t);
	pthread_mutex_unlock(&p->lock);
}

static const struct io_ops pit_io = { .read = pit_read, .write = pit_write };
static const struct io_ops port61_io = { .read = port61_read, .write = port61_write };

static void pit_reset(struct device *d)
{
	struct pit *p = container_of(d, struct pit, dev);

	pthread_mutex_lock(&p->lock);
	set_due(p, CLOCK_NEVER);
	p->port61 = 0;
	p->last_irq = 0;
	for (unsigned int n = 0; n < 3; n++)
		p->ch[n] = (struct pit_channel){ .rw = RW_BOTH, .mode = 2, .gate = n != 2 };
	drive_irq0(p, false);
	pthread_mutex_unlock(&p->lock);
}

static void pit_destroy(struct device *d)
{
	struct pit *p = container_of(d, struct pit, dev);

	timer_cancel(&p->timer);
	gpa_space_remove_pio(p->space, 0x40);
	gpa_space_remove_pio(p->space, 0x61);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

/* What a load accepts: sums with counts stay far from wrapping. */
#define TICK_MAX	BIT(56)

#define CHANNEL_FIELDS(n) \
	STATE_FIELD(struct pit, ch[n].mode, 5), \
	STATE_FIELD(struct pit, ch[n].rw, RW_BOTH), \
	STATE_FIELD(struct pit, ch[n].bcd, 1), \
	STATE_FIELD(struct pit, ch[n].gate, 1), \
	STATE_FIELD(struct pit, ch[n].loaded, 1), \
	STATE_FIELD(struct pit, ch[n].running, 1), \
	STATE_FIELD(struct pit, ch[n].waiting, 1), \
	STATE_FIELD(struct pit, ch[n].count, 65536), \
	STATE_FIELD(struct pit, ch[n].next, 65536), \
	STATE_FIELD(struct pit, ch[n].next_at, UINT64_MAX), \
	STATE_FIELD(struct pit, ch[n].start, TICK_MAX), \
	STATE_FIELD(struct pit, ch[n].stopped_at, TICK_MAX), \
	STATE_FIELD(struct pit, ch[n].write_high, 1), \
	STATE_FIELD(struct pit, ch[n].write_low, 0xff), \
	STATE_FIELD(struct pit, ch[n].read_high, 1), \
	STATE_FIELD(struct pit, ch[n].latched, RW_BOTH), \
	STATE_FIELD(struct pit, ch[n].latch, 0xffff), \
	STATE_FIELD(struct pit, ch[n].status_latched, 1), \
	STATE_FIELD(struct pit, ch[n].status, 0xff)

static const struct state_field pit_fields[] = {
	STATE_FIELD(struct pit, due, UINT64_MAX),
	STATE_FIELD(struct pit, last_irq, UINT64_MAX),
	STATE_FIELD(struct pit, irq0_level, 1),
	STATE_FIELD(struct pit, port61, P61_WRITABLE),
	CHANNEL_FIELDS(0), CHANNEL_FIELDS(1), CHANNEL_FIELDS(2),
};

/* An edge that the host is late for is given before the interrupt controllers are saved. */
static void pit_save_prepare(struct device *d)
{
	struct pit *p = container_of(d, struct pit, dev);

	pthread_mutex_lock(&p->lock);
	sync_irq0(p);
	pthread_mutex_unlock(&p->lock);
}

static int pit_load_finish(struct device *d, struct err *e)
{
	struct pit *p = container_of(d, struct pit, dev);

	for (unsigned int n = 0; n < 3; n++) {
		struct pit_channel *c = &p->ch[n];

		if (!c->rw || (c->loaded && !c->count) || (c->waiting && !c->next) ||
		    c->count > wrap(c) || c->next > wrap(c) ||
		    (c->next_at > TICK_MAX && c->next_at != CLOCK_NEVER))
			return err_set(e, EINVAL, "i8254: the saved state of channel %u is impossible", n);
	}
	pthread_mutex_lock(&p->lock);
	drive_irq0(p, p->irq0_level);
	set_due(p, p->due);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static const struct device_ops pit_ops = {
	.model = "i8254",
	.version = 1,
	.reset = pit_reset,
	.destroy = pit_destroy,
	.fields = pit_fields,
	.field_count = ARRAY_SIZE(pit_fields),
	.save_prepare = pit_save_prepare,
	.load_finish = pit_load_finish,
};

int i8254_create(struct device **out, struct gpa_space *s, struct clock *clock,
		 const struct irq_line *irq0, struct err *e)
{
	struct pit *p = calloc(1, sizeof(*p));
	struct io_region r;
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for the interval timer");
	p->dev.ops = &pit_ops;
	p->space = s;
	p->clock = clock;
	p->irq0 = *irq0;
	pthread_mutex_init(&p->lock, NULL);
	timer_init(&p->timer, clock, pit_fire, p);
	r = (struct io_region){ .name = "i8254", .base = 0x40, .size = 4, .ops = &pit_io, .dev = p };
	rc = gpa_space_add_pio(s, &r, e);
	if (rc)
		goto fail;
	r = (struct io_region){ .name = "port 61h", .base = 0x61, .size = 1, .ops = &port61_io,
				.dev = p };
	rc = gpa_space_add_pio(s, &r, e);
	if (rc)
		goto fail_port61;
	pit_reset(&p->dev);
	*out = &p->dev;
	return 0;
fail_port61:
	gpa_space_remove_pio(s, 0x40);
fail:
	pthread_mutex_destroy(&p->lock);
	free(p);
	return rc;
}
