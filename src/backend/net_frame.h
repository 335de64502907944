/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a card's offloads do, in software: filling checksums in and cutting large TCP frames
 * into segments, for whoever cannot pass a frame on as it came.
 *
 * Source: VIRTIO 1.2, "Network Device", "Packet Transmission"; RFC 791, 8200, 9293, 1071.
 * IPv6 extension headers are not followed: such frames are never segmented.
 *
 * Frames and headers are hostile.  All functions are pure: any thread.
 */
#ifndef VIREO_BACKEND_NET_FRAME_H
#define VIREO_BACKEND_NET_FRAME_H

#include "backend/net.h"

/* Smaller segments are refused: the guest would make us multiply its frames. */
#define NET_GSO_SIZE_MIN	48U

/* Where the parts of a TCP frame are; offsets from the frame's start. */
struct net_tcp {
	unsigned int ip, tcp, payload;
	unsigned int end;	/* of the IP packet; the frame may be padded */
	bool v6;
};

/*
 * False: not TCP in IP, or cut short, or a fragment.  Of @len bytes the first @have are at
 * @frame; where that is not all, they must have the headers.
 */
bool net_parse_tcp(struct net_tcp *t, const uint8_t *frame, size_t have, size_t len);

/*
 * Is @h right for this frame?  If so the functions below may be called.  Wrong are places
 * outside the frame, unknown GSO types, a GSO frame that is not TCP of that kind, too small
 * segments.  Clears in @h what says nothing (fields that no flag makes valid).  @have as above.
 */
bool net_hdr_check(struct net_hdr *h, const uint8_t *frame, size_t have, size_t len);

/* Fills in the checksum that @h speaks of, if it does; @h then says that it is filled in. */
void net_checksum_fill(struct net_hdr *h, uint8_t *frame, size_t len);

/*
 * Makes @h say that the TCP frame @t, whose checksum is filled in, is to be cut into segments
 * of @mss bytes, and puts the checksum of the pseudo header in place, as drivers expect.
 */
void net_mark_large(struct net_hdr *h, const struct net_tcp *t, uint8_t *frame, uint16_t mss);

/* Cuts one GSO frame.  The frame must have passed net_hdr_check() and stay while this runs. */
struct net_segments {
	const uint8_t *frame;
	struct net_tcp tcp;
	unsigned int size;	/* payload bytes of each but the last */
	unsigned int at;	/* offset of the next one's payload */
	uint16_t index;
};

void net_segments_begin(struct net_segments *s, const struct net_in *f);
/* Room that the largest segment takes; at most NET_FRAME_MAX. */
size_t net_segments_room(const struct net_segments *s);
/* Writes the next segment, checksums and all, to @buf; its length, or 0 after the last. */
size_t net_segments_next(struct net_segments *s, uint8_t *buf);

/* The one's complement sum of @len bytes, added to @sum; net_fold() makes 16 bits of it. */
uint64_t net_sum(const void *data, size_t len, uint64_t sum);
uint16_t net_fold(uint64_t sum);

#endif
