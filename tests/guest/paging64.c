// SPDX-License-Identifier: Apache-2.0
/*
 * 4-level paging: what each bit of an entry allows, what the processor writes into it,
 * what stays in the TLB.
 * Source: Intel SDM volume 3, "Paging".
 */
#include "guest.h"
#include "paging.h"

#define VA	0x40000000UL		/* a page that tests map as they like */
#define VA2	0x40001000UL
#define BIG	0x80000000UL		/* 2 MiB pages */
#define HUGE	0xc0000000UL		/* a 1 GiB page */

#define CR0_WP	BIT(16)
#define CR4_PGE	BIT(7)
#define CR4_PCIDE BIT(17)
#define CR4_SMEP BIT(20)
#define CR4_SMAP BIT(21)

static volatile uint64_t *pte;
static uint64_t frame_a, frame_b;

KERNEL_ASM(kernel_read, "mov (%rdi), %rax")
KERNEL_ASM(kernel_write, "movq $0x1234, (%rdi)")
KERNEL_ASM(kernel_rmw, "lock addq $1, (%rdi)")
KERNEL_ASM(kernel_cmp, "cmpq $1, (%rdi)")
KERNEL_ASM(kernel_call, "call *%rdi")
KERNEL_ASM(kernel_stac_read, "stac; mov (%rdi), %rax; clac")
KERNEL_ASM(kernel_stac_write, "stac; movq $1, (%rdi); clac")
USER_ASM(user_read, "mov 0x40000000, %rax")
USER_ASM(user_write, "movq $0x55, 0x40000000")
USER_ASM(user_call, "mov $0x40000000, %eax; call *%rax")
USER_ASM(user_prefetch, "prefetcht0 0x40000000")

static void set_pte(uint64_t flags)
{
	*pte = frame_a | flags;
	invlpg((void *)VA);
}

static void expect_ad(uint64_t bits, const char *name)
{
	check_eq(*pte & (P_A | P_D), bits, name);
}

static void test_accessed_dirty(void)
{
	uint64_t *pde = page_entry(read_cr3(), VA, 2);

	*pde &= ~P_A;
	set_pte(P_P | P_W);
	expect_ad(0, "ad-clear");
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "ad-read");
	expect_ad(P_A, "a-set-by-read");
	check(*pde & P_A, "a-set-in-directory", "%llx", (unsigned long long)*pde);
	check_trap(guest_try(kernel_write, (void *)VA), NONE, 0, "ad-write");
	expect_ad(P_A | P_D, "d-set-by-write");
	*pte &= ~P_D;
	guest_try(kernel_write, (void *)VA);
	expect_ad(P_A, "d-not-set-again-without-invlpg");
	invlpg((void *)VA);
	guest_try(kernel_write, (void *)VA);
	expect_ad(P_A | P_D, "d-set-again-after-invlpg");
	set_pte(P_P | P_W);
	guest_try(kernel_cmp, (void *)VA);
	expect_ad(P_A, "cmp-sets-a-only");
	set_pte(P_P | P_W);
	guest_try(kernel_rmw, (void *)VA);
	expect_ad(P_A | P_D, "rmw-sets-d");
	set_pte(P_P | P_W);
	guest_user(user_read);
	expect_ad(0, "refused-read-sets-nothing");
	set_pte(P_P);
	write_cr0(read_cr0() | CR0_WP);
	guest_try(kernel_write, (void *)VA);
	check(!(*pte & P_D), "refused-write-sets-no-d", "%llx", (unsigned long long)*pte);
	*(uint8_t *)frame_a = 0xc3;
	set_pte(P_P);
	guest_try(kernel_call, (void *)VA);
	expect_ad(P_A, "fetch-sets-a");
}

static void test_write_protect(void)
{
	ulong cr0 = read_cr0();

	set_pte(P_P);
	check_trap(guest_try(kernel_write, (void *)VA), PF, 3, "wp-kernel-write");
	check_eq(trap.cr2, VA, "wp-cr2");
	check_trap(guest_try(kernel_rmw, (void *)VA), PF, 3, "wp-kernel-rmw");
	write_cr0(cr0 & ~CR0_WP);
	check_trap(guest_try(kernel_write, (void *)VA), NONE, 0, "no-wp-kernel-write");
	expect_ad(P_A | P_D, "no-wp-write-sets-d");
	set_pte(P_P | P_U);
	check_trap(guest_user(user_write), PF, 7, "no-wp-user-write");
	write_cr0(cr0);
	check_trap(guest_try(kernel_write, (void *)VA), PF, 3, "wp-again");
	check_trap(guest_user(user_write), PF, 7, "user-write-read-only");
	check_trap(guest_user(user_read), SYS, 0, "user-read-read-only");
}

