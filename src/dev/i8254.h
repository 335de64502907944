/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's interval timer, and port 61h, which gates its channel 2.
 */
#ifndef VIREO_DEV_I8254_H
#define VIREO_DEV_I8254_H

#include "dev/device.h"

#define PIT_HZ	1193182U

/* Ports 40h-43h and 61h in @s.  @irq0 is the OUT pin of channel 0. */
int i8254_create(struct device **out, struct gpa_space *s, struct clock *clock,
		 const struct irq_line *irq0, struct err *e);

#endif
