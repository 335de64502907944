// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC's registers, through its page (xAPIC) and through MSRs (x2APIC), and
 * the APIC_BASE and TSC_DEADLINE MSRs.
 *
 * Source: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)":
 * "The Local APIC Block Diagram" (register map), "Extended XAPIC (x2APIC)" (which
 * accesses are #GP, the transitions of APIC_BASE).
 */
#include "dev/lapic_priv.h"

#define VERSION		(0x14 | (LVT_COUNT - 1) << 16 | BIT(24))	/* EOIs can be kept */
#define SVR_WRITABLE	(0xff | SVR_ENABLE | BIT(9) | SVR_NO_EOI_BROADCAST)
#define ICR_WRITABLE	0xccfffU	/* without delivery status */
#define ICR_RESERVED	0xfff32000U	/* of the low half; x2APIC checks it */
#define DIVIDE_WRITABLE	0x0bU
#define LVT_STATUS	(BIT(12) | LVT_REMOTE_IRR)	/* read-only */

static const uint32_t lvt_writable[LVT_COUNT] = {
	[LVT_TIMER] = LVT_VECTOR | LVT_MASKED | LVT_TIMER_MODE,
	[LVT_THERMAL] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LVT_PERF] = LVT_VECTOR | LVT_MASKED | 0x700,
	[LVT_LINT0] = LVT_VECTOR | LVT_MASKED | 0x700 | BIT(13) | LVT_LEVEL,
	[LVT_LINT1] = LVT_VECTOR | LVT_MASKED | 0x700 | BIT(13) | LVT_LEVEL,
	[LVT_ERROR] = LVT_VECTOR | LVT_MASKED,
};

/* The x2APIC logical ID: cluster and one bit. */
static uint32_t x2apic_ldr(const struct lapic *l)
{
	return l->id >> 4 << 16 | 1U << (l->id & 15);
}

/* False: there is no such register to be read, in either mode. */
static bool read_locked(struct lapic *l, unsigned int reg, uint32_t *value)
{
	*value = 0;
	switch (reg) {
	case REG_ID:
		*value = lapic_x2apic(l) ? l->id : l->id << 24;
		break;
	case REG_VERSION:
		*value = VERSION;
		break;
	case REG_TPR:
		*value = l->tpr;
		break;
	case REG_PPR:
		*value = lapic_ppr_locked(l);
		break;
	case REG_LDR:
		*value = lapic_x2apic(l) ? x2apic_ldr(l) : l->ldr;
		break;
	case REG_SVR:
		*value = l->svr;
		break;
	case REG_ISR ... REG_ISR + 7:
		*value = l->isr[reg - REG_ISR];
		break;
	case REG_TMR ... REG_TMR + 7:
		*value = l->tmr[reg - REG_TMR];
		break;
	case REG_IRR ... REG_IRR + 7:
		*value = l->irr[reg - REG_IRR];
		break;
	case REG_ESR:
		*value = l->esr;
		break;
	case REG_ICR:
		*value = l->icr_low;
		break;
	case REG_LVT ... REG_LVT_LAST:
		*value = l->lvt[reg - REG_LVT];
		break;
	case REG_INITIAL:
		*value = l->initial_count;
		break;
	case REG_CURRENT:
		*value = lapic_timer_count_locked(l);
		break;
	case REG_DIVIDE:
		*value = l->divide;
		break;
	default:
		return false;
	}
	return true;
}

static void write_lvt_locked(struct lapic *l, unsigned int n, uint32_t value)
{
	value = (value & lvt_writable[n]) | (l->lvt[n] & LVT_REMOTE_IRR);
	if (!(l->svr & SVR_ENABLE))
		value |= LVT_MASKED;
	if (n == LVT_TIMER) {
		lapic_timer_lvt_locked(l, value);
		return;
	}
	/* The remote IRR belongs to a level-triggered fixed interrupt. */
	if (!(value & LVT_LEVEL) || LVT_MODE(value) != APIC_FIXED)
		value &= ~LVT_REMOTE_IRR;
	l->lvt[n] = value;
	if (n == LVT_LINT0)
		lapic_lint0_sample_locked(l);
}

