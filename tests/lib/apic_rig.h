/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bench for the APICs: vCPUs that never run, their local APICs, a bus, an I/O APIC and
 * the PICs, wired as in a PC.
 */
#ifndef VIREO_TESTS_APIC_RIG_H
#define VIREO_TESTS_APIC_RIG_H

#include "dev_rig.h"
#include "processor.h"

#include "dev/i8259.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define APIC_RIG_CPUS	4
#define APIC_RIG_TSC_HZ	2000000000ULL

/* The PIC's INTR goes to LINT0 of all local APICs and to input 0 of the I/O APIC. */
struct apic_rig {
	struct rig rig;
	struct apic_bus bus;
	unsigned int cpus;
	struct vcpu *v[APIC_RIG_CPUS];
	struct device *lapic[APIC_RIG_CPUS];
	struct device *ioapic, *pic;
	struct irq_line intr[2];
};

static inline void apic_rig_intr(void *sink, unsigned int pin, bool level)
{
	struct apic_rig *t = sink;

	(void)pin;
	irq_set(&t->intr[0], level);
	irq_set(&t->intr[1], level);
}

static inline void apic_rig_init(struct apic_rig *t, unsigned int cpus)
{
	const struct irq_line intr = { .set = apic_rig_intr, .sink = t };

	memset(t, 0, sizeof(*t));
	rig_init(&t->rig);
	apic_bus_init(&t->bus);
	t->cpus = cpus;
	for (unsigned int i = 0; i < cpus; i++) {
		struct vcpu *v = processor_alloc();

		v->index = i;
		v->clock = &t->rig.clock;
		v->tsc_hz = APIC_RIG_TSC_HZ;
		t->v[i] = v;
		assert_int_equal(lapic_create(&t->lapic[i], v, &t->bus, i == 0, NULL), 0);
	}
	assert_int_equal(ioapic_create(&t->ioapic, &t->rig.space, IOAPIC_BASE, &t->bus, NULL), 0);
	assert_int_equal(i8259_create(&t->pic, &t->rig.space, &intr, NULL), 0);
	apic_bus_set_pic(&t->bus, i8259_ack, t->pic);
	t->intr[0] = apic_bus_lint0(&t->bus);
	t->intr[1] = ioapic_line(t->ioapic, 0);
	clock_advance(&t->rig.clock, 1000003);
}

static inline void apic_rig_destroy(struct apic_rig *t)
{
	t->ioapic->ops->destroy(t->ioapic);
	for (unsigned int i = 0; i < t->cpus; i++) {
		t->lapic[i]->ops->destroy(t->lapic[i]);
		free(t->v[i]);
	}
	assert_int_equal(t->bus.ioapic_count, 0);
	rig_destroy(&t->rig, t->pic);
}

/* --- what a vCPU does --- */

static inline uint32_t apic_rd(struct apic_rig *t, unsigned int cpu, uint32_t reg)
{
	return t->v[cpu]->intc_ops->mmio_read(t->v[cpu]->intc, reg, 4);
}

static inline void apic_wr(struct apic_rig *t, unsigned int cpu, uint32_t reg, uint32_t value)
{
	t->v[cpu]->intc_ops->mmio_write(t->v[cpu]->intc, reg, 4, value);
}

static inline bool msr_rd(struct apic_rig *t, unsigned int cpu, uint32_t msr, uint64_t *value)
{
	return t->v[cpu]->intc_ops->read_msr(t->v[cpu]->intc, msr, value);
}

static inline bool msr_wr(struct apic_rig *t, unsigned int cpu, uint32_t msr, uint64_t value)
{
	return t->v[cpu]->intc_ops->write_msr(t->v[cpu]->intc, msr, value);
}

/* The attention bits that came since the last look. */
static inline uint32_t taken_attention(struct apic_rig *t, unsigned int cpu)
{
	return atomic_exchange(&t->v[cpu]->attention, 0);
}

/* As the vCPU does at an instruction boundary; -1: not asked for, or nothing there. */
static inline int take_interrupt(struct apic_rig *t, unsigned int cpu)
{
	struct vcpu *v = t->v[cpu];

	if (!(taken_attention(t, cpu) & ATTN_INTR))
		return -1;
	if (!v->intc_ops->pending(v->intc))
		return -1;
	return v->intc_ops->ack(v->intc);
}

/* Software-enabled, spurious vector ffh. */
static inline void apic_enable(struct apic_rig *t, unsigned int cpu)
{
	apic_wr(t, cpu, 0xf0, 0x1ff);
}

static inline void ipi(struct apic_rig *t, unsigned int cpu, uint32_t high, uint32_t low)
{
	apic_wr(t, cpu, 0x310, high);
	apic_wr(t, cpu, 0x300, low);
}

/* --- the I/O APIC's window --- */

static inline uint32_t ioapic_rd(struct apic_rig *t, uint8_t reg)
{
	mmio_write(&t->rig.space, IOAPIC_BASE, 4, reg);
	return mmio_read(&t->rig.space, IOAPIC_BASE + 0x10, 4);
}

static inline void ioapic_wr(struct apic_rig *t, uint8_t reg, uint32_t value)
{
	mmio_write(&t->rig.space, IOAPIC_BASE, 4, reg);
	mmio_write(&t->rig.space, IOAPIC_BASE + 0x10, 4, value);
}

static inline void ioapic_entry(struct apic_rig *t, unsigned int pin, uint8_t dest, uint32_t low)
{
	ioapic_wr(t, 0x10 + 2 * pin, 0x10000);
	ioapic_wr(t, 0x11 + 2 * pin, (uint32_t)dest << 24);
	ioapic_wr(t, 0x10 + 2 * pin, low);
}

#endif
