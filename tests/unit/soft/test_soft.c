// SPDX-License-Identifier: Apache-2.0
/* The software engine: blocks, self-modifying code, host-executed instructions. */
#include "soft_rig.h"
#include "unit.h"

#include "cpu/pv.h"
#include "cpu/system.h"

#define HLT		0xf4

static int setup(void **state)
{
	*state = rig_create("vireo-v1");
	return 0;
}

static int setup_host(void **state)
{
	*state = rig_create("host");
	return 0;
}

/* The same on the translator, from each block's first run on. */
static int setup_translated(void **state)
{
	*state = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = true, .translate_at = 1, .cache_bytes = 1 << 20 });
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static void test_runs(void **state)
{
	struct rig *r = *state;

	/* mov eax, 5; add eax, 7; hlt */
	PUT(r, RIG_CODE, 0xb8, 5, 0, 0, 0, 0x83, 0xc0, 7, HLT);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RAX], 12);
	assert_int_equal(r->v->rip, RIG_CODE + 9);
	assert_int_equal(r->v->stats.insns, 3);
}

/* A loop runs code, changes it from outside (as a device would), runs it again. */
static void test_code_written_by_device(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xb8, 1, 0, 0, 0, HLT);
	for (uint8_t n = 2; n < 100; n++) {
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RAX], n - 1);
		gpa_write(&r->space, RIG_CODE + 1, &n, 1);
	}
}

/* The store changes the very next instruction, in the same block. */
static void test_smc_next_instruction(void **state)
{
	struct rig *r = *state;

	for (int round = 0; round < 3; round++) {
		/* mov byte [rip + 1], 9; mov eax, 1 -> 9; hlt */
		PUT(r, RIG_CODE, 0xc6, 0x05, 1, 0, 0, 0, 9, 0xb8, 1, 0, 0, 0, HLT);
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RAX], 9);
	}
}

