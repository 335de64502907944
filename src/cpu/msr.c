// SPDX-License-Identifier: Apache-2.0
/*
 * Model-specific registers, the time-stamp counter, XCR0, and the guest's CPUID.
 *
 * MTRRs and PAT are kept and checked, and have no effect: all memory is coherent here.
 * There are no performance counters and no machine-check banks.  An unknown register is
 * #GP(0), which systems probe for.
 *
 * ARCH_CAPABILITIES says that the processor has none of the faults that a system would
 * work around: the guest's instructions run inside our process, where its workarounds
 * would cost time and separate nothing.
 *
 * Source: Intel SDM volume 4, "Architectural MSRs"; volume 3, "Memory Cache Control"; AMD
 * APM volume 2, "System-Call Extension Registers".
 */
#include "cpu/system.h"

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "cpu/pv.h"

#define ARCH_CAPABILITIES \
	(ARCH_CAP_RDCL_NO | ARCH_CAP_IBRS_ALL | ARCH_CAP_SKIP_L1DFL | ARCH_CAP_SSB_NO | \
	 ARCH_CAP_MDS_NO | ARCH_CAP_PSCHANGE_NO | ARCH_CAP_TAA_NO | ARCH_CAP_SBDR_SSDP_NO | \
	 ARCH_CAP_FBSDP_NO | ARCH_CAP_PSDP_NO | ARCH_CAP_BHI_NO | ARCH_CAP_PBRSB_NO | \
	 ARCH_CAP_GDS_NO | ARCH_CAP_RFDS_NO | ARCH_CAP_ITS_NO)

#define UCODE_REVISION		BIT(32)
#define MTRRCAP			(8 | BIT(8) | BIT(10))	/* 8 ranges, fixed ranges, WC */
#define MTRR_RANGES		8
#define MTRR_DEF_TYPE_BITS	(0xffULL | BIT(10) | BIT(11))
#define MTRR_MASK_VALID		BIT(11)
#define FEATURE_CONTROL_LOCKED	BIT(0)
#define EFER_WRITABLE		(EFER_SCE | EFER_LME | EFER_NXE)
#define SPEC_CTRL_BITS		(7ULL | BIT(10))	/* IBRS, STIBP, SSBD, BHI_DIS_S */
#define PRED_CMD_IBPB		1ULL
#define DEBUGCTL_BITS		3ULL	/* LBR (records nothing), BTF */
#define MISC_ENABLE_FIXED	(BIT(11) | BIT(12))
#define MISC_ENABLE_BITS	(BIT(0) | BIT(3) | BIT(16) | BIT(18) | BIT(22) | BIT(23) | BIT(34))
#define LAST_BRANCH_FROM	0x1db	/* and to, last exception from and to */
#define LAST_EXCEPTION_TO	0x1de
#define PAGE_PHYS		((BIT(GPA_BITS) - 1) & ~GUEST_PAGE_MASK)

static uint64_t guest_tsc(const struct vcpu *v)
{
	return __builtin_ia32_rdtsc() + v->tsc_offset;
}

/* --- memory types --- */

/* UC WC WT WP WB, and UC- in the PAT. */
static bool memory_type_valid(uint8_t type, bool pat)
{
	return type == 0 || type == 1 || (type >= 4 && type <= 6) || (pat && type == 7);
}

static bool memory_types_valid(uint64_t types, bool pat)
{
	for (int i = 0; i < 64; i += 8)
		if (!memory_type_valid(types >> i & 0xff, pat))
			return false;
	return true;
}

/* The register of a fixed range, or NULL. */
static uint64_t *mtrr_fixed(struct vcpu *v, uint32_t index)
{
	switch (index) {
	case MSR_MTRR_FIX64K_00000:
		return &v->mtrr_fixed[0];
	case MSR_MTRR_FIX16K_80000:
		return &v->mtrr_fixed[1];
	case MSR_MTRR_FIX16K_A0000:
		return &v->mtrr_fixed[2];
	case MSR_MTRR_FIX4K_C0000 ... MSR_MTRR_FIX4K_C0000 + 7:
		return &v->mtrr_fixed[3 + index - MSR_MTRR_FIX4K_C0000];
	default:
		return NULL;
	}
}

/* The base or mask of a variable range, or NULL. */
static uint64_t *mtrr_variable(struct vcpu *v, uint32_t index)
{
	uint32_t n = index - MSR_MTRR_PHYSBASE0;

	if (n >= 2 * MTRR_RANGES)
		return NULL;
	return n % 2 ? &v->mtrr_mask[n / 2] : &v->mtrr_base[n / 2];
}

static bool mtrr_variable_valid(uint32_t index, uint64_t value)
{
	if ((index - MSR_MTRR_PHYSBASE0) % 2)
		return !(value & ~(PAGE_PHYS | MTRR_MASK_VALID));
	return !(value & ~(PAGE_PHYS | 0xff)) && memory_type_valid(value & 0xff, false);
}

/* --- registers without checks beyond canonical addresses --- */

enum storage { STORE_NONE, STORE_ANY, STORE_LOW32, STORE_CANONICAL };

