// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's timer: one-shot and periodic by the core crystal clock, and TSC
 * deadline.
 *
 * Source: Intel SDM volume 3, "APIC Timer" and "TSC-Deadline Mode".
 *
 * The host's timer is set only while an interrupt is to come: not for a masked timer.
 * Counts follow from the time of the last load, so they are right after a host stall;
 * the interrupts of periods that the host slept through are merged into one.
 */
#include "cpu/cpuid.h"
#include "dev/lapic_priv.h"

/*
 * Departure: a periodic timer interrupts at most once in 20 us, whatever its period, so
 * that a guest cannot keep the host busy.  Its count is exact all the same.
 */
#define PERIOD_MIN_NS	20000
/* The host's timer is set no further ahead; the deadline is looked at again then. */
#define DEADLINE_MAX_NS	(3600 * NS_PER_SEC)

_Static_assert(NS_PER_SEC % CRYSTAL_HZ == 0, "a crystal clock is a whole number of ns");

static uint32_t mode(const struct lapic *l)
{
	return l->lvt[LVT_TIMER] & LVT_TIMER_MODE;
}

/* Crystal clocks a count. */
static uint32_t divisor(const struct lapic *l)
{
	return 1U << ((((l->divide & 3) | (l->divide >> 1 & 4)) + 1) & 7);
}

static uint64_t counts_to_ns(const struct lapic *l, uint64_t counts)
{
	return muldiv64(counts * divisor(l), NS_PER_SEC, CRYSTAL_HZ);
}

static uint64_t counts_passed(const struct lapic *l, uint64_t now)
{
	return muldiv64(now - l->timer_start, CRYSTAL_HZ, NS_PER_SEC) / divisor(l);
}

static uint64_t guest_tsc(const struct lapic *l)
{
	/* The offset is the vCPU thread's, and this may be another. */
	return __builtin_ia32_rdtsc() + __atomic_load_n(&l->vcpu->tsc_offset, __ATOMIC_RELAXED);
}

uint32_t lapic_timer_count_locked(const struct lapic *l)
{
	uint64_t passed;

	if (!l->initial_count || mode(l) == LVT_TIMER_DEADLINE)
		return 0;
	passed = counts_passed(l, clock_now(l->clock));
	if (mode(l) == LVT_TIMER_PERIODIC)
		return l->initial_count - passed % l->initial_count;
	return passed < l->initial_count ? l->initial_count - passed : 0;
}

/* The first end of a period after @now. */
static uint64_t next_period(const struct lapic *l, uint64_t now)
{
	uint64_t periods = counts_passed(l, now) / l->initial_count + 1;

	return l->timer_start + counts_to_ns(l, periods * l->initial_count);
}

static uint64_t deadline_due(const struct lapic *l, uint64_t now)
{
	uint64_t tsc = guest_tsc(l), hz = l->vcpu->tsc_hz ? l->vcpu->tsc_hz : NS_PER_SEC;
	unsigned __int128 ns;

	if (!l->tsc_deadline)
		return CLOCK_NEVER;
	if (l->tsc_deadline <= tsc)
		return now;
	ns = (unsigned __int128)(l->tsc_deadline - tsc) * NS_PER_SEC / hz + 1;
	return now + (ns < DEADLINE_MAX_NS ? (uint64_t)ns : DEADLINE_MAX_NS);
}

static uint64_t count_due(const struct lapic *l, uint64_t now)
{
	uint64_t due;

	if (!l->initial_count)
		return CLOCK_NEVER;
	if (mode(l) == LVT_TIMER_PERIODIC)
		return next_period(l, now);
	/* What ended before now was delivered, or ended while the timer was masked. */
	due = l->timer_start + counts_to_ns(l, l->initial_count);
	return counts_passed(l, now) < l->initial_count ? due : CLOCK_NEVER;
}

static void set_due(struct lapic *l, uint64_t ns)
{
	l->timer_due = ns;
	if (ns == CLOCK_NEVER || l->hosted)
		timer_cancel(&l->timer);
	else
		timer_set(&l->timer, ns);
}

