// SPDX-License-Identifier: Apache-2.0
/*
 * The UART by its registers: what a driver's probe sees, interrupts and their order,
 * FIFOs, time-out, loopback, back-pressure both ways, and that nothing typed is lost.
 */
#include "dev_rig.h"
#include "fake_char.h"

#include "dev/uart16550.h"

#define COM	0x3f8
#define DATA	(COM + 0)
#define IER	(COM + 1)
#define IIR	(COM + 2)
#define FCR	(COM + 2)
#define LCR	(COM + 3)
#define MCR	(COM + 4)
#define LSR	(COM + 5)
#define MSR	(COM + 6)
#define SCR	(COM + 7)
#define CHAR_NS	86805	/* ten bits at 115,200 baud */

struct bench {
	struct rig rig;
	struct probe irq;
	struct fake_char c;
	struct device *uart;
};

static void init(struct bench *b)
{
	struct irq_line line = probe_line(&b->irq);

	memset(b, 0, sizeof(*b));
	rig_init(&b->rig);
	fake_char_init(&b->c);
	assert_int_equal(uart16550_create(&b->uart, &b->rig.space, COM, &b->rig.clock, &line,
					  NULL), 0);
	uart16550_attach(b->uart, &b->c.backend);
	clock_advance(&b->rig.clock, NS_PER_SEC);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->uart);
}

static void out(struct bench *b, uint16_t port, uint8_t value)
{
	outb(&b->rig, port, value);
}

static uint8_t in(struct bench *b, uint16_t port)
{
	return inb(&b->rig, port);
}

/* 115,200 8N1; @fcr with the FIFOs cleared; OUT2 opens the interrupt's gate. */
static void set_up(struct bench *b, uint8_t fcr, uint8_t ier)
{
	out(b, LCR, 0x83);
	out(b, DATA, 1);
	out(b, IER, 0);
	out(b, LCR, 0x03);
	out(b, FCR, fcr);
	out(b, MCR, 0x0b);
	out(b, IER, ier);
	clock_advance(&b->rig.clock, 20 * CHAR_NS);
}

static void test_registers(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(in(&b, IER), 0);
	assert_int_equal(in(&b, IIR), 0x01);
	assert_int_equal(in(&b, LSR), 0x60);
	assert_int_equal(in(&b, MSR) & 0xf0, 0xb0);
	out(&b, IER, 0xff);
	assert_int_equal(in(&b, IER), 0x0f);
	out(&b, IER, 0);
	out(&b, MCR, 0xff);
	assert_int_equal(in(&b, MCR), 0x1f);
	out(&b, MCR, 0);
	out(&b, SCR, 0xa5);
	assert_int_equal(in(&b, SCR), 0xa5);
	out(&b, LCR, 0x80);
	out(&b, DATA, 0x34);
	out(&b, IER, 0x12);
	assert_int_equal(in(&b, DATA), 0x34);
	assert_int_equal(in(&b, IER), 0x12);
	/* A wide access is one a byte. */
	assert_int_equal(pio_read(&b.rig.space, DATA, 2), 0x1234);
	out(&b, LCR, 0);
	assert_int_equal(in(&b, IER), 0);
	/* The FIFO bits say 16550A. */
	out(&b, FCR, 0x01);
	assert_int_equal(in(&b, IIR), 0xc1);
	out(&b, FCR, 0x00);
	assert_int_equal(in(&b, IIR), 0x01);
	done(&b);
}

static void test_transmit(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x00);
	for (const char *s = "hello"; *s; s++) {
		assert_int_equal(in(&b, LSR) & 0x60, 0x60);
		out(&b, DATA, *s);
	}
	assert_int_equal(b.c.out_len, 5);
	assert_memory_equal(b.c.out, "hello", 5);
	assert_false(b.irq.level);
	done(&b);
}

