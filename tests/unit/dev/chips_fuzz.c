// SPDX-License-Identifier: Apache-2.0
/*
 * A hostile guest on all interrupt and timer chips at once: random accesses, lines and
 * clock steps.  Nothing may crash or hang (run it with SAN=1), the host's timers may
 * not be wanted without end, and a state that makes no sense is refused or lived with; and a
 * machine that was saved and loaded goes on like the one it was copied from.
 *
 * FUZZ_ROUNDS and FUZZ_SEED in the environment run it longer and elsewhere.
 */
#include "apic_rig.h"

#include "dev/hpet.h"
#include "dev/i8254.h"

struct machine {
	struct apic_rig apic;
	struct device *hpet, *pit;
	struct irq_line irq0[2];
	uint64_t seed;
	bool no_tsc;		/* nothing that depends on the host's TSC */
	uint64_t sum;		/* of all that was read */
};

static uint64_t rnd(struct machine *m)
{
	return rig_random(&m->seed);
}

static void saw(struct machine *m, uint64_t n)
{
	m->sum = (m->sum ^ n) * 0x100000001b3 + 1;
}

static void fan_irq0(void *sink, unsigned int pin, bool level)
{
	struct machine *m = sink;

	(void)pin;
	irq_set(&m->irq0[0], level);
	irq_set(&m->irq0[1], level);
}

static void setup(struct machine *m, uint64_t seed)
{
	struct rig *r = &m->apic.rig;
	struct hpet_wires w = { .legacy[0] = { .set = fan_irq0, .sink = m } };
	struct irq_line line;

	*m = (struct machine){ .seed = seed };
	apic_rig_init(&m->apic, APIC_RIG_CPUS);
	m->irq0[0] = i8259_line(m->apic.pic, 0);
	m->irq0[1] = ioapic_line(m->apic.ioapic, 2);
	w.legacy[1] = i8259_line(m->apic.pic, 8);
	w.pin[20] = ioapic_line(m->apic.ioapic, 20);
	w.pin[23] = ioapic_line(m->apic.ioapic, 23);
	assert_int_equal(hpet_create(&m->hpet, &r->space, HPET_BASE, &r->clock, &w, NULL), 0);
	line = hpet_legacy_line(m->hpet, 0);
	assert_int_equal(i8254_create(&m->pit, &r->space, &r->clock, &line, NULL), 0);
}

static void teardown(struct machine *m)
{
	m->pit->ops->destroy(m->pit);
	m->hpet->ops->destroy(m->hpet);
	apic_rig_destroy(&m->apic);
}

/* Small numbers, extremes and anything. */
static uint64_t value(struct machine *m)
{
	uint64_t n = rnd(m);

	switch (n >> 60) {
	case 0 ... 5:
		return rnd(m);
	case 6 ... 8:
		return n & 0xff;
	case 9 ... 11:
		return n & 0xffff;
	case 12:
		return -(n & 0xff);
	case 13:
		return BIT(n & 63);
	default:
		return n & 3;
	}
}

static void access_port(struct machine *m)
{
	static const uint16_t port[] = { 0x20, 0x21, 0xa0, 0xa1, 0x4d0, 0x4d1, 0x40, 0x41, 0x42,
					 0x43, 0x61, 0x40, 0x43, 0x60 };
	uint16_t p = port[rnd(m) % ARRAY_SIZE(port)];
	unsigned int size = 1U << (rnd(m) % 3);

	if (rnd(m) & 1)
		pio_write(&m->apic.rig.space, p, size, value(m));
	else
		saw(m, pio_read(&m->apic.rig.space, p, size));
}

static void access_mmio(struct machine *m)
{
	uint64_t base = rnd(m) & 1 ? HPET_BASE : IOAPIC_BASE;
	uint64_t off = rnd(m) % 0x180;
	unsigned int size = 1U << (rnd(m) % 4);

	if (base == IOAPIC_BASE)
		off &= 0x5f;
	if (rnd(m) % 8)
		off &= base == HPET_BASE ? ~3ULL : ~15ULL;
	if (rnd(m) & 1)
		mmio_write(&m->apic.rig.space, base + off, size, value(m));
	else
		saw(m, mmio_read(&m->apic.rig.space, base + off, size));
}

