// SPDX-License-Identifier: Apache-2.0
/*
 * 32- and 16-bit protected mode without paging: gates with parameters, hardware task
 * switches, virtual-8086 mode, real mode and back.
 * Source: Intel SDM volume 3, "Protection", "Task Management", "8086 Emulation".
 */
#include "guest.h"

#define FREE(n)	(SEL_FREE + 8 * (n))

KERNEL_ASM(null_segment, "xor %eax, %eax; mov %eax, %fs; mov %fs:(%eax), %al")
KERNEL_ASM(do_into, "mov $0x7fffffff, %eax; inc %eax; into")
KERNEL_ASM(do_bound, "push $10; push $5; mov $11, %eax; bound %eax, (%esp); pop %eax; pop %eax")
KERNEL_ASM(do_bound_ok, "push $10; push $5; mov $10, %eax; bound %eax, (%esp); pop %eax; pop %eax")

static void test_segment_faults(void)
{
	check_trap(guest_try(null_segment, NULL), GP, 0, "gp-null-segment");
	check_trap(guest_try(do_into, NULL), OF, 0, "of-into");
	check_trap(guest_try(do_bound, NULL), BR, 0, "br-bound");
	check_eq(trap.regs.ip, (ulong)do_bound + 9, "bound-is-fault");
	check_trap(guest_try(do_bound_ok, NULL), NONE, 0, "bound-inside");
}

/* Call gate with two parameters. */
extern uint8_t gate32_entry[];
volatile uint32_t gate_seen[6];
asm(".text\n"
    "gate32_entry:\n"
    "	mov %esp, %eax\n"
    "	push %ds\n"
    "	mov $0x18, %ecx\n"
    "	mov %ecx, %ds\n"
    "	mov (%eax), %ecx; mov %ecx, gate_seen\n"
    "	mov 4(%eax), %ecx; mov %ecx, gate_seen + 4\n"
    "	mov 8(%eax), %ecx; mov %ecx, gate_seen + 8\n"
    "	mov 12(%eax), %ecx; mov %ecx, gate_seen + 12\n"
    "	mov 16(%eax), %ecx; mov %ecx, gate_seen + 16\n"
    "	mov 20(%eax), %ecx; mov %ecx, gate_seen + 20\n"
    "	pop %ds\n"
    "	lret $8\n");
USER_ASM(user_call_gate, "mov %esp, %ebx; push $0x1111; push $0x2222; lcall $0x5b, $0; mov %esp, %edx; mov %cs, %ecx")

static void test_call_gate(void)
{
	uint32_t at = (uint32_t)gate32_entry;

	gdt[FREE(0) / 8] = (at & 0xffff) | SEL_KCODE32 << 16 | (uint64_t)0xec02 << 32 |
			   (uint64_t)(at >> 16) << 48;
	check_trap(guest_user(user_call_gate), SYS, 0, "call-gate-32");
	check_eq(gate_seen[1], SEL_UCODE32, "call-gate-cs");
	check_eq(gate_seen[2], 0x2222, "call-gate-last-parameter");
	check_eq(gate_seen[3], 0x1111, "call-gate-first-parameter");
	check_eq(gate_seen[5], SEL_UDATA, "call-gate-ss");
	check_eq(gate_seen[4], trap.regs.bx - 8, "call-gate-esp");
	check_eq(trap.regs.dx, trap.regs.bx, "call-gate-parameters-released");
	check_eq(trap.regs.cx, SEL_UCODE32, "call-gate-return");
	gdt[FREE(0) / 8] = 0;
}

/* Conforming code may be called from ring 3 and stays in ring 3. */
extern uint8_t conforming[];
asm(".pushsection .utext, \"ax\"\n conforming: mov %cs, %eax; lret\n.popsection\n");
USER_ASM(user_conforming, "lcall $0x60, $conforming")

static void test_conforming(void)
{
	gdt_set(FREE(1), 0, 0xfffff, 0xc09f);
	check_trap(guest_user(user_conforming), SYS, 0, "conforming-call");
	check_eq(trap.regs.ax, FREE(1) | 3, "conforming-keeps-cpl");
}

/* --- tasks --- */

struct tss32 {
	uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags;
	uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi, es, cs, ss, ds, fs, gs, ldt, io;
};
static struct tss32 task_a __attribute__((aligned(128)));
static uint8_t task_stack[4096] __attribute__((aligned(16)));
static volatile uint32_t task_ran, task_link, task_flags;
#define SEL_TASK FREE(4)

static void task_main(void)
{
	for (;;) {
		task_ran++;
		task_link = task_a.link;
		task_flags = read_flags();
		asm volatile("iret");
	}
}

