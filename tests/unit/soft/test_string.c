// SPDX-License-Identifier: Apache-2.0
/*
 * MOVS and STOS done in line by the translator: what is not in one page, not canonical, not
 * forward, or code itself, must come out as the interpreter has it.  Each case runs three times
 * from the same state, so that it goes through translated code with the tables filled.
 */
#include "soft_rig.h"
#include "unit.h"

#define HLT		0xf4
#define FROM		(RIG_DATA + 0x1000)
#define TO		(RIG_DATA + 0x4000)

/* Pages that follow each other in the guest do not in memory. */
static void exchange(struct rig *r, gva_t gva)
{
	uint64_t was = *rig_pte(r, gva);

	*rig_pte(r, gva) = *rig_pte(r, gva + GUEST_PAGE_SIZE);
	*rig_pte(r, gva + GUEST_PAGE_SIZE) = was;
}

static int start(void **state, const struct engine_config *config)
{
	struct rig *r = rig_create_config("vireo-v1", config);

	exchange(r, FROM + 0x1000);
	exchange(r, TO + 0x1000);
	*state = r;
	return 0;
}

static int setup(void **state)
{
	return start(state, &(struct engine_config){ .translate = true, .translate_at = 1 });
}

static int setup_off(void **state)
{
	return start(state, &(struct engine_config){ 0 });
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static uint8_t *at(struct rig *r, gva_t gva)
{
	return r->ram + (*rig_pte(r, gva) & ~0xfffULL) + (gva & GUEST_PAGE_MASK);
}

static void fill(struct rig *r)
{
	for (unsigned int k = 0; k < 0x3000; k++) {
		*at(r, FROM + k) = k * 7 + (k >> 8);
		*at(r, TO + k) = 0xee;
	}
}

/* Runs the code at RIG_CODE with these registers; DF as in @flags. */
static void run(struct rig *r, uint64_t rsi, uint64_t rdi, uint64_t rcx, uint64_t flags, int vector)
{
	struct vcpu *v = r->v;

	for (unsigned int k = 0; k < 3; k++) {
		fill(r);
		v->rflags = RFLAGS_FIXED | flags;
		v->gpr[REG_RSP] = RIG_STACK;
		v->gpr[REG_RSI] = rsi;
		v->gpr[REG_RDI] = rdi;
		v->gpr[REG_RCX] = rcx;
		v->gpr[REG_RAX] = 0x1122334455667788;
		assert_int_equal(rig_run(r, RIG_CODE), vector);
	}
}

static void moved(struct rig *r, uint64_t from, uint64_t to, unsigned int n)
{
	for (unsigned int k = 0; k < n; k++)
		assert_int_equal(*at(r, from + k), *at(r, to + k));
	assert_int_equal(*at(r, to - 1), 0xee);
	assert_int_equal(*at(r, to + n), 0xee);
}

static uint64_t eight_at(struct rig *r, gva_t gva)
{
	uint64_t value = 0;

	for (unsigned int k = 8; k-- > 0; )
		value = value << 8 | *at(r, gva + k);
	return value;
}

/* Within a page, to its end, over it, of several pages, none. */
static void test_repeated(void **state)
{
	static const struct { unsigned int from, to, count; } cases[] = {
		{ 0x100, 0x200, 5 }, { 0xff0, 0x200, 16 }, { 0xff0, 0x200, 17 }, { 0x20, 0xff1, 15 },
		{ 0x20, 0xff1, 16 }, { 0, 0x1000, 4095 }, { 0, 0x1000, 4096 }, { 0, 0x1000, 4097 }, { 0, 0x800, 8000 },
		{ 0x100, 0x200, 0 }, { 0x100, 0x200, 1 },
	};
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xf3, 0xa4, HLT);	/* rep movsb */
	for (unsigned int k = 0; k < ARRAY_SIZE(cases); k++) {
		run(r, FROM + cases[k].from, TO + cases[k].to, cases[k].count, 0, -1);
		moved(r, FROM + cases[k].from, TO + cases[k].to, cases[k].count);
		assert_int_equal(r->v->gpr[REG_RSI], FROM + cases[k].from + cases[k].count);
		assert_int_equal(r->v->gpr[REG_RDI], TO + cases[k].to + cases[k].count);
		assert_int_equal(r->v->gpr[REG_RCX], 0);
	}
}

