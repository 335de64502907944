/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port through which a guest's kernel says that it panicked.
 */
#ifndef VIREO_DEV_PVPANIC_H
#define VIREO_DEV_PVPANIC_H

#include "dev/device.h"

/* One port at @port in @s; a guest that reports a panic sends MACHINE_PANIC. */
int pvpanic_create(struct device **out, struct gpa_space *s, uint16_t port,
		   const struct power_line *power, struct err *e);

#endif
