/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PC's board: its devices and the wires between them.
 */
#ifndef VIREO_MACHINE_PC_H
#define VIREO_MACHINE_PC_H

#include "dev/apic_bus.h"
#include "dev/device.h"
#include "dev/pci.h"
#include "machine/layout.h"

#include <time.h>

struct vcpu;
struct virtio_device;
struct watchdog_wire;
struct char_backend;

/* One input of the I/O APIC that several sources share: high while one of them is. */
struct gsi_input {
	pthread_mutex_t lock;
	struct irq_line out;
	uint32_t sources;	/* (o) levels, a bit each */
};

struct pc {
	struct gpa_space *space;
	struct clock *clock;
	struct power_line power;
	struct log *log;		/* may be NULL */
	struct apic_bus apic_bus;
	struct device *devices, **last;	/* in the order of their making */

	struct device *pic, *ioapic, *hpet, *pit, *rtc, *kbd, *uart[2];
	struct device *fw_cfg, *pm, *pci, *hotplug, *cpu_hotplug, *control;
	bool virtio_mmio;
	struct device *slot[PCI_SLOTS];	/* virtio devices, by PCI slot or page; NULL: none */
	void (*eject)(void *arg, uint32_t slots);	/* the guest has let go; on a vCPU thread */
	void (*eject_cpus)(void *arg, uint64_t cpus);	/* the same of processors */
	void *eject_arg;
	struct msi_line msi;		/* where devices' messages go; by pc_build(): to apic_bus */
	struct device *bsp_lapic;
	struct irq_line to_pic[IRQ_COUNT], to_ioapic[IRQ_COUNT];
	struct gsi_input gsi[GSI_PCI_COUNT];
};

struct pc_config {
	uint64_t memory;
	unsigned int vcpus, max_vcpus;
	struct timespec epoch;	/* UTC at VM time 0 */
	bool debug_exit;
	bool virtio_mmio;	/* virtio devices in pages of their own, not in PCI slots */
};

/* Lays out @memory bytes of RAM in pc->space.  -EINVAL, -ENOMEM. */
int pc_add_memory(struct gpa_space *s, uint64_t memory, struct err *e);

/*
 * Makes everything but the vCPUs; pc->space, clock, power, log and eject must be set.  After a
 * failure pc_destroy() takes down what is there.
 */
int pc_build(struct pc *pc, const struct pc_config *c, struct err *e);
/* Makes the local APIC of @v, which vcpu_init() has not seen yet; it is the PC's. */
int pc_add_lapic(struct pc *pc, struct device **lapic, struct vcpu *v, struct err *e);
/*
 * Puts @d into a PCI slot (or a page) and takes it over, also where it fails; no vCPU runs.
 * Returns the slot, or -ENOSPC where all are taken.
 */
int pc_add_virtio(struct pc *pc, struct virtio_device *d, struct err *e);
/* Takes out and destroys what is in @slot; no vCPU runs. */
void pc_remove_slot(struct pc *pc, unsigned int slot);
/* A parallel port; @printer is borrowed.  No vCPU runs. */
int pc_add_parallel(struct pc *pc, struct char_backend *printer, struct err *e);
/* A watchdog timer in a PCI slot; no vCPU runs.  -ENOSPC. */
int pc_add_watchdog(struct pc *pc, const struct watchdog_wire *bite, struct err *e);
/* Resets all devices; no vCPU runs. */
void pc_reset(struct pc *pc);
void pc_destroy(struct pc *pc);

#endif
