// SPDX-License-Identifier: Apache-2.0
/* Control and debug registers: mode changes, reserved bits, aliases. */
#include "sys_rig.h"

#define PG	(CR0_PE | CR0_PG | CR0_ET)

static void test_real_to_long(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	rig_tables(g);
	seg_load_real(v, SEG_CS, 0x1003);	/* the low bits are no privilege */
	assert_int_equal(sys_mov_to_cr(v, 0, CR0_PE), EXEC_OK);
	assert_int_equal(v->cr0, CR0_PE | CR0_ET);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->code_size, CODE_16);
	assert_int_equal(far_jump(v, SEL_CODE0, RIG_RIP, 4, 0), EXEC_OK);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(seg_load(v, SEG_SS, SEL_DATA0), EXEC_OK);

	v->efer = EFER_LME;
	assert_raised(v, sys_mov_to_cr(v, 0, PG), EXC_GP, 0);	/* without PAE */
	assert_int_equal(sys_mov_to_cr(v, 4, CR4_PAE), EXEC_OK);
	v->tr.attr = SEG_P | 3;
	assert_raised(v, sys_mov_to_cr(v, 0, PG), EXC_GP, 0);	/* a 16-bit TSS */
	v->tr.attr = SEG_P | 11;
	v->seg[SEG_CS].attr |= SEG_L;
	assert_raised(v, sys_mov_to_cr(v, 0, PG), EXC_GP, 0);
	v->seg[SEG_CS].attr &= ~SEG_L;
	v->cr3 = guest_new_table(g);
	v->efer |= EFER_LMA;
	pt_map(g, 0, 0, 21, PTE_P | PTE_W);
	v->efer &= ~EFER_LMA;
	assert_int_equal(sys_mov_to_cr(v, 0, PG), EXEC_OK);
	assert_true(v->efer & EFER_LMA);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(far_jump(v, SEL_CODE64, RIG_RIP, 4, 0), EXEC_OK);
	assert_int_equal(v->code_size, CODE_64);

	/* PAE stays, paging cannot be left from 64-bit mode. */
	assert_raised(v, sys_mov_to_cr(v, 4, 0), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 0, CR0_PE), EXC_GP, 0);
	assert_int_equal(far_jump(v, SEL_CODE0, RIG_RIP, 8, 0), EXEC_OK);
	assert_int_equal(sys_mov_to_cr(v, 0, CR0_PE), EXEC_OK);
	assert_false(v->efer & EFER_LMA);
	assert_true(v->efer & EFER_LME);
}

static void test_cr0(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	assert_raised(v, sys_mov_to_cr(v, 0, CR0_PG), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 0, CR0_PE | CR0_NW), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 0, CR0_PE | BIT(32)), EXC_GP, 0);
	assert_int_equal(sys_mov_to_cr(v, 0, CR0_PE | 0x1ffaffc0), EXEC_OK);
	assert_int_equal(v->cr0, CR0_PE | CR0_ET);	/* reserved bits stay clear */
	assert_int_equal(sys_lmsw(v, 0xfffe), EXEC_OK);
	assert_int_equal(v->cr0, CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET);
	assert_int_equal(sys_clts(v), EXEC_OK);
	assert_int_equal(v->cr0, CR0_PE | CR0_MP | CR0_EM | CR0_ET);
	rig_start(g, SEL_CODE3 | 3, SEL_DATA3 | 3);
	assert_raised(v, sys_clts(v), EXC_GP, 0);
	assert_raised(v, sys_lmsw(v, 0), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 0, v->cr0), EXC_GP, 0);
	assert_raised_ud(v, sys_mov_to_cr(v, 1, 0));
	assert_raised_ud(v, sys_mov_to_cr(v, 5, 0));
}

static void test_cr3(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t root, value;

	rig_long(g, 0);
	root = v->cr3;
	assert_raised(v, sys_mov_to_cr(v, 3, root | CR3_NOFLUSH), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 3, root | BIT(GPA_BITS)), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 3, root | BIT(62)), EXC_GP, 0);
	assert_int_equal(sys_mov_to_cr(v, 4, v->cr4 | CR4_PCIDE), EXEC_OK);
	assert_int_equal(sys_mov_to_cr(v, 3, root | CR3_NOFLUSH | 5), EXEC_OK);
	assert_int_equal(sys_mov_from_cr(v, 3, &value), EXEC_OK);
	assert_int_equal(value, root | 5);
	/* Paging and PCIDs: neither can go while the other needs it. */
	assert_int_equal(sys_mov_to_cr(v, 4, v->cr4 & ~CR4_PCIDE), EXEC_OK);
	assert_raised(v, sys_mov_to_cr(v, 4, v->cr4 | CR4_PCIDE), EXC_GP, 0);
}

static void test_pae_pdptes(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	gpa_t table = 0x60000;

	rig_prot32(g, 0);
	v->cr4 = CR4_PAE;
	v->cr3 = table;
	put64(g, table, 0x61000 | PTE_P);
	put64(g, table + 8, 0x62000 | PTE_P | PTE_W);	/* bit 1 is reserved */
	assert_raised(v, sys_mov_to_cr(v, 0, PG), EXC_GP, 0);
	put64(g, table + 8, 0x62000 | PTE_W);		/* but not if absent */
	assert_int_equal(sys_mov_to_cr(v, 0, PG), EXEC_OK);
	put64(g, table + 24, BIT(GPA_BITS) | PTE_P);
	assert_raised(v, sys_mov_to_cr(v, 3, table), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 4, CR4_PAE | CR4_PGE), EXC_GP, 0);
	assert_int_equal(sys_mov_to_cr(v, 4, CR4_PAE | CR4_TSD), EXEC_OK);
}

