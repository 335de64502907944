// SPDX-License-Identifier: Apache-2.0
/* Delivery of exceptions and interrupts: frames, stacks, error codes, double faults. */
#include "sys_rig.h"

#define HANDLER(n)	(RIG_HANDLER + (n) * 16)
#define IDT_ERR(n)	((n) * 8 + 2)

/* --- real mode --- */

static void test_real(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	put16(g, 0x21 * 4, 0x1234);
	put16(g, 0x21 * 4 + 2, 0x2000);
	v->rflags |= RFLAGS_CF | RFLAGS_TF | RFLAGS_AC;
	assert_int_equal(vcpu_software_interrupt(v, 0x21, 2, false), EXEC_OK);
	assert_int_equal(v->rip, 0x1234);
	assert_int_equal(v->seg[SEG_CS].sel, 0x2000);
	assert_int_equal(v->seg[SEG_CS].base, 0x20000);
	assert_int_equal(v->gpr[REG_RSP], 0x7ffa);
	assert_int_equal(get16(g, 0x7ffa), 0x102);
	assert_int_equal(get16(g, 0x7ffc), 0x1000);
	assert_int_equal(get16(g, 0x7ffe), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_CF | RFLAGS_TF);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_CF);
	/* And back. */
	assert_int_equal(sys_iret(v, 2, 0), EXEC_OK);
	assert_int_equal(v->rip, 0x102);
	assert_int_equal(v->seg[SEG_CS].base, 0x10000);
	assert_int_equal(v->gpr[REG_RSP], 0x8000);
	assert_true(v->rflags & RFLAGS_IF && v->rflags & RFLAGS_TF);
}

static void test_real_no_error_code(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	put16(g, EXC_GP * 4, 0x4321);
	raise_gp(v, 0x50);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->gpr[REG_RSP], 0x7ffa);
	assert_int_equal(get16(g, 0x7ffa), 0x100);
	assert_int_equal(v->rip, 0x4321);
}

/* The stack pointer wraps between words, and an odd one does not. */
static void test_real_stack_wrap(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	put16(g, 8 * 4, 0x777);
	v->gpr[REG_RSP] = 2;
	assert_int_equal(vcpu_interrupt(v, 8), EXEC_OK);
	assert_int_equal(v->gpr[REG_RSP], 0xfffc);
	assert_int_equal(get16(g, 0), RFLAGS_FIXED | RFLAGS_IF);
	assert_int_equal(get16(g, 0xfffe), 0x1000);
	assert_int_equal(get16(g, 0xfffc), 0x100);
	v->gpr[REG_RSP] = 1;
	assert_int_equal(vcpu_interrupt(v, 8), EXEC_EXIT);
	assert_true(v->shutdown);
}

static void test_real_limit(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_real(g);
	v->idtr.limit = 0x21 * 4 + 2;
	assert_raised(v, vcpu_software_interrupt(v, 0x21, 2, false), EXC_GP, IDT_ERR(0x21));
	assert_int_equal(v->rip, 0x100);
	assert_int_equal(v->gpr[REG_RSP], 0x8000);
}

/* --- 32 bits --- */

static void test_prot32_inner(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint32_t sp = RIG_STACK0 - 24;

	rig_prot32(g, 3);
	rig_idt_fill(g);
	v->rflags |= RFLAGS_TF | RFLAGS_NT | RFLAGS_ZF;
	raise_gp(v, 0x1234);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->seg[SEG_CS].sel, SEL_CODE0);
	assert_int_equal(v->seg[SEG_SS].sel, SEL_DATA0);
	assert_int_equal(v->rip, HANDLER(EXC_GP));
	assert_int_equal(v->gpr[REG_RSP], sp);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_ZF);
	assert_int_equal(get32(g, sp), 0x1234);
	assert_int_equal(get32(g, sp + 4), RIG_RIP);
	assert_int_equal(get32(g, sp + 8), SEL_CODE3 | 3);
	/* A fault's image has RF set. */
	assert_int_equal(get32(g, sp + 12), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_TF | RFLAGS_NT |
			 RFLAGS_ZF | RFLAGS_RF);
	assert_int_equal(get32(g, sp + 16), RIG_STACK3);
	assert_int_equal(get32(g, sp + 20), SEL_DATA3 | 3);
	/* The data segments stay. */
	assert_int_equal(v->seg[SEG_DS].sel, SEL_DATA3 | 3);
	assert_true(rig_gdt_get(g, SEL_CODE0) >> 40 & SEG_A);
}

