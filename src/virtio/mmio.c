// SPDX-License-Identifier: Apache-2.0
/*
 * Virtio over MMIO, version 2: for machines without PCI.  A system is told the place and the
 * interrupt by ACPI or on its command line.
 *
 * Source: VIRTIO 1.2, "Virtio Over MMIO".
 * Not modelled: shared memory regions (there are none), version 1.
 */
#include "virtio/mmio.h"
#include "virtio/core_priv.h"

#include <errno.h>
#include <stdlib.h>

#define MAGIC			0x000
#define VERSION			0x004
#define DEVICE_ID		0x008
#define VENDOR_ID		0x00c
#define DEVICE_FEATURES		0x010
#define DEVICE_FEATURES_SEL	0x014
#define DRIVER_FEATURES		0x020
#define DRIVER_FEATURES_SEL	0x024
#define QUEUE_SEL		0x030
#define QUEUE_SIZE_MAX		0x034
#define QUEUE_SIZE		0x038
#define QUEUE_READY		0x044
#define QUEUE_NOTIFY		0x050
#define INTERRUPT_STATUS	0x060
#define INTERRUPT_ACK		0x064
#define STATUS			0x070
#define QUEUE_DESC		0x080	/* low; the high half is 4 behind */
#define QUEUE_DRIVER		0x090
#define QUEUE_DEVICE		0x0a0
#define SHM_LEN			0x0b0
#define SHM_END			0x0c0
#define QUEUE_RESET		0x0c0
#define CONFIG_GENERATION	0x0fc
#define CONFIG			0x100

#define INTERRUPT_QUEUE		1U
#define INTERRUPT_CONFIG	2U

/* (i) constant; (s) under lock */
struct virtio_mmio {
	struct device dev;
	struct virtio_device *virtio;	/* (i) */
	struct io_doorbell *doorbells;	/* (i) of all queues */
	gpa_t base;			/* (i) */
	struct irq_line irq;		/* (i) */
	bool mapped;			/* (i) */
	pthread_mutex_t lock;
	uint32_t device_select, driver_select, queue_select;	/* (s) */
	uint32_t interrupts;		/* (s) not yet acknowledged */
};

/* --- interrupts --- */

static void change_interrupts(struct virtio_mmio *m, uint32_t clear, uint32_t set)
{
	pthread_mutex_lock(&m->lock);
	m->interrupts = (m->interrupts & ~clear) | set;
	irq_set(&m->irq, m->interrupts);
	pthread_mutex_unlock(&m->lock);
}

static void mmio_interrupt(void *t, int q, uint16_t vector)
{
	(void)vector;
	change_interrupts(t, 0, q == CONFIG_CHANGED ? INTERRUPT_CONFIG : INTERRUPT_QUEUE);
}

static void mmio_transport_reset(void *t)
{
	struct virtio_mmio *m = t;

	change_interrupts(m, UINT32_MAX, 0);
	pthread_mutex_lock(&m->lock);
	m->device_select = m->driver_select = m->queue_select = 0;
	pthread_mutex_unlock(&m->lock);
}

static const struct virtio_transport mmio_transport = {
	.interrupt = mmio_interrupt,
	.reset = mmio_transport_reset,
};

/* --- registers --- */

static uint32_t locked(struct virtio_mmio *m, const uint32_t *field)
{
	uint32_t value;

	pthread_mutex_lock(&m->lock);
	value = *field;
	pthread_mutex_unlock(&m->lock);
	return value;
}

static void set_locked(struct virtio_mmio *m, uint32_t *field, uint32_t value)
{
	pthread_mutex_lock(&m->lock);
	*field = value;
	pthread_mutex_unlock(&m->lock);
}

static struct virtq *selected_queue(struct virtio_mmio *m)
{
	return virtio_queue_or_null(m->virtio, locked(m, &m->queue_select));
}

static uint32_t read_register(struct virtio_mmio *m, unsigned int reg)
{
	struct virtio_device *d = m->virtio;
	struct virtq *q = selected_queue(m);
	uint32_t select;

	switch (reg) {
	case MAGIC:
		return 0x74726976;	/* "virt" */
	case VERSION:
		return 2;
	case DEVICE_ID:
		return d->ops->id;
	case VENDOR_ID:
		return 0x4f455256;	/* "VREO" */
	case DEVICE_FEATURES:
		select = locked(m, &m->device_select);
		return select < 2 ? virtio_offered(d) >> (32 * select) : 0;
	case QUEUE_SIZE_MAX:
		return q ? d->core->queue_size : 0;
	case QUEUE_READY:
		return q && virtq_enabled(q);
	case INTERRUPT_STATUS:
		return locked(m, &m->interrupts);
	case STATUS:
		return virtio_status(d);
	case SHM_LEN ... SHM_END - 4:
		return UINT32_MAX;	/* no such region */
	case CONFIG_GENERATION:
		return virtio_generation(d);
	}
	return 0;
}

