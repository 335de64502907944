// SPDX-License-Identifier: Apache-2.0
/*
 * Acknowledging ahead, between a libslirp and a guest that are simulated, with a clock of their
 * own: streams arrive whole and once, within the guest's window, although segments get lost,
 * windows shut and buffers are full; who does not scale is left alone; and whatever either side
 * sends, nothing breaks (FUZZ_SECONDS, FUZZ_SEED).
 */
#include "fake_net.h"

#include "backend/net_frame.h"
#include "backend/user_ahead.h"

#include <stdlib.h>
#include <time.h>

#define FIN	1
#define SYN	2
#define RST	4
#define ACK	16
#define SHIFT	7
#define SLIRP_MSS	40000U
#define HOST_SEQ	0xfffff000U	/* it wraps on the way */
#define GUEST_SEQ	0x7fffff00U

struct sim {
	struct user_ahead *ahead;
	bool v6;
	int64_t now;
	uint64_t seed;
	unsigned int loss;		/* one of so many segments to the guest; 0: none */
	unsigned int full;		/* one of so many times there is no room */
	/* libslirp */
	uint32_t size;			/* of the stream */
	uint32_t una, nxt, win;		/* of it; una: acknowledged in the guest's name */
	bool fin_acked, slirp_reset;
	bool forgets;			/* it has no more of the connection after its FIN */
	uint32_t refill;		/* the guest's window when it reads again */
	bool eager;			/* it sends when it is acknowledged, not only when asked */
	unsigned int guest_bytes;	/* that came from the guest */
	/* the guest */
	uint32_t rcv, told, window, most; /* told: acknowledged; most: bytes were not, at once */
	bool fin, silent, reset;
	unsigned int dups, lost;
	bool ack_due;
	bool guest_repeats;		/* its own data, for want of an acknowledgement */
	uint8_t buf[NET_FRAME_MAX], to_guest[NET_FRAME_MAX];
};

static uint32_t rnd(struct sim *s, uint32_t n)
{
	s->seed = s->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (s->seed >> 33) % n;
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
}

static uint8_t byte_of(uint32_t at)
{
	return at * 7 + (at >> 8) * 3 + (at >> 16);
}

/* A segment with all sums filled in; @options: of a SYN. */
static size_t make(struct sim *s, uint8_t *f, bool from_guest, uint32_t seq, uint32_t ack,
		   uint16_t win, uint8_t flags, const uint8_t *options, unsigned int option_len,
		   size_t count)
{
	const unsigned int tcp = s->v6 ? 54 : 34, n = s->v6 ? 16 : 4;
	size_t len = make_tcp(f, s->v6, option_len + count, flags);
	uint8_t *ip = f + 14, *a = ip + (s->v6 ? 8 : 12), swap[16];

	if (!from_guest) {
		memcpy(swap, a, n);
		memcpy(a, a + n, n);
		memcpy(a + n, swap, n);
		be16(f + tcp, 80);
		be16(f + tcp + 2, 40000);
	}
	be16(f + tcp + 4, seq >> 16);
	be16(f + tcp + 6, seq);
	be16(f + tcp + 8, ack >> 16);
	be16(f + tcp + 10, ack);
	f[tcp + 12] = (5 + option_len / 4) << 4;
	be16(f + tcp + 14, win);
	if (option_len)
		memcpy(f + tcp + 20, options, option_len);
	be16(f + tcp + 16, (uint16_t)~tcp_sum_of(f, s->v6, len));
	return len;
}

/* --- libslirp's side --- */

static void slirp_sends(struct sim *s);
static void slirp_resets(struct sim *s);

static void slirp_gets(void *arg, const uint8_t *f, size_t len)
{
	struct sim *s = arg;
	struct net_tcp t;
	uint32_t ack;

	assert_true(net_parse_tcp(&t, f, len, len));
	assert_int_equal(tcp_sum_of(f, s->v6, len), 0xffff);
	if (s->forgets && s->fin_acked) {
		slirp_resets(s);
		return;
	}
	ack = get32(f + t.tcp + 8);
	if (f[t.tcp + 13] & RST)
		s->slirp_reset = true;
	s->guest_bytes += t.end - t.payload;
	if (!(f[t.tcp + 13] & ACK) || f[t.tcp + 13] & SYN)
		return;
	/* Never of what was not sent. */
	assert_true(ack - s->una <= s->nxt + 1 - s->una);
	if (ack == HOST_SEQ + 1 + s->size + 1)
		s->fin_acked = true;
	s->una = ack;
	s->win = f[t.tcp + 14] << 8 | f[t.tcp + 15];
	if (s->eager)
		slirp_sends(s);
}

