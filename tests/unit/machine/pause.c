// SPDX-License-Identifier: Apache-2.0
/* A paused VM: its guest does not run, its time stands still, resets wait, and ends do not. */
#include "fake_engine.h"
#include "unit.h"

#include "base/clock.h"
#include "cpu/cpuid.h"
#include "machine/vm.h"

#include <pthread.h>
#include <string.h>
#include <unistd.h>

#define PAUSE_US	300000

struct bench {
	struct fake_engine engine;
	struct cpu_model model;
	struct vm *vm;
	struct loop_work pause, resume;
	_Atomic unsigned int runs, loads;
	_Atomic uint64_t greatest;	/* step of the guest's TSC between two runs */
	uint64_t last;
	unsigned int at_pause, loads_at_resume;
	_Atomic unsigned int at_resume;
	uint64_t clock_at_pause, clock_at_resume;
	bool reset_meanwhile, ready;
};

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct bench *b = arg;

	(void)vm;
	(void)e;
	b->loads++;
	return 0;
}

static enum vcpu_exit guest(struct vcpu *v, void *arg)
{
	struct bench *b = arg;
	const uint64_t tsc = __builtin_ia32_rdtsc() + v->tsc_offset;

	if (b->last && tsc > b->last && tsc - b->last > b->greatest)
		b->greatest = tsc - b->last;
	b->last = tsc;
	b->runs++;
	usleep(1000);
	return VCPU_EXIT_STOP;
}

static void resume(void *arg)
{
	struct bench *b = arg;

	b->at_resume = b->runs;
	b->loads_at_resume = b->loads;
	b->clock_at_resume = clock_now(vm_clock(b->vm));
	vm_resume(b->vm);
	vm_resume(b->vm);
	assert_false(vm_is_paused(b->vm));
}

static void pause_it(void *arg)
{
	struct bench *b = arg;

	vm_pause(b->vm);
	vm_pause(b->vm);
	assert_true(vm_is_paused(b->vm));
	b->at_pause = b->runs;
	b->clock_at_pause = clock_now(vm_clock(b->vm));
	if (b->reset_meanwhile)
		vm_reset(b->vm);
}

static void *drive(void *arg)
{
	struct bench *b = arg;

	while (b->runs < 20)
		usleep(1000);
	b->pause = (struct loop_work){ .run = pause_it, .arg = b };
	loop_post(vm_loop(b->vm), &b->pause);
	usleep(PAUSE_US);
	b->resume = (struct loop_work){ .run = resume, .arg = b };
	loop_post(vm_loop(b->vm), &b->resume);
	while (!b->at_resume || b->runs < b->at_resume + 20)
		usleep(1000);
	vm_stop(b->vm);
	return NULL;
}

static void make(struct bench *b)
{
	const struct vm_config c = {
		.memory = 16 << 20, .model = &b->model, .engine = &fake_engine_ops,
		.engine_config = &b->engine.config, .load = load, .load_arg = b,
	};
	struct err e = { 0 };

	memset(b, 0, sizeof(*b));
	assert_int_equal(cpu_model_init(&b->model, "vireo-v1", NULL), 0);
	b->engine.guest = guest;
	b->engine.arg = b;
	if (vm_create(&b->vm, &c, &e))
		fail_msg("vm_create: %s", e.text);
}

static void run(struct bench *b)
{
	struct vm_result r;
	struct err e = { 0 };
	pthread_t thread;

	pthread_create(&thread, NULL, drive, b);
	if (vm_run(b->vm, &r, &e))
		fail_msg("vm_run: %s", e.text);
	pthread_join(thread, NULL);
	assert_int_equal(r.exit, VM_EXIT_STOPPED);
	vm_destroy(b->vm);
}

static void test_pause(void **state)
{
	struct bench b;

	(void)state;
	make(&b);
	run(&b);
	assert_int_equal(b.at_pause, b.at_resume);
	assert_true(b.clock_at_pause == b.clock_at_resume);
	/* No step of the guest's counter is as long as the pause was. */
	assert_true(b.greatest < b.model.tsc_khz * (PAUSE_US / 1000ULL));
}

static void test_reset(void **state)
{
	struct bench b;

	(void)state;
	make(&b);
	b.reset_meanwhile = true;
	run(&b);
	assert_int_equal(b.loads_at_resume, 2);	/* it was reset, and stayed paused */
	assert_int_equal(b.at_pause, b.at_resume);
	assert_true(b.greatest < b.model.tsc_khz * (PAUSE_US / 1000ULL));
}

static void *end_soon(void *arg)
{
	usleep(100000);
	vm_stop(arg);
	return NULL;
}

/* Paused before it runs: no instruction is executed; it can be ended. */
static void test_start_paused(void **state)
{
	struct vm_result r;
	struct err e = { 0 };
	struct bench b;
	pthread_t thread;

	(void)state;
	make(&b);
	vm_pause(b.vm);
	pthread_create(&thread, NULL, end_soon, b.vm);
	assert_int_equal(vm_run(b.vm, &r, &e), 0);
	pthread_join(thread, NULL);
	assert_int_equal(r.exit, VM_EXIT_STOPPED);
	assert_int_equal(b.runs, 0);
	assert_true(clock_now(vm_clock(b.vm)) < 1000000);
	vm_destroy(b.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pause),
		cmocka_unit_test(test_reset),
		cmocka_unit_test(test_start_paused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
