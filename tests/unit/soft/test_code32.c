// SPDX-License-Identifier: Apache-2.0
/*
 * 32-bit code in compatibility mode, at CPL 0: what a translator for 64-bit mode may get wrong.
 * Addresses, the stack pointer and the instruction pointer wrap at 4 GiB, segments end, opcodes
 * mean other things.  Everything runs translated, compared in lockstep, without any of the
 * optimizations, and interpreted; the same comes out.
 */
#include "soft_rig.h"
#include "unit.h"

#include <unistd.h>

#define HLT		0xf4
#define SEL_CODE32	0x18
#define TOP_TABLES	0x300000	/* page directory and page table of the last 2 MiB of 4 GiB */
#define TOP_PAGE	0x302000	/* what is mapped at TOP */
#define TOP		0xfffff000ULL
#define FLAT		((struct segment){ .sel = 16, .attr = 0xc093, .limit = UINT32_MAX })

static void code32_state(struct rig *r)
{
	struct vcpu *v = r->v;

	rig_state(r);
	v->seg[SEG_CS] = (struct segment){ .sel = SEL_CODE32, .attr = 0xc09b, .limit = UINT32_MAX };
	v->gdtr.limit = 31;
	for (unsigned int i = 0; i < 16; i++)
		if (i != REG_RSP)
			v->gpr[i] = 0;
	vcpu_update_mode(v);
}

static int start(void **state, const struct engine_config *config)
{
	struct rig *r = rig_create_config("vireo-v1", config);
	uint64_t *table = (uint64_t *)(r->ram + RIG_TABLES + 0x1000);

	table[3] = TOP_TABLES | PTE_P | PTE_W | PTE_U;
	((uint64_t *)(r->ram + TOP_TABLES))[511] = (TOP_TABLES + 0x1000) | PTE_P | PTE_W | PTE_U;
	((uint64_t *)(r->ram + TOP_TABLES + 0x1000))[511] = TOP_PAGE | PTE_P | PTE_W;
	((uint64_t *)(r->ram + RIG_GDT))[3] = 0x00cf9b000000ffffULL;
	code32_state(r);
	*state = r;
	return 0;
}

static int start_translated(void **state)
{
	return start(state, &(struct engine_config){ .translate = true, .translate_at = 1 });
}

static int start_lockstep(void **state)
{
	return start(state, &(struct engine_config){ .translate = true, .translate_at = 1,
						     .lockstep = LOCKSTEP_ALL });
}

static int start_plain(void **state)
{
	const uint32_t all = BIT(TRANSLATOR_OPTS) - 1;

	return start(state, &(struct engine_config){ .translate = true, .translate_at = 1,
		.translator_no = all & ~BIT(TRANSLATOR_OPT_CODE32) });
}

static int start_without(void **state)
{
	return start(state, &(struct engine_config){ .translate = true, .translate_at = 1,
		.translator_no = BIT(TRANSLATOR_OPT_CODE32) });
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

/* Twice, from the same state: what was made the first time runs the second time. */
static void run_twice(struct rig *r, gva_t rip, int vector)
{
	struct segment seg[6];
	uint64_t gpr[16];

	memcpy(gpr, r->v->gpr, sizeof(gpr));
	memcpy(seg, r->v->seg, sizeof(seg));
	assert_int_equal(rig_run(r, rip), vector);
	memcpy(r->v->gpr, gpr, sizeof(gpr));
	memcpy(r->v->seg, seg, sizeof(seg));
	vcpu_update_mode(r->v);
	assert_int_equal(rig_run(r, rip), vector);
}

static void put32(struct rig *r, gpa_t at, uint32_t value)
{
	memcpy(r->ram + at, &value, 4);
}

static uint32_t get32(struct rig *r, gpa_t at)
{
	uint32_t value;

	memcpy(&value, r->ram + at, 4);
	return value;
}

/* One-byte INC and DEC are REX prefixes elsewhere; results clear the upper halves. */
static void test_short_inc(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* inc ecx; dec esi; inc dx; dec ebp; inc esp; hlt */
	PUT(r, RIG_CODE, 0x41, 0x4e, 0x66, 0x42, 0x4d, 0x44, HLT);
	v->gpr[REG_RCX] = 0x12345678ffffffff;
	v->gpr[REG_RDX] = 0x1234567890abffff;
	v->gpr[REG_RSI] = 0xffffffff00000000;
	v->gpr[REG_R8] = 0x1122334455667788;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RCX], 0);
	assert_int_equal(v->gpr[REG_RDX], 0x1234567890ab0000);
	assert_int_equal(v->gpr[REG_RSI], 0xffffffff);
	assert_int_equal(v->gpr[REG_RBP], 0xffffffff);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK + 1);
	assert_int_equal(v->gpr[REG_R8], 0x1122334455667788);
}

