// SPDX-License-Identifier: Apache-2.0
/*
 * struct vcpu to KVM's vCPU and back, whole.  Whoever reads or changes struct vcpu does so
 * while the state is there; KVM has it from kvm_state_put() to kvm_state_get().
 *
 * The order of putting matters: the control registers decide what the others may hold, and
 * events come last.
 *
 * Source: Linux, Documentation/virt/kvm/api.rst, "KVM_SET_SREGS", "KVM_SET_XSAVE",
 * "KVM_SET_XCRS", "KVM_SET_DEBUGREGS".
 */
#include "engine/kvm/kvm_priv.h"

#include "cpu/mmu.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>

/* For CPUID's APIC bit, where the APIC is a device of ours; KVM's own keeps what it has. */
#define APIC_BASE(v) (APIC_DEFAULT_BASE | BIT(11) | ((v)->index ? 0 : BIT(8)))

static int apic_base(struct kvm_cpu *c, uint64_t *base)
{
	struct kvm_sregs r;

	*base = APIC_BASE(c->v);
	if (!c->kvm->apics)
		return 0;
	if (kvm_cpu_ioctl(c, KVM_GET_SREGS, &r))
		return -1;
	*base = r.apic_base;
	return 0;
}

/* --- segments --- */

static void segment_put(struct kvm_segment *k, const struct segment *s)
{
	const bool usable = s->attr & SEG_P && !(s->attr & SEG_UNUSABLE);

	*k = (struct kvm_segment){
		.base = s->base, .limit = s->limit, .selector = s->sel,
		.type = s->attr & SEG_TYPE, .s = !!(s->attr & SEG_S), .dpl = SEG_DPL(s->attr),
		.present = usable, .avl = !!(s->attr & SEG_AVL), .l = !!(s->attr & SEG_L),
		.db = !!(s->attr & SEG_DB), .g = !!(s->attr & SEG_G), .unusable = !usable,
	};
	if (usable && k->s)	/* processors enter a guest with accessed segments only */
		k->type |= SEG_A;
}

static void segment_get(struct segment *s, const struct kvm_segment *k)
{
	*s = (struct segment){ .base = k->base, .limit = k->limit, .sel = k->selector };
	if (k->unusable || !k->present) {
		s->attr = SEG_UNUSABLE | k->dpl << SEG_DPL_SHIFT;
		return;
	}
	s->attr = k->type | k->dpl << SEG_DPL_SHIFT | SEG_P | (k->s ? SEG_S : 0) |
		  (k->avl ? SEG_AVL : 0) | (k->l ? SEG_L : 0) | (k->db ? SEG_DB : 0) |
		  (k->g ? SEG_G : 0);
}

/* ES CS SS DS FS GS, as vcpu.seg has them. */
static struct kvm_segment *segment_of(struct kvm_sregs *r, unsigned int seg)
{
	switch (seg) {
	case SEG_ES:
		return &r->es;
	case SEG_CS:
		return &r->cs;
	case SEG_SS:
		return &r->ss;
	case SEG_DS:
		return &r->ds;
	case SEG_FS:
		return &r->fs;
	default:
		return &r->gs;
	}
}

/* --- control state --- */

static int sregs_put(struct kvm_cpu *c)
{
	const struct vcpu *v = c->v;
	struct kvm_sregs r = {
		.cr0 = v->cr0, .cr2 = v->cr2, .cr3 = v->cr3, .cr4 = v->cr4,
		.cr8 = v->intc_ops->get_tpr(v->intc) >> 4,
		.efer = v->efer,
		.gdt = { .base = v->gdtr.base, .limit = v->gdtr.limit },
		.idt = { .base = v->idtr.base, .limit = v->idtr.limit },
	};

	if (apic_base(c, (uint64_t *)&r.apic_base))
		return -1;
	for (unsigned int i = 0; i < ARRAY_SIZE(v->seg); i++)
		segment_put(segment_of(&r, i), &v->seg[i]);
	segment_put(&r.ldt, &v->ldtr);
	segment_put(&r.tr, &v->tr);
	return kvm_cpu_ioctl(c, KVM_SET_SREGS, &r);
}

