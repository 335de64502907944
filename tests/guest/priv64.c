// SPDX-License-Identifier: Apache-2.0
/*
 * Privilege transitions in long mode: SYSCALL, SYSENTER, interrupts, call gates, far
 * returns, IRET, compatibility mode; and what ring 3 may do to flags, ports and tables.
 * Source: Intel SDM volume 2, each instruction; volume 3, "Protection".
 */
#include "guest.h"
#include "paging.h"

#define STAR	0xc0000081
#define LSTAR	0xc0000082
#define SFMASK	0xc0000084
#define KERNEL_GS_BASE 0xc0000102
#define GS_BASE	0xc0000101
#define IF	BIT(9)
#define TF	BIT(8)
#define IOPL3	0x3000UL
#define NT	BIT(14)
#define AC	BIT(18)
#define ID	BIT(21)

/* What the SYSCALL and SYSENTER entries below saw. */
struct entry { ulong rcx, r11, rsp, flags, cs, ss; };
struct entry volatile seen USER_DATA;
ulong saved_user_rsp;
extern uint8_t syscall_entry[], sysenter_entry[], syscall_again[];

asm(".text\n"
    "syscall_entry:\n"
    "	mov %rsp, seen + 16\n"
    "	mov $stack_top - 16384, %esp\n"
    "	mov %rcx, seen\n"
    "	mov %r11, seen + 8\n"
    "	pushfq\n"
    "	pop seen + 24\n"
    "	mov %cs, seen + 32\n"
    "	mov %ss, seen + 40\n"
    "	mov seen + 16, %rsp\n"
    "	cmp $1, %eax\n"
    "	je 1f\n"
    "	sysretq\n"
    "1:	mov $user_compat_end, %ecx\n"
    "	sysretl\n"
    "sysenter_entry:\n"
    "	mov %rsp, seen + 16\n"
    "	pushfq\n"
    "	pop seen + 24\n"
    "	mov %cs, seen + 32\n"
    "	mov %ss, seen + 40\n"
    "	test %eax, %eax\n"
    "	jz 1f\n"
    "	sysexitl\n"
    "1:	sysexitq\n");

USER_ASM(user_syscall, "xor %eax, %eax; stc; syscall; .globl syscall_again; syscall_again: pushfq; pop %rbx; mov %cs, %ebp; mov %ss, %esi")
USER_ASM(user_syscall32, "mov $1, %eax; syscall")
USER_ASM(user_sysenter, "xor %eax, %eax; lea 1f(%rip), %rdx; mov %rsp, %rcx; sysenter; 1: mov %cs, %ebp; mov %ss, %esi")

/* 32-bit code for ring 3; ends with the segment and a marker. */
asm(".pushsection .utext, \"ax\"\n"
    ".code32\n"
    ".globl user_compat_end\n"
    "user_compat_end:\n"
    "	mov %cs, %ebp\n"
    "	mov %ss, %esi\n"
    "	mov $0x12345678, %eax\n"
    "	inc %eax\n"
    "	int $0x80\n"
    ".globl user_compat_push\n"
    "user_compat_push:\n"
    "	push $0x1234\n"
    "	push %ds\n"
    "	pop %ecx\n"
    "	pop %edx\n"
    "	int $0x80\n"
    ".code64\n"
    ".popsection\n");
void user_compat_end(void);
void user_compat_push(void);

