/* SPDX-License-Identifier: Apache-2.0 */
/*
 * System control port A (92h) and the diagnostic port (80h).
 */
#ifndef VIREO_DEV_SYSTEM_CONTROL_H
#define VIREO_DEV_SYSTEM_CONTROL_H

#include "dev/device.h"

/* Both in @s; the fast reset goes to @power. */
int system_control_create(struct device **out, struct gpa_space *s,
			  const struct power_line *power, struct err *e);

#endif
