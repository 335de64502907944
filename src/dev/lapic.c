// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC: acceptance and priority of interrupts, the local vector table, the
 * LINT wires, IPIs, what the vCPU asks (struct vcpu_intc_ops).
 *
 * Source: Intel SDM volume 3, "Advanced Programmable Interrupt Controller (APIC)".
 *
 * Not modelled: the processor's arbitration bus (APR reads 0), focus processors, SMIs,
 * thermal, performance and CMCI sources.  The spurious vector is never delivered: the
 * highest request is looked up and acknowledged under one lock.
 */
#include "dev/lapic_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define ICR_LOGICAL		BIT(11)
#define ICR_ASSERT		BIT(14)
#define ICR_LEVEL		BIT(15)
#define ICR_MODE(low)		((low) >> 8 & 7)
#define ICR_SHORTHAND(low)	((low) >> 18 & 3)

enum { SHORTHAND_NONE, SHORTHAND_SELF, SHORTHAND_ALL, SHORTHAND_OTHERS };

static bool test_bit(const uint32_t *set, unsigned int n)
{
	return set[n / 32] >> (n % 32) & 1;
}

static void assign_bit(uint32_t *set, unsigned int n, bool value)
{
	if (value)
		set[n / 32] |= 1U << (n % 32);
	else
		set[n / 32] &= ~(1U << (n % 32));
}

/* The highest vector in @set, -1 if it is empty. */
static int highest(const uint32_t *set)
{
	for (int i = 7; i >= 0; i--)
		if (set[i])
			return i * 32 + 31 - __builtin_clz(set[i]);
	return -1;
}

uint32_t lapic_ppr_locked(const struct lapic *l)
{
	int isr = highest(l->isr);
	uint32_t in_service = isr < 0 ? 0 : isr & 0xf0;

	return (l->tpr & 0xf0) >= in_service ? l->tpr : in_service;
}

/* The vector that may interrupt now, -1: none. */
static int deliverable_locked(const struct lapic *l)
{
	int irr = highest(l->irr);

	if (irr < 0 || !lapic_enabled(l) || l->hosted)
		return -1;
	return (irr & 0xf0) > (int)(lapic_ppr_locked(l) & 0xf0) ? irr : -1;
}

/* Does the PIC's INTR reach the processor by LINT0? */
static bool extint_wired_locked(const struct lapic *l)
{
	if (!lapic_enabled(l) || l->hosted)
		return l->bsp;	/* LINT0 is the INTR pin then, or the engine looks at it */
	return !(l->lvt[LVT_LINT0] & LVT_MASKED) && LVT_MODE(l->lvt[LVT_LINT0]) == APIC_EXTINT;
}

static bool extint_pending_locked(const struct lapic *l)
{
	return l->extint || (atomic_load(&l->bus->lint0) && extint_wired_locked(l));
}

void lapic_attend_locked(struct lapic *l)
{
	if (deliverable_locked(l) >= 0 || extint_pending_locked(l))
		vcpu_attention(l->vcpu, ATTN_INTR);
}

void lapic_error_locked(struct lapic *l, uint32_t bit)
{
	uint32_t lvt = l->lvt[LVT_ERROR];

	l->esr_pending |= bit;
	if (lvt & LVT_MASKED)
		return;
	/* An illegal vector here is one more error, and must not come back here. */
	if ((lvt & LVT_VECTOR) < 16) {
		l->esr_pending |= ESR_RECEIVE_VECTOR;
		return;
	}
	assign_bit(l->irr, lvt & LVT_VECTOR, true);
	assign_bit(l->tmr, lvt & LVT_VECTOR, false);
	lapic_attend_locked(l);
}

static bool accept_vector_locked(struct lapic *l, uint8_t vector, bool level)
{
	if (!lapic_software_enabled(l))
		return false;
	if (vector < 16) {
		lapic_error_locked(l, ESR_RECEIVE_VECTOR);
		return true;
	}
	assign_bit(l->irr, vector, true);
	assign_bit(l->tmr, vector, level);
	lapic_attend_locked(l);
	return true;
}