static void test_user_bit(void)
{
	uint64_t *pde = page_entry(read_cr3(), VA, 2);

	set_pte(P_P | P_W);
	check_trap(guest_user(user_read), PF, 5, "user-read-supervisor-page");
	check_trap(guest_user(user_write), PF, 7, "user-write-supervisor-page");
	set_pte(P_P | P_W | P_U);
	check_trap(guest_user(user_read), SYS, 0, "user-read-user-page");
	check_trap(guest_user(user_write), SYS, 0, "user-write-user-page");
	*pde &= ~P_U;
	invlpg((void *)VA);
	check_trap(guest_user(user_read), PF, 5, "user-bit-of-directory");
	*pde = (*pde | P_U) & ~P_W;
	invlpg((void *)VA);
	check_trap(guest_user(user_write), PF, 7, "write-bit-of-directory");
	*pde |= P_W;
	invlpg((void *)VA);
	set_pte(0);
	check_trap(guest_user(user_read), PF, 4, "user-read-not-present");
	check_trap(guest_user(user_write), PF, 6, "user-write-not-present");
	check_trap(guest_user(user_prefetch), SYS, 0, "prefetch-does-not-fault");
}

static void test_nx(void)
{
	*(uint8_t *)frame_a = 0xc3;		/* ret */
	set_pte(P_P | P_W);
	check_trap(guest_try(kernel_call, (void *)VA), NONE, 0, "fetch-allowed");
	set_pte(P_P | P_W | P_NX);
	check_trap(guest_try(kernel_call, (void *)VA), PF, 0x11, "nx-kernel");
	check_eq(trap.cr2, VA, "nx-cr2");
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "nx-read");
	set_pte(P_P | P_W | P_U | P_NX);
	check_trap(guest_user(user_call), PF, 0x15, "nx-user");
	set_pte(P_P | P_W | P_U);
	check_trap(guest_user(user_call), SYS, 0, "fetch-allowed-user");
	wrmsr(0xc0000080, rdmsr(0xc0000080) & ~BIT(11));
	set_pte(P_P | P_W | P_NX);
	check_trap(guest_try(kernel_read, (void *)VA), PF, 9, "nx-reserved-without-nxe");
	set_pte(P_P | P_W);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | BIT(11));
}

static void test_smep(void)
{
	*(uint8_t *)frame_a = 0xc3;
	set_pte(P_P | P_W | P_U);
	check_trap(guest_try(kernel_call, (void *)VA), NONE, 0, "no-smep-kernel-fetch");
	write_cr4(read_cr4() | CR4_SMEP);
	check_trap(guest_try(kernel_call, (void *)VA), PF, 0x11, "smep");
	check_trap(guest_user(user_call), SYS, 0, "smep-user-fetch");
	set_pte(P_P | P_W);
	check_trap(guest_try(kernel_call, (void *)VA), NONE, 0, "smep-supervisor-page");
	write_cr4(read_cr4() & ~CR4_SMEP);
}

static void test_smap(void)
{
	set_pte(P_P | P_W | P_U);
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "no-smap-kernel-read");
	write_cr4(read_cr4() | CR4_SMAP);
	check_trap(guest_try(kernel_read, (void *)VA), PF, 1, "smap-read");
	check_trap(guest_try(kernel_write, (void *)VA), PF, 3, "smap-write");
	check_trap(guest_try(kernel_stac_read, (void *)VA), NONE, 0, "smap-stac-read");
	check_trap(guest_try(kernel_stac_write, (void *)VA), NONE, 0, "smap-stac-write");
	check_trap(guest_try(kernel_read, (void *)VA), PF, 1, "smap-after-clac");
	check_trap(guest_user(user_read), SYS, 0, "smap-user-read");
	set_pte(P_P | P_U);
	check_trap(guest_try(kernel_stac_write, (void *)VA), PF, 3, "smap-stac-read-only");
	asm volatile("clac");
	write_cr4(read_cr4() & ~CR4_SMAP);
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "smap-off");
}

