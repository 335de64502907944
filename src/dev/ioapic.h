/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The I/O APIC: 24 inputs, each turned into a message to local APICs.
 */
#ifndef VIREO_DEV_IOAPIC_H
#define VIREO_DEV_IOAPIC_H

#include "dev/apic_bus.h"
#include "dev/device.h"

#define IOAPIC_PINS	24
#define IOAPIC_BASE	0xfec00000ULL

/* One page of registers at @base in @s; sends to @bus and hears its EOIs. */
int ioapic_create(struct device **out, struct gpa_space *s, gpa_t base, struct apic_bus *bus,
		  struct err *e);

/* Input @pin, 0-23. */
struct irq_line ioapic_line(struct device *ioapic, unsigned int pin);

#endif
