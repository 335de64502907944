// SPDX-License-Identifier: Apache-2.0
/*
 * The PC as a schematic: pc_build() makes its devices in order and hands each its wires.
 *
 *	ISA IRQ n --+--> PIC input n --> INTR --> LINT0 of the local APICs
 *	            `--> I/O APIC input n (IRQ 0: input 2) --> APIC bus
 *	PIT, RTC ------> HPET's legacy switch ------> ISA IRQ 0, 8
 *	PCI INTx, HPET -> shared inputs 16-23 of the I/O APIC
 *	MSI-X ----------> APIC bus
 */
#include "machine/pc.h"

#include "dev/acpi_pm.h"
#include "dev/cpu_hotplug.h"
#include "dev/debugexit.h"
#include "dev/i6300esb.h"
#include "dev/parallel.h"
#include "dev/pvpanic.h"
#include "dev/fw_cfg.h"
#include "dev/hpet.h"
#include "dev/i8042.h"
#include "dev/i8254.h"
#include "dev/i8259.h"
#include "dev/ioapic.h"
#include "dev/lapic.h"
#include "dev/mc146818.h"
#include "dev/pci_host.h"
#include "dev/pci_hotplug.h"
#include "dev/system_control.h"
#include "dev/uart16550.h"
#include "virtio/mmio.h"
#include "virtio/pci.h"
#include "virtio/rng.h"

#include <errno.h>

#define KIB	1024ULL
#define MIB	(1024 * KIB)
#define SOURCE_HPET 0	/* of a shared I/O APIC input; the others are PCI slots */

/* --- memory --- */

int pc_add_memory(struct gpa_space *s, uint64_t memory, struct err *e)
{
	uint64_t low = MIN(memory, LAYOUT_LOW_END);
	int rc;

	if (memory < MIB || memory % MIB)
		return err_set(e, EINVAL, "a PC has at least 1 MiB of memory, and whole MiB");
	if (memory > LAYOUT_PCI_MMIO64_HIGH - LAYOUT_HIGH_RAM)
		return err_set(e, EINVAL, "a PC of ours has at most %llu GiB of memory",
			       (LAYOUT_PCI_MMIO64_HIGH - LAYOUT_HIGH_RAM) >> 30);
	rc = gpa_space_add_ram(s, 0, LAYOUT_BASE_RAM_END, e);
	if (!rc)
		rc = gpa_space_add_ram(s, LAYOUT_UPPER_RAM, low - LAYOUT_UPPER_RAM, e);
	if (!rc && memory > low)
		rc = gpa_space_add_ram(s, LAYOUT_HIGH_RAM, memory - low, e);
	return rc;
}

/* What firmware reads from CMOS: KiB of base, KiB above 1 MiB, 64 KiB above 16 MiB, 4 GiB. */
static void cmos_memory(struct device *rtc, uint64_t memory)
{
	uint64_t low = MIN(memory, LAYOUT_LOW_END);
	uint64_t above_1m = MIN((low - MIB) / KIB, 0xffffULL);
	uint64_t above_16m = low > 16 * MIB ? (low - 16 * MIB) / (64 * KIB) : 0;
	uint64_t above_4g = MIN((memory - low) / (64 * KIB), 0xffffffULL);

	mc146818_set_byte(rtc, 0x15, 640 & 0xff);
	mc146818_set_byte(rtc, 0x16, 640 >> 8);
	mc146818_set_byte(rtc, 0x17, above_1m);
	mc146818_set_byte(rtc, 0x18, above_1m >> 8);
	mc146818_set_byte(rtc, 0x30, above_1m);
	mc146818_set_byte(rtc, 0x31, above_1m >> 8);
	mc146818_set_byte(rtc, 0x34, above_16m);
	mc146818_set_byte(rtc, 0x35, above_16m >> 8);
	for (unsigned int i = 0; i < 3; i++)
		mc146818_set_byte(rtc, 0x5b + i, above_4g >> (8 * i));
}