static void from_slirp(struct sim *s, size_t len, bool taken)
{
	const uint8_t *out;
	size_t n;

	assert_int_equal(user_ahead_from_slirp(s->ahead, s->buf, len, &out, &n), taken);
}

static void slirp_resets(struct sim *s)
{
	const size_t len = make(s, s->buf, false, s->nxt + 1, GUEST_SEQ + 1, 0, RST | ACK, NULL, 0, 0);
	const uint8_t *out;
	size_t n;

	s->reset |= !user_ahead_from_slirp(s->ahead, s->buf, len, &out, &n);
}

static void slirp_sends(struct sim *s)
{
	const uint32_t end = HOST_SEQ + 1 + s->size;
	const unsigned int payload = s->v6 ? 74 : 54;

	while (s->nxt != end && s->nxt - s->una < s->win) {
		const uint32_t room = s->win - (s->nxt - s->una);
		const uint32_t n = MIN(MIN(SLIRP_MSS, room), end - s->nxt);
		size_t len;

		make(s, s->buf, false, s->nxt, GUEST_SEQ + 1, 60000, ACK, NULL, 0, n);
		for (uint32_t i = 0; i < n; i++)
			s->buf[payload + i] = byte_of(s->nxt + i);
		len = payload + n;
		s->nxt += n;
		from_slirp(s, len, true);
	}
	if (s->nxt == end && !s->fin_acked)
		from_slirp(s, make(s, s->buf, false, end, GUEST_SEQ + 1, 60000, FIN | ACK, NULL, 0, 0),
			   true);
}

/* --- the guest's side --- */

static void guest_sends(struct sim *s, uint32_t seq, uint8_t flags, size_t count)
{
	size_t len;

	s->told = s->rcv;
	len = make(s, s->buf, true, seq, s->rcv, s->window >> SHIFT, flags, NULL, 0, count);

	if (user_ahead_from_guest(s->ahead, s->buf, len))
		slirp_gets(s, s->buf, len);
}

static bool guest_gets(void *arg, uint8_t *f, size_t len)
{
	struct sim *s = arg;
	struct net_hdr h;
	struct net_tcp t;
	uint32_t seq, n;

	if (s->full && !rnd(s, s->full))
		return false;
	assert_true(net_parse_tcp(&t, f, len, len));
	net_mark_large(&h, &t, f, 1460);
	assert_true(net_hdr_check(&h, f, len, len));
	net_checksum_fill(&h, f, len);
	assert_int_equal(tcp_sum_of(f, s->v6, len), 0xffff);
	if (s->loss && !rnd(s, s->loss)) {
		s->lost++;
		return true;
	}
	seq = get32(f + t.tcp + 4);
	n = t.end - t.payload;
	if ((int32_t)(seq + n - s->told) > (int32_t)s->most)
		s->most = seq + n - s->told;
	s->reset |= f[t.tcp + 13] & RST;
	if (seq != s->rcv || s->silent) {
		s->dups += n && (int32_t)(seq - s->rcv) < 0;
		s->ack_due |= n;
		return true;
	}
	/* One byte beyond a window that is shut is a probe. */
	if (n > s->window) {
		assert_true(n == 1 || s->lost || s->full);
		s->ack_due = true;
		return true;
	}
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(f[t.payload + i], byte_of(seq + i));
	s->rcv += n;
	s->window -= n;
	if (f[t.tcp + 13] & FIN) {
		s->fin = true;
		s->rcv++;
	}
	s->ack_due |= n || s->fin;
	return true;
}

static int64_t sim_now(void *arg)
{
	return ((struct sim *)arg)->now;
}

/* --- a connection --- */

static const struct user_ahead_ops ops = {
	.to_slirp = slirp_gets, .to_guest = guest_gets, .now = sim_now,
};
static const uint8_t guest_options[] = { 2, 4, 5, 0xb4, 1, 3, 3, SHIFT };
static const uint8_t slirp_options[] = { 2, 4, 5, 0xb4 };

static struct sim *start(bool v6)
{
	struct sim *s = calloc(1, sizeof(*s));

