// SPDX-License-Identifier: Apache-2.0
/*
 * A console with a log and clients; see char_console.h.
 *
 * Output goes through one ring.  The log and each client have a place in it, which counts
 * all bytes since the start; room in it is what the log has written.
 */
#include "base/char_console.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#define RING		(256U * 1024)
#define PIECE		4096U		/* to the log at once */
#define SHOWN		8192U		/* of the past, to a new client */
#define CLIENTS		16
#define INPUT		4096
#define GATHER_NS	1000000		/* how long output may wait for company */

struct client {
	struct char_console *console;
	int fd;				/* -1: nobody */
	uint32_t events;		/* that are watched */
	bool ending;			/* it hung up; nothing is watched, held input is not lost */
	uint64_t at;			/* next byte to send */
	size_t in_at, in_count;		/* held input */
	uint8_t in[INPUT];
};

/* (o) under lock; the rest belongs to the loop's thread */
struct char_console {
	struct char_backend backend;
	struct loop *loop;
	int log, listener, spare, timer;	/* spare: see unix_accept() */
	char *socket;
	struct loop_work flush_work, input_work;
	struct client clients[CLIENTS];
	pthread_mutex_t lock;
	uint64_t head;			/* (o) bytes since the start */
	uint64_t logged;		/* (o) ... that the log has */
	bool refused;			/* (o) a write was short: writable() is due */
	uint8_t ring[RING];		/* (o) */
};

/* --- output --- */

static size_t console_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct char_console *c = container_of(b, struct char_console, backend);
	const struct itimerspec soon = { .it_value.tv_nsec = GATHER_NS };
	size_t n;

	pthread_mutex_lock(&c->lock);
	n = MIN(len, RING - (size_t)(c->head - c->logged));
	if (c->head == c->logged && n)
		timerfd_settime(c->timer, 0, &soon, NULL);
	for (size_t i = 0; i < n; i++)
		c->ring[(c->head + i) % RING] = buf[i];
	c->head += n;
	c->refused |= n < len;
	if (c->head - c->logged >= RING / 2)
		loop_post(c->loop, &c->flush_work);
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* Copies at most @max bytes from @at of the ring; where they are gone, *at moves up. */
static size_t ring_get(struct char_console *c, uint64_t *at, uint8_t *buf, size_t max)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	if (c->head - *at > RING)
		*at = c->head - RING;
	n = MIN(max, (size_t)(c->head - *at));
	for (size_t i = 0; i < n; i++)
		buf[i] = c->ring[(*at + i) % RING];
	pthread_mutex_unlock(&c->lock);
	return n;
}

/* A log that cannot be written (a full disk) must not stop the guest. */
static void write_log(struct char_console *c)
{
	uint8_t buf[PIECE];
	uint64_t at = c->logged;
	size_t n;

	while ((n = ring_get(c, &at, buf, sizeof(buf)))) {
		for (size_t done = 0; done < n; ) {
			const ssize_t w = write(c->log, buf + done, n - done);

			if (w < 0 && errno == EINTR)
				continue;
			if (w <= 0)
				break;
			done += w;
		}
		at += n;
		pthread_mutex_lock(&c->lock);
		c->logged = at;
		pthread_mutex_unlock(&c->lock);
	}
}

static void client_close(struct client *k)
{
	loop_unwatch(k->console->loop, k->fd);
	close(k->fd);
	k->fd = -1;
}

static void client_ready(void *arg, uint32_t events);

/* Reads while there is room for input, writes while there is something to send. */
static void client_watch(struct client *k, bool more_to_send)
{
	const uint32_t events = (k->in_count ? 0 : EPOLLIN) | (more_to_send ? EPOLLOUT : 0);

	if (events == k->events)
		return;
	if (loop_rewatch(k->console->loop, k->fd, events))
		client_close(k);
	else
		k->events = events;
}

static void client_send(struct client *k)
{
	uint8_t buf[PIECE];
	size_t n;

	while (k->fd >= 0 && (n = ring_get(k->console, &k->at, buf, sizeof(buf)))) {
		const ssize_t w = send(k->fd, buf, n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (w < 0 && errno == EAGAIN) {
			client_watch(k, true);
			return;
		}
		if (w < 0 && errno != EINTR)
			client_close(k);
		k->at += MAX(w, (ssize_t)0);
	}
	if (k->fd >= 0)
		client_watch(k, false);
}

static void flush(void *arg)
{
	struct char_console *c = arg;
	bool tell;

	write_log(c);
	for (int i = 0; i < CLIENTS; i++)
		if (c->clients[i].fd >= 0)
			client_send(&c->clients[i]);
	pthread_mutex_lock(&c->lock);
	tell = c->refused;
	c->refused = false;
	pthread_mutex_unlock(&c->lock);
	if (tell && c->backend.front)
		c->backend.front->writable(c->backend.front_dev);
}

static void gather_ready(void *arg, uint32_t events)
{
	struct char_console *c = arg;
	uint64_t times;

	(void)events;
	if (read(c->timer, &times, sizeof(times)) == sizeof(times))
		flush(c);
}

/* --- input --- */

/* Gives the guest what is held; true if all of it went. */
static bool client_feed(struct client *k)
{
	struct char_backend *b = &k->console->backend;
	size_t n = k->in_count;

	if (n && b->front)
		n = b->front->receive(b->front_dev, k->in + k->in_at, n);
	k->in_at += n;
	k->in_count -= n;
	return !k->in_count;
}

static void client_ready(void *arg, uint32_t events)
{
	struct client *k = arg;
	ssize_t n;

	if (events & EPOLLOUT)
		client_send(k);
	if (k->fd >= 0 && k->in_count && events & (EPOLLHUP | EPOLLERR)) {
		loop_unwatch(k->console->loop, k->fd);
		k->ending = true;
	}
	while (k->fd >= 0 && !k->in_count && events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
		n = recv(k->fd, k->in, sizeof(k->in), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR) && !k->ending)
			return;
		if (n <= 0) {
			client_close(k);
			return;
		}
		k->in_at = 0;
		k->in_count = n;
		if (!client_feed(k) && !k->ending)
			client_watch(k, k->events & EPOLLOUT);
	}
}

