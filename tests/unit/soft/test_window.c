// SPDX-License-Identifier: Apache-2.0
/*
 * Code for windows: loops without an end, some of which look as if their turns could be
 * counted, or as if they came to another loop's poll, leave for attention; a displacement is right
 * however far the stack pointer is behind its host register, or an index of 32 bits takes the
 * operand.  What was missing is mapped when the program goes on.  A repeated string instruction
 * that comes to a missing page has done the elements before it.  Spaces that take turns keep
 * their windows, and none reaches another's.
 */
#include "engine/soft/dbt_priv.h"
#include "engine/soft/soft_priv.h"
#include "soft_rig.h"
#include "unit.h"

#include <unistd.h>

#define PAGE		0x300000	/* code and stack */
#define TABLES		0x200000	/* three pages */
#define TSS_AT		0x1f0000
#define ROOT_2		0x1e0000	/* of a second address space */
#define PLACE		0x7f1234567000

static int setup_with(void **state, enum window_choice windows)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 1 << 20,
		.windows = windows });
	uint64_t *table = (uint64_t *)(r->ram + TABLES), all = PTE_P | PTE_W | PTE_U;

	((uint64_t *)(r->ram + RIG_TABLES))[PLACE >> 39] = TABLES | all;
	table[PLACE >> 30 & 511] = (TABLES + 0x1000) | all;
	table[512 + (PLACE >> 21 & 511)] = (TABLES + 0x2000) | all;
	table[1024 + (PLACE >> 12 & 511)] = PAGE | all;
	r->v->seg[SEG_CS] = (struct segment){ .sel = 0x23, .attr = 0x20fb, .limit = ~0U };
	r->v->seg[SEG_SS] = (struct segment){ .sel = 0x1b, .attr = 0xc0f3, .limit = ~0U };
	rig_code(r, TSS_AT + 4, &(uint64_t){ RIG_STACK }, 8);
	r->v->tr = (struct segment){ .sel = 0x28, .attr = 0x8b, .limit = 103, .base = TSS_AT };
	r->v->gpr[REG_RSP] = PLACE + 0xff0;
	vcpu_update_mode(r->v);
	assert_int_equal(trap_init(NULL), 0);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return setup_with(state, WINDOWS_ALWAYS);
}

