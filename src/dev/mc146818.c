// SPDX-License-Identifier: Apache-2.0
/*
 * MC146818A real-time clock and CMOS memory: time of day, alarm, update-ended and
 * periodic interrupts, BCD or binary, 12 or 24 hours.
 *
 * Source: Motorola MC146818A data sheet, "Registers"; the IBM PC/AT puts the index at
 * port 70h (bit 7 there masks NMI; not connected) and the data at 71h.
 *
 * Time is the VM's clock plus an offset that the guest may change by setting the time.
 * Not modelled: square wave, daylight saving, dividers other than 32,768 Hz (any other
 * stops the clock), days of the week that contradict the date.
 */
#include "dev/mc146818.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
	RTC_SEC, RTC_SEC_ALARM, RTC_MIN, RTC_MIN_ALARM, RTC_HOUR, RTC_HOUR_ALARM,
	RTC_WDAY, RTC_MDAY, RTC_MONTH, RTC_YEAR, RTC_A, RTC_B, RTC_C, RTC_D,
};

#define A_UIP		0x80
#define A_DIVIDER	0x70
#define A_DIVIDER_32K	0x20
#define A_RATE		0x0f
#define B_SET		0x80
#define B_PIE		0x40
#define B_AIE		0x20
#define B_UIE		0x10
#define B_BINARY	0x04
#define B_24H		0x02
#define C_IRQF		0x80
#define C_PF		0x40
#define C_AF		0x20
#define C_UF		0x10
#define D_VRT		0x80
#define ALARM_ANY	0xc0	/* the top two bits set: any value matches */
#define HOUR_PM		0x80

#define UIP_NS		244000	/* UIP rises this long before an update */
#define DAY_SECONDS	86400
#define OFFSET_MAX	(1LL << 40)	/* far beyond what the registers can say */

/* (i) constant; everything else under lock */
struct mc146818 {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	struct clock *clock;		/* (i) */
	struct irq_line irq;		/* (i) */
	uint8_t index;
	uint8_t cmos[CMOS_SIZE];	/* time bytes are valid while the clock is set or stopped */
	uint64_t phase;			/* ns into a UTC second at VM time 0 */
	int64_t offset;			/* UTC seconds - seconds counted from there */
	uint64_t seen;			/* second up to which UF and AF are accounted */
	uint64_t ticks;			/* periodic ticks accounted */
	struct timer update, periodic;
};

static struct mc146818 *to_rtc(struct device *d)
{
	return container_of(d, struct mc146818, dev);
}

static bool running(const struct mc146818 *r)
{
	return !(r->cmos[RTC_B] & B_SET) && (r->cmos[RTC_A] & A_DIVIDER) == A_DIVIDER_32K;
}

static void update_irq(struct mc146818 *r)
{
	uint8_t *c = &r->cmos[RTC_C];

	*c &= ~C_IRQF;
	/* PF, AF, UF stand where their enables stand in B. */
	if (*c & r->cmos[RTC_B] & (C_PF | C_AF | C_UF))
		*c |= C_IRQF;
	irq_set(&r->irq, *c & C_IRQF);
}

/* --- time of day --- */

static uint8_t encode(const struct mc146818 *r, unsigned int n)
{
	return r->cmos[RTC_B] & B_BINARY ? n : (n / 10 << 4) | n % 10;
}

/* Whatever nonsense a guest wrote, a number comes out. */
static unsigned int decode(const struct mc146818 *r, uint8_t v)
{
	return r->cmos[RTC_B] & B_BINARY ? v : (v >> 4) * 10U + (v & 0x0f);
}

static uint8_t encode_hour(const struct mc146818 *r, unsigned int hour)
{
	uint8_t v;

	if (r->cmos[RTC_B] & B_24H)
		return encode(r, hour);
	v = encode(r, hour % 12 ? hour % 12 : 12);
	return hour >= 12 ? v | HOUR_PM : v;
}

