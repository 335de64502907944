// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts and what raises them: local APIC timer in its three modes, PIT through the
 * PICs and through the IOAPIC, HLT's wake-up, priorities, the shadow of STI.
 * Source: Intel SDM volume 3, "APIC"; Intel 8254, 8259A and 82093AA datasheets.
 */
#include "guest.h"
#include "paging.h"

#define APIC_BASE	0xfee00000UL
#define IOAPIC_BASE	0xfec00000UL
#define APIC_ID		0x20
#define APIC_TPR	0x80
#define APIC_EOI	0xb0
#define APIC_SVR	0xf0
#define APIC_IRR	0x200
#define APIC_ICR	0x300
#define APIC_LVT_TIMER	0x320
#define APIC_LVT_LINT0	0x350
#define APIC_INIT_COUNT	0x380
#define APIC_CUR_COUNT	0x390
#define APIC_DIVIDE	0x3e0
#define LVT_MASKED	BIT(16)
#define LVT_PERIODIC	BIT(17)
#define LVT_DEADLINE	BIT(18)
#define VEC_TIMER	0x40
#define VEC_PIC		0x50
#define VEC_IOAPIC	0x60
#define VEC_LOW		0x70
#define VEC_HIGH	0xa0

static volatile unsigned int fired[256];
static volatile unsigned int order[8], order_count;

static uint32_t apic_read(unsigned int reg)
{
	return *(volatile uint32_t *)(APIC_BASE + reg);
}

static void apic_write(unsigned int reg, uint32_t v)
{
	*(volatile uint32_t *)(APIC_BASE + reg) = v;
}

static uint32_t ioapic_read(unsigned int reg)
{
	*(volatile uint32_t *)IOAPIC_BASE = reg;
	return *(volatile uint32_t *)(IOAPIC_BASE + 0x10);
}

static void ioapic_write(unsigned int reg, uint32_t v)
{
	*(volatile uint32_t *)IOAPIC_BASE = reg;
	*(volatile uint32_t *)(IOAPIC_BASE + 0x10) = v;
}

static void on_apic(struct regs *r)
{
	fired[r->vector]++;
	if (order_count < 8)
		order[order_count++] = r->vector;
	apic_write(APIC_EOI, 0);
}

static void on_pic(struct regs *r)
{
	fired[r->vector]++;
	outb(0x20, 0x20);
}

/* Waits with HLT until @vector came @n times; false after about 2 G TSC ticks. */
static bool wait_hlt(unsigned int vector, unsigned int n)
{
	uint64_t end = rdtsc() + 6000000000ULL;

	while (fired[vector] < n) {
		asm volatile("sti; hlt; cli" : : : "memory");
		if (rdtsc() > end)
			return false;
	}
	return true;
}

static bool wait_spin(unsigned int vector, unsigned int n)
{
	uint64_t end = rdtsc() + 6000000000ULL;

	asm volatile("sti");
	while (fired[vector] < n && rdtsc() < end)
		asm volatile("pause");
	asm volatile("cli");
	return fired[vector] >= n;
}

static void apic_start(void)
{
	apic_write(APIC_SVR, 0x1ff);
	apic_write(APIC_TPR, 0);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
	apic_write(APIC_DIVIDE, 0xb);		/* by 1 */
}

static void test_one_shot(void)
{
	uint32_t a, b;

	apic_write(APIC_LVT_TIMER, VEC_TIMER);
	apic_write(APIC_INIT_COUNT, 1000000);
	check(wait_hlt(VEC_TIMER, 1), "apic-one-shot-hlt", "no interrupt");
	check_eq(apic_read(APIC_CUR_COUNT), 0, "apic-one-shot-stops");
	apic_write(APIC_INIT_COUNT, 1000000);
	check(wait_spin(VEC_TIMER, 2), "apic-one-shot-spin", "no interrupt");
	apic_write(APIC_LVT_TIMER, LVT_MASKED | VEC_TIMER);
	apic_write(APIC_INIT_COUNT, 0x7fffffff);
	a = apic_read(APIC_CUR_COUNT);
	b = apic_read(APIC_CUR_COUNT);
	check(a > b && b > 0, "apic-counts-down", "%x then %x", a, b);
	apic_write(APIC_INIT_COUNT, 0);
	check_eq(apic_read(APIC_CUR_COUNT), 0, "apic-stopped-by-0");
	check_eq(fired[VEC_TIMER], 2, "apic-masked");
}

