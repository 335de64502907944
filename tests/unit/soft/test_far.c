// SPDX-License-Identifier: Apache-2.0
/*
 * Jumps from page to page of user code, which are chained for good: where they lead is to depend
 * on what is mapped there now, whatever was when they were chained.  A kernel beside the program
 * maps its second page anew, switches address spaces, or stops it.
 */
#include "soft_rig.h"
#include "unit.h"

#include <pthread.h>
#include <unistd.h>

#define PLACE		0x7f1234567000	/* the program's two pages, then its stack */
#define PROGRAM		0x380000	/* where these are in memory, */
#define OTHER		0x390000	/* another second page, */
#define STACK		0x3a0000
#define LONG_PLACE	0x7e0000000000	/* a long program */
#define LONG_PROGRAM	0x200000
#define LONG_PAGES	256
#define TABLES(space)	(0x100000 + (space) * 0x3000)	/* one behind the other from the second level on */
#define LONG_TABLES	0x110000
#define PML4_2		0x120000
#define UPPER		0xffffff8000000000	/* where the kernel sees memory, too */
#define ALL		(PTE_P | PTE_W | PTE_U)
#define TURNS		1000
#define MANY		64		/* functions that are called one after the other */
#define F_ONLY		0x40		/* in the program: what runs only f, */
#define CALLS		0x80		/* all functions, */
#define CIRCLE		0x60		/* and for ever */

/* The second page: the end of what crosses into it, with @high; f: add rax, @value; ret */
static void put_second(struct rig *r, gpa_t at, uint8_t value, uint8_t high)
{
	PUT(r, at, 0x12, high, 0xc3);
	PUT(r, at + 0x10, 0x48, 0x05, LE32(value), 0xc3);
	PUT(r, at + CIRCLE, 0xe9, LE32(-0x1005));
	for (unsigned int k = 0; k < MANY; k++)
		PUT(r, at + 0x100 + 16 * k, 0x48, 0x05, LE32(value), 0xc3);
}

/*
 * call f; call crossing; add r12, rdx; syscall; jmp to the beginning
 * crossing, from 3 bytes before the page's end on: mov edx, 0x..123456; ret
 */
static void put_program(struct rig *r)
{
	PUT(r, PROGRAM, 0xe8, LE32(0x1010 - 5), 0xe8, LE32(0xffd - 10), 0x49, 0x01, 0xd4, 0x0f, 0x05,
	    0xeb, 0xef);
	PUT(r, PROGRAM + F_ONLY, 0xe8, LE32(0x1010 - F_ONLY - 5), 0x0f, 0x05);
	PUT(r, PROGRAM + CIRCLE, 0xe9, LE32(0x1000 - 5));
	for (unsigned int k = 0; k < MANY; k++)
		PUT(r, PROGRAM + CALLS + 5 * k, 0xe8, LE32(0x1100 + 16 * k - CALLS - 5 * k - 5));
	PUT(r, PROGRAM + CALLS + 5 * MANY, 0x0f, 0x05);
	PUT(r, PROGRAM + 0xffd, 0xba, 0x56, 0x34);
	put_second(r, PROGRAM + 0x1000, 1, 0xaa);
	put_second(r, OTHER, 100, 0xbb);
}

/* The entries for @gva on, in tables at @t. */
static uint64_t *map_tables(struct rig *r, gpa_t pml4, gpa_t t, gva_t gva)
{
	uint64_t *table = (uint64_t *)(r->ram + t);

	((uint64_t *)(r->ram + pml4))[gva >> 39] = t | ALL;
	table[gva >> 30 & 511] = (t + 0x1000) | ALL;
	table[512 + (gva >> 21 & 511)] = (t + 0x2000) | ALL;
	return table + 1024 + (gva >> 12 & 511);
}

