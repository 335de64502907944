// SPDX-License-Identifier: Apache-2.0
/*
 * Cross-modifying code: one processor writes, the others execute.
 * Source: Intel SDM volume 3, "Handling Self- and Cross-Modifying Code"; how Linux patches
 * its text (arch/x86/kernel/alternative.c, text_poke_bp_batch) for the breakpoint method.
 */
#include "smp.h"
#include "paging.h"

#define VEC_SYNC	0x43
#define VA		0x40000000UL

typedef ulong (*code_fn)(void);

static uint8_t *code;
static volatile unsigned int version, acks, wrong, stop, synced, breakpoints;
static volatile unsigned int last_value;

static void serialize(void)
{
	uint32_t r[4];

	cpuid(0, 0, r);
}

static void add(volatile unsigned int *p)
{
	asm volatile("lock incl %0" : "+m" (*p) : : "memory");
}

/* mov $value, %eax; ret */
static void put_return(uint8_t *at, uint32_t value)
{
	volatile uint8_t *p = at;

	p[0] = 0xb8;
	for (unsigned int i = 0; i < 4; i++)
		p[1 + i] = value >> (8 * i);
	p[5] = 0xc3;
}

static uint32_t call(const void *at)
{
	return ((code_fn)(ulong)at)();
}

/* The manual's way: store, flag; see the flag, serialize, execute. */
static void by_flag(unsigned int cpu)
{
	for (unsigned int n = 1; n <= 300; n++) {
		if (!cpu) {
			put_return(code, n);
			acks = 0;
			version = n;
			while (acks < smp_count - 1)
				pause();
			continue;
		}
		while (version < n)
			pause();
		serialize();
		/* Often enough to be translated. */
		for (unsigned int k = 0; k < (n % 8 ? 3 : 40); k++)
			if (call(code) != n)
				add(&wrong);
		add(&acks);
	}
}

static void test_by_flag(void)
{
	smp_run(by_flag);
	check_eq(wrong, 0, "store-flag-serialize");
	/* The same with the flag's and other data in the page of the code. */
	wrong = version = 0;
	smp_run(by_flag);
	check_eq(wrong, 0, "store-flag-serialize-again");
}

/* One byte, without a word: the values seen never go back, and the last is seen. */
static void one_byte(unsigned int cpu)
{
	uint64_t end;

	if (!cpu) {
		for (unsigned int n = 1; n < 256; n++) {
			((volatile uint8_t *)code)[1] = n;
			for (unsigned int k = 0; k < 2000; k++)
				asm volatile("" : : : "memory");
		}
		return;
	}
	end = rdtsc() + 20000000000ULL;
	for (unsigned int last = 0; last != 255; ) {
		unsigned int now = call(code);

		if (now < last || rdtsc() > end) {
			add(&wrong);
			break;
		}
		last = now;
	}
}

static void test_one_byte(void)
{
	put_return(code, 0);
	wrong = 0;
	smp_run(one_byte);
	check_eq(wrong, 0, "one-byte-comes-through");
}

/* --- breakpoint, tail, first byte, with an IPI after each --- */

static void on_sync(struct regs *r)
{
	(void)r;
	add(&synced);
	apic_write(APIC_EOI, 0);
}

/* INT3 in place of the first byte: as if the old instruction had been executed. */
static void on_breakpoint(struct regs *r)
{
	add(&breakpoints);
	r->ax = 0x10000000;
	r->ip += 4;
}

static void sync_others(void)
{
	synced = 0;
	apic_write(APIC_ICR, ICR_OTHERS | 0x4000 | VEC_SYNC);
	while (synced < smp_count - 1)
		pause();
}

static void poke(unsigned int cpu)
{
	volatile uint8_t *p = code;

	if (!cpu) {
		for (unsigned int n = 1; n <= 80; n++) {
			uint32_t value = n * 0x01010101;

			p[0] = 0xcc;
			sync_others();
			for (unsigned int i = 1; i < 5; i++)
				p[i] = value >> (8 * (i - 1));
			sync_others();
			p[0] = 0xb8;
			sync_others();
			last_value = value;
		}
		stop = 1;
		return;
	}
	asm volatile("sti");
	while (!stop) {
		uint32_t before = last_value, now = call(code);

		/* Whole values only, and no older one than was complete when we began. */
		if (now == 0x10000000)
			continue;
		if (now % 0x01010101 || now / 0x01010101 < before / 0x01010101)
			add(&wrong);
	}
	asm volatile("cli");
}

static void test_poke(void)
{
	set_handler(VEC_SYNC, on_sync);
	set_handler(BP, on_breakpoint);
	put_return(code, 0);
	wrong = 0;
	smp_run(poke);
	check_eq(wrong, 0, "breakpoint-method");
	print("# %d breakpoints\n", breakpoints);
}

/*
 * Pages that become code while another processor has them in its write tables and stores to
 * them: what was stored before the flag must be executed after it.
 */
#define PAGES	1500

static uint8_t *pages;
static volatile unsigned int go, second;

static void fresh(unsigned int cpu)
{
	for (unsigned int n = 1; n <= PAGES; n++) {
		uint8_t *at = pages + (n - 1) * 4096UL + 64 * (n % 60);

		if (cpu > 1)
			continue;
		if (!cpu) {
			put_return(at, 1);
			go = n;
			for (unsigned int k = 0; k < n * 37 % 3000; k++)
				asm volatile("" : : : "memory");
			/* One store, so that what runs meanwhile is the old or the new. */
			((volatile uint8_t *)at)[1] = 2;
			second = n;
			while (acks < n)
				pause();
			continue;
		}
		while (go < n)
			pause();
		serialize();
		for (unsigned int k = 0; k < n % 64; k++)
			if (call(at) - 1 > 1)
				add(&wrong);
		while (second < n)
			pause();
		serialize();
		for (unsigned int k = 0; k < 20; k++)
			if (call(at) != 2)
				add(&wrong);
		acks = n;
	}
}

static void test_fresh(void)
{
	pages = page_alloc();
	for (unsigned int i = 1; i < PAGES; i++)
		page_alloc();
	wrong = acks = 0;
	smp_run(fresh);
	check_eq(wrong, 0, "page-becomes-code");
	/* And once more, when the pages are known as code of that processor. */
	wrong = acks = go = second = 0;
	smp_run(fresh);
	check_eq(wrong, 0, "page-is-code");
}

/* Every processor writes code of its own into a common page and runs it at once. */
static void crowd(unsigned int cpu)
{
	uint8_t *mine = code + 64 * (cpu % 32);

	for (unsigned int n = 0; n < 300; n++) {
		put_return(mine, n << 8 | cpu);
		for (unsigned int k = 0; k < 1 + n % 20; k++)
			if (call(mine) != (n << 8 | cpu))
				add(&wrong);
	}
}

static void test_crowd(void)
{
	wrong = 0;
	smp_run(crowd);
	check_eq(wrong, 0, "everybody-writes-one-page");
}

void guest_main(void)
{
	check(smp_init() > 1, "others-start", "only %d", smp_count);
	code = page_alloc();
	test_by_flag();
	test_one_byte();
	test_poke();
	test_fresh();
	test_crowd();
}
