// SPDX-License-Identifier: Apache-2.0
/* Stack instructions in their odd forms. */
#include "exec_rig.h"
#include "unit.h"

static void push_of_the_stack_pointer(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	assert_int_equal(rig_run(r, CODE(0x54)), EXEC_OK);		/* push rsp */
	assert_int_equal(rig_get64(r, STACK_TOP - 8), STACK_TOP);
	assert_int_equal(rig_run(r, CODE(0xff, 0x34, 0x24)), EXEC_OK);	/* push [rsp] */
	assert_int_equal(rig_get64(r, STACK_TOP - 16), STACK_TOP);
	rig_put64(r, STACK_TOP - 16, 0x1234);
	assert_int_equal(rig_run(r, CODE(0x5c)), EXEC_OK);		/* pop rsp */
	assert_int_equal(r->v->gpr[REG_RSP], 0x1234);
}

static void pop_addresses_with_the_new_stack_pointer(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	rig_put64(r, STACK_TOP, 0x55);
	assert_int_equal(rig_run(r, CODE(0x8f, 0x44, 0x24, 0x10)), EXEC_OK);
	assert_int_equal(rig_get64(r, STACK_TOP + 0x18), 0x55);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP + 8);
}

static void push_sizes(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	rig_put64(r, STACK_TOP - 8, ~0ULL);
	assert_int_equal(rig_run(r, CODE(0x66, 0x6a, 0xfe)), EXEC_OK);	/* push -2, 16 bits */
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP - 2);
	assert_int_equal(rig_get64(r, STACK_TOP - 8), 0xfffeffffffffffff);
	assert_int_equal(rig_run(r, CODE(0x6a, 0xfe)), EXEC_OK);
	assert_int_equal(rig_get64(r, STACK_TOP - 10), -2);
	/* A selector fills 64 bits ... */
	assert_int_equal(rig_run(r, CODE(0x0f, 0xa0)), EXEC_OK);
	assert_int_equal(rig_get64(r, STACK_TOP - 18), r->v->seg[SEG_FS].sel);
	/* ... but only 16 of 32. */
	rig_reset(r, CODE_32);
	rig_put64(r, STACK_TOP - 8, ~0ULL);
	assert_int_equal(rig_run(r, CODE(0x06)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP - 4);
	assert_int_equal(rig_get64(r, STACK_TOP - 8),
			 0xffff0000ffffffff | (uint64_t)r->v->seg[SEG_ES].sel << 32);
}

static void stack_pointer_wraps_at_its_width(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_16);
	r->v->gpr[REG_RSP] = 0xabcd0000;
	rig_map32(r, STACK + 0xf000, PTE_W);
	r->v->gpr[REG_RAX] = 0x4321;
	assert_int_equal(rig_run(r, CODE(0x50)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RSP], 0xabcdfffe);
	assert_int_equal(*(uint16_t *)rig_mem(r, STACK + 0xfffe), 0x4321);
	assert_int_equal(rig_run(r, CODE(0x5b)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RSP], 0xabcd0000);
	assert_int_equal(r->v->gpr[REG_RBX], 0x4321);
	/* A push that does not fit between 1 and 0 is #SS. */
	r->v->gpr[REG_RSP] = 1;
	assert_int_equal(rig_run(r, CODE(0x50)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
	assert_int_equal(r->v->gpr[REG_RSP], 1);
}

static void pusha_and_popa(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	for (int i = 0; i < 8; i++)
		if (i != REG_RSP)
			r->v->gpr[i] = 0x100 + i;
	assert_int_equal(rig_run(r, CODE(0x60)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP - 32);
	assert_int_equal(rig_get64(r, STACK_TOP - 8), 0x100ULL << 32 | 0x101);
	assert_int_equal(rig_get64(r, STACK_TOP - 24), 0x105ULL | STACK_TOP << 32);
	rig_put64(r, STACK_TOP - 24, 0x77);	/* the stored ESP is ignored */
	memset(r->v->gpr, 0, 4 * 8);
	assert_int_equal(rig_run(r, CODE(0x61)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP);
	assert_int_equal(r->v->gpr[REG_RAX], 0x100);
	assert_int_equal(r->v->gpr[REG_RBP], 0x77);
	assert_int_equal(r->v->gpr[REG_RDI], 0x107);
}

static void enter_and_leave(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBP] = STACK_TOP + 0x100;
	rig_put64(r, STACK_TOP + 0x100 - 8, 0xa1);
	rig_put64(r, STACK_TOP + 0x100 - 16, 0xa2);
	assert_int_equal(rig_run(r, CODE(0xc8, 0x20, 0x00, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, STACK_TOP - 8), STACK_TOP + 0x100);
	assert_int_equal(rig_get64(r, STACK_TOP - 16), 0xa1);
	assert_int_equal(rig_get64(r, STACK_TOP - 24), 0xa2);
	assert_int_equal(rig_get64(r, STACK_TOP - 32), STACK_TOP - 8);
	assert_int_equal(r->v->gpr[REG_RBP], STACK_TOP - 8);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP - 32 - 0x20);
	assert_int_equal(rig_run(r, CODE(0xc9)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RBP], STACK_TOP + 0x100);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP);
}

static void enter_probes_the_new_stack(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBP] = 9;
	assert_int_equal(rig_run(r, CODE(0xc8, 0x00, 0x10, 0x00)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_PF);
	assert_int_equal(r->v->fault.error, PF_W | PF_U);
	assert_int_equal(r->v->gpr[REG_RSP], STACK_TOP);
	assert_int_equal(r->v->gpr[REG_RBP], 9);
}

static void faults_leave_the_stack_pointer(void **state)
{
	struct rig *r = *state;
	static const struct { uint8_t code[6], len; } forms[] = {
		{ { 0x50 }, 1 }, { { 0x6a, 1 }, 2 }, { { 0x58 }, 1 }, { { 0xc3 }, 1 },
		{ { 0xe8, 0, 0, 0, 0 }, 5 }, { { 0xff, 0xd0 }, 2 }, { { 0xff, 0x33 }, 2 },
		{ { 0x8f, 0x03 }, 2 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(forms); i++) {
		struct rig_snapshot *s;

		rig_reset(r, CODE_64);
		r->v->gpr[REG_RSP] = ABSENT + 0x100;
		r->v->gpr[REG_RBX] = RW;
		s = rig_snapshot(r);
		assert_int_equal(rig_run(r, forms[i].code, forms[i].len), EXEC_FAULT);
		assert_int_equal(r->v->fault.vector, EXC_PF);
		assert_true(rig_unchanged(r, s));
	}
	/* A non-canonical stack is #SS. */
	rig_reset(r, CODE_64);
	r->v->gpr[REG_RSP] = 0x900000000000;
	assert_int_equal(rig_run(r, CODE(0x50)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
	assert_int_equal(rig_run(r, CODE(0xc3)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(push_of_the_stack_pointer),
		cmocka_unit_test(pop_addresses_with_the_new_stack_pointer),
		cmocka_unit_test(push_sizes),
		cmocka_unit_test(stack_pointer_wraps_at_its_width),
		cmocka_unit_test(pusha_and_popa),
		cmocka_unit_test(enter_and_leave),
		cmocka_unit_test(enter_probes_the_new_stack),
		cmocka_unit_test(faults_leave_the_stack_pointer),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
