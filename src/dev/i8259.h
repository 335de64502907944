/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's two interrupt controllers, cascaded: IRQ 0-7 and 8-15.
 */
#ifndef VIREO_DEV_I8259_H
#define VIREO_DEV_I8259_H

#include "dev/device.h"

/*
 * Ports 20h-21h, a0h-a1h, 4d0h-4d1h in @s.  @intr is the INTR output of the first
 * controller; it falls and rises again for each interrupt that is acknowledged.
 */
int i8259_create(struct device **out, struct gpa_space *s, const struct irq_line *intr,
		 struct err *e);

/* Input @irq, 0-15 (2 is the cascade and has no input). */
struct irq_line i8259_line(struct device *pic, unsigned int irq);

/* The INTA cycle: the vector, that of IRQ 7 or 15 if the request is gone.  @pic: a device. */
int i8259_ack(void *pic);

#endif
