// SPDX-License-Identifier: Apache-2.0
/*
 * The I/O APIC, version 20h: 24 inputs and an EOI register.
 *
 * Source: Intel 82093AA I/O APIC datasheet, "Register Description"; version 20h and the
 * EOI register: Intel 82801 (ICH) datasheets, "I/O APIC".
 *
 * Not modelled: SMIs, input polarity (a line that is asserted is asserted, whatever the
 * guest thinks of its voltage).
 */
#include "dev/ioapic.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#define IOREGSEL	0x00
#define IOWIN		0x10
#define EOIR		0x40
#define IOAPIC_PAGE	0x1000

#define REG_ID		0x00
#define REG_VERSION	0x01
#define REG_ARB		0x02
#define REG_TABLE	0x10
#define VERSION		(0x20 | (IOAPIC_PINS - 1) << 16)

#define OWED_MAX	250	/* a second of Linux's */

#define RTE_VECTOR	0xffULL
#define RTE_MODE(rte)	((rte) >> 8 & 7)
#define RTE_LOGICAL	BIT(11)
#define RTE_STATUS	BIT(12)
#define RTE_REMOTE_IRR	BIT(14)
#define RTE_LEVEL	BIT(15)
#define RTE_MASKED	BIT(16)
#define RTE_DEST(rte)	((rte) >> 56)
#define RTE_READ_ONLY	(RTE_STATUS | RTE_REMOTE_IRR)
#define RTE_WRITABLE	(0xff0000000001ffffULL & ~RTE_READ_ONLY)

/* Lock: lock protects lines and the registers; messages are sent with it held. */
struct ioapic {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;
	gpa_t base;
	struct apic_bus *bus;
	uint32_t lines;		/* levels of the inputs */
	uint32_t id;
	uint8_t select;
	uint64_t rte[IOAPIC_PINS];
	uint32_t kept_pins;	/* ioapic_keep_edges(); constant */
	_Atomic uint32_t owing;	/* pins with edges owed */
	uint16_t owed[IOAPIC_PINS];
};

static bool is_level(uint64_t rte)
{
	/* Only these modes have a level-triggered form. */
	return rte & RTE_LEVEL && RTE_MODE(rte) <= APIC_LOWEST;
}

static struct apic_msg message(const struct ioapic *io, unsigned int pin)
{
	uint64_t rte = io->rte[pin];

	return (struct apic_msg){
		.dest = RTE_DEST(rte) == 0xff ? APIC_DEST_ALL : RTE_DEST(rte),
		.vector = rte & RTE_VECTOR,
		.mode = RTE_MODE(rte),
		.logical = rte & RTE_LOGICAL,
		.level = is_level(rte),
	};
}

static void deliver(struct ioapic *io, unsigned int pin)
{
	const struct apic_msg m = message(io, pin);

	if (apic_bus_send(io->bus, &m) && m.level)
		io->rte[pin] |= RTE_REMOTE_IRR;
}

/* A level-triggered input interrupts while it is high and the last one had its EOI. */
static void sample_level(struct ioapic *io, unsigned int pin)
{
	uint64_t rte = io->rte[pin];

	if (is_level(rte) && io->lines >> pin & 1 && !(rte & (RTE_MASKED | RTE_REMOTE_IRR)))
		deliver(io, pin);
}

static void set_owed(struct ioapic *io, unsigned int pin, unsigned int n)
{
	io->owed[pin] = n;
	if (n)
		atomic_fetch_or(&io->owing, BIT(pin));
	else
		atomic_fetch_and(&io->owing, ~(uint32_t)BIT(pin));
}

static void deliver_edge(struct ioapic *io, unsigned int pin)
{
	const struct apic_msg m = message(io, pin);

	if (io->kept_pins & BIT(pin) && m.mode <= APIC_LOWEST && apic_bus_is_waiting(io->bus, &m))
		set_owed(io, pin, MIN(io->owed[pin] + 1, OWED_MAX));
	else
		deliver(io, pin);
}