static void test_cr4(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	assert_raised(v, sys_mov_to_cr(v, 4, CR4_LA57), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 4, CR4_VME), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 4, BIT(13)), EXC_GP, 0);	/* VMX */
	assert_raised(v, sys_mov_to_cr(v, 4, BIT(22)), EXC_GP, 0);	/* PKE */
	assert_raised(v, sys_mov_to_cr(v, 4, BIT(32)), EXC_GP, 0);
	assert_raised(v, sys_mov_to_cr(v, 4, CR4_PCIDE), EXC_GP, 0);	/* not long mode */
	assert_int_equal(sys_mov_to_cr(v, 4, CR4_TSD | CR4_DE | CR4_PSE | CR4_PAE | CR4_MCE |
				       CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT |
				       CR4_UMIP | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP |
				       CR4_SMAP), EXEC_OK);
}

static void test_debug_registers(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t value;

	rig_long(g, 0);
	assert_int_equal(sys_mov_to_dr(v, 0, 0x8000000000000000), EXEC_OK);
	assert_int_equal(sys_mov_to_dr(v, 6, 0), EXEC_OK);
	assert_int_equal(sys_mov_from_dr(v, 4, &value), EXEC_OK);	/* the alias */
	assert_int_equal(value, DR6_FIXED);
	assert_int_equal(sys_mov_to_dr(v, 5, 0xffffffff & ~DR7_GD), EXEC_OK);
	assert_int_equal(sys_mov_from_dr(v, 7, &value), EXEC_OK);
	assert_int_equal(value, 0xffff07ff);
	assert_raised(v, sys_mov_to_dr(v, 7, BIT(32)), EXC_GP, 0);
	assert_raised(v, sys_mov_to_dr(v, 6, BIT(32)), EXC_GP, 0);
	v->cr4 |= CR4_DE;
	assert_raised_ud(v, sys_mov_from_dr(v, 4, &value));
	assert_raised_ud(v, sys_mov_to_dr(v, 8, 0));
	assert_int_equal(sys_mov_to_dr(v, 7, DR7_GD), EXEC_OK);
	assert_int_equal(sys_mov_from_dr(v, 0, &value), EXEC_FAULT);
	assert_int_equal(v->fault.vector, EXC_DB);
	assert_int_equal(v->fault.dr6, DR6_BD);
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_raised(v, sys_mov_from_dr(v, 0, &value), EXC_GP, 0);
}

static void test_breakpoints(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t dr6;

	rig_long(g, 0);
	v->dr[0] = v->dr[1] = 0x1234;
	v->dr[7] = DR7_FIXED | 2;			/* G0: execute */
	assert_true(debug_code_breakpoint(v, 0x1234, &dr6));
	assert_int_equal(dr6, 3);			/* the disabled twin reports as well */
	assert_false(debug_code_breakpoint(v, 0x1235, &dr6));
	v->rflags |= RFLAGS_RF;
	assert_false(debug_code_breakpoint(v, 0x1234, &dr6));
	v->dr[7] = DR7_FIXED | 1 | 2ULL << 16 | 1ULL << 18;	/* L0: two ports */
	v->dr[0] = 0x71;				/* aligned down to 0x70 */
	v->dr[1] = 0;
	io_in(v, 0x70, 1);
	assert_int_equal(v->db_pending, 0);		/* CR4.DE is clear */
	v->cr4 |= CR4_DE;
	io_in(v, 0x72, 1);
	assert_int_equal(v->db_pending, 0);
	io_out(v, 0x6f, 2, 0);
	assert_int_equal(v->db_pending, 1);
}

static void test_invpcid(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	assert_raised(v, sys_invpcid(v, 4, 0, 0), EXC_GP, 0);
	assert_raised(v, sys_invpcid(v, 2, 0x1000, 0), EXC_GP, 0);
	assert_raised(v, sys_invpcid(v, 0, 1, 0), EXC_GP, 0);	/* PCIDE is clear */
	assert_raised(v, sys_invpcid(v, 0, 0, 1ULL << 47), EXC_GP, 0);
	for (unsigned int type = 0; type < 4; type++)
		assert_int_equal(sys_invpcid(v, type, 0, 0x1000), EXEC_OK);
	assert_int_equal(sys_invlpg(v, 1ULL << 47), EXEC_OK);
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_raised(v, sys_invlpg(v, 0), EXC_GP, 0);
	assert_raised(v, sys_invpcid(v, 0, 0, 0), EXC_GP, 0);
	assert_raised(v, sys_hlt(v), EXC_GP, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_real_to_long), rig_test(test_cr0), rig_test(test_cr3),
		rig_test(test_pae_pdptes), rig_test(test_cr4), rig_test(test_debug_registers),
		rig_test(test_breakpoints), rig_test(test_invpcid),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
