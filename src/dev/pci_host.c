// SPDX-License-Identifier: Apache-2.0
/*
 * PCI host bridge: configuration mechanism #1, ECAM, function 0:0.0, and the reset
 * control register that a PC has among the configuration ports.
 *
 * Source: PCI Local Bus Specification, "Configuration Space" and "Configuration
 * Mechanism #1"; PCI Express Base Specification, "PCI Express Enhanced Configuration
 * Access Mechanism"; Intel ICH9 data sheet, "RST_CNT - Reset Control Register".
 *
 * The bridge shows the identity of Intel's Q35 memory controller, which firmware and
 * systems know, with the ECAM window in PCIEXBAR.  Its registers are read-only: the
 * windows do not move.  Functions come and go while no vCPU runs, so the table needs no
 * lock.
 */
#include "dev/pci_host.h"

#include <errno.h>
#include <stdlib.h>

#define PORT_ADDRESS	0xcf8
#define PORT_DATA	0xcfc
#define ADDRESS_ENABLE	BIT(31)
#define ADDRESS_VALID	0x80fffffcU	/* the other bits read as 0 */
#define RESET_CONTROL	1		/* offset of cf9h */
#define RESET_NOW	0x04		/* RST_CPU: resets when it becomes 1 */
#define RESET_KEPT	0x0a		/* SYS_RST, FULL_RST: what kind */
#define ECAM_SIZE	BIT(28)
#define FUNCTIONS	256
#define PORTS_END	0x10000U
#define PCIEXBAR	0x60
#define PCIEXBAR_ENABLE	1		/* length 0: 256 MiB */

/* (i) constant; (o) under lock */
struct pci_host {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	struct pci_host_wires wires;	/* (i) */
	struct {
		const char *name;
		const struct pci_function_ops *ops;
		void *fn;
	} function[FUNCTIONS];		/* by devfn; changes only while no vCPU runs */
	uint64_t memory_next, io_next;	/* where the free parts of the windows begin */
	uint32_t address;		/* (o) */
	uint8_t reset_control;		/* (o) */
};

static struct pci_host *to_host(struct device *d)
{
	return container_of(d, struct pci_host, dev);
}

static uint32_t all_ones(unsigned int size)
{
	return size == 4 ? UINT32_MAX : (1U << (8 * size)) - 1;
}

/* --- the bridge's own function --- */

static uint32_t bridge_dword(const struct pci_host *h, unsigned int off)
{
	switch (off) {
	case 0x00:
		return 0x29c08086;	/* device, vendor */
	case 0x04:
		return 0x00000006;	/* memory space, bus master; no status */
	case 0x08:
		return 0x06000000;	/* host bridge, revision 0 */
	case 0x2c:
		return 0x11001af4;	/* subsystem: a virtual machine's */
	case PCIEXBAR:
		return (uint32_t)h->wires.ecam | PCIEXBAR_ENABLE;
	case PCIEXBAR + 4:
		return h->wires.ecam >> 32;
	default:
		return 0;
	}
}

static uint32_t bridge_read(void *fn, unsigned int off, unsigned int size)
{
	return bridge_dword(fn, off & ~3U) >> (8 * (off & 3)) & all_ones(size);
}

static void bridge_write(void *fn, unsigned int off, unsigned int size, uint32_t value)
{
	(void)fn;
	(void)off;
	(void)size;
	(void)value;
}

static const struct pci_function_ops bridge_ops = {
	.config_read = bridge_read,
	.config_write = bridge_write,
};

/* --- configuration accesses --- */

/* @bdf: bus, device, function.  Accesses that cross a dword reach nothing. */
static uint32_t config_read(struct pci_host *h, unsigned int bdf, unsigned int off,
			    unsigned int size)
{
	if (bdf >= FUNCTIONS || !h->function[bdf].ops || (off & 3) + size > 4)
		return all_ones(size);
	return h->function[bdf].ops->config_read(h->function[bdf].fn, off, size);
}

