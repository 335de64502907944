/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: consoles (/dev/hvc0 ...) and named ports (/dev/virtio-ports/NAME).
 */
#ifndef VIREO_VIRTIO_CONSOLE_H
#define VIREO_VIRTIO_CONSOLE_H

#include "base/char_backend.h"
#include "virtio/virtio.h"

#define CONSOLE_PORTS_MAX	31U
#define CONSOLE_NAME_MAX	64U

struct virtio_console_port {
	char name[CONSOLE_NAME_MAX];	/* "": a console */
	struct char_backend *backend;	/* taken over, also where the creation fails */
};

/* @count from 1 to CONSOLE_PORTS_MAX. */
int virtio_console_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			  const struct virtio_console_port *ports, unsigned int count,
			  struct err *e);

#endif
