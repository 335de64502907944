// SPDX-License-Identifier: Apache-2.0
/*
 * The network card: one pair of queues and the control queue, in front of a network back end
 * (backend/net.h).
 *
 * Source: VIRTIO 1.2, "Network Device".
 *
 * The back end gives frames with any offload header; what this guest's driver has not agreed
 * to is fixed up here (net_rx.c).  What it sends is checked and passed on as it is.
 *
 * Not offered: several pairs of queues (one thread would serve them all, and with iperf3 it is
 * the guest's processor that is busy, twice as long as that thread), UDP segmentation, RSC
 * statistics, RSS, notification coalescing.  The receive filter is kept and applied, as far as
 * its fixed tables go.
 */
#include "virtio/net.h"
#include "backend/net_frame.h"
#include "virtio/net_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define SEND_AT_ONCE	64U
#define QUEUE_SIZE	1024U
#define HEADERS_MAX	256U	/* bytes of a frame that its header is checked against */

/* --- the guest sends --- */

/*
 * Is the offload header good?  The frame's own headers decide, a copy of them: what the guest
 * makes of its memory afterwards, the next one checks anew.
 */
static bool header_good(struct net_hdr *h, const struct virtq_chain *c)
{
	uint8_t start[HEADERS_MAX];
	const size_t n = chain_read(c, 0, start, sizeof(start));

	if (c->out_len < NET_ETH_LEN || c->out_len > NET_FRAME_MAX)
		return false;
	if (h->gso_type == NET_GSO_NONE && !(h->flags & NET_F_NEEDS_CSUM)) {
		*h = (struct net_hdr){ 0 };
		return true;
	}
	return net_hdr_check(h, start, n, c->out_len);
}

/* Chains of the transmit queue; frames[i] is made of chains[i]; how many. */
static unsigned int collect(struct virtio_net *n, struct virtq_chain **chains,
			    struct net_out *frames)
{
	struct virtq_chain *c;
	unsigned int count = 0;

	while (count < SEND_AT_ONCE && (c = virtq_pop(n->tx))) {
		struct net_hdr h;

		if (chain_read(c, 0, &h, sizeof(h)) < sizeof(h)) {
			virtio_broken(&n->virtio, "a frame to send has no header");
			virtq_push(c, 0);
			break;
		}
		chain_skip_out(c, sizeof(h));
		if (!header_good(&h, c)) {
			log_guest(n->log, "virtio-net: a frame of %zu bytes that cannot be sent",
				  c->out_len);
			virtq_push(c, 0);
			continue;
		}
		frames[count] = (struct net_out){
			.hdr = h, .iov = c->out, .count = c->out_count, .len = c->out_len,
		};
		chains[count++] = c;
	}
	return count;
}

static void count_sent(struct virtio_net *n, const struct net_out *frames, unsigned int count)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < count; i++)
		bytes += frames[i].len;
	atomic_fetch_add_explicit(&n->sent_frames, count, memory_order_relaxed);
	atomic_fetch_add_explicit(&n->sent_bytes, bytes, memory_order_relaxed);
}

void virtio_net_counts(struct virtio_device *d, struct virtio_net_counts *out)
{
	struct virtio_net *n = container_of(d, struct virtio_net, virtio);

	out->received_frames = atomic_load_explicit(&n->received_frames, memory_order_relaxed);
	out->received_bytes = atomic_load_explicit(&n->received_bytes, memory_order_relaxed);
	out->sent_frames = atomic_load_explicit(&n->sent_frames, memory_order_relaxed);
	out->sent_bytes = atomic_load_explicit(&n->sent_bytes, memory_order_relaxed);
}

/* Sends until the queue is empty or the back end full. */
static void transmit(struct virtio_net *n)
{
	static const uint32_t none[SEND_AT_ONCE] = { 0 };
	struct virtq_chain *chains[SEND_AT_ONCE];
	struct net_out frames[SEND_AT_ONCE];
	unsigned int count, sent;

	while (!n->blocked && (count = collect(n, chains, frames))) {
		sent = net_send(n->backend, frames, count);
		count_sent(n, frames, sent);
		n->blocked = sent < count;
		/* In the reverse order: the newest first. */
		for (unsigned int i = count; i > sent; i--)
			virtq_unpop(chains[i - 1]);
		if (sent)
			virtq_push_all(chains, none, sent);
	}
	virtq_notify(n->tx);
}

static void writable(void *dev)
{
	struct virtio_net *n = dev;

	n->blocked = false;
	/* Not from here: the back end is in the middle of something. */
	virtq_kick_again(n->tx);
}

/* --- link --- */

static void set_status(struct virtio_net *n, uint16_t set, uint16_t clear)
{
	n->status = (n->status | set) & ~clear;
	virtio_config_write(&n->virtio, offsetof(struct net_config, status), &n->status,
			    sizeof(n->status), true);
}

