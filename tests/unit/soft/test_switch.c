// SPDX-License-Identifier: Apache-2.0
/*
 * SYSCALL, SYSRET and IRETQ in translated code: whatever flags, masks, selectors and stack pointers
 * they meet, state and stack are what the interpreter makes of them, and the usual cases are
 * not its business.  User code gets at no translation of the kernel's, neither by a jump nor
 * by a return.
 */
#include "unit.h"
#include "user_rig.h"

#define TURNS		60
#define WITH_IRET	0x800	/* from KERNEL */
#define FRAMES		(RIG_DATA + 0x2000)

static struct rig *make(enum translator_choice translate, enum window_choice windows)
{
	return user_rig(translate, windows, 0);
}

/*
 * The kernel takes in its flags and R11, changes the latter by r12 and goes back with the
 * stack pointer r14; the user computes, calls, takes in its flags, @turns times.
 */
static void put_programs(struct rig *r)
{
	PUT(r, KERNEL, 0x9c, 0x41, 0x58,	/* pushfq; pop r8 */
	    0x4d, 0x01, 0xc1, 0x49, 0xc1, 0xc1, 0x07,	/* add r9, r8; rol r9, 7 */
	    0x4d, 0x01, 0xd9, 0x4d, 0x31, 0xe3,	/* add r9, r11; xor r11, r12 */
	    0x4d, 0x01, 0xef, 0x4c, 0x89, 0xf4,	/* add r15, r13; mov rsp, r14 */
	    0x48, 0x0f, 0x07);			/* sysretq */
	PUT(r, KERNEL + WITH_IRET, 0x9c, 0x41, 0x58, 0x4d, 0x01, 0xc1, 0x49, 0xc1, 0xc1, 0x07,
	    0x4d, 0x01, 0xd9, 0x4d, 0x31, 0xe3, 0x4d, 0x01, 0xef,
	    0x4c, 0x89, 0xd4, 0x56, 0x41, 0x56,		/* mov rsp, r10; push rsi; push r14 */
	    0x41, 0x53, 0x57, 0x51, 0x48, 0xcf);	/* push r11; push rdi; push rcx; iretq */
	PUT(r, USER, 0x4c, 0x01, 0xeb,		/* add rbx, r13 */
	    0x0f, 0x05,				/* syscall */
	    0x9c, 0x5a,				/* pushfq; pop rdx */
	    0x49, 0x01, 0xd1, 0x49, 0xc1, 0xc1, 0x0b,	/* add r9, rdx; rol r9, 11 */
	    0xff, 0xcd, 0x75, 0xee, 0xf4);	/* dec ebp; jnz; hlt */
}

struct outcome {
	int vector;
	uint64_t gpr[16], rip, rflags, frame[6];
	struct segment seg[6];
	uint64_t gdt[5];
	unsigned int cpl;
};

static struct outcome outcome_of(struct rig *r, int vector)
{
	const struct vcpu *v = r->v;
	struct outcome o;

	memset(&o, 0, sizeof(o));
	o.vector = vector;
	memcpy(o.gpr, v->gpr, sizeof(o.gpr));
	o.rip = v->rip;
	o.rflags = v->rflags;
	memcpy(o.seg, v->seg, sizeof(o.seg));
	gpa_read(&r->space, RIG_GDT, o.gdt, sizeof(o.gdt));
	o.cpl = v->cpl;
	gpa_read(&r->space, RIG_STACK - sizeof(o.frame), o.frame, sizeof(o.frame));
	return o;
}

struct start {
	uint64_t flags, change, star, sfmask, gpr[16], stack;
	uint64_t frame, cs_sel, ss_sel, cs, ss;		/* for IRETQ */
	bool iret, null_segments;
};

static struct outcome run_start(struct rig *r, const struct start *s)
{
	struct vcpu *v = r->v;

	rig_state(r);
	v->cr4 |= CR4_PGE;
	v->star = s->star;
	v->sfmask = s->sfmask;
	memcpy(v->gpr, s->gpr, sizeof(v->gpr));
	v->gpr[REG_RSP] = USER_STACK;
	v->gpr[REG_R12] = s->change;
	v->gpr[REG_R14] = s->stack;
	v->gpr[REG_RBP] = TURNS;
	v->gpr[REG_R10] = s->frame;
	v->gpr[REG_RDI] = s->cs_sel;
	v->gpr[REG_RSI] = s->ss_sel;
	v->lstar = UPPER + KERNEL + (s->iret ? WITH_IRET : 0);
	for (unsigned int seg = 0; seg < 6 && s->null_segments; seg++)
		if (seg != SEG_CS && seg != SEG_SS)
			v->seg[seg] = (struct segment){ .attr = SEG_UNUSABLE };
	rig_code(r, RIG_GDT + 24, &(uint64_t[]){ s->ss, s->cs }, 16);
	v->gdtr.limit = 39;
	vcpu_update_mode(v);
	return outcome_of(r, run_user(r, s->flags));
}

