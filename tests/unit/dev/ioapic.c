// SPDX-License-Identifier: Apache-2.0
/* The I/O APIC, with local APICs and PICs at its wires. */
#include "apic_rig.h"

static void setup(struct apic_rig *t)
{
	apic_rig_init(t, 2);
	for (unsigned int i = 0; i < 2; i++) {
		apic_enable(t, i);
		apic_wr(t, i, 0xd0, 1U << (24 + i));
	}
}

static void test_registers(void **state)
{
	struct apic_rig t;

	(void)state;
	setup(&t);
	assert_int_equal(ioapic_rd(&t, 1), 0x170020);
	ioapic_wr(&t, 0, 0xffffffff);
	assert_int_equal(ioapic_rd(&t, 0), 0x0f000000);
	for (unsigned int i = 0; i < 24; i++)
		assert_int_equal(ioapic_rd(&t, 0x10 + 2 * i), 0x10000);
	ioapic_wr(&t, 0x12, 0xffffffff);
	assert_int_equal(ioapic_rd(&t, 0x12), 0x1afff);	/* no delivery status, no remote IRR */
	ioapic_wr(&t, 0x13, 0xffffffff);
	assert_int_equal(ioapic_rd(&t, 0x13), 0xff000000);
	ioapic_wr(&t, 0x40, 0);
	ioapic_wr(&t, 0xff, 0);
	assert_int_equal(ioapic_rd(&t, 0x40), 0);
	assert_int_equal(ioapic_rd(&t, 0x0f), 0);
	assert_int_equal(mmio_read(&t.rig.space, IOAPIC_BASE, 1), 0x0f);
	assert_null(ioapic_line(t.ioapic, 24).set);
	apic_rig_destroy(&t);
}

static void test_edge(void **state)
{
	struct irq_line line;
	struct apic_rig t;

	(void)state;
	setup(&t);
	line = ioapic_line(t.ioapic, 4);
	irq_pulse(&line);
	assert_int_equal(taken_attention(&t, 0), 0);
	ioapic_entry(&t, 4, 1, 0x34);
	assert_int_equal(take_interrupt(&t, 1), -1);	/* a masked edge is lost */
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 1), 0x34);
	assert_int_equal(apic_rd(&t, 1, 0x190), 0);	/* TMR */
	irq_set(&line, true);
	apic_wr(&t, 1, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 1), -1);
	irq_set(&line, false);
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 1), 0x34);
	apic_rig_destroy(&t);
}

/* The timer's ticks while the processor does not run; they come as it takes them, none is lost. */
static void test_kept_edges(void **state)
{
	struct irq_line line, other;
	struct apic_rig t;
	unsigned int n = 0;

	(void)state;
	setup(&t);
	ioapic_keep_edges(t.ioapic, 2);
	line = ioapic_line(t.ioapic, 2);
	other = ioapic_line(t.ioapic, 5);
	ioapic_entry(&t, 2, 1, 0x30);
	ioapic_entry(&t, 5, 1, 0x41);
	for (unsigned int i = 0; i < 25; i++) {
		irq_pulse(&line);
		irq_pulse(&other);
	}
	assert_int_equal(take_interrupt(&t, 1), 0x41);	/* this one's were merged */
	apic_wr(&t, 1, 0xb0, 0);
	for (; take_interrupt(&t, 1) == 0x30; n++)
		apic_wr(&t, 1, 0xb0, 0);
	assert_int_equal(n, 25);
	irq_pulse(&line);
	assert_int_equal(take_interrupt(&t, 1), 0x30);
	apic_wr(&t, 1, 0xb0, 0);
	/* Nothing is owed behind a mask, nor for ever. */
	irq_pulse(&line);
	irq_pulse(&line);
	ioapic_entry(&t, 2, 1, 0x10030);
	assert_int_equal(take_interrupt(&t, 1), 0x30);
	apic_wr(&t, 1, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 1), -1);
	ioapic_entry(&t, 2, 1, 0x30);
	for (unsigned int i = 0; i < 100000; i++)
		irq_pulse(&line);
	for (n = 0; take_interrupt(&t, 1) == 0x30; n++)
		apic_wr(&t, 1, 0xb0, 0);
	assert_int_equal(n, 251);
	apic_rig_destroy(&t);
}

static void test_level(void **state)
{
	struct irq_line line;
	struct apic_rig t;

	(void)state;
	setup(&t);
	line = ioapic_line(t.ioapic, 17);
	irq_set(&line, true);
	ioapic_entry(&t, 17, 0, 0x8041);	/* high already */
	assert_int_equal(take_interrupt(&t, 0), 0x41);
	assert_int_equal(apic_rd(&t, 0, 0x1a0), 2);
	assert_int_equal(ioapic_rd(&t, 0x32), 0xc041);
	irq_set(&line, false);
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 0), -1);	/* remote IRR holds it back */
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), 0x41);	/* still asserted */
	irq_set(&line, false);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(ioapic_rd(&t, 0x32), 0x8041);
	assert_int_equal(take_interrupt(&t, 0), -1);
	/* Masked while asserted, unmasked later. */
	ioapic_wr(&t, 0x32, 0x18041);
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 0), -1);
	ioapic_wr(&t, 0x32, 0x8041);
	assert_int_equal(take_interrupt(&t, 0), 0x41);
	/* A stuck remote IRR goes when the entry becomes edge-triggered. */
	ioapic_wr(&t, 0x32, 0x10041);
	assert_int_equal(ioapic_rd(&t, 0x32), 0x10041);
	apic_rig_destroy(&t);
}

