/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-blk: a disk.
 */
#ifndef VIREO_VIRTIO_BLK_H
#define VIREO_VIRTIO_BLK_H

#include "backend/block.h"
#include "virtio/virtio.h"

struct virtio_blk_config {
	struct block *block;		/* taken over, also where the creation fails */
	unsigned int queues;		/* one a vCPU serves it well; 0: 1 */
	/*
	 * The host has no room and requests were put aside; as block_events.stopped(), [any]
	 * thread.  May be NULL.
	 */
	void (*stopped)(void *arg, int errnum, const char *why);
	/* The device was destroyed and the image is closed.  May be NULL. */
	void (*closed)(void *arg);
	void *arg;
};

int virtio_blk_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		      const struct virtio_blk_config *c, struct err *e);

#endif