static void task_prepare(void (*fn)(void))
{
	memset(&task_a, 0, sizeof(task_a));
	task_a.eip = (uint32_t)fn;
	task_a.eflags = 2;
	task_a.esp = (uint32_t)task_stack + sizeof(task_stack);
	task_a.cs = SEL_KCODE32;
	task_a.ss = task_a.ds = task_a.es = task_a.fs = task_a.gs = SEL_KDATA;
	task_a.eax = 0xaaaa;
	task_a.io = 104 << 16;
	gdt_set(SEL_TASK, (uint32_t)&task_a, 103, 0x89);
}

static void call_task(void *arg)
{
	(void)arg;
	asm volatile("lcall %0, $0" : : "i" (SEL_TASK) : "memory", "cc");
}

static bool busy(unsigned int sel)
{
	return gdt[sel / 8] >> 41 & 1;
}

static void test_task_call(void)
{
	const struct tss32 *own = (struct tss32 *)tss;

	task_prepare(task_main);
	check_trap(guest_try(call_task, NULL), NONE, 0, "task-call");
	check_eq(task_ran, 1, "task-ran");
	check_eq(task_link, SEL_TSS, "task-link");
	check(task_flags & BIT(14), "task-nt", "flags %x", task_flags);
	check(!busy(SEL_TASK), "task-not-busy-after-iret", "still busy");
	check(busy(SEL_TSS), "own-task-busy", "not busy");
	check(read_cr0() & BIT(3), "task-sets-ts", "cr0 %lx", read_cr0());
	asm volatile("clts");
	check(!(read_flags() & BIT(14)), "nt-clear-after-return", "flags %lx", read_flags());
	check(own->esp > 0x100000, "own-state-saved", "esp %x", own->esp);
	check_trap(guest_try(call_task, NULL), NONE, 0, "task-call-again");
	check_eq(task_ran, 2, "task-continued-after-iret");
	asm volatile("clts");
	gdt[SEL_TASK / 8] |= BIT(41);
	check_trap(guest_try(call_task, NULL), GP, SEL_TASK, "gp-task-busy");
	gdt[SEL_TASK / 8] &= ~(BIT(41) | BIT(47));
	check_trap(guest_try(call_task, NULL), NP, SEL_TASK, "np-task");
	gdt_set(SEL_TASK, (uint32_t)&task_a, 102, 0x89);
	check_trap(guest_try(call_task, NULL), TS, SEL_TASK, "ts-task-limit");
}

static volatile uint32_t bt_dr6, bt_count;

static void note_task_trap(struct regs *r)
{
	(void)r;
	bt_dr6 = read_dr6();
	bt_count++;
	write_dr6(0xffff0ff0);
}

/* The T bit of a TSS: #DB before the new task's first instruction. */
static void test_task_trap(void)
{
	task_prepare(task_main);
	task_a.io |= 1;
	write_dr6(0xffff0ff0);
	set_handler(DB, note_task_trap);
	check_trap(guest_try(call_task, NULL), NONE, 0, "task-trap-returns");
	asm volatile("clts");
	check_eq(bt_count, 1, "task-trap");
	check_eq(bt_dr6 & 0xe00f, 0x8000, "task-trap-dr6");
	set_handler(DB, NULL);
}

static void test_task_gate(void)
{
	uint32_t before = task_ran;

	task_prepare(task_main);
	idt[0x70].q[0] = (uint64_t)SEL_TASK << 16 | (uint64_t)0x85 << 40;
	asm volatile("int $0x70" : : : "memory");
	asm volatile("clts");
	check_eq(task_ran, before + 1, "task-gate-int");
	check_eq(task_link, SEL_TSS, "task-gate-link");
}

/* --- 16-bit code in protected mode --- */

volatile uint32_t seen16[4];
asm(".text\n"
    ".code32\n"
    "run16:\n"
    "	ljmp $0x68, $0\n"		/* FREE(2): the code below as a 16-bit segment */
    ".code16\n"
    "code16_start:\n"
    "	mov $0x1234, %ax\n"
    "	push %ax\n"
    "	pushw $0x5678\n"
    "	pop %bx\n"
    "	pop %cx\n"
    "	movl $0x89abcdef, %edx\n"
    "	mov $0xffff, %si\n"
    "	inc %si\n"
    "	ljmpl $0x08, $run16_back\n"
    ".code32\n"
    "run16_back:\n"
    "	mov %ebx, seen16\n"
    "	mov %ecx, seen16 + 4\n"
    "	mov %edx, seen16 + 8\n"
    "	mov %esi, seen16 + 12\n"
    "	ret\n");
extern uint8_t code16_start[];
void run16(void);

