// SPDX-License-Identifier: Apache-2.0
/*
 * Split and packed rings against a device that echoes: every way to lay out a chain, wraps,
 * notices in both directions, chains that are held over a reset, and every kind of nonsense
 * that a driver can write, each of which has to end in DEVICE_NEEDS_RESET and nothing else.
 */
#include "virtio_rig.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>

#define HELD_MAX 64

struct echo {
	struct virtio_device virtio;
	bool hold;			/* keep the chains */
	bool unpop;			/* take each pop back once */
	_Atomic unsigned int held_count, kicks, starts, resets, queue_resets, config_writes;
	struct virtq_chain *held[HELD_MAX];
};

static struct echo *to_echo(struct virtio_device *d)
{
	return container_of(d, struct echo, virtio);
}

static void answer(struct virtq_chain *c)
{
	uint8_t buf[4096];
	size_t n = chain_read(c, 0, buf, sizeof(buf));

	assert_true(n == MIN(c->out_len, sizeof(buf)));
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(((uint8_t *)c->request)[i], 0);
	memset(c->request, 0xff, 4);
	virtq_push(c, chain_write(c, 0, buf, n));
}

static void echo_kick(struct virtio_device *d, struct virtq *q)
{
	struct echo *e = to_echo(d);
	struct virtq_chain *c;

	e->kicks++;
	while ((c = virtq_pop(q))) {
		if (e->unpop) {
			virtq_unpop(c);
			c = virtq_pop(q);
			assert_non_null(c);
		}
		if (e->hold)
			e->held[e->held_count++] = c;
		else
			answer(c);
	}
	virtq_notify(q);
}

static void forget_held(struct echo *e)
{
	while (e->held_count)
		virtq_forget(e->held[--e->held_count]);
}

static void echo_start(struct virtio_device *d)
{
	to_echo(d)->starts++;
}

static void echo_reset(struct virtio_device *d)
{
	to_echo(d)->resets++;
	forget_held(to_echo(d));
}

static void echo_queue_reset(struct virtio_device *d, struct virtq *q)
{
	(void)q;
	to_echo(d)->queue_resets++;
	forget_held(to_echo(d));
}

static void echo_config_written(struct virtio_device *d)
{
	to_echo(d)->config_writes++;
}

static void echo_destroy(struct virtio_device *d)
{
	virtio_fini(d);
	free(to_echo(d));
}

static const struct virtio_ops echo_ops = {
	.id = VIRTIO_ID_RNG,
	.name = "echo",
	.request_size = 4,
	.config_writable = 4,
	.config_writable_len = 2,
	.start = echo_start,
	.kick = echo_kick,
	.reset = echo_reset,
	.queue_reset = echo_queue_reset,
	.config_written = echo_config_written,
	.destroy = echo_destroy,
};

static struct echo *setup(struct bench *b)
{
	static const uint8_t config[8] = { 1, 2, 3, 4, 5, 6, 7, 8 };
	const struct virtio_setup s = { .space = &b->rig.space, .features = BIT(3), .queues = 2,
					.queue_size = 64, .config = config, .config_len = 8 };
	struct echo *e = calloc(1, sizeof(*e));

	bench_init(b);
	assert_non_null(e);
	assert_int_equal(virtio_init(&e->virtio, &echo_ops, &s, NULL), 0);
	bench_plug(b, &e->virtio);
	return e;
}

/* The layouts that every exchange is tried with. */
static const struct layout {
	bool packed, event;
	uint16_t size;
} layouts[] = {
	{ false, false, 8 }, { false, true, 8 }, { true, false, 8 }, { true, true, 8 },
	{ true, false, 5 }, { true, true, 7 }, { false, false, 1 }, { true, true, 2 },
};

static uint64_t features_of(const struct layout *l)
{
	return (l->packed ? BIT(VIRTIO_F_RING_PACKED) : 0) | (l->event ? BIT(VIRTIO_F_EVENT_IDX) : 0) |
	       BIT(VIRTIO_F_INDIRECT_DESC);
}

static void start(struct bench *b, struct ring *r, const struct layout *l)
{
	bench_features(b, features_of(l));
	ring_init(r, b, 0, l->packed, l->size);
	bench_driver_ok(b);
	assert_true(status(b) & ST_DRIVER_OK);
}

/* Lays @n segments into a table at @at; of a packed ring the links mean nothing. */
static void put_table(struct ring *r, gpa_t at, const struct seg *s, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		if (r->packed)
			put_packed(r->b, at, i, &s[i], s[i].flags, 0);
		else
			put_desc(r->b, at, i, &s[i], s[i].flags | (i + 1 < n ? D_NEXT : 0), i + 1);
	}
}

