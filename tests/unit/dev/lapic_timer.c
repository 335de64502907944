// SPDX-License-Identifier: Apache-2.0
/* The local APIC's timer: one-shot, periodic, TSC deadline. */
#include "apic_rig.h"

#include "cpu/cpuid.h"

#define TIMER_VECTOR	0xec

static uint64_t counts_ns(uint64_t crystal_clocks)
{
	return crystal_clocks * (NS_PER_SEC / CRYSTAL_HZ);
}

static void setup(struct apic_rig *t, uint32_t mode)
{
	apic_rig_init(t, 1);
	apic_enable(t, 0);
	apic_wr(t, 0, 0x320, mode << 17 | TIMER_VECTOR);
}

static unsigned int taken(struct apic_rig *t)
{
	if (take_interrupt(t, 0) != TIMER_VECTOR)
		return 0;
	apic_wr(t, 0, 0xb0, 0);
	return 1;
}

static void test_oneshot(void **state)
{
	struct apic_rig t;

	(void)state;
	setup(&t, 0);
	assert_int_equal(apic_rd(&t, 0, 0x390), 0);
	apic_wr(&t, 0, 0x3e0, 0x3);	/* by 16 */
	apic_wr(&t, 0, 0x380, 1000);
	assert_int_equal(apic_rd(&t, 0, 0x380), 1000);
	clock_advance(&t.rig.clock, counts_ns(16 * 400));
	assert_int_equal(apic_rd(&t, 0, 0x390), 600);
	clock_advance(&t.rig.clock, counts_ns(16 * 600) - 1);
	assert_int_equal(taken(&t), 0);
	clock_advance(&t.rig.clock, 1);
	assert_int_equal(taken(&t), 1);
	assert_int_equal(apic_rd(&t, 0, 0x390), 0);
	clock_advance(&t.rig.clock, NS_PER_SEC);
	apic_wr(&t, 0, 0x320, TIMER_VECTOR);
	assert_int_equal(taken(&t), 0);
	apic_wr(&t, 0, 0x380, 1000);
	apic_wr(&t, 0, 0x380, 0);	/* stops it */
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	apic_rig_destroy(&t);
}

static void test_divisors(void **state)
{
	static const struct {
		uint8_t code;
		uint8_t divisor;
	} row[] = { { 0xb, 1 }, { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 },
		    { 0xa, 128 } };
	struct apic_rig t;

	(void)state;
	setup(&t, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(row); i++) {
		apic_wr(&t, 0, 0x3e0, row[i].code);
		apic_wr(&t, 0, 0x380, 0xffffffff);
		clock_advance(&t.rig.clock, counts_ns(row[i].divisor * 1000000ULL));
		assert_int_equal(0xffffffff - apic_rd(&t, 0, 0x390), 1000000);
	}
	/* Changed on the way, the count goes on from where it is. */
	apic_wr(&t, 0, 0x3e0, 0xb);
	assert_int_equal(0xffffffff - apic_rd(&t, 0, 0x390), 1000000);
	clock_advance(&t.rig.clock, counts_ns(500));
	assert_int_equal(0xffffffff - apic_rd(&t, 0, 0x390), 1000500);
	apic_wr(&t, 0, 0x380, 0);
	apic_rig_destroy(&t);
}

static void test_periodic(void **state)
{
	struct apic_rig t;
	unsigned int got = 0;

	(void)state;
	setup(&t, 1);
	apic_wr(&t, 0, 0x3e0, 0xb);
	apic_wr(&t, 0, 0x380, 1000000);
	for (unsigned int i = 0; i < 100; i++) {
		clock_advance(&t.rig.clock, counts_ns(1000000));
		got += taken(&t);
	}
	assert_int_equal(got, 100);
	clock_advance(&t.rig.clock, counts_ns(250000));
	assert_int_equal(apic_rd(&t, 0, 0x390), 750000);
	/* A stall of 20 periods: one interrupt, in step afterwards. */
	t.rig.clock.now += counts_ns(20 * 1000000);
	clock_run(&t.rig.clock);
	assert_int_equal(taken(&t), 1);
	assert_int_equal(apic_rd(&t, 0, 0x390), 750000);
	clock_advance(&t.rig.clock, counts_ns(750000) - 1);
	assert_int_equal(taken(&t), 0);
	clock_advance(&t.rig.clock, 1);
	assert_int_equal(taken(&t), 1);
	/* Masked: no host timer, and the count runs on. */
	apic_wr(&t, 0, 0x320, 0x30000 | TIMER_VECTOR);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	clock_advance(&t.rig.clock, counts_ns(7300000));
	assert_int_equal(apic_rd(&t, 0, 0x390), 700000);
	apic_wr(&t, 0, 0x320, 0x20000 | TIMER_VECTOR);
	clock_advance(&t.rig.clock, counts_ns(700000));
	assert_int_equal(taken(&t), 1);
	apic_wr(&t, 0, 0xf0, 0xff);	/* software disable masks it too */
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	apic_rig_destroy(&t);
}

