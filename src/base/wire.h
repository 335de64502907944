/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wires between devices: an interrupt line is a value that a device is handed
 * at its creation; it drives the line and never knows what is at the other end.
 * The receiving function is thread-safe and may be called with the sender's
 * lock held.  Locks are taken in the order device, pic/ioapic, lapic, vcpu.
 */
#ifndef VIREO_BASE_WIRE_H
#define VIREO_BASE_WIRE_H

#include "base/types.h"

struct irq_line {
	void (*set)(void *sink, unsigned int pin, bool level);	/* NULL: not connected */
	void *sink;
	unsigned int pin;
};

static inline void irq_set(const struct irq_line *line, bool level)
{
	if (line->set)
		line->set(line->sink, line->pin, level);
}

static inline void irq_pulse(const struct irq_line *line)
{
	irq_set(line, true);
	irq_set(line, false);
}

/* What a device may ask of the machine as a whole. */
enum machine_event {
	MACHINE_POWEROFF,	/* ACPI S5 */
	MACHINE_RESET,		/* i8042 pulse, port cf9, ACPI reset register */
	MACHINE_TRIPLE_FAULT,	/* a vCPU shut down */
	MACHINE_DEBUG_EXIT,	/* isa-debug-exit; value: the process's exit status */
	MACHINE_PANIC,		/* a paravirtual panic notice */
};

struct power_line {
	void (*event)(void *sink, enum machine_event what, unsigned int value);
	void *sink;
};

static inline void power_event(const struct power_line *line, enum machine_event what,
			       unsigned int value)
{
	if (line->event)
		line->event(line->sink, what, value);
}

#endif
