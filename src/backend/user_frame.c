// SPDX-License-Identifier: Apache-2.0
/*
 * Large frames between a guest and libslirp.
 *
 * libslirp knows no offloads, but it takes TCP segments of any size, and sends as large ones
 * as the other side's SYN allows.  So the segment size in the guest's SYN is raised on its
 * way, and what then comes is marked as to be cut into the size that the guest asked for:
 * the guest sees what a card that coalesces segments shows it.
 *
 * Other large packets (UDP, ICMP over IPv4) are fragmented for the guest's link here, because
 * libslirp was told of a larger one.  Over IPv6 they are dropped, as there they must be.
 */
#include "backend/net_frame.h"
#include "backend/user_priv.h"

#include <string.h>

#define TCP_SYN		0x02U
#define TCP_FLAGS	13U
#define TCP_CSUM	16U
#define OPTION_END	0U
#define OPTION_NOP	1U
#define OPTION_MSS	2U
#define IP_MORE		0x20U		/* in the first byte of the fragment field */
#define MSS_DEFAULT	536U		/* RFC 9293: what every host takes */

/* --- the size each connection's guest side asked for --- */

/* @from_guest: which of the two ends is the guest's; both directions give one key. */
static uint32_t flow_key(const struct net_tcp *t, const uint8_t *frame, bool from_guest)
{
	const uint8_t *addr = frame + t->ip + (t->v6 ? 8 : 12);
	const unsigned int n = t->v6 ? 16 : 4;
	uint32_t key = 2166136261U;	/* FNV-1a */

	for (int end = 0; end < 2; end++) {
		const unsigned int which = from_guest ? end : !end;
		const uint8_t *port = frame + t->tcp + 2 * which;

		for (unsigned int i = 0; i < n; i++)
			key = (key ^ addr[which * n + i]) * 16777619U;
		key = (key ^ port[0]) * 16777619U;
		key = (key ^ port[1]) * 16777619U;
	}
	return key;
}

static uint16_t flow_mss(const struct user_flows *u, uint32_t key)
{
	const struct user_flow *f = &u->flow[key % USER_FLOWS];

	return f->key == key && f->mss >= NET_GSO_SIZE_MIN ? f->mss : MSS_DEFAULT;
}

/* --- from the guest --- */

/* The segment size in a SYN's options: its place in the frame, or 0. */
static unsigned int find_mss(const struct net_tcp *t, const uint8_t *frame)
{
	unsigned int at = t->tcp + 20;

	while (at + 4 <= t->payload && frame[at] != OPTION_END) {
		if (frame[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (frame[at] == OPTION_MSS && frame[at + 1] == 4)
			return at + 2;
		if (frame[at + 1] < 2)
			return 0;
		at += frame[at + 1];
	}
	return 0;
}

static uint16_t tcp_sum(const struct net_tcp *t, const uint8_t *frame)
{
	const unsigned int len = t->end - t->tcp;
	const uint8_t *addr = frame + t->ip + (t->v6 ? 8 : 12);
	const uint8_t tail[4] = { 0, 6, len >> 8, len };
	uint64_t sum = net_sum(addr, t->v6 ? 32 : 8, net_sum(tail, 4, 0));

	return net_fold(net_sum(frame + t->tcp, len, sum));
}

static void raise_mss(struct user_flows *u, const struct net_tcp *t, uint8_t *frame)
{
	const unsigned int at = find_mss(t, frame);
	const uint32_t key = flow_key(t, frame, true);
	uint16_t sum;

	/* A damaged one stays damaged, for libslirp to drop. */
	if (!at || tcp_sum(t, frame) != 0xffff)
		return;
	u->flow[key % USER_FLOWS] = (struct user_flow){ key, frame[at] << 8 | frame[at + 1] };
	frame[at] = USER_LARGE_MSS >> 8;
	frame[at + 1] = USER_LARGE_MSS & 255;
	memset(frame + t->tcp + TCP_CSUM, 0, 2);
	sum = ~tcp_sum(t, frame);
	memcpy(frame + t->tcp + TCP_CSUM, &sum, 2);
}

bool user_from_guest(struct user_flows *u, struct net_in *f)
{
	struct net_tcp t;

	if (!net_hdr_check(&f->hdr, f->data, f->len, f->len))
		return false;
	if (f->hdr.gso_type != NET_GSO_NONE) {
		net_parse_tcp(&t, f->data, f->len, f->len);
		/* One large segment: its length fields are right, only the sum is missing. */
		f->len = t.end;
	}
	net_checksum_fill(&f->hdr, f->data, f->len);
	if (net_parse_tcp(&t, f->data, f->len, f->len) && f->data[t.tcp + TCP_FLAGS] & TCP_SYN)
		raise_mss(u, &t, f->data);
	return true;
}

/* --- to the guest --- */

static void fragment_ipv4(struct frame_stream *s, const uint8_t *frame, size_t len)
{
	static const struct net_hdr plain = { 0 };
	const unsigned int header = (frame[NET_ETH_LEN] & 15) * 4;
	const unsigned int start = NET_ETH_LEN + header;
	const unsigned int step = (USER_MTU - header) & ~7U;
	uint8_t buf[NET_ETH_LEN + USER_MTU], *ip = buf + NET_ETH_LEN;
	uint16_t sum;

	if (frame[12] != 8 || frame[13] != 0 || header < 20 || len < start)
		return;
	for (unsigned int at = start; at < len; at += step) {
		const unsigned int n = MIN(step, len - at);
		const unsigned int offset = (at - start) / 8;

		memcpy(buf, frame, start);
		memcpy(buf + start, frame + at, n);
		ip[2] = (header + n) >> 8;
		ip[3] = header + n;
		ip[6] = offset >> 8 | (at + n < len ? IP_MORE : 0);
		ip[7] = offset;
		ip[10] = ip[11] = 0;
		sum = ~net_fold(net_sum(ip, header, 0));
		memcpy(ip + 10, &sum, 2);
		frame_stream_queue(s, &plain, buf, start + n);
	}
}

void user_to_guest(struct user_flows *u, struct frame_stream *s, const uint8_t *frame,
		   size_t len)
{
	/* libslirp has just summed it; a small frame is the guest's to believe. */
	struct net_hdr h = { .flags = NET_F_DATA_VALID };
	uint8_t copy[NET_FRAME_MAX];
	struct net_tcp t;

	if (len <= NET_ETH_LEN + USER_MTU) {
		frame_stream_queue(s, &h, frame, len);
		return;
	}
	if (len > sizeof(copy))
		return;
	if (!net_parse_tcp(&t, frame, len, len)) {
		fragment_ipv4(s, frame, len);
		return;
	}
	memcpy(copy, frame, len);
	net_mark_large(&h, &t, copy, flow_mss(u, flow_key(&t, frame, false)));
	frame_stream_queue(s, &h, copy, len);
}

void user_tcp_to_guest(struct user_flows *u, struct frame_stream *s, uint8_t *frame, size_t len)
{
	struct net_hdr h;
	struct net_tcp t;

	if (!net_parse_tcp(&t, frame, len, len))
		return;
	net_mark_large(&h, &t, frame, flow_mss(u, flow_key(&t, frame, false)));
	if (len <= NET_ETH_LEN + USER_MTU)
		h.gso_type = h.gso_size = h.hdr_len = 0;
	frame_stream_queue(s, &h, frame, len);
}
