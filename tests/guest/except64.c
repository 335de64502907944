// SPDX-License-Identifier: Apache-2.0
/*
 * Every exception with its error code, in 64-bit mode.
 * Source: Intel SDM volume 3, "Exception and Interrupt Reference".
 */
#include "guest.h"
#include "paging.h"

#define NONCANONICAL	0x8000000000000000UL
#define HOLE		0x40000000UL	/* nothing is mapped there */

KERNEL_ASM(divide_zero, "xor %ecx, %ecx; mov $1, %eax; cltd; div %ecx")
KERNEL_ASM(divide_overflow, "mov $2, %edx; mov $1, %ecx; idiv %ecx")
KERNEL_ASM(breakpoint, "int3")
KERNEL_ASM(int_5, "int $5")
KERNEL_ASM(int_gp_gate, "int $0x90")
KERNEL_ASM(undefined, "ud2")
KERNEL_ASM(lock_reg, ".byte 0xf0, 0x01, 0xc0")
KERNEL_ASM(too_long, ".fill 15, 1, 0x66; nop")
KERNEL_ASM(fpu, "fld1")
KERNEL_ASM(sse, "xorps %xmm0, %xmm0")
KERNEL_ASM(load_null_ss, "xor %eax, %eax; mov %eax, %ss")
KERNEL_ASM(load_noncanonical, "mov $0x8000000000000000, %rax; mov (%rax), %al")
KERNEL_ASM(push_noncanonical, "mov %rsp, %rcx; mov $0x8000000000000000, %rsp; push %rax; mov %rcx, %rsp")
KERNEL_ASM(rbp_noncanonical, "mov %rbp, %rcx; mov $0x8000000000000000, %rbp; mov 8(%rbp), %rax; mov %rcx, %rbp")
KERNEL_ASM(jump_noncanonical, "mov $0x8000000000000000, %rax; jmp *%rax")
KERNEL_ASM(read_hole, "mov $0x40000000, %eax; mov (%rax), %al")
KERNEL_ASM(write_hole, "mov $0x40000123, %eax; movl $1, (%rax)")
KERNEL_ASM(jump_hole, "mov $0x40000456, %eax; jmp *%rax")
KERNEL_ASM(misaligned_sse, "lea -64(%rsp), %rax; or $1, %rax; movaps (%rax), %xmm0")
KERNEL_ASM(x87_divide, "fninit; pushq $0x340; fldcw (%rsp); pop %rax; fld1; fldz; fdivrp; fwait")
KERNEL_ASM(sse_divide, "push $0x1d00; ldmxcsr (%rsp); pop %rax; xorps %xmm0, %xmm0; divss %xmm0, %xmm0")
KERNEL_ASM(bad_cr1, ".byte 0x0f, 0x20, 0xc8")
KERNEL_ASM(icebp, ".byte 0xf1")
KERNEL_ASM(far_jump_to_data, "push $0x18; push $0; rex.w lret")

static void load_ds(void *arg)
{
	asm volatile("mov %0, %%ds; mov %1, %%ds" : : "r" ((uint32_t)(ulong)arg), "r" (0));
}

static void load_ss(void *arg)
{
	asm volatile("mov %0, %%ss" : : "r" ((uint32_t)(ulong)arg));
}

static void far_return(void *arg)
{
	asm volatile("push %0; push $1f; rex.w lret; 1:" : : "r" (arg) : "memory");
}

static void test_simple(void)
{
	check_trap(guest_try(divide_zero, NULL), DE, 0, "de-zero");
	check_trap(guest_try(divide_overflow, NULL), DE, 0, "de-overflow");
	check_trap(guest_try(icebp, NULL), DB, 0, "db-icebp");
	check_trap(guest_try(breakpoint, NULL), BP, 0, "bp");
	check_eq(trap.regs.ip, (ulong)breakpoint + 1, "bp-is-trap");
	check_trap(guest_try(int_5, NULL), BR, 0, "int-5");
	check_trap(guest_try(undefined, NULL), UD, 0, "ud2");
	check_eq(trap.regs.ip, (ulong)undefined, "ud2-is-fault");
	check(trap.regs.flags & BIT(16), "fault-pushes-rf", "flags %lx", trap.regs.flags);
	check_trap(guest_try(lock_reg, NULL), UD, 0, "ud-lock-register");
	check_trap(guest_try(too_long, NULL), GP, 0, "gp-insn-too-long");
	check_trap(guest_try(bad_cr1, NULL), UD, 0, "ud-cr1");
}

