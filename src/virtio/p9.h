/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-9p: a directory of the host, which the guest mounts by its tag.
 */
#ifndef VIREO_VIRTIO_P9_H
#define VIREO_VIRTIO_P9_H

#include "virtio/virtio.h"

#define P9_TAG_MAX	64U	/* characters of a mount tag */

struct p9;

/* Takes @server over where it succeeds.  @tag has 1 to P9_TAG_MAX characters. */
int virtio_p9_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		     struct p9 *server, const char *tag, struct err *e);

#endif
