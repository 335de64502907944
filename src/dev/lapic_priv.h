/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the local APIC: its state, shared by lapic.c (acceptance, priorities, wires),
 * lapic_regs.c (registers and MSRs), lapic_host.c, lapic_timer.c and apic_bus.c.
 *
 * Lock: 'lock' protects everything below it; vcpu_attention() may be called with it
 * held, the bus, the PIC and I/O APICs not.  'base' is written by the vCPU's thread
 * only, with the lock held, so that thread may read it without.
 *
 * Source: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
 */
#ifndef VIREO_DEV_LAPIC_PRIV_H
#define VIREO_DEV_LAPIC_PRIV_H

#include "dev/lapic.h"

#include <pthread.h>

#define APIC_BASE_BSP		BIT(8)
#define APIC_BASE_EXTD		BIT(10)
#define APIC_BASE_EN		BIT(11)
#define APIC_BASE_ADDR		((BIT(GPA_BITS) - 1) & ~GUEST_PAGE_MASK)

#define SVR_ENABLE		BIT(8)
#define SVR_NO_EOI_BROADCAST	BIT(12)

#define LVT_VECTOR		0xffU
#define LVT_MODE(lvt)		((lvt) >> 8 & 7)
#define LVT_REMOTE_IRR		BIT(14)
#define LVT_LEVEL		BIT(15)
#define LVT_MASKED		BIT(16)
#define LVT_TIMER_MODE		(3U << 17)
#define LVT_TIMER_ONESHOT	(0U << 17)
#define LVT_TIMER_PERIODIC	(1U << 17)
#define LVT_TIMER_DEADLINE	(2U << 17)

#define ESR_SEND_VECTOR		BIT(5)
#define ESR_RECEIVE_VECTOR	BIT(6)
#define ESR_REGISTER		BIT(7)

/* A register's number: its offset in the page / 16, its MSR - 800h. */
enum {
	REG_ID = 0x02, REG_VERSION, REG_TPR = 0x08, REG_APR, REG_PPR, REG_EOI, REG_RRD,
	REG_LDR, REG_DFR, REG_SVR, REG_ISR = 0x10, REG_TMR = 0x18, REG_IRR = 0x20,
	REG_ESR = 0x28, REG_ICR = 0x30, REG_ICR_HIGH, REG_LVT, REG_LVT_LAST = 0x37,
	REG_INITIAL, REG_CURRENT, REG_DIVIDE = 0x3e, REG_SELF_IPI,
};

/* In the order of the registers from 320h on. */
enum { LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };

struct lapic {
	struct device dev;
	struct vcpu *vcpu;
	struct apic_bus *bus;
	struct clock *clock;
	bool bsp;
	uint32_t id;			/* initial APIC ID; the ID register is read-only */

	pthread_mutex_t lock;
	uint64_t base;			/* MSR APIC_BASE */
	uint32_t tpr, ldr, dfr, svr;
	uint32_t esr, esr_pending;	/* as read; since the last write */
	uint32_t icr_low, icr_high;
	uint32_t lvt[LVT_COUNT];
	uint32_t irr[8], isr[8], tmr[8];
	bool extint;			/* an ExtINT message waits for its INTA cycle */
	bool hosted;			/* an engine's own APIC stands in: lapic_host.c */
	bool anew;			/* the state is not what that engine took last */

	struct timer timer;
	uint32_t initial_count;
	uint32_t divide;		/* the divide configuration register */
	uint64_t timer_start;		/* VM ns when the count was initial_count, mod 2^64 */
	uint64_t timer_due;		/* VM ns of the next interrupt, CLOCK_NEVER: none */
	uint64_t tsc_deadline;		/* guest TSC; 0: not armed */
};

static inline bool lapic_enabled(const struct lapic *l)
{
	return l->base & APIC_BASE_EN;
}

static inline bool lapic_x2apic(const struct lapic *l)
{
	return (l->base & (APIC_BASE_EN | APIC_BASE_EXTD)) == (APIC_BASE_EN | APIC_BASE_EXTD);
}

static inline bool lapic_software_enabled(const struct lapic *l)
{
	return lapic_enabled(l) && l->svr & SVR_ENABLE;
}

/* --- lapic.c --- */

/* For the bus: is @m meant for it, how busy is it, here it is. */
bool lapic_matches(struct lapic *l, const struct apic_msg *m);
unsigned int lapic_arbitration(struct lapic *l);	/* PPR; 256: takes no interrupts */
bool lapic_accept(struct lapic *l, const struct apic_msg *m);
/* An interrupt with @vector waits in the IRR. */
bool lapic_holds(struct lapic *l, uint8_t vector);
/* ... or is in service. */
bool lapic_serves(struct lapic *l, uint8_t vector);
/* The wires changed. */
void lapic_lint0(struct lapic *l, bool level);
void lapic_lint1(struct lapic *l);

uint32_t lapic_ppr_locked(const struct lapic *l);
/* Tells the vCPU if there is something for it now. */
void lapic_attend_locked(struct lapic *l);
/* A source of the local vector table fires. */
void lapic_lvt_fire_locked(struct lapic *l, unsigned int lvt);
void lapic_error_locked(struct lapic *l, uint32_t bit);
/* After LVT LINT0 was written: the level counts, not an edge. */
void lapic_lint0_sample_locked(struct lapic *l);
void lapic_eoi(struct lapic *l);
void lapic_send_ipi(struct lapic *l);		/* by icr_low and icr_high */
void lapic_self_ipi(struct lapic *l, uint8_t vector);
/* Everything but ID and base as at power-on. */
void lapic_clear_locked(struct lapic *l);

/* --- lapic_regs.c --- */

uint64_t lapic_mmio_read(void *intc, uint32_t off, unsigned int size);
void lapic_mmio_write(void *intc, uint32_t off, unsigned int size, uint64_t value);
bool lapic_read_msr(void *intc, uint32_t index, uint64_t *value);
bool lapic_write_msr(void *intc, uint32_t index, uint64_t value);

/* --- lapic_host.c --- */

void lapic_host(void *intc, bool by_engine);
bool lapic_get_state(void *intc, struct apic_state *s);
void lapic_set_state(void *intc, const struct apic_state *s);
void lapic_end_of_interrupt(void *intc, uint8_t vector);

/* --- lapic_timer.c --- */

void lapic_timer_init(struct lapic *l);
/* Delivers what is due by now; before anything of the timer changes. */
void lapic_timer_sync_locked(struct lapic *l);
/* After something of it changed: sets the host's timer or cancels it. */
void lapic_timer_update_locked(struct lapic *l);
/* After a load: goes on with timer_due. */
void lapic_timer_resume_locked(struct lapic *l);
/* The count is @current now. */
void lapic_timer_restore_locked(struct lapic *l, uint32_t current);
uint32_t lapic_timer_count_locked(const struct lapic *l);
void lapic_timer_start_locked(struct lapic *l, uint32_t initial);
void lapic_timer_divide_locked(struct lapic *l, uint32_t divide);
void lapic_timer_lvt_locked(struct lapic *l, uint32_t lvt);
uint64_t lapic_timer_deadline_locked(struct lapic *l);
void lapic_timer_set_deadline_locked(struct lapic *l, uint64_t tsc);

#endif
