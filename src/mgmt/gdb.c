// SPDX-License-Identifier: Apache-2.0
/*
 * The gdb server's connection: listening, packets and their checksums; see gdb.h.
 *
 * What a client sends is looked at packet by packet from a buffer that holds just one; while a
 * reply waits for the client to take it nothing more is read.  So a client can neither make
 * us gather its bytes nor ours.  When it goes, its points go, and the VM runs.
 *
 * Source: GDB's manual, "GDB Remote Serial Protocol", "Overview".
 */
#include "base/unix_listen.h"
#include "mgmt/gdb_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define CTRL_C	3

/* --- replies --- */

void gdb_reply(struct gdb *g, const char *fmt, ...)
{
	const unsigned int room = sizeof(g->reply) - g->reply_len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(g->reply + g->reply_len, room, fmt, ap);
	va_end(ap);
	if (n > 0)
		g->reply_len += MIN((unsigned int)n, room - 1);
}

void gdb_reply_hex(struct gdb *g, const void *data, unsigned int len)
{
	const uint8_t *p = data;

	while (len--)
		gdb_reply(g, "%02x", *p++);
}

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool gdb_unhex(void *data, const char *hex, unsigned int len)
{
	uint8_t *p = data;

	for (; len; len--, hex += 2) {
		if (digit(hex[0]) < 0 || digit(hex[1]) < 0)
			return false;
		*p++ = digit(hex[0]) << 4 | digit(hex[1]);
	}
	return true;
}

static void flush(struct gdb *g)
{
	while (g->client >= 0 && g->out_sent < g->out_len) {
		ssize_t n = send(g->client, g->out + g->out_sent, g->out_len - g->out_sent,
				 MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
			loop_rewatch(vm_loop(g->vm), g->client, EPOLLOUT);
			return;
		}
		if (n <= 0) {
			gdb_drop(g);
			return;
		}
		g->out_sent += n;
	}
	g->out_sent = g->out_len = 0;
	if (g->client >= 0)
		loop_rewatch(vm_loop(g->vm), g->client, EPOLLIN);
}

/* @n bytes that fit; there is room for a reply whenever a packet is looked at. */
static void put(struct gdb *g, const char *bytes, unsigned int n)
{
	if (n > sizeof(g->out) - g->out_len) {
		gdb_drop(g);
		return;
	}
	memcpy(g->out + g->out_len, bytes, n);
	g->out_len += n;
}

void gdb_send(struct gdb *g)
{
	uint8_t sum = 0;
	char end[4];

	if (g->client < 0)
		return;
	for (unsigned int i = 0; i < g->reply_len; i++)
		sum += (uint8_t)g->reply[i];
	snprintf(end, sizeof(end), "#%02x", sum);
	put(g, "$", 1);
	if (g->client >= 0)
		put(g, g->reply, g->reply_len);
	if (g->client >= 0)
		put(g, end, 3);
	g->reply_len = 0;
	flush(g);
}

/* --- packets --- */

static void drop_input(struct gdb *g, unsigned int n)
{
	g->in_len -= n;
	memmove(g->in, g->in + n, g->in_len);
}

/* A whole packet at the start of the input, '#' at @end. */
static void packet(struct gdb *g, unsigned int end)
{
	char body[GDB_PACKET_MAX + 1];
	uint8_t sum = 0, theirs;
	bool good;

	for (unsigned int i = 1; i < end; i++)
		sum += (uint8_t)g->in[i];
	good = gdb_unhex(&theirs, g->in + end + 1, 1) && (g->no_ack || theirs == sum);
	memcpy(body, g->in + 1, end - 1);
	body[end - 1] = 0;
	drop_input(g, end + 3);
	if (!g->no_ack)
		put(g, good ? "+" : "-", 1);
	if (good && g->client >= 0)
		gdb_command(g, body, end - 1);
	if (g->client >= 0)
		flush(g);
}

/* Takes one thing out of the input; false: there is nothing whole. */
static bool next(struct gdb *g)
{
	const char *end;

	if (!g->in_len)
		return false;
	if (g->in[0] != '$') {
		const bool interrupt = g->in[0] == CTRL_C && g->running;

		drop_input(g, 1);
		if (interrupt)
			gdb_stop(g, GDB_INT);
		return true;
	}
	end = memchr(g->in, '#', g->in_len);
	if (!end && g->in_len == sizeof(g->in)) {
		drop_input(g, 1);	/* too long: its rest is noise */
		return true;
	}
	if (!end || (unsigned int)(end - g->in) + 3 > g->in_len)
		return false;
	packet(g, end - g->in);
	return true;
}

