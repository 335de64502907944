/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network card.
 */
#ifndef VIREO_VIRTIO_NET_H
#define VIREO_VIRTIO_NET_H

#include "backend/net.h"
#include "virtio/virtio.h"

struct virtio_net_setup {
	struct gpa_space *space;	/* borrowed */
	struct log *log;		/* borrowed; may be NULL */
	struct net_backend *backend;	/* the card's from now on, also after a failure */
	uint8_t mac[NET_MAC_LEN];
	uint16_t mtu;			/* told to the guest; 0: it is not */
	void (*closed)(void *arg);	/* once the card and its back end are no more; or NULL */
	void *arg;
};

/* Since it was made; what was dropped for want of a buffer or a peer is not in it. */
struct virtio_net_counts {
	uint64_t received_frames, received_bytes, sent_frames, sent_bytes;
};

int virtio_net_create(struct virtio_device **out, const struct virtio_net_setup *s,
		      struct err *e);
/* [any] thread, until it is closed. */
void virtio_net_counts(struct virtio_device *d, struct virtio_net_counts *out);

#endif
