/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network back end for tests: keeps what it is sent, gives what it is told to; and frames to
 * try it with.
 */
#ifndef VIREO_TESTS_FAKE_NET_H
#define VIREO_TESTS_FAKE_NET_H

#include "backend/net.h"
#include "unit.h"

#include <stdlib.h>
#include <string.h>

#define FAKE_FRAMES	64U

struct fake_net {
	struct net_backend net;
	struct loop *loop;
	unsigned int room;		/* frames that it takes yet */
	unsigned int count;		/* frames that it took */
	struct net_hdr hdr[FAKE_FRAMES];
	uint8_t *data[FAKE_FRAMES];
	size_t len[FAKE_FRAMES];
	unsigned int wanted;		/* calls of input_wanted */
	bool destroyed;
	/* What fake_give() gives, on the loop's thread. */
	struct loop_work work;
	struct net_in *give;
	unsigned int give_count, taken;
};

static inline int fake_attach(struct net_backend *b, struct loop *loop, struct err *e)
{
	(void)e;
	container_of(b, struct fake_net, net)->loop = loop;
	return 0;
}

static inline unsigned int fake_send(struct net_backend *b, const struct net_out *frames,
				     unsigned int count)
{
	struct fake_net *f = container_of(b, struct fake_net, net);
	unsigned int i;

	for (i = 0; i < count && f->room; i++, f->room--) {
		const unsigned int n = f->count++ % FAKE_FRAMES;
		size_t at = 0;

		free(f->data[n]);
		f->hdr[n] = frames[i].hdr;
		f->len[n] = frames[i].len;
		f->data[n] = malloc(frames[i].len);
		for (unsigned int p = 0; p < frames[i].count; p++) {
			memcpy(f->data[n] + at, frames[i].iov[p].iov_base, frames[i].iov[p].iov_len);
			at += frames[i].iov[p].iov_len;
		}
		assert_int_equal(at, frames[i].len);
	}
	return i;
}

static inline void fake_input_wanted(struct net_backend *b)
{
	container_of(b, struct fake_net, net)->wanted++;
}

/* The struct is the test's; fake_net_done() frees what is in it. */
static inline void fake_destroy(struct net_backend *b)
{
	container_of(b, struct fake_net, net)->destroyed = true;
}

static inline void fake_net_done(struct fake_net *f)
{
	for (unsigned int i = 0; i < FAKE_FRAMES; i++)
		free(f->data[i]);
}

static inline void fake_deliver(void *arg)
{
	struct fake_net *f = arg;

	f->taken = f->net.front->receive(f->net.front_dev, f->give, f->give_count);
}

static inline void fake_net_init(struct fake_net *f)
{
	static const struct net_backend_ops ops = {
		.name = "fake", .attach = fake_attach, .send = fake_send,
		.input_wanted = fake_input_wanted, .destroy = fake_destroy,
	};

	memset(f, 0, sizeof(*f));
	f->net.ops = &ops;
	f->room = ~0U;
	f->work = (struct loop_work){ .run = fake_deliver, .arg = f };
}

/* --- frames --- */

static inline void be16(uint8_t *p, unsigned int v)
{
	p[0] = v >> 8;
	p[1] = v;
}

/* The plain sum of 16-bit words, as the RFC has it. */
static inline uint16_t plain_sum(const uint8_t *p, size_t len, uint32_t sum)
{
	for (size_t i = 0; i < len; i++)
		sum += i % 2 ? p[i] : p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* What TCP's sum over a frame's segment comes to, the pseudo header included. */
static inline uint16_t tcp_sum_of(const uint8_t *frame, bool v6, size_t len)
{
	const uint8_t *ip = frame + 14;
	const size_t tcp = v6 ? 40 : 20, n = len - 14 - tcp;
	uint32_t sum = plain_sum(ip + (v6 ? 8 : 12), v6 ? 32 : 8, 6 + n);

	return plain_sum(ip + tcp, n, sum);
}

/* A TCP frame with @n bytes of payload (byte i is i * 7), sums not filled in; its length. */
static inline size_t make_tcp(uint8_t *frame, bool v6, size_t n, uint8_t flags)
{
	const size_t tcp = 14 + (v6 ? 40 : 20);
	uint8_t *ip = frame + 14;

	memset(frame, 0, tcp + 20);
	memcpy(frame, "\x52\x54\0\0\0\1\x52\x54\0\0\0\2", 12);
	be16(frame + 12, v6 ? 0x86dd : 0x0800);
	if (v6) {
		ip[0] = 0x60;
		be16(ip + 4, 20 + n);
		ip[6] = 6;
		ip[7] = 64;
		for (int i = 0; i < 32; i++)
			ip[8 + i] = 0x20 + i;
	} else {
		ip[0] = 0x45;
		be16(ip + 2, 40 + n);
		be16(ip + 4, 0x1234);
		ip[8] = 64;
		ip[9] = 6;
		memcpy(ip + 12, "\x0a\0\2\x0f\x0a\0\2\2", 8);
		be16(ip + 10, ~plain_sum(ip, 20, 0));
	}
	be16(frame + tcp, 40000);
	be16(frame + tcp + 2, 80);
	be16(frame + tcp + 6, 0xfff0);	/* the sequence number crosses 16 bits */
	frame[tcp + 12] = 0x50;
	frame[tcp + 13] = flags;
	for (size_t i = 0; i < n; i++)
		frame[tcp + 20 + i] = i * 7;
	return tcp + 20 + n;
}

/* The header of such a frame that is to be cut; puts the pseudo header's sum in place. */
static inline struct net_hdr tcp_hdr(uint8_t *frame, bool v6, size_t len, uint16_t mss)
{
	const size_t tcp = 14 + (v6 ? 40 : 20);
	uint32_t pseudo = plain_sum(frame + 14 + (v6 ? 8 : 12), v6 ? 32 : 8, 6 + len - tcp);

	be16(frame + tcp + 16, plain_sum(NULL, 0, pseudo));
	return (struct net_hdr){
		.flags = NET_F_NEEDS_CSUM, .gso_type = mss ? (v6 ? NET_GSO_TCPV6 : NET_GSO_TCPV4) : 0,
		.gso_size = mss, .hdr_len = tcp + 20, .csum_start = tcp, .csum_offset = 16,
	};
}

#endif
