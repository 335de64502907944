// SPDX-License-Identifier: Apache-2.0
/* virtio-balloon: memory really goes to the host, reads as zero, and code from it is dropped. */
#include "virtio_rig.h"

#include "virtio/balloon.h"

#include <sys/stat.h>

#define LIST	0x80000ULL
#define STATS	0x90000ULL
#define PAGE	4096ULL

struct hits {
	gpa_t gpa;
	uint64_t len;
	unsigned int calls;
};

static void hit(void *arg, void *writer, gpa_t gpa, uint64_t len)
{
	struct hits *h = arg;

	assert_null(writer);
	h->gpa = gpa;
	h->len = len;
	h->calls++;
}

static void start(struct bench *b, struct ring *ring, unsigned int rings, uint64_t features)
{
	const struct balloon_config c = { .target = 0, .deflate_on_oom = true, .reporting = true };
	struct virtio_device *d;

	bench_init(b);
	assert_int_equal(virtio_balloon_create(&d, &b->rig.space, NULL, &c, NULL), 0);
	bench_plug(b, d);
	assert_int_equal(bench_offered(b) & 0xffffff, BIT(1) | BIT(2) | BIT(5));
	bench_features(b, features);
	for (unsigned int i = 0; i < rings; i++)
		ring_init(&ring[i], b, i, false, 16);
	bench_driver_ok(b);
}

static uint64_t blocks(struct bench *b)
{
	struct stat st;

	assert_int_equal(fstat(b->rig.space.ram[0].fd, &st), 0);
	return st.st_blocks;
}

static void send_list(struct bench *b, struct ring *r, const uint32_t *pfn, unsigned int count)
{
	const struct seg s = { LIST, 4 * count, 0 };
	uint32_t id, len;

	memcpy(mem(b, LIST), pfn, 4 * count);
	ring_add(r, &s, 1, 0);
	ring_kick(r);
	assert_true(ring_take(r, 1, &id, &len));
}

static bool is_zero(struct bench *b, gpa_t gpa)
{
	const uint8_t *p = mem(b, gpa);

	for (unsigned int i = 0; i < PAGE; i++)
		if (p[i])
			return false;
	return true;
}

static void test_inflate(void **state)
{
	/* Rising, falling, alone, outside of RAM, ROM, the last of RAM and past it. */
	static const uint32_t list[] = {
		0xa0, 0xa1, 0xa2, 0xc2, 0xc1, 0xc0, 0xb0, 0x300, 0xfffffff, 0xffffffff, 0x200, 0xff, 0x100,
	};
	struct balloon_state s;
	struct hits hits = { 0 };
	struct ring ring[2];
	struct bench b;
	uint64_t before;

	(void)state;
	start(&b, ring, 2, 0);
	memset(mem(&b, 0xa0000), 0x5a, 0x60000);
	memset(mem(&b, LIST), 0x5a, PAGE);
	b.rig.space.code_written = hit;
	b.rig.space.code_written_arg = &hits;
	b.rig.space.ram[0].page_flags[0xc1] = PAGE_CODE;
	before = blocks(&b);
	send_list(&b, &ring[0], list, ARRAY_SIZE(list));
	assert_int_equal(before - blocks(&b), 8 * PAGE / 512);
	for (unsigned int i = 0; i < 7; i++)
		assert_true(is_zero(&b, list[i] * PAGE));
	assert_true(is_zero(&b, 0xff000));
	assert_int_equal(*(uint8_t *)mem(&b, 0xa3000), 0x5a);
	assert_int_equal(*(uint8_t *)mem(&b, 0xbf000), 0x5a);
	assert_int_equal(hits.calls, 1);
	assert_int_equal(hits.gpa, 0xc1000);
	assert_int_equal(hits.len, PAGE);
	balloon_state(b.d, &s);
	assert_int_equal(s.given_back, 8 * PAGE);
	send_list(&b, &ring[1], list, 3);	/* back: nothing to do */
	*(uint8_t *)mem(&b, 0xa0000) = 1;
	assert_int_equal(*(uint8_t *)mem(&b, 0xa0000), 1);
	bench_done(&b);
}