static void write_area(struct virtq *q, unsigned int reg, uint32_t value)
{
	const unsigned int which = (reg - QUEUE_DESC) / 0x10, half = reg % 0x10;

	if (q && half <= 4)
		virtq_set_area(q, which, half / 4, value);
}

static void write_queue_register(struct virtq *q, unsigned int reg, uint32_t value)
{
	if (!q)
		return;
	switch (reg) {
	case QUEUE_SIZE:
		virtq_set_size(q, MIN(value, 0xffffU));
		break;
	case QUEUE_READY:
		if (value)
			virtq_enable(q);
		else
			virtq_disable(q);
		break;
	case QUEUE_RESET:
		if (value == 1)
			virtq_driver_reset(q);
		break;
	default:
		write_area(q, reg, value);
	}
}

static void write_register(struct virtio_mmio *m, unsigned int reg, uint32_t value)
{
	struct virtio_device *d = m->virtio;

	switch (reg) {
	case DEVICE_FEATURES_SEL:
		set_locked(m, &m->device_select, value);
		break;
	case DRIVER_FEATURES:
		virtio_set_features(d, locked(m, &m->driver_select), value);
		break;
	case DRIVER_FEATURES_SEL:
		set_locked(m, &m->driver_select, value);
		break;
	case QUEUE_SEL:
		set_locked(m, &m->queue_select, value);
		break;
	case QUEUE_NOTIFY:
		virtio_doorbell(d, value);
		break;
	case INTERRUPT_ACK:
		change_interrupts(m, value, 0);
		break;
	case STATUS:
		virtio_set_status(d, value);
		break;
	case QUEUE_SIZE:
	case QUEUE_READY:
	case QUEUE_RESET:
	case QUEUE_DESC ... QUEUE_DEVICE + 4:
		write_queue_register(selected_queue(m), reg, value);
		break;
	}
}

/* Registers are read and written as aligned words; the configuration space as the driver likes. */
static uint64_t mmio_regs_read(void *dev, uint64_t off, unsigned int size)
{
	struct virtio_mmio *m = dev;
	uint64_t value = 0;

	if (off >= CONFIG) {
		virtio_driver_config_read(m->virtio, off - CONFIG, &value, size);
		return value;
	}
	return size == 4 && !(off & 3) ? read_register(m, off) : 0;
}

static void mmio_regs_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct virtio_mmio *m = dev;

	if (off >= CONFIG)
		virtio_driver_config_write(m->virtio, off - CONFIG, &value, size);
	else if (size == 4 && !(off & 3))
		write_register(m, off, value);
}

static unsigned int doorbells(void *dev, const struct io_doorbell **list)
{
	struct virtio_mmio *m = dev;

	*list = m->doorbells;
	return m->doorbells ? m->virtio->core->queue_count : 0;
}

static const struct io_ops mmio_io = {
	.read = mmio_regs_read, .write = mmio_regs_write, .doorbells = doorbells,
};

/* --- life --- */

static void virtio_mmio_reset(struct device *d)
{
	virtio_reset(container_of(d, struct virtio_mmio, dev)->virtio);
}

static void virtio_mmio_destroy(struct device *d)
{
	struct virtio_mmio *m = container_of(d, struct virtio_mmio, dev);

	if (m->mapped)
		gpa_space_remove_mmio(virtio_space(m->virtio), m->base);
	virtio_detach(m->virtio);
	pthread_mutex_destroy(&m->lock);
	free(m->doorbells);
	free(m);
}

static const struct device_ops virtio_mmio_ops = {
	.model = "virtio-mmio",
	.version = 1,
	.reset = virtio_mmio_reset,
	.destroy = virtio_mmio_destroy,
};

int virtio_mmio_create(struct device **out, struct virtio_device *d, gpa_t base,
		       const struct irq_line *irq, struct err *e)
{
	struct virtio_mmio *m = calloc(1, sizeof(*m));
	struct io_region r = { .name = d->ops->name, .base = base, .size = VIRTIO_MMIO_SIZE,
			       .ops = &mmio_io, .dev = m };
	int rc;

	if (!m) {
		d->ops->destroy(d);
		return err_set(e, ENOMEM, "out of memory for a virtio device");
	}
	m->dev.ops = &virtio_mmio_ops;
	m->virtio = d;
	m->base = base;
	m->irq = *irq;
	pthread_mutex_init(&m->lock, NULL);
	rc = virtio_attach(d, &mmio_transport, m, e);
	if (!rc)
		m->doorbells = virtio_doorbells(d, QUEUE_NOTIFY, 0);
	if (!rc)
		rc = gpa_space_add_mmio(virtio_space(d), &r, e);
	if (rc) {
		virtio_mmio_destroy(&m->dev);
		return rc;
	}
	m->mapped = true;
	*out = &m->dev;
	return 0;
}