static void config_write(struct pci_host *h, unsigned int bdf, unsigned int off,
			 unsigned int size, uint32_t value)
{
	if (bdf < FUNCTIONS && h->function[bdf].ops && (off & 3) + size <= 4)
		h->function[bdf].ops->config_write(h->function[bdf].fn, off, size, value);
}

static uint64_t address_read(void *dev, uint64_t off, unsigned int size)
{
	struct pci_host *h = dev;
	uint64_t value = UINT64_MAX;

	pthread_mutex_lock(&h->lock);
	if (size == 4)
		value = h->address;
	else if (off == RESET_CONTROL && size == 1)
		value = h->reset_control;
	pthread_mutex_unlock(&h->lock);
	return value;
}

static void address_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_host *h = dev;
	bool reset = false;

	pthread_mutex_lock(&h->lock);
	if (size == 4) {
		h->address = value & ADDRESS_VALID;
	} else if (off == RESET_CONTROL && size == 1) {
		h->reset_control = value & RESET_KEPT;
		reset = value & RESET_NOW;
	}
	pthread_mutex_unlock(&h->lock);
	if (reset)
		power_event(&h->wires.power, MACHINE_RESET, 0);
}

/* The address register, if it is enabled for a data access. */
static bool data_target(struct pci_host *h, unsigned int *bdf, unsigned int *reg)
{
	uint32_t address;

	pthread_mutex_lock(&h->lock);
	address = h->address;
	pthread_mutex_unlock(&h->lock);
	*bdf = address >> 8 & 0xffff;
	*reg = address & 0xfc;
	return address & ADDRESS_ENABLE;
}

static uint64_t data_read(void *dev, uint64_t off, unsigned int size)
{
	unsigned int bdf, reg;

	if (!data_target(dev, &bdf, &reg))
		return UINT64_MAX;
	return config_read(dev, bdf, reg + off, size);
}

static void data_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	unsigned int bdf, reg;

	if (data_target(dev, &bdf, &reg))
		config_write(dev, bdf, reg + off, size, value);
}

static uint64_t ecam_read(void *dev, uint64_t off, unsigned int size)
{
	unsigned int bdf = off >> 12, reg = off & (PCI_CONFIG_SIZE - 1);
	uint64_t low;

	if (size <= 4)
		return config_read(dev, bdf, reg, size);
	if (reg & 7)
		return UINT64_MAX;
	low = config_read(dev, bdf, reg, 4);
	return low | (uint64_t)config_read(dev, bdf, reg + 4, 4) << 32;
}

static void ecam_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	unsigned int bdf = off >> 12, reg = off & (PCI_CONFIG_SIZE - 1);

	if (size <= 4) {
		config_write(dev, bdf, reg, size, value);
	} else if (!(reg & 7)) {
		config_write(dev, bdf, reg, 4, value);
		config_write(dev, bdf, reg + 4, 4, value >> 32);
	}
}

static const struct io_ops address_io = { .read = address_read, .write = address_write };
static const struct io_ops data_io = { .read = data_read, .write = data_write };
static const struct io_ops ecam_io = { .read = ecam_read, .write = ecam_write };

/* --- as a device --- */

static void host_reset(struct device *d)
{
	struct pci_host *h = to_host(d);

	pthread_mutex_lock(&h->lock);
	h->address = 0;
	h->reset_control = 0;
	pthread_mutex_unlock(&h->lock);
}

