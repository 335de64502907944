// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-vsock's connections: the unix sockets of the host's programs.
 *
 * Each direction pushes back.  What the host's program does not take is kept, never more than
 * the credit that the guest was given; a guest that sends more is cut off.  What the guest has no
 * credit or no buffers for stays in the socket.
 */
#include "virtio/vsock_priv.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

static void conn_ready(void *arg, uint32_t events);

static struct loop *loop_of(struct vsock_conn *c)
{
	return virtio_loop(&c->v->virtio);
}

/* --- life --- */

static void unwatch(struct vsock_conn *c)
{
	if (c->watched)
		loop_unwatch(loop_of(c), c->fd);
	c->watched = false;
}

static void close_fd(struct vsock_conn *c)
{
	unwatch(c);
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	c->readable = false;
	free(c->out);
	c->out = NULL;
	c->out_count = 0;
}

void vsock_close(struct vsock_conn *c)
{
	struct virtio_vsock *v = c->v;

	close_fd(c);
	*(c->prev ? &c->prev->next : &v->first) = c->next;
	*(c->next ? &c->next->prev : &v->last) = c->prev;
	v->count--;
	free(c);
}

void vsock_close_all(struct virtio_vsock *v)
{
	while (v->first)
		vsock_close(v->first);
}

/* A guest that never confirms an end has its oldest one confirmed for it. */
static bool make_room(struct virtio_vsock *v)
{
	if (v->count < VSOCK_CONNS_MAX)
		return true;
	for (struct vsock_conn *c = v->first; c; c = c->next) {
		if (c->state != CONN_CLOSING)
			continue;
		vsock_reset_port(v, c->guest_port, c->host_port);
		vsock_close(c);
		return true;
	}
	return false;
}

/* Takes @fd over. */
static struct vsock_conn *add_conn(struct virtio_vsock *v, int fd, enum conn_state state)
{
	struct vsock_conn *c = make_room(v) ? calloc(1, sizeof(*c)) : NULL;

	if (!c) {
		close(fd);
		return NULL;
	}
	c->v = v;
	c->fd = fd;
	c->state = state;
	c->prev = v->last;
	*(v->last ? &v->last->next : &v->first) = c;
	v->last = c;
	v->count++;
	return c;
}

struct vsock_conn *vsock_find(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port)
{
	for (struct vsock_conn *c = v->first; c; c = c->next)
		if (c->state != CONN_HANDSHAKE && c->guest_port == guest_port &&
		    c->host_port == host_port)
			return c;
	return NULL;
}

void vsock_watch(struct vsock_conn *c)
{
	uint32_t events = 0;

	if (c->fd < 0 || c->hung_up)
		return;
	if (!c->readable && !c->eof && !(c->guest_shut & VSOCK_SHUT_RCV))
		events |= EPOLLIN;
	if (c->out_count)
		events |= EPOLLOUT;
	if (c->watched)
		loop_rewatch(loop_of(c), c->fd, events);
	else
		c->watched = !loop_watch(loop_of(c), c->fd, events, conn_ready, c, NULL);
}

/* --- the guest's end, and the host's --- */

/* The host's program does not do @flags any more; both: nothing is left of it. */
static void tell_shut(struct vsock_conn *c, unsigned int flags)
{
	if (flags & ~c->told_shut)
		c->pending |= BIT(VSOCK_SHUTDOWN);
	c->told_shut |= flags;
	if (c->told_shut == VSOCK_SHUT_BOTH) {
		close_fd(c);
		c->state = CONN_CLOSING;
	}
}

/* What the guest ended has been passed on whole: so ends the socket. */
static void finish_shut(struct vsock_conn *c)
{
	if (c->out_count || c->fd < 0)
		return;
	if (c->guest_shut & VSOCK_SHUT_SEND)
		shutdown(c->fd, SHUT_WR);
	if (c->guest_shut == VSOCK_SHUT_BOTH) {
		vsock_reset_port(c->v, c->guest_port, c->host_port);
		vsock_close(c);
	}
}

