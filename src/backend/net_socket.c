// SPDX-License-Identifier: Apache-2.0
/*
 * Frames on a socket between VMs; see net_socket.h.
 *
 * The peer is not believed: a length that no frame can have ends the stream, a frame too short to
 * be one is dropped.  A multicast group gives back what was sent to it, which a card must not
 * see: the sums of the last frames are remembered, and what has one of these is dropped once.
 *
 * Source: QEMU's documentation, "Invocation", -netdev socket; the framing was seen on the wire.
 */
#include "backend/net_frame.h"
#include "backend/net_socket_priv.h"
#include "base/unix_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define LENGTH		4U		/* bytes before a frame on a stream */
#define IN_SIZE		(4 * (LENGTH + NET_FRAME_MAX))
#define AT_ONCE		32U
#define READS_AT_ONCE	16
#define SENT		64U		/* sums that are remembered */

struct net_socket {
	struct net_backend net;
	struct loop *loop;		/* NULL: not attached */
	struct net_socket_opened o;
	int spare;			/* see unix_accept() */
	char *path;			/* removed at the end, or NULL */
	uint32_t watched;		/* EPOLL* of o.fd; 0: it is not */
	bool refused;			/* a send was short: writable() is due */
	bool stalled;			/* the front end refused frames */
	struct loop_work input_work;
	size_t in_at, in_len;
	size_t out_at, out_len;		/* the rest of a frame that the socket did not take */
	uint64_t sent[SENT];
	unsigned int sent_at;
	uint8_t in[IN_SIZE], out[LENGTH + NET_FRAME_MAX];
	uint8_t flat[NET_FRAME_MAX], segment[NET_FRAME_MAX];
};

static void ready(void *arg, uint32_t events);

static void watch(struct net_socket *s)
{
	const uint32_t want = (s->stalled ? 0 : EPOLLIN) | (s->refused || s->out_len ? EPOLLOUT : 0);

	if (s->o.fd < 0 || want == s->watched)
		return;
	if (!s->watched)
		loop_watch(s->loop, s->o.fd, want, ready, s, NULL);
	else if (!want)
		loop_unwatch(s->loop, s->o.fd);
	else
		loop_rewatch(s->loop, s->o.fd, want);
	s->watched = want;
}

/* --- peers of a stream --- */

static void lost(struct net_socket *s, const char *why)
{
	const bool tell = s->refused;

	if (s->watched)
		loop_unwatch(s->loop, s->o.fd);
	close(s->o.fd);
	s->o.fd = -1;
	s->watched = 0;
	s->refused = s->stalled = false;
	s->in_at = s->in_len = s->out_at = s->out_len = 0;
	log_warn(s->net.log, "net: the peer of the socket is gone (%s): the link is down%s", why,
		 s->o.listener >= 0 ? " until another comes" : "");
	s->net.front->link(s->net.front_dev, false);
	/* From now on all is dropped, so there is room. */
	if (tell)
		s->net.front->writable(s->net.front_dev);
}

/* One at a time: while somebody is there, who else comes is turned away. */
static void accept_ready(void *arg, uint32_t events)
{
	struct net_socket *s = arg;
	const int fd = unix_accept(s->o.listener, &s->spare);

	(void)events;
	if (fd < 0)
		return;
	if (s->o.fd >= 0) {
		close(fd);
		return;
	}
	s->o.fd = fd;
	watch(s);
	log_info(s->net.log, "net: a peer has connected: the link is up");
	s->net.front->link(s->net.front_dev, true);
}

/* --- receiving --- */

static uint64_t sum_of(const uint8_t *frame, size_t len)
{
	uint64_t sum = 0xcbf29ce484222325ULL;

	for (size_t i = 0; i < len; i++)
		sum = (sum ^ frame[i]) * 0x100000001b3ULL;
	return sum | 1;
}

/* Is this one that was sent from here? */
static bool is_echo(struct net_socket *s, const uint8_t *frame, size_t len)
{
	const uint64_t sum = s->o.group ? sum_of(frame, len) : 0;

	for (unsigned int i = 0; sum && i < SENT; i++)
		if (s->sent[i] == sum) {
			s->sent[i] = 0;
			return true;
		}
	return false;
}

