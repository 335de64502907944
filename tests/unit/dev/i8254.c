// SPDX-License-Identifier: Apache-2.0
/* The interval timer: each mode tick by tick, the read commands, port 61h, IRQ 0. */
#include "dev_rig.h"

#include "dev/i8254.h"

struct pit_rig {
	struct rig rig;
	struct probe irq0;
	struct device *pit;
	uint64_t tick;		/* where the clock stands */
};

static void to_tick(struct pit_rig *t, uint64_t tick)
{
	uint64_t ns = ((unsigned __int128)tick * NS_PER_SEC + PIT_HZ - 1) / PIT_HZ;

	clock_advance(&t->rig.clock, ns - clock_now(&t->rig.clock));
	t->tick = tick;
}

static void ticks(struct pit_rig *t, uint64_t n)
{
	to_tick(t, t->tick + n);
}

static void setup(struct pit_rig *t)
{
	struct irq_line irq0 = probe_line(&t->irq0);

	*t = (struct pit_rig){ 0 };
	rig_init(&t->rig);
	t->irq0.clock = &t->rig.clock;
	assert_int_equal(i8254_create(&t->pit, &t->rig.space, &t->rig.clock, &irq0, NULL), 0);
	ticks(t, 1000);
}

static void teardown(struct pit_rig *t)
{
	rig_destroy(&t->rig, t->pit);
}

/* Control word for channel 2 (or 0), two bytes of count. */
static void program(struct pit_rig *t, unsigned int ch, unsigned int mode, uint16_t count)
{
	outb(&t->rig, 0x43, ch << 6 | 0x30 | mode << 1);
	outb(&t->rig, 0x40 + ch, count);
	outb(&t->rig, 0x40 + ch, count >> 8);
}

static void gate2(struct pit_rig *t, bool on)
{
	outb(&t->rig, 0x61, on);
}

static bool out2(struct pit_rig *t)
{
	return inb(&t->rig, 0x61) >> 5 & 1;
}

static uint16_t count(struct pit_rig *t, unsigned int ch)
{
	uint16_t low;

	outb(&t->rig, 0x43, ch << 6);
	low = inb(&t->rig, 0x40 + ch);
	return low | inb(&t->rig, 0x40 + ch) << 8;
}

static void test_mode0(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 0, 10);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 10);
	ticks(&t, 4);
	assert_int_equal(count(&t, 2), 6);
	gate2(&t, false);
	ticks(&t, 100);
	assert_int_equal(count(&t, 2), 6);
	gate2(&t, true);
	ticks(&t, 5);
	assert_int_equal(count(&t, 2), 1);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_true(out2(&t));		/* N + 1 ticks after the count was written */
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 0xffff);
	assert_true(out2(&t));
	/* A new count starts over; its first byte alone stops counting. */
	outb(&t.rig, 0x42, 3);
	assert_false(out2(&t));
	ticks(&t, 50);
	outb(&t.rig, 0x42, 0);
	ticks(&t, 3);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_true(out2(&t));
	teardown(&t);
}

static void test_mode1(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	program(&t, 2, 1, 5);
	ticks(&t, 20);
	assert_true(out2(&t));
	gate2(&t, true);
	ticks(&t, 1);
	assert_false(out2(&t));
	ticks(&t, 3);
	assert_int_equal(count(&t, 2), 2);
	gate2(&t, false);	/* the level does not matter, the next rise retriggers */
	gate2(&t, true);
	ticks(&t, 5);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_true(out2(&t));
	program(&t, 2, 1, 2);
	ticks(&t, 9);
	assert_true(out2(&t));	/* a new count waits for its trigger */
	teardown(&t);
}

static void test_mode2(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 2, 4);
	ticks(&t, 1);
	for (unsigned int i = 0; i < 12; i++) {
		assert_int_equal(count(&t, 2), 4 - i % 4);
		assert_int_equal(out2(&t), i % 4 != 3);
		ticks(&t, 1);
	}
	/* A new count is for the next period. */
	ticks(&t, 1);
	outb(&t.rig, 0x42, 6);
	outb(&t.rig, 0x42, 0);
	ticks(&t, 2);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 6);
	ticks(&t, 5);
	assert_false(out2(&t));
	gate2(&t, false);
	assert_true(out2(&t));
	ticks(&t, 30);
	gate2(&t, true);
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 6);
	teardown(&t);
}