static void test_reserved(void)
{
	uint64_t *pde = page_entry(read_cr3(), BIG, 2);

	set_pte(P_P | P_W | BIT(51));
	check_trap(guest_try(kernel_read, (void *)VA), PF, 9, "reserved-read");
	check_trap(guest_try(kernel_write, (void *)VA), PF, 0xb, "reserved-write");
	check_trap(guest_user(user_read), PF, 0xd, "reserved-user");
	set_pte(BIT(51));
	check_trap(guest_try(kernel_read, (void *)VA), PF, 0, "reserved-not-present");
	*pde = 0x1400000 | P_P | P_W | P_PS | BIT(13);
	check_trap(guest_try(kernel_read, (void *)BIG), PF, 9, "reserved-in-large-page");
	*pde = 0;
	invlpg((void *)BIG);
	set_pte(P_P | P_W);
}

static void test_large(void)
{
	uint64_t *pde = page_entry(read_cr3(), BIG, 2), *pdpte = page_entry(read_cr3(), HUGE, 3);

	*(uint64_t *)0x1412340UL = 0x1122334455667788;
	*pde = 0x1400000 | P_P | P_W | P_PS;
	invlpg((void *)BIG);
	check_eq(*(volatile uint64_t *)(BIG + 0x12340), 0x1122334455667788, "large-read");
	check_eq(*pde & (P_A | P_D), P_A, "large-a");
	*(volatile uint64_t *)(BIG + 0x1ff000) = 7;
	check_eq(*(uint64_t *)0x15ff000UL, 7, "large-write");
	check_eq(*pde & (P_A | P_D), P_A | P_D, "large-d");
	*pde = 0x1600000 | P_P | P_W | P_PS;
	invlpg((void *)(BIG + 0x5000));
	*(uint64_t *)0x1612340UL = 0x99;
	check_eq(*(volatile uint64_t *)(BIG + 0x12340), 0x99, "large-invlpg-anywhere-inside");
	*pdpte = 0 | P_P | P_PS | P_W;
	check_eq(*(volatile uint64_t *)(HUGE + 0x1612340), 0x99, "huge-read");
	check_eq(*pdpte & (P_A | P_D), P_A, "huge-a");
	*(volatile uint64_t *)(HUGE + 0x1612340) = 0x77;
	check_eq(*(uint64_t *)0x1612340UL, 0x77, "huge-write");
	*pdpte = 0;
	*pde = 0;
	write_cr3(read_cr3());
}

static uint64_t look(void)
{
	return *(volatile uint64_t *)VA;
}

/* Points VA at the other frame without telling the TLB, after touching it. */
static void swap_silently(uint64_t flags)
{
	*pte = frame_a | flags;
	invlpg((void *)VA);
	look();
	*pte = frame_b | flags;
}

static void test_global(void)
{
	ulong cr4 = read_cr4();

	*(uint64_t *)frame_a = 0xa;
	*(uint64_t *)frame_b = 0xb;
	write_cr4(cr4 | CR4_PGE);
	swap_silently(P_P | P_W);
	write_cr3(read_cr3());
	check_eq(look(), 0xb, "cr3-load-flushes");
	swap_silently(P_P | P_W | P_G);
	write_cr4(read_cr4() & ~CR4_PGE);
	check_eq(look(), 0xb, "pge-change-flushes-global");
	write_cr4(cr4 | CR4_PGE);
	swap_silently(P_P | P_W | P_G);
	invlpg((void *)(VA + 8));
	check_eq(look(), 0xb, "invlpg-flushes-global");
	swap_silently(P_P | P_W);
	write_cr0(read_cr0() ^ CR0_WP);
	write_cr0(read_cr0() ^ CR0_WP);
	invlpg((void *)VA);
	check_eq(look(), 0xb, "invlpg-after-wp-toggle");
	write_cr4(cr4);
}

/* A second address space with its own PCID and its own frame at VA. */
static void test_pcid(void)
{
	uint32_t r[4];
	ulong root = read_cr3(), other = (ulong)page_alloc();
	uint64_t *e;

	cpuid(1, 0, r);
	if (!(r[2] >> 17 & 1)) {
		print("ok pcid # skip: not in CPUID\n");
		return;
	}
	memcpy((void *)other, (void *)root, 4096);
	*(uint64_t *)other = 0;			/* its own tables below */
	e = page_entry(other, 0, 3);
	memcpy(e, (void *)(*(uint64_t *)root & P_ADDR), 4096);
	e[VA >> 30] = 0;
	*page_entry(other, VA, 1) = frame_b | P_P | P_W;
	set_pte(P_P | P_W);
	write_cr4(read_cr4() | CR4_PCIDE);
	check_eq(look(), 0xa, "pcid-0");
	write_cr3(other | 1);
	check_eq(look(), 0xb, "pcid-1");
	write_cr3(root | BIT(63));
	check_eq(look(), 0xa, "pcid-0-again");
	check_eq(read_cr3(), root, "cr3-bit-63-reads-0");
	write_cr3(other | 1 | BIT(63));
	check_eq(look(), 0xb, "pcid-1-again");
	write_cr3(root | BIT(63));
	*pte = frame_b | P_P | P_W;
	write_cr3(root);
	check_eq(look(), 0xb, "cr3-load-without-bit-63-flushes");
	*pte = frame_a | P_P | P_W;
	invlpg((void *)VA);
	check_eq(look(), 0xa, "pcid-invlpg");
	write_cr3(root);
	write_cr4(read_cr4() & ~CR4_PCIDE);
}

