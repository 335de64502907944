/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every device gives the machine: reset, and a field table that saves and
 * loads its state.  A device is created by its own constructor, whose arguments
 * are its wires (address space, base, interrupt lines, clock); the machine keeps
 * it as struct device.  One .c a device: registers, state struct, read, write,
 * reset, state fields, ops.
 */
#ifndef VIREO_DEV_DEVICE_H
#define VIREO_DEV_DEVICE_H

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/types.h"
#include "base/wire.h"
#include "mem/space.h"

/* One saved field: an integer (count 1) or an array of them, named as in the datasheet. */
struct state_field {
	const char *name;
	uint32_t offset;	/* in the device's struct */
	uint16_t size;		/* bytes of one element: 1, 2, 4, 8 */
	uint16_t count;
	uint64_t max;		/* the largest value a load accepts */
};

#define STATE_FIELD(type, member, maximum) \
	{ .name = #member, .offset = offsetof(type, member), \
	  .size = sizeof(((type *)0)->member), .count = 1, .max = (maximum) }
#define STATE_ARRAY(type, member, maximum) \
	{ .name = #member, .offset = offsetof(type, member), \
	  .size = sizeof(((type *)0)->member[0]), \
	  .count = ARRAY_SIZE(((type *)0)->member), .max = (maximum) }

struct device;

struct device_ops {
	const char *model;	/* "i8254": names the state record, not the implementation */
	unsigned int version;	/* of the record */
	void (*reset)(struct device *d);
	void (*destroy)(struct device *d);	/* frees @d; timers are cancelled */
	const struct state_field *fields;
	unsigned int field_count;
	void (*save_prepare)(struct device *d);	/* may be NULL: state into fields */
	/* May be NULL: fields into state (timers, lines); -EINVAL on nonsense. */
	int (*load_finish)(struct device *d, struct err *e);
};

struct device {
	const struct device_ops *ops;
	struct device *next;	/* the machine's list */
};

#endif