	assert_non_null(s);
	s->v6 = v6;
	s->seed = 5;
	s->window = s->refill = 1 << 20;
	s->una = s->nxt = HOST_SEQ + 1;
	s->rcv = s->told = HOST_SEQ + 1;
	s->win = 60000;
	s->ahead = user_ahead_create(&ops, s);
	assert_non_null(s->ahead);
	return s;
}

static void stop(struct sim *s)
{
	user_ahead_destroy(s->ahead);
	free(s);
}

/* libslirp's SYN, as the guest gets it. */
static void slirp_syn(struct sim *s, uint8_t flags, bool scaled)
{
	size_t len = make(s, s->buf, false, HOST_SEQ, flags & ACK ? GUEST_SEQ + 1 : 0, 60000, flags,
			  slirp_options, sizeof(slirp_options), 0), n;
	const uint8_t *out;

	assert_false(user_ahead_from_slirp(s->ahead, s->buf, len, &out, &n));
	assert_int_equal(n, scaled ? len + 4 : len);
	memcpy(s->to_guest, out, n);
	assert_int_equal(tcp_sum_of(s->to_guest, s->v6, n), 0xffff);
	if (!s->v6)
		assert_int_equal(plain_sum(s->to_guest + 14, 20, 0), 0xffff);
	if (scaled)
		assert_memory_equal(s->to_guest + (s->v6 ? 74 : 54), "\3\3\0\1\2\4\5\264", 8);
}

/* The guest opens a connection, or somebody does through a forwarded port. */
static void shake_hands(struct sim *s, bool from_guest)
{
	size_t len;

	if (from_guest) {
		len = make(s, s->buf, true, GUEST_SEQ, 0, 64000, SYN, guest_options,
			   sizeof(guest_options), 0);
		assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
		slirp_syn(s, SYN | ACK, true);
		/* Sent once more before the answer came. */
		len = make(s, s->buf, true, GUEST_SEQ, 0, 64000, SYN, guest_options,
			   sizeof(guest_options), 0);
		assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
		len = make(s, s->buf, true, GUEST_SEQ + 1, HOST_SEQ + 1, s->window >> SHIFT, ACK, NULL,
			   0, 0);
		/* libslirp needs this one. */
		assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
		return;
	}
	slirp_syn(s, SYN, true);
	len = make(s, s->buf, true, GUEST_SEQ, HOST_SEQ + 1, 64000, SYN | ACK, guest_options,
		   sizeof(guest_options), 0);
	assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
	from_slirp(s, make(s, s->buf, false, HOST_SEQ + 1, GUEST_SEQ + 1, 60000, ACK, NULL, 0, 0), true);
	guest_sends(s, GUEST_SEQ + 1, ACK, 0);
}

/* One step: libslirp sends what it may, the guest reads and answers; time goes on. */
static void step(struct sim *s)
{
	slirp_sends(s);
	user_ahead_run(s->ahead);
	if (s->silent || !s->ack_due) {
		s->now += 50;
		if (!s->silent && s->window < s->refill / 4) {
			s->window = s->refill;	/* the program reads again: a window update */
			guest_sends(s, GUEST_SEQ + 1, ACK, 0);
		}
		return;
	}
	s->ack_due = false;
	guest_sends(s, GUEST_SEQ + 1, ACK, s->guest_repeats && s->fin_acked && !s->fin ? 1 : 0);
	s->now++;
}

static void transfer(struct sim *s, uint32_t size, bool from_guest)
{
	unsigned int steps = 0;

	s->size = size;
	shake_hands(s, from_guest);
	s->eager = true;
	while (!s->fin && ++steps < 100000)
		step(s);
	assert_true(s->fin);
	assert_int_equal(s->rcv, HOST_SEQ + 1 + size + 1);
	assert_true(s->fin_acked);
	assert_false(s->reset || s->slirp_reset);
	user_ahead_run(s->ahead);
	assert_true(user_ahead_deadline(s->ahead) == INT64_MAX);
}

static void carries(void **state)
{
	(void)state;
	for (unsigned int kind = 0; kind < 4; kind++) {
		struct sim *s = start(kind & 1);

		transfer(s, 5000000, kind & 2);
		assert_int_equal(s->dups, 0);
		/* More than libslirp's window was on its way. */
		assert_true(s->most > 300000);
		stop(s);
	}
}

