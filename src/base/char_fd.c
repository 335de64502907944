// SPDX-License-Identifier: Apache-2.0
/*
 * A character backend on file descriptors; see char_fd.h.
 *
 * O_NONBLOCK belongs to the open file, which stdin shares with our log and with the
 * shell that started us, so it is left alone: a descriptor is polled before each read
 * and each write of at most OUT_PIECE bytes.
 *
 * With pieces, output leaves on the front end's thread, before the guest can say more: who reads
 * until some text is seen, forgets what came with it and then waits for a prompt (expect() of
 * Debian's autopkgtest does) would wait in vain if the prompt had come in the same piece.
 */
#include "base/char_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define OUT_SIZE	16384
#define OUT_PIECE	1024		/* POLLOUT of a pipe promises PIPE_BUF, 4096 */
#define IN_SIZE		(256 * 1024)	/* a large paste, to a guest that is slow */
#define READ_SIZE	4096		/* at once, so that the loop's others get their turn */
#define GATHER_NS	1000000		/* how long output may wait for company */
#define GATHER_BYTE_NS	250000		/* with pieces: how long bytes may */
#define PIECE_BYTES	16		/* with pieces: how many bytes may, a UART's FIFO */
#define LAST_WORDS_MS	1000		/* how long destroy waits for a slow reader */

/* (o) under lock; the rest belongs to the loop's thread */
struct char_fd {
	struct char_backend backend;
	struct char_fd_config config;
	struct loop *loop;
	int in_fd, out_fd;		/* our duplicates, or -1 */
	int timer;			/* timerfd: output is old enough to go */
	bool in_watched, out_watched;
	bool in_always;			/* a regular file: cannot be watched, is always ready */
	struct loop_work flush_work, input_work;
	uint8_t in[IN_SIZE];		/* read, filtered, not yet taken by the front end */
	size_t in_at, in_count;		/* first byte, bytes held */
	pthread_mutex_t lock;
	uint8_t out[OUT_SIZE];		/* (o) ring */
	size_t out_at, out_count;	/* (o) first byte, bytes held */
	bool refused;			/* (o) a write was short: writable() is due */
	bool gathering;			/* (o) the timer runs */
	bool full;			/* (o) the host took nothing more: flush() sees to it */
};

static bool poll_now(int fd, short events, int wait_ms)
{
	struct pollfd p = { .fd = fd, .events = events };

	return poll(&p, 1, wait_ms) > 0;
}

/* --- output --- */

static void gather_start_locked(struct char_fd *c)
{
	const struct itimerspec soon = {
		.it_value.tv_nsec = c->config.pieces ? GATHER_BYTE_NS : GATHER_NS,
	};

	if (!c->gathering)
		timerfd_settime(c->timer, 0, &soon, NULL);
	c->gathering = true;
}

static size_t hold_locked(struct char_fd *c, const uint8_t *buf, size_t len)
{
	const size_t n = MIN(len, OUT_SIZE - c->out_count);

	for (size_t i = 0; i < n; i++)
		c->out[(c->out_at + c->out_count++) % OUT_SIZE] = buf[i];
	return n;
}

static void drop_held_locked(struct char_fd *c, size_t n)
{
	c->out_count -= n;
	c->out_at = c->out_count ? (c->out_at + n) % OUT_SIZE : 0;
}

/* Sends what is held, as far as the socket takes it; a reader that is gone gets all of it. */
static void send_held_locked(struct char_fd *c)
{
	size_t part;
	ssize_t n;

	while (c->out_count && !c->full) {
		part = MIN(c->out_count, OUT_SIZE - c->out_at);
		n = send(c->out_fd, c->out + c->out_at, part, MSG_DONTWAIT | MSG_NOSIGNAL);
		c->full = n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM);
		if (c->full)
			loop_post(c->loop, &c->flush_work);
		else if (n >= 0 || errno != EINTR)
			drop_held_locked(c, n < 0 ? (ssize_t)part : n);
	}
}