static void test_prot32_same_level(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_idt32(g, 0x30, rig_gate(SEL_CODE0, HANDLER(0x30), SEG_P | 15, 0));
	assert_int_equal(vcpu_interrupt(v, 0x30), EXEC_OK);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 - 12);
	assert_int_equal(get32(g, RIG_STACK3 - 4), RFLAGS_FIXED | RFLAGS_IF);
	/* A trap gate leaves IF. */
	assert_true(v->rflags & RFLAGS_IF);
}

/* A 16-bit gate pushes words. */
static void test_prot16_gate(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_idt32(g, EXC_NP, rig_gate(SEL_CODE0, 0xdead4321, SEG_P | 6, 0));
	raise_err(v, EXC_NP, 0xabc);
	v->rip = 0x5678;
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->rip, 0x4321);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 - 8);
	assert_int_equal(get16(g, RIG_STACK3 - 8), 0xabc);
	assert_int_equal(get16(g, RIG_STACK3 - 6), 0x5678);
	assert_int_equal(get16(g, RIG_STACK3 - 4), SEL_CODE0);
}

/* Each way a gate can be wrong, for a software interrupt from CPL 3: no EXT bit. */
static void test_bad_gates(void **state)
{
	static const struct {
		uint16_t sel;
		uint8_t type;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ SEL_CODE0, SEG_P | 14, EXC_GP, IDT_ERR(0x40) },		/* DPL 0 */
		{ SEL_CODE0, DPL(3) | 14, EXC_NP, IDT_ERR(0x40) },
		{ SEL_CODE0, SEG_P | DPL(3) | 12, EXC_GP, IDT_ERR(0x40) },	/* a call gate */
		{ SEL_CODE0, SEG_P | DPL(3) | SEG_S | 14, EXC_GP, IDT_ERR(0x40) },
		{ 0, SEG_P | DPL(3) | 14, EXC_GP, 0 },
		{ SEL_BEYOND, SEG_P | DPL(3) | 14, EXC_GP, SEL_BEYOND },
		{ SEL_DATA0, SEG_P | DPL(3) | 14, EXC_GP, SEL_DATA0 },
		{ SEL_ABSENT_CODE, SEG_P | DPL(3) | 14, EXC_NP, SEL_ABSENT_CODE },
		{ SEL_TSS2 | 4, SEG_P | DPL(3) | 5, EXC_GP, SEL_TSS2 | 4 },	/* of the LDT */
		{ SEL_LDT, SEG_P | DPL(3) | 5, EXC_GP, SEL_LDT },		/* not a TSS */
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_idt32(g, 0x40, rig_gate(rows[i].sel, RIG_HANDLER, rows[i].type, 0));
		assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), rows[i].vector,
			      rows[i].error);
		assert_int_equal(v->rip, RIG_RIP);
		assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
		assert_int_equal(v->cpl, 3);
	}
	v->idtr.limit = 0x40 * 8 + 6;
	assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), EXC_GP, IDT_ERR(0x40));
}

/* What can be wrong with the inner stack. */
static void test_bad_inner_stack(void **state)
{
	static const struct {
		uint16_t ss;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ 0, EXC_TS, 0 }, { SEL_DATA0 | 1, EXC_TS, SEL_DATA0 },
		{ SEL_DATA3, EXC_TS, SEL_DATA3 }, { SEL_CODE0, EXC_TS, SEL_CODE0 },
		{ SEL_BEYOND, EXC_TS, SEL_BEYOND }, { SEL_ABSENT_STACK, EXC_SS, SEL_ABSENT_STACK },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	rig_idt32(g, 0x40, rig_gate(SEL_CODE0, RIG_HANDLER, SEG_P | DPL(3) | 14, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		put16(g, RIG_TSS + 8, rows[i].ss);
		assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), rows[i].vector,
			      rows[i].error);
	}
	v->tr.limit = 8;
	assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), EXC_TS, SEL_TSS);
	/* A stack too small for the frame: #SS with its selector. */
	v->tr.limit = 0x1fff;
	put16(g, RIG_TSS + 8, SEL_DOWN);
	put32(g, RIG_TSS + 4, 0x1008);
	assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), EXC_SS, SEL_DOWN);
	put32(g, RIG_TSS + 4, 0x1014);
	assert_int_equal(vcpu_software_interrupt(v, 0x40, 2, false), EXEC_OK);
}