static void exchange(struct ring *r, unsigned int turn, bool indirect)
{
	struct bench *b = r->b;
	const struct seg s[] = {
		{ 0x40000, 3, 0 }, { 0x40100, 5, 0 }, { 0x41000, 2, D_WRITE },
		{ BENCH_RAM2 + BENCH_RAM2_SIZE - 10, 10, D_WRITE },
	};
	const struct seg table = { 0x50000, sizeof(s) / sizeof(s[0]) * 16, D_INDIRECT };
	unsigned int n = indirect ? 1 : 4;
	char text[9], got[9] = "";
	uint32_t id, len;

	snprintf(text, sizeof(text), "%08u", turn);
	memcpy(mem(b, 0x40000), text, 3);
	memcpy(mem(b, 0x40100), text + 3, 5);
	if (indirect)
		put_table(r, 0x50000, s, 4);
	ring_add(r, indirect ? &table : s, n, turn);
	ring_kick(r);
	assert_true(ring_take(r, n, &id, &len));
	assert_int_equal(len, 8);
	if (r->packed)
		assert_int_equal(id, turn & 0xffff);
	memcpy(got, mem(b, 0x41000), 2);
	memcpy(got + 2, mem(b, BENCH_RAM2 + BENCH_RAM2_SIZE - 10), 6);
	assert_string_equal(got, text);
	assert_false(ring_take(r, n, &id, &len));
	assert_false(status(b) & ST_NEEDS_RESET);
}

static void test_echo(void **state)
{
	(void)state;
	for (unsigned int k = 0; k < ARRAY_SIZE(layouts); k++) {
		struct bench b;
		struct echo *e = setup(&b);
		struct ring r;

		e->unpop = k & 1;
		start(&b, &r, &layouts[k]);
		for (unsigned int i = 0; i < 50; i++)
			exchange(&r, i, r.size < 4 || i % 3 == 0);
		bench_done(&b);
	}
}

/* The split ring's indices wrap at 2^16, not at the ring's size. */
static void test_index_wrap(void **state)
{
	struct bench b;
	struct ring r;
	struct seg s = { 0x40000, 1, 0 };
	uint32_t id, len;

	(void)state;
	setup(&b);
	start(&b, &r, &layouts[1]);
	for (unsigned int i = 0; i < 66000; i++) {
		ring_add(&r, &s, 1, 0);
		if (i % 8 != 7)
			continue;
		ring_kick(&r);
		for (unsigned int k = 0; k < 8; k++)
			assert_true(ring_take(&r, 1, &id, &len));
	}
	assert_int_equal(r.used, (uint16_t)66000);
	bench_done(&b);
}

/* --- notices --- */

static void test_interrupts(void **state)
{
	const struct seg s = { 0x40000, 1, 0 };

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		const struct layout l = { packed, false, 8 };
		struct bench b;
		struct ring r;

		setup(&b);
		start(&b, &r, &l);
		ring_add(&r, &s, 1, 1);
		ring_kick(&r);
		assert_int_equal(b.messages[1], 1);
		/* A doorbell without buffers interrupts nobody. */
		ring_kick(&r);
		assert_int_equal(b.messages[1], 1);
		/* The driver wants none. */
		poke16(&b, r.driver + (packed ? 2 : 0), 1);
		ring_add(&r, &s, 1, 1);
		ring_kick(&r);
		assert_int_equal(b.messages[1], 1);
		poke16(&b, r.driver + (packed ? 2 : 0), 0);
		ring_add(&r, &s, 1, 1);
		ring_kick(&r);
		assert_int_equal(b.messages[1], 2);
		assert_int_equal(b.intx.rises, 0);
		bench_done(&b);
	}
}

/* With event indices: one interrupt, when the third buffer is used. */
static void test_event_index(void **state)
{
	const struct seg s = { 0x40000, 1, 0 };

	(void)state;
	for (unsigned int packed = 0; packed < 2; packed++) {
		const struct layout l = { packed, true, 8 };
		struct bench b;
		struct ring r;

		setup(&b);
		start(&b, &r, &l);
		if (packed) {
			poke16(&b, r.driver, 2 | 0x8000);
			poke16(&b, r.driver + 2, 2);
		} else {
			poke16(&b, r.driver + 4 + 2 * r.size, 2);
		}
		for (unsigned int i = 0; i < 6; i++) {
			ring_add(&r, &s, 1, 1);
			ring_kick(&r);
			assert_int_equal(b.messages[1], i >= 2);
		}
		/* The device asks for the doorbell behind what it has seen. */
		if (packed)
			assert_int_equal(peek16(&b, r.device), 6 | 0x8000);
		else
			assert_int_equal(peek16(&b, r.device + 4 + 8 * r.size), 6);
		bench_done(&b);
	}
}