void vsock_guest_shuts(struct vsock_conn *c, uint32_t flags)
{
	c->guest_shut |= flags & VSOCK_SHUT_BOTH;
	if (c->state == CONN_CLOSING && c->guest_shut == VSOCK_SHUT_BOTH) {
		vsock_reset_port(c->v, c->guest_port, c->host_port);
		vsock_close(c);
		return;
	}
	if (c->guest_shut & VSOCK_SHUT_RCV)
		c->readable = false;
	vsock_watch(c);
	finish_shut(c);
}

/* --- from the guest to the host --- */

static void forwarded(struct vsock_conn *c, uint32_t bytes)
{
	c->forwarded += bytes;
	if (c->forwarded - c->told_forwarded >= VSOCK_BUF / 2)
		c->pending |= BIT(VSOCK_CREDIT_UPDATE);
}

/* Bytes taken; nobody there: all of them. */
static size_t send_some(struct vsock_conn *c, struct iovec *iov, unsigned int count, size_t len)
{
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = count };
	ssize_t n;

	do {
		n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && errno != EAGAIN) {
		tell_shut(c, VSOCK_SHUT_BOTH);
		return len;
	}
	return MAX(n, 0);
}

static void keep(struct vsock_conn *c, struct virtq_chain *chain)
{
	uint32_t end;
	size_t n;

	while (chain->out_len) {
		end = (c->out_at + c->out_count) % VSOCK_BUF;
		n = MIN(chain->out_len, VSOCK_BUF - end);
		n = chain_read(chain, 0, c->out + end, n);
		c->out_count += n;
		chain_skip_out(chain, n);
	}
}

void vsock_receive(struct vsock_conn *c, struct virtq_chain *chain)
{
	const uint32_t len = chain->out_len;
	size_t n = 0;

	if (c->state == CONN_CLOSING)
		return;
	if (c->state != CONN_OPEN || len > VSOCK_BUF ||
	    c->received - c->forwarded + len > VSOCK_BUF ||
	    c->guest_shut & VSOCK_SHUT_SEND)
		goto cut_off;
	c->received += len;
	if (!c->out_count)
		n = send_some(c, chain->out, chain->out_count, len);
	forwarded(c, n);
	if (c->state == CONN_CLOSING || n == len)
		return;
	if (!c->out)
		c->out = malloc(VSOCK_BUF);
	if (!c->out)
		goto cut_off;
	chain_skip_out(chain, n);
	keep(c, chain);
	vsock_watch(c);
	return;
cut_off:
	vsock_reset_port(c->v, c->guest_port, c->host_port);
	vsock_close(c);
}

static void flush(struct vsock_conn *c)
{
	while (c->out_count) {
		struct iovec iov = {
			c->out + c->out_at, MIN(c->out_count, VSOCK_BUF - c->out_at),
		};
		const size_t n = send_some(c, &iov, 1, iov.iov_len);

		if (!n || c->state == CONN_CLOSING)
			break;
		c->out_at = (c->out_at + n) % VSOCK_BUF;
		c->out_count -= n;
		forwarded(c, n);
	}
	if (!c->out_count) {
		free(c->out);
		c->out = NULL;
		c->out_at = 0;
	}
}

/* --- from the host to the guest --- */

uint32_t vsock_credit(const struct vsock_conn *c)
{
	const uint32_t used = c->sent - c->peer_fwd;

	return used < c->peer_alloc ? c->peer_alloc - used : 0;
}

