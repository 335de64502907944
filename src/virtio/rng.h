/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-rng: the host's random numbers.
 */
#ifndef VIREO_VIRTIO_RNG_H
#define VIREO_VIRTIO_RNG_H

#include "virtio/virtio.h"

int virtio_rng_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		      struct err *e);

#endif
