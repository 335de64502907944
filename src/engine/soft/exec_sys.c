// SPDX-License-Identifier: Apache-2.0
/*
 * System instructions: control and debug registers, MSRs, system calls, time, CPUID,
 * caches.  The work is in cpu/system.h; here operands are decoded and privilege checked.
 *
 * Source: Intel SDM volume 2.
 *
 * Not modelled: MONITOR and MWAIT (#UD; no CPU model has them), hypervisor calls (#UD),
 * caches (their flushes check the address only).
 */
#include "cpu/pv.h"
#include "engine/soft/exec_priv.h"

/* --- control and debug registers; 64 bits wide in 64-bit mode, else 32 --- */

static unsigned int system_size(const struct vcpu *v)
{
	return v->code_size == CODE_64 ? 8 : 4;
}

static int exec_mov_to_cr(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	TRY(sys_mov_to_cr(v, i->op[0].reg,
			  v->gpr[i->op[1].reg] & size_mask(system_size(v))));
	return exec_next(v, i);
}

static int exec_mov_from_cr(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(require_cpl0(v));
	TRY(sys_mov_from_cr(v, i->op[1].reg, &value));
	reg_set(v, i->op[0].reg, system_size(v), value);
	return exec_next(v, i);
}

static int exec_mov_to_dr(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	TRY(sys_mov_to_dr(v, i->op[0].reg,
			  v->gpr[i->op[1].reg] & size_mask(system_size(v))));
	return exec_next(v, i);
}

static int exec_mov_from_dr(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(require_cpl0(v));
	TRY(sys_mov_from_dr(v, i->op[1].reg, &value));
	reg_set(v, i->op[0].reg, system_size(v), value);
	return exec_next(v, i);
}

static int exec_clts(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	TRY(sys_clts(v));
	return exec_next(v, i);
}

static int exec_lmsw(struct vcpu *v, const struct insn *i)
{
	uint16_t value;

	TRY(require_cpl0(v));
	TRY(source16(v, i, &i->op[0], &value));
	TRY(sys_lmsw(v, value));
	return exec_next(v, i);
}

/* SMSW: 16 bits to memory, as much of CR0 as fits to a register. */
static int exec_smsw(struct vcpu *v, const struct insn *i)
{
	unsigned int size = i->op[0].kind == OPND_MEM ? 2 : i->op[0].size;

	if (v->cr4 & CR4_UMIP && v->cpl)
		return raise_gp(v, 0);
	TRY(exec_dest(v, i, &i->op[0], size, v->cr0));
	return exec_next(v, i);
}

/* --- paging --- */

static int exec_invlpg(struct vcpu *v, const struct insn *i)
{
	gva_t gva = exec_offset(v, i);

	TRY(require_cpl0(v));
	if (v->code_size == CODE_64)
		gva += seg_base64(v, i->mem.seg);
	else
		gva = (uint32_t)(gva + v->seg[i->mem.seg].base);
	TRY(sys_invlpg(v, gva));
	return exec_next(v, i);
}

/* The descriptor in memory: PCID in the first eight bytes, an address in the others. */
static int exec_invpcid(struct vcpu *v, const struct insn *i)
{
	uint64_t type = v->gpr[i->op[0].reg] & size_mask(system_size(v)), pcid, gva;

	TRY(require_cpl0(v));
	TRY(exec_load(v, i, 8, &pcid));
	TRY(exec_load_part(v, i, 8, 8, &gva));
	TRY(sys_invpcid(v, type, pcid, gva));
	return exec_next(v, i);
}

/* #UD, not #GP, for those without privilege. */
static int exec_stac(struct vcpu *v, const struct insn *i)
{
	if (v->cpl)
		return raise_ud(v);
	v->rflags |= RFLAGS_AC;
	vcpu_update_mode(v);
	return exec_next(v, i);
}

static int exec_clac(struct vcpu *v, const struct insn *i)
{
	if (v->cpl)
		return raise_ud(v);
	v->rflags &= ~RFLAGS_AC;
	vcpu_update_mode(v);
	return exec_next(v, i);
}

/* --- MSRs, XCR0, identification, time --- */

static void set_edx_eax(struct vcpu *v, uint64_t value)
{
	v->gpr[REG_RAX] = (uint32_t)value;
	v->gpr[REG_RDX] = value >> 32;
}

static uint64_t get_edx_eax(const struct vcpu *v)
{
	return v->gpr[REG_RDX] << 32 | (uint32_t)v->gpr[REG_RAX];
}

static int exec_rdmsr(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(require_cpl0(v));
	TRY(sys_rdmsr(v, v->gpr[REG_RCX], &value));
	set_edx_eax(v, value);
	return exec_next(v, i);
}

static int exec_wrmsr(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	TRY(sys_wrmsr(v, v->gpr[REG_RCX], get_edx_eax(v)));
	return exec_next(v, i);
}

static int exec_xgetbv(struct vcpu *v, const struct insn *i)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		return raise_ud(v);
	if ((uint32_t)v->gpr[REG_RCX])
		return raise_gp(v, 0);
	set_edx_eax(v, v->xcr0);
	return exec_next(v, i);
}

static int exec_xsetbv(struct vcpu *v, const struct insn *i)
{
	if (!(v->cr4 & CR4_OSXSAVE))
		return raise_ud(v);
	TRY(require_cpl0(v));
	TRY(sys_xsetbv(v, v->gpr[REG_RCX], get_edx_eax(v)));
	return exec_next(v, i);
}