static void write_svr_locked(struct lapic *l, uint32_t value)
{
	l->svr = value & SVR_WRITABLE;
	if (l->svr & SVR_ENABLE)
		return;
	for (unsigned int i = 0; i < LVT_COUNT; i++)
		write_lvt_locked(l, i, l->lvt[i]);
}

/* Registers of both modes whose writing has effects in this APIC only. */
static bool write_locked(struct lapic *l, unsigned int reg, uint32_t value)
{
	switch (reg) {
	case REG_TPR:
		l->tpr = value & 0xff;
		lapic_attend_locked(l);
		break;
	case REG_SVR:
		write_svr_locked(l, value);
		break;
	case REG_ESR:
		l->esr = l->esr_pending;
		l->esr_pending = 0;
		break;
	case REG_LVT ... REG_LVT_LAST:
		write_lvt_locked(l, reg - REG_LVT, value);
		break;
	case REG_INITIAL:
		lapic_timer_start_locked(l, value);
		break;
	case REG_DIVIDE:
		lapic_timer_divide_locked(l, value & DIVIDE_WRITABLE);
		break;
	default:
		return false;
	}
	return true;
}

/* --- xAPIC: the page --- */

static uint32_t xapic_read(struct lapic *l, unsigned int reg)
{
	uint32_t value = 0;

	pthread_mutex_lock(&l->lock);
	lapic_timer_sync_locked(l);
	switch (reg) {
	case REG_APR:
	case REG_EOI:
	case REG_RRD:
		break;
	case REG_DFR:
		value = l->dfr;
		break;
	case REG_ICR_HIGH:
		value = l->icr_high;
		break;
	default:
		if (!read_locked(l, reg, &value))
			lapic_error_locked(l, ESR_REGISTER);
	}
	pthread_mutex_unlock(&l->lock);
	return value;
}

static void xapic_write_locked(struct lapic *l, unsigned int reg, uint32_t value)
{
	switch (reg) {
	case REG_ID:		/* read-only here, as the manual allows */
	case REG_VERSION:
	case REG_APR:
	case REG_PPR:
	case REG_RRD:
	case REG_ISR ... REG_IRR + 7:
	case REG_CURRENT:
		break;
	case REG_LDR:
		l->ldr = value & 0xff000000;
		break;
	case REG_DFR:
		l->dfr = value | 0x0fffffff;
		break;
	case REG_ICR:
		l->icr_low = value & ICR_WRITABLE;
		break;
	case REG_ICR_HIGH:
		l->icr_high = value & 0xff000000;
		break;
	default:
		if (!write_locked(l, reg, value))
			lapic_error_locked(l, ESR_REGISTER);
	}
}

static void xapic_write(struct lapic *l, unsigned int reg, uint32_t value)
{
	if (reg == REG_EOI) {
		lapic_eoi(l);
		return;
	}
	pthread_mutex_lock(&l->lock);
	lapic_timer_sync_locked(l);
	xapic_write_locked(l, reg, value);
	pthread_mutex_unlock(&l->lock);
	if (reg == REG_ICR)
		lapic_send_ipi(l);
}

/* A register is the first four of sixteen bytes; the rest reads zero. */
uint64_t lapic_mmio_read(void *intc, uint32_t off, unsigned int size)
{
	uint64_t value;

	if ((off & 15) > 3)
		return 0;
	value = xapic_read(intc, off >> 4) >> (8 * (off & 3));
	return size < 4 ? value & (BIT(8 * size) - 1) : value;
}

/* Only whole registers can be written; what else the manual leaves undefined is dropped. */
void lapic_mmio_write(void *intc, uint32_t off, unsigned int size, uint64_t value)
{
	if (!(off & 15) && size >= 4)
		xapic_write(intc, off >> 4, value);
}

/* --- x2APIC: the MSRs --- */

static bool x2apic_read(struct lapic *l, unsigned int reg, uint64_t *value)
{
	uint32_t low = 0;
	bool ok;

	pthread_mutex_lock(&l->lock);
	lapic_timer_sync_locked(l);
	ok = lapic_x2apic(l) && read_locked(l, reg, &low);
	*value = low;
	if (reg == REG_ICR)
		*value |= (uint64_t)l->icr_high << 32;
	pthread_mutex_unlock(&l->lock);
	return ok;
}

