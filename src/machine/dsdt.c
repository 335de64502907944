// SPDX-License-Identifier: Apache-2.0
/*
 * The DSDT's definition block: what of the machine a system cannot find by itself.
 *
 * Source: ACPI specification, "System Bus Tree", "Device Configuration"; PCI Firmware
 * Specification, "ACPI Methods".
 *
 * The only methods are those that plug PCI slots (here) and processors (dsdt_cpu.c).  The power
 * button is the fixed one of PM1.
 */
#include "machine/acpi_priv.h"

#include "dev/acpi_pm.h"
#include "dev/cpu_hotplug.h"
#include "dev/pci_hotplug.h"
#include "machine/layout.h"

#include <stdio.h>

#define PCI_PINS	4
#define PORTS_END	0xffff
#define STA_HIDDEN	0x0b	/* present, enabled, working, not shown: some ask for a driver */

static void hid(struct aml *a, const char *id)
{
	aml_name(a, "_HID");
	aml_eisa_id(a, id);
}

static void uid(struct aml *a, unsigned int n)
{
	aml_name(a, "_UID");
	aml_integer(a, n);
}

static void crs(struct aml *a)
{
	aml_name(a, "_CRS");
	aml_resources(a);
}

/* SLP_TYP values for PM1a and PM1b (absent). */
static void s5(struct aml *a)
{
	aml_name(a, "_S5_");
	aml_package(a, 4);
	aml_integer(a, SLP_TYP_S5);
	aml_integer(a, SLP_TYP_S5);
	aml_integer(a, 0);
	aml_integer(a, 0);
	aml_end(a);
}

static void pci_windows(struct aml *a, uint64_t memory)
{
	const uint64_t high = layout_pci_mmio64(memory);

	crs(a);
	aml_bus_window(a, 0, 255);
	aml_io(a, PORT_PCI, 8);
	aml_io_window(a, 0, PORT_PCI - 1);
	aml_io_window(a, PORT_PCI_IO, PORTS_END);
	aml_memory32_window(a, LAYOUT_PCI_MMIO, LAYOUT_PCI_MMIO_END - 1);
	aml_memory32_window(a, LAYOUT_PCI_MMIO2, LAYOUT_PCI_MMIO2_END - 1);
	aml_memory64_window(a, high, high + LAYOUT_PCI_MMIO64_SIZE - 1);
	aml_resources_end(a);
}

/* Every pin of every slot, spread over the shared inputs. */
static void pci_interrupts(struct aml *a)
{
	aml_name(a, "_PRT");
	aml_package(a, PCI_SLOTS * PCI_PINS);
	for (unsigned int slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned int pin = 0; pin < PCI_PINS; pin++) {
			aml_package(a, 4);
			aml_integer(a, slot << 16 | 0xffff);	/* any function */
			aml_integer(a, pin);
			aml_integer(a, 0);			/* no link device: */
			aml_integer(a, pci_gsi(slot, pin));	/* the GSI itself */
			aml_end(a);
		}
	}
	aml_end(a);
}

static void slot_name(char name[5], unsigned int slot)
{
	snprintf(name, 5, "S%03X", slot & 0xfff);
}

/* A slot that can be emptied: the system says so through the eject register. */
static void pci_slot(struct aml *a, unsigned int slot)
{
	char name[5];

	slot_name(name, slot);
	aml_device(a, name);
	aml_name(a, "_ADR");
	aml_integer(a, slot << 16);
	aml_name(a, "_SUN");
	aml_integer(a, slot);
	aml_method(a, "_EJ0", 1);
	aml_store(a, BIT(slot), "B0EJ");
	aml_end(a);
	aml_end(a);
}

/* PNOT (slots, what): each of them hears what. */
static void pci_notify(struct aml *a)
{
	char name[5];

	aml_method(a, "PNOT", 2);
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++) {
		slot_name(name, slot);
		aml_if_argument_has(a, 0, BIT(slot));
		aml_notify(a, name, 1);
		aml_end(a);
	}
	aml_end(a);
}

static void pci_slots(struct aml *a)
{
	static const char *const fields[] = { "PCIU", "PCID", "B0EJ" };

	aml_ports(a, "PCHP", PORT_PCI_HOTPLUG, PCI_HOTPLUG_SIZE, fields, 3);
	for (unsigned int slot = 1; slot < PCI_SLOTS; slot++)
		pci_slot(a, slot);
	pci_notify(a);
}

/* The event of the hot-plug registers: 1 is a device check, 3 a request to eject. */
static void hotplug_event(struct aml *a)
{
	aml_scope(a, "\\_GPE");
	aml_method(a, "_E01", 0);
	aml_reference(a, "\\_SB_.PCI0.PNOT");
	aml_reference(a, "\\_SB_.PCI0.PCIU");
	aml_integer(a, 1);
	aml_reference(a, "\\_SB_.PCI0.PNOT");
	aml_reference(a, "\\_SB_.PCI0.PCID");
	aml_integer(a, 3);
	aml_end(a);
	aml_end(a);
}

