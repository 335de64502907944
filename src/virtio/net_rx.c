// SPDX-License-Identifier: Apache-2.0
/*
 * The network card receives: frames of the back end's go into the driver's buffers.
 *
 * Source: VIRTIO 1.2, "Network Device", "Setting Up Receive Buffers", "Processing of Incoming
 * Packets".
 *
 * A frame that the driver cannot take as it came has its checksum filled in, or is cut into
 * segments.  A frame for which there are not buffers enough now stays with the back end;
 * one that no buffer of the driver's could ever take is dropped.
 */
#include "backend/net_frame.h"
#include "virtio/net_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#define BUFFERS_MAX	256U	/* of one frame; drivers give at least 1526 bytes in each */

void net_rx_start(struct virtio_net *n)
{
	n->running = true;
	n->mergeable = virtio_has(&n->virtio, NET_F_MRG_RXBUF);
	n->vlan_filter = virtio_has(&n->virtio, NET_F_CTRL_VLAN);
}

/* May the driver see this kind of large frame? */
static bool takes_large(struct virtio_net *n, const struct net_hdr *h)
{
	const unsigned int type = h->gso_type & ~NET_GSO_ECN;

	if (h->gso_type & NET_GSO_ECN && !virtio_has(&n->virtio, NET_F_GUEST_ECN))
		return false;
	return virtio_has(&n->virtio, type == NET_GSO_TCPV4 ? NET_F_GUEST_TSO4 :
			  NET_F_GUEST_TSO6);
}

/*
 * Takes chains for @need bytes.  How many; 0: there are not enough now, and none is taken;
 * -EMSGSIZE: they would never be enough, and none is taken.
 */
static int gather(struct virtio_net *n, struct virtq_chain **chains, size_t need)
{
	const unsigned int max = n->mergeable ? BUFFERS_MAX : 1;
	unsigned int count = 0;
	size_t room = 0;
	bool empty = false;

	while (room < need && count < max) {
		struct virtq_chain *c = virtq_pop(n->rx);

		if (!c) {
			empty = true;
			break;
		}
		chains[count++] = c;
		room += c->in_len;
		if (c->in_len < sizeof(struct net_hdr))
			break;		/* of no use, and the driver's fault */
	}
	if (room >= need)
		return count;
	while (count)
		virtq_unpop(chains[--count]);
	return empty ? 0 : -EMSGSIZE;
}

/* Copies the frame into @chains; written[i] bytes of each. */
static void scatter(struct virtq_chain **chains, uint32_t *written, int count,
		    const struct net_hdr *h, const uint8_t *data, size_t len)
{
	size_t at = 0;

	for (int i = 0; i < count; i++) {
		const size_t skip = i ? 0 : chain_write(chains[0], 0, h, sizeof(*h));
		const size_t put = chain_write(chains[i], skip, data + at, len - at);

		written[i] = skip + put;
		at += put;
	}
}

/* 0: done, or dropped; -EAGAIN: no buffers now. */
static int put(struct virtio_net *n, const struct net_hdr *hdr, const uint8_t *data, size_t len)
{
	struct virtq_chain *chains[BUFFERS_MAX];
	uint32_t written[BUFFERS_MAX];
	struct net_hdr h = *hdr;
	int count;

	count = gather(n, chains, sizeof(h) + len);
	if (!count)
		return virtio_running(&n->virtio) ? -EAGAIN : 0;
	if (count < 0) {
		struct virtq_chain *c = n->mergeable ? virtq_pop(n->rx) : NULL;

		log_guest(n->log, "virtio-net: a frame of %zu bytes fits no buffers", len);
		/* Buffers that serve nobody must not stay at the head of the queue. */
		if (c)
			virtq_push(c, 0);
		return 0;
	}
	h.num_buffers = count;
	scatter(chains, written, count, &h, data, len);
	virtq_push_all(chains, written, count);
	atomic_fetch_add_explicit(&n->received_frames, 1, memory_order_relaxed);
	atomic_fetch_add_explicit(&n->received_bytes, len, memory_order_relaxed);
	return 0;
}

/* A large frame in pieces; where buffers run out, the rest is lost, as on a busy link. */
static int put_segments(struct virtio_net *n, const struct net_in *f)
{
	static const struct net_hdr valid = { .flags = NET_F_DATA_VALID }, plain = { 0 };
	const bool sums = virtio_has(&n->virtio, NET_F_GUEST_CSUM);
	struct net_segments s;
	bool first = true;
	size_t len;

	net_segments_begin(&s, f);
	while ((len = net_segments_next(&s, n->segment))) {
		if (put(n, sums ? &valid : &plain, n->segment, len))
			return first ? -EAGAIN : 0;
		first = false;
	}
	return 0;
}

static int take(struct virtio_net *n, struct net_in *f)
{
	if (!net_filter_pass(n, f->data, f->len))
		return 0;
	if (!net_hdr_check(&f->hdr, f->data, f->len, f->len)) {
		log_debug(n->log, "virtio-net: the back end gave a frame with a wrong header");
		return 0;
	}
	if (f->hdr.gso_type != NET_GSO_NONE && !takes_large(n, &f->hdr))
		return put_segments(n, f);
	if (!virtio_has(&n->virtio, NET_F_GUEST_CSUM)) {
		net_checksum_fill(&f->hdr, f->data, f->len);
		f->hdr = (struct net_hdr){ 0 };
	}
	return put(n, &f->hdr, f->data, f->len);
}

unsigned int net_receive(void *dev, struct net_in *frames, unsigned int count)
{
	struct virtio_net *n = dev;
	unsigned int i;

	/* Without a driver the card is not on the network. */
	if (!n->running || !virtq_enabled(n->rx))
		return count;
	for (i = 0; i < count; i++) {
		if (take(n, &frames[i])) {
			n->starved = true;
			break;
		}
	}
	virtq_notify(n->rx);
	return i;
}
