// SPDX-License-Identifier: Apache-2.0
/*
 * What Linux does to learn the frequencies of a PC's clocks, as register accesses: each
 * must end, and with the right number.  Time passes by the accesses, about 1 us each.
 */
#include "apic_rig.h"

#include "cpu/cpuid.h"
#include "dev/hpet.h"
#include "dev/i8254.h"

#define ACCESS_NS	1100

struct pc {
	struct apic_rig apic;
	struct device *hpet, *pit;
	struct irq_line irq0[2];	/* PIC and I/O APIC input 2 */
};

static void fan_irq0(void *sink, unsigned int pin, bool level)
{
	struct pc *pc = sink;

	(void)pin;
	irq_set(&pc->irq0[0], level);
	irq_set(&pc->irq0[1], level);
}

static void setup(struct pc *pc)
{
	struct rig *r = &pc->apic.rig;
	struct hpet_wires w = { .legacy[0] = { .set = fan_irq0, .sink = pc } };
	struct irq_line line;

	apic_rig_init(&pc->apic, 1);
	pc->irq0[0] = i8259_line(pc->apic.pic, 0);
	pc->irq0[1] = ioapic_line(pc->apic.ioapic, 2);
	assert_int_equal(hpet_create(&pc->hpet, &r->space, HPET_BASE, &r->clock, &w, NULL), 0);
	line = hpet_legacy_line(pc->hpet, 0);
	assert_int_equal(i8254_create(&pc->pit, &r->space, &r->clock, &line, NULL), 0);
}

static void teardown(struct pc *pc)
{
	pc->pit->ops->destroy(pc->pit);
	pc->hpet->ops->destroy(pc->hpet);
	apic_rig_destroy(&pc->apic);
}

static void out(struct pc *pc, uint16_t port, uint8_t value)
{
	clock_advance(&pc->apic.rig.clock, ACCESS_NS);
	outb(&pc->apic.rig, port, value);
}

static uint8_t in(struct pc *pc, uint16_t port)
{
	clock_advance(&pc->apic.rig.clock, ACCESS_NS);
	return inb(&pc->apic.rig, port);
}

static uint64_t now(struct pc *pc)
{
	return clock_now(&pc->apic.rig.clock);
}

/* Channel 2 runs once through @count in mode 0; the time until OUT shows in port 61h. */
static void test_pit_channel2(void **state)
{
	const unsigned int count = PIT_HZ / 100;	/* 10 ms */
	unsigned int polls = 0;
	struct pc pc;
	uint64_t start;

	(void)state;
	setup(&pc);
	out(&pc, 0x61, (in(&pc, 0x61) & ~0x02) | 0x01);
	out(&pc, 0x43, 0xb0);
	out(&pc, 0x42, count & 0xff);
	out(&pc, 0x42, count >> 8);
	start = now(&pc);
	while (!(in(&pc, 0x61) & 0x20))
		assert_in_range(++polls, 1, 20000);
	assert_in_range(now(&pc) - start, 10000000 - 2000, 10000000 + 2 * ACCESS_NS);
	teardown(&pc);
}

/* The quick way: how long does each value of the count's high byte last? */
static void test_pit_quick(void **state)
{
	uint64_t first = 0, last = 0;
	struct pc pc;

	(void)state;
	setup(&pc);
	out(&pc, 0x61, (in(&pc, 0x61) & ~0x02) | 0x01);
	out(&pc, 0x43, 0xb0);
	out(&pc, 0x42, 0xff);
	out(&pc, 0x42, 0xff);
	in(&pc, 0x42);
	in(&pc, 0x42);
	for (unsigned int high = 0xff; high > 0xe0; high--) {
		unsigned int reads = 0;

		for (;; reads++) {
			assert_in_range(reads, 0, 500);
			in(&pc, 0x42);
			if (in(&pc, 0x42) != high)
				break;
		}
		assert_in_range(reads, 50, 200);	/* Linux refuses fewer than 5 */
		last = now(&pc);
		if (!first)
			first = last;
	}
	/* 30 times 256 ticks. */
	assert_in_range(last - first, 30 * 256 * NS_PER_SEC / PIT_HZ - 3 * ACCESS_NS,
			30 * 256 * NS_PER_SEC / PIT_HZ + 3 * ACCESS_NS);
	teardown(&pc);
}

/* Lets @ns pass, counting the interrupts of @vector that the vCPU takes. */
static unsigned int run(struct pc *pc, uint64_t ns, int vector)
{
	unsigned int n = 0;

	for (uint64_t end = now(pc) + ns; now(pc) < end;) {
		clock_advance(&pc->apic.rig.clock, 10000);
		if (take_interrupt(&pc->apic, 0) != vector)
			continue;
		n++;
		apic_wr(&pc->apic, 0, 0xb0, 0);
	}
	return n;
}

