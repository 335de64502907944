// SPDX-License-Identifier: Apache-2.0
/*
 * The network card, from its driver's side: frames in one and in several buffers, frames that
 * this driver cannot take as they came, back-pressure both ways, the receive filter, the link.
 */
#include "virtio_rig.h"
#include "fake_net.h"

#include "virtio/net.h"

#define RX		0
#define TX		1
#define CONTROL		2
#define HDR		12U
#define BUFFERS		0x60000ULL
#define SENT		0x50000ULL

#define F_CSUM		BIT(0)
#define F_GUEST_CSUM	BIT(1)
#define F_GUEST_TSO4	BIT(7)
#define F_HOST_TSO4	BIT(11)
#define F_MRG		BIT(15)
#define F_CTRL		(BIT(17) | BIT(18) | BIT(23))

struct card {
	struct bench b;
	struct fake_net net;
	struct ring rx, tx, control;
	uint8_t frame[NET_FRAME_MAX];
	struct net_in in[4];
	struct virtio_device *device;
	unsigned int closed;
};

static void card_closed(void *arg)
{
	((struct card *)arg)->closed++;
}

static void card_up(struct card *c, uint64_t features)
{
	struct virtio_net_setup setup = {
		.backend = &c->net.net, .mac = { 0x52, 0x54, 0, 0, 0, 1 }, .closed = card_closed, .arg = c,
	};
	struct virtio_device *d;

	bench_init(&c->b);
	fake_net_init(&c->net);
	setup.space = &c->b.rig.space;
	assert_int_equal(virtio_net_create(&d, &setup, NULL), 0);
	c->device = d;
	bench_plug(&c->b, d);
	bench_features(&c->b, features);
	ring_init(&c->rx, &c->b, RX, false, 64);
	ring_init(&c->tx, &c->b, TX, false, 16);
	ring_init(&c->control, &c->b, CONTROL, false, 16);
	bench_driver_ok(&c->b);
}

static void card_down(struct card *c)
{
	assert_int_equal(c->closed, 0);
	bench_done(&c->b);
	assert_int_equal(c->closed, 1);
	assert_true(c->net.destroyed);
	fake_net_done(&c->net);
}

/* @n receive buffers of @size bytes, one after another from BUFFERS. */
static void add_buffers(struct card *c, unsigned int n, uint32_t size)
{
	for (unsigned int i = 0; i < n; i++) {
		struct seg s = { BUFFERS + (uint64_t)i * size, size, D_WRITE };

		ring_add(&c->rx, &s, 1, i);
	}
	ring_kick(&c->rx);
}

/* The back end gives @n frames; how many were taken. */
static unsigned int give(struct card *c, unsigned int n)
{
	c->net.give = c->in;
	c->net.give_count = n;
	loop_post(c->net.loop, &c->net.work);
	bench_sync(&c->b);
	return c->net.taken;
}

static void make_in(struct card *c, size_t payload, uint16_t mss)
{
	const size_t len = make_tcp(c->frame, false, payload, 0x10);

	c->in[0] = (struct net_in){ tcp_hdr(c->frame, false, len, mss), c->frame, len };
}

static void receives_in_several_buffers(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	struct virtio_net_counts n;
	uint32_t id, len;
	size_t at = 0;

	(void)state;
	card_up(c, F_GUEST_CSUM | F_GUEST_TSO4 | F_MRG);
	add_buffers(c, 8, 1526);
	make_in(c, 5000, 1460);
	assert_int_equal(give(c, 1), 1);
	for (int i = 0; i < 4; i++) {
		assert_true(ring_take(&c->rx, 1, &id, &len));
		assert_int_equal(len, i < 3 ? 1526 : HDR + c->in[0].len - 3 * 1526);
		at += len;
	}
	assert_false(ring_take(&c->rx, 1, &id, &len));
	assert_int_equal(at, HDR + c->in[0].len);
	assert_int_equal(peek16(&c->b, BUFFERS + 10), 4);
	assert_int_equal(peek16(&c->b, BUFFERS + 4), 1460);
	assert_memory_equal(mem(&c->b, BUFFERS + HDR), c->frame, c->in[0].len);
	virtio_net_counts(c->device, &n);
	assert_true(n.received_frames == 1 && n.received_bytes == c->in[0].len && !n.sent_frames);
	card_down(c);
	free(c);
}

