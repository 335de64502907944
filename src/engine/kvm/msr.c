// SPDX-License-Identifier: Apache-2.0
/*
 * Model-specific registers.  Only those that a guest's kernel writes at every context
 * switch are KVM's to answer; all others come here and are answered by the code that the
 * software engine uses, so an unknown one is #GP in both, and each check is the same.
 *
 * The time-stamp counter is the host's plus an offset of ours, which KVM is told.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_X86_SET_MSR_FILTER",
 * "KVM_EXIT_X86_RDMSR"; Documentation/virt/kvm/devices/vcpu.rst, "KVM_VCPU_TSC_OFFSET".
 */
#include "engine/kvm/kvm_priv.h"

#include "cpu/pv.h"
#include "cpu/system.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

/* KVM's: EFER; the bases of FS and GS, and the kernel's GS; its local APIC's. */
static bool is_kvms(const struct kvm *k, uint32_t index)
{
	if (index == MSR_EFER || (index >= MSR_FS_BASE && index <= MSR_KERNEL_GS_BASE))
		return true;
	return k->apics && (index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
			    (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST));
}

int kvm_msr_filter(struct kvm *k, struct err *e)
{
	uint8_t all[8] = { 0xff };
	const uint32_t both = KVM_MSR_FILTER_READ | KVM_MSR_FILTER_WRITE;
	struct kvm_msr_filter f = {
		.flags = KVM_MSR_FILTER_DEFAULT_DENY,
		.ranges = {
			{ .flags = both, .nmsrs = 1, .base = MSR_EFER, .bitmap = all },
			{ .flags = both, .nmsrs = 3, .base = MSR_FS_BASE, .bitmap = all },
			/* those of the x2APIC are not filtered */
			{ .flags = both, .nmsrs = k->apics, .base = MSR_APIC_BASE, .bitmap = all },
			{ .flags = both, .nmsrs = k->apics, .base = MSR_TSC_DEADLINE, .bitmap = all },
		},
	};

	if (kvm_vm_ioctl(k, KVM_X86_SET_MSR_FILTER, &f))
		return err_errno(e, errno, "KVM refuses a filter of model-specific registers");
	return 0;
}

/* --- registers that move with the state --- */

static uint64_t *msr_field(struct vcpu *v, uint32_t index)
{
	switch (index) {
	case MSR_SYSENTER_CS:
		return &v->sysenter_cs;
	case MSR_SYSENTER_ESP:
		return &v->sysenter_esp;
	case MSR_SYSENTER_EIP:
		return &v->sysenter_eip;
	case MSR_STAR:
		return &v->star;
	case MSR_LSTAR:
		return &v->lstar;
	case MSR_CSTAR:
		return &v->cstar;
	case MSR_SFMASK:
		return &v->sfmask;
	case MSR_KERNEL_GS_BASE:
		return &v->kernel_gs_base;
	case MSR_PAT:
		return &v->pat;
	case MSR_TSC_AUX:
		return &v->tsc_aux;
	default:
		return NULL;
	}
}

static bool listed(const struct kvm_msr_list *list, uint32_t index)
{
	for (uint32_t i = 0; i < list->nmsrs; i++)
		if (list->indices[i] == index)
			return true;
	return false;
}

static int choose(struct kvm *k, const struct kvm_msr_list *list, struct err *e)
{
	static const uint32_t wanted[] = {
		MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_STAR, MSR_LSTAR, MSR_CSTAR,
		MSR_SFMASK, MSR_KERNEL_GS_BASE, MSR_PAT, MSR_TSC_AUX,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(wanted); i++) {
		/* PAT is in no list of KVM's, and in every KVM; RDTSCP may be missing. */
		if (wanted[i] == MSR_PAT || listed(list, wanted[i]))
			k->msr_synced[k->msr_synced_count++] = wanted[i];
		else if (wanted[i] != MSR_TSC_AUX)
			return err_set(e, ENOTSUP, "this host's KVM does not know MSR 0x%x: use --engine "
				       "soft", wanted[i]);
	}
	return 0;
}

int kvm_msr_list(struct kvm *k, struct err *e)
{
	struct kvm_msr_list probe = { 0 }, *list;
	int rc;

	/* E2BIG, with the number filled in. */
	if (!k->sys->ioctl(k->dev, KVM_GET_MSR_INDEX_LIST, (uintptr_t)&probe) || errno != E2BIG)
		return err_errno(e, errno, "KVM does not tell which registers it has");
	list = calloc(1, sizeof(*list) + probe.nmsrs * sizeof(list->indices[0]));
	if (!list)
		return err_set(e, ENOMEM, "out of memory for a list of registers");
	list->nmsrs = probe.nmsrs;
	if (k->sys->ioctl(k->dev, KVM_GET_MSR_INDEX_LIST, (uintptr_t)list))
		rc = err_errno(e, errno, "KVM does not tell which registers it has");
	else
		rc = choose(k, list, e);
	free(list);
	return rc;
}

/* struct kvm_msrs with room; that ends with an array of no size, and so must stand last. */
struct msrs {
	struct { uint32_t nmsrs, pad; } head;
	struct kvm_msr_entry entry[16];
};
_Static_assert(offsetof(struct msrs, entry) == sizeof(struct kvm_msrs), "layouts differ");

