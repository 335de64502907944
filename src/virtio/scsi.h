/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-scsi: a host adapter with up to 16 disks, each a target of its own with one logical
 * unit.  For guests' software that looks for SCSI disks; virtio-blk is quicker.
 */
#ifndef VIREO_VIRTIO_SCSI_H
#define VIREO_VIRTIO_SCSI_H

#include "backend/block.h"
#include "virtio/virtio.h"

#define VIRTIO_SCSI_TARGETS	16U

struct virtio_scsi_disk {
	struct block *block;		/* taken over, also where adding it fails */
	/* As struct virtio_blk_config's, which see; each may be NULL. */
	void (*stopped)(void *arg, int errnum, const char *why);
	void (*closed)(void *arg);
	void *arg;
};

/* @queues: one a vCPU serves it well. */
int virtio_scsi_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		       unsigned int queues, struct err *e);
/* Before the device is given to a transport; returns the disk's target. */
int virtio_scsi_add(struct virtio_device *d, const struct virtio_scsi_disk *disk, struct err *e);
/* Takes a device down that no transport has got. */
void virtio_scsi_free(struct virtio_device *d);

#endif
