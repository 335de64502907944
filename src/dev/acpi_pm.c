// SPDX-License-Identifier: Apache-2.0
/*
 * ACPI fixed hardware: PM1a event and control blocks, 24-bit PM timer, one GPE block,
 * the SMI command port that switches to ACPI mode, the power button.
 *
 * Source: ACPI specification, "ACPI Hardware Specification" (Fixed Hardware Features and
 * Registers).
 *
 * Not modelled: sleep states other than S5 (SLP_EN with another type does nothing), the
 * sleep button, legacy mode behind SMIs (the SMI command only sets SCI_EN).
 */
#include "dev/acpi_pm.h"

#include <errno.h>
#include <stdlib.h>

#define STS_TMR		0x0001
#define STS_PWRBTN	0x0100
#define STS_VALID	0x8731	/* TMR BM GBL PWRBTN SLPBTN RTC WAK */
#define EN_TMR		0x0001
#define EN_VALID	0x0721
#define CNT_SCI_EN	0x0001
#define CNT_SLP_TYP	0x1c00
#define CNT_SLP_EN	0x2000
#define CNT_VALID	(CNT_SLP_TYP | 0x0002)	/* what is kept as written; BM_RLD */
#define TIMER_MASK	0xffffffU
#define TIMER_TOGGLE	0x800000U	/* TMR_STS tells when this bit changed */

/* (i) constant; everything else under lock */
struct acpi_pm {
	struct device dev;
	pthread_mutex_t lock;
	struct gpa_space *space;	/* (i) */
	struct acpi_pm_ports at;	/* (i) */
	struct clock *clock;		/* (i) */
	struct irq_line sci;		/* (i) */
	struct power_line power;	/* (i) */
	uint16_t pm1_status, pm1_enable, pm1_control;
	uint16_t gpe0_status, gpe0_enable;
	uint8_t smi_command, smi_data;
	uint64_t toggles;		/* of the timer's high bit, accounted in TMR_STS */
	struct timer timer;		/* at the next toggle, while EN_TMR */
};

static struct acpi_pm *to_pm(struct device *d)
{
	return container_of(d, struct acpi_pm, dev);
}

static uint64_t timer_count(const struct acpi_pm *p)
{
	return muldiv64(clock_now(p->clock), PM_TIMER_HZ, NS_PER_SEC);
}

/* Accounts for toggles, drives the SCI, arms the timer. */
static void update(struct acpi_pm *p)
{
	uint64_t toggles = timer_count(p) / TIMER_TOGGLE;
	bool sci;

	if (toggles != p->toggles)
		p->pm1_status |= STS_TMR;
	p->toggles = toggles;
	sci = p->pm1_control & CNT_SCI_EN &&
	      (p->pm1_status & p->pm1_enable || p->gpe0_status & p->gpe0_enable);
	irq_set(&p->sci, sci);
	if (p->pm1_enable & EN_TMR && !(p->pm1_status & STS_TMR))
		timer_set(&p->timer, muldiv64((toggles + 1) * TIMER_TOGGLE, NS_PER_SEC,
					      PM_TIMER_HZ) + 1);
	else
		timer_cancel(&p->timer);
}

static void timer_fired(void *arg)
{
	struct acpi_pm *p = arg;

	pthread_mutex_lock(&p->lock);
	update(p);
	pthread_mutex_unlock(&p->lock);
}

/* The whole block as little-endian bytes, so that any access width reads true. */
static uint64_t read_bytes(const uint8_t *image, uint64_t off, unsigned int size)
{
	uint64_t value = 0;

	for (unsigned int i = 0; i < size; i++)
		value |= (uint64_t)image[off + i] << (8 * i);
	return value;
}

static void put16(uint8_t *to, uint16_t value)
{
	to[0] = value;
	to[1] = value >> 8;
}

/* Byte @i of a 16-bit register was written: @value in its place, and the mask of it. */
static uint16_t place(uint8_t value, unsigned int i, uint16_t *mask)
{
	*mask = 0xff << (8 * i);
	return (uint16_t)value << (8 * i);
}

/* --- PM1 and the timer --- */

