// SPDX-License-Identifier: Apache-2.0
/*
 * User code in cells: it comes to the handler that the guest has for a fault, with the address; it sees
 * the guest's CPUID and not the host's, also where it changes its code; what was unmapped or made read-only is not
 * reached as it was; a loop without an end leaves for attention; a page of code and data at once works, and so
 * does one in which code cannot be told from data; what is not for cells runs all the same.
 */
#include "engine/soft/soft_priv.h"
#include "soft_rig.h"
#include "unit.h"

#define PAGE		0x300000	/* code */
#define DATA_PAGE	0x301000
#define TABLES		0x200000	/* three pages */
#define MORE_TABLES	0x210000
#define TSS_AT		0x1f0000
#define PLACE		0x7f1234566000	/* code, then data and stack */
#define DATA		(PLACE + 0x1000)

static void wake(void *arg)
{
	struct rig *r = arg;

	engine_soft.vcpu_kick(r->engine, r->v);
}

static int setup(void **state)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .direct = DIRECT_ALWAYS, .cache_bytes = 8 << 20 });
	uint64_t *table = (uint64_t *)(r->ram + TABLES), all = PTE_P | PTE_W | PTE_U;

	((uint64_t *)(r->ram + RIG_TABLES))[PLACE >> 39] = TABLES | all;
	table[PLACE >> 30 & 511] = (TABLES + 0x1000) | all;
	table[512 + (PLACE >> 21 & 511)] = (TABLES + 0x2000) | all;
	table[1024 + (PLACE >> 12 & 511)] = PAGE | all;
	table[1024 + (DATA >> 12 & 511)] = DATA_PAGE | all;
	for (unsigned int s = 0; s < 6; s++)
		r->v->seg[s] = (struct segment){ .attr = SEG_UNUSABLE };
	r->v->seg[SEG_CS] = (struct segment){ .sel = 0x33, .attr = 0x20fb, .limit = ~0U };
	r->v->seg[SEG_SS] = (struct segment){ .sel = 0x2b, .attr = 0xc0f3, .limit = ~0U };
	rig_code(r, TSS_AT + 4, &(uint64_t){ RIG_STACK }, 8);
	r->v->tr = (struct segment){ .sel = 0x28, .attr = 0x8b, .limit = 103, .base = TSS_AT };
	r->v->gpr[REG_RSP] = DATA + 0xff0;
	r->v->wake = wake;
	r->v->wake_arg = r;
	vcpu_update_mode(r->v);
	assert_int_equal(trap_init(NULL), 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static const struct direct_stats *stats(struct rig *r)
{
	return direct_get_stats(((struct soft_vcpu *)r->v->engine)->direct);
}

/* Runs user code at PLACE to its HLT, which is a #GP, or to another exception. */
static int run(struct rig *r, int vector)
{
	uint64_t before = stats(r)->runs;
	int got;

	r->v->seg[SEG_CS] = (struct segment){ .sel = 0x33, .attr = 0x20fb, .limit = ~0U };
	r->v->seg[SEG_SS] = (struct segment){ .sel = 0x2b, .attr = 0xc0f3, .limit = ~0U };
	r->v->gpr[REG_RSP] = DATA + 0xff0;
	vcpu_update_mode(r->v);
	got = rig_run(r, PLACE);
	assert_int_equal(got, vector);
	assert_true(stats(r)->runs > before);
	return got;
}

static uint64_t *pte(struct rig *r, gva_t gva)
{
	return (uint64_t *)(r->ram + TABLES + 0x2000) + (gva >> 12 & 511);
}

static void test_memory(void **state)
{
	struct rig *r = *state;

	/* push rax; add [rsp], rbx; pop rcx; movaps xmm1, xmm0; hlt */
	PUT(r, PAGE, 0x50, 0x48, 0x01, 0x1c, 0x24, 0x59, 0x0f, 0x28, 0xc8, 0xf4);
	r->v->gpr[REG_RAX] = 40;
	r->v->gpr[REG_RBX] = 2;
	run(r, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RCX], 42);
	assert_true(*pte(r, DATA) & PTE_D);
}