/* A driver that takes neither large frames nor unfinished sums gets segments, summed. */
static void cuts_for_plain_drivers(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	uint32_t id, len;

	(void)state;
	card_up(c, 0);
	add_buffers(c, 8, 1526);
	make_in(c, 3000, 1460);
	assert_int_equal(give(c, 1), 1);
	for (int i = 0; i < 3; i++) {
		const uint8_t *p = mem(&c->b, BUFFERS + i * 1526ULL);

		assert_true(ring_take(&c->rx, 1, &id, &len));
		assert_int_equal(len, HDR + 54 + (i < 2 ? 1460 : 80));
		assert_int_equal(p[0], 0);
		assert_int_equal(p[1], NET_GSO_NONE);
		assert_int_equal(p[10], 1);
		assert_int_equal(tcp_sum_of(p + HDR, false, len - HDR), 0xffff);
	}
	assert_false(ring_take(&c->rx, 1, &id, &len));
	card_down(c);
	free(c);
}

static void waits_for_buffers(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	uint32_t id, len;

	(void)state;
	card_up(c, F_MRG);
	add_buffers(c, 1, 1526);
	make_in(c, 100, 0);
	c->in[1] = c->in[0];
	assert_int_equal(give(c, 2), 1);
	assert_int_equal(c->net.wanted, 0);
	add_buffers(c, 2, 1526);
	assert_int_equal(c->net.wanted, 1);
	assert_int_equal(give(c, 2), 2);
	for (int i = 0; i < 3; i++)
		assert_true(ring_take(&c->rx, 1, &id, &len));
	card_down(c);
	free(c);
}

/* A frame that no single buffer holds is dropped, and the next comes through. */
static void drops_what_fits_no_buffer(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	uint32_t id, len;

	(void)state;
	card_up(c, F_GUEST_CSUM);
	add_buffers(c, 2, 200);
	make_in(c, 1000, 0);
	assert_int_equal(give(c, 1), 1);
	make_in(c, 100, 0);
	assert_int_equal(give(c, 1), 1);
	assert_true(ring_take(&c->rx, 1, &id, &len));
	assert_int_equal(len, HDR + 154);
	assert_false(ring_take(&c->rx, 1, &id, &len));
	card_down(c);
	free(c);
}

static void send(struct card *c, const struct net_hdr *h, size_t len)
{
	const struct seg s[2] = { { SENT, HDR, 0 }, { SENT + HDR, len, 0 } };

	memcpy(mem(&c->b, SENT), h, HDR);
	memcpy(mem(&c->b, SENT + HDR), c->frame, len);
	ring_add(&c->tx, s, 2, c->tx.avail);
}

static void sends(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	const struct net_hdr plain = { 0 };
	uint32_t id, used;
	struct net_hdr h;
	size_t len;

	(void)state;
	card_up(c, F_CSUM | F_HOST_TSO4);
	len = make_tcp(c->frame, false, 5000, 0x10);
	h = tcp_hdr(c->frame, false, len, 1460);
	send(c, &h, len);
	ring_kick(&c->tx);
	assert_int_equal(c->net.count, 1);
	assert_int_equal(c->net.len[0], len);
	assert_memory_equal(c->net.data[0], c->frame, len);
	assert_int_equal(c->net.hdr[0].gso_size, 1460);
	assert_true(ring_take(&c->tx, 2, &id, &used));
	/* A header that lies about the frame: dropped, and given back. */
	h.csum_start = 60000;
	send(c, &h, len);
	ring_kick(&c->tx);
	send(c, &plain, 10);
	ring_kick(&c->tx);
	assert_int_equal(c->net.count, 1);
	assert_true(ring_take(&c->tx, 2, &id, &used));
	assert_true(ring_take(&c->tx, 2, &id, &used));
	card_down(c);
	free(c);
}

static void now_writable(void *arg)
{
	struct card *c = arg;

	c->net.room = 10;
	c->net.net.front->writable(c->net.net.front_dev);
}

static void waits_for_the_back_end(void **state)
{
	struct card *c = calloc(1, sizeof(*c));
	const struct net_hdr plain = { 0 };
	uint32_t id, used;
	size_t len;

	(void)state;
	card_up(c, 0);
	len = make_tcp(c->frame, false, 10, 0x10);
	c->net.room = 1;
	for (int i = 0; i < 3; i++)
		send(c, &plain, len);
	ring_kick(&c->tx);
	assert_int_equal(c->net.count, 1);
	assert_true(ring_take(&c->tx, 2, &id, &used));
	assert_false(ring_take(&c->tx, 2, &id, &used));
	c->net.work = (struct loop_work){ .run = now_writable, .arg = c };
	loop_post(c->net.loop, &c->net.work);
	bench_sync(&c->b);
	assert_int_equal(c->net.count, 3);
	card_down(c);
	free(c);
}

