// SPDX-License-Identifier: Apache-2.0
/* The local APIC: priorities, IPIs, wires, errors, its modes. */
#include "apic_rig.h"

#define ICR_SELF	0x40000
#define ICR_ALL		0x80000
#define ICR_OTHERS	0xc0000

static void test_reset_state(void **state)
{
	struct apic_rig t;
	uint64_t base;

	(void)state;
	apic_rig_init(&t, 2);
	assert_int_equal(apic_rd(&t, 1, 0x20), 1 << 24);
	assert_int_equal(apic_rd(&t, 0, 0x30) & 0xff00ff, 0x50014);
	assert_int_equal(apic_rd(&t, 0, 0xe0), 0xffffffff);
	assert_int_equal(apic_rd(&t, 0, 0xf0), 0xff);
	for (unsigned int reg = 0x320; reg <= 0x370; reg += 0x10)
		assert_int_equal(apic_rd(&t, 0, reg), 0x10000);
	assert_true(msr_rd(&t, 0, MSR_APIC_BASE, &base));
	assert_int_equal(base, 0xfee00900);
	assert_true(msr_rd(&t, 1, MSR_APIC_BASE, &base));
	assert_int_equal(base, 0xfee00800);
	assert_int_equal(t.v[0]->intc_ops->mmio_base(t.v[0]->intc), 0xfee00000);
	apic_rig_destroy(&t);
}

static void test_priority(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 1);
	apic_enable(&t, 0);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x45);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x41);
	assert_int_equal(apic_rd(&t, 0, 0x220), 0x22);
	assert_int_equal(take_interrupt(&t, 0), 0x45);
	assert_int_equal(apic_rd(&t, 0, 0x120), 0x20);
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0x40);
	/* The same class waits, a higher one nests. */
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x82);
	assert_int_equal(take_interrupt(&t, 0), 0x82);
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0x80);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0x40);
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), 0x41);
	apic_wr(&t, 0, 0xb0, 0);
	apic_wr(&t, 0, 0xb0, 0);	/* one too many */
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0);
	apic_rig_destroy(&t);
}

static void test_tpr(void **state)
{
	const struct vcpu_intc_ops *ops;
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 1);
	ops = t.v[0]->intc_ops;
	apic_enable(&t, 0);
	ops->set_tpr(t.v[0]->intc, 0x60);
	assert_int_equal(apic_rd(&t, 0, 0x80), 0x60);
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0x60);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x6f);
	assert_int_equal(taken_attention(&t, 0), 0);
	assert_false(ops->pending(t.v[0]->intc));
	assert_int_equal(ops->ack(t.v[0]->intc), -1);
	apic_wr(&t, 0, 0x80, 0x5f);
	assert_int_equal(ops->get_tpr(t.v[0]->intc), 0x5f);
	assert_int_equal(take_interrupt(&t, 0), 0x6f);
	assert_int_equal(apic_rd(&t, 0, 0xa0), 0x60);
	apic_rig_destroy(&t);
}

static void test_software_disable(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 1);
	apic_wr(&t, 0, 0x320, 0x30);
	assert_int_equal(apic_rd(&t, 0, 0x320), 0x10030);	/* cannot be unmasked */
	apic_enable(&t, 0);
	apic_wr(&t, 0, 0x320, 0x30);
	assert_int_equal(apic_rd(&t, 0, 0x320), 0x30);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x50);
	apic_wr(&t, 0, 0xf0, 0xff);
	assert_int_equal(apic_rd(&t, 0, 0x320), 0x10030);
	apic_wr(&t, 0, 0x300, ICR_SELF | 0x51);	/* not accepted */
	assert_int_equal(apic_rd(&t, 0, 0x220), 0x10000);
	assert_int_equal(take_interrupt(&t, 0), 0x50);	/* accepted before: kept */
	apic_rig_destroy(&t);
}