void lapic_timer_update_locked(struct lapic *l)
{
	uint64_t now = clock_now(l->clock);

	if (l->lvt[LVT_TIMER] & LVT_MASKED)
		set_due(l, CLOCK_NEVER);
	else if (mode(l) == LVT_TIMER_DEADLINE)
		set_due(l, deadline_due(l, now));
	else
		set_due(l, count_due(l, now));
}

void lapic_timer_resume_locked(struct lapic *l)
{
	if (mode(l) == LVT_TIMER_DEADLINE)
		lapic_timer_update_locked(l);	/* the TSC is another host's */
	else
		set_due(l, l->timer_due);
}

void lapic_timer_restore_locked(struct lapic *l, uint32_t current)
{
	uint32_t passed = l->initial_count - MIN(current, l->initial_count);

	l->timer_start = clock_now(l->clock) - counts_to_ns(l, passed);
	lapic_timer_update_locked(l);
}

/* Delivers, and finds the next time. */
static void fire_locked(struct lapic *l, uint64_t now)
{
	uint64_t due = CLOCK_NEVER;

	if (mode(l) == LVT_TIMER_DEADLINE) {
		if (guest_tsc(l) < l->tsc_deadline) {	/* the clocks differ a little */
			lapic_timer_update_locked(l);
			return;
		}
		l->tsc_deadline = 0;
	}
	lapic_lvt_fire_locked(l, LVT_TIMER);
	if (mode(l) == LVT_TIMER_PERIODIC && l->initial_count) {
		due = next_period(l, now);
		if (due - now < PERIOD_MIN_NS)
			due = next_period(l, now + PERIOD_MIN_NS);
	}
	set_due(l, due);
}

void lapic_timer_sync_locked(struct lapic *l)
{
	uint64_t now = clock_now(l->clock);

	if (l->timer_due <= now && !l->hosted)
		fire_locked(l, now);
}

/* Finds nothing due if the guest has changed the timer meanwhile. */
static void timer_fire(void *arg)
{
	struct lapic *l = arg;

	pthread_mutex_lock(&l->lock);
	lapic_timer_sync_locked(l);
	pthread_mutex_unlock(&l->lock);
}

void lapic_timer_init(struct lapic *l)
{
	timer_init(&l->timer, l->clock, timer_fire, l);
	l->timer_due = CLOCK_NEVER;
}

void lapic_timer_start_locked(struct lapic *l, uint32_t initial)
{
	if (mode(l) == LVT_TIMER_DEADLINE)
		return;
	l->initial_count = initial;
	l->timer_start = clock_now(l->clock);
	lapic_timer_update_locked(l);
}

/* The count goes on from where it is. */
void lapic_timer_divide_locked(struct lapic *l, uint32_t divide)
{
	uint32_t passed = l->initial_count - lapic_timer_count_locked(l);

	l->divide = divide;
	l->timer_start = clock_now(l->clock) - counts_to_ns(l, passed);
	lapic_timer_update_locked(l);
}

/* 0 once the deadline has passed, also while the timer is masked. */
uint64_t lapic_timer_deadline_locked(struct lapic *l)
{
	if (mode(l) != LVT_TIMER_DEADLINE)
		return 0;
	if (l->tsc_deadline && l->tsc_deadline <= guest_tsc(l)) {
		if (l->lvt[LVT_TIMER] & LVT_MASKED)
			l->tsc_deadline = 0;
		else
			fire_locked(l, clock_now(l->clock));
	}
	return l->tsc_deadline;
}

void lapic_timer_lvt_locked(struct lapic *l, uint32_t lvt)
{
	uint32_t changed = l->lvt[LVT_TIMER] ^ lvt;

	lapic_timer_deadline_locked(l);	/* one that passed while masked is lost */
	l->lvt[LVT_TIMER] = lvt;
	if (changed & LVT_TIMER_DEADLINE) {	/* into or out of deadline mode: disarms */
		l->initial_count = 0;
		l->tsc_deadline = 0;
	}
	if (changed)
		lapic_timer_update_locked(l);
}

void lapic_timer_set_deadline_locked(struct lapic *l, uint64_t tsc)
{
	if (mode(l) != LVT_TIMER_DEADLINE)
		return;
	l->tsc_deadline = tsc;
	lapic_timer_update_locked(l);
	lapic_timer_sync_locked(l);	/* a deadline in the past interrupts at once */
}
