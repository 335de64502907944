// SPDX-License-Identifier: Apache-2.0
/*
 * State that KVM carries and gives back: extended state of any size, from FXSAVE's to tiles (AMX),
 * which no model of ours has; and what a processor is about (running, halted, waiting).
 */
#include "fake_kvm.h"

#define XSTATE_BV	512
#define TILES		(BIT(17) | BIT(18))
#define TILES_AT	2752	/* XTILECFG in the standard format; XTILEDATA ends at 11008 */
#define WITH_TILES	11008
#define AVX512_AT	1088	/* opmasks, then the upper halves of ZMM */
#define AVX512_END	2688

static uint64_t components(void)
{
	uint64_t bits;

	memcpy(&bits, fake.xsave + XSTATE_BV, sizeof(bits));
	return bits;
}

static void set_components(uint64_t bits)
{
	memcpy(fake.xsave + XSTATE_BV, &bits, sizeof(bits));
}

static uint8_t pattern(unsigned int at)
{
	return at * 7 + (at >> 8) + 1;
}

static void stop(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_HLT;
}

/* The guest configures tiles and fills them, and enables them in XCR0. */
static void use_tiles(struct kvm_run *run)
{
	for (unsigned int i = TILES_AT; i < WITH_TILES; i++)
		fake.xsave[i] = pattern(i);
	set_components(XCR0_X87 | XCR0_SSE | TILES);
	fake.xcr0 = XCR0_X87 | XCR0_SSE | TILES;
	stop(run);
}

static void find_tiles(struct kvm_run *run)
{
	for (unsigned int i = TILES_AT; i < WITH_TILES; i++)
		if (fake.xsave[i] != pattern(i))
			fail_msg("byte %u of the state was lost", i);
	assert_int_equal(components() & TILES, TILES);
	stop(run);
}

static void find_no_tiles(struct kvm_run *run)
{
	assert_int_equal(components() & TILES, 0);
	assert_int_equal(fake.xcr0, XCR0_X87);
	stop(run);
}

static void again(struct bench *b)
{
	b->v->halted = false;
	assert_int_equal(run(b), VCPU_EXIT_HALT);
}

static void test_tiles(void **state)
{
	struct bench *b = *state;

	fake.xsave_size = WITH_TILES;
	fake.exits[0] = use_tiles;
	fake.exits[1] = fake.exits[2] = find_tiles;
	fake.exits[3] = find_no_tiles;
	vcpu_reset(b->v, false);
	again(b);
	assert_int_equal(b->v->xcr0, XCR0_X87 | XCR0_SSE | TILES);
	/* To another engine's eyes there are none. */
	assert_int_equal(*(uint64_t *)(b->v->xsave + XSTATE_BV) & TILES, 0);
	again(b);
	again(b);
	vcpu_reset(b->v, false);
	again(b);
	assert_int_equal(fake.runs, 4);
}

