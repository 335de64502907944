// SPDX-License-Identifier: Apache-2.0
/*
 * The isa-debug-exit device that test kernels know from QEMU (there: hw/misc/debugexit.c):
 * the process's exit status becomes (value << 1) | 1, never 0.  Not on a real PC, so it is
 * there on request only.
 */
#include "dev/debugexit.h"

#include <errno.h>
#include <stdlib.h>

#define PORTS 4

struct debugexit {
	struct device dev;
	struct gpa_space *space;
	uint16_t base;
	struct power_line power;
};

/* Reads see nothing, as QEMU's do: a probe must not end the machine. */
static uint64_t debugexit_read(void *dev, uint64_t off, unsigned int size)
{
	(void)dev;
	(void)off;
	(void)size;
	return 0;
}

static void debugexit_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct debugexit *x = dev;

	(void)off;
	(void)size;
	power_event(&x->power, MACHINE_DEBUG_EXIT, (unsigned int)value << 1 | 1);
}

static const struct io_ops debugexit_io = { .read = debugexit_read, .write = debugexit_write };

static void debugexit_reset(struct device *d)
{
	(void)d;	/* it has no state */
}

static void debugexit_destroy(struct device *d)
{
	struct debugexit *x = container_of(d, struct debugexit, dev);

	gpa_space_remove_pio(x->space, x->base);
	free(x);
}

static const struct device_ops debugexit_ops = {
	.model = "isa-debug-exit",
	.version = 1,
	.reset = debugexit_reset,
	.destroy = debugexit_destroy,
};

int debugexit_create(struct device **out, struct gpa_space *s, uint16_t base,
		     const struct power_line *power, struct err *e)
{
	struct debugexit *x = calloc(1, sizeof(*x));
	struct io_region region = { "debug exit", base, PORTS, &debugexit_io, x };
	int rc;

	if (!x)
		return err_set(e, ENOMEM, "out of memory for the debug exit port");
	x->dev.ops = &debugexit_ops;
	x->space = s;
	x->base = base;
	x->power = *power;
	rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		free(x);
		return rc;
	}
	*out = &x->dev;
	return 0;
}
