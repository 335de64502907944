// SPDX-License-Identifier: Apache-2.0
/*
 * Code that changes: by its own stores, through another mapping, by remapping, across a
 * page border; on x86 all of it is seen without more than a branch.
 * Source: Intel SDM volume 3, "Self-Modifying Code", "Handling Self- and Cross-Modifying
 * Code"; for page-table changes, "Invalidation of TLBs".
 */
#include "guest.h"
#include "paging.h"

#define VA	0x40000000UL
#define VA_ALIAS 0x50000000UL

typedef ulong (*code_fn)(void);

static uint8_t *frame_a, *frame_b;

/* mov $value, %eax; ret */
static void put_return(uint8_t *at, uint32_t value)
{
	at[0] = 0xb8;
	memcpy(at + 1, &value, 4);
	at[5] = 0xc3;
}

static ulong run(ulong at)
{
	return ((code_fn)at)() & 0xffffffff;
}

static void test_rewrite(void)
{
	unsigned int i, bad = 0;

	for (i = 0; i < 1000; i++) {
		put_return(frame_a, i);
		if (run((ulong)frame_a) != i)
			bad++;
	}
	check_eq(bad, 0, "rewrite-1000-times");
	/* Only the immediate, one byte. */
	for (i = 0; i < 256; i++) {
		*(volatile uint8_t *)(frame_a + 1) = i;
		if ((run((ulong)frame_a) & 0xff) != i)
			bad++;
	}
	check_eq(bad, 0, "rewrite-one-byte");
}

static void test_alias(void)
{
	page_map(VA, (ulong)frame_a, P_P | P_W);
	page_map(VA_ALIAS, (ulong)frame_a, P_P | P_W);
	put_return(frame_a, 1);
	check_eq(run(VA), 1, "alias-before");
	put_return((uint8_t *)VA_ALIAS, 2);
	check_eq(run(VA), 2, "alias-written");
	check_eq(run((ulong)frame_a), 2, "alias-third");
}

static void test_remap(void)
{
	put_return(frame_a, 10);
	put_return(frame_b, 20);
	page_map(VA, (ulong)frame_a, P_P | P_W);
	check_eq(run(VA), 10, "remap-before");
	page_map(VA, (ulong)frame_b, P_P | P_W);
	check_eq(run(VA), 20, "remap-after-invlpg");
	*page_entry(read_cr3(), VA, 1) = (ulong)frame_a | P_P | P_W;
	write_cr3(read_cr3());
	check_eq(run(VA), 10, "remap-after-cr3");
	put_return(frame_b, 30);
	page_map(VA, (ulong)frame_b, P_P | P_W);
	check_eq(run(VA), 30, "remap-to-changed-page");
}

/* An instruction whose bytes lie in two pages that are mapped to unrelated frames. */
static void test_crossing(void)
{
	put_return(frame_a + 4093, 0);
	page_map(VA, (ulong)frame_a, P_P | P_W);
	page_map(VA + 4096, (ulong)frame_b, P_P | P_W);
	put_return((uint8_t *)VA + 4093, 0x11223344);
	check_eq(run(VA + 4093), 0x11223344, "crossing");
	*(volatile uint8_t *)(frame_b + 1) = 0x99;	/* a byte of the immediate, second page */
	check_eq(run(VA + 4093), 0x99223344, "crossing-second-page-changed");
	*(volatile uint8_t *)(VA + 4094) = 0x77;
	check_eq(run(VA + 4093), 0x99223377, "crossing-first-page-changed");
	memcpy(frame_a + 2048, frame_b, 16);
	page_map(VA + 4096, (ulong)frame_a, P_P | P_W);
	memcpy(frame_a, (uint8_t[]){ 0x55, 0x66, 0xc3 }, 3);
	check_eq(run(VA + 4093) >> 16, 0x6655, "crossing-second-page-remapped");
}

static void jump_to(void *at)
{
	((code_fn)at)();
}