static void test_mode3(void **state)
{
	static const uint16_t odd[] = { 6, 4, 2, 0, 6, 4, 2 };
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 3, 6);
	ticks(&t, 1);
	for (unsigned int i = 0; i < 12; i++) {
		assert_int_equal(out2(&t), i % 6 < 3);
		assert_int_equal(count(&t, 2), 6 - 2 * (i % 3));
		ticks(&t, 1);
	}
	program(&t, 2, 3, 7);
	ticks(&t, 1);
	for (unsigned int i = 0; i < 14; i++) {
		assert_int_equal(out2(&t), i % 7 < 4);
		assert_int_equal(count(&t, 2), odd[i % 7]);
		ticks(&t, 1);
	}
	gate2(&t, false);
	assert_true(out2(&t));
	teardown(&t);
}

static void test_mode4(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 4, 3);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(out2(&t), i != 4);
		ticks(&t, 1);
	}
	teardown(&t);
}

static void test_mode5(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	program(&t, 2, 5, 3);
	ticks(&t, 40);
	assert_true(out2(&t));
	gate2(&t, true);
	for (unsigned int i = 0; i < 20; i++) {
		assert_int_equal(out2(&t), i != 4);
		ticks(&t, 1);
	}
	teardown(&t);
}

static void test_full_count_and_bcd(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 2, 0);
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 0);
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 0xffff);
	ticks(&t, 65535);
	assert_int_equal(count(&t, 2), 0);
	outb(&t.rig, 0x43, 0xb1);	/* channel 2, both bytes, mode 0, BCD */
	outb(&t.rig, 0x42, 0x00);
	outb(&t.rig, 0x42, 0x10);
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 0x1000);
	ticks(&t, 1);
	assert_int_equal(count(&t, 2), 0x0999);
	ticks(&t, 1000);
	assert_int_equal(count(&t, 2), 0x9999);
	outb(&t.rig, 0x42, 0x00);
	outb(&t.rig, 0x42, 0x00);	/* 10000 */
	ticks(&t, 10000);
	assert_false(out2(&t));
	ticks(&t, 1);
	assert_true(out2(&t));
	teardown(&t);
}

static void test_reads(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	gate2(&t, true);
	program(&t, 2, 2, 0x1234);
	ticks(&t, 1);
	outb(&t.rig, 0x43, 0x80);
	ticks(&t, 0x100);
	outb(&t.rig, 0x43, 0x80);	/* a second latch changes nothing */
	assert_int_equal(inb(&t.rig, 0x42), 0x34);
	ticks(&t, 0x100);
	assert_int_equal(inb(&t.rig, 0x42), 0x12);
	assert_int_equal(inb(&t.rig, 0x42), 0x34);	/* live again: 1034h */
	assert_int_equal(inb(&t.rig, 0x42), 0x10);
	/* Read-back of status and count: status first. */
	outb(&t.rig, 0x43, 0xc8);
	assert_int_equal(inb(&t.rig, 0x42), 0xb4);
	assert_int_equal(inb(&t.rig, 0x42), 0x34);
	assert_int_equal(inb(&t.rig, 0x42), 0x10);
	/* Null count until the load. */
	program(&t, 2, 0, 100);
	outb(&t.rig, 0x43, 0xe8);
	assert_int_equal(inb(&t.rig, 0x42), 0x70);
	ticks(&t, 1);
	outb(&t.rig, 0x43, 0xe8);
	assert_int_equal(inb(&t.rig, 0x42), 0x30);
	/* One byte only. */
	outb(&t.rig, 0x43, 0x94);
	outb(&t.rig, 0x42, 200);
	ticks(&t, 11);
	assert_int_equal(inb(&t.rig, 0x42), 190);
	assert_int_equal(inb(&t.rig, 0x42), 190);
	outb(&t.rig, 0x43, 0xa4);
	outb(&t.rig, 0x42, 0x20);
	ticks(&t, 1);
	assert_int_equal(inb(&t.rig, 0x42), 0x20);
	assert_int_equal(inb(&t.rig, 0x43), 0xff);	/* write-only */
	teardown(&t);
}