static void test_sizes(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xf3, 0x48, 0xa5, HLT);	/* rep movsq */
	run(r, FROM + 8, TO + 0x18, 300, 0, -1);
	moved(r, FROM + 8, TO + 0x18, 2400);
	PUT(r, RIG_CODE, 0xf3, 0x66, 0xab, HLT);	/* rep stosw */
	run(r, FROM, TO + 0x18, 300, 0, -1);
	assert_int_equal(eight_at(r, TO + 0x18 + 592), 0x7788778877887788);
	assert_int_equal(r->v->gpr[REG_RDI], TO + 0x18 + 600);
	assert_int_equal(r->v->gpr[REG_RSI], FROM);
	PUT(r, RIG_CODE, 0xa4, 0x66, 0xa5, 0xa5, 0x48, 0xa5, HLT);	/* movsb; movsw; movsd; movsq */
	run(r, FROM + 3, TO + 0x18, 300, 0, -1);
	moved(r, FROM + 3, TO + 0x18, 15);
	run(r, FROM + 0xffa, TO + 0xff9, 300, 0, -1);
	moved(r, FROM + 0xffa, TO + 0xff9, 15);
	PUT(r, RIG_CODE, 0xaa, 0xab, 0x48, 0xab, HLT);	/* stosb; stosd; stosq */
	run(r, FROM, TO + 0xffa, 300, 0, -1);
	assert_int_equal(eight_at(r, TO + 0xffa), 0x6677885566778888);
	assert_int_equal(r->v->gpr[REG_RDI], TO + 0xffa + 13);
	assert_int_equal(r->v->gpr[REG_RCX], 300);
}

/* DF comes from where CLD and STD put it; operands that overlap repeat a pattern. */
static void test_direction(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xf3, 0xa4, 0xfc, 0xb1, 0x04, 0xf3, 0xa4, HLT);
	/* rep movsb; cld; mov cl, 4; rep movsb */
	run(r, FROM + 0x100, TO + 0x200, 8, RFLAGS_DF, -1);
	assert_int_equal(eight_at(r, FROM + 0xf9) << 40, eight_at(r, TO + 0x1f9) << 40);
	assert_int_equal(r->v->gpr[REG_RSI], FROM + 0x100 - 8 + 4);
	assert_int_equal(r->v->rflags & RFLAGS_DF, 0);
	PUT(r, RIG_CODE, 0xf3, 0xa4, HLT);
	run(r, TO + 0x200, TO + 0x201, 100, 0, -1);
	for (unsigned int k = 0; k <= 100; k++)
		assert_int_equal(*at(r, TO + 0x200 + k), 0xee);
}

/* The tables look at bits 12 to 47 only; nothing has happened when it faults. */
static void test_not_canonical(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xf3, 0xa4, HLT);
	run(r, FROM + 0x100, TO + 0x200, 8, 0, -1);
	run(r, BIT(52) | (FROM + 0x100), TO + 0x200, 8, 0, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RSI], BIT(52) | (FROM + 0x100));
	assert_int_equal(r->v->gpr[REG_RDI], TO + 0x200);
	run(r, FROM + 0x100, BIT(48) | (TO + 0x200), 8, 0, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RCX], 8);
	PUT(r, RIG_CODE, 0xf3, 0x48, 0xab, HLT);
	run(r, 0, BIT(48) | (TO + 0x200), 8, 0, EXC_GP);
	/* Counts whose bytes are few modulo 2^64: to the end of what is mapped. */
	run(r, 0, 0x1ff000, BIT(61) + 1, 0, EXC_PF);
	assert_int_equal(r->v->gpr[REG_RDI], 0x200000);
	assert_int_equal(r->v->gpr[REG_RCX], BIT(61) + 1 - 512);
}

/* It writes the instruction behind itself. */
static void test_code(void **state)
{
	struct rig *r = *state;

	for (unsigned int n = 1; n < 20; n++) {
		/* lea rdi, [rip + 5]; mov ecx, 1 (in run()); mov al, n; rep stosb; mov bl, 0; hlt */
		PUT(r, RIG_CODE, 0x48, 0x8d, 0x3d, 5, 0, 0, 0, 0xb0, n, 0xf3, 0xaa, 0xb3, 0, HLT);
		run(r, 0, 0, 1, 0, -1);
		assert_int_equal(r->v->gpr[REG_RBX] & 0xff, n);
	}
}

#define ALL(start) \
	cmocka_unit_test_setup_teardown(test_repeated, start, teardown), \
	cmocka_unit_test_setup_teardown(test_sizes, start, teardown), \
	cmocka_unit_test_setup_teardown(test_direction, start, teardown), \
	cmocka_unit_test_setup_teardown(test_not_canonical, start, teardown), \
	cmocka_unit_test_setup_teardown(test_code, start, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = { ALL(setup), ALL(setup_off) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
