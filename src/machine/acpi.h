/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine's ACPI tables as one image for guest memory at LAYOUT_ACPI, the RSDP first.
 */
#ifndef VIREO_MACHINE_ACPI_H
#define VIREO_MACHINE_ACPI_H

#include "base/err.h"
#include "base/types.h"

#define ACPI_RSDP_SIZE	36

struct acpi_image {
	uint8_t *data;
	uint32_t size;
	uint32_t madt;	/* offset there */
};

/*
 * With @vcpus processors, all of them present.  @memory, in bytes: the guest's, beside which
 * PCI's windows are; @virtio_mmio: with nodes for virtio devices in pages of their own.  -ENOMEM;
 * -ENOSPC where the tables outgrow their place.
 */
int acpi_build(struct acpi_image *out, uint64_t memory, unsigned int vcpus, bool virtio_mmio,
	       struct err *e);
/* Whether processor @index is there when a system starts. */
void acpi_set_present(struct acpi_image *image, unsigned int index, bool present);
void acpi_image_free(struct acpi_image *image);

#endif
