// SPDX-License-Identifier: Apache-2.0
/* Flags, port permission, and what is looked at between two instructions. */
#include "sys_rig.h"

#define HANDLER(n)	(RIG_HANDLER + (n) * 16)

/* A controller that holds a list of vectors. */
struct fake_intc {
	struct vcpu *v;
	int vector[4];
	unsigned int count, asked;
	uint8_t tpr;
};

static int fake_ack(void *intc)
{
	struct fake_intc *f = intc;

	f->asked++;
	return f->count ? f->vector[--f->count] : -1;
}

static bool fake_pending(void *intc)
{
	return ((struct fake_intc *)intc)->count != 0;
}

static uint8_t fake_get_tpr(void *intc)
{
	return ((struct fake_intc *)intc)->tpr;
}

static void fake_set_tpr(void *intc, uint8_t tpr)
{
	((struct fake_intc *)intc)->tpr = tpr;
}

static gpa_t fake_mmio_base(void *intc)
{
	(void)intc;
	return GPA_NONE;
}

static const struct vcpu_intc_ops fake_ops = {
	.ack = fake_ack, .pending = fake_pending, .get_tpr = fake_get_tpr,
	.set_tpr = fake_set_tpr, .mmio_base = fake_mmio_base,
};

static void fake_connect(struct fake_intc *f, struct vcpu *v)
{
	*f = (struct fake_intc){ .v = v };
	v->intc_ops = &fake_ops;
	v->intc = f;
}

static void fake_raise(struct fake_intc *f, int vector)
{
	f->vector[f->count++] = vector;
	vcpu_attention(f->v, ATTN_INTR);
}

static void assert_goes_on(struct vcpu *v, bool stepped)
{
	enum vcpu_exit why;

	assert_int_equal(vcpu_attend(v, stepped, &why), EXEC_OK);
}

static void assert_leaves(struct vcpu *v, enum vcpu_exit reason)
{
	enum vcpu_exit why = -1;

	assert_int_equal(vcpu_attend(v, false, &why), EXEC_EXIT);
	assert_int_equal(why, reason);
}

/* --- flags --- */

static void test_popf(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t all = 0x3f7fd7, value;

	rig_prot32(g, 3);
	assert_int_equal(sys_popf(v, all, 4), EXEC_OK);
	/* No IOPL at CPL 3; IF stays as it was, RF and VM clear, VIF and VIP untouched. */
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_ARITH | RFLAGS_TF | RFLAGS_IF |
			 RFLAGS_DF | RFLAGS_NT | RFLAGS_AC | RFLAGS_ID);
	assert_true(v->attention & ATTN_STEP);
	assert_int_equal(sys_popf(v, 0, 2), EXEC_OK);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_IF | RFLAGS_AC | RFLAGS_ID);
	assert_false(v->attention & ATTN_STEP);
	assert_raised(v, sys_cli(v), EXC_GP, 0);
	assert_raised(v, sys_sti(v), EXC_GP, 0);
	v->rflags |= RFLAGS_IOPL;
	assert_int_equal(sys_popf(v, 0, 4), EXEC_OK);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_IOPL);
	rig_start(g, SEL_CODE0, SEL_DATA0);
	assert_int_equal(sys_popf(v, all, 8), EXEC_OK);
	assert_true(v->rflags & RFLAGS_IOPL);
	v->rflags |= RFLAGS_RF;
	assert_int_equal(sys_pushf(v, &value), EXEC_OK);
	assert_int_equal(value, v->rflags & ~RFLAGS_RF);
}

static void test_vm86_flags(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	uint64_t value;

	rig_prot32(g, 3);
	v->rflags = RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IF;
	vcpu_update_mode(v);
	assert_raised(v, sys_popf(v, 0, 2), EXC_GP, 0);
	assert_raised(v, sys_pushf(v, &value), EXC_GP, 0);
	assert_raised(v, sys_iret(v, 2, 0), EXC_GP, 0);
	v->rflags |= RFLAGS_IOPL;
	assert_int_equal(sys_popf(v, 0, 2), EXEC_OK);
	assert_int_equal(v->rflags, RFLAGS_FIXED | RFLAGS_VM | RFLAGS_IOPL);
	assert_int_equal(sys_pushf(v, &value), EXEC_OK);
	assert_int_equal(value, RFLAGS_FIXED | RFLAGS_IOPL);
}

/* --- ports --- */

