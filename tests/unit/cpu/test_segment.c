// SPDX-License-Identifier: Apache-2.0
/* Loading segment registers, LDTR and TR; LAR, LSL, VERR, VERW. */
#include "sys_rig.h"

static void test_real(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	/* A limit of protected mode lives on ("unreal" mode). */
	v->seg[SEG_DS].limit = UINT32_MAX;
	assert_int_equal(seg_load(v, SEG_DS, 0xffff), EXEC_OK);
	assert_int_equal(v->seg[SEG_DS].base, 0xffff0);
	assert_int_equal(v->seg[SEG_DS].limit, UINT32_MAX);
	v->seg[SEG_ES].attr = SEG_UNUSABLE;
	assert_int_equal(seg_load(v, SEG_ES, 0), EXEC_OK);
	assert_int_equal(v->seg[SEG_ES].attr & (SEG_P | SEG_UNUSABLE), SEG_P);
	assert_raised_ud(v, sys_lldt(v, SEL_LDT));
	assert_raised_ud(v, sys_ltr(v, SEL_TSS));
}

static void test_loads(void **state)
{
	static const struct {
		unsigned int cpl, seg;
		uint16_t sel;
		unsigned int vector;	/* 0: allowed */
		uint32_t error;
	} rows[] = {
		{ 0, SEG_DS, SEL_DATA0, 0, 0 }, { 0, SEG_DS, SEL_DATA3 | 3, 0, 0 },
		{ 0, SEG_DS, SEL_DATA0 | 3, EXC_GP, SEL_DATA0 },
		{ 0, SEG_DS, SEL_CODE0, 0, 0 }, { 0, SEG_DS, SEL_EXEC_ONLY, EXC_GP, SEL_EXEC_ONLY },
		{ 0, SEG_DS, SEL_READ_ONLY | 3, 0, 0 }, { 0, SEG_DS, SEL_TSS2, EXC_GP, SEL_TSS2 },
		{ 0, SEG_DS, SEL_ABSENT, EXC_NP, SEL_ABSENT },
		{ 0, SEG_DS, SEL_BEYOND, EXC_GP, SEL_BEYOND },
		{ 0, SEG_DS, 0, 0, 0 }, { 0, SEG_ES, 3, 0, 0 },
		{ 3, SEG_DS, SEL_DATA0, EXC_GP, SEL_DATA0 },
		{ 3, SEG_DS, SEL_CODE0, EXC_GP, SEL_CODE0 },
		{ 3, SEG_DS, SEL_CONFORMING, 0, 0 }, { 3, SEG_DS, SEL_CODE3 | 3, 0, 0 },
		{ 3, SEG_DS, SEL_DATA1, EXC_GP, SEL_DATA1 }, { 3, SEG_GS, SEL_DATA3, 0, 0 },
		{ 0, SEG_SS, SEL_DATA0, 0, 0 }, { 0, SEG_SS, 0, EXC_GP, 0 },
		{ 0, SEG_SS, SEL_DATA0 | 3, EXC_GP, SEL_DATA0 },
		{ 0, SEG_SS, SEL_DATA3, EXC_GP, SEL_DATA3 },
		{ 0, SEG_SS, SEL_CODE0, EXC_GP, SEL_CODE0 },
		{ 0, SEG_SS, SEL_ABSENT_STACK, EXC_SS, SEL_ABSENT_STACK },
		{ 3, SEG_SS, SEL_READ_ONLY | 3, EXC_GP, SEL_READ_ONLY },
		{ 3, SEG_SS, SEL_DATA3 | 3, 0, 0 }, { 3, SEG_SS, SEL_DATA3, EXC_GP, SEL_DATA3 },
		{ 3, SEG_SS, SEL_ABSENT | 3, EXC_SS, SEL_ABSENT },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct segment before;

		if (rows[i].cpl)
			rig_start(g, SEL_CODE3 | 3, SEL_DATA3 | 3);
		else
			rig_start(g, SEL_CODE0, SEL_DATA0);
		before = v->seg[rows[i].seg];
		if (rows[i].vector) {
			assert_raised(v, seg_load(v, rows[i].seg, rows[i].sel), rows[i].vector,
				      rows[i].error);
			assert_memory_equal(&before, &v->seg[rows[i].seg], sizeof(before));
			continue;
		}
		assert_int_equal(seg_load(v, rows[i].seg, rows[i].sel), EXEC_OK);
		assert_int_equal(v->seg[rows[i].seg].sel, rows[i].sel);
		if (rows[i].sel & ~3)
			assert_true(rig_gdt_get(g, rows[i].sel) >> 40 & SEG_A);
		else
			assert_true(v->seg[rows[i].seg].attr & SEG_UNUSABLE);
	}
}

