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
};

int virtio_net_create(struct virtio_device **out, const struct virtio_net_setup *s,
		      struct err *e);

#endif
