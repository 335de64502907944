// SPDX-License-Identifier: Apache-2.0
/* String instructions: overlap, direction, wrap, faults and interrupts in the middle. */
#include "exec_rig.h"
#include "unit.h"

#define REP_MOVSB	CODE(0xf3, 0xa4)
#define REP_MOVSW	CODE(0x66, 0xf3, 0xa5)
#define REP_MOVSQ	CODE(0xf3, 0x48, 0xa5)
#define REP_STOSD	CODE(0xf3, 0xab)
#define REPE_CMPSB	CODE(0xf3, 0xa6)
#define REPNE_SCASB	CODE(0xf2, 0xae)

static void fill(struct rig *r, gva_t gva, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		*(uint8_t *)rig_mem(r, gva + i) = i * 7 + 1;
}

/* What the manual's loop does, byte by byte. */
static void model_movs(uint8_t *mem, size_t to, size_t from, size_t count, size_t size, bool down)
{
	while (count--) {
		uint8_t element[8];

		memcpy(element, mem + from, size);
		memcpy(mem + to, element, size);
		to += down ? -size : size;
		from += down ? -size : size;
	}
}

static void copies_overlap_as_the_manual_says(void **state)
{
	struct rig *r = *state;
	static const struct { uint8_t code[3], len, size; } forms[] = {
		{ { 0xf3, 0xa4 }, 2, 1 }, { { 0x66, 0xf3, 0xa5 }, 3, 2 },
		{ { 0xf3, 0xa5 }, 2, 4 }, { { 0xf3, 0x48, 0xa5 }, 3, 8 },
	};
	static const int distance[] = { -9, -4, -1, 0, 1, 3, 8, 100 };
	uint8_t *want = malloc(2 * GUEST_PAGE_SIZE);

	for (unsigned int f = 0; f < ARRAY_SIZE(forms); f++)
		for (unsigned int d = 0; d < ARRAY_SIZE(distance); d++)
			for (int down = 0; down < 2; down++) {
				size_t from = 0x1000 - 40, to = from + distance[d], n = 17;

				rig_reset(r, CODE_64);
				fill(r, RW, 2 * GUEST_PAGE_SIZE);
				memcpy(want, rig_mem(r, RW), 2 * GUEST_PAGE_SIZE);
				model_movs(want, to, from, n, forms[f].size, down);
				r->v->gpr[REG_RSI] = RW + from;
				r->v->gpr[REG_RDI] = RW + to;
				r->v->gpr[REG_RCX] = n;
				r->v->rflags |= down ? RFLAGS_DF : 0;
				assert_int_equal(rig_run(r, forms[f].code, forms[f].len), EXEC_OK);
				assert_int_equal(r->v->rip, RIP + forms[f].len);
				assert_int_equal(r->v->gpr[REG_RCX], 0);
				assert_memory_equal(want, rig_mem(r, RW), 2 * GUEST_PAGE_SIZE);
			}
	free(want);
}

static void fault_in_the_middle_is_precise(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	fill(r, RW, 0x1000);
	r->v->gpr[REG_RSI] = RW;
	r->v->gpr[REG_RDI] = ABSENT - 20;
	r->v->gpr[REG_RCX] = 10;
	assert_int_equal(rig_run(r, REP_MOVSQ), EXEC_FAULT);
	assert_int_equal(r->v->fault.cr2, ABSENT);
	assert_int_equal(r->v->fault.error, PF_W | PF_U);
	assert_int_equal(r->v->rip, RIP);
	assert_int_equal(r->v->gpr[REG_RCX], 8);
	assert_int_equal(r->v->gpr[REG_RSI], RW + 16);
	assert_int_equal(r->v->gpr[REG_RDI], ABSENT - 4);
	assert_memory_equal(rig_mem(r, RW), rig_mem(r, ABSENT - 20), 16);
	assert_int_equal(*(uint8_t *)rig_mem(r, ABSENT - 4), 0);
}

