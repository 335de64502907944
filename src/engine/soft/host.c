// SPDX-License-Identifier: Apache-2.0
/*
 * Host execution: instructions that compute and nothing else run on the host's processor,
 * so that their meaning is the processor's own.  C code checks what the guest's control
 * registers say, makes the memory operand's host address, and calls the snippet made for
 * the instruction (snippet.c).
 *
 * An operand that crosses pages, or lies in a device, goes through a bounce buffer: read
 * before, written after, permission to write checked before.
 *
 * A host exception in a snippet is the guest's own (host_redirect).
 *
 * Departures: x87 instruction and data pointers that the guest stores read zero, for
 * they would be host addresses.  CR0.NE clear (FERR#, IRQ 13) is not modelled: #MF.
 *
 * Source: Intel SDM volume 3, "System Programming for Instruction Set Extensions", and
 * volume 2, "Exception Conditions of Intel AVX Instructions".
 */
#include "engine/soft/host.h"

#include "cpu/fpu.h"
#include "cpu/mmu.h"
#include "engine/soft/exec_priv.h"
#include "engine/soft/snippet.h"
#include "engine/soft/soft_priv.h"

#include <Zydis/MetaInfo.h>

#define FSW_ES	0x80	/* in its low byte */

/* --- what the control registers allow --- */

int host_check_x87(struct vcpu *v)
{
	if (v->cr0 & (CR0_EM | CR0_TS))
		return raise_exc(v, EXC_NM);
	return EXEC_OK;
}

static int check_mmx(struct vcpu *v)
{
	if (v->cr0 & CR0_EM)
		return raise_ud(v);
	return v->cr0 & CR0_TS ? raise_exc(v, EXC_NM) : EXEC_OK;
}

int host_check_sse(struct vcpu *v)
{
	if ((v->cr0 & CR0_EM) || !(v->cr4 & CR4_OSFXSR))
		return raise_ud(v);
	return v->cr0 & CR0_TS ? raise_exc(v, EXC_NM) : EXEC_OK;
}

static int check_protected(struct vcpu *v)
{
	return in_real_mode(v) || in_vm86(v) ? raise_ud(v) : EXEC_OK;
}

static int check_vex(struct vcpu *v, uint64_t xcr0)
{
	if (check_protected(v) || !(v->cr4 & CR4_OSXSAVE) || (v->xcr0 & xcr0) != xcr0)
		return raise_ud(v);
	return v->cr0 & CR0_TS ? raise_exc(v, EXC_NM) : EXEC_OK;
}

int host_check_avx(struct vcpu *v)
{
	return check_vex(v, XCR0_SSE | XCR0_AVX);
}

int host_check_avx512(struct vcpu *v)
{
	return check_vex(v, XCR0_SSE | XCR0_AVX | XCR0_AVX512);
}

/* FWAIT looks at TS only where MP says so. */
static int check_fwait(struct vcpu *v)
{
	uint64_t both = CR0_MP | CR0_TS;

	return (v->cr0 & both) == both ? raise_exc(v, EXC_NM) : EXEC_OK;
}

/* --- kinds of instructions --- */

enum kind { KIND_GPR, KIND_GPR_VEX, KIND_X87, KIND_FWAIT, KIND_MMX, KIND_SSE, KIND_AVX,
	    KIND_AVX512, KIND_COUNT };

static enum kind kind_of(const struct insn *i)
{
	switch (i->isa) {
	case ZYDIS_ISA_SET_POPCNT:
	case ZYDIS_ISA_SET_LZCNT:
	case ZYDIS_ISA_SET_RDRAND:
	case ZYDIS_ISA_SET_RDSEED:
	case ZYDIS_ISA_SET_ADOX_ADCX:
	case ZYDIS_ISA_SET_BMI1:
	case ZYDIS_ISA_SET_BMI2:
		return i->flags & INSN_VEX ? KIND_GPR_VEX : KIND_GPR;
	case ZYDIS_ISA_SET_X87:
	case ZYDIS_ISA_SET_FCMOV:
	case ZYDIS_ISA_SET_SSE3X87:
		return i->info->id == INSN_ID_FWAIT ? KIND_FWAIT : KIND_X87;
	case ZYDIS_ISA_SET_PENTIUMMMX:
	case ZYDIS_ISA_SET_SSE2MMX:
	case ZYDIS_ISA_SET_SSSE3MMX:
		return KIND_MMX;
	default:
		break;
	}
	if (i->info->id == INSN_ID_CRC32 || i->info->id == INSN_ID_MOVNTI)
		return KIND_GPR;
	if (i->encoding == ENC_EVEX)
		return KIND_AVX512;
	return i->flags & INSN_VEX ? KIND_AVX : KIND_SSE;
}

/* --- running a snippet --- */

