/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A VM's clock and its timers.  Time is in nanoseconds since the VM's start and
 * stands still while the clock is stopped, so no device sees a pause.  A manual
 * clock moves only by clock_advance(): device tests use it.
 *
 * Timers fire on the thread that calls clock_run() (the event loop), without
 * the clock's lock, so a callback may set timers again and take device locks.
 * A timer may be set and cancelled from any thread; timer_cancel() does not
 * wait for a callback that has already begun: callbacks check their device's
 * state under its lock.
 */
#ifndef VIREO_BASE_CLOCK_H
#define VIREO_BASE_CLOCK_H

#include "base/types.h"

#include <pthread.h>

#define NS_PER_SEC	1000000000ULL
#define CLOCK_NEVER	UINT64_MAX

struct clock;

struct timer {
	struct clock *clock;
	void (*fire)(void *arg);
	void *arg;
	uint64_t deadline;	/* VM ns; CLOCK_NEVER while not set */
	struct timer *prev, *next; /* in the clock's list, earliest first */
};

struct clock {
	pthread_mutex_t lock;	/* (c) protects what is below */
	bool manual;
	bool stopped;
	uint64_t offset;	/* (c) host monotonic ns at VM time 0 */
	uint64_t now;		/* (c) the time, while manual or stopped */
	struct timer *first;	/* (c) */
	void (*wake)(void *arg); /* called when the earliest deadline moved forward */
	void *wake_arg;
};

void clock_init(struct clock *c, bool manual);
void clock_destroy(struct clock *c);
uint64_t clock_now(struct clock *c);
void clock_stop(struct clock *c);
void clock_start(struct clock *c);
/* Manual clocks: goes forward @ns, firing what becomes due in order. */
void clock_advance(struct clock *c, uint64_t ns);
/* The earliest deadline in VM ns, CLOCK_NEVER if there is none. */
uint64_t clock_deadline(struct clock *c);
/* Fires every timer that is due. */
void clock_run(struct clock *c);

void timer_init(struct timer *t, struct clock *c, void (*fire)(void *), void *arg);
/* Sets or moves @t to fire at VM time @deadline (once). */
void timer_set(struct timer *t, uint64_t deadline);
void timer_cancel(struct timer *t);
bool timer_pending(struct timer *t);

/* @a * @b / @c without overflow of the product; @c is not 0. */
static inline uint64_t muldiv64(uint64_t a, uint64_t b, uint64_t c)
{
	return (uint64_t)((unsigned __int128)a * b / c);
}

#endif
