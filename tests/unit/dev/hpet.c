// SPDX-License-Identifier: Apache-2.0
/* The HPET: counter, comparators, routing, legacy replacement. */
#include "dev_rig.h"

#include "dev/hpet.h"

struct hpet_rig {
	struct rig rig;
	struct probe pin[2], legacy[2];	/* pins 20 and 21 */
	struct device *hpet;
};

static void setup(struct hpet_rig *t)
{
	struct hpet_wires w = { 0 };

	*t = (struct hpet_rig){ 0 };
	rig_init(&t->rig);
	for (unsigned int i = 0; i < 2; i++) {
		w.pin[20 + i] = probe_line(&t->pin[i]);
		w.legacy[i] = probe_line(&t->legacy[i]);
		t->pin[i].clock = t->legacy[i].clock = &t->rig.clock;
	}
	assert_int_equal(hpet_create(&t->hpet, &t->rig.space, HPET_BASE, &t->rig.clock, &w,
				     NULL), 0);
	clock_advance(&t->rig.clock, 12345678);
}

static void teardown(struct hpet_rig *t)
{
	rig_destroy(&t->rig, t->hpet);
}

static uint64_t rd(struct hpet_rig *t, unsigned int reg)
{
	return mmio_read(&t->rig.space, HPET_BASE + reg, 8);
}

static void wr(struct hpet_rig *t, unsigned int reg, uint64_t value)
{
	mmio_write(&t->rig.space, HPET_BASE + reg, 8, value);
}

static uint32_t rd32(struct hpet_rig *t, unsigned int reg)
{
	return mmio_read(&t->rig.space, HPET_BASE + reg, 4);
}

static void wr32(struct hpet_rig *t, unsigned int reg, uint32_t value)
{
	mmio_write(&t->rig.space, HPET_BASE + reg, 4, value);
}

static void test_counter(void **state)
{
	struct hpet_rig t;

	(void)state;
	setup(&t);
	assert_int_equal(rd(&t, 0) >> 32, 10000000);
	assert_int_equal(rd32(&t, 0), 0x8086a201);
	assert_int_equal(hpet_block_id(), 0x8086a201);
	assert_int_equal(rd(&t, 0xf0), 0);
	clock_advance(&t.rig.clock, 1000);
	assert_int_equal(rd(&t, 0xf0), 0);	/* halted */
	wr(&t, 0x10, 1);
	clock_advance(&t.rig.clock, 1000);
	assert_int_equal(rd(&t, 0xf0), 100);
	wr(&t, 0x10, 0);
	clock_advance(&t.rig.clock, 1000);
	assert_int_equal(rd(&t, 0xf0), 100);
	wr32(&t, 0xf4, 7);
	wr32(&t, 0xf0, 0xfffffff0);
	wr(&t, 0x10, 1);
	clock_advance(&t.rig.clock, 200);
	assert_int_equal(rd32(&t, 0xf0), 4);
	assert_int_equal(rd32(&t, 0xf4), 8);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	assert_int_equal(mmio_read(&t.rig.space, HPET_BASE + 0xf1, 1), 0);
	teardown(&t);
}

static void test_oneshot_edge(void **state)
{
	struct hpet_rig t;

	(void)state;
	setup(&t);
	wr(&t, 0x10, 1);
	wr(&t, 0x100, 20 << 9 | 4);
	assert_int_equal(rd(&t, 0x100) & 0xffff, 20 << 9 | 0x34);
	assert_int_equal(rd(&t, 0x100) >> 32, 0x300000);
	wr(&t, 0x108, 1000);
	clock_advance(&t.rig.clock, 9999);
	assert_int_equal(t.pin[0].rises, 0);
	clock_advance(&t.rig.clock, 1);
	assert_int_equal(t.pin[0].rises, 1);
	assert_false(t.pin[0].level);
	assert_int_equal(rd(&t, 0x20), 0);
	clock_advance(&t.rig.clock, NS_PER_SEC);
	assert_int_equal(t.pin[0].rises, 1);
	/* Set behind the counter: not before it wraps. */
	wr(&t, 0x108, rd(&t, 0xf0) - 1);
	clock_advance(&t.rig.clock, NS_PER_SEC);
	assert_int_equal(t.pin[0].rises, 1);
	/* Equal to the counter: at once. */
	wr(&t, 0x108, rd(&t, 0xf0));
	assert_int_equal(t.pin[0].rises, 2);
	/* A route that is not wired reads back as 0. */
	wr(&t, 0x100, 5 << 9 | 4);
	assert_int_equal(rd(&t, 0x100) & 0x3e00, 0);
	wr(&t, 0x100, 0);
	teardown(&t);
}

