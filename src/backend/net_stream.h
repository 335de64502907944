/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end whose peer is another process at the end of a stream socket (frame_stream.h):
 * user-mode networking's, or a switch's; and, in a switch, each VM.
 */
#ifndef VIREO_BACKEND_NET_STREAM_H
#define VIREO_BACKEND_NET_STREAM_H

#include "backend/net.h"

#include <sys/types.h>

struct net_stream_config {
	const char *name;	/* static: "user", "switch" */
	int fd;			/* becomes the back end's, also after a failure */
	pid_t child;		/* the peer, if it is our child; is ended and reaped; 0: none */
	struct log *log;	/* borrowed; may be NULL */
	size_t queue_max;	/* bytes kept for a slow peer beside the socket's own; 0: few */
	/*
	 * Connects anew after the peer is gone, tried each second; a descriptor or -errno.
	 * NULL: the link stays down.
	 */
	int (*reopen)(void *arg);
	void (*free)(void *arg);	/* at destroy, or after a failure; may be NULL */
	void *arg;
};

int net_stream_create(struct net_backend **out, const struct net_stream_config *c,
		      struct err *e);

#endif
