// SPDX-License-Identifier: Apache-2.0
/*
 * Local APICs in KVM ("split irqchip"): IPIs, timers and halts are then the kernel's, while
 * the PIC and the I/O APIC stay the machine's and send messages.  Taken where KVM's timer can
 * be given the crystal clock that CPUID reports; elsewhere the machine's own are used.
 *
 * From vcpu_add to vcpu_remove KVM's state is the valid one: the machine's record is brought
 * up to date whenever the vCPU's state is, and put into KVM only where it was made anew.
 *
 * KVM tells of the end of an interrupt if it has a route for its vector.  Routes are made as
 * level-triggered messages come: there are as many as inputs of the I/O APIC.  They, and
 * messages, reach all APICs by destination ffh: what KVM calls its broadcast quirk makes that
 * hold in x2APIC mode, too, while ffffffffh would be nobody in xAPIC mode.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_CAP_SPLIT_IRQCHIP", "KVM_GET_LAPIC",
 * "KVM_CAP_X2APIC_API", "KVM_CAP_X86_APIC_BUS_CYCLES_NS", "KVM_SIGNAL_MSI".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#ifndef KVM_CAP_X86_APIC_BUS_CYCLES_NS
#define KVM_CAP_X86_APIC_BUS_CYCLES_NS 237	/* Linux 6.11 */
#endif

#define NS_PER_SECOND	1000000000U
#define LEVEL		BIT(15)		/* of a message's data */
#define TO_ALL		0xfeeff000U	/* destination ffh, physical */

/* --- making them --- */

static int enable(struct kvm *k, unsigned int cap, uint64_t arg)
{
	const struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return kvm_vm_ioctl(k, KVM_ENABLE_CAP, &c);
}

static bool capable(struct kvm *k)
{
	static const unsigned int caps[] = {
		KVM_CAP_SPLIT_IRQCHIP, KVM_CAP_SIGNAL_MSI, KVM_CAP_IRQ_ROUTING, KVM_CAP_X2APIC_API,
		KVM_CAP_MP_STATE, KVM_CAP_TSC_DEADLINE_TIMER, KVM_CAP_X86_APIC_BUS_CYCLES_NS,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(caps); i++)
		if (!kvm_cap(k, caps[i]))
			return false;
	return true;
}

int kvm_apics_create(struct kvm *k, const struct engine_config *c, struct err *e)
{
	if (c->kvm_apics == KVM_APICS_MACHINE)
		return 0;
	if (!capable(k)) {
		if (c->kvm_apics == KVM_APICS_AUTO)
			return 0;
		return err_set(e, ENOTSUP, "this host's KVM has no local APICs that do what ours do, "
			       "which Linux has had since 6.11");
	}
	if (enable(k, KVM_CAP_SPLIT_IRQCHIP, KVM_ROUTES_EOI) ||
	    enable(k, KVM_CAP_X2APIC_API, KVM_X2APIC_API_USE_32BIT_IDS) ||
	    enable(k, KVM_CAP_X86_APIC_BUS_CYCLES_NS, NS_PER_SECOND / CRYSTAL_HZ))
		return err_errno(e, errno, "KVM refuses local APICs");
	k->apics = true;
	return 0;
}

bool kvm_has_apics(struct engine *en)
{
	return ((struct kvm *)en)->apics;
}

/* --- state --- */

static int deadline_ioctl(struct kvm_cpu *c, unsigned long request, uint64_t *value)
{
	/* struct kvm_msrs, which ends with an array of no size */
	struct { struct { uint32_t nmsrs, pad; } head; struct kvm_msr_entry entry; } m = {
		.head.nmsrs = 1, .entry = { .index = MSR_TSC_DEADLINE, .data = *value },
	};
	int rc = kvm_cpu_ioctl(c, request, &m);

	*value = m.entry.data;
	return rc == 1 ? 0 : -1;
}

static int put_base(struct kvm_cpu *c, uint64_t base)
{
	struct kvm_sregs r;

	if (kvm_cpu_ioctl(c, KVM_GET_SREGS, &r))
		return -1;
	r.apic_base = base;
	return kvm_cpu_ioctl(c, KVM_SET_SREGS, &r);
}

static int put_registers(struct kvm_cpu *c, const struct apic_state *s)
{
	struct kvm_lapic_state page = { 0 };

	for (unsigned int i = 0; i < ARRAY_SIZE(s->reg); i++)
		memcpy(page.regs + 16 * i, &s->reg[i], 4);
	return kvm_cpu_ioctl(c, KVM_SET_LAPIC, &page);
}

static int put_all(struct kvm_cpu *c, struct apic_state *s)
{
	return put_base(c, s->base) || put_registers(c, s) ||
	       deadline_ioctl(c, KVM_SET_MSRS, &s->tsc_deadline) ? -1 : 0;
}

int kvm_apic_put(struct kvm_cpu *c)
{
	struct apic_state s;

	if (!c->kvm->apics || !c->v->intc_ops->get_state(c->v->intc, &s))
		return 0;
	return put_all(c, &s);
}

int kvm_apic_get(struct kvm_cpu *c)
{
	struct apic_state s = { 0 };
	struct kvm_lapic_state page;
	struct kvm_sregs r;

	if (!c->kvm->apics)
		return 0;
	if (kvm_cpu_ioctl(c, KVM_GET_LAPIC, &page) || kvm_cpu_ioctl(c, KVM_GET_SREGS, &r) ||
	    deadline_ioctl(c, KVM_GET_MSRS, &s.tsc_deadline))
		return -1;
	s.base = r.apic_base;
	for (unsigned int i = 0; i < ARRAY_SIZE(s.reg); i++)
		memcpy(&s.reg[i], page.regs + 16 * i, 4);
	c->v->intc_ops->set_state(c->v->intc, &s);
	return 0;
}

