// SPDX-License-Identifier: Apache-2.0
/*
 * The watchdog timer of the 6300ESB: two stages, of which the first interrupts and the second
 * ends the machine's patience.
 *
 * Source: Intel 6300ESB I/O Controller Hub data sheet, "Watchdog Timer (WDT)".
 * Departures: a stage lasts a millisecond at least, so that a guest cannot keep our event loop
 * busy; an SMI is never sent; what the WDT_TOUT# pin does is the user's choice.
 */
#include "dev/i6300esb.h"

#include <errno.h>
#include <stdlib.h>

#define PCI_CLOCK	33000000ULL
#define PRELOAD_MAX	0xfffffU
#define STAGE_MIN_NS	1000000ULL

/* Configuration space. */
#define WDT_CONFIG	0x60	/* 16 bits */
#define CONFIG_INT_MASK	0x0003	/* 0: INTx, 3: none; 2, an SMI, is none here */
#define CONFIG_FREQ	0x0004	/* 1 MHz instead of 1 kHz */
#define CONFIG_OUTPUT	0x0020	/* set: the second stage only sets the status */
#define WDT_LOCK	0x68	/* 8 bits */
#define LOCK_LOCKED	0x01
#define LOCK_ENABLE	0x02
#define LOCK_FREE_RUN	0x04
#define HOOK_OFF	WDT_CONFIG
#define HOOK_LEN	12U

/* BAR 0. */
#define BAR_SIZE	16U
#define PRELOAD_1	0x00
#define PRELOAD_2	0x04
#define INT_STATUS	0x08
#define RELOAD		0x0c
#define RELOAD_RELOAD	0x100
#define RELOAD_TIMEOUT	0x200
#define UNLOCK_1	0x80
#define UNLOCK_2	0x86

/* (o) under lock; the rest is constant */
struct i6300esb {
	struct device dev;
	struct pci_function pci;
	struct clock *clock;
	struct watchdog_wire bite;
	struct timer timer;
	pthread_mutex_t lock;
	uint32_t preload[2];		/* (o) */
	uint16_t config;		/* (o) */
	uint8_t lock_bits;		/* (o) */
	uint8_t unlocked;		/* (o) steps of the sequence that were written: 2: open */
	uint8_t stage;			/* (o) 0, 1: which counter runs */
	uint8_t interrupt;		/* (o) the first stage has ended */
	uint8_t timed_out;		/* (o) the second has; outlives a reset */
	uint64_t deadline;		/* (o) VM ns; CLOCK_NEVER: stopped */
};

static struct i6300esb *to_wdt(struct device *d)
{
	return container_of(d, struct i6300esb, dev);
}

/* --- counting --- */

/* The preload value is the upper part of a counter of 35 bits of the PCI clock. */
static uint64_t stage_ns(const struct i6300esb *w)
{
	const unsigned int shift = w->config & CONFIG_FREQ ? 5 : 15;

	return MAX(muldiv64((uint64_t)w->preload[w->stage] << shift, NS_PER_SEC, PCI_CLOCK),
		   STAGE_MIN_NS);
}

static void start_stage_locked(struct i6300esb *w, unsigned int stage)
{
	w->stage = stage;
	w->deadline = clock_now(w->clock) + stage_ns(w);
	timer_set(&w->timer, w->deadline);
}

static void stop_locked(struct i6300esb *w)
{
	w->deadline = CLOCK_NEVER;
	w->stage = 0;
	timer_cancel(&w->timer);
}

static void set_interrupt_locked(struct i6300esb *w, bool on)
{
	w->interrupt = on;
	pci_intx(&w->pci, on && (w->config & CONFIG_INT_MASK) == 0);
}

/* A free-running timer begins again, another one has done its work. */
static bool second_stage_ends_locked(struct i6300esb *w)
{
	w->timed_out = 1;
	if (w->lock_bits & LOCK_FREE_RUN)
		start_stage_locked(w, 0);
	else
		stop_locked(w);
	return !(w->config & CONFIG_OUTPUT);
}

