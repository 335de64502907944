// SPDX-License-Identifier: Apache-2.0
/* The back end on a stream of frames; see net_stream.h. */
#include "backend/net_stream.h"
#include "backend/frame_stream.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define READS_AT_ONCE	4	/* then others on the loop have their turn */

struct net_stream {
	struct net_backend net;
	struct net_stream_config config;
	struct frame_stream stream;
	struct loop *loop;		/* NULL: not attached */
	int timer;			/* timerfd: time to reopen; -1: never does */
	uint32_t watched;		/* EPOLL* that the loop watches the stream for */
	bool refused;			/* a send was short: writable() is due */
	bool stalled;			/* the front end refused frames */
	struct loop_work input_work;
};

static void ready(void *arg, uint32_t events);

/* Watches for what is wanted now; nothing while input stands still and output does not. */
static void watch(struct net_stream *s)
{
	const bool output = s->refused || frame_stream_queued(&s->stream);
	const uint32_t want = (s->stalled ? 0 : EPOLLIN) | (output ? EPOLLOUT : 0);

	if (s->stream.fd < 0 || want == s->watched)
		return;
	if (!s->watched)
		loop_watch(s->loop, s->stream.fd, want, ready, s, NULL);
	else if (!want)
		loop_unwatch(s->loop, s->stream.fd);
	else
		loop_rewatch(s->loop, s->stream.fd, want);
	s->watched = want;
}

static void arm(struct net_stream *s, bool on)
{
	const struct itimerspec t = { .it_value.tv_sec = on, .it_interval.tv_sec = on };

	if (s->timer >= 0)
		timerfd_settime(s->timer, 0, &t, NULL);
}

/* --- the peer's end --- */