static void test_port_permission(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_prot32(g, 3);
	put16(g, RIG_TSS + 102, 0x100);
	memset(rig_ptr(g, RIG_TSS + 0x100), 0xff, 0x100);
	put16(g, RIG_TSS + 0x100 + 0x3f8 / 8, 0xff7f & ~3);
	assert_int_equal(io_permitted(v, 0x3f8, 1), EXEC_OK);
	assert_int_equal(io_permitted(v, 0x3f8, 2), EXEC_OK);
	assert_raised(v, io_permitted(v, 0x3f8, 4), EXC_GP, 0);
	assert_raised(v, io_permitted(v, 0x3f9, 2), EXC_GP, 0);
	/* An access across two bytes of the map. */
	assert_int_equal(io_permitted(v, 0x3ff, 1), EXEC_OK);
	assert_raised(v, io_permitted(v, 0x3ff, 2), EXC_GP, 0);
	/* The byte after the port's must be within the limit. */
	v->tr.limit = 0x100 + 0x3f8 / 8;
	assert_raised(v, io_permitted(v, 0x3f8, 1), EXC_GP, 0);
	v->tr.limit++;
	assert_int_equal(io_permitted(v, 0x3f8, 1), EXEC_OK);
	v->tr.attr = SEG_P | 3;
	assert_raised(v, io_permitted(v, 0x3f8, 1), EXC_GP, 0);
	v->rflags |= RFLAGS_IOPL;
	assert_int_equal(io_permitted(v, 0x80, 4), EXEC_OK);
	v->rflags |= RFLAGS_VM;		/* IOPL does not help there */
	assert_raised(v, io_permitted(v, 0x80, 4), EXC_GP, 0);
}

static void test_cr8(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;
	uint64_t value;

	rig_long(g, 0);
	fake_connect(&f, v);
	assert_raised(v, sys_mov_to_cr(v, 8, 0x10), EXC_GP, 0);
	assert_int_equal(sys_mov_to_cr(v, 8, 0xd), EXEC_OK);
	assert_int_equal(f.tpr, 0xd0);
	assert_int_equal(sys_mov_from_cr(v, 8, &value), EXEC_OK);
	assert_int_equal(value, 0xd);
}

/* --- events --- */

static void test_interrupt(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;

	rig_long(g, 0);
	rig_idt_fill(g);
	fake_connect(&f, v);
	fake_raise(&f, 0x31);
	fake_raise(&f, 0x32);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, HANDLER(0x32));
	assert_int_equal(v->stats.interrupts, 1);
	/* The second waits for IF without any bit set: the engine polls for nothing. */
	assert_int_equal(v->attention, 0);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->attention, ATTN_INTR);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, HANDLER(0x31));
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	/* One look too many finds nothing, and then it is quiet. */
	assert_goes_on(v, false);
	assert_int_equal(v->rip, RIG_RIP);
	assert_int_equal(v->attention, 0);
}

static void test_interrupt_waits(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;

	rig_long(g, 0);
	rig_idt_fill(g);
	fake_connect(&f, v);
	assert_int_equal(sys_cli(v), EXEC_OK);
	fake_raise(&f, 0x31);
	assert_goes_on(v, false);
	assert_int_equal(v->attention, 0);
	assert_int_equal(f.asked, 0);
	assert_int_equal(sys_popf(v, RFLAGS_IF, 8), EXEC_OK);
	assert_int_equal(v->attention, ATTN_INTR);
	assert_int_equal(sys_cli(v), EXEC_OK);
	assert_goes_on(v, false);
	/* STI holds it off for one instruction more. */
	assert_int_equal(sys_sti(v), EXEC_OK);
	assert_int_equal(v->attention, ATTN_INTR | ATTN_SHADOW);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, RIG_RIP);
	atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_SHADOW);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, HANDLER(0x31));
	/* No shadow where IF was set before. */
	v->rflags |= RFLAGS_IF;
	assert_int_equal(sys_sti(v), EXEC_OK);
	assert_false(v->attention & ATTN_SHADOW);
}

static void test_halt(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;

	rig_long(g, 0);
	rig_idt_fill(g);
	fake_connect(&f, v);
	assert_int_equal(sys_hlt(v), EXEC_EXIT);
	assert_leaves(v, VCPU_EXIT_HALT);
	v->rflags &= ~RFLAGS_IF;
	fake_raise(&f, 0x31);
	assert_leaves(v, VCPU_EXIT_HALT);
	assert_int_equal(v->attention, 0);
	vcpu_attention(v, ATTN_NMI);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, HANDLER(2));
	assert_false(v->halted);
	/* A second NMI waits for IRET, and the interrupt for IF. */
	vcpu_attention(v, ATTN_NMI);
	assert_goes_on(v, false);
	assert_int_equal(v->attention, 0);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->attention, ATTN_NMI);
	vcpu_attention(v, ATTN_STOP);
	assert_leaves(v, VCPU_EXIT_STOP);
}

