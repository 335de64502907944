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

/*
 * Departure: edges of @pin, the timer's, are not merged.  What comes while an earlier one waits for
 * a processor is kept, up to a number, and sent as the processor takes them: a system that counts
 * ticks, as Linux does to see if there is a timer at all, cannot know that the host had no time
 * for it.  While the machine is built.
 */
void ioapic_keep_edges(struct device *ioapic, unsigned int pin);

/* Input @pin, 0-23. */
struct irq_line ioapic_line(struct device *ioapic, unsigned int pin);

#endif