size_t vsock_read(struct vsock_conn *c, void *buf, size_t len)
{
	ssize_t n;

	do {
		n = recv(c->fd, buf, len, MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	if (n > 0) {
		c->sent += n;
		return n;
	}
	c->readable = false;
	if (n < 0 && errno == EAGAIN) {
		vsock_watch(c);
		return 0;
	}
	c->eof = true;
	tell_shut(c, n < 0 || c->hung_up ? VSOCK_SHUT_BOTH : VSOCK_SHUT_SEND);
	vsock_watch(c);
	return 0;
}

/* --- connecting --- */

void vsock_guest_connects(struct virtio_vsock *v, const struct vsock_hdr *h)
{
	struct sockaddr_un to = v->address;
	const size_t len = strlen(to.sun_path);
	struct vsock_conn *c = NULL;
	int fd;

	/* The name fits: vsock_listen() saw to that. */
	snprintf(to.sun_path + len, sizeof(to.sun_path) - len, "_%u", h->dst_port);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)))
		close(fd);
	else if (fd >= 0)
		c = add_conn(v, fd, CONN_OPEN);
	if (!c) {
		vsock_reset_port(v, h->src_port, h->dst_port);
		return;
	}
	c->guest_port = h->src_port;
	c->host_port = h->dst_port;
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->pending = BIT(VSOCK_RESPONSE);
	vsock_watch(c);
}

void vsock_accepted(struct vsock_conn *c)
{
	char text[VSOCK_LINE];
	const int len = snprintf(text, sizeof(text), "OK %u\n", c->host_port);

	c->state = CONN_OPEN;
	if (send(c->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL) != len)
		tell_shut(c, VSOCK_SHUT_BOTH);
	vsock_watch(c);
}

static uint32_t free_port(struct virtio_vsock *v, uint32_t guest_port)
{
	do {
		v->next_port = v->next_port >= UINT32_MAX - 1 ? 1U << 30 : v->next_port + 1;
	} while (vsock_find(v, guest_port, v->next_port));
	return v->next_port;
}

/* A byte at a time: what follows the line is the guest's.  False: not a line, or nobody there. */
static bool read_line(struct vsock_conn *c)
{
	unsigned long port;
	char *end;
	ssize_t n;

	while ((n = recv(c->fd, c->line + c->line_len, 1, MSG_DONTWAIT)) == 1) {
		if (c->line[c->line_len] != '\n') {
			if (++c->line_len == VSOCK_LINE)
				return false;
			continue;
		}
		c->line[c->line_len] = '\0';
		if (strncmp(c->line, "CONNECT ", 8) || c->line[8] < '0' || c->line[8] > '9')
			return false;
		port = strtoul(c->line + 8, &end, 10);
		if (*end || port >= UINT32_MAX || !virtio_running(&c->v->virtio))
			return false;
		c->guest_port = port;
		c->host_port = free_port(c->v, port);
		c->state = CONN_REQUESTED;
		c->pending = BIT(VSOCK_REQUEST);
		return true;
	}
	return n < 0 && errno == EAGAIN;
}

static void conn_ready(void *arg, uint32_t events)
{
	struct vsock_conn *c = arg;
	struct virtio_vsock *v = c->v;

	if (c->state == CONN_HANDSHAKE) {
		if (!read_line(c))
			vsock_close(c);
		else
			vsock_watch(c);
		vsock_pump(v);
		return;
	}
	if (events & EPOLLOUT)
		flush(c);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && c->fd >= 0)
		c->readable = true;
	if (events & (EPOLLHUP | EPOLLERR) && c->fd >= 0) {
		unwatch(c);	/* it would be told again and again */
		c->hung_up = true;
		c->out_count = 0;
	}
	vsock_watch(c);
	finish_shut(c);
	vsock_pump(v);
}

static void listener_ready(void *arg, uint32_t events)
{
	struct virtio_vsock *v = arg;
	struct vsock_conn *c;
	int fd;

	(void)events;
	fd = unix_accept(v->listener, &v->spare);
	if (fd < 0)
		return;
	c = add_conn(v, fd, CONN_HANDSHAKE);
	if (c)
		vsock_watch(c);
}

int vsock_listen(struct virtio_vsock *v, struct err *e)
{
	const char *path = v->address.sun_path;
	int rc;

	v->listener = unix_listen(path, 16, e);
	if (v->listener < 0)
		return v->listener;
	v->spare = unix_spare(v->listener);
	rc = loop_watch(virtio_loop(&v->virtio), v->listener, EPOLLIN, listener_ready, v, e);
	v->listening = !rc;
	return rc;
}
