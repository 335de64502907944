// SPDX-License-Identifier: Apache-2.0
/*
 * Two 8259A interrupt controllers, the second behind input 2 of the first, with the edge
 * and level control registers (ELCR) of the PCI-to-ISA bridges.
 *
 * Source: Intel 8259A datasheet, "Programming the 8259A"; ELCR: Intel 82371AB (PIIX4)
 * datasheet, "Interrupt Controller".
 *
 * Not modelled: MCS-80 mode, buffered mode, ICW3 (the cascade is wired for good), the
 * LTIM bit of ICW1 (as in all chip sets with an ELCR).
 *
 * Departure: an edge-triggered request stays latched when its input falls before it is
 * acknowledged.  The chip wants it held, and emulated devices pulse.
 */
#include "dev/i8259.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define CASCADE		2	/* input of the first chip */

#define ICW1_IC4	BIT(0)
#define ICW1_INIT	BIT(4)
#define ICW4_AEOI	BIT(1)
#define ICW4_SFNM	BIT(4)
#define OCW2_LEVEL	0x07
#define OCW2_EOI	BIT(5)
#define OCW2_SL		BIT(6)
#define OCW2_R		BIT(7)
#define OCW3		BIT(3)
#define OCW3_RIS	BIT(0)
#define OCW3_RR		BIT(1)
#define OCW3_POLL	BIT(2)
#define OCW3_SMM	BIT(5)
#define OCW3_ESMM	BIT(6)
#define POLL_INT	BIT(7)

/* Which word a write to the odd port is. */
enum { EXPECT_OCW1, EXPECT_ICW2, EXPECT_ICW3, EXPECT_ICW4 };

struct pic_chip {
	uint8_t lines;		/* levels of the inputs */
	uint8_t irr, isr, imr;
	uint8_t elcr;		/* 1: level-triggered */
	uint8_t top;		/* the input of highest priority */
	uint8_t base;		/* vector of input 0 */
	uint8_t expect;		/* EXPECT_* */
	bool need_icw4;
	bool read_isr;		/* what the even port reads: ISR or IRR */
	bool poll;		/* the next read is a poll */
	bool special_mask;
	bool special_nested;
	bool auto_eoi;
	bool rotate_auto_eoi;
};

/* Lock: lock protects chip[] and intr_level; intr is driven with it held. */
struct pic {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;
	struct irq_line intr;
	bool intr_level;
	struct pic_chip chip[2];
};

static const uint8_t elcr_writable[2] = { 0xf8, 0xde };

/* The input of highest priority in @set, 8 if it is empty. */
static unsigned int highest(const struct pic_chip *c, uint8_t set)
{
	for (unsigned int i = 0; i < 8; i++)
		if (set >> ((c->top + i) & 7) & 1)
			return (c->top + i) & 7;
	return 8;
}

/* How far @irq is from the highest priority. */
static unsigned int rank(const struct pic_chip *c, unsigned int irq)
{
	return irq == 8 ? 8 : (irq - c->top) & 7;
}

/* The request that the chip would present now, 8: none. */
static unsigned int request(const struct pic *p, unsigned int n)
{
	const struct pic_chip *c = &p->chip[n];
	unsigned int irq = highest(c, c->irr & ~c->imr);
	uint8_t blocking = c->isr;

	if (c->special_mask)
		blocking &= ~c->imr;
	/* Another request of the second chip, of higher priority there, may come through. */
	if (n == 0 && c->special_nested)
		blocking &= ~BIT(CASCADE);
	return rank(c, irq) < rank(c, highest(c, blocking)) ? irq : 8;
}

static void set_input(struct pic_chip *c, unsigned int irq, bool level)
{
	uint8_t bit = BIT(irq);

	if (c->elcr & bit)
		c->irr = level ? c->irr | bit : c->irr & ~bit;
	else if (level && !(c->lines & bit))
		c->irr |= bit;
	c->lines = level ? c->lines | bit : c->lines & ~bit;
}

static void drive_intr(struct pic *p, bool level)
{
	if (p->intr_level == level)
		return;
	p->intr_level = level;
	irq_set(&p->intr, level);
}

static void update(struct pic *p)
{
	set_input(&p->chip[0], CASCADE, request(p, 1) < 8);
	drive_intr(p, request(p, 0) < 8);
}

static void rotate_behind(struct pic_chip *c, unsigned int irq)
{
	c->top = (irq + 1) & 7;
}

/* One chip's part of the INTA cycle, for its request @irq. */
static void acknowledge(struct pic_chip *c, unsigned int irq)
{
	uint8_t bit = BIT(irq);

	if (!(c->elcr & bit))
		c->irr &= ~bit;
	if (!c->auto_eoi)
		c->isr |= bit;
	else if (c->rotate_auto_eoi)
		rotate_behind(c, irq);
}

/* The chip's vector; a request that went away is answered as input 7, without ISR. */
static int inta(struct pic *p, unsigned int n)
{
	struct pic_chip *c = &p->chip[n];
	unsigned int irq = request(p, n);

	if (irq == 8)
		return c->base + 7;
	acknowledge(c, irq);
	if (n == 0 && irq == CASCADE) {
		/* The second chip drops INT during the cycle, so that a next one is an edge. */
		set_input(c, CASCADE, false);
		return inta(p, 1);
	}
	return c->base + irq;
}