static void test_hidden_part(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_gdt_set(g, SEL_DATA0, rig_desc(0x89abcdef, 0x54321, A_DATA | SEG_AVL));
	assert_int_equal(seg_load(v, SEG_FS, SEL_DATA0), EXEC_OK);
	assert_int_equal(v->seg[SEG_FS].base, 0x89abcdef);
	assert_int_equal(v->seg[SEG_FS].limit, 0x54321);
	assert_int_equal(v->seg[SEG_FS].attr, A_DATA | SEG_AVL | SEG_A);
	rig_gdt_set(g, SEL_DATA0, rig_desc(0, 0x54321, A_DATA | SEG_G));
	assert_int_equal(seg_load(v, SEG_FS, SEL_DATA0), EXEC_OK);
	assert_int_equal(v->seg[SEG_FS].limit, 0x54321fff);
	/* The width of the stack follows SS. */
	assert_int_equal(v->stack_size, 4);
	assert_int_equal(seg_load(v, SEG_SS, SEL_STACK16), EXEC_OK);
	assert_int_equal(v->stack_size, 2);
	assert_true(v->attention & ATTN_SHADOW);
	assert_true(v->shadow_mov_ss);
}

/* The accessed bit is written by a supervisor's access, also from CPL 3. */
static void test_accessed_in_user_mode(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t *gdt_pte;

	rig_long(g, 0);
	pt_map(g, 0x600000, RIG_GDT, 21, 0);
	*pt_entry64(g, 0x600000, 21) = 0;
	pt_map(g, 0x600000, RIG_GDT, 12, PTE_P | PTE_W);
	gdt_pte = pt_entry64(g, 0x600000, 12);
	tlb_flush_all(v);
	v->gdtr.base = 0x600000;
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_int_equal(seg_load(v, SEG_DS, SEL_DATA3 | 3), EXEC_OK);
	assert_true(rig_gdt_get(g, SEL_DATA3) >> 40 & SEG_A);
	assert_int_equal(v->cpl, 3);
	/* A read-only table: fine while the bit is set, else a page fault without U. */
	*gdt_pte &= ~PTE_W;
	v->cr0 |= CR0_WP;
	tlb_flush_all(v);
	assert_int_equal(seg_load(v, SEG_ES, SEL_DATA3 | 3), EXEC_OK);
	assert_int_equal(seg_load(v, SEG_ES, SEL_CODE3 | 3), EXEC_FAULT);
	assert_int_equal(v->fault.vector, EXC_PF);
	assert_int_equal(v->fault.error, PF_P | PF_W);
}

static void test_null_ss_long(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	assert_int_equal(seg_load(v, SEG_SS, 0), EXEC_OK);
	assert_int_equal(v->cpl, 0);
	assert_raised(v, seg_load(v, SEG_SS, 1), EXC_GP, 0);
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_raised(v, seg_load(v, SEG_SS, 3), EXC_GP, 0);
	v->seg[SEG_FS].base = 0x1234;
	assert_int_equal(seg_load(v, SEG_FS, 0), EXEC_OK);
	assert_int_equal(v->seg[SEG_FS].base, 0);
}

static void test_ldt(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	assert_raised(v, sys_lldt(v, SEL_LDT | 4), EXC_GP, SEL_LDT | 4);
	assert_raised(v, sys_lldt(v, SEL_TSS2), EXC_GP, SEL_TSS2);
	assert_raised(v, sys_lldt(v, SEL_BEYOND), EXC_GP, SEL_BEYOND);
	rig_gdt_set(g, SEL_LDT, rig_desc(RIG_LDT, 0xff, 2));
	assert_raised(v, sys_lldt(v, SEL_LDT), EXC_NP, SEL_LDT);
	rig_gdt_set(g, SEL_LDT, rig_desc(RIG_LDT, 0xff, SEG_P | 2));
	assert_int_equal(sys_lldt(v, SEL_LDT), EXEC_OK);
	put64(g, RIG_LDT, rig_desc(0x111000, 0xfff, A_DATA | DPL(3)));
	/* Index 0 of the LDT is no null selector. */
	assert_int_equal(seg_load(v, SEG_DS, 4), EXEC_OK);
	assert_int_equal(v->seg[SEG_DS].base, 0x111000);
	assert_raised(v, seg_load(v, SEG_DS, 0x104), EXC_GP, 0x104);
	assert_int_equal(sys_lldt(v, 0), EXEC_OK);
	assert_raised(v, seg_load(v, SEG_DS, 4), EXC_GP, 4);
	rig_start(g, SEL_CODE3 | 3, SEL_DATA3 | 3);
	assert_raised(v, sys_lldt(v, SEL_LDT), EXC_GP, 0);
}

