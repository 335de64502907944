// SPDX-License-Identifier: Apache-2.0
/*
 * A VM that is moved from engine to engine while its guest computes: integer, SSE2 and x87
 * state, a local APIC timer's interrupts, the time-stamp counter.  The guest counts its
 * rounds until it is told to stop; the result of that many rounds is computed here as well.
 */
#include "fake_engine.h"
#include "unit.h"

#include "cpu/cpuid.h"
#include "cpu/mmu.h"
#include "machine/vm.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MEMORY		(8ULL << 20)
#define TABLES		0x1000		/* PML4, PDPT, two page directories */
#define GDT		0x6000
#define IDT		0x7000
#define STACK		0x9000
#define CODE		0x100000
#define BLOCK		0x20000		/* struct block */
#define VECTOR		0x40
#define APIC_2M		0xfee00000ULL

#define FACTOR		6364136223846793005ULL
#define TERM		1442695040888963407ULL
#define SIMD_EVERY	256

/* What guest and host share; the assembly knows the offsets. */
struct block {
	volatile uint32_t stop;		/* 0 */
	volatile uint32_t backwards;	/* 4: the time-stamp counter went back */
	volatile uint64_t ticks;	/* 8 */
	volatile uint64_t rounds;	/* 16 */
	volatile uint64_t a, b;		/* 24, 32 */
	volatile uint64_t x0[2];	/* 40 */
	volatile uint64_t x3[2];	/* 56 */
	volatile double x4[2];		/* 72 */
	uint8_t st[16];			/* 88, ten bytes of it */
	volatile uint64_t factor, term;	/* 104, 112 */
	volatile double step[2];	/* 120 */
	volatile uint32_t mxcsr;	/* 136 */
	volatile uint16_t fcw;		/* 140 */
};

_Static_assert(offsetof(struct block, st) == 88 && offsetof(struct block, fcw) == 140,
	       "the guest's offsets");

extern const uint8_t guest_code[], guest_tick[], guest_end[];
asm(".pushsection .rodata\n"
    "guest_code:\n"
    "	mov $0x20000, %edi\n"
    "	mov $0xfee00000, %esi\n"
    "	movl $0x1ff, 0xf0(%rsi)\n"	/* the APIC on; its timer every 0.4 ms */
    "	movl $0x0b, 0x3e0(%rsi)\n"
    "	movl $0x20040, 0x320(%rsi)\n"
    "	movl $10000, 0x380(%rsi)\n"
    "	ldmxcsr 136(%rdi)\n"
    "	fninit\n"
    "	fldcw 140(%rdi)\n"
    "	fldpi\n"
    "	fldl2e\n"
    "	movdqu 40(%rdi), %xmm0\n"
    "	pxor %xmm3, %xmm3\n"
    "	pxor %xmm4, %xmm4\n"
    "	movdqu 120(%rdi), %xmm5\n"
    "	mov 104(%rdi), %r8\n"
    "	mov 112(%rdi), %r9\n"
    "	xor %ecx, %ecx\n"
    "	xor %r10d, %r10d\n"
    "	xor %r11d, %r11d\n"
    "	xor %r13d, %r13d\n"
    "	sti\n"
    "1:	inc %rcx\n"
    "	imul %r8, %r10\n"
    "	add %r9, %r10\n"
    "	rol $7, %r11\n"
    "	xor %r10, %r11\n"
    "	test %cl, %cl\n"
    "	jnz 2f\n"
    "	movq %r10, %xmm1\n"
    "	paddq %xmm1, %xmm0\n"
    "	pshufd $0x1b, %xmm0, %xmm2\n"
    "	pxor %xmm2, %xmm3\n"
    "	addpd %xmm5, %xmm4\n"
    "	fadd %st(1), %st\n"
    "	fsqrt\n"
    "	rdtsc\n"
    "	shl $32, %rdx\n"
    "	or %rdx, %rax\n"
    "	cmp %r13, %rax\n"
    "	mov %rax, %r13\n"
    "	jae 2f\n"
    "	incl 4(%rdi)\n"
    "2:	cmpl $0, (%rdi)\n"
    "	je 1b\n"
    "	cli\n"
    "	mov %rcx, 16(%rdi)\n"
    "	mov %r10, 24(%rdi)\n"
    "	mov %r11, 32(%rdi)\n"
    "	movdqu %xmm0, 40(%rdi)\n"
    "	movdqu %xmm3, 56(%rdi)\n"
    "	movdqu %xmm4, 72(%rdi)\n"
    "	fstpt 88(%rdi)\n"
    "	stmxcsr 136(%rdi)\n"
    "	fnstcw 140(%rdi)\n"
    "	mov $0x2a, %al\n"
    "	out %al, $0xf4\n"
    "3:	hlt\n"
    "	jmp 3b\n"
    "guest_tick:\n"
    "	incq 8(%rdi)\n"		/* the program leaves RDI and RSI alone */
    "	movl $0, 0xb0(%rsi)\n"
    "	iretq\n"
    "guest_end:\n"
    ".popsection\n");