/* A processor has begun with @vector: the next edge that is owed can come. */
static void ioapic_taken(void *ioapic, uint8_t vector)
{
	struct ioapic *io = ioapic;

	if (!atomic_load(&io->owing))
		return;
	pthread_mutex_lock(&io->lock);
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		if (!io->owed[pin] || (io->rte[pin] & RTE_VECTOR) != vector)
			continue;
		set_owed(io, pin, io->owed[pin] - 1);
		deliver(io, pin);
	}
	pthread_mutex_unlock(&io->lock);
}

static void ioapic_set(void *sink, unsigned int pin, bool level)
{
	struct ioapic *io = sink;
	uint32_t bit = BIT(pin);
	bool rises;

	pthread_mutex_lock(&io->lock);
	rises = level && !(io->lines & bit);
	io->lines = level ? io->lines | bit : io->lines & ~bit;
	if (is_level(io->rte[pin]))
		sample_level(io, pin);
	else if (rises && !(io->rte[pin] & RTE_MASKED))	/* a masked edge is lost */
		deliver_edge(io, pin);
	pthread_mutex_unlock(&io->lock);
}

struct irq_line ioapic_line(struct device *ioapic, unsigned int pin)
{
	struct ioapic *io = container_of(ioapic, struct ioapic, dev);

	if (pin >= IOAPIC_PINS)
		return (struct irq_line){ 0 };
	return (struct irq_line){ .set = ioapic_set, .sink = io, .pin = pin };
}

static void eoi_locked(struct ioapic *io, uint8_t vector)
{
	for (unsigned int pin = 0; pin < IOAPIC_PINS; pin++) {
		if ((io->rte[pin] & RTE_VECTOR) != vector || !(io->rte[pin] & RTE_REMOTE_IRR))
			continue;
		io->rte[pin] &= ~RTE_REMOTE_IRR;
		sample_level(io, pin);
	}
}

/* A local APIC broadcasts the EOI of a level-triggered interrupt. */
static void ioapic_eoi(void *ioapic, uint8_t vector)
{
	struct ioapic *io = ioapic;

	pthread_mutex_lock(&io->lock);
	eoi_locked(io, vector);
	pthread_mutex_unlock(&io->lock);
}

static uint32_t read_window(const struct ioapic *io)
{
	unsigned int n = io->select - REG_TABLE;

	switch (io->select) {
	case REG_ID:
	case REG_ARB:
		return io->id;
	case REG_VERSION:
		return VERSION;
	}
	if (io->select < REG_TABLE || n / 2 >= IOAPIC_PINS)
		return 0;
	return n & 1 ? io->rte[n / 2] >> 32 : io->rte[n / 2];
}

static void write_window(struct ioapic *io, uint32_t value)
{
	unsigned int n = io->select - REG_TABLE;
	uint64_t *rte, fresh;

	if (io->select == REG_ID)
		io->id = value & 0x0f000000;
	if (io->select < REG_TABLE || n / 2 >= IOAPIC_PINS)
		return;
	rte = &io->rte[n / 2];
	fresh = n & 1 ? (*rte & UINT32_MAX) | (uint64_t)value << 32
		      : (*rte & ~(uint64_t)UINT32_MAX) | value;
	*rte = (fresh & RTE_WRITABLE) | (*rte & RTE_REMOTE_IRR);
	set_owed(io, n / 2, 0);
	/* Edge-triggered interrupts have no EOI; systems clear a stuck one this way. */
	if (!is_level(*rte))
		*rte &= ~RTE_REMOTE_IRR;
	sample_level(io, n / 2);
}

static uint64_t ioapic_read(void *dev, uint64_t off, unsigned int size)
{
	struct ioapic *io = dev;
	uint32_t value = 0;

	if ((off & 15) + size > 4)
		return size < 8 || off & 15 ? 0 : ioapic_read(dev, off, 4);
	pthread_mutex_lock(&io->lock);
	switch (off & ~15ULL) {
	case IOREGSEL:
		value = io->select;
		break;
	case IOWIN:
		value = read_window(io);
		break;
	}
	pthread_mutex_unlock(&io->lock);
	return value >> (8 * (off & 3));
}