/* --- The local vector table --- */

void lapic_lvt_fire_locked(struct lapic *l, unsigned int n)
{
	uint32_t lvt = l->lvt[n];
	bool level;

	if (lvt & LVT_MASKED || l->hosted)
		return;
	switch (n == LVT_TIMER || n == LVT_ERROR ? APIC_FIXED : LVT_MODE(lvt)) {
	case APIC_FIXED:
		level = n == LVT_LINT0 && lvt & LVT_LEVEL;
		if (level && lvt & LVT_REMOTE_IRR)
			break;
		if (accept_vector_locked(l, lvt & LVT_VECTOR, level) && level)
			l->lvt[n] |= LVT_REMOTE_IRR;
		break;
	case APIC_NMI:
		vcpu_attention(l->vcpu, ATTN_NMI);
		break;
	case APIC_INIT:
		lapic_clear_locked(l);
		vcpu_attention(l->vcpu, ATTN_INIT);
		break;
	case APIC_EXTINT:
		lapic_attend_locked(l);
		break;
	}
}

void lapic_lint0_sample_locked(struct lapic *l)
{
	uint32_t lvt = l->lvt[LVT_LINT0];

	if (!atomic_load(&l->bus->lint0))
		return;
	if (LVT_MODE(lvt) == APIC_EXTINT || (LVT_MODE(lvt) == APIC_FIXED && lvt & LVT_LEVEL))
		lapic_lvt_fire_locked(l, LVT_LINT0);
}

void lapic_lint0(struct lapic *l, bool level)
{
	if (!level)
		return;
	pthread_mutex_lock(&l->lock);
	if (lapic_enabled(l) && !l->hosted)
		lapic_lvt_fire_locked(l, LVT_LINT0);
	else
		lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
}

void lapic_lint1(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	if (lapic_enabled(l) && !l->hosted)
		lapic_lvt_fire_locked(l, LVT_LINT1);
	else if (l->bsp)
		vcpu_attention(l->vcpu, ATTN_NMI);	/* LINT1 is the NMI pin then */
	pthread_mutex_unlock(&l->lock);
}

/* --- Messages --- */

static bool matches_logical(const struct lapic *l, uint32_t dest)
{
	uint32_t mine = l->ldr >> 24;

	if (lapic_x2apic(l))
		return dest >> 16 == l->id >> 4 && dest & 1U << (l->id & 15);
	if (dest > 0xff)
		return false;
	if (l->dfr >> 28 == 0xf)
		return dest & mine;
	return dest >> 4 == mine >> 4 && dest & mine & 15;
}

bool lapic_matches(struct lapic *l, const struct apic_msg *m)
{
	bool yes;

	pthread_mutex_lock(&l->lock);
	yes = lapic_enabled(l) &&
	      (m->dest == APIC_DEST_ALL ||
	       (m->logical ? matches_logical(l, m->dest) : m->dest == l->id));
	pthread_mutex_unlock(&l->lock);
	return yes;
}

unsigned int lapic_arbitration(struct lapic *l)
{
	unsigned int rank;

	pthread_mutex_lock(&l->lock);
	rank = lapic_software_enabled(l) ? lapic_ppr_locked(l) : 256;
	pthread_mutex_unlock(&l->lock);
	return rank;
}

bool lapic_holds(struct lapic *l, uint8_t vector)
{
	bool holds;

	pthread_mutex_lock(&l->lock);
	holds = l->irr[vector / 32] >> vector % 32 & 1;
	pthread_mutex_unlock(&l->lock);
	return holds;
}

bool lapic_serves(struct lapic *l, uint8_t vector)
{
	bool serves;

	pthread_mutex_lock(&l->lock);
	serves = (l->irr[vector / 32] | l->isr[vector / 32]) >> vector % 32 & 1;
	pthread_mutex_unlock(&l->lock);
	return serves;
}