static struct block *block_of(struct vm *vm)
{
	return gpa_to_hva(vm_space(vm), BLOCK, sizeof(struct block));
}

static void make_tables(struct vm *vm)
{
	uint64_t *t = gpa_to_hva(vm_space(vm), TABLES, 0x4000);
	uint64_t *gdt = gpa_to_hva(vm_space(vm), GDT, 24);
	uint64_t *idt = gpa_to_hva(vm_space(vm), IDT, 4096);
	const uint64_t entry = PTE_P | PTE_W, tick = CODE + (guest_tick - guest_code);

	t[0] = (TABLES + 0x1000) | entry;
	t[512] = (TABLES + 0x2000) | entry;
	t[512 + 3] = (TABLES + 0x3000) | entry;
	for (uint64_t i = 0; i < MEMORY >> 21; i++)
		t[1024 + i] = i << 21 | entry | PTE_PS;
	t[1536 + (APIC_2M >> 21 & 511)] = (APIC_2M & ~0x1fffffULL) | entry | PTE_PS;
	gdt[1] = 0x00209b0000000000ULL;
	gdt[2] = 0x00cf93000000ffffULL;
	idt[2 * VECTOR] = (tick & 0xffff) | 8 << 16 | 0x8e00ULL << 32 | (tick >> 16 << 48);
	idt[2 * VECTOR + 1] = tick >> 32;
}

static int load(void *arg, struct vm *vm, struct err *e)
{
	struct vcpu *v = vm_vcpu(vm, 0);
	struct block *b = block_of(vm);

	(void)arg;
	(void)e;
	make_tables(vm);
	gpa_write(vm_space(vm), CODE, guest_code, guest_end - guest_code);
	*b = (struct block){ .factor = FACTOR, .term = TERM, .step = { 0.1, -3.75 },
			     .x0 = { 0x0123456789abcdefULL, 0xfedcba9876543210ULL },
			     .mxcsr = 0x3f80 /* rounds down */, .fcw = 0x27f /* 53 bits */ };
	for (unsigned int s = 0; s < 6; s++)
		v->seg[s] = (struct segment){ .sel = 16, .attr = 0xc093, .limit = 0xffffffff };
	v->seg[SEG_CS] = (struct segment){ .sel = 8, .attr = 0xa09b, .limit = 0xffffffff };
	v->gdtr = (struct table_reg){ .base = GDT, .limit = 23 };
	v->idtr = (struct table_reg){ .base = IDT, .limit = 4095 };
	v->cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_MP | CR0_ET;
	v->cr3 = TABLES;
	v->cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT;
	v->efer = EFER_LME | EFER_LMA;
	v->rip = CODE;
	v->gpr[REG_RSP] = STACK;
	vcpu_update_mode(v);
	tlb_switch_space(v, false);
	return 0;
}

/* --- the same on the host --- */

static void swap_dwords(const uint64_t in[2], uint64_t out[2])
{
	out[0] = in[1] << 32 | in[1] >> 32;
	out[1] = in[0] << 32 | in[0] >> 32;
}

/* Rounding as the guest's control words have it. */
static void set_control(uint32_t mxcsr, uint16_t fcw)
{
	asm volatile("ldmxcsr %0" : : "m" (mxcsr));
	asm volatile("fldcw %0" : : "m" (fcw));
}

