// SPDX-License-Identifier: Apache-2.0
/* A fault commits nothing, and says what the manual says. */
#include "exec_rig.h"
#include "unit.h"

static void assert_pf(struct rig *r, gva_t cr2, uint32_t error)
{
	assert_int_equal(r->v->fault.vector, EXC_PF);
	assert_int_equal(r->v->fault.cr2, cr2);
	assert_int_equal(r->v->fault.error, error);
}

/* Each writes to [rbx] or reads it and writes a register. */
static void faulting_forms_commit_nothing(void **state)
{
	struct rig *r = *state;
	static const struct { uint8_t code[8]; uint8_t len; } forms[] = {
		{ { 0x48, 0x01, 0x03 }, 3 },			/* add [rbx], rax */
		{ { 0x11, 0x03 }, 2 },				/* adc [rbx], eax */
		{ { 0xf0, 0x66, 0x01, 0x03 }, 4 },		/* lock add [rbx], ax */
		{ { 0xfe, 0x03 }, 2 },				/* inc byte [rbx] */
		{ { 0x48, 0xf7, 0x1b }, 3 },			/* neg qword [rbx] */
		{ { 0xd3, 0x23 }, 2 },				/* shl dword [rbx], cl */
		{ { 0x48, 0x0f, 0xa4, 0x03, 0x05 }, 5 },	/* shld [rbx], rax, 5 */
		{ { 0x0f, 0xab, 0x03 }, 3 },			/* bts [rbx], eax */
		{ { 0xf0, 0x0f, 0xba, 0x33, 3 }, 5 },		/* lock btr dword [rbx], 3 */
		{ { 0x87, 0x03 }, 2 },				/* xchg [rbx], eax */
		{ { 0x0f, 0xc1, 0x03 }, 3 },			/* xadd [rbx], eax */
		{ { 0x48, 0x0f, 0xb1, 0x0b }, 4 },		/* cmpxchg [rbx], rcx */
		{ { 0x0f, 0xc7, 0x0b }, 3 },			/* cmpxchg8b [rbx] */
		{ { 0x89, 0x03 }, 2 },				/* mov [rbx], eax */
		{ { 0x8f, 0x03 }, 2 },				/* pop qword [rbx] */
		{ { 0x0f, 0x94, 0x03 }, 3 },			/* setz [rbx] */
		{ { 0x0f, 0x01, 0x03 }, 3 },			/* sgdt [rbx] */
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(forms); i++) {
		const gva_t where[] = { RO + 8, ABSENT + 8, ABSENT - 1 };

		for (unsigned int k = 0; k < ARRAY_SIZE(where); k++) {
			struct rig_snapshot *s;

			rig_reset(r, CODE_64);
			r->v->gpr[REG_RBX] = where[k];
			r->v->gpr[REG_RAX] = 0x1122334455667788;
			r->v->gpr[REG_RCX] = 3;
			r->v->rflags |= RFLAGS_CF | RFLAGS_SF;
			s = rig_snapshot(r);
			/* A byte does not cross; BTS's bit offset leads elsewhere. */
			if (k == 2 && (forms[i].code[0] == 0xfe || forms[i].code[1] == 0x94 ||
				       forms[i].code[1] == 0xab)) {
				free(s);
				continue;
			}
			if (forms[i].code[1] == 0xab)
				r->v->gpr[REG_RAX] = s->gpr[REG_RAX] = 7;
			assert_int_equal(rig_run(r, forms[i].code, forms[i].len), EXEC_FAULT);
			assert_pf(r, k == 2 ? ABSENT : where[k],
				  PF_W | PF_U | (k == 0 ? PF_P : 0));
			assert_true(rig_unchanged(r, s));
		}
	}
}

static void conditional_move_faults_when_false(void **state)
{
	struct rig *r = *state;
	struct rig_snapshot *s;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBX] = ABSENT;
	s = rig_snapshot(r);
	assert_int_equal(rig_run(r, CODE(0x0f, 0x44, 0x03)), EXEC_FAULT);	/* cmovz */
	assert_pf(r, ABSENT, PF_U);
	assert_true(rig_unchanged(r, s));
}