static void log_child(struct net_stream *s)
{
	int status;

	if (s->config.child <= 0 || waitpid(s->config.child, &status, WNOHANG) <= 0)
		return;
	s->config.child = 0;
	if (WIFSIGNALED(status))
		log_warn(s->net.log, "net: the process of '%s' was killed by signal %d (%s)",
			 s->config.name, WTERMSIG(status), strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		log_warn(s->net.log, "net: the process of '%s' ended with status %d", s->config.name,
			 WEXITSTATUS(status));
}

static void lost(struct net_stream *s, int rc)
{
	const bool tell = s->refused;

	if (s->watched)
		loop_unwatch(s->loop, s->stream.fd);
	s->watched = 0;
	s->refused = s->stalled = false;
	frame_stream_reopen(&s->stream, -1);
	if (s->net.log)
		log_warn(s->net.log, "net: '%s' is gone (%s): the link is down%s", s->config.name,
			 rc == -EPIPE ? "closed" : strerror(-rc),
			 s->timer >= 0 ? " until it is back" : "");
	log_child(s);
	arm(s, true);
	s->net.front->link(s->net.front_dev, false);
	/* From now on all is dropped, so there is room. */
	if (tell)
		s->net.front->writable(s->net.front_dev);
}

static void reopen_due(void *arg, uint32_t events)
{
	struct net_stream *s = arg;
	uint64_t times;
	int fd;

	(void)events;
	if (read(s->timer, &times, sizeof(times)) < 0)
		return;
	fd = s->stream.fd < 0 ? s->config.reopen(s->config.arg) : -EBUSY;
	if (fd < 0)
		return;
	arm(s, false);
	frame_stream_reopen(&s->stream, fd);
	watch(s);
	log_info(s->net.log, "net: '%s' is back: the link is up", s->config.name);
	s->net.front->link(s->net.front_dev, true);
}

/* --- receiving --- */

/* Gives the front end what was read; false: it takes no more, or the peer is gone. */
static bool deliver(struct net_stream *s)
{
	struct net_in frames[FRAME_STREAM_AT_ONCE];
	unsigned int taken;
	int n;

	while ((n = frame_stream_peek(&s->stream, frames, ARRAY_SIZE(frames))) > 0) {
		taken = s->net.front->receive(s->net.front_dev, frames, n);
		if (s->stream.fd < 0)
			return false;
		frame_stream_consume(&s->stream, frames, taken);
		if (taken < (unsigned int)n) {
			s->stalled = true;
			return false;
		}
	}
	if (n < 0)
		lost(s, n);
	return n == 0;
}

static void take_input(struct net_stream *s)
{
	ssize_t n = 0;

	for (int i = 0; i < READS_AT_ONCE && deliver(s); i++) {
		n = frame_stream_read(&s->stream);
		if (n <= 0)
			break;
	}
	if (n < 0)
		lost(s, n);
}

static void ready(void *arg, uint32_t events)
{
	struct net_stream *s = arg;
	int rc;

	if (events & EPOLLOUT) {
		rc = frame_stream_flush(&s->stream);
		if (rc) {
			lost(s, rc);
			return;
		}
		if (s->refused && !frame_stream_queued(&s->stream)) {
			s->refused = false;
			s->net.front->writable(s->net.front_dev);
		}
	}
	if (s->stream.fd >= 0 && events & ~EPOLLOUT) {
		if (s->stalled)
			lost(s, -EPIPE);	/* EPOLLHUP, which cannot be unwatched */
		else
			take_input(s);
	}
	watch(s);
}

static void input_again(void *arg)
{
	struct net_stream *s = arg;

	if (!s->stalled)
		return;
	s->stalled = false;
	take_input(s);
	watch(s);
}

static void stream_input_wanted(struct net_backend *b)
{
	struct net_stream *s = container_of(b, struct net_stream, net);

	if (s->stalled)
		loop_post(s->loop, &s->input_work);
}

/* --- sending --- */

/* Into the queue for a slow peer, which is here so that a burst to it is not lost. */
static unsigned int queue_frames(struct net_stream *s, const struct net_out *frames,
				 unsigned int count)
{
	unsigned int n;

	for (n = 0; n < count; n++)
		if (frames[n].count != 1 ||
		    !frame_stream_queue(&s->stream, &frames[n].hdr, frames[n].iov[0].iov_base,
					frames[n].len))
			break;
	return n;
}

static unsigned int stream_send(struct net_backend *b, const struct net_out *frames,
				unsigned int count)
{
	struct net_stream *s = container_of(b, struct net_stream, net);
	unsigned int sent = 0;
	int n = 0;

	if (s->stream.fd < 0)
		return count;
	while (sent < count) {
		n = frame_stream_send(&s->stream, frames + sent, count - sent);
		if (n <= 0)
			break;
		sent += n;
	}
	if (n < 0) {
		/* The loop finds the same and sees to it, outside of the front end's call. */
		sent = count;
	} else if (sent < count && s->config.queue_max) {
		sent += queue_frames(s, frames + sent, count - sent);
	}
	s->refused = sent < count;
	watch(s);
	return sent;
}

/* --- life --- */

/*
 * It ends when its stream does, which has just been closed; should it hang, its parent's death is
 * its own.  No signal is sent: a confined VM may send none.
 */
static void wait_for_child(pid_t pid)
{
	const struct timespec pause = { .tv_nsec = 2000000 };

	for (int i = 0; i < 1000 && waitpid(pid, NULL, WNOHANG) == 0; i++)
		nanosleep(&pause, NULL);
}

static void stream_destroy(struct net_backend *b)
{
	struct net_stream *s = container_of(b, struct net_stream, net);

	if (s->loop) {
		if (s->watched)
			loop_unwatch(s->loop, s->stream.fd);
		if (s->timer >= 0)
			loop_unwatch(s->loop, s->timer);
		loop_unpost(s->loop, &s->input_work);
	}
	if (s->timer >= 0)
		close(s->timer);
	frame_stream_fini(&s->stream);
	if (s->config.child > 0)
		wait_for_child(s->config.child);
	if (s->config.free)
		s->config.free(s->config.arg);
	free(s);
}

static int stream_attach(struct net_backend *b, struct loop *loop, struct err *e)
{
	struct net_stream *s = container_of(b, struct net_stream, net);
	int rc;

	rc = loop_watch(loop, s->stream.fd, EPOLLIN, ready, s, e);
	if (rc)
		return rc;
	if (s->timer >= 0) {
		rc = loop_watch(loop, s->timer, EPOLLIN, reopen_due, s, e);
		if (rc) {
			loop_unwatch(loop, s->stream.fd);
			return rc;
		}
	}
	s->loop = loop;
	s->watched = EPOLLIN;
	return 0;
}

int net_stream_create(struct net_backend **out, const struct net_stream_config *c,
		      struct err *e)
{
	static const struct net_backend_ops ops = {
		.name = "stream", .attach = stream_attach, .send = stream_send,
		.input_wanted = stream_input_wanted, .destroy = stream_destroy,
	};
	struct net_stream *s = calloc(1, sizeof(*s));
	int rc;

	if (!s) {
		close(c->fd);
		if (c->free)
			c->free(c->arg);
		return err_set(e, ENOMEM, "out of memory for a network connection");
	}
	*s = (struct net_stream){
		.net = { .ops = &ops, .log = c->log }, .config = *c, .timer = -1,
		.input_work = { .run = input_again, .arg = s },
	};
	rc = frame_stream_init(&s->stream, c->fd, c->queue_max, e);
	if (!rc && c->reopen) {
		s->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
		if (s->timer < 0)
			rc = err_errno(e, errno, "could not create a timer for the network");
	}
	if (rc) {
		stream_destroy(&s->net);
		return rc;
	}
	*out = &s->net;
	return 0;
}
