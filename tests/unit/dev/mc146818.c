// SPDX-License-Identifier: Apache-2.0
/*
 * The real-time clock: time in all formats, setting it, alarm, update and periodic
 * interrupts, the update-in-progress window, memory that outlives resets.
 */
#include "dev_rig.h"

#include "dev/mc146818.h"

/* 2026-11-21 13:14:15.5 UTC, a Saturday. */
#define EPOCH	1795266855

struct bench {
	struct rig rig;
	struct probe irq;
	struct device *rtc;
};

static void init(struct bench *b)
{
	const struct timespec epoch = { .tv_sec = EPOCH, .tv_nsec = NS_PER_SEC / 2 };
	struct irq_line line = probe_line(&b->irq);

	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	b->irq.clock = &b->rig.clock;
	assert_int_equal(mc146818_create(&b->rtc, &b->rig.space, &b->rig.clock, &epoch, &line,
					 NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->rtc);
}

static uint8_t rd(struct bench *b, uint8_t reg)
{
	outb(&b->rig, 0x70, reg);
	return inb(&b->rig, 0x71);
}

static void wr(struct bench *b, uint8_t reg, uint8_t value)
{
	outb(&b->rig, 0x70, reg);
	outb(&b->rig, 0x71, value);
}

static void expect_time(struct bench *b, const uint8_t v[8])
{
	static const uint8_t reg[8] = { 0x32, 9, 8, 7, 6, 4, 2, 0 };

	for (int i = 0; i < 8; i++)
		assert_int_equal(rd(b, reg[i]), v[i]);
}

static void test_formats(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	expect_time(&b, (uint8_t[]){ 0x20, 0x26, 0x11, 0x21, 7, 0x13, 0x14, 0x15 });
	wr(&b, 0xb, 0x06);	/* binary, 24 hours */
	expect_time(&b, (uint8_t[]){ 20, 26, 11, 21, 7, 13, 14, 15 });
	wr(&b, 0xb, 0x00);	/* BCD, 12 hours */
	expect_time(&b, (uint8_t[]){ 0x20, 0x26, 0x11, 0x21, 7, 0x81, 0x14, 0x15 });
	wr(&b, 0xb, 0x04);
	expect_time(&b, (uint8_t[]){ 20, 26, 11, 21, 7, 0x81, 14, 15 });
	assert_int_equal(rd(&b, 0xd), 0x80);
	done(&b);
}

static void test_runs(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0xb, 0x06);
	/* Its second ends half a second from here. */
	clock_advance(&b.rig.clock, NS_PER_SEC / 2 - 1);
	assert_int_equal(rd(&b, 0), 15);
	assert_int_equal(rd(&b, 0xa) & 0x80, 0x80);
	clock_advance(&b.rig.clock, 1);
	assert_int_equal(rd(&b, 0), 16);
	assert_int_equal(rd(&b, 0xa) & 0x80, 0);
	clock_advance(&b.rig.clock, 11 * 3600 * NS_PER_SEC);
	expect_time(&b, (uint8_t[]){ 20, 26, 11, 22, 1, 0, 14, 16 });
	done(&b);
}

static void test_set(void **state)
{
	static const uint8_t reg[7] = { 0x32, 9, 8, 7, 4, 2, 0 };
	static const uint8_t val[7] = { 20, 0, 2, 28, 23, 59, 58 };
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0xb, 0x86);	/* SET holds it */
	for (int i = 0; i < 7; i++)
		wr(&b, reg[i], val[i]);
	clock_advance(&b.rig.clock, 10 * NS_PER_SEC);
	assert_int_equal(rd(&b, 0), 58);
	wr(&b, 0xb, 0x06);
	assert_int_equal(rd(&b, 0), 58);
	/* 2000 was a leap year: two seconds later it is the 29th, a Tuesday. */
	clock_advance(&b.rig.clock, 2 * NS_PER_SEC);
	expect_time(&b, (uint8_t[]){ 20, 0, 2, 29, 3, 0, 0, 0 });
	/* Without SET a single byte can be set as well. */
	wr(&b, 4, 5);
	assert_int_equal(rd(&b, 4), 5);
	/* A divider in reset stops it. */
	wr(&b, 0xa, 0x70);
	clock_advance(&b.rig.clock, 10 * NS_PER_SEC);
	assert_int_equal(rd(&b, 0), 0);
	done(&b);
}