static void test_intx(void **state)
{
	const struct seg s = { 0x40000, 1, 0 };
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	cfg_wr(&b, bench_find_cap(&b, PCI_CAP_MSIX) + 2, 2, 0);
	start(&b, &r, &layouts[0]);
	ring_add(&r, &s, 1, 1);
	ring_kick(&r);
	assert_true(b.intx.level);
	assert_int_equal(cfg_rd(&b, 6, 2) & 8, 8);
	assert_int_equal(rd(&b, 0x1000, 1), 1);
	assert_false(b.intx.level);
	assert_int_equal(rd(&b, 0x1000, 1), 0);
	/* The command register's bit keeps the line down, not the status bit. */
	cfg_wr(&b, 4, 2, 0x406);
	ring_add(&r, &s, 1, 1);
	ring_kick(&r);
	assert_false(b.intx.level);
	cfg_wr(&b, 4, 2, 6);
	assert_true(b.intx.level);
	bench_reset(&b);
	assert_false(b.intx.level);
	bench_done(&b);
}

/* --- nonsense --- */

struct nonsense {
	const char *name;
	bool packed;
	unsigned int count;
	struct seg s[4];
	uint64_t without;	/* a feature not taken */
	uint16_t next;		/* split: of the last descriptor, which gets D_NEXT; 0: none */
};

static const struct nonsense nonsenses[] = {
	{ "beyond RAM", false, 1, { { BENCH_RAM, 16, 0 } }, 0, 0 },
	{ "beyond RAM", true, 1, { { BENCH_RAM, 16, 0 } }, 0, 0 },
	{ "over RAM's end", false, 1, { { BENCH_RAM - 8, 16, D_WRITE } }, 0, 0 },
	{ "over RAM's end", true, 1, { { BENCH_RAM - 8, 16, D_WRITE } }, 0, 0 },
	{ "the whole address space", false, 1, { { UINT64_MAX - 7, 16, 0 } }, 0, 0 },
	{ "the whole address space", true, 1, { { UINT64_MAX - 7, UINT32_MAX, 0 } }, 0, 0 },
	{ "4 GiB", false, 1, { { 0x1000, UINT32_MAX, D_WRITE } }, 0, 0 },
	{ "registers", false, 1, { { BENCH_BARS, 16, D_WRITE } }, 0, 0 },
	{ "ROM", false, 1, { { BENCH_ROM, 16, D_WRITE } }, 0, 0 },
	{ "ROM", true, 1, { { BENCH_ROM, 16, D_WRITE } }, 0, 0 },
	{ "the wrong order", false, 2, { { 0x40000, 1, D_WRITE }, { 0x40000, 1, 0 } }, 0, 0 },
	{ "the wrong order", true, 2, { { 0x40000, 1, D_WRITE }, { 0x40000, 1, 0 } }, 0, 0 },
	{ "a loop", false, 2, { { 0x40000, 1, 0 }, { 0x40000, 1, 0 } }, 0, 1 },
	{ "a number out of range", false, 1, { { 0x40000, 1, 0 } }, 0, 8 },
	{ "a far number", false, 1, { { 0x40000, 1, 0 } }, 0, 0xffff },
	{ "a table not agreed upon", false, 1, { { 0x50000, 16, D_INDIRECT } },
	  BIT(VIRTIO_F_INDIRECT_DESC), 0 },
	{ "a table not agreed upon", true, 1, { { 0x50000, 16, D_INDIRECT } },
	  BIT(VIRTIO_F_INDIRECT_DESC), 0 },
	{ "an empty table", false, 1, { { 0x50000, 0, D_INDIRECT } }, 0, 0 },
	{ "an empty table", true, 1, { { 0x50000, 0, D_INDIRECT } }, 0, 0 },
	{ "an odd table", false, 1, { { 0x50000, 24, D_INDIRECT } }, 0, 0 },
	{ "an odd table", true, 1, { { 0x50000, 24, D_INDIRECT } }, 0, 0 },
	{ "a table nowhere", false, 1, { { BENCH_RAM - 16, 32, D_INDIRECT } }, 0, 0 },
	{ "a table nowhere", true, 1, { { BENCH_RAM - 16, 32, D_INDIRECT } }, 0, 0 },
	{ "a huge table", true, 1, { { 0x50000, 0xfffffff0, D_INDIRECT } }, 0, 0 },
	{ "a table and more", false, 2, { { 0x50000, 16, D_INDIRECT }, { 0x40000, 1, 0 } }, 0, 0 },
	{ "a table and more", true, 2, { { 0x50000, 16, D_INDIRECT }, { 0x40000, 1, 0 } }, 0, 0 },
	{ "a table behind a buffer", true, 2, { { 0x40000, 1, 0 }, { 0x50000, 16, D_INDIRECT } },
	  0, 0 },
	{ "a table of tables", false, 1, { { 0x58000, 16, D_INDIRECT } }, 0, 0 },
	{ "a table of tables", true, 1, { { 0x58000, 16, D_INDIRECT } }, 0, 0 },
};

