// SPDX-License-Identifier: Apache-2.0
/* The registers of virtio-mmio, with virtio-rng behind them: identity, a request, resets. */
#include "dev_rig.h"

#include "virtio/mmio.h"
#include "virtio/rng.h"

#include <errno.h>
#include <string.h>

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
static void request(struct bench *b, gpa_t at, uint32_t len, uint16_t turn)
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
	request(&b, 0x4000, 64, 1);
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
	request(&b, 0x5000, 64, 2);
	assert_int_equal(ram[0x5000] | ram[0x5001] | ram[0x5002] | ram[0x5003], 0);
	memset(ram + RING, 0, 0x1000);
	ready(&b);
	request(&b, 0x5000, 64, 1);
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
	request(&b, 0x10000, 64, 1);
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
	request(&b, 0x4000, 8, 1);
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

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_identity),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_broken_and_reset),
		cmocka_unit_test(test_taken_place),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