static uint64_t pm_read(void *dev, uint64_t off, unsigned int size)
{
	struct acpi_pm *p = dev;
	uint8_t image[PM_BLOCK_SIZE] = { 0 };
	uint32_t count;

	pthread_mutex_lock(&p->lock);
	update(p);
	count = timer_count(p) & TIMER_MASK;
	put16(image + PM1_EVENT, p->pm1_status);
	put16(image + PM1_EVENT + 2, p->pm1_enable);
	put16(image + PM1_CONTROL, p->pm1_control);
	put16(image + PM_TIMER, count);
	put16(image + PM_TIMER + 2, count >> 16);
	pthread_mutex_unlock(&p->lock);
	return read_bytes(image, off, size);
}

/* Returns true if the machine is to power off. */
static bool write_control(struct acpi_pm *p, uint16_t value, uint16_t mask)
{
	uint16_t kept = mask & CNT_VALID;

	p->pm1_control = (p->pm1_control & ~kept) | (value & kept);
	return value & CNT_SLP_EN && (p->pm1_control & CNT_SLP_TYP) >> 10 == SLP_TYP_S5;
}

static bool write_pm_byte(struct acpi_pm *p, unsigned int off, uint8_t byte)
{
	uint16_t mask, value = place(byte, off & 1, &mask);

	switch (off & ~1U) {
	case PM1_EVENT:
		p->pm1_status &= ~value;
		break;
	case PM1_EVENT + 2:
		p->pm1_enable = ((p->pm1_enable & ~mask) | value) & EN_VALID;
		break;
	case PM1_CONTROL:
		return write_control(p, value, mask);
	}
	return false;
}

static void pm_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *p = dev;
	bool off_now = false;

	pthread_mutex_lock(&p->lock);
	update(p);
	for (unsigned int i = 0; i < size; i++)
		off_now |= write_pm_byte(p, off + i, value >> (8 * i));
	update(p);
	pthread_mutex_unlock(&p->lock);
	if (off_now)
		power_event(&p->power, MACHINE_POWEROFF, 0);
}

static const struct io_ops pm_io = { .read = pm_read, .write = pm_write };

/* --- GPE0 --- */

static uint64_t gpe_read(void *dev, uint64_t off, unsigned int size)
{
	struct acpi_pm *p = dev;
	uint8_t image[GPE0_SIZE];

	pthread_mutex_lock(&p->lock);
	put16(image, p->gpe0_status);
	put16(image + 2, p->gpe0_enable);
	pthread_mutex_unlock(&p->lock);
	return read_bytes(image, off, size);
}

static void gpe_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *p = dev;

	pthread_mutex_lock(&p->lock);
	for (unsigned int i = 0; i < size; i++) {
		uint16_t mask, v = place(value >> (8 * i), (off + i) & 1, &mask);

		if (off + i < 2)
			p->gpe0_status &= ~v;
		else
			p->gpe0_enable = (p->gpe0_enable & ~mask) | v;
	}
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static const struct io_ops gpe_io = { .read = gpe_read, .write = gpe_write };

void acpi_pm_event(struct device *pm, unsigned int n)
{
	struct acpi_pm *p = to_pm(pm);

	pthread_mutex_lock(&p->lock);
	p->gpe0_status |= 1U << n;
	update(p);
	pthread_mutex_unlock(&p->lock);
}

/* --- SMI command --- */

static uint64_t smi_read(void *dev, uint64_t off, unsigned int size)
{
	struct acpi_pm *p = dev;
	uint8_t image[2];

	pthread_mutex_lock(&p->lock);
	image[0] = p->smi_command;
	image[1] = p->smi_data;
	pthread_mutex_unlock(&p->lock);
	return read_bytes(image, off, size);
}

static void smi_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct acpi_pm *p = dev;

	pthread_mutex_lock(&p->lock);
	if (off + size == 2)
		p->smi_data = value >> (8 * (size - 1));
	if (off == 0) {
		p->smi_command = value;
		if (p->smi_command == SMI_ACPI_ENABLE)
			p->pm1_control |= CNT_SCI_EN;
		else if (p->smi_command == SMI_ACPI_DISABLE)
			p->pm1_control &= ~CNT_SCI_EN;
		update(p);
	}
	pthread_mutex_unlock(&p->lock);
}

