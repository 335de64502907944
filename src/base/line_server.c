// SPDX-License-Identifier: Apache-2.0
/* A server of lines; see line_server.h. */
#include "base/line_server.h"
#include "base/json_scan.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX	32		/* more wait in the listener's queue */
#define QUEUE_MAX	(1U << 20)	/* bytes that a client may leave unread */
#define READS_AT_ONCE	4		/* then others have their turn */

struct line_client {
	struct line_server *server;
	struct line_client *next, **link;
	int fd;
	bool gone;		/* nothing comes of it any more */
	bool ending;		/* it goes when all is sent */
	char *out;
	size_t out_len, out_room;
	unsigned int mark;
	bool busy;		/* in an op: it is settled after that */
	size_t in_len;
	size_t scanned;		/* bytes of @in that @scan has seen */
	struct json_scan scan;
	char in[LINE_LENGTH_MAX + 2];	/* with room for a zero */
};

struct line_server {
	struct loop *loop;
	int listener, spare;		/* spare: see unix_accept() */
	bool listening;
	struct line_server_ops ops;
	void *arg;
	struct line_client *clients;
	unsigned int count;
};

static void listen_again(struct line_server *s);

static void client_free(struct line_client *c)
{
	struct line_server *s = c->server;

	loop_unwatch(s->loop, c->fd);
	close(c->fd);
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	s->count--;
	free(c->out);
	free(c);
}

static void client_flush(struct line_client *c)
{
	ssize_t n;

	while (c->out_len) {
		n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->gone |= errno != EAGAIN;
			break;
		}
		c->out_len -= n;
		memmove(c->out, c->out + n, c->out_len);
	}
	if (!c->out_len && c->ending)
		c->gone = true;
}

static void client_queue(struct line_client *c, const char *text, size_t n)
{
	if (c->gone)
		return;
	if (c->out_len + n > QUEUE_MAX) {
		c->gone = true;
		return;
	}
	if (c->out_len + n > c->out_room) {
		size_t room = MAX(c->out_len + n, (size_t)4096);
		char *out = realloc(c->out, room);

		if (!out) {
			c->gone = true;
			return;
		}
		c->out = out;
		c->out_room = room;
	}
	memcpy(c->out + c->out_len, text, n);
	c->out_len += n;
}

void line_send_part(struct line_client *c, const char *text)
{
	client_queue(c, text, strlen(text));
}

void line_send(struct line_client *c, const char *text)
{
	line_send_part(c, text);
	client_queue(c, "\n", 1);
}

void line_hang_up(struct line_client *c)
{
	c->ending = true;
}

void line_mark(struct line_client *c, unsigned int mark)
{
	c->mark = mark;
}

unsigned int line_marked(const struct line_client *c)
{
	return c->mark;
}

/* The length of the first line of @in from @at on, with what ends it; 0: it is not whole. */
static size_t line_length(struct line_client *c, size_t at)
{
	const char *newline;

	if (!c->server->ops.json) {
		newline = memchr(c->in + at, '\n', c->in_len - at);
		return newline ? newline - (c->in + at) + 1 : 0;
	}
	while (c->scanned < c->in_len)
		if (json_scan(&c->scan, c->in[c->scanned++]))
			return c->scanned - at;
	return 0;
}

/* A line, whose end is a newline or belongs to it, and is followed by a zero meanwhile. */
static void client_line(struct line_client *c, char *line, size_t len)
{
	const size_t text = line[len - 1] == '\n' ? len - 1 : len;
	const char behind = line[text];

	line[text] = '\0';
	c->server->ops.line(c->server->arg, c, line, text);
	line[text] = behind;
}

