// SPDX-License-Identifier: Apache-2.0
/* Near branches: conditions, limits, widths. */
#include "exec_rig.h"
#include "unit.h"

/* The manual's condition table, against every combination of the flags it names. */
static bool condition(unsigned int cc, bool of, bool cf, bool zf, bool sf, bool pf)
{
	const bool value[8] = { of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of };

	return value[cc >> 1] ^ (cc & 1);
}

static void conditions(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	for (unsigned int cc = 0; cc < 16; cc++)
		for (unsigned int m = 0; m < 32; m++) {
			bool want = condition(cc, m & 1, m & 2, m & 4, m & 8, m & 16);

			r->v->rip = RIP;
			r->v->rflags = RFLAGS_FIXED | (m & 1 ? RFLAGS_OF : 0) |
				       (m & 2 ? RFLAGS_CF : 0) | (m & 4 ? RFLAGS_ZF : 0) |
				       (m & 8 ? RFLAGS_SF : 0) | (m & 16 ? RFLAGS_PF : 0);
			assert_int_equal(rig_run(r, CODE(0x70 | cc, 0xf0)), EXEC_OK);
			assert_int_equal(r->v->rip, want ? RIP + 2 - 0x10 : RIP + 2);
			r->v->gpr[REG_RBX] = 0xffff;
			assert_int_equal(rig_run(r, CODE(0x0f, 0x90 | cc, 0xc3)), EXEC_OK);
			assert_int_equal(r->v->gpr[REG_RBX], 0xff00 | want);
			r->v->gpr[REG_RBX] = ~0ULL;
			r->v->gpr[REG_RCX] = 5;
			assert_int_equal(rig_run(r, CODE(0x0f, 0x40 | cc, 0xd9)), EXEC_OK);
			assert_int_equal(r->v->gpr[REG_RBX], want ? 5 : UINT32_MAX);
		}
}

static void targets_must_be_canonical(void **state)
{
	struct rig *r = *state;
	struct rig_snapshot *s;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RAX] = 0x800000000000;
	s = rig_snapshot(r);
	assert_int_equal(rig_run(r, CODE(0xff, 0xe0)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_int_equal(rig_run(r, CODE(0xff, 0xd0)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_true(rig_unchanged(r, s));
	assert_int_equal(rig_get64(r, STACK_TOP - 8), 0);
	rig_put64(r, STACK_TOP, 0x800000000000);
	assert_int_equal(rig_run(r, CODE(0xc3)), EXEC_FAULT);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP);
}

static void targets_must_be_within_the_limit(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	r->v->seg[SEG_CS].limit = RIP + 0x100;
	assert_int_equal(rig_run(r, CODE(0xe9, 0xfb, 0, 0, 0)), EXEC_OK);
	r->v->rip = RIP;
	assert_int_equal(rig_run(r, CODE(0xe9, 0xfc, 0, 0, 0)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_int_equal(rig_run(r, CODE(0xe8, 0xfc, 0, 0, 0)), EXEC_FAULT);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP);
	assert_int_equal(r->v->rip, RIP);
}

static void sixteen_bit_targets_are_cut(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_16);
	r->v->rip = 0xfff0;
	assert_int_equal(rig_run(r, CODE(0xeb, 0x20)), EXEC_OK);
	assert_int_equal(r->v->rip, 0x12);
	/* With a 32-bit operand the target is beyond the limit. */
	r->v->rip = 0xfff0;
	assert_int_equal(rig_run(r, CODE(0x66, 0xeb, 0x20)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	/* CALL pushes as much as its operand size. */
	assert_int_equal(rig_run(r, CODE(0xe8, 0x00, 0x10)), EXEC_OK);
	assert_int_equal(r->v->rip, 0xff3);
	assert_int_equal(r->v->gpr[REG_RSP], 0x7fe);
	assert_int_equal(rig_run(r, CODE(0xc2, 0x10, 0x00)), EXEC_OK);
	assert_int_equal(r->v->rip, 0xfff3);
	assert_int_equal(r->v->gpr[REG_RSP], 0x810);
}

static void loops_count_at_the_address_size(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RCX] = 0x100000001;
	assert_int_equal(rig_run(r, CODE(0x67, 0xe2, 0x10)), EXEC_OK);
	assert_int_equal(r->v->rip, RIP + 3);
	assert_int_equal(r->v->gpr[REG_RCX], 0);
	r->v->gpr[REG_RCX] = 0x100000000;
	assert_int_equal(rig_run(r, CODE(0x67, 0xe3, 0x10)), EXEC_OK);	/* jecxz */
	assert_int_equal(r->v->rip, RIP + 3 + 3 + 0x10);
	r->v->rip = RIP;
	assert_int_equal(rig_run(r, CODE(0xe2, 0x10)), EXEC_OK);
	assert_int_equal(r->v->rip, RIP + 0x12);
	assert_int_equal(r->v->gpr[REG_RCX], 0xffffffff);
	r->v->rip = RIP;
	assert_int_equal(rig_run(r, CODE(0xe1, 0x10)), EXEC_OK);	/* loope, ZF clear */
	assert_int_equal(r->v->rip, RIP + 2);
	assert_int_equal(r->v->gpr[REG_RCX], 0xfffffffe);
}

static void bound_is_signed(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	rig_put64(r, RW, 0x00000005fffffffb);	/* -5 .. 5 */
	r->v->gpr[REG_RBX] = RW;
	r->v->gpr[REG_RAX] = 0xfffffffb;
	assert_int_equal(rig_run(r, CODE(0x62, 0x03)), EXEC_OK);
	r->v->gpr[REG_RAX] = 6;
	assert_int_equal(rig_run(r, CODE(0x62, 0x03)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_BR);
	r->v->gpr[REG_RAX] = 0xfffffffa;
	assert_int_equal(rig_run(r, CODE(0x62, 0x03)), EXEC_FAULT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(conditions),
		cmocka_unit_test(targets_must_be_canonical),
		cmocka_unit_test(targets_must_be_within_the_limit),
		cmocka_unit_test(sixteen_bit_targets_are_cut),
		cmocka_unit_test(loops_count_at_the_address_size),
		cmocka_unit_test(bound_is_signed),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
