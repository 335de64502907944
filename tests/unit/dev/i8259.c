// SPDX-License-Identifier: Apache-2.0
/* The PICs, driven through their ports and lines. */
#include "dev_rig.h"

#include "dev/i8259.h"

struct pic_rig {
	struct rig rig;
	struct probe intr;
	struct device *pic;
	struct irq_line irq[16];
};

/* What Linux and firmware write: vectors from 30h and 38h. */
static void program(struct pic_rig *t, uint8_t icw4)
{
	struct rig *r = &t->rig;

	outb(r, 0x20, 0x11);
	outb(r, 0x21, 0x30);
	outb(r, 0x21, 0x04);
	outb(r, 0x21, icw4);
	outb(r, 0xa0, 0x11);
	outb(r, 0xa1, 0x38);
	outb(r, 0xa1, 0x02);
	outb(r, 0xa1, 0x01);
	outb(r, 0x21, 0x00);
	outb(r, 0xa1, 0x00);
}

static void setup(struct pic_rig *t)
{
	struct irq_line intr;

	*t = (struct pic_rig){ 0 };
	rig_init(&t->rig);
	intr = probe_line(&t->intr);
	assert_int_equal(i8259_create(&t->pic, &t->rig.space, &intr, NULL), 0);
	for (unsigned int i = 0; i < 16; i++)
		t->irq[i] = i8259_line(t->pic, i);
	program(t, 0x01);
}

static void teardown(struct pic_rig *t)
{
	rig_destroy(&t->rig, t->pic);
}

static void pulse(struct pic_rig *t, unsigned int irq)
{
	irq_pulse(&t->irq[irq]);
}

static uint8_t read_irr(struct pic_rig *t, uint16_t port)
{
	outb(&t->rig, port, 0x0a);
	return inb(&t->rig, port);
}

static uint8_t read_isr(struct pic_rig *t, uint16_t port)
{
	outb(&t->rig, port, 0x0b);
	return inb(&t->rig, port);
}

static void test_edge(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	assert_false(t.intr.level);
	irq_set(&t.irq[4], true);
	assert_true(t.intr.level);
	assert_int_equal(read_irr(&t, 0x20), 0x10);
	assert_int_equal(i8259_ack(t.pic), 0x34);
	assert_false(t.intr.level);
	assert_int_equal(read_isr(&t, 0x20), 0x10);
	assert_int_equal(read_irr(&t, 0x20), 0x00);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(read_isr(&t, 0x20), 0);
	assert_false(t.intr.level);	/* still high, but no new edge */
	irq_set(&t.irq[4], false);
	irq_set(&t.irq[4], true);
	assert_true(t.intr.level);
	teardown(&t);
}

static void test_nesting(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	pulse(&t, 4);
	assert_int_equal(i8259_ack(t.pic), 0x34);
	pulse(&t, 6);
	assert_false(t.intr.level);	/* lower than what is in service */
	pulse(&t, 1);
	assert_true(t.intr.level);
	assert_int_equal(i8259_ack(t.pic), 0x31);
	assert_int_equal(read_isr(&t, 0x20), 0x12);
	outb(&t.rig, 0x20, 0x20);	/* ends the highest */
	assert_int_equal(read_isr(&t, 0x20), 0x10);
	assert_false(t.intr.level);
	outb(&t.rig, 0x20, 0x64);	/* specific EOI of 4 */
	assert_int_equal(read_isr(&t, 0x20), 0);
	assert_int_equal(i8259_ack(t.pic), 0x36);
	teardown(&t);
}

static void test_mask(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x21, 0xfb);
	assert_int_equal(inb(&t.rig, 0x21), 0xfb);
	pulse(&t, 3);
	assert_false(t.intr.level);
	assert_int_equal(read_irr(&t, 0x20), 0x08);
	outb(&t.rig, 0x21, 0xf3);
	assert_true(t.intr.level);
	teardown(&t);
}