/* IOWIN is written whole; of the two others the first byte counts. */
static void ioapic_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct ioapic *io = dev;

	pthread_mutex_lock(&io->lock);
	switch (off) {
	case IOREGSEL:
		io->select = value;
		break;
	case IOWIN:
		if (size >= 4)
			write_window(io, value);
		break;
	case EOIR:
		eoi_locked(io, value);
		break;
	}
	pthread_mutex_unlock(&io->lock);
}

static const struct io_ops ioapic_io = { .read = ioapic_read, .write = ioapic_write };

/* The inputs keep their levels: they are the other devices' state. */
static void ioapic_reset(struct device *d)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);

	pthread_mutex_lock(&io->lock);
	io->id = 0;
	io->select = 0;
	for (unsigned int i = 0; i < IOAPIC_PINS; i++) {
		io->rte[i] = RTE_MASKED;
		set_owed(io, i, 0);
	}
	pthread_mutex_unlock(&io->lock);
}

static void ioapic_destroy(struct device *d)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);

	gpa_space_remove_mmio(io->space, io->base);
	apic_bus_remove_ioapic(io->bus, io);
	pthread_mutex_destroy(&io->lock);
	free(io);
}

static const struct state_field ioapic_fields[] = {
	STATE_FIELD(struct ioapic, lines, BIT(IOAPIC_PINS) - 1),
	STATE_FIELD(struct ioapic, id, 0x0f000000),
	STATE_FIELD(struct ioapic, select, 0xff),
	STATE_ARRAY(struct ioapic, rte, UINT64_MAX),
	STATE_ARRAY(struct ioapic, owed, OWED_MAX),
};

static int ioapic_load_finish(struct device *d, struct err *e)
{
	struct ioapic *io = container_of(d, struct ioapic, dev);

	for (unsigned int i = 0; i < IOAPIC_PINS; i++)
		if (io->rte[i] & ~(RTE_WRITABLE | RTE_REMOTE_IRR))
			return err_set(e, EINVAL, "ioapic: entry %u of the saved state is impossible", i);
	for (unsigned int i = 0; i < IOAPIC_PINS; i++)
		set_owed(io, i, io->owed[i]);
	return 0;
}

static const struct device_ops ioapic_ops = {
	.model = "ioapic",
	.version = 2,
	.reset = ioapic_reset,
	.destroy = ioapic_destroy,
	.fields = ioapic_fields,
	.field_count = ARRAY_SIZE(ioapic_fields),
	.load_finish = ioapic_load_finish,
};

void ioapic_keep_edges(struct device *ioapic, unsigned int pin)
{
	struct ioapic *io = container_of(ioapic, struct ioapic, dev);

	io->kept_pins |= BIT(pin);
}

int ioapic_create(struct device **out, struct gpa_space *s, gpa_t base, struct apic_bus *bus,
		  struct err *e)
{
	struct ioapic *io = calloc(1, sizeof(*io));
	struct io_region r = { .name = "ioapic", .base = base, .size = IOAPIC_PAGE,
			       .ops = &ioapic_io, .dev = io };
	int rc;

	if (!io)
		return err_set(e, ENOMEM, "out of memory for the I/O APIC");
	io->dev.ops = &ioapic_ops;
	io->space = s;
	io->base = base;
	io->bus = bus;
	pthread_mutex_init(&io->lock, NULL);
	ioapic_reset(&io->dev);
	rc = gpa_space_add_mmio(s, &r, e);
	if (rc)
		goto fail;
	rc = apic_bus_add_ioapic(bus, ioapic_eoi, ioapic_taken, io);
	if (rc) {
		gpa_space_remove_mmio(s, base);
		err_set(e, ENOSPC, "a VM has at most %d I/O APICs", APIC_BUS_IOAPICS);
		goto fail;
	}
	*out = &io->dev;
	return 0;
fail:
	pthread_mutex_destroy(&io->lock);
	free(io);
	return rc;
}
