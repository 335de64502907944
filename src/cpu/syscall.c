// SPDX-License-Identifier: Apache-2.0
/*
 * The fast system calls: SYSCALL, SYSRET, SYSENTER, SYSEXIT, and SWAPGS.  As on Intel's
 * processors SYSCALL and SYSRET exist in 64-bit mode alone, SYSENTER and SYSEXIT in all
 * protected modes, and SYSRET checks the return address at CPL 0.
 *
 * Source: Intel SDM volume 2, each instruction.
 */
#include "cpu/system_priv.h"

#define ATTR_CODE	(SEG_G | SEG_P | SEG_S | SEG_CODE | SEG_W | SEG_A)
#define ATTR_DATA	(SEG_G | SEG_DB | SEG_P | SEG_S | SEG_W | SEG_A)

#define STAR_SYSCALL_CS(star)	((uint16_t)((star) >> 32))
#define STAR_SYSRET_CS(star)	((uint16_t)((star) >> 48))

static struct segment flat_cs(uint16_t sel, unsigned int cpl, bool is64)
{
	return (struct segment){
		.sel = sel, .limit = UINT32_MAX,
		.attr = ATTR_CODE | cpl << SEG_DPL_SHIFT | (is64 ? SEG_L : SEG_DB),
	};
}

static struct segment flat_ss(uint16_t sel, unsigned int cpl)
{
	return (struct segment){
		.sel = sel, .attr = ATTR_DATA | cpl << SEG_DPL_SHIFT, .limit = UINT32_MAX,
	};
}

/* Loads flat CS and SS of @cpl without looking at descriptors; RIP is the caller's. */
static void load_flat(struct vcpu *v, uint16_t cs, uint16_t ss, unsigned int cpl, bool is64)
{
	v->seg[SEG_CS] = flat_cs(cs, cpl, is64);
	v->seg[SEG_SS] = flat_ss(ss, cpl);
}

void syscall_segments(const struct vcpu *v, struct segment *cs, struct segment *ss)
{
	uint16_t sel = STAR_SYSCALL_CS(v->star) & ~SEL_RPL;

	*cs = flat_cs(sel, 0, true);
	*ss = flat_ss(sel + 8, 0);
}

void sysret_segments(const struct vcpu *v, bool is64, struct segment *cs, struct segment *ss)
{
	uint16_t base = STAR_SYSRET_CS(v->star);

	*cs = flat_cs((base + (is64 ? 16 : 0)) | 3, 3, is64);
	*ss = flat_ss((base + 8) | 3, 3);
}

static bool syscall_enabled(const struct vcpu *v)
{
	return v->code_size == CODE_64 && v->efer & EFER_SCE;
}

enum exec_status sys_syscall(struct vcpu *v, gva_t next)
{
	if (!syscall_enabled(v))
		return raise_ud(v);
	v->gpr[REG_RCX] = next;
	v->gpr[REG_R11] = v->rflags & ~RFLAGS_RF;
	v->step_void = v->rflags & v->sfmask & RFLAGS_TF;
	v->rflags = (v->rflags & ~(v->sfmask | RFLAGS_RF)) | RFLAGS_FIXED;
	v->rip = v->lstar;
	syscall_segments(v, &v->seg[SEG_CS], &v->seg[SEG_SS]);
	vcpu_update_mode(v);
	return EXEC_OK;
}

enum exec_status sys_sysret(struct vcpu *v, unsigned int opsize)
{
	bool is64 = opsize == 8;

	if (!syscall_enabled(v))
		return raise_ud(v);
	if (v->cpl || (is64 && !gva_canonical(v->gpr[REG_RCX])))
		return raise_gp(v, 0);
	v->rip = is64 ? v->gpr[REG_RCX] : (uint32_t)v->gpr[REG_RCX];
	sysret_segments(v, is64, &v->seg[SEG_CS], &v->seg[SEG_SS]);
	v->rflags = (v->gpr[REG_R11] & FLAGS_SYSRET) | RFLAGS_FIXED;
	vcpu_update_mode(v);
	vcpu_recheck_interrupts(v);
	return EXEC_OK;
}

enum exec_status sys_sysenter(struct vcpu *v, gva_t next)
{
	uint16_t cs = v->sysenter_cs & ~SEL_RPL;

	(void)next;	/* software keeps it */
	if (in_real_mode(v) || sel_null(cs))
		return raise_gp(v, 0);
	v->rflags &= ~(RFLAGS_VM | RFLAGS_IF | RFLAGS_RF);
	load_flat(v, cs, cs + 8, 0, in_long_mode(v));
	v->rip = in_long_mode(v) ? v->sysenter_eip : (uint32_t)v->sysenter_eip;
	v->gpr[REG_RSP] = in_long_mode(v) ? v->sysenter_esp : (uint32_t)v->sysenter_esp;
	vcpu_update_mode(v);
	return EXEC_OK;
}

enum exec_status sys_sysexit(struct vcpu *v, unsigned int opsize)
{
	uint16_t base = v->sysenter_cs & ~SEL_RPL;
	uint64_t rip = v->gpr[REG_RDX], rsp = v->gpr[REG_RCX];
	bool is64 = opsize == 8;

	if (in_real_mode(v) || sel_null(base) || v->cpl)
		return raise_gp(v, 0);
	if (is64 && !(gva_canonical(rip) && gva_canonical(rsp)))
		return raise_gp(v, 0);
	load_flat(v, (base + (is64 ? 32 : 16)) | 3, (base + (is64 ? 40 : 24)) | 3, 3, is64);
	v->rip = is64 ? rip : (uint32_t)rip;
	v->gpr[REG_RSP] = is64 ? rsp : (uint32_t)rsp;
	vcpu_update_mode(v);
	return EXEC_OK;
}

enum exec_status sys_swapgs(struct vcpu *v)
{
	uint64_t base = v->seg[SEG_GS].base;

	if (v->code_size != CODE_64)
		return raise_ud(v);
	if (v->cpl)
		return raise_gp(v, 0);
	v->seg[SEG_GS].base = v->kernel_gs_base;
	v->kernel_gs_base = base;
	return EXEC_OK;
}
