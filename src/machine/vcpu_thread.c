// SPDX-License-Identifier: Apache-2.0
/*
 * The vCPUs' threads: a gate that the VM opens and closes, the engine behind it, sleep
 * while halted.
 *
 * A thread passes the gate only in state VM_RUNNING and is counted in 'running' until it
 * comes back.  Whoever wants it back closes the gate first and sets ATTN_STOP second; the
 * thread clears ATTN_STOP first and looks at the gate second.  So a stop is never lost.
 */
#include "machine/vm_priv.h"

#include "cpu/cpuid.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define WAKE_AP		(ATTN_STOP | ATTN_INIT | ATTN_SIPI | ATTN_FLUSH)
#define WAKE_HALTED	(WAKE_AP | ATTN_INTR | ATTN_NMI | ATTN_SMI | ATTN_KICK)

/* --- sleep --- */

static void kick(struct vm_vcpu *c)
{
	struct vm *vm = c->vm;

	if (!c->ready)
		return;
	/* EDEADLK: this thread exchanges the engine; no vCPU runs. */
	if (pthread_rwlock_rdlock(&vm->engine_lock))
		return;
	vm->config.engine->vcpu_kick(vm->engine, c->vcpu);
	pthread_rwlock_unlock(&vm->engine_lock);
}

/*
 * After attention got a bit, on any thread.  The bit was set before we look at 'sleeping';
 * the sleeper sets 'sleeping' before it looks at the bits: one of the two sees the other.
 */
static void vcpu_wake(void *arg)
{
	struct vm_vcpu *c = arg;

	if (!atomic_load(&c->sleeping)) {
		kick(c);
		return;
	}
	pthread_mutex_lock(&c->sleep_lock);
	pthread_cond_signal(&c->woken);
	pthread_mutex_unlock(&c->sleep_lock);
}

static void vcpu_kick_other(void *arg, uint32_t apic_id)
{
	struct vm *vm = ((struct vm_vcpu *)arg)->vm;

	if (apic_id < vm->vcpu_count)
		vcpu_attention(vm->vcpus[apic_id].vcpu, ATTN_KICK);
}

/* Whom a vCPU that spins may be waiting for. */
static bool vcpu_awaited(void *arg)
{
	struct vm_vcpu *me = arg;

	for (unsigned int i = 0; i < me->vm->vcpu_count; i++) {
		struct vm_vcpu *c = &me->vm->vcpus[i];

		if (c != me && atomic_load(&c->present) && !atomic_load(&c->sleeping))
			return true;
	}
	return false;
}