/* Effective addresses wrap, and absolute ones are not relative to RIP. */
static void test_addresses(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/*
	 * mov eax, [ebx + 0x10]; mov edx, [ebx + 0x14]; lea ecx, [ebx + 0x20];
	 * mov esi, [RIG_DATA]; mov dword [edi * 4 + RIG_DATA + 12], 0x1234; mov al, [RIG_DATA + 4];
	 * hlt
	 */
	PUT(r, RIG_CODE, 0x8b, 0x43, 0x10, 0x8b, 0x53, 0x14, 0x8d, 0x4b, 0x20,
	    0x8b, 0x35, LE32(RIG_DATA), 0xc7, 0x04, 0xbd, LE32(RIG_DATA + 12), LE32(0x1234),
	    0xa0, LE32(RIG_DATA + 4), HLT);
	put32(r, RIG_DATA, 0x11111111);
	put32(r, RIG_DATA + 4, 0x22222222);
	v->gpr[REG_RBX] = 0xabcdef00ULL << 32 | (RIG_DATA - 0x10);
	v->gpr[REG_RDI] = 0xffffffff;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x11111122);
	assert_int_equal(v->gpr[REG_RDX], 0x22222222);
	assert_int_equal(v->gpr[REG_RCX], RIG_DATA + 0x10);
	assert_int_equal(v->gpr[REG_RSI], 0x11111111);
	assert_int_equal(get32(r, RIG_DATA + 8), 0x1234);

	/* Over the end of the address space. */
	PUT(r, RIG_CODE, 0x8b, 0x83, LE32(RIG_DATA + 0x1000), 0x03, 0x83, LE32(RIG_DATA + 0x1004), HLT);
	v->gpr[REG_RBX] = 0xfffff000;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x33333333);
}

/* Slots of four bytes; a stack that wraps. */
static void test_stack(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* push eax; push -2; push ebx; push dword [RIG_DATA]; pop ecx; pop edx; hlt */
	PUT(r, RIG_CODE, 0x50, 0x6a, 0xfe, 0x53, 0xff, 0x35, LE32(RIG_DATA), 0x59, 0x5a, HLT);
	put32(r, RIG_DATA, 0x33333333);
	v->gpr[REG_RAX] = 0x1111111122222222;
	v->gpr[REG_RBX] = 0x4444444455555555;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK - 8);
	assert_int_equal(get32(r, RIG_STACK - 4), 0x22222222);
	assert_int_equal(get32(r, RIG_STACK - 8), 0xfffffffe);
	assert_int_equal(v->gpr[REG_RDX], 0x55555555);
	assert_int_equal(v->gpr[REG_RCX], 0x33333333);

	v->gpr[REG_RSP] = 0x7777777700000000;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RSP], 0xfffffff8);
	assert_int_equal(get32(r, TOP_PAGE + 0xffc), 0x22222222);

	/* pop eax; pop ebx; pop ecx; hlt */
	PUT(r, RIG_CODE, 0x58, 0x5b, 0x59, HLT);
	put32(r, 0, 0x99999999);
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RSP], 4);
	assert_int_equal(v->gpr[REG_RAX], 0xfffffffe);
	assert_int_equal(v->gpr[REG_RBX], 0x22222222);
	assert_int_equal(v->gpr[REG_RCX], 0x99999999);
}