static void is_broken_and_recovers(struct bench *b, const char *what)
{
	const struct layout l = { false, false, 8 };
	unsigned int told = b->messages[0];
	struct ring r;
	uint32_t id, len;

	if (!(status(b) & ST_NEEDS_RESET))
		fail_msg("%s: the device goes on", what);
	assert_int_equal(told, 1);	/* the configuration interrupt says so */
	bench_reset(b);
	start(b, &r, &l);
	exchange(&r, 7, false);
	assert_false(ring_take(&r, 1, &id, &len));
}

static void test_nonsense(void **state)
{
	const struct seg inner = { 0x50000, 16, D_INDIRECT }, good = { 0x40000, 1, 0 };

	(void)state;
	for (unsigned int k = 0; k < ARRAY_SIZE(nonsenses); k++) {
		const struct nonsense *n = &nonsenses[k];
		const struct layout l = { n->packed, false, 8 };
		struct bench b;
		struct ring r;

		setup(&b);
		wr(&b, COMMON(0x10), 2, 0);
		bench_features(&b, features_of(&l) & ~n->without);
		ring_init(&r, &b, 0, n->packed, 8);
		bench_driver_ok(&b);
		put_table(&r, 0x50000, &good, 1);
		put_table(&r, 0x58000, &inner, 1);
		if (n->next) {
			for (unsigned int i = 0; i < n->count; i++)
				put_desc(&b, r.desc, i, &n->s[i], D_NEXT,
					 i + 1 < n->count ? i + 1U : n->next);
			offer(&r, 0);
		} else {
			ring_add(&r, n->s, n->count, 0);
		}
		ring_kick(&r);
		/* Nothing was used. */
		if (!n->packed)
			assert_int_equal(peek16(&b, r.device + 2), 0);
		is_broken_and_recovers(&b, n->name);
		bench_done(&b);
	}
}

/* A table whose entries refer to each other for ever. */
static void test_endless_table(void **state)
{
	const struct seg s = { 0x40000, 1, 0 }, table = { 0x50000, 32, D_INDIRECT };
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	wr(&b, COMMON(0x10), 2, 0);
	start(&b, &r, &layouts[0]);
	put_desc(&b, 0x50000, 0, &s, D_NEXT, 1);
	put_desc(&b, 0x50000, 1, &s, D_NEXT, 0);
	ring_add(&r, &table, 1, 0);
	ring_kick(&r);
	is_broken_and_recovers(&b, "an endless table");
	bench_done(&b);
}

/* A packed ring in which every descriptor has a successor. */
static void test_packed_endless(void **state)
{
	const struct seg s = { 0x40000, 1, 0 };
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	wr(&b, COMMON(0x10), 2, 0);
	start(&b, &r, &layouts[2]);
	for (unsigned int i = 0; i < 8; i++)
		put_packed(&b, r.desc, i, &s, D_NEXT | packed_flags(true), i);
	ring_kick(&r);
	assert_true(status(&b) & ST_NEEDS_RESET);
	bench_done(&b);
}

static void test_index_jump(void **state)
{
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	wr(&b, COMMON(0x10), 2, 0);
	start(&b, &r, &layouts[0]);
	poke16(&b, r.driver + 2, 9);	/* 9 buffers in a ring of 8 */
	ring_kick(&r);
	is_broken_and_recovers(&b, "the index jumps");
	start(&b, &r, &layouts[0]);
	bench_done(&b);
}

