// SPDX-License-Identifier: Apache-2.0
/* Host exceptions in generated code; see trap.h. */
#include "engine/soft/trap.h"

#include "cpu/window.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/auxv.h>
#include <ucontext.h>

_Static_assert((int)TRAP_RAX == REG_RAX && (int)TRAP_RSP == REG_RSP &&
	       (int)TRAP_RIP == REG_RIP && (int)TRAP_VECTOR == REG_TRAPNO &&
	       (int)TRAP_CR2 == REG_CR2, "indices differ");

/* A signal handler is given no argument of ours, so what it needs hangs from the thread. */
static __thread const struct trap_region *regions;

__attribute__((used)) static void on_trap(int sig, siginfo_t *info, void *context)
{
	ucontext_t *uc = context;
	uint64_t rip = uc->uc_mcontext.gregs[REG_RIP];

	for (const struct trap_region *r = regions; r; r = r->next)
		if (rip - r->start < r->size && r->redirect(r, sig, uc->uc_mcontext.gregs))
			return;
	/* Not ours: on return it happens again, and does what it does to everybody. */
	signal(sig, SIG_DFL);
	if (info->si_code <= 0)		/* sent by somebody: it would not happen again */
		raise(sig);
}

/*
 * Code for windows has its own FS base, where C code expects the thread's variables: put back
 * before anything else, and again afterwards (cpu/window.h, window_fs_save()).
 */
__attribute__((naked)) static void on_trap_fs(__attribute__((unused)) int sig,
					      __attribute__((unused)) siginfo_t *info,
					      __attribute__((unused)) void *context)
{
	asm("rdfsbase %%rax\n\t"
	    "push %%rax\n\t"
	    "test %%rax, %%rax\n\t"
	    "jz 1f\n\t"
	    "shl %[above], %%rax\n\t"		/* a window's? */
	    "jnz 1f\n\t"
	    "mov (%%rsp), %%rax\n\t"
	    "mov %[guard], %%rcx\n\t"
	    "sub %%rcx, %%rax\n\t"
	    "mov (%%rax), %%rax\n\t"
	    "wrfsbase %%rax\n"
	    "1:\n\t"
	    "call on_trap\n\t"
	    "pop %%rax\n\t"
	    "wrfsbase %%rax\n\t"
	    "ret"
	    : : [above] "i" (64 - WINDOW_GUARD_BIT), [guard] "i" (WINDOW_GUARD));
}

int trap_init(struct err *e)
{
	static const int signals[] = { SIGFPE, SIGILL, SIGSEGV, SIGBUS, SIGTRAP };
	struct sigaction sa = { .sa_sigaction = on_trap, .sa_flags = SA_SIGINFO | SA_ONSTACK };

	if (getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE)
		sa.sa_sigaction = on_trap_fs;

	sigemptyset(&sa.sa_mask);
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		if (sigaction(signals[i], &sa, NULL))
			return err_errno(e, errno, "could not install a signal handler");
	return 0;
}

void trap_enter(const struct trap_region *list, void *stack)
{
	const stack_t own = { .ss_sp = stack, .ss_size = TRAP_STACK_SIZE };
	stack_t old;

	/* Without it the ordinary stack serves, where generated code leaves that alone. */
	if (!sigaltstack(NULL, &old) && (old.ss_flags & SS_DISABLE))
		sigaltstack(&own, NULL);
	regions = list;
}

void trap_leave(void *stack)
{
	const stack_t none = { .ss_flags = SS_DISABLE };
	stack_t now;

	regions = NULL;
	if (!sigaltstack(NULL, &now) && now.ss_sp == stack)
		sigaltstack(&none, NULL);
}
