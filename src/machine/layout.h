/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's address map and port numbers, once.
 *
 *	0x0000_0000	low RAM, 640 KiB
 *	0x000a_0000	VGA window: nothing there
 *	0x000c_0000	RAM where a PC has ROMs; our ACPI tables are at LAYOUT_ACPI
 *	0x0010_0000	RAM up to LAYOUT_LOW_END at most
 *	0xc000_0000	PCI hole: 32-bit BARs, ECAM, I/O APIC, HPET, local APIC, firmware
 *	0x1_0000_0000	the rest of the RAM
 *	0x40_0000_0000	64-bit BARs, if the RAM ends below; else at 0x2000_0000_0000
 */
#ifndef VIREO_MACHINE_LAYOUT_H
#define VIREO_MACHINE_LAYOUT_H

#include "base/types.h"

#define LAYOUT_BASE_RAM_END	0xa0000ULL
#define LAYOUT_UPPER_RAM	0xc0000ULL	/* RAM goes on here, reserved up to 1 MiB */
#define LAYOUT_ACPI		0xe0000ULL	/* RSDP first, then the tables */
#define LAYOUT_ACPI_END		0x100000ULL
#define LAYOUT_EBDA		0x9fc00ULL	/* reserved up to LAYOUT_BASE_RAM_END */
#define LAYOUT_LOW_END		0xc0000000ULL
#define LAYOUT_HIGH_RAM		0x100000000ULL

#define LAYOUT_PCI_MMIO		0xc0000000ULL	/* 32-bit windows around ECAM */
#define LAYOUT_PCI_MMIO_END	0xe0000000ULL
#define LAYOUT_ECAM		0xe0000000ULL
#define LAYOUT_ECAM_SIZE	0x10000000ULL	/* 256 buses */
#define LAYOUT_PCI_MMIO2	0xf0000000ULL
#define LAYOUT_PCI_MMIO2_END	0xfec00000ULL
#define LAYOUT_IOAPIC		0xfec00000ULL
#define LAYOUT_HPET		0xfed00000ULL
#define LAYOUT_LAPIC		0xfee00000ULL
#define LAYOUT_VIRTIO_MMIO	0xfef00000ULL	/* a page for each of VIRTIO_MMIO_SLOTS */
#define LAYOUT_PCI_MMIO64	0x4000000000ULL
#define LAYOUT_PCI_MMIO64_SIZE	0x4000000000ULL
#define LAYOUT_PCI_MMIO64_HIGH	0x200000000000ULL

#define PORT_PIC_MASTER		0x20
#define PORT_PIC_SLAVE		0xa0
#define PORT_ELCR		0x4d0
#define PORT_PIT		0x40
#define PORT_SPEAKER		0x61
#define PORT_I8042_DATA		0x60
#define PORT_I8042_COMMAND	0x64
#define PORT_CMOS		0x70
#define PORT_DIAGNOSTIC		0x80
#define PORT_CONTROL_A		0x92
#define PORT_SMI_COMMAND	0xb2
#define PORT_DEBUG_EXIT		0xf4
#define PORT_PVPANIC		0x505
#define PORT_COM2		0x2f8
#define PORT_LPT1		0x378
#define PORT_COM1		0x3f8
#define PORT_FW_CFG		0x510
#define PORT_ACPI_PM		0x600	/* PM1 event, control, timer */
#define PORT_ACPI_GPE0		0x620
#define PORT_PCI_HOTPLUG	0x640
#define GPE_PCI_HOTPLUG		1		/* the DSDT's _E01 */
#define PORT_CPU_HOTPLUG	0x650
#define GPE_CPU_HOTPLUG		2		/* _E02 */
#define PORT_PCI		0xcf8
#define PORT_RESET_CONTROL	0xcf9
#define PORT_PCI_IO		0xd00	/* I/O BARs from here on */

#define IRQ_PIT			0
#define IRQ_KEYBOARD		1
#define IRQ_COM2		3
#define IRQ_COM1		4
#define IRQ_LPT1		7
#define IRQ_RTC			8
#define IRQ_SCI			9
#define IRQ_COUNT		16
#define GSI_PIT			2
#define PCI_SLOTS		32
#define VIRTIO_MMIO_SLOTS	16		/* number 1 is the first, as of PCI's that can be filled */
#define GSI_PCI_FIRST		16	/* INTA-INTD of the slots, by turns */
#define GSI_PCI_COUNT		8

/*
 * KVM's guests reach no address that has more bits than the host's processor, and many have 39.
 */
static inline uint64_t layout_pci_mmio64(uint64_t memory)
{
	return memory <= LAYOUT_PCI_MMIO64 - LAYOUT_HIGH_RAM ? LAYOUT_PCI_MMIO64 : LAYOUT_PCI_MMIO64_HIGH;
}

/* The GSI of a slot's pin (0: INTA). */
static inline unsigned int pci_gsi(unsigned int slot, unsigned int pin)
{
	return GSI_PCI_FIRST + (slot + pin) % GSI_PCI_COUNT;
}

#define GSI_PCI_SHARED		20	/* this one and those behind also carry the HPET's */


#endif