/* CALL, LEAVE, and RET that drops arguments. */
static void test_calls(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* mov ecx, 100; l: push ecx; call f; dec ecx; jnz l; hlt */
	/* f: push ebp; mov ebp, esp; add eax, [ebp + 8]; leave; ret 4 */
	PUT(r, RIG_CODE, 0xb9, LE32(100), 0x51, 0xe8, LE32(4), 0x49, 0x75, 0xf7, HLT,
	    0x55, 0x89, 0xe5, 0x03, 0x45, 0x08, 0xc9, 0xc2, 4, 0);
	v->gpr[REG_RBP] = 0x12345678;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 5050);
	assert_int_equal(v->gpr[REG_RBP], 0x12345678);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK);
}

/* By register, by memory; LOOP and JECXZ count in ECX whatever is above. */
static void test_indirect(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* l: call ebx; call [RIG_DATA]; loop l; jecxz e; hlt; e: jmp [RIG_DATA + 4] */
	PUT(r, RIG_CODE, 0xff, 0xd3, 0xff, 0x15, LE32(RIG_DATA), 0xe2, 0xf6, 0xe3, 0x01, HLT,
	    0xff, 0x25, LE32(RIG_DATA + 4));
	PUT(r, RIG_CODE + 0x2000, 0x40, 0xc3);				/* inc eax; ret */
	PUT(r, RIG_CODE + 0x3000, 0x83, 0xc0, 0x10, 0xc3, HLT);		/* add eax, 16; ret; hlt */
	put32(r, RIG_DATA, RIG_CODE + 0x3000);
	put32(r, RIG_DATA + 4, RIG_CODE + 0x3004);
	v->gpr[REG_RBX] = 0x8888888800000000 | (RIG_CODE + 0x2000);
	v->gpr[REG_RCX] = 0x9999999900000032;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 17 * 50);
	assert_int_equal(v->gpr[REG_RCX], 0);
	assert_int_equal(v->rip, RIG_CODE + 0x3005);
}

/* A segment with a base, up to 4 GiB beyond which it wraps, and one with a limit. */
static void test_fs(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* mov eax, fs:[ebx]; mov edx, fs:[-4]; mov ecx, fs:[8]; lea esi, fs:[ebx + 4]; hlt */
	PUT(r, RIG_CODE, 0x64, 0x8b, 0x03, 0x64, 0x8b, 0x15, LE32(-4), 0x64, 0x8b, 0x0d, LE32(8),
	    0x64, 0x8d, 0x73, 0x04, HLT);
	put32(r, RIG_DATA + 0x41, 0x11111111);
	put32(r, RIG_DATA + 0x41 - 4, 0x22222222);
	put32(r, RIG_DATA + 0x41 + 8, 0x33333333);
	v->seg[SEG_FS] = FLAT;
	v->seg[SEG_FS].base = RIG_DATA + 0x41;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x11111111);
	assert_int_equal(v->gpr[REG_RDX], 0x22222222);
	assert_int_equal(v->gpr[REG_RCX], 0x33333333);
	assert_int_equal(v->gpr[REG_RSI], 4);
	v->gpr[REG_RBX] = 0xfffffffd;		/* its last byte is beyond the end */
	run_twice(r, RIG_CODE, EXC_GP);
	code32_state(r);
	v->seg[SEG_FS] = FLAT;
	v->seg[SEG_FS].base = RIG_DATA + 0x41;
	v->gpr[REG_RBX] = 0xfffffffc;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x22222222);
	v->seg[SEG_FS].limit = 7;
	v->gpr[REG_RBX] = 4;
	run_twice(r, RIG_CODE, EXC_GP);
}

