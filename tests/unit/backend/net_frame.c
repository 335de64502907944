// SPDX-License-Identifier: Apache-2.0
/*
 * Offloads in software: checksums, segments of large TCP frames, headers that are wrong; and
 * random ones of those, for the sanitizers (FUZZ_ROUNDS, FUZZ_SEED).
 */
#include "fake_net.h"

#include "backend/net_frame.h"

static void fills_checksum(void **state)
{
	uint8_t frame[2000];

	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		for (size_t n = 0; n < 20; n++) {
			size_t len = make_tcp(frame, v6, n, 0x18);
			struct net_hdr h = tcp_hdr(frame, v6, len, 0);

			assert_true(net_hdr_check(&h, frame, len, len));
			net_checksum_fill(&h, frame, len);
			assert_int_equal(tcp_sum_of(frame, v6, len), 0xffff);
			assert_int_equal(h.flags, NET_F_DATA_VALID);
			assert_int_equal(h.csum_start, 0);
		}
	}
}

static void check_segments(bool v6, size_t n, uint16_t mss)
{
	static uint8_t frame[NET_FRAME_MAX], buf[NET_FRAME_MAX], got[NET_FRAME_MAX];
	const size_t tcp = v6 ? 54 : 34, head = tcp + 20;
	size_t len = make_tcp(frame, v6, n, 0x99), at = 0, part;	/* CWR ACK PSH FIN */
	struct net_hdr h = tcp_hdr(frame, v6, len, mss);
	struct net_in f = { h, frame, len };
	struct net_segments s;
	unsigned int i;

	assert_true(net_hdr_check(&f.hdr, frame, len, len));
	net_segments_begin(&s, &f);
	for (i = 0; (part = net_segments_next(&s, buf)); i++) {
		const bool last = at + part - head == n;
		uint32_t seq;

		assert_true(part <= net_segments_room(&s));
		assert_int_equal(part - head, last ? n - at : mss);
		assert_int_equal(tcp_sum_of(buf, v6, part), 0xffff);
		if (!v6) {
			assert_int_equal(plain_sum(buf + 14, 20, 0), 0xffff);
			assert_int_equal(buf[18] << 8 | buf[19], 0x1234 + i);
		}
		seq = buf[tcp + 4] << 24 | buf[tcp + 5] << 16 | buf[tcp + 6] << 8 | buf[tcp + 7];
		assert_int_equal(seq, 0xfff0 + at);
		assert_int_equal(buf[tcp + 13], 0x10 | (i ? 0 : 0x80) | (last ? 0x09 : 0));
		memcpy(got + at, buf + head, part - head);
		at += part - head;
	}
	assert_int_equal(at, n);
	assert_int_equal(i, n ? (n + mss - 1) / mss : 1);
	assert_memory_equal(got, frame + head, n);
}

static void cuts_large_frames(void **state)
{
	(void)state;
	for (int v6 = 0; v6 < 2; v6++) {
		check_segments(v6, 0, 1460);
		check_segments(v6, 1, 1460);
		check_segments(v6, 1460, 1460);
		check_segments(v6, 1461, 1460);
		check_segments(v6, 5001, 536);
		check_segments(v6, 65000, 1448);
	}
}

static void marks_what_it_can_cut(void **state)
{
	static uint8_t frame[9000];
	size_t len = make_tcp(frame, false, 8000, 0x10);
	struct net_hdr h;
	struct net_tcp t;

	(void)state;
	assert_true(net_parse_tcp(&t, frame, len, len));
	net_mark_large(&h, &t, frame, 1460);
	assert_true(net_hdr_check(&h, frame, len, len));
	net_checksum_fill(&h, frame, len);
	assert_int_equal(tcp_sum_of(frame, false, len), 0xffff);
}

static bool passes(struct net_hdr h, uint8_t *frame, size_t len)
{
	return net_hdr_check(&h, frame, len, len);
}

static void refuses_wrong_headers(void **state)
{
	uint8_t frame[4000], other[4000];
	const size_t len = make_tcp(frame, false, 3000, 0x10);
	const struct net_hdr good = tcp_hdr(frame, false, len, 1460);
	struct net_hdr h = good;

	(void)state;
	assert_true(passes(good, frame, len));
	h.csum_start = len - 17;
	assert_false(passes(h, frame, len));
	h.csum_start = 65535;
	h.csum_offset = 65535;
	assert_false(passes(h, frame, len));
	h = good;
	h.csum_offset = 14;
	assert_false(passes(h, frame, len));
	h = good;
	h.flags = 0;
	assert_false(passes(h, frame, len));
	h = good;
	h.gso_size = 0;
	assert_false(passes(h, frame, len));
	h.gso_size = NET_GSO_SIZE_MIN - 1;
	assert_false(passes(h, frame, len));
	h = good;
	h.gso_type = NET_GSO_TCPV6;
	assert_false(passes(h, frame, len));
	h.gso_type = 3;		/* UDP fragmentation */
	assert_false(passes(h, frame, len));
	for (size_t short_by = 1; short_by < len; short_by += 7)
		assert_false(passes(good, frame, len - short_by));
	memcpy(other, frame, len);
	other[20] = 0x20;	/* a fragment */
	assert_false(passes(good, other, len));
	memcpy(other, frame, len);
	other[34 + 12] = 0x40;	/* TCP's header is too short */
	assert_false(passes(good, other, len));
	other[34 + 12] = 0xf0;
	be16(other + 16, 20 + 40);	/* and here longer than the packet */
	assert_false(passes(good, other, len));
}

/* Bits of a right frame and header turned at random: whatever passes must be safe to use. */
static void random_frames(void **state)
{
	const char *env = getenv("FUZZ_ROUNDS"), *seed = getenv("FUZZ_SEED");
	unsigned long rounds = env ? strtoul(env, NULL, 0) : 20000;
	uint8_t *frame = malloc(9000), *buf = malloc(NET_FRAME_MAX);

	(void)state;
	srandom(seed ? strtoul(seed, NULL, 0) : 7);
	while (rounds--) {
		const bool v6 = random() & 1;
		size_t len = make_tcp(frame, v6, random() % 8000, random());
		struct net_hdr h = tcp_hdr(frame, v6, len, random() % 3000);
		struct net_segments s;
		unsigned int count = 0;
		uint8_t *exact;

		for (long i = random() % 4; i > 0; i--)
			((uint8_t *)&h)[random() % sizeof(h)] ^= 1 << random() % 8;
		for (long i = random() % 4; i > 0; i--)
			frame[random() % 80] ^= 1 << random() % 8;
		len -= random() % 4 ? 0 : random() % len;
		exact = memcpy(malloc(len + 1), frame, len);
		if (net_hdr_check(&h, exact, len, len)) {
			struct net_in f = { h, exact, len };

			if (h.gso_type != NET_GSO_NONE) {
				net_segments_begin(&s, &f);
				while (net_segments_next(&s, buf))
					assert_true(++count <= 8000 / NET_GSO_SIZE_MIN + 1);
			}
			net_checksum_fill(&h, exact, len);
		}
		free(exact);
	}
	free(frame);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fills_checksum),
		cmocka_unit_test(cuts_large_frames),
		cmocka_unit_test(marks_what_it_can_cut),
		cmocka_unit_test(refuses_wrong_headers),
		cmocka_unit_test(random_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
