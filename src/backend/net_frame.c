// SPDX-License-Identifier: Apache-2.0
/* Checksums and segmentation in software; see net_frame.h. */
#include "backend/net_frame.h"

#include <string.h>

#define ETH_TYPE	12U	/* offsets */
#define TYPE_IPV4	0x0800U
#define TYPE_IPV6	0x86ddU
#define TYPE_VLAN	0x8100U
#define IPV4_LEN	20U
#define IPV6_LEN	40U
#define TCP_LEN		20U
#define PROTO_TCP	6U

#define TCP_SEQ		4U
#define TCP_FLAGS	13U
#define TCP_CSUM	16U
#define TCP_FIN		0x01U
#define TCP_PSH		0x08U
#define TCP_CWR		0x80U

static uint16_t get16(const uint8_t *p)
{
	return p[0] << 8 | p[1];
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)get16(p) << 16 | get16(p + 2);
}

static void put16(uint8_t *p, uint16_t v)
{
	p[0] = v >> 8;
	p[1] = v;
}

static void put32(uint8_t *p, uint32_t v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

/* --- checksums --- */

/* In the host's byte order: the sum's bytes come out in the order they were read in. */
uint64_t net_sum(const void *data, size_t len, uint64_t sum)
{
	const uint8_t *p = data;
	uint32_t word;
	uint16_t half;

	for (; len >= 4; len -= 4, p += 4) {
		memcpy(&word, p, 4);
		sum += word;
	}
	if (len >= 2) {
		memcpy(&half, p, 2);
		sum += half;
		p += 2;
		len -= 2;
	}
	return len ? sum + *p : sum;
}

uint16_t net_fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

static void put_sum(uint8_t *p, uint16_t sum)
{
	memcpy(p, &sum, 2);
}

/* The sum of addresses, protocol and @len, which both versions of IP put before TCP. */
static uint64_t pseudo_sum(const uint8_t *ip, bool v6, unsigned int len)
{
	uint8_t tail[8] = { [7] = PROTO_TCP };

	put32(tail, len);
	if (v6)
		return net_sum(tail, 8, net_sum(ip + 8, 32, 0));
	return net_sum(tail, 8, net_sum(ip + 12, 8, 0));
}

/* --- parsing --- */

static bool parse_ipv4(struct net_tcp *t, const uint8_t *frame, size_t have)
{
	const uint8_t *ip = frame + t->ip;
	unsigned int header, total;

	if (have < t->ip + IPV4_LEN || ip[0] >> 4 != 4)
		return false;
	header = (ip[0] & 15) * 4;
	total = get16(ip + 2);
	/* A fragment has no whole TCP header to go by. */
	if (ip[9] != PROTO_TCP || get16(ip + 6) & 0x3fff || header < IPV4_LEN || total < header)
		return false;
	t->tcp = t->ip + header;
	t->end = t->ip + total;
	return true;
}

static bool parse_ipv6(struct net_tcp *t, const uint8_t *frame, size_t have)
{
	const uint8_t *ip = frame + t->ip;

	if (have < t->ip + IPV6_LEN || ip[0] >> 4 != 6 || ip[6] != PROTO_TCP)
		return false;
	t->v6 = true;
	t->tcp = t->ip + IPV6_LEN;
	t->end = t->tcp + get16(ip + 4);
	return true;
}

bool net_parse_tcp(struct net_tcp *t, const uint8_t *frame, size_t have, size_t len)
{
	unsigned int type;

	if (have < NET_ETH_LEN + 4)
		return false;
	type = get16(frame + ETH_TYPE);
	*t = (struct net_tcp){ .ip = NET_ETH_LEN };
	if (type == TYPE_VLAN) {
		type = get16(frame + ETH_TYPE + 4);
		t->ip += 4;
	}
	if (!(type == TYPE_IPV4 && parse_ipv4(t, frame, have)) &&
	    !(type == TYPE_IPV6 && parse_ipv6(t, frame, have)))
		return false;
	if (t->end > len || t->tcp + TCP_LEN > MIN(t->end, have))
		return false;
	t->payload = t->tcp + (frame[t->tcp + 12] >> 4) * 4;
	return t->payload >= t->tcp + TCP_LEN && t->payload <= t->end;
}

bool net_hdr_check(struct net_hdr *h, const uint8_t *frame, size_t have, size_t len)
{
	const unsigned int type = h->gso_type & ~NET_GSO_ECN;
	struct net_tcp t;

	if (h->flags & NET_F_NEEDS_CSUM) {
		if (h->csum_start < NET_ETH_LEN || h->csum_start + h->csum_offset + 2UL > len)
			return false;
	} else {
		h->csum_start = h->csum_offset = 0;
	}
	h->flags &= NET_F_NEEDS_CSUM | NET_F_DATA_VALID;
	h->num_buffers = 0;
	if (h->gso_type == NET_GSO_NONE) {
		h->gso_size = h->hdr_len = 0;
		return true;
	}
	if ((type != NET_GSO_TCPV4 && type != NET_GSO_TCPV6) || h->gso_size < NET_GSO_SIZE_MIN ||
	    !net_parse_tcp(&t, frame, have, len) || t.v6 != (type == NET_GSO_TCPV6))
		return false;
	/* The sum of a large frame is where TCP has it, or is made there. */
	if (!(h->flags & NET_F_NEEDS_CSUM) || h->csum_start != t.tcp ||
	    h->csum_offset != TCP_CSUM)
		return false;
	h->hdr_len = t.payload;
	return true;
}

void net_checksum_fill(struct net_hdr *h, uint8_t *frame, size_t len)
{
	uint16_t sum;

	if (!(h->flags & NET_F_NEEDS_CSUM))
		return;
	sum = ~net_fold(net_sum(frame + h->csum_start, len - h->csum_start, 0));
	/* Zero means "none" in UDP; for the others both are the same number. */
	put_sum(frame + h->csum_start + h->csum_offset, sum ? sum : 0xffff);
	h->flags = NET_F_DATA_VALID;
	h->csum_start = h->csum_offset = 0;
}

void net_mark_large(struct net_hdr *h, const struct net_tcp *t, uint8_t *frame, uint16_t mss)
{
	put_sum(frame + t->tcp + TCP_CSUM,
		net_fold(pseudo_sum(frame + t->ip, t->v6, t->end - t->tcp)));
	*h = (struct net_hdr){
		.flags = NET_F_NEEDS_CSUM, .gso_type = t->v6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4,
		.gso_size = mss, .hdr_len = t->payload, .csum_start = t->tcp,
		.csum_offset = TCP_CSUM,
	};
}

/* --- segmentation --- */

void net_segments_begin(struct net_segments *s, const struct net_in *f)
{
	*s = (struct net_segments){ .frame = f->data, .size = f->hdr.gso_size };
	net_parse_tcp(&s->tcp, f->data, f->len, f->len);
	s->at = s->tcp.payload;
}

size_t net_segments_room(const struct net_segments *s)
{
	return s->tcp.payload + MIN(s->size, s->tcp.end - s->tcp.payload);
}

/* Length, number and header checksum of segment @s->index. */
static void set_ip(const struct net_segments *s, uint8_t *buf, unsigned int len)
{
	uint8_t *ip = buf + s->tcp.ip;

	if (s->tcp.v6) {
		put16(ip + 4, len - s->tcp.tcp);
		return;
	}
	put16(ip + 2, len - s->tcp.ip);
	put16(ip + 4, get16(ip + 4) + s->index);
	put16(ip + 10, 0);
	put_sum(ip + 10, ~net_fold(net_sum(ip, s->tcp.tcp - s->tcp.ip, 0)));
}

static void set_tcp(const struct net_segments *s, uint8_t *buf, unsigned int len, bool last)
{
	uint8_t *tcp = buf + s->tcp.tcp;
	const unsigned int tcp_len = len - s->tcp.tcp;

	put32(tcp + TCP_SEQ, get32(tcp + TCP_SEQ) + (s->at - s->tcp.payload));
	if (!last)
		tcp[TCP_FLAGS] &= ~(TCP_FIN | TCP_PSH);
	if (s->index)
		tcp[TCP_FLAGS] &= ~TCP_CWR;
	put16(tcp + TCP_CSUM, 0);
	put_sum(tcp + TCP_CSUM, ~net_fold(net_sum(tcp, tcp_len,
				pseudo_sum(buf + s->tcp.ip, s->tcp.v6, tcp_len))));
}

size_t net_segments_next(struct net_segments *s, uint8_t *buf)
{
	const unsigned int n = MIN(s->size, s->tcp.end - s->at);
	const unsigned int len = s->tcp.payload + n;

	/* A frame without payload is one segment all the same. */
	if (!n && s->index)
		return 0;
	memcpy(buf, s->frame, s->tcp.payload);
	memcpy(buf + s->tcp.payload, s->frame + s->at, n);
	set_ip(s, buf, len);
	set_tcp(s, buf, len, s->at + n == s->tcp.end);
	s->at += n;
	s->index++;
	return len;
}