static void invpcid(ulong type, uint64_t pcid, ulong va)
{
	uint64_t d[2] = { pcid, va };

	asm volatile("invpcid %0, %1" : : "m" (d), "r" (type) : "memory");
}

static void bad_invpcid(void *arg)
{
	invpcid((ulong)arg, 0x1000, 0);
}

static void test_invpcid(void)
{
	uint32_t r[4];

	cpuid(7, 0, r);
	if (!(r[1] >> 10 & 1)) {
		print("ok invpcid # skip: not in CPUID\n");
		return;
	}
	swap_silently(P_P | P_W);
	invpcid(0, 0, VA);
	check_eq(look(), 0xb, "invpcid-address");
	swap_silently(P_P | P_W);
	invpcid(1, 0, 0);
	check_eq(look(), 0xb, "invpcid-context");
	swap_silently(P_P | P_W | P_G);
	invpcid(2, 0, 0);
	check_eq(look(), 0xb, "invpcid-all-global");
	swap_silently(P_P | P_W);
	invpcid(3, 0, 0);
	check_eq(look(), 0xb, "invpcid-all");
	check_trap(guest_try(bad_invpcid, (void *)0UL), GP, 0, "invpcid-reserved-pcid");
	check_trap(guest_try(bad_invpcid, (void *)4UL), GP, 0, "invpcid-type");
}

/* Accesses over a page border: both pages are checked before anything is written. */
static void test_crossing(void)
{
	volatile uint64_t *edge = (volatile uint64_t *)(VA2 - 4);
	uint64_t *second = page_entry(read_cr3(), VA2, 1);

	set_pte(P_P | P_W);
	*second = frame_b | P_P | P_W;
	invlpg((void *)VA2);
	*edge = 0x1122334455667788;
	check_eq(*(uint32_t *)(frame_a + 4092), 0x55667788, "crossing-low");
	check_eq(*(uint32_t *)frame_b, 0x11223344, "crossing-high");
	check_eq(*edge, 0x1122334455667788, "crossing-read");
	*second = frame_b | P_P;
	invlpg((void *)VA2);
	check_trap(guest_try(kernel_write, (void *)edge), PF, 3, "crossing-write-protected");
	check_eq(trap.cr2, VA2, "crossing-cr2");
	check_eq(*(uint32_t *)(frame_a + 4092), 0x55667788, "crossing-nothing-written");
	*second = 0;
	invlpg((void *)VA2);
	check_trap(guest_try(kernel_read, (void *)edge), PF, 0, "crossing-read-not-present");
	check_eq(trap.cr2, VA2, "crossing-read-cr2");
}

/* Page tables changed through another mapping of themselves. */
static void test_tables_are_memory(void)
{
	volatile uint64_t *alias = (volatile uint64_t *)(VA2 + ((ulong)pte & 0xfff));

	page_map(VA2, (ulong)pte & ~0xfffUL, P_P | P_W);
	*alias = frame_b | P_P | P_W;
	invlpg((void *)VA);
	check_eq(look(), *(uint64_t *)frame_b, "table-written-through-alias");
	*pte = frame_a | P_P | P_W;
	invlpg((void *)VA);
	look();
	check(*alias & P_A, "a-seen-through-alias", "%llx", (unsigned long long)*alias);
}

void guest_main(void)
{
	paging_init();
	frame_a = (ulong)page_alloc();
	frame_b = (ulong)page_alloc();
	pte = page_entry(read_cr3(), VA, 1);
	test_accessed_dirty();
	test_write_protect();
	test_user_bit();
	test_nx();
	test_smep();
	test_smap();
	test_reserved();
	test_large();
	test_global();
	test_pcid();
	test_invpcid();
	test_crossing();
	test_tables_are_memory();
}
