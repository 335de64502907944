// SPDX-License-Identifier: Apache-2.0
/*
 * Instructions that translated code executes in line: selectors into memory and 16-bit
 * registers, bases of FS and GS of all kinds, bits far from their operand.
 */
#include "engine/soft/dbt_priv.h"
#include "engine/soft/soft_priv.h"
#include "soft_rig.h"
#include "unit.h"

#define LOOPS 50

static int setup(void **state)
{
	struct rig *r = rig_create_config("vireo-v1", &(struct engine_config){
		.translate = TRANSLATOR_ON, .translate_at = 1, .cache_bytes = 1 << 20 });

	r->v->cr4 |= CR4_FSGSBASE;
	vcpu_update_mode(r->v);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	rig_destroy(*state);
	return 0;
}

static uint64_t steps_of(const struct rig *r, unsigned int id)
{
	const struct soft_vcpu *sv = r->v->engine;

	return dbt_get_stats(sv->dbt)->stepped[id];
}

/* @loop, which ends with DEC ECX; JNZ; HLT, LOOPS times; its vector. */
static int run_loop(struct rig *r)
{
	r->v->gpr[REG_RCX] = LOOPS;
	return rig_run(r, RIG_CODE);
}

static void test_selectors(void **state)
{
	struct rig *r = *state;
	uint64_t *data = (uint64_t *)(r->ram + RIG_DATA);

	PUT(r, RIG_CODE, 0x8c, 0x07, 0x66, 0x8c, 0xd8,		/* mov [rdi], es; mov ax, ds */
	    0x66, 0x41, 0x8c, 0xe2,				/* mov r10w, fs */
	    0xff, 0xc9, 0x75, 0xf3, 0xf4);
	r->v->seg[SEG_ES].sel = 0x1234;
	r->v->seg[SEG_DS].sel = 0x5678;
	r->v->seg[SEG_FS].sel = 0x9abc;
	data[0] = ~0ULL;
	r->v->gpr[REG_RDI] = RIG_DATA;
	r->v->gpr[REG_RAX] = r->v->gpr[REG_R10] = ~0ULL;
	assert_int_equal(run_loop(r), -1);
	assert_int_equal(data[0], 0xffffffffffff1234);
	assert_int_equal(r->v->gpr[REG_RAX], 0xffffffffffff5678);
	assert_int_equal(r->v->gpr[REG_R10], 0xffffffffffff9abc);
	assert_true(steps_of(r, INSN_ID_MOV_SEG) < LOOPS);
}

static int write_bases(struct rig *r, uint64_t fs, uint64_t gs)
{
	PUT(r, RIG_CODE, 0xf3, 0x48, 0x0f, 0xae, 0xd6, 0xf3, 0x41, 0x0f, 0xae, 0xda, /* wrfsbase rsi; wrgsbase r10d */
	    0xff, 0xc9, 0x75, 0xf2, 0xf4);
	r->v->gpr[REG_RSI] = fs;
	r->v->gpr[REG_R10] = gs;
	return run_loop(r);
}

static void test_bases(void **state)
{
	struct rig *r = *state;

	assert_int_equal(write_bases(r, 0x7fff12345678, -2ULL), -1);
	assert_int_equal(r->v->seg[SEG_FS].base, 0x7fff12345678);
	assert_int_equal(r->v->seg[SEG_GS].base, 0xfffffffe);
	assert_true(steps_of(r, INSN_ID_WRFSBASE) < LOOPS);
	assert_true(steps_of(r, INSN_ID_WRGSBASE) < LOOPS);
	assert_int_equal(write_bases(r, -8ULL, 1), -1);
	assert_int_equal(r->v->seg[SEG_FS].base, -8ULL);
	assert_int_equal(write_bases(r, 1ULL << 47, 2), EXC_GP);
	assert_int_equal(r->v->seg[SEG_FS].base, -8ULL);
	assert_int_equal(r->v->seg[SEG_GS].base, 1);
}

/* bts [rdi], rsi; setc al; btr dword [r12 + 8], r10d; adc bl, 0 */
static void test_bits(void **state)
{
	static const int64_t numbers[] = { 0, 5, 63, 64, 127, 1000, 20000, -1, -64, -65, -1000, 32767 };
	struct rig *r = *state;

	PUT(r, RIG_CODE, 0x48, 0x0f, 0xab, 0x37, 0x0f, 0x92, 0xc0,
	    0x45, 0x0f, 0xb3, 0x54, 0x24, 0x08, 0x80, 0xd3, 0x00,
	    0xff, 0xc9, 0x75, 0xec, 0xf4);
	for (unsigned int k = 0; k < ARRAY_SIZE(numbers); k++) {
		int64_t n = numbers[k];
		uint64_t *unit = (uint64_t *)(r->ram + RIG_DATA) + (n >> 6);
		uint8_t *byte = r->ram + RIG_DATA + 0x8000 + 8 + (n >> 3);

		*unit = 0;
		*byte = 0xff;
		r->v->gpr[REG_RDI] = RIG_DATA;
		r->v->gpr[REG_RSI] = n;
		r->v->gpr[REG_R12] = RIG_DATA + 0x8000;
		r->v->gpr[REG_R10] = n;
		r->v->gpr[REG_RBX] = 0;
		assert_int_equal(run_loop(r), -1);
		assert_int_equal(*unit, 1ULL << (n & 63));
		assert_int_equal(*byte, 0xff & ~(1 << (n & 7)));
		assert_int_equal(r->v->gpr[REG_RAX] & 0xff, 1);
		assert_int_equal(r->v->gpr[REG_RBX] & 0xff, 1);
	}
	assert_true(steps_of(r, INSN_ID_BTS) < 6 * LOOPS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_selectors, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bases, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bits, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
