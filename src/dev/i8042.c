// SPDX-License-Identifier: Apache-2.0
/*
 * 8042 keyboard controller: command byte, self-test, output port with the reset pulse,
 * and a keyboard that answers its commands.
 *
 * Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
 * Device Controller", "101- and 102-Key Keyboards".
 *
 * Not modelled: keys (so no scan codes and no translation), an auxiliary device (its
 * test fails and its loop command answers as the keyboard, which is how a driver sees at
 * once that there is none), the A20 gate (the bit is kept, the gate is always open).
 */
#include "dev/i8042.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define STATUS_OBF	0x01
#define STATUS_SYS	0x04
#define STATUS_COMMAND	0x08	/* the last write was to port 64h */
#define STATUS_UNLOCKED	0x10
#define STATUS_TIMEOUT	0x40

#define CTR_KBD_INT	0x01
#define CTR_SYS		0x04
#define CTR_KBD_OFF	0x10
#define CTR_AUX_OFF	0x20
#define CTR_XLATE	0x40

#define OUTPUT_RESET	0x01	/* low resets the machine */
#define OUTPUT_A20	0x02

#define KBD_ACK		0xfa
#define KBD_RESEND	0xfe
#define KBD_PASSED	0xaa
#define KBD_QUEUE	16

/* (i) constant; everything else under lock */
struct i8042 {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	struct irq_line irq;		/* (i) */
	struct power_line power;	/* (i) */
	uint8_t ram[32];		/* [0]: the command byte */
	uint8_t output;			/* output port */
	uint8_t data, status;		/* output buffer and what tells of it */
	bool from_kbd;			/* data came from the keyboard */
	uint8_t command;		/* that waits for a byte at port 60h, 0: none */
	uint8_t kbd_command;		/* the same of the keyboard's */
	uint8_t kbd_set;		/* scan code set */
	uint8_t kbd[KBD_QUEUE];		/* on its way from the keyboard */
	uint8_t kbd_count;
};

static struct i8042 *to_i8042(struct device *d)
{
	return container_of(d, struct i8042, dev);
}

/* Moves the next byte into the output buffer, and drives IRQ 1. */
static void update(struct i8042 *k)
{
	uint8_t ctr = k->ram[0];

	if (!(k->status & STATUS_OBF) && k->kbd_count && !(ctr & CTR_KBD_OFF)) {
		k->data = k->kbd[0];
		k->kbd_count--;
		memmove(k->kbd, k->kbd + 1, k->kbd_count);
		k->from_kbd = true;
		k->status |= STATUS_OBF;
	}
	irq_set(&k->irq, k->status & STATUS_OBF && k->from_kbd && ctr & CTR_KBD_INT);
}

/* An answer of the controller itself; it replaces what nobody fetched. */
static void answer(struct i8042 *k, uint8_t value)
{
	k->data = value;
	k->from_kbd = false;
	k->status = (k->status & ~STATUS_TIMEOUT) | STATUS_OBF;
}

static void kbd_send(struct i8042 *k, uint8_t value)
{
	if (k->kbd_count < KBD_QUEUE)
		k->kbd[k->kbd_count++] = value;
}

static void kbd_defaults(struct i8042 *k)
{
	k->kbd_command = 0;
	k->kbd_set = 2;
	k->kbd_count = 0;
}

/* --- the keyboard --- */

static void kbd_parameter(struct i8042 *k, uint8_t value)
{
	uint8_t command = k->kbd_command;

	k->kbd_command = 0;
	kbd_send(k, KBD_ACK);
	if (command != 0xf0)
		return;
	if (!value)
		kbd_send(k, k->kbd_set);
	else if (value <= 3)
		k->kbd_set = value;
}