/* The instruction's second half is not there: #PF at the second page, nothing done. */
static void test_crossing_fault(void)
{
	put_return((uint8_t *)VA + 4093, 1);
	*page_entry(read_cr3(), VA + 4096, 1) = 0;
	invlpg((void *)(VA + 4096));
	check_trap(guest_try(jump_to, (void *)(VA + 4093)), PF, 0x10, "crossing-fetch-fault");
	check_eq(trap.cr2, VA + 4096, "crossing-fetch-cr2");
	check_eq(trap.regs.ip, VA + 4093, "crossing-fetch-ip");
}

/* A store into the very next instruction of the same block. */
asm(".text\n .balign 64\n"
    "patch_next:\n"
    "	mov $1, %eax\n"
    "	movb $5, patch_at + 1\n"
    "patch_at:\n"
    "	mov $2, %al\n"
    "	movb $2, patch_at + 1\n"
    "	ret\n"
    "patch_loop:\n"
    "	mov $10, %ecx\n"
    "	xor %eax, %eax\n"
    "1:	incb loop_at + 2\n"
    "loop_at:\n"
    "	add $0, %eax\n"
    "	dec %ecx\n"
    "	jnz 1b\n"
    "	movb $0, loop_at + 2\n"
    "	ret\n");
ulong patch_next(void);
ulong patch_loop(void);
extern uint8_t patch_at[];

static void test_next(void)
{
	check_eq(patch_next(), 5, "next-instruction");
	check_eq(patch_next(), 5, "next-instruction-again");
	check_eq(patch_loop(), 55, "loop-patches-itself");
	check_eq(patch_loop(), 55, "loop-patches-itself-again");
}

/* REP MOVSB over the code that runs next, and REP STOSB over itself. */
static void test_string(void)
{
	static const uint8_t a[] = { 0xb8, 1, 0, 0, 0, 0xc3 }, b[] = { 0xb8, 2, 0, 0, 0, 0xc3 };
	unsigned int i, bad = 0;

	for (i = 0; i < 50; i++) {
		memcpy(frame_a, i & 1 ? a : b, sizeof(a));
		bad += run((ulong)frame_a) != (i & 1 ? 1 : 2);
	}
	check_eq(bad, 0, "rep-movs-over-code");
}

/* Data next to code in one page: correct, and not a flood of anything. */
static void test_mixed_page(void)
{
	volatile uint64_t *data = (volatile uint64_t *)(frame_a + 2048);
	unsigned int i, bad = 0;

	put_return(frame_a, 42);
	*data = 0;
	for (i = 0; i < 20000; i++) {
		(*data)++;
		bad += run((ulong)frame_a) != 42;
	}
	check_eq(*data, 20000, "mixed-page-data");
	check_eq(bad, 0, "mixed-page-code");
}

/* Stacks, page tables and code share a page in early kernels: stores by the processor. */
static void test_implicit_store(void)
{
	uint64_t *pt = page_alloc(), *pde = page_entry(read_cr3(), VA, 2), saved = *pde;

	*pde = (ulong)pt | P_P | P_W;
	pt[0] = (ulong)frame_b | P_P | P_W;
	write_cr3(read_cr3());
	/* Code in the page table's own page, after the used entry. */
	put_return((uint8_t *)&pt[8], 7);
	check_eq(run((ulong)&pt[8]), 7, "code-in-page-table");
	check_eq(*(volatile uint64_t *)VA, *(uint64_t *)frame_b, "accessed-bit-next-to-code");
	check(pt[0] & P_A, "accessed-bit-next-to-code-set", "%lx", (ulong)pt[0]);
	check_eq(run((ulong)&pt[8]), 7, "code-in-page-table-again");
	*pde = saved;
	write_cr3(read_cr3());
}

void guest_main(void)
{
	paging_init();
	frame_a = page_alloc();
	frame_b = page_alloc();
	test_rewrite();
	test_alias();
	test_remap();
	test_crossing();
	test_crossing_fault();
	test_next();
	test_string();
	test_mixed_page();
	test_implicit_store();
}