static void test_ltr(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	assert_raised(v, sys_ltr(v, 0), EXC_GP, 0);
	assert_raised(v, sys_ltr(v, SEL_TSS), EXC_GP, SEL_TSS);	/* busy */
	assert_raised(v, sys_ltr(v, SEL_LDT), EXC_GP, SEL_LDT);
	assert_int_equal(sys_ltr(v, SEL_TSS16), EXEC_OK);
	assert_int_equal(rig_gdt_get(g, SEL_TSS16) >> 40 & 0xf, 3);
	assert_int_equal(v->tr.attr & SEG_TYPE, 3);
}

static void test_long_system_descriptors(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_gdt_set(g, SEL_LDT + 8, 0xffff8000);
	assert_int_equal(sys_lldt(v, SEL_LDT), EXEC_OK);
	assert_int_equal(v->ldtr.base, 0xffff800000000000 + RIG_LDT);
	rig_gdt_set(g, SEL_LDT + 8, 0x8000);
	assert_raised(v, sys_lldt(v, SEL_LDT), EXC_GP, SEL_LDT);
	rig_gdt_set(g, SEL_LDT + 8, 0x10000000000);
	assert_raised(v, sys_lldt(v, SEL_LDT), EXC_GP, SEL_LDT);
	assert_raised(v, sys_ltr(v, SEL_TSS16), EXC_GP, SEL_TSS16);
	/* The second half must be within the table too. */
	v->gdtr.limit = SEL_LDT + 8;
	assert_raised(v, sys_lldt(v, SEL_LDT), EXC_GP, SEL_LDT);
}

static void test_lar_lsl(void **state)
{
	static const struct {
		uint16_t sel;
		bool lar, lsl, verr, verw;
	} rows[] = {	/* at CPL 3 */
		{ 0, false, false, false, false },
		{ SEL_DATA3 | 3, true, true, true, true },
		{ SEL_DATA0, false, false, false, false },
		{ SEL_CODE3 | 3, true, true, true, false },
		{ SEL_CONFORMING, true, true, true, false },
		{ SEL_EXEC_ONLY | 3, true, true, false, false },
		{ SEL_READ_ONLY, true, true, true, false },
		{ SEL_ABSENT, true, true, true, true },		/* P is not looked at */
		{ SEL_BEYOND, false, false, false, false },
		{ SEL_TSS2, true, true, false, false },
		{ SEL_GATE, true, false, false, false },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint32_t value;
	bool ok;

	rig_prot32(g, 3);
	rig_gdt_set(g, SEL_TSS2, rig_desc(RIG_TSS2, 0x67, SEG_P | DPL(3) | 9));
	rig_gdt_set(g, SEL_GATE, rig_gate(SEL_CODE0, 0, SEG_P | DPL(3) | 12, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		assert_int_equal(sys_lar(v, rows[i].sel, &value, &ok), EXEC_OK);
		assert_int_equal(ok, rows[i].lar);
		assert_int_equal(sys_lsl(v, rows[i].sel, &value, &ok), EXEC_OK);
		assert_int_equal(ok, rows[i].lsl);
		assert_int_equal(sys_verify(v, rows[i].sel, false, &ok), EXEC_OK);
		assert_int_equal(ok, rows[i].verr);
		assert_int_equal(sys_verify(v, rows[i].sel, true, &ok), EXEC_OK);
		assert_int_equal(ok, rows[i].verw);
	}
	assert_int_equal(sys_lar(v, SEL_DATA3 | 3, &value, &ok), EXEC_OK);
	assert_int_equal(value, 0x00cff200);
	assert_int_equal(sys_lsl(v, SEL_DATA3 | 3, &value, &ok), EXEC_OK);
	assert_int_equal(value, UINT32_MAX);
	rig_real(g);
	assert_raised_ud(v, sys_lar(v, 8, &value, &ok));
}

/* Long mode has no 16-bit TSSs and task gates. */
static void test_lar_long(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint32_t value;
	bool ok;

	rig_long(g, 0);
	assert_int_equal(sys_lar(v, SEL_TSS16, &value, &ok), EXEC_OK);
	assert_false(ok);
	assert_int_equal(sys_lsl(v, SEL_TSS, &value, &ok), EXEC_OK);
	assert_true(ok);
	assert_int_equal(value, 0x1fff);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_real), rig_test(test_loads), rig_test(test_hidden_part),
		rig_test(test_accessed_in_user_mode), rig_test(test_null_ss_long),
		rig_test(test_ldt), rig_test(test_ltr), rig_test(test_long_system_descriptors),
		rig_test(test_lar_lsl), rig_test(test_lar_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