static void test_cascade(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	assert_null(t.irq[2].set);
	pulse(&t, 12);
	pulse(&t, 10);
	assert_int_equal(read_irr(&t, 0x20), 0x04);
	assert_int_equal(i8259_ack(t.pic), 0x3a);
	assert_int_equal(read_isr(&t, 0x20), 0x04);
	assert_int_equal(read_isr(&t, 0xa0), 0x04);
	assert_false(t.intr.level);
	pulse(&t, 5);
	assert_false(t.intr.level);	/* 5 is below the cascade */
	outb(&t.rig, 0xa0, 0x20);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(i8259_ack(t.pic), 0x3c);
	outb(&t.rig, 0xa0, 0x20);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(i8259_ack(t.pic), 0x35);
	teardown(&t);
}

/* Only special fully nested mode lets a higher input of the second chip through. */
static void test_special_nested(void **state)
{
	struct pic_rig t;

	(void)state;
	for (unsigned int special = 0; special < 2; special++) {
		setup(&t);
		program(&t, special ? 0x11 : 0x01);
		pulse(&t, 12);
		assert_int_equal(i8259_ack(t.pic), 0x3c);
		pulse(&t, 9);
		assert_int_equal(t.intr.level, special);
		if (special)
			assert_int_equal(i8259_ack(t.pic), 0x39);
		teardown(&t);
	}
}

static void test_level(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x4d0, 0xff);
	outb(&t.rig, 0x4d1, 0xff);
	assert_int_equal(inb(&t.rig, 0x4d0), 0xf8);
	assert_int_equal(inb(&t.rig, 0x4d1), 0xde);
	assert_int_equal(pio_read(&t.rig.space, 0x4d0, 2), 0xdef8);
	irq_set(&t.irq[11], true);
	assert_int_equal(i8259_ack(t.pic), 0x3b);
	outb(&t.rig, 0xa0, 0x20);
	outb(&t.rig, 0x20, 0x20);
	assert_true(t.intr.level);	/* asserted again: the device was not served */
	assert_int_equal(i8259_ack(t.pic), 0x3b);
	irq_set(&t.irq[11], false);
	outb(&t.rig, 0xa0, 0x20);
	outb(&t.rig, 0x20, 0x20);
	assert_false(t.intr.level);
	teardown(&t);
}

static void test_spurious(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	assert_int_equal(i8259_ack(t.pic), 0x37);
	assert_int_equal(read_isr(&t, 0x20), 0);
	outb(&t.rig, 0x4d1, 0x08);
	irq_set(&t.irq[11], true);
	irq_set(&t.irq[11], false);	/* gone before INTA: the cascade stays latched */
	assert_true(t.intr.level);
	assert_int_equal(i8259_ack(t.pic), 0x3f);
	assert_int_equal(read_isr(&t, 0x20), 0x04);
	assert_int_equal(read_isr(&t, 0xa0), 0);
	outb(&t.rig, 0x20, 0x20);
	assert_false(t.intr.level);
	teardown(&t);
}

static void test_auto_eoi(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	program(&t, 0x03);
	pulse(&t, 5);
	pulse(&t, 6);
	assert_int_equal(i8259_ack(t.pic), 0x35);
	assert_int_equal(read_isr(&t, 0x20), 0);
	assert_true(t.intr.level);
	assert_int_equal(t.intr.rises, 2);	/* it fell in between: an edge for the I/O APIC */
	assert_int_equal(i8259_ack(t.pic), 0x36);
	/* Rotating: what was served last becomes the lowest. */
	outb(&t.rig, 0x20, 0x80);
	pulse(&t, 3);
	assert_int_equal(i8259_ack(t.pic), 0x33);
	pulse(&t, 3);
	pulse(&t, 4);
	assert_int_equal(i8259_ack(t.pic), 0x34);
	assert_int_equal(i8259_ack(t.pic), 0x33);
	teardown(&t);
}