/* A trap goes before an NMI, an NMI before an interrupt: the last one's handler runs first. */
static void test_order(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;

	rig_long(g, 0);
	rig_idt_fill(g);
	fake_connect(&f, v);
	fake_raise(&f, 0x31);
	vcpu_attention(v, ATTN_NMI);
	v->db_pending = 1;
	v->rflags |= RFLAGS_TF;
	assert_goes_on(v, true);
	assert_int_equal(v->dr[6], DR6_FIXED | DR6_BS | 1);
	assert_int_equal(v->db_pending, 0);
	assert_int_equal(v->rip, HANDLER(2));
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->rip, HANDLER(1));
	assert_false(v->rflags & RFLAGS_TF);
	assert_int_equal(sys_iret(v, 8, 0), EXEC_OK);
	assert_int_equal(v->rip, RIG_RIP);
	assert_true(v->attention & ATTN_INTR);
}

/* After MOV SS a single step is lost and a data breakpoint waits; after STI neither. */
static void test_mov_ss_shadow(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_idt_fill(g);
	assert_int_equal(seg_load(v, SEG_SS, SEL_DATA0), EXEC_OK);
	v->db_pending = 2;
	assert_goes_on(v, true);
	assert_int_equal(v->rip, RIG_RIP);
	atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_SHADOW);
	assert_goes_on(v, false);
	assert_int_equal(v->rip, HANDLER(1));
	assert_int_equal(v->dr[6], DR6_FIXED | 2);
	v->rip = RIG_RIP;
	assert_int_equal(sys_sti(v), EXEC_OK);
	assert_goes_on(v, true);
	assert_int_equal(v->rip, HANDLER(1));
	assert_false(v->attention & ATTN_SHADOW);
}

/* What clears TF on the way to its handler is not followed by a single-step trap. */
static void test_step_into_handler(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;

	rig_long(g, 0);
	rig_idt_fill(g);
	v->efer |= EFER_SCE;
	v->lstar = RIG_HANDLER;
	v->sfmask = RFLAGS_TF;
	v->rflags |= RFLAGS_TF;
	assert_int_equal(sys_syscall(v, RIG_RIP + 2), EXEC_OK);
	assert_goes_on(v, true);
	assert_int_equal(v->rip, RIG_HANDLER);
	v->rflags |= RFLAGS_TF;
	assert_int_equal(vcpu_software_interrupt(v, 0x30, 2, false), EXEC_OK);
	assert_goes_on(v, true);
	assert_int_equal(v->rip, HANDLER(0x30));
	/* That was for once, and SYSCALL can leave TF set. */
	v->sfmask = 0;
	v->rflags |= RFLAGS_TF;
	assert_int_equal(sys_syscall(v, RIG_RIP + 2), EXEC_OK);
	assert_goes_on(v, true);
	assert_int_equal(v->rip, HANDLER(1));
}

static void test_init_sipi(void **state)
{
	struct guest *g = *state;
	struct vcpu *v = g->v;
	struct fake_intc f;

	rig_long(g, 0);
	fake_connect(&f, v);
	v->index = 1;
	vcpu_attention(v, ATTN_INIT);
	assert_leaves(v, VCPU_EXIT_HALT);
	assert_true(in_real_mode(v));
	assert_true(v->wait_sipi);
	fake_raise(&f, 0x31);
	vcpu_attention(v, ATTN_NMI);
	assert_leaves(v, VCPU_EXIT_HALT);
	assert_int_equal(v->attention, 0);
	v->sipi_vector = 0x9a;
	vcpu_attention(v, ATTN_SIPI);
	assert_goes_on(v, false);
	assert_int_equal(v->seg[SEG_CS].base, 0x9a000);
	assert_int_equal(v->seg[SEG_CS].sel, 0x9a00);
	assert_int_equal(v->rip, 0);
	/* A second one is ignored. */
	v->sipi_vector = 0x77;
	vcpu_attention(v, ATTN_SIPI);
	assert_goes_on(v, false);
	assert_int_equal(v->seg[SEG_CS].base, 0x9a000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		rig_test(test_popf), rig_test(test_vm86_flags), rig_test(test_port_permission),
		rig_test(test_cr8), rig_test(test_interrupt), rig_test(test_interrupt_waits),
		rig_test(test_halt), rig_test(test_order), rig_test(test_mov_ss_shadow),
		rig_test(test_step_into_handler), rig_test(test_init_sipi),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
