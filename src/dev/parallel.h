/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A parallel port with a printer on it.
 */
#ifndef VIREO_DEV_PARALLEL_H
#define VIREO_DEV_PARALLEL_H

#include "base/char_backend.h"
#include "dev/device.h"

/* Three ports at @base in @s; @irq is the acknowledge pin's; @printer takes the bytes (borrowed). */
int parallel_create(struct device **out, struct gpa_space *s, uint16_t base,
		    const struct irq_line *irq, struct char_backend *printer, struct err *e);

#endif
