// SPDX-License-Identifier: Apache-2.0
/*
 * The back end on a TAP interface; see net_tap.h.
 *
 * The kernel takes and gives our own offload header (IFF_VNET_HDR), checks what it takes, and
 * cuts large frames where they leave for a link that needs it.  A descriptor made without that
 * header gets frames fixed up here.
 *
 * Source: Linux's Documentation/networking/tuntap.rst.
 */
#include "backend/net_tap.h"
#include "backend/net_frame.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define SLOTS		16U
#define PIECES_MAX	1024U

struct slot {
	struct net_hdr hdr;
	uint8_t data[NET_FRAME_MAX];
};

struct net_tap {
	struct net_backend net;
	struct loop *loop;		/* NULL: not attached */
	int fd;
	bool has_hdr;			/* the kernel's frames have struct net_hdr */
	bool refused;			/* a send was short */
	struct slot *slots;		/* frames read */
	struct net_in in[SLOTS];
	unsigned int in_at, in_count;	/* those not taken yet */
	bool stalled;
	struct loop_work input_work;
	uint8_t flat[NET_FRAME_MAX], segment[NET_FRAME_MAX];	/* without has_hdr */
};

static void ready(void *arg, uint32_t events);

static void watch(struct net_tap *t)
{
	loop_rewatch(t->loop, t->fd, (t->stalled ? 0 : EPOLLIN) | (t->refused ? EPOLLOUT : 0));
}

/* --- receiving --- */

/* Fills the slots; false: nothing came. */
static bool fill(struct net_tap *t)
{
	unsigned int n;

	for (n = 0; n < SLOTS; n++) {
		struct slot *s = &t->slots[n];
		const size_t head = t->has_hdr ? sizeof(s->hdr) : 0;
		void *at = t->has_hdr ? (void *)s : s->data;
		ssize_t len = read(t->fd, at, head + NET_FRAME_MAX);

		if (len < (ssize_t)(head + NET_ETH_LEN))
			break;
		if (!t->has_hdr)
			s->hdr = (struct net_hdr){ 0 };
		t->in[n] = (struct net_in){ .hdr = s->hdr, .data = s->data, .len = len - head };
	}
	t->in_at = 0;
	t->in_count = n;
	return n;
}

static void take_input(struct net_tap *t)
{
	for (int round = 0; round < 4; round++) {
		if (t->in_at == t->in_count && !fill(t))
			return;
		t->in_at += t->net.front->receive(t->net.front_dev, t->in + t->in_at,
						  t->in_count - t->in_at);
		if (t->in_at < t->in_count) {
			t->stalled = true;
			return;
		}
	}
}

static void ready(void *arg, uint32_t events)
{
	struct net_tap *t = arg;

	if (events & EPOLLOUT && t->refused) {
		t->refused = false;
		t->net.front->writable(t->net.front_dev);
	}
	if (events & EPOLLERR) {
		/* The interface was taken away; the descriptor stays and says so for ever. */
		log_warn(t->net.log, "net: the TAP interface is gone: the link is down");
		loop_unwatch(t->loop, t->fd);
		close(t->fd);
		t->fd = -1;
		t->net.front->link(t->net.front_dev, false);
		return;
	}
	if (events & EPOLLIN && !t->stalled)
		take_input(t);
	watch(t);
}

static void input_again(void *arg)
{
	struct net_tap *t = arg;

	if (!t->stalled || t->fd < 0)
		return;
	t->stalled = false;
	take_input(t);
	watch(t);
}

static void tap_input_wanted(struct net_backend *b)
{
	struct net_tap *t = container_of(b, struct net_tap, net);

	if (t->stalled)
		loop_post(t->loop, &t->input_work);
}

/* --- sending --- */

/* False: the kernel's queue is full.  Other errors are the frame's: it is dropped. */
static bool write_frame(struct net_tap *t, const struct iovec *iov, unsigned int count)
{
	return writev(t->fd, iov, count) >= 0 || (errno != EAGAIN && errno != ENOBUFS);
}

static bool send_with_header(struct net_tap *t, const struct net_out *f)
{
	struct iovec iov[PIECES_MAX];
	struct net_hdr h = f->hdr;

	if (f->count >= PIECES_MAX)
		return true;
	iov[0] = (struct iovec){ &h, sizeof(h) };
	memcpy(iov + 1, f->iov, f->count * sizeof(*iov));
	return write_frame(t, iov, f->count + 1);
}

/* A full queue loses the rest of a large frame: TCP sends it again. */
static bool send_plain(struct net_tap *t, const struct net_out *f)
{
	struct net_in flat = { .hdr = f->hdr, .data = t->flat };
	struct net_segments s;
	struct iovec iov;

	for (unsigned int i = 0; i < f->count && flat.len + f->iov[i].iov_len <= NET_FRAME_MAX; i++) {
		memcpy(t->flat + flat.len, f->iov[i].iov_base, f->iov[i].iov_len);
		flat.len += f->iov[i].iov_len;
	}
	/* Checked before, but the guest may have changed it since. */
	if (flat.len < NET_ETH_LEN || !net_hdr_check(&flat.hdr, flat.data, flat.len, flat.len))
		return true;
	if (flat.hdr.gso_type == NET_GSO_NONE) {
		net_checksum_fill(&flat.hdr, flat.data, flat.len);
		iov = (struct iovec){ flat.data, flat.len };
		return write_frame(t, &iov, 1);
	}
	net_segments_begin(&s, &flat);
	for (bool first = true; (iov.iov_len = net_segments_next(&s, t->segment)); first = false) {
		iov.iov_base = t->segment;
		if (!write_frame(t, &iov, 1))
			return !first;
	}
	return true;
}