/* A command's bytes; its acknowledgement. */
static unsigned int command(struct card *c, const void *bytes, size_t len)
{
	const struct seg s[2] = { { SENT, len, 0 }, { SENT + 0x1000, 1, D_WRITE } };
	uint32_t id, used;

	memcpy(mem(&c->b, SENT), bytes, len);
	*(uint8_t *)mem(&c->b, SENT + 0x1000) = 0xee;
	ring_add(&c->control, s, 2, 0);
	ring_kick(&c->control);
	assert_true(ring_take(&c->control, 2, &id, &used));
	assert_int_equal(used, 1);
	return *(uint8_t *)mem(&c->b, SENT + 0x1000);
}

static bool receives_for(struct card *c, const char *mac)
{
	uint32_t id, len;

	make_in(c, 10, 0);
	memcpy(c->frame, mac, 6);
	assert_int_equal(give(c, 1), 1);
	return ring_take(&c->rx, 1, &id, &len);
}

static void filters(void **state)
{
	static const uint8_t table[] = { 1, 0, 1, 0, 0, 0, 0x52, 0, 0, 0, 0, 9,
					 1, 0, 0, 0, 1, 0, 0x5e, 0, 0, 1 };
	static const uint8_t lies[] = { 1, 0, 0xff, 0xff, 0xff, 0xff, 0, 0 };
	struct card *c = calloc(1, sizeof(*c));

	(void)state;
	card_up(c, F_CTRL | F_GUEST_CSUM);
	add_buffers(c, 16, 1526);
	assert_true(receives_for(c, "\x52\0\0\0\0\7"));
	assert_int_equal(command(c, "\0\0\0", 3), 0);		/* not promiscuous */
	assert_false(receives_for(c, "\x52\0\0\0\0\7"));
	assert_true(receives_for(c, "\x52\x54\0\0\0\1"));
	assert_true(receives_for(c, "\xff\xff\xff\xff\xff\xff"));
	assert_false(receives_for(c, "\1\0\x5e\0\0\1"));
	assert_int_equal(command(c, table, sizeof(table)), 0);
	assert_true(receives_for(c, "\1\0\x5e\0\0\1"));
	assert_true(receives_for(c, "\x52\0\0\0\0\11"));
	assert_int_equal(command(c, "\1\1\x52\x54\0\0\0\3", 8), 0);	/* another address */
	assert_true(receives_for(c, "\x52\x54\0\0\0\3"));
	assert_false(receives_for(c, "\x52\x54\0\0\0\1"));
	assert_int_equal(rd(&c->b, DEVCFG(5), 1), 3);
	assert_int_equal(command(c, "\0\0\1", 3), 0);
	assert_true(receives_for(c, "\x52\0\0\0\0\7"));
	assert_int_equal(command(c, lies, sizeof(lies)), 1);
	assert_int_equal(command(c, "\x9", 1), 1);
	assert_int_equal(command(c, "\x9\1\1", 3), 1);
	card_down(c);
	free(c);
}

static void link_goes_down(void *arg)
{
	struct card *c = arg;

	c->net.net.front->link(c->net.net.front_dev, false);
}

static void tells_of_the_link(void **state)
{
	struct card *c = calloc(1, sizeof(*c));

	(void)state;
	card_up(c, BIT(16));
	assert_int_equal(rd(&c->b, DEVCFG(6), 2), 1);
	c->net.work = (struct loop_work){ .run = link_goes_down, .arg = c };
	loop_post(c->net.loop, &c->net.work);
	bench_sync(&c->b);
	assert_int_equal(rd(&c->b, DEVCFG(6), 2), 0);
	card_down(c);
	free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(receives_in_several_buffers),
		cmocka_unit_test(cuts_for_plain_drivers),
		cmocka_unit_test(waits_for_buffers),
		cmocka_unit_test(drops_what_fits_no_buffer),
		cmocka_unit_test(sends),
		cmocka_unit_test(waits_for_the_back_end),
		cmocka_unit_test(filters),
		cmocka_unit_test(tells_of_the_link),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
