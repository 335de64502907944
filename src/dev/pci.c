// SPDX-License-Identifier: Apache-2.0
/*
 * PCI functions; see pci.h.
 *
 * Source: PCI Local Bus Specification 3.0, "Configuration Space Organization", "Base
 * Addresses", "Capabilities List", "Interrupt Line/Pin".
 *
 * A BAR whose place is taken by something else, or lies outside of the address space, reaches
 * nothing until it is moved.  RAM wins over BARs.
 * Not modelled: bus mastering as a condition of the device's own memory accesses (messages do
 * need it), parity and system errors, expansion ROMs, power management.
 */
#include "dev/pci_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BAR_IS_IO	1U
#define BAR_IS_64	4U

/* --- the header's bytes --- */

uint32_t pci_get_config(const struct pci_function *f, unsigned int off, unsigned int len)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < len; i++)
		value |= (uint32_t)f->config[off + i] << (8 * i);
	return value;
}

void pci_set_config(struct pci_function *f, unsigned int off, unsigned int len, uint32_t value,
		    uint32_t writable)
{
	assert(off + len <= PCI_HEADER_SIZE && len <= 4);
	for (unsigned int i = 0; i < len; i++) {
		f->initial[off + i] = value >> (8 * i);
		f->writable[off + i] = writable >> (8 * i);
	}
}

void pci_function_init(struct pci_function *f, const struct pci_ident *id,
		       const struct pci_wires *w)
{
	memset(f, 0, sizeof(*f));
	f->name = id->name;
	f->wires = *w;
	f->caps_end = PCI_CAPS_FIRST;
	pthread_mutex_init(&f->lock, NULL);
	pci_set_config(f, 0x00, 4, id->vendor | (uint32_t)id->device << 16, 0);
	pci_set_config(f, PCI_COMMAND, 2, 0, PCI_COMMAND_WRITABLE);
	pci_set_config(f, 0x08, 4, id->revision | id->class_code << 8, 0);
	pci_set_config(f, 0x0c, 1, 0, 0xff);	/* cache line size: kept, means nothing here */
	pci_set_config(f, 0x2c, 4, id->subsystem_vendor | (uint32_t)id->subsystem << 16, 0);
	if (w->intx.set) {
		pci_set_config(f, PCI_INTERRUPT_LINE, 1, 0, 0xff);
		pci_set_config(f, PCI_INTERRUPT_PIN, 1, 1, 0);
	}
}

unsigned int pci_add_capability(struct pci_function *f, uint8_t id, unsigned int len)
{
	unsigned int at = f->caps_end, link = PCI_CAPABILITIES, next;

	assert(len >= 2 && at + len <= PCI_HEADER_SIZE);
	while ((next = f->initial[link]))
		link = next + 1;
	f->initial[link] = at;
	f->initial[at] = id;
	f->initial[PCI_STATUS] |= PCI_STATUS_CAPS;
	f->caps_end = ALIGN_UP(at + len, 4);
	return at;
}

void pci_set_hook(struct pci_function *f, const struct pci_config_hook *hook)
{
	f->hook = *hook;
}

/* --- BARs --- */

void pci_add_bar(struct pci_function *f, unsigned int n, enum pci_bar_kind kind, uint64_t size,
		 const struct io_ops *ops, void *dev)
{
	unsigned int off = PCI_BAR0 + 4 * n;

	assert(n + (kind == PCI_BAR_MEM64) < PCI_BARS && size >= 16 && !(size & (size - 1)));
	f->bar[n] = (struct pci_bar){
		.kind = kind, .size = size,
		.region = { .name = f->name, .size = size, .ops = ops, .dev = dev },
	};
	pci_set_config(f, off, 4, kind == PCI_BAR_IO ? BAR_IS_IO : kind == PCI_BAR_MEM64 ? BAR_IS_64 : 0,
		       -(uint32_t)size);
	if (kind == PCI_BAR_MEM64)
		pci_set_config(f, off + 4, 4, 0, -size >> 32);
}

static uint64_t bar_address(const struct pci_function *f, unsigned int n)
{
	uint64_t at = pci_get_config(f, PCI_BAR0 + 4 * n, 4);

	if (f->bar[n].kind == PCI_BAR_MEM64)
		at |= (uint64_t)pci_get_config(f, PCI_BAR0 + 4 * n + 4, 4) << 32;
	return at & ~(f->bar[n].size - 1);
}

/* Is BAR @n decoded, and at an address that means something? */
static bool bar_wanted(const struct pci_function *f, unsigned int n, uint64_t at)
{
	const bool io = f->bar[n].kind == PCI_BAR_IO;
	const uint32_t command = pci_get_config(f, PCI_COMMAND, 2);

	if (!f->bar[n].size || !(command & (io ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY)))
		return false;
	/* All ones is what sizes a BAR, 0 what says that it has no place. */
	return at && at + f->bar[n].size <= (io ? 0x10000ULL : BIT(GPA_BITS));
}

static void bar_unmap(struct pci_function *f, struct pci_bar *b)
{
	if (!b->mapped)
		return;
	if (b->kind == PCI_BAR_IO)
		gpa_space_remove_pio(f->wires.space, b->at);
	else
		gpa_space_remove_mmio(f->wires.space, b->at);
	b->mapped = false;
}

