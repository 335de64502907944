// SPDX-License-Identifier: Apache-2.0
/*
 * Paging outside long mode: two levels of 4-byte entries with 4-MiB pages, and PAE.
 * Source: Intel SDM volume 3, "32-bit Paging" and "PAE Paging".
 */
#include "guest.h"

#define P_P	1U
#define P_W	2U
#define P_U	4U
#define P_A	0x20U
#define P_D	0x40U
#define P_PS	0x80U
#define VA	0x40000000UL
#define BIG	0x50000000UL
#define CR0_PG	BIT(31)
#define CR0_WP	BIT(16)
#define CR4_PSE	BIT(4)
#define CR4_PAE	BIT(5)

static uint32_t pd[1024] __attribute__((aligned(4096)));
static uint32_t pt[1024] __attribute__((aligned(4096)));
static uint64_t pdpt[4] __attribute__((aligned(32)));
static uint64_t pae_pd[4][512] __attribute__((aligned(4096)));
static uint64_t pae_pt[512] __attribute__((aligned(4096)));
static uint32_t frame[1024] __attribute__((aligned(4096)));
static uint32_t frame2[1024] __attribute__((aligned(4096)));

#define KERNEL_ARG(fn, text) KERNEL_ASM(fn, "mov 4(%esp), %ecx;" text)
KERNEL_ARG(kernel_read, "mov (%ecx), %eax")
KERNEL_ARG(kernel_write, "movl $0x1234, (%ecx)")
KERNEL_ARG(kernel_call, "call *%ecx")
KERNEL_ARG(kernel_rmw, "lock xaddl %eax, (%ecx)")
USER_ASM(user_read, "mov 0x40000000, %eax")
USER_ASM(user_write, "movl $1, 0x40000000")

static void paging_on(uint32_t root)
{
	write_cr3(root);
	write_cr0(read_cr0() | CR0_PG | CR0_WP);
}

static void paging_off(void)
{
	write_cr0(read_cr0() & ~CR0_PG);
}

static void test_small(void)
{
	unsigned int i;

	for (i = 0; i < 16; i++)
		pd[i] = (i << 22) | P_P | P_W | P_U | P_PS;
	pd[VA >> 22] = (uint32_t)pt | P_P | P_W | P_U;
	pt[0] = (uint32_t)frame | P_P | P_W;
	write_cr4(read_cr4() | CR4_PSE);
	paging_on((uint32_t)pd);
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "32-read");
	check_eq(pt[0] & (P_A | P_D), P_A, "32-a");
	check_trap(guest_try(kernel_write, (void *)VA), NONE, 0, "32-write");
	check_eq(pt[0] & (P_A | P_D), P_A | P_D, "32-d");
	check_eq(frame[0], 0x1234, "32-written");
	check_trap(guest_user(user_read), PF, 5, "32-user-read");
	check_trap(guest_user(user_write), PF, 7, "32-user-write");
	pt[0] = (uint32_t)frame | P_P | P_U;
	invlpg((void *)VA);
	check_trap(guest_try(kernel_write, (void *)VA), PF, 3, "32-wp");
	check_trap(guest_try(kernel_rmw, (void *)VA), PF, 3, "32-wp-rmw");
	check_trap(guest_user(user_read), SYS, 0, "32-user-read-allowed");
	write_cr0(read_cr0() & ~CR0_WP);
	check_trap(guest_try(kernel_write, (void *)VA), NONE, 0, "32-no-wp");
	write_cr0(read_cr0() | CR0_WP);
	check_trap(guest_try(kernel_read, (void *)(VA + 0x1000)), PF, 0, "32-not-present");
	check_eq(trap.cr2, VA + 0x1000, "32-cr2");
	check_trap(guest_try(kernel_read, (void *)0x60000000), PF, 0, "32-no-table");
	*(uint8_t *)frame = 0xc3;
	check_trap(guest_try(kernel_call, (void *)VA), NONE, 0, "32-fetch");
	check_trap(guest_try(kernel_call, (void *)(VA + 0x1000)), PF, 0, "32-fetch-not-present");
}

