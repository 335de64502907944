// SPDX-License-Identifier: Apache-2.0
/* See smp.h.  Source: Intel SDM volume 3, "Multiple-Processor (MP) Initialization". */
#include "smp.h"
#include "paging.h"

#define SMP_PAGE	0x8000UL
#define START_TICKS	200000000ULL	/* some 0.1 s */

extern uint8_t smp_trampoline[], smp_trampoline_end[];
extern volatile unsigned int smp_next;
unsigned int smp_count = 1;

static void (*volatile work)(unsigned int cpu);
static volatile unsigned int work_number, arrived, done, barrier_in, barrier_turn;
static volatile bool counted;

static void add(volatile unsigned int *p)
{
	asm volatile("lock incl %0" : "+m" (*p) : : "memory");
}

void smp_main(unsigned int cpu)
{
	unsigned int seen = 0;

	idt_load();
	apic_write(APIC_SVR, 0x1ff);
	add(&arrived);
	while (!counted)
		pause();
	for (;;) {
		while (work_number == seen)
			pause();
		seen++;
		work(cpu);
		add(&done);
	}
}

unsigned int smp_init(void)
{
	paging_init();
	page_map(APIC_BASE, APIC_BASE, P_P | P_W | BIT(4));
	memcpy((void *)SMP_PAGE, smp_trampoline, smp_trampoline_end - smp_trampoline);
	apic_write(APIC_SVR, 0x1ff);
	apic_write(APIC_ICR, ICR_OTHERS | ICR_INIT);
	wait_ticks(START_TICKS / 5);
	apic_write(APIC_ICR, ICR_OTHERS | ICR_SIPI | SMP_PAGE >> 12);
	wait_ticks(START_TICKS);
	/* Those that wait no longer do nothing on this one. */
	apic_write(APIC_ICR, ICR_OTHERS | ICR_SIPI | SMP_PAGE >> 12);
	wait_ticks(START_TICKS);
	smp_count = arrived + 1;
	counted = true;
	return smp_count;
}

void smp_run(void (*fn)(unsigned int cpu))
{
	work = fn;
	done = 0;
	barrier_in = barrier_turn = 0;
	asm volatile("lock incl %0" : "+m" (work_number) : : "memory");
	fn(0);
	while (done < smp_count - 1)
		pause();
}

void smp_barrier(void)
{
	unsigned int turn = barrier_turn, one = 1;

	asm volatile("lock xaddl %0, %1" : "+r" (one), "+m" (barrier_in) : : "memory");
	if (one == smp_count - 1) {
		barrier_in = 0;
		asm volatile("" : : : "memory");
		barrier_turn = turn + 1;
	}
	while (barrier_turn == turn)
		pause();
}