static void test_thre_interrupt(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x02);
	/* Enabling it with an empty transmitter raises it; reading IIR takes it away. */
	assert_true(b.irq.level);
	assert_int_equal(in(&b, IIR), 0xc2);
	assert_false(b.irq.level);
	assert_int_equal(in(&b, IIR), 0xc1);
	out(&b, DATA, 'x');
	assert_true(b.irq.level);
	/* The gate. */
	out(&b, MCR, 0x03);
	assert_false(b.irq.level);
	out(&b, MCR, 0x0b);
	assert_true(b.irq.level);
	out(&b, IER, 0);
	assert_false(b.irq.level);
	done(&b);
}

static void test_output_pressure(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x02);
	in(&b, IIR);
	b.c.room = 3;
	for (int i = 0; i < 20; i++)
		out(&b, DATA, 'a' + i);
	/* Three went out, sixteen wait, the last found the FIFO full. */
	assert_int_equal(b.c.out_len, 3);
	assert_int_equal(in(&b, LSR) & 0x60, 0);
	assert_int_equal(in(&b, IIR), 0xc1);
	b.c.room = 10;
	b.c.backend.front->writable(b.c.backend.front_dev);
	assert_int_equal(in(&b, LSR) & 0x60, 0);
	b.c.room = 100;
	b.c.backend.front->writable(b.c.backend.front_dev);
	assert_int_equal(in(&b, LSR) & 0x60, 0x60);
	assert_int_equal(in(&b, IIR), 0xc2);
	assert_int_equal(b.c.out_len, 19);
	assert_memory_equal(b.c.out, "abcdefghijklmnopqrs", 19);
	done(&b);
}

static void test_receive_interrupts(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x87, 0x01);		/* trigger at 8 */
	fake_char_type(&b.c, "abc");
	assert_int_equal(in(&b, LSR) & 1, 1);
	assert_int_equal(in(&b, IIR), 0xc1);
	clock_advance(&b.rig.clock, 3 * CHAR_NS);
	assert_false(b.irq.level);
	clock_advance(&b.rig.clock, 2 * CHAR_NS);
	assert_true(b.irq.level);
	assert_int_equal(in(&b, IIR), 0xcc);
	assert_int_equal(in(&b, DATA), 'a');
	/* A read ends the time-out; it comes again while bytes are left. */
	assert_int_equal(in(&b, IIR), 0xc1);
	clock_advance(&b.rig.clock, 5 * CHAR_NS);
	assert_int_equal(in(&b, IIR), 0xcc);
	assert_int_equal(in(&b, DATA), 'b');
	assert_int_equal(in(&b, DATA), 'c');
	assert_false(b.irq.level);
	assert_int_equal(in(&b, LSR) & 1, 0);
	clock_advance(&b.rig.clock, 20 * CHAR_NS);
	fake_char_type(&b.c, "12345678");
	assert_int_equal(in(&b, IIR), 0xc4);
	assert_true(b.irq.level);
	assert_int_equal(in(&b, DATA), '1');
	assert_int_equal(in(&b, IIR), 0xc1);
	done(&b);
}

/* Line status before data before transmitter before modem status. */
static void test_priorities(void **state)
{
	static const uint8_t order[] = { 0xc6, 0xc4, 0xc2, 0xc0, 0xc1 };
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x0f);
	out(&b, MCR, 0x1f);	/* loopback: changes the modem lines */
	out(&b, MCR, 0x0b);
	b.c.backend.front->line_break(b.c.backend.front_dev);
	assert_int_equal(in(&b, IIR), order[0]);
	assert_int_equal(in(&b, LSR) & 0x10, 0x10);
	assert_int_equal(in(&b, IIR), order[1]);
	assert_int_equal(in(&b, DATA), 0);
	assert_int_equal(in(&b, IIR), order[2]);
	assert_int_equal(in(&b, IIR), order[3]);
	assert_true(in(&b, MSR) & 0x0f);
	assert_int_equal(in(&b, IIR), order[4]);
	done(&b);
}