/* Makes the snippet's call return the vector, as if it had ended there. */
bool host_redirect(const struct trap_region *r, int sig, long long *regs)
{
	uint64_t *sp = (uint64_t *)regs[TRAP_RSP];

	(void)r;
	(void)sig;
	if (regs[TRAP_VECTOR] == EXC_PF)	/* C code gave a wrong address */
		return false;
	regs[TRAP_RIP] = *sp;
	regs[TRAP_RSP] = (long long)(sp + 1);
	regs[TRAP_RAX] = regs[TRAP_VECTOR];
	return true;
}

/* The guest's answer to an exception of the host's. */
static int trapped(struct vcpu *v, int vector)
{
	switch (vector) {
	case EXC_MF:
		return raise_exc(v, EXC_MF);
	case EXC_XM:
		return raise_exc(v, v->cr4 & CR4_OSXMMEXCPT ? EXC_XM : EXC_UD);
	case EXC_UD:
		return raise_ud(v);
	default:	/* alignment, reserved bits of MXCSR */
		return raise_gp(v, 0);
	}
}

static inline int call_snippet(struct vcpu *v, const struct insn *i, void *mem)
{
	snippet_fn f = (snippet_fn)i->host;
	int vector = f(v, mem);

	if (!FPU_KEEP_LIVE)
		fpu_put(v);
	if (unlikely(vector))
		return trapped(v, vector);
	return EXEC_OK;
}

int host_call(struct vcpu *v, const struct insn *i, void *mem)
{
	fpu_get(v);
	return call_snippet(v, i, mem);
}

static inline int finish(struct vcpu *v, const struct insn *i, int st)
{
	return st == EXEC_OK ? exec_next(v, i) : st;
}

/*
 * Does the instruction want its operand aligned?  Asked only where the operand is not
 * there, for then #GP comes first; otherwise the host notices by itself.
 */
static bool must_align(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_MOVUPS: case INSN_ID_MOVUPD: case INSN_ID_MOVDQU: case INSN_ID_LDDQU:
	case INSN_ID_PCMPESTRI: case INSN_ID_PCMPESTRM: case INSN_ID_PCMPISTRI:
	case INSN_ID_PCMPISTRM:
		return false;
	case INSN_ID_VMOVAPS: case INSN_ID_VMOVAPD: case INSN_ID_VMOVDQA:
	case INSN_ID_VMOVDQA32: case INSN_ID_VMOVDQA64: case INSN_ID_VMOVNTPS:
	case INSN_ID_VMOVNTPD: case INSN_ID_VMOVNTDQ: case INSN_ID_VMOVNTDQA:
		return true;
	default:
		return i->encoding == ENC_LEGACY && i->mem.size == 16;
	}
}

/* x87 environments in a bounce buffer: no host addresses for the guest. */
static void hide_pointers(const struct insn *i, uint8_t *env)
{
	unsigned int first, size;

	if (i->info->id != INSN_ID_FNSTENV && i->info->id != INSN_ID_FNSAVE)
		return;
	first = i->opsize == 2 ? 6 : 12;
	size = i->opsize == 2 ? 8 : 16;
	for (unsigned int k = 0; k < size; k++)
		env[first + k] = 0;
}

static int run_bounced(struct vcpu *v, const struct insn *i, gva_t gva)
{
	uint8_t space[HOST_OPERAND_MAX + 64] __attribute__((aligned(64)));
	uint8_t *buf = space + (gva & 63);	/* alignment is the host's to check */
	unsigned int size = i->mem.size, rd = seg_access(i->mem.seg, ACC_READ);
	unsigned int wr = seg_access(i->mem.seg, ACC_WRITE);
	enum mem_result r = MEM_OK;
	int st;

	if (i->flags & INSN_MEM_WRITE)
		r = mem_probe_write(v, gva, size, wr);
	/* An x87 store with an unmasked exception stores nothing: what is there stays. */
	if (r == MEM_OK && (i->flags & INSN_MEM_READ || kind_of(i) == KIND_X87))
		r = mem_read(v, gva, buf, size, rd);
	if (r != MEM_OK)
		return mem_status(r);
	fpu_get(v);
	st = call_snippet(v, i, buf);
	if (st != EXEC_OK || !(i->flags & INSN_MEM_WRITE))
		return st;
	hide_pointers(i, buf);
	return mem_status(mem_write(v, gva, buf, size, wr));
}

/* The host address for a memory operand within one page of RAM, else NULL with MEM_OK. */
static enum mem_result operand_pointer(struct vcpu *v, const struct insn *i, gva_t gva, void **p)
{
	bool write = i->flags & INSN_MEM_WRITE;

	*p = tlb_lookup(v->view, gva, i->mem.size, write ? TLB_WRITE : TLB_READ);
	if (likely(*p != NULL))
		return MEM_OK;
	return mem_fill(v, gva, i->mem.size,
			seg_access(i->mem.seg, write ? ACC_WRITE : ACC_READ), p);
}

static bool needs_bounce(const struct insn *i)
{
	return i->info->id == INSN_ID_FNSTENV || i->info->id == INSN_ID_FNSAVE;
}