static unsigned int decode_hour(const struct mc146818 *r, uint8_t v)
{
	if (r->cmos[RTC_B] & B_24H)
		return decode(r, v);
	return decode(r, v & ~HOUR_PM) % 12 + (v & HOUR_PM ? 12 : 0);
}

static void store_time(struct mc146818 *r, int64_t utc)
{
	time_t t = utc;
	struct tm tm;

	if (!gmtime_r(&t, &tm))
		return;
	r->cmos[RTC_SEC] = encode(r, tm.tm_sec);
	r->cmos[RTC_MIN] = encode(r, tm.tm_min);
	r->cmos[RTC_HOUR] = encode_hour(r, tm.tm_hour);
	r->cmos[RTC_WDAY] = encode(r, tm.tm_wday + 1);
	r->cmos[RTC_MDAY] = encode(r, tm.tm_mday);
	r->cmos[RTC_MONTH] = encode(r, tm.tm_mon + 1);
	r->cmos[RTC_YEAR] = encode(r, tm.tm_year % 100);
	r->cmos[CMOS_CENTURY] = encode(r, (tm.tm_year / 100 + 19) % 100);
}

static int64_t load_time(const struct mc146818 *r)
{
	unsigned int century = decode(r, r->cmos[CMOS_CENTURY]);
	struct tm tm = {
		.tm_sec = decode(r, r->cmos[RTC_SEC]),
		.tm_min = decode(r, r->cmos[RTC_MIN]),
		.tm_hour = decode_hour(r, r->cmos[RTC_HOUR]),
		.tm_mday = decode(r, r->cmos[RTC_MDAY]),
		.tm_mon = (int)decode(r, r->cmos[RTC_MONTH]) - 1,
		.tm_year = ((int)century - 19) * 100 + (int)decode(r, r->cmos[RTC_YEAR]),
	};

	return timegm(&tm);
}

static uint64_t second(const struct mc146818 *r)
{
	return (clock_now(r->clock) + r->phase) / NS_PER_SEC;
}

static int64_t utc_now(const struct mc146818 *r)
{
	return (int64_t)second(r) + r->offset;
}

static bool alarm_field(const struct mc146818 *r, uint8_t alarm, unsigned int now, bool hour)
{
	if ((alarm & ALARM_ANY) == ALARM_ANY)
		return true;
	return (hour ? decode_hour(r, alarm) : decode(r, alarm)) == now;
}

static bool alarm_matches(const struct mc146818 *r, int64_t utc)
{
	unsigned int s = ((utc % DAY_SECONDS) + DAY_SECONDS) % DAY_SECONDS;

	return alarm_field(r, r->cmos[RTC_SEC_ALARM], s % 60, false) &&
	       alarm_field(r, r->cmos[RTC_MIN_ALARM], s / 60 % 60, false) &&
	       alarm_field(r, r->cmos[RTC_HOUR_ALARM], s / 3600, true);
}

/* --- flags --- */

/* A period of the periodic interrupt in 32,768ths of a second, 0: none. */
static unsigned int period(const struct mc146818 *r)
{
	unsigned int rate = r->cmos[RTC_A] & A_RATE;

	if (!rate || (r->cmos[RTC_A] & A_DIVIDER) != A_DIVIDER_32K)
		return 0;
	return 1U << (rate < 3 ? rate + 6 : rate - 1);
}

static uint64_t periodic_ticks(const struct mc146818 *r)
{
	return muldiv64(clock_now(r->clock), 32768, period(r) * NS_PER_SEC);
}

/* Sets what has become due since the last look. */
static void account(struct mc146818 *r)
{
	uint64_t now = second(r), ticks;

	if (running(r) && now > r->seen) {
		r->cmos[RTC_C] |= C_UF;
		/* In a day each time of day comes once. */
		r->seen = MAX(r->seen, now > DAY_SECONDS ? now - DAY_SECONDS : 0);
		while (r->seen < now && !(r->cmos[RTC_C] & C_AF))
			if (alarm_matches(r, (int64_t)++r->seen + r->offset))
				r->cmos[RTC_C] |= C_AF;
	}
	r->seen = now;
	if (period(r)) {
		ticks = periodic_ticks(r);
		if (ticks != r->ticks)
			r->cmos[RTC_C] |= C_PF;
		r->ticks = ticks;
	}
}

