/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between acpi.c and dsdt.c.
 */
#ifndef VIREO_MACHINE_ACPI_PRIV_H
#define VIREO_MACHINE_ACPI_PRIV_H

#include "machine/aml.h"
#include "machine/layout.h"

/* What follows the DSDT's header. */
void dsdt_body(struct aml *a, unsigned int vcpus, bool virtio_mmio);

#endif