static void kbd_write(struct i8042 *k, uint8_t value)
{
	if (k->kbd_command && value < 0xed) {
		kbd_parameter(k, value);
		return;
	}
	k->kbd_command = 0;
	switch (value) {
	case 0xed:	/* LEDs */
	case 0xf0:	/* scan code set */
	case 0xf3:	/* typematic rate */
		k->kbd_command = value;
		kbd_send(k, KBD_ACK);
		break;
	case 0xee:	/* echo */
		kbd_send(k, 0xee);
		break;
	case 0xf2:	/* identify */
		kbd_send(k, KBD_ACK);
		kbd_send(k, 0xab);
		kbd_send(k, 0x83);
		break;
	case 0xf5:	/* defaults and stop, defaults */
	case 0xf6:
		kbd_defaults(k);
		kbd_send(k, KBD_ACK);
		break;
	case 0xf4:	/* enable */
	case 0xf7 ... 0xfa: /* all keys typematic, make-break, ... */
		kbd_send(k, KBD_ACK);
		break;
	case 0xff:	/* reset */
		kbd_defaults(k);
		kbd_send(k, KBD_ACK);
		kbd_send(k, KBD_PASSED);
		break;
	default:
		kbd_send(k, KBD_RESEND);
		break;
	}
}

/* --- the controller --- */

/* Returns true if the machine is to be reset. */
static bool write_output(struct i8042 *k, uint8_t value)
{
	k->output = value | OUTPUT_RESET;
	return !(value & OUTPUT_RESET);
}

static bool write_command(struct i8042 *k, uint8_t value)
{
	k->command = 0;
	switch (value) {
	case 0x20 ... 0x3f:	/* read RAM */
		answer(k, k->ram[value & 0x1f]);
		break;
	case 0x60 ... 0x7f:	/* write RAM */
	case 0xd1 ... 0xd4:	/* write output port, output buffers, auxiliary device */
		k->command = value;
		break;
	case 0xa4:		/* is a password set? */
		answer(k, 0xf1);
		break;
	case 0xa7:
		k->ram[0] |= CTR_AUX_OFF;
		break;
	case 0xa8:
		k->ram[0] &= ~CTR_AUX_OFF;
		break;
	case 0xa9:		/* test the auxiliary lines: clock stuck low */
		answer(k, 0x01);
		break;
	case 0xaa:		/* self-test */
		k->ram[0] |= CTR_SYS;
		answer(k, 0x55);
		break;
	case 0xab:		/* test the keyboard lines: well */
		answer(k, 0x00);
		break;
	case 0xad:
		k->ram[0] |= CTR_KBD_OFF;
		break;
	case 0xae:
		k->ram[0] &= ~CTR_KBD_OFF;
		break;
	case 0xc0:		/* input port: keyboard not locked */
		answer(k, 0x80);
		break;
	case 0xd0:
		answer(k, k->output);
		break;
	case 0xf0 ... 0xff:	/* pulses the output lines that are 0 here */
		return !(value & OUTPUT_RESET);
	}
	return false;
}

static bool write_data(struct i8042 *k, uint8_t value)
{
	uint8_t command = k->command;

	k->command = 0;
	switch (command) {
	case 0x60 ... 0x7f:
		k->ram[command & 0x1f] = value;
		return false;
	case 0xd1:
		return write_output(k, value);
	case 0xd2:		/* as if the keyboard had sent it */
		answer(k, value);
		k->from_kbd = true;
		return false;
	case 0xd3:
		answer(k, value);
		return false;
	case 0xd4:		/* nothing takes it */
		answer(k, KBD_RESEND);
		k->status |= STATUS_TIMEOUT;
		return false;
	default:
		/* Sending to the keyboard starts its clock. */
		k->ram[0] &= ~CTR_KBD_OFF;
		kbd_write(k, value);
		return false;
	}
}

static uint64_t i8042_read_data(void *dev, uint64_t off, unsigned int size)
{
	struct i8042 *k = dev;
	uint8_t value;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	value = k->data;
	k->status &= ~(STATUS_OBF | STATUS_TIMEOUT);
	/* The line falls between two bytes, which makes an edge for the next. */
	irq_set(&k->irq, false);
	update(k);
	pthread_mutex_unlock(&k->lock);
	return value;
}

static uint64_t i8042_read_status(void *dev, uint64_t off, unsigned int size)
{
	struct i8042 *k = dev;
	uint8_t value;

	(void)off;
	(void)size;
	pthread_mutex_lock(&k->lock);
	value = k->status | STATUS_UNLOCKED | (k->ram[0] & CTR_SYS ? STATUS_SYS : 0);
	pthread_mutex_unlock(&k->lock);
	return value;
}