/* Addresses of 16 bits, branches of 16 bits. */
static void test_16_bits(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* mov eax, [bx + si]; lea ecx, [bx + si]; jmp 0 with an operand of 16 bits */
	PUT(r, RIG_CODE, 0x67, 0x8b, 0x00, 0x67, 0x8d, 0x08, 0x66, 0xe9,
	    (uint8_t)(0x8010 - 10), (uint8_t)((0x8010 - 10) >> 8));
	PUT(r, 0x8010, HLT);
	put32(r, 0x4000, 0x66666666);
	v->gpr[REG_RBX] = 0x1ffff;
	v->gpr[REG_RSI] = 0x24001;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x66666666);
	assert_int_equal(v->gpr[REG_RCX], 0x4000);
	assert_int_equal(v->rip, 0x8011);
}

/* Code runs on from the last page to the first; what crosses the segment's end faults. */
static void test_code_wraps(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	PUT(r, TOP_PAGE + 0xffe, 0x40, 0x40);		/* inc eax; inc eax */
	PUT(r, 0, 0x40, 0x3c, 30, 0x72, 0xf9, HLT);	/* inc eax; cmp al, 30; jb TOP + 0xffe; hlt */
	run_twice(r, TOP + 0xffe, -1);
	assert_int_equal(v->gpr[REG_RAX], 30);
	assert_int_equal(v->rip, 6);
	PUT(r, TOP_PAGE + 0xffe, 0x40, 0xb9);		/* inc eax; mov ecx, what is beyond the end */
	v->gpr[REG_RAX] = 0;
	run_twice(r, TOP + 0xffe, EXC_GP);
	assert_int_equal(v->gpr[REG_RAX], 1);
}

/* DS is given a limit and a base in the middle of a block; CS cannot be written. */
static void test_segments(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* mov eax, [ebx]; mov ds, edx; mov ecx, [ebx]; hlt */
	PUT(r, RIG_CODE, 0x8b, 0x03, 0x8e, 0xda, 0x8b, 0x0b, HLT);
	put32(r, RIG_DATA, 0x11111111);
	put32(r, RIG_DATA + 0x10000, 0x22222222);
	((uint64_t *)(r->ram + RIG_GDT))[4] = 0x00cf93010000ffffULL;	/* base 0x10000 */
	((uint64_t *)(r->ram + RIG_GDT))[5] = 0x004093000000ffffULL;	/* limit 0xffff */
	v->gdtr.limit = 47;
	v->gpr[REG_RBX] = RIG_DATA;
	v->gpr[REG_RDX] = 0x20;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RAX], 0x11111111);
	assert_int_equal(v->gpr[REG_RCX], 0x22222222);
	v->seg[SEG_DS] = FLAT;
	v->gpr[REG_RDX] = 0x28;
	run_twice(r, RIG_CODE, EXC_GP);

	code32_state(r);
	/* mov [ebx], ecx; nop; mov eax, cs:[ebx]; mov cs:[ebx], eax */
	PUT(r, RIG_CODE, 0x89, 0x0b, 0x90, 0x2e, 0x8b, 0x03, 0x2e, 0x89, 0x03, HLT);
	v->gpr[REG_RBX] = RIG_DATA;
	v->gpr[REG_RCX] = 0x33333333;
	run_twice(r, RIG_CODE, EXC_GP);
	assert_int_equal(v->gpr[REG_RAX], 0x33333333);
}

/* What is between the members of a group is not lost: LEA with a result of 16 bits. */
static void test_narrow_lea(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* mov eax, [ebx]; lea dx, [ebx + 5]; mov ecx, [ebx + 4]; hlt */
	PUT(r, RIG_CODE, 0x8b, 0x03, 0x66, 0x8d, 0x53, 0x05, 0x8b, 0x4b, 0x04, HLT);
	put32(r, RIG_DATA, 0x11111111);
	put32(r, RIG_DATA + 4, 0x22222222);
	v->gpr[REG_RBX] = RIG_DATA;
	run_twice(r, RIG_CODE, -1);
	assert_int_equal(v->gpr[REG_RDX], 5);
	assert_int_equal(v->gpr[REG_RCX], 0x22222222);
	rig_state(r);
	run_twice(r, RIG_CODE, -1);	/* the same in 64-bit mode */
	assert_int_equal(v->gpr[REG_RDX], 5);
}