bool lapic_accept(struct lapic *l, const struct apic_msg *m)
{
	bool accepted = true;

	pthread_mutex_lock(&l->lock);
	switch (m->mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		accepted = accept_vector_locked(l, m->vector, m->level);
		break;
	case APIC_NMI:
		vcpu_attention(l->vcpu, ATTN_NMI);
		break;
	case APIC_INIT:
		lapic_clear_locked(l);
		vcpu_attention(l->vcpu, ATTN_INIT);
		break;
	case APIC_SIPI:
		__atomic_store_n(&l->vcpu->sipi_vector, m->vector, __ATOMIC_RELEASE);
		vcpu_attention(l->vcpu, ATTN_SIPI);
		break;
	case APIC_EXTINT:
		l->extint = true;
		lapic_attend_locked(l);
		break;
	default:
		accepted = false;
	}
	pthread_mutex_unlock(&l->lock);
	return accepted;
}

static void illegal_send(struct lapic *l)
{
	pthread_mutex_lock(&l->lock);
	lapic_error_locked(l, ESR_SEND_VECTOR);
	pthread_mutex_unlock(&l->lock);
}

void lapic_self_ipi(struct lapic *l, uint8_t vector)
{
	const struct apic_msg m = { .vector = vector, .mode = APIC_FIXED };

	if (vector < 16)
		illegal_send(l);
	else
		lapic_accept(l, &m);
}

/* IPIs are edge-triggered whatever the trigger bit says, as on all later processors. */
void lapic_send_ipi(struct lapic *l)
{
	uint32_t low = l->icr_low, high = l->icr_high;
	struct apic_msg m = {
		.dest = high, .vector = low & 0xff, .mode = ICR_MODE(low),
		.logical = low & ICR_LOGICAL,
	};

	if (!lapic_x2apic(l))
		m.dest = high >> 24 == 0xff ? APIC_DEST_ALL : high >> 24;
	if (ICR_SHORTHAND(low) >= SHORTHAND_ALL)
		m.dest = APIC_DEST_ALL;
	if (ICR_SHORTHAND(low) == SHORTHAND_OTHERS)
		m.except = l;
	switch (m.mode) {
	case APIC_FIXED:
	case APIC_LOWEST:
		if (ICR_SHORTHAND(low) == SHORTHAND_SELF)
			lapic_self_ipi(l, m.vector);
		else if (m.vector < 16)
			illegal_send(l);
		else
			apic_bus_send(l->bus, &m);
		break;
	case APIC_INIT:
		/* "INIT level de-assert" only set arbitration IDs, on processors long gone. */
		if (low & ICR_LEVEL && !(low & ICR_ASSERT))
			break;
		__attribute__((fallthrough));
	case APIC_NMI:
	case APIC_SIPI:
		if (ICR_SHORTHAND(low) != SHORTHAND_SELF)
			apic_bus_send(l->bus, &m);
		break;
	}
}

void lapic_eoi(struct lapic *l)
{
	bool broadcast = false;
	int vector;

	pthread_mutex_lock(&l->lock);
	vector = highest(l->isr);
	if (vector >= 0) {
		assign_bit(l->isr, vector, false);
		broadcast = test_bit(l->tmr, vector) && !(l->svr & SVR_NO_EOI_BROADCAST);
		if (l->lvt[LVT_LINT0] & LVT_REMOTE_IRR &&
		    (l->lvt[LVT_LINT0] & LVT_VECTOR) == (uint32_t)vector) {
			l->lvt[LVT_LINT0] &= ~LVT_REMOTE_IRR;
			lapic_lint0_sample_locked(l);
		}
		lapic_attend_locked(l);
	}
	pthread_mutex_unlock(&l->lock);
	/* Without the lock: the I/O APIC may send the interrupt again at once. */
	if (broadcast)
		apic_bus_eoi(l->bus, vector);
}

/* --- What the vCPU asks --- */