static void test_syscall(void)
{
	wrmsr(STAR, (uint64_t)SEL_KCODE64 << 32 | (uint64_t)(SEL_UCODE32) << 48);
	wrmsr(LSTAR, (ulong)syscall_entry);
	wrmsr(SFMASK, BIT(0) | IF | TF);
	check_trap(guest_user_flags(user_syscall, 2 | IF), SYS, 0, "syscall");
	check_eq(seen.rcx, (ulong)syscall_again, "syscall-rcx");
	check_eq(seen.r11 & (IF | BIT(0)), IF | BIT(0), "syscall-r11");
	check_eq(seen.flags & (IF | BIT(0)), 0, "syscall-flags-masked");
	check_eq(seen.cs, SEL_KCODE64, "syscall-cs");
	check_eq(seen.ss, SEL_KCODE64 + 8, "syscall-ss");
	check_eq(trap.regs.bp, SEL_UCODE64, "sysret-cs");
	check_eq(trap.regs.si, SEL_UDATA, "sysret-ss");
	check_eq(trap.regs.bx & (IF | BIT(0)), IF | BIT(0), "sysret-flags");
	check_trap(guest_user(user_syscall32), SYS, 0, "sysret-to-compat");
	check_eq(trap.regs.bp, SEL_UCODE32, "sysret-compat-cs");
	check_eq(trap.regs.ax, 0x12345679, "sysret-compat-decodes-32-bit");
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~BIT(0));
	check_trap(guest_user(user_syscall), UD, 0, "ud-syscall-without-sce");
	wrmsr(0xc0000080, rdmsr(0xc0000080) | BIT(0));
}

static void compat_user(void *arg)
{
	guest_iret((ulong)arg, SEL_UCODE32, 2, (ulong)user_stack + USER_STACK_SIZE - 64, SEL_UDATA);
}

static void test_compat(void)
{
	check_trap(guest_try(compat_user, user_compat_end), SYS, 0, "iret-to-compat");
	check_eq(trap.regs.ax, 0x12345679, "compat-decodes-32-bit");
	check_eq(trap.regs.bp, SEL_UCODE32, "compat-cs");
	check_trap(guest_try(compat_user, user_compat_push), SYS, 0, "compat-push");
	check_eq(trap.regs.dx, 0x1234, "compat-push-width");
	check_eq(trap.regs.sp, (ulong)user_stack + USER_STACK_SIZE - 64, "compat-stack-balanced");
}

static void test_sysenter(void)
{
	wrmsr(0x174, SEL_KCODE64);
	wrmsr(0x175, (ulong)stack_top - 16384);
	wrmsr(0x176, (ulong)sysenter_entry);
	/* SYSEXIT's selectors are SYSENTER_CS + 16 and the like: 32, 40 with RPL 3. */
	check_trap(guest_user_flags(user_sysenter, 2 | IF), SYS, 0, "sysenter");
	check_eq(seen.rsp, (ulong)stack_top - 16384, "sysenter-rsp");
	check_eq(seen.cs, SEL_KCODE64, "sysenter-cs");
	check_eq(seen.ss, SEL_KCODE64 + 8, "sysenter-ss");
	check_eq(seen.flags & IF, 0, "sysenter-if");
	check_eq(trap.regs.bp, SEL_UCODE64, "sysexit-cs");
	check_eq(trap.regs.si, (SEL_UCODE64 & ~3) + 8 + 3, "sysexit-ss");
	wrmsr(0x174, 0);
	check_trap(guest_user(user_sysenter), GP, 0, "gp-sysenter-cs-0");
}

/* SYSEXIT gives ring 3 the selectors SYSENTER_CS + 32 and + 40. */
static void prepare_sysexit_segments(void)
{
	gdt[(SEL_KCODE64 + 32) / 8] = gdt[SEL_UCODE64 / 8];
	gdt[(SEL_KCODE64 + 40) / 8] = gdt[SEL_UDATA / 8];
}

/* A call gate from ring 3 to ring 0, and back by a far return. */
extern uint8_t gate_entry[];
ulong gate_frame[4];
asm(".text\n"
    "gate_entry:\n"
    "	pop gate_frame\n"
    "	pop gate_frame + 8\n"
    "	pop gate_frame + 16\n"
    "	pop gate_frame + 24\n"
    "	push gate_frame + 24\n"
    "	push gate_frame + 16\n"
    "	push gate_frame + 8\n"
    "	push gate_frame\n"
    "	mov %cs, %ebx\n"
    "	mov %ss, %edx\n"
    "	mov $0x77, %eax\n"
    "	rex.w lret\n");