static void timer_fired(void *arg)
{
	struct i6300esb *w = arg;
	bool bites = false;

	pthread_mutex_lock(&w->lock);
	if (w->deadline != CLOCK_NEVER && clock_now(w->clock) >= w->deadline) {
		if (w->stage == 0) {
			set_interrupt_locked(w, true);
			start_stage_locked(w, 1);
		} else {
			bites = second_stage_ends_locked(w);
		}
	}
	pthread_mutex_unlock(&w->lock);
	if (bites && w->bite.bite)
		w->bite.bite(w->bite.sink);
}

/* --- BAR 0 --- */

static uint64_t wdt_read(void *dev, uint64_t off, unsigned int size)
{
	struct i6300esb *w = dev;
	uint32_t value;

	(void)size;
	pthread_mutex_lock(&w->lock);
	switch (off & ~3ULL) {
	case PRELOAD_1:
		value = w->preload[0];
		break;
	case PRELOAD_2:
		value = w->preload[1];
		break;
	case INT_STATUS:
		value = w->interrupt;
		break;
	default:
		value = w->timed_out ? RELOAD_TIMEOUT : 0;
	}
	pthread_mutex_unlock(&w->lock);
	return value >> (8 * (off & 3));
}

/* Every register but the status wants the sequence before each write. */
static void locked_write(struct i6300esb *w, uint64_t off, uint32_t value)
{
	if (off == RELOAD && (value == UNLOCK_1 || value == UNLOCK_2)) {
		w->unlocked = value == UNLOCK_1 ? 1 : w->unlocked == 1 ? 2 : 0;
		return;
	}
	if (w->unlocked != 2)
		return;
	w->unlocked = 0;
	if (off == PRELOAD_1 || off == PRELOAD_2) {
		w->preload[off == PRELOAD_2] = value & PRELOAD_MAX;
		return;
	}
	if (off != RELOAD)
		return;
	if (value & RELOAD_TIMEOUT)
		w->timed_out = 0;
	if (value & RELOAD_RELOAD && w->lock_bits & LOCK_ENABLE)
		start_stage_locked(w, 0);
}

static void wdt_write(void *dev, uint64_t off, unsigned int size, uint64_t value)
{
	struct i6300esb *w = dev;

	(void)size;
	pthread_mutex_lock(&w->lock);
	if (off != INT_STATUS)
		locked_write(w, off, value);
	else if (value & 1)
		set_interrupt_locked(w, false);
	pthread_mutex_unlock(&w->lock);
}

static const struct io_ops wdt_io = { .read = wdt_read, .write = wdt_write };

/* --- configuration space --- */

/* The bytes at HOOK_OFF as they read. */
static void config_image(const struct i6300esb *w, uint8_t image[HOOK_LEN + 4])
{
	image[0] = w->config;
	image[1] = w->config >> 8;
	image[WDT_LOCK - HOOK_OFF] = w->lock_bits;
}

static uint32_t hook_read(void *arg, unsigned int off, unsigned int size)
{
	struct i6300esb *w = arg;
	uint8_t image[HOOK_LEN + 4] = { 0 };
	uint32_t value = 0;

	pthread_mutex_lock(&w->lock);
	config_image(w, image);
	pthread_mutex_unlock(&w->lock);
	for (unsigned int i = 0; i < size; i++)
		value |= (uint32_t)image[off - HOOK_OFF + i] << (8 * i);
	return value;
}

static void write_lock_locked(struct i6300esb *w, uint8_t value)
{
	const uint8_t old = w->lock_bits;

	if (old & LOCK_LOCKED)
		return;
	w->lock_bits = value & (LOCK_LOCKED | LOCK_ENABLE | LOCK_FREE_RUN);
	if (!(value & LOCK_ENABLE))
		stop_locked(w);
	else if (!(old & LOCK_ENABLE))
		start_stage_locked(w, 0);
}

