/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The PCI host bridge: configuration space of bus 0 through ports cf8h-cffh and through
 * ECAM, and the reset control register at cf9h.
 */
#ifndef VIREO_DEV_PCI_HOST_H
#define VIREO_DEV_PCI_HOST_H

#include "dev/device.h"

#define PCI_DEVFN(slot, fn)	((slot) << 3 | (fn))
#define PCI_CONFIG_SIZE		4096U

/*
 * One function's configuration space.  @off + @size is within PCI_CONFIG_SIZE, @size is
 * 1, 2 or 4 and the access lies within one aligned dword.  Called on a vCPU thread; the
 * function takes its own lock.
 */
struct pci_function_ops {
	uint32_t (*config_read)(void *fn, unsigned int off, unsigned int size);
	void (*config_write)(void *fn, unsigned int off, unsigned int size, uint32_t value);
};

struct pci_host_wires {
	gpa_t ecam;			/* of 256 buses */
	struct power_line power;	/* reset control */
	/* Where BARs find their homes: [base, end). */
	gpa_t memory, memory_end;	/* below 4 GiB: every system can reach them */
	uint16_t io;			/* up to the end of the port space */
};

int pci_host_create(struct device **out, struct gpa_space *s,
		    const struct pci_host_wires *wires, struct err *e);

/* Puts a function into a slot of bus 0, with no vCPU running.  -EEXIST, -EINVAL. */
int pci_host_attach(struct device *host, unsigned int devfn, const char *name,
		    const struct pci_function_ops *ops, void *fn, struct err *e);
/* Empties the slot, with no vCPU running. */
void pci_host_detach(struct device *host, unsigned int devfn);
/* The lowest slot that has no function 0, or -1. */
int pci_host_free_slot(struct device *host);
/*
 * A place for a BAR of @size bytes (a power of two) that no other BAR was given.  -ENOSPC.
 */
int pci_host_find_home(struct device *host, bool io, uint64_t size, uint64_t *at,
		       struct err *e);

#endif
