/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A serial port with FIFOs, in front of a character backend.
 */
#ifndef VIREO_DEV_UART16550_H
#define VIREO_DEV_UART16550_H

#include "base/char_backend.h"
#include "dev/device.h"

/* Eight ports at @base in @s; @irq is the INTRPT pin behind the PC's OUT2 gate. */
int uart16550_create(struct device **out, struct gpa_space *s, uint16_t base,
		     struct clock *clock, const struct irq_line *irq, struct err *e);

/*
 * Connects a backend before the machine runs; NULL: output is dropped.  The UART does
 * not own it.
 */
void uart16550_attach(struct device *uart, struct char_backend *b);

#endif