static int setup_auto(void **state)
{
	return setup_with(state, WINDOWS_AUTO);
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static void stops(struct rig *r)
{
	for (int i = 0; i < 3; i++)
		assert_int_equal(rig_run_endless(r, PLACE), VCPU_EXIT_STOP);
	assert_true(r->v->tlb.window.active);
}

/* xor eax, eax; l: add rax, 8; cmp rax, 5; @jump l */
static void loop_with(struct rig *r, uint8_t jump)
{
	PUT(r, PAGE, 0x31, 0xc0, 0x48, 0x83, 0xc0, 0x08, 0x48, 0x83, 0xf8, 0x05, jump, 0xf6);
	stops(r);
}

static void test_stop_jmp(void **state)
{
	loop_with(*state, 0xeb);
}

static void test_stop_jno(void **state)
{
	loop_with(*state, 0x71);
}

static void test_stop_jnb(void **state)
{
	loop_with(*state, 0x73);
}

static void test_stop_jnz_missed(void **state)
{
	loop_with(*state, 0x75);	/* 5 is not among 8, 16, ... */
}

static void test_stop_no_counter(void **state)
{
	struct rig *r = *state;

	/* xor eax, eax; l: cmp rax, 5; jnz l */
	PUT(r, PAGE, 0x31, 0xc0, 0x48, 0x83, 0xf8, 0x05, 0x75, 0xfa);
	stops(r);
}

/* A loop of counted turns that is entered once more with another count. */
static void test_stop_counted_again(void **state)
{
	struct rig *r = *state;

	/* xor eax, eax; l: add rax, 8; cmp rax, 64; jnz l; inc rax; jmp l */
	PUT(r, PAGE, 0x31, 0xc0, 0x48, 0x83, 0xc0, 0x08, 0x48, 0x83, 0xf8, 0x40, 0x75, 0xf6,
	    0x48, 0xff, 0xc0, 0xeb, 0xf1);
	stops(r);
}

/* An endless loop around one that asks whether it should stop. */
static void test_stop_nested(void **state)
{
	struct rig *r = *state;

	/* o: xor eax, eax; l: add rax, 8; cmp rax, rdx; jnz l; jmp o */
	r->v->gpr[REG_RDX] = 64;
	PUT(r, PAGE, 0x31, 0xc0, 0x48, 0x83, 0xc0, 0x08, 0x48, 0x39, 0xd0, 0x75, 0xf7, 0xeb, 0xf3);
	stops(r);
}

/* The same, but it never comes to the inner one. */
static void test_stop_nested_missed(void **state)
{
	struct rig *r = *state;

	/* o: test rdi, rdi; jz p; xor eax, eax; l: add rax, 8; cmp rax, rdx; jnz l; p: jmp o */
	r->v->gpr[REG_RDX] = 64;
	r->v->gpr[REG_RDI] = 1;
	PUT(r, PAGE, 0x48, 0x85, 0xff, 0x74, 0x0b, 0x31, 0xc0, 0x48, 0x83, 0xc0, 0x08, 0x48, 0x39,
	    0xd0, 0x75, 0xf7, 0xeb, 0xee);
	stops(r);
	r->v->gpr[REG_RDI] = 0;
	r->v->rip = PLACE;
	stops(r);
}

/* A space's turn of 20 ms in an endless loop. */
static void turn(struct rig *r, gpa_t root, unsigned int pcid)
{
	r->v->cr3 = root | pcid;
	tlb_switch_space(r->v, true);
	assert_int_equal(rig_run_endless(r, PLACE), VCPU_EXIT_STOP);
}

static const struct dbt_stats *stats(struct rig *r)
{
	return dbt_get_stats(((struct soft_vcpu *)r->v->engine)->dbt);
}

static void two_spaces(struct rig *r)
{
	PUT(r, PAGE, 0x48, 0x8b, 0x04, 0x24, 0xeb, 0xfa);	/* l: mov rax, [rsp]; jmp l */
	rig_code(r, ROOT_2, r->ram + RIG_TABLES, 0x1000);
	r->v->cr4 |= CR4_PCIDE;
}

/* Two spaces that take turns each keep their windows. */
static void test_turns(void **state)
{
	struct rig *r = *state;
	unsigned int before;

	two_spaces(r);
	for (int i = 0; i < 5; i++) {
		turn(r, RIG_TABLES, 1);
		turn(r, ROOT_2, 2);
	}
	before = stats(r)->windows;
	for (int i = 0; i < 5; i++) {
		turn(r, RIG_TABLES, 1);
		assert_true(r->v->tlb.window.active);
		turn(r, ROOT_2, 2);
		assert_true(r->v->tlb.window.active);
	}
	assert_int_equal(stats(r)->windows, before);
}

/* With too few sets they do not take them from each other, until one is idle. */
static void test_turns_of_one_set(void **state)
{
	struct rig *r = *state;
	unsigned int before;

	r->v->tlb.window.sets = 1;
	two_spaces(r);
	for (int i = 0; i < 3; i++)
		turn(r, RIG_TABLES, 1);
	assert_true(r->v->tlb.window.active);
	before = stats(r)->windows;
	for (int i = 0; i < 10; i++) {
		turn(r, RIG_TABLES, 1);
		turn(r, ROOT_2, 2);
	}
	assert_int_equal(stats(r)->windows, before);
	for (int i = 0; i < 20 && !r->v->tlb.window.active; i++)
		turn(r, ROOT_2, 2);
	assert_true(r->v->tlb.window.active);
}

/* push rax; mov rcx, [rsp + @disp]: the page fault says what address that was. */
static void faults_at(struct rig *r, int32_t disp)
{
	PUT(r, PAGE, 0x50, 0x48, 0x8b, 0x8c, 0x24, LE32(disp));
	r->v->gpr[REG_RSP] = PLACE + 0xff0;
	rig_run(r, PLACE);
	assert_int_equal(r->v->cr2, PLACE + 0xff0 - 8 + disp);
}

static void test_far_displacement(void **state)
{
	faults_at(*state, INT32_MIN);
}

static void test_far_up(void **state)
{
	struct rig *r = *state;

	/* pop rax; mov rcx, [rsp + 0x7fffffff] */
	PUT(r, PAGE, 0x58, 0x48, 0x8b, 0x8c, 0x24, LE32(INT32_MAX));
	r->v->gpr[REG_RSP] = PLACE + 0xf00;
	rig_run(r, PLACE);
	assert_int_equal(r->v->cr2, PLACE + 0xf00 + 8 + INT32_MAX);
}

/* mov ecx, @index; (movsxd rcx, ecx;) mov rax, [rbx + rcx * 8 + @disp]: no page is there. */
static void index_faults_at(struct rig *r, uint32_t index, bool extend, int32_t disp)
{
	uint64_t value = extend ? (uint64_t)(int32_t)index : index;

	PUT(r, PAGE, 0xb9, LE32(index), 0x48, extend ? 0x63 : 0x8b, extend ? 0xc9 : 0xc0,
	    0x48, 0x8b, 0x84, 0xcb, LE32(disp));
	r->v->gpr[REG_RBX] = PLACE;
	r->v->gpr[REG_RSP] = PLACE + 0xff0;
	rig_run(r, PLACE);
	assert_int_equal(r->v->cr2, PLACE + 8 * value + disp);
}

static void test_narrow_index(void **state)
{
	index_faults_at(*state, UINT32_MAX, false, INT32_MAX);
	index_faults_at(*state, UINT32_MAX, false, INT32_MIN);
	index_faults_at(*state, INT32_MAX, true, INT32_MAX);
	index_faults_at(*state, BIT(31), true, INT32_MIN);
}

/* As an index whose other register is the pointer. */
static void test_narrow_base(void **state)
{
	struct rig *r = *state;

	/* mov edx, 0x20; mov rax, [rdx + rbx]; mov edx, -1; mov rax, [rdx + rbx] */
	PUT(r, PAGE, 0xba, LE32(0x20), 0x48, 0x8b, 0x04, 0x1a, 0xba, LE32(-1), 0x48, 0x8b, 0x04, 0x1a);
	PUT(r, PAGE + 0x20, 1, 2, 3, 4, 5, 6, 7, 8);
	r->v->gpr[REG_RBX] = PLACE;
	rig_run(r, PLACE);
	assert_int_equal(r->v->gpr[REG_RAX], 0x0807060504030201);
	assert_int_equal(r->v->cr2, PLACE + UINT32_MAX);
}

/* Behind the instruction that makes the index narrow the block is not entered with another one. */
static void test_narrow_entered(void **state)
{
	struct rig *r = *state;

	/* mov ecx, 8; l: mov rax, [rbx + rcx]; mov rcx, rdx; jmp l */
	PUT(r, PAGE, 0xb9, LE32(8), 0x48, 0x8b, 0x04, 0x0b, 0x48, 0x89, 0xd1, 0xeb, 0xf7);
	r->v->gpr[REG_RBX] = PLACE;
	r->v->gpr[REG_RDX] = -BIT(44);
	rig_run(r, PLACE);
	assert_int_equal(r->v->cr2, PLACE - BIT(44));
}

/* What the check lets pass leads out of user space with the other window's constant. */
static void leads_out(const struct window_set *w)
{
	const gva_t first_high = 84ULL << WINDOW_TIB_BIT;

	assert_false(window_covers(first_high - 1));
	assert_true(window_covers(first_high));
	assert_true(first_high + w->low - WINDOW_GUARD >= 1ULL << 47);
	assert_true((int64_t)(WINDOW_LOW_END + w->high + WINDOW_GUARD) < 0);
	assert_int_equal(w->low % WINDOW_GUARD, 0);
}

/* Where @w shows the @i-th range of guest addresses. */
static void shown(const struct window_set *w, unsigned int i, uint64_t *start, uint64_t *end)
{
	static const uint64_t tib[][2] = { { 0, 2 }, { 84, 88 }, { 126, 128 } };
	uint64_t constant = i ? w->high : w->low;

	*start = (tib[i][0] << WINDOW_TIB_BIT) + constant;
	*end = (tib[i][1] << WINDOW_TIB_BIT) + constant;
}

/* With its own constant it leads nowhere near another set. */
static void test_constants(void **state)
{
	const struct tlb_window *w = &((struct rig *)*state)->v->tlb.window;
	uint64_t start[2], end[2];

	assert_true(w->sets > 1);
	for (unsigned int n = 0; n < w->sets * 3; n++) {
		leads_out(&w->set[n / 3]);
		shown(&w->set[n / 3], n % 3, &start[0], &end[0]);
		for (unsigned int m = 0; m < n; m++) {
			shown(&w->set[m / 3], m % 3, &start[1], &end[1]);
			assert_true(start[0] >= end[1] + WINDOW_GUARD || start[1] >= end[0] + WINDOW_GUARD);
		}
	}
}

/* Can the host read in the window with @constant what the guest has at @gva? */
static bool is_mapped_at(uint64_t constant, gva_t gva)
{
	int fd[2];
	bool mapped;

	assert_int_equal(pipe(fd), 0);
	mapped = write(fd[1], (void *)(gva + constant), 1) == 1;
	close(fd[0]);
	close(fd[1]);
	return mapped;
}

/* In that of the space that ran last? */
static bool is_mapped(const struct rig *r, gva_t gva)
{
	return is_mapped_at(r->v->tlb.window.high, gva);
}

/* What is dropped of a space goes from its own windows, though another one runs. */
static void test_drop_elsewhere(void **state)
{
	struct rig *r = *state;
	uint64_t high[2];

	two_spaces(r);
	for (unsigned int i = 0; i < 2; i++) {
		turn(r, i ? ROOT_2 : RIG_TABLES, 1 + i);
		high[i] = r->v->tlb.window.high;
		assert_true(is_mapped_at(high[i], PLACE));
	}
	assert_true(high[0] != high[1]);
	tlb_invpcid(r->v, 0, 1, PLACE);
	assert_false(is_mapped_at(high[0], PLACE));
	assert_true(is_mapped_at(high[1], PLACE));
	turn(r, RIG_TABLES, 1);
	assert_true(is_mapped_at(high[0], PLACE));
	tlb_invpcid(r->v, 1, 2, 0);
	assert_true(is_mapped_at(high[0], PLACE));
	assert_false(is_mapped_at(high[1], PLACE));
}

/* A space that is filled from other tables is another program, which has not shown yet that it needs windows. */
static void test_new_program(void **state)
{
	struct rig *r = *state;
	const struct window_set *set;

	two_spaces(r);
	turn(r, RIG_TABLES, 1);
	set = r->v->tlb.window.now;
	assert_non_null(set);
	r->v->cr3 = RIG_TABLES | 1;
	tlb_switch_space(r->v, false);
	assert_ptr_equal(r->v->tlb.window.now, set);
	r->v->cr3 = ROOT_2 | 1;
	tlb_switch_space(r->v, false);
	assert_null(r->v->tlb.window.now);
	assert_null(set->owner);
}

static void test_expected(void **state)
{
	struct rig *r = *state;
	uint64_t *pte = (uint64_t *)(r->ram + TABLES) + 1024 + (PLACE >> 12 & 511) + 1;

	PUT(r, PAGE, 0xeb, 0xfe);
	stops(r);
	r->v->tlb.window.expected = PLACE + 0x1234;
	stops(r);	/* nothing is there, and nobody is told */
	assert_false(is_mapped(r, PLACE + 0x1000));
	assert_int_equal(r->v->rip, PLACE);
	*pte = (PAGE + 0x1000) | PTE_P | PTE_W | PTE_U;
	r->v->tlb.window.expected = PLACE + 0x1234;
	stops(r);
	assert_true(is_mapped(r, PLACE + 0x1000));
	assert_int_equal(r->v->tlb.window.expected, 0);
	assert_true(*pte & PTE_A);
}

#define DATA	(PLACE + 0x1000)	/* a page, behind which there is none */
#define FILL	0x1122334455667788

static void string_run(struct rig *r, uint64_t count, gva_t to)
{
	r->v->gpr[REG_RCX] = count;
	r->v->gpr[REG_RSI] = DATA + 0x10;
	r->v->gpr[REG_RDI] = to;
	r->v->gpr[REG_RAX] = FILL;
	r->v->gpr[REG_RSP] = PLACE + 0xff0;
}

/* The instruction fills the 0x80 bytes at the end of the page, then faults. */
static void stops_at_end(struct rig *r, const uint8_t insn[3], unsigned int size, bool moves)
{
	const gva_t to = DATA + 0xf80;
	uint8_t *data = r->ram + PAGE + 0x1000;
	const unsigned int done = 0x80 / size;

	((uint64_t *)(r->ram + TABLES))[1024 + (PLACE >> 12 & 511) + 1] =
		(PAGE + 0x1000) | PTE_P | PTE_W | PTE_U;
	for (unsigned int i = 0; i < 0x1000; i++)
		data[i] = i / 7;
	PUT(r, PAGE, insn[0], insn[1], insn[2], 0x0f, 0x0b);
	for (int i = 0; i < 3; i++) {	/* it is translated, and has the page */
		string_run(r, 4, to);
		assert_int_equal(rig_run(r, PLACE), EXC_UD);
	}
	assert_true(is_mapped(r, DATA));
	string_run(r, 0x200, to);
	assert_int_equal(rig_run(r, PLACE), EXC_PF);
	assert_int_equal(r->v->cr2, DATA + 0x1000);
	assert_int_equal(r->v->gpr[REG_RCX], 0x200 - done);
	assert_int_equal(r->v->gpr[REG_RDI], to + 0x80);
	assert_int_equal(r->v->gpr[REG_RSI], DATA + 0x10 + (moves ? 0x80 : 0));
	for (unsigned int i = 0; i < 0x80; i++)
		assert_int_equal(data[0xf80 + i],
				 moves ? data[0x10 + i] : (uint8_t)(FILL >> 8 * (i % size)));
}

static void test_string_part(void **state)
{
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0xaa, 0x90 }, 1, false);
	stops_at_end(*state, (uint8_t[]){ 0x66, 0xf3, 0xab }, 2, false);
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0xab, 0x90 }, 4, false);
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0x48, 0xab }, 8, false);
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0xa4, 0x90 }, 1, true);
	stops_at_end(*state, (uint8_t[]){ 0x66, 0xf3, 0xa5 }, 2, true);
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0xa5, 0x90 }, 4, true);
	stops_at_end(*state, (uint8_t[]){ 0xf3, 0x48, 0xa5 }, 8, true);
}

