// SPDX-License-Identifier: Apache-2.0
/* Far jumps, calls, call gates, returns, IRET, and the fast system calls. */
#include "sys_rig.h"

#define TARGET	0x41000U

static void call_gate32(struct guest *g, uint16_t sel, uint32_t off, uint8_t type, uint8_t params)
{
	rig_gdt_set(g, SEL_GATE, rig_gate(sel, off, type, params));
}

/* --- real mode --- */

static void test_real_far(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	assert_int_equal(far_call(v, 0x2000, 0x55, 2, 0x105), EXEC_OK);
	assert_int_equal(v->seg[SEG_CS].base, 0x20000);
	assert_int_equal(v->rip, 0x55);
	assert_int_equal(get16(g, 0x7ffe), 0x1000);
	assert_int_equal(get16(g, 0x7ffc), 0x105);
	assert_int_equal(far_return(v, 2, 6), EXEC_OK);
	assert_int_equal(v->rip, 0x105);
	assert_int_equal(v->gpr[REG_RSP], 0x8006);
	assert_raised(v, far_jump(v, 0, 0x12345, 4, 0), EXC_GP, 0);
	assert_int_equal(far_jump(v, 0xf000, 0x12345, 2, 0), EXEC_OK);
	assert_int_equal(v->rip, 0x2345);
}

/* --- direct --- */

static void test_jump_checks(void **state)
{
	static const struct {
		unsigned int cpl;
		uint16_t sel;
		unsigned int vector;	/* 0: allowed */
		uint32_t error;
	} rows[] = {
		{ 0, SEL_CODE0, 0, 0 }, { 0, 0, EXC_GP, 0 }, { 0, 3, EXC_GP, 0 },
		{ 0, SEL_CODE0 | 1, EXC_GP, SEL_CODE0 },	/* RPL above CPL */
		{ 0, SEL_CODE3 | 3, EXC_GP, SEL_CODE3 }, { 0, SEL_DATA0, EXC_GP, SEL_DATA0 },
		{ 0, SEL_ABSENT_CODE, EXC_NP, SEL_ABSENT_CODE },
		{ 0, SEL_BEYOND, EXC_GP, SEL_BEYOND }, { 0, SEL_LDT, EXC_GP, SEL_LDT },
		{ 0, SEL_CODE0 | 4, EXC_GP, SEL_CODE0 | 4 },	/* no LDT */
		{ 3, SEL_CODE3, 0, 0 }, { 3, SEL_CODE0, EXC_GP, SEL_CODE0 },
		{ 3, SEL_CONFORMING | 3, 0, 0 }, { 3, SEL_EXEC_ONLY | 3, 0, 0 },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	v->ldtr.attr = SEG_UNUSABLE;
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		if (rows[i].cpl)
			rig_start(g, SEL_CODE3 | 3, SEL_DATA3 | 3);
		else
			rig_start(g, SEL_CODE0, SEL_DATA0);
		if (rows[i].vector) {
			assert_raised(v, far_jump(v, rows[i].sel, TARGET, 4, 0),
				      rows[i].vector, rows[i].error);
			assert_int_equal(v->rip, RIG_RIP);
			continue;
		}
		assert_int_equal(far_jump(v, rows[i].sel, TARGET, 4, 0), EXEC_OK);
		assert_int_equal(v->rip, TARGET);
		assert_int_equal(v->seg[SEG_CS].sel, (rows[i].sel & ~3) | rows[i].cpl);
		assert_int_equal(v->cpl, rows[i].cpl);
	}
}

static void test_jump_limit(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_gdt_set(g, SEL_CODE1, rig_desc(0, 0xfff, A_CODE | SEG_DB));
	assert_raised(v, far_jump(v, SEL_CODE1, 0x1000, 4, 0), EXC_GP, 0);
	assert_int_equal(far_jump(v, SEL_CODE1, 0xfff, 4, 0), EXEC_OK);
}

