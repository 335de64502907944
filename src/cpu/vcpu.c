// SPDX-License-Identifier: Apache-2.0
/*
 * A virtual processor's life: creation, power-on and INIT state, attention from other
 * threads, and what follows from the control state.  See vcpu.h.
 *
 * Source: Intel SDM volume 3, "Processor Management and Initialization" (the table of
 * processor state after reset).
 */
#include "cpu/vcpu.h"

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"

#include <assert.h>
#include <sched.h>
#include <stdatomic.h>

#define ATTR_CODE	(SEG_P | SEG_S | SEG_CODE | SEG_W | SEG_A)	/* readable */
#define ATTR_DATA	(SEG_P | SEG_S | SEG_W | SEG_A)
#define ATTR_LDT	(SEG_P | 2)
#define ATTR_TSS	(SEG_P | 11)	/* busy, 32 bits */

static const struct segment reset_data = { .attr = ATTR_DATA, .limit = 0xffff };
static const struct segment reset_code = {
	.sel = 0xf000, .attr = ATTR_CODE, .limit = 0xffff, .base = 0xffff0000,
};
static const struct segment reset_ldtr = { .attr = ATTR_LDT, .limit = 0xffff };
static const struct segment reset_tr = { .attr = ATTR_TSS, .limit = 0xffff };
static const struct table_reg reset_table = { .limit = 0xffff };

#define PAUSES		512	/* some 10 to 40 us of spinning */
#define RESET_RIP	0xfff0
#define RESET_CR0	(CR0_CD | CR0_NW | CR0_ET)
/* Fast strings; branch trace and event sampling are unavailable. */
#define RESET_MISC_ENABLE (BIT(0) | BIT(11) | BIT(12))

/* What INIT resets as well. */
static void reset_registers(struct vcpu *v, bool init)
{
	uint32_t id[4];

	for (int i = 0; i < 16; i++)
		v->gpr[i] = 0;
	cpu_model_cpuid(v->model, 1, 0, v->index, 0, 0, id);
	v->gpr[REG_RDX] = id[0];
	v->rip = RESET_RIP;
	v->rflags = RFLAGS_FIXED;
	for (int i = 0; i < 6; i++)
		v->seg[i] = i == SEG_CS ? reset_code : reset_data;
	v->ldtr = reset_ldtr;
	v->tr = reset_tr;
	v->gdtr = v->idtr = reset_table;
	/* INIT leaves the cache controls as they were. */
	v->cr0 = init ? (v->cr0 & (CR0_CD | CR0_NW)) | CR0_ET : RESET_CR0;
	v->cr2 = v->cr3 = v->cr4 = v->efer = 0;
	for (int i = 0; i < 6; i++)
		v->dr[i] = 0;
	v->dr[6] = DR6_FIXED;
	v->dr[7] = DR7_FIXED;
	v->debugctl = 0;
	v->fault = (struct fault){ 0 };
	v->nmi_blocked = v->nmi_parked = v->shadow_mov_ss = v->step_void = false;
	/* INIT leaves the controllers alone: look at them when IF is set again. */
	v->intr_parked = true;
	v->halted = v->kicked = v->shutdown = false;
	v->db_pending = 0;
}

static void reset_msrs(struct vcpu *v)
{
	v->xcr0 = XCR0_X87;
	v->star = v->lstar = v->cstar = v->sfmask = v->kernel_gs_base = 0;
	v->sysenter_cs = v->sysenter_esp = v->sysenter_eip = 0;
	v->pat = PAT_RESET;
	v->misc_enable = RESET_MISC_ENABLE;
	v->spec_ctrl = v->xss = v->tsc_aux = 0;
	v->tsc_adjust = 0;
	v->tsc_offset = v->tsc_boot_offset = -__builtin_ia32_rdtsc();
	v->pv_wall = v->pv_clock = v->pv_steal = 0;
	v->pv_no_calls = false;
	v->mtrr_def_type = 0;
	for (int i = 0; i < 11; i++)
		v->mtrr_fixed[i] = 0;
	for (int i = 0; i < 8; i++)
		v->mtrr_base[i] = v->mtrr_mask[i] = 0;
	v->mcg_status = 0;
}

void vcpu_reset(struct vcpu *v, bool init)
{
	fpu_put(v);
	reset_registers(v, init);
	if (!init) {
		reset_msrs(v);
		v->wait_sipi = v->index != 0;
	}
	fpu_reset(v, init);
	atomic_fetch_and(&v->attention, ~(uint32_t)(ATTN_STEP | ATTN_SHADOW));
	vcpu_update_mode(v);
	tlb_flush_all(v);
	tlb_switch_space(v, false);
}

int vcpu_init(struct vcpu *v, struct err *e)
{
	int rc;

	assert(((uintptr_t)v & 63) == 0);
	if (!v->tsc_hz)
		v->tsc_hz = v->model->tsc_khz * 1000ULL;
	v->pauses = PAUSES;
	fpu_init(v);
	rc = tlb_init(v, e);
	if (rc)
		return rc;
	vcpu_reset(v, false);
	return 0;
}

void vcpu_destroy(struct vcpu *v)
{
	fpu_put(v);
	tlb_destroy(v);
}

void vcpu_attention(struct vcpu *v, uint32_t bits)
{
	/* Orders what the caller has prepared before the bits; the loop loads them to look. */
	atomic_fetch_or(&v->attention, bits);
	vcpu_disturb(v);
	if (v->wake)
		v->wake(v->wake_arg);
}

void vcpu_pause(struct vcpu *v)
{
	if (--v->pauses)
		return;
	v->pauses = PAUSES;
	vcpu_yield(v);
}

void vcpu_yield(struct vcpu *v)
{
	if (v->awaited && v->awaited(v->wake_arg))
		sched_yield();
}

static void set_attention(struct vcpu *v, uint32_t bit, bool on)
{
	uint32_t now = atomic_load_explicit(&v->attention, memory_order_relaxed);

	if (on == ((now & bit) != 0))
		return;
	if (on)
		atomic_fetch_or(&v->attention, bit);
	else
		atomic_fetch_and(&v->attention, ~bit);
}

void vcpu_update_mode(struct vcpu *v)
{
	const struct segment *cs = &v->seg[SEG_CS], *ss = &v->seg[SEG_SS];

	/* SS.DPL and not CS.RPL: a real-mode CS has arbitrary low bits just after PE was set. */
	if (in_real_mode(v))
		vcpu_set_cpl(v, 0);
	else
		vcpu_set_cpl(v, in_vm86(v) ? 3 : SEG_DPL(ss->attr));
	if (in_long_mode(v) && (cs->attr & SEG_L))
		v->code_size = CODE_64;
	else
		v->code_size = cs->attr & SEG_DB ? CODE_32 : CODE_16;
	if (v->code_size == CODE_64)
		v->stack_size = 8;
	else
		v->stack_size = ss->attr & SEG_DB ? 4 : 2;
	set_attention(v, ATTN_STEP, (v->rflags & RFLAGS_TF) != 0);
	tlb_select_view(v);
}
