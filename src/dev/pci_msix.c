// SPDX-License-Identifier: Apache-2.0
/*
 * MSI-X: a table of messages, one a vector, in a BAR of its own, with the pending bits behind.
 *
 * Source: PCI Local Bus Specification 3.0, "MSI-X Capability and Table Structures".
 * A vector that is masked, or whose function is or may not be bus master, keeps its pending
 * bit and is sent once it can.
 */
#include "dev/pci_priv.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ENTRY_SIZE	16U
#define PENDING_AT	0x800U	/* behind PCI_MSIX_VECTORS_MAX entries */
#define BAR_SIZE	0x1000U
#define CONTROL_ENABLE	0x8000U
#define CONTROL_MASK	0x4000U
#define VECTOR_MASKED	1U

struct pci_msix {
	unsigned int cap, vectors;
	uint32_t table[PCI_MSIX_VECTORS_MAX][4];	/* address, its upper half, data, control */
	uint64_t pending[PCI_MSIX_VECTORS_MAX / 64];
	struct msi_route route[PCI_MSIX_VECTORS_MAX];
};

static void unroute(struct pci_function *f, unsigned int vector)
{
	if (f->msix->route[vector].fd >= 0)
		f->wires.msi.unroute(f->wires.msi.sink, &f->msix->route[vector]);
}

static uint32_t control(const struct pci_function *f)
{
	return pci_get_config(f, f->msix->cap + 2, 2);
}

bool pci_msix_enabled_locked(const struct pci_function *f)
{
	return f->msix && control(f) & CONTROL_ENABLE;
}

bool pci_msix_enabled(struct pci_function *f)
{
	bool enabled;

	pthread_mutex_lock(&f->lock);
	enabled = pci_msix_enabled_locked(f);
	pthread_mutex_unlock(&f->lock);
	return enabled;
}

static bool may_send(const struct pci_function *f)
{
	return (control(f) & (CONTROL_ENABLE | CONTROL_MASK)) == CONTROL_ENABLE &&
	       pci_get_config(f, PCI_COMMAND, 2) & PCI_COMMAND_MASTER;
}

static uint64_t entry_address(const uint32_t *entry)
{
	return entry[0] | (uint64_t)entry[1] << 32;
}

static void send_or_keep_locked(struct pci_function *f, unsigned int vector)
{
	struct pci_msix *m = f->msix;
	const uint32_t *entry = m->table[vector];
	const uint64_t bit = BIT(vector % 64);

	if (!may_send(f) || entry[3] & VECTOR_MASKED) {
		m->pending[vector / 64] |= bit;
		return;
	}
	m->pending[vector / 64] &= ~bit;
	if (f->wires.msi.send_routed)
		f->wires.msi.send_routed(f->wires.msi.sink, &m->route[vector], entry_address(entry),
					 entry[2]);
	else if (f->wires.msi.send)
		f->wires.msi.send(f->wires.msi.sink, entry_address(entry), entry[2]);
}

void pci_msix_update_locked(struct pci_function *f)
{
	struct pci_msix *m = f->msix;

	if (!m || !may_send(f))
		return;
	for (unsigned int i = 0; i < ARRAY_SIZE(m->pending); i++)
		for (uint64_t left = m->pending[i]; left; left &= left - 1)
			send_or_keep_locked(f, 64 * i + __builtin_ctzll(left));
}

void pci_msix_send(struct pci_function *f, unsigned int vector)
{
	pthread_mutex_lock(&f->lock);
	/* While it is not enabled there is no such thing as a vector. */
	if (pci_msix_enabled_locked(f) && vector < f->msix->vectors)
		send_or_keep_locked(f, vector);
	pthread_mutex_unlock(&f->lock);
}

/* --- the BAR: aligned accesses of 4 and 8 bytes --- */

static uint32_t msix_dword(const struct pci_msix *m, unsigned int off)
{
	unsigned int word = (off - PENDING_AT) / 4;

	if (off < m->vectors * ENTRY_SIZE)
		return m->table[off / ENTRY_SIZE][off % ENTRY_SIZE / 4];
	if (off >= PENDING_AT && word / 2 < ARRAY_SIZE(m->pending))
		return m->pending[word / 2] >> (32 * (word & 1));
	return 0;
}

static uint64_t msix_read(void *dev, uint64_t off, unsigned int size)
{
	struct pci_function *f = dev;
	uint64_t value;

	if (size < 4 || off % size)
		return UINT64_MAX;
	pthread_mutex_lock(&f->lock);
	value = msix_dword(f->msix, off);
	if (size == 8)
		value |= (uint64_t)msix_dword(f->msix, off + 4) << 32;
	pthread_mutex_unlock(&f->lock);
	return value;
}

static void msix_write_dword(struct pci_function *f, unsigned int off, uint32_t value)
{
	struct pci_msix *m = f->msix;
	unsigned int vector = off / ENTRY_SIZE, field = off % ENTRY_SIZE / 4;

	if (vector >= m->vectors)
		return;
	if (field != 3 && m->table[vector][field] != value)
		unroute(f, vector);
	m->table[vector][field] = field == 3 ? value & VECTOR_MASKED : value;
	if (field == 3 && m->pending[vector / 64] & BIT(vector % 64))
		send_or_keep_locked(f, vector);
}

static void msix_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_function *f = dev;

	if (size < 4 || off % size)
		return;
	pthread_mutex_lock(&f->lock);
	msix_write_dword(f, off, value);
	if (size == 8)
		msix_write_dword(f, off + 4, value >> 32);
	pthread_mutex_unlock(&f->lock);
}

static const struct io_ops msix_io = { .read = msix_read, .write = msix_write };

/* --- life --- */

void pci_msix_reset_locked(struct pci_function *f)
{
	struct pci_msix *m = f->msix;

	if (!m)
		return;
	for (unsigned int i = 0; i < m->vectors; i++)
		unroute(f, i);
	memset(m->table, 0, sizeof(m->table));
	memset(m->pending, 0, sizeof(m->pending));
	for (unsigned int i = 0; i < m->vectors; i++)
		m->table[i][3] = VECTOR_MASKED;
}

void pci_msix_free(struct pci_function *f)
{
	for (unsigned int i = 0; f->msix && i < f->msix->vectors; i++)
		unroute(f, i);
	free(f->msix);
	f->msix = NULL;
}

int pci_add_msix(struct pci_function *f, unsigned int n, unsigned int vectors, struct err *e)
{
	assert(vectors && vectors <= PCI_MSIX_VECTORS_MAX);
	f->msix = calloc(1, sizeof(*f->msix));
	if (!f->msix)
		return err_set(e, ENOMEM, "out of memory for the interrupts of %s", f->name);
	f->msix->vectors = vectors;
	for (unsigned int i = 0; i < PCI_MSIX_VECTORS_MAX; i++)
		f->msix->route[i].fd = -1;
	f->msix->cap = pci_add_capability(f, PCI_CAP_MSIX, 12);
	pci_set_config(f, f->msix->cap + 2, 2, vectors - 1, CONTROL_ENABLE | CONTROL_MASK);
	pci_set_config(f, f->msix->cap + 4, 4, n, 0);			/* the table: BAR n */
	pci_set_config(f, f->msix->cap + 8, 4, PENDING_AT | n, 0);
	pci_add_bar(f, n, PCI_BAR_MEM32, BAR_SIZE, &msix_io, f);
	return 0;
}