/* Returns the second page's entry. */
static uint64_t *map_program(struct rig *r, gpa_t pml4, gpa_t tables, gpa_t second)
{
	uint64_t *entry = map_tables(r, pml4, tables, PLACE);

	entry[0] = PROGRAM | ALL;
	entry[1] = second | ALL;
	entry[2] = STACK | ALL;
	return entry + 1;
}

static struct rig *make(enum window_choice windows, uint32_t no)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 2 << 20,
		.windows = windows, .translator_no = no });
	uint64_t *pml4 = (uint64_t *)(r->ram + RIG_TABLES);

	put_program(r);
	pml4[511] = pml4[0];
	memcpy(r->ram + PML4_2, pml4, 0x1000);
	map_program(r, RIG_TABLES, TABLES(0), PROGRAM + 0x1000);
	map_program(r, PML4_2, TABLES(1), OTHER);
	PUT(r, RIG_CODE, 0xf4);
	r->v->lstar = UPPER + RIG_CODE;
	r->v->star = 8ULL << 32 | 16ULL << 48;
	r->v->sfmask = RFLAGS_ARITH | RFLAGS_AC;
	return r;
}

static int setup_tables(void **state)
{
	*state = make(WINDOWS_OFF, 0);
	return 0;
}

static int setup_windows(void **state)
{
	*state = make(WINDOWS_ALWAYS, 0);
	return 0;
}

static int setup_no_cache(void **state)
{
	*state = make(WINDOWS_OFF, BIT(TRANSLATOR_OPT_CACHE));
	return 0;
}

