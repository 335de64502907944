// SPDX-License-Identifier: Apache-2.0
/*
 * The ISA pvpanic device of QEMU (docs/specs/pvpanic.txt): one port.  Reading it gives the
 * events it understands, writing reports one.  Linux's driver finds it by the ACPI name
 * QEMU0001.  That a crash kernel is taking over needs nothing from us: it will report its
 * own end.
 */
#include "dev/pvpanic.h"

#include <errno.h>
#include <stdlib.h>

#define PANICKED	BIT(0)
#define CRASH_LOADED	BIT(1)	/* a crash kernel runs now */

struct pvpanic {
	struct device dev;
	struct gpa_space *space;
	uint16_t port;
	struct power_line power;
};

static uint64_t pvpanic_read(void *dev, uint64_t off, unsigned int size)
{
	(void)dev;
	(void)off;
	(void)size;
	return PANICKED | CRASH_LOADED;
}

static void pvpanic_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct pvpanic *p = dev;

	(void)off;
	(void)size;
	if (value & PANICKED)
		power_event(&p->power, MACHINE_PANIC, 0);
}

static const struct io_ops pvpanic_io = { .read = pvpanic_read, .write = pvpanic_write };

static void pvpanic_reset(struct device *d)
{
	(void)d;	/* it has no state */
}

static void pvpanic_destroy(struct device *d)
{
	struct pvpanic *p = container_of(d, struct pvpanic, dev);

	gpa_space_remove_pio(p->space, p->port);
	free(p);
}

static const struct device_ops pvpanic_ops = {
	.model = "pvpanic",
	.version = 1,
	.reset = pvpanic_reset,
	.destroy = pvpanic_destroy,
};

int pvpanic_create(struct device **out, struct gpa_space *s, uint16_t port,
		   const struct power_line *power, struct err *e)
{
	struct pvpanic *p = calloc(1, sizeof(*p));
	struct io_region region = { "pvpanic", port, 1, &pvpanic_io, p };
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for the panic port");
	p->dev.ops = &pvpanic_ops;
	p->space = s;
	p->port = port;
	p->power = *power;
	rc = gpa_space_add_pio(s, &region, e);
	if (rc) {
		free(p);
		return rc;
	}
	*out = &p->dev;
	return 0;
}