static const struct io_ops smi_io = { .read = smi_read, .write = smi_write };

void acpi_pm_power_button(struct device *pm)
{
	struct acpi_pm *p = to_pm(pm);
	bool acpi;

	pthread_mutex_lock(&p->lock);
	acpi = p->pm1_control & CNT_SCI_EN;
	if (acpi) {
		p->pm1_status |= STS_PWRBTN;
		update(p);
	}
	pthread_mutex_unlock(&p->lock);
	if (!acpi)
		power_event(&p->power, MACHINE_POWEROFF, 0);
}

/* --- as a device --- */

static void pm_reset(struct device *d)
{
	struct acpi_pm *p = to_pm(d);

	pthread_mutex_lock(&p->lock);
	p->pm1_status = p->pm1_enable = p->pm1_control = 0;
	p->gpe0_status = p->gpe0_enable = 0;
	p->smi_command = p->smi_data = 0;
	p->toggles = timer_count(p) / TIMER_TOGGLE;
	update(p);
	pthread_mutex_unlock(&p->lock);
}

static void pm_destroy(struct device *d)
{
	struct acpi_pm *p = to_pm(d);

	timer_cancel(&p->timer);
	gpa_space_remove_pio(p->space, p->at.pm);
	gpa_space_remove_pio(p->space, p->at.gpe0);
	gpa_space_remove_pio(p->space, p->at.smi);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static int pm_load_finish(struct device *d, struct err *e)
{
	struct acpi_pm *p = to_pm(d);

	(void)e;
	pthread_mutex_lock(&p->lock);
	update(p);
	pthread_mutex_unlock(&p->lock);
	return 0;
}

static const struct state_field pm_fields[] = {
	STATE_FIELD(struct acpi_pm, pm1_status, STS_VALID),
	STATE_FIELD(struct acpi_pm, pm1_enable, EN_VALID),
	STATE_FIELD(struct acpi_pm, pm1_control, CNT_VALID | CNT_SCI_EN),
	STATE_FIELD(struct acpi_pm, gpe0_status, 0xffff),
	STATE_FIELD(struct acpi_pm, gpe0_enable, 0xffff),
	STATE_FIELD(struct acpi_pm, smi_command, 0xff),
	STATE_FIELD(struct acpi_pm, smi_data, 0xff),
	STATE_FIELD(struct acpi_pm, toggles, UINT64_MAX),
};

static const struct device_ops pm_ops = {
	.model = "acpi_pm",
	.version = 1,
	.reset = pm_reset,
	.destroy = pm_destroy,
	.fields = pm_fields,
	.field_count = ARRAY_SIZE(pm_fields),
	.load_finish = pm_load_finish,
};

static int add_regions(struct acpi_pm *p, struct err *e)
{
	const struct io_region region[] = {
		{ "acpi pm", p->at.pm, PM_BLOCK_SIZE, &pm_io, p },
		{ "acpi gpe0", p->at.gpe0, GPE0_SIZE, &gpe_io, p },
		{ "acpi smi command", p->at.smi, 2, &smi_io, p },
	};
	int rc;

	for (unsigned int i = 0; i < ARRAY_SIZE(region); i++) {
		rc = gpa_space_add_pio(p->space, &region[i], e);
		if (!rc)
			continue;
		while (i--)
			gpa_space_remove_pio(p->space, region[i].base);
		return rc;
	}
	return 0;
}

int acpi_pm_create(struct device **out, struct gpa_space *s, const struct acpi_pm_ports *at,
		   struct clock *clock, const struct irq_line *sci,
		   const struct power_line *power, struct err *e)
{
	struct acpi_pm *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for the ACPI registers");
	p->dev.ops = &pm_ops;
	p->space = s;
	p->at = *at;
	p->clock = clock;
	p->sci = *sci;
	p->power = *power;
	pthread_mutex_init(&p->lock, NULL);
	timer_init(&p->timer, clock, timer_fired, p);
	rc = add_regions(p, e);
	if (rc) {
		pthread_mutex_destroy(&p->lock);
		free(p);
		return rc;
	}
	pm_reset(&p->dev);
	*out = &p->dev;
	return 0;
}
