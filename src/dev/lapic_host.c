// SPDX-License-Identifier: Apache-2.0
/*
 * The local APIC while an engine's own one stands in for it: the state moves there and back,
 * and nothing happens here meanwhile; messages go to the engine (apic_bus.c).
 *
 * Source: Intel SDM volume 3, "The Local APIC Block Diagram" (register map).
 */
#include "dev/lapic_priv.h"

#include <string.h>

void lapic_host(void *intc, bool by_engine)
{
	struct lapic *l = intc;

	pthread_mutex_lock(&l->lock);
	l->hosted = by_engine;
	l->anew = true;
	lapic_timer_resume_locked(l);
	lapic_attend_locked(l);
	pthread_mutex_unlock(&l->lock);
}

static void fill_locked(struct lapic *l, struct apic_state *s)
{
	uint32_t *r = s->reg;

	s->base = l->base;
	s->tsc_deadline = l->tsc_deadline;
	r[REG_ID] = lapic_x2apic(l) ? l->id : l->id << 24;
	r[REG_TPR] = l->tpr;
	r[REG_PPR] = lapic_ppr_locked(l);
	r[REG_LDR] = l->ldr;
	r[REG_DFR] = l->dfr;
	r[REG_SVR] = l->svr;
	memcpy(&r[REG_ISR], l->isr, sizeof(l->isr));
	memcpy(&r[REG_TMR], l->tmr, sizeof(l->tmr));
	memcpy(&r[REG_IRR], l->irr, sizeof(l->irr));
	r[REG_ESR] = l->esr;
	r[REG_ICR] = l->icr_low;
	r[REG_ICR_HIGH] = l->icr_high;
	memcpy(&r[REG_LVT], l->lvt, sizeof(l->lvt));
	r[REG_INITIAL] = l->initial_count;
	r[REG_CURRENT] = lapic_timer_count_locked(l);
	r[REG_DIVIDE] = l->divide;
}

bool lapic_get_state(void *intc, struct apic_state *s)
{
	struct lapic *l = intc;
	bool anew;

	memset(s, 0, sizeof(*s));
	pthread_mutex_lock(&l->lock);
	anew = l->anew;
	l->anew = false;
	fill_locked(l, s);
	pthread_mutex_unlock(&l->lock);
	return anew;
}

void lapic_set_state(void *intc, const struct apic_state *s)
{
	struct lapic *l = intc;
	const uint32_t *r = s->reg;

	pthread_mutex_lock(&l->lock);
	l->base = s->base;
	l->tsc_deadline = s->tsc_deadline;
	l->tpr = r[REG_TPR] & 0xff;
	l->ldr = r[REG_LDR];
	l->dfr = r[REG_DFR];
	l->svr = r[REG_SVR];
	memcpy(l->isr, &r[REG_ISR], sizeof(l->isr));
	memcpy(l->tmr, &r[REG_TMR], sizeof(l->tmr));
	memcpy(l->irr, &r[REG_IRR], sizeof(l->irr));
	l->esr = r[REG_ESR] & 0xff;
	l->icr_low = r[REG_ICR];
	l->icr_high = r[REG_ICR_HIGH];
	memcpy(l->lvt, &r[REG_LVT], sizeof(l->lvt));
	l->divide = r[REG_DIVIDE] & 0xb;
	l->initial_count = r[REG_INITIAL];
	lapic_timer_restore_locked(l, r[REG_CURRENT]);
	pthread_mutex_unlock(&l->lock);
}

void lapic_end_of_interrupt(void *intc, uint8_t vector)
{
	struct lapic *l = intc;

	apic_bus_eoi(l->bus, vector);
}
