/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A virtio device in a page of its own, without a bus.
 */
#ifndef VIREO_VIRTIO_MMIO_H
#define VIREO_VIRTIO_MMIO_H

#include "dev/device.h"
#include "virtio/virtio.h"

#define VIRTIO_MMIO_SIZE	0x1000U

/* At @base in @d's address space, interrupting through @irq (level).  Takes @d over. */
int virtio_mmio_create(struct device **out, struct virtio_device *d, gpa_t base,
		       const struct irq_line *irq, struct err *e);

#endif