static void downward_fault_is_precise(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDI] = RW + 8;
	r->v->gpr[REG_RAX] = 0x01020304;
	r->v->gpr[REG_RCX] = 9;
	r->v->rflags |= RFLAGS_DF;
	assert_int_equal(rig_run(r, REP_STOSD), EXEC_FAULT);
	assert_int_equal(r->v->fault.cr2, RW - 4);
	assert_int_equal(r->v->gpr[REG_RCX], 6);
	assert_int_equal(r->v->gpr[REG_RDI], RW - 4);
	assert_int_equal(rig_get64(r, RW), 0x0102030401020304);
}

static void attention_stops_after_progress(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDI] = RW;
	r->v->gpr[REG_RCX] = 100;
	atomic_store(&r->v->attention, ATTN_STEP);
	assert_int_equal(rig_run(r, REP_STOSD), EXEC_OK);
	assert_int_equal(r->v->rip, RIP);
	assert_int_equal(r->v->gpr[REG_RCX], 99);
	r->v->gpr[REG_RSI] = RW;
	assert_int_equal(rig_run(r, CODE(0xf3, 0xac)), EXEC_OK);	/* rep lodsb */
	assert_int_equal(r->v->rip, RIP);
	assert_int_equal(r->v->gpr[REG_RCX], 98);
	atomic_store(&r->v->attention, 0);
	assert_int_equal(rig_run(r, REP_STOSD), EXEC_OK);
	assert_int_equal(r->v->rip, RIP + 2);
}

static void long_repetitions_come_back_now_and_then(void **state)
{
	struct rig *r = *state;
	unsigned int rounds = 0;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RSI] = RW;
	r->v->gpr[REG_RCX] = 4000;
	while (r->v->rip == RIP && ++rounds < 1000)
		assert_int_equal(rig_run(r, CODE(0xf3, 0xac)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RCX], 0);
	assert_int_equal(r->v->gpr[REG_RSI], RW + 4000);
	assert_true(rounds > 4 && rounds < 100);
}

static void count_zero_touches_nothing(void **state)
{
	struct rig *r = *state;
	struct rig_snapshot *s;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDI] = ABSENT;
	r->v->gpr[REG_RSI] = ABSENT;
	s = rig_snapshot(r);
	assert_int_equal(rig_run(r, REP_MOVSB), EXEC_OK);
	r->v->rip = RIP;
	assert_int_equal(rig_run(r, REPNE_SCASB), EXEC_OK);
	r->v->rip = RIP;
	assert_true(rig_unchanged(r, s));
}

static void compare_ends_at_a_difference(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	fill(r, RW, 64);
	fill(r, RW + 0x100, 64);
	*(uint8_t *)rig_mem(r, RW + 0x105) = 0xff;
	r->v->gpr[REG_RSI] = RW;
	r->v->gpr[REG_RDI] = RW + 0x100;
	r->v->gpr[REG_RCX] = 64;
	assert_int_equal(rig_run(r, REPE_CMPSB), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RCX], 64 - 6);
	assert_int_equal(r->v->gpr[REG_RSI], RW + 6);
	assert_false(r->v->rflags & RFLAGS_ZF);
	assert_true(r->v->rflags & RFLAGS_CF);	/* 36 < 255 */
	/* REPNE SCASB finds the byte. */
	r->v->rip = RIP;
	r->v->gpr[REG_RAX] = 0xff;
	r->v->gpr[REG_RDI] = RW + 0x100;
	assert_int_equal(rig_run(r, REPNE_SCASB), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RDI], RW + 0x106);
	assert_true(r->v->rflags & RFLAGS_ZF);
}

static void compare_fault_restores_flags(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDI] = ABSENT - 4;
	r->v->gpr[REG_RCX] = 64;
	r->v->gpr[REG_RAX] = 1;
	r->v->rflags |= RFLAGS_ZF | RFLAGS_OF;
	assert_int_equal(rig_run(r, REPNE_SCASB), EXEC_FAULT);
	assert_int_equal(r->v->rflags, RFLAGS_FIXED | RFLAGS_ZF | RFLAGS_OF);
	assert_int_equal(r->v->gpr[REG_RCX], 60);
	assert_int_equal(r->v->gpr[REG_RDI], ABSENT);
}