static void client_ready(void *arg, uint32_t events)
{
	struct gdb *g = arg;
	ssize_t n;

	if (g->out_len) {
		if (events & (EPOLLERR | EPOLLHUP))
			gdb_drop(g);
		else
			flush(g);
	} else {
		n = recv(g->client, g->in + g->in_len, sizeof(g->in) - g->in_len, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			gdb_drop(g);
			return;
		}
		g->in_len += n;
	}
	while (g->client >= 0 && !g->out_len && next(g))
		;
}

/* --- connections --- */

void gdb_drop(struct gdb *g)
{
	if (g->client < 0)
		return;
	loop_unwatch(vm_loop(g->vm), g->client);
	close(g->client);
	g->client = -1;
	g->in_len = g->out_len = g->out_sent = 0;
	gdb_release(g);
}

static void accept_ready(void *arg, uint32_t events)
{
	const int yes = 1;
	struct gdb *g = arg;
	int fd;

	(void)events;
	fd = unix_accept(g->listener, &g->spare);
	if (fd < 0)
		return;
	if (g->client >= 0 || loop_watch(vm_loop(g->vm), fd, EPOLLIN, client_ready, g, NULL)) {
		close(fd);	/* one at a time */
		return;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));	/* fails on a unix socket */
	g->client = fd;
	g->no_ack = g->physical = false;
	g->thread = g->step_thread = 0;
	vm_freeze(g->vm);
}

static void hit(void *arg)
{
	struct gdb *g = arg;

	if (g->client >= 0 && g->running)
		gdb_stop(g, GDB_TRAP);
}

/* --- listening --- */

static int parse_tcp(const char *where, struct sockaddr_in *a, struct err *e)
{
	const char *text = strncmp(where, "tcp:", 4) ? where : where + 4;
	const char *colon = strrchr(text, ':');
	const char *digits = colon ? colon + 1 : text;
	char host[64] = "127.0.0.1";
	unsigned long port;
	char *end;

	if (colon && colon != text)
		snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (!strcmp(host, "localhost"))
		strcpy(host, "127.0.0.1");
	port = strtoul(digits, &end, 10);
	*a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	if (digits[0] < '0' || digits[0] > '9' || *end || port > UINT16_MAX || !port ||
	    inet_pton(AF_INET, host, &a->sin_addr) != 1)
		return err_set(e, EINVAL, "--gdb: '%s' is none of PORT, [tcp:]ADDRESS:PORT and unix:PATH", where);
	return 0;
}

static int listen_tcp(const char *where, struct err *e)
{
	const int yes = 1;
	struct sockaddr_in a;
	int fd, rc;

	rc = parse_tcp(where, &a, e);
	if (rc)
		return rc;
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket for --gdb");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (!bind(fd, (const struct sockaddr *)&a, sizeof(a)) && !listen(fd, 1))
		return fd;
	rc = err_errno(e, errno, "could not listen on %s for --gdb", where);
	close(fd);
	return rc;
}

int gdb_create(struct gdb **out, struct vm *vm, const char *where, bool wait, struct err *e)
{
	struct gdb *g = calloc(1, sizeof(*g));
	int rc;

	if (!g)
		return err_set(e, ENOMEM, "out of memory for --gdb");
	g->vm = vm;
	g->client = -1;
	g->hit_work = (struct loop_work){ .run = hit, .arg = g };
	if (!strncmp(where, "unix:", 5)) {
		g->listener = unix_listen(where + 5, 1, e);
		g->path = g->listener >= 0 ? strdup(where + 5) : NULL;
	} else {
		g->listener = listen_tcp(where, e);
	}
	g->spare = g->listener >= 0 ? unix_spare(g->listener) : -1;
	rc = g->listener < 0 ? g->listener :
	     loop_watch(vm_loop(vm), g->listener, EPOLLIN, accept_ready, g, e);
	if (rc) {
		if (g->listener >= 0)
			close(g->listener);
		close(g->spare);
		free(g->path);
		free(g);
		return rc;
	}
	if (wait)
		vm_freeze(vm);
	*out = g;
	return 0;
}

void gdb_destroy(struct gdb *g)
{
	if (!g)
		return;
	gdb_drop(g);
	loop_unpost(vm_loop(g->vm), &g->hit_work);
	loop_unwatch(vm_loop(g->vm), g->listener);
	close(g->listener);
	close(g->spare);
	if (g->path)
		unlink(g->path);
	free(g->path);
	free(g);
}
