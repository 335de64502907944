/* SPDX-License-Identifier: Apache-2.0 */
/* Where SIPI sends a processor: real mode, at SMP_PAGE; see smp.h. */
#include "select.h"
#define SMP_PAGE 0x8000

	.text
	.code16
	.globl	smp_trampoline, smp_trampoline_end
smp_trampoline:
	cli
	cld
	movw	%cs, %ax
	movw	%ax, %ds
	lgdtl	smp_gdt_pointer - smp_trampoline
	movl	%cr0, %eax
	orl	$1, %eax
	movl	%eax, %cr0
	ljmpl	$SEL_KCODE32, $SMP_PAGE + (1f - smp_trampoline)
	.code32
1:	movl	$SEL_KDATA, %eax
	movl	%eax, %ds
	movl	%eax, %es
	movl	%eax, %fs
	movl	%eax, %gs
	movl	%eax, %ss
	movl	$0x620, %eax		/* as start.S does */
	movl	%eax, %cr4
	movl	$boot_pml4, %eax
	movl	%eax, %cr3
	movl	$0xc0000080, %ecx
	movl	$0x901, %eax
	xorl	%edx, %edx
	wrmsr
	movl	$0x80010033, %eax
	movl	%eax, %cr0
	ljmp	$SEL_KCODE, $smp_long
	.balign	4
smp_gdt_pointer:
	.word	8 * 64 - 1
	.long	gdt
smp_trampoline_end:

	.code64
smp_long:
	movl	$1, %edi
	lock xaddl %edi, smp_next	/* numbers from 1 */
	cmpl	$64, %edi
	jae	2f
	leal	1(%rdi), %eax
	shll	$13, %eax
	leaq	smp_stacks(%rax), %rsp
	call	smp_main
2:	hlt
	jmp	2b

	.data
	.globl	smp_next
smp_next: .long 1

	.bss
	.balign	4096
smp_stacks: .skip 65 * 8192

	.section .note.GNU-stack, "", @progbits
