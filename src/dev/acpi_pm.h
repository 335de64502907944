/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ACPI fixed hardware: PM1a registers, PM timer, GPE0 block, SMI command port, power
 * button.
 */
#ifndef VIREO_DEV_ACPI_PM_H
#define VIREO_DEV_ACPI_PM_H

#include "dev/device.h"

#define PM_TIMER_HZ	3579545U
#define PM1_EVENT	0	/* offsets from the base of the PM block */
#define PM1_CONTROL	4
#define PM_TIMER	8
#define PM_BLOCK_SIZE	12
#define GPE0_SIZE	4	/* 16 events: status, enable */
#define SLP_TYP_S5	5	/* what \_S5 in the DSDT says */
#define SMI_ACPI_ENABLE	0xa0	/* values of the SMI command port */
#define SMI_ACPI_DISABLE 0xa1

struct acpi_pm_ports {
	uint16_t pm, gpe0, smi;
};

/* @sci is level-triggered. */
int acpi_pm_create(struct device **out, struct gpa_space *s, const struct acpi_pm_ports *at,
		   struct clock *clock, const struct irq_line *sci,
		   const struct power_line *power, struct err *e);

/* Raises general-purpose event @n, 0 to 15; any thread. */
void acpi_pm_event(struct device *pm, unsigned int n);
/* Presses the power button; any thread.  Powers off where no system listens to ACPI. */
void acpi_pm_power_button(struct device *pm);

#endif