static void pci_root(struct aml *a, uint64_t memory)
{
	aml_device(a, "PCI0");
	hid(a, "PNP0A08");
	aml_name(a, "_CID");
	aml_eisa_id(a, "PNP0A03");
	uid(a, 0);
	aml_name(a, "_SEG");
	aml_integer(a, 0);
	aml_name(a, "_BBN");
	aml_integer(a, 0);
	pci_windows(a, memory);
	pci_interrupts(a);
	pci_slots(a);
	aml_end(a);
}

/* The board's own address space, which no bridge passes on. */
static void board(struct aml *a)
{
	aml_device(a, "MBRD");
	hid(a, "PNP0C02");
	uid(a, 0);
	crs(a);
	aml_memory(a, LAYOUT_ECAM, LAYOUT_ECAM_SIZE);
	aml_io(a, PORT_ACPI_PM, PM_BLOCK_SIZE);
	aml_io(a, PORT_ACPI_GPE0, GPE0_SIZE);
	aml_io(a, PORT_SMI_COMMAND, 2);
	aml_io(a, PORT_PCI_HOTPLUG, PCI_HOTPLUG_SIZE);
	aml_io(a, PORT_CPU_HOTPLUG, CPU_HOTPLUG_SIZE);
	aml_io(a, PORT_FW_CFG, 12);
	aml_io(a, PORT_DIAGNOSTIC, 1);
	aml_io(a, PORT_CONTROL_A, 1);
	aml_resources_end(a);
	aml_end(a);
}

static void serial(struct aml *a, const char *name, unsigned int n, uint16_t port,
		   unsigned int irq)
{
	aml_device(a, name);
	hid(a, "PNP0501");
	uid(a, n);
	crs(a);
	aml_io(a, port, 8);
	aml_irq(a, irq);
	aml_resources_end(a);
	aml_end(a);
}

static void clock_chip(struct aml *a)
{
	aml_device(a, "RTC_");
	hid(a, "PNP0B00");
	crs(a);
	aml_io(a, PORT_CMOS, 2);
	aml_irq(a, IRQ_RTC);
	aml_resources_end(a);
	aml_end(a);
}

static void keyboard(struct aml *a)
{
	aml_device(a, "KBD_");
	hid(a, "PNP0303");
	crs(a);
	aml_io(a, PORT_I8042_DATA, 1);
	aml_io(a, PORT_I8042_COMMAND, 1);
	aml_irq(a, IRQ_KEYBOARD);
	aml_resources_end(a);
	aml_end(a);
}

static void event_timer(struct aml *a)
{
	aml_device(a, "HPET");
	hid(a, "PNP0103");
	uid(a, 0);
	crs(a);
	aml_memory(a, LAYOUT_HPET, 0x400);
	aml_resources_end(a);
	aml_end(a);
}

static void panic_port(struct aml *a)
{
	aml_device(a, "PEVT");
	aml_name(a, "_HID");
	aml_string(a, "QEMU0001");
	aml_name(a, "_STA");
	aml_integer(a, STA_HIDDEN);
	crs(a);
	aml_io(a, PORT_PVPANIC, 1);
	aml_resources_end(a);
	aml_end(a);
}

/* ARM's identification, which Linux's driver knows; an empty page says so itself. */
static void virtio_page(struct aml *a, unsigned int slot)
{
	char name[5];

	snprintf(name, sizeof(name), "V%03X", slot & 0xfff);
	aml_device(a, name);
	aml_name(a, "_HID");
	aml_string(a, "LNRO0005");
	uid(a, slot);
	crs(a);
	aml_memory(a, LAYOUT_VIRTIO_MMIO + (slot - 1) * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	aml_gsi(a, pci_gsi(slot, 0));
	aml_resources_end(a);
	aml_end(a);
}

void dsdt_body(struct aml *a, uint64_t memory, unsigned int vcpus, bool virtio_mmio)
{
	s5(a);
	aml_scope(a, "\\_SB_");
	pci_root(a, memory);
	board(a);
	serial(a, "COM1", 1, PORT_COM1, IRQ_COM1);
	serial(a, "COM2", 2, PORT_COM2, IRQ_COM2);
	clock_chip(a);
	keyboard(a);
	event_timer(a);
	panic_port(a);
	for (unsigned int slot = 1; virtio_mmio && slot <= VIRTIO_MMIO_SLOTS; slot++)
		virtio_page(a, slot);
	dsdt_processors(a, vcpus);
	aml_end(a);
	hotplug_event(a);
	dsdt_processor_event(a);
}
