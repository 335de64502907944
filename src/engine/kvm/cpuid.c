// SPDX-License-Identifier: Apache-2.0
/*
 * The processor model's CPUID for KVM, leaf by leaf from the same function that answers in
 * the software engine; and whether KVM here can keep what it promises.
 *
 * KVM answers leaves that are not there as Intel's processors do, which is what the model
 * does.  Two differences stay: hypervisor leaves beyond those listed below read as the last
 * basic leaf instead of zero; and where the processor has no VMCALL, calls by it are not
 * offered.  (A model is Intel's, so guests choose VMCALL.  AMD's processors have VMMCALL; KVM
 * either makes #UD of the other or writes over it, which a kernel's read-only code forbids.)
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_SET_CPUID2",
 * "KVM_GET_SUPPORTED_CPUID"; Intel SDM volume 2, "CPUID".
 */
#include "engine/kvm/kvm_priv.h"

#include "cpu/pv.h"

#include <cpuid.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ENTRIES		256	/* as many as KVM takes */
#define HYPERVISOR	0x40000000U
#define HYPERVISOR_LEAVES 16
#define EXTENDED	0x80000000U
#define VMX		BIT(5)		/* of leaf 1, ECX */

/* struct kvm_cpuid2 with room; that ends with an array of no size, and so must stand last. */
struct table {
	struct { uint32_t nent, padding; } head;
	struct kvm_cpuid_entry2 entry[ENTRIES];
};
_Static_assert(offsetof(struct table, entry) == sizeof(struct kvm_cpuid2), "layouts differ");

/* Features that need nothing from KVM: registers of ours, or no more than a hint. */
static bool is_ours(enum feature f)
{
	switch (f) {
	case FEAT_APIC: case FEAT_X2APIC: case FEAT_TSC_DEADLINE: case FEAT_MTRR: case FEAT_MCA:
	case FEAT_MCE: case FEAT_HYPERVISOR: case FEAT_ARAT: case FEAT_TSC_ADJUST: case FEAT_ERMS:
	case FEAT_FSRM: case FEAT_SPEC_CTRL: case FEAT_STIBP: case FEAT_SSBD: case FEAT_BHI_CTRL:
	case FEAT_ARCH_CAPABILITIES: case FEAT_INVARIANT_TSC:
		return true;
	default:
		return false;
	}
}

static const struct feature_bit {
	const char *name;
	uint32_t leaf;
	uint8_t subleaf, reg, bit;
} feature_bits[FEAT_COUNT] = {
#define FEATURE(name, leaf, subleaf, reg, bit, kind) \
	[FEAT_##name] = { #name, leaf, subleaf, reg, bit },
#include "cpu/features.def"
#undef FEATURE
};

static const struct kvm_cpuid_entry2 *find(const struct table *t, uint32_t leaf, uint32_t subleaf)
{
	for (uint32_t i = 0; i < t->head.nent; i++)
		if (t->entry[i].function == leaf && t->entry[i].index == subleaf)
			return &t->entry[i];
	return NULL;
}

static bool kvm_has(const struct table *t, const struct feature_bit *b)
{
	const struct kvm_cpuid_entry2 *x = find(t, b->leaf, b->subleaf);
	const uint32_t *regs = x ? &x->eax : NULL;	/* EAX EBX ECX EDX in this order */

	return regs && regs[b->reg] >> b->bit & 1;
}

static int check_model(struct kvm_cpu *c, const struct table *supported, struct err *e)
{
	const struct cpu_model *m = c->v->model;
	char missing[256] = "";
	size_t len = 0;

	for (enum feature f = 1; f < FEAT_COUNT; f++) {
		const struct feature_bit *b = &feature_bits[f];

		if (!model_has(m, f) || is_ours(f) || kvm_has(supported, b))
			continue;
		if (len + strlen(b->name) + 8 < sizeof(missing))
			len += sprintf(missing + len, "%s%s", len ? " " : "", b->name);
		else if (missing[len - 1] != '.')
			len += sprintf(missing + len, " ...");
	}
	if (!len)
		return 0;
	return err_set(e, ENOTSUP, "KVM on this host cannot give a guest what the processor model %s "
		       "has (%s): choose a lesser one with --cpu vireo-v0, or --engine soft",
		       m->name, missing);
}

static void add(struct kvm_cpu *c, struct table *t, uint32_t leaf, uint32_t subleaf, bool indexed)
{
	struct kvm_cpuid_entry2 *x = &t->entry[t->head.nent];
	uint32_t out[4];

	/* The bits that follow CR4 and XCR0 are KVM's to keep. */
	cpu_model_cpuid(c->v->model, leaf, subleaf, c->v->index, 0, XCR0_X87, out);
	if (leaf == HYPERVISOR + 1 && !c->kvm->vmcall)
		out[0] &= ~(uint32_t)PV_CALLS;
	if (indexed && subleaf && !(out[0] | out[1] | out[2] | out[3]))
		return;
	*x = (struct kvm_cpuid_entry2){
		.function = leaf, .index = subleaf,
		.flags = indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0,
		.eax = out[0], .ebx = out[1], .ecx = out[2], .edx = out[3],
	};
	t->head.nent++;
}

static unsigned int subleaves(uint32_t leaf)
{
	switch (leaf) {
	case 4:
		return 5;
	case 7:
		return 3;
	case 0xb:
	case 0x1f:
		return 2;
	case 0xd:
		return 64;
	default:
		return 0;
	}
}

static void fill(struct kvm_cpu *c, struct table *t)
{
	uint32_t last[4];

	t->head.nent = 0;
	cpu_model_cpuid(c->v->model, 0, 0, 0, 0, 0, last);
	for (uint32_t leaf = 0; leaf <= last[0]; leaf++) {
		unsigned int n = subleaves(leaf);

		add(c, t, leaf, 0, n != 0);
		for (uint32_t i = 1; i < n; i++)
			add(c, t, leaf, i, true);
	}
	for (uint32_t i = 0; i < HYPERVISOR_LEAVES; i++)
		add(c, t, HYPERVISOR + i, 0, false);
	cpu_model_cpuid(c->v->model, EXTENDED, 0, 0, 0, 0, last);
	for (uint32_t leaf = EXTENDED; leaf <= last[0]; leaf++)
		add(c, t, leaf, 0, false);
}

bool kvm_has_vmcall(void)
{
	uint32_t a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && c & VMX;
}

int kvm_cpuid_set(struct kvm_cpu *c, struct err *e)
{
	struct kvm *k = c->kvm;
	struct table *t = calloc(1, sizeof(*t));
	int rc;

	if (!t)
		return err_set(e, ENOMEM, "out of memory for CPUID");
	t->head.nent = ENTRIES;
	if (k->sys->ioctl(k->dev, KVM_GET_SUPPORTED_CPUID, (uintptr_t)t))
		rc = err_errno(e, errno, "KVM does not tell which processors it supports");
	else
		rc = check_model(c, t, e);
	if (!rc) {
		fill(c, t);
		if (kvm_cpu_ioctl(c, KVM_SET_CPUID2, t))
			rc = err_errno(e, errno, "KVM refuses the processor model %s",
				       c->v->model->name);
	}
	free(t);
	return rc;
}