struct { uint32_t off; uint16_t sel; } __attribute__((packed)) gate_pointer USER_DATA = {
	0, SEL_FREE | 3
};
USER_ASM(user_call_gate, "mov $gate_pointer, %eax; lcall *(%rax); mov %cs, %ebp")

static void set_call_gate(unsigned int dpl, ulong at, unsigned int sel)
{
	gdt[SEL_FREE / 8] = (at & 0xffff) | (uint64_t)sel << 16 |
			    (uint64_t)(0x8c00 | dpl << 13) << 32 | (uint64_t)(at >> 16 & 0xffff) << 48;
	gdt[SEL_FREE / 8 + 1] = at >> 32;
}

static void test_call_gate(void)
{
	set_call_gate(3, (ulong)gate_entry, SEL_KCODE64);
	check_trap(guest_user(user_call_gate), SYS, 0, "call-gate");
	check_eq(trap.regs.ax, 0x77, "call-gate-entered");
	check_eq(trap.regs.bx, SEL_KCODE64, "call-gate-cs");
	check_eq(trap.regs.dx & 0xffff, 0, "call-gate-null-ss");
	check_eq(gate_frame[1], SEL_UCODE64, "call-gate-pushed-cs");
	check_eq(gate_frame[3], SEL_UDATA, "call-gate-pushed-ss");
	check_eq(gate_frame[2], (ulong)user_stack + USER_STACK_SIZE - 64, "call-gate-pushed-rsp");
	check_eq(trap.regs.bp, SEL_UCODE64, "call-gate-return-cs");
	set_call_gate(0, (ulong)gate_entry, SEL_KCODE64);
	check_trap(guest_user(user_call_gate), GP, SEL_FREE, "gp-call-gate-dpl");
	set_call_gate(3, (ulong)gate_entry, SEL_KCODE32);
	check_trap(guest_user(user_call_gate), GP, SEL_KCODE32, "gp-call-gate-to-32-bit");
	set_call_gate(3, (ulong)gate_entry, SEL_KCODE64);
	gdt[SEL_FREE / 8] &= ~(0x80ULL << 40);
	check_trap(guest_user(user_call_gate), NP, SEL_FREE, "np-call-gate");
	gdt[SEL_FREE / 8] = gdt[SEL_FREE / 8 + 1] = 0;
}

USER_ASM(user_popf, "push $-1; popfq; pushfq; pop %rax")
USER_ASM(user_popf_none, "push $2; popfq; pushfq; pop %rax")
USER_ASM(user_cli_sti, "cli; pushfq; pop %rax; sti; pushfq; pop %rbx")
KERNEL_ASM(kernel_popf_iopl, "pushfq; orl $0x3000, (%rsp); popfq; pushfq; pop %rax; mov %eax, seen; pushfq; andl $~0x3000, (%rsp); popfq")

static void test_flags(void)
{
	check_trap(guest_user_flags(user_popf_none, 2 | IF), SYS, 0, "popf-if-kept");
	check_eq(trap.regs.ax & IF, IF, "popf-cannot-clear-if");
	check_trap(guest_user_flags(user_popf_none, 2 | IOPL3 | IF), SYS, 0, "popf-iopl3");
	check_eq(trap.regs.ax & IF, 0, "popf-clears-if-with-iopl3");
	check_eq(trap.regs.ax & IOPL3, IOPL3, "popf-user-cannot-change-iopl");
	check_trap(guest_user_flags(user_cli_sti, 2 | IOPL3), SYS, 0, "cli-sti-with-iopl3");
	check_eq(trap.regs.ax & IF, 0, "cli-with-iopl3");
	check_eq(trap.regs.bx & IF, IF, "sti-with-iopl3");
	check_trap(guest_try(kernel_popf_iopl, NULL), NONE, 0, "popf-kernel");
	check_eq(seen.rcx & IOPL3, IOPL3, "popf-kernel-sets-iopl");
	/* TF stays out of it: a trap would come after the POPF. */
	check_trap(guest_user_flags(user_popf, 2), DB, 0, "popf-tf-traps");
	check_eq(trap.regs.flags & (AC | ID | NT | IOPL3 | IF | BIT(17)), AC | ID | NT,
		 "popf-user-may-set");
}

