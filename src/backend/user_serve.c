// SPDX-License-Identifier: Apache-2.0
/*
 * The process of user-mode networking: frames of the VM's on one stream socket, libslirp, and
 * the host's sockets on the other side.  One thread around poll().
 *
 * It first says how its start went (net_user.c reads that), then goes under the filter, and
 * ends when the VM's end of the stream closes.
 *
 * Not offered to the guest: TFTP, libslirp's protocol "emulation".
 */
#include "backend/net_frame.h"
#include "backend/user_ahead.h"
#include "backend/user_priv.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <slirp/libslirp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define OUT_MAX		(4U << 20)	/* bytes queued for the VM; beyond frames are dropped */
#define OUT_ENOUGH	(512U << 10)	/* above it the host's sockets are not read */
#define LINK_MAX	65521U		/* the largest that libslirp takes for a link's MTU */
#define READS_AT_ONCE	8

struct user {
	Slirp *slirp;
	struct frame_stream stream;
	struct user_flows flows;
	struct user_ahead *ahead;
	struct pollfd *fds;		/* [0] is the stream */
	unsigned int fd_count, fd_room;
	int64_t timer_ms;		/* libslirp's only timer; -1: not set */
	SlirpTimerId timer_id;
	void *timer_opaque;
	bool out_of_memory;
};

