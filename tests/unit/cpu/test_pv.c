// SPDX-License-Identifier: Apache-2.0
/* The records that a guest is told time by: the clock's line, wall time, stolen time. */

#include <time.h>

#include "cpu/pv.h"
#include "cpu/system.h"
#include "guest_mem.h"
#include "unit.h"

#define AT	0x5000ULL
#define NS	1000000000ULL

struct clock_copy {
	uint64_t tsc, time;
	uint32_t mul;
	int8_t shift;
};

static uint64_t stolen;

static uint64_t tell_stolen(void *arg)
{
	(void)arg;
	return stolen;
}

static int setup(void **state)
{
	*state = guest_create("vireo-v1");
	return 0;
}

static int teardown(void **state)
{
	guest_destroy(*state);
	return 0;
}

/* As the guest computes it. */
static uint64_t clock_at(const struct clock_copy *c, uint64_t tsc)
{
	uint64_t delta = tsc - c->tsc;

	delta = c->shift < 0 ? delta >> -c->shift : delta << c->shift;
	return c->time + (uint64_t)((unsigned __int128)delta * c->mul >> 32);
}

static struct clock_copy read_clock(struct guest *g)
{
	const uint8_t *p = gpa_to_hva(&g->space, AT, 32);
	struct clock_copy c;
	uint32_t version;

	memcpy(&version, p, 4);
	memcpy(&c.tsc, p + 8, 8);
	memcpy(&c.time, p + 16, 8);
	memcpy(&c.mul, p + 24, 4);
	c.shift = p[28];
	assert_int_equal(version % 2, 0);
	assert_int_equal(p[29], 1);
	return c;
}

static void test_clock(void **state)
{
	static const uint64_t rates[] = { 1000000, 24000000, 999999999, NS, 2100000000, 5000000000 };
	struct guest *g = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(rates); i++) {
		struct clock_copy c;

		g->v->tsc_hz = rates[i];
		assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, AT | 1), EXEC_OK);
		c = read_clock(g);
		assert_true(c.mul >= 1U << 31);
		for (uint64_t seconds = 1; seconds < 100000000; seconds *= 10) {
			uint64_t want = seconds * NS, got = clock_at(&c, c.tsc + seconds * rates[i]);

			assert_true(got <= want && want - got <= 1 + want / 1000000000);
		}
	}
}

/* A processor whose TSC was written keeps the time of the others. */
static void test_written_tsc(void **state)
{
	struct guest *g = *state;
	struct clock_copy before, after;
	uint64_t tsc, a, b;

	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, AT | 1), EXEC_OK);
	before = read_clock(g);
	tsc = __builtin_ia32_rdtsc();
	a = clock_at(&before, tsc + g->v->tsc_offset);
	assert_int_equal(sys_wrmsr(g->v, MSR_TSC, 12345), EXEC_OK);
	after = read_clock(g);
	b = clock_at(&after, tsc + g->v->tsc_offset);
	assert_int_equal(a, b);
	assert_int_not_equal(before.tsc, after.tsc);
}

static void test_wall(void **state)
{
	struct guest *g = *state;
	struct clock_copy c;
	struct timespec now;
	const uint32_t *w = gpa_to_hva(&g->space, AT + 64, 12);
	uint64_t guest, host;

	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, AT | 1), EXEC_OK);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_WALL_CLOCK, AT + 64), EXEC_OK);
	c = read_clock(g);
	guest = w[1] * NS + w[2] + clock_at(&c, __builtin_ia32_rdtsc() + g->v->tsc_offset);
	clock_gettime(CLOCK_REALTIME, &now);
	host = now.tv_sec * NS + now.tv_nsec;
	assert_true(host - guest + 100000000 < 200000000);
	assert_int_equal(w[0] % 2, 0);
}

static void test_steal(void **state)
{
	struct guest *g = *state;
	const uint64_t *r = gpa_to_hva(&g->space, AT, 64);
	uint64_t value;

	g->v->stolen = tell_stolen;
	stolen = 77;
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME, AT | 1), EXEC_OK);
	assert_int_equal(r[0], 77);
	stolen = 78;
	pv_account(g->v);	/* not so soon */
	assert_int_equal(r[0], 77);
	g->v->pv_accounted = 0;
	pv_account(g->v);
	assert_int_equal(r[0], 78);
	assert_int_equal((uint32_t)r[1] % 2, 0);
	assert_int_equal(sys_rdmsr(g->v, MSR_PV_STEAL_TIME, &value), EXEC_OK);
	assert_int_equal(value, AT | 1);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME, 0), EXEC_OK);
	stolen = 79;
	g->v->pv_accounted = 0;
	pv_account(g->v);
	assert_int_equal(r[0], 78);
}

