// SPDX-License-Identifier: Apache-2.0
/*
 * Single step, breakpoints, DR6 and DR7, RF and the shadow of MOV SS and STI.
 * Source: Intel SDM volume 3, "Debug, Branch Profile, TSC, and Intel Resource Director
 * Technology Features", sections on debug registers and exceptions.
 */
#include "guest.h"
#include "paging.h"

#define TF	BIT(8)
#define RF	BIT(16)
#define DR6_BS	BIT(14)
#define DR6_BD	BIT(13)
#define DR7_GD	BIT(13)
#define CR4_DE	BIT(3)
#define STEPS	64

static volatile ulong step_ip[STEPS], step_dr6[STEPS];
static volatile unsigned int steps;
volatile uint64_t watched[4];

/* Notes where each #DB came and goes on. */
static void note_step(struct regs *r)
{
	if (steps < STEPS) {
		step_ip[steps] = r->ip;
		step_dr6[steps] = read_dr6();
	}
	steps++;
	write_dr6(0xffff0ff0);
	if (steps > 60)
		r->flags &= ~TF;
}

static void note_breakpoint(struct regs *r)
{
	note_step(r);
	r->flags |= RF;
}

static void begin(void (*fn)(struct regs *))
{
	steps = 0;
	write_dr6(0xffff0ff0);
	set_handler(DB, fn);
}

#define LABEL(l) extern uint8_t l[];
LABEL(step_a) LABEL(step_b) LABEL(step_c) LABEL(step_d) LABEL(step_end)
KERNEL_ASM(step_plain, "pushfq; orl $0x100, (%rsp); popfq; step_a: nop; step_b: mov $3, %eax; step_c: inc %eax; step_d: pushfq; andl $~0x100, (%rsp); popfq; step_end: nop")

static void test_step(void)
{
	begin(note_step);
	step_plain(NULL);
	check_eq(steps, 6, "step-count");
	check_eq(step_ip[0], (ulong)step_b, "step-first-after-next-instruction");
	check_eq(step_ip[1], (ulong)step_c, "step-second");
	check_eq(step_ip[2], (ulong)step_d, "step-third");
	check_eq(step_ip[5], (ulong)step_end, "step-after-popf-clearing-tf");
	check_eq(step_dr6[0] & (DR6_BS | 15), DR6_BS, "step-dr6");
}

LABEL(rep_a) LABEL(rep_b)
KERNEL_ASM(step_rep, "mov $watched, %edi; mov $3, %ecx; pushfq; orl $0x100, (%rsp); popfq; rep_a: rep stosb; rep_b: pushfq; andl $~0x100, (%rsp); popfq")

static void test_step_rep(void)
{
	begin(note_step);
	step_rep(NULL);
	check_eq(step_ip[0], (ulong)rep_a, "step-rep-first");
	check_eq(step_ip[1], (ulong)rep_a, "step-rep-second");
	check_eq(step_ip[2], (ulong)rep_b, "step-rep-last");
	check_eq(steps, 6, "step-rep-count");
}

LABEL(ss_a) LABEL(ss_b) LABEL(ss_c)
KERNEL_ASM(step_ss, "mov %ss, %eax; pushfq; orl $0x100, (%rsp); popfq; ss_a: mov %eax, %ss; ss_b: nop; ss_c: pushfq; andl $~0x100, (%rsp); popfq")

static void test_step_shadow(void)
{
	begin(note_step);
	step_ss(NULL);
	check_eq(step_ip[0], (ulong)ss_c, "mov-ss-holds-single-step");
}

LABEL(call_a) LABEL(call_target)
KERNEL_ASM(step_call, "pushfq; orl $0x100, (%rsp); popfq; call_a: call call_target; jmp 1f; call_target: ret; 1: pushfq; andl $~0x100, (%rsp); popfq")

static void test_step_branch(void)
{
	begin(note_step);
	step_call(NULL);
	check_eq(step_ip[0], (ulong)call_target, "step-call");
	check_eq(steps, 6, "step-call-count");
}

KERNEL_ASM(step_int, "pushfq; orl $0x100, (%rsp); popfq; int $0x81; int_after: nop; pushfq; andl $~0x100, (%rsp); popfq")
LABEL(int_after)
static volatile ulong int_flags;

static void note_int(struct regs *r)
{
	(void)r;
	int_flags = read_flags();
}

/* INT clears TF for its handler; the step comes after the IRET's next instruction. */
static void test_step_int(void)
{
	begin(note_step);
	set_handler(0x81, note_int);
	step_int(NULL);
	check_eq(int_flags & TF, 0, "int-clears-tf");
	check(step_ip[0] == (ulong)int_after + 1 || step_ip[0] == (ulong)int_after,
	      "step-after-iret", "at %lx", step_ip[0]);
	set_handler(0x81, NULL);
}

LABEL(bp_at)
KERNEL_ASM(bp_code, "nop; bp_at: nop; nop")

