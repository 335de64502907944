// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts between threads: a device thread raises a line, a vCPU thread sleeps until
 * it is woken.  A lost wake-up or a lost EOI would leave both waiting; they give up
 * after ten seconds.
 */
#include "apic_rig.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <time.h>

#define ROUNDS	5000

struct exchange {
	struct apic_rig apic;
	struct irq_line line;
	sem_t wake;		/* the vCPU's sleep */
	sem_t served;		/* the device's */
	atomic_bool end;
	bool timed_out;
};

static bool wait_for(sem_t *s)
{
	struct timespec limit;

	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 10;
	while (sem_timedwait(s, &limit))
		if (errno != EINTR)
			return false;
	return true;
}

static void wake(void *arg)
{
	sem_post(arg);
}

/* Serves interrupts; the handler quietens the device, then ends the interrupt. */
static void *vcpu_thread(void *arg)
{
	struct exchange *x = arg;

	while (wait_for(&x->wake) && !atomic_load(&x->end)) {
		if (take_interrupt(&x->apic, 0) < 0)
			continue;
		irq_set(&x->line, false);
		sem_post(&x->served);
		apic_wr(&x->apic, 0, 0xb0, 0);
	}
	return NULL;
}

static void *device_thread(void *arg)
{
	struct exchange *x = arg;

	for (unsigned int i = 0; i < ROUNDS && !x->timed_out; i++) {
		irq_set(&x->line, true);
		x->timed_out = !wait_for(&x->served);
	}
	atomic_store(&x->end, true);
	sem_post(&x->wake);
	return NULL;
}

static void run(bool level)
{
	struct exchange x = { 0 };
	pthread_t vcpu, device;

	apic_rig_init(&x.apic, 1);
	sem_init(&x.wake, 0, 0);
	sem_init(&x.served, 0, 0);
	x.apic.v[0]->wake = wake;
	x.apic.v[0]->wake_arg = &x.wake;
	apic_enable(&x.apic, 0);
	ioapic_entry(&x.apic, 9, 0, level ? 0x8041 : 0x41);
	x.line = ioapic_line(x.apic.ioapic, 9);
	assert_int_equal(pthread_create(&vcpu, NULL, vcpu_thread, &x), 0);
	assert_int_equal(pthread_create(&device, NULL, device_thread, &x), 0);
	pthread_join(device, NULL);
	pthread_join(vcpu, NULL);
	assert_false(x.timed_out);
	sem_destroy(&x.wake);
	sem_destroy(&x.served);
	apic_rig_destroy(&x.apic);
}

static void test_level(void **state)
{
	(void)state;
	run(true);
}

static void test_edge(void **state)
{
	(void)state;
	run(false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_level), cmocka_unit_test(test_edge),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