static void test_target(void **state)
{
	struct balloon_state s;
	struct ring ring[2];
	unsigned int told;
	struct bench b;

	(void)state;
	start(&b, ring, 2, 0);
	wr(&b, COMMON(0x10), 2, 0);	/* the configuration's vector */
	told = b.messages[0];
	balloon_set_target(b.d, 64 * PAGE + 100);
	assert_int_equal(rd(&b, DEVCFG(0), 4), 64);
	assert_int_equal(b.messages[0] - told, 1);
	wr(&b, DEVCFG(4), 4, 12);
	wr(&b, DEVCFG(0), 4, 99);	/* not the driver's to write */
	balloon_state(b.d, &s);
	assert_int_equal(s.target, 64 * PAGE);
	assert_int_equal(s.actual, 12 * PAGE);
	bench_reset(&b);
	assert_int_equal(rd(&b, DEVCFG(0), 4), 64);
	assert_int_equal(rd(&b, DEVCFG(4), 4), 0);
	balloon_set_target(b.d, UINT64_MAX);
	assert_int_equal(rd(&b, DEVCFG(0), 4), UINT32_MAX);
	bench_done(&b);
}

static void test_stats(void **state)
{
	static const uint8_t text[] = { 4, 0, 1, 2, 0, 0, 0, 0, 0, 0, 77, 0, 9, 9, 9, 9, 9, 9, 9, 9, 5, 0, 1 };
	const struct seg s = { STATS, sizeof(text), 0 };
	struct balloon_state st;
	struct ring ring[4];
	struct bench b;
	uint32_t id, len;

	(void)state;
	start(&b, ring, 4, BIT(1) | BIT(5));
	memcpy(mem(&b, STATS), text, sizeof(text));
	ring_add(&ring[2], &s, 1, 0);
	ring_kick(&ring[2]);
	assert_false(ring_take(&ring[2], 1, &id, &len));	/* kept */
	balloon_state(b.d, &st);
	assert_int_equal(st.stat[BALLOON_FREE], 0x201);
	assert_true(st.stat[BALLOON_TOTAL] == UINT64_MAX);	/* half an entry is none */
	assert_int_equal(st.updates, 1);
	bench_sync(&b);
	assert_true(ring_take(&ring[2], 1, &id, &len));		/* asked for the next */
	ring_add(&ring[2], &s, 1, 0);
	ring_add(&ring[2], &s, 1, 0);				/* one too many */
	ring_kick(&ring[2]);
	assert_true(ring_take(&ring[2], 1, &id, &len));
	bench_reset(&b);
	balloon_state(b.d, &st);
	assert_int_equal(st.updates, 0);
	bench_done(&b);
}

/* Without statistics the reporting queue is the third. */
static void test_reporting(void **state)
{
	struct seg s = { 0xa0000 + 100, 3 * PAGE, D_WRITE };
	struct ring ring[4];
	struct bench b;
	uint64_t before;
	uint32_t id, len;

	(void)state;
	for (unsigned int stats = 0; stats < 2; stats++) {
		start(&b, ring, 4, BIT(5) | (stats ? BIT(1) : 0));
		memset(mem(&b, 0xa0000), 0x5a, 0x8000);
		before = blocks(&b);
		ring_add(&ring[2 + stats], &s, 1, 0);
		ring_kick(&ring[2 + stats]);
		assert_true(ring_take(&ring[2 + stats], 1, &id, &len));
		assert_int_equal(before - blocks(&b), 2 * PAGE / 512);	/* whole pages alone */
		assert_int_equal(*(uint8_t *)mem(&b, 0xa0000 + 200), 0x5a);
		assert_true(is_zero(&b, 0xa1000));
		assert_int_equal(*(uint8_t *)mem(&b, 0xa3000), 0x5a);
		bench_done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_inflate),
		cmocka_unit_test(test_target),
		cmocka_unit_test(test_stats),
		cmocka_unit_test(test_reporting),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
