// SPDX-License-Identifier: Apache-2.0
/*
 * What is pending and blocked.  KVM knows events that are half delivered, which struct vcpu
 * does not: when the state comes back these are delivered by our own code, so that what is
 * left is a processor between two instructions.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_GET_VCPU_EVENTS"; Intel SDM volume 3,
 * "Interrupt and Exception Handling".
 */
#include "engine/kvm/kvm_priv.h"

#include <stdatomic.h>

/* Blocking by MOV SS also holds off debug traps, so it wins where both are told. */
static uint8_t shadow_put(const struct vcpu *v)
{
	if (!(atomic_load(&v->attention) & ATTN_SHADOW))
		return 0;
	return v->shadow_mov_ss ? KVM_X86_SHADOW_INT_MOV_SS : KVM_X86_SHADOW_INT_STI;
}

static void shadow_get(struct vcpu *v, uint8_t shadow)
{
	v->shadow_mov_ss = shadow & KVM_X86_SHADOW_INT_MOV_SS;
	if (shadow)
		atomic_fetch_or(&v->attention, ATTN_SHADOW);
	else
		atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_SHADOW);
}

int kvm_events_put(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;
	const struct kvm_vcpu_events x = {
		.nmi = { .pending = v->nmi_parked, .masked = v->nmi_blocked },
		.interrupt.shadow = shadow_put(v),
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW,
	};
	int rc = kvm_cpu_ioctl(c, KVM_SET_VCPU_EVENTS, &x);

	if (!rc)
		v->nmi_parked = false;
	return rc;
}

/*
 * INT n, INT3 and INTO that KVM had begun are begun again: RIP is still at them.  What was
 * injected already has its effect on CR2 and DR6, what is pending has it in the payload.
 */
static void deliver_exception(struct vcpu *v, const struct kvm_vcpu_events *x)
{
	const bool pending = x->exception.pending && x->exception_has_payload;

	if (x->exception.nr == EXC_BP || x->exception.nr == EXC_OF)
		return;
	v->fault = (struct fault){
		.vector = x->exception.nr, .has_error = x->exception.has_error_code,
		.error = x->exception.error_code, .cr2 = v->cr2,
	};
	if (pending && x->exception.nr == EXC_PF)
		v->fault.cr2 = x->exception_payload;
	if (pending && x->exception.nr == EXC_DB)
		v->fault.dr6 = x->exception_payload;
	vcpu_deliver(v);
}

int kvm_events_get(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;
	struct kvm_vcpu_events x = { 0 };

	if (kvm_cpu_ioctl(c, KVM_GET_VCPU_EVENTS, &x))
		return -1;
	v->nmi_blocked = x.nmi.masked;
	shadow_get(v, x.interrupt.shadow);
	if (x.flags & KVM_VCPUEVENT_VALID_TRIPLE_FAULT && x.triple_fault.pending)
		v->shutdown = true;
	if (x.nmi.pending)
		atomic_fetch_or(&v->attention, ATTN_NMI);
	if (v->shutdown)
		return 0;
	if (x.exception.injected || x.exception.pending) {
		deliver_exception(v, &x);
	} else if (x.nmi.injected) {
		/* Counted as blocked from the moment KVM takes it up. */
		v->nmi_blocked = false;
		vcpu_nmi(v);
	} else if (x.interrupt.injected && !x.interrupt.soft) {
		vcpu_interrupt(v, x.interrupt.nr);
	}
	return 0;
}