static void test_head_out_of_range(void **state)
{
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	wr(&b, COMMON(0x10), 2, 0);
	start(&b, &r, &layouts[0]);
	offer(&r, 8);
	ring_kick(&r);
	is_broken_and_recovers(&b, "a head out of range");
	bench_done(&b);
}

/* The same buffers made available again and again while the device still has them. */
static void test_too_many(void **state)
{
	const struct seg s = { 0x40000, 1, 0 };
	struct bench b;
	struct echo *e = setup(&b);
	struct ring r;

	(void)state;
	wr(&b, COMMON(0x10), 2, 0);
	e->hold = true;
	start(&b, &r, &layouts[0]);
	for (unsigned int i = 0; i < 8; i++)
		ring_add(&r, &s, 1, 0);
	ring_kick(&r);
	assert_int_equal(e->held_count, 8);
	assert_false(status(&b) & ST_NEEDS_RESET);
	ring_add(&r, &s, 1, 0);
	ring_kick(&r);
	e->hold = false;
	is_broken_and_recovers(&b, "more than there are");
	bench_done(&b);
}

/* --- registers --- */

static void test_features(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	assert_true(bench_offered(&b) & BIT(VIRTIO_F_VERSION_1));
	assert_true(bench_offered(&b) & BIT(3));
	/* Not without VERSION_1, not with what was not offered. */
	set_status(&b, ST_ACK | ST_DRIVER | ST_FEATURES_OK);
	assert_false(status(&b) & ST_FEATURES_OK);
	wr(&b, COMMON(8), 4, 1);
	wr(&b, COMMON(0xc), 4, 1);
	wr(&b, COMMON(8), 4, 0);
	wr(&b, COMMON(0xc), 4, BIT(5));
	set_status(&b, ST_ACK | ST_DRIVER | ST_FEATURES_OK);
	assert_false(status(&b) & ST_FEATURES_OK);
	/* And nothing starts without them. */
	set_status(&b, ST_ACK | ST_DRIVER | ST_DRIVER_OK);
	assert_false(status(&b) & ST_DRIVER_OK);
	wr(&b, COMMON(0xc), 4, BIT(3));
	set_status(&b, ST_ACK | ST_DRIVER | ST_FEATURES_OK);
	assert_true(status(&b) & ST_FEATURES_OK);
	assert_true(virtio_has(b.d, 3));
	/* Settled is settled. */
	wr(&b, COMMON(0xc), 4, 0);
	assert_int_equal(rd(&b, COMMON(0xc), 4), BIT(3));
	wr(&b, COMMON(8), 4, 77);
	assert_int_equal(rd(&b, COMMON(0xc), 4), 0);
	bench_reset(&b);
	assert_false(virtio_has(b.d, 3));
	bench_done(&b);
}

static void test_moved_ring(void **state)
{
	struct bench b;
	struct ring r, moved;

	(void)state;
	setup(&b);
	start(&b, &r, &layouts[0]);
	exchange(&r, 1, false);
	moved = r;
	moved.desc += 0x100000;
	moved.driver = 1;
	moved.size = 3;
	ring_registers(&moved);
	assert_int_equal(rd(&b, COMMON(0x18), 2), 8);
	assert_int_equal(rd(&b, COMMON(0x20), 8), r.desc);
	assert_int_equal(rd(&b, COMMON(0x28), 4), r.driver);
	exchange(&r, 2, false);
	bench_done(&b);
}

static void test_bad_places(void **state)
{
	static const struct {
		uint16_t size;
		gpa_t desc, driver, device;
		bool packed;
	} bad[] = {
		{ 0, 0x10000, 0x12000, 0x13000, false },
		{ 0, 0x10000, 0x12000, 0x13000, true },
		{ 6, 0x10000, 0x12000, 0x13000, false },
		{ 128, 0x10000, 0x12000, 0x13000, false },
		{ 0x8000, 0x10000, 0x12000, 0x13000, true },
		{ 8, 0x10008, 0x12000, 0x13000, false },
		{ 8, 0x10000, 0x12001, 0x13000, false },
		{ 8, 0x10000, 0x12000, 0x13002, false },
		{ 8, 0x10000, 0x12002, 0x13000, true },
		{ 8, BENCH_RAM, 0x12000, 0x13000, false },
		{ 64, BENCH_RAM - 0x200, 0x12000, 0x13000, false },
		{ 8, 0x10000, BENCH_RAM - 20, 0x13000, false },
		{ 8, 0x10000, 0x12000, BENCH_RAM - 68, false },
		{ 8, 0x10000, 0x12000, BENCH_ROM, false },
		{ 8, 0x10000, 0x12000, ~0xfULL, true },
		{ 8, BENCH_BARS, 0x12000, 0x13000, true },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		struct bench b;
		struct ring r;

		setup(&b);
		bench_features(&b, bad[i].packed ? BIT(VIRTIO_F_RING_PACKED) : 0);
		r = (struct ring){ .b = &b, .size = bad[i].size, .desc = bad[i].desc,
				   .driver = bad[i].driver, .device = bad[i].device };
		ring_registers(&r);
		wr(&b, COMMON(0x1c), 2, 1);
		assert_int_equal(rd(&b, COMMON(0x1c), 2), 0);
		if (!(status(&b) & ST_NEEDS_RESET))
			fail_msg("place %u is taken", i);
		bench_driver_ok(&b);
		ring_kick(&r);
		bench_done(&b);
	}
}

