// SPDX-License-Identifier: Apache-2.0
/*
 * Hot-plugging of processors through ACPI: four registers of a bit for each processor.
 *
 * Source: ACPI specification, "Device Insertion, Removal, and Status Objects", "Declaring
 * Processors"; the registers are our own, and only the DSDT's methods know them.
 *
 * A system may let go of a processor that nobody asked for, as one that is told to by its own
 * administrator does; but not of the first.
 */
#include "dev/cpu_hotplug.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_CPU	BIT(0)

/* (i) constant; everything else under lock */
struct cpu_hotplug {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;		/* (i) */
	struct cpu_hotplug_wires wires;		/* (i) */
	uint64_t present, up, down;
};

static struct cpu_hotplug *to_hotplug(struct device *d)
{
	return container_of(d, struct cpu_hotplug, dev);
}

/* The half of @reg at @off; its bits are cleared if @clear. */
static uint32_t take_half(uint64_t *reg, uint64_t off, bool clear)
{
	const unsigned int shift = off & 4 ? 32 : 0;
	const uint32_t value = *reg >> shift;

	if (clear)
		*reg &= ~((uint64_t)UINT32_MAX << shift);
	return value;
}

static uint64_t hotplug_read(void *dev, uint64_t off, unsigned int size)
{
	struct cpu_hotplug *h = dev;
	uint32_t value = 0;

	if (size != 4 || off % 4)
		return 0;
	pthread_mutex_lock(&h->lock);
	switch (off & ~4ULL) {
	case CPU_HOTPLUG_PRESENT:
		value = take_half(&h->present, off, false);
		break;
	case CPU_HOTPLUG_UP:
		value = take_half(&h->up, off, true);
		break;
	case CPU_HOTPLUG_DOWN:
		value = take_half(&h->down, off, true);
		break;
	}
	pthread_mutex_unlock(&h->lock);
	return value;
}

/* The register of those present shows it at once: _STA is asked behind _EJ0. */
static void hotplug_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct cpu_hotplug *h = dev;
	uint64_t gone;

	if (size != 4 || (off & ~4ULL) != CPU_HOTPLUG_EJECT)
		return;
	gone = (value & UINT32_MAX) << (off & 4 ? 32 : 0) & ~FIRST_CPU;
	pthread_mutex_lock(&h->lock);
	gone &= h->present;
	h->present &= ~gone;
	h->up &= ~gone;
	h->down &= ~gone;
	pthread_mutex_unlock(&h->lock);
	if (gone)
		h->wires.eject(h->wires.sink, gone);
}

static const struct io_ops hotplug_io = { .read = hotplug_read, .write = hotplug_write };

void cpu_hotplug_set(struct device *hotplug, uint64_t cpus)
{
	struct cpu_hotplug *h = to_hotplug(hotplug);

	pthread_mutex_lock(&h->lock);
	h->present = cpus;
	h->up = h->down = 0;
	pthread_mutex_unlock(&h->lock);
}

void cpu_hotplug_added(struct device *hotplug, uint64_t cpus)
{
	struct cpu_hotplug *h = to_hotplug(hotplug);

	pthread_mutex_lock(&h->lock);
	h->present |= cpus;
	h->up |= cpus;
	h->down &= ~cpus;
	pthread_mutex_unlock(&h->lock);
	h->wires.event(h->wires.sink);
}

void cpu_hotplug_remove(struct device *hotplug, uint64_t cpus)
{
	struct cpu_hotplug *h = to_hotplug(hotplug);

	pthread_mutex_lock(&h->lock);
	h->down |= cpus & h->present & ~FIRST_CPU;
	h->up &= ~cpus;
	pthread_mutex_unlock(&h->lock);
	h->wires.event(h->wires.sink);
}

/* A system that starts looks at every processor itself. */
static void hotplug_reset(struct device *d)
{
	struct cpu_hotplug *h = to_hotplug(d);

	pthread_mutex_lock(&h->lock);
	h->up = h->down = 0;
	pthread_mutex_unlock(&h->lock);
}

static void hotplug_destroy(struct device *d)
{
	struct cpu_hotplug *h = to_hotplug(d);

	gpa_space_remove_pio(h->space, h->wires.port);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

static const struct state_field hotplug_fields[] = {
	STATE_FIELD(struct cpu_hotplug, present, UINT64_MAX),
	STATE_FIELD(struct cpu_hotplug, up, UINT64_MAX),
	STATE_FIELD(struct cpu_hotplug, down, UINT64_MAX),
};

static const struct device_ops hotplug_ops = {
	.model = "cpu_hotplug",
	.version = 1,
	.reset = hotplug_reset,
	.destroy = hotplug_destroy,
	.fields = hotplug_fields,
	.field_count = ARRAY_SIZE(hotplug_fields),
};

int cpu_hotplug_create(struct device **out, struct gpa_space *s,
		       const struct cpu_hotplug_wires *w, struct err *e)
{
	struct cpu_hotplug *h = calloc(1, sizeof(*h));
	const struct io_region r = { .name = "cpu hotplug", .base = w->port,
				     .size = CPU_HOTPLUG_SIZE, .ops = &hotplug_io, .dev = h };
	int rc;

	if (!h)
		return err_set(e, ENOMEM, "out of memory for hot-plugging of processors");
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