static void test_jump_between_sizes(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	assert_int_equal(far_jump(v, SEL_CODE0, TARGET, 8, 0), EXEC_OK);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(v->stack_size, 4);
	assert_int_equal(far_jump(v, SEL_CODE64, TARGET, 4, 0), EXEC_OK);
	assert_int_equal(v->code_size, CODE_64);
	assert_int_equal(v->stack_size, 8);
	assert_raised(v, far_jump(v, SEL_BAD_LONG, TARGET, 8, 0), EXC_GP, SEL_BAD_LONG);
	assert_raised(v, far_jump(v, SEL_CODE64, 1ULL << 47, 8, 0), EXC_GP, 0);
	/* No 16-bit gates, TSSs and task gates in long mode. */
	assert_raised(v, far_jump(v, SEL_TSS2, 0, 8, 0), EXC_GP, SEL_TSS2);
}

/* --- call gates --- */

static void test_gate_inner(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint32_t sp = RIG_STACK0 - 24;

	rig_prot32(g, 3);
	call_gate32(g, SEL_CODE0, TARGET, SEG_P | DPL(3) | 12, 2);
	put32(g, RIG_STACK3, 0x11111111);
	put32(g, RIG_STACK3 + 4, 0x22222222);
	assert_int_equal(far_call(v, SEL_GATE | 3, 0xdead, 4, RIG_RIP + 7), EXEC_OK);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->rip, TARGET);
	assert_int_equal(v->seg[SEG_CS].sel, SEL_CODE0);
	assert_int_equal(v->gpr[REG_RSP], sp);
	assert_int_equal(get32(g, sp), RIG_RIP + 7);
	assert_int_equal(get32(g, sp + 4), SEL_CODE3 | 3);
	assert_int_equal(get32(g, sp + 8), 0x11111111);
	assert_int_equal(get32(g, sp + 12), 0x22222222);
	assert_int_equal(get32(g, sp + 16), RIG_STACK3);
	assert_int_equal(get32(g, sp + 20), SEL_DATA3 | 3);

	/* The return takes the parameters off both stacks and drops inner data segments. */
	rig_segment(g, SEG_DS, SEL_DATA0);
	rig_segment(g, SEG_ES, SEL_CONFORMING);
	assert_int_equal(far_return(v, 4, 8), EXEC_OK);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->rip, RIG_RIP + 7);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 + 8);
	assert_int_equal(v->seg[SEG_SS].sel, SEL_DATA3 | 3);
	assert_true(v->seg[SEG_DS].attr & SEG_UNUSABLE);
	assert_int_equal(v->seg[SEG_DS].sel, 0);
	assert_int_equal(v->seg[SEG_ES].sel, SEL_CONFORMING);
	assert_int_equal(v->seg[SEG_FS].sel, SEL_DATA3 | 3);
}

static void test_gate16_same(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	call_gate32(g, SEL_CODE0, 0xabcd1234, SEG_P | 4, 5);
	assert_int_equal(far_call(v, SEL_GATE, 0, 4, 0x9876), EXEC_OK);
	assert_int_equal(v->rip, 0x1234);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 - 4);
	assert_int_equal(get16(g, RIG_STACK3 - 4), 0x9876);
	assert_int_equal(get16(g, RIG_STACK3 - 2), SEL_CODE0);
}

static void test_gate_checks(void **state)
{
	static const struct {
		uint16_t sel;
		uint8_t type;
		bool jump;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ SEL_CODE0, SEG_P | DPL(2) | 12, false, EXC_GP, SEL_GATE },
		{ SEL_CODE0, DPL(3) | 12, false, EXC_NP, SEL_GATE },
		{ 0, SEG_P | DPL(3) | 12, false, EXC_GP, 0 },
		{ SEL_BEYOND, SEG_P | DPL(3) | 12, false, EXC_GP, SEL_BEYOND },
		{ SEL_DATA0, SEG_P | DPL(3) | 12, false, EXC_GP, SEL_DATA0 },
		{ SEL_ABSENT_CODE, SEG_P | DPL(3) | 12, false, EXC_NP, SEL_ABSENT_CODE },
		{ SEL_CODE0, SEG_P | DPL(3) | 12, true, EXC_GP, SEL_CODE0 },	/* inner by jump */
		{ SEL_CODE0, SEG_P | DPL(3) | 14, false, EXC_GP, SEL_GATE },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		call_gate32(g, rows[i].sel, TARGET, rows[i].type, 0);
		if (rows[i].jump)
			assert_raised(v, far_jump(v, SEL_GATE | 3, 0, 4, 0), rows[i].vector,
				      rows[i].error);
		else
			assert_raised(v, far_call(v, SEL_GATE | 3, 0, 4, 0), rows[i].vector,
				      rows[i].error);
		assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
	}
	call_gate32(g, SEL_CONFORMING, TARGET, SEG_P | DPL(3) | 12, 0);
	assert_int_equal(far_jump(v, SEL_GATE | 3, 0, 4, 0), EXEC_OK);
	assert_int_equal(v->cpl, 3);
	/* The RPL counts by itself. */
	rig_start(g, SEL_CODE0, SEL_DATA0);
	call_gate32(g, SEL_CODE0, TARGET, SEG_P | 12, 0);
	assert_raised(v, far_call(v, SEL_GATE | 3, 0, 4, 0), EXC_GP, SEL_GATE);
	assert_int_equal(far_call(v, SEL_GATE, 0, 4, 0), EXEC_OK);
}

