/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several processors in a 64-bit guest image: they start in real mode through INIT and SIPI,
 * come to long mode with the first one's page tables, GDT and IDT, and wait for work.
 */
#ifndef VIREO_GUEST_SMP_H
#define VIREO_GUEST_SMP_H

#include "guest.h"

#define SMP_MAX		64
#define APIC_BASE	0xfee00000UL
#define APIC_EOI	0xb0
#define APIC_SVR	0xf0
#define APIC_ICR	0x300
#define APIC_ICR_HIGH	0x310
#define ICR_INIT	0x4500
#define ICR_SIPI	0x4600
#define ICR_OTHERS	0xc0000

/* Starts the others; how many there are with this one. */
unsigned int smp_init(void);
/* Runs @fn on every processor, with its number (0: this one), and waits for all. */
void smp_run(void (*fn)(unsigned int cpu));
/* Waits until all processors have come here; only within smp_run(). */
void smp_barrier(void);
extern unsigned int smp_count;

static inline void apic_write(unsigned int reg, uint32_t v)
{
	*(volatile uint32_t *)(APIC_BASE + reg) = v;
}

static inline uint32_t apic_read(unsigned int reg)
{
	return *(volatile uint32_t *)(APIC_BASE + reg);
}

static inline void pause(void)
{
	asm volatile("pause" : : : "memory");
}

static inline void wait_ticks(uint64_t ticks)
{
	uint64_t end = rdtsc() + ticks;

	while (rdtsc() < end)
		pause();
}

#endif
