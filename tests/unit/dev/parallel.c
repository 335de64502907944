// SPDX-License-Identifier: Apache-2.0
/* The parallel port: strobes, a printer that is busy, acknowledgements, what a driver probes. */
#include "dev_rig.h"
#include "fake_char.h"

#include "dev/parallel.h"

#define LPT 0x378

struct bench {
	struct rig rig;
	struct fake_char printer;
	struct probe irq;
	struct device *d;
};

static void bench_open(struct bench *b)
{
	struct irq_line irq;

	memset(b, 0, sizeof(*b));
	irq = probe_line(&b->irq);
	rig_init(&b->rig);
	fake_char_init(&b->printer);
	assert_int_equal(parallel_create(&b->d, &b->rig.space, LPT, &irq, &b->printer.backend, NULL),
			 0);
}

static void print_byte(struct bench *b, uint8_t byte)
{
	outb(&b->rig, LPT, byte);
	outb(&b->rig, LPT + 2, inb(&b->rig, LPT + 2) | 1);
	outb(&b->rig, LPT + 2, inb(&b->rig, LPT + 2) & ~1);
}

static void test_prints(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	assert_int_equal(inb(&b.rig, LPT + 1), 0xdf);
	print_byte(&b, 'h');
	print_byte(&b, 'i');
	outb(&b.rig, LPT, '!');			/* no strobe, no byte */
	assert_int_equal(b.printer.out_len, 2);
	assert_memory_equal(b.printer.out, "hi", 2);
	assert_int_equal(b.irq.rises, 0);
	outb(&b.rig, LPT + 2, 0x15);
	outb(&b.rig, LPT + 2, 0x15);		/* the strobe stays: still one byte */
	assert_int_equal(b.printer.out_len, 3);
	assert_int_equal(b.irq.rises, 1);
	assert_false(b.irq.level);
	rig_destroy(&b.rig, b.d);
}

static void test_busy(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	b.printer.room = 1;
	print_byte(&b, 'a');
	print_byte(&b, 'b');
	assert_int_equal(inb(&b.rig, LPT + 1) & 0x80, 0);
	print_byte(&b, 'c');			/* lost: the printer was busy */
	b.printer.room = 10;
	b.printer.backend.front->writable(b.printer.backend.front_dev);
	assert_int_equal(inb(&b.rig, LPT + 1) & 0x80, 0x80);
	print_byte(&b, 'd');
	assert_int_equal(b.printer.out_len, 3);
	assert_memory_equal(b.printer.out, "abd", 3);
	b.d->ops->reset(b.d);
	assert_int_equal(inb(&b.rig, LPT + 1), 0xdf);
	rig_destroy(&b.rig, b.d);
}

/* Drivers find a port by writing its registers and reading them back. */
static void test_probe(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b);
	outb(&b.rig, LPT, 0xaa);
	assert_int_equal(inb(&b.rig, LPT), 0xaa);
	outb(&b.rig, LPT + 2, 0x0c);
	assert_int_equal(inb(&b.rig, LPT + 2), 0xcc);
	outb(&b.rig, LPT + 2, 0xff);
	assert_int_equal(inb(&b.rig, LPT + 2), 0xff);
	assert_int_equal(pio_read(&b.rig.space, LPT + 3, 1), 0xff);	/* no EPP */
	rig_destroy(&b.rig, b.d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prints),
		cmocka_unit_test(test_busy),
		cmocka_unit_test(test_probe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