static void route_irq0(struct pc *pc)
{
	apic_enable(&pc->apic, 0);
	ioapic_entry(&pc->apic, 2, 0, 0x30);
	while (take_interrupt(&pc->apic, 0) >= 0)
		apic_wr(&pc->apic, 0, 0xb0, 0);
}

/* The APIC timer, dividing by 16, against 25 ticks of the PIT at 250 Hz. */
static void test_lapic_by_pit(void **state)
{
	unsigned int ticks = 0;
	uint32_t before, after;
	struct pc pc;

	(void)state;
	setup(&pc);
	out(&pc, 0x43, 0x34);
	out(&pc, 0x40, 4773 & 0xff);
	out(&pc, 0x40, 4773 >> 8);
	route_irq0(&pc);
	apic_wr(&pc.apic, 0, 0x320, 0x100ec);
	apic_wr(&pc.apic, 0, 0x3e0, 0x3);
	apic_wr(&pc.apic, 0, 0x380, 0xffffffff);
	while (!run(&pc, 10000, 0x30))
		;
	before = apic_rd(&pc.apic, 0, 0x390);
	while (ticks < 25)
		ticks += run(&pc, 10000, 0x30);
	after = apic_rd(&pc.apic, 0, 0x390);
	/* 25 * 4773 / 1193182 s = 100.005 ms */
	assert_in_range(before - after, CRYSTAL_HZ / 16 / 10, CRYSTAL_HZ / 16 / 10 * 1.0005);
	out(&pc, 0x43, 0x30);	/* Linux stops it so */
	assert_int_equal(run(&pc, 10000000, 0x30), 0);
	teardown(&pc);
}

/* The PIT as one-shot event device: mode 4, a count for each event. */
static void test_pit_oneshot(void **state)
{
	struct pc pc;

	(void)state;
	setup(&pc);
	out(&pc, 0x43, 0x38);
	route_irq0(&pc);
	for (unsigned int i = 0; i < 20; i++) {
		out(&pc, 0x40, 4773 & 0xff);
		out(&pc, 0x40, 4773 >> 8);
		assert_int_equal(run(&pc, 3900000, 0x30), 0);
		assert_int_equal(run(&pc, 200000, 0x30), 1);
	}
	assert_int_equal(run(&pc, NS_PER_SEC, 0x30), 0);
	teardown(&pc);
}

/* The HPET moves, its frequency is right, and it can stand in for the PIT. */
static void test_hpet(void **state)
{
	uint64_t period_fs, from, to, start;
	struct gpa_space *s;
	struct pc pc;

	(void)state;
	setup(&pc);
	s = &pc.apic.rig.space;
	period_fs = mmio_read(s, HPET_BASE + 4, 4);
	assert_in_range(period_fs, 100000, 100000000);	/* what Linux accepts */
	mmio_write(s, HPET_BASE + 0x10, 4, 0);
	mmio_write(s, HPET_BASE + 0xf0, 4, 0);
	mmio_write(s, HPET_BASE + 0xf4, 4, 0);
	mmio_write(s, HPET_BASE + 0x10, 4, 1);
	start = now(&pc);
	from = mmio_read(s, HPET_BASE + 0xf0, 4);
	clock_advance(&pc.apic.rig.clock, 50000000);
	to = mmio_read(s, HPET_BASE + 0xf0, 4);
	assert_int_equal((to - from) * period_fs / 1000000, now(&pc) - start);
	route_irq0(&pc);
	mmio_write(s, HPET_BASE + 0x10, 4, 3);
	mmio_write(s, HPET_BASE + 0x100, 4, 0x14c);
	to = mmio_read(s, HPET_BASE + 0xf0, 4);
	mmio_write(s, HPET_BASE + 0x108, 4, to + 400000);
	mmio_write(s, HPET_BASE + 0x108, 4, 400000);
	assert_in_range(run(&pc, NS_PER_SEC, 0x30), 249, 250);
	/* One-shot events. */
	mmio_write(s, HPET_BASE + 0x100, 4, 0x104);
	for (unsigned int i = 0; i < 5; i++) {
		to = mmio_read(s, HPET_BASE + 0xf0, 4);
		mmio_write(s, HPET_BASE + 0x108, 4, to + 100000);
		assert_int_equal(run(&pc, 990000, 0x30), 0);
		assert_int_equal(run(&pc, 30000, 0x30), 1);
	}
	teardown(&pc);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pit_channel2), cmocka_unit_test(test_pit_quick),
		cmocka_unit_test(test_lapic_by_pit), cmocka_unit_test(test_pit_oneshot),
		cmocka_unit_test(test_hpet),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