static void bar_map(struct pci_function *f, struct pci_bar *b, uint64_t at)
{
	struct err e;
	int rc;

	b->region.base = at;
	b->at = at;
	if (b->kind == PCI_BAR_IO)
		rc = gpa_space_add_pio(f->wires.space, &b->region, &e);
	else
		rc = gpa_space_add_mmio(f->wires.space, &b->region, &e);
	b->mapped = !rc;
	if (rc)
		log_guest(f->wires.log, "%s", e.text);
}

/* First all go that move, so that two may change places. */
static void bars_update_locked(struct pci_function *f)
{
	for (unsigned int n = 0; n < PCI_BARS; n++) {
		uint64_t at = bar_address(f, n);

		if (!bar_wanted(f, n, at) || at != f->bar[n].at)
			bar_unmap(f, &f->bar[n]);
	}
	for (unsigned int n = 0; n < PCI_BARS; n++) {
		uint64_t at = bar_address(f, n);

		if (bar_wanted(f, n, at) && !f->bar[n].mapped)
			bar_map(f, &f->bar[n], at);
	}
}

/* --- INTx --- */

static void intx_update_locked(struct pci_function *f)
{
	bool up = f->intx && !(pci_get_config(f, PCI_COMMAND, 2) & PCI_COMMAND_INTX_OFF) &&
		  !pci_msix_enabled_locked(f);

	if (up == f->intx_line)
		return;
	f->intx_line = up;
	irq_set(&f->wires.intx, up);
}

void pci_intx(struct pci_function *f, bool level)
{
	pthread_mutex_lock(&f->lock);
	f->intx = level;
	intx_update_locked(f);
	pthread_mutex_unlock(&f->lock);
}

/* --- accesses --- */

static bool hooked(const struct pci_function *f, unsigned int off, unsigned int size)
{
	return off >= f->hook.off && off + size <= f->hook.off + f->hook.len;
}

static uint32_t function_read(void *fn, unsigned int off, unsigned int size)
{
	struct pci_function *f = fn;
	uint32_t value;

	if (off >= PCI_HEADER_SIZE)	/* no extended capabilities */
		return 0;
	if (hooked(f, off, size))
		return f->hook.read(f->hook.arg, off, size);
	pthread_mutex_lock(&f->lock);
	value = pci_get_config(f, off, size);
	if (f->intx && off <= PCI_STATUS && off + size > PCI_STATUS)
		value |= PCI_STATUS_INTX << (8 * (PCI_STATUS - off));
	pthread_mutex_unlock(&f->lock);
	return value;
}

static void function_write(void *fn, unsigned int off, unsigned int size, uint32_t value)
{
	struct pci_function *f = fn;

	if (off >= PCI_HEADER_SIZE)
		return;
	if (hooked(f, off, size)) {
		f->hook.write(f->hook.arg, off, size, value);
		return;
	}
	pthread_mutex_lock(&f->lock);
	for (unsigned int i = 0; i < size; i++) {
		uint8_t mask = f->writable[off + i];

		f->config[off + i] = (f->config[off + i] & ~mask) | (value >> (8 * i) & mask);
	}
	bars_update_locked(f);
	intx_update_locked(f);
	pci_msix_update_locked(f);
	pthread_mutex_unlock(&f->lock);
}

const struct pci_function_ops pci_config_ops = {
	.config_read = function_read,
	.config_write = function_write,
};

/* --- life --- */

void pci_function_reset(struct pci_function *f)
{
	pthread_mutex_lock(&f->lock);
	memcpy(f->config, f->initial, sizeof(f->config));
	pci_msix_reset_locked(f);
	f->intx = false;
	intx_update_locked(f);
	bars_update_locked(f);
	pthread_mutex_unlock(&f->lock);
}

/* As firmware would: every BAR has a place, which the reset puts into its register. */
static int find_homes(struct device *host, struct pci_function *f, struct err *e)
{
	int rc;

	for (unsigned int n = 0; n < PCI_BARS; n++) {
		struct pci_bar *b = &f->bar[n];
		unsigned int off = PCI_BAR0 + 4 * n;

		if (!b->size)
			continue;
		rc = pci_host_find_home(host, b->kind == PCI_BAR_IO, b->size, &b->home, e);
		if (rc)
			return rc;
		for (unsigned int i = 0; i < (b->kind == PCI_BAR_MEM64 ? 8U : 4U); i++)
			f->initial[off + i] |= b->home >> (8 * i);
	}
	return 0;
}

int pci_plug(struct device *host, unsigned int devfn, struct pci_function *f, struct err *e)
{
	int rc;

	rc = find_homes(host, f, e);
	if (!rc)
		rc = pci_host_attach(host, devfn, f->name, &pci_config_ops, f, e);
	if (rc)
		return rc;
	f->host = host;
	f->devfn = devfn;
	pci_function_reset(f);
	return 0;
}

void pci_unplug(struct pci_function *f)
{
	if (f->host)
		pci_host_detach(f->host, f->devfn);
	f->host = NULL;
	pthread_mutex_lock(&f->lock);
	for (unsigned int n = 0; n < PCI_BARS; n++)
		bar_unmap(f, &f->bar[n]);
	f->intx = false;
	intx_update_locked(f);
	pthread_mutex_unlock(&f->lock);
}

void pci_function_destroy(struct pci_function *f)
{
	pci_unplug(f);
	pci_msix_free(f);
	pthread_mutex_destroy(&f->lock);
}