static unsigned int tap_send(struct net_backend *b, const struct net_out *frames,
			     unsigned int count)
{
	struct net_tap *t = container_of(b, struct net_tap, net);
	unsigned int i;

	if (t->fd < 0)
		return count;
	for (i = 0; i < count; i++)
		if (!(t->has_hdr ? send_with_header(t, &frames[i]) : send_plain(t, &frames[i])))
			break;
	if (i < count && !t->refused) {
		t->refused = true;
		watch(t);
	}
	return i;
}

/* --- life --- */

static int tap_attach(struct net_backend *b, struct loop *loop, struct err *e)
{
	struct net_tap *t = container_of(b, struct net_tap, net);
	int rc = loop_watch(loop, t->fd, EPOLLIN, ready, t, e);

	if (!rc)
		t->loop = loop;
	return rc;
}

static void tap_destroy(struct net_backend *b)
{
	struct net_tap *t = container_of(b, struct net_tap, net);

	if (t->loop) {
		if (t->fd >= 0)
			loop_unwatch(t->loop, t->fd);
		loop_unpost(t->loop, &t->input_work);
	}
	if (t->fd >= 0)
		close(t->fd);
	free(t->slots);
	free(t);
}

static int open_tap(const char *ifname, struct err *e)
{
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	int rc;

	if (fd < 0)
		return err_errno(e, errno, "could not open /dev/net/tun for TAP interface '%s'",
				 ifname);
	memcpy(r.ifr_name, ifname, sizeof(r.ifr_name));
	if (ioctl(fd, TUNSETIFF, &r)) {
		rc = err_errno(e, errno, "could not use TAP interface '%s' (root makes one of yours "
			       "with: ip tuntap add %s mode tap user NAME vnet_hdr)", ifname, ifname);
		close(fd);
		return rc;
	}
	return fd;
}

/* Finds out what the descriptor is, and asks for all offloads. */
static int set_up(struct net_tap *t, struct err *e)
{
	const int size = sizeof(struct net_hdr), little = 1;
	struct ifreq r = { 0 };

	if (ioctl(t->fd, TUNGETIFF, &r) || !(r.ifr_flags & IFF_TAP) ||
	    !(r.ifr_flags & IFF_NO_PI))
		return err_set(e, EINVAL, "descriptor %d is no TAP interface without packet "
			       "information (IFF_TAP | IFF_NO_PI)", t->fd);
	if (fcntl(t->fd, F_SETFL, O_NONBLOCK | O_RDWR))
		return err_errno(e, errno, "could not prepare TAP descriptor %d", t->fd);
	t->has_hdr = r.ifr_flags & IFF_VNET_HDR;
	if (!t->has_hdr) {
		/* An interface keeps what its last user could do. */
		ioctl(t->fd, TUNSETOFFLOAD, 0);
		return 0;
	}
	if (ioctl(t->fd, TUNSETVNETHDRSZ, &size) ||
	    ioctl(t->fd, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN))
		return err_errno(e, errno, "could not set the offloads of TAP interface '%s'",
				 r.ifr_name);
	ioctl(t->fd, TUNSETVNETLE, &little);
	return 0;
}

int net_tap_create(struct net_backend **out, const struct tap_config *c, struct log *log,
		   struct err *e)
{
	static const struct net_backend_ops ops = {
		.name = "tap", .attach = tap_attach, .send = tap_send,
		.input_wanted = tap_input_wanted, .destroy = tap_destroy,
	};
	struct net_tap *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(e, ENOMEM, "out of memory for a TAP interface");
	t->net = (struct net_backend){ .ops = &ops, .log = log };
	t->input_work = (struct loop_work){ .run = input_again, .arg = t };
	t->slots = malloc(SLOTS * sizeof(*t->slots));
	t->fd = c->fd >= 0 ? c->fd : open_tap(c->ifname, e);
	rc = t->fd < 0 ? t->fd : 0;
	if (!rc && !t->slots)
		rc = err_set(e, ENOMEM, "out of memory for a TAP interface");
	if (!rc)
		rc = set_up(t, e);
	if (rc) {
		if (t->fd == c->fd)
			t->fd = -1;
		tap_destroy(&t->net);
		return rc;
	}
	*out = &t->net;
	return 0;
}

int tap_config_parse(struct tap_config *c, const char *text, struct err *e)
{
	char *end;

	*c = (struct tap_config){ .fd = -1 };
	if (!strncmp(text, "ifname=", 7)) {
		text += 7;
		if (!*text || strlen(text) >= sizeof(c->ifname) || strpbrk(text, ",/ "))
			return err_set(e, EINVAL, "'%s' is no interface's name: write ifname=tap0", text);
		strcpy(c->ifname, text);
		return 0;
	}
	if (!strncmp(text, "fd=", 3)) {
		c->fd = strtol(text + 3, &end, 10);
		if (end == text + 3 || *end || c->fd < 0 || fcntl(c->fd, F_GETFD) < 0)
			return err_set(e, EINVAL, "'%s' is no open file descriptor for a TAP interface",
				       text);
		return 0;
	}
	return err_set(e, EINVAL, "a TAP network needs ifname=NAME or fd=N, not '%s'", text);
}