static void hook_write(void *arg, unsigned int off, unsigned int size, uint32_t value)
{
	struct i6300esb *w = arg;

	pthread_mutex_lock(&w->lock);
	for (unsigned int i = 0; i < size; i++, value >>= 8) {
		if (off + i == WDT_CONFIG) {
			w->config = value & (CONFIG_INT_MASK | CONFIG_FREQ | CONFIG_OUTPUT);
			set_interrupt_locked(w, w->interrupt);
		}
		if (off + i == WDT_LOCK)
			write_lock_locked(w, value);
	}
	pthread_mutex_unlock(&w->lock);
}

/* --- the device --- */

static void wdt_reset(struct device *d)
{
	struct i6300esb *w = to_wdt(d);

	pci_function_reset(&w->pci);
	pthread_mutex_lock(&w->lock);
	stop_locked(w);
	w->preload[0] = w->preload[1] = PRELOAD_MAX;
	w->config = 0;
	w->lock_bits = 0;
	w->unlocked = 0;
	set_interrupt_locked(w, false);
	pthread_mutex_unlock(&w->lock);
}

static void wdt_destroy(struct device *d)
{
	struct i6300esb *w = to_wdt(d);

	timer_cancel(&w->timer);
	pci_unplug(&w->pci);
	pci_function_destroy(&w->pci);
	pthread_mutex_destroy(&w->lock);
	free(w);
}

static int wdt_load_finish(struct device *d, struct err *e)
{
	struct i6300esb *w = to_wdt(d);

	(void)e;
	pthread_mutex_lock(&w->lock);
	if (w->deadline != CLOCK_NEVER)
		timer_set(&w->timer, w->deadline);
	set_interrupt_locked(w, w->interrupt);
	pthread_mutex_unlock(&w->lock);
	return 0;
}

static const struct state_field wdt_fields[] = {
	STATE_ARRAY(struct i6300esb, preload, PRELOAD_MAX),
	STATE_FIELD(struct i6300esb, config, CONFIG_INT_MASK | CONFIG_FREQ | CONFIG_OUTPUT),
	STATE_FIELD(struct i6300esb, lock_bits, LOCK_LOCKED | LOCK_ENABLE | LOCK_FREE_RUN),
	STATE_FIELD(struct i6300esb, unlocked, 2),
	STATE_FIELD(struct i6300esb, stage, 1),
	STATE_FIELD(struct i6300esb, interrupt, 1),
	STATE_FIELD(struct i6300esb, timed_out, 1),
	STATE_FIELD(struct i6300esb, deadline, UINT64_MAX),
};

static const struct device_ops wdt_ops = {
	.model = "i6300esb",
	.version = 1,
	.reset = wdt_reset,
	.destroy = wdt_destroy,
	.fields = wdt_fields,
	.field_count = ARRAY_SIZE(wdt_fields),
	.load_finish = wdt_load_finish,
};

int i6300esb_create(struct device **out, struct device *host, unsigned int devfn,
		    const struct pci_wires *wires, struct clock *clock,
		    const struct watchdog_wire *bite, struct err *e)
{
	static const struct pci_ident ident = {
		.name = "i6300esb", .vendor = 0x8086, .device = 0x25ab, .class_code = 0x088000,
	};
	struct i6300esb *w = calloc(1, sizeof(*w));
	const struct pci_config_hook hook = {
		.off = HOOK_OFF, .len = HOOK_LEN, .read = hook_read, .write = hook_write, .arg = w,
	};
	int rc;

	if (!w)
		return err_set(e, ENOMEM, "out of memory for the watchdog");
	w->dev.ops = &wdt_ops;
	w->clock = clock;
	w->bite = *bite;
	pthread_mutex_init(&w->lock, NULL);
	timer_init(&w->timer, clock, timer_fired, w);
	pci_function_init(&w->pci, &ident, wires);
	pci_add_bar(&w->pci, 0, PCI_BAR_MEM32, BAR_SIZE, &wdt_io, w);
	pci_set_hook(&w->pci, &hook);
	rc = pci_plug(host, devfn, &w->pci, e);
	if (rc) {
		pci_function_destroy(&w->pci);
		pthread_mutex_destroy(&w->lock);
		free(w);
		return rc;
	}
	wdt_reset(&w->dev);
	*out = &w->dev;
	return 0;
}
