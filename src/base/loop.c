// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop; see loop.h.  epoll for descriptors, an eventfd to be woken, ppoll's
 * nanosecond timeout for the clock's next deadline.  A thread waits for signals and passes
 * them on through a pipe: who polls a signalfd is woken by every signal of the process, those
 * that the engine takes in its own threads among them.
 */
#include "base/loop.h"

#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_AT_ONCE 16

struct watch {
	int fd;			/* -1: unwatched, freed after this round */
	void (*ready)(void *arg, uint32_t events);
	void *arg;
	struct watch *next;
};

/* (l) loop's thread; (q) under lock; (a) atomic */
struct loop {
	struct clock *clock;
	int epoll;
	int wake_fd;
	int signal_pipe[2];
	pthread_t signal_thread;
	bool signal_thread_runs;
	sigset_t signals;
	atomic_bool signals_end;
	struct watch *watches;		/* (l) */
	void (*caught)(void *arg, int signo);
	void *caught_arg;
	pthread_mutex_t lock;
	struct loop_work *first, **last; /* (q) */
	/*
	 * (a) VM time at which the loop wakes by itself; 0 while it is awake.  Set
	 * before the deadline is read, so that a timer set later than that read finds
	 * it and wakes the loop.
	 */
	_Atomic uint64_t sleeps_until;
	atomic_bool quit;
};

static void loop_wake(struct loop *l)
{
	uint64_t one = 1;

	/* A full counter (EAGAIN) wakes as well as ours would. */
	if (write(l->wake_fd, &one, sizeof(one)) < 0)
		return;
}

static void clock_moved(void *arg)
{
	struct loop *l = arg;
	uint64_t until = atomic_load(&l->sleeps_until);

	if (until && clock_deadline(l->clock) < until)
		loop_wake(l);
}

static void wake_ready(void *arg, uint32_t events)
{
	struct loop *l = arg;
	uint64_t count;

	(void)events;
	if (read(l->wake_fd, &count, sizeof(count)) < 0)
		return;
}

/* --- signals --- */

static void *signal_thread(void *arg)
{
	struct loop *l = arg;
	int signo;

	while (!sigwait(&l->signals, &signo) && !atomic_load(&l->signals_end))
		if (write(l->signal_pipe[1], &signo, sizeof(signo)) < 0)
			continue;	/* full of signals that wait already */
	return NULL;
}

static void signal_ready(void *arg, uint32_t events)
{
	struct loop *l = arg;
	int signo;

	(void)events;
	while (read(l->signal_pipe[0], &signo, sizeof(signo)) == sizeof(signo))
		l->caught(l->caught_arg, signo);
}

static void end_signals(struct loop *l)
{
	int any = 1;

	if (l->signal_thread_runs) {
		while (!sigismember(&l->signals, any))
			any++;
		atomic_store(&l->signals_end, true);
		pthread_kill(l->signal_thread, any);
		pthread_join(l->signal_thread, NULL);
	}
	for (unsigned int i = 0; i < 2; i++)
		if (l->signal_pipe[i] >= 0)
			close(l->signal_pipe[i]);
}

static void loop_free(struct loop *l)
{
	struct watch *w;

	while ((w = l->watches)) {
		l->watches = w->next;
		free(w);
	}
	end_signals(l);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	if (l->epoll >= 0)
		close(l->epoll);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

int loop_create(struct loop **out, struct clock *clock, struct err *e)
{
	struct loop *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return err_set(e, ENOMEM, "out of memory for the event loop");
	pthread_mutex_init(&l->lock, NULL);
	l->last = &l->first;
	l->clock = clock;
	l->signal_pipe[0] = l->signal_pipe[1] = -1;
	l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	l->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (l->wake_fd < 0 || l->epoll < 0) {
		rc = err_errno(e, errno, "could not create the event loop's descriptors");
		goto fail;
	}
	rc = loop_watch(l, l->wake_fd, EPOLLIN, wake_ready, l, e);
	if (rc)
		goto fail;
	if (clock) {
		clock->wake = clock_moved;
		clock->wake_arg = l;
	}
	*out = l;
	return 0;
fail:
	loop_free(l);
	return rc;
}

void loop_destroy(struct loop *l)
{
	if (!l)
		return;
	if (l->clock) {
		l->clock->wake = NULL;
		l->clock->wake_arg = NULL;
	}
	loop_free(l);
}

void loop_quit(struct loop *l)
{
	atomic_store(&l->quit, true);
	loop_wake(l);
}

/* --- posted work --- */

void loop_post(struct loop *l, struct loop_work *w)
{
	bool wake = false;

	pthread_mutex_lock(&l->lock);
	if (!w->queued) {
		wake = !l->first;
		w->queued = true;
		w->next = NULL;
		*l->last = w;
		l->last = &w->next;
	}
	pthread_mutex_unlock(&l->lock);
	if (wake)
		loop_wake(l);
}

void loop_unpost(struct loop *l, struct loop_work *w)
{
	struct loop_work **p;

	pthread_mutex_lock(&l->lock);
	for (p = &l->first; *p && *p != w; p = &(*p)->next)
		;
	if (*p) {
		*p = w->next;
		if (l->last == &w->next)
			l->last = p;
		w->queued = false;
	}
	pthread_mutex_unlock(&l->lock);
}

static struct loop_work *next_work(struct loop *l)
{
	struct loop_work *w;

	pthread_mutex_lock(&l->lock);
	w = l->first;
	if (w) {
		l->first = w->next;
		if (!l->first)
			l->last = &l->first;
		w->queued = false;
	}
	pthread_mutex_unlock(&l->lock);
	return w;
}

/* Only what is queued now: work that posts itself again leaves time for the rest. */
static void run_work(struct loop *l)
{
	struct loop_work *w, *end;

	pthread_mutex_lock(&l->lock);
	end = l->first ? container_of(l->last, struct loop_work, next) : NULL;
	pthread_mutex_unlock(&l->lock);
	while (end && (w = next_work(l))) {
		/* @end may be posted again by its own run; so compare first. */
		if (w == end)
			end = NULL;
		w->run(w->arg);
	}
	/* loop_post() woke us only for the first in the queue; see to the others. */
	pthread_mutex_lock(&l->lock);
	w = l->first;
	pthread_mutex_unlock(&l->lock);
	if (w)
		loop_wake(l);
}

/* --- descriptors --- */

static struct watch *find_watch(struct loop *l, int fd)
{
	struct watch *w;

	for (w = l->watches; w && w->fd != fd; w = w->next)
		;
	return w;
}

int loop_watch(struct loop *l, int fd, uint32_t events,
	       void (*ready)(void *arg, uint32_t events), void *arg, struct err *e)
{
	struct watch *w = malloc(sizeof(*w));
	struct epoll_event ev = { .events = events, .data.ptr = w };
	int rc;

	if (!w)
		return err_set(e, ENOMEM, "out of memory for the event loop");
	*w = (struct watch){ .fd = fd, .ready = ready, .arg = arg, .next = l->watches };
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &ev)) {
		rc = err_errno(e, errno, "could not watch file descriptor %d", fd);
		free(w);
		return rc;
	}
	l->watches = w;
	return 0;
}