USER_ASM(user_in_80, "in $0x80, %al")
USER_ASM(user_out_80_word, "mov $0x7f, %edx; out %ax, %dx")
USER_ASM(user_in_last, "mov $0xffff, %edx; in %dx, %al")

/* The I/O permission bitmap, at offset 104 of the TSS. */
static void test_io_bitmap(void)
{
	gdt_set(SEL_TSS, (uint32_t)(ulong)tss, 104 + 0x11, 0x89);
	memset(tss + 104, 0, 0x12);
	asm volatile("ltr %w0" : : "r" (SEL_TSS));
	check_trap(guest_user(user_in_80), SYS, 0, "io-allowed");
	tss[104 + 0x10] = 1;
	check_trap(guest_user(user_in_80), GP, 0, "io-refused");
	check_trap(guest_user(user_out_80_word), GP, 0, "io-word-refused-by-second-port");
	check_trap(guest_user_flags(user_in_80, 2 | IOPL3), SYS, 0, "io-allowed-by-iopl");
	check_trap(guest_user(user_in_last), GP, 0, "io-beyond-bitmap");
	tss[104 + 0x10] = 0;
	check_trap(guest_user(user_out_80_word), SYS, 0, "io-word-allowed");
	gdt_set(SEL_TSS, (uint32_t)(ulong)tss, 103, 0x89);
	asm volatile("ltr %w0" : : "r" (SEL_TSS));
	check_trap(guest_user(user_in_80), GP, 0, "io-no-bitmap");
}

USER_ASM(user_sgdt, "sub $16, %rsp; sgdt (%rsp)")
USER_ASM(user_sidt, "sub $16, %rsp; sidt (%rsp)")
USER_ASM(user_sldt, "sldt %eax")
USER_ASM(user_str, "str %eax")
USER_ASM(user_smsw, "smsw %eax")

static void test_umip(void)
{
	uint32_t r[4];

	check_trap(guest_user(user_sgdt), SYS, 0, "sgdt-user");
	check_trap(guest_user(user_smsw), SYS, 0, "smsw-user");
	check_eq(trap.regs.ax & 0x3f, read_cr0() & 0x3f, "smsw-value");
	check_trap(guest_user(user_str), SYS, 0, "str-user");
	check_eq(trap.regs.ax, SEL_TSS, "str-value");
	cpuid(7, 0, r);
	if (!(r[2] >> 2 & 1)) {
		print("ok umip # skip: not in CPUID\n");
		return;
	}
	write_cr4(read_cr4() | BIT(11));
	check_trap(guest_user(user_sgdt), GP, 0, "umip-sgdt");
	check_trap(guest_user(user_sidt), GP, 0, "umip-sidt");
	check_trap(guest_user(user_sldt), GP, 0, "umip-sldt");
	check_trap(guest_user(user_str), GP, 0, "umip-str");
	check_trap(guest_user(user_smsw), GP, 0, "umip-smsw");
	write_cr4(read_cr4() & ~BIT(11));
}

KERNEL_ASM(kernel_iret_same, "mov %ss, %eax; mov %rsp, %rdx; push %rax; push %rdx; pushfq; mov %cs, %eax; push %rax; push $1f; iretq; 1:")
static void iret_bad_cs(void *arg)
{
	guest_iret((ulong)user_compat_end, (ulong)arg, 2, 0, SEL_UDATA);
}

static void iret_bad_ss(void *arg)
{
	guest_iret((ulong)user_compat_end, SEL_UCODE64, 2, 0, (ulong)arg);
}