static void test_registers(void **state)
{
	struct bench b;

	(void)state;
	setup(&b);
	assert_int_equal(rd(&b, COMMON(0x12), 2), 2);
	wr(&b, COMMON(0x16), 2, 1);
	assert_int_equal(rd(&b, COMMON(0x18), 2), 64);
	assert_int_equal(rd(&b, COMMON(0x1e), 2), 1);
	wr(&b, COMMON(0x1a), 2, 2);
	assert_int_equal(rd(&b, COMMON(0x1a), 2), 2);
	wr(&b, COMMON(0x1a), 2, 3);	/* there are three vectors */
	assert_int_equal(rd(&b, COMMON(0x1a), 2), 0xffff);
	wr(&b, COMMON(0x10), 2, 9);
	assert_int_equal(rd(&b, COMMON(0x10), 2), 0xffff);
	/* A queue that is not there. */
	wr(&b, COMMON(0x16), 2, 2);
	assert_int_equal(rd(&b, COMMON(0x18), 2), 0);
	wr(&b, COMMON(0x1c), 2, 1);
	assert_int_equal(rd(&b, COMMON(0x1c), 2), 0);
	assert_int_equal(status(&b), 0);
	for (unsigned int q = 0; q < 0x400; q++)
		wr(&b, NOTIFY(q), 2, q);
	/* Widths: bytes of a register, two registers at once, beyond the end. */
	set_status(&b, ST_ACK);
	assert_int_equal(rd(&b, COMMON(0x13), 1), 0);
	assert_int_equal(rd(&b, COMMON(0x12), 4) & 0xffffff, 2 | ST_ACK << 16);
	assert_int_equal(rd(&b, COMMON(0x3e), 8), 0);
	wr(&b, COMMON(0x3e), 8, UINT64_MAX);
	wr(&b, COMMON(0x15), 1, 0xff);
	bench_done(&b);
}

static void test_config(void **state)
{
	const uint8_t nine = 9;
	struct bench b;
	struct echo *e = setup(&b);
	unsigned int generation;
	struct ring r;

	(void)state;
	wr(&b, COMMON(0x10), 2, 0);
	start(&b, &r, &layouts[0]);
	assert_true(rd(&b, DEVCFG(0), 8) == 0x0807060504030201);
	assert_int_equal(rd(&b, DEVCFG(7), 4), 8);
	assert_int_equal(rd(&b, DEVCFG(8), 4), 0);
	assert_int_equal(rd(&b, DEVCFG(0xffc), 8), 0);
	/* The driver may write bytes 4 and 5. */
	wr(&b, DEVCFG(2), 4, 0xaabbccdd);
	bench_sync(&b);
	assert_int_equal(e->config_writes, 1);
	assert_true(rd(&b, DEVCFG(0), 8) == 0x0807aabb04030201);
	wr(&b, DEVCFG(0), 4, 0);
	wr(&b, DEVCFG(0xffc), 8, 0);
	bench_sync(&b);
	assert_int_equal(e->config_writes, 1);
	generation = rd(&b, COMMON(0x15), 1);
	virtio_config_write(b.d, 0, &nine, 1, true);
	assert_int_equal(rd(&b, DEVCFG(0), 1), 9);
	assert_int_not_equal(rd(&b, COMMON(0x15), 1), generation);
	assert_int_equal(b.messages[0], 1);
	bench_done(&b);
}