static void test_rotation(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	pulse(&t, 1);
	assert_int_equal(i8259_ack(t.pic), 0x31);
	outb(&t.rig, 0x20, 0xa0);	/* rotate on non-specific EOI: 1 is now lowest */
	pulse(&t, 0);
	pulse(&t, 3);
	assert_int_equal(i8259_ack(t.pic), 0x33);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(i8259_ack(t.pic), 0x30);
	outb(&t.rig, 0x20, 0x20);
	outb(&t.rig, 0x20, 0xc5);	/* set priority: 5 lowest, 6 highest */
	pulse(&t, 4);
	pulse(&t, 7);
	assert_int_equal(i8259_ack(t.pic), 0x37);
	outb(&t.rig, 0x20, 0xe7);	/* rotate on specific EOI of 7 */
	pulse(&t, 7);
	assert_int_equal(i8259_ack(t.pic), 0x34);
	teardown(&t);
}

static void test_special_mask(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	pulse(&t, 3);
	assert_int_equal(i8259_ack(t.pic), 0x33);
	pulse(&t, 6);
	assert_false(t.intr.level);
	outb(&t.rig, 0x21, 0x08);
	assert_false(t.intr.level);
	outb(&t.rig, 0x20, 0x68);	/* special mask mode: a masked ISR bit does not block */
	assert_true(t.intr.level);
	assert_int_equal(i8259_ack(t.pic), 0x36);
	outb(&t.rig, 0x20, 0x20);	/* and a non-specific EOI passes it over */
	assert_int_equal(read_isr(&t, 0x20), 0x08);
	outb(&t.rig, 0x20, 0x48);
	pulse(&t, 6);
	assert_false(t.intr.level);
	teardown(&t);
}

static void test_poll(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x20, 0x0c);
	assert_int_equal(inb(&t.rig, 0x20), 0x00);
	pulse(&t, 5);
	outb(&t.rig, 0x20, 0x0c);
	assert_int_equal(inb(&t.rig, 0x20), 0x85);
	assert_false(t.intr.level);
	assert_int_equal(read_isr(&t, 0x20), 0x20);
	pulse(&t, 9);
	outb(&t.rig, 0xa0, 0x0c);
	assert_int_equal(inb(&t.rig, 0xa1), 0x81);
	assert_int_equal(read_isr(&t, 0xa0), 0x02);
	teardown(&t);
}

static void test_reprogram(void **state)
{
	struct pic_rig t;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x21, 0x55);
	pulse(&t, 1);
	assert_int_equal(i8259_ack(t.pic), 0x31);
	pulse(&t, 3);
	outb(&t.rig, 0x20, 0x10);	/* ICW1 without ICW4 */
	assert_int_equal(read_irr(&t, 0x20), 0);
	assert_int_equal(read_isr(&t, 0x20), 0);
	outb(&t.rig, 0x21, 0x4f);	/* ICW2: low bits are ignored */
	outb(&t.rig, 0x21, 0x04);
	outb(&t.rig, 0x21, 0xaa);	/* OCW1 already */
	assert_int_equal(inb(&t.rig, 0x21), 0xaa);
	pulse(&t, 4);
	assert_int_equal(i8259_ack(t.pic), 0x4c);
	t.pic->ops->reset(t.pic);
	assert_int_equal(inb(&t.rig, 0x21), 0);
	teardown(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edge), cmocka_unit_test(test_nesting),
		cmocka_unit_test(test_mask), cmocka_unit_test(test_cascade),
		cmocka_unit_test(test_special_nested), cmocka_unit_test(test_level),
		cmocka_unit_test(test_spurious), cmocka_unit_test(test_auto_eoi),
		cmocka_unit_test(test_rotation), cmocka_unit_test(test_special_mask),
		cmocka_unit_test(test_poll), cmocka_unit_test(test_reprogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
