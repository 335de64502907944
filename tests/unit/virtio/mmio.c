// SPDX-License-Identifier: Apache-2.0
/*
 * The registers of virtio-mmio, with virtio-rng behind them: identity, a request, resets; and
 * random accesses (FUZZ_SECONDS, FUZZ_SEED), after which the device still works.
 */
#include "dev_rig.h"

#include "virtio/mmio.h"
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BASE	0xd0000000ULL
#define RING	0x1000ULL

struct bench {
	struct rig rig;
	struct virtio_device *d;
	struct device *dev;
	struct probe irq;
};

static uint32_t rd(struct bench *b, unsigned int reg)
{
	return mmio_read(&b->rig.space, BASE + reg, 4);
}

static void wr(struct bench *b, unsigned int reg, uint32_t value)
{
	mmio_write(&b->rig.space, BASE + reg, 4, value);
}

static void init(struct bench *b)
{
	struct irq_line line = probe_line(&b->irq);

	memset(b, 0, sizeof(*b));
	rig_init(&b->rig);
	assert_int_equal(gpa_space_add_ram(&b->rig.space, 0, 0x10000, NULL), 0);
	assert_int_equal(virtio_rng_create(&b->d, &b->rig.space, NULL, NULL), 0);
	assert_int_equal(virtio_mmio_create(&b->dev, b->d, BASE, &line, NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->dev);
}

static void negotiate(struct bench *b)
{
	wr(b, 0x70, 3);
	wr(b, 0x24, 1);
	wr(b, 0x20, 1);
	wr(b, 0x70, 11);
	assert_int_equal(rd(b, 0x70), 11);
}

static void ready(struct bench *b)
{
	wr(b, 0x30, 0);
	wr(b, 0x38, 4);
	wr(b, 0x80, RING);
	wr(b, 0x84, 0);
	wr(b, 0x90, RING + 0x100);
	wr(b, 0xa0, RING + 0x200);
	wr(b, 0x44, 1);
}

/* One buffer of @len bytes at @at, as the driver's @turn. */
static void put_request(struct bench *b, gpa_t at, uint32_t len, uint16_t turn)
{
	uint8_t *ring = gpa_to_hva(&b->rig.space, RING, 1);
	uint16_t flags = 2;

	memcpy(ring, &at, 8);
	memcpy(ring + 8, &len, 4);
	memcpy(ring + 12, &flags, 2);
	memcpy(ring + 0x102, &turn, 2);
	wr(b, 0x50, 0);
	virtio_sync(b->d);
	virtio_sync(b->d);
}

static void test_identity(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(rd(&b, 0), 0x74726976);
	assert_int_equal(rd(&b, 4), 2);
	assert_int_equal(rd(&b, 8), 4);
	wr(&b, 0x14, 1);
	assert_int_equal(rd(&b, 0x10) & 5, 5);	/* VERSION_1, RING_PACKED */
	wr(&b, 0x14, 2);
	assert_int_equal(rd(&b, 0x10), 0);
	assert_int_equal(rd(&b, 0x34), 8);
	wr(&b, 0x30, 1);
	assert_int_equal(rd(&b, 0x34), 0);
	wr(&b, 0x44, 1);
	assert_int_equal(rd(&b, 0x44), 0);
	assert_int_equal(rd(&b, 0xb0), UINT32_MAX);
	assert_int_equal(mmio_read(&b.rig.space, BASE + 1, 1), 0);
	assert_int_equal(mmio_read(&b.rig.space, BASE + 0x100, 8), 0);
	done(&b);
}

static void test_request(void **state)
{
	uint8_t *ram;
	struct bench b;
	unsigned int set = 0;

	(void)state;
	init(&b);
	ram = gpa_to_hva(&b.rig.space, 0, 1);
	negotiate(&b);
	ready(&b);
	assert_int_equal(rd(&b, 0x44), 1);
	wr(&b, 0x70, 15);
	put_request(&b, 0x4000, 64, 1);
	assert_true(b.irq.level);
	assert_int_equal(rd(&b, 0x60), 1);
	wr(&b, 0x64, 1);
	assert_false(b.irq.level);
	for (unsigned int i = 0; i < 64; i++)
		set += ram[0x4000 + i] != 0;
	assert_in_range(set, 32, 64);
	assert_int_equal(ram[0x4040], 0);
	/* The driver stops the queue without a reset, and starts it again. */
	wr(&b, 0x44, 0);
	assert_int_equal(rd(&b, 0x44), 0);
	put_request(&b, 0x5000, 64, 2);
	assert_int_equal(ram[0x5000] | ram[0x5001] | ram[0x5002] | ram[0x5003], 0);
	memset(ram + RING, 0, 0x1000);
	ready(&b);
	put_request(&b, 0x5000, 64, 1);
	assert_int_not_equal(ram[0x5000] | ram[0x5001] | ram[0x5002] | ram[0x5003], 0);
	done(&b);
}

static void test_broken_and_reset(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	negotiate(&b);
	ready(&b);
	wr(&b, 0x70, 15);
	put_request(&b, 0x10000, 64, 1);
	assert_int_equal(rd(&b, 0x70), 15 | 0x40);
	assert_int_equal(rd(&b, 0x60), 2);
	wr(&b, 0x70, 0);
	virtio_sync(b.d);
	assert_int_equal(rd(&b, 0x70), 0);
	assert_int_equal(rd(&b, 0x60), 0);
	assert_false(b.irq.level);
	assert_int_equal(rd(&b, 0x44), 0);
	memset(gpa_to_hva(&b.rig.space, RING, 1), 0, 0x1000);
	negotiate(&b);
	ready(&b);
	wr(&b, 0x70, 15);
	put_request(&b, 0x4000, 8, 1);
	assert_int_equal(rd(&b, 0x60), 1);
	b.dev->ops->reset(b.dev);
	assert_int_equal(rd(&b, 0x70), 0);
	done(&b);
}

static void test_taken_place(void **state)
{
	struct virtio_device *d;
	struct device *dev;
	struct irq_line none = { 0 };
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(virtio_rng_create(&d, &b.rig.space, NULL, NULL), 0);
	assert_int_equal(virtio_mmio_create(&dev, d, BASE, &none, NULL), -EEXIST);
	assert_int_equal(rd(&b, 0), 0x74726976);
	done(&b);
}

/* Mostly registers that there are, and values that may mean something. */
static void random_access(struct bench *b, uint64_t *seed)
{
	static const uint8_t regs[] = {
		0x10, 0x14, 0x20, 0x24, 0x30, 0x34, 0x38, 0x44, 0x50, 0x60, 0x64, 0x70, 0x80, 0x84,
		0x90, 0x94, 0xa0, 0xa4, 0xac, 0xb0, 0xb8, 0xc0, 0xfc,
	};
	const uint64_t r = rig_random(seed), v = rig_random(seed);
	const unsigned int size = r & 7 ? 4 : 1U << (r >> 3 & 3);
	const unsigned int reg = r >> 5 & 7 ? regs[(r >> 8) % ARRAY_SIZE(regs)] : (r >> 8) % 0x1f8;
	const uint64_t values[] = { v, v & 15, RING + (v & 0xf00), 1ULL << (v & 63), 15, 1, 8, 0 };

	if (r >> 32 & 3)
		mmio_write(&b->rig.space, BASE + reg, size, values[r >> 40 & 7]);
	else
		mmio_read(&b->rig.space, BASE + reg, size);
}

static void test_random(void **state)
{
	const char *seconds = getenv("FUZZ_SECONDS"), *given = getenv("FUZZ_SEED");
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : 1);
	uint64_t seed = given ? strtoull(given, NULL, 0) : 0x9e3779b97f4a7c15;
	struct bench b;

	(void)state;
	init(&b);
	do {
		uint8_t *ram = gpa_to_hva(&b.rig.space, 0, 1);

		for (unsigned int i = 0; i < 2000; i++) {
			random_access(&b, &seed);
			ram[RING + rig_random(&seed) % 0x1000] = rig_random(&seed);
		}
		wr(&b, 0x70, 0);
		virtio_sync(b.d);
		memset(ram + RING, 0, 0x1000);
		negotiate(&b);
		ready(&b);
		wr(&b, 0x70, 15);
		put_request(&b, 0x4000, 8, 1);
		assert_int_equal(rd(&b, 0x60) & 1, 1);
		wr(&b, 0x70, 0);
		virtio_sync(b.d);
		memset(ram + RING, 0, 0x1000);
	} while (time(NULL) < end);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_broken_and_reset),
		cmocka_unit_test(test_taken_place),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