/* The same faults on the way of an exception carry the EXT bit. */
static void test_ext_bit(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 0);
	rig_idt_fill(g);
	rig_idt32(g, 0x21, rig_gate(SEL_CODE0, RIG_HANDLER, 14, 0));
	assert_int_equal(vcpu_interrupt(v, 0x21), EXEC_OK);
	assert_int_equal(v->rip, HANDLER(EXC_NP));
	assert_int_equal(get32(g, RIG_STACK3 - 16), IDT_ERR(0x21) | 1);
	assert_int_equal(get32(g, RIG_STACK3 - 12), RIG_RIP);
}

/* --- 64 bits --- */

static void test_long_inner(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t sp = RIG_STACK0 - 48;

	rig_long(g, 3);
	rig_idt_fill(g);
	raise_pf(v, 0xffff800012345678, PF_U | PF_W);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->cr2, 0xffff800012345678);
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->code_size, CODE_64);
	assert_int_equal(v->seg[SEG_CS].sel, SEL_CODE64);
	assert_int_equal(v->seg[SEG_SS].sel, 0);
	assert_int_equal(v->rip, HANDLER(EXC_PF));
	assert_int_equal(v->gpr[REG_RSP], sp);
	assert_int_equal(get64(g, sp), PF_U | PF_W);
	assert_int_equal(get64(g, sp + 8), RIG_RIP);
	assert_int_equal(get64(g, sp + 16), SEL_CODE64_3 | 3);
	assert_int_equal(get64(g, sp + 24), RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF);
	assert_int_equal(get64(g, sp + 32), RIG_STACK3);
	assert_int_equal(get64(g, sp + 40), SEL_DATA3 | 3);
	/* IRETQ takes the error code away first. */
	v->gpr[REG_RSP] += 8;
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
	assert_int_equal(v->seg[SEG_SS].sel, SEL_DATA3 | 3);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_RF);
}

static void test_long_ist(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_idt_fill(g);
	rig_idt64(g, EXC_NMI, rig_gate(SEL_CODE64, HANDLER(2), SEG_P | 14, 1), 0xffff8000);
	put64(g, RIG_TSS + 36, RIG_IST1 + 7);
	assert_int_equal(vcpu_nmi(v), EXEC_OK);
	assert_true(v->nmi_blocked);
	assert_int_equal(v->rip, 0xffff800000000000 + HANDLER(2));
	/* The stack is aligned, SS stays at the same level. */
	assert_int_equal(v->gpr[REG_RSP], RIG_IST1 - 40);
	assert_int_equal(v->seg[SEG_SS].sel, SEL_DATA0);
	assert_int_equal(get64(g, RIG_IST1 - 16), RIG_STACK3);
	assert_int_equal(get64(g, RIG_IST1 - 24), RFLAGS_FIXED | RFLAGS_IF);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_false(v->nmi_blocked);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
}

static void test_long_same_level_aligns(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_idt_fill(g);
	v->gpr[REG_RSP] = RIG_STACK3 + 11;
	assert_int_equal(vcpu_interrupt(v, 0x20), EXEC_OK);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 - 40);
	assert_int_equal(get64(g, RIG_STACK3 - 16), RIG_STACK3 + 11);
	assert_int_equal(get64(g, RIG_STACK3 - 8), SEL_DATA0);
}