static void list_synced(const struct kvm *k, struct vcpu *v, struct msrs *m)
{
	*m = (struct msrs){ .head.nmsrs = k->msr_synced_count };
	for (unsigned int i = 0; i < k->msr_synced_count; i++) {
		m->entry[i].index = k->msr_synced[i];
		m->entry[i].data = *msr_field(v, k->msr_synced[i]);
	}
}

/* The number of registers that KVM took tells which one it refused. */
static int complete(struct kvm_cpu *c, const struct msrs *m, int done)
{
	if (done == (int)m->head.nmsrs)
		return 0;
	if (done < 0)
		return err_errno(&c->v->err, errno, "KVM refuses processor %u's registers", c->v->index);
	return err_set(&c->v->err, EINVAL, "KVM refuses processor %u's MSR 0x%x (0x%llx)", c->v->index,
		       m->entry[done].index, (unsigned long long)m->entry[done].data);
}

int kvm_msrs_put(struct kvm_cpu *c)
{
	struct msrs m;

	list_synced(c->kvm, c->v, &m);
	return complete(c, &m, kvm_cpu_ioctl(c, KVM_SET_MSRS, &m));
}

int kvm_msrs_get(struct kvm_cpu *c)
{
	struct msrs m;
	int rc;

	list_synced(c->kvm, c->v, &m);
	rc = complete(c, &m, kvm_cpu_ioctl(c, KVM_GET_MSRS, &m));
	for (unsigned int i = 0; i < m.head.nmsrs && !rc; i++)
		*msr_field(c->v, m.entry[i].index) = m.entry[i].data;
	return rc;
}

static int tsc_offset_ioctl(struct kvm_cpu *c, unsigned long request, uint64_t *offset)
{
	const struct kvm_device_attr attr = {
		.group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET, .addr = (uintptr_t)offset,
	};

	return c->kvm->tsc_control ? kvm_cpu_ioctl(c, request, &attr) : -1;
}

/*
 * Without the attribute the counter itself is set, late by the time of the call.  A KVM that
 * emulates may have no offset at all and say nothing: then the guest's counter is the host's,
 * and the timers that compare with it must know.
 */
int kvm_tsc_put(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;
	uint64_t wanted = v->tsc_offset, actual;
	struct msrs m = { .head.nmsrs = 1, .entry = { { .index = MSR_TSC } } };

	if (!tsc_offset_ioctl(c, KVM_SET_DEVICE_ATTR, &wanted) &&
	    !tsc_offset_ioctl(c, KVM_GET_DEVICE_ATTR, &actual)) {
		if (actual != wanted && !atomic_exchange(&c->kvm->tsc_told, true))
			log_warn(v->log, "KVM here cannot set the guest's time-stamp counter apart "
				 "from the host's");
		if (actual != wanted) {
			__atomic_store_n(&v->tsc_offset, actual, __ATOMIC_RELAXED);
			pv_tsc_changed(v);
		}
		return 0;
	}
	m.entry[0].data = __builtin_ia32_rdtsc() + wanted;
	return complete(c, &m, kvm_cpu_ioctl(c, KVM_SET_MSRS, &m));
}

/* --- exits --- */

/* The log names the guest's instruction; the timer's deadline is written too often for it. */
static void note_place(struct kvm_cpu *c, uint32_t index)
{
	struct kvm_regs r;

	vcpu_set_cpl(c->v, 0);
	if (index != MSR_TSC_DEADLINE && !kvm_cpu_ioctl(c, KVM_GET_REGS, &r))
		c->v->rip = r.rip;
}

enum kvm_next kvm_msr_read(struct kvm_cpu *c)
{
	struct kvm_run *run = c->run;
	uint64_t value = 0;

	note_place(c, run->msr.index);
	run->msr.error = is_kvms(c->kvm, run->msr.index) ||
			 sys_rdmsr(c->v, run->msr.index, &value) != EXEC_OK;
	run->msr.data = value;
	return NEXT_RUN;
}

/* A register of ours that KVM works with. */
static int pass_on(struct kvm_cpu *c, uint32_t index)
{
	const uint64_t *at = msr_field(c->v, index);
	struct msrs m = { .head.nmsrs = 1, .entry = { { .index = index } } };

	for (unsigned int i = 0; i < c->kvm->msr_synced_count && at; i++) {
		if (c->kvm->msr_synced[i] != index)
			continue;
		m.entry[0].data = *at;
		return complete(c, &m, kvm_cpu_ioctl(c, KVM_SET_MSRS, &m));
	}
	return 0;
}

enum kvm_next kvm_msr_write(struct kvm_cpu *c)
{
	const uint32_t index = c->run->msr.index;
	const uint64_t offset = c->v->tsc_offset;
	int rc = 0;

	note_place(c, index);
	c->run->msr.error = is_kvms(c->kvm, index) || sys_wrmsr(c->v, index, c->run->msr.data) != EXEC_OK;
	if (!c->run->msr.error)
		rc = pass_on(c, index);
	if (!rc && c->v->tsc_offset != offset)
		rc = kvm_tsc_put(c);
	return rc ? NEXT_ERROR : NEXT_RUN;
}
