// SPDX-License-Identifier: Apache-2.0
/*
 * Each reason that KVM may come back for, known today or not, has a defined outcome: the guest
 * goes on, the run ends, or it ends with a sentence; never a second try of what did not change.
 */
#include "fake_kvm.h"

#define REASONS	80	/* more than any KVM has */

static unsigned int reason;

static void exit_reason(struct kvm_run *run)
{
	run->exit_reason = reason;
	run->io = (typeof(run->io)){ .size = 1, .count = 1, .port = 0x100, .data_offset = 4096 };
	if (reason == KVM_EXIT_MMIO)
		run->mmio = (typeof(run->mmio)){ .phys_addr = 0xe0000000, .len = 4 };
	if (reason == KVM_EXIT_X86_RDMSR || reason == KVM_EXIT_X86_WRMSR)
		run->msr = (typeof(run->msr)){ .index = MSR_PAT };
	if (reason == KVM_EXIT_IOAPIC_EOI)
		run->eoi.vector = 0x41;
	if (reason == KVM_EXIT_INTERNAL_ERROR)
		run->internal = (typeof(run->internal)){ .suberror = KVM_INTERNAL_ERROR_SIMUL_EX };
}

static void exit_halt(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

static unsigned int ended;

static void end_of_interrupt(void *intc, uint8_t vector)
{
	(void)intc;
	ended = vector;
}

static bool goes_on(unsigned int r)
{
	static const unsigned int those[] = {
		KVM_EXIT_IO, KVM_EXIT_MMIO, KVM_EXIT_X86_RDMSR, KVM_EXIT_X86_WRMSR, KVM_EXIT_INTR,
		KVM_EXIT_IRQ_WINDOW_OPEN, KVM_EXIT_SET_TPR, KVM_EXIT_DIRTY_RING_FULL,
		KVM_EXIT_IOAPIC_EOI, KVM_EXIT_DEBUG,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(those); i++)
		if (those[i] == r)
			return true;
	return false;
}

static void try_reason(struct bench *b)
{
	fake.runs = 0;
	fake.exits[0] = exit_reason;
	fake.exits[1] = exit_halt;
	vcpu_reset(b->v, false);
	b->v->err.code = 0;
	if (goes_on(reason)) {
		if (run(b) != VCPU_EXIT_HALT)
			fail_msg("reason %u: %s", reason, b->v->err.text);
		assert_int_equal(fake.runs, 2);
		return;
	}
	if (reason == KVM_EXIT_HLT)
		assert_int_equal(run(b), VCPU_EXIT_HALT);
	else if (reason == KVM_EXIT_SHUTDOWN)
		assert_int_equal(run(b), VCPU_EXIT_SHUTDOWN);
	else
		ends_with_error(b, "the log says what the guest was doing: use --engine soft");
	if (fake.runs != 1)
		fail_msg("reason %u was tried %d times", reason, fake.runs);
}

static void test_each_reason(void **state)
{
	struct vcpu_intc_ops ops = no_intc;
	struct bench *b = *state;

	ops.end_of_interrupt = end_of_interrupt;
	b->v->intc_ops = &ops;
	for (reason = 0; reason < REASONS; reason++)
		try_reason(b);
	reason = UINT32_MAX;
	try_reason(b);
	assert_int_equal(ended, 0x41);
	b->v->intc_ops = &no_intc;
}

/* The sentences name what came. */
static void test_sentences(void **state)
{
	static const struct { unsigned int reason; const char *word; } those[] = {
		{ KVM_EXIT_UNKNOWN, "does not know the processor's reason" },
		{ KVM_EXIT_EXCEPTION, "reason 1 (exception)" }, { KVM_EXIT_XEN, "(Xen)" },
		{ KVM_EXIT_HYPERCALL, "(hypercall)" }, { KVM_EXIT_X86_BUS_LOCK, "(bus lock)" },
		{ KVM_EXIT_NOTIFY, "(no progress)" }, { 79, "reason 79 (unknown)" },
		{ KVM_EXIT_INTERNAL_ERROR, "KVM failed inside: two exceptions at once" },
		{ KVM_EXIT_FAIL_ENTRY, "the processor refused to enter the guest" },
		{ KVM_EXIT_SYSTEM_EVENT, "system event" },
	};
	struct bench *b = *state;

	for (unsigned int i = 0; i < ARRAY_SIZE(those); i++) {
		reason = those[i].reason;
		fake.runs = 0;
		fake.exits[0] = exit_reason;
		b->v->err.code = 0;
		ends_with_error(b, those[i].word);
	}
}

static void exit_emulation(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal = (typeof(run->internal)){ .suberror = KVM_INTERNAL_ERROR_EMULATION };
}

/* What KVM cannot emulate the interpreter does, once, and KVM goes on behind it. */
static void test_emulation(void **state)
{
	struct bench *b = *state;

	fake.exits[0] = exit_emulation;
	fake.exits[1] = exit_halt;
	vcpu_reset(b->v, false);
	gpa_write(&b->space, 0x1000, "\x40", 1);	/* inc ax */
	b->v->seg[SEG_CS].sel = 0;
	b->v->seg[SEG_CS].base = 0;
	b->v->rip = 0x1000;
	b->v->gpr[REG_RAX] = 41;
	assert_int_equal(run(b), VCPU_EXIT_HALT);
	assert_int_equal(fake.runs, 2);
	assert_int_equal(b->v->gpr[REG_RAX], 42);
	assert_int_equal(fake.regs.rip, 0x1001);
}

/* The dump of an internal error: registers, code with its instruction's name, KVM's own data. */
static void exit_delivery(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal = (typeof(run->internal)){ .suberror = KVM_INTERNAL_ERROR_DELIVERY_EV,
						 .ndata = 2, .data = { 0xfeed, 0xbeef } };
}

static void test_dump(void **state)
{
	static const char *const words[] = {
		"processor 0 at rip 0000000000001000", "rax 00000000deadbeef", "cs 0000",
		"code: 0f a2", "(CPUID, 16-bit, CPL 0)", "KVM's data 0: feed", "KVM's data 1: beef",
	};
	struct bench *b = *state;

	fake.exits[0] = exit_delivery;
	vcpu_reset(b->v, false);
	gpa_write(&b->space, 0x1000, "\x0f\xa2", 2);
	b->v->seg[SEG_CS].sel = 0;
	b->v->seg[SEG_CS].base = 0;
	b->v->rip = 0x1000;
	b->v->gpr[REG_RAX] = 0xdeadbeef;
	ends_with_error(b, "a failure while it delivered an event");
	for (unsigned int i = 0; i < ARRAY_SIZE(words); i++)
		if (!strcasestr(b->text, words[i]))
			fail_msg("no '%s' in: %s", words[i], b->text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_each_reason), T(test_sentences), T(test_emulation), T(test_dump),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