/* Timers run only for interrupts that are enabled; polled flags need none. */
static void arm(struct mc146818 *r)
{
	uint64_t next;

	if (running(r) && r->cmos[RTC_B] & (B_UIE | B_AIE))
		timer_set(&r->update, (second(r) + 1) * NS_PER_SEC - r->phase);
	else
		timer_cancel(&r->update);
	if (period(r) && r->cmos[RTC_B] & B_PIE) {
		next = (periodic_ticks(r) + 1) * period(r);
		/* Rounded up: a timer a nanosecond early would find nothing due. */
		timer_set(&r->periodic, muldiv64(next, NS_PER_SEC, 32768) + 1);
	} else {
		timer_cancel(&r->periodic);
	}
}

static void timer_fired(void *arg)
{
	struct mc146818 *r = arg;

	pthread_mutex_lock(&r->lock);
	account(r);
	update_irq(r);
	arm(r);
	pthread_mutex_unlock(&r->lock);
}

/* --- registers --- */

static bool is_time(unsigned int reg)
{
	return reg == RTC_SEC || reg == RTC_MIN || reg == RTC_HOUR ||
	       (reg >= RTC_WDAY && reg <= RTC_YEAR) || reg == CMOS_CENTURY;
}

static uint8_t read_data(struct mc146818 *r)
{
	unsigned int reg = r->index;
	uint64_t in_second = (clock_now(r->clock) + r->phase) % NS_PER_SEC;
	uint8_t value;

	if (is_time(reg) && running(r))
		store_time(r, utc_now(r));
	if (reg == RTC_C)
		account(r);
	update_irq(r);
	value = r->cmos[reg];
	if (reg == RTC_A && running(r) && in_second >= NS_PER_SEC - UIP_NS)
		value |= A_UIP;
	if (reg == RTC_C) {
		r->cmos[RTC_C] = 0;
		update_irq(r);
	}
	return value;
}

static void write_time(struct mc146818 *r, unsigned int reg, uint8_t value)
{
	if (!running(r)) {
		r->cmos[reg] = value;
		return;
	}
	store_time(r, utc_now(r));
	r->cmos[reg] = value;
	r->offset = load_time(r) - (int64_t)second(r);
}

static void write_control(struct mc146818 *r, unsigned int reg, uint8_t value)
{
	bool was_running = running(r);

	account(r);
	if (was_running)
		store_time(r, utc_now(r));
	if (reg == RTC_A)
		r->cmos[RTC_A] = value & ~A_UIP;
	else
		r->cmos[RTC_B] = value & B_SET ? value & ~B_UIE : value;
	/* A clock that starts goes on from the bytes that were set. */
	if (!was_running && running(r))
		r->offset = load_time(r) - (int64_t)second(r);
	if (period(r))
		r->ticks = periodic_ticks(r);
}

static void write_data(struct mc146818 *r, uint8_t value)
{
	unsigned int reg = r->index;

	if (is_time(reg))
		write_time(r, reg, value);
	else if (reg == RTC_A || reg == RTC_B)
		write_control(r, reg, value);
	else if (reg != RTC_C && reg != RTC_D)
		r->cmos[reg] = value;
	update_irq(r);
	arm(r);
}

/* The index cannot be read back on a PC/AT. */
static uint64_t rtc_read(void *dev, uint64_t off, unsigned int size)
{
	struct mc146818 *r = dev;
	uint64_t value = 0;

	pthread_mutex_lock(&r->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)(off + i ? read_data(r) : 0xff) << (8 * i);
	pthread_mutex_unlock(&r->lock);
	return value;
}