static void survives_losses(void **state)
{
	unsigned int lost = 0;

	(void)state;
	for (unsigned int seed = 0; seed < 40; seed++) {
		struct sim *s = start(seed & 1);

		s->seed = seed;
		s->loss = 3 + seed % 20;
		s->full = seed % 3 ? 0 : 4;
		transfer(s, 3000000, seed & 2);
		lost += s->lost;
		stop(s);
	}
	assert_true(lost > 100);
}

/* A connection without data has a FIN, which may be lost. */
static void ends_without_data(void **state)
{
	(void)state;
	for (unsigned int seed = 0; seed < 10; seed++) {
		struct sim *s = start(false);

		s->seed = seed;
		s->loss = 2;
		transfer(s, 0, true);
		stop(s);
	}
}

/*
 * libslirp is done long before the guest has all, and has forgotten the connection: neither
 * acknowledgements nor what the guest repeats may bring a reset before the end.
 */
static void forgotten(void **state)
{
	(void)state;
	for (unsigned int seed = 0; seed < 20; seed++) {
		struct sim *s = start(seed & 1);

		s->seed = seed;
		s->loss = seed & 2 ? 10 : 0;
		s->window = s->refill = 40000 + 5000 * seed;
		s->forgets = true;
		s->guest_repeats = true;
		transfer(s, 1500000, seed & 4);
		stop(s);
	}
}

/* What the guest sends meanwhile passes, with acknowledgements of what it has not got yet. */
static void other_direction(void **state)
{
	struct sim *s = start(false);

	(void)state;
	s->size = 400000;
	s->window = 0;
	shake_hands(s, true);
	slirp_sends(s);
	user_ahead_run(s->ahead);
	assert_true(s->una == s->nxt && s->nxt != HOST_SEQ + 1);
	guest_sends(s, GUEST_SEQ + 1, ACK, 1000);
	assert_int_equal(s->guest_bytes, 1000);
	assert_true(s->una == s->nxt);
	/* A wrong checksum stays wrong. */
	make(s, s->buf, true, GUEST_SEQ + 1001, s->rcv, 0, ACK, NULL, 0, 100);
	s->buf[54 + 50] ^= 1;
	assert_true(user_ahead_from_guest(s->ahead, s->buf, 154));
	assert_int_not_equal(tcp_sum_of(s->buf, false, 154), 0xffff);
	stop(s);
}

static void leaves_others_alone(void **state)
{
	struct sim *s = start(false);
	const uint8_t *out;
	uint8_t copy[200];
	size_t len, n;

	(void)state;
	len = make(s, s->buf, true, GUEST_SEQ, 0, 64000, SYN, slirp_options, sizeof(slirp_options), 0);
	assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
	slirp_syn(s, SYN | ACK, false);
	len = make(s, s->buf, true, GUEST_SEQ + 1, HOST_SEQ + 1, 64000, ACK, NULL, 0, 100);
	memcpy(copy, s->buf, len);
	assert_true(user_ahead_from_guest(s->ahead, s->buf, len));
	assert_memory_equal(copy, s->buf, len);
	len = make(s, s->buf, false, HOST_SEQ + 1, GUEST_SEQ + 101, 60000, ACK, NULL, 0, 100);
	assert_false(user_ahead_from_slirp(s->ahead, s->buf, len, &out, &n));
	assert_true(out == s->buf && n == len);
	stop(s);
}

static void gives_up(void **state)
{
	struct sim *s = start(false);

	(void)state;
	s->size = 100000;
	shake_hands(s, true);
	s->silent = true;
	for (unsigned int i = 0; i < 1000000 && !s->slirp_reset; i++)
		step(s);
	assert_true(s->slirp_reset && s->reset);
	assert_in_range(s->now, 300000, 1200000);
	stop(s);
}

static void resets(void **state)
{
	const uint8_t *out;
	struct sim *s = start(false);
	size_t len, n;

	(void)state;
	s->size = 100000;
	shake_hands(s, true);
	slirp_sends(s);
	user_ahead_run(s->ahead);
	/* libslirp's reaches the guest after the data, with the number that it expects. */
	len = make(s, s->buf, false, s->nxt, GUEST_SEQ + 1, 0, RST | ACK, NULL, 0, 0);
	assert_false(user_ahead_from_slirp(s->ahead, s->buf, len, &out, &n));
	assert_int_equal(n, len);
	assert_int_equal(get32(out + 38), s->rcv);
	assert_int_equal(tcp_sum_of(out, false, n), 0xffff);
	stop(s);
}