/* A loop whose store hits its own first instruction, which has already run. */
static void test_smc_own_block(void **state)
{
	struct rig *r = *state;

	/* l: mov eax, 1; inc byte [rip - 10 -> the 1]; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0xb8, 1, 0, 0, 0, 0xfe, 0x05, 0xf6, 0xff, 0xff, 0xff,
	    0xff, 0xc9, 0x75, 0xf1, HLT);
	r->v->gpr[REG_RCX] = 200;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RAX], 200);
	assert_int_equal(r->ram[RIG_CODE + 1], 201);
}

/* Data beside code in one page: stores there do not cost blocks. */
static void test_data_beside_code(void **state)
{
	struct rig *r = *state;
	uint64_t before;

	/* l: inc dword [rip + 0x402]; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0xff, 0x05, 2, 4, 0, 0, 0xff, 0xc9, 0x75, 0xf6, HLT);
	r->v->gpr[REG_RCX] = 1000;
	before = r->v->stats.blocks_invalidated;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(*(uint32_t *)(r->ram + RIG_CODE + 0x408), 1000);
	assert_int_equal(r->v->stats.blocks_invalidated, before);
}

/* An instruction over a page boundary: both halves can be changed. */
static void test_page_crossing_code(void **state)
{
	struct rig *r = *state;
	gva_t at = RIG_CODE + 0x1000 - 2;

	for (uint8_t n = 1; n < 5; n++) {
		PUT(r, at, 0xb8, n, n, 0, 0, HLT);
		assert_int_equal(rig_run(r, at), -1);
		assert_int_equal(r->v->gpr[REG_RAX], n * 0x101);
		r->ram[at + 2] = 0x55;	/* unseen: behind the engine's back */
		n++;
		gpa_write(&r->space, at + 2, &n, 1);
		assert_int_equal(rig_run(r, at), -1);
		assert_int_equal(r->v->gpr[REG_RAX], n * 0x100 + n - 1);
	}
}

/* The fetch fault of the second page comes only when its instruction is next. */
static void test_fetch_fault_is_precise(void **state)
{
	struct rig *r = *state;
	gva_t at = RIG_CODE + 0x1000 - 7;

	/* mov ecx, 7; mov eax, ... over the end */
	PUT(r, at, 0xb9, 7, 0, 0, 0, 0xb8, 1);
	*rig_pte(r, RIG_CODE + 0x1000) = 0;
	assert_int_equal(rig_run(r, at), EXC_PF);
	assert_int_equal(r->v->gpr[REG_RCX], 7);
	assert_int_equal(r->v->cr2, RIG_CODE + 0x1000);
	/* The frame: error code, rip. */
	assert_int_equal(*(uint64_t *)(r->ram + r->v->gpr[REG_RSP] + 8), at + 5);
}

/* A page that changes all the time is run without blocks, and still right. */
static void test_often_changed_page(void **state)
{
	struct rig *r = *state;

	/* l: mov [rip + 1], cl; mov al, imm; add rdx, rax; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0x88, 0x0d, 1, 0, 0, 0, 0xb0, 0, 0x48, 0x01, 0xc2,
	    0xff, 0xc9, 0x75, 0xf1, HLT);
	r->v->gpr[REG_RCX] = 250;
	r->v->gpr[REG_RAX] = r->v->gpr[REG_RDX] = 0;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RDX], 250 * 251 / 2);
	assert_true(r->v->stats.blocks_invalidated < 200);
}

static void test_single_step(void **state)
{
	struct rig *r = *state;

	/* pushf; or dword [rsp], 100h; popf; mov eax, 1; mov eax, 2; hlt */
	PUT(r, RIG_CODE, 0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d, 0xb8, 1, 0, 0, 0,
	    0xb8, 2, 0, 0, 0, HLT);
	assert_int_equal(rig_run(r, RIG_CODE), EXC_DB);
	assert_int_equal(r->v->gpr[REG_RAX], 1);
	assert_true(r->v->dr[6] & DR6_BS);
}

static void test_code_breakpoint(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xb8, 1, 0, 0, 0, 0xb8, 2, 0, 0, 0, HLT);
	r->v->dr[0] = RIG_CODE + 5;
	r->v->dr[7] = DR7_FIXED | 2;
	vcpu_update_mode(r->v);
	assert_int_equal(rig_run(r, RIG_CODE), EXC_DB);
	assert_int_equal(r->v->gpr[REG_RAX], 1);
	assert_int_equal(r->v->dr[6] & 15, 1);
	/* With RF the instruction runs, and RF is gone after it. */
	r->v->rflags |= RFLAGS_RF;
	assert_int_equal(rig_run(r, RIG_CODE + 5), -1);
	assert_int_equal(r->v->gpr[REG_RAX], 2);
	assert_false(r->v->rflags & RFLAGS_RF);
}

/* --- host execution --- */

static void test_sse_registers(void **state)
{
	struct rig *r = *state;

	/* movq xmm1, rax; movq xmm2, rdx; paddq xmm1, xmm2; movq r12, xmm1; hlt */
	PUT(r, RIG_CODE, 0x66, 0x48, 0x0f, 0x6e, 0xc8, 0x66, 0x48, 0x0f, 0x6e, 0xd2,
	    0x66, 0x0f, 0xd4, 0xca, 0x66, 0x49, 0x0f, 0x7e, 0xcc, HLT);
	r->v->gpr[REG_RAX] = 0x1111222233334444;
	r->v->gpr[REG_RDX] = 0x0101010101010101;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_R12], 0x1212232334344545);
}

/* Operands at every offset around a page boundary. */
static void test_sse_page_crossing(void **state)
{
	struct rig *r = *state;
	uint8_t *edge = r->ram + RIG_DATA + 0x1000;

	/* movdqu xmm0, [rsi]; movdqu [rdi], xmm0; hlt */
	PUT(r, RIG_CODE, 0xf3, 0x0f, 0x6f, 0x06, 0xf3, 0x0f, 0x7f, 0x07, HLT);
	for (int off = -17; off < 3; off++) {
		for (int i = -32; i < 32; i++)
			edge[i] = i + off;
		r->v->gpr[REG_RSI] = RIG_DATA + 0x1000 + off;
		r->v->gpr[REG_RDI] = RIG_DATA + 0x3000 - off - 8;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_memory_equal(edge + off, r->ram + RIG_DATA + 0x3000 - off - 8, 16);
	}
}