static void test_16bit(void)
{
	gdt_set(FREE(2), (uint32_t)code16_start, 0xffff, 0x009b);
	asm volatile("mov $0x7f7f0000, %%ebx; mov %%ebx, %%ecx; mov %%ebx, %%esi; call run16"
		     : : : "eax", "ebx", "ecx", "edx", "esi", "memory");
	check_eq(seen16[0], 0x7f7f5678, "16-bit-pop");
	check_eq(seen16[1], 0x7f7f1234, "16-bit-push");
	check_eq(seen16[2], 0x89abcdef, "16-bit-with-66");
	check_eq(seen16[3], 0x7f7f0000, "16-bit-inc-wraps");
}

/* --- real mode, and back; the code is copied below 1 MiB --- */

#define REAL	0x7000U
extern uint8_t real_blob[], real_blob_end[];
asm(".text\n"
    ".code32\n"
    "enter_real:\n"
    "	pusha\n"
    "	mov %esp, real_esp\n"
    "	sidt real_idt\n"
    "	ljmp $0x70, $0x7000\n"		/* FREE(3): 16-bit, base 0 */
    ".code16\n"
    "real_blob:\n"
    "	mov $0x78, %ax\n"		/* FREE(4): 16-bit data */
    "	mov %ax, %ds\n"
    "	mov %ax, %es\n"
    "	mov %ax, %ss\n"
    "	lidtl %cs:(0x7000 + real_ivt - real_blob)\n"
    "	mov %cr0, %eax\n"
    "	and $~1, %al\n"
    "	mov %eax, %cr0\n"
    "	ljmp $0x700, $(1f - real_blob)\n"
    "1:	xor %ax, %ax\n"
    "	mov %ax, %ds\n"
    "	mov %ax, %es\n"
    "	mov %ax, %ss\n"
    "	mov $0x7000, %sp\n"
    /* an interrupt through the vector table */
    "	movw $(2f - real_blob), 0x60 * 4\n"
    "	movw $0x700, 0x60 * 4 + 2\n"
    "	movw $(3f - real_blob), 0\n"
    "	movw $0x700, 2\n"
    "	mov $1, %dx\n"
    "	int $0x60\n"
    "	mov %dx, 0x6000\n"		/* 0x61 from the handler */
    /* #DE through vector 0 */
    "	xor %cx, %cx\n"
    "	xor %dx, %dx\n"
    "	mov $7, %ax\n"
    "	div %cx\n"
    "	mov %cx, 0x6002\n"		/* 5 from the handler */
    /* a 20-bit address and wrap-around of the offset */
    "	mov $0xf000, %bx\n"
    "	mov %bx, %es\n"
    "	mov $0xfff0, %si\n"
    "	mov %es:(%si), %ax\n"		/* reset vector area: reads something, no fault */
    "	mov $0x600, %bx\n"
    "	mov %bx, %es\n"
    "	movw $0x4321, %es:8\n"		/* linear 0x6008 */
    "	mov 0x6008, %ax\n"
    "	mov %ax, 0x6004\n"
    "	mov %sp, 0x6006\n"
    "	lgdtl %cs:(real_gdt - real_blob)\n"
    "	mov %cr0, %eax\n"
    "	or $1, %al\n"
    "	mov %eax, %cr0\n"
    "	ljmpl $0x08, $real_back\n"
    "2:	mov $0x61, %dx\n"
    "	iret\n"
    "3:	mov $5, %cx\n"			/* the fault's CS:IP is the DIV: give it a divisor */
    "	iret\n"
    "	.balign 4\n"
    "real_ivt: .word 0x3ff; .long 0\n"
    "	.balign 4\n"
    "real_gdt: .word 511; .long gdt\n"
    "real_blob_end:\n"
    ".code32\n"
    "real_back:\n"
    "	mov $0x18, %eax\n"
    "	mov %eax, %ds\n"
    "	mov %eax, %es\n"
    "	mov %eax, %fs\n"
    "	mov %eax, %gs\n"
    "	mov %eax, %ss\n"
    "	mov real_esp, %esp\n"
    "	lidt real_idt\n"
    "	popa\n"
    "	ret\n"
    "	.data\n"
    "real_esp: .long 0\n"
    "real_idt: .space 8\n"
    "	.text\n");
void enter_real(void);

static void test_real(void)
{
	volatile uint16_t *out = (volatile uint16_t *)0x6000;

	memcpy((void *)REAL, real_blob, real_blob_end - real_blob);
	gdt_set(FREE(3), 0, 0xffff, 0x009b);
	gdt_set(FREE(4), 0, 0xffff, 0x0093);
	enter_real();
	check_eq(out[0], 0x61, "real-int");
	check_eq(out[1], 5, "real-de-restarts");
	check_eq(out[2], 0x4321, "real-segment-base");
	check_eq(out[3], 0x7000, "real-stack-balanced");
	check_eq(read_cr0() & 1, 1, "back-in-protected-mode");
}

/* --- virtual-8086 mode --- */