/* --- anything --- */

static void swallow(void *arg, const uint8_t *f, size_t len)
{
	struct sim *s = arg;

	s->guest_bytes += f[len - 1];
	if (!rnd(s, 4) && s->full < 3) {	/* libslirp answers at once */
		const uint8_t *out;
		size_t n = make(s, s->to_guest, false, s->nxt, rnd(s, 2) ? GUEST_SEQ : rnd(s, ~0U),
				rnd(s, 65536), ACK | rnd(s, 64), NULL, 0, rnd(s, 30000));

		s->full++;
		s->nxt += rnd(s, 2) ? n : 0;
		user_ahead_from_slirp(s->ahead, s->to_guest, n, &out, &n);
		s->full--;
	}
}

static bool swallow_too(void *arg, uint8_t *f, size_t len)
{
	struct sim *s = arg;
	struct net_hdr h;
	struct net_tcp t;

	assert_true(net_parse_tcp(&t, f, len, len));
	net_mark_large(&h, &t, f, 1460);
	assert_true(net_hdr_check(&h, f, len, len));
	return rnd(s, 8);
}

static uint32_t number(struct sim *s, uint32_t near)
{
	return rnd(s, 8) ? near + rnd(s, 3) * rnd(s, 70000) - rnd(s, 2) * rnd(s, 70000) : rnd(s, ~0U);
}

static void random_frame(struct sim *s)
{
	static const uint8_t flags[] = { SYN, SYN | ACK, ACK, ACK, ACK, ACK, ACK | FIN, RST, RST | ACK };
	const uint8_t flag = rnd(s, 16) ? flags[rnd(s, sizeof(flags))] : rnd(s, 256);
	uint8_t options[40];
	const bool from_guest = rnd(s, 2);
	const uint8_t *out;
	size_t len, n;
	uint8_t *f;

	for (unsigned int i = 0; i < sizeof(options); i++)
		options[i] = i < sizeof(guest_options) && rnd(s, 16) ? guest_options[i] : rnd(s, 8);
	len = make(s, s->buf, from_guest, number(s, from_guest ? GUEST_SEQ : s->nxt),
		   number(s, from_guest ? s->nxt : GUEST_SEQ), rnd(s, 65536), flag, options,
		   flag & SYN ? 4 * rnd(s, 11) : 0, flag & SYN ? 0 : rnd(s, 3) * rnd(s, 20000));
	be16(s->buf + (s->v6 ? 54 : 34) + (from_guest ? 0 : 2), 40000 + rnd(s, 3000) * !rnd(s, 4));
	for (unsigned int i = rnd(s, 3); i && !rnd(s, 4); i--)
		s->buf[rnd(s, 80) % len] ^= 1 << rnd(s, 8);
	len -= rnd(s, 8) ? 0 : rnd(s, len);
	f = memcpy(malloc(len + 1), s->buf, len);
	if (from_guest)
		user_ahead_from_guest(s->ahead, f, len);
	else
		user_ahead_from_slirp(s->ahead, f, len, &out, &n);
	free(f);
	if (!rnd(s, 3))
		user_ahead_run(s->ahead);
	s->now += rnd(s, 100) * rnd(s, 2);
	if (!rnd(s, 1000))
		s->now += 1000000;
}

static void random_frames(void **state)
{
	static const struct user_ahead_ops careless = {
		.to_slirp = swallow, .to_guest = swallow_too, .now = sim_now,
	};
	const char *seconds = getenv("FUZZ_SECONDS"), *given = getenv("FUZZ_SEED");
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : 1);
	uint64_t seed = given ? strtoull(given, NULL, 0) : 1;

	(void)state;
	do {
		struct sim *s = start(seed & 1);

		user_ahead_destroy(s->ahead);
		s->ahead = user_ahead_create(&careless, s);
		s->seed = seed++;
		for (unsigned int i = 0; i < 2000; i++)
			random_frame(s);
		stop(s);
	} while (time(NULL) < end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(carries),
		cmocka_unit_test(survives_losses),
		cmocka_unit_test(ends_without_data),
		cmocka_unit_test(forgotten),
		cmocka_unit_test(other_direction),
		cmocka_unit_test(leaves_others_alone),
		cmocka_unit_test(gives_up),
		cmocka_unit_test(resets),
		cmocka_unit_test(random_frames),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
