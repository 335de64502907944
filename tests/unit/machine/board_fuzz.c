// SPDX-License-Identifier: Apache-2.0
/*
 * The whole board against a guest that writes nonsense: random accesses of every width to
 * every port and device window, time passing, keys typed, resets between.  Nothing may
 * crash, hang or (with the sanitizers) be undefined; the seed is printed.
 *
 * FUZZ_SEED repeats a run, LONG=1 makes it longer.
 */
#include "dev_rig.h"
#include "fake_char.h"
#include "processor.h"

#include "dev/acpi_pm.h"
#include "dev/uart16550.h"
#include "machine/pc.h"

#include <stdlib.h>
#include <string.h>

#define ROUNDS		1000000
#define MEMORY		(16ULL << 20)

struct bench {
	struct pc pc;
	struct rig rig;
	struct fake_char c[2];
	struct vcpu *vcpu;		/* never runs; its local APIC is fuzzed */
	uint64_t random, events;
};

static void power(void *sink, enum machine_event what, unsigned int value)
{
	(void)what;
	(void)value;
	((struct bench *)sink)->events++;
}

static uint64_t rnd(struct bench *b, uint64_t below)
{
	return rig_random(&b->random) % below;
}

static void init(struct bench *b, uint64_t seed)
{
	const struct pc_config c = {
		.memory = MEMORY, .vcpus = 1, .max_vcpus = 1, .epoch = { .tv_sec = 1795266855 },
		.debug_exit = true,
	};
	struct device *lapic;

	memset(b, 0, sizeof(*b));
	b->random = seed;
	rig_init(&b->rig);
	b->pc.space = &b->rig.space;
	b->pc.clock = &b->rig.clock;
	b->pc.power = (struct power_line){ .event = power, .sink = b };
	assert_int_equal(pc_add_memory(&b->rig.space, MEMORY, NULL), 0);
	assert_int_equal(pc_build(&b->pc, &c, NULL), 0);
	b->vcpu = processor_alloc();
	b->vcpu->clock = &b->rig.clock;
	b->vcpu->tsc_hz = 2000000000;
	assert_int_equal(pc_add_lapic(&b->pc, &lapic, b->vcpu, NULL), 0);
	for (int i = 0; i < 2; i++) {
		fake_char_init(&b->c[i]);
		uart16550_attach(b->pc.uart[i], &b->c[i].backend);
	}
	pc_reset(&b->pc);
}

static void done(struct bench *b)
{
	pc_destroy(&b->pc);
	free(b->vcpu);
	assert_int_equal(b->rig.space.pio_count, 0);
	assert_int_equal(b->rig.space.mmio_count, 0);
	assert_true(clock_deadline(&b->rig.clock) == CLOCK_NEVER);
	gpa_space_destroy(&b->rig.space);
	clock_destroy(&b->rig.clock);
}

/* Values that registers like: all bits, few bits, the usual. */
static uint64_t value(struct bench *b)
{
	switch (rnd(b, 4)) {
	case 0:
		return rig_random(&b->random);
	case 1:
		return BIT(rnd(b, 64));
	case 2:
		return rnd(b, 2) ? UINT64_MAX : 0;
	default:
		return rnd(b, 256);
	}
}

static void port_access(struct bench *b)
{
	const struct gpa_space *s = &b->rig.space;
	const struct io_region *r = &s->pio[rnd(b, s->pio_count)];
	uint16_t port = r->base + rnd(b, r->size);
	unsigned int size = 1U << rnd(b, 3);

	if (rnd(b, 2))
		pio_read(&b->rig.space, port, size);
	else
		pio_write(&b->rig.space, port, size, value(b));
}

static void window_access(struct bench *b)
{
	const struct gpa_space *s = &b->rig.space;
	const struct io_region *r = &s->mmio[rnd(b, s->mmio_count)];
	gpa_t at = r->base + rnd(b, rnd(b, 2) ? MIN(r->size, 0x400) : r->size);
	unsigned int size = 1U << rnd(b, 4);

	if (rnd(b, 2))
		mmio_read(&b->rig.space, at, size);
	else
		mmio_write(&b->rig.space, at, size, value(b));
}

static void lapic_access(struct bench *b)
{
	const struct vcpu_intc_ops *ops = b->vcpu->intc_ops;
	uint64_t v;

	switch (rnd(b, 5)) {
	case 0:
		ops->mmio_read(b->vcpu->intc, rnd(b, 0x100) << 4, 4);
		break;
	case 1:
		ops->mmio_write(b->vcpu->intc, rnd(b, 0x100) << 4, 4, value(b));
		break;
	case 2:
		ops->read_msr(b->vcpu->intc, 0x800 + rnd(b, 0x40), &v);
		break;
	case 3:
		ops->write_msr(b->vcpu->intc, rnd(b, 8) ? 0x800 + rnd(b, 0x40) : 0x1b, value(b));
		break;
	default:
		ops->ack(b->vcpu->intc);
	}
}

static void host_side(struct bench *b)
{
	static const char typed[] = "typed text, longer than a FIFO takes at once";
	struct fake_char *c = &b->c[rnd(b, 2)];

	c->room = rnd(b, 3) ? sizeof(c->out) : rnd(b, 4);
	c->out_len = 0;
	c->backend.front->writable(c->backend.front_dev);
	if (!*c->in)
		fake_char_type(c, typed);
	else
		fake_char_pump(c);
	if (!rnd(b, 16))
		c->backend.front->line_break(c->backend.front_dev);
	if (!rnd(b, 64))
		acpi_pm_power_button(b->pc.pm);
}

static void round_of(struct bench *b)
{
	switch (rnd(b, 16)) {
	case 0:
		/* Mostly moments; now and then a minute. */
		clock_advance(&b->rig.clock, rnd(b, 4096) ? rnd(b, 1 << rnd(b, 20))
							  : 60 * NS_PER_SEC);
		break;
	case 1:
		host_side(b);
		break;
	case 2:
	case 3:
		lapic_access(b);
		break;
	case 4 ... 7:
		window_access(b);
		break;
	case 8:
		if (!rnd(b, 1000))
			pc_reset(&b->pc);
		break;
	default:
		port_access(b);
	}
}

static void test_fuzz(void **state)
{
	const char *given = getenv("FUZZ_SEED");
	uint64_t seed = given ? strtoull(given, NULL, 0) : 20261121;
	unsigned int rounds = getenv("LONG") ? 20 * ROUNDS : ROUNDS;
	struct bench *b = malloc(sizeof(*b));

	(void)state;
	print_message("FUZZ_SEED=%llu, %u rounds\n", (unsigned long long)seed, rounds);
	init(b, seed);
	for (unsigned int i = 0; i < rounds; i++)
		round_of(b);
	assert_true(b->events > 0);
	/* A reset makes a working machine of whatever is left. */
	pc_reset(&b->pc);
	assert_int_equal(pio_read(&b->rig.space, PORT_COM1 + 5, 1), 0x60);
	assert_int_equal(pio_read(&b->rig.space, PORT_ACPI_PM + 4, 2), 0);
	assert_int_equal(pio_read(&b->rig.space, PORT_PCI, 4), 0);
	done(b);
	free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_fuzz),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
