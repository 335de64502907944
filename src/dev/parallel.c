// SPDX-License-Identifier: Apache-2.0
/*
 * The PC's parallel port in its standard mode (SPP), with a printer behind it: a byte is taken at
 * the strobe, the printer is busy while the backend takes none, and acknowledges each.
 *
 * Source: IBM Personal Computer Technical Reference, "Parallel Printer Adapter"; IEEE 1284,
 * "Compatibility Mode".
 * Not there: EPP and ECP, a printer that answers (nibble mode), paper that runs out.
 */
#include "dev/parallel.h"

#include <errno.h>
#include <stdlib.h>

#define PORTS		3

enum { DATA, STATUS, CONTROL };

#define STATUS_READY	0x80	/* not busy */
#define STATUS_NO_ACK	0x40
#define STATUS_SELECTED	0x10
#define STATUS_NO_ERROR	0x08
#define STATUS_UNUSED	0x07
#define CONTROL_STROBE	0x01
#define CONTROL_INIT	0x04	/* low resets the printer */
#define CONTROL_IRQ	0x10
#define CONTROL_BITS	0x3f

/* (i) constant; everything else under lock */
struct parallel {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	uint16_t base;			/* (i) */
	struct irq_line irq;		/* (i) */
	struct char_backend *printer;	/* (i) */
	uint8_t data, control;
	uint8_t waiting;		/* 1: the byte in 'held' was not taken yet */
	uint8_t held;
};

static void acknowledge(struct parallel *p)
{
	if (p->control & CONTROL_IRQ)
		irq_pulse(&p->irq);
}

static void offer_locked(struct parallel *p)
{
	if (p->printer->ops->write(p->printer, &p->held, 1) != 1)
		return;
	p->waiting = 0;
	acknowledge(p);
}

/* A byte that comes while the printer is busy is lost, as on the wire. */
static void strobe_locked(struct parallel *p)
{
	if (p->waiting)
		return;
	p->held = p->data;
	p->waiting = 1;
	offer_locked(p);
}

static void printer_writable(void *dev)
{
	struct parallel *p = dev;

	pthread_mutex_lock(&p->lock);
	if (p->waiting)
		offer_locked(p);
	pthread_mutex_unlock(&p->lock);
}

static size_t printer_says(void *dev, const uint8_t *buf, size_t len)
{
	(void)dev;
	(void)buf;
	return len;
}

static const struct char_front_ops parallel_front = {
	.receive = printer_says,
	.writable = printer_writable,
};

static uint8_t read_register(const struct parallel *p, unsigned int reg)
{
	switch (reg) {
	case DATA:
		return p->data;
	case STATUS:
		return (p->waiting ? 0 : STATUS_READY) | STATUS_NO_ACK | STATUS_SELECTED |
		       STATUS_NO_ERROR | STATUS_UNUSED;
	default:
		return p->control | (uint8_t)~CONTROL_BITS;
	}
}

static void write_register(struct parallel *p, unsigned int reg, uint8_t value)
{
	const uint8_t old = p->control;

	if (reg == DATA)
		p->data = value;
	if (reg != CONTROL)
		return;
	p->control = value & CONTROL_BITS;
	if (value & ~old & CONTROL_STROBE)
		strobe_locked(p);
}

/* Wider accesses reach an 8-bit port as one a byte. */
static uint64_t parallel_read(void *dev, uint64_t off, unsigned int size)
{
	struct parallel *p = dev;
	uint64_t value = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)read_register(p, off + i) << (8 * i);
	pthread_mutex_unlock(&p->lock);
	return value;
}

static void parallel_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct parallel *p = dev;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++)
		write_register(p, off + i, value >> (8 * i));
	pthread_mutex_unlock(&p->lock);
}

static const struct io_ops parallel_io = { .read = parallel_read, .write = parallel_write };

static void parallel_reset(struct device *d)
{
	struct parallel *p = container_of(d, struct parallel, dev);

	pthread_mutex_lock(&p->lock);
	p->data = 0;
	p->control = CONTROL_INIT;
	p->waiting = 0;
	pthread_mutex_unlock(&p->lock);
}

static void parallel_destroy(struct device *d)
{
	struct parallel *p = container_of(d, struct parallel, dev);

	gpa_space_remove_pio(p->space, p->base);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct state_field parallel_fields[] = {
	STATE_FIELD(struct parallel, data, 0xff),
	STATE_FIELD(struct parallel, control, CONTROL_BITS),
	STATE_FIELD(struct parallel, waiting, 1),
	STATE_FIELD(struct parallel, held, 0xff),
};

static const struct device_ops parallel_ops = {
	.model = "parallel",
	.version = 1,
	.reset = parallel_reset,
	.destroy = parallel_destroy,
	.fields = parallel_fields,
	.field_count = ARRAY_SIZE(parallel_fields),
};

int parallel_create(struct device **out, struct gpa_space *s, uint16_t base,
		    const struct irq_line *irq, struct char_backend *printer, struct err *e)
{
	struct parallel *p = calloc(1, sizeof(*p));
	struct io_region region = { "parallel", base, PORTS, &parallel_io, p };
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for a parallel port");
	p->dev.ops = &parallel_ops;
	p->space = s;
	p->base = base;
	p->irq = *irq;
	p->printer = printer;
	pthread_mutex_init(&p->lock, NULL);
	rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return rc;
	}
	parallel_reset(&p->dev);
	char_attach(printer, &parallel_front, p);
	*out = &p->dev;
	return 0;
}
