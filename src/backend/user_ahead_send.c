// SPDX-License-Identifier: Apache-2.0
/* What the acknowledging ahead sends, and when: segments, acknowledgements, again; see user_ahead.h. */
#include "backend/user_ahead_priv.h"

#define SEGMENT_MAX	63000U		/* with its headers an IP packet */
#define WORTH_SENDING	8192U		/* less of much waits until it is more, or nothing is on its way */
#define RTO_MAX		60000
#define TRIES_MAX	15U
#define TURNS_MAX	64U

/* --- to libslirp --- */

static void to_slirp(struct user_ahead *a, struct ahead_flow *f, uint8_t flags)
{
	/* A guest's probe of libslirp's shut window is beyond what libslirp looks at. */
	const bool beyond = (int32_t)(f->guest_nxt - f->host_ack - f->host_win) > 0;
	const struct ahead_header h = {
		.seq = beyond ? f->host_ack : f->guest_nxt, .ack = f->nxt + f->fin,
		.win = ahead_window(f), .flags = flags,
	};
	uint8_t frame[128];
	const uint8_t *end = ahead_build(f, true, &h, frame, 0, true);

	f->ack_due = false;
	f->fin_told = f->fin;
	a->ops->to_slirp(a->arg, frame, end - frame);
}

/*
 * An acknowledgement lets libslirp send more, which is taken and acknowledged, until it has no
 * more or a ring is full.
 */
static void acknowledge(struct user_ahead *a)
{
	bool any = true;

	for (unsigned int turn = 0; turn < TURNS_MAX && any; turn++) {
		any = false;
		for (struct ahead_flow *f = a->dirty; f; f = f->next_dirty) {
			if (!f->active || !f->ack_due)
				continue;
			any = true;
			to_slirp(a, f, TCP_ACK);
		}
	}
}

/* --- to the guest --- */

static void copy_out(const struct ahead_flow *f, uint8_t *to, uint32_t seq, uint32_t count)
{
	const uint32_t at = seq % AHEAD_RING, first = MIN(count, AHEAD_RING - at);

	memcpy(to, f->ring + at, first);
	memcpy(to + first, f->ring, count - first);
}

/* A segment at @seq with @count bytes; false: there is no room for it now. */
static bool to_guest(struct user_ahead *a, struct ahead_flow *f, uint32_t seq, uint32_t count,
		     uint8_t flags)
{
	const struct ahead_header h = {
		.seq = seq, .ack = f->host_ack, .win = f->host_win, .flags = TCP_ACK | flags,
	};
	uint8_t *data = ahead_build(f, false, &h, a->frame, count, false);

	if (count)
		copy_out(f, data, seq, count);
	a->blocked = !a->ops->to_guest(a->arg, a->frame, data + count - a->frame);
	if (!a->blocked)
		f->tell = f->probe = false;
	return !a->blocked;
}

/* How many bytes are to be sent now; *fin: and the FIN after them. */
static uint32_t due(const struct ahead_flow *f, bool *fin)
{
	const uint32_t left = f->nxt + f->fin - f->sent;	/* the FIN counts */
	const int32_t space = f->edge - f->sent;
	uint32_t count = MIN((uint32_t)MAX(space, (int32_t)f->force), SEGMENT_MAX);

	*fin = false;
	if (!left || !count)
		return 0;
	if (count < left && count < WORTH_SENDING && f->sent != f->una && !f->force)
		return 0;
	count = MIN(count, left);
	*fin = f->fin && count == left;
	return count - *fin;
}

/* The same for what was lost: the first segment that is not acknowledged. */
static uint32_t lost(const struct ahead_flow *f, bool *fin)
{
	const uint32_t count = MIN(f->sent - f->una, SEGMENT_MAX);

	*fin = f->fin && f->una + count == f->nxt + 1;
	return count - *fin;
}

static bool send_segment(struct user_ahead *a, struct ahead_flow *f, uint32_t seq, uint32_t count,
			 bool fin)
{
	return to_guest(a, f, seq, count, (fin ? TCP_FIN : 0) |
			(seq + count == f->nxt ? TCP_PSH : 0));
}

bool ahead_output(struct user_ahead *a, struct ahead_flow *f)
{
	const int64_t now = a->ops->now(a->arg);
	uint32_t count;
	bool fin;

	if (f->resend) {
		count = lost(f, &fin);
		if ((count || fin) && !send_segment(a, f, f->una, count, fin))
			return false;
		f->resend = false;
	}
	while ((count = due(f, &fin)) || fin) {
		if (!send_segment(a, f, f->sent, count, fin))
			return false;
		f->force = false;
		f->sent += count + fin;
	}
	/* Until it is acknowledged; or a window stays shut, of which a message may be lost. */
	if (f->deadline == INT64_MAX && f->una != f->nxt + f->fin)
		f->deadline = now + f->rto;
	if (f->probe)
		return to_guest(a, f, f->una - 1, 0, 0);
	return !f->tell || to_guest(a, f, f->sent, 0, 0);
}

/* --- time --- */

/* The guest says nothing: both sides are told that the connection is over. */
static void give_up(struct user_ahead *a, struct ahead_flow *f)
{
	to_guest(a, f, f->una, 0, TCP_RST);
	to_slirp(a, f, TCP_RST | TCP_ACK);
	ahead_drop(a, f);
}

static void expire(struct user_ahead *a, struct ahead_flow *f, int64_t now)
{
	/* A VM that reads nothing, paused perhaps, has lost nothing. */
	if (a->blocked) {
		f->deadline = now + f->rto;
		return;
	}
	if (++f->tries > TRIES_MAX) {
		give_up(a, f);
		return;
	}
	f->rto = MIN(2 * f->rto, RTO_MAX);
	f->deadline = now + f->rto;
	if (f->sent == f->una)
		f->force = true;	/* into a window that is shut */
	else
		ahead_recover(f);
	ahead_mark(a, f);
}

int64_t user_ahead_deadline(const struct user_ahead *a)
{
	int64_t first = INT64_MAX;

	for (unsigned int i = 0; i < a->busy_count; i++)
		first = MIN(first, a->busy[i]->deadline);
	return first;
}

void user_ahead_run(struct user_ahead *a)
{
	const int64_t now = a->ops->now(a->arg);
	struct ahead_flow *f, *next;

	/* Backwards: one that is dropped is replaced by the last. */
	for (unsigned int i = a->busy_count; i; i--)
		if (i <= a->busy_count && a->busy[i - 1]->deadline <= now)
			expire(a, a->busy[i - 1], now);
	acknowledge(a);
	f = a->dirty;
	a->dirty = NULL;
	for (; f; f = next) {
		next = f->next_dirty;
		f->dirty = false;
		if (f->active && !ahead_output(a, f))
			ahead_mark(a, f);
	}
}
