// SPDX-License-Identifier: Apache-2.0
/*
 * Two ports of a PC's board: 92h with the fast reset and the A20 gate, 80h where firmware
 * leaves its progress and systems write to pass a microsecond.
 *
 * Source: IBM PS/2 Hardware Interface Technical Reference, "System Control Port A".
 * Not modelled: the A20 gate (the bit is kept, the gate is always open), the security lock
 * and the disk light.
 */
#include "dev/system_control.h"

#include <errno.h>
#include <stdlib.h>

#define PORT_A		0x92
#define PORT_POST	0x80
#define A_RESET		0x01	/* becoming 1 resets */
#define A_A20		0x02

/* (i) constant; everything else under lock */
struct system_control {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	struct power_line power;	/* (i) */
	uint8_t port_a, post;
};

static struct system_control *to_control(struct device *d)
{
	return container_of(d, struct system_control, dev);
}

static uint64_t control_read(void *dev, uint64_t off, unsigned int size)
{
	struct system_control *c = dev;
	uint64_t value;

	(void)off;
	(void)size;
	pthread_mutex_lock(&c->lock);
	value = c->port_a;
	pthread_mutex_unlock(&c->lock);
	return value;
}

static void control_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct system_control *c = dev;
	bool reset;

	(void)off;
	(void)size;
	pthread_mutex_lock(&c->lock);
	reset = value & ~c->port_a & A_RESET;
	c->port_a = value;
	pthread_mutex_unlock(&c->lock);
	if (reset)
		power_event(&c->power, MACHINE_RESET, 0);
}

static uint64_t post_read(void *dev, uint64_t off, unsigned int size)
{
	struct system_control *c = dev;
	uint64_t value;

	(void)off;
	(void)size;
	pthread_mutex_lock(&c->lock);
	value = c->post;
	pthread_mutex_unlock(&c->lock);
	return value;
}

static void post_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct system_control *c = dev;

	(void)off;
	(void)size;
	pthread_mutex_lock(&c->lock);
	c->post = value;
	pthread_mutex_unlock(&c->lock);
}

static const struct io_ops control_io = { .read = control_read, .write = control_write };
static const struct io_ops post_io = {
	.read = post_read, .write = post_write, .posted = true,
};

static void control_reset(struct device *d)
{
	struct system_control *c = to_control(d);

	pthread_mutex_lock(&c->lock);
	c->port_a = A_A20;
	c->post = 0;
	pthread_mutex_unlock(&c->lock);
}

static void control_destroy(struct device *d)
{
	struct system_control *c = to_control(d);

	gpa_space_remove_pio(c->space, PORT_A);
	gpa_space_remove_pio(c->space, PORT_POST);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

static const struct state_field control_fields[] = {
	STATE_FIELD(struct system_control, port_a, 0xff),
	STATE_FIELD(struct system_control, post, 0xff),
};

static const struct device_ops control_ops = {
	.model = "system_control",
	.version = 1,
	.reset = control_reset,
	.destroy = control_destroy,
	.fields = control_fields,
	.field_count = ARRAY_SIZE(control_fields),
};

int system_control_create(struct device **out, struct gpa_space *s,
			  const struct power_line *power, struct err *e)
{
	struct system_control *c = calloc(1, sizeof(*c));
	struct io_region port_a = { "system control port A", PORT_A, 1, &control_io, c };
	struct io_region post = { "diagnostic port", PORT_POST, 1, &post_io, c };
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for the system control ports");
	c->dev.ops = &control_ops;
	c->space = s;
	c->power = *power;
	pthread_mutex_init(&c->lock, NULL);
	rc = gpa_space_add_pio(s, &port_a, e);
	if (!rc) {
		rc = gpa_space_add_pio(s, &post, e);
		if (rc)
			gpa_space_remove_pio(s, PORT_A);
	}
	if (rc) {
		pthread_mutex_destroy(&c->lock);
		free(c);
		return rc;
	}
	control_reset(&c->dev);
	*out = &c->dev;
	return 0;
}