static void test_loopback(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x00);
	in(&b, MSR);
	out(&b, MCR, 0x1a);	/* what Linux's probe writes: RTS and OUT2 looped back */
	assert_int_equal(in(&b, MSR) & 0xf0, 0x90);
	out(&b, DATA, 0x5a);
	assert_int_equal(b.c.out_len, 0);
	assert_int_equal(in(&b, LSR) & 1, 1);
	assert_int_equal(in(&b, DATA), 0x5a);
	/* RI tells only its trailing edge. */
	out(&b, MCR, 0x14);
	in(&b, MSR);
	out(&b, MCR, 0x10);
	assert_int_equal(in(&b, MSR) & 0x04, 0x04);
	/* Overrun. */
	for (int i = 0; i < 17; i++)
		out(&b, DATA, i);
	assert_int_equal(in(&b, LSR) & 0x02, 0x02);
	for (int i = 0; i < 16; i++)
		assert_int_equal(in(&b, DATA), i);
	/* Nothing comes in from outside meanwhile, and nothing is lost. */
	fake_char_type(&b.c, "z");
	clock_advance(&b.rig.clock, 100 * CHAR_NS);
	fake_char_pump(&b.c);
	assert_int_equal(in(&b, LSR) & 1, 0);
	out(&b, MCR, 0x0b);
	fake_char_pump(&b.c);
	assert_int_equal(in(&b, DATA), 'z');
	done(&b);
}

/* Typed ahead: through resets of the FIFO, dropped reads, changes of mode. */
static void test_nothing_lost(void **state)
{
	static const char text[] = "the quick brown fox jumps over the lazy dog";
	char got[sizeof(text)] = "";
	struct bench b;
	size_t n = 0;

	(void)state;
	init(&b);
	fake_char_type(&b.c, text);
	/* A driver's start: FIFOs cleared twice, stray bytes thrown away. */
	out(&b, FCR, 0x01);
	out(&b, FCR, 0x07);
	out(&b, FCR, 0x00);
	clock_advance(&b.rig.clock, 5 * CHAR_NS);	/* it may take its time */
	in(&b, DATA);
	in(&b, LSR);
	out(&b, LCR, 0x83);
	out(&b, DATA, 1);
	out(&b, IER, 0);
	out(&b, LCR, 0x03);
	out(&b, FCR, 0x07);
	clock_advance(&b.rig.clock, 5 * CHAR_NS);
	in(&b, DATA);
	out(&b, IER, 0x01);
	for (int i = 0; i < 2000 && n < sizeof(text) - 1; i++) {
		clock_advance(&b.rig.clock, CHAR_NS);
		fake_char_pump(&b.c);
		while (in(&b, LSR) & 1 && n < sizeof(text) - 1)
			got[n++] = in(&b, DATA);
	}
	assert_string_equal(got, text);
	done(&b);
}

/* Input comes no faster than the line: 320 bytes take 320 character times. */
static void test_pace(void **state)
{
	static char text[321];
	struct bench b;
	uint64_t start;
	size_t n = 0;

	(void)state;
	memset(text, 'x', 320);
	init(&b);
	set_up(&b, 0x07, 0x01);
	start = clock_now(&b.rig.clock);
	fake_char_type(&b.c, text);
	while (n < 320) {
		while (in(&b, LSR) & 1) {
			in(&b, DATA);
			n++;
		}
		clock_advance(&b.rig.clock, CHAR_NS / 4);
		fake_char_pump(&b.c);
		assert_true(clock_now(&b.rig.clock) - start < 400ULL * CHAR_NS);
	}
	assert_true(clock_now(&b.rig.clock) - start >= 303ULL * CHAR_NS);
	done(&b);
}

static void test_reset(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	set_up(&b, 0x07, 0x0f);
	fake_char_type(&b.c, "abc");
	out(&b, SCR, 1);
	assert_true(b.irq.level);
	b.uart->ops->reset(b.uart);
	assert_false(b.irq.level);
	assert_int_equal(in(&b, LSR), 0x60);
	assert_int_equal(in(&b, IIR), 0x01);
	assert_int_equal(in(&b, SCR), 0);
	assert_true(clock_deadline(&b.rig.clock) == CLOCK_NEVER);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_transmit),
		cmocka_unit_test(test_thre_interrupt),
		cmocka_unit_test(test_output_pressure),
		cmocka_unit_test(test_receive_interrupts),
		cmocka_unit_test(test_priorities),
		cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_nothing_lost),
		cmocka_unit_test(test_pace),
		cmocka_unit_test(test_reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