static void host_destroy(struct device *d)
{
	struct pci_host *h = to_host(d);

	gpa_space_remove_pio(h->space, PORT_ADDRESS);
	gpa_space_remove_pio(h->space, PORT_DATA);
	gpa_space_remove_mmio(h->space, h->wires.ecam);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct state_field host_fields[] = {
	STATE_FIELD(struct pci_host, address, ADDRESS_VALID),
	STATE_FIELD(struct pci_host, reset_control, RESET_KEPT),
};

static const struct device_ops host_ops = {
	.model = "pci_host",
	.version = 1,
	.reset = host_reset,
	.destroy = host_destroy,
	.fields = host_fields,
	.field_count = ARRAY_SIZE(host_fields),
};

int pci_host_attach(struct device *host, unsigned int devfn, const char *name,
		    const struct pci_function_ops *ops, void *fn, struct err *e)
{
	struct pci_host *h = to_host(host);

	if (devfn >= FUNCTIONS)
		return err_set(e, EINVAL, "%s: bus 0 has no function %#x", name, devfn);
	if (h->function[devfn].ops)
		return err_set(e, EEXIST, "%s: PCI slot 0:%x.%x is taken by %s", name,
			       devfn >> 3, devfn & 7, h->function[devfn].name);
	h->function[devfn].name = name;
	h->function[devfn].ops = ops;
	h->function[devfn].fn = fn;
	return 0;
}

void pci_host_detach(struct device *host, unsigned int devfn)
{
	struct pci_host *h = to_host(host);

	h->function[devfn].name = NULL;
	h->function[devfn].ops = NULL;
	h->function[devfn].fn = NULL;
}

int pci_host_free_slot(struct device *host)
{
	struct pci_host *h = to_host(host);

	for (unsigned int slot = 0; slot < FUNCTIONS / 8; slot++)
		if (!h->function[PCI_DEVFN(slot, 0)].ops)
			return slot;
	return -1;
}

/* Homes are not given back: a slot that is emptied and filled again takes new ones. */
int pci_host_find_home(struct device *host, bool io, uint64_t size, uint64_t *at,
		       struct err *e)
{
	struct pci_host *h = to_host(host);
	uint64_t *next = io ? &h->io_next : &h->memory_next;
	uint64_t end = io ? PORTS_END : h->wires.memory_end;
	uint64_t place = ALIGN_UP(*next, size);

	if (place + size > end || place + size < place)
		return err_set(e, ENOSPC, "no room is left for the registers of a PCI device "
			       "(%llu bytes)", (unsigned long long)size);
	*next = place + size;
	*at = place;
	return 0;
}

static int add_regions(struct pci_host *h, struct err *e)
{
	const struct io_region address = { "pci address", PORT_ADDRESS, 4, &address_io, h };
	const struct io_region data = { "pci data", PORT_DATA, 4, &data_io, h };
	const struct io_region ecam = { "pci ecam", h->wires.ecam, ECAM_SIZE, &ecam_io, h };
	int rc;

	rc = gpa_space_add_pio(h->space, &address, e);
	if (rc)
		return rc;
	rc = gpa_space_add_pio(h->space, &data, e);
	if (rc)
		goto no_data;
	rc = gpa_space_add_mmio(h->space, &ecam, e);
	if (!rc)
		return 0;
	gpa_space_remove_pio(h->space, PORT_DATA);
no_data:
	gpa_space_remove_pio(h->space, PORT_ADDRESS);
	return rc;
}

int pci_host_create(struct device **out, struct gpa_space *s,
		    const struct pci_host_wires *wires, struct err *e)
{
	struct pci_host *h = calloc(1, sizeof(*h));
	int rc;

	if (!h)
		return err_set(e, ENOMEM, "out of memory for the PCI host bridge");
	h->dev.ops = &host_ops;
	h->space = s;
	h->wires = *wires;
	h->memory_next = wires->memory;
	h->io_next = wires->io;
	pthread_mutex_init(&h->lock, NULL);
	rc = add_regions(h, e);
	if (!rc)
		rc = pci_host_attach(&h->dev, PCI_DEVFN(0, 0), "host bridge", &bridge_ops, h, e);
	if (rc) {
		pthread_mutex_destroy(&h->lock);
		free(h);
		return rc;
	}
	*out = &h->dev;
	return 0;
}