/* A store whose second page cannot be written leaves the first alone. */
static void test_sse_store_faults_whole(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xf3, 0x0f, 0x7f, 0x07, HLT);
	*rig_pte(r, RIG_DATA + 0x1000) &= ~PTE_W;
	memset(r->ram + RIG_DATA + 0xff0, 0x77, 32);
	r->v->gpr[REG_RDI] = RIG_DATA + 0xff8;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_PF);
	assert_int_equal(r->v->cr2, RIG_DATA + 0x1000);
	for (int i = 0; i < 32; i++)
		assert_int_equal(r->ram[RIG_DATA + 0xff0 + i], 0x77);
}

static void test_sse_alignment(void **state)
{
	struct rig *r = *state;

	/* movaps xmm0, [rsi]; hlt */
	PUT(r, RIG_CODE, 0x0f, 0x28, 0x06, HLT);
	r->v->gpr[REG_RSI] = RIG_DATA + 8;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_GP);
	r->v->gpr[REG_RSI] = RIG_DATA + 16;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
}

static void test_sse_disabled(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0x0f, 0x57, 0xc0, HLT);	/* xorps xmm0, xmm0 */
	r->v->cr0 |= CR0_TS;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_NM);
	r->v->cr0 |= CR0_EM;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_UD);
	r->v->cr0 &= ~(CR0_EM | CR0_TS);
	r->v->cr4 &= ~CR4_OSFXSR;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_UD);
}

static void test_simd_exception(void **state)
{
	struct rig *r = *state;

	/* ldmxcsr [rsi]; xorps xmm0, xmm0; divss xmm1, xmm0; hlt */
	PUT(r, RIG_CODE, 0x0f, 0xae, 0x16, 0x0f, 0x57, 0xc0, 0xf3, 0x0f, 0x5e, 0xc8, HLT);
	*(uint32_t *)(r->ram + RIG_DATA) = 0;	/* everything unmasked */
	r->v->gpr[REG_RSI] = RIG_DATA;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_XM);
	assert_int_equal(*(uint64_t *)(r->ram + r->v->gpr[REG_RSP]), RIG_CODE + 6);
	r->v->cr4 &= ~CR4_OSXMMEXCPT;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_UD);
	/* Reserved bits of MXCSR */
	*(uint32_t *)(r->ram + RIG_DATA) = 0x80000000;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_GP);
}

/* An unmasked x87 exception is raised by the next waiting instruction. */
static void test_x87_exception(void **state)
{
	struct rig *r = *state;

	/* fninit; fldcw [rsi]; fld1; fldz; fdivp; mov eax, 1; fld1; hlt */
	PUT(r, RIG_CODE, 0xdb, 0xe3, 0xd9, 0x2e, 0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9,
	    0xb8, 1, 0, 0, 0, 0xd9, 0xe8, HLT);
	*(uint16_t *)(r->ram + RIG_DATA) = 0x340;
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RAX] = 0;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_MF);
	assert_int_equal(r->v->gpr[REG_RAX], 1);
	assert_int_equal(*(uint64_t *)(r->ram + r->v->gpr[REG_RSP]), RIG_CODE + 15);
	/* FNCLEX clears it without waiting. */
	PUT(r, RIG_CODE, 0xdb, 0xe2, 0xd9, 0xe8, HLT);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
}

/* What the guest sees of the x87 pointers is no host address. */
static void test_x87_pointers_hidden(void **state)
{
	struct rig *r = *state;

	/* fninit; fld1; fnstenv [rsi]; hlt */
	PUT(r, RIG_CODE, 0xdb, 0xe3, 0xd9, 0xe8, 0xd9, 0x36, HLT);
	memset(r->ram + RIG_DATA, 0xcc, 64);
	r->v->gpr[REG_RSI] = RIG_DATA;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	for (int i = 12; i < 28; i++)
		assert_int_equal(r->ram[RIG_DATA + i], 0);
	assert_int_equal(r->ram[RIG_DATA + 28], 0xcc);
	assert_int_equal(*(uint16_t *)(r->ram + RIG_DATA), 0x37f);
}

