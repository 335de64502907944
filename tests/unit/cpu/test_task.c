// SPDX-License-Identifier: Apache-2.0
/* Hardware task switches: all four reasons, both sizes, and whose fault it is. */
#include "sys_rig.h"

#define TASK_RIP	0x42000U
#define TASK_RSP	0x52000U

/* A 32-bit TSS whose task runs flat at CPL 0. */
static void fill_tss32(struct guest *g, uint32_t base)
{
	put32(g, base + 28, 0);
	put32(g, base + 32, TASK_RIP);
	put32(g, base + 36, RFLAGS_FIXED | RFLAGS_CF);
	for (unsigned int i = 0; i < 8; i++)
		put32(g, base + 40 + i * 4, 0x1000 + i);
	put32(g, base + 56, TASK_RSP);
	for (unsigned int i = 0; i < 6; i++)
		put32(g, base + 72 + i * 4, i == SEG_CS ? SEL_CODE0 : SEL_DATA0);
	put32(g, base + 96, SEL_LDT);
	put32(g, base + 100, 0);
}

static unsigned int tss_type(struct guest *g, uint16_t sel)
{
	return rig_gdt_get(g, sel) >> 40 & 0xf;
}

static void assert_in_task2(struct vcpu *v)
{
	assert_int_equal(v->tr.sel, SEL_TSS2);
	assert_int_equal(v->rip, TASK_RIP);
	assert_int_equal(v->gpr[REG_RSP], TASK_RSP);
	assert_int_equal(v->gpr[REG_RAX], 0x1000);
	assert_int_equal(v->gpr[REG_RDI], 0x1007);
	assert_int_equal(v->seg[SEG_CS].sel, SEL_CODE0);
	assert_int_equal(v->seg[SEG_GS].sel, SEL_DATA0);
	assert_int_equal(v->seg[SEG_GS].limit, UINT32_MAX);
	assert_int_equal(v->ldtr.base, RIG_LDT);
	assert_true(v->cr0 & CR0_TS);
	assert_int_equal(v->cpl, 0);
}

static void test_call_and_iret(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	fill_tss32(g, RIG_TSS2);
	rig_gdt_set(g, SEL_TSS2, rig_desc(RIG_TSS2, 0x67, SEG_P | DPL(3) | 9));
	v->gpr[REG_RBX] = 0xbbbbbbbb;
	v->dr[7] = DR7_FIXED | 0x355;
	assert_int_equal(far_call(v, SEL_TSS2, 0, 4, RIG_RIP + 7), EXEC_OK);
	assert_in_task2(v);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_CF | RFLAGS_NT);
	assert_int_equal(get16(g, RIG_TSS2), SEL_TSS);
	assert_int_equal(tss_type(g, SEL_TSS), 11);
	assert_int_equal(tss_type(g, SEL_TSS2), 11);
	/* The local breakpoints end with the task. */
	assert_int_equal(v->dr[7], DR7_FIXED | 0x200);
	/* The old task as it was left. */
	assert_int_equal(get32(g, RIG_TSS + 32), RIG_RIP + 7);
	assert_int_equal(get32(g, RIG_TSS + 36), RFLAGS_FIXED | RFLAGS_IF);
	assert_int_equal(get32(g, RIG_TSS + 40 + REG_RBX * 4), 0xbbbbbbbb);
	assert_int_equal(get32(g, RIG_TSS + 56), RIG_STACK3);
	assert_int_equal(get32(g, RIG_TSS + 72 + SEG_CS * 4), SEL_CODE3 | 3);

	assert_int_equal(sys_iret(v, 4, TASK_RIP + 1), EXEC_OK);
	assert_int_equal(v->tr.sel, SEL_TSS);
	assert_int_equal(v->rip, RIG_RIP + 7);
	assert_int_equal(v->gpr[REG_RBX], 0xbbbbbbbb);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->seg[SEG_SS].sel, SEL_DATA3 | 3);
	assert_int_equal(tss_type(g, SEL_TSS2), 9);
	assert_int_equal(tss_type(g, SEL_TSS), 11);
	/* The task that IRET left is not nested any more. */
	assert_int_equal(get32(g, RIG_TSS2 + 36), RFLAGS_FIXED | RFLAGS_CF);
	assert_int_equal(get32(g, RIG_TSS2 + 32), TASK_RIP + 1);
}