/* Addresses in no window, in none at all, and a run that is too long to be done at once. */
static void test_string_elsewhere(void **state)
{
	struct rig *r = *state;

	stops_at_end(r, (uint8_t[]){ 0xf3, 0xa4, 0x90 }, 1, true);
	string_run(r, 1, 0x8000000000000);
	assert_int_equal(rig_run(r, PLACE), EXC_GP);
	assert_int_equal(r->v->gpr[REG_RCX], 1);
	string_run(r, 1, 0x500000000000);
	assert_int_equal(rig_run(r, PLACE), EXC_PF);
	assert_int_equal(r->v->cr2, 0x500000000000);
	string_run(r, STRING_RUN_MAX, DATA + 0xf80);
	assert_int_equal(rig_run(r, PLACE), EXC_PF);
	assert_int_equal(r->v->gpr[REG_RCX], STRING_RUN_MAX - 0x80);
}

#define W(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		W(test_stop_jmp), W(test_stop_jno), W(test_stop_jnb), W(test_stop_jnz_missed),
		W(test_stop_no_counter), W(test_stop_counted_again),
		W(test_stop_nested), W(test_stop_nested_missed), W(test_far_displacement),
		W(test_far_up), W(test_narrow_index), W(test_narrow_base), W(test_narrow_entered),
		W(test_constants), W(test_drop_elsewhere), W(test_new_program), W(test_expected),
		cmocka_unit_test_setup_teardown(test_turns, setup_auto, teardown),
		cmocka_unit_test_setup_teardown(test_turns_of_one_set, setup_auto, teardown),
		W(test_string_part), W(test_string_elsewhere),
	};

	return cmocka_run_group_tests_name("soft_window", tests, NULL, NULL);
}
