// SPDX-License-Identifier: Apache-2.0
/*
 * Translations that move along: one program of two pages in user mode, mapped at other
 * addresses each time, as processes have their libraries.  What it computes depends on where
 * it is: addresses relative to RIP, return addresses, an instruction across both pages.
 */
#include "soft_rig.h"
#include "unit.h"

#include <unistd.h>

#define PROGRAM		0x300000	/* its two pages; a third one is used in one test */
#define TABLES		0x200000	/* three pages */
#define AT_REST_US	4000		/* longer than translations are left alone */

static const gva_t places[] = {
	0x7f1234567000, 0x55aaaaaab000, 0x7f6543210000, 0x123456789000, 0x7e8888888000,
};

/*
 * start: mov ecx, 50; 1: call f; call far_away; dec ecx; jnz 1b; lea r8, [rip + start];
 *	jmp crossing
 * f:	add rax, [rip + data]; mov rdx, [rsp]; ret
 */
static const uint8_t first_page[] = {
	0xb9, 0x32, 0, 0, 0, 0xe8, 0x15, 0, 0, 0, 0xe8, 0, 0x10, 0, 0, 0xff, 0xc9, 0x75, 0xf2,
	0x4c, 0x8d, 0x05, 0xe6, 0xff, 0xff, 0xff, 0xe9, 0xde, 0x0f, 0, 0,
	0x48, 0x03, 0x05, 0xda, 0x1e, 0, 0, 0x48, 0x8b, 0x14, 0x24, 0xc3,
};
#define CROSSING	0xffd

/*
 * crossing: mov esi, 0x12345678 (from 0xffd on); lea r9, [rip]; syscall
 * far_away: (at 0x100f) lea rbx, [rip + data]; add rax, [rbx]; ret
 */
static const uint8_t second_part[] = {
	0xbe, 0x78, 0x56, 0x34, 0x12, 0x4c, 0x8d, 0x0d, 0, 0, 0, 0, 0x0f, 0x05,
	0x90, 0x90, 0x90, 0x90,
	0x48, 0x8d, 0x1d, 0xea, 0x0e, 0, 0, 0x48, 0x03, 0x03, 0xc3,
};
#define DATA		0x1f00

static void put_program(struct rig *r)
{
	rig_code(r, PROGRAM, first_page, sizeof(first_page));
	rig_code(r, PROGRAM + CROSSING, second_part, sizeof(second_part));
	rig_code(r, PROGRAM + DATA, &(uint64_t){ 3 }, 8);
}

/* Two pages and a stack behind them, for user mode. */
static void map_place(struct rig *r, gva_t gva)
{
	const gpa_t t = TABLES;
	uint64_t *table = (uint64_t *)(r->ram + t), all = PTE_P | PTE_W | PTE_U;

	((uint64_t *)(r->ram + RIG_TABLES))[gva >> 39] = t | all;
	table[gva >> 30 & 511] = (t + 0x1000) | all;
	table[512 + (gva >> 21 & 511)] = (t + 0x2000) | all;
	for (unsigned int k = 0; k < 3; k++)
		table[1024 + (gva >> 12 & 511) + k] = (PROGRAM + 0x1000 * k) | all;
}

static void *make(enum window_choice windows)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 1 << 20,
		.windows = windows });

	put_program(r);
	rig_code(r, RIG_CODE, &(uint8_t){ 0xf4 }, 1);
	r->v->lstar = RIG_CODE;
	r->v->star = 8ULL << 32 | 16ULL << 48;
	return r;
}

static int setup_tables(void **state)
{
	*state = make(WINDOWS_OFF);
	return 0;
}