static void test_port61(void **state)
{
	unsigned int toggles = 0;
	struct pit_rig t;
	uint8_t last;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x61, 0xff);
	assert_int_equal(inb(&t.rig, 0x61) & 0xcf, 0x0f);
	last = inb(&t.rig, 0x61) & 0x10;
	for (unsigned int i = 0; i < 1000; i++) {
		clock_advance(&t.rig.clock, 1000);
		if ((inb(&t.rig, 0x61) & 0x10) != last) {
			toggles++;
			last ^= 0x10;
		}
	}
	assert_in_range(toggles, 65, 67);	/* every 15.085 us */
	teardown(&t);
}

static void test_irq0_periodic(void **state)
{
	struct pit_rig t;
	unsigned int start;

	(void)state;
	setup(&t);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	program(&t, 0, 2, 11932);
	start = t.irq0.rises;
	to_tick(&t, 1000 + 11932);
	assert_int_equal(t.irq0.rises, start);
	ticks(&t, 1);
	assert_int_equal(t.irq0.rises, start + 1);
	clock_advance(&t.rig.clock, NS_PER_SEC);
	assert_int_equal(t.irq0.rises, start + 100);
	program(&t, 0, 3, 1193);
	start = t.irq0.rises;
	clock_advance(&t.rig.clock, NS_PER_SEC + 1000000);
	assert_in_range(t.irq0.rises - start, 1000, 1001);
	/* Mode 0 without a count: nothing more. */
	outb(&t.rig, 0x43, 0x30);
	start = t.irq0.rises;
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	clock_advance(&t.rig.clock, NS_PER_SEC);
	assert_int_equal(t.irq0.rises, start);
	teardown(&t);
}

static void test_irq0_oneshot(void **state)
{
	struct pit_rig t;

	(void)state;
	setup(&t);
	for (unsigned int i = 0; i < 3; i++) {
		unsigned int before;

		program(&t, 0, i == 2 ? 4 : 0, 1000);
		before = t.irq0.rises;
		ticks(&t, 1000);
		assert_int_equal(t.irq0.rises, before);
		ticks(&t, 2);
		assert_int_equal(t.irq0.rises, before + 1);
		assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	}
	teardown(&t);
}

/* A late host gives all that are due at once, and then the periods go on where they were. */
static void test_stall(void **state)
{
	struct pit_rig t;
	unsigned int before;

	(void)state;
	setup(&t);
	program(&t, 0, 2, 1000);
	ticks(&t, 1 + 1000);
	before = t.irq0.rises;
	t.rig.clock.now += 50 * NS_PER_SEC / PIT_HZ * 1000 + 400 * NS_PER_SEC / PIT_HZ;
	clock_run(&t.rig.clock);
	assert_int_equal(t.irq0.rises, before + 50);
	assert_in_range(count(&t, 0), 590, 620);
	clock_advance(&t.rig.clock, 600 * NS_PER_SEC / PIT_HZ + 20000);
	assert_int_equal(t.irq0.rises, before + 51);
	/* But not for ever. */
	t.rig.clock.now += 3600 * NS_PER_SEC;
	clock_run(&t.rig.clock);
	assert_int_equal(t.irq0.rises, before + 51 + 251);
	teardown(&t);
}

static void test_shortest_period(void **state)
{
	struct pit_rig t;
	unsigned int before;

	(void)state;
	setup(&t);
	program(&t, 0, 2, 2);
	before = t.irq0.rises;
	clock_advance(&t.rig.clock, 10000000);
	assert_in_range(t.irq0.rises - before, 450, 501);
	outb(&t.rig, 0x43, 0x14);	/* and the illegal count 1 */
	outb(&t.rig, 0x40, 1);
	before = t.irq0.rises;
	clock_advance(&t.rig.clock, 10000000);
	assert_in_range(t.irq0.rises - before, 450, 501);
	t.pit->ops->reset(t.pit);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	teardown(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_mode0), cmocka_unit_test(test_mode1),
		cmocka_unit_test(test_mode2), cmocka_unit_test(test_mode3),
		cmocka_unit_test(test_mode4), cmocka_unit_test(test_mode5),
		cmocka_unit_test(test_full_count_and_bcd), cmocka_unit_test(test_reads),
		cmocka_unit_test(test_port61), cmocka_unit_test(test_irq0_periodic),
		cmocka_unit_test(test_irq0_oneshot), cmocka_unit_test(test_stall),
		cmocka_unit_test(test_shortest_period),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