/* While it does not run its record says so, and others may ask for a flush there. */
static void test_away(void **state)
{
	struct guest *g = *state;
	uint8_t *preempted = (uint8_t *)gpa_to_hva(&g->space, AT, 64) + 16;
	uint64_t flushes;

	pv_leaves(g->v);	/* nothing was asked for yet */
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME, AT | 1), EXEC_OK);
	assert_int_equal(*preempted, 0);
	flushes = g->v->stats.tlb_flushes;
	pv_leaves(g->v);
	assert_int_equal(*preempted, 1);
	pv_returns(g->v);
	assert_int_equal(*preempted, 0);
	assert_int_equal(g->v->stats.tlb_flushes, flushes);
	pv_leaves(g->v);
	*preempted |= 2;
	pv_returns(g->v);
	assert_int_equal(*preempted, 0);
	assert_true(g->v->stats.tlb_flushes > flushes);
	/* Another engine may know nothing of this. */
	pv_leaves(g->v);
	*preempted |= 2;
	pv_moved(g->v);
	assert_int_equal(*preempted, 0);
	assert_true(g->v->attention & ATTN_FLUSH);
}

static uint32_t kicked;

static void note_kick(void *arg, uint32_t apic_id)
{
	(void)arg;
	kicked = apic_id;
}

static uint64_t call(struct vcpu *v, uint64_t number, uint64_t a0, uint64_t a1)
{
	v->gpr[REG_RAX] = number;
	v->gpr[REG_RBX] = a0;
	v->gpr[REG_RCX] = a1;
	pv_hypercall(v);
	return v->gpr[REG_RAX];
}

static void test_hypercalls(void **state)
{
	struct guest *g = *state;

	kicked = 0;
	assert_int_equal(call(g->v, PV_KICK_CPU, 0, 3), 0);	/* there is nobody */
	g->v->kick = note_kick;
	assert_int_equal(call(g->v, PV_KICK_CPU, 0, 3), 0);
	assert_int_equal(kicked, 3);
	assert_int_equal(call(g->v, PV_SCHED_YIELD, 3, 0), 0);
	/* There is no such call; with half the register outside of 64-bit code. */
	assert_int_equal((uint32_t)call(g->v, 12345, 0, 0), (uint32_t)-1000);
	vcpu_set_cpl(g->v, 3);
	assert_int_equal((uint32_t)call(g->v, PV_KICK_CPU, 0, 5), (uint32_t)-1);
	assert_int_equal(kicked, 3);
}

/* A kick ends a HLT, or the next one if it comes before. */
static void test_kicked(void **state)
{
	struct vcpu *v = ((struct guest *)*state)->v;
	enum vcpu_exit why;

	assert_int_equal(sys_hlt(v), EXEC_EXIT);
	assert_int_equal(vcpu_attend(v, false, &why), EXEC_EXIT);
	assert_int_equal(why, VCPU_EXIT_HALT);
	vcpu_attention(v, ATTN_KICK);
	assert_int_equal(vcpu_attend(v, false, &why), EXEC_OK);
	assert_false(v->halted);
	assert_int_equal(sys_hlt(v), EXEC_EXIT);
	v->halted = false;
	vcpu_attention(v, ATTN_KICK);
	vcpu_attention(v, ATTN_KICK);
	assert_int_equal(vcpu_attend(v, false, &why), EXEC_OK);
	assert_int_equal(sys_hlt(v), EXEC_OK);
	assert_false(v->halted);
	assert_int_equal(sys_hlt(v), EXEC_EXIT);
}

static void test_refused(void **state)
{
	struct guest *g = *state;

	g->v->stolen = tell_stolen;
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME, AT | 3), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME, 0xfee00001), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, AT | 3), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, BIT(45) | 1), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, UINT64_MAX & ~2ULL), EXEC_FAULT);
	/* Not wholly in RAM. */
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_SYSTEM_TIME, (GUEST_RAM - 16) | 1), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_WALL_CLOCK, GUEST_RAM - 8), EXEC_FAULT);
	assert_int_equal(sys_wrmsr(g->v, MSR_PV_STEAL_TIME - 1, 1), EXEC_FAULT);
	g->v->pv_accounted = 0;
	pv_account(g->v);
}

int main(void)
{

	const struct CMUnitTest tests[] = {
		T(test_clock), T(test_written_tsc), T(test_wall), T(test_steal), T(test_away),
		T(test_hypercalls), T(test_kicked), T(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