static int fw_cfg_facts(struct device *fw, const struct pc_config *c, struct err *e)
{
	uint64_t memory = c->memory;
	uint16_t cpus = c->vcpus, most = c->max_vcpus;
	int rc;

	rc = fw_cfg_add_item(fw, FW_CFG_RAM_SIZE, &memory, sizeof(memory), e);
	if (!rc)
		rc = fw_cfg_add_item(fw, FW_CFG_NB_CPUS, &cpus, sizeof(cpus), e);
	if (!rc)
		rc = fw_cfg_add_item(fw, FW_CFG_MAX_CPUS, &most, sizeof(most), e);
	return rc;
}

/* --- interrupt wires --- */

static void isa_set(void *sink, unsigned int irq, bool level)
{
	struct pc *pc = sink;

	irq_set(&pc->to_pic[irq], level);
	irq_set(&pc->to_ioapic[irq], level);
}

static struct irq_line isa(struct pc *pc, unsigned int irq)
{
	return (struct irq_line){ .set = isa_set, .sink = pc, .pin = irq };
}

static void connect_isa(struct pc *pc)
{
	for (unsigned int irq = 0; irq < IRQ_COUNT; irq++) {
		if (irq == GSI_PIT)
			continue;	/* the cascade: no IRQ 2 on the bus */
		pc->to_pic[irq] = i8259_line(pc->pic, irq);
		pc->to_ioapic[irq] = ioapic_line(pc->ioapic, irq == IRQ_PIT ? GSI_PIT : irq);
	}
}

static void gsi_set(void *sink, unsigned int source, bool level)
{
	struct gsi_input *g = sink;

	pthread_mutex_lock(&g->lock);
	if (level)
		g->sources |= 1U << source;
	else
		g->sources &= ~(1U << source);
	irq_set(&g->out, g->sources);
	pthread_mutex_unlock(&g->lock);
}

static struct irq_line shared_gsi(struct pc *pc, unsigned int gsi, unsigned int source)
{
	return (struct irq_line){
		.set = gsi_set, .sink = &pc->gsi[gsi - GSI_PCI_FIRST], .pin = source,
	};
}

static void connect_gsis(struct pc *pc)
{
	for (unsigned int i = 0; i < GSI_PCI_COUNT; i++)
		pc->gsi[i].out = ioapic_line(pc->ioapic, GSI_PCI_FIRST + i);
}

static void msi_send(void *sink, uint64_t addr, uint32_t data)
{
	struct pc *pc = sink;

	apic_bus_msi(&pc->apic_bus, addr, data);
}

/* --- building --- */

/* Takes a device that was made into the list; passes @rc on. */
static int plug(struct pc *pc, struct device **d, int rc)
{
	if (rc)
		return rc;
	(*d)->next = NULL;
	*pc->last = *d;
	pc->last = &(*d)->next;
	return 0;
}

static int build_interrupts(struct pc *pc, struct err *e)
{
	struct irq_line intr = apic_bus_lint0(&pc->apic_bus);
	int rc;

	rc = plug(pc, &pc->pic, i8259_create(&pc->pic, pc->space, &intr, e));
	if (rc)
		return rc;
	apic_bus_set_pic(&pc->apic_bus, i8259_ack, pc->pic);
	rc = plug(pc, &pc->ioapic, ioapic_create(&pc->ioapic, pc->space, LAYOUT_IOAPIC,
						 &pc->apic_bus, e));
	if (rc)
		return rc;
	ioapic_keep_edges(pc->ioapic, GSI_PIT);
	connect_isa(pc);
	connect_gsis(pc);
	return 0;
}