static void test_gate64(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t sp = RIG_STACK0 - 32;

	rig_long(g, 3);
	call_gate32(g, SEL_CODE64, TARGET, SEG_P | DPL(3) | 12, 9);
	rig_gdt_set(g, SEL_GATE + 8, 0x1f0000000000);
	assert_raised(v, far_call(v, SEL_GATE | 3, 0, 8, 0), EXC_GP, SEL_GATE);
	rig_gdt_set(g, SEL_GATE + 8, 0xffff8000);
	assert_int_equal(far_call(v, SEL_GATE | 3, 0, 8, RIG_RIP + 5), EXEC_OK);
	assert_int_equal(v->rip, 0xffff800000000000 + TARGET);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->seg[SEG_SS].sel, 0);
	assert_int_equal(v->gpr[REG_RSP], sp);
	assert_int_equal(get64(g, sp), RIG_RIP + 5);
	assert_int_equal(get64(g, sp + 8), SEL_CODE64_3 | 3);
	assert_int_equal(get64(g, sp + 16), RIG_STACK3);
	assert_int_equal(get64(g, sp + 24), SEL_DATA3 | 3);
	assert_int_equal(far_return(v, 8, 0), EXEC_OK);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
}

/* --- IRET --- */

static void push_frame(struct guest *g, uint64_t rip, uint64_t cs, uint64_t flags, uint64_t sp,
		       uint64_t ss)
{
	const uint64_t words[] = { rip, cs, flags, sp, ss };

	g->v->gpr[REG_RSP] = 0x50000;
	for (unsigned int i = 0; i < 5; i++)
		if (in_long_mode(g->v))
			put64(g, 0x50000 + i * 8, words[i]);
		else
			put32(g, 0x50000 + i * 4, words[i]);
}

static void test_iret_flags(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	v->rflags = RFLAGS_FIXED | RFLAGS_IF | RFLAGS_VIF;
	/* At CPL 3 with IOPL 0 neither IF nor IOPL nor VIF can change. */
	push_frame(g, TARGET, SEL_CODE3 | 3, RFLAGS_IOPL | RFLAGS_CF | RFLAGS_RF | RFLAGS_AC, 0, 0);
	assert_int_equal(sys_iret(v, 4, 0), EXEC_OK);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_VIF | RFLAGS_CF |
			 RFLAGS_RF | RFLAGS_AC);
	assert_int_equal(v->gpr[REG_RSP], 0x5000c);
	rig_start(g, SEL_CODE0, SEL_DATA0);
	push_frame(g, TARGET, SEL_CODE0, RFLAGS_IOPL, 0, 0);
	assert_int_equal(sys_iret(v, 4, 0), EXEC_OK);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_IOPL);
}