static void test_jump_through_gate(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	fill_tss32(g, RIG_TSS2);
	put16(g, RIG_TSS2, 0x7777);
	put16(g, RIG_TSS2 + 100, 1);
	rig_gdt_set(g, SEL_TASK_GATE, rig_gate(SEL_TSS2, 0, SEG_P | 5, 0));
	assert_int_equal(far_jump(v, SEL_TASK_GATE, 0, 4, RIG_RIP + 7), EXEC_OK);
	assert_in_task2(v);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_CF);
	assert_int_equal(get16(g, RIG_TSS2), 0x7777);
	assert_int_equal(tss_type(g, SEL_TSS), 9);
	assert_int_equal(tss_type(g, SEL_TSS2), 11);
	/* The T bit makes a debug trap before the task's first instruction. */
	assert_int_equal(v->db_pending, DR6_BT);
	/* It is busy now, so nothing switches to it. */
	assert_raised(v, far_jump(v, SEL_TASK_GATE, 0, 4, 0), EXC_GP, SEL_TSS2);
}

static void test_exception_by_task_gate(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	fill_tss32(g, RIG_TSS2);
	rig_idt32(g, EXC_GP, rig_gate(SEL_TSS2, 0, SEG_P | 5, 0));
	raise_gp(v, 0x1234);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->tr.sel, SEL_TSS2);
	assert_int_equal(v->gpr[REG_RSP], TASK_RSP - 4);
	assert_int_equal(get32(g, TASK_RSP - 4), 0x1234);
	assert_true(v->rflags & RFLAGS_NT);
	/* The faulting instruction is tried again with RF set. */
	assert_int_equal(get32(g, RIG_TSS + 32), RIG_RIP);
	assert_int_equal(get32(g, RIG_TSS + 36), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF);
}

static void test_tss16(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	put16(g, RIG_TSS2 + 14, 0x4444);
	put16(g, RIG_TSS2 + 16, RFLAGS_FIXED | RFLAGS_ZF);
	for (unsigned int i = 0; i < 8; i++)
		put16(g, RIG_TSS2 + 18 + i * 2, 0x100 + i);
	for (unsigned int i = 0; i < 4; i++)
		put16(g, RIG_TSS2 + 34 + i * 2, i == SEG_CS ? SEL_CODE0 : SEL_DATA0);
	put16(g, RIG_TSS2 + 42, 0);
	assert_int_equal(far_jump(v, SEL_TSS16, 0, 4, RIG_RIP + 7), EXEC_OK);
	assert_int_equal(v->rip, 0x4444);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_ZF);
	assert_int_equal(v->gpr[REG_RDI] & 0xffff, 0x107);
	assert_true(v->seg[SEG_FS].attr & SEG_UNUSABLE);
	assert_true(v->ldtr.attr & SEG_UNUSABLE);
	/* And from there to the 32-bit one: words are saved. */
	put64(g, RIG_TSS2 + 42, 0xaaaaaaaaaaaa0000);
	fill_tss32(g, RIG_TSS);
	assert_int_equal(far_jump(v, SEL_TSS, 0, 4, 0x4450), EXEC_OK);
	assert_int_equal(get16(g, RIG_TSS2 + 14), 0x4450);
	assert_int_equal(get16(g, RIG_TSS2 + 18 + 14), 0x107);
	assert_int_equal(get16(g, RIG_TSS2 + 40), SEL_DATA0);
	assert_int_equal(get64(g, RIG_TSS2 + 42), 0xaaaaaaaaaaaa0000);
}

