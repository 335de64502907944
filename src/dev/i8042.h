/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's keyboard controller, with a keyboard on which nobody types.
 */
#ifndef VIREO_DEV_I8042_H
#define VIREO_DEV_I8042_H

#include "dev/device.h"

/* Ports 60h and 64h in @s.  @irq is IRQ 1; the reset pulse goes to @power. */
int i8042_create(struct device **out, struct gpa_space *s, const struct irq_line *irq,
		 const struct power_line *power, struct err *e);

#endif
