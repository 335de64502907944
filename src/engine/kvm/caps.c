// SPDX-License-Identifier: Apache-2.0
/*
 * What KVM must offer, each with the Linux version that has it, and what is switched on.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "Capabilities that can be enabled on VMs".
 */
#include "engine/kvm/kvm_priv.h"

#include <errno.h>

struct need {
	unsigned int cap;
	const char *what;
	const char *since;
};

static const struct need needs[] = {
	{ KVM_CAP_USER_MEMORY, "guest memory of a process", "2.6.25" },
	{ KVM_CAP_READONLY_MEM, "read-only memory", "3.7" },
	{ KVM_CAP_VCPU_EVENTS, "pending events", "2.6.33" },
	{ KVM_CAP_DEBUGREGS, "debug registers", "2.6.35" },
	{ KVM_CAP_XSAVE, "extended processor state", "2.6.36" },
	{ KVM_CAP_IMMEDIATE_EXIT, "immediate exits", "4.13" },
	{ KVM_CAP_X86_USER_SPACE_MSR, "model-specific registers of a process", "5.10" },
	{ KVM_CAP_X86_MSR_FILTER, "a filter of model-specific registers", "5.10" },
};

/* Departures from hardware that KVM makes for old users, as far as guests can see them. */
#define QUIRKS \
	(KVM_X86_QUIRK_LINT0_REENABLED | KVM_X86_QUIRK_LAPIC_MMIO_HOLE | KVM_X86_QUIRK_OUT_7E_INC_RIP | \
	 KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT | KVM_X86_QUIRK_FIX_HYPERCALL_INSN | \
	 KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS)

int kvm_cap(struct kvm *k, unsigned int cap)
{
	int rc = k->sys->ioctl(k->vm, KVM_CHECK_EXTENSION, cap);

	return rc > 0 ? rc : 0;
}

int kvm_check_caps(struct kvm *k, struct err *e)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(needs); i++)
		if (!kvm_cap(k, needs[i].cap))
			return err_set(e, ENOTSUP, "this host's KVM has no support for %s, which Linux "
				       "has had since %s: use --engine soft", needs[i].what,
				       needs[i].since);
	return 0;
}

static int enable(struct kvm *k, unsigned int cap, uint64_t arg)
{
	const struct kvm_enable_cap c = { .cap = cap, .args = { arg } };

	return kvm_vm_ioctl(k, KVM_ENABLE_CAP, &c);
}

/* Nice to have: without them the guest or the dump is told a little less. */
static void enable_optional(struct kvm *k)
{
	const int quirks = kvm_cap(k, KVM_CAP_DISABLE_QUIRKS2) & QUIRKS;

	if (quirks)
		enable(k, KVM_CAP_DISABLE_QUIRKS2, quirks);
	if (kvm_cap(k, KVM_CAP_X86_TRIPLE_FAULT_EVENT))
		enable(k, KVM_CAP_X86_TRIPLE_FAULT_EVENT, 1);
}

int kvm_enable_caps(struct kvm *k, const struct engine_config *c, struct err *e)
{
	const uint64_t identity = KVM_IDENTITY_MAP;

	if (enable(k, KVM_CAP_X86_USER_SPACE_MSR, KVM_MSR_EXIT_REASON_INVAL |
		   KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_FILTER))
		return err_errno(e, errno, "KVM refuses to hand over model-specific registers");
	if (kvm_cap(k, KVM_CAP_SET_IDENTITY_MAP_ADDR) &&
	    kvm_vm_ioctl(k, KVM_SET_IDENTITY_MAP_ADDR, &identity))
		return err_errno(e, errno, "KVM refuses the page of its identity map");
	if (kvm_cap(k, KVM_CAP_SET_TSS_ADDR) &&
	    k->sys->ioctl(k->vm, KVM_SET_TSS_ADDR, KVM_TSS_PAGES))
		return err_errno(e, errno, "KVM refuses the pages of its real-mode task");
	/* Instructions that KVM's emulator does not know come to us instead of being #UD. */
	if (kvm_cap(k, KVM_CAP_EXIT_ON_EMULATION_FAILURE))
		enable(k, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	if (kvm_cap(k, KVM_CAP_EXCEPTION_PAYLOAD))
		enable(k, KVM_CAP_EXCEPTION_PAYLOAD, 1);
	enable_optional(k);
	return c->dirty_ring ? kvm_ring_enable(k, e) : 0;
}
