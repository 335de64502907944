/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The high precision event timers: a 64-bit counter at 100 MHz and three comparators.
 */
#ifndef VIREO_DEV_HPET_H
#define VIREO_DEV_HPET_H

#include "dev/device.h"

#define HPET_BASE	0xfed00000ULL
#define HPET_PERIOD_FS	10000000U	/* of the counter: 10 ns */
#define HPET_PINS	32

struct hpet_wires {
	/* I/O APIC inputs by number; comparators can be routed to those connected. */
	struct irq_line pin[HPET_PINS];
	/* IRQ 0 and IRQ 8: the comparators' in legacy replacement, else passed through. */
	struct irq_line legacy[2];
};

/* 1 KiB of registers at @base in @s. */
int hpet_create(struct device **out, struct gpa_space *s, gpa_t base, struct clock *clock,
		const struct hpet_wires *wires, struct err *e);

/*
 * Where the PIT (0) and the RTC (1) connect their lines: legacy[n], except that legacy
 * replacement cuts them off.
 */
struct irq_line hpet_legacy_line(struct device *hpet, unsigned int n);

/* The capabilities register's low half: the "event timer block ID" of the ACPI table. */
uint32_t hpet_block_id(void);

#endif