static uint64_t next(uint64_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	return *seed ^= *seed << 17;
}

static struct start random_start(uint64_t *seed)
{
	static const uint64_t stacks[] = {
		USER_STACK, USER_STACK, USER_STACK, 0x100000000000, 1ULL << 47, -8ULL, 0x20000, 4,
		(1ULL << 63) + USER_STACK,
	};
	/* All but TF; AC, IF and NT now and then. */
	uint64_t liked = RFLAGS_ARITH | RFLAGS_DF | RFLAGS_ID | RFLAGS_IOPL;
	struct start s = { .star = STAR, .sfmask = 0x257fd5, .stack = USER_STACK };

	if (next(seed) % 4 == 0)
		liked |= RFLAGS_AC | RFLAGS_NT | RFLAGS_IF;
	s.flags = (next(seed) & liked) | RFLAGS_FIXED;
	s.change = next(seed) & liked;
	if (next(seed) % 4 == 0)
		liked |= RFLAGS_RF;	/* that IRETQ loads */
	s.iret = next(seed) & 1;
	s.null_segments = next(seed) % 4;
	s.frame = FRAMES + (next(seed) % 4 ? 0x100 : 0x10);
	s.cs_sel = next(seed) % 8 ? 0x23 : next(seed) % 48;
	s.ss_sel = next(seed) % 8 ? 0x1b : next(seed) % 48;
	s.cs = USER_CS ^ (next(seed) % 8 ? 0 : 1ULL << next(seed) % 64);
	s.ss = USER_SS ^ (next(seed) % 8 ? 0 : 1ULL << next(seed) % 64);
	if (next(seed) % 4 == 0)
		s.sfmask ^= next(seed) & liked;
	if (next(seed) % 4 == 0)
		s.star = next(seed) << 32;
	if (next(seed) % 3 == 0)
		s.stack = stacks[next(seed) % ARRAY_SIZE(stacks)];
	for (unsigned int i = 0; i < 16; i++)
		s.gpr[i] = next(seed);
	return s;
}

static void compare(enum window_choice windows)
{
	struct rig *plain = make(TRANSLATOR_OFF, WINDOWS_OFF), *r = make(TRANSLATOR_ON, windows);
	uint64_t seed = 0x5eed5eed5eedULL;

	put_programs(plain);
	put_programs(r);
	for (unsigned int k = 0; k < 600; k++) {
		struct start s = random_start(&seed);
		struct outcome a = run_start(plain, &s), b = run_start(r, &s);

		if (memcmp(&a, &b, sizeof(a)))
			fail_msg("run %u: vector %d %d, r9 %llx %llx, flags %llx %llx", k, a.vector, b.vector,
				 (unsigned long long)a.gpr[REG_R9], (unsigned long long)b.gpr[REG_R9],
				 (unsigned long long)a.rflags, (unsigned long long)b.rflags);
	}
	rig_destroy(plain);
	rig_destroy(r);
}

static void test_like_interpreter(void **state)
{
	(void)state;
	compare(WINDOWS_OFF);
}

static void test_like_interpreter_windows(void **state)
{
	(void)state;
	compare(WINDOWS_ALWAYS);
}

/* Once all is translated, the interpreter is asked no more. */
static void in_line(enum window_choice windows, bool iret)
{
	struct rig *r = make(TRANSLATOR_ON, windows);
	const struct start s = { .flags = RFLAGS_FIXED | RFLAGS_IF, .star = STAR, .sfmask = 0x257fd5,
				 .stack = USER_STACK, .iret = iret, .null_segments = true,
				 .frame = FRAMES, .cs_sel = 0x23, .ss_sel = 0x1b, .cs = USER_CS,
				 .ss = USER_SS };
	uint64_t steps;

	put_programs(r);
	for (unsigned int k = 0; k < 20; k++)
		assert_int_equal(run_start(r, &s).vector, EXC_GP);
	assert_true(steps_of(r, INSN_ID_SYSCALL) < 2 * TURNS);
	assert_true(steps_of(r, INSN_ID_SYSRET) < 2 * TURNS);
	assert_true(steps_of(r, INSN_ID_IRETQ) < 2 * TURNS);
	if (iret) {		/* while code is compared with memory at what serializes */
		steps = steps_of(r, INSN_ID_IRETQ);
		dbt_watch(r->v, true);
		assert_int_equal(run_start(r, &s).vector, EXC_GP);
		assert_true(steps_of(r, INSN_ID_IRETQ) - steps >= TURNS);
	}
	rig_destroy(r);
}

