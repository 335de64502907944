// SPDX-License-Identifier: Apache-2.0
/*
 * The switch: learning, flooding, addresses that stay with their port, ports that go; and frames
 * on its sockets, from peers that keep to the format and from others (FUZZ_ROUNDS, FUZZ_SEED).
 */
#include "fake_net.h"

#include "backend/frame_stream.h"
#include "backend/net_stream.h"
#include "backend/switch.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define PORTS	4

struct rig {
	struct loop *loop;
	struct net_switch *sw;
	struct fake_net port[PORTS];
};

static void rig_up(struct rig *r)
{
	assert_int_equal(loop_create(&r->loop, NULL, NULL), 0);
	assert_int_equal(net_switch_create(&r->sw, r->loop, NULL, NULL), 0);
	for (int i = 0; i < PORTS; i++) {
		fake_net_init(&r->port[i]);
		assert_int_equal(net_switch_plug(r->sw, &r->port[i].net, false, NULL), 0);
	}
}

static void rig_down(struct rig *r)
{
	net_switch_destroy(r->sw);
	loop_destroy(r->loop);
	for (int i = 0; i < PORTS; i++) {
		assert_true(r->port[i].destroyed);
		fake_net_done(&r->port[i]);
	}
}

static void quit(void *arg)
{
	loop_quit(arg);
}

/* Lets the loop do what is posted, and what is ready. */
static void rig_turn(struct rig *r)
{
	struct loop_work end = { .run = quit, .arg = r->loop };

	loop_post(r->loop, &end);
	assert_int_equal(loop_run(r->loop, NULL), 0);
}

/* A frame from address @from to @to (0: broadcast) comes in at port @at. */
static void frame_in(struct rig *r, int at, unsigned int to, unsigned int from)
{
	uint8_t frame[64] = { 0x52, 0x54, 0, 0, to >> 8, to, 0x52, 0x54, 0, 0, from >> 8, from };
	struct net_in in = { .data = frame, .len = sizeof(frame) };

	if (!to)
		memset(frame, 0xff, 6);
	assert_int_equal(r->port[at].net.front->receive(r->port[at].net.front_dev, &in, 1), 1);
}

static void expect(struct rig *r, unsigned int a, unsigned int b, unsigned int c, unsigned int d)
{
	const unsigned int want[PORTS] = { a, b, c, d };

	for (int i = 0; i < PORTS; i++) {
		assert_int_equal(r->port[i].count, want[i]);
		r->port[i].count = 0;
	}
}

static void learns(void **state)
{
	struct rig r;

	(void)state;
	rig_up(&r);
	frame_in(&r, 0, 2, 1);		/* nobody knows 2 */
	expect(&r, 0, 1, 1, 1);
	frame_in(&r, 1, 1, 2);		/* 1 is known */
	expect(&r, 1, 0, 0, 0);
	frame_in(&r, 0, 2, 1);
	expect(&r, 0, 1, 0, 0);
	frame_in(&r, 0, 0, 1);
	expect(&r, 0, 1, 1, 1);
	frame_in(&r, 0, 1, 3);		/* to one behind the same port */
	expect(&r, 0, 0, 0, 0);
	rig_down(&r);
}

static void batches(void **state)
{
	uint8_t frame[6][64] = { { 0 } };
	static const uint8_t to[6] = { 2, 2, 3, 9, 2, 3 };
	struct net_in in[6];
	struct rig r;

	(void)state;
	rig_up(&r);
	frame_in(&r, 1, 0, 2);
	frame_in(&r, 2, 0, 3);
	for (int i = 0; i < PORTS; i++)
		r.port[i].count = 0;
	for (int i = 0; i < 6; i++) {
		memcpy(frame[i], "\x52\x54\0\0\0\0\x52\x54\0\0\0\1", 12);
		frame[i][5] = to[i];
		frame[i][20] = i;
		in[i] = (struct net_in){ .data = frame[i], .len = 64, .hdr.gso_size = i };
	}
	assert_int_equal(r.port[0].net.front->receive(r.port[0].net.front_dev, in, 6), 6);
	assert_int_equal(r.port[1].count, 4);
	assert_int_equal(r.port[1].data[3][20], 4);
	assert_int_equal(r.port[1].hdr[3].gso_size, 4);
	assert_int_equal(r.port[2].count, 3);
	assert_int_equal(r.port[2].data[2][20], 5);
	assert_int_equal(r.port[3].count, 1);
	rig_down(&r);
}

static void keeps_addresses(void **state)
{
	struct rig r;

	(void)state;
	rig_up(&r);
	frame_in(&r, 0, 0, 1);
	frame_in(&r, 3, 0, 1);		/* another claims it */
	expect(&r, 1, 2, 2, 1);
	frame_in(&r, 1, 1, 2);
	expect(&r, 1, 0, 0, 0);
	r.port[0].net.front->link(r.port[0].net.front_dev, false);
	rig_turn(&r);
	assert_true(r.port[0].destroyed);
	assert_int_equal(net_switch_ports(r.sw), PORTS - 1);
	frame_in(&r, 3, 0, 1);		/* now it is free */
	expect(&r, 0, 1, 1, 0);
	frame_in(&r, 1, 1, 2);
	expect(&r, 0, 0, 0, 1);
	rig_down(&r);
}