static uint64_t clock_ns(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

static void falls_asleep(struct vm_vcpu *c)
{
	c->awake += clock_ns(CLOCK_MONOTONIC) - c->awake_since;
}

static void wakes_up(struct vm_vcpu *c)
{
	c->awake_since = clock_ns(CLOCK_MONOTONIC);
}

/* What other processes ran for it. */
static uint64_t others_ran(struct vm_vcpu *c)
{
	struct vm *vm = c->vm;

	/* Who exchanges the engine meanwhile has what was seen last. */
	if (vm->config.engine->vcpu_ran && c->ready && !pthread_rwlock_tryrdlock(&vm->engine_lock)) {
		if (vm->config.engine->vcpu_ran)
			atomic_store(&c->others_ran, vm->config.engine->vcpu_ran(vm->engine, c->vcpu));
		pthread_rwlock_unlock(&vm->engine_lock);
	}
	return atomic_load(&c->others_ran);
}

uint64_t vcpu_ran(struct vm_vcpu *c)
{
	clockid_t id;

	if (!c->started || pthread_getcpuclockid(c->thread, &id))
		return 0;
	return clock_ns(id) + others_ran(c);
}

uint64_t vm_others_ran(struct vm *vm)
{
	uint64_t sum = 0;

	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		sum += others_ran(&vm->vcpus[i]);
	return sum;
}

unsigned int vcpu_other_threads(struct vm_vcpu *c, pid_t *tid, unsigned int max)
{
	struct vm *vm = c->vm;
	unsigned int n = 0;

	if (!c->ready || pthread_rwlock_rdlock(&vm->engine_lock))
		return 0;
	if (vm->config.engine->vcpu_threads)
		n = vm->config.engine->vcpu_threads(vm->engine, c->vcpu, tid, max);
	pthread_rwlock_unlock(&vm->engine_lock);
	return n;
}

/* What it was awake, less what the host let it run. */
static uint64_t vcpu_stolen(void *arg)
{
	struct vm_vcpu *c = arg;
	uint64_t ran = clock_ns(CLOCK_THREAD_CPUTIME_ID) + others_ran(c);
	uint64_t awake = c->awake + clock_ns(CLOCK_MONOTONIC) - c->awake_since;

	if (awake > ran && awake - ran > c->stolen)	/* it never goes back */
		c->stolen = awake - ran;
	return c->stolen;
}

/* Until one of @bits comes up in attention. */
static void vcpu_sleep(struct vm_vcpu *c, uint32_t bits)
{
	falls_asleep(c);
	pthread_mutex_lock(&c->sleep_lock);
	atomic_store(&c->sleeping, true);
	while (!(atomic_load(&c->vcpu->attention) & bits))
		pthread_cond_wait(&c->woken, &c->sleep_lock);
	atomic_store(&c->sleeping, false);
	pthread_mutex_unlock(&c->sleep_lock);
	wakes_up(c);
}

/* --- the thread --- */

/* Returns when the vCPU has to stop. */
static void run_vcpu(struct vm_vcpu *c)
{
	struct vm *vm = c->vm;
	struct vcpu *v = c->vcpu;

	for (;;) {
		switch (vm->config.engine->vcpu_run(vm->engine, v)) {
		case VCPU_EXIT_STOP:
			return;
		case VCPU_EXIT_HALT:
			vcpu_sleep(c, v->wait_sipi ? WAKE_AP : WAKE_HALTED);
			break;
		case VCPU_EXIT_SHUTDOWN:
			vm_event(vm, EVENT_TRIPLE_FAULT);
			vcpu_sleep(c, ATTN_STOP);
			return;
		case VCPU_EXIT_ERROR:
			vm_fail(vm, &v->err);
			vcpu_sleep(c, ATTN_STOP);
			return;
		case VCPU_EXIT_DEBUGGER:
			loop_post(vm->loop, vm->debug_work);
			vcpu_sleep(c, ATTN_STOP);
			return;
		}
	}
}

/* An event that waits to be handled closes the gate as well. */
static bool gate_closed(const struct vm *vm)
{
	return vm->state == VM_PAUSED || (vm->state == VM_RUNNING && atomic_load(&vm->events));
}

/* Waits for the gate to open; false when the VM ends.  What it is held back counts as stolen. */
static bool pass_gate(struct vm_vcpu *c)
{
	struct vm *vm = c->vm;
	uint64_t from;
	bool go;

	pthread_mutex_lock(&vm->gate_lock);
	while (gate_closed(vm) ||
	       (vm->state == VM_RUNNING &&
		(vm->held || c->held || vm->frozen || vm->paused || !atomic_load(&c->present)))) {
		from = gate_closed(vm) || vm->paused || !atomic_load(&c->present) ?
			       0 : clock_ns(CLOCK_MONOTONIC);
		pthread_cond_wait(&vm->gate, &vm->gate_lock);
		if (from)
			c->awake += clock_ns(CLOCK_MONOTONIC) - from;
	}
	go = vm->state == VM_RUNNING;
	if (go)
		vm->running++;
	pthread_mutex_unlock(&vm->gate_lock);
	return go;
}

static void leave(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate_lock);
	vm->running--;
	pthread_cond_broadcast(&vm->gate);
	pthread_mutex_unlock(&vm->gate_lock);
}

static void *vcpu_thread(void *arg)
{
	struct vm_vcpu *c = arg;
	char name[16];

	snprintf(name, sizeof(name), "vcpu%u", c->vcpu->index);
	pthread_setname_np(pthread_self(), name);	/* for ps and perf */
	pthread_mutex_lock(&c->vm->gate_lock);
	atomic_store(&c->tid, gettid());
	pthread_cond_broadcast(&c->vm->gate);
	pthread_mutex_unlock(&c->vm->gate_lock);
	while (pass_gate(c)) {
		wakes_up(c);
		run_vcpu(c);
		falls_asleep(c);
		atomic_fetch_and(&c->vcpu->attention, ~(uint32_t)ATTN_STOP);
		leave(c->vm);
	}
	return NULL;
}

/* --- all of them --- */

static void set_state(struct vm *vm, int state)
{
	pthread_mutex_lock(&vm->gate_lock);
	vm->state = state;
	pthread_cond_broadcast(&vm->gate);
	pthread_mutex_unlock(&vm->gate_lock);
}

static void stop_all(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		vcpu_attention(vm->vcpus[i].vcpu, ATTN_STOP);
}

void vcpus_resume(struct vm *vm)
{
	set_state(vm, VM_RUNNING);
}

