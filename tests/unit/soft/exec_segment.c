// SPDX-License-Identifier: Apache-2.0
/* Limits and types of segments, address wrap, bit offsets, decimal arithmetic. */
#include "exec_rig.h"
#include "unit.h"

static int load_ebx(struct rig *r, uint64_t off, bool ss)
{
	r->v->gpr[REG_RBX] = r->v->gpr[REG_RBP] = off;
	return ss ? rig_run(r, CODE(0x8b, 0x45, 0x00)) : rig_run(r, CODE(0x8b, 0x03));
}

static int store_ebx(struct rig *r, uint64_t off)
{
	r->v->gpr[REG_RBX] = off;
	return rig_run(r, CODE(0x89, 0x03));
}

static void limits(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	r->v->seg[SEG_DS].base = r->v->seg[SEG_SS].base = RW;
	r->v->seg[SEG_DS].limit = r->v->seg[SEG_SS].limit = 0xff;
	assert_int_equal(load_ebx(r, 0xfc, false), EXEC_OK);
	assert_int_equal(load_ebx(r, 0xfd, false), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_int_equal(r->v->fault.error, 0);
	assert_int_equal(load_ebx(r, 0xfd, true), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
	assert_int_equal(load_ebx(r, 0xfffffffe, false), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
}

static void expand_down(void **state)
{
	struct rig *r = *state;
	struct segment *ds = &r->v->seg[SEG_DS];

	rig_reset(r, CODE_32);
	ds->base = RW;
	ds->limit = 0xff;
	ds->attr |= SEG_E;
	assert_int_equal(load_ebx(r, 0x100, false), EXEC_OK);
	assert_int_equal(load_ebx(r, 0xff, false), EXEC_FAULT);
	ds->attr &= ~SEG_DB;	/* ends at FFFFh */
	assert_int_equal(load_ebx(r, 0xfffd, false), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
}

static void types(void **state)
{
	struct rig *r = *state;
	struct segment *ds = &r->v->seg[SEG_DS];

	rig_reset(r, CODE_32);
	ds->attr &= ~SEG_W;
	assert_int_equal(load_ebx(r, RW, false), EXEC_OK);
	assert_int_equal(store_ebx(r, RW), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	ds->attr |= SEG_CODE;			/* code, not readable */
	assert_int_equal(load_ebx(r, RW, false), EXEC_FAULT);
	ds->attr |= SEG_W;			/* code, readable */
	assert_int_equal(load_ebx(r, RW, false), EXEC_OK);
	assert_int_equal(store_ebx(r, RW), EXEC_FAULT);
	ds->attr = SEG_UNUSABLE;
	assert_int_equal(load_ebx(r, RW, false), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
}

static void linear_addresses_wrap_at_32_bits(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	rig_put64(r, RW + 8, 0x31415926);
	r->v->seg[SEG_DS].base = 0xffff0000;
	assert_int_equal(load_ebx(r, RW + 8 + 0x10000, false), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RAX], 0x31415926);
}

static void addresses_are_cut_to_their_size(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	rig_put64(r, RW, 0x27182818);
	r->v->gpr[REG_RBX] = 0xffffffff00000000 | (RW - 0x80);
	r->v->gpr[REG_RCX] = 0x20;
	/* mov eax, [ebx+ecx*4]; lea rax, [ebx+ecx*4] */
	assert_int_equal(rig_run(r, CODE(0x67, 0x8b, 0x04, 0x8b)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RAX], 0x27182818);
	assert_int_equal(rig_run(r, CODE(0x67, 0x48, 0x8d, 0x04, 0x8b)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RAX], RW);
	/* lea ax, [rbx] keeps the rest of rax. */
	r->v->gpr[REG_RAX] = ~0ULL;
	assert_int_equal(rig_run(r, CODE(0x66, 0x8d, 0x03)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RAX], 0xffffffffffff0000 | (uint16_t)(RW - 0x80));
}

static void rip_relative_counts_from_the_next_instruction(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->rip = RW + 0x100;
	/* mov dword [rip-0x80], 7: ten bytes, the immediate counts */
	assert_int_equal(rig_run(r, CODE(0xc7, 0x05, 0x80, 0xff, 0xff, 0xff, 7, 0, 0, 0)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0x100 + 10 - 0x80), 7);
}

static void bit_offsets_reach_beyond_the_operand(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBX] = RW + 0x100;
	r->v->gpr[REG_RAX] = -65LL;	/* bit 63 of the quadword two below */
	assert_int_equal(rig_run(r, CODE(0x48, 0x0f, 0xab, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0x100 - 16), 1ULL << 63);
	assert_false(r->v->rflags & RFLAGS_CF);
	assert_int_equal(rig_run(r, CODE(0xf0, 0x48, 0x0f, 0xb3, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0x100 - 16), 0);
	assert_true(r->v->rflags & RFLAGS_CF);
	r->v->gpr[REG_RAX] = 0xffff0021;	/* 16 bits: 0x21; 32 bits: negative */
	rig_put64(r, RW + 0x104, 2);
	assert_int_equal(rig_run(r, CODE(0x66, 0x0f, 0xa3, 0x03)), EXEC_OK);
	assert_true(r->v->rflags & RFLAGS_CF);
	assert_int_equal(rig_run(r, CODE(0x0f, 0xa3, 0x03)), EXEC_FAULT);
	/* An immediate stays within. */
	rig_put64(r, RW + 0x100, 1);
	assert_int_equal(rig_run(r, CODE(0x0f, 0xba, 0x23, 0x20)), EXEC_OK);
	assert_true(r->v->rflags & RFLAGS_CF);
}

/* LOCK on a byte or word leaves its neighbours alone. */
static void locked_operations_have_their_size(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBX] = RW;
	rig_put64(r, RW, 0x11111111111111ff);
	assert_int_equal(rig_run(r, CODE(0xf0, 0x80, 0x03, 0x82)), EXEC_OK);	/* add, 82h */
	assert_int_equal(rig_get64(r, RW), 0x1111111111111181);
	assert_int_equal(r->v->rflags & RFLAGS_ARITH,
			 RFLAGS_CF | RFLAGS_SF | RFLAGS_AF | RFLAGS_PF);
	assert_int_equal(rig_run(r, CODE(0xf0, 0x66, 0x83, 0x0b, 0xff)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW), 0x111111111111ffff);
	assert_int_equal(rig_run(r, CODE(0xf0, 0xfe, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW), 0x111111111111ff00);
}

/* Packed and unpacked sums of all digit pairs. */
static void decimal_addition(void **state)
{
	struct rig *r = *state;

	for (int a = 0; a < 100; a++)
		for (int b = 0; b < 100; b++) {
			int sum = a + b;

			rig_reset(r, CODE_32);
			r->v->gpr[REG_RAX] = a / 10 << 4 | a % 10;
			r->v->gpr[REG_RBX] = b / 10 << 4 | b % 10;
			rig_run(r, CODE(0x00, 0xd8));	/* add al, bl */
			rig_run(r, CODE(0x27));		/* daa */
			assert_int_equal(r->v->gpr[REG_RAX], (sum / 10 % 10) << 4 | sum % 10);
			assert_int_equal(!!(r->v->rflags & RFLAGS_CF), sum > 99);
			r->v->gpr[REG_RAX] = a / 10 << 4 | a % 10;
			rig_run(r, CODE(0x28, 0xd8));	/* sub al, bl */
			rig_run(r, CODE(0x2f));		/* das */
			sum = (a - b + 100) % 100;
			assert_int_equal(r->v->gpr[REG_RAX], sum / 10 << 4 | sum % 10);
			assert_int_equal(!!(r->v->rflags & RFLAGS_CF), a < b);
		}
}

static void decimal_unpacked(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_32);
	r->v->gpr[REG_RAX] = 63;
	assert_int_equal(rig_run(r, CODE(0xd4, 0x0a)), EXEC_OK);	/* aam */
	assert_int_equal(r->v->gpr[REG_RAX], 0x603);
	assert_int_equal(rig_run(r, CODE(0xd5, 0x0a)), EXEC_OK);	/* aad */
	assert_int_equal(r->v->gpr[REG_RAX], 63);
	assert_int_equal(rig_run(r, CODE(0xd4, 0x00)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_DE);
	r->v->gpr[REG_RAX] = 0x020b;
	r->v->rflags = RFLAGS_FIXED;
	assert_int_equal(rig_run(r, CODE(0x37)), EXEC_OK);		/* aaa */
	assert_int_equal(r->v->gpr[REG_RAX], 0x0301);
	assert_true(r->v->rflags & RFLAGS_CF && r->v->rflags & RFLAGS_AF);
	r->v->gpr[REG_RAX] = 0x02fd;
	assert_int_equal(rig_run(r, CODE(0x3f)), EXEC_OK);		/* aas */
	assert_int_equal(r->v->gpr[REG_RAX], 0x0107);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(limits),
		cmocka_unit_test(expand_down),
		cmocka_unit_test(types),
		cmocka_unit_test(linear_addresses_wrap_at_32_bits),
		cmocka_unit_test(addresses_are_cut_to_their_size),
		cmocka_unit_test(rip_relative_counts_from_the_next_instruction),
		cmocka_unit_test(bit_offsets_reach_beyond_the_operand),
		cmocka_unit_test(locked_operations_have_their_size),
		cmocka_unit_test(decimal_addition),
		cmocka_unit_test(decimal_unpacked),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