static void test_page_fault(void **state)
{
	struct rig *r = *state;

	/* mov [rdi], rax */
	PUT(r, PAGE, 0x48, 0x89, 0x07, 0xf4);
	r->v->gpr[REG_RDI] = PLACE + 0x5123;
	run(r, EXC_PF);
	assert_int_equal(r->v->cr2, PLACE + 0x5123);
	r->v->gpr[REG_RDI] = DATA;
	run(r, EXC_GP);
	*pte(r, DATA) &= ~(uint64_t)PTE_W;	/* and INVLPG */
	tlb_flush_page(r->v, DATA);
	run(r, EXC_PF);
	assert_int_equal(r->v->cr2, DATA);
	*pte(r, DATA) = 0;
	tlb_flush_page(r->v, DATA);
	run(r, EXC_PF);
}

/* Another page is put where one was. */
static void test_moved_page(void **state)
{
	struct rig *r = *state;

	PUT(r, PAGE, 0x8b, 0x07, 0xf4);		/* mov eax, [rdi] */
	PUT(r, DATA_PAGE, LE32(1));
	PUT(r, DATA_PAGE + 0x1000, LE32(2));
	r->v->gpr[REG_RDI] = DATA;
	run(r, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RAX], 1);
	*pte(r, DATA) = (DATA_PAGE + 0x1000) | PTE_P | PTE_W | PTE_U;
	tlb_flush_nonglobal(r->v);
	run(r, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RAX], 2);
}

/* No execution where the guest's tables forbid it. */
static void test_no_execute(void **state)
{
	struct rig *r = *state;

	PUT(r, PAGE, 0xff, 0xe7);		/* jmp rdi */
	PUT(r, DATA_PAGE, 0xf4);
	r->v->gpr[REG_RDI] = DATA;
	run(r, EXC_GP);
	*pte(r, DATA) |= PTE_NX;
	tlb_flush_page(r->v, DATA);
	run(r, EXC_PF);
	assert_int_equal(r->v->cr2, DATA);
}

/* The guest's answers: those of leaf 0x40000000, in which every hypervisor names itself. */
static void test_cpuid(void **state)
{
	struct rig *r = *state;
	uint32_t want[4];

	/* mov eax, 0x40000000; xor ecx, ecx; cpuid; hlt */
	PUT(r, PAGE, 0xb8, LE32(0x40000000), 0x31, 0xc9, 0x0f, 0xa2, 0xf4);
	run(r, EXC_GP);
	cpu_model_cpuid(&r->model, 0x40000000, 0, 0, r->v->cr4, r->v->xcr0, want);
	assert_int_equal((uint32_t)r->v->gpr[REG_RAX], want[0]);
	assert_int_equal((uint32_t)r->v->gpr[REG_RBX], want[1]);
	/* The page has become another one: inc eax instead. */
	PUT(r, PAGE, 0xb8, LE32(7), 0x31, 0xc9, 0xff, 0xc0, 0xf4);
	run(r, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RAX], 8);
}

static void test_time_stamp(void **state)
{
	struct rig *r = *state;
	uint64_t tsc;

	r->v->tsc_offset = -(uint64_t)BIT(60);
	PUT(r, PAGE, 0x0f, 0x31, 0xf4);		/* rdtsc */
	run(r, EXC_GP);
	tsc = r->v->gpr[REG_RDX] << 32 | r->v->gpr[REG_RAX];
	assert_true(tsc - r->v->tsc_offset < BIT(59));
}

/* mov byte [rip + 1], 5; mov al, 9; hlt: the code changes what comes next, with the page it is in. */
static void test_changes_itself(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 300; i++) {
		PUT(r, PAGE, 0xc6, 0x05, LE32(1), 5, 0xb0, 9, 0xf4);
		r->v->gpr[REG_RAX] = 0;
		run(r, EXC_GP);
		assert_int_equal(r->v->gpr[REG_RAX], 5);
	}
}

