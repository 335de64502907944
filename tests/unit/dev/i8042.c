// SPDX-License-Identifier: Apache-2.0
/*
 * The keyboard controller: a driver's probe from beginning to end, the keyboard's answers,
 * interrupts, the ways to a reset.
 */
#include "dev_rig.h"

#include "dev/i8042.h"

struct bench {
	struct rig rig;
	struct probe irq;
	unsigned int resets;
	struct device *kbd;
};

static void power(void *sink, enum machine_event what, unsigned int value)
{
	struct bench *b = sink;

	(void)value;
	assert_int_equal(what, MACHINE_RESET);
	b->resets++;
}

static void init(struct bench *b)
{
	const struct power_line line = { .event = power, .sink = b };
	struct irq_line irq = probe_line(&b->irq);

	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	assert_int_equal(i8042_create(&b->kbd, &b->rig.space, &irq, &line, NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->kbd);
}

static void command(struct bench *b, uint8_t c)
{
	outb(&b->rig, 0x64, c);
}

static void data(struct bench *b, uint8_t c)
{
	outb(&b->rig, 0x60, c);
}

static void expect(struct bench *b, uint8_t value)
{
	assert_int_equal(inb(&b->rig, 0x64) & 1, 1);
	assert_int_equal(inb(&b->rig, 0x60), value);
}

static void expect_nothing(struct bench *b)
{
	assert_int_equal(inb(&b->rig, 0x64) & 1, 0);
}

static void test_controller(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	expect_nothing(&b);
	assert_int_equal(inb(&b.rig, 0x64) & 0x02, 0);	/* never busy */
	command(&b, 0xaa);
	expect(&b, 0x55);
	command(&b, 0xab);
	expect(&b, 0x00);
	command(&b, 0x60);
	assert_int_equal(inb(&b.rig, 0x64) & 0x08, 0x08);
	data(&b, 0x75);
	assert_int_equal(inb(&b.rig, 0x64) & 0x08, 0);
	command(&b, 0x20);
	expect(&b, 0x75);
	command(&b, 0xae);
	command(&b, 0x20);
	expect(&b, 0x65);
	command(&b, 0xad);
	command(&b, 0x20);
	expect(&b, 0x75);
	command(&b, 0x61);
	data(&b, 0x99);
	command(&b, 0x21);
	expect(&b, 0x99);
	command(&b, 0xd0);
	expect(&b, 0x03);
	expect_nothing(&b);
	done(&b);
}

/* A driver sees at once that there is no second port. */
static void test_no_mouse(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	command(&b, 0xd3);
	data(&b, 0x5a);
	assert_int_equal(inb(&b.rig, 0x64) & 0x21, 0x01);
	expect(&b, 0x5a);
	command(&b, 0xa9);
	expect(&b, 0x01);
	command(&b, 0xd4);
	data(&b, 0xf2);
	assert_int_equal(inb(&b.rig, 0x64) & 0x41, 0x41);
	expect(&b, 0xfe);
	expect_nothing(&b);
	done(&b);
}

static void test_keyboard(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	data(&b, 0xf2);
	expect(&b, 0xfa);
	expect(&b, 0xab);
	expect(&b, 0x83);
	data(&b, 0xff);
	expect(&b, 0xfa);
	expect(&b, 0xaa);
	data(&b, 0xed);
	expect(&b, 0xfa);
	data(&b, 0x07);
	expect(&b, 0xfa);
	data(&b, 0xf0);
	expect(&b, 0xfa);
	data(&b, 0x00);
	expect(&b, 0xfa);
	expect(&b, 0x02);
	data(&b, 0xee);
	expect(&b, 0xee);
	data(&b, 0x55);
	expect(&b, 0xfe);
	expect_nothing(&b);
	done(&b);
}

/* IRQ 1 rises for each byte of the keyboard, not for the controller's answers. */
static void test_interrupt(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	data(&b, 0xf2);
	assert_int_equal(b.irq.rises, 1);
	expect(&b, 0xfa);
	expect(&b, 0xab);
	expect(&b, 0x83);
	assert_int_equal(b.irq.rises, 3);
	assert_false(b.irq.level);
	command(&b, 0xaa);
	assert_false(b.irq.level);
	expect(&b, 0x55);
	command(&b, 0x60);
	data(&b, 0x44);		/* interrupt off */
	data(&b, 0xee);
	assert_false(b.irq.level);
	command(&b, 0x60);
	data(&b, 0x45);
	assert_true(b.irq.level);
	b.kbd->ops->reset(b.kbd);
	assert_false(b.irq.level);
	expect_nothing(&b);
	/* With its clock off the keyboard keeps its answer. */
	command(&b, 0xad);
	command(&b, 0xd2);
	data(&b, 0x12);
	assert_true(b.irq.level);
	expect(&b, 0x12);
	done(&b);
}

static void test_resets(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	command(&b, 0xff);
	command(&b, 0xfd);
	assert_int_equal(b.resets, 0);
	command(&b, 0xfe);
	assert_int_equal(b.resets, 1);
	command(&b, 0xd1);
	data(&b, 0x03);
	assert_int_equal(b.resets, 1);
	command(&b, 0xd0);
	expect(&b, 0x03);
	command(&b, 0xd1);
	data(&b, 0x02);
	assert_int_equal(b.resets, 2);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_controller),
		cmocka_unit_test(test_no_mouse),
		cmocka_unit_test(test_keyboard),
		cmocka_unit_test(test_interrupt),
		cmocka_unit_test(test_resets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