static void wait_for_all(struct vm *vm)
{
	stop_all(vm);
	pthread_mutex_lock(&vm->gate_lock);
	while (vm->running)
		pthread_cond_wait(&vm->gate, &vm->gate_lock);
	pthread_mutex_unlock(&vm->gate_lock);
}

void vcpus_pause(struct vm *vm)
{
	set_state(vm, VM_PAUSED);
	wait_for_all(vm);
}

/* Sets @gate, one of those of pass_gate(). */
static void set_gate(struct vm *vm, bool *gate, bool closed)
{
	pthread_mutex_lock(&vm->gate_lock);
	*gate = closed;
	pthread_cond_broadcast(&vm->gate);
	pthread_mutex_unlock(&vm->gate_lock);
	if (closed)
		wait_for_all(vm);
}

void vcpus_freeze(struct vm *vm, bool frozen)
{
	set_gate(vm, &vm->frozen, frozen);
}

void vcpus_hold(struct vm *vm, bool paused)
{
	set_gate(vm, &vm->paused, paused);
}

static void wait_for_numbers(struct vm *vm)
{
	pthread_mutex_lock(&vm->gate_lock);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		while (!atomic_load(&vm->vcpus[i].tid))
			pthread_cond_wait(&vm->gate, &vm->gate_lock);
	pthread_mutex_unlock(&vm->gate_lock);
}

int vcpus_start(struct vm *vm, struct err *e)
{
	int rc;

	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vm_vcpu *c = &vm->vcpus[i];

		rc = pthread_create(&c->thread, NULL, vcpu_thread, c);
		if (rc)
			return err_errno(e, rc, "could not start the thread of processor %u", i);
		c->started = true;
	}
	wait_for_numbers(vm);
	vcpu_shares_begin(vm);
	return cpu_share_pin(vm, e);
}

void vcpus_join(struct vm *vm)
{
	set_state(vm, VM_ENDING);
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		if (!vm->vcpus[i].started)
			continue;
		vcpu_attention(vm->vcpus[i].vcpu, ATTN_STOP);
		pthread_join(vm->vcpus[i].thread, NULL);
		vm->vcpus[i].started = false;
	}
}

static int vcpu_create(struct vm *vm, struct vm_vcpu *c, unsigned int index, struct err *e)
{
	struct vcpu *v;
	int rc;

	pthread_mutex_init(&c->sleep_lock, NULL);
	pthread_cond_init(&c->woken, NULL);
	c->vm = vm;
	v = vcpu_alloc();
	if (!v)
		return err_set(e, ENOMEM, "out of memory for processor %u", index);
	c->vcpu = v;
	v->index = index;
	v->space = &vm->space;
	v->model = vm->config.model;
	v->clock = &vm->clock;
	v->log = vm->log;
	v->tsc_hz = host_tsc_hz();
	rc = pc_add_lapic(&vm->pc, &c->lapic, v, e);
	if (!rc)
		rc = vcpu_init(v, e);
	if (rc)
		return rc;
	rc = vm->config.engine->vcpu_add(vm->engine, v, e);
	if (rc) {
		vcpu_destroy(v);
		return rc;
	}
	c->ready = true;
	v->wake_arg = c;
	v->wake = vcpu_wake;
	v->kick = vcpu_kick_other;
	v->awaited = vcpu_awaited;
	v->stolen = vcpu_stolen;
	return 0;
}

int vcpus_create(struct vm *vm, struct err *e)
{
	const unsigned int count = vm->config.max_vcpus;
	int rc;

	if (count > VM_CPUS_MAX)
		return err_set(e, EINVAL, "a PC of ours has at most %d processors", VM_CPUS_MAX);
	vm->vcpus = calloc(count, sizeof(*vm->vcpus));
	if (!vm->vcpus)
		return err_set(e, ENOMEM, "out of memory for the processors");
	while (vm->vcpu_count < count) {
		unsigned int i = vm->vcpu_count++;

		rc = vcpu_create(vm, &vm->vcpus[i], i, e);
		if (rc)
			return rc;
	}
	return 0;
}

/* The local APICs, which know the vCPUs, are gone by now. */
void vcpus_destroy(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vm_vcpu *c = &vm->vcpus[i];

		if (c->ready) {
			vm->config.engine->vcpu_remove(vm->engine, c->vcpu);
			vcpu_destroy(c->vcpu);
		}
		vcpu_free(c->vcpu);
		pthread_cond_destroy(&c->woken);
		pthread_mutex_destroy(&c->sleep_lock);
	}
	free(vm->vcpus);
	vm->vcpus = NULL;
	vm->vcpu_count = 0;
}
