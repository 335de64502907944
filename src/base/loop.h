/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The main event loop of a VM: file descriptors, signals, the VM clock's timers,
 * and work posted from other threads.  One thread runs it; everything it calls is
 * called there, one at a time, without a lock of the loop.
 *
 * Only loop_post(), loop_quit() and the clock's wake may be used from other
 * threads; watches belong to the loop's thread (or to the time before it runs).
 */
#ifndef VIREO_BASE_LOOP_H
#define VIREO_BASE_LOOP_H

#include "base/clock.h"
#include "base/err.h"

struct loop;

/* Owned by the poster; posted again while queued, it still runs once. */
struct loop_work {
	void (*run)(void *arg);
	void *arg;
	struct loop_work *next;
	bool queued;
};

/* @clock (may be NULL) gets its wake function set and is run by the loop. */
int loop_create(struct loop **out, struct clock *clock, struct err *e);
void loop_destroy(struct loop *l);

/* Runs until loop_quit(); a quit that came before makes it return at once. */
int loop_run(struct loop *l, struct err *e);
void loop_quit(struct loop *l);

void loop_post(struct loop *l, struct loop_work *w);
/* Takes @w out of the queue; on the loop's thread it will not run after this. */
void loop_unpost(struct loop *l, struct loop_work *w);

/*
 * Calls @ready with the EPOLL* bits that came up among @events (0: errors only).
 * The descriptor stays the caller's.  -EEXIST if it is watched already, -EPERM for
 * a regular file, which is always ready.
 */
int loop_watch(struct loop *l, int fd, uint32_t events,
	       void (*ready)(void *arg, uint32_t events), void *arg, struct err *e);
int loop_rewatch(struct loop *l, int fd, uint32_t events);
void loop_unwatch(struct loop *l, int fd);

/*
 * Blocks the @count signals in the calling thread (and so in threads it makes later)
 * and calls @caught for each that arrives.  Once a loop.
 */
int loop_watch_signals(struct loop *l, const int *signals, unsigned int count,
		       void (*caught)(void *arg, int signo), void *arg, struct err *e);

#endif