static int build_timers(struct pc *pc, const struct pc_config *c, struct err *e)
{
	struct hpet_wires wires = { .legacy = { isa(pc, IRQ_PIT), isa(pc, IRQ_RTC) } };
	struct irq_line irq0, irq8;
	int rc;

	for (unsigned int gsi = GSI_PCI_SHARED; gsi < GSI_PCI_FIRST + GSI_PCI_COUNT; gsi++)
		wires.pin[gsi] = shared_gsi(pc, gsi, SOURCE_HPET);
	rc = plug(pc, &pc->hpet, hpet_create(&pc->hpet, pc->space, LAYOUT_HPET, pc->clock,
					     &wires, e));
	if (rc)
		return rc;
	irq0 = hpet_legacy_line(pc->hpet, 0);
	irq8 = hpet_legacy_line(pc->hpet, 1);
	rc = plug(pc, &pc->pit, i8254_create(&pc->pit, pc->space, pc->clock, &irq0, e));
	if (rc)
		return rc;
	rc = plug(pc, &pc->rtc, mc146818_create(&pc->rtc, pc->space, pc->clock, &c->epoch,
						&irq8, e));
	if (!rc)
		cmos_memory(pc->rtc, c->memory);
	return rc;
}

static int build_isa(struct pc *pc, struct err *e)
{
	static const struct { uint16_t port; uint8_t irq; } com[2] = {
		{ PORT_COM1, IRQ_COM1 }, { PORT_COM2, IRQ_COM2 },
	};
	struct irq_line irq = isa(pc, IRQ_KEYBOARD);
	int rc;

	rc = plug(pc, &pc->kbd, i8042_create(&pc->kbd, pc->space, &irq, &pc->power, e));
	for (unsigned int i = 0; i < 2 && !rc; i++) {
		irq = isa(pc, com[i].irq);
		rc = plug(pc, &pc->uart[i], uart16550_create(&pc->uart[i], pc->space, com[i].port,
							     pc->clock, &irq, e));
	}
	if (!rc)
		rc = plug(pc, &pc->control, system_control_create(&pc->control, pc->space,
								  &pc->power, e));
	return rc;
}

static void hotplug_event(void *sink)
{
	acpi_pm_event(((struct pc *)sink)->pm, GPE_PCI_HOTPLUG);
}

static void hotplug_eject(void *sink, uint32_t slots)
{
	struct pc *pc = sink;

	if (pc->eject)
		pc->eject(pc->eject_arg, slots);
}

static void cpu_hotplug_event(void *sink)
{
	acpi_pm_event(((struct pc *)sink)->pm, GPE_CPU_HOTPLUG);
}

static void cpu_hotplug_eject(void *sink, uint64_t cpus)
{
	struct pc *pc = sink;

	if (pc->eject_cpus)
		pc->eject_cpus(pc->eject_arg, cpus);
}

static int build_hotplug(struct pc *pc, struct err *e)
{
	const struct pci_hotplug_wires slots = {
		.port = PORT_PCI_HOTPLUG, .event = hotplug_event, .eject = hotplug_eject, .sink = pc,
	};
	const struct cpu_hotplug_wires cpus = {
		.port = PORT_CPU_HOTPLUG, .event = cpu_hotplug_event, .eject = cpu_hotplug_eject,
		.sink = pc,
	};
	int rc;

	rc = plug(pc, &pc->hotplug, pci_hotplug_create(&pc->hotplug, pc->space, &slots, e));
	if (!rc)
		rc = plug(pc, &pc->cpu_hotplug,
			  cpu_hotplug_create(&pc->cpu_hotplug, pc->space, &cpus, e));
	return rc;
}