static enum storage storage_kind(struct vcpu *v, uint32_t index, uint64_t **at)
{
	switch (index) {
	case MSR_SYSENTER_CS:
		*at = &v->sysenter_cs;
		return STORE_LOW32;
	case MSR_SYSENTER_ESP:
		*at = &v->sysenter_esp;
		return STORE_CANONICAL;
	case MSR_SYSENTER_EIP:
		*at = &v->sysenter_eip;
		return STORE_CANONICAL;
	case MSR_STAR:
		*at = &v->star;
		return STORE_ANY;
	case MSR_LSTAR:
		*at = &v->lstar;
		return STORE_CANONICAL;
	case MSR_CSTAR:
		*at = &v->cstar;
		return STORE_CANONICAL;
	case MSR_SFMASK:
		*at = &v->sfmask;
		return STORE_LOW32;
	case MSR_FS_BASE:
		*at = &v->seg[SEG_FS].base;
		return STORE_CANONICAL;
	case MSR_GS_BASE:
		*at = &v->seg[SEG_GS].base;
		return STORE_CANONICAL;
	case MSR_KERNEL_GS_BASE:
		*at = &v->kernel_gs_base;
		return STORE_CANONICAL;
	case MSR_TSC_AUX:
		*at = &v->tsc_aux;
		return STORE_LOW32;
	default:
		return STORE_NONE;
	}
}

static bool is_apic(uint32_t index)
{
	return index == MSR_APIC_BASE || index == MSR_TSC_DEADLINE ||
	       (index >= MSR_X2APIC_FIRST && index <= MSR_X2APIC_LAST);
}

/* --- reading --- */

static bool read_msr(struct vcpu *v, uint32_t index, uint64_t *value)
{
	const uint64_t *at;

	switch (index) {
	case MSR_TSC:
		*value = guest_tsc(v);
		return true;
	case MSR_TSC_ADJUST:
		*value = v->tsc_adjust;
		return true;
	case MSR_PLATFORM_ID:
	case MSR_EBL_CR_POWERON:
	case MSR_MCG_CAP:
	case LAST_BRANCH_FROM ... LAST_EXCEPTION_TO:
		*value = 0;
		return true;
	case MSR_FEATURE_CONTROL:
		*value = FEATURE_CONTROL_LOCKED;
		return true;
	case MSR_SPEC_CTRL:
		*value = v->spec_ctrl;
		return true;
	case MSR_UCODE_REV:
		*value = UCODE_REVISION;
		return true;
	case MSR_PLATFORM_INFO:		/* the ratio to the 100-MHz bus clock */
		*value = v->model->tsc_khz / 100000 << 8;
		return true;
	case MSR_MTRRCAP:
		*value = MTRRCAP;
		return true;
	case MSR_ARCH_CAPABILITIES:
		*value = ARCH_CAPABILITIES;
		return true;
	case MSR_MCG_STATUS:
		*value = v->mcg_status;
		return true;
	case MSR_MISC_ENABLE:
		*value = v->misc_enable;
		return true;
	case MSR_DEBUGCTL:
		*value = v->debugctl;
		return true;
	case MSR_PAT:
		*value = v->pat;
		return true;
	case MSR_MTRR_DEF_TYPE:
		*value = v->mtrr_def_type;
		return true;
	case MSR_EFER:
		*value = v->efer;
		return true;
	case MSR_PV_WALL_CLOCK ... MSR_PV_STEAL_TIME:
		return pv_read_msr(v, index, value);
	}
	at = mtrr_variable(v, index);
	if (!at)
		at = mtrr_fixed(v, index);
	if (at)
		*value = *at;
	return at != NULL;
}

static enum exec_status refuse(struct vcpu *v, uint32_t index, bool write, uint64_t value)
{
	fpu_put(v);
	if (write)
		log_guest(v->log, "vCPU %u: refused write of 0x%llx to MSR 0x%x at 0x%llx", v->index,
			  (unsigned long long)value, index, (unsigned long long)v->rip);
	else
		log_guest(v->log, "vCPU %u: refused read of MSR 0x%x at 0x%llx", v->index, index,
			  (unsigned long long)v->rip);
	return raise_gp(v, 0);
}

enum exec_status sys_rdmsr(struct vcpu *v, uint32_t index, uint64_t *value)
{
	uint64_t *at;

	if (v->cpl)
		return raise_gp(v, 0);
	if (is_apic(index)) {
		fpu_put(v);
		if (v->intc_ops && v->intc_ops->read_msr(v->intc, index, value))
			return EXEC_OK;
	} else if (storage_kind(v, index, &at)) {
		*value = *at;
		return EXEC_OK;
	} else if (read_msr(v, index, value)) {
		return EXEC_OK;
	}
	return refuse(v, index, false, 0);
}

/* --- writing --- */

