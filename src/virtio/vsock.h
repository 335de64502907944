/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-vsock: stream connections between programs of the host, on unix sockets, and programs
 * of the guest, on AF_VSOCK.
 *
 * A program of the host connects to the socket PATH and says "CONNECT 1234\n"; once a program of
 * the guest that listens on port 1234 has accepted, it reads "OK 1073741824\n" (its own port), and
 * from there on both talk.  A program of the guest that connects to CID 2, port 52, reaches who
 * listens on PATH_52.
 */
#ifndef VIREO_VIRTIO_VSOCK_H
#define VIREO_VIRTIO_VSOCK_H

#include "virtio/virtio.h"

#define VSOCK_CID_HOST	2U
#define VSOCK_CID_GUEST	3U	/* the first that a guest can have */

/* @cid is the guest's, from VSOCK_CID_GUEST to UINT32_MAX - 1. */
int virtio_vsock_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			uint32_t cid, const char *path, struct err *e);

#endif