static void test_ipi_physical(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 3);
	for (unsigned int i = 0; i < 3; i++)
		apic_enable(&t, i);
	ipi(&t, 0, 2 << 24, 0x77);
	assert_int_equal(take_interrupt(&t, 2), 0x77);
	assert_int_equal(taken_attention(&t, 0) | taken_attention(&t, 1), 0);
	assert_int_equal(apic_rd(&t, 0, 0x300), 0x77);	/* idle again */
	ipi(&t, 0, 0xffU << 24, 0x88);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(take_interrupt(&t, i), 0x88);
	ipi(&t, 1, 0, ICR_OTHERS | 0x98);
	assert_int_equal(take_interrupt(&t, 0), 0x98);
	assert_int_equal(take_interrupt(&t, 1), -1);
	assert_int_equal(take_interrupt(&t, 2), 0x98);
	ipi(&t, 1, 0, ICR_ALL | 0xa8);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(take_interrupt(&t, i), 0xa8);
	ipi(&t, 0, 9 << 24, 0xb9);	/* nobody */
	ipi(&t, 0, 1 << 24, 0x400);
	assert_int_equal(taken_attention(&t, 1), ATTN_NMI);
	apic_rig_destroy(&t);
}

static void test_ipi_start(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 2);
	apic_enable(&t, 0);
	apic_enable(&t, 1);
	apic_wr(&t, 1, 0x80, 0x40);
	ipi(&t, 0, 1 << 24, 0xc500);
	assert_int_equal(taken_attention(&t, 1), ATTN_INIT);
	assert_int_equal(apic_rd(&t, 1, 0x80), 0);	/* INIT resets the APIC, but not its ID */
	assert_int_equal(apic_rd(&t, 1, 0xf0), 0xff);
	assert_int_equal(apic_rd(&t, 1, 0x20), 1 << 24);
	ipi(&t, 0, 1 << 24, 0x8500);	/* de-assert: nothing */
	assert_int_equal(taken_attention(&t, 1), 0);
	ipi(&t, 0, 1 << 24, 0x699);
	assert_int_equal(taken_attention(&t, 1), ATTN_SIPI);
	assert_int_equal(t.v[1]->sipi_vector, 0x99);
	apic_rig_destroy(&t);
}

static void test_ipi_logical(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 4);
	for (unsigned int i = 0; i < 4; i++) {
		apic_enable(&t, i);
		apic_wr(&t, i, 0xd0, 1U << (24 + i));
	}
	ipi(&t, 0, 0x0a << 24, 0x841);
	assert_int_equal(take_interrupt(&t, 0), -1);
	assert_int_equal(take_interrupt(&t, 1), 0x41);
	assert_int_equal(take_interrupt(&t, 2), -1);
	assert_int_equal(take_interrupt(&t, 3), 0x41);
	/* Cluster: two clusters of two. */
	for (unsigned int i = 0; i < 4; i++) {
		apic_wr(&t, i, 0xe0, 0x0fffffff);
		apic_wr(&t, i, 0xd0, (i / 2) << 28 | 1U << (24 + i % 2));
	}
	ipi(&t, 0, 0x12 << 24, 0x851);
	assert_int_equal(take_interrupt(&t, 1), -1);
	assert_int_equal(take_interrupt(&t, 2), -1);
	assert_int_equal(take_interrupt(&t, 3), 0x51);
	ipi(&t, 0, 0xffU << 24, 0x861);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(take_interrupt(&t, i), 0x61);
	apic_rig_destroy(&t);
}

static void test_lowest_priority(void **state)
{
	unsigned int got[3] = { 0 };
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 3);
	for (unsigned int i = 0; i < 3; i++) {
		apic_enable(&t, i);
		apic_wr(&t, i, 0xd0, 1U << (24 + i));
	}
	apic_wr(&t, 0, 0x80, 0x30);
	apic_wr(&t, 2, 0x80, 0x20);
	ipi(&t, 0, 7 << 24, 0x900 | 0x51);
	assert_int_equal(take_interrupt(&t, 1), 0x51);
	ipi(&t, 0, 7 << 24, 0x900 | 0x52);	/* 1 is busy in class 5 */
	assert_int_equal(take_interrupt(&t, 2), 0x52);
	ipi(&t, 0, 7 << 24, 0x900 | 0x53);
	assert_int_equal(take_interrupt(&t, 0), 0x53);
	for (unsigned int i = 0; i < 3; i++) {
		apic_wr(&t, i, 0xb0, 0);
		apic_wr(&t, i, 0x80, 0);
	}
	for (unsigned int n = 0; n < 30; n++) {
		ipi(&t, 0, 7 << 24, 0x900 | 0x60);
		for (unsigned int i = 0; i < 3; i++) {
			if (take_interrupt(&t, i) != 0x60)
				continue;
			got[i]++;
			apic_wr(&t, i, 0xb0, 0);
		}
	}
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(got[i], 10);	/* equals take turns */
	apic_rig_destroy(&t);
}