static void test_fpu(void)
{
	ulong cr0 = read_cr0();

	write_cr0(cr0 | BIT(3));
	check_trap(guest_try(fpu, NULL), NM, 0, "nm-x87-ts");
	check_trap(guest_try(sse, NULL), NM, 0, "nm-sse-ts");
	write_cr0((cr0 & ~BIT(1)) | BIT(2));
	check_trap(guest_try(fpu, NULL), NM, 0, "nm-x87-em");
	check_trap(guest_try(sse, NULL), UD, 0, "ud-sse-em");
	write_cr0(cr0);
	write_cr4(read_cr4() & ~BIT(9));
	check_trap(guest_try(sse, NULL), UD, 0, "ud-sse-osfxsr");
	write_cr4(read_cr4() | BIT(9));
	check_trap(guest_try(misaligned_sse, NULL), GP, 0, "gp-misaligned-sse");
	check_trap(guest_try(x87_divide, NULL), MF, 0, "mf");
	asm volatile("fninit");
	check_trap(guest_try(sse_divide, NULL), XM, 0, "xm");
	write_cr4(read_cr4() & ~BIT(10));
	check_trap(guest_try(sse_divide, NULL), UD, 0, "ud-sse-without-osxmmexcpt");
	write_cr4(read_cr4() | BIT(10));
}

static void test_segments(void)
{
	unsigned int sel = SEL_FREE;

	gdt_set(sel, 0, 0xfffff, 0xcf13 & 0xff7f);	/* not present */
	check_trap(guest_try(load_ds, (void *)(ulong)sel), NP, sel, "np-ds");
	check_trap(guest_try(load_ss, (void *)(ulong)sel), SS, sel, "ss-not-present");
	check_trap(guest_try(load_ds, (void *)0x1f8UL), GP, 0x1f8, "gp-ds-empty");
	check_trap(guest_try(load_ds, (void *)0x5550UL), GP, 0x5550, "gp-ds-beyond-gdt");
	check_trap(guest_try(load_ds, (void *)0xcUL), GP, 0xc, "gp-ds-no-ldt");
	check_trap(guest_try(load_ss, (void *)SEL_KCODE64), GP, SEL_KCODE64, "gp-ss-code");
	check_trap(guest_try(load_ss, (void *)SEL_UDATA), GP, SEL_UDATA & ~3, "gp-ss-rpl");
	check_trap(guest_try(load_null_ss, NULL), NONE, 0, "null-ss-allowed-at-cpl0");
	asm volatile("mov %0, %%ss" : : "r" (SEL_KDATA));
	check_trap(guest_try(far_jump_to_data, NULL), GP, SEL_KDATA, "gp-cs-data");
	gdt_set(sel, 0, 0xfffff, 0xa01b);
	check_trap(guest_try(far_return, (void *)(ulong)sel), NP, sel, "np-cs");
	gdt_set(sel, 0, 0xfffff, 0xe09b);
	check_trap(guest_try(far_return, (void *)(ulong)sel), GP, sel, "gp-cs-l-and-d");
	check_trap(guest_try(far_return, (void *)0UL), GP, 0, "gp-cs-null");
}

static void test_addresses(void)
{
	check_trap(guest_try(load_noncanonical, NULL), GP, 0, "gp-noncanonical");
	set_gate(SS, (ulong)trap_entries + 16 * SS, SEL_KCODE, 0x8e, 1);
	set_gate(GP, (ulong)trap_entries + 16 * GP, SEL_KCODE, 0x8e, 1);
	check_trap(guest_try(push_noncanonical, NULL), SS, 0, "ss-noncanonical-push");
	check_trap(guest_try(rbp_noncanonical, NULL), SS, 0, "ss-noncanonical-rbp");
	check_trap(guest_try(jump_noncanonical, NULL), GP, 0, "gp-noncanonical-jump");
	check_trap(guest_try(read_hole, NULL), PF, 0, "pf-read");
	check_eq(trap.cr2, HOLE, "pf-read-cr2");
	check_trap(guest_try(write_hole, NULL), PF, 2, "pf-write");
	check_eq(trap.cr2, HOLE + 0x123, "pf-write-cr2");
	check_trap(guest_try(jump_hole, NULL), PF, 0x10, "pf-fetch");
	check_eq(trap.cr2, HOLE + 0x456, "pf-fetch-cr2");
}