static void test_nonsense(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0xb, 0x82);
	for (unsigned int reg = 0; reg < 10; reg++)
		wr(&b, reg, 0xff);
	wr(&b, 0x32, 0xff);
	wr(&b, 0xb, 0x02);
	for (unsigned int reg = 0; reg < 10; reg++)
		rd(&b, reg);
	clock_advance(&b.rig.clock, 3 * NS_PER_SEC);
	rd(&b, 0xc);
	assert_true(rd(&b, 0) < 0x60);
	done(&b);
}

static void test_update_interrupt(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	/* Polled: the flag comes without an interrupt. */
	assert_int_equal(rd(&b, 0xc) & 0x10, 0);
	clock_advance(&b.rig.clock, NS_PER_SEC);
	assert_int_equal(rd(&b, 0xc) & 0x90, 0x10);
	assert_true(clock_deadline(&b.rig.clock) == CLOCK_NEVER);
	wr(&b, 0xb, 0x12);
	clock_advance(&b.rig.clock, NS_PER_SEC);
	assert_true(b.irq.level);
	assert_int_equal(rd(&b, 0xc) & 0x90, 0x90);
	assert_false(b.irq.level);
	for (int i = 0; i < 5; i++) {
		clock_advance(&b.rig.clock, NS_PER_SEC);
		rd(&b, 0xc);
	}
	assert_int_equal(b.irq.rises, 6);
	/* At the very start of the second. */
	assert_true(b.irq.risen_at % NS_PER_SEC == NS_PER_SEC / 2);
	wr(&b, 0xb, 0x92);	/* SET clears UIE */
	assert_int_equal(rd(&b, 0xb), 0x82);
	done(&b);
}

static void test_alarm(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 1, 0x10);	/* at second 10 of minute 16 of any hour */
	wr(&b, 3, 0x16);
	wr(&b, 5, 0xc0);
	wr(&b, 0xb, 0x22);
	clock_advance(&b.rig.clock, 114 * NS_PER_SEC);
	assert_int_equal(b.irq.rises, 0);
	clock_advance(&b.rig.clock, NS_PER_SEC);
	assert_int_equal(b.irq.rises, 1);
	assert_int_equal(rd(&b, 0xc) & 0xa0, 0xa0);
	clock_advance(&b.rig.clock, 3600 * NS_PER_SEC);
	assert_int_equal(b.irq.rises, 2);
	/* Polled over a long time it is found as well. */
	wr(&b, 0xb, 0x02);
	rd(&b, 0xc);
	clock_advance(&b.rig.clock, 40 * 24 * 3600 * NS_PER_SEC);
	assert_int_equal(rd(&b, 0xc) & 0x20, 0x20);
	done(&b);
}

static void test_periodic(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	wr(&b, 0xa, 0x26);	/* 1,024 Hz */
	rd(&b, 0xc);
	wr(&b, 0xb, 0x42);
	for (int i = 0; i < 4000; i++) {
		clock_advance(&b.rig.clock, NS_PER_SEC / 4000);
		if (b.irq.level)
			assert_int_equal(rd(&b, 0xc) & 0xc0, 0xc0);
	}
	assert_in_range(b.irq.rises, 1022, 1024);
	wr(&b, 0xa, 0x20);	/* rate 0: none */
	b.irq.rises = 0;
	clock_advance(&b.rig.clock, NS_PER_SEC);
	assert_int_equal(b.irq.rises, 0);
	done(&b);
}

static void test_reset_and_memory(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	mc146818_set_byte(b.rtc, 0x34, 0x12);
	mc146818_set_byte(b.rtc, 0x0b, 0xff);	/* not memory */
	wr(&b, 0x5f, 0x77);
	wr(&b, 0x7f, 0x99);
	wr(&b, 0xb, 0x72);
	clock_advance(&b.rig.clock, NS_PER_SEC);
	assert_true(b.irq.level);
	b.rtc->ops->reset(b.rtc);
	assert_false(b.irq.level);
	assert_int_equal(rd(&b, 0xb), 0x02);
	assert_int_equal(rd(&b, 0x34), 0x12);
	assert_int_equal(rd(&b, 0x5f), 0x77);
	assert_int_equal(rd(&b, 0xff), 0x99);	/* bit 7 of the index is the NMI mask */
	assert_int_equal(rd(&b, 0), 0x16);
	assert_int_equal(inb(&b.rig, 0x70), 0xff);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_runs),
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_nonsense),
		cmocka_unit_test(test_update_interrupt),
		cmocka_unit_test(test_alarm),
		cmocka_unit_test(test_periodic),
		cmocka_unit_test(test_reset_and_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