static int setup_windows(void **state)
{
	*state = make(WINDOWS_ALWAYS);
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static void count_moved(void *arg, const char *name, uint64_t value)
{
	if (!strcmp(name, "translator: blocks moved"))
		*(uint64_t *)arg = value;
}

static uint64_t moved(struct rig *r)
{
	uint64_t n = 0;

	engine_soft.counters(r->engine, r->v, count_moved, &n);
	return n;
}

static void user_mode(struct vcpu *v)
{
	v->seg[SEG_CS] = (struct segment){ .sel = 0x23, .attr = 0x20fb, .limit = ~0U };
	v->seg[SEG_SS] = (struct segment){ .sel = 0x1b, .attr = 0xc0f3, .limit = ~0U };
	vcpu_update_mode(v);
}

/* Another process, as far as the TLB is concerned, which has the program at @gva alone. */
static void become(struct rig *r, gva_t gva)
{
	memset(r->ram + RIG_TABLES + 8, 0, 0x1000 - 8);
	memset(r->ram + TABLES, 0, 0x3000);
	map_place(r, gva);
	user_mode(r->v);
	tlb_switch_space(r->v, false);
}

/* Runs it there, @data being what it adds a hundred times. */
static void run_at(struct rig *r, gva_t gva, uint64_t data)
{
	struct vcpu *v = r->v;

	become(r, gva);
	for (unsigned int turn = 0; turn < 3; turn++) {
		v->gpr[REG_RAX] = v->gpr[REG_RBX] = v->gpr[REG_RSI] = v->gpr[REG_R8] = v->gpr[REG_R9] = 0;
		v->gpr[REG_RSP] = gva + 0x2ff0;
		assert_int_equal(rig_run(r, gva), -1);
		assert_int_equal(v->rip, RIG_CODE + 1);
		assert_int_equal(v->gpr[REG_RAX], 100 * data);
		assert_int_equal(v->gpr[REG_RBX], gva + DATA);
		assert_int_equal(v->gpr[REG_RCX], gva + CROSSING + 14);
		assert_int_equal(v->gpr[REG_RDX], gva + 10);
		assert_int_equal(v->gpr[REG_RSI], 0x12345678);
		assert_int_equal(v->gpr[REG_R8], gva);
		assert_int_equal(v->gpr[REG_R9], gva + CROSSING + 12);
		user_mode(v);
	}
}

static void test_moves(void **state)
{
	struct rig *r = *state;
	uint64_t before = 0;

	for (unsigned int k = 0; k < 20; k++) {
		usleep(AT_REST_US);
		run_at(r, places[k % 3], 3);
		if (k)
			assert_true(moved(r) > before);
		before = moved(r);
	}
}

/* In turn, faster than they move: each has its own in the end. */
static void test_turns(void **state)
{
	struct rig *r = *state;

	for (unsigned int k = 0; k < 2000; k++)
		run_at(r, places[k % ARRAY_SIZE(places)], 3);
}

/* At more places than have translations at a time, those that move and those that don't. */
static void test_many_places(void **state)
{
	struct rig *r = *state;

	for (gva_t k = 1; k < 255; k++) {
		run_at(r, 0x7f0000000000 + (k << 21), 3);
		run_at(r, k << 39, 3);	/* most of them in no window */
	}
	usleep(AT_REST_US);
	run_at(r, places[0], 3);
}

/* The program changes at its new place, and so it has at the old one. */
static void test_changes(void **state)
{
	struct rig *r = *state;
	const uint64_t other = 5;

	for (unsigned int k = 0; k < 10; k++) {
		usleep(k & 1 ? AT_REST_US : 0);
		run_at(r, places[k % 3], 3);
		gpa_write(&r->space, PROGRAM + DATA, &other, 8);
		run_at(r, places[k % 3], 5);
		usleep(k & 1 ? 0 : AT_REST_US);
		run_at(r, places[(k + 1) % 3], 5);
		/* mov esi, another constant, in both pages; and back */
		gpa_write(&r->space, PROGRAM + CROSSING + 1, "\x79\x56\x34\x13", 4);
		become(r, places[k % 3]);
		r->v->gpr[REG_RSP] = places[k % 3] + 0x2ff0;
		assert_int_equal(rig_run(r, places[k % 3]), -1);
		assert_int_equal(r->v->gpr[REG_RSI], 0x13345679);
		put_program(r);
	}
}

/* The second page is another one at the second place: its bytes count. */
static void test_other_second_page(void **state)
{
	struct rig *r = *state;
	uint8_t *third = r->ram + PROGRAM + 0x3000;

	memcpy(third, r->ram + PROGRAM + 0x1000, 0x1000);
	third[1] = 0x99;	/* of the constant's last two bytes */
	for (unsigned int k = 0; k < 100; k++) {
		uint64_t *entry = (uint64_t *)(r->ram + TABLES + 0x2000) + (places[1] >> 12 & 511) + 1;

		run_at(r, places[0], 3);
		usleep(k < 20 ? AT_REST_US : 0);
		become(r, places[1]);
		*entry += 0x2000;
		for (unsigned int turn = 0; turn < 3; turn++) {
			user_mode(r->v);
			r->v->gpr[REG_RSP] = places[1] + 0x2ff0;
			assert_int_equal(rig_run(r, places[1]), -1);
			assert_int_equal(r->v->gpr[REG_RSI], 0x99345678);
			assert_int_equal(r->v->gpr[REG_R8], places[1]);
		}
	}
}

#define MOVED(f) cmocka_unit_test_setup_teardown(f, setup_tables, teardown)
#define W(f) { #f " with windows", f, setup_windows, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		MOVED(test_moves), MOVED(test_turns), MOVED(test_changes),
		MOVED(test_other_second_page), MOVED(test_many_places),
		W(test_moves), W(test_turns), W(test_changes), W(test_other_second_page), W(test_many_places),
	};

	return cmocka_run_group_tests_name("soft_move", tests, NULL, NULL);
}
