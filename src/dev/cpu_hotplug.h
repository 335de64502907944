/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tells a system, through ACPI, which processors are there, which have come and which shall go,
 * and hears when it has let go of one.  The DSDT's methods are its driver.
 */
#ifndef VIREO_DEV_CPU_HOTPLUG_H
#define VIREO_DEV_CPU_HOTPLUG_H

#include "dev/device.h"

/* Registers of a bit for each processor, two dwords each: the first 32 first. */
#define CPU_HOTPLUG_PRESENT	0	/* is there; read-only */
#define CPU_HOTPLUG_UP		8	/* has come; reading clears */
#define CPU_HOTPLUG_DOWN	16	/* shall go; reading clears */
#define CPU_HOTPLUG_EJECT	24	/* written: the system has let go of these */
#define CPU_HOTPLUG_SIZE	32

struct cpu_hotplug_wires {
	uint16_t port;
	/* Raises the general-purpose event that runs the DSDT's method. */
	void (*event)(void *sink);
	/* The system has let go of @cpus, which were there until now; on a vCPU thread. */
	void (*eject)(void *sink, uint64_t cpus);
	void *sink;
};

int cpu_hotplug_create(struct device **out, struct gpa_space *s,
		       const struct cpu_hotplug_wires *w, struct err *e);

/* These are there, without an event; before a system looks.  Any thread, as for the next. */
void cpu_hotplug_set(struct device *hotplug, uint64_t cpus);
/* Now @cpus are there as well.  A request to let go of them is taken back. */
void cpu_hotplug_added(struct device *hotplug, uint64_t cpus);
/* Asks the system to let go of @cpus. */
void cpu_hotplug_remove(struct device *hotplug, uint64_t cpus);

#endif
