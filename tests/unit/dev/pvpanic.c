// SPDX-License-Identifier: Apache-2.0
/* The panic port: what it understands, what it reports, what it is deaf to. */
#include "dev_rig.h"

#include "dev/pvpanic.h"

#define PORT 0x505

struct bench {
	struct rig rig;
	struct device *dev;
	unsigned int panics;
};

static void power(void *sink, enum machine_event what, unsigned int value)
{
	struct bench *b = sink;

	(void)value;
	assert_int_equal(what, MACHINE_PANIC);
	b->panics++;
}

static void init(struct bench *b)
{
	const struct power_line line = { .event = power, .sink = b };

	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	assert_int_equal(pvpanic_create(&b->dev, &b->rig.space, PORT, &line, NULL), 0);
}

static void test_capabilities(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(inb(&b.rig, PORT), 3);	/* a panic, a crash kernel that begins */
	assert_int_equal(inb(&b.rig, PORT + 1), 0xff);
	assert_int_equal(b.panics, 0);
	b.dev->ops->reset(b.dev);
	assert_int_equal(inb(&b.rig, PORT), 3);
	rig_destroy(&b.rig, b.dev);
}

static void test_panic(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	outb(&b.rig, PORT, 1);
	assert_int_equal(b.panics, 1);
	outb(&b.rig, PORT, 0xff);
	assert_int_equal(b.panics, 2);
	rig_destroy(&b.rig, b.dev);
}

static void test_no_panic(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	outb(&b.rig, PORT, 0);
	outb(&b.rig, PORT, 2);		/* the crash kernel will tell of its own end */
	outb(&b.rig, PORT, 0xfc);
	outb(&b.rig, PORT + 1, 1);	/* not its port */
	pio_write(&b.rig.space, PORT - 1, 1, 1);
	assert_int_equal(b.panics, 0);
	rig_destroy(&b.rig, b.dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_capabilities),
		cmocka_unit_test(test_panic),
		cmocka_unit_test(test_no_panic),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