static int lapic_ack(void *intc)
{
	struct lapic *l = intc;
	bool extint;
	int vector = -1;

	pthread_mutex_lock(&l->lock);
	extint = extint_pending_locked(l);
	if (extint) {
		l->extint = false;
	} else {
		vector = deliverable_locked(l);
		if (vector >= 0) {
			assign_bit(l->irr, vector, false);
			assign_bit(l->isr, vector, true);
		}
	}
	pthread_mutex_unlock(&l->lock);
	if (extint && l->bus->extint_ack)
		vector = l->bus->extint_ack(l->bus->pic);
	else if (vector >= 0)
		apic_bus_taken(l->bus, vector);
	return vector;
}

static bool lapic_pending(void *intc)
{
	struct lapic *l = intc;
	bool pending;

	pthread_mutex_lock(&l->lock);
	pending = extint_pending_locked(l) || deliverable_locked(l) >= 0;
	pthread_mutex_unlock(&l->lock);
	return pending;
}

static uint8_t lapic_get_tpr(void *intc)
{
	struct lapic *l = intc;
	uint8_t tpr;

	pthread_mutex_lock(&l->lock);
	tpr = l->tpr;
	pthread_mutex_unlock(&l->lock);
	return tpr;
}

static void lapic_set_tpr(void *intc, uint8_t tpr)
{
	struct lapic *l = intc;

	pthread_mutex_lock(&l->lock);
	l->tpr = tpr;
	lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
}

static gpa_t lapic_mmio_base(void *intc)
{
	const struct lapic *l = intc;

	return lapic_enabled(l) && !lapic_x2apic(l) ? l->base & APIC_BASE_ADDR : GPA_NONE;
}

static const struct vcpu_intc_ops lapic_intc_ops = {
	.ack = lapic_ack,
	.pending = lapic_pending,
	.get_tpr = lapic_get_tpr,
	.set_tpr = lapic_set_tpr,
	.read_msr = lapic_read_msr,
	.write_msr = lapic_write_msr,
	.mmio_base = lapic_mmio_base,
	.mmio_read = lapic_mmio_read,
	.mmio_write = lapic_mmio_write,
	.host = lapic_host,
	.get_state = lapic_get_state,
	.set_state = lapic_set_state,
	.end_of_interrupt = lapic_end_of_interrupt,
};

/* --- Life --- */

void lapic_clear_locked(struct lapic *l)
{
	l->tpr = l->ldr = l->esr = l->esr_pending = l->icr_low = l->icr_high = 0;
	l->dfr = 0xffffffff;
	l->svr = 0xff;
	for (unsigned int i = 0; i < LVT_COUNT; i++)
		l->lvt[i] = LVT_MASKED;
	memset(l->irr, 0, sizeof(l->irr));
	memset(l->isr, 0, sizeof(l->isr));
	memset(l->tmr, 0, sizeof(l->tmr));
	l->extint = false;
	l->initial_count = 0;
	l->divide = 0;
	l->timer_start = 0;
	l->tsc_deadline = 0;
	l->anew = true;
	lapic_timer_update_locked(l);
}

static void lapic_reset(struct device *d)
{
	struct lapic *l = container_of(d, struct lapic, dev);

	pthread_mutex_lock(&l->lock);
	l->base = APIC_DEFAULT_BASE | APIC_BASE_EN | (l->bsp ? APIC_BASE_BSP : 0);
	lapic_clear_locked(l);
	pthread_mutex_unlock(&l->lock);
}

void lapic_set_virtual_wire(struct device *d)
{
	struct lapic *l = container_of(d, struct lapic, dev);

	pthread_mutex_lock(&l->lock);
	l->anew = true;
	l->svr |= SVR_ENABLE;
	l->lvt[LVT_LINT0] = APIC_EXTINT << 8;
	l->lvt[LVT_LINT1] = APIC_NMI << 8;
	lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
}