static void test_in_line(void **state)
{
	(void)state;
	for (unsigned int iret = 0; iret < 2; iret++) {
		in_line(WINDOWS_OFF, iret);
		in_line(WINDOWS_ALWAYS, iret);
	}
}

/* --- IRETQ within the kernel --- */

#define NEXT		0x14	/* from KERNEL: where it goes */
#define KERNEL_CS	0x00af9b000000ffffULL
#define KERNEL_SS	0x00cf93000000ffffULL

/* Flags r12, then IRETQ with a frame of rsi, r14, r11, rdi, r8; there the flags are taken in. */
static void put_kernel_iret(struct rig *r)
{
	PUT(r, KERNEL, 0x4c, 0x89, 0xf4, 0x56, 0x41, 0x56,	/* l: mov rsp, r14; push rsi; push r14 */
	    0x41, 0x53, 0x57, 0x41, 0x50, 0x41, 0x54,	/* push r11; rdi; r8; r12 */
	    0x9d, 0x48, 0x01, 0xc3, 0x48, 0xcf, 0x90,	/* popfq; add rbx, rax; iretq; nop */
	    0x9c, 0x5a, 0xfc, 0x48, 0x8b, 0x01,		/* pushfq; pop rdx; cld; mov rax, [rcx] */
	    0x49, 0x01, 0xd1, 0x49, 0xc1, 0xc1, 0x0b,	/* add r9, rdx; rol r9, 11 */
	    0x4d, 0x31, 0xfb,				/* xor r11, r15 */
	    0xff, 0xcd, 0x75, 0xd8, 0xf4);		/* dec ebp; jnz l; hlt */
}

struct kernel_start {
	uint64_t flags, before, cs_sel, ss_sel, rip, cs, ss, dr7, gpr[16];
};

static uint64_t one_in(uint64_t *seed, unsigned int n, uint64_t odd, uint64_t usual)
{
	return next(seed) % n ? usual : odd;
}

static struct kernel_start random_kernel_start(uint64_t *seed)
{
	static const uint64_t flags[] = { RFLAGS_TF, RFLAGS_NT, RFLAGS_AC, RFLAGS_RF, RFLAGS_DF, RFLAGS_ID,
					  RFLAGS_IF, RFLAGS_IOPL };
	static const uint16_t sels[] = { 0, 1, 3, 8, 9, 0x10, 0x11, 0x18, 0x23, 0x1b, 0x28 };
	struct kernel_start s;

	for (unsigned int n = 0; n < 16; n++)
		s.gpr[n] = next(seed);
	s.flags = RFLAGS_FIXED | (next(seed) & RFLAGS_ARITH);
	s.before = RFLAGS_FIXED | (next(seed) & RFLAGS_ARITH);
	for (unsigned int k = 0; k < 8; k++) {
		s.flags |= one_in(seed, k ? 4 : 12, flags[k], 0);
		s.before |= one_in(seed, k > 1 ? 4 : 20, flags[k] & ~RFLAGS_TF, 0);
	}
	s.cs_sel = one_in(seed, 10, sels[next(seed) % 11], 8);
	s.ss_sel = one_in(seed, 6, sels[next(seed) % 11], next(seed) & 0x10);
	s.rip = one_in(seed, 10, next(seed), UPPER + KERNEL + NEXT);
	s.cs = one_in(seed, 10, 0x00209b0000000000ULL | (next(seed) & 7) << 40, KERNEL_CS);
	s.ss = one_in(seed, 10, KERNEL_SS ^ BIT(next(seed) % 64), KERNEL_SS);
	s.dr7 = one_in(seed, 10, 1, 0);
	s.gpr[REG_RCX] = one_in(seed, 4, USER_STACK - 8, RIG_DATA);	/* SMAP: by AC */
	s.gpr[REG_R15] = one_in(seed, 4, RFLAGS_AC, 0);
	return s;
}