/* The next frame from byte *at on of what was read; 0: it is not whole, -EPROTO: it cannot be. */
static int next_frame(struct net_socket *s, size_t *at, struct net_in *f)
{
	uint32_t len;

	for (;;) {
		if (s->in_len - *at < LENGTH)
			return 0;
		memcpy(&len, s->in + *at, LENGTH);
		len = ntohl(len);
		if (len > NET_FRAME_MAX)
			return -EPROTO;
		if (s->in_len - *at - LENGTH < len)
			return 0;
		*at += LENGTH + len;
		if (len < NET_ETH_LEN)
			continue;
		*f = (struct net_in){ .data = s->in + *at - len, .len = len };
		return 1;
	}
}

/* Gives the front end what was read; false: it takes no more, or the peer is gone. */
static bool deliver(struct net_socket *s)
{
	struct net_in frames[AT_ONCE];
	size_t end[AT_ONCE], at;
	unsigned int n, taken;
	int rc = 0;

	do {
		at = s->in_at;
		for (n = 0; n < AT_ONCE && (rc = next_frame(s, &at, &frames[n])) > 0; n++)
			end[n] = at;
		if (!n) {
			s->in_at = at;
			break;
		}
		taken = s->net.front->receive(s->net.front_dev, frames, n);
		if (s->o.fd < 0)
			return false;
		if (taken)
			s->in_at = end[taken - 1];
		s->stalled = taken < n;
	} while (!s->stalled);
	if (!s->stalled && rc < 0)
		lost(s, "it sends no frames");
	return !s->stalled && !rc;
}

/* Reads once; false: nothing came, or the peer is gone. */
static bool read_stream(struct net_socket *s)
{
	ssize_t n;

	memmove(s->in, s->in + s->in_at, s->in_len - s->in_at);
	s->in_len -= s->in_at;
	s->in_at = 0;
	n = recv(s->o.fd, s->in + s->in_len, IN_SIZE - s->in_len, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		lost(s, n ? strerror(errno) : "closed");
		return false;
	}
	s->in_len += n;
	return true;
}

/* A datagram is put where a stream's frame would be. */
static bool read_datagram(struct net_socket *s)
{
	uint32_t len;
	ssize_t n;

	s->in_at = s->in_len = 0;
	n = recv(s->o.fd, s->in + LENGTH, NET_FRAME_MAX, MSG_DONTWAIT);
	if (n < 0)
		return false;	/* an error is that of a datagram of ours: others come */
	if (is_echo(s, s->in + LENGTH, n))
		return true;
	len = htonl(n);
	memcpy(s->in, &len, LENGTH);
	s->in_len = LENGTH + n;
	return true;
}

static void take_input(struct net_socket *s)
{
	for (int i = 0; i < READS_AT_ONCE && deliver(s); i++)
		if (!(s->o.datagrams ? read_datagram(s) : read_stream(s)))
			return;
}

static void input_again(void *arg)
{
	struct net_socket *s = arg;

	if (!s->stalled)
		return;
	s->stalled = false;
	take_input(s);
	watch(s);
}

static void socket_input_wanted(struct net_backend *b)
{
	struct net_socket *s = container_of(b, struct net_socket, net);

	if (s->stalled)
		loop_post(s->loop, &s->input_work);
}

/* --- sending --- */