static void link_changed(void *dev, bool up)
{
	struct virtio_net *n = dev;

	if (up)	/* the others may have forgotten where we are */
		set_status(n, NET_S_LINK_UP | NET_S_ANNOUNCE, 0);
	else
		set_status(n, 0, NET_S_LINK_UP);
}

void net_announced(struct virtio_net *n)
{
	n->status &= ~NET_S_ANNOUNCE;
	virtio_config_write(&n->virtio, offsetof(struct net_config, status), &n->status,
			    sizeof(n->status), false);
}

/* --- the device --- */

static void net_start(struct virtio_device *d)
{
	struct virtio_net *n = container_of(d, struct virtio_net, virtio);

	net_rx_start(n);
}

static void net_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtio_net *n = container_of(d, struct virtio_net, virtio);

	if (q == n->tx)
		transmit(n);
	else if (q == n->control)
		net_control(n);
	else if (n->starved) {
		n->starved = false;
		n->backend->ops->input_wanted(n->backend);
	}
}

static void net_reset(struct virtio_device *d)
{
	struct virtio_net *n = container_of(d, struct virtio_net, virtio);

	/* No chain is held between callbacks. */
	n->running = false;
	net_filter_reset(n);
}

static void net_queue_reset(struct virtio_device *d, struct virtq *q)
{
	(void)d;
	(void)q;
}

static void net_destroy(struct virtio_device *d)
{
	struct virtio_net *n = container_of(d, struct virtio_net, virtio);
	void (*closed)(void *arg) = n->closed;
	void *arg = n->closed_arg;

	n->backend->ops->destroy(n->backend);
	virtio_fini(d);
	free(n);
	if (closed)
		closed(arg);
}

static const struct virtio_ops net_ops = {
	.id = VIRTIO_ID_NET,
	.name = "virtio-net",
	.start = net_start,
	.kick = net_kick,
	.reset = net_reset,
	.queue_reset = net_queue_reset,
	.destroy = net_destroy,
};

static const struct net_front_ops front_ops = {
	.receive = net_receive, .writable = writable, .link = link_changed,
};

#define FEATURES \
	(BIT(NET_F_CSUM) | BIT(NET_F_GUEST_CSUM) | BIT(NET_F_MAC) | BIT(NET_F_GUEST_TSO4) | \
	 BIT(NET_F_GUEST_TSO6) | BIT(NET_F_GUEST_ECN) | BIT(NET_F_HOST_TSO4) | \
	 BIT(NET_F_HOST_TSO6) | BIT(NET_F_HOST_ECN) | BIT(NET_F_MRG_RXBUF) | \
	 BIT(NET_F_STATUS) | BIT(NET_F_CTRL_VQ) | BIT(NET_F_CTRL_RX) | BIT(NET_F_CTRL_VLAN) | \
	 BIT(NET_F_CTRL_RX_EXTRA) | BIT(NET_F_GUEST_ANNOUNCE) | BIT(NET_F_CTRL_MAC_ADDR))

static int init(struct virtio_net *n, const struct virtio_net_setup *s, struct err *e)
{
	struct net_config config = { .status = NET_S_LINK_UP, .pairs = 1, .mtu = s->mtu };
	const struct virtio_setup setup = {
		.space = s->space, .log = s->log, .queues = 3, .queue_size = QUEUE_SIZE,
		.features = FEATURES | (s->mtu ? BIT(NET_F_MTU) : 0),
		.config = &config, .config_len = sizeof(config),
	};
	int rc;

	memcpy(config.mac, s->mac, NET_MAC_LEN);
	memcpy(n->given_mac, s->mac, NET_MAC_LEN);
	n->log = s->log;
	n->status = config.status;
	net_filter_reset(n);
	rc = virtio_init(&n->virtio, &net_ops, &setup, e);
	if (rc)
		return rc;
	n->rx = virtio_queue(&n->virtio, 0);
	n->tx = virtio_queue(&n->virtio, 1);
	n->control = virtio_queue(&n->virtio, 2);
	rc = net_attach(s->backend, virtio_loop(&n->virtio), &front_ops, n, e);
	if (rc)
		virtio_fini(&n->virtio);
	return rc;
}

int virtio_net_create(struct virtio_device **out, const struct virtio_net_setup *s,
		      struct err *e)
{
	struct virtio_net *n = calloc(1, sizeof(*n));
	int rc;

	rc = n ? init(n, s, e) : err_set(e, ENOMEM, "out of memory for virtio-net");
	if (rc) {
		s->backend->ops->destroy(s->backend);
		free(n);
		return rc;
	}
	n->backend = s->backend;
	n->closed = s->closed;
	n->closed_arg = s->arg;
	*out = &n->virtio;
	return 0;
}