static struct outcome run_kernel_start(struct rig *r, const struct kernel_start *s)
{
	struct vcpu *v = r->v;

	rig_state(r);
	v->cr4 |= CR4_PGE | CR4_SMAP;
	memcpy(v->gpr, s->gpr, sizeof(v->gpr));
	v->gpr[REG_RBP] = TURNS;
	v->gpr[REG_R14] = RIG_STACK - 0x100;
	v->gpr[REG_R11] = s->flags;
	v->gpr[REG_R12] = s->before;
	v->gpr[REG_RSI] = s->ss_sel;
	v->gpr[REG_RDI] = s->cs_sel;
	v->gpr[REG_R8] = s->rip;
	v->dr[0] = UPPER + KERNEL + NEXT;
	v->dr[7] = s->dr7 | 0x400;
	v->dr[6] = 0xffff0ff0;
	rig_code(r, RIG_GDT + 8, &(uint64_t[]){ s->cs, s->ss, USER_SS, USER_CS }, 32);
	v->gdtr.limit = 39;
	vcpu_update_mode(v);
	return outcome_of(r, rig_run(r, UPPER + KERNEL));
}

static void test_kernel_iret(void **state)
{
	struct rig *plain = make(TRANSLATOR_OFF, WINDOWS_OFF), *r = make(TRANSLATOR_ON, WINDOWS_OFF);
	struct rig *without = user_rig(TRANSLATOR_ON, WINDOWS_OFF, BIT(TRANSLATOR_OPT_SWITCH));
	uint64_t seed = 0x1e71e71e7ULL;

	(void)state;
	put_kernel_iret(plain);
	put_kernel_iret(r);
	put_kernel_iret(without);
	for (unsigned int k = 0; k < 1500; k++) {
		struct kernel_start s = random_kernel_start(&seed);
		struct outcome a = run_kernel_start(plain, &s), b = run_kernel_start(r, &s);
		struct outcome c = run_kernel_start(without, &s);

		if (memcmp(&a, &b, sizeof(a)) || memcmp(&a, &c, sizeof(a)))
			fail_msg("run %u: vector %d %d, r9 %llx %llx, flags %llx %llx", k, a.vector, b.vector,
				 (unsigned long long)a.gpr[REG_R9], (unsigned long long)b.gpr[REG_R9],
				 (unsigned long long)a.rflags, (unsigned long long)b.rflags);
	}
	rig_destroy(plain);
	rig_destroy(without);
	rig_destroy(r);
}

/* The usual ones are not the interpreter's business. */
static void test_kernel_iret_in_line(void **state)
{
	struct rig *r = make(TRANSLATOR_ON, WINDOWS_OFF);
	uint64_t seed = 3, steps = 0;

	(void)state;
	put_kernel_iret(r);
	for (unsigned int k = 0; k < 21; k++) {
		struct kernel_start s = random_kernel_start(&seed);

		if (k == 20) {		/* as above */
			steps = steps_of(r, INSN_ID_IRETQ);
			dbt_watch(r->v, true);
		}
		s.flags = RFLAGS_FIXED | (k & 1 ? RFLAGS_RF | RFLAGS_AC : 0);
		s.before = RFLAGS_FIXED;
		s.cs_sel = 8;
		s.ss_sel = k & 2 ? 0x10 : 0;
		s.rip = UPPER + KERNEL + NEXT;
		s.cs = KERNEL_CS;
		s.ss = KERNEL_SS;
		s.dr7 = 0;
		s.gpr[REG_RCX] = RIG_DATA;
		s.gpr[REG_R15] = 0;
		assert_int_equal(run_kernel_start(r, &s).vector, -1);
		assert_int_equal(r->v->gpr[REG_RBP], 0);
	}
	assert_true(steps < 2 * TURNS);
	assert_true(steps_of(r, INSN_ID_IRETQ) - steps >= TURNS);
	rig_destroy(r);
}

/*
 * The kernel's code, translated and run over and over, counts in r9; then the user's jumps
 * there.
 */
