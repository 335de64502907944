/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A PCI function: its configuration header, BARs that the guest moves and sizes,
 * capabilities, MSI-X and INTx.  A device embeds struct pci_function, fills it in with the
 * calls below in this order, and then lies in a slot:
 *
 *	pci_function_init, pci_add_bar ..., pci_add_capability ..., pci_add_msix, pci_plug
 *
 * Threads: configuration accesses come on vCPU threads, BAR accesses too (io_ops as for every
 * region); pci_msix_send() and pci_intx() may be called on any thread, with a lock held that
 * no BAR or configuration hook takes while it calls this file.  pci_plug() and pci_unplug()
 * need vCPUs that stand still: an access may be under way in the function otherwise.
 */
#ifndef VIREO_DEV_PCI_H
#define VIREO_DEV_PCI_H

#include "dev/device.h"
#include "dev/pci_host.h"

#define PCI_BARS		6
#define PCI_HEADER_SIZE		256U
#define PCI_MSIX_VECTORS_MAX	128U

#define PCI_CAP_VENDOR		0x09
#define PCI_CAP_MSIX		0x11

enum pci_bar_kind { PCI_BAR_IO, PCI_BAR_MEM32, PCI_BAR_MEM64 };

/*
 * One message of a function that may go by a descriptor: who receives it has an engine send it
 * whenever 'fd' is signalled.  Its fields are the receiver's; the function hands it in with its
 * lock held, always for the same message until it was unrouted.
 */
struct msi_route {
	int fd;				/* eventfd, -1: none yet */
	bool on;			/* an engine has it */
	unsigned int refused;		/* by which engine, counted; 0: by none */
	struct msi_route *next;
};

/* Where a function's messages go: a write of @data to @addr. */
struct msi_line {
	void (*send)(void *sink, uint64_t addr, uint32_t data);	/* NULL: not connected */
	/* The same through @r.  NULL: there is no such thing. */
	void (*send_routed)(void *sink, struct msi_route *r, uint64_t addr, uint32_t data);
	/* @r is as at first; what was sent has arrived. */
	void (*unroute)(void *sink, struct msi_route *r);
	void *sink;
};

struct pci_wires {
	struct gpa_space *space;
	struct msi_line msi;
	struct irq_line intx;		/* of the slot's INTA; set NULL: no pin */
	struct log *log;		/* may be NULL */
};

struct pci_ident {
	const char *name;		/* static */
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint32_t class_code;		/* 24 bits */
	uint8_t revision;
};

/* A window of the header that the device answers itself, without a lock of ours. */
struct pci_config_hook {
	unsigned int off, len;
	uint32_t (*read)(void *arg, unsigned int off, unsigned int size);
	void (*write)(void *arg, unsigned int off, unsigned int size, uint32_t value);
	void *arg;
};

struct pci_bar {
	enum pci_bar_kind kind;
	uint64_t size;			/* 0: there is none */
	uint64_t home;			/* where it is after a reset */
	uint64_t at;			/* (o) where it is mapped */
	bool mapped;			/* (o) */
	struct io_region region;
};

struct pci_msix;

/* (o) under lock; the rest is constant once it is plugged */
struct pci_function {
	const char *name;
	struct pci_wires wires;
	pthread_mutex_t lock;
	uint8_t config[PCI_HEADER_SIZE];	/* (o) */
	uint8_t initial[PCI_HEADER_SIZE];	/* after a reset */
	uint8_t writable[PCI_HEADER_SIZE];
	unsigned int caps_end;		/* where the next capability goes */
	struct pci_bar bar[PCI_BARS];
	struct pci_config_hook hook;
	struct pci_msix *msix;		/* NULL: none */
	bool intx;			/* (o) the device wants INTA up */
	bool intx_line;			/* (o) it is up */
	struct device *host;		/* NULL: not plugged */
	unsigned int devfn;
};

void pci_function_init(struct pci_function *f, const struct pci_ident *id,
		       const struct pci_wires *w);
/* Takes the BARs out of the address space, lets the line fall, frees what it has. */
void pci_function_destroy(struct pci_function *f);

/* BAR @n (a 64-bit one takes n + 1 too); @size is a power of two, 16 bytes at least. */
void pci_add_bar(struct pci_function *f, unsigned int n, enum pci_bar_kind kind, uint64_t size,
		 const struct io_ops *ops, void *dev);
/* A capability of @len bytes, two of them its id and link; returns its offset, which fits. */
unsigned int pci_add_capability(struct pci_function *f, uint8_t id, unsigned int len);
/* For capabilities: bytes of the header after a reset, and which bits the guest may change. */
void pci_set_config(struct pci_function *f, unsigned int off, unsigned int len, uint32_t value,
		    uint32_t writable);
void pci_set_hook(struct pci_function *f, const struct pci_config_hook *hook);
/* MSI-X with @vectors, its table in BAR @n, a memory BAR of its own.  -ENOMEM. */
int pci_add_msix(struct pci_function *f, unsigned int n, unsigned int vectors, struct err *e);

/*
 * Into slot @devfn of @host, which finds a home for each BAR; reset afterwards.  -EEXIST,
 * -EINVAL; -ENOSPC where the windows are full.
 */
int pci_plug(struct device *host, unsigned int devfn, struct pci_function *f, struct err *e);
void pci_unplug(struct pci_function *f);
void pci_function_reset(struct pci_function *f);

/* Accesses to the header of a struct pci_function, as the guest's. */
extern const struct pci_function_ops pci_config_ops;

/* Is MSI-X enabled by the guest?  Then no INTx. */
bool pci_msix_enabled(struct pci_function *f);
/* Sends @vector's message, or keeps it pending while masked; nonsense is ignored. */
void pci_msix_send(struct pci_function *f, unsigned int vector);
/* The level that the device wants of INTA. */
void pci_intx(struct pci_function *f, bool level);

#endif