static void input_resume(void *arg)
{
	struct char_console *c = arg;

	for (int i = 0; i < CLIENTS; i++) {
		struct client *k = &c->clients[i];

		if (k->fd < 0 || !k->in_count || !client_feed(k))
			continue;
		if (k->ending)
			client_ready(k, EPOLLIN);	/* what it sent before it went */
		else
			client_watch(k, k->events & EPOLLOUT);
	}
}

static void console_input_wanted(struct char_backend *b)
{
	struct char_console *c = container_of(b, struct char_console, backend);

	loop_post(c->loop, &c->input_work);
}

/* --- clients --- */

/* Where the last lines begin that a new client is shown. */
static uint64_t recent(struct char_console *c)
{
	uint64_t at, end;

	pthread_mutex_lock(&c->lock);
	end = c->head;
	at = end > SHOWN ? end - SHOWN : 0;
	while (at && at < end && c->ring[(at - 1) % RING] != '\n')
		at++;
	pthread_mutex_unlock(&c->lock);
	return at;
}

static void accept_ready(void *arg, uint32_t events)
{
	struct char_console *c = arg;
	const int fd = unix_accept(c->listener, &c->spare);

	(void)events;
	for (int i = 0; i < CLIENTS && fd >= 0; i++) {
		struct client *k = &c->clients[i];

		if (k->fd >= 0)
			continue;
		*k = (struct client){ .console = c, .fd = fd, .events = EPOLLIN, .at = recent(c) };
		if (!loop_watch(c->loop, fd, EPOLLIN, client_ready, k, NULL)) {
			client_send(k);
			return;
		}
		k->fd = -1;
		break;
	}
	if (fd >= 0)
		close(fd);	/* there are too many */
}

/* --- making and ending --- */

static void console_free(struct char_console *c)
{
	const int fds[] = { c->listener, c->timer, c->log, c->spare };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		if (fds[i] < 0)
			continue;
		if (fds[i] != c->log && fds[i] != c->spare)
			loop_unwatch(c->loop, fds[i]);
		close(fds[i]);
	}
	pthread_mutex_destroy(&c->lock);
	free(c->socket);
	free(c);
}

static void console_destroy(struct char_backend *b)
{
	struct char_console *c = container_of(b, struct char_console, backend);

	flush(c);
	loop_unpost(c->loop, &c->flush_work);
	loop_unpost(c->loop, &c->input_work);
	for (int i = 0; i < CLIENTS; i++)
		if (c->clients[i].fd >= 0)
			client_close(&c->clients[i]);
	unlink(c->socket);
	console_free(c);
}

static const struct char_backend_ops console_ops = {
	.write = console_write,
	.input_wanted = console_input_wanted,
	.destroy = console_destroy,
};

static int open_all(struct char_console *c, const char *log, struct err *e)
{
	int rc;

	c->log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	if (c->log < 0)
		return err_errno(e, errno, "could not open %s", log);
	c->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (c->timer < 0)
		return err_errno(e, errno, "could not create a timer for output");
	c->listener = unix_listen(c->socket, CLIENTS, e);
	if (c->listener < 0)
		return c->listener;
	c->spare = unix_spare(c->listener);
	rc = loop_watch(c->loop, c->timer, EPOLLIN, gather_ready, c, e);
	return rc ? rc : loop_watch(c->loop, c->listener, EPOLLIN, accept_ready, c, e);
}

int char_console_create(struct char_backend **out, struct loop *l, const char *log,
			const char *socket, struct err *e)
{
	struct char_console *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for a console");
	c->backend.ops = &console_ops;
	c->loop = l;
	c->log = c->listener = c->spare = c->timer = -1;
	for (int i = 0; i < CLIENTS; i++)
		c->clients[i].fd = -1;
	c->flush_work = (struct loop_work){ .run = flush, .arg = c };
	c->input_work = (struct loop_work){ .run = input_resume, .arg = c };
	pthread_mutex_init(&c->lock, NULL);
	c->socket = strdup(socket);
	rc = c->socket ? open_all(c, log, e) : err_set(e, ENOMEM, "out of memory for a console");
	if (rc) {
		console_free(c);
		return rc;
	}
	*out = &c->backend;
	return 0;
}