static void test_long_bad_gates(void **state)
{
	static const struct {
		uint16_t sel;
		uint8_t type;
		unsigned int vector;
		uint32_t error;
	} rows[] = {
		{ SEL_CODE64, SEG_P | DPL(3) | 6, EXC_GP, IDT_ERR(0x40) },	/* 16-bit */
		{ SEL_TSS2, SEG_P | DPL(3) | 5, EXC_GP, IDT_ERR(0x40) },	/* task gate */
		{ SEL_CODE0, SEG_P | DPL(3) | 14, EXC_GP, SEL_CODE0 },		/* 32-bit code */
		{ SEL_BAD_LONG, SEG_P | DPL(3) | 14, EXC_GP, SEL_BAD_LONG },
		{ SEL_CODE64, DPL(3) | 14, EXC_NP, IDT_ERR(0x40) },
	};
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 3);
	for (unsigned int i = 0; i < ARRAY_SIZE(rows); i++) {
		rig_idt64(g, 0x40, rig_gate(rows[i].sel, RIG_HANDLER, rows[i].type, 0), 0);
		assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), rows[i].vector,
			      rows[i].error);
	}
	rig_idt64(g, 0x40, rig_gate(SEL_CODE64, 0, SEG_P | DPL(3) | 14, 0), 0x8000);
	assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), EXC_GP, 0);
	rig_idt64(g, 0x40, rig_gate(SEL_CODE64, 0, SEG_P | DPL(3) | 14, 0), 0);
	put64(g, RIG_TSS + 4, 0x800000000000);
	assert_raised(v, vcpu_software_interrupt(v, 0x40, 2, false), EXC_SS, 0);
}

/* --- double and triple faults --- */

static void test_double_fault(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 3);
	rig_idt_fill(g);
	rig_idt64(g, EXC_DF, rig_gate(SEL_CODE64, HANDLER(8), SEG_P | 14, 1), 0);
	put64(g, RIG_TSS + 4, 0x7ffffff000);	/* not mapped */
	raise_pf(v, 0x1000, PF_U);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->rip, HANDLER(8));
	assert_int_equal(v->gpr[REG_RSP], RIG_IST1 - 48);
	assert_int_equal(get64(g, RIG_IST1 - 48), 0);
	assert_int_equal(get64(g, RIG_IST1 - 40), RIG_RIP);
	/* CR2 is of the second page fault, at the stack. */
	assert_int_equal(v->cr2 & ~GUEST_PAGE_MASK, 0x7fffffe000);
}

/* A page fault while an interrupt is delivered is just a page fault. */
static void test_serial_faults(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 3);
	rig_idt_fill(g);
	rig_idt64(g, EXC_PF, rig_gate(SEL_CODE64, HANDLER(14), SEG_P | 14, 1), 0);
	put64(g, RIG_TSS + 4, 0x7ffffff000);
	assert_int_equal(vcpu_interrupt(v, 0x0d), EXEC_OK);	/* vector 13, no #GP */
	assert_int_equal(v->rip, HANDLER(14));
	assert_int_equal(get64(g, RIG_IST1 - 48), PF_W);
}

static void test_triple_fault(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	enum vcpu_exit why;

	rig_long(g, 0);
	v->idtr.limit = 0;
	raise_ud(v);
	assert_int_equal(vcpu_deliver(v), EXEC_EXIT);
	assert_true(v->shutdown);
	assert_int_equal(v->rip, RIG_RIP);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3);
	assert_int_equal(vcpu_attend(v, false, &why), EXEC_EXIT);
	assert_int_equal(why, VCPU_EXIT_SHUTDOWN);
}

/* At CPL 3 with alignment checks: words count, not the frame, and #AC in #AC ends. */
static void test_alignment_check(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	for (unsigned int n = 0; n < 64; n++)
		rig_idt32(g, n, rig_gate(SEL_CODE3, HANDLER(n), SEG_P | DPL(3) | 14, 0));
	v->cr0 |= CR0_AM;
	v->rflags |= RFLAGS_AC;
	vcpu_update_mode(v);
	v->gpr[REG_RSP] = RIG_STACK3 + 4;
	assert_int_equal(vcpu_software_interrupt(v, 0x20, 2, false), EXEC_OK);
	assert_int_equal(v->gpr[REG_RSP], RIG_STACK3 - 8);
	assert_int_equal(far_call(v, SEL_CODE3 | 3, RIG_RIP, 4, RIG_RIP), EXEC_OK);
	v->gpr[REG_RSP] = RIG_STACK3 + 2;
	assert_raised(v, vcpu_software_interrupt(v, 0x20, 2, false), EXC_AC, 0);
	assert_int_equal(vcpu_deliver(v), EXEC_EXIT);
	assert_true(v->shutdown);
}

/* --- virtual-8086 mode --- */

