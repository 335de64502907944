// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI fixed hardware: the way into ACPI mode, S5, the timer and its status, the SCI, the
 * power button, GPE0; and the board's own ports: diagnostic, control A, debug exit.
 */
#include "dev_rig.h"

#include "dev/acpi_pm.h"
#include "dev/debugexit.h"
#include "dev/system_control.h"

#define PM	0x600
#define GPE	0x620
#define SMI	0xb2
#define SCI_EN	1

struct bench {
	struct rig rig;
	struct probe sci;
	unsigned int events[5];
	unsigned int value;
	struct device *pm;
};

static void power(void *sink, enum machine_event what, unsigned int value)
{
	struct bench *b = sink;

	b->events[what]++;
	b->value = value;
}

static struct power_line power_to(struct bench *b)
{
	return (struct power_line){ .event = power, .sink = b };
}

static void init(struct bench *b)
{
	const struct acpi_pm_ports at = { .pm = PM, .gpe0 = GPE, .smi = SMI };
	struct irq_line sci = probe_line(&b->sci);
	struct power_line line = power_to(b);

	*b = (struct bench){ 0 };
	rig_init(&b->rig);
	assert_int_equal(acpi_pm_create(&b->pm, &b->rig.space, &at, &b->rig.clock, &sci, &line,
					NULL), 0);
}

static void done(struct bench *b)
{
	rig_destroy(&b->rig, b->pm);
}

static void wr16(struct bench *b, uint16_t port, uint16_t value)
{
	pio_write(&b->rig.space, port, 2, value);
}

static uint16_t rd16(struct bench *b, uint16_t port)
{
	return pio_read(&b->rig.space, port, 2);
}

static void test_acpi_mode(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(rd16(&b, PM + 4) & SCI_EN, 0);
	outb(&b.rig, SMI, SMI_ACPI_ENABLE);
	assert_int_equal(rd16(&b, PM + 4) & SCI_EN, SCI_EN);
	assert_int_equal(inb(&b.rig, SMI), SMI_ACPI_ENABLE);
	/* The system itself cannot change it. */
	wr16(&b, PM + 4, 0);
	assert_int_equal(rd16(&b, PM + 4) & SCI_EN, SCI_EN);
	outb(&b.rig, SMI, SMI_ACPI_DISABLE);
	assert_int_equal(rd16(&b, PM + 4) & SCI_EN, 0);
	wr16(&b, SMI, 0x5500 | SMI_ACPI_ENABLE);
	assert_int_equal(inb(&b.rig, SMI + 1), 0x55);
	b.pm->ops->reset(b.pm);
	assert_int_equal(rd16(&b, PM + 4), 0);
	done(&b);
}

static void test_s5(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	for (unsigned int type = 0; type < 8; type++)
		if (type != SLP_TYP_S5)
			wr16(&b, PM + 4, 0x2000 | type << 10);
	wr16(&b, PM + 4, SLP_TYP_S5 << 10);
	assert_int_equal(b.events[MACHINE_POWEROFF], 0);
	assert_int_equal(rd16(&b, PM + 4), SLP_TYP_S5 << 10);
	wr16(&b, PM + 4, 0x2000 | SLP_TYP_S5 << 10);
	assert_int_equal(b.events[MACHINE_POWEROFF], 1);
	assert_int_equal(rd16(&b, PM + 4) & 0x2000, 0);	/* reads as 0 */
	/* By bytes as well. */
	outb(&b.rig, PM + 5, 0x20 | SLP_TYP_S5 << 2);
	assert_int_equal(b.events[MACHINE_POWEROFF], 2);
	done(&b);
}

static void test_timer(void **state)
{
	uint64_t before, after;
	struct bench b;

	(void)state;
	init(&b);
	before = pio_read(&b.rig.space, PM + 8, 4);
	clock_advance(&b.rig.clock, NS_PER_SEC);
	after = pio_read(&b.rig.space, PM + 8, 4);
	assert_int_equal(after - before, PM_TIMER_HZ);
	/* 24 bits: it wraps after 4.69 s. */
	clock_advance(&b.rig.clock, 4 * NS_PER_SEC);
	assert_int_equal(pio_read(&b.rig.space, PM + 8, 4), 5 * PM_TIMER_HZ & 0xffffff);
	assert_int_equal(pio_read(&b.rig.space, PM + 11, 1), 0);
	/* Its status comes with bit 23, at 2.34 s and so on. */
	assert_int_equal(rd16(&b, PM) & 1, 1);
	wr16(&b, PM, 1);
	assert_int_equal(rd16(&b, PM) & 1, 0);
	clock_advance(&b.rig.clock, 3 * NS_PER_SEC);
	assert_int_equal(rd16(&b, PM) & 1, 1);
	done(&b);
}