/* The timer's deadline is by the guest's counter, so that comes first. */
int kvm_apic_take(struct kvm_cpu *c, struct err *e)
{
	struct apic_state s;
	struct vcpu *v = c->v;

	if (!c->kvm->apics)
		return 0;
	v->intc_ops->get_state(v->intc, &s);
	v->intc_ops->host(v->intc, true);
	c->hosting = true;
	if (kvm_tsc_put(c) || put_all(c, &s))
		return err_errno(e, errno, "KVM refuses the state of local APIC %u", v->index);
	v->intc_ops->get_state(v->intc, &s);	/* and so it is not anew */
	return 0;
}

/* The controller may be gone already, with the rest of the machine. */
void kvm_apic_give_back(struct kvm_cpu *c)
{
	if (!c->hosting || !c->v->intc_ops)
		return;
	kvm_apic_get(c);
	c->v->intc_ops->host(c->v->intc, false);
	if (c->given >= 0)
		vcpu_interrupt(c->v, c->given);
}

/* --- halted, waiting for its start, running: the kernel's with its local APICs --- */

int kvm_mp_put(struct kvm_cpu *c)
{
	const struct vcpu *v = c->v;
	const struct kvm_mp_state s = {
		.mp_state = v->wait_sipi ? KVM_MP_STATE_INIT_RECEIVED :
			    v->halted ? KVM_MP_STATE_HALTED : KVM_MP_STATE_RUNNABLE,
	};

	return c->kvm->apics ? kvm_cpu_ioctl(c, KVM_SET_MP_STATE, &s) : 0;
}

int kvm_mp_get(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;
	struct kvm_vcpu_events x;
	struct kvm_mp_state s;

	if (!c->kvm->apics)
		return 0;
	if (kvm_cpu_ioctl(c, KVM_GET_MP_STATE, &s) || kvm_cpu_ioctl(c, KVM_GET_VCPU_EVENTS, &x))
		return -1;
	v->halted = s.mp_state == KVM_MP_STATE_HALTED;
	v->wait_sipi = s.mp_state == KVM_MP_STATE_INIT_RECEIVED ||
		       s.mp_state == KVM_MP_STATE_UNINITIALIZED ||
		       s.mp_state == KVM_MP_STATE_SIPI_RECEIVED;
	if (s.mp_state == KVM_MP_STATE_SIPI_RECEIVED) {
		__atomic_store_n(&v->sipi_vector, x.sipi_vector, __ATOMIC_RELEASE);
		atomic_fetch_or(&v->attention, ATTN_SIPI);
	}
	return 0;
}

/* --- messages --- */

static bool has_route(const struct kvm *k, uint8_t vector)
{
	for (unsigned int i = 0; i < MIN(k->eoi_routes, KVM_ROUTES_EOI); i++)
		if (k->eoi_vector[i] == vector)
			return true;
	return false;
}

int kvm_routes_set_locked(struct kvm *k)
{
	struct {	/* struct kvm_irq_routing, which ends with an array of no size */
		struct { uint32_t nr, flags; } head;
		struct kvm_irq_routing_entry entry[KVM_ROUTES_EOI + KVM_ROUTES_FD];
	} t = { .head.nr = 0 };

	for (unsigned int i = 0; i < MIN(k->eoi_routes, KVM_ROUTES_EOI); i++)
		t.entry[t.head.nr++] = (struct kvm_irq_routing_entry){
			.gsi = i, .type = KVM_IRQ_ROUTING_MSI,
			.u.msi = { .address_lo = TO_ALL, .data = k->eoi_vector[i] | LEVEL },
		};
	for (unsigned int i = 0; i < KVM_ROUTES_FD; i++)
		if (k->fd_route[i].fd >= 0)
			t.entry[t.head.nr++] = (struct kvm_irq_routing_entry){
				.gsi = KVM_ROUTES_EOI + i, .type = KVM_IRQ_ROUTING_MSI,
				.u.msi = { .address_lo = k->fd_route[i].addr,
					   .address_hi = k->fd_route[i].addr >> 32,
					   .data = k->fd_route[i].data },
			};
	return kvm_vm_ioctl(k, KVM_SET_GSI_ROUTING, &t);
}

/* A vector whose end is to be told; the oldest gives way when there are too many. */
static void want_eoi(struct kvm *k, uint8_t vector)
{
	pthread_mutex_lock(&k->route_lock);
	if (!has_route(k, vector)) {
		k->eoi_vector[k->eoi_routes % KVM_ROUTES_EOI] = vector;
		k->eoi_routes++;
		if (k->eoi_routes == 2 * KVM_ROUTES_EOI)
			k->eoi_routes = KVM_ROUTES_EOI;
		if (kvm_routes_set_locked(k))
			log_warn(k->log, "KVM does not take a route: an interrupt may be lost");
	}
	pthread_mutex_unlock(&k->route_lock);
}

bool kvm_send_msi(struct engine *en, uint64_t addr, uint32_t data)
{
	struct kvm *k = (struct kvm *)en;
	const struct kvm_msi m = { .address_lo = addr, .address_hi = addr >> 32, .data = data };

	if (data & LEVEL)
		want_eoi(k, data);
	return kvm_vm_ioctl(k, KVM_SIGNAL_MSI, &m) > 0;
}

enum kvm_next kvm_on_eoi(struct kvm_cpu *c)
{
	c->v->intc_ops->end_of_interrupt(c->v->intc, c->run->eoi.vector);
	return NEXT_RUN;
}
