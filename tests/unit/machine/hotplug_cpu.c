// SPDX-License-Identifier: Apache-2.0
/*
 * Processors that come and go: what a system reads in the registers and the MADT, that one
 * which is not there never runs, whatever the guest sends it, and what a reset leaves.
 */
#include "fake_engine.h"
#include "unit.h"

#include "cpu/cpuid.h"
#include "dev/cpu_hotplug.h"
#include "machine/layout.h"
#include "machine/vm.h"
#include "mem/space.h"

#include <errno.h>
#include <string.h>

#define MOST	40

struct bench {
	struct fake_engine engine;
	struct cpu_model model;
	struct vm *vm;
	struct gpa_space *s;
	struct timer wait;
	unsigned int at, waits;
	_Atomic uint64_t ran;	/* which processors have run */
	unsigned int resets;
};

static enum vcpu_exit guest(struct vcpu *v, void *arg)
{
	struct bench *b = arg;

	b->ran |= BIT(v->index);
	return fake_spin(v);
}

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct bench *b = arg;

	(void)vm;
	(void)e;
	b->resets++;
	return 0;
}

static void init(struct bench *b, unsigned int cpus)
{
	struct vm_config c = {
		.memory = 1 << 20, .engine = &fake_engine_ops, .vcpus = cpus, .max_vcpus = MOST,
		.load = load, .load_arg = b,
	};
	struct err e = { 0 };

	memset(b, 0, sizeof(*b));
	b->engine.guest = guest;
	b->engine.arg = b;
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", &e), 0);
	b->model.cpus = MOST;
	c.model = &b->model;
	c.engine_config = &b->engine.config;
	if (vm_create(&b->vm, &c, &e))
		fail_msg("%s", e.text);
	b->s = vm_space(b->vm);
}

static uint64_t reg(struct bench *b, unsigned int off)
{
	const uint64_t low = pio_read(b->s, PORT_CPU_HOTPLUG + off, 4);

	return low | pio_read(b->s, PORT_CPU_HOTPLUG + off + 4, 4) << 32;
}

static void eject(struct bench *b, uint64_t cpus)
{
	pio_write(b->s, PORT_CPU_HOTPLUG + CPU_HOTPLUG_EJECT, 4, cpus & UINT32_MAX);
	pio_write(b->s, PORT_CPU_HOTPLUG + CPU_HOTPLUG_EJECT + 4, 4, cpus >> 32);
}

/* The MADT in guest memory: which processors it calls enabled. */
static uint64_t madt(struct bench *b)
{
	const uint8_t *p = gpa_to_hva(b->s, LAYOUT_ACPI, LAYOUT_ACPI_END - LAYOUT_ACPI);
	const uint8_t *t = memmem(p, LAYOUT_ACPI_END - LAYOUT_ACPI, "APIC", 4);
	uint64_t enabled = 0;
	uint8_t sum = 0;

	assert_non_null(t);
	for (unsigned int i = 0; i < t[4] + 256U * t[5]; i++)
		sum += t[i];
	assert_int_equal(sum, 0);
	for (unsigned int i = 0; i < MOST; i++) {
		assert_int_equal(t[44 + 8 * i], 0);
		assert_true(t[44 + 8 * i + 4] == 1 || t[44 + 8 * i + 4] == 2);
		enabled |= t[44 + 8 * i + 4] == 1 ? BIT(i) : 0;
	}
	return enabled;
}

#define TURN_NS		100000000

/* A busy host has not let all of those run yet that are there by then. */
static bool too_early(struct bench *b, uint64_t more)
{
	const uint64_t ran = b->ran;

	if ((b->at == 1 && ran != 3) || (b->at == 2 && ran != more) || (b->at > 4 && ran != BIT(33) - 1))
		return b->waits++ < 100;
	return false;
}

