/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ethernet frames on a stream socket between two of our processes: a VM and its user-mode
 * network, a VM and a switch.  Each frame is its length (4 bytes, little-endian), its
 * struct net_hdr, its bytes.  One system call moves many frames; a length that cannot be ends
 * the connection.
 *
 * A stream and not packets, because the kernel keeps only ten or so packets in flight on a
 * Unix socket.  The descriptor is never waited on.  One thread at a time.
 */
#ifndef VIREO_BACKEND_FRAME_STREAM_H
#define VIREO_BACKEND_FRAME_STREAM_H

#include "backend/net.h"

struct frame_stream {
	int fd;			/* the stream's own; -1: closed */
	uint8_t *in;		/* what was read and not consumed yet */
	size_t in_at, in_len;
	uint8_t *out;		/* what the socket did not take yet */
	size_t out_at, out_len, out_max;
};

#define FRAME_STREAM_AT_ONCE	64U	/* frames looked at or sent together */

/* Takes @fd over.  @out_max: bytes that may be queued; 0: no more than one frame's rest. */
int frame_stream_init(struct frame_stream *s, int fd, size_t out_max, struct err *e);
/* Closes, frees. */
void frame_stream_fini(struct frame_stream *s);
/* The same stream on another descriptor; what was in flight is dropped. */
void frame_stream_reopen(struct frame_stream *s, int fd);

/* Reads once; how many bytes came, 0: none now (or no room), -EPIPE: the end, -errno. */
ssize_t frame_stream_read(struct frame_stream *s);
/* The first frames, at most @max; how many.  -EPROTO: the peer sends no frames. */
int frame_stream_peek(const struct frame_stream *s, struct net_in *frames, unsigned int max);
/* Done with the first @count frames of the last peek. */
void frame_stream_consume(struct frame_stream *s, const struct net_in *frames,
			  unsigned int count);

/*
 * Sends the first so many of @frames, and says how many: fewer if the socket is full.  -errno
 * if the connection is gone.
 */
int frame_stream_send(struct frame_stream *s, const struct net_out *frames, unsigned int count);
/* Queues one frame for the next flush; false: no room. */
bool frame_stream_queue(struct frame_stream *s, const struct net_hdr *h, const uint8_t *data,
			size_t len);
/* Sends what is queued; 0 or -errno.  frame_stream_queued() says what is left. */
int frame_stream_flush(struct frame_stream *s);

static inline size_t frame_stream_queued(const struct frame_stream *s)
{
	return s->out_len - s->out_at;
}

#endif
