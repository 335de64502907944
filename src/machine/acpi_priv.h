/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between acpi.c and dsdt.c.
 */
#ifndef VIREO_MACHINE_ACPI_PRIV_H
#define VIREO_MACHINE_ACPI_PRIV_H

#include "machine/aml.h"
#include "machine/layout.h"

/* The GSI of a slot's pin (0: INTA). */
static inline unsigned int pci_gsi(unsigned int slot, unsigned int pin)
{
	return GSI_PCI_FIRST + (slot + pin) % GSI_PCI_COUNT;
}

/* What follows the DSDT's header. */
void dsdt_body(struct aml *a, unsigned int vcpus);

#endif