static void test_pse(void)
{
	frame[0] = 0xabcd;
	pd[BIG >> 22] = ((uint32_t)frame & 0xffc00000) | P_P | P_W | P_PS;
	invlpg((void *)BIG);
	check_eq(*(volatile uint32_t *)(BIG + ((uint32_t)frame & 0x3fffff)), 0xabcd, "pse-read");
	check_eq(pd[BIG >> 22] & (P_A | P_D), P_A, "pse-a");
	*(volatile uint32_t *)(BIG + ((uint32_t)frame & 0x3fffff)) = 0x5678;
	check_eq(frame[0], 0x5678, "pse-write");
	check_eq(pd[BIG >> 22] & (P_A | P_D), P_A | P_D, "pse-d");
	/* Bit 21 is reserved in a 4-MiB entry; 13-20 are address bits 32-39 (PSE-36). */
	pd[BIG >> 22] |= 1U << 21;
	invlpg((void *)BIG);
	check_trap(guest_try(kernel_read, (void *)BIG), PF, 9, "pse-reserved");
	pd[BIG >> 22] = 0;
	invlpg((void *)BIG);
}

static void test_tlb(void)
{
	frame[0] = 1;
	frame2[0] = 2;
	pt[0] = (uint32_t)frame | P_P | P_W;
	invlpg((void *)VA);
	check_eq(*(volatile uint32_t *)VA, 1, "tlb-before");
	pt[0] = (uint32_t)frame2 | P_P | P_W;
	write_cr3((uint32_t)pd);
	check_eq(*(volatile uint32_t *)VA, 2, "tlb-after-cr3");
	pt[0] = (uint32_t)frame | P_P | P_W;
	paging_off();
	paging_on((uint32_t)pd);
	check_eq(*(volatile uint32_t *)VA, 1, "tlb-after-pg");
	paging_off();
}

static void load_cr3_pae(void *arg)
{
	write_cr3((uint32_t)arg);
}

static void test_pae(void)
{
	unsigned int i, j;

	for (i = 0; i < 4; i++)
		pdpt[i] = (uint32_t)pae_pd[i] | P_P;
	for (j = 0; j < 32; j++)
		pae_pd[0][j] = j << 21 | P_P | P_W | P_U | P_PS;
	pae_pd[1][0] = (uint32_t)pae_pt | P_P | P_W | P_U;
	pae_pt[0] = (uint32_t)frame | P_P | P_W;
	write_cr4((read_cr4() | CR4_PAE) & ~CR4_PSE);
	wrmsr(0xc0000080, rdmsr(0xc0000080) | BIT(11));
	paging_on((uint32_t)pdpt);
	check_trap(guest_try(kernel_write, (void *)VA), NONE, 0, "pae-write");
	check_eq(frame[0], 0x1234, "pae-written");
	check_eq(pae_pt[0] & (P_A | P_D), P_A | P_D, "pae-ad");
	check_trap(guest_user(user_read), PF, 5, "pae-user-read");
	pae_pt[0] = (uint32_t)frame | P_P | P_W | BIT(63);
	invlpg((void *)VA);
	*(uint8_t *)frame = 0xc3;
	check_trap(guest_try(kernel_call, (void *)VA), PF, 0x11, "pae-nx");
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "pae-nx-read");
	pae_pt[0] = (uint32_t)frame | P_P | P_W | BIT(51);
	invlpg((void *)VA);
	check_trap(guest_try(kernel_read, (void *)VA), PF, 9, "pae-reserved");
	pae_pt[0] = (uint32_t)frame | P_P | P_W;
	invlpg((void *)VA);
	/* Whether a change in memory is seen before CR3 is loaded differs: Intel keeps registers. */
	pdpt[1] = 0;
	write_cr3((uint32_t)pdpt);
	check_trap(guest_try(kernel_read, (void *)VA), PF, 0, "pae-pdpte-after-cr3");
	pdpt[1] = (uint32_t)pae_pd[1] | P_P | P_W;	/* W is reserved in a PDPTE */
	check_trap(guest_try(load_cr3_pae, pdpt), GP, 0, "pae-pdpte-reserved");
	pdpt[1] = (uint32_t)pae_pd[1] | P_P;
	write_cr3((uint32_t)pdpt);
	check_trap(guest_try(kernel_read, (void *)VA), NONE, 0, "pae-restored");
	paging_off();
}

void guest_main(void)
{
	test_small();
	test_pse();
	test_tlb();
	test_pae();
}