static int exec_cpuid(struct vcpu *v, const struct insn *i)
{
	uint32_t out[4];

	sys_cpuid(v, v->gpr[REG_RAX], v->gpr[REG_RCX], out);
	v->gpr[REG_RAX] = out[0];
	v->gpr[REG_RBX] = out[1];
	v->gpr[REG_RCX] = out[2];
	v->gpr[REG_RDX] = out[3];
	return exec_next(v, i);
}

static int exec_rdtsc(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(sys_rdtsc(v, &value));
	set_edx_eax(v, value);
	return exec_next(v, i);
}

static int exec_rdtscp(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	/* It waits for the loads before it, which the host's RDTSC does not. */
	__asm__ volatile("lfence" ::: "memory");
	TRY(sys_rdtsc(v, &value));
	set_edx_eax(v, value);
	v->gpr[REG_RCX] = (uint32_t)v->tsc_aux;
	return exec_next(v, i);
}

static int exec_rdpid(struct vcpu *v, const struct insn *i)
{
	reg_set(v, i->op[0].reg, system_size(v), v->tsc_aux);
	return exec_next(v, i);
}

static int exec_rdpmc(struct vcpu *v, const struct insn *i)
{
	uint64_t value;

	TRY(sys_rdpmc(v, v->gpr[REG_RCX], &value));
	set_edx_eax(v, value);
	return exec_next(v, i);
}

/* --- system calls --- */

static int exec_syscall(struct vcpu *v, const struct insn *i)
{
	return sys_syscall(v, v->rip + i->len);
}

static int exec_sysret(struct vcpu *v, const struct insn *i)
{
	return sys_sysret(v, i->opsize);
}

static int exec_sysenter(struct vcpu *v, const struct insn *i)
{
	return sys_sysenter(v, v->rip + i->len);
}

static int exec_sysexit(struct vcpu *v, const struct insn *i)
{
	return sys_sysexit(v, i->opsize);
}

/* --- interrupts --- */

static int exec_cli(struct vcpu *v, const struct insn *i)
{
	TRY(sys_cli(v));
	return exec_next(v, i);
}

static int exec_sti(struct vcpu *v, const struct insn *i)
{
	TRY(sys_sti(v));
	return exec_next(v, i);
}

/* The guest goes on after HLT when something wakes it. */
static int exec_hlt(struct vcpu *v, const struct insn *i)
{
	int status;

	TRY(require_cpl0(v));
	status = sys_hlt(v);
	if (status != EXEC_FAULT)
		v->rip += i->len;
	return status;
}

static int exec_vmcall(struct vcpu *v, const struct insn *i)
{
	pv_hypercall(v);
	return exec_next(v, i);
}

/* --- caches --- */

static int exec_wbinvd(struct vcpu *v, const struct insn *i)
{
	TRY(require_cpl0(v));
	return exec_next(v, i);
}

/* CLFLUSH, CLFLUSHOPT, CLWB: checked like a load of one byte, but a device sees nothing. */
static int exec_clflush(struct vcpu *v, const struct insn *i)
{
	gva_t gva;
	gpa_t gpa;

	TRY(mem_linear(v, i, 1, ACC_READ, &gva));
	TRY(mem_status(gva_to_gpa(v, gva, seg_access(i->mem.seg, ACC_READ), &gpa)));
	return exec_next(v, i);
}

exec_fn exec_sys_select(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_MOV_CR:
		return i->op[0].kind == OPND_CR ? exec_mov_to_cr : exec_mov_from_cr;
	case INSN_ID_MOV_DR:
		return i->op[0].kind == OPND_DR ? exec_mov_to_dr : exec_mov_from_dr;
	case INSN_ID_CLTS: return exec_clts;
	case INSN_ID_LMSW: return exec_lmsw;
	case INSN_ID_SMSW: return exec_smsw;
	case INSN_ID_INVLPG: return exec_invlpg;
	case INSN_ID_INVPCID: return exec_invpcid;
	case INSN_ID_STAC: return exec_stac;
	case INSN_ID_CLAC: return exec_clac;
	case INSN_ID_RDMSR: return exec_rdmsr;
	case INSN_ID_WRMSR: return exec_wrmsr;
	case INSN_ID_XGETBV: return exec_xgetbv;
	case INSN_ID_XSETBV: return exec_xsetbv;
	case INSN_ID_CPUID: return exec_cpuid;
	case INSN_ID_RDTSC: return exec_rdtsc;
	case INSN_ID_RDTSCP: return exec_rdtscp;
	case INSN_ID_RDPID: return exec_rdpid;
	case INSN_ID_RDPMC: return exec_rdpmc;
	case INSN_ID_SYSCALL: return exec_syscall;
	case INSN_ID_SYSRET: return exec_sysret;
	case INSN_ID_SYSENTER: return exec_sysenter;
	case INSN_ID_SYSEXIT: return exec_sysexit;
	case INSN_ID_CLI: return exec_cli;
	case INSN_ID_STI: return exec_sti;
	case INSN_ID_HLT: return exec_hlt;
	case INSN_ID_VMCALL: return exec_vmcall;
	case INSN_ID_INVD:
	case INSN_ID_WBINVD: return exec_wbinvd;
	case INSN_ID_CLFLUSH:
	case INSN_ID_CLFLUSHOPT:
	case INSN_ID_CLWB: return exec_clflush;
	default: return NULL;
	}
}