static void test_fxsave_roundtrip(void **state)
{
	struct rig *r = *state;

	/* movq xmm9, rax; fxsave [rsi]; pxor xmm9, xmm9; fxrstor [rsi]; movq rdx, xmm9; hlt */
	PUT(r, RIG_CODE, 0x66, 0x4c, 0x0f, 0x6e, 0xc8, 0x0f, 0xae, 0x06,
	    0x66, 0x45, 0x0f, 0xef, 0xc9, 0x0f, 0xae, 0x0e, 0x66, 0x4c, 0x0f, 0x7e, 0xca, HLT);
	r->v->gpr[REG_RAX] = 0x123456789abcdef0;
	r->v->gpr[REG_RSI] = RIG_DATA;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RDX], 0x123456789abcdef0);
	assert_int_equal(*(uint64_t *)(r->ram + RIG_DATA + 160 + 9 * 16), 0x123456789abcdef0);
	/* Bits of MXCSR that do not exist */
	r->ram[RIG_DATA + 27] = 0x80;
	assert_int_equal(rig_run(r, RIG_CODE + 13), EXC_GP);
}

static void test_xsave_header(void **state)
{
	struct rig *r = *state;
	uint64_t *header = (uint64_t *)(r->ram + RIG_DATA + 512);

	/* xsave [rsi]; hlt; xrstor [rsi]; hlt */
	PUT(r, RIG_CODE, 0x0f, 0xae, 0x26, HLT, 0x0f, 0xae, 0x2e, HLT);
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RAX] = 3;
	r->v->gpr[REG_RDX] = 0;
	header[0] = 0x40;	/* kept: not requested */
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(header[0] & ~3ULL, 0x40);
	assert_int_equal(rig_run(r, RIG_CODE + 4), EXC_GP);
	header[0] = 3;
	assert_int_equal(rig_run(r, RIG_CODE + 4), -1);
	header[1] = 1ULL << 63;
	assert_int_equal(rig_run(r, RIG_CODE + 4), EXC_GP);
	header[1] = 0;
	r->v->gpr[REG_RSI] = RIG_DATA + 16;
	assert_int_equal(rig_run(r, RIG_CODE + 4), EXC_GP);
	r->v->cr4 &= ~CR4_OSXSAVE;
	assert_int_equal(rig_run(r, RIG_CODE + 4), EXC_UD);
}

static uint32_t crc32c_byte(uint8_t b)
{
	uint32_t crc = b;

	for (int i = 0; i < 8; i++)
		crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	return crc;
}

static void test_popcnt_and_crc(void **state)
{
	struct rig *r = *state;

	/* popcnt rsp-relative operand and flags; crc32 eax, ah */
	PUT(r, RIG_CODE, 0xf3, 0x48, 0x0f, 0xb8, 0xcc, /* popcnt rcx, rsp */
	    0xf2, 0x0f, 0x38, 0xf0, 0xd4, /* crc32 edx, ah */
	    HLT);
	r->v->gpr[REG_RAX] = 0xffff12ff;
	r->v->gpr[REG_RDX] = 0;
	r->v->rflags |= RFLAGS_CF | RFLAGS_ZF | RFLAGS_ID;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RCX], __builtin_popcountll(RIG_STACK));
	assert_int_equal(r->v->rflags & (RFLAGS_ARITH | RFLAGS_ID), RFLAGS_ID);
	assert_int_equal(r->v->gpr[REG_RDX], crc32c_byte(0x12));
}