static void test_32bit_wraps(void **state)
{
	struct hpet_rig t;

	(void)state;
	setup(&t);
	wr(&t, 0xf0, 0xfffffff0);
	wr(&t, 0x120, 21 << 9 | 0x104);
	wr(&t, 0x128, 0x10);
	wr(&t, 0x10, 1);
	clock_advance(&t.rig.clock, 319);
	assert_int_equal(t.pin[1].rises, 0);
	clock_advance(&t.rig.clock, 1);
	assert_int_equal(t.pin[1].rises, 1);
	clock_advance(&t.rig.clock, 42949672960 - 1);
	assert_int_equal(t.pin[1].rises, 1);
	clock_advance(&t.rig.clock, 1);
	assert_int_equal(t.pin[1].rises, 2);
	wr(&t, 0x10, 0);
	teardown(&t);
}

static void test_periodic(void **state)
{
	struct hpet_rig t;

	(void)state;
	setup(&t);
	wr(&t, 0x10, 1);
	/* Linux's sequence: first match, then the period. */
	wr32(&t, 0x100, 20 << 9 | 0x14c);
	wr32(&t, 0x108, 5000);
	assert_int_equal(rd(&t, 0x100) & 0x40, 0);
	wr32(&t, 0x108, 100000);
	assert_int_equal(rd(&t, 0x108), 5000);
	clock_advance(&t.rig.clock, 50000);
	assert_int_equal(t.pin[0].rises, 1);
	assert_int_equal(rd(&t, 0x108), 105000);
	clock_advance(&t.rig.clock, 10 * 1000000);
	assert_int_equal(t.pin[0].rises, 11);
	/* A stall: those that are due at once, and the comparator as if nothing had been. */
	t.rig.clock.now += 7300000;
	clock_run(&t.rig.clock);
	assert_int_equal(t.pin[0].rises, 18);
	assert_int_equal(rd(&t, 0x108), 1805000);
	/* Too short a period does not hold the host up. */
	wr32(&t, 0x108, 1);
	t.pin[0].rises = 0;
	clock_advance(&t.rig.clock, 10000000);
	assert_in_range(t.pin[0].rises, 450, 502);
	t.hpet->ops->reset(t.hpet);
	assert_int_equal(rd(&t, 0xf0), 0);
	teardown(&t);
}

static void test_level(void **state)
{
	struct hpet_rig t;

	(void)state;
	setup(&t);
	wr(&t, 0x10, 1);
	wr(&t, 0x120, 21 << 9 | 6);
	wr(&t, 0x128, 100);
	clock_advance(&t.rig.clock, 2000);
	assert_true(t.pin[1].level);
	assert_int_equal(rd(&t, 0x20), 2);
	wr(&t, 0x120, 20 << 9 | 6);	/* moves to the other pin */
	assert_false(t.pin[1].level);
	assert_true(t.pin[0].level);
	wr(&t, 0x20, 1);		/* another one's bit */
	assert_true(t.pin[0].level);
	wr(&t, 0x20, 2);
	assert_false(t.pin[0].level);
	assert_int_equal(rd(&t, 0x20), 0);
	/* Without the enable bit: the status alone. */
	wr(&t, 0x120, 20 << 9 | 2);
	wr(&t, 0x128, 1000);
	assert_true(clock_deadline(&t.rig.clock) >= 3600 * NS_PER_SEC);
	clock_advance(&t.rig.clock, 20000);
	assert_int_equal(rd(&t, 0x20), 2);
	assert_false(t.pin[0].level);
	teardown(&t);
}

static void test_legacy(void **state)
{
	struct irq_line pit, rtc;
	struct hpet_rig t;

	(void)state;
	setup(&t);
	pit = hpet_legacy_line(t.hpet, 0);
	rtc = hpet_legacy_line(t.hpet, 1);
	irq_pulse(&pit);
	irq_set(&rtc, true);
	assert_int_equal(t.legacy[0].rises, 1);
	assert_true(t.legacy[1].level);
	wr(&t, 0x10, 3);
	assert_false(t.legacy[1].level);
	irq_pulse(&pit);
	assert_int_equal(t.legacy[0].rises, 1);	/* cut off */
	wr(&t, 0x100, 20 << 9 | 4);
	wr(&t, 0x108, 100);
	wr(&t, 0x120, 4);
	wr(&t, 0x128, 200);
	clock_advance(&t.rig.clock, 2000);
	assert_int_equal(t.legacy[0].rises, 2);
	assert_int_equal(t.legacy[1].rises, 2);
	assert_int_equal(t.pin[0].rises, 0);	/* the route does not count */
	wr(&t, 0x10, 1);
	assert_true(t.legacy[1].level);		/* what the RTC drives shows again */
	irq_pulse(&pit);
	assert_int_equal(t.legacy[0].rises, 3);
	wr(&t, 0x10, 0);
	teardown(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_counter), cmocka_unit_test(test_oneshot_edge),
		cmocka_unit_test(test_32bit_wraps), cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_level), cmocka_unit_test(test_legacy),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