static void test_iret_checks(void **state)
{
	static const struct {
		uint16_t cs, ss;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ 0, SEL_DATA3 | 3, EXC_GP, 0 }, { SEL_BEYOND, 0, EXC_GP, SEL_BEYOND },
		{ SEL_DATA0, 0, EXC_GP, SEL_DATA0 }, { SEL_CODE64, SEL_CODE64, EXC_GP, SEL_CODE64 },
		{ SEL_CODE64_3, SEL_DATA0, EXC_GP, SEL_CODE64_3 },	/* RPL is not DPL */
		{ SEL_CODE64_3 | 3, 3, EXC_GP, 0 }, { SEL_CODE64_3 | 3, 0, EXC_GP, 0 },
		{ SEL_CODE64_3 | 3, SEL_DATA3, EXC_GP, SEL_DATA3 },
		{ SEL_CODE64_3 | 3, SEL_DATA0 | 3, EXC_GP, SEL_DATA0 },
		{ SEL_CODE64_3 | 3, SEL_READ_ONLY | 3, EXC_GP, SEL_READ_ONLY },
		{ SEL_CODE64_3 | 3, SEL_ABSENT | 3, EXC_SS, SEL_ABSENT },
		{ SEL_BAD_LONG, SEL_DATA0, EXC_GP, SEL_BAD_LONG },
		{ SEL_CODE0, 0, EXC_GP, 0 },		/* null SS for 32-bit code */
		{ SEL_CODE64, 1, EXC_GP, 0 },		/* null SS of another RPL */
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		push_frame(g, TARGET, rows[i].cs, RFLAGS_FIXED, RIG_STACK3, rows[i].ss);
		assert_raised(v, sys_iret(v, 8, 0), rows[i].vector, rows[i].error);
		assert_int_equal(v->gpr[REG_RSP], 0x50000);
		assert_int_equal(v->seg[SEG_CS].sel, SEL_CODE64);
		assert_true(v->rflags & RFLAGS_IF);
	}
	push_frame(g, 1ULL << 47, SEL_CODE64, RFLAGS_FIXED, RIG_STACK3, 0);
	assert_raised(v, sys_iret(v, 8, 0), EXC_GP, 0);
	v->rflags |= RFLAGS_NT;
	assert_raised(v, sys_iret(v, 8, 0), EXC_GP, 0);
	/* No inner level by IRET. */
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	push_frame(g, TARGET, SEL_CODE64, RFLAGS_FIXED, RIG_STACK3, 0);
	assert_raised(v, sys_iret(v, 8, 0), EXC_GP, SEL_CODE64);
}

/* To itself, as kernels serialise with it, with a null SS; and to compatibility mode. */
static void test_iret_long(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	push_frame(g, TARGET, SEL_CODE64, RFLAGS_FIXED, RIG_STACK3, 0);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->rip, TARGET);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
	assert_int_equal(v->cpl, 0);
	assert_true(v->seg[SEG_SS].attr & SEG_UNUSABLE);
	push_frame(g, TARGET, SEL_CODE3 | 3, RFLAGS_FIXED, 0x1234567890, SEL_DATA3 | 3);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->code_size, CODE_32);
	assert_int_equal(v->gpr[REG_RSP], 0x34567890);
	assert_int_equal(v->cpl, 3);
}

/* A 16-bit stack gets SP alone. */
static void test_return_to_stack16(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_gdt_set(g, SEL_STACK16, rig_desc(0, 0xffff, A_DATA | DPL(3)));
	push_frame(g, TARGET, SEL_CODE3 | 3, RFLAGS_FIXED, 0x12345678, SEL_STACK16 | 3);
	v->gpr[REG_RSP] = 0x50000;
	assert_int_equal(sys_iret(v, 4, 0), EXEC_OK);
	assert_int_equal(v->stack_size, 2);
	assert_int_equal(v->gpr[REG_RSP], 0x55678);
}

static void test_nmi_unblocked(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	v->nmi_blocked = v->nmi_parked = true;
	push_frame(g, TARGET, 0, RFLAGS_FIXED, RIG_STACK3, 0);
	assert_raised(v, sys_iret(v, 8, 0), EXC_GP, 0);
	assert_false(v->nmi_blocked);
	assert_false(v->nmi_parked);
	assert_true(v->attention & ATTN_NMI);
}

/* --- fast system calls --- */

