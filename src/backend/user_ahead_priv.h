/* SPDX-License-Identifier: Apache-2.0 */
/* Within the acknowledging ahead; for its files only. */
#ifndef VIREO_BACKEND_USER_AHEAD_PRIV_H
#define VIREO_BACKEND_USER_AHEAD_PRIV_H

#include "backend/net_frame.h"
#include "backend/user_ahead.h"

#include <string.h>

#define AHEAD_RING	(1U << 19)	/* bytes ahead of a guest; a power of two */
#define AHEAD_FLOWS	1024U		/* a power of two */
#define AHEAD_RTO_MIN	300		/* ms */
#define AHEAD_BUSY	64U		/* flows that have a ring at a time */

#define TCP_FIN		0x01U
#define TCP_SYN		0x02U
#define TCP_RST		0x04U
#define TCP_PSH		0x08U
#define TCP_ACK		0x10U
#define TCP_URG		0x20U

/* The two ends of a connection; compared as bytes. */
struct ahead_id {
	uint8_t v6;
	uint8_t unused[3];
	uint8_t guest[16], host[16];
	uint8_t guest_port[2], host_port[2];
};

/* A TCP segment's header, as read. */
struct ahead_segment {
	struct net_tcp at;
	struct ahead_id id;
	uint32_t seq, ack, len;		/* @len: payload */
	uint16_t win;
	uint8_t flags;
};

/* Numbers are the sequence numbers of libslirp's bytes, but for guest_nxt and host_ack. */
struct ahead_flow {
	struct ahead_id id;
	bool used, active;		/* active: both sides agreed to scale the guest's window */
	bool offers;			/* the guest's SYN has the option */
	uint8_t shift;
	uint8_t to_guest[NET_ETH_LEN], to_host[NET_ETH_LEN];
	uint32_t una;			/* the guest has all before */
	uint32_t sent;			/* it was sent all before */
	uint32_t nxt;			/* libslirp's next; it has an acknowledgement of all before */
	uint32_t edge;			/* the end of the guest's window */
	bool fin;			/* libslirp's FIN has the number @nxt */
	bool fin_told;			/* ... and is acknowledged: it may have forgotten all */
	uint32_t guest_nxt;		/* the guest's next */
	uint32_t host_ack;		/* what libslirp acknowledged, and its window ... */
	uint16_t host_win;
	bool tell;			/* ... which the guest is to be told */
	bool ack_due;			/* libslirp is to be acknowledged */
	bool shut;			/* ... and was last told of less than the largest window */
	bool probe, pass_ack;		/* a keepalive of libslirp's, the guest's answer to it */
	bool force;			/* at least a byte, whatever the guest's window */
	unsigned int repeats, tries;
	bool resend;			/* the first segment that is not acknowledged */
	bool recovering;		/* something was lost of what is before @recover */
	uint32_t recover;
	int64_t rto, deadline;		/* ms; deadline INT64_MAX: nothing is outstanding */
	int64_t last;			/* when something was last heard */
	uint8_t *ring;			/* byte n is at n mod AHEAD_RING; NULL: among the busy it is not */
	bool dirty;
	struct ahead_flow *next_dirty;
};

struct user_ahead {
	const struct user_ahead_ops *ops;
	void *arg;
	struct ahead_flow *dirty;	/* something is to be sent */
	bool blocked;			/* the guest's side had no room lately */
	struct ahead_flow *busy[AHEAD_BUSY];	/* those with rings */
	unsigned int busy_count;
	uint8_t frame[NET_FRAME_MAX];
	struct ahead_flow flow[AHEAD_FLOWS];
};

/* --- user_ahead.c --- */

void ahead_drop(struct user_ahead *a, struct ahead_flow *f);
/* The first segment that is not acknowledged is taken for lost. */
void ahead_recover(struct ahead_flow *f);
/* Something is to be sent: the next run looks at it. */
void ahead_mark(struct user_ahead *a, struct ahead_flow *f);
uint16_t ahead_window(struct ahead_flow *f);

/* --- user_ahead_send.c --- */

/* Sends the guest what its window takes; false: something is left, for which there is no room. */
bool ahead_output(struct user_ahead *a, struct ahead_flow *f);

/* --- user_ahead_frame.c --- */

/* Reads a frame; false: it is no whole TCP segment. */
bool ahead_parse(struct ahead_segment *s, const uint8_t *frame, size_t len, bool from_guest);
/* The shift of the window scale option in a SYN, at most 14; -1: there is none. */
int ahead_find_scale(const struct ahead_segment *s, const uint8_t *frame);
/* Copies a SYN with the option (shift 0) to @out; the length, 0: it has no room for it. */
size_t ahead_add_scale(const struct ahead_segment *s, const uint8_t *frame, size_t len,
		       uint8_t *out);
/* Changes fields and the checksum with them, so that a wrong one stays wrong. */
void ahead_rewrite(const struct ahead_segment *s, uint8_t *frame, uint32_t seq, uint32_t ack,
		   uint16_t win);

/* What a segment that is made here says. */
struct ahead_header {
	uint32_t seq, ack;
	uint16_t win;
	uint8_t flags;
};

/*
 * Writes the headers of a segment with @len bytes of payload; where that is to be put. Its
 * checksum is the pseudo header's only (@sum: all of it, for one without payload).
 */
uint8_t *ahead_build(const struct ahead_flow *f, bool from_guest, const struct ahead_header *h,
		     uint8_t *frame, uint32_t len, bool sum);

#endif
