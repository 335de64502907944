// SPDX-License-Identifier: Apache-2.0
/*
 * File descriptors in place of exits: what KVM is told as doorbells come, move and go and as
 * messages are routed, and what happens where it takes none.
 */
#include "fake_kvm.h"

#define BELLS	3

static const struct io_doorbell bells[BELLS] = {
	{ .off = 0x300, .fd = 50 },
	{ .off = 0x50, .size = 4, .match = true, .value = 1, .fd = 51 },
	{ .off = 0x304, .fd = -1 },	/* has none */
};

static unsigned int doorbells(void *dev, const struct io_doorbell **list)
{
	(void)dev;
	*list = bells;
	return BELLS;
}

static const struct io_ops bell_io = { .write = device_write, .doorbells = doorbells };

static void add(struct bench *b, uint64_t base)
{
	const struct io_region r = { .name = "bells", .base = base, .size = 0x1000,
				     .ops = &bell_io, .dev = b };

	assert_int_equal(gpa_space_add_mmio(&b->space, &r, NULL), 0);
}

static const struct kvm_ioeventfd *bell_of(int fd)
{
	for (unsigned int i = 0; i < fake.bells; i++)
		if (fake.bell[i].fd == fd)
			return &fake.bell[i];
	return NULL;
}

static void are_at(uint64_t base)
{
	assert_int_equal(fake.bells, 2);
	assert_non_null(bell_of(50));
	assert_int_equal(bell_of(50)->addr, base + 0x300);
	assert_int_equal(bell_of(50)->len, 0);
	assert_int_equal(bell_of(50)->flags, 0);
	assert_non_null(bell_of(51));
	assert_int_equal(bell_of(51)->addr, base + 0x50);
	assert_int_equal(bell_of(51)->len, 4);
	assert_int_equal(bell_of(51)->datamatch, 1);
	assert_int_equal(bell_of(51)->flags, KVM_IOEVENTFD_FLAG_DATAMATCH);
}

/* Those that are there when the engine is made, and those of later; a BAR that moves. */
static void test_follow_the_region(void **state)
{
	struct bench *b = *state;

	add(b, 0xd0000000);
	assert_int_equal(create(b), 0);
	are_at(0xd0000000);
	gpa_space_remove_mmio(&b->space, 0xd0000000);
	assert_int_equal(fake.bells, 0);
	add(b, 0xd0800000);
	are_at(0xd0800000);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
	/* With the engine gone nobody is told. */
	fake.told = 0;
	gpa_space_remove_mmio(&b->space, 0xd0800000);
	add(b, 0xd0000000);
	assert_int_equal(fake.told, 0);
}

/* Two engines while one takes over from the other: each has them, the last keeps them. */
static void test_exchange(void **state)
{
	struct bench *b = *state;
	struct engine *first;

	add(b, 0xd0000000);
	assert_int_equal(create(b), 0);
	first = b->engine;
	fake.bells = 0;		/* the second engine's KVM is another one */
	assert_int_equal(create(b), 0);
	are_at(0xd0000000);
	engine_kvm.destroy(first);
	gpa_space_remove_mmio(&b->space, 0xd0000000);
	assert_int_equal(fake.bells, 0);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
}

static void test_only_of_one_size(void **state)
{
	struct bench *b = *state;

	fake.missing_cap = KVM_CAP_IOEVENTFD_ANY_LENGTH;
	add(b, 0xd0000000);
	assert_int_equal(create(b), 0);
	assert_int_equal(fake.bells, 1);
	assert_non_null(bell_of(51));
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
}

static void test_none(void **state)
{
	struct bench *b = *state;

	fake.missing_cap = KVM_CAP_IOEVENTFD;
	add(b, 0xd0000000);
	assert_int_equal(create(b), 0);
	gpa_space_remove_mmio(&b->space, 0xd0000000);
	assert_int_equal(fake.told, 0);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
}

static void exit_ring(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_MMIO;
	run->mmio = (typeof(run->mmio)){ .phys_addr = 0xd0000300, .len = 2, .is_write = 1,
					 .data = { 9 } };
}

static void exit_halt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

/* One more than KVM takes: the log says so, once, and writes come to the device. */
static void test_too_many(void **state)
{
	struct bench *b = *state;
	char *first;

	fake.bells_most = 1;
	add(b, 0xd0000000);
	add(b, 0xd0800000);
	fake.exits[0] = exit_ring;
	fake.exits[1] = exit_halt;
	assert_int_equal(run(b), VCPU_EXIT_HALT);
	assert_int_equal(b->writes, 1);
	assert_int_equal(b->written[0], 0x300ULL << 56 | 2ULL << 48 | 9);
	fflush(b->log.out);
	first = strstr(b->text, "KVM takes no more doorbells: writes to bells leave the guest");
	assert_non_null(first);
	assert_null(strstr(first + 20, "no more doorbells"));
	gpa_space_remove_mmio(&b->space, 0xd0000000);
	gpa_space_remove_mmio(&b->space, 0xd0800000);
	assert_int_equal(fake.bells, 0);
}

/* --- interrupts --- */

static void test_routes(void **state)
{
	struct bench *b = *state;
	struct err e;

	fake.apics = KVM_APICS_KERNEL;
	assert_int_equal(create(b), 0);
	assert_true(engine_kvm.has_apics(b->engine));
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 60, 0xfee00000, 0x41, &e), 0);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.irqfd[0].fd, 60);
	/* Another message for the same descriptor, and another descriptor. */
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 60, 0xfee01000, 0x42, &e), 0);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 61, 0xfee00000, 0x43, &e), 0);
	assert_int_equal(fake.irqfds, 2);
	assert_int_not_equal(fake.irqfd[0].gsi, fake.irqfd[1].gsi);
	engine_kvm.irqfd_remove(b->engine, 60);
	engine_kvm.irqfd_remove(b->engine, 60);
	engine_kvm.irqfd_remove(b->engine, -1);
	assert_int_equal(fake.irqfds, 1);
	assert_int_equal(fake.irqfd[0].fd, 61);
	for (int fd = 62; fd < 62 + 63; fd++)
		assert_int_equal(engine_kvm.irqfd_add(b->engine, fd, 0xfee00000, 0x50, &e), 0);
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 200, 0xfee00000, 0x50, &e), -ENOSPC);
	assert_non_null(strstr(e.text, "at most 64"));
	engine_kvm.irqfd_remove(b->engine, 61);
	fake.failing = KVM_IRQFD;
	fake.error = EINVAL;
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 200, 0xfee00000, 0x50, &e), -EINVAL);
	fake.failing = KVM_SET_GSI_ROUTING;
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 200, 0xfee00000, 0x50, &e), -EINVAL);
	fake.failing = 0;
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 200, 0xfee00000, 0x50, &e), 0);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
}

static void test_no_routes(void **state)
{
	struct bench *b = *state;
	struct err e;

	assert_int_equal(create(b), 0);
	assert_int_equal(engine_kvm.irqfd_add(b->engine, 60, 0xfee00000, 0x41, &e), -ENOTSUP);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_follow_the_region), T(test_exchange), T(test_only_of_one_size), T(test_none),
		T(test_too_many), T(test_routes), T(test_no_routes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