static void come_and_go(struct bench *b)
{
	const uint64_t more = BIT(35) - 1;

	if (too_early(b, more)) {
		timer_set(&b->wait, clock_now(vm_clock(b->vm)) + TURN_NS);
		return;
	}
	switch (b->at++) {
	case 0:
		assert_true(reg(b, CPU_HOTPLUG_PRESENT) == 3 && madt(b) == 3);
		/* A SIPI for one that is not there. */
		vcpu_attention(vm_vcpu(b->vm, 20), ATTN_INIT | ATTN_SIPI);
		break;
	case 1:
		assert_true(b->ran == 3);
		assert_int_equal(vm_set_cpus(b->vm, 0, NULL), -EINVAL);
		assert_int_equal(vm_set_cpus(b->vm, MOST + 1, NULL), -EINVAL);
		assert_int_equal(vm_set_cpus(b->vm, 35, NULL), 0);
		assert_int_equal(vm_cpus(b->vm), 35);
		assert_int_equal(pio_read(b->s, PORT_ACPI_GPE0, 2), 1 << GPE_CPU_HOTPLUG);
		assert_true(reg(b, CPU_HOTPLUG_PRESENT) == more);
		assert_true(reg(b, CPU_HOTPLUG_UP) == (more & ~3ULL));
		assert_true(reg(b, CPU_HOTPLUG_UP) == 0);
		assert_true(vm_vcpu(b->vm, 20)->wait_sipi);
		assert_false(vm_vcpu(b->vm, 20)->attention & (ATTN_INIT | ATTN_SIPI));
		break;
	case 2:
		assert_true(b->ran == more);
		assert_int_equal(vm_set_cpus(b->vm, 33, NULL), 0);
		assert_true(reg(b, CPU_HOTPLUG_DOWN) == (more & ~(BIT(33) - 1)));
		assert_int_equal(vm_cpus(b->vm), 35);	/* the guest has to agree */
		eject(b, BIT(34) | BIT(0) | BIT(39));
		assert_true(reg(b, CPU_HOTPLUG_PRESENT) == (more & ~BIT(34)));
		break;
	case 3:
		assert_int_equal(vm_cpus(b->vm), 34);
		b->ran = 0;
		/* What was asked for and did not happen happens at the reset. */
		vm_reset(b->vm);
		break;
	case 4:
		assert_int_equal(b->resets, 2);
		assert_true(reg(b, CPU_HOTPLUG_PRESENT) == BIT(33) - 1 && madt(b) == BIT(33) - 1);
		break;
	default:
		assert_true(b->ran == BIT(33) - 1);
		vm_stop(b->vm);
		return;
	}
	timer_set(&b->wait, clock_now(vm_clock(b->vm)) + TURN_NS);
}

static void step(void *arg)
{
	come_and_go(arg);
}

static void test_come_and_go(void **state)
{
	struct vm_result r;
	struct bench b;

	(void)state;
	init(&b, 2);
	timer_init(&b.wait, vm_clock(b.vm), step, &b);
	timer_set(&b.wait, TURN_NS);
	assert_int_equal(vm_run(b.vm, &r, NULL), 0);
	assert_int_equal(r.exit, VM_EXIT_STOPPED);
	assert_int_equal(b.at, 6);
	vm_destroy(b.vm);
}

/* Sizes and places that mean nothing; a request that is taken back. */
static void test_registers(void **state)
{
	struct bench b;

	(void)state;
	init(&b, 4);
	assert_int_equal(pio_read(b.s, PORT_CPU_HOTPLUG + 1, 4), 0);
	assert_int_equal(pio_read(b.s, PORT_CPU_HOTPLUG, 2), 0);
	assert_int_equal(reg(&b, CPU_HOTPLUG_EJECT), 0);
	pio_write(b.s, PORT_CPU_HOTPLUG, 4, UINT32_MAX);
	pio_write(b.s, PORT_CPU_HOTPLUG + CPU_HOTPLUG_EJECT, 2, 0xffff);
	pio_write(b.s, PORT_CPU_HOTPLUG + CPU_HOTPLUG_EJECT + 2, 4, UINT32_MAX);
	assert_true(reg(&b, CPU_HOTPLUG_PRESENT) == 0);	/* before power-on */
	assert_int_equal(vm_set_cpus(b.vm, 2, NULL), 0);
	vm_destroy(b.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_registers),
		cmocka_unit_test(test_come_and_go),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