static void rtc_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct mc146818 *r = dev;

	pthread_mutex_lock(&r->lock);
	for (unsigned int i = 0; i < size; i++) {
		if (off + i)
			write_data(r, value >> (8 * i));
		else
			r->index = value & (CMOS_SIZE - 1);
	}
	pthread_mutex_unlock(&r->lock);
}

static const struct io_ops rtc_io = { .read = rtc_read, .write = rtc_write };

/* --- as a device --- */

/* The RESET pin clears enables and flags; time and memory live on their battery. */
static void rtc_reset(struct device *d)
{
	struct mc146818 *r = to_rtc(d);

	pthread_mutex_lock(&r->lock);
	r->index = 0;
	r->cmos[RTC_B] &= ~(B_PIE | B_AIE | B_UIE);
	r->cmos[RTC_C] = 0;
	r->seen = second(r);
	if (period(r))
		r->ticks = periodic_ticks(r);
	update_irq(r);
	arm(r);
	pthread_mutex_unlock(&r->lock);
}

static void rtc_destroy(struct device *d)
{
	struct mc146818 *r = to_rtc(d);

	timer_cancel(&r->update);
	timer_cancel(&r->periodic);
	gpa_space_remove_pio(r->space, 0x70);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

static int rtc_load_finish(struct device *d, struct err *e)
{
	struct mc146818 *r = to_rtc(d);

	if (r->offset < -OFFSET_MAX || r->offset > OFFSET_MAX)
		return err_set(e, EINVAL, "a real-time clock's record is from no known age");
	pthread_mutex_lock(&r->lock);
	account(r);
	update_irq(r);
	arm(r);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

static const struct state_field rtc_fields[] = {
	STATE_FIELD(struct mc146818, index, CMOS_SIZE - 1),
	STATE_ARRAY(struct mc146818, cmos, 0xff),
	STATE_FIELD(struct mc146818, phase, NS_PER_SEC - 1),
	STATE_FIELD(struct mc146818, offset, UINT64_MAX),
	STATE_FIELD(struct mc146818, seen, UINT64_MAX),
	STATE_FIELD(struct mc146818, ticks, UINT64_MAX),
};

static const struct device_ops rtc_ops = {
	.model = "mc146818",
	.version = 1,
	.reset = rtc_reset,
	.destroy = rtc_destroy,
	.fields = rtc_fields,
	.field_count = ARRAY_SIZE(rtc_fields),
	.load_finish = rtc_load_finish,
};

int mc146818_create(struct device **out, struct gpa_space *s, struct clock *clock,
		    const struct timespec *epoch, const struct irq_line *irq, struct err *e)
{
	struct mc146818 *r = calloc(1, sizeof(*r));
	struct io_region region = { "mc146818", 0x70, 2, &rtc_io, r };
	int rc;

	if (!r)
		return err_set(e, ENOMEM, "out of memory for the real-time clock");
	r->dev.ops = &rtc_ops;
	r->space = s;
	r->clock = clock;
	r->irq = *irq;
	r->phase = epoch->tv_nsec;
	r->offset = epoch->tv_sec;
	r->cmos[RTC_A] = A_DIVIDER_32K | 6;	/* 1,024 Hz */
	r->cmos[RTC_B] = B_24H;
	r->cmos[RTC_D] = D_VRT;
	pthread_mutex_init(&r->lock, NULL);
	timer_init(&r->update, clock, timer_fired, r);
	timer_init(&r->periodic, clock, timer_fired, r);
	rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		pthread_mutex_destroy(&r->lock);
		free(r);
		return rc;
	}
	rtc_reset(&r->dev);
	*out = &r->dev;
	return 0;
}

void mc146818_set_byte(struct device *rtc, unsigned int at, uint8_t value)
{
	struct mc146818 *r = to_rtc(rtc);

	if (at > RTC_D && at < CMOS_SIZE)
		r->cmos[at] = value;
}