static int sregs_get(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;
	struct kvm_sregs r;

	if (kvm_cpu_ioctl(c, KVM_GET_SREGS, &r))
		return -1;
	v->cr0 = r.cr0;
	v->cr2 = r.cr2;
	v->cr3 = r.cr3;
	v->cr4 = r.cr4;
	v->efer = r.efer;
	v->gdtr = (struct table_reg){ .base = r.gdt.base, .limit = r.gdt.limit };
	v->idtr = (struct table_reg){ .base = r.idt.base, .limit = r.idt.limit };
	for (unsigned int i = 0; i < ARRAY_SIZE(v->seg); i++)
		segment_get(&v->seg[i], segment_of(&r, i));
	segment_get(&v->ldtr, &r.ldt);
	segment_get(&v->tr, &r.tr);
	return 0;
}

/* KVM's order of the first eight: RAX RBX RCX RDX RSI RDI RSP RBP. */
static int regs_put(struct kvm_cpu *c)
{
	const uint64_t *g = c->v->gpr;
	const struct kvm_regs r = {
		.rax = g[REG_RAX], .rbx = g[REG_RBX], .rcx = g[REG_RCX], .rdx = g[REG_RDX],
		.rsi = g[REG_RSI], .rdi = g[REG_RDI], .rsp = g[REG_RSP], .rbp = g[REG_RBP],
		.r8 = g[REG_R8], .r9 = g[REG_R9], .r10 = g[REG_R10], .r11 = g[REG_R11],
		.r12 = g[REG_R12], .r13 = g[REG_R13], .r14 = g[REG_R14], .r15 = g[REG_R15],
		.rip = c->v->rip, .rflags = c->v->rflags,
	};

	return kvm_cpu_ioctl(c, KVM_SET_REGS, &r);
}

static int regs_get(struct kvm_cpu *c)
{
	uint64_t *g = c->v->gpr;
	struct kvm_regs r;

	if (kvm_cpu_ioctl(c, KVM_GET_REGS, &r))
		return -1;
	g[REG_RAX] = r.rax, g[REG_RBX] = r.rbx, g[REG_RCX] = r.rcx, g[REG_RDX] = r.rdx;
	g[REG_RSI] = r.rsi, g[REG_RDI] = r.rdi, g[REG_RSP] = r.rsp, g[REG_RBP] = r.rbp;
	g[REG_R8] = r.r8, g[REG_R9] = r.r9, g[REG_R10] = r.r10, g[REG_R11] = r.r11;
	g[REG_R12] = r.r12, g[REG_R13] = r.r13, g[REG_R14] = r.r14, g[REG_R15] = r.r15;
	c->v->rip = r.rip;
	c->v->rflags = r.rflags;
	return 0;
}

/*
 * --- SIMD and x87: the XSAVE standard format on both sides ---
 *
 * Components that no model has, tiles (AMX) among them, never leave KVM's area, whose size it
 * tells; while they are enabled they go back as they came.  A reset disables them.
 */

#define MXCSR		24	/* offsets in the area */
#define XSTATE_BV	512	/* the header's bitmap of components */

static int xsave_put(struct kvm_cpu *c)
{
	uint8_t *area = (uint8_t *)c->xsave->region;
	uint64_t components;
	uint32_t mxcsr;

	/* Behind our area is what KVM gave last. */
	memcpy(area, c->v->xsave, XSAVE_AREA_SIZE);
	memcpy(&components, area + XSTATE_BV, sizeof(components));
	components = (components & c->v->fpu_mask) | (c->xsave_others & c->v->xcr0);
	/* KVM takes MXCSR only with a component that it belongs to, used or not. */
	memcpy(&mxcsr, area + MXCSR, sizeof(mxcsr));
	if (mxcsr != MXCSR_RESET)
		components |= XCR0_SSE;
	memcpy(area + XSTATE_BV, &components, sizeof(components));
	return kvm_cpu_ioctl(c, KVM_SET_XSAVE, c->xsave);
}

