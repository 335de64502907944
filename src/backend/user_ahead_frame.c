// SPDX-License-Identifier: Apache-2.0
/* TCP segments read, changed and made for the acknowledging ahead; see user_ahead.h. */
#include "backend/user_ahead_priv.h"

#define TCP_HEADER	20U
#define OFF_SEQ		4U
#define OFF_ACK		8U
#define OFF_DATA	12U	/* 4 bits: words of header */
#define OFF_FLAGS	13U
#define OFF_WIN		14U
#define OFF_CSUM	16U
#define OPTION_END	0U
#define OPTION_NOP	1U
#define OPTION_SCALE	3U
#define SCALE_MAX	14U
#define TTL		64U

static uint16_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, unsigned int v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

bool ahead_parse(struct ahead_segment *s, const uint8_t *frame, size_t len, bool from_guest)
{
	const uint8_t *ip, *tcp;
	unsigned int n, first;

	if (!net_parse_tcp(&s->at, frame, len, len))
		return false;
	ip = frame + s->at.ip + (s->at.v6 ? 8 : 12);
	tcp = frame + s->at.tcp;
	n = s->at.v6 ? 16 : 4;
	first = from_guest ? 0 : 1;	/* which of the two ends is the guest's */
	memset(&s->id, 0, sizeof(s->id));
	s->id.v6 = s->at.v6;
	memcpy(s->id.guest, ip + first * n, n);
	memcpy(s->id.host, ip + !first * n, n);
	memcpy(s->id.guest_port, tcp + 2 * first, 2);
	memcpy(s->id.host_port, tcp + 2 * !first, 2);
	s->seq = get32(tcp + OFF_SEQ);
	s->ack = get32(tcp + OFF_ACK);
	s->win = get16(tcp + OFF_WIN);
	s->flags = tcp[OFF_FLAGS];
	s->len = s->at.end - s->at.payload;
	return true;
}

int ahead_find_scale(const struct ahead_segment *s, const uint8_t *frame)
{
	unsigned int at = s->at.tcp + TCP_HEADER;

	while (at + 3 <= s->at.payload && frame[at] != OPTION_END) {
		if (frame[at] == OPTION_NOP) {
			at++;
			continue;
		}
		if (frame[at] == OPTION_SCALE && frame[at + 1] == 3)
			return MIN(frame[at + 2], SCALE_MAX);
		if (frame[at + 1] < 2)
			break;
		at += frame[at + 1];
	}
	return -1;
}

static void sum_ip(uint8_t *ip)
{
	uint16_t sum;

	put16(ip + 10, 0);
	sum = ~net_fold(net_sum(ip, (ip[0] & 15) * 4, 0));
	memcpy(ip + 10, &sum, 2);
}

/* The sum of the pseudo header of @len bytes of TCP. */
static uint64_t pseudo_sum(const uint8_t *ip, bool v6, unsigned int len)
{
	const uint8_t tail[4] = { 0, 6, len >> 8, len };

	return net_sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8, net_sum(tail, 4, 0));
}

static void sum_tcp(uint8_t *ip, bool v6, uint8_t *tcp, unsigned int len)
{
	uint16_t sum;

	put16(tcp + OFF_CSUM, 0);
	sum = ~net_fold(net_sum(tcp, len, pseudo_sum(ip, v6, len)));
	memcpy(tcp + OFF_CSUM, &sum, 2);
}

