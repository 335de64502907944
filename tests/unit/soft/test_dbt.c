// SPDX-License-Identifier: Apache-2.0
/*
 * The translator where it may lose its footing: code that changes under it, a full cache,
 * its private stack of return addresses, address spaces, attention in tight loops, faults
 * in the middle of a block.  Every block is translated the first time it runs.
 */
#include "soft_rig.h"
#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#define HLT		0xf4
#define SPACE_2		0x100000	/* a second set of page tables */

static int setup(void **state)
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

/* The store changes the instruction behind it, in its own block, every time around. */
static void test_rewrites_next(void **state)
{
	struct rig *r = *state;

	/* l: inc byte [rip + 1]; mov al, n; add ebx, eax; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0xfe, 0x05, LE32(1), 0xb0, 0, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xf2, HLT);
	r->v->gpr[REG_RAX] = r->v->gpr[REG_RBX] = 0;
	r->v->gpr[REG_RCX] = 100;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], 5050);
}

/* A function rewritten between calls, on another page. */
static void test_rewrites_other(void **state)
{
	struct rig *r = *state;

	/* l: mov [rdi], cl; call rsi; add ebx, eax; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0x88, 0x0f, 0xff, 0xd6, 0x01, 0xc3, 0xff, 0xc9, 0x75, 0xf6, HLT);
	PUT(r, RIG_CODE + 0x2000, 0xb8, LE32(0), 0xc3);
	r->v->gpr[REG_RBX] = 0;
	r->v->gpr[REG_RCX] = 100;
	r->v->gpr[REG_RSI] = RIG_CODE + 0x2000;
	r->v->gpr[REG_RDI] = RIG_CODE + 0x2001;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], 5050);
}

/* Both parts of an instruction that crosses pages change; data beside code does not matter. */
static void test_page_crossing_code(void **state)
{
	struct rig *r = *state;
	gva_t at = RIG_CODE + 0x1000 - 2;

	for (unsigned int n = 1; n < 60; n++) {
		/* nop; mov eax, imm32; hlt */
		PUT(r, at - 1, 0x90, 0xb8, n, 2 * n, 0, 0, HLT);
		assert_int_equal(rig_run(r, at - 1), -1);
		assert_int_equal(r->v->gpr[REG_RAX], n | 2 * n << 8);
		gpa_write(&r->space, at + 3, &n, 1);
		assert_int_equal(rig_run(r, at - 1), -1);
		assert_int_equal(r->v->gpr[REG_RAX], n | 2 * n << 8 | n << 16);
	}
}

/* Recursion far deeper than the private stack, through a call that may move. */
static void test_deep_recursion(void **state)
{
	struct rig *r = *state;
	const uint64_t depth = 50000;

	/* call f; hlt; f: inc rbx; dec rcx; jz e; call f; add rax, 1; e: ret */
	PUT(r, RIG_CODE, 0xe8, LE32(1), HLT, 0x48, 0xff, 0xc3, 0x48, 0xff, 0xc9, 0x74, 0x09,
	    0xe8, LE32(-13), 0x48, 0x83, 0xc0, 0x01, 0xc3);
	r->v->gpr[REG_RAX] = r->v->gpr[REG_RBX] = 0;
	r->v->gpr[REG_RCX] = depth;
	r->v->gpr[REG_RSP] = 0x1ff000;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], depth);
	assert_int_equal(r->v->gpr[REG_RAX], depth - 1);
	assert_int_equal(r->v->gpr[REG_RSP], 0x1ff000);
}

/* RET without CALL, many times: the private stack is empty all along. */
static void test_returns_without_calls(void **state)
{
	struct rig *r = *state;

	/* l: dec ecx; jz e; push rsi (l); ret; e: hlt */
	PUT(r, RIG_CODE, 0xff, 0xc9, 0x74, 0x02, 0x56, 0xc3, HLT);
	r->v->gpr[REG_RCX] = 50000;
	r->v->gpr[REG_RSI] = RIG_CODE;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RSP], RIG_STACK);
	assert_int_equal(r->v->gpr[REG_RCX], 0);
}

