// SPDX-License-Identifier: Apache-2.0
/*
 * Why KVM came back, reason by reason.  A reason that nothing here asked for ends the VM
 * with a sentence: it is never tried again.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "The kvm_run structure".
 */
#include "engine/kvm/kvm_priv.h"

#include <string.h>

/* --- ports --- */

static void port_access(struct kvm_cpu *c, uint8_t *data)
{
	const struct kvm_run *run = c->run;
	uint32_t value = 0;

	if (run->io.direction == KVM_EXIT_IO_OUT) {
		memcpy(&value, data, run->io.size);
		pio_write(c->kvm->space, run->io.port, run->io.size, value);
	} else {
		value = pio_read(c->kvm->space, run->io.port, run->io.size);
		memcpy(data, &value, run->io.size);
	}
}

/* A string instruction comes with as many elements as KVM took at once. */
static enum kvm_next on_io(struct kvm_cpu *c)
{
	const struct kvm_run *run = c->run;
	const uint64_t size = run->io.size, count = run->io.count;

	if (!size || size > 4 || run->io.data_offset > c->kvm->run_size ||
	    count * size > c->kvm->run_size - run->io.data_offset) {
		kvm_report(c, "KVM tells of a port access of %u times %u bytes, which cannot be",
			   run->io.count, run->io.size);
		return NEXT_ERROR;
	}
	for (uint64_t i = 0; i < count; i++)
		port_access(c, (uint8_t *)run + run->io.data_offset + i * size);
	stat_add(&c->v->stats.pio, count);
	return NEXT_RUN;
}

/* --- device memory --- */

static bool is_apic_page(const struct vcpu *v, gpa_t gpa)
{
	const gpa_t page = v->intc_ops->mmio_base(v->intc);

	return page != GPA_NONE && gpa - page < GUEST_PAGE_SIZE;
}

static uint64_t device_read(struct vcpu *v, gpa_t gpa, unsigned int size)
{
	if (is_apic_page(v, gpa))
		return v->intc_ops->mmio_read(v->intc, gpa & GUEST_PAGE_MASK, size);
	return mmio_read(v->space, gpa, size);
}

static void device_write(struct vcpu *v, gpa_t gpa, unsigned int size, uint64_t value)
{
	if (is_apic_page(v, gpa))
		v->intc_ops->mmio_write(v->intc, gpa & GUEST_PAGE_MASK, size, value);
	else
		mmio_write(v->space, gpa, size, value);
}

/* KVM cuts accesses at pages, so lengths may be odd: whole powers of two from the front. */
static enum kvm_next on_mmio(struct kvm_cpu *c)
{
	struct kvm_run *run = c->run;
	const unsigned int len = MIN(run->mmio.len, sizeof(run->mmio.data));
	unsigned int size;

	for (unsigned int at = 0; at < len; at += size) {
		uint64_t value = 0;

		size = 1U << (31 - __builtin_clz(len - at));
		if (run->mmio.is_write) {
			memcpy(&value, run->mmio.data + at, size);
			device_write(c->v, run->mmio.phys_addr + at, size, value);
		} else {
			value = device_read(c->v, run->mmio.phys_addr + at, size);
			memcpy(run->mmio.data + at, &value, size);
		}
	}
	stat_add(&c->v->stats.mmio, 1);
	return NEXT_RUN;
}

/* --- the end of something --- */

static enum kvm_next on_internal_error(struct kvm_cpu *c)
{
	static const char *const what[] = {
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "two exceptions at once",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "a failure while it delivered an event",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an exit of the processor that it does "
							      "not know",
	};
	const uint32_t sub = c->run->internal.suberror;

	if (sub == KVM_INTERNAL_ERROR_EMULATION)
		return NEXT_STEP;
	kvm_report(c, "KVM failed inside: %s (%u)",
		   sub < ARRAY_SIZE(what) && what[sub] ? what[sub] : "no reason is told", sub);
	return NEXT_ERROR;
}

static enum kvm_next on_unknown(struct kvm_cpu *c)
{
	kvm_report(c, "KVM came back for reason %u (%s), which nothing here asks for",
		   c->run->exit_reason, kvm_exit_name(c->run->exit_reason));
	return NEXT_ERROR;
}

static enum kvm_next on_ring_full(struct kvm_cpu *c)
{
	pthread_mutex_lock(&c->kvm->lock);
	kvm_ring_take_locked(c->kvm);
	pthread_mutex_unlock(&c->kvm->lock);
	return NEXT_RUN;
}

enum kvm_next kvm_exit(struct kvm_cpu *c)
{
	const struct kvm_run *run = c->run;

	c->counts.by_reason[run->exit_reason % ARRAY_SIZE(c->counts.by_reason)]++;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		return on_io(c);
	case KVM_EXIT_MMIO:
		return on_mmio(c);
	case KVM_EXIT_X86_RDMSR:
		return kvm_msr_read(c);
	case KVM_EXIT_X86_WRMSR:
		return kvm_msr_write(c);
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:	/* the loop looks at interrupts anyway */
	case KVM_EXIT_SET_TPR:		/* the loop has taken the new CR8 */
		return NEXT_RUN;
	case KVM_EXIT_DIRTY_RING_FULL:
		return on_ring_full(c);
	case KVM_EXIT_IOAPIC_EOI:
		return kvm_on_eoi(c);
	case KVM_EXIT_HLT:
		return NEXT_HALT;
	case KVM_EXIT_DEBUG:		/* nobody debugs the guest: it is the guest's own */
		return NEXT_DEBUG;
	case KVM_EXIT_SHUTDOWN:
		return NEXT_SHUTDOWN;
	case KVM_EXIT_UNKNOWN:
		kvm_report(c, "KVM does not know the processor's reason to leave the guest: 0x%llx",
			   (unsigned long long)run->hw.hardware_exit_reason);
		return NEXT_ERROR;
	case KVM_EXIT_FAIL_ENTRY:
		kvm_report(c, "the processor refused to enter the guest: reason 0x%llx",
			   (unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		return NEXT_ERROR;
	case KVM_EXIT_INTERNAL_ERROR:
		return on_internal_error(c);
	case KVM_EXIT_SYSTEM_EVENT:	/* of interfaces that no model of ours shows */
		kvm_report(c, "KVM tells of system event %u, which nothing here asks for",
			   run->system_event.type);
		return NEXT_ERROR;
	default:
		return on_unknown(c);
	}
}
