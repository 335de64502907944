// SPDX-License-Identifier: Apache-2.0
/* MSR rules, XSETBV, RDTSC; power-on and INIT state; SIMD state to and from the host. */

#include "cpu/fpu.h"
#include "cpu/system.h"
#include "guest_mem.h"
#include "unit.h"

static int setup(void **state)
{
	*state = guest_create("vireo-v1");
	return 0;
}

static int teardown(void **state)
{
	guest_destroy(*state);
	return 0;
}

#define assert_wr(index, value) \
	assert_int_equal(sys_wrmsr(v, index, value), EXEC_OK)
#define assert_rd(index, expected) do { \
	uint64_t value_; \
	assert_int_equal(sys_rdmsr(v, index, &value_), EXEC_OK); \
	assert_int_equal(value_, expected); \
} while (0)
#define assert_gp(call) do { \
	memset(&v->fault, 0, sizeof(v->fault)); \
	assert_int_equal(call, EXEC_FAULT); \
	assert_int_equal(v->fault.vector, EXC_GP); \
	assert_true(v->fault.has_error && v->fault.error == 0); \
} while (0)
#define assert_wr_gp(index, value)	assert_gp(sys_wrmsr(v, index, value))

static void test_privilege_and_unknown(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t value;

	assert_gp(sys_rdmsr(v, 0x12345, &value));
	assert_gp(sys_rdmsr(v, 0xc0010000, &value));
	assert_wr_gp(0xc0000090, 0);
	assert_gp(sys_rdmsr(v, MSR_PRED_CMD, &value));
	assert_wr(MSR_PRED_CMD, 1);
	assert_wr_gp(MSR_PRED_CMD, 2);
	assert_true(g->log.guest_errors >= 4);
	guest_long_mode(g);
	guest_set_cpl(g, 3);
	assert_gp(sys_rdmsr(v, MSR_STAR, &value));
	assert_wr_gp(MSR_STAR, 0);
	/* No interrupt controller is connected. */
	guest_set_cpl(g, 0);
	assert_gp(sys_rdmsr(v, MSR_APIC_BASE, &value));
}