static void test_syscall(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 3);
	v->star = (uint64_t)0x23 << 48 | (uint64_t)0x13 << 32;
	v->lstar = 0xffffffff81000000;
	v->sfmask = RFLAGS_IF | RFLAGS_TF | RFLAGS_AC;
	v->rflags |= RFLAGS_CF | RFLAGS_AC | RFLAGS_RF;
	assert_raised_ud(v, sys_syscall(v, RIG_RIP + 2));
	assert_raised_ud(v, sys_sysret(v, 8));
	v->efer |= EFER_SCE;
	assert_raised(v, sys_sysret(v, 8), EXC_GP, 0);
	assert_int_equal(sys_syscall(v, RIG_RIP + 2), EXEC_OK);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->rip, v->lstar);
	assert_int_equal(v->seg[SEG_CS].sel, 0x10);
	assert_int_equal(v->seg[SEG_SS].sel, 0x18);
	assert_int_equal(v->gpr[REG_RCX], RIG_RIP + 2);
	assert_int_equal(v->gpr[REG_R11], RFLAGS_FIXED | RFLAGS_IF | RFLAGS_CF | RFLAGS_AC);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_CF);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);

	/* Back: a non-canonical address faults while still at CPL 0. */
	v->gpr[REG_RCX] = 1ULL << 47;
	assert_raised(v, sys_sysret(v, 8), EXC_GP, 0);
	assert_int_equal(v->cpl, 0);
	v->gpr[REG_RCX] = 0x1122334455;
	v->gpr[REG_R11] = UINT64_MAX;
	assert_int_equal(sys_sysret(v, 8), EXEC_OK);
	assert_int_equal(v->rip, 0x1122334455);
	assert_int_equal(v->seg[SEG_CS].sel, 0x33);
	assert_int_equal(v->seg[SEG_SS].sel, 0x2b);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->rflags, 0x3c7fd7);

	assert_int_equal(sys_syscall(v, 0), EXEC_OK);
	v->gpr[REG_RCX] = 0x1122334455;
	assert_int_equal(sys_sysret(v, 4), EXEC_OK);
	assert_int_equal(v->rip, 0x22334455);
	assert_int_equal(v->seg[SEG_CS].sel, 0x23);
	assert_int_equal(v->code_size, CODE_32);
	/* Not in compatibility mode, as on Intel's. */
	assert_raised_ud(v, sys_syscall(v, 0));
}

static void test_sysenter(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	assert_raised(v, sys_sysenter(v, 0), EXC_GP, 0);
	v->sysenter_cs = 0x13;
	v->sysenter_eip = 0x8100000012345678;
	v->sysenter_esp = 0x900000012345000;
	assert_raised(v, sys_sysexit(v, 4), EXC_GP, 0);
	assert_int_equal(sys_sysenter(v, 0), EXEC_OK);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->rip, 0x12345678);
	assert_int_equal(v->gpr[REG_RSP], 0x12345000);
	assert_int_equal(v->seg[SEG_CS].sel, 0x10);
	assert_int_equal(v->seg[SEG_SS].sel, 0x18);
	assert_false(v->rflags & RFLAGS_IF);
	v->gpr[REG_RDX] = 0x1000;
	v->gpr[REG_RCX] = 0x2000;
	assert_int_equal(sys_sysexit(v, 4), EXEC_OK);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->seg[SEG_CS].sel, 0x23);
	assert_int_equal(v->seg[SEG_SS].sel, 0x2b);
	assert_int_equal(v->gpr[REG_RSP], 0x2000);
}

static void test_swapgs(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	v->seg[SEG_GS].base = 1;
	v->kernel_gs_base = 2;
	assert_int_equal(sys_swapgs(v), EXEC_OK);
	assert_int_equal(v->seg[SEG_GS].base, 2);
	assert_int_equal(v->kernel_gs_base, 1);
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_raised(v, sys_swapgs(v), EXC_GP, 0);
	rig_start(g, SEL_CODE0, SEL_DATA0);
	assert_raised_ud(v, sys_swapgs(v));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_real_far), rig_test(test_jump_checks), rig_test(test_jump_limit),
		rig_test(test_jump_between_sizes), rig_test(test_gate_inner),
		rig_test(test_gate16_same), rig_test(test_gate_checks), rig_test(test_gate64),
		rig_test(test_iret_flags), rig_test(test_iret_checks), rig_test(test_iret_long),
		rig_test(test_return_to_stack16), rig_test(test_nmi_unblocked),
		rig_test(test_syscall), rig_test(test_sysenter), rig_test(test_swapgs),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