/*
 * A CALL in 64-bit code whose RET is in 32-bit code, to the same address: the code there is
 * another one then (48: INC RAX, or DEC EAX and INC EAX).
 */
static void test_both_sizes(void **state)
{
	struct rig *r = *state;
	struct vcpu *v = r->v;

	/* push rdi; call f; inc rax; hlt; f: jmp rsi */
	PUT(r, RIG_CODE, 0x57, 0xe8, LE32(4), 0x48, 0xff, 0xc0, HLT, 0xff, 0xe6);
	PUT(r, RIG_CODE + 0x100, 0xc3);				/* ret */
	PUT(r, RIG_CODE + 0x200, 0xff, 0x2c, 0x25, LE32(RIG_DATA));	/* jmp far [RIG_DATA] */
	put32(r, RIG_DATA, RIG_CODE + 0x100);
	put32(r, RIG_DATA + 4, SEL_CODE32);
	for (unsigned int k = 0; k < 6; k++) {
		unsigned int far = k & 1;

		rig_state(r);
		v->gdtr.limit = 31;
		v->gpr[REG_RAX] = 0x700000000;
		v->gpr[REG_RSI] = RIG_CODE + 0x100 + 0x100 * far;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(v->gpr[REG_RAX], far ? 0 : 0x700000001);
		assert_int_equal(v->code_size, far ? CODE_32 : CODE_64);
		assert_int_equal(v->rip, RIG_CODE + 10);
	}
}

static void count_interpreted(void *arg, const char *name, uint64_t value)
{
	if (!strcmp(name, "instructions interpreted"))
		*(uint64_t *)arg = value;
}

/* It is translated: of many instructions few are interpreted. */
static void test_is_translated(void **state)
{
	struct rig *r = *state;
	uint64_t interpreted = UINT64_MAX;

	/* mov ecx, 100000; l: add eax, [RIG_DATA]; push eax; pop edx; call f; dec ecx; jnz l; hlt */
	PUT(r, RIG_CODE, 0xb9, LE32(100000), 0x03, 0x05, LE32(RIG_DATA), 0x50, 0x5a,
	    0xe8, LE32(4), 0x49, 0x75, 0xf0, HLT, 0xc3);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	engine_soft.counters(r->engine, r->v, count_interpreted, &interpreted);
	assert_true(interpreted < 1000);
}

#define ALL(start) { \
	cmocka_unit_test_setup_teardown(test_short_inc, start, teardown), \
	cmocka_unit_test_setup_teardown(test_addresses, start, teardown), \
	cmocka_unit_test_setup_teardown(test_stack, start, teardown), \
	cmocka_unit_test_setup_teardown(test_calls, start, teardown), \
	cmocka_unit_test_setup_teardown(test_indirect, start, teardown), \
	cmocka_unit_test_setup_teardown(test_fs, start, teardown), \
	cmocka_unit_test_setup_teardown(test_16_bits, start, teardown), \
	cmocka_unit_test_setup_teardown(test_code_wraps, start, teardown), \
	cmocka_unit_test_setup_teardown(test_segments, start, teardown), \
	cmocka_unit_test_setup_teardown(test_narrow_lea, start, teardown), \
	cmocka_unit_test_setup_teardown(test_both_sizes, start, teardown), \
}

int main(void)
{
	const struct CMUnitTest translated[] = ALL(start_translated), lockstep[] = ALL(start_lockstep);
	const struct CMUnitTest plain[] = ALL(start_plain), without[] = ALL(start_without);
	const struct CMUnitTest more[] = {
		cmocka_unit_test_setup_teardown(test_is_translated, start_translated, teardown),
	};

	return cmocka_run_group_tests_name("translated", translated, NULL, NULL) +
	       cmocka_run_group_tests_name("lockstep", lockstep, NULL, NULL) +
	       cmocka_run_group_tests_name("without optimizations", plain, NULL, NULL) +
	       cmocka_run_group_tests_name("interpreted", without, NULL, NULL) +
	       cmocka_run_group_tests(more, NULL, NULL);
}
