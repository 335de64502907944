// SPDX-License-Identifier: Apache-2.0
/*
 * PCI slots that are filled and emptied: what a system reads, when a slot goes, and that a
 * guest cannot empty one that nobody asked for.
 */
#include "fake_engine.h"
#include "unit.h"

#include "cpu/cpuid.h"
#include "dev/pci_hotplug.h"
#include "machine/layout.h"
#include "machine/vm.h"
#include "mem/space.h"
#include "virtio/rng.h"

#include <errno.h>
#include <string.h>

#define RNG_ID	0x10441af4U

struct bench {
	struct fake_engine engine;
	struct cpu_model model;
	struct vm *vm;
	struct gpa_space *s;
};

static enum vcpu_exit guest(struct vcpu *v, void *arg)
{
	(void)v;
	(void)arg;
	return VCPU_EXIT_HALT;
}

static void init(struct bench *b)
{
	struct vm_config c = { .memory = 1 << 20, .engine = &fake_engine_ops };
	struct err e;

	memset(b, 0, sizeof(*b));
	b->engine.guest = guest;
	b->engine.arg = b;
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", &e), 0);
	c.model = &b->model;
	c.engine_config = &b->engine.config;
	if (vm_create(&b->vm, &c, &e))
		fail_msg("%s", e.text);
	b->s = vm_space(b->vm);
}

static uint32_t id(struct bench *b, unsigned int slot)
{
	return mmio_read(b->s, LAYOUT_ECAM + (slot << 15), 4);
}

static uint32_t reg(struct bench *b, unsigned int off)
{
	return pio_read(b->s, PORT_PCI_HOTPLUG + off, 4);
}

static void quit_loop(void *loop)
{
	loop_quit(loop);
}

/* The guest writes the register; then the loop has its turn. */
static void eject(struct bench *b, uint32_t slots)
{
	struct loop_work quit = { .run = quit_loop, .arg = vm_loop(b->vm) };

	pio_write(b->s, PORT_PCI_HOTPLUG + PCI_HOTPLUG_EJECT, 4, slots);
	loop_post(vm_loop(b->vm), &quit);
	assert_int_equal(loop_run(vm_loop(b->vm), NULL), 0);
}

static int plug(struct bench *b)
{
	struct virtio_device *d;

	assert_int_equal(virtio_rng_create(&d, b->s, NULL, NULL), 0);
	return vm_plug_virtio(b->vm, d, NULL);
}

static void test_slots(void **state)
{
	struct bench b;
	struct err e;

	(void)state;
	init(&b);
	assert_int_equal(id(&b, 1), RNG_ID);
	assert_int_equal(plug(&b), 2);
	assert_int_equal(id(&b, 2), RNG_ID);
	/* Nobody asked. */
	eject(&b, UINT32_MAX);
	assert_int_equal(id(&b, 1), RNG_ID);
	assert_int_equal(id(&b, 2), RNG_ID);
	assert_int_equal(vm_unplug_slot(b.vm, 2, &e), 0);
	assert_int_equal(pio_read(b.s, PORT_ACPI_GPE0, 2), 1 << GPE_PCI_HOTPLUG);
	assert_int_equal(reg(&b, PCI_HOTPLUG_DOWN), 4);
	assert_int_equal(reg(&b, PCI_HOTPLUG_DOWN), 0);
	assert_int_equal(id(&b, 2), RNG_ID);
	eject(&b, 1 << 1 | 1 << 3);
	assert_int_equal(id(&b, 2), RNG_ID);
	eject(&b, UINT32_MAX);
	assert_int_equal(id(&b, 2), UINT32_MAX);
	assert_int_equal(id(&b, 1), RNG_ID);
	assert_int_equal(plug(&b), 2);
	assert_int_equal(id(&b, 2), RNG_ID);
	vm_destroy(b.vm);
}

static void test_refusals(void **state)
{
	struct bench b;
	struct err e;

	(void)state;
	init(&b);
	assert_int_equal(vm_unplug_slot(b.vm, 0, &e), -ENOENT);
	assert_int_equal(vm_unplug_slot(b.vm, 2, &e), -ENOENT);
	assert_int_equal(vm_unplug_slot(b.vm, 32, &e), -ENOENT);
	for (int slot = 2; slot < 32; slot++)
		assert_int_equal(plug(&b), slot);
	assert_int_equal(plug(&b), -ENOSPC);
	/* Reads of other sizes and places, writes that mean nothing. */
	assert_int_equal(pio_read(b.s, PORT_PCI_HOTPLUG + 1, 2), 0);
	assert_int_equal(reg(&b, PCI_HOTPLUG_EJECT), 0);
	pio_write(b.s, PORT_PCI_HOTPLUG, 4, UINT32_MAX);
	pio_write(b.s, PORT_PCI_HOTPLUG + PCI_HOTPLUG_EJECT, 2, 0xffff);
	eject(&b, 0);
	assert_int_equal(id(&b, 31), RNG_ID);
	vm_destroy(b.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
