/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells a system, through ACPI, that a PCI slot was filled or shall be emptied, and hears when
 * it has let go of one.  The DSDT's methods are its driver.
 */
#ifndef VIREO_DEV_PCI_HOTPLUG_H
#define VIREO_DEV_PCI_HOTPLUG_H

#include "dev/device.h"

#define PCI_HOTPLUG_UP		0	/* filled slots, a bit each; reading clears */
#define PCI_HOTPLUG_DOWN	4	/* slots to be emptied; reading clears */
#define PCI_HOTPLUG_EJECT	8	/* written: the system has let go of these */
#define PCI_HOTPLUG_SIZE	12

struct pci_hotplug_wires {
	uint16_t port;
	/* Raises the general-purpose event that runs the DSDT's method. */
	void (*event)(void *sink);
	/* The system has let go of @slots; on a vCPU thread. */
	void (*eject)(void *sink, uint32_t slots);
	void *sink;
};

int pci_hotplug_create(struct device **out, struct gpa_space *s,
		       const struct pci_hotplug_wires *w, struct err *e);

/* @slot was filled.  Any thread, as for the next. */
void pci_hotplug_added(struct device *hotplug, unsigned int slot);
/* Asks the system to let go of @slot. */
void pci_hotplug_remove(struct device *hotplug, unsigned int slot);

#endif