static void test_no_jump_into_kernel(void **state)
{
	struct rig *r = make(TRANSLATOR_ON, WINDOWS_OFF);

	(void)state;
	PUT(r, KERNEL, 0x49, 0xff, 0xc1, 0x48, 0x0f, 0x07);	/* inc r9; sysretq */
	PUT(r, USER, 0x0f, 0x05, 0xff, 0xcd, 0x75, 0xfa,	/* l: syscall; dec ebp; jnz l */
	    0x41, 0xff, 0xe7);					/* jmp r15 */
	for (unsigned int k = 0; k < 6; k++) {
		/* Another address space each time, and so another set of the jump cache. */
		rig_state(r);
		r->v->cr4 |= CR4_PGE;
		vcpu_update_mode(r->v);
		tlb_switch_space(r->v, false);
		r->v->gpr[REG_RBP] = TURNS;
		r->v->gpr[REG_R9] = 0;
		r->v->gpr[REG_R15] = UPPER + KERNEL;
		assert_int_equal(run_user(r, RFLAGS_FIXED), EXC_PF);
		assert_int_equal(r->v->gpr[REG_R9], TURNS);
		assert_int_equal(r->v->cr2, UPPER + KERNEL);
	}
	rig_destroy(r);
}

/* The kernel leaves return addresses behind; the user's RET does not find them. */
static void test_no_return_into_kernel(void **state)
{
	struct rig *r = make(TRANSLATOR_ON, WINDOWS_OFF);

	(void)state;
	/* jmp over; inner: pop r8; sysretq; over: call inner; inc r9; ud2 */
	PUT(r, KERNEL, 0xeb, 0x05, 0x41, 0x58, 0x48, 0x0f, 0x07, 0xe8, 0xf6, 0xff, 0xff, 0xff,
	    0x49, 0xff, 0xc1, 0x0f, 0x0b);
	PUT(r, USER, 0x0f, 0x05, 0xff, 0xcd, 0x75, 0xfa,	/* l: syscall; dec ebp; jnz l */
	    0x41, 0x50, 0xc3);					/* push r8; ret */
	for (unsigned int k = 0; k < 4; k++) {		/* the RET is translated, too */
		r->v->gpr[REG_RSP] = USER_STACK;
		r->v->gpr[REG_RBP] = TURNS;
		r->v->gpr[REG_R9] = 0;
		assert_int_equal(run_user(r, RFLAGS_FIXED), EXC_PF);
		assert_int_equal(r->v->gpr[REG_R8], UPPER + KERNEL + 12);
		assert_int_equal(r->v->gpr[REG_R9], 0);
	}
	rig_destroy(r);
}

/*
 * Without SMEP the kernel may jump to the user's code, which then is the kernel's: it sees what
 * the kernel sees, by its tables and not by the user's windows.
 */
static void test_no_jump_into_user(void **state)
{
	struct rig *r = make(TRANSLATOR_ON, WINDOWS_ALWAYS);

	(void)state;
	rig_code(r, RIG_DATA, &(uint64_t){ 0x5ec7e7 }, 8);
	rig_code(r, USER_STACK - 8, &(uint64_t){ 0xb19 }, 8);
	/* dec ebp; jz over; sysretq; over: mov rdi, r14; jmp r15 */
	PUT(r, KERNEL, 0xff, 0xcd, 0x74, 0x03, 0x48, 0x0f, 0x07, 0x4c, 0x89, 0xf7, 0x41, 0xff, 0xe7);
	PUT(r, USER, 0x48, 0x8b, 0x07, 0x4c, 0x39, 0xf7, 0x74, 0x06,	/* mov rax, [rdi]; cmp; je */
	    0x0f, 0x05, 0x41, 0xff, 0xe7, 0x90, 0xf4);	/* syscall; jmp r15; nop; hlt */
	for (unsigned int k = 0; k < 6; k++) {
		rig_state(r);
		r->v->cr4 |= CR4_PGE;
		vcpu_update_mode(r->v);
		r->v->gpr[REG_RSP] = USER_STACK;
		r->v->gpr[REG_RBP] = TURNS;
		r->v->gpr[REG_RDI] = USER_STACK - 8;
		r->v->gpr[REG_R14] = RIG_DATA;
		r->v->gpr[REG_R15] = USER;
		assert_int_equal(run_user(r, RFLAGS_FIXED | RFLAGS_IF), -1);
		assert_int_equal(r->v->gpr[REG_RAX], 0x5ec7e7);
	}
	rig_destroy(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_like_interpreter),
		cmocka_unit_test(test_like_interpreter_windows),
		cmocka_unit_test(test_in_line),
		cmocka_unit_test(test_kernel_iret),
		cmocka_unit_test(test_kernel_iret_in_line),
		cmocka_unit_test(test_no_jump_into_kernel),
		cmocka_unit_test(test_no_return_into_kernel),
		cmocka_unit_test(test_no_jump_into_user),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