static void test_periodic(void)
{
	fired[VEC_TIMER] = 0;
	apic_write(APIC_LVT_TIMER, LVT_PERIODIC | VEC_TIMER);
	apic_write(APIC_INIT_COUNT, 1000000);
	check(wait_hlt(VEC_TIMER, 5), "apic-periodic", "%u of 5", fired[VEC_TIMER]);
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
	apic_write(APIC_INIT_COUNT, 0);
}

static void test_deadline(void)
{
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 24 & 1)) {
		print("ok apic-tsc-deadline # skip: not in CPUID\n");
		return;
	}
	fired[VEC_TIMER] = 0;
	apic_write(APIC_LVT_TIMER, LVT_DEADLINE | VEC_TIMER);
	wrmsr(0x6e0, rdtsc() + 1000000);
	check(wait_hlt(VEC_TIMER, 1), "apic-tsc-deadline", "no interrupt");
	check_eq(rdmsr(0x6e0), 0, "apic-tsc-deadline-disarmed");
	wrmsr(0x6e0, 1);
	check(wait_hlt(VEC_TIMER, 2), "apic-tsc-deadline-past", "no interrupt");
	wrmsr(0x6e0, rdtsc() + 100000000000ULL);
	wrmsr(0x6e0, 0);
	check_eq(rdmsr(0x6e0), 0, "apic-tsc-deadline-cancelled");
	apic_write(APIC_LVT_TIMER, LVT_MASKED);
}

/* Two self-IPIs while interrupts are off: the higher vector comes first. */
static void test_priority(void)
{
	apic_write(APIC_ICR, 0x40000 | VEC_LOW);
	apic_write(APIC_ICR, 0x40000 | VEC_HIGH);
	check_eq(apic_read(APIC_IRR + (VEC_HIGH >> 5) * 16) >> (VEC_HIGH & 31) & 1, 1, "irr");
	order_count = 0;
	asm volatile("sti; nop; nop; cli");
	check_eq(order_count, 2, "self-ipi-both");
	check_eq(order[0], VEC_HIGH, "higher-first");
	apic_write(APIC_TPR, 0x80);
	apic_write(APIC_ICR, 0x40000 | VEC_LOW);
	order_count = 0;
	asm volatile("sti; nop; nop; cli");
	check_eq(order_count, 0, "tpr-holds-back");
	apic_write(APIC_TPR, 0);
	asm volatile("sti; nop; nop; cli");
	check_eq(order_count, 1, "tpr-lowered");
	asm volatile("mov %0, %%cr8" : : "r" (8UL));
	check_eq(apic_read(APIC_TPR), 0x80, "cr8-is-tpr");
	asm volatile("mov %0, %%cr8" : : "r" (0UL));
}

/* STI takes effect after the next instruction. */
static void test_sti_shadow(void)
{
	apic_write(APIC_ICR, 0x40000 | VEC_LOW);
	order_count = 0;
	asm volatile("sti; cli; nop; nop" : : : "memory");
	check_eq(order_count, 0, "sti-cli-takes-nothing");
	asm volatile("sti; nop; cli" : : : "memory");
	check_eq(order_count, 1, "sti-nop-takes-it");
}

static void pit_start(unsigned int mode, unsigned int count)
{
	outb(0x43, 0x30 | mode << 1);
	outb(0x40, count);
	outb(0x40, count >> 8);
}