static void iret_nt(void *arg)
{
	asm volatile("pushfq; orl $0x4000, (%%rsp); popfq" : : : "memory");
	kernel_iret_same(arg);
}

static void test_iret(void)
{
	check_trap(guest_try(kernel_iret_same, NULL), NONE, 0, "iret-same-level");
	check_trap(guest_try(iret_nt, NULL), GP, 0, "gp-iret-nt-in-long-mode");
	check_trap(guest_try(iret_bad_cs, (void *)(ulong)SEL_UDATA), GP, SEL_UDATA & ~3, "gp-iret-cs-data");
	check_trap(guest_try(iret_bad_cs, (void *)0), GP, 0, "gp-iret-cs-null");
	check_trap(guest_try(iret_bad_cs, (void *)(ulong)(SEL_KCODE64 | 3)), GP, SEL_KCODE64, "gp-iret-cs-dpl");
	check_trap(guest_try(iret_bad_ss, (void *)(ulong)SEL_KDATA), GP, SEL_KDATA, "gp-iret-ss-rpl");
	check_trap(guest_try(iret_bad_ss, (void *)0), GP, 0, "gp-iret-ss-null");
}

USER_ASM(user_clear_segments, "mov %ds, %ebx; mov %gs, %ecx")
USER_ASM(user_rdfsbase, "rdfsbase %rax")
USER_ASM(user_wrgsbase, "mov $0x12345678, %eax; wrgsbase %rax; rdgsbase %rbx")

static void test_bases(void)
{
	wrmsr(GS_BASE, 0x1111);
	wrmsr(KERNEL_GS_BASE, 0x2222);
	asm volatile("swapgs");
	check_eq(rdmsr(GS_BASE), 0x2222, "swapgs");
	check_eq(rdmsr(KERNEL_GS_BASE), 0x1111, "swapgs-kernel");
	write_cr4(read_cr4() & ~BIT(16));
	check_trap(guest_user(user_rdfsbase), UD, 0, "ud-rdfsbase-without-cr4");
	write_cr4(read_cr4() | BIT(16));
	wrmsr(0xc0000100, 0x7654321);
	check_trap(guest_user(user_rdfsbase), SYS, 0, "rdfsbase-user");
	check_eq(trap.regs.ax, 0x7654321, "rdfsbase-value");
	check_trap(guest_user(user_wrgsbase), SYS, 0, "wrgsbase-user");
	check_eq(trap.regs.bx, 0x12345678, "wrgsbase-value");
	check_eq(rdmsr(GS_BASE), 0x12345678, "wrgsbase-msr");
	asm volatile("mov %0, %%ds; mov %0, %%gs" : : "r" (SEL_KDATA));
	check_eq(rdmsr(GS_BASE), 0, "gs-load-sets-base");
	check_trap(guest_user(user_clear_segments), SYS, 0, "iret-outward");
	check_eq(trap.regs.bx, 0, "iret-clears-privileged-ds");
	check_eq(trap.regs.cx, 0, "iret-clears-privileged-gs");
}

USER_ASM(user_lar, "mov $0x18, %ecx; lar %ecx, %eax; setz %bl; mov $0x2b, %ecx; lar %ecx, %edx; setz %bh; verw %cx; sete %cl")

static void test_lar(void)
{
	check_trap(guest_user(user_lar), SYS, 0, "lar");
	check_eq(trap.regs.bx & 0xff, 0, "lar-privileged");
	check_eq(trap.regs.bx >> 8 & 0xff, 1, "lar-allowed");
	check_eq(trap.regs.dx & 0xf0ff00, 0xc0f300, "lar-value");
	check_eq(trap.regs.cx & 0xff, 1, "verw");
}

void guest_main(void)
{
	paging_init();
	test_syscall();
	test_compat();
	test_iret();
	test_flags();
	test_io_bitmap();
	test_umip();
	test_bases();
	test_lar();
	test_call_gate();
	prepare_sysexit_segments();
	test_sysenter();
}