static void test_errors(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 2);
	apic_enable(&t, 0);
	apic_enable(&t, 1);
	apic_wr(&t, 0, 0x370, 0xfe);
	ipi(&t, 0, 1 << 24, 0x0f);	/* illegal vector, not sent */
	assert_int_equal(take_interrupt(&t, 0), 0xfe);
	assert_int_equal(apic_rd(&t, 0, 0x280), 0);
	apic_wr(&t, 0, 0x280, 0);
	assert_int_equal(apic_rd(&t, 0, 0x280), 0x20);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(apic_rd(&t, 0, 0x70), 0);	/* no such register */
	assert_int_equal(take_interrupt(&t, 0), 0xfe);
	apic_wr(&t, 0, 0x280, 0);
	assert_int_equal(apic_rd(&t, 0, 0x280), 0x80);
	apic_wr(&t, 0, 0x280, 0);
	assert_int_equal(apic_rd(&t, 0, 0x280), 0);
	/* Received illegal vector, with an illegal error vector too. */
	apic_wr(&t, 1, 0x370, 0x05);
	apic_bus_send(&t.bus, &(struct apic_msg){ .dest = 1, .vector = 3 });
	apic_wr(&t, 1, 0x280, 0);
	assert_int_equal(apic_rd(&t, 1, 0x280), 0x40);
	apic_rig_destroy(&t);
}

static void test_access_sizes(void **state)
{
	const struct vcpu_intc_ops *ops;
	struct apic_rig t;
	void *l;

	(void)state;
	apic_rig_init(&t, 2);
	ops = t.v[1]->intc_ops;
	l = t.v[1]->intc;
	assert_int_equal(ops->mmio_read(l, 0x23, 1), 1);
	assert_int_equal(ops->mmio_read(l, 0x22, 2), 0x100);
	assert_int_equal(ops->mmio_read(l, 0x24, 4), 0);
	assert_int_equal(ops->mmio_read(l, 0x20, 8), 1 << 24);
	ops->mmio_write(l, 0x80, 1, 0x33);
	ops->mmio_write(l, 0x84, 4, 0x33);
	assert_int_equal(apic_rd(&t, 1, 0x80), 0);
	apic_rig_destroy(&t);
}

static void test_x2apic(void **state)
{
	struct apic_rig t;
	uint64_t value;

	(void)state;
	apic_rig_init(&t, 2);
	apic_enable(&t, 0);
	assert_false(msr_rd(&t, 0, 0x802, &value));
	assert_false(msr_wr(&t, 0, 0x808, 0));
	for (unsigned int i = 0; i < 2; i++)
		assert_true(msr_wr(&t, i, MSR_APIC_BASE, 0xfee00c00));
	assert_true(taken_attention(&t, 0) & ATTN_FLUSH);
	taken_attention(&t, 1);
	assert_true(t.v[0]->intc_ops->mmio_base(t.v[0]->intc) == GPA_NONE);
	assert_true(msr_rd(&t, 0, MSR_APIC_BASE, &value));
	assert_int_equal(value, 0xfee00d00);
	assert_true(msr_rd(&t, 1, 0x802, &value));
	assert_int_equal(value, 1);
	assert_true(msr_rd(&t, 1, 0x80d, &value));
	assert_int_equal(value, 2);
	assert_true(msr_rd(&t, 0, 0x80f, &value));
	assert_int_equal(value, 0x1ff);	/* kept */
	assert_true(msr_wr(&t, 1, 0x80f, 0x1ff));
	/* One 64-bit ICR, physical, logical, broadcast. */
	assert_true(msr_wr(&t, 0, 0x830, 1ULL << 32 | 0x41));
	assert_int_equal(take_interrupt(&t, 1), 0x41);
	assert_true(msr_rd(&t, 0, 0x830, &value));
	assert_int_equal(value, 1ULL << 32 | 0x41);
	assert_true(msr_wr(&t, 0, 0x830, 3ULL << 32 | 0x851));
	assert_int_equal(take_interrupt(&t, 0), 0x51);
	assert_int_equal(take_interrupt(&t, 1), 0x51);
	assert_true(msr_wr(&t, 0, 0x830, 0xffffffffULL << 32 | 0x61));
	assert_int_equal(take_interrupt(&t, 0), 0x61);
	assert_int_equal(take_interrupt(&t, 1), 0x61);
	assert_true(msr_wr(&t, 0, 0x83f, 0x71));
	assert_int_equal(take_interrupt(&t, 0), 0x71);
	assert_true(msr_wr(&t, 0, 0x80b, 0));
	apic_rig_destroy(&t);
}

