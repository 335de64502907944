// SPDX-License-Identifier: Apache-2.0
/* A VM's clock and its timers; see clock.h. */
#include "base/clock.h"

#include <assert.h>
#include <string.h>
#include <time.h>

static uint64_t host_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
}

static uint64_t now_locked(struct clock *c)
{
	return c->manual || c->stopped ? c->now : host_ns() - c->offset;
}

void clock_init(struct clock *c, bool manual)
{
	memset(c, 0, sizeof(*c));
	pthread_mutex_init(&c->lock, NULL);
	c->manual = manual;
	c->offset = host_ns();
}

void clock_destroy(struct clock *c)
{
	pthread_mutex_destroy(&c->lock);
}

uint64_t clock_now(struct clock *c)
{
	uint64_t now;

	/* A running clock's offset changes only between stop and start. */
	if (!c->manual && !c->stopped)
		return host_ns() - c->offset;
	pthread_mutex_lock(&c->lock);
	now = now_locked(c);
	pthread_mutex_unlock(&c->lock);
	return now;
}

void clock_stop(struct clock *c)
{
	pthread_mutex_lock(&c->lock);
	c->now = now_locked(c);
	c->stopped = true;
	pthread_mutex_unlock(&c->lock);
}

void clock_start(struct clock *c)
{
	pthread_mutex_lock(&c->lock);
	if (c->stopped && !c->manual)
		c->offset = host_ns() - c->now;
	c->stopped = false;
	pthread_mutex_unlock(&c->lock);
	if (c->wake)
		c->wake(c->wake_arg);
}

static void unlink_locked(struct timer *t)
{
	if (t->deadline == CLOCK_NEVER)
		return;
	if (t->prev)
		t->prev->next = t->next;
	else
		t->clock->first = t->next;
	if (t->next)
		t->next->prev = t->prev;
	t->prev = t->next = NULL;
	t->deadline = CLOCK_NEVER;
}

static struct timer *pop_due(struct clock *c, uint64_t limit)
{
	struct timer *t;

	pthread_mutex_lock(&c->lock);
	t = c->first;
	if (t && t->deadline <= limit) {
		if (c->manual)
			c->now = MAX(c->now, t->deadline);
		unlink_locked(t);
	} else {
		t = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return t;
}

void clock_run(struct clock *c)
{
	uint64_t now = clock_now(c);
	struct timer *t;

	while ((t = pop_due(c, now)))
		t->fire(t->arg);
}

void clock_advance(struct clock *c, uint64_t ns)
{
	uint64_t end = c->now + ns;
	struct timer *t;

	assert(c->manual);
	while ((t = pop_due(c, end)))
		t->fire(t->arg);
	c->now = end;
}

uint64_t clock_deadline(struct clock *c)
{
	uint64_t d;

	pthread_mutex_lock(&c->lock);
	d = c->first && !c->stopped ? c->first->deadline : CLOCK_NEVER;
	pthread_mutex_unlock(&c->lock);
	return d;
}

void timer_init(struct timer *t, struct clock *c, void (*fire)(void *), void *arg)
{
	*t = (struct timer){ .clock = c, .fire = fire, .arg = arg, .deadline = CLOCK_NEVER };
}

void timer_set(struct timer *t, uint64_t deadline)
{
	struct clock *c = t->clock;
	struct timer *prev = NULL, *next;
	bool earliest;

	if (deadline == CLOCK_NEVER)
		deadline--;
	pthread_mutex_lock(&c->lock);
	unlink_locked(t);
	for (next = c->first; next && next->deadline <= deadline; next = next->next)
		prev = next;
	t->deadline = deadline;
	t->prev = prev;
	t->next = next;
	if (next)
		next->prev = t;
	if (prev)
		prev->next = t;
	else
		c->first = t;
	earliest = !prev;
	pthread_mutex_unlock(&c->lock);
	if (earliest && c->wake)
		c->wake(c->wake_arg);
}

void timer_cancel(struct timer *t)
{
	pthread_mutex_lock(&t->clock->lock);
	unlink_locked(t);
	pthread_mutex_unlock(&t->clock->lock);
}

bool timer_pending(struct timer *t)
{
	bool pending;

	pthread_mutex_lock(&t->clock->lock);
	pending = t->deadline != CLOCK_NEVER;
	pthread_mutex_unlock(&t->clock->lock);
	return pending;
}