/* CALLs that never return: each drops its return address, as longjmp does. */
static void test_calls_without_returns(void **state)
{
	struct rig *r = *state;

	/* l: call f; hlt; f: pop rax; dec ecx; jnz l; jmp to the hlt by rax */
	PUT(r, RIG_CODE, 0xe8, LE32(1), HLT, 0x58, 0xff, 0xc9, 0x75, 0xf5, 0xff, 0xe0);
	r->v->gpr[REG_RCX] = 50000;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->rip, RIG_CODE + 6);
	assert_int_equal(r->v->gpr[REG_RSP], RIG_STACK);
}

/* The return address is changed on the guest's stack. */
static void test_return_elsewhere(void **state)
{
	struct rig *r = *state;

	/* l: call f; inc edx; hlt; g: inc ebx; dec ecx; jnz l; hlt; f: mov [rsp], rsi; ret */
	PUT(r, RIG_CODE, 0xe8, LE32(10), 0xff, 0xc2, HLT, 0xff, 0xc3, 0xff, 0xc9, 0x75, 0xf2,
	    HLT, 0x48, 0x89, 0x34, 0x24, 0xc3);
	r->v->gpr[REG_RBX] = r->v->gpr[REG_RDX] = 0;
	r->v->gpr[REG_RCX] = 1000;
	r->v->gpr[REG_RSI] = RIG_CODE + 8;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], 1000);
	assert_int_equal(r->v->gpr[REG_RDX], 0);
}

/* More translations than the cache holds, calls open all the while. */
static void test_full_cache(void **state)
{
	struct rig *r = *state;
	uint64_t sum = 0;
	unsigned int i;

	/* each 16 bytes: add rax, imm8; call the next; ret.  The last: ret */
	for (i = 0; i < 0x80000 / 16; i++) {
		PUT(r, RIG_CODE + 16 * i, 0x48, 0x83, 0xc0, i & 0x7f, 0xe8, LE32(7), 0xc3);
		sum += i & 0x7f;
	}
	PUT(r, RIG_CODE + 16 * i, 0xc3);
	PUT(r, RIG_CODE - 16, 0xff, 0xd6, HLT);		/* call rsi; hlt */
	r->v->gpr[REG_RSI] = RIG_CODE;
	for (int round = 0; round < 3; round++) {
		r->v->gpr[REG_RAX] = 0;
		r->v->gpr[REG_RSP] = 0x1ff000;
		assert_int_equal(rig_run(r, RIG_CODE - 16), -1);
		assert_int_equal(r->v->gpr[REG_RAX], sum);
	}
}

/* A page fault in the middle of a block: registers and flags are those before it. */
static void test_precise_fault(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* add eax, ebx; mov [rdi], eax; cmp eax, eax; mov edx, [rsi]; add edx, 1; hlt */
	PUT(r, RIG_CODE, 0x01, 0xd8, 0x89, 0x07, 0x39, 0xc0, 0x8b, 0x16, 0x83, 0xc2, 0x01, HLT);
	*rig_pte(r, RIG_DATA + 0x1000) = 0;
	for (int i = 0; i < 5; i++) {
		uint64_t *frame = (uint64_t *)(r->ram + RIG_STACK);

		v->gpr[REG_RAX] = 5;
		v->gpr[REG_RBX] = -5;
		v->gpr[REG_RDX] = 0x1234;
		v->gpr[REG_RDI] = RIG_DATA;
		v->gpr[REG_RSI] = RIG_DATA + 0x1000 - (i & 1);
		v->gpr[REG_RSP] = RIG_STACK;
		assert_int_equal(rig_run(r, RIG_CODE), EXC_PF);
		assert_int_equal(frame[-5], RIG_CODE + 6);
		assert_int_equal(frame[-3] & RFLAGS_ARITH, RFLAGS_ZF | RFLAGS_PF);
		assert_int_equal(v->gpr[REG_RDX], 0x1234);
		assert_int_equal(v->gpr[REG_RAX], 0);
		assert_int_equal(v->cr2, RIG_DATA + 0x1000);
	}
}

