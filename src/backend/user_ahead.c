// SPDX-License-Identifier: Apache-2.0
/*
 * Connections of the acknowledging ahead (user_ahead.h): what either side's segments do to them.
 * Sending is in user_ahead_send.c.
 */
#include "backend/user_ahead_priv.h"

#include <stdlib.h>

#define PROBES		4U		/* places where a flow may be */
#define STALE_MS	600000		/* so long unheard of, and with nothing kept: its place is free */
#define REPEATS		3U		/* acknowledgements of the same: something was lost */

struct user_ahead *user_ahead_create(const struct user_ahead_ops *ops, void *arg)
{
	struct user_ahead *a = calloc(1, sizeof(*a));

	if (a) {
		a->ops = ops;
		a->arg = arg;
	}
	return a;
}

void user_ahead_destroy(struct user_ahead *a)
{
	if (!a)
		return;
	for (unsigned int i = 0; i < a->busy_count; i++)
		free(a->busy[i]->ring);
	free(a);
}

/* --- finding them --- */

static struct ahead_flow *place(struct user_ahead *a, const struct ahead_id *id, unsigned int probe)
{
	const uint8_t *p = (const uint8_t *)id;
	uint32_t key = 2166136261U;	/* FNV-1a */

	for (size_t i = 0; i < sizeof(*id); i++)
		key = (key ^ p[i]) * 16777619U;
	return &a->flow[(key + probe) % AHEAD_FLOWS];
}

static struct ahead_flow *find(struct user_ahead *a, const struct ahead_id *id)
{
	for (unsigned int i = 0; i < PROBES; i++) {
		struct ahead_flow *f = place(a, id, i);

		if (f->used && !memcmp(&f->id, id, sizeof(*id)))
			return f;
	}
	return NULL;
}

static void let_ring_go(struct user_ahead *a, struct ahead_flow *f)
{
	for (unsigned int i = 0; i < a->busy_count && f->ring; i++) {
		if (a->busy[i] != f)
			continue;
		a->busy[i] = a->busy[--a->busy_count];
		free(f->ring);
		f->ring = NULL;
	}
}

void ahead_drop(struct user_ahead *a, struct ahead_flow *f)
{
	let_ring_go(a, f);
	f->used = f->active = false;
}

/* A new flow in the place of an old one with this name, or a free one; NULL: there is none. */
static struct ahead_flow *claim(struct user_ahead *a, const struct ahead_id *id)
{
	const int64_t now = a->ops->now(a->arg);
	struct ahead_flow *f = find(a, id);

	for (unsigned int i = 0; i < PROBES && !f; i++) {
		struct ahead_flow *p = place(a, id, i);

		if (!p->active || (p->una == p->nxt && now - p->last > STALE_MS))
			f = p;
	}
	if (!f)
		return NULL;
	ahead_drop(a, f);
	*f = (struct ahead_flow){
		.id = *id, .used = true, .rto = AHEAD_RTO_MIN, .deadline = INT64_MAX, .last = now,
		.dirty = f->dirty, .next_dirty = f->next_dirty,
	};
	return f;
}

void ahead_mark(struct user_ahead *a, struct ahead_flow *f)
{
	if (f->dirty)
		return;
	f->dirty = true;
	f->next_dirty = a->dirty;
	a->dirty = f;
}

/* The ring of a flow that needs one, perhaps of another that does not any more. */
static bool ring_for(struct user_ahead *a, struct ahead_flow *f)
{
	if (f->ring)
		return true;
	for (unsigned int i = 0; i < a->busy_count && a->busy_count == AHEAD_BUSY; i++)
		if (a->busy[i]->una == a->busy[i]->nxt && !a->busy[i]->fin)
			let_ring_go(a, a->busy[i]);
	if (a->busy_count == AHEAD_BUSY)
		return false;
	f->ring = malloc(AHEAD_RING);
	if (!f->ring)
		return false;
	a->busy[a->busy_count++] = f;
	return true;
}

/* --- from the guest --- */

static void begin(struct ahead_flow *f, uint32_t first, uint32_t guest_nxt, uint32_t edge)
{
	f->active = true;
	f->una = f->sent = f->nxt = first;
	f->guest_nxt = f->host_ack = guest_nxt;
	f->edge = edge;
}