static void access_lapic(struct machine *m)
{
	struct vcpu *v = m->apic.v[rnd(m) % APIC_RIG_CPUS];
	uint32_t off = rnd(m) & 0xfff, msr;
	unsigned int size = 1U << (rnd(m) % 4);
	uint64_t out;

	if (rnd(m) % 8)
		off &= 0x3f0;
	off = MIN(off, 0x1000 - size);
	msr = rnd(m) % 4 ? 0x800 + (rnd(m) & 0x3f) : rnd(m) & 1 ? MSR_TSC_DEADLINE : MSR_APIC_BASE;
	if (m->no_tsc && msr == MSR_TSC_DEADLINE)
		msr = MSR_APIC_BASE;
	switch (rnd(m) % 5) {
	case 0:
		saw(m, v->intc_ops->mmio_read(v->intc, off, size));
		break;
	case 1:
		v->intc_ops->mmio_write(v->intc, off, size, value(m));
		break;
	case 2:
		if (v->intc_ops->read_msr(v->intc, msr, &out))
			saw(m, out);
		break;
	case 3:
		if (msr == MSR_APIC_BASE)
			out = APIC_DEFAULT_BASE | (rnd(m) & 7) << 9;
		else
			out = msr == MSR_TSC_DEADLINE && rnd(m) & 1 ? UINT64_MAX : value(m);
		v->intc_ops->write_msr(v->intc, msr, out);
		break;
	default:
		v->intc_ops->set_tpr(v->intc, rnd(m) & 0xf0);
	}
}

static void take(struct machine *m)
{
	unsigned int cpu = rnd(m) % APIC_RIG_CPUS;
	struct vcpu *v = m->apic.v[cpu];
	int vector;

	taken_attention(&m->apic, cpu);
	vector = v->intc_ops->pending(v->intc) ? v->intc_ops->ack(v->intc) : -1;
	assert_in_range(vector + 1, 0, 256);
	saw(m, vector);
}

/* What a sane guest does, so that the deeper states are reached too. */
static void behave(struct machine *m)
{
	unsigned int cpu = rnd(m) % APIC_RIG_CPUS, pin = rnd(m) % IOAPIC_PINS;
	struct vcpu *v = m->apic.v[cpu];

	switch (rnd(m) % 6) {
	case 0:
		v->intc_ops->write_msr(v->intc, MSR_APIC_BASE, APIC_DEFAULT_BASE);
		v->intc_ops->write_msr(v->intc, MSR_APIC_BASE, APIC_DEFAULT_BASE | 0x800);
		apic_enable(&m->apic, cpu);
		if (rnd(m) & 1)
			v->intc_ops->write_msr(v->intc, MSR_APIC_BASE, APIC_DEFAULT_BASE | 0xc00);
		break;
	case 1:
		ioapic_entry(&m->apic, pin, cpu, (rnd(m) & 1) << 15 | 0x40 | (rnd(m) & 0xbf));
		break;
	case 2:
		if (!v->intc_ops->write_msr(v->intc, 0x80b, 0))
			apic_wr(&m->apic, cpu, 0xb0, 0);
		break;
	case 3:
		apic_bus_msi(&m->apic.bus, 0xfee00000 | (rnd(m) & 0xfffff), value(m));
		break;
	case 4:
		lapic_set_virtual_wire(m->apic.lapic[cpu]);
		break;
	default:
		v->intc_ops->get_tpr(v->intc);
		v->intc_ops->mmio_base(v->intc);
	}
}

static void wiggle(struct machine *m)
{
	/* Inputs that nothing else drives. */
	unsigned int n = 3 + rnd(m) % 5 + 9 * (rnd(m) & 1);
	struct irq_line line[3] = { ioapic_line(m->apic.ioapic, n), i8259_line(m->apic.pic, n > 8 ? n - 3 : n),
				    apic_bus_lint1(&m->apic.bus) };

	irq_set(&line[rnd(m) % 3], rnd(m) & 1);
}

/*
 * Host timers that fire in @ns: five sources with at most one in 20 us each, and what
 * one-shots are still pending.
 */
static void step_clock(struct machine *m)
{
	struct clock *c = &m->apic.rig.clock;
	uint64_t ns = rnd(m) % 8 ? rnd(m) % 3000 : rnd(m) % 3000000;
	uint64_t end = clock_now(c) + ns;
	unsigned int fired = 0;

	while (clock_deadline(c) <= end) {
		clock_advance(c, clock_deadline(c) > clock_now(c) ?
				 clock_deadline(c) - clock_now(c) : 0);
		assert_in_range(++fired, 1, 100 + 10 * ns / 20000);
	}
	clock_advance(c, end - clock_now(c));
}