/* The rest of a frame; false: there is still some. */
static bool flush(struct net_socket *s)
{
	while (s->out_len) {
		const ssize_t n = send(s->o.fd, s->out + s->out_at, s->out_len,
				       MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;	/* its end is seen when it is read from */
		s->out_at += n;
		s->out_len -= n;
	}
	return true;
}

static bool write_stream(struct net_socket *s, uint8_t *frame, size_t len)
{
	uint32_t before = htonl(len);
	struct iovec iov[] = { { &before, LENGTH }, { frame, len } };
	const struct msghdr m = { .msg_iov = iov, .msg_iovlen = 2 };
	ssize_t n;

	if (!flush(s))
		return false;
	n = sendmsg(s->o.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n < 0)
		return errno != EAGAIN && errno != EINTR && errno != ENOBUFS;
	if ((size_t)n == LENGTH + len)
		return true;
	memcpy(s->out, &before, LENGTH);
	memcpy(s->out + LENGTH, frame, len);
	s->out_at = n;
	s->out_len = LENGTH + len - n;
	return true;
}

static bool write_datagram(struct net_socket *s, uint8_t *frame, size_t len)
{
	const struct sockaddr *to = s->o.to_len ? (const struct sockaddr *)&s->o.to : NULL;

	if (sendto(s->o.fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL, to, s->o.to_len) < 0)
		return errno != EAGAIN && errno != ENOBUFS;
	if (s->o.group)
		s->sent[s->sent_at++ % SENT] = sum_of(frame, len);
	return true;
}

static bool write_frame(struct net_socket *s, uint8_t *frame, size_t len)
{
	return s->o.datagrams ? write_datagram(s, frame, len) : write_stream(s, frame, len);
}

/* False: the socket is full, nothing of it was sent.  One that fills loses a large frame's rest. */
static bool send_frame(struct net_socket *s, const struct net_out *f)
{
	struct net_in flat = { .hdr = f->hdr, .data = s->flat };
	struct net_segments cut;
	size_t n;

	for (unsigned int i = 0; i < f->count && flat.len + f->iov[i].iov_len <= NET_FRAME_MAX; i++) {
		memcpy(s->flat + flat.len, f->iov[i].iov_base, f->iov[i].iov_len);
		flat.len += f->iov[i].iov_len;
	}
	/* Checked before, but the guest may have changed it since. */
	if (flat.len < NET_ETH_LEN || !net_hdr_check(&flat.hdr, flat.data, flat.len, flat.len))
		return true;
	if (flat.hdr.gso_type == NET_GSO_NONE) {
		net_checksum_fill(&flat.hdr, flat.data, flat.len);
		return write_frame(s, flat.data, flat.len);
	}
	net_segments_begin(&cut, &flat);
	for (bool first = true; (n = net_segments_next(&cut, s->segment)); first = false)
		if (!write_frame(s, s->segment, n))
			return !first;
	return true;
}

static unsigned int socket_send(struct net_backend *b, const struct net_out *frames,
				unsigned int count)
{
	struct net_socket *s = container_of(b, struct net_socket, net);
	unsigned int i;

	if (s->o.fd < 0)
		return count;		/* nobody is there */
	for (i = 0; i < count && send_frame(s, &frames[i]); i++)
		;
	s->refused |= i < count;
	watch(s);
	return i;
}

static void ready(void *arg, uint32_t events)
{
	struct net_socket *s = arg;

	if (events & EPOLLOUT && flush(s) && s->refused) {
		s->refused = false;
		s->net.front->writable(s->net.front_dev);
	}
	if (s->o.fd >= 0 && events & ~EPOLLOUT) {
		if (s->stalled && !s->o.datagrams)
			lost(s, "closed");	/* EPOLLHUP, which cannot be unwatched */
		else
			take_input(s);
	}
	watch(s);
}

/* --- life --- */

static int socket_attach(struct net_backend *b, struct loop *loop, struct err *e)
{
	struct net_socket *s = container_of(b, struct net_socket, net);
	int rc = 0;

	s->loop = loop;
	if (s->o.listener >= 0)
		rc = loop_watch(loop, s->o.listener, EPOLLIN, accept_ready, s, e);
	watch(s);
	return rc;
}

static void socket_destroy(struct net_backend *b)
{
	struct net_socket *s = container_of(b, struct net_socket, net);

	if (s->loop) {
		if (s->watched)
			loop_unwatch(s->loop, s->o.fd);
		if (s->o.listener >= 0)
			loop_unwatch(s->loop, s->o.listener);
		loop_unpost(s->loop, &s->input_work);
	}
	for (size_t i = 0; i < 3; i++) {
		const int fds[] = { s->o.fd, s->o.listener, s->spare };

		if (fds[i] >= 0)
			close(fds[i]);
	}
	if (s->path)
		unlink(s->path);
	free(s->path);
	free(s);
}

int net_socket_create(struct net_backend **out, const struct net_socket_config *c, struct log *log,
		      struct err *e)
{
	static const struct net_backend_ops ops = {
		.name = "socket", .attach = socket_attach, .send = socket_send,
		.input_wanted = socket_input_wanted, .destroy = socket_destroy,
	};
	struct net_socket *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a socket network");
	s->net = (struct net_backend){ .ops = &ops, .log = log };
	s->input_work = (struct loop_work){ .run = input_again, .arg = s };
	s->spare = -1;
	rc = net_socket_open(&s->o, c, e);
	if (rc) {
		socket_destroy(&s->net);
		return rc;
	}
	if (s->o.listener >= 0)
		s->spare = unix_spare(s->o.listener);
	if (net_socket_leaves(c))
		s->path = strdup(net_socket_leaves(c));
	*out = &s->net;
	return 0;
}