static __attribute__((noinline)) void compute(struct block *r, uint64_t rounds)
{
	uint64_t a = 0, b = 0, x0[2] = { 0x0123456789abcdefULL, 0xfedcba9876543210ULL };
	uint64_t x3[2] = { 0, 0 }, swapped[2];
	volatile double x4[2] = { 0, 0 };
	long double st, pi;

	set_control(0x3f80, 0x27f);
	asm volatile("fldpi" : "=t" (pi));
	asm volatile("fldl2e" : "=t" (st));
	for (uint64_t n = 1; n <= rounds; n++) {
		a = a * FACTOR + TERM;
		b = (b << 7 | b >> 57) ^ a;
		if (n % SIMD_EVERY)
			continue;
		x0[0] += a;
		swap_dwords(x0, swapped);
		x3[0] ^= swapped[0];
		x3[1] ^= swapped[1];
		x4[0] += 0.1;
		x4[1] += -3.75;
		asm volatile("fadd %%st(1), %%st\n fsqrt" : "+t" (st) : "u" (pi));
	}
	set_control(0x1f80, 0x37f);
	*r = (struct block){ .rounds = rounds, .a = a, .b = b, .x0 = { x0[0], x0[1] },
			     .x3 = { x3[0], x3[1] }, .x4 = { x4[0], x4[1] } };
	memcpy(r->st, &st, 10);
}

static void check_result(struct vm *vm)
{
	struct block *got = block_of(vm), want;

	compute(&want, got->rounds);
	assert_int_equal(got->a, want.a);
	assert_int_equal(got->b, want.b);
	assert_memory_equal((void *)got->x0, (void *)want.x0, 16);
	assert_memory_equal((void *)got->x3, (void *)want.x3, 16);
	assert_memory_equal((void *)got->x4, (void *)want.x4, 16);
	assert_memory_equal(got->st, want.st, 10);
	assert_int_equal(got->mxcsr & ~0x3f, 0x3f80);
	assert_int_equal(got->fcw, 0x27f);
	assert_int_equal(got->backwards, 0);
}

/* --- moving --- */

struct bench {
	struct cpu_model model;
	struct log log;
	struct vm *vm;
	const struct engine_ops *engines[2];
	struct engine_config configs[2];
	unsigned int moves, moves_max;
	unsigned int vcpus;		/* 0: 1; the others wait to be started */
	uint64_t ticks[2];		/* by engine */
	uint64_t ticks_seen;
	struct timer timer;
	struct fake_engine refuser;
	struct err err;
};

static void note_ticks(struct bench *b)
{
	const uint64_t now = block_of(b->vm)->ticks;

	b->ticks[b->moves % 2] += now - b->ticks_seen;
	b->ticks_seen = now;
}

/* On the loop's thread, every few milliseconds. */
static void move(void *arg)
{
	struct bench *b = arg;
	unsigned int next = (b->moves + 1) % 2;

	note_ticks(b);
	if (vm_set_engine(b->vm, b->engines[next], &b->configs[next], &b->err)) {
		vm_stop(b->vm);
		return;
	}
	if (++b->moves == b->moves_max)
		block_of(b->vm)->stop = 1;
	else
		timer_set(&b->timer, clock_now(vm_clock(b->vm)) + 2000000 + b->moves % 7 * 777777);
}

static int create(struct bench *b, const char *model)
{
	const struct vm_config c = {
		.memory = MEMORY, .model = &b->model, .vcpus = b->vcpus, .engine = b->engines[0],
		.engine_config = &b->configs[0], .debug_exit = true, .load = load, .log = &b->log,
	};

	assert_int_equal(cpu_model_init(&b->model, model, NULL), 0);
	b->model.cpus = MAX(b->vcpus, 1U);
	log_init(&b->log, LOG_ERROR, stderr);
	return vm_create(&b->vm, &c, &b->err);
}

static void run(struct bench *b)
{
	struct vm_result result;

	timer_init(&b->timer, vm_clock(b->vm), move, b);
	timer_set(&b->timer, 3000000);
	if (vm_run(b->vm, &result, &b->err))
		fail_msg("vm_run: %s", b->err.text);
	if (result.exit != VM_EXIT_DEBUG)
		fail_msg("after %u moves: exit %d, %s", b->moves, result.exit, b->err.text);
	assert_int_equal(result.status, 0x2a << 1 | 1);
	assert_int_equal(b->moves, b->moves_max);
	check_result(b->vm);
	vm_destroy(b->vm);
}

