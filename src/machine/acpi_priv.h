/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between acpi.c and dsdt.c.
 */
#ifndef VIREO_MACHINE_ACPI_PRIV_H
#define VIREO_MACHINE_ACPI_PRIV_H

#include "machine/aml.h"
#include "machine/layout.h"

#include <string.h>

/* What follows the DSDT's header. */
void dsdt_body(struct aml *a, uint64_t memory, unsigned int vcpus, bool virtio_mmio);

/* dsdt_cpu.c: nodes of \_SB, and the event that comes of them. */
void dsdt_processors(struct aml *a, unsigned int vcpus);
void dsdt_processor_event(struct aml *a);

/* A processor's entry in the MADT, which its _MAT gives, too. */
#define MADT_LAPIC_SIZE		8
#define MADT_LAPIC_FLAGS	4	/* its offset there */
#define LAPIC_ENABLED		BIT(0)
#define LAPIC_ONLINE_CAPABLE	BIT(1)	/* not there, but may come */
static inline void madt_lapic(uint8_t entry[MADT_LAPIC_SIZE], unsigned int index, uint8_t flags)
{
	const uint8_t e[MADT_LAPIC_SIZE] = {
		0 /* type */, MADT_LAPIC_SIZE, index /* processor UID */, index /* APIC ID */, flags,
	};

	memcpy(entry, e, sizeof(e));
}

#endif
