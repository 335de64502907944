// SPDX-License-Identifier: Apache-2.0
/*
 * Several processors: their start, IPIs of all kinds, in xAPIC and x2APIC mode, INIT of one
 * that runs, time-stamp counters, CPUID's topology, TLB shoot-down.
 * Source: Intel SDM volume 3, "Multiple-Processor Management" and "APIC"; volume 2, "CPUID".
 */
#include "smp.h"
#include "paging.h"

#define VEC_IPI		0x41
#define VEC_FLUSH	0x42
#define APIC_ID		0x20
#define APIC_LDR	0xd0
#define MSR_APIC_BASE	0x1b
#define MSR_X2_ID	0x802
#define MSR_X2_EOI	0x80b
#define MSR_X2_ICR	0x830
#define LINE		64
#define VA		0x40000000UL

static volatile struct { unsigned int n; uint8_t pad[LINE - 4]; } ipis[SMP_MAX], nmis[SMP_MAX];
static volatile uint32_t ids[SMP_MAX], x2_ids[SMP_MAX];
static volatile bool x2apic;
static volatile uint64_t stamp;
static volatile unsigned int turn, backwards;
static volatile unsigned int flushed, stale;

static uint32_t my_id(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	return r[1] >> 24;
}

static void eoi(void)
{
	if (x2apic)
		wrmsr(MSR_X2_EOI, 0);
	else
		apic_write(APIC_EOI, 0);
}

static void on_ipi(struct regs *r)
{
	(void)r;
	ipis[my_id()].n++;
	eoi();
}

static void on_nmi(struct regs *r)
{
	(void)r;
	nmis[my_id()].n++;
}

static void on_flush(struct regs *r)
{
	(void)r;
	invlpg((void *)VA);
	asm volatile("lock incl %0" : "+m" (flushed) : : "memory");
	eoi();
}

static bool until(volatile unsigned int *p, unsigned int value)
{
	uint64_t end = rdtsc() + 120000000000ULL;	/* a busy host may take long */

	while (*p < value) {
		pause();
		if (rdtsc() > end)
			return false;
	}
	return true;
}

static void note_ids(unsigned int cpu)
{
	uint32_t r[4];

	ids[cpu] = apic_read(APIC_ID) >> 24;
	cpuid(0xb, 0, r);
	if (r[3] != ids[cpu])
		ids[cpu] = ~0;
}

static void test_topology(void)
{
	unsigned int i, j, bad = 0;
	uint32_t r[4];

	smp_run(note_ids);
	for (i = 0; i < smp_count; i++)
		for (j = 0; j < i; j++)
			bad += ids[i] == ids[j] || ids[i] == ~0U;
	check_eq(bad, 0, "apic-ids-differ");
	cpuid(0xb, 1, r);
	check_eq(r[1] & 0xffff, smp_count, "topology-processors");
	check(BIT(r[0]) >= smp_count, "topology-shift", "%x", r[0]);
}

/* The others enable interrupts and halt until they were interrupted three times. */
static void halt_for_three(unsigned int cpu)
{
	unsigned int me = my_id();

	if (cpu) {
		asm volatile("cli");
		while (ipis[me].n < 3)
			asm volatile("sti; hlt; cli");
		return;
	}
	for (unsigned int round = 1; round <= 3; round++) {
		for (unsigned int i = 1; i < smp_count; i++) {
			if (x2apic) {
				wrmsr(MSR_X2_ICR, (uint64_t)ids[i] << 32 | 0x4000 | VEC_IPI);
			} else {
				apic_write(APIC_ICR_HIGH, ids[i] << 24);
				apic_write(APIC_ICR, 0x4000 | VEC_IPI);
			}
		}
		for (unsigned int i = 1; i < smp_count; i++)
			if (!until(&ipis[ids[i]].n, round))
				return;
	}
}

static unsigned int clear_ipis(void)
{
	unsigned int sum = 0;

	for (unsigned int i = 0; i < SMP_MAX; i++) {
		sum += ipis[i].n;
		ipis[i].n = 0;
	}
	return sum;
}

