// SPDX-License-Identifier: Apache-2.0
/*
 * Segment limits and types in 32-bit protected mode.  QEMU's TCG checks neither on data
 * accesses, so this image is not run there.
 * Source: Intel SDM volume 3, "Protection", "Limit Checking", "Type Checking".
 */
#include "guest.h"

#define A_DATA	0x4093		/* 32-bit data, byte limit, DPL 0 */
#define FREE(n)	(SEL_FREE + 8 * (n))

static uint8_t page[8192] __attribute__((aligned(4096)));

static uint32_t seg_read(unsigned int sel, uint32_t off)
{
	uint32_t v;

	asm volatile("mov %1, %%fs; mov %%fs:(%2), %0" : "=r" (v) : "r" (sel), "r" (off) : "memory");
	return v;
}

struct seg_access { unsigned int sel; uint32_t off; };

static void do_read(void *arg)
{
	struct seg_access *a = arg;

	seg_read(a->sel, a->off);
}

static void do_write(void *arg)
{
	struct seg_access *a = arg;

	asm volatile("mov %0, %%fs; movl $0x55, %%fs:(%1)" : : "r" (a->sel), "r" (a->off) : "memory");
}

static void do_exec(void *arg)
{
	struct seg_access *a = arg;

	asm volatile("pushl %0; pushl %1; lret" : : "r" (a->sel), "r" (a->off) : "memory");
}

static int try_access(void (*fn)(void *), unsigned int sel, uint32_t off)
{
	struct seg_access a = { sel, off };

	return guest_try(fn, &a);
}

static void test_limits(void)
{
	*(uint32_t *)(page + 0xffc) = 0x11223344;
	gdt_set(FREE(0), (uint32_t)page, 0xfff, A_DATA);
	check_eq(seg_read(FREE(0), 0xffc), 0x11223344, "limit-last-dword");
	check_trap(try_access(do_read, FREE(0), 0xffd), GP, 0, "gp-limit-crossed");
	check_trap(try_access(do_read, FREE(0), 0x1000), GP, 0, "gp-limit");
	check_trap(try_access(do_read, FREE(0), 0xffffffff), GP, 0, "gp-limit-wrap");
	check_trap(try_access(do_write, FREE(0), 0xffc), NONE, 0, "limit-write");
	check(gdt[FREE(0) / 8] >> 40 & 1, "accessed-bit", "descriptor not marked");
	gdt_set(FREE(1), (uint32_t)page, 0xfff, 0x4091);
	check_trap(try_access(do_write, FREE(1), 0), GP, 0, "gp-write-to-read-only");
	check_trap(try_access(do_read, FREE(1), 0), NONE, 0, "read-read-only");
	gdt_set(FREE(2), (uint32_t)page, 0xfff, 0x4097);	/* expand down */
	check_trap(try_access(do_read, FREE(2), 0xffc), GP, 0, "gp-expand-down-below");
	check_trap(try_access(do_read, FREE(2), 0x1000), NONE, 0, "expand-down-above");
	check_trap(try_access(do_read, FREE(2), 0xffffffff), GP, 0, "gp-expand-down-end");
	gdt_set(FREE(3), 0, 0xfffff, 0xc099);			/* execute only */
	check_trap(try_access(do_read, FREE(3), 0), GP, FREE(3), "gp-load-execute-only");
	gdt_set(FREE(4), 0, 0xfffff, 0xc09b);
	check_trap(try_access(do_read, FREE(4), (uint32_t)page), NONE, 0, "read-code");
	check_trap(try_access(do_write, FREE(4), (uint32_t)page), GP, 0, "gp-write-code");
	gdt_set(FREE(5), (uint32_t)page, 0xff, 0x409b);
	check_trap(try_access(do_exec, FREE(5), 0x100), GP, 0, "gp-code-limit");
	gdt_set(FREE(0), (uint32_t)page, 0, 0xc093);
	check_trap(try_access(do_read, FREE(0), 0xffc), NONE, 0, "limit-granularity");
	check_trap(try_access(do_read, FREE(0), 0x1000), GP, 0, "gp-limit-granularity");
	asm volatile("mov %0, %%fs" : : "r" (SEL_KDATA));
}