static void test_interpreter_and_translator(void **state)
{
	struct bench b = {
		.engines = { &engine_soft, &engine_soft }, .moves_max = 40,
		.configs = { { .translate = TRANSLATOR_OFF }, { .translate = TRANSLATOR_AUTO } },
	};

	(void)state;
	assert_int_equal(create(&b, "vireo-v1"), 0);
	run(&b);
	assert_true(b.ticks[0] > 0 && b.ticks[1] > 0);
}

/* The first model that KVM here can give a guest; skips the test where there is no KVM. */
static void create_for_kvm(struct bench *b)
{
	if (engine_kvm.probe(&b->err)) {
		print_message("%s\n", b->err.text);
		skip();
	}
	if (create(b, "vireo-v1") == -ENOTSUP)
		create(b, "vireo-v0");
	if (b->err.code && !b->vm)
		fail_msg("%s", b->err.text);
}

static void test_soft_and_kvm(void **state)
{
	struct bench b = { .engines = { &engine_kvm, &engine_soft }, .moves_max = 60 };

	(void)state;
	create_for_kvm(&b);
	run(&b);
	assert_true(b.ticks[0] > 0 && b.ticks[1] > 0);
}

/* Local APICs of the machine's on one side, KVM's own on the other where it has them. */
static void test_kvm_and_kvm(void **state)
{
	struct bench b = {
		.engines = { &engine_kvm, &engine_kvm }, .moves_max = 30,
		.configs = { { .kvm_apics = KVM_APICS_MACHINE }, { .kvm_apics = KVM_APICS_AUTO } },
		.vcpus = 3,
	};

	(void)state;
	create_for_kvm(&b);
	run(&b);
	assert_true(b.ticks[0] > 0 && b.ticks[1] > 0);
}

static void test_soft_and_kvm_with_our_apics(void **state)
{
	struct bench b = {
		.engines = { &engine_kvm, &engine_soft }, .moves_max = 40,
		.configs = { { .kvm_apics = KVM_APICS_MACHINE } },
	};

	(void)state;
	create_for_kvm(&b);
	run(&b);
	assert_true(b.ticks[0] > 0 && b.ticks[1] > 0);
}

/* --- what fails leaves the VM as it is --- */

static int refuse_vcpu(struct engine *en, struct vcpu *v, struct err *e)
{
	(void)en;
	(void)v;
	return err_set(e, ENOTSUP, "no processors today");
}

static void move_in_vain(void *arg)
{
	struct bench *b = arg;
	struct engine_ops refusing = fake_engine_ops;
	const struct engine_config nowhere = { .kvm_device = "/nonexistent/kvm" };

	refusing.vcpu_add = refuse_vcpu;
	if (vm_set_engine(b->vm, &refusing, &b->refuser.config, &b->err) == -ENOTSUP &&
	    !b->refuser.alive)
		b->moves++;
	b->refuser.unusable = "not here";
	if (vm_set_engine(b->vm, &fake_engine_ops, &b->refuser.config, &b->err) == -EOPNOTSUPP)
		b->moves++;
	if (engine_kvm.probe(&b->err) ||
	    vm_set_engine(b->vm, &engine_kvm, &nowhere, &b->err) == -ENOENT)
		b->moves++;
	block_of(b->vm)->stop = 1;
}

static void test_refused(void **state)
{
	struct bench b = { .engines = { &engine_soft }, .moves_max = 3 };
	struct vm_result result;

	(void)state;
	assert_int_equal(create(&b, "vireo-v0"), 0);
	timer_init(&b.timer, vm_clock(b.vm), move_in_vain, &b);
	timer_set(&b.timer, 3000000);
	assert_int_equal(vm_run(b.vm, &result, &b.err), 0);
	assert_int_equal(result.exit, VM_EXIT_DEBUG);
	assert_int_equal(b.moves, 3);
	check_result(b.vm);
	vm_destroy(b.vm);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_interpreter_and_translator),
		cmocka_unit_test(test_soft_and_kvm), cmocka_unit_test(test_kvm_and_kvm),
		cmocka_unit_test(test_soft_and_kvm_with_our_apics),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