static int build_platform(struct pc *pc, const struct pc_config *c, struct err *e)
{
	static const struct acpi_pm_ports pm = {
		.pm = PORT_ACPI_PM, .gpe0 = PORT_ACPI_GPE0, .smi = PORT_SMI_COMMAND,
	};
	const struct pci_host_wires pci = {
		.ecam = LAYOUT_ECAM, .power = pc->power, .memory = LAYOUT_PCI_MMIO,
		.memory_end = LAYOUT_PCI_MMIO_END, .io = PORT_PCI_IO,
	};
	struct irq_line sci = isa(pc, IRQ_SCI);
	int rc;

	rc = plug(pc, &pc->pm, acpi_pm_create(&pc->pm, pc->space, &pm, pc->clock, &sci,
					      &pc->power, e));
	if (!rc)
		rc = plug(pc, &pc->pci, pci_host_create(&pc->pci, pc->space, &pci, e));
	if (!rc)
		rc = build_hotplug(pc, e);
	if (!rc)
		rc = plug(pc, &pc->fw_cfg, fw_cfg_create(&pc->fw_cfg, pc->space, PORT_FW_CFG, e));
	if (!rc)
		rc = fw_cfg_facts(pc->fw_cfg, c, e);
	return rc;
}

/* --- virtio devices, in PCI slots or in pages of their own --- */

/* A page without a device: a driver reads a device type of 0. */
static uint64_t empty_page_read(void *dev, uint64_t off, unsigned int size)
{
	static const uint32_t head[] = { 0x74726976 /* "virt" */, 2 /* version */, 0, 0 };

	(void)dev;
	return size == 4 && off % 4 == 0 && off < sizeof(head) ? head[off / 4] : 0;
}

static const struct io_ops empty_page = { .read = empty_page_read };

static gpa_t page_of(unsigned int slot)
{
	return LAYOUT_VIRTIO_MMIO + (slot - 1) * GUEST_PAGE_SIZE;
}

static int add_empty_page(struct pc *pc, unsigned int slot, struct err *e)
{
	const struct io_region r = { .name = "no virtio device", .base = page_of(slot),
				     .size = VIRTIO_MMIO_SIZE, .ops = &empty_page };

	return gpa_space_add_mmio(pc->space, &r, e);
}

static int build_pages(struct pc *pc, struct err *e)
{
	int rc = 0;

	for (unsigned int slot = 1; slot <= VIRTIO_MMIO_SLOTS && !rc; slot++)
		rc = add_empty_page(pc, slot, e);
	return rc;
}

static int add_to_page(struct pc *pc, struct virtio_device *d, struct err *e)
{
	struct irq_line irq;
	unsigned int slot = 1;
	int rc;

	while (slot <= VIRTIO_MMIO_SLOTS && pc->slot[slot])
		slot++;
	if (slot > VIRTIO_MMIO_SLOTS) {
		d->ops->destroy(d);
		return err_set(e, ENOSPC, "a VM has at most %d virtio-mmio devices",
			       VIRTIO_MMIO_SLOTS);
	}
	irq = shared_gsi(pc, pci_gsi(slot, 0), slot);
	gpa_space_remove_mmio(pc->space, page_of(slot));
	rc = plug(pc, &pc->slot[slot], virtio_mmio_create(&pc->slot[slot], d, page_of(slot), &irq,
							  e));
	return rc ? rc : (int)slot;
}

/* A free slot and its wires. */
static int take_slot(struct pc *pc, struct pci_wires *wires, struct err *e)
{
	const int slot = pci_host_free_slot(pc->pci);

	if (slot < 0)
		return err_set(e, ENOSPC, "all PCI slots are taken: a VM has at most 31 devices");
	*wires = (struct pci_wires){
		.space = pc->space, .log = pc->log,
		.msi = pc->msi,
		.intx = shared_gsi(pc, pci_gsi(slot, 0), slot),
	};
	return slot;
}

static int add_to_slot(struct pc *pc, struct virtio_device *d, struct err *e)
{
	struct pci_wires wires;
	const int slot = take_slot(pc, &wires, e);
	int rc;

	if (slot < 0) {
		d->ops->destroy(d);
		return slot;
	}
	rc = plug(pc, &pc->slot[slot], virtio_pci_create(&pc->slot[slot], d, pc->pci,
							 PCI_DEVFN(slot, 0), &wires, e));
	return rc ? rc : slot;
}