/* A stack segment of one page: pushes and pops at its ends. */
struct stack_case { uint32_t esp; bool push; };

static void do_stack(void *arg)
{
	struct stack_case *c = arg;

	if (c->push)
		asm volatile("mov %%esp, %%esi; mov %0, %%ss; mov %1, %%esp; push %%eax; pop %%eax;"
			     "mov %2, %%ss; mov %%esi, %%esp"
			     : : "r" (FREE(0)), "r" (c->esp), "r" (SEL_KDATA) : "esi", "memory");
	else
		asm volatile("mov %%esp, %%esi; mov %0, %%ss; mov %1, %%esp; pop %%eax;"
			     "mov %2, %%ss; mov %%esi, %%esp"
			     : : "r" (FREE(0)), "r" (c->esp), "r" (SEL_KDATA) : "eax", "esi", "memory");
}

USER_ASM(user_stack_limit, "mov $0x5b, %eax; mov %eax, %ss; mov $0x1000, %esp; pop %eax")
USER_ASM(user_stack_wrap, "mov $0x5b, %eax; mov %eax, %ss; mov $2, %esp; push %eax")

static void test_stack(void)
{
	struct stack_case ok = { 0x1000, true };

	gdt_set(FREE(0), (uint32_t)page, 0xfff, A_DATA);
	check_trap(guest_try(do_stack, &ok), NONE, 0, "stack-at-limit");
	/* From ring 3, so that the exception has another stack. */
	gdt_set(FREE(0), (uint32_t)page, 0xfff, 0x40f3);
	check_trap(guest_user(user_stack_limit), SS, 0, "ss-pop-beyond-limit");
	check_trap(guest_user(user_stack_wrap), SS, 0, "ss-push-wraps");
}

/*
 * A double fault through a task gate: the stack is gone, so is the one for #SS; the task
 * of #DF has its own, and sends the broken task on to df_recover.
 */
uint32_t df_error, df_esp, df_count;
extern uint8_t df_task[];
void df_enter(void);
asm(".text\n"
    "df_task:\n"
    "	pop df_error\n"
    "	incl df_count\n"
    "	movl $df_recover, tss + 32\n"		/* EIP */
    "	mov df_esp, %eax\n"
    "	mov %eax, tss + 56\n"			/* ESP */
    "	movl $0x18, tss + 80\n"		/* SS */
    "	iret\n"
    "	jmp df_task\n"
    "df_enter:\n"
    "	pusha\n"
    "	mov %esp, df_esp\n"
    "	mov $0x58, %eax\n"
    "	mov %eax, %ss\n"
    "	mov $2, %esp\n"
    "	push %eax\n"
    "df_recover:\n"
    "	popa\n"
    "	ret\n");

static void test_double_fault_task(void)
{
	static uint32_t task[32] __attribute__((aligned(128)));
	static uint8_t stack[1024];
	unsigned int i;

	gdt_set(FREE(0), (uint32_t)page, 0xfff, A_DATA);
	task[8] = (uint32_t)df_task;
	task[9] = 2;
	task[14] = (uint32_t)stack + sizeof(stack);
	for (i = 18; i < 24; i++)		/* ES CS SS DS FS GS */
		task[i] = i == 19 ? SEL_KCODE32 : SEL_KDATA;
	task[25] = 104 << 16;
	gdt_set(FREE(6), (uint32_t)task, 103, 0x89);
	idt[DF].q[0] = (uint64_t)FREE(6) << 16 | (uint64_t)0x85 << 40;
	df_enter();
	asm volatile("clts");
	check_eq(df_count, 1, "df-task-gate");
	check_eq(df_error, 0, "df-task-error-code");
	check_eq(task[0], SEL_TSS, "df-task-link");
	df_error = 5;
	df_enter();
	asm volatile("clts");
	check_eq(df_count, 2, "df-task-gate-again");
	check_eq(df_error, 0, "df-task-error-code-again");
}

void guest_main(void)
{
	test_limits();
	test_stack();
	test_double_fault_task();
}
