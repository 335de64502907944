/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entry of a guest image: Multiboot 1 leaves the processor in 32-bit protected mode
 * without paging.  A 64-bit image goes on to long mode, with the first gigabyte mapped
 * one to one.
 */
#include "select.h"
	.section .multiboot, "a"
	.balign 4
	.long 0x1badb002, 0, -0x1badb002

	.text
	.code32
	.globl _start
_start:
	cli
	cld
	movl	$stack_top, %esp
	movl	%ebx, multiboot_info
	lgdt	gdt_pointer
	ljmp	$SEL_KCODE32, $1f
1:	movl	$SEL_KDATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
#ifdef __x86_64__
	/* PML4[0] -> PDPT[0] -> PD: 512 pages of 2 MiB, supervisor only */
	movl	$boot_pdpt + 0x7, boot_pml4
	movl	$boot_pd + 0x7, boot_pdpt
	movl	$0x83, %eax
	movl	$boot_pd, %edi
2:	movl	%eax, (%edi)
	addl	$0x200000, %eax
	addl	$8, %edi
	cmpl	$boot_pd + 4096, %edi
	jb	2b
	movl	$0x620, %eax		/* PAE, OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	movl	$0x901, %eax		/* SCE, LME, NXE */
	xorl	%edx, %edx
	wrmsr
	movl	$0x80010033, %eax	/* PG, WP, NE, ET, MP, PE */
	movl	%eax, %cr0
	ljmp	$SEL_KCODE, $3f
	.code64
3:	movl	$stack_top, %esp
	call	guest_start
#else
	movl	$0x600, %eax		/* OSFXSR, OSXMMEXCPT */
	movl	%eax, %cr4
	movl	$0x00000033, %eax
	movl	%eax, %cr0
	call	guest_start
#endif
4:	hlt
	jmp	4b

	.data
	.globl	multiboot_info
	.balign 8
multiboot_info: .long 0, 0
gdt_pointer:
	.word	8 * 64 - 1
#ifdef __x86_64__
	.quad	gdt
#else
	.long	gdt
#endif

	.balign 16
	.globl	gdt
gdt:
	.quad	0
	.quad	0x00cf9b000000ffff	/* 08: kernel code, 32-bit */
	.quad	0x00af9b000000ffff	/* 10: kernel code, 64-bit */
	.quad	0x00cf93000000ffff	/* 18: kernel data */
	.quad	0x00cffb000000ffff	/* 20: user code, 32-bit */
	.quad	0x00cff3000000ffff	/* 28: user data */
	.quad	0x00affb000000ffff	/* 30: user code, 64-bit */
	.quad	0x000f9a000000ffff	/* 38: code, 16-bit, base 0, limit 1 MiB */
	.quad	0x0000930000000fff	/* 40: data, byte limit 0xfff */
	.quad	0, 0			/* 48: TSS */
	.fill	64 - 11, 8, 0

	.bss
	.balign 4096
	.globl	boot_pml4, boot_pdpt, boot_pd, stack_top
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4096
	.skip	32768
stack_top:

	.section .note.GNU-stack, "", @progbits