/* May @value be written to @reg?  Reserved bits, read-only and missing registers: no. */
static bool x2apic_writable(unsigned int reg, uint64_t value)
{
	switch (reg) {
	case REG_EOI:
	case REG_ESR:
		return value == 0;
	case REG_TPR:
	case REG_SELF_IPI:
		return value <= 0xff;
	case REG_SVR:
		return !(value & ~SVR_WRITABLE);
	case REG_ICR:
		return !(value & ICR_RESERVED);
	case REG_LVT ... REG_LVT_LAST:
		return !(value & ~(uint64_t)(lvt_writable[reg - REG_LVT] | LVT_STATUS));
	case REG_INITIAL:
		return value <= UINT32_MAX;
	case REG_DIVIDE:
		return !(value & ~(uint64_t)DIVIDE_WRITABLE);
	default:
		return false;
	}
}

static bool x2apic_write(struct lapic *l, unsigned int reg, uint64_t value)
{
	if (!lapic_x2apic(l) || !x2apic_writable(reg, value))
		return false;
	switch (reg) {
	case REG_EOI:
		lapic_eoi(l);
		break;
	case REG_SELF_IPI:
		lapic_self_ipi(l, value);
		break;
	case REG_ICR:
		pthread_mutex_lock(&l->lock);
		l->icr_low = value & ICR_WRITABLE;
		l->icr_high = value >> 32;
		pthread_mutex_unlock(&l->lock);
		lapic_send_ipi(l);
		break;
	default:
		pthread_mutex_lock(&l->lock);
		lapic_timer_sync_locked(l);
		write_locked(l, reg, value);
		pthread_mutex_unlock(&l->lock);
	}
	return true;
}

/* --- APIC_BASE --- */

static bool base_transition(uint64_t from, uint64_t to)
{
	uint64_t mode = APIC_BASE_EN | APIC_BASE_EXTD;

	if (to & ~(APIC_BASE_ADDR | APIC_BASE_BSP | mode))
		return false;
	if ((to & mode) == APIC_BASE_EXTD)
		return false;
	/* Into x2APIC from xAPIC only, out of it to disabled only. */
	if (to & APIC_BASE_EXTD)
		return (from & mode) != 0;
	return !(from & APIC_BASE_EXTD) || !(to & APIC_BASE_EN);
}

static bool write_base(struct lapic *l, uint64_t value)
{
	if (!base_transition(l->base, value))
		return false;
	pthread_mutex_lock(&l->lock);
	/* Departure: which processor is the bootstrap one is fixed. */
	value = (value & ~APIC_BASE_BSP) | (l->base & APIC_BASE_BSP);
	if (lapic_enabled(l) != !!(value & APIC_BASE_EN))
		lapic_clear_locked(l);
	if (l->base != value)
		vcpu_attention(l->vcpu, ATTN_FLUSH);	/* the page came, went or moved */
	l->base = value;
	lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
	return true;
}

static void read_deadline(struct lapic *l, uint64_t *value)
{
	pthread_mutex_lock(&l->lock);
	*value = lapic_timer_deadline_locked(l);
	pthread_mutex_unlock(&l->lock);
}

static void write_deadline(struct lapic *l, uint64_t value)
{
	pthread_mutex_lock(&l->lock);
	lapic_timer_set_deadline_locked(l, value);
	pthread_mutex_unlock(&l->lock);
}

bool lapic_read_msr(void *intc, uint32_t index, uint64_t *value)
{
	struct lapic *l = intc;

	if (index == MSR_APIC_BASE)
		*value = l->base;
	else if (index == MSR_TSC_DEADLINE)
		read_deadline(l, value);
	else if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
		return x2apic_read(l, index - MSR_X2APIC_FIRST, value);
	else
		return false;
	return true;
}

bool lapic_write_msr(void *intc, uint32_t index, uint64_t value)
{
	struct lapic *l = intc;

	if (index == MSR_APIC_BASE)
		return write_base(l, value);
	if (index == MSR_TSC_DEADLINE)
		write_deadline(l, value);
	else if (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST)
		return x2apic_write(l, index - MSR_X2APIC_FIRST, value);
	else
		return false;
	return true;
}