static void bounds_addresses(void **state)
{
	struct rig r;

	(void)state;
	rig_up(&r);
	for (unsigned int i = 1; i <= 2 * SWITCH_MACS_PER_PORT; i++)
		frame_in(&r, 0, 0, i);
	frame_in(&r, 1, 0, 5000);	/* a neighbour is learnt all the same */
	for (int i = 0; i < PORTS; i++)
		r.port[i].count = 0;
	frame_in(&r, 2, 1, 6000);
	expect(&r, 1, 0, 0, 0);
	frame_in(&r, 2, 2 * SWITCH_MACS_PER_PORT, 6000);
	expect(&r, 1, 1, 0, 1);		/* one too many: nobody knows it */
	frame_in(&r, 2, 5000, 6000);
	expect(&r, 0, 1, 0, 0);
	rig_down(&r);
}

/* A full port loses frames and keeps nobody from sending. */
static void full_port_loses(void **state)
{
	struct rig r;

	(void)state;
	rig_up(&r);
	r.port[1].room = 1;
	for (int i = 0; i < 3; i++)
		frame_in(&r, 0, 0, 1);
	expect(&r, 0, 1, 3, 3);
	rig_down(&r);
}

static void refuses_too_many(void **state)
{
	static struct fake_net more[SWITCH_PORTS_MAX];
	unsigned int n = 0;
	struct rig r;

	(void)state;
	rig_up(&r);
	do
		fake_net_init(&more[n]);
	while (!net_switch_plug(r.sw, &more[n++].net, false, NULL));
	assert_int_equal(n, SWITCH_PORTS_MAX - PORTS + 1);
	assert_true(more[n - 1].destroyed);
	rig_down(&r);
}

/* --- sockets --- */

static int plug_socket(struct rig *r)
{
	struct net_stream_config c = { .name = "vm", .queue_max = 1 << 20 };
	struct net_backend *b;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
	c.fd = fd[0];
	assert_int_equal(net_stream_create(&b, &c, NULL), 0);
	assert_int_equal(net_switch_plug(r->sw, b, false, NULL), 0);
	return fd[1];
}

/* Frames of all sizes from one socket to another, whole and in order. */
static void carries_frames(void **state)
{
	static uint8_t data[NET_FRAME_MAX];
	struct frame_stream a, b;
	struct net_in in[8];
	unsigned int sent = 0, got = 0;
	struct rig r;

	(void)state;
	rig_up(&r);
	assert_int_equal(frame_stream_init(&a, plug_socket(&r), 0, NULL), 0);
	assert_int_equal(frame_stream_init(&b, plug_socket(&r), 0, NULL), 0);
	while (got < 300) {
		const size_t len = sent % 5 ? 60 + sent : NET_FRAME_MAX - sent;
		struct iovec iov[2] = { { data, 14 }, { data + 14, len - 14 } };
		struct net_out out = { { .gso_size = sent }, iov, 2, len };
		int n;

		memset(data, sent, len);
		memcpy(data, "\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\1", 12);
		/* No more on the way than the switch keeps for a port. */
		if (sent < 300 && sent - got < 8)
			sent += frame_stream_send(&a, &out, 1);
		else
			assert_int_equal(frame_stream_flush(&a), 0);
		rig_turn(&r);
		assert_true(frame_stream_read(&b) >= 0);
		n = frame_stream_peek(&b, in, 8);
		assert_true(n >= 0);
		for (int i = 0; i < n; i++, got++) {
			assert_int_equal(in[i].hdr.gso_size, got);
			assert_int_equal(in[i].len, got % 5 ? 60 + got : NET_FRAME_MAX - got);
			assert_int_equal(in[i].data[14], (uint8_t)got);
			assert_int_equal(in[i].data[in[i].len - 1], (uint8_t)got);
		}
		frame_stream_consume(&b, in, n);
	}
	frame_stream_fini(&a);
	frame_stream_fini(&b);
	rig_turn(&r);
	rig_turn(&r);
	assert_int_equal(net_switch_ports(r.sw), PORTS);
	rig_down(&r);
}

/* Whatever bytes a peer sends, it loses at most its own port. */
static void random_bytes(void **state)
{
	const char *env = getenv("FUZZ_ROUNDS"), *seed = getenv("FUZZ_SEED");
	unsigned long rounds = env ? strtoul(env, NULL, 0) : 500;
	struct rig r;

	(void)state;
	srandom(seed ? strtoul(seed, NULL, 0) : 11);
	rig_up(&r);
	while (rounds--) {
		uint8_t bytes[3000];
		int fd = plug_socket(&r);

		for (size_t i = 0; i < sizeof(bytes); i++)
			bytes[i] = random();
		/* Mostly lengths that may be, so that more than the first is looked at. */
		if (random() % 4) {
			bytes[1] &= 1;
			bytes[2] = bytes[3] = 0;
		}
		assert_true(send(fd, bytes, 1 + random() % sizeof(bytes), 0) > 0);
		rig_turn(&r);
		close(fd);
		rig_turn(&r);
		rig_turn(&r);
		assert_int_equal(net_switch_ports(r.sw), PORTS);
	}
	frame_in(&r, 0, 0, 1);
	assert_true(r.port[1].count > 0);
	rig_down(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(learns),
		cmocka_unit_test(batches),
		cmocka_unit_test(keeps_addresses),
		cmocka_unit_test(bounds_addresses),
		cmocka_unit_test(full_port_loses),
		cmocka_unit_test(refuses_too_many),
		cmocka_unit_test(carries_frames),
		cmocka_unit_test(random_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