size_t ahead_add_scale(const struct ahead_segment *s, const uint8_t *frame, size_t len,
		       uint8_t *out)
{
	static const uint8_t option[4] = { OPTION_SCALE, 3, 0, OPTION_NOP };
	const unsigned int words = frame[s->at.tcp + OFF_DATA] >> 4;
	uint8_t *ip = out + s->at.ip, *tcp = out + s->at.tcp;
	const unsigned int tcp_len = s->at.payload - s->at.tcp + sizeof(option);

	/* A shift that is there already, or data, which libslirp's SYN never has. */
	if (words == 15 || s->len || len > NET_ETH_LEN + 256 || ahead_find_scale(s, frame) >= 0)
		return 0;
	/* In front of the others, so that none of these can hide it. */
	memcpy(out, frame, s->at.tcp + TCP_HEADER);
	memcpy(tcp + TCP_HEADER, option, sizeof(option));
	memcpy(tcp + TCP_HEADER + sizeof(option), frame + s->at.tcp + TCP_HEADER,
	       s->at.payload - s->at.tcp - TCP_HEADER);
	tcp[OFF_DATA] = (words + 1) << 4 | (tcp[OFF_DATA] & 15);
	if (s->at.v6) {
		put16(ip + 4, get16(ip + 4) + sizeof(option));
	} else {
		put16(ip + 2, get16(ip + 2) + sizeof(option));
		sum_ip(ip);
	}
	sum_tcp(ip, s->at.v6, tcp, tcp_len);
	return s->at.tcp + tcp_len;
}

/* RFC 1624: the checksum at @sum follows a change of the 16 bits at @p. */
static void change16(uint8_t *sum, uint8_t *p, uint16_t to)
{
	uint32_t s = (uint16_t)~get16(sum) + (uint16_t)~get16(p) + (uint32_t)to;

	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	put16(sum, ~s);
	put16(p, to);
}

void ahead_rewrite(const struct ahead_segment *s, uint8_t *frame, uint32_t seq, uint32_t ack,
		   uint16_t win)
{
	uint8_t *tcp = frame + s->at.tcp, *sum = tcp + OFF_CSUM;

	change16(sum, tcp + OFF_SEQ, seq >> 16);
	change16(sum, tcp + OFF_SEQ + 2, seq);
	change16(sum, tcp + OFF_ACK, ack >> 16);
	change16(sum, tcp + OFF_ACK + 2, ack);
	change16(sum, tcp + OFF_WIN, win);
}

static uint8_t *build_ip(const struct ahead_flow *f, bool from_guest, uint8_t *ip, uint32_t len)
{
	const uint8_t *from = from_guest ? f->id.guest : f->id.host;
	const uint8_t *to = from_guest ? f->id.host : f->id.guest;

	if (f->id.v6) {
		memset(ip, 0, 40);
		ip[0] = 0x60;
		put16(ip + 4, len);
		ip[6] = 6;
		ip[7] = TTL;
		memcpy(ip + 8, from, 16);
		memcpy(ip + 24, to, 16);
		return ip + 40;
	}
	memset(ip, 0, 20);
	ip[0] = 0x45;
	put16(ip + 2, 20 + len);
	ip[6] = 0x40;	/* not to be fragmented */
	ip[8] = TTL;
	ip[9] = 6;
	memcpy(ip + 12, from, 4);
	memcpy(ip + 16, to, 4);
	sum_ip(ip);
	return ip + 20;
}

uint8_t *ahead_build(const struct ahead_flow *f, bool from_guest, const struct ahead_header *h,
		     uint8_t *frame, uint32_t len, bool sum)
{
	uint8_t *ip = frame + NET_ETH_LEN, *tcp;
	uint16_t pseudo;

	memcpy(frame, from_guest ? f->to_host : f->to_guest, NET_ETH_LEN);
	tcp = build_ip(f, from_guest, ip, TCP_HEADER + len);
	memset(tcp, 0, TCP_HEADER);
	memcpy(tcp, from_guest ? f->id.guest_port : f->id.host_port, 2);
	memcpy(tcp + 2, from_guest ? f->id.host_port : f->id.guest_port, 2);
	put32(tcp + OFF_SEQ, h->seq);
	put32(tcp + OFF_ACK, h->ack);
	tcp[OFF_DATA] = TCP_HEADER / 4 << 4;
	tcp[OFF_FLAGS] = h->flags;
	put16(tcp + OFF_WIN, h->win);
	if (sum) {
		sum_tcp(ip, f->id.v6, tcp, TCP_HEADER);
	} else {
		pseudo = net_fold(pseudo_sum(ip, f->id.v6, TCP_HEADER + len));
		memcpy(tcp + OFF_CSUM, &pseudo, 2);
	}
	return tcp + TCP_HEADER;
}