/* Faults of the old task: nothing has changed. */
static void test_refused(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t pde = PTE_P | PTE_W | PTE_PS;

	rig_prot32(g, 0);
	fill_tss32(g, RIG_TSS2);
	assert_raised(v, task_switch(v, SEL_DATA0, TASK_JUMP, 0, false, 0), EXC_GP, SEL_DATA0);
	assert_raised(v, task_switch(v, SEL_TSS2 | 4, TASK_JUMP, 0, false, 0), EXC_GP,
		      SEL_TSS2 | 4);
	assert_raised(v, task_switch(v, SEL_TSS2, TASK_IRET, 0, false, 0), EXC_TS, SEL_TSS2);
	rig_gdt_set(g, SEL_TSS2, rig_desc(RIG_TSS2, 0x66, SEG_P | 9));
	assert_raised(v, task_switch(v, SEL_TSS2, TASK_JUMP, 0, false, 0), EXC_TS, SEL_TSS2);
	rig_gdt_set(g, SEL_TSS2, rig_desc(RIG_TSS2, 0x67, 9));
	assert_raised(v, task_switch(v, SEL_TSS2, TASK_JUMP, 0, false, 0), EXC_NP, SEL_TSS2);

	/* A new TSS whose back link cannot be written, with paging on. */
	rig_gdt_set(g, SEL_TSS2, rig_desc(0x400000, 0x67, SEG_P | 9));
	fill_tss32(g, 0x400000);
	v->cr3 = guest_new_table(g);
	v->cr4 = CR4_PSE;
	put32(g, v->cr3, pde);
	put32(g, v->cr3 + 4, (0x400000 | pde) & ~PTE_W);
	assert_int_equal(sys_mov_to_cr(v, 0, v->cr0 | CR0_PG | CR0_WP), EXEC_OK);
	assert_int_equal(task_switch(v, SEL_TSS2, TASK_CALL, 0, false, 0), EXEC_FAULT);
	assert_int_equal(v->fault.vector, EXC_PF);
	assert_int_equal(v->fault.cr2, 0x400000);
	assert_int_equal(v->tr.sel, SEL_TSS);
	assert_int_equal(tss_type(g, SEL_TSS2), 9);
	assert_int_equal(get32(g, RIG_TSS + 32), 0);
	assert_int_equal(v->rip, RIG_RIP);
}

/* Faults of the new task: its registers are loaded. */
static void test_bad_selectors(void **state)
{
	static const struct {
		unsigned int at;
		uint16_t sel;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ 96, SEL_DATA0, EXC_TS, SEL_DATA0 }, { 76, SEL_DATA0, EXC_TS, SEL_DATA0 },
		{ 76, 0, EXC_TS, 0 }, { 76, SEL_ABSENT_CODE, EXC_NP, SEL_ABSENT_CODE },
		{ 76, SEL_CODE3, EXC_TS, SEL_CODE3 }, { 80, SEL_DATA3, EXC_TS, SEL_DATA3 },
		{ 80, SEL_ABSENT_STACK, EXC_SS, SEL_ABSENT_STACK },
		{ 84, SEL_EXEC_ONLY, EXC_TS, SEL_EXEC_ONLY },
		{ 92, SEL_ABSENT, EXC_NP, SEL_ABSENT }, { 92, SEL_BEYOND, EXC_TS, SEL_BEYOND },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		struct guest *g = guest_create("vireo-v1");
		struct vcpu *v = g->v;

		rig_prot32(g, 0);
		fill_tss32(g, RIG_TSS2);
		put16(g, RIG_TSS2 + rows[i].at, rows[i].sel);
		assert_raised(v, far_jump(v, SEL_TSS2, 0, 4, RIG_RIP + 7), rows[i].vector,
			      rows[i].error);
		assert_int_equal(v->tr.sel, SEL_TSS2);
		assert_int_equal(v->rip, TASK_RIP);
		assert_int_equal(get32(g, RIG_TSS + 32), RIG_RIP + 7);
		guest_destroy(g);
	}
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_call_and_iret), rig_test(test_jump_through_gate),
		rig_test(test_exception_by_task_gate), rig_test(test_tss16),
		rig_test(test_refused), cmocka_unit_test(test_bad_selectors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
