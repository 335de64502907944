/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host exceptions in generated code.  While a thread is between trap_enter and
 * trap_leave, SIGFPE, SIGILL, SIGSEGV, SIGBUS and SIGTRAP with the program counter in one
 * of the regions given go to the region's redirect function, which changes the context
 * to go on elsewhere.  Any other such signal is our own bug and ends the process as
 * if nobody had caught it.
 */
#ifndef VIREO_ENGINE_SOFT_TRAP_H
#define VIREO_ENGINE_SOFT_TRAP_H

#include "base/err.h"
#include "base/types.h"

/*
 * Indices of the context's registers; ucontext.h has them too, under the names that
 * x86/regs.h uses for the guest's.
 */
enum { TRAP_R8, TRAP_R9, TRAP_R10, TRAP_R11, TRAP_R12, TRAP_R13, TRAP_R14, TRAP_R15, TRAP_RDI,
       TRAP_RSI, TRAP_RBP, TRAP_RBX, TRAP_RDX, TRAP_RAX, TRAP_RCX, TRAP_RSP, TRAP_RIP,
       TRAP_FLAGS, TRAP_CSGSFS, TRAP_ERROR, TRAP_VECTOR, TRAP_OLDMASK, TRAP_CR2 };

#define TRAP_STACK_SIZE	(64 * 1024)

/* Of AT_HWCAP2: programs may use RDFSBASE and the like. */
#define HWCAP2_FSGSBASE	BIT(1)

struct trap_region {
	uint64_t start, size;	/* executable addresses */
	/* Changes @regs to go on elsewhere; false: it is our own bug after all. */
	bool (*redirect)(const struct trap_region *r, int sig, long long *regs);
	const struct trap_region *next;
};

/* Installs the process's handlers; harmless to repeat. */
int trap_init(struct err *e);
/* For this thread; @stack becomes its alternate signal stack if it has none. */
void trap_enter(const struct trap_region *list, void *stack);
void trap_leave(void *stack);

#endif