static void test_timer_sci(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	outb(&b.rig, SMI, SMI_ACPI_ENABLE);
	wr16(&b, PM + 2, 1);
	clock_advance(&b.rig.clock, 2343 * 1000000ULL);
	assert_false(b.sci.level);
	clock_advance(&b.rig.clock, 2 * 1000000ULL);
	assert_true(b.sci.level);
	wr16(&b, PM, 1);
	assert_false(b.sci.level);
	clock_advance(&b.rig.clock, 2344 * 1000000ULL);
	assert_true(b.sci.level);
	wr16(&b, PM + 2, 0);
	assert_false(b.sci.level);
	done(&b);
}

static void test_power_button(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	outb(&b.rig, SMI, SMI_ACPI_ENABLE);
	acpi_pm_power_button(b.pm);
	assert_int_equal(rd16(&b, PM), 0x100);
	assert_false(b.sci.level);
	wr16(&b, PM + 2, 0x100);
	assert_true(b.sci.level);
	wr16(&b, PM, 0x200);		/* another bit */
	assert_true(b.sci.level);
	outb(&b.rig, PM + 1, 0x01);
	assert_false(b.sci.level);
	assert_int_equal(b.events[MACHINE_POWEROFF], 0);
	/* Without ACPI it is the power switch. */
	outb(&b.rig, SMI, SMI_ACPI_DISABLE);
	acpi_pm_power_button(b.pm);
	assert_int_equal(b.events[MACHINE_POWEROFF], 1);
	done(&b);
}

static void test_gpe(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	pio_write(&b.rig.space, GPE, 4, 0xa5a50000);
	assert_int_equal(pio_read(&b.rig.space, GPE, 4), 0xa5a50000);
	outb(&b.rig, GPE + 3, 0x12);
	assert_int_equal(rd16(&b, GPE + 2), 0x12a5);
	done(&b);
}

/* --- the board's ports --- */

static void test_system_control(void **state)
{
	struct bench b = { 0 };
	struct power_line line = power_to(&b);
	struct device *d;

	(void)state;
	rig_init(&b.rig);
	assert_int_equal(system_control_create(&d, &b.rig.space, &line, NULL), 0);
	assert_int_equal(inb(&b.rig, 0x92), 0x02);
	outb(&b.rig, 0x92, 0x02);
	outb(&b.rig, 0x92, 0x00);
	assert_int_equal(b.events[MACHINE_RESET], 0);
	outb(&b.rig, 0x92, 0x01);
	assert_int_equal(b.events[MACHINE_RESET], 1);
	outb(&b.rig, 0x92, 0x01);	/* only when it becomes 1 */
	assert_int_equal(b.events[MACHINE_RESET], 1);
	outb(&b.rig, 0x80, 0x42);
	assert_int_equal(inb(&b.rig, 0x80), 0x42);
	d->ops->reset(d);
	assert_int_equal(inb(&b.rig, 0x92), 0x02);
	assert_int_equal(inb(&b.rig, 0x80), 0);
	rig_destroy(&b.rig, d);
}

static void test_debug_exit(void **state)
{
	struct bench b = { 0 };
	struct power_line line = power_to(&b);
	struct device *d;

	(void)state;
	rig_init(&b.rig);
	assert_int_equal(debugexit_create(&d, &b.rig.space, 0xf4, &line, NULL), 0);
	assert_int_equal(inb(&b.rig, 0xf4), 0);
	assert_int_equal(b.events[MACHINE_DEBUG_EXIT], 0);
	pio_write(&b.rig.space, 0xf4, 4, 0x11);
	assert_int_equal(b.events[MACHINE_DEBUG_EXIT], 1);
	assert_int_equal(b.value, 0x23);
	pio_write(&b.rig.space, 0xf4, 1, 0);
	assert_int_equal(b.value, 1);
	rig_destroy(&b.rig, d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_acpi_mode),
		cmocka_unit_test(test_s5),
		cmocka_unit_test(test_timer),
		cmocka_unit_test(test_timer_sci),
		cmocka_unit_test(test_power_button),
		cmocka_unit_test(test_gpe),
		cmocka_unit_test(test_system_control),
		cmocka_unit_test(test_debug_exit),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
