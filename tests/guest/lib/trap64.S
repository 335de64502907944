/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exception entries (struct regs of guest.h), guest_try() and the way into ring 3.
 */
#include "select.h"
	.text
	.code64
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
	push	%rax
	push	%rcx
	push	%rdx
	push	%rbx
	push	%rbp
	push	%rsi
	push	%rdi
	push	%r8
	push	%r9
	push	%r10
	push	%r11
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	mov	%rsp, %rdi
	mov	%rsp, %rbx
	and	$-16, %rsp
	cld
	call	trap_dispatch
	mov	%rbx, %rsp
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%r11
	pop	%r10
	pop	%r9
	pop	%r8
	pop	%rdi
	pop	%rsi
	pop	%rbp
	pop	%rbx
	pop	%rdx
	pop	%rcx
	pop	%rax
	add	$16, %rsp
	iretq

/* int guest_try(void (*fn)(void *), void *arg): -1, or the vector that ended it. */
	.globl	guest_try, guest_unwind
guest_try:
	push	%rbx
	push	%rbp
	push	%r12
	push	%r13
	push	%r14
	push	%r15
	pushfq
	push	try_rsp
	mov	%rsp, try_rsp
	mov	%rdi, %rax
	mov	%rsi, %rdi
	call	*%rax
	mov	$-1, %eax
	jmp	1f
guest_unwind:				/* from trap_dispatch; %edi: the vector */
	mov	try_rsp, %rsp
	mov	%edi, %eax
1:	pop	try_rsp
	popfq
	pop	%r15
	pop	%r14
	pop	%r13
	pop	%r12
	pop	%rbp
	pop	%rbx
	ret

/* void guest_iret(rip, cs, rflags, rsp, ss) */
	.globl	guest_iret
guest_iret:
	push	%r8
	push	%rcx
	push	%rdx
	push	%rsi
	push	%rdi
	iretq

	.bss
	.balign 8
	.globl	try_rsp
try_rsp: .skip 8

	.section .note.GNU-stack, "", @progbits