static void test_model_lacks(void **state)
{
	struct rig *r = *state;

	/* vaddps ymm0, ymm0, ymm1 on x86-64-v2; andn */
	PUT(r, RIG_CODE, 0xc5, 0xfc, 0x58, 0xc1, HLT);
	assert_int_equal(rig_run(r, RIG_CODE), EXC_UD);
	PUT(r, RIG_CODE, 0xc4, 0xe2, 0x78, 0xf2, 0xc1, HLT);
	assert_int_equal(rig_run(r, RIG_CODE), EXC_UD);
	/* tzcnt is bsf: a zero source leaves the destination, and sets ZF not CF */
	PUT(r, RIG_CODE, 0xf3, 0x48, 0x0f, 0xbc, 0xc1, HLT);
	r->v->gpr[REG_RAX] = 0x1234;
	r->v->gpr[REG_RCX] = 0;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RAX], 0x1234);
	assert_true(r->v->rflags & RFLAGS_ZF);
}

static void test_bmi_on_host_model(void **state)
{
	struct rig *r = *state;

	if (!model_has(&r->model, FEAT_BMI2))
		skip();
	/* mulx r8, rsp, rcx; mulx rax, rax, rcx; hlt  (rdx implicit) */
	PUT(r, RIG_CODE, 0xc4, 0x62, 0xdb, 0xf6, 0xc1, 0xc4, 0xe2, 0xfb, 0xf6, 0xc1, HLT);
	r->v->gpr[REG_RDX] = 0x8000000000000001;
	r->v->gpr[REG_RCX] = 6;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_R8], 3);
	assert_int_equal(r->v->gpr[REG_RSP], 6);
	assert_int_equal(r->v->gpr[REG_RAX], 3);
	assert_int_equal(r->v->gpr[REG_RDX], 0x8000000000000001);
}

static void test_maskmovdqu(void **state)
{
	struct rig *r = *state;

	/* movdqu xmm0, [rsi]; movdqu xmm1, [rsi + 16]; maskmovdqu xmm0, xmm1; hlt */
	PUT(r, RIG_CODE, 0xf3, 0x0f, 0x6f, 0x06, 0xf3, 0x0f, 0x6f, 0x4e, 16,
	    0x66, 0x0f, 0xf7, 0xc1, HLT);
	for (int i = 0; i < 16; i++) {
		r->ram[RIG_DATA + i] = i + 1;
		r->ram[RIG_DATA + 16 + i] = i < 8 ? 0x80 * (i & 1) : 0;
	}
	memset(r->ram + RIG_DATA + 0xff8, 0, 8);
	*rig_pte(r, RIG_DATA + 0x1000) = 0;	/* touched by masked-out bytes only */
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RDI] = RIG_DATA + 0xff8;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	for (int i = 0; i < 8; i++)
		assert_int_equal(r->ram[RIG_DATA + 0xff8 + i], i & 1 ? i + 1 : 0);
}

/* Masked-out elements of a gather are not touched, nor changed; the mask ends as zero. */
static void test_gather(void **state)
{
	struct rig *r = *state;
	uint32_t *in = (uint32_t *)(r->ram + RIG_DATA), *table = (uint32_t *)(r->ram + RIG_DATA + 0xf00);
	uint32_t *out = (uint32_t *)(r->ram + RIG_DATA + 0x200);

	if (!model_has(&r->model, FEAT_AVX2))
		skip();
	/* ymm1 = indices, ymm2 = mask; vpgatherdd ymm0, [rdi+ymm1*4], ymm2; store both */
	PUT(r, RIG_CODE, 0xc5, 0xfe, 0x6f, 0x0e, 0xc5, 0xfe, 0x6f, 0x56, 0x20,
	    0xc4, 0xe2, 0x6d, 0x90, 0x04, 0x8f, 0xc5, 0xfe, 0x7f, 0x03,
	    0xc5, 0xfe, 0x7f, 0x53, 0x20, HLT);
	*rig_pte(r, RIG_DATA + 0x1000) = 0;
	for (int i = 0; i < 64; i++)
		table[i] = 1000 + i;
	for (int i = 0; i < 8; i++) {
		in[i] = i & 1 ? 64 + i : 7 * i - 8;	/* odd ones are not mapped ... */
		in[8 + i] = i & 1 ? 0x7fffffff : 0x80000000; /* ... and not wanted */
	}
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RDI] = RIG_DATA + 0xf20;
	r->v->gpr[REG_RBX] = RIG_DATA + 0x200;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(out[i], i & 1 ? 0 : 1000 + 7 * i);
		assert_int_equal(out[8 + i], 0);
	}
	/* Now one is wanted: the elements before it are done. */
	in[8 + 5] = 0x80000000;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_PF);
	assert_int_equal(rig_run(r, RIG_CODE + 15), -1);
	assert_int_equal(out[4], 1000 + 28);
	for (int i = 0; i < 8; i++)
		assert_int_equal(out[8 + i], i < 5 ? 0 : in[8 + i]);
}