static int64_t now_ns(void *opaque)
{
	struct timespec t;

	(void)opaque;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* --- what libslirp calls --- */

static ssize_t send_packet(const void *buf, size_t len, void *opaque)
{
	struct user *u = opaque;
	const uint8_t *frame;
	size_t frame_len;

	if (!user_ahead_from_slirp(u->ahead, buf, len, &frame, &frame_len))
		user_to_guest(&u->flows, &u->stream, frame, frame_len);
	return len;
}

static void guest_error(const char *msg, void *opaque)
{
	(void)msg;
	(void)opaque;
}

static void *timer_new(SlirpTimerId id, void *cb_opaque, void *opaque)
{
	struct user *u = opaque;

	u->timer_id = id;
	u->timer_opaque = cb_opaque;
	u->timer_ms = -1;
	return u;
}

static void timer_free(void *timer, void *opaque)
{
	(void)opaque;
	((struct user *)timer)->timer_ms = -1;
}

static void timer_mod(void *timer, int64_t expire_ms, void *opaque)
{
	(void)opaque;
	((struct user *)timer)->timer_ms = expire_ms;
}

/* Every descriptor is asked for anew each round, so nothing is to be noted. */
static void poll_fd_changed(int fd, void *opaque)
{
	(void)fd;
	(void)opaque;
}

static void notify(void *opaque)
{
	(void)opaque;
}

static int add_poll(int fd, int events, void *opaque)
{
	struct user *u = opaque;
	struct pollfd *more;

	if (u->fd_count == u->fd_room) {
		more = reallocarray(u->fds, u->fd_room * 2, sizeof(*more));
		if (!more) {
			u->out_of_memory = true;
			return 0;
		}
		u->fds = more;
		u->fd_room *= 2;
	}
	u->fds[u->fd_count] = (struct pollfd){
		.fd = fd,
		.events = (events & SLIRP_POLL_IN ? POLLIN : 0) |
			  (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
			  (events & SLIRP_POLL_PRI ? POLLPRI : 0),
	};
	return u->fd_count++;
}

static int get_revents(int idx, void *opaque)
{
	const struct user *u = opaque;
	/* 0 is the stream, and stands for a descriptor that add_poll() had no memory for. */
	const short r = idx > 0 ? u->fds[idx].revents : 0;

	return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
	       (r & POLLPRI ? SLIRP_POLL_PRI : 0) | (r & POLLERR ? SLIRP_POLL_ERR : 0) |
	       (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

/* --- what the acknowledging ahead calls --- */

static void ahead_to_slirp(void *arg, const uint8_t *frame, size_t len)
{
	slirp_input(((struct user *)arg)->slirp, frame, len);
}

static bool ahead_to_guest(void *arg, uint8_t *frame, size_t len)
{
	struct user *u = arg;

	if (frame_stream_queued(&u->stream) > OUT_ENOUGH)
		return false;
	user_tcp_to_guest(&u->flows, &u->stream, frame, len);
	return true;
}

static int64_t ahead_now(void *arg)
{
	return now_ns(arg) / 1000000;
}

/* --- start --- */

static struct in_addr host_of(const struct user_config *c, unsigned int n)
{
	return (struct in_addr){ htonl(ntohl(c->net.s_addr) + n) };
}

static int make_slirp(struct user *u, const struct user_config *c, struct err *e)
{
	static const SlirpCb callbacks = {
		.send_packet = send_packet, .guest_error = guest_error, .clock_get_ns = now_ns,
		.timer_free = timer_free, .timer_mod = timer_mod,
		.register_poll_fd = poll_fd_changed, .unregister_poll_fd = poll_fd_changed,
		.notify = notify, .timer_new_opaque = timer_new,
	};
	SlirpConfig s = {
		.version = 4, .restricted = c->restricted, .in_enabled = true,
		.vnetwork = c->net, .vnetmask = c->mask, .vhost = host_of(c, 2),
		.vnameserver = host_of(c, 3), .vdhcp_start = host_of(c, 15),
		.in6_enabled = c->ipv6, .vprefix_len = 64, .vhostname = c->hostname,
		.if_mtu = LINK_MAX, .if_mru = LINK_MAX,
	};

	inet_pton(AF_INET6, "fec0::", &s.vprefix_addr6);
	inet_pton(AF_INET6, "fec0::2", &s.vhost6);
	inet_pton(AF_INET6, "fec0::3", &s.vnameserver6);
	u->slirp = slirp_new(&s, &callbacks, u);
	return u->slirp ? 0 : err_set(e, EINVAL, "libslirp refused the network's configuration");
}

static int forward(struct user *u, const struct user_config *c, struct user_forward f,
		   struct err *e)
{
	const socklen_t len = f.host.sa.sa_family == AF_INET6 ? sizeof(f.host.v6) :
			      sizeof(f.host.v4);
	const uint16_t port = ntohs(f.host.v4.sin_port);

	if (f.guest.sa.sa_family == AF_INET && !f.guest.v4.sin_addr.s_addr)
		f.guest.v4.sin_addr = host_of(c, 15);
	if (!slirp_add_hostxfwd(u->slirp, &f.host.sa, len, &f.guest.sa, len,
				f.udp ? SLIRP_HOSTFWD_UDP : 0))
		return 0;
	return err_errno(e, errno, "could not forward %s port %u of the host",
			 f.udp ? "UDP" : "TCP", port);
}

static int start(struct user *u, int fd, const struct user_config *c, struct err *e)
{
	static const struct user_ahead_ops ahead_ops = {
		.to_slirp = ahead_to_slirp, .to_guest = ahead_to_guest, .now = ahead_now,
	};
	int rc;

	u->timer_ms = -1;
	u->fd_room = 64;
	u->fds = calloc(u->fd_room, sizeof(*u->fds));
	u->ahead = user_ahead_create(&ahead_ops, u);
	if (!u->fds || !u->ahead)
		return err_set(e, ENOMEM, "out of memory for user networking");
	rc = frame_stream_init(&u->stream, fd, OUT_MAX, e);
	if (!rc)
		rc = make_slirp(u, c, e);
	for (unsigned int i = 0; i < c->forward_count && !rc; i++)
		rc = forward(u, c, c->forwards[i], e);
	for (unsigned int i = 0; i < c->guestfwd_count && !rc; i++) {
		struct in_addr addr = c->guestfwds[i].addr;

		if (slirp_add_unix(u->slirp, c->guestfwds[i].path, &addr, c->guestfwds[i].port))
			rc = err_set(e, EINVAL, "guestfwd's address %s is not in the guest's network, "
				     "or is used by it", inet_ntoa(addr));
	}
	return rc;
}

/* --- running --- */

/* How long poll() may wait, in ms; -1: for ever. */
static int timeout_of(const struct user *u, uint32_t slirp_ms)
{
	const int64_t ahead = user_ahead_deadline(u->ahead), now = now_ns(NULL) / 1000000;
	int64_t left = slirp_ms > INT32_MAX ? INT64_MAX : slirp_ms;

	if (u->timer_ms >= 0)
		left = MIN(left, MAX(u->timer_ms - now, 0));
	if (ahead < INT64_MAX)
		left = MIN(left, MAX(ahead - now, 0));
	return left > INT32_MAX ? -1 : (int)left;
}

static void run_timer(struct user *u)
{
	if (u->timer_ms < 0 || u->timer_ms > now_ns(NULL) / 1000000)
		return;
	u->timer_ms = -1;
	slirp_handle_timer(u->slirp, u->timer_id, u->timer_opaque);
}

/* The guest's frames; negative once the VM is gone. */
static int take_frames(struct user *u)
{
	struct net_in frames[FRAME_STREAM_AT_ONCE];
	ssize_t n;
	int count;

	for (int i = 0; i < READS_AT_ONCE; i++) {
		n = frame_stream_read(&u->stream);
		if (n <= 0)
			return n;
		while ((count = frame_stream_peek(&u->stream, frames, ARRAY_SIZE(frames))) > 0) {
			frame_stream_consume(&u->stream, frames, count);
			for (int f = 0; f < count; f++)
				if (user_from_guest(&u->flows, &frames[f]) &&
				    user_ahead_from_guest(u->ahead, frames[f].data, frames[f].len))
					slirp_input(u->slirp, frames[f].data, frames[f].len);
		}
		if (count < 0)
			return count;
	}
	return 0;
}

static int round_trip(struct user *u)
{
	const bool full = frame_stream_queued(&u->stream) > OUT_ENOUGH;
	uint32_t timeout = UINT32_MAX;
	int n, rc = 0;

	u->fds[0] = (struct pollfd){
		.fd = u->stream.fd,
		.events = POLLIN | (frame_stream_queued(&u->stream) ? POLLOUT : 0),
	};
	u->fd_count = 1;
	if (!full)
		slirp_pollfds_fill(u->slirp, &timeout, add_poll, u);
	if (u->out_of_memory)
		return -ENOMEM;
	n = poll(u->fds, u->fd_count, timeout_of(u, timeout));
	if (n < 0 && errno != EINTR)
		return -errno;
	if (!full)
		slirp_pollfds_poll(u->slirp, n < 0, get_revents, u);
	run_timer(u);
	if (n > 0 && u->fds[0].revents & ~POLLOUT)
		rc = take_frames(u);
	user_ahead_run(u->ahead);
	return rc ? rc : frame_stream_flush(&u->stream);
}

/* Tells the VM: the length of a sentence about what failed, and the sentence; 0 if nothing. */
static void report(int fd, const struct err *e)
{
	const uint32_t len = e->code ? strlen(e->text) : 0;

	if (send(fd, &len, sizeof(len), MSG_NOSIGNAL) == sizeof(len) && len)
		(void)send(fd, e->text, len, MSG_NOSIGNAL);
}

static void end(struct user *u)
{
	if (u->slirp)
		slirp_cleanup(u->slirp);
	user_ahead_destroy(u->ahead);
	frame_stream_fini(&u->stream);
	free(u->fds);
	free(u);
}

int user_serve(int fd, const struct user_config *c, bool confined)
{
	struct user *u = calloc(1, sizeof(*u));
	struct err e = { 0 };
	int rc;

	signal(SIGPIPE, SIG_IGN);
	signal(SIGINT, SIG_IGN);	/* Ctrl-C is the VM's to answer */
	signal(SIGHUP, SIG_IGN);
	signal(SIGTERM, SIG_IGN);	/* to the whole group: the VM ends, and we with it */
	prctl(PR_SET_NAME, "vireo-net", 0, 0, 0);
	rc = u ? start(u, fd, c, &e) : err_set(&e, ENOMEM, "out of memory for user networking");
	if (!rc && confined)
		rc = user_confine(c->guestfwd_count > 0, &e);
	report(fd, &e);
	while (!rc)
		rc = round_trip(u);
	if (u)
		end(u);
	return rc == -EPIPE || rc == -ECONNRESET ? 0 : 1;
}
