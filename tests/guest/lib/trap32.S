/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exception entries (struct regs of guest.h), guest_try() and the way into ring 3.
 */
#include "select.h"
	.text
	.code32
	.globl	trap_entries
	.balign 16
trap_entries:
	vector = 0
	.rept	256
	.balign 16
	.if	(vector == 8) || (vector >= 10 && vector <= 14) || (vector == 17) || (vector == 21)
	nop
	nop
	.else
	push	$0
	.endif
	push	$vector
	jmp	trap_common
	vector = vector + 1
	.endr

trap_common:
	pusha
	push	%ds
	push	%es
	push	%fs
	push	%gs
	mov	$SEL_KDATA, %eax
	mov	%eax, %ds
	mov	%eax, %es
	mov	%esp, %ebx
	cld
	push	%ebx
	call	trap_dispatch
	mov	%ebx, %esp
	pop	%gs
	pop	%fs
	pop	%es
	pop	%ds
	popa
	add	$8, %esp
	iret

/* int guest_try(void (*fn)(void *), void *arg): -1, or the vector that ended it. */
	.globl	guest_try, guest_unwind
guest_try:
	push	%ebx
	push	%ebp
	push	%esi
	push	%edi
	mov	20(%esp), %eax
	mov	24(%esp), %edx
	pushf
	push	try_rsp
	mov	%esp, try_rsp
	push	%edx
	call	*%eax
	add	$4, %esp
	mov	$-1, %eax
	jmp	1f
guest_unwind:				/* from trap_dispatch, not called; 4(%esp): the vector */
	mov	4(%esp), %eax
	mov	$SEL_KDATA, %ecx
	mov	%ecx, %ds
	mov	%ecx, %es
	mov	%ecx, %fs
	mov	%ecx, %gs
	mov	%ecx, %ss
	mov	try_rsp, %esp
1:	pop	try_rsp
	popf
	pop	%edi
	pop	%esi
	pop	%ebp
	pop	%ebx
	ret

/* void guest_iret(eip, cs, eflags, esp, ss) */
	.globl	guest_iret
guest_iret:
	mov	20(%esp), %eax
	mov	%eax, %ecx
	and	$3, %ecx
	jz	1f
	mov	%eax, %ds		/* the data segment of the other side */
	mov	%eax, %es
1:	push	20(%esp)
	push	20(%esp)
	push	20(%esp)
	push	20(%esp)
	push	20(%esp)
	iret

	.bss
	.balign 8
	.globl	try_rsp
try_rsp: .skip 8

	.section .note.GNU-stack, "", @progbits