static void test_scatter(void **state)
{
	struct rig *r = *state;
	uint32_t *in = (uint32_t *)(r->ram + RIG_DATA), *out = (uint32_t *)(r->ram + RIG_DATA + 0x400);

	if (!model_has(&r->model, FEAT_AVX512F))
		skip();
	/* k1 = eax; zmm1 = indices, zmm3 = data; vpscatterdd [rdi+zmm1*4]{k1}, zmm3; edx = k1 */
	PUT(r, RIG_CODE, 0xc5, 0xf8, 0x92, 0xc8, 0x62, 0xf1, 0x7e, 0x48, 0x6f, 0x0e,
	    0x62, 0xf1, 0x7e, 0x48, 0x6f, 0x5e, 0x01, 0x62, 0xf2, 0x7d, 0x49, 0xa0, 0x1c, 0x8f,
	    0xc5, 0xf8, 0x93, 0xd1, HLT);
	memset(out, 0xff, 256);
	for (unsigned int i = 0; i < 16; i++) {
		in[i] = i == 9 ? 3 : i;		/* the later one of two stays */
		in[16 + i] = 100 + i;
	}
	r->v->gpr[REG_RAX] = 0xff0f;
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RDI] = RIG_DATA + 0x400;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	for (unsigned int i = 0; i < 16; i++)
		assert_int_equal(out[i], i == 3 ? 109 : i == 9 || (i >= 4 && i < 8) ? ~0U : 100 + i);
	assert_int_equal(r->v->gpr[REG_RDX], 0);
}

/* A masked store over a page that is not there, with nothing to store in it. */
static void test_masked_store(void **state)
{
	struct rig *r = *state;
	uint32_t *in = (uint32_t *)(r->ram + RIG_DATA), *edge = (uint32_t *)(r->ram + RIG_DATA + 0x1000);

	if (!model_has(&r->model, FEAT_AVX512F))
		skip();
	/* zmm1 = data; k1 = eax; vmovdqu32 [rdi]{k1}, zmm1 */
	PUT(r, RIG_CODE, 0x62, 0xf1, 0x7e, 0x48, 0x6f, 0x0e, 0xc5, 0xf8, 0x92, 0xc8,
	    0x62, 0xf1, 0x7e, 0x49, 0x7f, 0x0f, HLT);
	for (unsigned int i = 0; i < 16; i++)
		in[i] = 100 + i;
	memset(edge - 8, 0xff, 64);
	*rig_pte(r, RIG_DATA + 0x1000) = 0;
	r->v->gpr[REG_RAX] = 0x00a5;
	r->v->gpr[REG_RSI] = RIG_DATA;
	r->v->gpr[REG_RDI] = RIG_DATA + 0x1000 - 32;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	for (unsigned int i = 0; i < 8; i++)
		assert_int_equal(edge[(int)i - 8], 0xa5 >> i & 1 ? 100 + i : ~0U);
	r->v->gpr[REG_RAX] = 0x8001;
	edge[-8] = 1;
	assert_int_equal(rig_run(r, RIG_CODE), EXC_PF);
	assert_int_equal(r->v->cr2, RIG_DATA + 0x1000 + 28);
	assert_int_equal(edge[-8], 1);
}