static int setup_no_far(void **state)
{
	*state = make(WINDOWS_OFF, BIT(TRANSLATOR_OPT_FAR));
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

struct wanted {
	const char *name;
	uint64_t value;
};

static void match(void *arg, const char *name, uint64_t value)
{
	struct wanted *w = arg;

	if (!strcmp(name, w->name))
		w->value = value;
}

static uint64_t count_of(struct rig *r, const char *name)
{
	struct wanted w = { .name = name };

	engine_soft.counters(r->engine, r->v, match, &w);
	return w.value;
}

/* What f and crossing add up to until the kernel halts. */
static void run_program(struct rig *r, gva_t rip, uint64_t f, uint64_t crossing)
{
	struct vcpu *v = r->v;

	v->seg[SEG_CS] = (struct segment){ .sel = 0x23, .attr = 0x20fb, .limit = ~0U };
	v->seg[SEG_SS] = (struct segment){ .sel = 0x1b, .attr = 0xc0f3, .limit = ~0U };
	vcpu_update_mode(v);
	v->gpr[REG_RSP] = PLACE + 0x2ff0;
	v->gpr[REG_RAX] = v->gpr[12] = 0;
	assert_int_equal(rig_run(r, rip), -1);
	assert_int_equal(v->gpr[REG_RAX], f);
	assert_int_equal(v->gpr[12], crossing);
}

/* Until all that can be is chained. */
static void run_translated(struct rig *r, gva_t rip, uint64_t f, uint64_t crossing)
{
	for (unsigned int k = 0; k < 4; k++)
		run_program(r, rip, f, crossing);
}

/*
 * With a kernel that does @change with rdi and rsi in turn (dec rbx; jz 1f; @change;
 * xchg rdi, rsi; sysretq; 1: hlt) the second pages run in turn, too.
 */
static void run_in_turn(struct rig *r, const uint8_t *change, unsigned int len, uint64_t rdi,
			uint64_t rsi)
{
	struct vcpu *v = r->v;

	PUT(r, RIG_CODE, 0x48, 0xff, 0xcb, 0x74, len + 6);
	rig_code(r, RIG_CODE + 5, change, len);
	PUT(r, RIG_CODE + 5 + len, 0x48, 0x87, 0xfe, 0x48, 0x0f, 0x07, 0xf4);
	for (unsigned int k = 0; k < 3; k++) {
		tlb_switch_space(v, false);
		v->gpr[REG_RBX] = TURNS;
		v->gpr[REG_RDI] = rdi;
		v->gpr[REG_RSI] = rsi;
		run_program(r, PLACE, TURNS / 2 * 101, TURNS / 2 * (0xaa123456ULL + 0xbb123456ULL));
		/* The last turn left it at the other page. */
		v->cr3 = RIG_TABLES | (v->cr4 & CR4_PCIDE ? 1 : 0);
		map_program(r, RIG_TABLES, TABLES(0), PROGRAM + 0x1000);
	}
}

/* mov [r8], rdi; invlpg [r9] */
static void test_invlpg(void **state)
{
	struct rig *r = *state;
	uint64_t *entry = map_program(r, RIG_TABLES, TABLES(0), PROGRAM + 0x1000);

	r->v->gpr[8] = UPPER + ((uint8_t *)entry - r->ram);
	r->v->gpr[9] = PLACE + 0x1000;
	run_in_turn(r, CODE(0x49, 0x89, 0x38, 0x41, 0x0f, 0x01, 0x39), 7, OTHER | ALL,
		    (PROGRAM + 0x1000) | ALL);
}

/* mov cr3, rdi: what was known is flushed. */
static void test_cr3(void **state)
{
	run_in_turn(*state, CODE(0x0f, 0x22, 0xdf), 3, PML4_2, RIG_TABLES);
}

/* Both spaces stay known. */
static void test_pcid(void **state)
{
	struct rig *r = *state;

	r->v->cr4 |= CR4_PCIDE;
	r->v->cr3 = RIG_TABLES | 1;
	run_in_turn(r, CODE(0x0f, 0x22, 0xdf), 3, BIT(63) | PML4_2 | 2, BIT(63) | RIG_TABLES | 1);
}

static void invalidate(struct rig *r)
{
	tlb_flush_page(r->v, PLACE + 0x1000);
}

/*
 * The numbers of address spaces begin again some times: what was right for one of them is not
 * for the next one with its number.
 */
static void test_numbers_used_up(void **state)
{
	struct rig *r = *state;
	uint64_t *entry = map_program(r, RIG_TABLES, TABLES(0), PROGRAM + 0x1000);

	r->v->gpr[REG_RBX] = 1;
	run_translated(r, PLACE + F_ONLY, 1, 0);
	*entry = OTHER | ALL;
	for (unsigned int k = 0; k < 35000; k++) {
		invalidate(r);
		run_program(r, PLACE + F_ONLY, 100, 0);
	}
}

/* The same for what crosses, @distance address spaces and the following ones later. */
static void cross_after(unsigned int distance)
{
	struct rig *r = make(WINDOWS_OFF, 0);
	uint64_t *entry = map_program(r, RIG_TABLES, TABLES(0), PROGRAM + 0x1000);

	r->v->gpr[REG_RBX] = 1;
	run_translated(r, PLACE, 1, 0xaa123456);
	*entry = OTHER | ALL;
	for (unsigned int k = 0; k < distance; k++) {
		invalidate(r);
		run_program(r, PLACE + F_ONLY, 100, 0);
	}
	for (unsigned int k = 0; k < 30; k++) {		/* then it is made anew */
		invalidate(r);
		run_program(r, PLACE, 100, 0xbb123456);
	}
	rig_destroy(r);
}

static void test_numbers_of_crossing(void **state)
{
	(void)state;
	/* There are 65520 numbers, and a new space takes two. */
	for (unsigned int distance = 32700; distance < 32800; distance += 25)
		cross_after(distance);
}

/* A space that is new to what was chained asks for a page, not for each function. */
static void test_asks_once(void **state)
{
	static const char name[] = "translator: exits, indirect jump not known";
	struct rig *r = *state;
	uint64_t before;

	run_translated(r, PLACE + CALLS, MANY, 0);
	for (unsigned int k = 0; k < 100; k++) {
		tlb_flush_all(r->v);
		before = count_of(r, name);
		run_program(r, PLACE + CALLS, MANY, 0);
		assert_true(count_of(r, name) - before < MANY / 4);
	}
}

/* The pages are rewritten in between, and not where it matters. */
static void test_rewritten(void **state)
{
	struct rig *r = *state;

	for (unsigned int k = 0; k < 500; k++) {
		const uint8_t value = k & 63;

		run_program(r, PLACE + F_ONLY, k ? (k - 1) & 63 : 1, 0);
		gpa_write(&r->space, PROGRAM + 0x1012, &value, 1);
		run_program(r, PLACE + F_ONLY, value, 0);
		run_program(r, PLACE + CALLS, MANY, 0);
	}
}

/* Code that does not fit: what was chained goes, a part of the code cache at a time. */
static void test_evicted(void **state)
{
	uint64_t *entry = map_tables(*state, RIG_TABLES, LONG_TABLES, LONG_PLACE);
	struct rig *r = *state;

	for (unsigned int k = 0; k < LONG_PAGES; k++) {
		gpa_t at = LONG_PROGRAM + 0x1000 * k;

		entry[k] = at | ALL;
		for (unsigned int n = 0; n < 1000; n++)		/* add rax, 1 */
			PUT(r, at + 4 * n, 0x48, 0x83, 0xc0, 0x01);
		PUT(r, at + 4000, 0xe9, LE32(0x1000 - 4005));
	}
	PUT(r, LONG_PROGRAM + 0x1000 * (LONG_PAGES - 1) + 4000, 0x0f, 0x05);
	tlb_switch_space(r->v, false);
	for (unsigned int k = 0; k < 8; k++) {
		run_program(r, LONG_PLACE, 1000 * LONG_PAGES, 0);
		run_program(r, PLACE + CALLS, MANY, 0);
	}
	assert_true(count_of(r, "translator: parts of the code cache emptied") > 3);
}

/* Two pages that jump to each other hear of it. */
static void test_attention(void **state)
{
	struct rig *r = *state;

	for (unsigned int k = 0; k < 10; k++) {
		r->v->seg[SEG_CS] = (struct segment){ .sel = 0x23, .attr = 0x20fb, .limit = ~0U };
		r->v->seg[SEG_SS] = (struct segment){ .sel = 0x1b, .attr = 0xc0f3, .limit = ~0U };
		vcpu_update_mode(r->v);
		assert_int_equal(rig_run_endless(r, PLACE + CIRCLE), VCPU_EXIT_STOP);
	}
}

#define FAR(f) cmocka_unit_test_setup_teardown(f, setup_tables, teardown)
#define W(f) { #f " with windows", f, setup_windows, teardown, NULL }
#define NO_CACHE(f) { #f " without the jump cache", f, setup_no_cache, teardown, NULL }
#define NO_FAR(f) { #f " by the jump cache", f, setup_no_far, teardown, NULL }

int main(void)
{
	const struct CMUnitTest tests[] = {
		FAR(test_invlpg), FAR(test_cr3), FAR(test_pcid), FAR(test_numbers_used_up),
		cmocka_unit_test(test_numbers_of_crossing), FAR(test_asks_once), FAR(test_rewritten),
		FAR(test_evicted), FAR(test_attention),
		W(test_invlpg), W(test_cr3), W(test_pcid), W(test_numbers_used_up), W(test_asks_once),
		W(test_rewritten), W(test_evicted), W(test_attention),
		NO_CACHE(test_invlpg), NO_CACHE(test_pcid), NO_CACHE(test_asks_once),
		NO_CACHE(test_attention),
		NO_FAR(test_invlpg), NO_FAR(test_pcid), NO_FAR(test_numbers_used_up),
		NO_FAR(test_rewritten), NO_FAR(test_evicted),
		NO_FAR(test_attention),
	};

	return cmocka_run_group_tests_name("soft_far", tests, NULL, NULL);
}