static bool write_efer(struct vcpu *v, uint64_t value)
{
	/* LMA follows LME and CR0.PG; writing it is ignored. */
	if (value & ~(EFER_WRITABLE | EFER_LMA))
		return false;
	if ((v->cr0 & CR0_PG) && ((value ^ v->efer) & EFER_LME))
		return false;
	v->efer = (value & EFER_WRITABLE) | (v->efer & EFER_LMA);
	vcpu_update_mode(v);
	return true;
}

static bool write_mtrr(struct vcpu *v, uint32_t index, uint64_t value)
{
	uint64_t *at = mtrr_variable(v, index);

	if (at) {
		if (!mtrr_variable_valid(index, value))
			return false;
	} else {
		at = mtrr_fixed(v, index);
		if (!at || !memory_types_valid(value, false))
			return false;
	}
	*at = value;
	return true;
}

/* Stores @value if it has no bits outside @bits. */
static bool store(uint64_t *at, uint64_t value, uint64_t bits)
{
	if (value & ~bits)
		return false;
	*at = value;
	return true;
}

static bool write_msr(struct vcpu *v, uint32_t index, uint64_t value)
{
	uint64_t delta;

	switch (index) {
	case MSR_TSC:
		delta = value - guest_tsc(v);
		v->tsc_offset += delta;
		v->tsc_adjust += delta;
		pv_tsc_changed(v);
		return true;
	case MSR_TSC_ADJUST:
		v->tsc_offset += value - v->tsc_adjust;
		v->tsc_adjust = value;
		pv_tsc_changed(v);
		return true;
	case MSR_SPEC_CTRL:
		return store(&v->spec_ctrl, value, SPEC_CTRL_BITS);
	case MSR_PRED_CMD:	/* an indirect branch barrier: nothing to do */
		return !(value & ~PRED_CMD_IBPB);
	case MSR_UCODE_REV:	/* systems write 0, then execute CPUID, then read */
		return true;
	case MSR_MCG_STATUS:
		return store(&v->mcg_status, value, 0);
	case MSR_MISC_ENABLE:
		if (value & ~(MISC_ENABLE_BITS | MISC_ENABLE_FIXED))
			return false;
		v->misc_enable = (value & MISC_ENABLE_BITS) | MISC_ENABLE_FIXED;
		return true;
	case MSR_DEBUGCTL:
		return store(&v->debugctl, value, DEBUGCTL_BITS);
	case MSR_PAT:
		if (!memory_types_valid(value, true))
			return false;
		v->pat = value;
		return true;
	case MSR_MTRR_DEF_TYPE:
		return memory_type_valid(value & 0xff, false) &&
		       store(&v->mtrr_def_type, value, MTRR_DEF_TYPE_BITS);
	case MSR_EFER:
		return write_efer(v, value);
	case MSR_PV_WALL_CLOCK ... MSR_PV_STEAL_TIME:
		return pv_write_msr(v, index, value);
	default:
		return write_mtrr(v, index, value);
	}
}

/* Writes a register of storage_kind(). */
static bool write_storage(enum storage kind, uint64_t *at, uint64_t value)
{
	if (kind == STORE_CANONICAL && !gva_canonical(value))
		return false;
	*at = kind == STORE_LOW32 ? (uint32_t)value : value;
	return true;
}

enum exec_status sys_wrmsr(struct vcpu *v, uint32_t index, uint64_t value)
{
	enum storage kind;
	uint64_t *at;

	if (v->cpl)
		return raise_gp(v, 0);
	kind = storage_kind(v, index, &at);
	if (is_apic(index)) {
		fpu_put(v);
		if (v->intc_ops && v->intc_ops->write_msr(v->intc, index, value))
			return EXEC_OK;
	} else if (kind ? write_storage(kind, at, value) : write_msr(v, index, value)) {
		return EXEC_OK;
	}
	return refuse(v, index, true, value);
}

/* --- counters, XCR0, CPUID --- */

enum exec_status sys_rdtsc(struct vcpu *v, uint64_t *value)
{
	if (v->cpl && (v->cr4 & CR4_TSD))
		return raise_gp(v, 0);
	*value = guest_tsc(v);
	return EXEC_OK;
}

enum exec_status sys_rdpmc(struct vcpu *v, uint32_t index, uint64_t *value)
{
	/* There is no counter for any index. */
	(void)index;
	*value = 0;
	return raise_gp(v, 0);
}

enum exec_status sys_xsetbv(struct vcpu *v, uint32_t index, uint64_t value)
{
	uint64_t avx512 = value & XCR0_AVX512;

	if (!(v->cr4 & CR4_OSXSAVE))
		return raise_ud(v);
	if (v->cpl || index || (value & ~v->model->xcr0_max) || !(value & XCR0_X87))
		return raise_gp(v, 0);
	if ((value & XCR0_AVX) && !(value & XCR0_SSE))
		return raise_gp(v, 0);
	if (avx512 && (avx512 != XCR0_AVX512 || !(value & XCR0_AVX)))
		return raise_gp(v, 0);
	v->xcr0 = value;
	return EXEC_OK;
}

void sys_cpuid(struct vcpu *v, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
	cpu_model_cpuid(v->model, leaf, subleaf, v->index, v->cr4, v->xcr0, out);
}