static void test_x2apic_faults(void **state)
{
	static const uint32_t no_read[] = { 0x800, 0x809, 0x80b, 0x80c, 0x80e, 0x831, 0x83f, 0x840,
					    0x8ff };
	static const struct {
		uint32_t msr;
		uint64_t value;
	} no_write[] = {
		{ 0x802, 0 }, { 0x803, 0 }, { 0x80a, 0 }, { 0x80b, 1 }, { 0x80d, 1 }, { 0x80e, 0 },
		{ 0x808, 0x100 }, { 0x80f, 0x10000 }, { 0x810, 0 }, { 0x820, 0 }, { 0x828, 1 },
		{ 0x830, 0x100000 }, { 0x831, 0 }, { 0x832, 1ULL << 32 }, { 0x832, 0x80000 },
		{ 0x838, 1ULL << 32 }, { 0x839, 0 }, { 0x83e, 4 }, { 0x83f, 0x100 }, { 0x8ff, 0 },
	};
	struct apic_rig t;
	uint64_t value;

	(void)state;
	apic_rig_init(&t, 1);
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00c00));
	for (unsigned int i = 0; i < ARRAY_SIZE(no_read); i++)
		assert_false(msr_rd(&t, 0, no_read[i], &value));
	for (unsigned int i = 0; i < ARRAY_SIZE(no_write); i++)
		assert_false(msr_wr(&t, 0, no_write[i].msr, no_write[i].value));
	apic_rig_destroy(&t);
}

static void test_base_transitions(void **state)
{
	struct apic_rig t;
	uint64_t value;

	(void)state;
	apic_rig_init(&t, 1);
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00900 | 1));
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00900 | BIT(9)));
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00900 | BIT(GPA_BITS)));
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00500));	/* EXTD without EN */
	apic_enable(&t, 0);
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfed0800));	/* elsewhere, state kept */
	assert_int_equal(t.v[0]->intc_ops->mmio_base(t.v[0]->intc), 0xfed0000);
	assert_int_equal(taken_attention(&t, 0), ATTN_FLUSH);
	assert_int_equal(apic_rd(&t, 0, 0xf0), 0x1ff);
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00d00));
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00900));	/* x2APIC to xAPIC */
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00100));	/* disabled */
	assert_false(msr_rd(&t, 0, 0x802, &value));
	assert_true(t.v[0]->intc_ops->mmio_base(t.v[0]->intc) == GPA_NONE);
	assert_false(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00d00));	/* disabled to x2APIC */
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00900));
	assert_int_equal(apic_rd(&t, 0, 0xf0), 0xff);	/* as after reset */
	assert_true(msr_rd(&t, 0, MSR_APIC_BASE, &value));
	assert_int_equal(value, 0xfee00900);
	apic_rig_destroy(&t);
}

static void program_pic(struct apic_rig *t)
{
	static const uint8_t icw[] = { 0x30, 0x04, 0x01, 0x00 };

	outb(&t->rig, 0x20, 0x11);
	for (unsigned int i = 0; i < ARRAY_SIZE(icw); i++)
		outb(&t->rig, 0x21, icw[i]);
}