/* Hands over the whole lines among what was read. */
static void client_lines(struct line_client *c)
{
	struct line_server *s = c->server;
	size_t at = 0, len;

	while (!c->gone && !c->ending && (len = line_length(c, at))) {
		client_line(c, c->in + at, len);
		at += len;
	}
	c->in_len -= at;
	c->scanned -= MIN(c->scanned, at);
	memmove(c->in, c->in + at, c->in_len);
	if (c->in_len < LINE_LENGTH_MAX + 1 || c->ending)
		return;
	if (s->ops.too_long)
		s->ops.too_long(s->arg, c);
	c->ending = true;
}

static void client_read(struct line_client *c)
{
	for (int k = 0; k < READS_AT_ONCE && !c->gone && !c->ending; k++) {
		ssize_t n = recv(c->fd, c->in + c->in_len, LINE_LENGTH_MAX + 1 - c->in_len,
				 MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			c->gone = true;
			return;
		}
		c->in_len += n;
		client_lines(c);
	}
}

/* Who does not read what it was sent is not read from either. */
static uint32_t wanted_events(const struct line_client *c)
{
	if (c->out_len)
		return EPOLLOUT;
	return c->ending ? 0 : EPOLLIN;
}

static void client_settle(struct line_client *c)
{
	struct line_server *s = c->server;

	client_flush(c);
	if (!c->gone && !loop_rewatch(s->loop, c->fd, wanted_events(c)))
		return;
	client_free(c);
	listen_again(s);
}

static void client_ready(void *arg, uint32_t events)
{
	struct line_client *c = arg;

	if (events & (EPOLLERR | EPOLLHUP) && !(events & EPOLLIN))
		c->gone = true;
	c->busy = true;
	if (events & EPOLLIN && !c->out_len)
		client_read(c);
	c->busy = false;
	client_settle(c);
}

static void client_new(struct line_server *s, int fd)
{
	struct line_client *c = calloc(1, sizeof(*c));

	if (!c || loop_watch(s->loop, fd, EPOLLIN, client_ready, c, NULL)) {
		free(c);
		close(fd);
		return;
	}
	c->server = s;
	c->fd = fd;
	c->next = s->clients;
	c->link = &s->clients;
	if (c->next)
		c->next->link = &c->next;
	s->clients = c;
	s->count++;
	c->busy = true;
	if (s->ops.opened)
		s->ops.opened(s->arg, c);
	c->busy = false;
	client_settle(c);
}

void line_tell(struct line_server *s, unsigned int mark, const char *text)
{
	struct line_client *c, *next;

	for (c = s->clients; c; c = next) {
		next = c->next;
		if (c->mark != mark || c->ending)
			continue;
		line_send(c, text);
		if (!c->busy)
			client_settle(c);
	}
}

static void accept_ready(void *arg, uint32_t events)
{
	struct line_server *s = arg;
	int fd = unix_accept(s->listener, &s->spare);

	(void)events;
	if (fd >= 0)
		client_new(s, fd);
	if (s->count >= CLIENTS_MAX) {
		loop_unwatch(s->loop, s->listener);
		s->listening = false;
	}
}

static void listen_again(struct line_server *s)
{
	if (!s->listening && s->count < CLIENTS_MAX)
		s->listening = !loop_watch(s->loop, s->listener, EPOLLIN, accept_ready, s, NULL);
}

int line_server_create(struct line_server **out, struct loop *l, int listener,
		       const struct line_server_ops *ops, void *arg, struct err *e)
{
	struct line_server *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a control socket");
	*s = (struct line_server){ .loop = l, .listener = listener, .spare = -1, .ops = *ops, .arg = arg };
	rc = loop_watch(l, listener, EPOLLIN, accept_ready, s, e);
	if (rc) {
		free(s);
		return rc;
	}
	s->spare = unix_spare(listener);
	s->listening = true;
	*out = s;
	return 0;
}

void line_server_destroy(struct line_server *s)
{
	if (!s)
		return;
	while (s->clients) {
		client_flush(s->clients);
		client_free(s->clients);
	}
	if (s->listening)
		loop_unwatch(s->loop, s->listener);
	close(s->spare);
	free(s);
}
