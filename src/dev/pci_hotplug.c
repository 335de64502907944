// SPDX-License-Identifier: Apache-2.0
/*
 * Hot-plugging of PCI slots through ACPI: three registers of a bit for each slot.
 *
 * Source: ACPI specification, "Device Insertion, Removal, and Status Objects"; the registers
 * are our own, and only the DSDT's methods know them.
 */
#include "dev/pci_hotplug.h"

#include <errno.h>
#include <stdlib.h>

/* (i) constant; everything else under lock */
struct pci_hotplug {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;		/* (i) */
	struct pci_hotplug_wires wires;		/* (i) */
	uint32_t up, down;
};

static struct pci_hotplug *to_hotplug(struct device *d)
{
	return container_of(d, struct pci_hotplug, dev);
}

static uint64_t hotplug_read(void *dev, uint64_t off, unsigned int size)
{
	struct pci_hotplug *h = dev;
	uint32_t *reg = off == PCI_HOTPLUG_UP ? &h->up : &h->down, value;

	if (size != 4 || (off != PCI_HOTPLUG_UP && off != PCI_HOTPLUG_DOWN))
		return 0;
	pthread_mutex_lock(&h->lock);
	value = *reg;
	*reg = 0;
	pthread_mutex_unlock(&h->lock);
	return value;
}

static void hotplug_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pci_hotplug *h = dev;

	if (off == PCI_HOTPLUG_EJECT && size == 4 && value)
		h->wires.eject(h->wires.sink, value);
}

static const struct io_ops hotplug_io = { .read = hotplug_read, .write = hotplug_write };

static void raise_bit(struct device *d, uint32_t *reg, unsigned int slot)
{
	struct pci_hotplug *h = to_hotplug(d);

	pthread_mutex_lock(&h->lock);
	*reg |= 1U << (slot & 31);
	pthread_mutex_unlock(&h->lock);
	h->wires.event(h->wires.sink);
}

void pci_hotplug_added(struct device *hotplug, unsigned int slot)
{
	raise_bit(hotplug, &to_hotplug(hotplug)->up, slot);
}

void pci_hotplug_remove(struct device *hotplug, unsigned int slot)
{
	raise_bit(hotplug, &to_hotplug(hotplug)->down, slot);
}

/* A system that starts looks at every slot itself. */
static void hotplug_reset(struct device *d)
{
	struct pci_hotplug *h = to_hotplug(d);

	pthread_mutex_lock(&h->lock);
	h->up = h->down = 0;
	pthread_mutex_unlock(&h->lock);
}

static void hotplug_destroy(struct device *d)
{
	struct pci_hotplug *h = to_hotplug(d);

	gpa_space_remove_pio(h->space, h->wires.port);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct state_field hotplug_fields[] = {
	STATE_FIELD(struct pci_hotplug, up, UINT32_MAX),
	STATE_FIELD(struct pci_hotplug, down, UINT32_MAX),
};

static const struct device_ops hotplug_ops = {
	.model = "pci_hotplug",
	.version = 1,
	.reset = hotplug_reset,
	.destroy = hotplug_destroy,
	.fields = hotplug_fields,
	.field_count = ARRAY_SIZE(hotplug_fields),
};

int pci_hotplug_create(struct device **out, struct gpa_space *s,
		       const struct pci_hotplug_wires *w, struct err *e)
{
	struct pci_hotplug *h = calloc(1, sizeof(*h));
	const struct io_region r = { .name = "pci hotplug", .base = w->port,
				     .size = PCI_HOTPLUG_SIZE, .ops = &hotplug_io, .dev = h };
	int rc;

	if (!h)
		return err_set(e, ENOMEM, "out of memory for PCI hot-plugging");
	h->dev.ops = &hotplug_ops;
	h->space = s;
	h->wires = *w;
	rc = gpa_space_add_pio(s, &r, e);
	if (rc) {
		free(h);
		return rc;
	}
	pthread_mutex_init(&h->lock, NULL);
	*out = &h->dev;
	return 0;
}