static void guest_syn(struct user_ahead *a, const struct ahead_segment *s, const uint8_t *frame)
{
	const int scale = ahead_find_scale(s, frame);
	struct ahead_flow *f = find(a, &s->id);

	/* The same once more, which met libslirp's answer on its way. */
	if (f && f->active && s->seq + 1 == f->guest_nxt)
		return;
	if (!(s->flags & TCP_ACK))
		f = claim(a, &s->id);
	if (!f || f->active)
		return;
	f->shift = MAX(scale, 0);
	memcpy(f->to_host, frame, NET_ETH_LEN);
	if (scale < 0)
		f->offers = false;
	else if (!(s->flags & TCP_ACK))
		f->offers = true;
	else if (f->offers)	/* the answer to libslirp's SYN, into which the option was put */
		begin(f, s->ack, s->seq + 1, s->ack + s->win);
}

/* What libslirp is told: how much the ring takes. */
uint16_t ahead_window(struct ahead_flow *f)
{
	const uint32_t room = AHEAD_RING - (f->nxt - f->una);

	f->shut = room < UINT16_MAX;
	return MIN(room, UINT16_MAX);
}

void ahead_recover(struct ahead_flow *f)
{
	f->recovering = f->resend = true;
	f->recover = f->sent;
	f->repeats = 0;
}

/* The guest has @count bytes more: does that end what was lost, or is there a further hole? */
static void advanced(struct ahead_flow *f, uint32_t count)
{
	f->una += count;
	f->repeats = 0;
	f->rto = AHEAD_RTO_MIN;
	f->deadline = f->una == f->sent ? INT64_MAX : f->last + f->rto;
	f->recovering = f->recovering && (int32_t)(f->recover - f->una) > 0;
	f->resend = f->recovering;
}

static void acknowledged(struct user_ahead *a, struct ahead_flow *f, const struct ahead_segment *s)
{
	const uint32_t count = s->ack - f->una, edge = s->ack + ((uint32_t)s->win << f->shift);

	/* An old one, or of what was never sent. */
	if (count > f->sent - f->una)
		return;
	if (count)
		advanced(f, count);
	else if (!s->len && f->sent != f->una && edge == f->edge && ++f->repeats == REPEATS &&
		 !f->recovering)
		ahead_recover(f);
	f->edge = edge;
	if (f->shut && !f->fin && AHEAD_RING - (f->nxt - f->una) >= AHEAD_RING / 2)
		f->ack_due = true;
	ahead_mark(a, f);
}

/* Is all that libslirp ever says in the guest? */
static bool is_finished(const struct ahead_flow *f)
{
	return f->fin && f->una == f->nxt + 1;
}

static bool guest_segment(struct user_ahead *a, struct ahead_flow *f,
			  const struct ahead_segment *s, uint8_t *frame)
{
	const uint32_t end = s->seq + s->len + !!(s->flags & TCP_FIN);
	bool pass = s->len || s->flags & (TCP_FIN | TCP_URG) || f->pass_ack;

	if (s->flags & TCP_RST) {
		ahead_drop(a, f);
		return true;
	}
	f->last = a->ops->now(a->arg);
	f->tries = 0;
	if ((int32_t)(end - f->guest_nxt) > 0)
		f->guest_nxt = end;
	if (s->flags & TCP_ACK)
		acknowledged(a, f, s);
	pass |= is_finished(f) && !f->fin_told;
	if (pass) {
		ahead_rewrite(s, frame, s->seq, f->nxt + f->fin, ahead_window(f));
		f->ack_due = f->pass_ack = false;
		f->fin_told = f->fin;
	}
	if (is_finished(f)) {
		ahead_output(a, f);
		ahead_drop(a, f);
	}
	return pass;
}

bool user_ahead_from_guest(struct user_ahead *a, uint8_t *frame, size_t len)
{
	struct ahead_segment s;
	struct ahead_flow *f;

	if (!ahead_parse(&s, frame, len, true) || s.at.ip != NET_ETH_LEN)
		return true;
	if (s.flags & TCP_SYN) {
		guest_syn(a, &s, frame);
		return true;
	}
	f = find(a, &s.id);
	return !f || !f->active || guest_segment(a, f, &s, frame);
}