static void lapic_destroy(struct device *d)
{
	struct lapic *l = container_of(d, struct lapic, dev);

	timer_cancel(&l->timer);
	l->bus->lapic[l->id] = NULL;
	l->vcpu->intc_ops = NULL;
	l->vcpu->intc = NULL;
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static const struct state_field lapic_fields[] = {
	STATE_FIELD(struct lapic, base, UINT64_MAX),
	STATE_FIELD(struct lapic, tpr, 0xff),
	STATE_FIELD(struct lapic, ldr, UINT32_MAX),
	STATE_FIELD(struct lapic, dfr, UINT32_MAX),
	STATE_FIELD(struct lapic, svr, UINT32_MAX),
	STATE_FIELD(struct lapic, esr, 0xff),
	STATE_FIELD(struct lapic, esr_pending, 0xff),
	STATE_FIELD(struct lapic, icr_low, UINT32_MAX),
	STATE_FIELD(struct lapic, icr_high, UINT32_MAX),
	STATE_ARRAY(struct lapic, lvt, 0x7ffff),
	STATE_ARRAY(struct lapic, irr, UINT32_MAX),
	STATE_ARRAY(struct lapic, isr, UINT32_MAX),
	STATE_ARRAY(struct lapic, tmr, UINT32_MAX),
	STATE_FIELD(struct lapic, extint, 1),
	STATE_FIELD(struct lapic, initial_count, UINT32_MAX),
	STATE_FIELD(struct lapic, divide, 0xb),
	STATE_FIELD(struct lapic, timer_start, UINT64_MAX),
	STATE_FIELD(struct lapic, timer_due, UINT64_MAX),
	STATE_FIELD(struct lapic, tsc_deadline, UINT64_MAX),
};

/* An interrupt that the host is late for goes into the IRR that is saved. */
static void lapic_save_prepare(struct device *d)
{
	struct lapic *l = container_of(d, struct lapic, dev);

	pthread_mutex_lock(&l->lock);
	lapic_timer_sync_locked(l);
	pthread_mutex_unlock(&l->lock);
}

static int lapic_load_finish(struct device *d, struct err *e)
{
	struct lapic *l = container_of(d, struct lapic, dev);
	uint64_t flags = l->base & ~APIC_BASE_ADDR;

	if (flags & ~(APIC_BASE_BSP | APIC_BASE_EN | APIC_BASE_EXTD) ||
	    (flags & (APIC_BASE_EN | APIC_BASE_EXTD)) == APIC_BASE_EXTD ||
	    l->irr[0] & 0xffff || l->isr[0] & 0xffff ||
	    /* Modulo 2^64: a change of the divisor may have put it before the VM's start. */
	    clock_now(l->clock) - l->timer_start > BIT(60))
		return err_set(e, EINVAL, "local APIC %u: the saved state is impossible", l->id);
	pthread_mutex_lock(&l->lock);
	l->anew = true;
	lapic_timer_resume_locked(l);
	lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
	return 0;
}

static const struct device_ops lapic_ops = {
	.model = "lapic",
	.version = 1,
	.reset = lapic_reset,
	.destroy = lapic_destroy,
	.fields = lapic_fields,
	.field_count = ARRAY_SIZE(lapic_fields),
	.save_prepare = lapic_save_prepare,
	.load_finish = lapic_load_finish,
};

int lapic_create(struct device **out, struct vcpu *v, struct apic_bus *bus, bool bsp,
		 struct err *e)
{
	struct lapic *l;

	if (v->index >= APIC_BUS_LAPICS - 1 || bus->lapic[v->index])
		return err_set(e, EINVAL, "APIC ID %u is taken or beyond %d", v->index,
			       APIC_BUS_LAPICS - 2);
	l = calloc(1, sizeof(*l));
	if (!l)
		return err_set(e, ENOMEM, "out of memory for local APIC %u", v->index);
	l->dev.ops = &lapic_ops;
	l->vcpu = v;
	l->bus = bus;
	l->clock = v->clock;
	l->bsp = bsp;
	l->id = v->index;
	pthread_mutex_init(&l->lock, NULL);
	lapic_timer_init(l);
	v->intc_ops = &lapic_intc_ops;
	v->intc = l;
	lapic_reset(&l->dev);
	bus->lapic[l->id] = l;
	bus->lapic_count = MAX(bus->lapic_count, l->id + 1);
	*out = &l->dev;
	return 0;
}