/* An instruction of which the end is in a page that is not for cells: bytes of CPUID in an immediate there. */
static void test_crossing(void **state)
{
	struct rig *r = *state;

	/* jmp to the last byte; mov eax, 0x...a20f; hlt */
	PUT(r, PAGE, 0xe9, LE32(0xffa));
	PUT(r, PAGE + 0xfff, 0xb8, LE32(0x1234a20f), 0xf4);
	run(r, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RAX], 0x1234a20f);
}

static void test_stops(void **state)
{
	struct rig *r = *state;

	PUT(r, PAGE, 0xeb, 0xfe);
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_run_endless(r, PLACE), VCPU_EXIT_STOP);
	assert_true(stats(r)->kicks >= 3);
}

/* What divides by zero, steps, or is no instruction raises what it would. */
static void test_exceptions(void **state)
{
	struct rig *r = *state;

	PUT(r, PAGE, 0xf7, 0xf1);		/* div ecx */
	r->v->gpr[REG_RCX] = 0;
	run(r, EXC_DE);
	PUT(r, PAGE, 0x0f, 0x0b);
	run(r, EXC_UD);
	PUT(r, PAGE, 0x48, 0x8b, 0x07);		/* mov rax, [rdi] */
	r->v->gpr[REG_RDI] = BIT(62);
	run(r, EXC_GP);
	PUT(r, PAGE, 0x66, 0x0f, 0x6f, 0x07);	/* movdqa xmm0, [rdi] */
	r->v->gpr[REG_RDI] = DATA + 1;
	run(r, EXC_GP);
}

/* pushf; or dword [rsp], @flag; popf; nop; mov eax, [rdi]; hlt */
static void with_flag(struct rig *r, uint32_t flag)
{
	PUT(r, PAGE, 0x9c, 0x81, 0x0c, 0x24, LE32(flag), 0x9d, 0x90, 0x8b, 0x07, 0xf4);
	PUT(r, DATA_PAGE, 0, 7, 0, 0, 0);
	r->v->gpr[REG_RDI] = DATA + 1;
}

/* The program traps itself; and one that wants alignment checks, which its system does not. */
static void test_flags(void **state)
{
	struct rig *r = *state;

	with_flag(r, RFLAGS_TF);
	run(r, EXC_DB);
	assert_true(r->v->dr[6] & DR6_BS);
	r->v->rflags = RFLAGS_FIXED;
	with_flag(r, RFLAGS_AC);
	run(r, EXC_GP);
	assert_int_equal((uint32_t)r->v->gpr[REG_RAX], 7);
}

/* Pages beside the gate are the guest's as everywhere, however they come and go. */
static void test_beside_the_gate(void **state)
{
	struct rig *r = *state;
	const gva_t at = 0x6f0000010000;
	uint64_t *table = (uint64_t *)(r->ram + MORE_TABLES), all = PTE_P | PTE_W | PTE_U;

	((uint64_t *)(r->ram + RIG_TABLES))[at >> 39] = MORE_TABLES | all;
	table[at >> 30 & 511] = (MORE_TABLES + 0x1000) | all;
	table[512 + (at >> 21 & 511)] = (MORE_TABLES + 0x2000) | all;
	table[1024 + (at >> 12 & 511)] = DATA_PAGE | all;
	tlb_flush_all(r->v);
	PUT(r, PAGE, 0x8b, 0x07, 0xf4);		/* mov eax, [rdi] */
	PUT(r, DATA_PAGE, LE32(5));
	for (int i = 0; i < 3; i++) {
		r->v->gpr[REG_RDI] = at;
		run(r, EXC_GP);
		assert_int_equal(r->v->gpr[REG_RAX], 5);
		tlb_flush_all(r->v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_page_fault, setup, teardown),
		cmocka_unit_test_setup_teardown(test_moved_page, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_execute, setup, teardown),
		cmocka_unit_test_setup_teardown(test_cpuid, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_stamp, setup, teardown),
		cmocka_unit_test_setup_teardown(test_changes_itself, setup, teardown),
		cmocka_unit_test_setup_teardown(test_crossing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_stops, setup, teardown),
		cmocka_unit_test_setup_teardown(test_exceptions, setup, teardown),
		cmocka_unit_test_setup_teardown(test_flags, setup, teardown),
		cmocka_unit_test_setup_teardown(test_beside_the_gate, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
