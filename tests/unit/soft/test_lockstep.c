// SPDX-License-Identifier: Apache-2.0
/*
 * Does lockstep see a wrong translation, and name the instruction?  Code is translated and
 * compared; then bytes of what it became are changed behind the translator's back.
 */
#include "soft_rig.h"
#include "unit.h"
#include "engine/soft/dbt_priv.h"
#include "engine/soft/soft_priv.h"

#include <inttypes.h>

#define HLT		0xf4

static int setup(void **state)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 1 << 20,
		.lockstep = LOCKSTEP_ALL });

	r->log.out = NULL;	/* differences are expected here */
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static struct dbt *dbt_of(struct rig *r)
{
	return ((struct soft_vcpu *)r->v->engine)->dbt;
}

/* Replaces the one place in the translation of the code at @gva where @from stands. */
static void corrupt(struct rig *r, gva_t gva, const uint8_t *from, const uint8_t *to, size_t len)
{
	struct dbt *d = dbt_of(r);
	unsigned int found = 0;

	for (unsigned int k = 0; k < d->block_count; k++) {
		const struct tblock *b = d->blocks[k];
		uint8_t *p = d->rw + (b->code - d->rx);

		if (b->gva != gva)
			continue;
		for (size_t off = 0; off + len <= b->code_len; off++)
			if (!memcmp(p + off, from, len)) {
				memcpy(p + off, to, len);
				found++;
			}
	}
	assert_int_equal(found, 1);
}

/* Runs @code without a difference; then with @from made @to at instruction @wrong. */
static void sees(struct rig *r, gva_t wrong, const char *name, const uint8_t *from,
		 const uint8_t *to, size_t len)
{
	char text[64];

	for (int i = 0; i < 3; i++) {
		assert_int_equal(rig_run(r, RIG_CODE), -1);
		assert_int_equal(r->v->err.code, 0);
	}
	assert_true(dbt_get_stats(dbt_of(r))->compared >= 6);
	corrupt(r, RIG_CODE, from, to, len);
	assert_int_equal(trap_init(NULL), 0);
	r->v->rip = RIG_CODE;
	r->v->halted = false;
	assert_int_equal(engine_soft.vcpu_run(r->engine, r->v), VCPU_EXIT_ERROR);
	snprintf(text, sizeof(text), "the instruction at 0x%" PRIx64 " (%s)", wrong, name);
	if (!strstr(r->v->err.text, text))
		fail_msg("'%s' does not say '%s'", r->v->err.text, text);
}

/* mov eax, 5; add eax, 0x12345; mov ebx, eax; hlt */
static void test_names_add(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xb8, LE32(5), 0x05, LE32(0x12345), 0x89, 0xc3, HLT);
	sees(r, RIG_CODE + 5, "add", CODE(0x05, LE32(0x12345)), CODE(0x05, LE32(0x12346)), 5);
	assert_int_equal(r->v->rip, RIG_CODE);
}

/* The first instruction is wrong, and all the following ones carry that on. */
static void test_names_first(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0xb8, LE32(0x71717), 0x01, 0xc0, 0x89, 0xc3, 0x01, 0xd8, HLT);
	sees(r, RIG_CODE, "mov", CODE(0xb8, LE32(0x71717)), CODE(0xb8, LE32(0x71718)), 5);
}

/* Flags alone. */
static void test_names_flags(void **state)
{
	struct rig *r = *state;

	/* xor ebx, ebx; test edx, 0x55aa55aa; mov edi, 1; hlt */
	r->v->gpr[REG_RDX] = 0x55aa55aa;
	PUT(r, RIG_CODE, 0x31, 0xdb, 0xf7, 0xc2, LE32(0x55aa55aa), 0xbf, LE32(1), HLT);
	sees(r, RIG_CODE + 2, "test", CODE(0xf7, 0xc2, LE32(0x55aa55aa)),
	     CODE(0xf7, 0xc2, LE32(0)), 6);
}

/* Memory alone: mov dword [rdi], 0x13572468; inc eax; hlt */
static void test_names_store(void **state)
{
	struct rig *r = *state;

	r->v->gpr[REG_RDI] = RIG_DATA;
	PUT(r, RIG_CODE, 0xc7, 0x07, LE32(0x13572468), 0xff, 0xc0, HLT);
	sees(r, RIG_CODE, "mov", CODE(LE32(0x13572468)), CODE(LE32(0x13572469)), 4);
}

/* SIMD: pshufd xmm1, xmm0, 0x1b; paddd xmm1, xmm1; hlt, with the shuffle's order changed. */
static void test_names_simd(void **state)
{
	struct rig *r = *state;

	memcpy(r->v->xsave + 160, "0123456789abcdef", 16);
	PUT(r, RIG_CODE, 0x66, 0x0f, 0x70, 0xc8, 0x1b, 0x66, 0x0f, 0xfe, 0xc9, HLT);
	sees(r, RIG_CODE, "pshufd", CODE(0x66, 0x0f, 0x70, 0xc8, 0x1b),
	     CODE(0x66, 0x0f, 0x70, 0xc8, 0x1a), 5);
}

/* A branch that goes the wrong way: cmp eax, eax; jz +1; nop; hlt */
static void test_names_branch(void **state)
{
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0x39, 0xc0, 0x0f, 0x84, LE32(3), 0xff, 0xc3, HLT, 0xff, 0xc2, HLT);
	sees(r, RIG_CODE + 2, "jz", CODE(0x0f, 0x84), CODE(0x0f, 0x85), 2);
}

/* Code at CPL 0 is not compared when only that at CPL 3 is to be. */
static void test_user_only(void **state)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 1 << 20,
		.lockstep = LOCKSTEP_USER });

	(void)state;
	PUT(r, RIG_CODE, 0xb8, LE32(5), 0x05, LE32(0x12345), HLT);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(rig_run(r, RIG_CODE), -1);
	assert_int_equal(dbt_get_stats(dbt_of(r))->compared, 0);
	assert_int_equal(r->v->err.code, 0);
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_names_add), T(test_names_first), T(test_names_flags), T(test_names_store),
		T(test_names_simd), T(test_names_branch), cmocka_unit_test(test_user_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