/* AVX-512's state is in struct vcpu, where every engine finds it. */
static void use_avx512(struct kvm_run *run)
{
	for (unsigned int i = AVX512_AT; i < AVX512_END; i++)
		fake.xsave[i] = pattern(i);
	set_components(XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
	stop(run);
}

static void find_avx512(struct kvm_run *run)
{
	for (unsigned int i = AVX512_AT; i < AVX512_END; i++)
		if (fake.xsave[i] != pattern(i + 1))
			fail_msg("byte %u of the state was lost", i);
	assert_int_equal(components(), XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512);
	stop(run);
}

static void avx512_of_size(struct bench *b, size_t size)
{
	fake.xsave_size = size;
	fake.exits[0] = use_avx512;
	fake.exits[1] = find_avx512;
	vcpu_reset(b->v, false);
	b->v->fpu_mask = XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512;
	again(b);
	for (unsigned int i = AVX512_AT; i < AVX512_END; i++) {
		assert_int_equal(b->v->xsave[i], pattern(i));
		b->v->xsave[i] = pattern(i + 1);	/* what the other engine computed */
	}
	again(b);
}

static void test_avx512(void **state)
{
	avx512_of_size(*state, 0);
}

static void test_avx512_in_a_large_area(void **state)
{
	avx512_of_size(*state, WITH_TILES);
}

/* --- what the processor is about: KVM's with its local APICs --- */

static bool get_state(void *intc, struct apic_state *s)
{
	(void)intc;
	*s = (struct apic_state){ .base = 0xfee00900 };
	return false;
}

static void set_state(void *intc, const struct apic_state *s)
{
	(void)intc;
	(void)s;
}

static void host(void *intc, bool on)
{
	(void)intc;
	(void)on;
}

static struct bench *with_apics;

/* Stops the processor in the state that KVM is to tell. */
static void stop_as(struct kvm_run *run, uint32_t mp_state)
{
	fake.mp.mp_state = mp_state;
	vcpu_attention(with_apics->v, ATTN_STOP);
	run->exit_reason = KVM_EXIT_INTR;
}

static void stop_halted(struct kvm_run *run)
{
	assert_int_equal(fake.mp.mp_state, KVM_MP_STATE_RUNNABLE);
	stop_as(run, KVM_MP_STATE_HALTED);
}

static void stop_waiting(struct kvm_run *run)
{
	assert_int_equal(fake.mp.mp_state, KVM_MP_STATE_HALTED);
	stop_as(run, KVM_MP_STATE_INIT_RECEIVED);
}

static void stop_running(struct kvm_run *run)
{
	assert_int_equal(fake.mp.mp_state, KVM_MP_STATE_INIT_RECEIVED);
	stop_as(run, KVM_MP_STATE_RUNNABLE);
}

static void stop_unborn(struct kvm_run *run)
{
	assert_int_equal(fake.mp.mp_state, KVM_MP_STATE_RUNNABLE);
	stop_as(run, KVM_MP_STATE_UNINITIALIZED);
}

static struct bench *use_apics(struct bench *b, struct vcpu_intc_ops *ops)
{
	ops->get_state = get_state;
	ops->set_state = set_state;
	ops->host = host;
	b->v->intc_ops = ops;
	fake.apics = KVM_APICS_KERNEL;
	return with_apics = b;
}

static void test_activity(void **state)
{
	struct vcpu_intc_ops ops = no_intc;
	struct bench *b = use_apics(*state, &ops);
	struct vcpu *v = b->v;

	fake.exits[0] = stop_halted;
	fake.exits[1] = stop_waiting;
	fake.exits[2] = stop_running;
	fake.exits[3] = stop_unborn;
	vcpu_reset(v, false);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_true(v->halted && !v->wait_sipi);
	atomic_store(&v->attention, 0);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_true(!v->halted && v->wait_sipi);
	atomic_store(&v->attention, 0);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_true(!v->halted && !v->wait_sipi);
	atomic_store(&v->attention, 0);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_true(!v->halted && v->wait_sipi);
	engine_kvm.vcpu_remove(b->engine, v);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
	v->intc_ops = &no_intc;
}

/* --- an interrupt of the PIC's that KVM was given, and took with it --- */

#define VECTOR	0x21
#define HANDLER	0x2000
#define CODE	0x1000

static int pic_ack(void *intc)
{
	(void)intc;
	return VECTOR;
}

static bool pic_pending(void *intc)
{
	(void)intc;
	return fake.runs == 1;
}

static void window(struct kvm_run *run)
{
	run->exit_reason = KVM_EXIT_IRQ_WINDOW_OPEN;
	run->ready_for_interrupt_injection = 1;
	run->if_flag = 1;
}

static void interrupted(struct kvm_run *run)
{
	stop_as(run, KVM_MP_STATE_RUNNABLE);
	run->ready_for_interrupt_injection = 0;
}

static void handler_begun(struct kvm_run *run)
{
	interrupted(run);
	run->if_flag = 0;
}

static void leaves_with(struct bench *b, void (*exit)(struct kvm_run *), uint64_t rip)
{
	const uint32_t entry = HANDLER;
	struct vcpu_intc_ops ops = no_intc;
	struct vcpu *v = use_apics(b, &ops)->v;

	ops.ack = pic_ack;
	ops.pending = pic_pending;
	fake.exits[0] = window;
	fake.exits[1] = exit;
	fake.runs = 0;
	vcpu_reset(v, false);
	gpa_write(&b->space, VECTOR * 4, &entry, 4);
	v->seg[SEG_CS].sel = 0;
	v->seg[SEG_CS].base = 0;
	v->rip = CODE;
	v->gpr[REG_RSP] = 0x8000;
	v->rflags |= RFLAGS_IF;
	atomic_store(&v->attention, ATTN_INTR);
	assert_int_equal(run(b), VCPU_EXIT_STOP);
	assert_int_equal(fake.runs, 2);
	assert_int_equal(v->rip, CODE);
	engine_kvm.vcpu_remove(b->engine, v);
	assert_int_equal(v->rip, rip);
	engine_kvm.destroy(b->engine);
	b->engine = NULL;
	v->intc_ops = &no_intc;
}

static void test_given_interrupt(void **state)
{
	leaves_with(*state, interrupted, HANDLER);
	leaves_with(*state, handler_begun, CODE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_tiles), T(test_avx512), T(test_avx512_in_a_large_area), T(test_activity),
		T(test_given_interrupt),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