/* x87 and MMX instructions that first look for an exception left by an earlier one. */
static bool is_waiting(const struct insn *i)
{
	switch (i->info->id) {
	case INSN_ID_FNSTCW: case INSN_ID_FNSTSW: case INSN_ID_FNSTENV: case INSN_ID_FNSAVE:
		return false;
	default:
		return kind_of(i) == KIND_X87 || kind_of(i) == KIND_MMX;
	}
}

static bool x87_pending(struct vcpu *v)
{
	fpu_put(v);
	return v->xsave[2] & FSW_ES;
}

/* Everything but an operand that is simply there. */
static int run_mem_slow(struct vcpu *v, const struct insn *i)
{
	bool write = i->flags & INSN_MEM_WRITE;
	gva_t gva = exec_offset(v, i);
	int st;

	if (vector_is_masked(i))
		return vector_run_masked(v, i);
	st = exec_linear(v, i->mem.seg, gva, i->mem.size, write ? ACC_WRITE : ACC_READ, &gva);
	if (st == EXEC_OK)
		st = run_bounced(v, i, gva);
	if (st == EXEC_FAULT && gva & (i->mem.size - 1) && must_align(i))
		return raise_gp(v, 0);
	/* A pending x87 exception comes before what is wrong with the operand. */
	if (st == EXEC_FAULT && is_waiting(i) && x87_pending(v))
		return raise_exc(v, EXC_MF);
	return st;
}

static inline int run_mem(struct vcpu *v, const struct insn *i)
{
	bool write = i->flags & INSN_MEM_WRITE;
	enum mem_result r;
	gva_t gva;
	void *p;
	int st;

	st = exec_linear(v, i->mem.seg, exec_offset(v, i), i->mem.size,
			 write ? ACC_WRITE : ACC_READ, &gva);
	if (unlikely(st != EXEC_OK || needs_bounce(i)))
		return run_mem_slow(v, i);
	r = operand_pointer(v, i, gva, &p);
	if (unlikely(r != MEM_OK || !p))
		return r == MEM_HOST ? EXEC_EXIT : run_mem_slow(v, i);
	fpu_get(v);
	return call_snippet(v, i, p);
}

/* One handler a kind of instruction and of operand. */
#define HOST_HANDLERS(kind, check) \
static int exec_host_##kind(struct vcpu *v, const struct insn *i) \
{ \
	int st = check(v); \
\
	if (unlikely(st != EXEC_OK)) \
		return st; \
	fpu_get(v); \
	return finish(v, i, call_snippet(v, i, NULL)); \
} \
static int exec_host_##kind##_mem(struct vcpu *v, const struct insn *i) \
{ \
	int st = check(v); \
\
	if (unlikely(st != EXEC_OK)) \
		return st; \
	return finish(v, i, run_mem(v, i)); \
}

static inline int check_nothing(struct vcpu *v)
{
	(void)v;
	return EXEC_OK;
}

HOST_HANDLERS(gpr, check_nothing)
HOST_HANDLERS(gpr_vex, check_protected)
HOST_HANDLERS(x87, host_check_x87)
HOST_HANDLERS(fwait, check_fwait)
HOST_HANDLERS(mmx, check_mmx)
HOST_HANDLERS(sse, host_check_sse)
HOST_HANDLERS(avx, host_check_avx)
HOST_HANDLERS(avx512, host_check_avx512)

static exec_fn handler_for(enum kind k, bool mem)
{
	static const exec_fn table[KIND_COUNT][2] = {
		[KIND_GPR] = { exec_host_gpr, exec_host_gpr_mem },
		[KIND_GPR_VEX] = { exec_host_gpr_vex, exec_host_gpr_vex_mem },
		[KIND_X87] = { exec_host_x87, exec_host_x87_mem },
		[KIND_FWAIT] = { exec_host_fwait, exec_host_fwait_mem },
		[KIND_MMX] = { exec_host_mmx, exec_host_mmx_mem },
		[KIND_SSE] = { exec_host_sse, exec_host_sse_mem },
		[KIND_AVX] = { exec_host_avx, exec_host_avx_mem },
		[KIND_AVX512] = { exec_host_avx512, exec_host_avx512_mem },
	};

	return table[k][mem];
}

exec_fn host_select(struct soft_vcpu *sv, struct insn *i)
{
	uint8_t code[SNIPPET_MAX];
	exec_fn special = i->mem.vsib ? vector_gather_scatter(i) : host_special(i);
	unsigned int len;

	if (special)
		return special;
	if (i->mem.size > HOST_OPERAND_MAX)
		return exec_ud;
	len = snippet_make(i, code);
	i->host = len ? snippet_store(sv, code, len) : NULL;
	if (!i->host)
		return exec_ud;
	return handler_for(kind_of(i), i->flags & INSN_HAS_MEM && !i->mem.is_address);
}