static void write_space_2(struct rig *r)
{
	for (unsigned int n = 0; n < 4; n++)
		memcpy(r->ram + SPACE_2 + 0x1000 * n, r->ram + RIG_TABLES + 0x1000 * n, 0x1000);
	for (unsigned int n = 0; n < 3; n++)
		*(uint64_t *)(r->ram + SPACE_2 + 0x1000 * n) += SPACE_2 - RIG_TABLES;
	/* RIG_CODE + 0x2000 is another page there. */
	((uint64_t *)(r->ram + SPACE_2 + 0x3000))[(RIG_CODE + 0x2000) >> 12] += 0x1000;
}

/* Different code at one address in two address spaces, calls and returns across a switch. */
static void two_spaces(struct rig *r, uint64_t a, uint64_t b)
{
	/* l: mov cr3, rsi; call rdx; add ebx, eax; xchg rsi, rdi; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0x0f, 0x22, 0xde, 0xff, 0xd2, 0x01, 0xc3, 0x48, 0x87, 0xf7,
	    0xff, 0xc9, 0x75, 0xf2, HLT);
	PUT(r, RIG_CODE + 0x2000, 0xb8, LE32(1), 0xc3);
	PUT(r, RIG_CODE + 0x3000, 0xb8, LE32(1000), 0xc3);
	write_space_2(r);
	r->v->gpr[REG_RBX] = 0;
	r->v->gpr[REG_RCX] = 200;
	r->v->gpr[REG_RDX] = RIG_CODE + 0x2000;
	r->v->gpr[REG_RSI] = a;
	r->v->gpr[REG_RDI] = b;
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], 100 * 1001);
}

static void test_two_spaces(void **state)
{
	two_spaces(*state, RIG_TABLES, SPACE_2);
}

static void test_two_spaces_pcid(void **state)
{
	struct rig *r = *state;

	if (!model_has(&r->model, FEAT_PCID))
		skip();
	r->v->cr4 |= CR4_PCIDE;
	two_spaces(r, RIG_TABLES | 1 | BIT(63), SPACE_2 | 2 | BIT(63));
}

/* A page of code is mapped elsewhere, then INVLPG: callers must not go to the old one. */
static void test_invlpg(void **state)
{
	struct rig *r = *state;

	/* l: xor [rdi], rsi (the entry); invlpg [rdx]; call f; add ebx, eax; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0x48, 0x31, 0x37, 0x0f, 0x01, 0x3a, 0xe8, LE32(0x2000 - 11),
	    0x01, 0xc3, 0xff, 0xc9, 0x75, 0xef, HLT);
	PUT(r, RIG_CODE + 0x2000, 0xb8, LE32(1), 0xc3);
	PUT(r, RIG_CODE + 0x3000, 0xb8, LE32(1000), 0xc3);
	r->v->gpr[REG_RBX] = 0;
	r->v->gpr[REG_RCX] = 200;
	r->v->gpr[REG_RDX] = RIG_CODE + 0x2000;
	r->v->gpr[REG_RSI] = 0x1000;
	r->v->gpr[REG_RDI] = RIG_TABLES + 0x3000 + 8 * ((RIG_CODE + 0x2000) >> 12);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(r->v->gpr[REG_RBX], 100 * 1001);
}

/* Attention from another thread ends a loop that never leaves translated code. */
static void stops(struct rig *r)
{
	for (int i = 0; i < 10; i++)
		assert_int_equal(rig_run_endless(r, RIG_CODE), VCPU_EXIT_STOP);
}

static void test_stop_jump_to_self(void **state)
{
	PUT((struct rig *)*state, RIG_CODE, 0xeb, 0xfe);
	stops(*state);
}

static void test_stop_jcc_loop(void **state)
{
	/* l: inc rax; test rsp, rsp; jnz l */
	PUT((struct rig *)*state, RIG_CODE, 0x48, 0xff, 0xc0, 0x48, 0x85, 0xe4, 0x75, 0xf8);
	stops(*state);
}

static void test_stop_indirect_loop(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0x48, 0xff, 0xc0, 0xff, 0xe6);		/* inc rax; jmp rsi */
	r->v->gpr[REG_RSI] = RIG_CODE;
	stops(r);
}

static void test_stop_push_ret_loop(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0x56, 0xc3);				/* push rsi; ret */
	r->v->gpr[REG_RSI] = RIG_CODE;
	stops(r);
}

