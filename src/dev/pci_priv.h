/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between pci.c and pci_msix.c; the configuration header's registers.
 */
#ifndef VIREO_DEV_PCI_PRIV_H
#define VIREO_DEV_PCI_PRIV_H

#include "dev/pci.h"

#define PCI_COMMAND		0x04
#define PCI_STATUS		0x06
#define PCI_BAR0		0x10
#define PCI_CAPABILITIES	0x34
#define PCI_INTERRUPT_LINE	0x3c
#define PCI_INTERRUPT_PIN	0x3d
#define PCI_CAPS_FIRST		0x40

#define PCI_COMMAND_IO		0x0001
#define PCI_COMMAND_MEMORY	0x0002
#define PCI_COMMAND_MASTER	0x0004
#define PCI_COMMAND_INTX_OFF	0x0400
#define PCI_COMMAND_WRITABLE	0x0547	/* and parity, SERR#, which do nothing */
#define PCI_STATUS_INTX		0x0008
#define PCI_STATUS_CAPS		0x0010

uint32_t pci_get_config(const struct pci_function *f, unsigned int off, unsigned int len);

/* Sends what is pending and may go now; after the header changed.  (o) */
void pci_msix_update_locked(struct pci_function *f);
bool pci_msix_enabled_locked(const struct pci_function *f);
void pci_msix_reset_locked(struct pci_function *f);
void pci_msix_free(struct pci_function *f);

#endif