/* More code than the arena holds: everything is dropped and made again, and stays right. */
static void test_eviction(void **state)
{
	struct rig *r = *state;
	uint64_t decoded = r->v->stats.blocks_decoded, sum = 0;

	/* at each 8 bytes: add rax, imm8; jmp +2; ... hlt */
	for (unsigned int i = 0; i < 0x20000 / 8; i++)
		PUT(r, RIG_CODE + 8 * i, 0x48, 0x83, 0xc0, i & 0x7f, 0xeb, 0x02, 0, 0);
	PUT(r, RIG_CODE + 0x20000, HLT);
	for (unsigned int i = 0; i < 0x20000 / 8; i++)
		sum += i & 0x7f;
	for (int round = 0; round < 3; round++) {
		r->v->gpr[REG_RAX] = 0;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RAX], sum);
	}
	assert_true(r->v->stats.blocks_decoded - decoded > 0x20000 / 8 + 1);
	/* A block that survived in no list is still noticed when its code changes. */
	PUT(r, RIG_CODE, 0x48, 0x83, 0xc0, 1);
	r->v->gpr[REG_RAX] = 0;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RAX], sum + 1);
}

/* A step leaves the record of stolen time as it was: it may be one for an engine that has no use for it. */
static void test_step_and_record(void **state)
{
	struct rig *r = *state;
	uint8_t *preempted = r->ram + RIG_DATA + 16;
	uint64_t flushes;

	PUT(r, RIG_CODE, 0x90, 0x90, HLT);
	assert_int_equal(sys_wrmsr(r->v, MSR_PV_STEAL_TIME, RIG_DATA | 1), EXEC_OK);
	assert_int_equal(trap_init(NULL), 0);
	r->v->rip = RIG_CODE;
	engine_soft.vcpu_step(r->engine, r->v);
	assert_int_equal(r->v->rip, RIG_CODE + 1);
	assert_int_equal(*preempted, 0);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(*preempted, 1);
	*preempted |= 2;	/* asks for a flush */
	flushes = r->v->stats.tlb_flushes;
	r->v->rip = RIG_CODE;
	engine_soft.vcpu_step(r->engine, r->v);
	assert_int_equal(*preempted, 1);
	assert_true(r->v->stats.tlb_flushes > flushes);
}

static int setup_small(void **state)
{
	*state = rig_create_config("vireo-v1", &(struct engine_config){ .cache_bytes = 1 << 20 });
	return 0;
}

#define X(f) { "translated_" #f, f, setup_translated, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_runs), T(test_code_written_by_device), T(test_smc_next_instruction),
		T(test_smc_own_block), T(test_data_beside_code), T(test_page_crossing_code),
		T(test_fetch_fault_is_precise), T(test_often_changed_page), T(test_single_step),
		T(test_code_breakpoint), T(test_sse_registers), T(test_sse_page_crossing),
		T(test_sse_store_faults_whole), T(test_sse_alignment), T(test_sse_disabled),
		T(test_simd_exception), T(test_x87_exception), T(test_x87_pointers_hidden),
		T(test_fxsave_roundtrip), T(test_xsave_header), T(test_popcnt_and_crc),
		T(test_model_lacks), T(test_maskmovdqu), T(test_step_and_record),
		cmocka_unit_test_setup_teardown(test_bmi_on_host_model, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_gather, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_scatter, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_masked_store, setup_host, teardown),
		cmocka_unit_test_setup_teardown(test_eviction, setup_small, teardown),
		X(test_code_written_by_device), X(test_smc_next_instruction), X(test_smc_own_block),
		X(test_data_beside_code), X(test_page_crossing_code), X(test_fetch_fault_is_precise),
		X(test_single_step), X(test_code_breakpoint), X(test_sse_registers),
		X(test_sse_page_crossing), X(test_sse_store_faults_whole), X(test_sse_alignment),
		X(test_sse_disabled), X(test_simd_exception), X(test_x87_exception),
		X(test_x87_pointers_hidden), X(test_fxsave_roundtrip), X(test_xsave_header),
		X(test_popcnt_and_crc), X(test_maskmovdqu), X(test_eviction),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