static void test_virtual_wire(void **state)
{
	struct irq_line irq4;
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 2);
	program_pic(&t);
	irq4 = i8259_line(t.pic, 4);
	irq_pulse(&irq4);
	assert_int_equal(taken_attention(&t, 0), 0);	/* LINT0 is masked */
	lapic_set_virtual_wire(t.lapic[0]);
	assert_int_equal(apic_rd(&t, 0, 0x350), 0x700);
	assert_int_equal(apic_rd(&t, 0, 0x360), 0x400);
	apic_wr(&t, 0, 0x80, 0xf0);	/* the task priority does not hold ExtINT back */
	assert_int_equal(take_interrupt(&t, 0), 0x34);
	assert_int_equal(taken_attention(&t, 1), 0);
	assert_false(t.v[0]->intc_ops->pending(t.v[0]->intc));
	outb(&t.rig, 0x20, 0x20);
	/* Masked in the APIC: held; unmasked: there. */
	apic_wr(&t, 0, 0x350, 0x10700);
	irq_pulse(&irq4);
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_wr(&t, 0, 0x350, 0x700);
	assert_int_equal(take_interrupt(&t, 0), 0x34);
	outb(&t.rig, 0x20, 0x20);
	/* Disabled altogether: LINT0 is the INTR pin of the bootstrap processor. */
	assert_true(msr_wr(&t, 0, MSR_APIC_BASE, 0xfee00100));
	taken_attention(&t, 0);
	irq_pulse(&irq4);
	assert_int_equal(take_interrupt(&t, 0), 0x34);
	apic_rig_destroy(&t);
}

static void test_lint_fixed_and_nmi(void **state)
{
	struct irq_line lint1, irq3;
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 1);
	program_pic(&t);
	outb(&t.rig, 0x4d0, 0x08);
	apic_enable(&t, 0);
	apic_wr(&t, 0, 0x350, 0x35);	/* LINT0 fixed, edge: the check Linux does */
	irq3 = i8259_line(t.pic, 3);
	irq_set(&irq3, true);
	assert_int_equal(take_interrupt(&t, 0), 0x35);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), -1);
	apic_wr(&t, 0, 0x350, 0x8036);	/* level */
	assert_int_equal(take_interrupt(&t, 0), 0x36);
	assert_int_equal(apic_rd(&t, 0, 0x350), 0xc036);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(take_interrupt(&t, 0), 0x36);
	irq_set(&irq3, false);
	apic_wr(&t, 0, 0xb0, 0);
	assert_int_equal(apic_rd(&t, 0, 0x350), 0x8036);
	assert_int_equal(take_interrupt(&t, 0), -1);
	lint1 = apic_bus_lint1(&t.bus);
	irq_pulse(&lint1);
	assert_int_equal(taken_attention(&t, 0), 0);
	apic_wr(&t, 0, 0x360, 0x400);
	irq_pulse(&lint1);
	assert_int_equal(taken_attention(&t, 0), ATTN_NMI);
	apic_rig_destroy(&t);
}

static void test_msi(void **state)
{
	struct apic_rig t;

	(void)state;
	apic_rig_init(&t, 2);
	apic_enable(&t, 0);
	apic_enable(&t, 1);
	apic_wr(&t, 1, 0xd0, 0x02000000);
	apic_bus_msi(&t.bus, 0xfee01000, 0x41);
	assert_int_equal(take_interrupt(&t, 1), 0x41);
	apic_bus_msi(&t.bus, 0xfee0200c, 0x151);	/* logical, lowest priority */
	assert_int_equal(take_interrupt(&t, 1), 0x51);
	apic_bus_msi(&t.bus, 0xfeeff000, 0x61);
	assert_int_equal(take_interrupt(&t, 0), 0x61);
	assert_int_equal(take_interrupt(&t, 1), 0x61);
	apic_rig_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reset_state), cmocka_unit_test(test_priority),
		cmocka_unit_test(test_tpr), cmocka_unit_test(test_software_disable),
		cmocka_unit_test(test_ipi_physical), cmocka_unit_test(test_ipi_start),
		cmocka_unit_test(test_ipi_logical), cmocka_unit_test(test_lowest_priority),
		cmocka_unit_test(test_errors), cmocka_unit_test(test_access_sizes),
		cmocka_unit_test(test_x2apic), cmocka_unit_test(test_x2apic_faults),
		cmocka_unit_test(test_base_transitions), cmocka_unit_test(test_virtual_wire),
		cmocka_unit_test(test_lint_fixed_and_nmi), cmocka_unit_test(test_msi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