static void test_eoi_register(void **state)
{
	struct irq_line line;
	struct apic_rig t;

	(void)state;
	setup(&t);
	line = ioapic_line(t.ioapic, 20);
	apic_wr(&t, 0, 0xf0, 0x11ff);	/* no EOI broadcasts */
	ioapic_entry(&t, 20, 0, 0x8051);
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 0), 0x51);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(ioapic_rd(&t, 0x38), 0xc051);
	assert_int_equal(take_interrupt(&t, 0), -1);
	mmio_write(&t.rig.space, IOAPIC_BASE + 0x40, 4, 0x52);	/* another vector */
	assert_int_equal(ioapic_rd(&t, 0x38), 0xc051);
	irq_set(&line, false);
	mmio_write(&t.rig.space, IOAPIC_BASE + 0x40, 4, 0x51);
	assert_int_equal(ioapic_rd(&t, 0x38), 0x8051);
	apic_rig_destroy(&t);
}

/* Two inputs share a vector: one EOI is both's. */
static void test_shared_vector(void **state)
{
	struct irq_line a, b;
	struct apic_rig t;

	(void)state;
	setup(&t);
	a = ioapic_line(t.ioapic, 10);
	b = ioapic_line(t.ioapic, 11);
	ioapic_entry(&t, 10, 0, 0x8061);
	ioapic_entry(&t, 11, 0, 0x8061);
	irq_set(&a, true);
	irq_set(&b, true);
	assert_int_equal(take_interrupt(&t, 0), 0x61);
	irq_set(&a, false);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), 0x61);
	irq_set(&b, false);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_rig_destroy(&t);
}

static void test_destinations(void **state)
{
	struct irq_line line;
	struct apic_rig t;

	(void)state;
	setup(&t);
	line = ioapic_line(t.ioapic, 5);
	ioapic_entry(&t, 5, 2, 0x841);	/* logical */
	irq_pulse(&line);
	assert_int_equal(take_interrupt(&t, 0), -1);
	assert_int_equal(take_interrupt(&t, 1), 0x41);
	ioapic_entry(&t, 5, 3, 0x951);	/* logical, lowest priority: 1 is busy */
	irq_pulse(&line);
	assert_int_equal(take_interrupt(&t, 0), 0x51);
	assert_int_equal(take_interrupt(&t, 1), -1);
	ioapic_entry(&t, 5, 0xff, 0x71);
	irq_pulse(&line);
	assert_int_equal(take_interrupt(&t, 0), 0x71);
	assert_int_equal(take_interrupt(&t, 1), 0x71);
	ioapic_entry(&t, 5, 1, 0x400);
	irq_pulse(&line);
	assert_int_equal(taken_attention(&t, 1), ATTN_NMI);
	ioapic_entry(&t, 5, 9, 0x8081);	/* level, to nobody: does not stick */
	irq_set(&line, true);
	assert_int_equal(ioapic_rd(&t, 0x1a), 0x8081);
	apic_rig_destroy(&t);
}

/* The PICs behind input 0 as ExtINT. */
static void test_extint(void **state)
{
	static const uint8_t icw[] = { 0x30, 0x04, 0x01, 0x00 };
	struct irq_line irq3, irq6;
	struct apic_rig t;

	(void)state;
	setup(&t);
	outb(&t.rig, 0x20, 0x11);
	for (unsigned int i = 0; i < ARRAY_SIZE(icw); i++)
		outb(&t.rig, 0x21, icw[i]);
	irq3 = i8259_line(t.pic, 3);
	irq6 = i8259_line(t.pic, 6);
	ioapic_entry(&t, 0, 1, 0x700);
	irq_pulse(&irq6);
	irq_pulse(&irq3);
	assert_int_equal(take_interrupt(&t, 1), 0x33);
	assert_int_equal(take_interrupt(&t, 1), -1);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(take_interrupt(&t, 1), 0x36);
	outb(&t.rig, 0x20, 0x20);
	assert_int_equal(take_interrupt(&t, 0), -1);
	assert_int_equal(apic_rd(&t, 1, 0x110), 0);	/* the local APIC has no part in it */
	apic_rig_destroy(&t);
}

/* An engine's local APIC had the end of an interrupt, which nobody was told of. */
static void test_settle(void **state)
{
	struct apic_state s;
	struct irq_line line;
	struct apic_rig t;
	void *intc;

	(void)state;
	setup(&t);
	intc = t.v[0]->intc;
	line = ioapic_line(t.ioapic, 17);
	ioapic_entry(&t, 17, 0, 0x8041);
	irq_set(&line, true);
	assert_int_equal(take_interrupt(&t, 0), 0x41);
	apic_bus_settle(&t.bus);			/* in service: not ended */
	assert_int_equal(ioapic_rd(&t, 0x32), 0xc041);
	assert_int_equal(take_interrupt(&t, 0), -1);
	t.v[0]->intc_ops->host(intc, true);
	t.v[0]->intc_ops->get_state(intc, &s);
	assert_int_equal(s.reg[0x12], 2);
	s.reg[0x12] = 0;
	t.v[0]->intc_ops->set_state(intc, &s);
	t.v[0]->intc_ops->host(intc, false);
	assert_int_equal(ioapic_rd(&t, 0x32), 0xc041);
	taken_attention(&t, 0);
	apic_bus_settle(&t.bus);
	assert_int_equal(take_interrupt(&t, 0), 0x41);	/* still asserted */
	irq_set(&line, false);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(ioapic_rd(&t, 0x32), 0x8041);
	apic_bus_settle(&t.bus);
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_rig_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers), cmocka_unit_test(test_edge),
		cmocka_unit_test(test_kept_edges),
		cmocka_unit_test(test_level), cmocka_unit_test(test_eoi_register),
		cmocka_unit_test(test_shared_vector), cmocka_unit_test(test_destinations),
		cmocka_unit_test(test_extint), cmocka_unit_test(test_settle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