static size_t fd_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct char_fd *c = container_of(b, struct char_fd, backend);
	size_t before, n;

	if (c->out_fd < 0)
		return len;
	pthread_mutex_lock(&c->lock);
	before = c->out_count;
	n = hold_locked(c, buf, len);
	if (c->config.pieces && (len > 1 || c->out_count >= PIECE_BYTES)) {
		send_held_locked(c);
		for (; n < len && !c->full; send_held_locked(c))
			n += hold_locked(c, buf + n, len - n);
	} else if (!before && n) {
		gather_start_locked(c);
	}
	if (n < len)
		c->refused = true;
	if (before < OUT_SIZE / 2 && c->out_count >= OUT_SIZE / 2)
		loop_post(c->loop, &c->flush_work);
	pthread_mutex_unlock(&c->lock);
	return n;
}

/*
 * Writes what the host takes; returns false when it would block.  A reader that is
 * gone (EPIPE, EIO) must not stop the guest: its output is dropped.
 */
static bool drain_locked(struct char_fd *c)
{
	size_t part;
	ssize_t n;

	while (c->out_count) {
		if (!poll_now(c->out_fd, POLLOUT, 0))
			return false;
		part = MIN(c->out_count, OUT_SIZE - c->out_at);
		part = MIN(part, OUT_PIECE);
		n = write(c->out_fd, c->out + c->out_at, part);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return false;
		if (n < 0)
			n = part;
		drop_held_locked(c, n);
	}
	return true;
}

static void out_ready(void *arg, uint32_t events);

static void flush(void *arg)
{
	struct char_fd *c = arg;
	bool tell, blocked;

	pthread_mutex_lock(&c->lock);
	blocked = c->full = !drain_locked(c);
	tell = c->refused && c->out_count < OUT_SIZE / 2;
	if (tell)
		c->refused = false;
	pthread_mutex_unlock(&c->lock);
	if (blocked && !c->out_watched)
		c->out_watched = !loop_watch(c->loop, c->out_fd, EPOLLOUT, out_ready, c, NULL);
	if (!blocked && c->out_watched) {
		loop_unwatch(c->loop, c->out_fd);
		c->out_watched = false;
	}
	if (tell && c->backend.front)
		c->backend.front->writable(c->backend.front_dev);
}

static void out_ready(void *arg, uint32_t events)
{
	(void)events;
	flush(arg);
}

static void gather_ready(void *arg, uint32_t events)
{
	struct char_fd *c = arg;
	uint64_t times;

	(void)events;
	if (read(c->timer, &times, sizeof(times)) != sizeof(times))
		return;
	pthread_mutex_lock(&c->lock);
	c->gathering = false;
	pthread_mutex_unlock(&c->lock);
	flush(c);
}

/* --- input --- */

/* Gives held input to the front end; true if all of it went. */
static bool feed(struct char_fd *c)
{
	size_t n = c->in_count;

	if (n && c->backend.front)
		n = c->backend.front->receive(c->backend.front_dev, c->in + c->in_at, n);
	c->in_count -= n;
	c->in_at = c->in_count ? c->in_at + n : 0;
	if (c->in_at >= IN_SIZE / 2) {
		memmove(c->in, c->in + c->in_at, c->in_count);
		c->in_at = 0;
	}
	return !c->in_count;
}

static void in_stop(struct char_fd *c)
{
	if (c->in_watched)
		loop_unwatch(c->loop, c->in_fd);
	c->in_watched = false;
}

static void in_end(struct char_fd *c)
{
	in_stop(c);
	close(c->in_fd);
	c->in_fd = -1;
	if (c->config.closed)
		c->config.closed(c->config.arg);
}

/* Reads to @buf and filters; less than 0: nothing now, or nothing more. */
static ssize_t in_read(struct char_fd *c, uint8_t *buf, size_t size)
{
	ssize_t n = read(c->in_fd, buf, size);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -1;
	if (n <= 0) {
		in_end(c);
		return -1;
	}
	return c->config.filter ? (ssize_t)c->config.filter(c->config.arg, buf, n) : n;
}