static int xsave_get(struct kvm_cpu *c)
{
	const bool large = c->kvm->xsave_size > sizeof(struct kvm_xsave);
	uint64_t components;

	if (kvm_cpu_ioctl(c, large ? KVM_GET_XSAVE2 : KVM_GET_XSAVE, c->xsave))
		return -1;
	memcpy(c->v->xsave, c->xsave->region, XSAVE_AREA_SIZE);
	memcpy(&components, c->v->xsave + XSTATE_BV, sizeof(components));
	c->xsave_others = components & ~c->v->fpu_mask;
	components &= c->v->fpu_mask;
	memcpy(c->v->xsave + XSTATE_BV, &components, sizeof(components));
	c->v->fpu_live = false;
	return 0;
}

/* A KVM that gives its guests no XSAVE has no XCR0 either. */
static int xcr0_put(struct kvm_cpu *c)
{
	const struct kvm_xcrs r = { .nr_xcrs = 1, .xcrs = { { .xcr = 0, .value = c->v->xcr0 } } };

	return model_has(c->v->model, FEAT_XSAVE) ? kvm_cpu_ioctl(c, KVM_SET_XCRS, &r) : 0;
}

static int xcr0_get(struct kvm_cpu *c)
{
	struct kvm_xcrs r;

	if (!model_has(c->v->model, FEAT_XSAVE))
		return 0;
	if (kvm_cpu_ioctl(c, KVM_GET_XCRS, &r))
		return -1;
	for (uint32_t i = 0; i < MIN(r.nr_xcrs, KVM_MAX_XCRS); i++)
		if (r.xcrs[i].xcr == 0)
			c->v->xcr0 = r.xcrs[i].value;
	return 0;
}

/* --- debug registers --- */

static int debug_put(struct kvm_cpu *c)
{
	const uint64_t *dr = c->v->dr;
	const struct kvm_debugregs r = {
		.db = { dr[0], dr[1], dr[2], dr[3] }, .dr6 = dr[6], .dr7 = dr[7],
	};

	return kvm_cpu_ioctl(c, KVM_SET_DEBUGREGS, &r);
}

static int debug_get(struct kvm_cpu *c)
{
	struct kvm_debugregs r;

	if (kvm_cpu_ioctl(c, KVM_GET_DEBUGREGS, &r))
		return -1;
	for (unsigned int i = 0; i < 4; i++)
		c->v->dr[i] = r.db[i];
	c->v->dr[6] = r.dr6;
	c->v->dr[7] = r.dr7;
	return 0;
}

/* --- all of it --- */

struct part {
	const char *name;
	int (*put)(struct kvm_cpu *c), (*get)(struct kvm_cpu *c);
};

static const struct part parts[] = {
	{ "control registers and segments", sregs_put, sregs_get },
	{ "general registers", regs_put, regs_get },
	{ "XCR0", xcr0_put, xcr0_get },
	{ "SIMD and x87 state", xsave_put, xsave_get },
	{ "model-specific registers", kvm_msrs_put, kvm_msrs_get },
	{ "time-stamp counter", kvm_tsc_put, NULL },
	{ "local APIC", kvm_apic_put, kvm_apic_get },
	{ "debug registers", debug_put, debug_get },
	{ "pending events", kvm_events_put, NULL },
	{ "activity", kvm_mp_put, kvm_mp_get },
};

static bool failed(struct kvm_cpu *c, const char *what, const char *name)
{
	if (!c->v->err.code)
		err_errno(&c->v->err, errno, "KVM %s processor %u's %s", what, c->v->index, name);
	return false;
}

bool kvm_state_put(struct kvm_cpu *c)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].put(c))
			return failed(c, "refuses", parts[i].name);
	return true;
}

bool kvm_registers_get(struct kvm_cpu *c)
{
	if (sregs_get(c) || regs_get(c))
		return false;
	vcpu_update_mode(c->v);
	tlb_flush_all(c->v);
	tlb_switch_space(c->v, false);
	return true;
}

bool kvm_state_get(struct kvm_cpu *c)
{
	struct vcpu *v = c->v;

	for (unsigned int i = 0; i < ARRAY_SIZE(parts); i++)
		if (parts[i].get && parts[i].get(c))
			return failed(c, "does not give", parts[i].name);
	vcpu_update_mode(v);
	/* The guest's page tables changed without our tables hearing of it. */
	tlb_flush_all(v);
	tlb_switch_space(v, false);
	kvm_inject_park(c);
	return !kvm_events_get(c) || failed(c, "does not give", "pending events");
}
