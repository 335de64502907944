// SPDX-License-Identifier: Apache-2.0
/* Handlers chosen where flags are dead compute what the others do, and leave flags alone. */
#include "exec_rig.h"
#include "unit.h"

static const uint64_t values[] = {
	0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xffffffff,
	0x123456789abcdef0, 0x7fffffffffffffff, 0x8000000000000000, ~0ULL,
};

/* Runs @code with rbx = @a, rcx = @b and [rsi] = @b; returns rbx. */
static uint64_t result(struct rig *r, const uint8_t *code, unsigned int len, uint64_t a,
		       uint64_t b, bool dead)
{
	struct vcpu *v = r->v;

	v->rip = RIP;
	v->rflags = RFLAGS_FIXED | RFLAGS_CF | RFLAGS_ZF;
	v->gpr[REG_RBX] = a;
	v->gpr[REG_RCX] = b;
	v->gpr[REG_RSI] = RW;
	rig_put64(r, RW, b);
	assert_int_equal(insn_decode(&r->insn, code, len, CODE_64), DECODE_OK);
	r->insn.flags |= dead ? INSN_FLAGS_DEAD : 0;
	assert_int_equal(exec_select(&r->insn)(v, &r->insn), EXEC_OK);
	assert_int_equal(v->rip, RIP + len);
	if (dead)
		assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_ZF);
	return v->gpr[REG_RBX];
}

static void compare(struct rig *r, const uint8_t *code, unsigned int len)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(values); i++)
		for (unsigned int k = 0; k < ARRAY_SIZE(values); k++)
			assert_int_equal(result(r, code, len, values[i], values[k], true),
					 result(r, code, len, values[i], values[k], false));
}

/* The operand size @s by prefixes, then the opcode, one less for bytes. */
static unsigned int start(uint8_t *code, unsigned int s, uint8_t opcode)
{
	unsigned int n = 0;

	if (s == 1)
		code[n++] = 0x66;
	if (s == 3)
		code[n++] = 0x48;
	code[n++] = opcode - (s == 0);
	return n;
}

static void arithmetic(void **state)
{
	static const uint8_t digits[] = { 0, 1, 4, 5, 6 };	/* add or and sub xor */
	struct rig *r = *state;
	uint8_t code[8];
	unsigned int n;

	rig_reset(r, CODE_64);
	for (unsigned int s = 0; s < 4; s++)
		for (unsigned int d = 0; d < ARRAY_SIZE(digits); d++) {
			n = start(code, s, digits[d] << 3 | 1);		/* bl..rbx, cl..rcx */
			code[n++] = 0xcb;
			compare(r, code, n);
			n = start(code, s, digits[d] << 3 | 3);		/* bl..rbx, [rsi] */
			code[n++] = 0x1e;
			compare(r, code, n);
			n = start(code, s, s ? 0x83 : 0x81);		/* bl..rbx, -127 */
			code[n++] = 0xc3 | digits[d] << 3;
			code[n++] = 0x81;
			compare(r, code, n);
		}
	/* AH..BH */
	compare(r, CODE(0x00, 0xcf));
	compare(r, CODE(0x30, 0xfb));
}

static void shifts(void **state)
{
	static const uint8_t digits[] = { 4, 5, 7 };		/* shl shr sar */
	static const uint8_t counts[] = { 0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 255 };
	struct rig *r = *state;
	uint8_t code[8];
	unsigned int n;

	rig_reset(r, CODE_64);
	for (unsigned int s = 0; s < 4; s++)
		for (unsigned int d = 0; d < ARRAY_SIZE(digits); d++)
			for (unsigned int c = 0; c < ARRAY_SIZE(counts); c++) {
				n = start(code, s, 0xc1);
				code[n++] = 0xc3 | digits[d] << 3;
				code[n++] = counts[c];
				compare(r, code, n);
			}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arithmetic),
		cmocka_unit_test(shifts),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
