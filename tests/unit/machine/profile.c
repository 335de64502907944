// SPDX-License-Identifier: Apache-2.0
/* Where a vCPU's time went, by samples: each place alone, and nothing while nobody asks. */
#include "fake_engine.h"
#include "unit.h"

#include "cpu/cpuid.h"
#include "machine/profile.h"

#include <pthread.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RUN_NS	100000000ULL	/* of processor time in each run, however loaded the host is */

struct bench {
	struct fake_engine engine;
	struct cpu_model model;
	struct vm *vm;
	struct loop_work work;
	_Atomic bool asked;
	bool ask;
	uint8_t cpl, doing;
	uint64_t ran;			/* by the vCPU's thread, in all */
	struct vcpu_profile before, after;
};

static uint64_t thread_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

/* On the loop's thread. */
static void ask(void *arg)
{
	struct bench *b = arg;

	vm_profile(b->vm, 0, &b->before);
	b->asked = true;
}

static void ask_again(void *arg)
{
	struct bench *b = arg;

	vm_profile(b->vm, 0, &b->after);
	vm_stop(b->vm);
}

static enum vcpu_exit guest(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	uint64_t end;

	if (b->ask) {
		b->work = (struct loop_work){ .run = ask, .arg = b };
		loop_post(vm_loop(b->vm), &b->work);
		while (!b->asked)
			usleep(1000);
	}
	vcpu_set_cpl(v, b->cpl);
	vcpu_does(v, b->doing);
	for (end = thread_ns() + RUN_NS; thread_ns() < end; )
		;
	b->work = (struct loop_work){ .run = ask_again, .arg = b };
	loop_post(vm_loop(b->vm), &b->work);
	fake_spin(v);
	b->ran = thread_ns();
	return VCPU_EXIT_STOP;
}

static void run(struct bench *b, bool asks, uint8_t cpl, enum vcpu_doing doing)
{
	const struct vm_config c = {
		.memory = 16 << 20, .model = &b->model, .engine = &fake_engine_ops,
		.engine_config = &b->engine.config,
	};
	struct err e = { 0 };
	struct vm_result r;

	memset(b, 0, sizeof(*b));
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", NULL), 0);
	b->engine.guest = guest;
	b->engine.arg = b;
	b->ask = asks;
	b->cpl = cpl;
	b->doing = doing;
	if (vm_create(&b->vm, &c, &e) || vm_run(b->vm, &r, &e))
		fail_msg("%s", e.text);
	vm_destroy(b->vm);
}

static void test_places(void **state)
{
	static const struct { uint8_t cpl; enum vcpu_doing doing; enum profile_place place; } runs[] = {
		{ 3, VCPU_GUEST, PROFILE_USER },
		{ 0, VCPU_GUEST, PROFILE_KERNEL },
		{ 3, VCPU_TRANSLATION, PROFILE_TRANSLATION },
		{ 0, VCPU_DEVICE, PROFILE_VMM },
	};
	struct bench b;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(runs); i++) {
		uint64_t sum = 0;

		run(&b, true, runs[i].cpl, runs[i].doing);
		for (int p = 0; p < PROFILE_PLACES; p++)
			sum += b.after.ns[p];
		assert_true(sum > RUN_NS / 2 && sum <= b.ran);
		assert_true(b.after.ns[runs[i].place] > sum / 10 * 9);
	}
}

static void test_nobody_asks(void **state)
{
	struct bench b;

	(void)state;
	run(&b, false, 3, VCPU_GUEST);
	for (int p = 0; p < PROFILE_PLACES; p++)
		assert_true(b.after.ns[p] == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_places),
		cmocka_unit_test(test_nobody_asks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
