// SPDX-License-Identifier: Apache-2.0
/*
 * What `vireo doctor` and --engine auto make of a /dev/kvm that is a function here: a fast one,
 * one that emulates, ones that fail at each step, never come back or are none.
 */
#include "engine/engine.h"
#include "mgmt/kvm_probe.h"
#include "mgmt/run_priv.h"
#include "unit.h"

#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define TURNS	20000		/* of the probe's guest */

/* In one place, since struct kvm_sys has no argument for it; the probe's child has a copy. */
static struct fake {
	int open_error, version;
	unsigned long failing;
	int error;
	uint64_t turn_ns;	/* that a turn of the guest's loop takes */
	unsigned int away_ms;	/* in which others have the processor meanwhile */
	bool hangs;
	uint32_t exit;
	_Alignas(4096) uint8_t area[4096];
} fake;

static int refuse(int error)
{
	errno = error;
	return -1;
}

static int fake_open(const char *path)
{
	assert_string_equal(path, "/dev/kvm");
	return fake.open_error ? refuse(fake.open_error) : 100;
}

static int fake_close(int fd)
{
	(void)fd;
	return 0;
}

static void *fake_map(int fd, size_t size, uint64_t offset)
{
	(void)fd;
	return size <= sizeof(fake.area) && !offset ? fake.area : MAP_FAILED;
}

static int fake_unmap(void *at, size_t size)
{
	(void)at;
	(void)size;
	return 0;
}

static uint64_t spent_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static int run_guest(void)
{
	const uint64_t end = spent_ns() + TURNS * fake.turn_ns;

	while (fake.hangs)
		pause();
	while (spent_ns() < end)
		;
	if (fake.away_ms)
		usleep(fake.away_ms * 1000);
	((struct kvm_run *)fake.area)->exit_reason = fake.exit;
	return 0;
}

static int fake_ioctl(int fd, unsigned long request, uintptr_t arg)
{
	(void)fd;
	(void)arg;
	if (request == fake.failing)
		return refuse(fake.error);
	switch (request) {
	case KVM_GET_API_VERSION:
		return fake.version;
	case KVM_GET_VCPU_MMAP_SIZE:
		return sizeof(fake.area);
	case KVM_RUN:
		return run_guest();
	default:
		return 0;
	}
}

static const struct kvm_sys sys = {
	.open = fake_open, .close = fake_close, .ioctl = fake_ioctl, .map = fake_map,
	.unmap = fake_unmap,
};

static int setup(void **state)
{
	(void)state;
	memset(&fake, 0, sizeof(fake));
	fake.version = KVM_API_VERSION;
	fake.exit = KVM_EXIT_HLT;
	return 0;
}

/* The state, and that --engine auto goes by it: KVM or not, with a reason that has @word. */
static void sees(enum kvm_state state, const char *word, struct kvm_probe *p)
{
	const char *why;

	kvm_probe_by(p, &sys);
	assert_int_equal(p->state, state);
	assert_ptr_equal(engine_for(p, &why), state == KVM_WORKS ? &engine_kvm : &engine_soft);
	if (!strstr(why, word))
		fail_msg("'%s' is not in: %s", word, why);
}

static void test_fast(void **state)
{
	struct kvm_probe p;

	(void)state;
	sees(KVM_WORKS, "engine kvm: chosen automatically, since /dev/kvm runs guests at full speed",
	     &p);
	assert_in_range(p.turn_ps, 0, 50000);
}

static void test_emulating(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.turn_ns = 800;
	sees(KVM_SLOW, "engine soft: chosen automatically, since /dev/kvm emulates guests slowly", &p);
	assert_in_range(p.turn_ps, 800000, 40000000);
}

static void test_never_comes_back(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.hangs = true;
	sees(KVM_BROKEN, "does not run guests", &p);
	assert_string_equal(p.step, "KVM_RUN");
	assert_int_equal(p.error, ETIME);
}

static void test_wrong_exit(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.exit = KVM_EXIT_INTERNAL_ERROR;
	sees(KVM_BROKEN, "does not run guests", &p);
	assert_string_equal(p.step, "the guest's code");
}

static void test_each_step_fails(void **state)
{
	static const struct { unsigned long request; const char *step; } r[] = {
		{ KVM_CREATE_VM, "KVM_CREATE_VM" },
		{ KVM_SET_USER_MEMORY_REGION, "KVM_SET_USER_MEMORY_REGION" },
		{ KVM_CREATE_VCPU, "KVM_CREATE_VCPU" },
		{ KVM_GET_VCPU_MMAP_SIZE, "KVM_GET_VCPU_MMAP_SIZE" },
		{ KVM_GET_SREGS, "KVM_SET_SREGS" }, { KVM_SET_REGS, "KVM_SET_SREGS" },
		{ KVM_RUN, "KVM_RUN" },
	};
	struct kvm_probe p;

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		fake.failing = r[i].request;
		fake.error = EPERM;
		sees(KVM_BROKEN, "does not run guests", &p);
		assert_string_equal(p.step, r[i].step);
		assert_int_equal(p.error, EPERM);
	}
}

static void test_not_kvm(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.version = 11;
	sees(KVM_BROKEN, "does not run guests", &p);
	assert_string_equal(p.step, "KVM_GET_API_VERSION");
}

static void test_no_device(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.open_error = ENOENT;
	sees(KVM_ABSENT, "there is no /dev/kvm", &p);
	fake.open_error = ENODEV;	/* the file without its module */
	sees(KVM_BROKEN, "does not run guests", &p);
}

static void test_no_permission(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.open_error = EACCES;
	sees(KVM_DENIED, "this user may not open /dev/kvm", &p);
	fake.open_error = EPERM;
	sees(KVM_DENIED, "this user may not open /dev/kvm", &p);
}

#define PROBED(name) cmocka_unit_test_setup(name, setup)

static void test_busy_host(void **state)
{
	struct kvm_probe p;

	(void)state;
	fake.away_ms = 50;
	sees(KVM_WORKS, "at full speed", &p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		PROBED(test_fast), PROBED(test_emulating), PROBED(test_never_comes_back),
		PROBED(test_wrong_exit), PROBED(test_each_step_fails), PROBED(test_not_kvm),
		PROBED(test_no_device), PROBED(test_no_permission), PROBED(test_busy_host),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