static void test_shortest_period(void **state)
{
	unsigned int got = 0;
	struct apic_rig t;

	(void)state;
	setup(&t, 1);
	apic_wr(&t, 0, 0x3e0, 0xb);
	apic_wr(&t, 0, 0x380, 1);
	for (unsigned int i = 0; i < 10000; i++) {
		clock_advance(&t.rig.clock, 1000);
		got += taken(&t);
	}
	assert_in_range(got, 450, 502);	/* 10 ms, once in 20 us */
	t.lapic[0]->ops->reset(t.lapic[0]);
	apic_rig_destroy(&t);
}

/* A late event loop loses nothing: the guest's next access delivers. */
static void test_late_host(void **state)
{
	struct apic_rig t;

	(void)state;
	setup(&t, 0);
	apic_wr(&t, 0, 0x3e0, 0xb);
	apic_wr(&t, 0, 0x380, 1000);
	t.rig.clock.now += counts_ns(5000);
	apic_wr(&t, 0, 0x320, TIMER_VECTOR);
	assert_int_equal(taken(&t), 1);
	clock_run(&t.rig.clock);
	assert_int_equal(taken(&t), 0);
	apic_rig_destroy(&t);
}

static uint64_t deadline(struct apic_rig *t)
{
	uint64_t value;

	assert_true(msr_rd(t, 0, MSR_TSC_DEADLINE, &value));
	return value;
}

/* The TSC runs by itself here, so times are bounds. */
static void test_tsc_deadline(void **state)
{
	uint64_t tsc, now, due;
	struct apic_rig t;

	(void)state;
	setup(&t, 0);
	msr_wr(&t, 0, MSR_TSC_DEADLINE, 1);
	assert_int_equal(deadline(&t), 0);	/* not in this mode */
	assert_int_equal(taken(&t), 0);
	apic_wr(&t, 0, 0x320, 0x40000 | TIMER_VECTOR);
	apic_wr(&t, 0, 0x380, 1000);
	assert_int_equal(apic_rd(&t, 0, 0x380), 0);
	t.v[0]->tsc_offset = -__builtin_ia32_rdtsc();	/* the guest's TSC starts at 0 */
	msr_wr(&t, 0, MSR_TSC_DEADLINE, 1);
	assert_int_equal(taken(&t), 1);
	assert_int_equal(deadline(&t), 0);
	/* 100 guest seconds from now. */
	tsc = __builtin_ia32_rdtsc() + t.v[0]->tsc_offset;
	now = clock_now(&t.rig.clock);
	msr_wr(&t, 0, MSR_TSC_DEADLINE, tsc + 100 * APIC_RIG_TSC_HZ);
	assert_int_equal(deadline(&t), tsc + 100 * APIC_RIG_TSC_HZ);
	due = clock_deadline(&t.rig.clock);
	assert_in_range(due - now, 90 * NS_PER_SEC, 100 * NS_PER_SEC + 1);
	/* The clock gets there before the TSC does: it is looked at again, not fired. */
	clock_advance(&t.rig.clock, 101 * NS_PER_SEC);
	assert_int_equal(taken(&t), 0);
	assert_true(clock_deadline(&t.rig.clock) > clock_now(&t.rig.clock));
	t.v[0]->tsc_offset += 100 * APIC_RIG_TSC_HZ;
	clock_advance(&t.rig.clock, 101 * NS_PER_SEC);
	assert_int_equal(taken(&t), 1);
	/* Disarmed by 0, by the largest value never due, by a change of mode. */
	msr_wr(&t, 0, MSR_TSC_DEADLINE, UINT64_MAX);
	clock_advance(&t.rig.clock, 7200 * NS_PER_SEC);
	assert_int_equal(taken(&t), 0);
	msr_wr(&t, 0, MSR_TSC_DEADLINE, 0);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	msr_wr(&t, 0, MSR_TSC_DEADLINE, UINT64_MAX);
	apic_wr(&t, 0, 0x320, TIMER_VECTOR);
	assert_true(clock_deadline(&t.rig.clock) == CLOCK_NEVER);
	apic_wr(&t, 0, 0x320, 0x40000 | TIMER_VECTOR);
	assert_int_equal(deadline(&t), 0);
	/* What passes while masked is lost. */
	apic_wr(&t, 0, 0x320, 0x50000 | TIMER_VECTOR);
	msr_wr(&t, 0, MSR_TSC_DEADLINE, 1);
	apic_wr(&t, 0, 0x320, 0x40000 | TIMER_VECTOR);
	assert_int_equal(taken(&t), 0);
	assert_int_equal(deadline(&t), 0);
	apic_rig_destroy(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_oneshot), cmocka_unit_test(test_divisors),
		cmocka_unit_test(test_periodic), cmocka_unit_test(test_shortest_period),
		cmocka_unit_test(test_late_host), cmocka_unit_test(test_tsc_deadline),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