/* The capability through which firmware without a mapped BAR gets at the registers. */
static void test_config_window(void **state)
{
	struct bench b;
	unsigned int cap;

	(void)state;
	setup(&b);
	cap = bench_find_cap(&b, PCI_CAP_VENDOR);
	while (cap && cfg_rd(&b, cap + 3, 1) != 5)
		cap = cfg_rd(&b, cap + 1, 1);
	assert_int_not_equal(cap, 0);
	set_status(&b, ST_ACK);
	cfg_wr(&b, 4, 2, 0);
	cfg_wr(&b, cap + 8, 4, COMMON(0x14));
	cfg_wr(&b, cap + 12, 4, 1);
	assert_int_equal(cfg_rd(&b, cap + 16, 4), ST_ACK);
	cfg_wr(&b, cap + 16, 4, ST_ACK | ST_DRIVER);
	assert_int_equal(cfg_rd(&b, cap + 16, 4), ST_ACK | ST_DRIVER);
	/* Nowhere: another BAR, an odd place, a strange length, beyond the end. */
	cfg_wr(&b, cap + 4, 1, 2);
	assert_int_equal(cfg_rd(&b, cap + 16, 4), 0);
	cfg_wr(&b, cap + 4, 1, 0);
	cfg_wr(&b, cap + 12, 4, 3);
	assert_int_equal(cfg_rd(&b, cap + 16, 4), 0);
	cfg_wr(&b, cap + 12, 4, 4);
	cfg_wr(&b, cap + 8, 4, 0xfffffffc);
	assert_int_equal(cfg_rd(&b, cap + 16, 4), 0);
	cfg_wr(&b, cap + 16, 4, 0);
	bench_done(&b);
}

/* --- resets --- */

static void test_reset_in_flight(void **state)
{
	const struct seg s[] = { { 0x40000, 4, 0 }, { 0x41000, 4, D_WRITE } };
	struct bench b;
	struct echo *e = setup(&b);
	struct virtq_chain *late;
	struct ring r;

	(void)state;
	for (unsigned int k = 0; k < 4; k++) {
		e->hold = true;
		start(&b, &r, &layouts[k]);
		ring_add(&r, s, 2, 1);
		ring_add(&r, s, 2, 2);
		ring_kick(&r);
		assert_int_equal(e->held_count, 2);
		/* One is given back only after the ring is another. */
		late = e->held[--e->held_count];
		bench_reset(&b);
		assert_int_equal(e->held_count, 0);
		e->hold = false;
		start(&b, &r, &layouts[k]);
		virtq_push(late, 4);
		exchange(&r, 3, false);
		bench_reset(&b);
	}
	assert_int_equal(e->starts, 8);
	assert_int_equal(e->resets, 8);
	bench_done(&b);
}

static void wait_there(void *arg)
{
	sem_wait(arg);
}

/* A device that has no time yet for a reset says so, also if it was reset before. */
static void test_late_reset(void **state)
{
	struct bench b;
	sem_t go;
	struct loop_work busy = { .run = wait_there, .arg = &go };

	(void)state;
	setup(&b);
	for (unsigned int i = 0; i < 2; i++) {
		sem_init(&go, 0, 0);
		loop_post(virtio_loop(b.d), &busy);
		assert_int_equal(status(&b), 0);
		set_status(&b, 0);
		assert_int_not_equal(status(&b), 0);
		set_status(&b, ST_ACK | ST_DRIVER);	/* too early */
		sem_post(&go);
		while (status(&b))
			bench_sync(&b);
		bench_features(&b, 0);
		bench_reset(&b);
		sem_destroy(&go);
	}
	bench_done(&b);
}

static void test_queue_reset(void **state)
{
	const struct seg s = { 0x40000, 4, 0 };
	struct bench b;
	struct echo *e = setup(&b);
	struct ring r, other;

	(void)state;
	bench_features(&b, BIT(VIRTIO_F_RING_RESET));
	ring_init(&other, &b, 1, false, 8);
	ring_init(&r, &b, 0, false, 8);
	bench_driver_ok(&b);
	e->hold = true;
	ring_add(&r, &s, 1, 0);
	ring_kick(&r);
	assert_int_equal(e->held_count, 1);
	wr(&b, COMMON(0x3a), 2, 1);
	bench_sync(&b);
	assert_int_equal(rd(&b, COMMON(0x1c), 2), 0);
	assert_int_equal(e->queue_resets, 1);
	assert_int_equal(e->held_count, 0);
	e->hold = false;
	exchange(&other, 1, false);
	ring_init(&r, &b, 0, false, 4);
	exchange(&r, 2, false);
	bench_done(&b);
}

