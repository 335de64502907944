/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's real-time clock and its battery-backed memory.
 */
#ifndef VIREO_DEV_MC146818_H
#define VIREO_DEV_MC146818_H

#include "dev/device.h"

#include <time.h>

#define CMOS_SIZE	128
#define CMOS_CENTURY	0x32	/* the FADT names it */

/* Ports 70h-71h in @s.  @epoch: UTC at VM time 0.  @irq is IRQ 8. */
int mc146818_create(struct device **out, struct gpa_space *s, struct clock *clock,
		    const struct timespec *epoch, const struct irq_line *irq, struct err *e);

/* Sets a byte of the memory (0x0e-0x7f) while the machine is built; resets keep it. */
void mc146818_set_byte(struct device *rtc, unsigned int at, uint8_t value);

#endif