static void non_canonical_is_gp_or_ss(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBX] = r->v->gpr[REG_RBP] = 0x800000000000;
	assert_int_equal(rig_run(r, CODE(0x8b, 0x03)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_int_equal(rig_run(r, CODE(0x8b, 0x45, 0x00)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
	assert_int_equal(rig_run(r, CODE(0x01, 0x45, 0x00)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
	assert_int_equal(rig_run(r, CODE(0xf0, 0x01, 0x45, 0x00)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_SS);
}

static void page_crossing_write_is_whole(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RBX] = RW + 0xffd;
	rig_put64(r, RW + 0xffd, 0x00000000ffffffff);
	r->v->gpr[REG_RAX] = 1;
	assert_int_equal(rig_run(r, CODE(0xf0, 0x48, 0x01, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0xffd), 0x100000000);
	assert_int_equal(rig_run(r, CODE(0x48, 0x29, 0x03)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0xffd), 0xffffffff);
	assert_int_equal(r->v->rip, RIP + 7);
}

static void division_errors(void **state)
{
	struct rig *r = *state;
	static const struct { uint8_t code[3]; uint8_t len, bits; } idiv[] = {
		{ { 0xf6, 0xfb }, 2, 8 }, { { 0x66, 0xf7, 0xfb }, 3, 16 },
		{ { 0xf7, 0xfb }, 2, 32 }, { { 0x48, 0xf7, 0xfb }, 3, 64 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(idiv); i++) {
		uint64_t min = 1ULL << (idiv[i].bits - 1);

		for (int divisor = -1; divisor <= 1; divisor++) {
			rig_reset(r, CODE_64);
			r->v->gpr[REG_RAX] = idiv[i].bits == 8 ? (uint16_t)(int8_t)min : min;
			r->v->gpr[REG_RDX] = ~0ULL;
			r->v->gpr[REG_RBX] = divisor;
			if (divisor == 1) {	/* the most negative number fits */
				assert_int_equal(rig_run(r, idiv[i].code, idiv[i].len), EXEC_OK);
				assert_int_equal(r->v->gpr[REG_RAX] & ((min << 1) - 1), min);
				continue;
			}
			struct rig_snapshot *s = rig_snapshot(r);

			assert_int_equal(rig_run(r, idiv[i].code, idiv[i].len), EXEC_FAULT);
			assert_int_equal(r->v->fault.vector, EXC_DE);
			assert_true(rig_unchanged(r, s));
		}
	}
	/* DIV: the quotient just fits, and just does not. */
	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDX] = 6;
	r->v->gpr[REG_RAX] = ~0ULL;
	r->v->gpr[REG_RBX] = 7;
	assert_int_equal(rig_run(r, CODE(0x48, 0xf7, 0xf3)), EXEC_OK);
	assert_true(r->v->gpr[REG_RAX] == ~0ULL && r->v->gpr[REG_RDX] == 6);
	r->v->gpr[REG_RDX] = 7;
	assert_int_equal(rig_run(r, CODE(0x48, 0xf7, 0xf3)), EXEC_FAULT);
}

static void cmpxchg16b_must_be_aligned(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RSI] = RW + 8;
	assert_int_equal(rig_run(r, CODE(0x48, 0x0f, 0xc7, 0x0e)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	r->v->gpr[REG_RSI] = RW + 16;
	rig_put64(r, RW + 24, 5);
	assert_int_equal(rig_run(r, CODE(0x48, 0x0f, 0xc7, 0x0e)), EXEC_OK);
	assert_false(r->v->rflags & RFLAGS_ZF);
	assert_int_equal(r->v->gpr[REG_RDX], 5);
	r->v->gpr[REG_RBX] = 77;
	assert_int_equal(rig_run(r, CODE(0xf0, 0x48, 0x0f, 0xc7, 0x0e)), EXEC_OK);
	assert_true(r->v->rflags & RFLAGS_ZF);
	assert_int_equal(rig_get64(r, RW + 16), 77);
	assert_int_equal(rig_get64(r, RW + 24), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(faulting_forms_commit_nothing),
		cmocka_unit_test(conditional_move_faults_when_false),
		cmocka_unit_test(non_canonical_is_gp_or_ss),
		cmocka_unit_test(page_crossing_write_is_whole),
		cmocka_unit_test(division_errors),
		cmocka_unit_test(cmpxchg16b_must_be_aligned),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