static void broadcast(unsigned int cpu)
{
	unsigned int me = my_id();

	if (cpu) {
		asm volatile("sti");
		until(&ipis[me].n, 100);
		asm volatile("cli");
		return;
	}
	for (unsigned int n = 1; n <= 100; n++) {
		apic_write(APIC_ICR, ICR_OTHERS | 0x4000 | VEC_IPI);
		for (unsigned int i = 1; i < smp_count; i++)
			if (!until(&ipis[ids[i]].n, n))
				return;
	}
}

static void nmi_all(unsigned int cpu)
{
	if (!cpu)
		apic_write(APIC_ICR, ICR_OTHERS | 0x4400);
	else
		until(&nmis[my_id()].n, 1);
}

static void test_ipis(void)
{
	unsigned int sum = 0;

	set_handler(VEC_IPI, on_ipi);
	set_handler(NMI, on_nmi);
	smp_run(halt_for_three);
	check_eq(clear_ipis(), 3 * (smp_count - 1), "ipi-wakes-halted");
	smp_run(broadcast);
	check_eq(clear_ipis(), 100 * (smp_count - 1), "ipi-all-but-self");
	smp_run(nmi_all);
	for (unsigned int i = 0; i < SMP_MAX; i++)
		sum += nmis[i].n;
	check_eq(sum, smp_count - 1, "nmi-all-but-self");
}

/* One writes its time-stamp counter, the next must not read less. */
static void pass_stamp(unsigned int cpu)
{
	for (unsigned int n = 0; n < 200; n++) {
		while (turn % smp_count != cpu)
			pause();
		uint64_t before = stamp, now;

		/* RDTSC alone may be executed before the load. */
		asm volatile("lfence" : : : "memory");
		now = rdtsc();
		if (now < before)
			backwards++;
		stamp = now;
		turn++;
	}
}

static void test_tsc(void)
{
	smp_run(pass_stamp);
	check_eq(backwards, 0, "tsc-never-goes-back");
}

/* Page 0 of VA is exchanged again and again; whoever has acknowledged sees the new one. */
static volatile unsigned int round_now, rounds_seen[SMP_MAX];
static uint64_t *frames[2];

static void shoot(unsigned int cpu)
{
	if (cpu) {
		asm volatile("sti");
		for (unsigned int n = 1; n <= 200; n++) {
			while (round_now < n)
				if (*(volatile uint64_t *)VA > n)
					stale += 1000;
			if (*(volatile uint64_t *)VA != n)
				stale++;
			rounds_seen[cpu] = n;
		}
		asm volatile("cli");
		return;
	}
	for (unsigned int n = 1; n <= 200; n++) {
		*(volatile uint64_t *)frames[n % 2] = n;
		flushed = 0;
		page_map(VA, (ulong)frames[n % 2], P_P | P_W);
		apic_write(APIC_ICR, ICR_OTHERS | 0x4000 | VEC_FLUSH);
		if (!until(&flushed, smp_count - 1))
			break;
		round_now = n;
		for (unsigned int i = 1; i < smp_count; i++)
			while (rounds_seen[i] < n)
				pause();
	}
}

static void test_shootdown(void)
{
	frames[0] = page_alloc();
	frames[1] = page_alloc();
	page_map(VA, (ulong)frames[0], P_P | P_W);
	set_handler(VEC_FLUSH, on_flush);
	smp_run(shoot);
	check_eq(round_now, 200, "shootdown-all-rounds");
	check_eq(stale, 0, "shootdown-no-stale-page");
}

static void go_x2apic(unsigned int cpu)
{
	wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | BIT(10));
	x2_ids[cpu] = rdmsr(MSR_X2_ID);
}

static void test_x2apic(void)
{
	unsigned int bad = 0;
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] & BIT(21))) {
		check(true, "x2apic-absent", " ");
		return;
	}
	smp_run(go_x2apic);
	x2apic = true;
	for (unsigned int i = 0; i < smp_count; i++)
		bad += x2_ids[i] != ids[i];
	check_eq(bad, 0, "x2apic-ids");
	smp_run(halt_for_three);
	check_eq(clear_ipis(), 3 * (smp_count - 1), "x2apic-ipi");
}

void guest_main(void)
{
	check(smp_init() > 1, "others-start", "only %d", smp_count);
	test_topology();
	test_ipis();
	test_tsc();
	test_shootdown();
	test_x2apic();
}