/* A 16-bit index wraps within its segment; its upper half stays. */
static void index_wraps_at_the_address_size(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_16);
	r->v->seg[SEG_ES].base = RW;
	r->v->seg[SEG_ES].limit = 0xffff;
	rig_map32(r, RW + 0xf000, PTE_W);
	r->v->gpr[REG_RDI] = 0xabcdfffe;
	r->v->gpr[REG_RCX] = 0x70003;
	r->v->gpr[REG_RAX] = 0x1234;
	assert_int_equal(rig_run(r, CODE(0xf3, 0xab)), EXEC_OK);	/* rep stosw */
	assert_int_equal(r->v->gpr[REG_RDI], 0xabcd0004);
	assert_int_equal(r->v->gpr[REG_RCX], 0x70000);
	assert_int_equal(rig_get64(r, RW), 0x12341234);
	/* Over the end of the segment: #GP, with what fitted done. */
	r->v->rip = 0x1000;
	r->v->gpr[REG_RDI] = 0xfffd;
	r->v->gpr[REG_RCX] = 2;
	assert_int_equal(rig_run(r, CODE(0xf3, 0xab)), EXEC_FAULT);
	assert_int_equal(r->v->fault.vector, EXC_GP);
	assert_int_equal(r->v->gpr[REG_RDI], 0xffff);
	assert_int_equal(r->v->gpr[REG_RCX], 1);
}

/* Address size 32 in 64-bit mode: registers come out zero-extended. */
static void address_size_32_in_64_bit_mode(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->gpr[REG_RDI] = 0xdead00000000 | RW;
	r->v->gpr[REG_RCX] = 0xdead00000002;
	r->v->gpr[REG_RAX] = 5;
	assert_int_equal(rig_run(r, CODE(0x67, 0xf3, 0xaa)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RDI], RW + 2);
	assert_int_equal(r->v->gpr[REG_RCX], 0);
	assert_int_equal(rig_get64(r, RW), 0x0505);
}

static void segment_override_applies_to_the_source(void **state)
{
	struct rig *r = *state;

	rig_reset(r, CODE_64);
	r->v->seg[SEG_FS].base = RW;
	rig_put64(r, RW + 8, 0x99);
	r->v->gpr[REG_RSI] = 8;
	r->v->gpr[REG_RDI] = RW + 0x20;
	assert_int_equal(rig_run(r, CODE(0x64, 0xa4)), EXEC_OK);
	assert_int_equal(rig_get64(r, RW + 0x20), 0x99);
	assert_int_equal(r->v->gpr[REG_RSI], 9);
	/* SS as well, which usually means the stack. */
	rig_reset(r, CODE_32);
	r->v->seg[SEG_SS].base = RW;
	rig_put64(r, RW + 8, 0x88);
	r->v->gpr[REG_RSI] = 8;
	assert_int_equal(rig_run(r, CODE(0x36, 0xac)), EXEC_OK);
	assert_int_equal(r->v->gpr[REG_RAX], 0x88);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(copies_overlap_as_the_manual_says),
		cmocka_unit_test(fault_in_the_middle_is_precise),
		cmocka_unit_test(downward_fault_is_precise),
		cmocka_unit_test(attention_stops_after_progress),
		cmocka_unit_test(long_repetitions_come_back_now_and_then),
		cmocka_unit_test(count_zero_touches_nothing),
		cmocka_unit_test(compare_ends_at_a_difference),
		cmocka_unit_test(compare_fault_restores_flags),
		cmocka_unit_test(index_wraps_at_the_address_size),
		cmocka_unit_test(address_size_32_in_64_bit_mode),
		cmocka_unit_test(segment_override_applies_to_the_source),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