/* Gates: absent, of the wrong kind, with a bad selector; and what becomes of #PF then. */
static void test_gates(void)
{
	struct gate saved = idt[0x90], pf = idt[PF];

	set_gate(0x90, (ulong)trap_entries, SEL_KCODE, 0x0e, 0);
	check_trap(guest_try(int_gp_gate, NULL), NP, 0x90 * 8 + 2, "np-gate");
	set_gate(0x90, (ulong)trap_entries, SEL_KCODE, 0x85, 0);
	check_trap(guest_try(int_gp_gate, NULL), GP, 0x90 * 8 + 2, "gp-gate-kind");
	set_gate(0x90, (ulong)trap_entries, SEL_KDATA, 0x8e, 0);
	check_trap(guest_try(int_gp_gate, NULL), GP, SEL_KDATA, "gp-gate-to-data");
	set_gate(0x90, (ulong)trap_entries, 0, 0x8e, 0);
	check_trap(guest_try(int_gp_gate, NULL), GP, 0, "gp-gate-null");
	idt[0x90] = saved;
	set_gate(PF, (ulong)trap_entries, SEL_KCODE, 0x0e, 0);
	set_gate(DF, (ulong)trap_entries + 16 * DF, SEL_KCODE, 0x8e, 1);
	check_trap(guest_try(read_hole, NULL), DF, 0, "df");
	check(trap.stack > (ulong)ist_stack && trap.stack < (ulong)ist_stack + IST_STACK_SIZE,
	      "df-on-ist", "frame at %lx", trap.stack);
	idt[PF] = pf;
	check_trap(guest_try(read_hole, NULL), PF, 0, "pf-after-df");
}

/* A bad stack: the exception cannot be pushed, so it becomes a double fault. */
static void bad_stack(void *arg)
{
	asm volatile("mov %0, %%rsp; ud2" : : "r" (arg) : "memory");
}

static void test_double_fault_stack(void)
{
	check_trap(guest_try(bad_stack, (void *)(HOLE + 0x1000)), DF, 0, "df-unmapped-stack");
	/* #UD is benign, so the #SS that pushing it raises is delivered on its IST stack; EXT is set. */
	check_trap(guest_try(bad_stack, (void *)NONCANONICAL), SS, 1, "ss-noncanonical-stack");
}

USER_ASM(user_end_regular, "int $0x80")
USER_ASM(user_int_kernel_gate, "int $0x90")
USER_ASM(user_hlt, "hlt")
USER_ASM(user_cli, "cli")
USER_ASM(user_in, "in $0x80, %al")
USER_ASM(user_mov_cr, "mov %cr0, %rax")
USER_ASM(user_kernel_read, "mov 0x100000, %al")
USER_ASM(user_kernel_write, "movl $0, 0x100000")
USER_ASM(user_kernel_jump, "mov $0x100000, %eax; jmp *%rax")
USER_ASM(user_misaligned, "mov 1(%rsp), %eax")

static void test_user(void)
{
	ulong cr0 = read_cr0();

	check_trap(guest_user(user_end_regular), SYS, 0, "user-int-80");
	check_eq(trap.regs.cs, SEL_UCODE64, "user-cs");
	check_eq(trap.regs.ss, SEL_UDATA, "user-ss");
	check(trap.stack + sizeof(struct regs) == (ulong)ring0_stack + RING0_STACK_SIZE,
	      "user-stack-switch", "frame at %lx", trap.stack);
	check_trap(guest_user(user_int_kernel_gate), GP, 0x90 * 8 + 2, "gp-user-gate-dpl");
	check_trap(guest_user(user_hlt), GP, 0, "gp-user-hlt");
	check_trap(guest_user(user_cli), GP, 0, "gp-user-cli");
	check_trap(guest_user(user_in), GP, 0, "gp-user-in");
	check_trap(guest_user(user_mov_cr), GP, 0, "gp-user-mov-cr");
	check_trap(guest_user(user_kernel_read), PF, 5, "pf-user-read");
	check_trap(guest_user(user_kernel_write), PF, 7, "pf-user-write");
	check_trap(guest_user(user_kernel_jump), PF, 0x15, "pf-user-fetch");
	write_cr0(cr0 | BIT(18));
	check_trap(guest_user_flags(user_misaligned, 2 | BIT(18)), AC, 0, "ac-user");
	write_cr0(cr0);
	check_trap(guest_user_flags(user_misaligned, 2 | BIT(18)), SYS, 0, "no-ac-without-cr0-am");
}

void guest_main(void)
{
	paging_init();
	test_simple();
	test_fpu();
	test_segments();
	test_addresses();
	test_gates();
	test_double_fault_stack();
	test_user();
}