static void in_ready(void *arg, uint32_t events)
{
	struct char_fd *c = arg;
	size_t end = c->in_at + c->in_count, room = MIN(IN_SIZE - end, READ_SIZE);
	uint8_t lost[256];
	ssize_t n;

	(void)events;
	/* Only with a filter: its key must be seen, whatever becomes of the rest. */
	if (!room) {
		in_read(c, lost, sizeof(lost));
		return;
	}
	n = in_read(c, c->in + end, room);
	if (n < 0)
		return;
	c->in_count += n;
	if (feed(c)) {
		if (c->in_always)
			loop_post(c->loop, &c->input_work);
	} else if (c->in_at + c->in_count == IN_SIZE && !c->config.filter) {
		in_stop(c);
	}
}

/* Input is wanted: first what is held, then more from the descriptor. */
static void input_resume(void *arg)
{
	struct char_fd *c = arg;

	if (!feed(c) || c->in_fd < 0 || c->in_watched)
		return;
	if (c->in_always) {
		in_ready(c, 0);
		return;
	}
	if (loop_watch(c->loop, c->in_fd, EPOLLIN, in_ready, c, NULL) == 0)
		c->in_watched = true;
}

static void fd_input_wanted(struct char_backend *b)
{
	struct char_fd *c = container_of(b, struct char_fd, backend);

	loop_post(c->loop, &c->input_work);
}

/* --- making and ending --- */

/* Regular files (and /dev/null) cannot be watched: -EPERM. */
static int in_start(struct char_fd *c, struct err *e)
{
	int rc;

	if (c->in_fd < 0)
		return 0;
	rc = loop_watch(c->loop, c->in_fd, EPOLLIN, in_ready, c, e);
	c->in_watched = rc == 0;
	if (rc == -EPERM) {
		c->in_always = true;
		loop_post(c->loop, &c->input_work);
		rc = 0;
	}
	return rc;
}

static void last_words(struct char_fd *c)
{
	pthread_mutex_lock(&c->lock);
	while (c->out_fd >= 0 && !drain_locked(c) && poll_now(c->out_fd, POLLOUT, LAST_WORDS_MS))
		;
	pthread_mutex_unlock(&c->lock);
}

static void close_all(struct char_fd *c)
{
	int fds[] = { c->in_fd, c->out_fd, c->timer };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] < 0)
			continue;
		loop_unwatch(c->loop, fds[i]);
		close(fds[i]);
	}
}

static void fd_destroy(struct char_backend *b)
{
	struct char_fd *c = container_of(b, struct char_fd, backend);

	last_words(c);
	loop_unpost(c->loop, &c->flush_work);
	loop_unpost(c->loop, &c->input_work);
	close_all(c);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct char_backend_ops fd_ops = {
	.write = fd_write,
	.input_wanted = fd_input_wanted,
	.destroy = fd_destroy,
};

static int fd_dup(int fd, struct err *e)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? err_errno(e, errno, "could not duplicate file descriptor %d", fd) : copy;
}

int char_fd_create(struct char_backend **out, struct loop *l, const struct char_fd_config *cfg,
		   struct err *e)
{
	struct char_fd *c = calloc(1, sizeof(*c));
	int rc = 0;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for a character backend");
	c->backend.ops = &fd_ops;
	c->config = *cfg;
	c->loop = l;
	c->in_fd = c->out_fd = -1;
	c->flush_work = (struct loop_work){ .run = flush, .arg = c };
	c->input_work = (struct loop_work){ .run = input_resume, .arg = c };
	pthread_mutex_init(&c->lock, NULL);
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer < 0)
		rc = err_errno(e, errno, "could not create a timer for output");
	if (!rc)
		rc = loop_watch(l, c->timer, EPOLLIN, gather_ready, c, e);
	if (!rc && cfg->in >= 0)
		rc = c->in_fd = fd_dup(cfg->in, e);
	if (rc >= 0 && cfg->out >= 0)
		rc = c->out_fd = fd_dup(cfg->out, e);
	if (rc >= 0)
		rc = in_start(c, e);
	if (rc < 0) {
		close_all(c);
		pthread_mutex_destroy(&c->lock);
		free(c);
		return rc;
	}
	*out = &c->backend;
	return 0;
}