static void test_execute(void)
{
	begin(note_breakpoint);
	write_dr0((ulong)bp_at);
	write_dr7(0x401);
	bp_code(NULL);
	check_eq(steps, 1, "execute-breakpoint");
	check_eq(step_ip[0], (ulong)bp_at, "execute-is-fault");
	check_eq(step_dr6[0] & 15, 1, "execute-dr6");
	write_dr7(0x400);
	steps = 0;
	bp_code(NULL);
	check_eq(steps, 0, "execute-disabled");
	/* L2, and one that matches without being enabled */
	write_dr2((ulong)bp_at);
	write_dr7(0x400 | 1 << 4);
	bp_code(NULL);
	check_eq(steps, 1, "execute-dr2");
	check_eq(step_dr6[0] & 4, 4, "execute-dr2-dr6");
	write_dr7(0x400);
}

static unsigned int try_data(unsigned int type, unsigned int len, ulong at, void (*fn)(void *))
{
	begin(note_step);
	write_dr1(at);
	write_dr7(0x400 | 1 << 2 | type << 20 | len << 22);
	fn(NULL);
	write_dr7(0x400);
	return steps;
}

LABEL(store_after)
KERNEL_ASM(data_store, "movl $1, watched + 8; store_after: nop")
KERNEL_ASM(data_load, "mov watched + 8, %eax; nop")
KERNEL_ASM(data_store_byte, "movb $1, watched + 11; nop")
KERNEL_ASM(data_store_next, "movb $1, watched + 12; nop")
KERNEL_ASM(data_store_crossing, "movl $1, watched + 6; nop")
KERNEL_ASM(data_push, "mov %rsp, %rax; mov $watched + 16, %esp; push %rcx; mov %rax, %rsp; nop")
KERNEL_ASM(data_movs, "mov $watched, %esi; mov $watched + 4, %edi; mov $8, %ecx; rep movsb; nop")

static void test_data(void)
{
	ulong at = (ulong)watched + 8;

	check_eq(try_data(1, 3, at, data_store), 1, "write-breakpoint");
	check_eq(step_ip[0], (ulong)store_after, "write-is-trap");
	check_eq(step_dr6[0] & 15, 2, "write-dr6");
	check_eq(try_data(1, 3, at, data_load), 0, "write-not-by-read");
	check_eq(try_data(3, 3, at, data_load), 1, "access-by-read");
	check_eq(try_data(3, 3, at, data_store), 1, "access-by-write");
	check_eq(try_data(1, 3, at, data_store_byte), 1, "write-byte-inside");
	check_eq(try_data(1, 3, at, data_store_next), 0, "write-byte-outside");
	check_eq(try_data(1, 0, at, data_store_crossing), 1, "write-overlapping");
	check_eq(try_data(1, 2, at, data_push), 1, "write-by-push");
	check(try_data(1, 0, at, data_movs) >= 1, "write-by-rep-movs", "no trap");
	check_eq(try_data(1, 3, at, data_load), 0, "breakpoint-gone");
}

KERNEL_ASM(io_access, "in $0x80, %al; nop")

static void test_io(void)
{
	write_cr4(read_cr4() | CR4_DE);
	check_eq(try_data(2, 0, 0x80, io_access), 1, "io-breakpoint");
	write_cr4(read_cr4() & ~CR4_DE);
}

KERNEL_ASM(read_dr0_raw, "mov %dr0, %rax")
KERNEL_ASM(read_dr4_raw, ".byte 0x0f, 0x21, 0xe0")

static void test_general_detect(void)
{
	set_handler(DB, NULL);
	write_dr6(0xffff0ff0);
	write_dr7(0x400 | DR7_GD);
	check_trap(guest_try(read_dr0_raw, NULL), DB, 0, "general-detect");
	check_eq(read_dr7() & DR7_GD, 0, "general-detect-cleared");
	check_eq(read_dr6() & DR6_BD, DR6_BD, "general-detect-dr6");
	write_dr7(0x400);
	check_trap(guest_try(read_dr4_raw, NULL), NONE, 0, "dr4-is-dr6");
	write_cr4(read_cr4() | CR4_DE);
	check_trap(guest_try(read_dr4_raw, NULL), UD, 0, "ud-dr4-with-de");
	write_cr4(read_cr4() & ~CR4_DE);
	write_dr6(0);
	check_eq(read_dr6(), 0xffff0ff0, "dr6-fixed-bits");
	write_dr7(0);
	check_eq(read_dr7(), 0x400, "dr7-fixed-bits");
}

USER_ASM(user_step_syscall, "xor %eax, %eax; nop; nop")

static void test_user_step(void)
{
	set_handler(DB, NULL);
	write_dr6(0xffff0ff0);
	check_trap(guest_user_flags(user_step_syscall, 2 | TF), DB, 0, "user-step");
	check_eq(trap.regs.ip, (ulong)user_step_syscall + 2, "user-step-ip");
	check_eq(trap.regs.cs, SEL_UCODE64, "user-step-cs");
	check_eq(read_flags() & TF, 0, "user-step-handler-without-tf");
}

void guest_main(void)
{
	paging_init();
	test_step();
	test_step_rep();
	test_step_shadow();
	test_step_branch();
	test_step_int();
	test_execute();
	test_data();
	test_io();
	test_general_detect();
	test_user_step();
}