static void test_stop_call_ring(void **state)
{
	struct rig *r = *state;

	/* call +0; pop rax, add rsp 0: forward call, back by JMP */
	PUT(r, RIG_CODE, 0xe8, LE32(0), 0x58, 0xeb, 0xf8);
	stops(r);
}

/* The private stack overflows without C code being asked. */
static void test_stop_calls_back(void **state)
{
	struct rig *r = *state;

	/* l: add rsp, 8; call l */
	PUT(r, RIG_CODE, 0x48, 0x83, 0xc4, 0x08, 0xe8, LE32(-9));
	stops(r);
}

/* Stepped instructions that leave the engine: HLT behind others, in and out of the block. */
static void test_exits_from_step(void **state)
{
	struct rig *r = *state;

	/* inc eax; hlt; inc eax; hlt */
	PUT(r, RIG_CODE, 0xff, 0xc0, HLT, 0xff, 0xc0, HLT);
	for (int i = 0; i < 20; i++) {
		r->v->gpr[REG_RAX] = 0;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->rip, RIG_CODE + 3);
		assert_int_equal(rig_run(r, r->v->rip), -1);
		assert_int_equal(r->v->rip, RIG_CODE + 6);
		assert_int_equal(r->v->gpr[REG_RAX], 2);
	}
}

/* RDTSCP in line: the guest's counter and its own TSC_AUX, which is not the host's. */
static void test_rdtscp(void **state)
{
	struct rig *r = *state;
	uint64_t last = 0, now;

	r->v->tsc_aux = 0x87654321;
	/* rdtscp; hlt */
	PUT(r, RIG_CODE, 0x0f, 0x01, 0xf9, HLT);
	for (int i = 0; i < 20; i++) {
		r->v->gpr[REG_RAX] = r->v->gpr[REG_RDX] = r->v->gpr[REG_RCX] = UINT64_MAX;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RCX], 0x87654321);
		assert_true(r->v->gpr[REG_RAX] <= UINT32_MAX && r->v->gpr[REG_RDX] <= UINT32_MAX);
		now = r->v->gpr[REG_RDX] << 32 | r->v->gpr[REG_RAX];
		assert_true(now > last && now <= __builtin_ia32_rdtsc() + r->v->tsc_offset);
		last = now;
	}
}

/* TF set by POPF within a block: one trap, with the flags of the one instruction. */
static void test_single_step(void **state)
{
	struct rig *r = *state;
	uint64_t *frame = (uint64_t *)(r->ram + RIG_STACK);

	/* push 0x102; popf; cmp eax, eax; add eax, 1; hlt */
	PUT(r, RIG_CODE, 0x68, LE32(0x102), 0x9d, 0x39, 0xc0, 0x83, 0xc0, 0x01, HLT);
	for (int i = 0; i < 5; i++) {
		r->v->rflags = RFLAGS_FIXED;
		vcpu_update_mode(r->v);
		r->v->gpr[REG_RSP] = RIG_STACK;
		assert_int_equal(rig_run(r, RIG_CODE), EXC_DB);
		assert_int_equal(frame[-5], RIG_CODE + 8);
		assert_int_equal(frame[-3] & RFLAGS_ARITH, RFLAGS_ZF | RFLAGS_PF);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_rewrites_next), T(test_rewrites_other), T(test_page_crossing_code),
		T(test_deep_recursion), T(test_returns_without_calls), T(test_calls_without_returns),
		T(test_return_elsewhere), T(test_full_cache), T(test_precise_fault),
		T(test_two_spaces), T(test_two_spaces_pcid), T(test_invlpg),
		T(test_stop_jump_to_self), T(test_stop_jcc_loop), T(test_stop_indirect_loop),
		T(test_stop_push_ret_loop), T(test_stop_call_ring), T(test_stop_calls_back),
		T(test_exits_from_step), T(test_rdtscp), T(test_single_step),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