/* --- from libslirp --- */

/* Puts the option into libslirp's SYN; the length in a->frame, 0: the SYN goes as it is. */
static size_t slirp_syn(struct user_ahead *a, const struct ahead_segment *s, const uint8_t *frame,
			size_t len)
{
	struct ahead_flow *f = s->flags & TCP_ACK ? find(a, &s->id) : claim(a, &s->id);
	size_t n;

	if (!f || (s->flags & TCP_ACK && !f->offers))
		return 0;
	n = ahead_add_scale(s, frame, len, a->frame);
	memcpy(f->to_guest, frame, NET_ETH_LEN);
	f->host_ack = s->ack;
	f->host_win = s->win;
	f->offers = n;
	if (n && s->flags & TCP_ACK && !f->active) {
		begin(f, s->seq + 1, s->ack, s->seq + 1);
		f->pass_ack = true;	/* the handshake's last */
	}
	return n;
}

static void keep(struct ahead_flow *f, const uint8_t *data, uint32_t count)
{
	const uint32_t at = f->nxt % AHEAD_RING, first = MIN(count, AHEAD_RING - at);

	memcpy(f->ring + at, data, first);
	memcpy(f->ring, data + first, count - first);
	f->nxt += count;
}

/* Data or a FIN.  What is not taken is not acknowledged, and libslirp sends it again. */
static void take(struct user_ahead *a, struct ahead_flow *f, const struct ahead_segment *s,
		 const uint8_t *data)
{
	const uint32_t known = f->nxt - s->seq, room = AHEAD_RING - (f->nxt - f->una);
	uint32_t count;

	f->ack_due = true;
	if (f->fin || known > s->len || !ring_for(a, f))
		return;
	count = MIN(s->len - known, room);
	keep(f, data + known, count);
	f->fin = s->flags & TCP_FIN && known + count == s->len;
}

static void slirp_segment(struct user_ahead *a, struct ahead_flow *f,
			  const struct ahead_segment *s, const uint8_t *frame)
{
	memcpy(f->to_guest, frame, NET_ETH_LEN);
	f->host_ack = s->ack;
	f->host_win = s->win;
	f->tell = true;
	if (s->len || s->flags & TCP_FIN)
		take(a, f, s, frame + s->at.payload);
	else if (s->seq == f->nxt - 1)
		f->probe = f->pass_ack = true;
	ahead_mark(a, f);
}

/*
 * The guest believes a reset only at the number that it expects.  One after libslirp's stream
 * has ended says that it has forgotten the connection; the guest gets its stream first, and
 * the reset for what it sends afterwards.  0: it gets none now.
 */
static size_t slirp_reset(struct user_ahead *a, struct ahead_flow *f, const struct ahead_segment *s,
			  const uint8_t *frame, size_t len)
{
	if (f->fin || len > sizeof(a->frame) || s->len)
		return 0;
	ahead_output(a, f);
	memcpy(a->frame, frame, len);
	ahead_rewrite(s, a->frame, f->sent, s->ack, s->win);
	ahead_drop(a, f);
	return len;
}

bool user_ahead_from_slirp(struct user_ahead *a, const uint8_t *frame, size_t len,
			   const uint8_t **out, size_t *out_len)
{
	struct ahead_segment s;
	struct ahead_flow *f;
	size_t n = 0;

	*out = frame;
	*out_len = len;
	if (!ahead_parse(&s, frame, len, false) || s.at.ip != NET_ETH_LEN)
		return false;
	f = find(a, &s.id);
	if (s.flags & TCP_SYN)
		n = slirp_syn(a, &s, frame, len);
	else if (!f || !f->active)
		return false;
	else if (s.flags & TCP_RST)
		n = slirp_reset(a, f, &s, frame, len);
	else
		slirp_segment(a, f, &s, frame);
	if (n) {
		*out = a->frame;
		*out_len = n;
	}
	return !n && !(s.flags & TCP_SYN);
}