static void test_vm86(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint32_t sp = RIG_STACK0 - 36;

	rig_prot32(g, 0);
	rig_idt_fill(g);
	rig_idt32(g, 0x21, rig_gate(SEL_CODE0, HANDLER(0x21), SEG_P | DPL(3) | 14, 0));
	/* IRET to virtual-8086 mode. */
	v->gpr[REG_RSP] = 0x50000;
	static const uint32_t frame[] = {
		0x123, 0x1000, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IF, 0xfff0, 0x2000,
		0x100, 0x200, 0x300, 0x400,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(frame); i++)
		put32(g, 0x50000 + i * 4, frame[i]);
	assert_int_equal(sys_iret(v, 4, 0), EXEC_OK);
	assert_true(in_vm86(v));
	assert_int_equal(v->cpl, 3);
	assert_int_equal(v->code_size, CODE_16);
	assert_int_equal(v->seg[SEG_FS].base, 0x3000);
	assert_int_equal(v->seg[SEG_SS].base, 0x20000);
	assert_int_equal(v->seg[SEG_SS].limit, 0xffff);
	assert_int_equal(v->rip, 0x123);

	/* INT needs IOPL 3; INT3 does not (but its gate's DPL counts). */
	assert_raised(v, vcpu_software_interrupt(v, 0x21, 2, false), EXC_GP, 0);
	assert_raised(v, vcpu_software_interrupt(v, 3, 1, true), EXC_GP, IDT_ERR(3));
	v->rflags |= RFLAGS_IOPL;
	assert_int_equal(vcpu_software_interrupt(v, 0x21, 2, false), EXEC_OK);
	assert_false(in_vm86(v));
	assert_int_equal(v->cpl, 0);
	assert_int_equal(v->gpr[REG_RSP], sp);
	assert_int_equal(get32(g, sp), 0x125);
	assert_int_equal(get32(g, sp + 4), 0x1000);
	assert_int_equal(get32(g, sp + 8), RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IF | RFLAGS_IOPL);
	assert_int_equal(get32(g, sp + 12), 0xfff0);
	assert_int_equal(get32(g, sp + 16), 0x2000);
	assert_int_equal(get32(g, sp + 20), 0x100);
	assert_int_equal(get32(g, sp + 32), 0x400);
	assert_true(v->seg[SEG_DS].attr & SEG_UNUSABLE);
	assert_int_equal(v->seg[SEG_GS].sel, 0);
}

/* --- debug exceptions --- */

static void test_debug(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_idt_fill(g);
	v->dr[6] = DR6_FIXED | DR6_BS | 3;
	v->dr[7] |= DR7_GD;
	raise_db(v, DR6_BD);
	assert_int_equal(vcpu_deliver(v), EXEC_OK);
	assert_int_equal(v->dr[6], DR6_FIXED | DR6_BS | DR6_BD);
	assert_int_equal(v->dr[7] & DR7_GD, 0);
	assert_int_equal(v->rip, HANDLER(1));
	assert_true(get64(g, RIG_STACK3 - 24) & RFLAGS_RF);
	/* INT3 reports the next instruction, and INT1 passes a gate of DPL 0. */
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_int_equal(vcpu_software_interrupt(v, EXC_DB, 1, true), EXEC_OK);
	assert_int_equal(get64(g, RIG_STACK0 - 40), RIG_RIP + 1);
	rig_start(g, SEL_CODE64_3 | 3, SEL_DATA3 | 3);
	assert_raised(v, vcpu_software_interrupt(v, EXC_DB, 2, false), EXC_GP, IDT_ERR(1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_real), rig_test(test_real_no_error_code),
		rig_test(test_real_stack_wrap), rig_test(test_real_limit),
		rig_test(test_prot32_inner), rig_test(test_prot32_same_level),
		rig_test(test_prot16_gate), rig_test(test_bad_gates),
		rig_test(test_bad_inner_stack), rig_test(test_ext_bit),
		rig_test(test_long_inner), rig_test(test_long_ist),
		rig_test(test_long_same_level_aligns), rig_test(test_long_bad_gates),
		rig_test(test_double_fault), rig_test(test_serial_faults),
		rig_test(test_triple_fault), rig_test(test_alignment_check),
		rig_test(test_vm86), rig_test(test_debug),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