struct vm86 { uint16_t cs, ip, ss, sp, ds, es; uint32_t flags; };
extern void vm86_iret(struct vm86 *v);
asm(".text\n"
    "vm86_iret:\n"
    "	mov 4(%esp), %eax\n"
    "	movzwl 8(%eax), %ecx; push $0; push $0; push %ecx\n"	/* GS FS DS */
    "	movzwl 10(%eax), %ecx; push %ecx\n"			/* ES */
    "	movzwl 4(%eax), %ecx; push %ecx\n"
    "	movzwl 6(%eax), %ecx; push %ecx\n"
    "	push 12(%eax)\n"
    "	movzwl (%eax), %ecx; push %ecx\n"
    "	movzwl 2(%eax), %ecx; push %ecx\n"
    "	mov $0x1111, %eax\n"
    "	iret\n");

static void enter_vm86(void *arg)
{
	vm86_iret(arg);
}

static int run_vm86(const uint8_t *code, unsigned int n, uint32_t flags)
{
	struct vm86 v = { .cs = 0x800, .ip = 0x10, .ss = 0x900, .sp = 0x100, .ds = 0xa00,
			  .es = 0xb00, .flags = 2 | BIT(17) | flags };

	memcpy((void *)0x8010, code, n);
	return guest_try(enter_vm86, &v);
}

#define VM86(flags, ...) \
	({ static const uint8_t c_[] = { __VA_ARGS__ }; run_vm86(c_, sizeof(c_), flags); })

static void test_vm86(void)
{
	const ulong iopl3 = 0x3000;

	/* mov ax, 0x1234; mov [0x10], ax; push ax; int 0x80 (DPL 3, and IOPL 3) */
	check_trap(VM86(iopl3, 0xb8, 0x34, 0x12, 0xa3, 0x10, 0x00, 0x50, 0xcd, 0x80), SYS, 0, "vm86-int");
	check_eq(*(uint16_t *)0xa010, 0x1234, "vm86-store");
	check_eq(*(uint16_t *)0x90fe, 0x1234, "vm86-push");
	check_eq(trap.regs.cs, 0x800, "vm86-cs");
	check_eq(trap.regs.ip, 0x19, "vm86-ip");
	check_eq(trap.regs.ss, 0x900, "vm86-ss");
	check_eq(trap.regs.sp, 0xfe, "vm86-sp");
	check_eq(trap.regs.vm_ds, 0xa00, "vm86-ds");
	check_eq(trap.regs.vm_es, 0xb00, "vm86-es");
	check(trap.regs.flags & BIT(17), "vm86-flag-pushed", "flags %lx", trap.regs.flags);
	check_eq(trap.regs.ds & 0xffff, 0, "vm86-ds-null-in-handler");
	check_trap(VM86(0, 0xcd, 0x80), GP, 0, "gp-vm86-int-iopl");
	check_trap(VM86(0, 0xfa), GP, 0, "gp-vm86-cli");
	check_trap(VM86(iopl3, 0xfa, 0xcd, 0x80), SYS, 0, "vm86-cli-iopl3");
	check_trap(VM86(0, 0x9c), GP, 0, "gp-vm86-pushf");
	check_trap(VM86(0, 0xcf), GP, 0, "gp-vm86-iret");
	check_trap(VM86(iopl3, 0xf4), GP, 0, "gp-vm86-hlt");
	check_trap(VM86(iopl3, 0x0f, 0x00, 0xc0), UD, 0, "ud-vm86-sldt");
	check_trap(VM86(iopl3, 0xe4, 0x80), GP, 0, "gp-vm86-in");
	check_trap(VM86(iopl3, 0xbb, 0xff, 0xff, 0x8b, 0x07), GP, 0, "gp-vm86-offset-wrap");
	check_trap(VM86(0, 0xcc), BP, 0, "vm86-int3-ignores-iopl");
	/* mov ax, 0xc00; mov ds, ax; mov word [0], 7; int 0x80 */
	check_trap(VM86(iopl3, 0xb8, 0x00, 0x0c, 0x8e, 0xd8, 0xc7, 0x06, 0, 0, 7, 0, 0xcd, 0x80),
		   SYS, 0, "vm86-load-ds");
	check_eq(*(uint16_t *)0xc000, 7, "vm86-ds-base");
}

KERNEL_ASM(do_sysenter, "sysenter")

static void test_sysenter(void)
{
	wrmsr(0x174, 0);
	check_trap(guest_try(do_sysenter, NULL), GP, 0, "gp-sysenter-cs-0");
}

void guest_main(void)
{
	test_segment_faults();
	test_call_gate();
	test_conforming();
	test_task_call();
	test_task_gate();
	test_task_trap();
	test_16bit();
	test_real();
	test_vm86();
	test_sysenter();
}