static void test_canonical(void **state)
{
	static const uint32_t list[] = {
		MSR_LSTAR, MSR_CSTAR, MSR_FS_BASE, MSR_GS_BASE, MSR_KERNEL_GS_BASE,
		MSR_SYSENTER_ESP, MSR_SYSENTER_EIP,
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	for (unsigned int i = 0; i < ARRAY_SIZE(list); i++) {
		assert_wr(list[i], 0xffff800000001000 + i);
		assert_wr_gp(list[i], 0x800000000000);
		assert_rd(list[i], 0xffff800000001000 + i);
	}
	assert_int_equal(v->seg[SEG_FS].base, 0xffff800000001002);
}

static void test_efer(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	assert_wr(MSR_EFER, EFER_SCE | EFER_NXE | EFER_LME | EFER_LMA);
	assert_rd(MSR_EFER, EFER_SCE | EFER_NXE | EFER_LME);
	assert_wr_gp(MSR_EFER, BIT(12));
	assert_wr_gp(MSR_EFER, BIT(1));
	guest_long_mode(g);
	assert_wr_gp(MSR_EFER, EFER_NXE);
	assert_wr(MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE);
	assert_rd(MSR_EFER, EFER_LME | EFER_LMA | EFER_NXE | EFER_SCE);
}

static void test_memory_types(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	assert_rd(MSR_PAT, PAT_RESET);
	assert_wr(MSR_PAT, 0x0407050600070106);
	assert_wr_gp(MSR_PAT, 0x0007040600070206);
	assert_rd(MSR_PAT, 0x0407050600070106);
	assert_rd(MSR_MTRRCAP, 0x508);
	assert_wr(MSR_MTRR_DEF_TYPE, 0xc06);
	assert_wr_gp(MSR_MTRR_DEF_TYPE, 0xc07);
	assert_wr_gp(MSR_MTRR_DEF_TYPE, 0x1c06);
	assert_rd(MSR_MTRR_DEF_TYPE, 0xc06);
	assert_wr(MSR_MTRR_PHYSBASE0 + 14, 0x80000000 | 6);
	assert_wr(MSR_MTRR_PHYSBASE0 + 15, 0x3fff80000800);
	assert_wr_gp(MSR_MTRR_PHYSBASE0, 0x80000100);
	assert_wr_gp(MSR_MTRR_PHYSBASE0, 0x80000002);
	assert_wr_gp(MSR_MTRR_PHYSBASE0 + 1, BIT(GPA_BITS));
	assert_wr_gp(MSR_MTRR_PHYSBASE0 + 16, 0);
	assert_rd(MSR_MTRR_PHYSBASE0 + 14, 0x80000006);
	assert_wr(MSR_MTRR_FIX4K_C0000 + 7, 0x0606060606060606);
	assert_wr_gp(MSR_MTRR_FIX64K_00000, 0x0606060706060606);
	assert_rd(MSR_MTRR_FIX4K_C0000 + 7, 0x0606060606060606);
	assert_rd(MSR_MTRR_FIX4K_C0000, 0);
}

static void test_read_only(void **state)
{
	static const uint32_t list[] = {
		MSR_ARCH_CAPABILITIES, MSR_MTRRCAP, MSR_PLATFORM_INFO, MSR_MCG_CAP,
		MSR_FEATURE_CONTROL, MSR_PLATFORM_ID,
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t value;

	for (unsigned int i = 0; i < ARRAY_SIZE(list); i++) {
		assert_int_equal(sys_rdmsr(v, list[i], &value), EXEC_OK);
		assert_wr_gp(list[i], value);
	}
	assert_rd(MSR_FEATURE_CONTROL, 1);
	assert_rd(MSR_MCG_CAP, 0);
	assert_wr_gp(MSR_MCG_STATUS, 1);
	assert_wr(MSR_UCODE_REV, 0);
	assert_rd(MSR_UCODE_REV, 0x100000000);
	assert_int_equal(sys_rdmsr(v, MSR_ARCH_CAPABILITIES, &value), EXEC_OK);
	assert_int_equal(value & 0xd50e17b, 0xd10e17b);
}

static void test_tsc(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t a, b;

	guest_long_mode(g);
	assert_int_equal(sys_rdtsc(v, &a), EXEC_OK);
	assert_int_equal(sys_rdtsc(v, &b), EXEC_OK);
	assert_true(b >= a && a < 100 * v->tsc_hz);
	assert_wr(MSR_TSC, 1ULL << 50);
	assert_int_equal(sys_rdtsc(v, &a), EXEC_OK);
	assert_in_range(a - (1ULL << 50), 0, v->tsc_hz);
	/* TSC_ADJUST moves with the TSC, and moves it. */
	assert_int_equal(sys_rdmsr(v, MSR_TSC_ADJUST, &b), EXEC_OK);
	assert_in_range(b, (1ULL << 50) - 100 * v->tsc_hz, 1ULL << 50);
	assert_wr(MSR_TSC_ADJUST, 0);
	assert_int_equal(sys_rdtsc(v, &a), EXEC_OK);
	assert_in_range(a, 0, 100 * v->tsc_hz);
	v->cr4 |= CR4_TSD;
	assert_int_equal(sys_rdtsc(v, &a), EXEC_OK);
	guest_set_cpl(g, 3);
	assert_gp(sys_rdtsc(v, &a));
	assert_gp(sys_rdpmc(v, 0, &a));
}

static void test_xsetbv(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	assert_int_equal(sys_xsetbv(v, 0, 1), EXEC_FAULT);
	assert_int_equal(v->fault.vector, EXC_UD);
	v->cr4 |= CR4_OSXSAVE;
	assert_int_equal(sys_xsetbv(v, 0, 3), EXEC_OK);
	assert_int_equal(v->xcr0, 3);
	assert_gp(sys_xsetbv(v, 0, 2));
	assert_gp(sys_xsetbv(v, 0, 7));
	assert_gp(sys_xsetbv(v, 1, 1));
	/* A model with more. */
	g->model.xcr0_max |= XCR0_AVX | XCR0_AVX512;
	assert_gp(sys_xsetbv(v, 0, 5));
	assert_int_equal(sys_xsetbv(v, 0, 7), EXEC_OK);
	assert_gp(sys_xsetbv(v, 0, 0x27));
	assert_gp(sys_xsetbv(v, 0, 0xe3));
	assert_int_equal(sys_xsetbv(v, 0, 0xe7), EXEC_OK);
	guest_long_mode(g);
	v->cr4 |= CR4_OSXSAVE;
	guest_set_cpl(g, 3);
	assert_gp(sys_xsetbv(v, 0, 1));
}

static void test_power_on(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	assert_int_equal(v->rip, 0xfff0);
	assert_int_equal(v->seg[SEG_CS].base, 0xffff0000);
	assert_int_equal(v->seg[SEG_CS].sel, 0xf000);
	assert_int_equal(v->cr0, 0x60000010);
	assert_int_equal(v->gpr[REG_RDX], 0x106a5);
	assert_int_equal(v->rflags, 2);
	assert_int_equal(v->dr[6], 0xffff0ff0);
	assert_int_equal(v->dr[7], 0x400);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->code_size, CODE_16);
	assert_int_equal(v->stack_size, 2);
	assert_int_equal(v->idtr.limit, 0xffff);
	assert_false(v->wait_sipi);
}

static void test_init(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	guest_long_mode(g);
	assert_int_equal(v->code_size, CODE_64);
	assert_int_equal(v->stack_size, 8);
	assert_wr(MSR_PAT, 0);
	assert_wr(MSR_STAR, 77);
	v->gpr[REG_RBX] = 5;
	v->xsave[200] = 0x5a;
	vcpu_reset(v, true);
	assert_int_equal(v->gpr[REG_RBX], 0);
	assert_int_equal(v->cr0, CR0_ET);	/* CD and NW stay as they were */
	assert_int_equal(v->efer, 0);
	assert_int_equal(v->pat, 0);
	assert_int_equal(v->star, 77);
	assert_int_equal(v->xsave[200], 0x5a);
	vcpu_reset(v, false);
	assert_int_equal(v->pat, PAT_RESET);
	assert_int_equal(v->xsave[200], 0);
}

static void test_step_attention(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	v->rflags |= RFLAGS_TF;
	vcpu_update_mode(v);
	assert_true(v->attention & ATTN_STEP);
	v->rflags &= ~RFLAGS_TF;
	vcpu_update_mode(v);
	assert_false(v->attention & ATTN_STEP);
}

/* The guest's registers come and go; the host finds its own control words. */
static void test_fpu(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint8_t pattern[16];
	uint32_t mxcsr;
	uint16_t fcw;
	long double sum;

	memset(pattern, 0xa5, sizeof(pattern));
	memcpy(v->xsave + 160 + 7 * 16, pattern, 16);
	*(uint32_t *)(v->xsave + 24) = 0x9fc0;
	*(uint16_t *)v->xsave = 0x27f;
	v->xsave[4] = 0;	/* all registers empty */
	fpu_get(v);
	asm volatile("paddq %%xmm7, %%xmm7; fld1; fld1" : : : "xmm7");
	fpu_put(v);
	assert_false(v->fpu_live);
	assert_int_equal(*(uint64_t *)(v->xsave + 160 + 7 * 16), 0x4b4b4b4b4b4b4b4a);
	assert_int_equal(*(uint16_t *)v->xsave, 0x27f);
	assert_int_equal(v->xsave[4], 0xc0);
	assert_int_equal(*(uint32_t *)(v->xsave + 24), 0x9fc0);
	asm volatile("stmxcsr %0; fnstcw %1" : "=m" (mxcsr), "=m" (fcw));
	assert_int_equal(mxcsr, 0x1f80);
	assert_int_equal(fcw, 0x37f);
	/* The x87 stack is the host's again: eight values fit. */
	asm volatile("fld1; fld1; fld1; fld1; fld1; fld1; fld1; fld1\n\t"
		     "faddp; faddp; faddp; faddp; faddp; faddp; faddp" : "=t" (sum));
	assert_true(sum == 8);
	fpu_reset(v, false);
	assert_int_equal(*(uint32_t *)(v->xsave + 24), MXCSR_RESET);
}

int main(void)
{

	const struct CMUnitTest tests[] = {
		T(test_privilege_and_unknown), T(test_canonical), T(test_efer),
		T(test_memory_types), T(test_read_only), T(test_tsc), T(test_xsetbv),
		T(test_power_on), T(test_init), T(test_step_attention), T(test_fpu),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