/* As a VM does: with everything under way. */
static void test_machine_reset(void **state)
{
	const struct seg s = { 0x40000, 4, 0 };
	struct bench b;
	struct echo *e = setup(&b);
	struct ring r;

	(void)state;
	e->hold = true;
	start(&b, &r, &layouts[0]);
	ring_add(&r, &s, 1, 0);
	ring_kick(&r);
	b.pci->ops->reset(b.pci);
	assert_int_equal(e->held_count, 0);
	assert_int_equal(cfg_rd(&b, 4, 2), 0);
	assert_int_equal(cfg_rd(&b, 0x10, 4), BENCH_BARS | 4);
	bench_enable(&b);
	assert_int_equal(status(&b), 0);
	e->hold = false;
	start(&b, &r, &layouts[3]);
	exchange(&r, 1, false);
	bench_done(&b);
}

/* --- memory --- */

static gpa_t code_at;
static uint64_t code_len;

static void note_code(void *arg, void *writer, gpa_t gpa, uint64_t len)
{
	(void)arg;
	assert_null(writer);
	code_at = gpa;
	code_len += len;
}

/* Guest code that a device overwrites is forgotten, and nothing else is. */
static void test_code(void **state)
{
	const struct seg s[] = { { 0x40000, 4096, 0 }, { 0x60ff8, 16, D_WRITE } };
	struct bench b;
	struct ring r;

	(void)state;
	setup(&b);
	start(&b, &r, &layouts[0]);
	code_len = 0;
	b.rig.space.code_written = note_code;
	ring_add(&r, s, 2, 0);
	ring_kick(&r);
	assert_int_equal(code_len, 0);
	b.rig.space.ram[0].page_flags[0x61] = PAGE_CODE;
	ring_add(&r, s, 2, 0);
	ring_kick(&r);
	assert_int_equal(code_at, 0x61000);
	assert_int_equal(code_len, 8);
	bench_done(&b);
}

static void test_chain_bytes(void **state)
{
	char a[] = "abc", c[] = "defgh", in[] = "......";
	struct iovec out[] = { { a, 3 }, { c, 5 } }, to[] = { { in, 2 }, { in + 2, 4 } };
	struct virtq_chain ch = { .out = out, .out_count = 2, .out_len = 8, .in = to, .in_count = 2,
				  .in_len = 6 };
	char buf[16] = "";

	(void)state;
	assert_int_equal(chain_read(&ch, 2, buf, 3), 3);
	assert_memory_equal(buf, "cde", 3);
	assert_int_equal(chain_read(&ch, 7, buf, 9), 1);
	assert_int_equal(chain_read(&ch, 8, buf, 9), 0);
	assert_int_equal(chain_read(&ch, 99, buf, 9), 0);
	assert_int_equal(chain_write(&ch, 1, "1234", 4), 4);
	assert_string_equal(in, ".1234.");
	assert_int_equal(chain_write(&ch, 4, "xyz", 3), 2);
	assert_string_equal(in, ".123xy");
	chain_skip_out(&ch, 3);
	assert_int_equal(ch.out_count, 1);
	chain_skip_out(&ch, 1);
	assert_int_equal(chain_read(&ch, 0, buf, 9), 4);
	assert_memory_equal(buf, "efgh", 4);
	chain_trim_out(&ch, 2);
	assert_int_equal(chain_read(&ch, 0, buf, 9), 2);
	chain_skip_out(&ch, 2);
	assert_int_equal(ch.out_count, 0);
	chain_trim_in(&ch, 2);
	assert_int_equal(ch.in_count, 1);
	chain_skip_in(&ch, 1);
	assert_int_equal(chain_write(&ch, 0, "QQQ", 3), 1);
	assert_string_equal(in, ".Q23xy");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_echo),
		cmocka_unit_test(test_index_wrap),
		cmocka_unit_test(test_interrupts),
		cmocka_unit_test(test_event_index),
		cmocka_unit_test(test_intx),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_endless_table),
		cmocka_unit_test(test_packed_endless),
		cmocka_unit_test(test_index_jump),
		cmocka_unit_test(test_head_out_of_range),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_features),
		cmocka_unit_test(test_moved_ring),
		cmocka_unit_test(test_bad_places),
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_config_window),
		cmocka_unit_test(test_reset_in_flight),
		cmocka_unit_test(test_late_reset),
		cmocka_unit_test(test_queue_reset),
		cmocka_unit_test(test_machine_reset),
		cmocka_unit_test(test_code),
		cmocka_unit_test(test_chain_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