int loop_rewatch(struct loop *l, int fd, uint32_t events)
{
	struct watch *w = find_watch(l, fd);
	struct epoll_event ev = { .events = events, .data.ptr = w };

	if (!w)
		return -ENOENT;
	return epoll_ctl(l->epoll, EPOLL_CTL_MOD, fd, &ev) ? -errno : 0;
}

void loop_unwatch(struct loop *l, int fd)
{
	struct watch *w = find_watch(l, fd);

	if (!w)
		return;
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
	w->fd = -1;	/* events of this round may still name it */
}

static void free_unwatched(struct loop *l)
{
	struct watch **p = &l->watches, *w;

	while ((w = *p)) {
		if (w->fd >= 0) {
			p = &w->next;
			continue;
		}
		*p = w->next;
		free(w);
	}
}

int loop_watch_signals(struct loop *l, const int *signals, unsigned int count,
		       void (*caught)(void *arg, int signo), void *arg, struct err *e)
{
	int rc;

	if (l->signal_thread_runs)
		return err_set(e, EEXIST, "the event loop watches signals already");
	sigemptyset(&l->signals);
	for (unsigned int i = 0; i < count; i++)
		sigaddset(&l->signals, signals[i]);
	rc = pthread_sigmask(SIG_BLOCK, &l->signals, NULL);
	if (rc)
		return err_errno(e, rc, "could not block signals");
	l->caught = caught;
	l->caught_arg = arg;
	if (pipe2(l->signal_pipe, O_CLOEXEC | O_NONBLOCK))
		return err_errno(e, errno, "could not watch signals");
	rc = thread_create(&l->signal_thread, "signals", signal_thread, l);
	if (rc)
		return err_errno(e, -rc, "could not make the thread that watches signals");
	l->signal_thread_runs = true;
	return loop_watch(l, l->signal_pipe[0], EPOLLIN, signal_ready, l, e);
}

/* --- running --- */

/* Sleeps until something is ready or the clock's next deadline. */
static int wait_events(struct loop *l, struct epoll_event *ev)
{
	struct pollfd pfd = { .fd = l->epoll, .events = POLLIN };
	struct timespec ts, *timeout = NULL;
	uint64_t deadline, now;
	int n;

	if (l->clock) {
		atomic_store(&l->sleeps_until, CLOCK_NEVER);
		deadline = clock_deadline(l->clock);
		atomic_store(&l->sleeps_until, deadline);
		if (deadline != CLOCK_NEVER) {
			now = clock_now(l->clock);
			deadline = deadline > now ? deadline - now : 0;
			ts.tv_sec = deadline / NS_PER_SEC;
			ts.tv_nsec = deadline % NS_PER_SEC;
			timeout = &ts;
		}
	}
	/* Not epoll_pwait2: older containers' seccomp profiles refuse it. */
	n = ppoll(&pfd, 1, timeout, NULL);
	atomic_store(&l->sleeps_until, 0);
	if (n > 0)
		n = epoll_wait(l->epoll, ev, EVENTS_AT_ONCE, 0);
	return n < 0 ? -errno : n;
}

int loop_run(struct loop *l, struct err *e)
{
	struct epoll_event ev[EVENTS_AT_ONCE];
	int n;

	/* Guests' timers are finer than the kernel's default slack of 50 us. */
	prctl(PR_SET_TIMERSLACK, 1000UL, 0, 0, 0);
	while (!atomic_load(&l->quit)) {
		n = wait_events(l, ev);
		if (n < 0 && n != -EINTR)
			return err_errno(e, -n, "the event loop could not wait");
		for (int i = 0; i < n; i++) {
			struct watch *w = ev[i].data.ptr;

			if (w->fd >= 0)
				w->ready(w->arg, ev[i].events);
		}
		free_unwatched(l);
		if (l->clock)
			clock_run(l->clock);
		run_work(l);
	}
	atomic_store(&l->quit, false);
	return 0;
}
