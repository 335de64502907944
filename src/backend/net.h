/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network back end: a peer that takes Ethernet frames from a guest's card and gives it some.
 * User-mode networking, a TAP interface, the switch between VMs and a port of that switch are
 * all this; the front end is virtio-net, or a test.
 *
 * Offloads.  Each frame comes with a header (struct net_hdr, which is virtio's) that may say
 * "the checksum at this place is not filled in" or "cut this into segments of that size".
 * Every frame may have any of both, in both directions: who cannot pass one on as it is fixes
 * it up (net_frame.h), so nothing is negotiated between the two and a large TCP frame goes from
 * one VM to another whole.  No other GSO type than those named below is ever sent or given.
 *
 * Hostility.  A header that a back end gives came from its peer, and one that it takes from a
 * guest: both sides check (net_hdr_check()) before they compute with it.
 *
 * Threads.  After attach() everything, in both directions, is called on the thread of that
 * loop.  Nothing blocks: send() copies or drops before it returns, so the guest's buffers are
 * free again at once, and a reset has nothing to wait for.
 *
 * Back-pressure.  send() that takes fewer frames than it was given calls the front end's
 * writable() later.  A front end that takes fewer than it was given calls input_wanted() later;
 * meanwhile the back end keeps them, and stops reading from its peer.
 *
 * Link.  It is up when attached, unless the front end hears otherwise.  A peer that dies takes
 * the link down; frames sent meanwhile are dropped.  The VM goes on.
 */
#ifndef VIREO_BACKEND_NET_H
#define VIREO_BACKEND_NET_H

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/types.h"

#include <sys/uio.h>

#define NET_MAC_LEN	6U
#define NET_ETH_LEN	14U
/* Ethernet header, VLAN tag, the largest IP packet. */
#define NET_FRAME_MAX	(NET_ETH_LEN + 4U + 65535U)

/* net_hdr.flags */
#define NET_F_NEEDS_CSUM	1U	/* csum_start, csum_offset: to be filled in */
#define NET_F_DATA_VALID	2U	/* checksums are known to be right */
/* net_hdr.gso_type */
#define NET_GSO_NONE		0U
#define NET_GSO_TCPV4		1U
#define NET_GSO_TCPV6		4U
#define NET_GSO_ECN		0x80U	/* beside one of the two */

/* Little-endian, as struct virtio_net_hdr of VIRTIO_F_VERSION_1. */
struct net_hdr {
	uint8_t flags;
	uint8_t gso_type;
	uint16_t hdr_len;
	uint16_t gso_size;
	uint16_t csum_start;
	uint16_t csum_offset;
	uint16_t num_buffers;		/* the front end's; 0 here */
};

/* A frame to send: @len bytes in @count pieces; may be guest memory, which changes meanwhile. */
struct net_out {
	struct net_hdr hdr;
	const struct iovec *iov;
	unsigned int count;
	size_t len;
};

/* A frame that came: stable, writable, valid during the call. */
struct net_in {
	struct net_hdr hdr;
	uint8_t *data;
	size_t len;
};

struct net_backend;

struct net_backend_ops {
	const char *name;	/* "user", "tap", "switch": for logs */
	/* Called once; from now on it belongs to @loop's thread (or the loop does not run yet). */
	int (*attach)(struct net_backend *b, struct loop *loop, struct err *e);
	/* Takes the first so many of @count frames, sending or dropping each, and says how many. */
	unsigned int (*send)(struct net_backend *b, const struct net_out *frames,
			     unsigned int count);
	/* The front end, having refused frames, can take some again. */
	void (*input_wanted)(struct net_backend *b);
	/* Frees @b, attached or not; on the loop's thread or after it. */
	void (*destroy)(struct net_backend *b);
};

struct net_front_ops {
	/* Takes the first so many of @count frames and says how many. */
	unsigned int (*receive)(void *dev, struct net_in *frames, unsigned int count);
	/* There is room again after a short send(). */
	void (*writable)(void *dev);
	void (*link)(void *dev, bool up);
};

struct net_backend {
	const struct net_backend_ops *ops;
	const struct net_front_ops *front;
	void *front_dev;
	struct log *log;		/* borrowed; may be NULL */
};

static inline int net_attach(struct net_backend *b, struct loop *loop,
			     const struct net_front_ops *front, void *dev, struct err *e)
{
	b->front = front;
	b->front_dev = dev;
	return b->ops->attach(b, loop, e);
}

static inline unsigned int net_send(struct net_backend *b, const struct net_out *frames,
				    unsigned int count)
{
	return b->ops->send(b, frames, count);
}

#endif