static void round_of(struct machine *m)
{
	switch (rnd(m) % 12) {
	case 0:
		access_port(m);
		break;
	case 1:
		access_mmio(m);
		break;
	case 2 ... 4:
		access_lapic(m);
		break;
	case 5:
		take(m);
		break;
	case 6:
		wiggle(m);
		break;
	case 7 ... 10:
		behave(m);
		break;
	default:
		step_clock(m);
	}
}

static uint64_t env(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : otherwise;
}

static void test_random(void **state)
{
	uint64_t rounds = env("FUZZ_ROUNDS", 300000), seed = env("FUZZ_SEED", 0x9e3779b97f4a7c15);
	struct machine m;

	(void)state;
	for (unsigned int part = 0; part < 10; part++) {
		setup(&m, seed + part);
		for (uint64_t i = 0; i < rounds / 10; i++)
			round_of(&m);
		teardown(&m);
	}
}

/* Every field of every chip at random: a load refuses it, or the chip lives with it. */
static void load_random(struct machine *m, struct device *d)
{
	struct err e;

	d->ops->reset(d);
	for (unsigned int i = 0; i < d->ops->field_count; i++) {
		const struct state_field *f = &d->ops->fields[i];

		for (unsigned int k = 0; k < f->count; k++) {
			uint64_t n = value(m);

			if (f->max < UINT64_MAX)
				n %= f->max + 1;
			if (rnd(m) & 1)		/* a time that may be */
				n %= clock_now(&m->apic.rig.clock) + 1;
			memcpy((char *)d + f->offset +
			       k * f->size, &n, f->size);
		}
	}
	if (d->ops->load_finish && d->ops->load_finish(d, &e))
		d->ops->reset(d);
}

static void test_hostile_state(void **state)
{
	struct machine m;

	(void)state;
	setup(&m, 77);
	for (unsigned int i = 0; i < 2000; i++) {
		load_random(&m, m.pit);
		load_random(&m, m.hpet);
		load_random(&m, m.apic.pic);
		load_random(&m, m.apic.ioapic);
		load_random(&m, m.apic.lapic[i % APIC_RIG_CPUS]);
		for (unsigned int k = 0; k < 30; k++)
			round_of(&m);
	}
	teardown(&m);
}

/* As a snapshot would: everything saved, everything loaded, in the order of the wires. */
static void copy_state(struct machine *to, struct machine *from)
{
	struct device *a[] = { from->apic.pic, from->apic.ioapic, from->hpet, from->pit,
			       from->apic.lapic[0], from->apic.lapic[1], from->apic.lapic[2],
			       from->apic.lapic[3] };
	struct device *b[] = { to->apic.pic, to->apic.ioapic, to->hpet, to->pit,
			       to->apic.lapic[0], to->apic.lapic[1], to->apic.lapic[2],
			       to->apic.lapic[3] };
	struct err e;

	clock_advance(&to->apic.rig.clock,
		      clock_now(&from->apic.rig.clock) - clock_now(&to->apic.rig.clock));
	for (int i = ARRAY_SIZE(a) - 1; i >= 0; i--)	/* timers before controllers */
		if (a[i]->ops->save_prepare)
			a[i]->ops->save_prepare(a[i]);
	for (unsigned int i = 0; i < ARRAY_SIZE(a); i++) {
		for (unsigned int k = 0; k < a[i]->ops->field_count; k++) {
			const struct state_field *f = &a[i]->ops->fields[k];

			memcpy((char *)b[i] + f->offset, (char *)a[i] + f->offset,
			       f->size * f->count);
		}
		if (b[i]->ops->load_finish && b[i]->ops->load_finish(b[i], &e))
			fail_msg("%s", e.text);
	}
	/* Whose turn it is among equals is nobody's state. */
	atomic_store(&to->apic.bus.arbiter, atomic_load(&from->apic.bus.arbiter));
	to->seed = from->seed;
	to->sum = from->sum;
	to->no_tsc = from->no_tsc;
}

/* Saved, loaded and continued is the same as continued. */
static void test_resume(void **state)
{
	struct machine a, b;

	(void)state;
	for (unsigned int part = 0; part < 200; part++) {
		setup(&a, 1000 + part);
		setup(&b, 1);
		a.no_tsc = true;
		for (unsigned int i = 0; i < 1000; i++)
			round_of(&a);
		copy_state(&b, &a);
		for (unsigned int i = 0; i < 1000; i++) {
			round_of(&a);
			round_of(&b);
			assert_int_equal(a.sum, b.sum);
		}
		teardown(&a);
		teardown(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_random), cmocka_unit_test(test_hostile_state),
		cmocka_unit_test(test_resume),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
