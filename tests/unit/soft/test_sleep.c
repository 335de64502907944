// SPDX-License-Identifier: Apache-2.0
/*
 * Translations of code that changes: used again when their bytes are what they were, never
 * when they are not; and pages that are filled by stores in a row.
 */
#include "soft_rig.h"
#include "unit.h"

#define HLT	0xf4
#define FUNC	RIG_DATA		/* mov eax, imm32; ret */
#define FILLED	(RIG_DATA + 0x100)	/* in its page */

static void *make(struct engine_config config)
{
	struct rig *r;

	config.translate = TRANSLATOR_ON;
	config.cache_bytes = 1 << 20;
	r = rig_create_config("vireo-v1", &config);
	/*
	 * mov edi, FILLED; mov ecx, 64; 1: mov [rdi], eax; add rdi, 4; dec ecx; jnz 1b;
	 * mov edx, FUNC; mov [rdx + 1], esi; call rdx; hlt
	 */
	PUT(r, RIG_CODE, 0xbf, LE32(FILLED), 0xb9, LE32(64), 0x89, 0x07, 0x48, 0x83, 0xc7, 4,
	    0xff, 0xc9, 0x75, 0xf6, 0xba, LE32(FUNC), 0x89, 0x72, 1, 0xff, 0xd2, HLT);
	/* mov edx, FUNC; mov [rdx + 1], esi; call rdx; hlt */
	PUT(r, RIG_CODE + 0x1000, 0xba, LE32(FUNC), 0x89, 0x72, 1, 0xff, 0xd2, HLT);
	PUT(r, FUNC, 0xb8, LE32(0), 0xc3);
	return r;
}

static int setup(void **state)
{
	*state = make((struct engine_config){ .translate_at = 1 });
	return 0;
}

static int setup_late(void **state)
{
	*state = make((struct engine_config){ .translate_at = 3 });
	return 0;
}

static int setup_lockstep(void **state)
{
	*state = make((struct engine_config){ .translate_at = 1, .lockstep = LOCKSTEP_ALL });
	return 0;
}

static int setup_without(void **state)
{
	*state = make((struct engine_config){ .translate_at = 1,
					      .translator_no = BIT(TRANSLATOR_OPT_AGAIN) });
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static void take_woken(void *arg, const char *name, uint64_t value)
{
	if (!strcmp(name, "translator: blocks right again after a change"))
		*(uint64_t *)arg = value;
}

static uint64_t woken(struct rig *r)
{
	uint64_t count = UINT64_MAX;

	engine_soft.counters(r->engine, r->v, take_woken, &count);
	return count;
}

static void run_with(struct rig *r, gva_t rip, uint32_t value)
{
	r->v->gpr[REG_RSI] = value;
	r->v->gpr[REG_RSP] = RIG_STACK;
	assert_int_equal(rig_run(r, rip), -1);
	assert_int_equal(r->v->gpr[REG_RAX], value);
}

/* The guest changes a constant to and fro, and to what there never was. */
static void test_to_and_fro(void **state)
{
	struct rig *r = *state;

	for (unsigned int n = 0; n < 200; n++)
		run_with(r, RIG_CODE + 0x1000, n % 10 == 9 ? 1000 + n : n % 3);
	assert_true(woken(r) > 50);
}

static void test_never_woken(void **state)
{
	struct rig *r = *state;

	for (unsigned int n = 0; n < 50; n++)
		run_with(r, RIG_CODE + 0x1000, n % 2);
	assert_int_equal(woken(r), 0);
}

/* Others of the page are overwritten from end to end; the function stays, or changes. */
static void test_filled_page(void **state)
{
	struct rig *r = *state;

	for (unsigned int n = 0; n < 100; n++)
		run_with(r, RIG_CODE, n / 5 % 3);
	assert_true(woken(r) > 10);
	for (unsigned int k = 0; k < 64; k++)	/* what was stored is there */
		assert_int_equal(((uint32_t *)(r->ram + FILLED))[k], 99 / 5 % 3);
}

/* Stores that nobody tells the vCPU of before they are done: from outside. */
static void test_from_outside(void **state)
{
	struct rig *r = *state;
	const uint8_t run[] = { 0xba, LE32(FUNC), 0xff, 0xd2, HLT };

	rig_code(r, RIG_CODE, run, sizeof(run));
	for (uint32_t n = 0; n < 100; n++) {
		uint32_t value = n % 4 == 3 ? n : n % 2;

		gpa_write(&r->space, FUNC + 1, &value, 4);
		r->v->gpr[REG_RSP] = RIG_STACK;
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->gpr[REG_RAX], value);
	}
	assert_true(woken(r) > 20);
}

#define WITH(f, s) cmocka_unit_test_setup_teardown(f, s, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_to_and_fro), T(test_filled_page), T(test_from_outside),
		WITH(test_filled_page, setup_late), WITH(test_never_woken, setup_without),
		WITH(test_to_and_fro, setup_lockstep), WITH(test_filled_page, setup_lockstep),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