int pc_add_virtio(struct pc *pc, struct virtio_device *d, struct err *e)
{
	return pc->virtio_mmio ? add_to_page(pc, d, e) : add_to_slot(pc, d, e);
}

void pc_remove_slot(struct pc *pc, unsigned int slot)
{
	struct device *d = slot < PCI_SLOTS ? pc->slot[slot] : NULL, **p = &pc->devices;

	if (!d)
		return;
	while (*p != d)
		p = &(*p)->next;
	*p = d->next;
	if (pc->last == &d->next)
		pc->last = p;
	pc->slot[slot] = NULL;
	d->ops->destroy(d);
}

int pc_add_parallel(struct pc *pc, struct char_backend *printer, struct err *e)
{
	const struct irq_line irq = isa(pc, IRQ_LPT1);
	struct device *made;

	return plug(pc, &made, parallel_create(&made, pc->space, PORT_LPT1, &irq, printer, e));
}

int pc_add_watchdog(struct pc *pc, const struct watchdog_wire *bite, struct err *e)
{
	struct pci_wires wires;
	struct device *made;
	const int slot = take_slot(pc, &wires, e);

	if (slot < 0)
		return slot;
	return plug(pc, &made, i6300esb_create(&made, pc->pci, PCI_DEVFN(slot, 0), &wires, pc->clock,
					       bite, e));
}

static int build_virtio(struct pc *pc, struct err *e)
{
	struct virtio_device *rng;
	int rc = 0;

	if (pc->virtio_mmio)
		rc = build_pages(pc, e);
	if (!rc)
		rc = virtio_rng_create(&rng, pc->space, pc->log, e);
	if (!rc)
		rc = pc_add_virtio(pc, rng, e);
	return MIN(rc, 0);
}

int pc_build(struct pc *pc, const struct pc_config *c, struct err *e)
{
	struct device *exit_port, *panic_port;
	int rc;

	pc->last = &pc->devices;
	pc->virtio_mmio = c->virtio_mmio;
	if (!pc->msi.send)
		pc->msi = (struct msi_line){ .send = msi_send, .sink = pc };
	apic_bus_init(&pc->apic_bus);
	for (unsigned int i = 0; i < GSI_PCI_COUNT; i++)
		pthread_mutex_init(&pc->gsi[i].lock, NULL);

	rc = build_interrupts(pc, e);
	if (!rc)
		rc = build_timers(pc, c, e);
	if (!rc)
		rc = build_isa(pc, e);
	if (!rc)
		rc = build_platform(pc, c, e);
	if (!rc)
		rc = plug(pc, &panic_port, pvpanic_create(&panic_port, pc->space, PORT_PVPANIC,
							  &pc->power, e));
	if (!rc)
		rc = build_virtio(pc, e);
	if (!rc && c->debug_exit)
		rc = plug(pc, &exit_port, debugexit_create(&exit_port, pc->space, PORT_DEBUG_EXIT,
							   &pc->power, e));
	return rc;
}

int pc_add_lapic(struct pc *pc, struct device **lapic, struct vcpu *v, struct err *e)
{
	bool bsp = v->index == 0;
	int rc;

	rc = plug(pc, lapic, lapic_create(lapic, v, &pc->apic_bus, bsp, e));
	if (!rc && bsp)
		pc->bsp_lapic = *lapic;
	return rc;
}

void pc_reset(struct pc *pc)
{
	for (struct device *d = pc->devices; d; d = d->next)
		d->ops->reset(d);
}

/* The last made goes first: it may hold wires to those before it. */
static void destroy_from(struct device *d)
{
	if (!d)
		return;
	destroy_from(d->next);
	d->ops->destroy(d);
}

void pc_destroy(struct pc *pc)
{
	destroy_from(pc->devices);
	pc->devices = NULL;
	for (unsigned int i = 0; i < GSI_PCI_COUNT; i++)
		pthread_mutex_destroy(&pc->gsi[i].lock);
}
