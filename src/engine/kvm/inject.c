// SPDX-License-Identifier: Apache-2.0
/*
 * Interrupts from the controllers of the machine into KVM's vCPU, and the task priority,
 * which is the local APIC's and CR8 at the same time.
 *
 * With local APICs in KVM only the PIC's interrupts come this way.  KVM keeps one that it was given
 * where nobody can ask for it: it goes with KVM's vCPU unless that has entered the guest.
 *
 * KVM takes one interrupt at a time, when the guest can take it: otherwise we ask it to
 * come back when the guest can.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_INTERRUPT", "The kvm_run structure".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdatomic.h>

void kvm_tpr_out(struct kvm_cpu *c)
{
	if (c->kvm->apics)
		return;
	c->run->cr8 = c->v->intc_ops->get_tpr(c->v->intc) >> 4;
	c->cr8 = c->run->cr8;
}

void kvm_tpr_in(struct kvm_cpu *c)
{
	if (c->kvm->apics)
		return;
	/* Written only if the guest did: the register has four bits more than CR8. */
	if (c->run->cr8 != c->cr8)
		c->v->intc_ops->set_tpr(c->v->intc, c->run->cr8 << 4);
	c->cr8 = c->run->cr8;
}

static bool inject_nmi(struct kvm_cpu *c)
{
	atomic_fetch_and(&c->v->attention, ~(uint32_t)ATTN_NMI);
	if (!c->kvm->sys->ioctl(c->fd, KVM_NMI, 0))
		return true;
	kvm_report(c, "KVM refuses a non-maskable interrupt: error %d", errno);
	return false;
}

static bool inject_vector(struct kvm_cpu *c)
{
	const int vector = c->v->intc_ops->ack(c->v->intc);
	const struct kvm_interrupt irq = { .irq = vector };

	if (vector < 0)
		return true;
	stat_add(&c->v->stats.interrupts, 1);
	c->run->ready_for_interrupt_injection = 0;
	if (!kvm_cpu_ioctl(c, KVM_INTERRUPT, &irq)) {
		c->given = c->kvm->apics ? vector : -1;
		return true;
	}
	kvm_report(c, "KVM refuses interrupt 0x%x: error %d", (unsigned int)vector, errno);
	return false;
}

bool kvm_inject(struct kvm_cpu *c, uint32_t bits)
{
	struct vcpu *v = c->v;

	if (bits & ATTN_NMI && !inject_nmi(c))
		return false;
	if (bits & ATTN_INTR) {
		/* Taken before the look at the controller: see vcpu.h. */
		atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_INTR);
		c->want_interrupt = true;
	}
	if (c->want_interrupt && c->run->ready_for_interrupt_injection) {
		if (v->intc_ops->pending(v->intc) && !inject_vector(c))
			return false;
		c->want_interrupt = v->intc_ops->pending(v->intc);
	}
	c->run->request_interrupt_window = c->want_interrupt;
	return true;
}

void kvm_inject_park(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;

	c->want_interrupt = false;
	if (!v->intc_ops->pending(v->intc))
		return;
	if (v->rflags & RFLAGS_IF)
		atomic_fetch_or(&v->attention, ATTN_INTR);
	else
		v->intr_parked = true;
}