static void i8042_write(struct i8042 *k, bool command, uint8_t value)
{
	bool reset;

	pthread_mutex_lock(&k->lock);
	if (command)
		k->status |= STATUS_COMMAND;
	else
		k->status &= ~STATUS_COMMAND;
	reset = command ? write_command(k, value) : write_data(k, value);
	update(k);
	pthread_mutex_unlock(&k->lock);
	if (reset)
		power_event(&k->power, MACHINE_RESET, 0);
}

static void i8042_write_data(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	(void)off;
	(void)size;
	i8042_write(dev, false, value);
}

static void i8042_write_command(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	(void)off;
	(void)size;
	i8042_write(dev, true, value);
}

static const struct io_ops data_io = { .read = i8042_read_data, .write = i8042_write_data };
static const struct io_ops command_io = {
	.read = i8042_read_status, .write = i8042_write_command,
};

/* --- as a device --- */

static void i8042_reset(struct device *d)
{
	struct i8042 *k = to_i8042(d);

	pthread_mutex_lock(&k->lock);
	memset(k->ram, 0, sizeof(k->ram));
	/* As a PC's firmware leaves it. */
	k->ram[0] = CTR_KBD_INT | CTR_SYS | CTR_AUX_OFF | CTR_XLATE;
	k->output = OUTPUT_RESET | OUTPUT_A20;
	k->data = k->status = k->command = 0;
	k->from_kbd = false;
	kbd_defaults(k);
	update(k);
	pthread_mutex_unlock(&k->lock);
}

static void i8042_destroy(struct device *d)
{
	struct i8042 *k = to_i8042(d);

	gpa_space_remove_pio(k->space, 0x60);
	gpa_space_remove_pio(k->space, 0x64);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

static int i8042_load_finish(struct device *d, struct err *e)
{
	struct i8042 *k = to_i8042(d);

	(void)e;
	pthread_mutex_lock(&k->lock);
	update(k);
	pthread_mutex_unlock(&k->lock);
	return 0;
}

static const struct state_field i8042_fields[] = {
	STATE_ARRAY(struct i8042, ram, 0xff),
	STATE_FIELD(struct i8042, output, 0xff),
	STATE_FIELD(struct i8042, data, 0xff),
	STATE_FIELD(struct i8042, status, STATUS_OBF | STATUS_COMMAND | STATUS_TIMEOUT),
	STATE_FIELD(struct i8042, from_kbd, 1),
	STATE_FIELD(struct i8042, command, 0xff),
	STATE_FIELD(struct i8042, kbd_command, 0xff),
	STATE_FIELD(struct i8042, kbd_set, 3),
	STATE_ARRAY(struct i8042, kbd, 0xff),
	STATE_FIELD(struct i8042, kbd_count, KBD_QUEUE),
};

static const struct device_ops i8042_ops = {
	.model = "i8042",
	.version = 1,
	.reset = i8042_reset,
	.destroy = i8042_destroy,
	.fields = i8042_fields,
	.field_count = ARRAY_SIZE(i8042_fields),
	.load_finish = i8042_load_finish,
};

int i8042_create(struct device **out, struct gpa_space *s, const struct irq_line *irq,
		 const struct power_line *power, struct err *e)
{
	struct i8042 *k = calloc(1, sizeof(*k));
	struct io_region data = { "i8042 data", 0x60, 1, &data_io, k };
	struct io_region command = { "i8042 command", 0x64, 1, &command_io, k };
	int rc;

	if (!k)
		return err_set(e, ENOMEM, "out of memory for the keyboard controller");
	k->dev.ops = &i8042_ops;
	k->space = s;
	k->irq = *irq;
	k->power = *power;
	pthread_mutex_init(&k->lock, NULL);
	rc = gpa_space_add_pio(s, &data, e);
	if (rc)
		goto fail;
	rc = gpa_space_add_pio(s, &command, e);
	if (rc) {
		gpa_space_remove_pio(s, 0x60);
		goto fail;
	}
	i8042_reset(&k->dev);
	*out = &k->dev;
	return 0;
fail:
	pthread_mutex_destroy(&k->lock);
	free(k);
	return rc;
}