int i8259_ack(void *pic)
{
	struct pic *p = container_of((struct device *)pic, struct pic, dev);
	int vector;

	pthread_mutex_lock(&p->lock);
	vector = inta(p, 0);
	drive_intr(p, false);
	update(p);
	pthread_mutex_unlock(&p->lock);
	return vector;
}

static void pic_set(void *sink, unsigned int irq, bool level)
{
	struct pic *p = sink;

	pthread_mutex_lock(&p->lock);
	set_input(&p->chip[irq >> 3], irq & 7, level);
	update(p);
	pthread_mutex_unlock(&p->lock);
}

struct irq_line i8259_line(struct device *pic, unsigned int irq)
{
	struct pic *p = container_of(pic, struct pic, dev);

	if (irq > 15 || irq == CASCADE)
		return (struct irq_line){ 0 };
	return (struct irq_line){ .set = pic_set, .sink = p, .pin = irq };
}

static void write_icw1(struct pic_chip *c, uint8_t value)
{
	c->irr &= c->elcr & c->lines;
	c->isr = 0;
	c->imr = 0;
	c->top = 0;
	c->read_isr = c->poll = c->special_mask = false;
	c->special_nested = c->auto_eoi = c->rotate_auto_eoi = false;
	c->need_icw4 = value & ICW1_IC4;
	c->expect = EXPECT_ICW2;
}

static void end_of_interrupt(struct pic_chip *c, uint8_t value)
{
	unsigned int irq = value & OCW2_LEVEL;

	if (!(value & OCW2_SL))
		irq = highest(c, c->special_mask ? c->isr & ~c->imr : c->isr);
	if (irq == 8)
		return;
	c->isr &= ~BIT(irq);
	if (value & OCW2_R)
		rotate_behind(c, irq);
}

static void write_ocw2(struct pic_chip *c, uint8_t value)
{
	if (value & OCW2_EOI)
		end_of_interrupt(c, value);
	else if ((value & (OCW2_R | OCW2_SL)) == (OCW2_R | OCW2_SL))
		rotate_behind(c, value & OCW2_LEVEL);
	else if (!(value & OCW2_SL))
		c->rotate_auto_eoi = value & OCW2_R;
}

static void write_ocw3(struct pic_chip *c, uint8_t value)
{
	if (value & OCW3_ESMM)
		c->special_mask = value & OCW3_SMM;
	if (value & OCW3_POLL)
		c->poll = true;
	else if (value & OCW3_RR)
		c->read_isr = value & OCW3_RIS;
}

static void write_odd(struct pic_chip *c, uint8_t value)
{
	switch (c->expect) {
	case EXPECT_ICW2:
		c->base = value & 0xf8;
		c->expect = EXPECT_ICW3;
		break;
	case EXPECT_ICW3:
		c->expect = c->need_icw4 ? EXPECT_ICW4 : EXPECT_OCW1;
		break;
	case EXPECT_ICW4:
		c->auto_eoi = value & ICW4_AEOI;
		c->special_nested = value & ICW4_SFNM;
		c->expect = EXPECT_OCW1;
		break;
	default:
		c->imr = value;
	}
}

/* A poll is an INTA cycle of this chip alone. */
static uint8_t poll(struct pic *p, unsigned int n)
{
	struct pic_chip *c = &p->chip[n];
	unsigned int irq = request(p, n);

	c->poll = false;
	if (irq == 8)
		return 0;
	acknowledge(c, irq);
	if (n == 0)
		drive_intr(p, false);
	else
		set_input(&p->chip[0], CASCADE, false);
	update(p);
	return POLL_INT | irq;
}

static uint8_t read_port(struct pic *p, unsigned int n, bool odd)
{
	struct pic_chip *c = &p->chip[n];

	if (c->poll)
		return poll(p, n);
	if (odd)
		return c->imr;
	return c->read_isr ? c->isr : c->irr;
}

static void write_port(struct pic *p, unsigned int n, bool odd, uint8_t value)
{
	struct pic_chip *c = &p->chip[n];

	if (odd)
		write_odd(c, value);
	else if (value & ICW1_INIT)
		write_icw1(c, value);
	else if (value & OCW3)
		write_ocw3(c, value);
	else
		write_ocw2(c, value);
	update(p);
}

static uint64_t chip_read(struct pic *p, unsigned int n, uint64_t off, unsigned int size)
{
	uint64_t value = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)read_port(p, n, off + i) << (8 * i);
	pthread_mutex_unlock(&p->lock);
	return value;
}

static void chip_write(struct pic *p, unsigned int n, uint64_t off, unsigned int size,
		       uint64_t value)
{
	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++)
		write_port(p, n, off + i, value >> (8 * i));
	pthread_mutex_unlock(&p->lock);
}

static uint64_t first_read(void *dev, uint64_t off, unsigned int size)
{
	return chip_read(dev, 0, off, size);
}

static void first_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	chip_write(dev, 0, off, size, value);
}