static void pic_start(void)
{
	outb(0x20, 0x11);
	outb(0xa0, 0x11);
	outb(0x21, VEC_PIC);
	outb(0xa1, VEC_PIC + 8);
	outb(0x21, 4);
	outb(0xa1, 2);
	outb(0x21, 1);
	outb(0xa1, 1);
	outb(0x21, 0xfe);
	outb(0xa1, 0xff);
}

static void test_pic(void)
{
	pic_start();
	apic_write(APIC_LVT_LINT0, 0x700);	/* ExtINT */
	pit_start(2, 11932);			/* 100 Hz */
	check(wait_hlt(VEC_PIC, 3), "pit-pic-periodic", "%u of 3", fired[VEC_PIC]);
	pit_start(0, 2000);
	fired[VEC_PIC] = 0;
	check(wait_hlt(VEC_PIC, 1), "pit-pic-one-shot", "no interrupt");
	outb(0x21, 0xff);
	apic_write(APIC_LVT_LINT0, LVT_MASKED);
}

static void test_ioapic(void)
{
	check((ioapic_read(1) & 0xff) >= 0x10, "ioapic-version", "%x", ioapic_read(1));
	ioapic_write(0x10 + 2 * 2 + 1, (apic_read(APIC_ID) >> 24) << 24);
	ioapic_write(0x10 + 2 * 2, VEC_IOAPIC);	/* pin 2: PIT; edge, fixed */
	pit_start(2, 11932);
	check(wait_hlt(VEC_IOAPIC, 3), "pit-ioapic", "%u of 3", fired[VEC_IOAPIC]);
	ioapic_write(0x10 + 2 * 2, LVT_MASKED | VEC_IOAPIC);
	pit_start(0, 0);
}

/* PIT channel 2 by its gate and output in port 61h, as kernels calibrate. */
static void test_channel_2(void)
{
	uint64_t begin, end = rdtsc() + 6000000000ULL;

	outb(0x61, (inb(0x61) & ~2) | 1);
	outb(0x43, 0xb0);
	outb(0x42, 11932 & 0xff);
	outb(0x42, 11932 >> 8);
	begin = rdtsc();
	while (!(inb(0x61) & 0x20) && rdtsc() < end)
		;
	check(inb(0x61) & 0x20, "pit-channel-2", "output stays low");
	check(rdtsc() - begin > 1000000, "pit-channel-2-takes-time", "%llu ticks",
	      (unsigned long long)(rdtsc() - begin));
}

static void test_x2apic(void)
{
	uint64_t base = rdmsr(0x1b);
	uint32_t r[4];

	cpuid(1, 0, r);
	if (!(r[2] >> 21 & 1)) {
		print("ok x2apic # skip: not in CPUID\n");
		return;
	}
	wrmsr(0x1b, base | 0xc00);
	check_eq(rdmsr(0x802), apic_read(APIC_ID) == 0xffffffff ? rdmsr(0x802) : 0, "x2apic-id");
	fired[VEC_TIMER] = 0;
	set_handler(VEC_TIMER, NULL);
	check_eq(rdmsr(0x80f) & 0x1ff, 0x1ff, "x2apic-svr-kept");
	wrmsr(0x1b, base & ~0xc00UL);
	wrmsr(0x1b, base);
}

void guest_main(void)
{
	unsigned int i;

	paging_init();
	page_map(APIC_BASE, APIC_BASE, P_P | P_W);
	page_map(IOAPIC_BASE, IOAPIC_BASE, P_P | P_W);
	for (i = 0x40; i < 0x100; i++)
		set_handler(i, i >= VEC_PIC && i < VEC_PIC + 16 ? on_pic : on_apic);
	set_handler(SYS, NULL);
	apic_start();
	test_one_shot();
	test_periodic();
	test_deadline();
	test_priority();
	test_sti_shadow();
	test_pic();
	test_ioapic();
	test_channel_2();
	test_x2apic();
}
