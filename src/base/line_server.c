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
	int fd;			/* -1: @backend */
	struct char_backend *backend;
	bool stalled;		/* @backend's input was refused */
	bool after_cr;		/* a newline belongs to what came before it */
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

	if (c->backend) {
		c->backend->ops->destroy(c->backend);
	} else {
		loop_unwatch(s->loop, c->fd);
		close(c->fd);
	}
	*c->link = c->next;
	if (c->next)
		c->next->link = c->link;
	s->count--;
	free(c->out);
	free(c);
}

static void client_sent(struct line_client *c, size_t n)
{
	c->out_len -= n;
	memmove(c->out, c->out + n, c->out_len);
}

static void client_flush(struct line_client *c)
{
	ssize_t n;

	if (c->backend && c->out_len)
		client_sent(c, c->backend->ops->write(c->backend, (uint8_t *)c->out, c->out_len));
	while (c->out_len && !c->backend) {
		n = send(c->fd, c->out, c->out_len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			c->gone |= errno != EAGAIN;
			break;
		}
		client_sent(c, n);
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

/* What is typed: false, it is part of no line. */
static bool typed(struct line_client *c, char ch)
{
	const bool again = ch == '\n' && c->after_cr;
	const char echo[2] = { ch, '\0' };

	c->after_cr = ch == '\r';
	if (again)
		return false;
	if (ch == '\r' || ch == '\n') {
		line_send_part(c, "\r\n");
		return true;
	}
	if ((ch == '\b' || ch == '\x7f') && c->in_len) {
		c->in_len--;
		line_send_part(c, "\b \b");
	}
	if ((unsigned char)ch < ' ' || ch == '\x7f')
		return false;
	line_send_part(c, echo);
	return true;
}

/* As client_lines(), of @n bytes that were not put into c->in. */
static void client_typed(struct line_client *c, const char *text, size_t n)
{
	for (size_t i = 0; i < n && !c->gone && !c->ending; i++) {
		if (!typed(c, text[i]))
			continue;
		c->in[c->in_len++] = text[i] == '\r' ? '\n' : text[i];
		if (c->in[c->in_len - 1] == '\n' || c->in_len == LINE_LENGTH_MAX + 1)
			client_lines(c);
	}
}

static void client_read(struct line_client *c)
{
	char text[512];

	for (int k = 0; k < READS_AT_ONCE && !c->gone && !c->ending; k++) {
		const bool echo = c->server->ops.echo;
		ssize_t n = recv(c->fd, echo ? text : c->in + c->in_len,
				 echo ? sizeof(text) : LINE_LENGTH_MAX + 1 - c->in_len, MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			c->gone = true;
			return;
		}
		if (echo) {
			client_typed(c, text, n);
			continue;
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

/* As if it were another client now. */
static void client_forget(struct line_client *c)
{
	c->gone = c->ending = c->after_cr = false;
	c->out_len = c->in_len = c->scanned = c->mark = 0;
	c->scan = (struct json_scan){ 0 };
}

/* Who speaks through a back end stays: only what he said, and was to be told, goes. */
static void backend_settle(struct line_client *c)
{
	const unsigned int mark = c->mark;

	if (c->gone || c->ending) {
		client_forget(c);
		c->mark = mark;
	}
	if (c->stalled && !c->out_len) {
		c->stalled = false;
		c->backend->ops->input_wanted(c->backend);
	}
}

static void client_settle(struct line_client *c)
{
	struct line_server *s = c->server;

	client_flush(c);
	if (c->backend) {
		backend_settle(c);
		return;
	}
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

static void client_link(struct line_server *s, struct line_client *c)
{
	c->server = s;
	c->next = s->clients;
	c->link = &s->clients;
	if (c->next)
		c->next->link = &c->next;
	s->clients = c;
	s->count++;
}

static void client_greet(struct line_client *c)
{
	struct line_server *s = c->server;

	c->busy = true;
	if (s->ops.opened)
		s->ops.opened(s->arg, c);
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
	c->fd = fd;
	client_link(s, c);
	client_greet(c);
}

/* --- a client behind a character backend --- */

static size_t backend_receive(void *arg, const uint8_t *buf, size_t len)
{
	struct line_client *c = arg;
	size_t n = 0;

	c->busy = true;
	while (n < len && !c->out_len && !c->ending) {
		if (c->server->ops.echo) {
			client_typed(c, (const char *)buf + n, 1);
			n++;
		} else {
			const size_t part = MIN(len - n, LINE_LENGTH_MAX + 1 - c->in_len);

			memcpy(c->in + c->in_len, buf + n, part);
			c->in_len += part;
			n += part;
			client_lines(c);
		}
		client_flush(c);
	}
	c->stalled = n < len;
	c->busy = false;
	client_settle(c);
	return n;
}

static void backend_writable(void *arg)
{
	struct line_client *c = arg;

	client_settle(c);
}

static void backend_connected(void *arg, bool yes)
{
	struct line_client *c = arg;

	client_forget(c);
	if (yes)
		client_greet(c);
}

int line_server_attach(struct line_server *s, struct char_backend *b, struct err *e)
{
	static const struct char_front_ops front = {
		.receive = backend_receive, .writable = backend_writable,
		.connected = backend_connected,
	};
	struct line_client *c = calloc(1, sizeof(*c));

	if (!c) {
		b->ops->destroy(b);
		return err_set(e, ENOMEM, "out of memory for a client");
	}
	c->fd = -1;
	c->backend = b;
	client_link(s, c);
	char_attach(b, &front, c);
	if (!b->nobody)
		client_greet(c);
	return 0;
}

/* --- all of them --- */

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
	if (s->listener >= 0 && !s->listening && s->count < CLIENTS_MAX)
		s->listening = !loop_watch(s->loop, s->listener, EPOLLIN, accept_ready, s, NULL);
}

int line_server_create(struct line_server **out, struct loop *l, int listener,
		       const struct line_server_ops *ops, void *arg, struct err *e)
{
	struct line_server *s = calloc(1, sizeof(*s));
	int rc = 0;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a control socket");
	*s = (struct line_server){ .loop = l, .listener = listener, .spare = -1, .ops = *ops, .arg = arg };
	if (listener >= 0)
		rc = loop_watch(l, listener, EPOLLIN, accept_ready, s, e);
	if (rc) {
		free(s);
		return rc;
	}
	if (listener >= 0)
		s->spare = unix_spare(listener);
	s->listening = listener >= 0;
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
	if (s->spare >= 0)
		close(s->spare);
	free(s);
}