static uint64_t second_read(void *dev, uint64_t off, unsigned int size)
{
	return chip_read(dev, 1, off, size);
}

static void second_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	chip_write(dev, 1, off, size, value);
}

static uint64_t elcr_read(void *dev, uint64_t off, unsigned int size)
{
	struct pic *p = dev;
	uint64_t value = 0;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)p->chip[off + i].elcr << (8 * i);
	pthread_mutex_unlock(&p->lock);
	return value;
}

static void elcr_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pic *p = dev;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++) {
		struct pic_chip *c = &p->chip[off + i];

		c->elcr = value >> (8 * i) & elcr_writable[off + i];
		/* A level-triggered request is the input itself. */
		c->irr = (c->irr & ~c->elcr) | (c->lines & c->elcr);
	}
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static const struct io_ops first_ops = { .read = first_read, .write = first_write };
static const struct io_ops second_ops = { .read = second_read, .write = second_write };
static const struct io_ops elcr_ops = { .read = elcr_read, .write = elcr_write };

static const struct io_region pic_ports[] = {
	{ .name = "i8259 (IRQ 0-7)", .base = 0x20, .size = 2, .ops = &first_ops },
	{ .name = "i8259 (IRQ 8-15)", .base = 0xa0, .size = 2, .ops = &second_ops },
	{ .name = "i8259 ELCR", .base = 0x4d0, .size = 2, .ops = &elcr_ops },
};

/* The inputs keep their levels: they are the other devices' state. */
static void pic_reset(struct device *d)
{
	struct pic *p = container_of(d, struct pic, dev);

	pthread_mutex_lock(&p->lock);
	for (unsigned int n = 0; n < 2; n++)
		p->chip[n] = (struct pic_chip){ .lines = p->chip[n].lines };
	p->chip[0].lines &= ~BIT(CASCADE);
	drive_intr(p, false);
	pthread_mutex_unlock(&p->lock);
}

static void remove_ports(struct pic *p, unsigned int count)
{
	while (count--)
		gpa_space_remove_pio(p->space, pic_ports[count].base);
}

static void pic_destroy(struct device *d)
{
	struct pic *p = container_of(d, struct pic, dev);

	remove_ports(p, ARRAY_SIZE(pic_ports));
	pthread_mutex_destroy(&p->lock);
	free(p);
}

#define CHIP_FIELDS(n) \
	STATE_FIELD(struct pic, chip[n].lines, 0xff), \
	STATE_FIELD(struct pic, chip[n].irr, 0xff), \
	STATE_FIELD(struct pic, chip[n].isr, 0xff), \
	STATE_FIELD(struct pic, chip[n].imr, 0xff), \
	STATE_FIELD(struct pic, chip[n].elcr, 0xff), \
	STATE_FIELD(struct pic, chip[n].top, 7), \
	STATE_FIELD(struct pic, chip[n].base, 0xf8), \
	STATE_FIELD(struct pic, chip[n].expect, EXPECT_ICW4), \
	STATE_FIELD(struct pic, chip[n].need_icw4, 1), \
	STATE_FIELD(struct pic, chip[n].read_isr, 1), \
	STATE_FIELD(struct pic, chip[n].poll, 1), \
	STATE_FIELD(struct pic, chip[n].special_mask, 1), \
	STATE_FIELD(struct pic, chip[n].special_nested, 1), \
	STATE_FIELD(struct pic, chip[n].auto_eoi, 1), \
	STATE_FIELD(struct pic, chip[n].rotate_auto_eoi, 1)

static const struct state_field pic_fields[] = { CHIP_FIELDS(0), CHIP_FIELDS(1) };

static int pic_load_finish(struct device *d, struct err *e)
{
	struct pic *p = container_of(d, struct pic, dev);

	for (unsigned int n = 0; n < 2; n++)
		if (p->chip[n].elcr & ~elcr_writable[n] || p->chip[n].base & 7)
			return err_set(e, EINVAL, "i8259: the saved state has bits that the chip has not");
	pthread_mutex_lock(&p->lock);
	drive_intr(p, false);
	update(p);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static const struct device_ops pic_ops = {
	.model = "i8259",
	.version = 1,
	.reset = pic_reset,
	.destroy = pic_destroy,
	.fields = pic_fields,
	.field_count = ARRAY_SIZE(pic_fields),
	.load_finish = pic_load_finish,
};

int i8259_create(struct device **out, struct gpa_space *s, const struct irq_line *intr,
		 struct err *e)
{
	struct pic *p = calloc(1, sizeof(*p));
	struct io_region r;
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for the interrupt controllers");
	p->dev.ops = &pic_ops;
	p->space = s;
	p->intr = *intr;
	pthread_mutex_init(&p->lock, NULL);
	for (unsigned int i = 0; i < ARRAY_SIZE(pic_ports); i++) {
		r = pic_ports[i];
		r.dev = p;
		rc = gpa_space_add_pio(s, &r, e);
		if (rc) {
			remove_ports(p, i);
			pthread_mutex_destroy(&p->lock);
			free(p);
			return rc;
		}
	}
	*out = &p->dev;
	return 0;
}
