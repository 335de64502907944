/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A port through which a test kernel ends the machine with an exit status.
 */
#ifndef VIREO_DEV_DEBUGEXIT_H
#define VIREO_DEV_DEBUGEXIT_H

#include "dev/device.h"

/* Four ports at @base in @s; a write of v sends MACHINE_DEBUG_EXIT, (v << 1) | 1. */
int debugexit_create(struct device **out, struct gpa_space *s, uint16_t base,
		     const struct power_line *power, struct err *e);

#endif
