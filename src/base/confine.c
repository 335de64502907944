// SPDX-License-Identifier: Apache-2.0
/* Confining a process: the lists and entering; see confine.h. */
#include "base/confine_priv.h"
#include "base/thread.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define CALLS	1024

struct confine {
	scmp_filter_ctx filter;
	int threads;			/* threads_list()'s */
	int ruleset;			/* Landlock's; -1: none */
	unsigned int landlock;		/* its version */
	int failed;			/* the first error, or 0 */
	bool always[CALLS];		/* allowed whatever their arguments: no more rules then */
};

static void note(struct confine *c, int rc)
{
	if (rc && !c->failed)
		c->failed = rc;
}

int confine_create(struct confine **out, bool network, struct err *e)
{
	struct confine *c = calloc(1, sizeof(*c));

	if (!c)
		return err_set(e, ENOMEM, "out of memory for a sandbox");
	c->ruleset = -1;
	c->threads = threads_list(e);
	if (c->threads < 0) {
		const int rc = c->threads;

		free(c);
		return rc;
	}
	c->filter = seccomp_init(SCMP_ACT_TRAP);
	c->landlock = confine_landlock_version();
	c->ruleset = c->landlock ? landlock_open(c->landlock, network) : -1;
	if (c->ruleset < 0)
		c->landlock = 0;
	if (!c->filter) {
		confine_free(c);
		return err_set(e, ENOMEM, "out of memory for a system-call filter");
	}
	*out = c;
	return 0;
}

void confine_free(struct confine *c)
{
	if (!c)
		return;
	if (c->filter)
		seccomp_release(c->filter);
	if (c->ruleset >= 0)
		close(c->ruleset);
	close(c->threads);
	free(c);
}

/* --- the lists --- */

void confine_calls(struct confine *c, const int *calls, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (calls[i] >= 0 && calls[i] < CALLS)
			c->always[calls[i]] = true;
		note(c, seccomp_rule_add(c->filter, SCMP_ACT_ALLOW, calls[i], 0));
	}
}

static bool allowed_always(const struct confine *c, int call)
{
	return call >= 0 && call < CALLS && c->always[call];
}

void confine_call_if(struct confine *c, int call, const struct scmp_arg_cmp *args,
		     unsigned int count)
{
	if (!allowed_always(c, call))
		note(c, seccomp_rule_add_array(c->filter, SCMP_ACT_ALLOW, call, count, args));
}

void confine_call_fails(struct confine *c, int call, int errnum)
{
	if (!allowed_always(c, call))
		note(c, seccomp_rule_add(c->filter, SCMP_ACT_ERRNO(errnum), call, 0));
}

void confine_call_fails_if(struct confine *c, int call, int errnum, struct scmp_arg_cmp arg)
{
	if (!allowed_always(c, call))
		note(c, seccomp_rule_add_array(c->filter, SCMP_ACT_ERRNO(errnum), call, 1, &arg));
}

void confine_memory(struct confine *c, bool code)
{
	static const int calls[] = { SCMP_SYS(mmap), SCMP_SYS(mprotect) };
	static const int others[] = {
		SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
	};
	const struct scmp_arg_cmp data = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp text = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC | PROT_WRITE,
						 PROT_EXEC);

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++) {
		confine_call_if(c, calls[i], &data, 1);
		if (code)
			confine_call_if(c, calls[i], &text, 1);
	}
	confine_calls(c, others, ARRAY_SIZE(others));
}

void confine_runtime(struct confine *c)
{
	static const int calls[] = {
		SCMP_SYS(futex), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid),
		SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday), SCMP_SYS(time),
		SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
		SCMP_SYS(rt_sigtimedwait),
		SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group),
		SCMP_SYS(sigaltstack), SCMP_SYS(sched_yield),
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
		/* Their reports, and the search for leaks, which stops all threads by ptrace. */
		SCMP_SYS(readlink), SCMP_SYS(prctl), SCMP_SYS(clone), SCMP_SYS(wait4),
		SCMP_SYS(ptrace), SCMP_SYS(getdents64), SCMP_SYS(getdents), SCMP_SYS(lstat),
		SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(dup), SCMP_SYS(unlink),
		SCMP_SYS(close), SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(fstat), SCMP_SYS(stat),
		SCMP_SYS(getppid), SCMP_SYS(kill), SCMP_SYS(pipe), SCMP_SYS(process_vm_readv),
		SCMP_SYS(getrlimit), SCMP_SYS(prlimit64), SCMP_SYS(fork), SCMP_SYS(execve),
		SCMP_SYS(socketpair), SCMP_SYS(dup2), SCMP_SYS(sysinfo), SCMP_SYS(uname),
		SCMP_SYS(getcwd), SCMP_SYS(setrlimit), SCMP_SYS(lseek), SCMP_SYS(personality),
		SCMP_SYS(sched_getaffinity),
#endif
	};
	const struct scmp_arg_cmp ours = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0);

	confine_calls(c, calls, ARRAY_SIZE(calls));
	confine_call_if(c, SCMP_SYS(tgkill), &ours, 1);
}

void confine_path(struct confine *c, const char *path, enum confine_access access)
{
	if (c->landlock)
		note(c, landlock_allow(c->ruleset, c->landlock, path, access));
}

/* --- entering --- */

/* Of one thread. */
static int enter_thread(void *arg)
{
	const struct confine *c = arg;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return errno;
	return c->landlock ? landlock_enter(c->ruleset) : 0;
}

/* All threads' at once. */
static int load_filter(struct confine *c)
{
	int rc;

	seccomp_attr_set(c->filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	seccomp_attr_set(c->filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* A tree instead of a list. */
	seccomp_attr_set(c->filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	/*
	 * Older kernels switch the processor's memory disambiguation off under a filter, which
	 * slows all that the guest does: the process stays what it was without one.
	 */
	seccomp_attr_set(c->filter, SCMP_FLTATR_CTL_SSB, 1);
	rc = seccomp_load(c->filter);
	return rc;
}

int confine_enter(struct confine *c, bool strict, struct confine_state *s, struct err *e)
{
	int rc = c->failed;

	*s = (struct confine_state){ 0 };
	if (rc)
		return err_errno(e, -rc, "could not make the sandbox");
	if (strict && !c->landlock)
		return err_set(e, ENOTSUP, "this kernel has no Landlock, without which the sandbox "
			       "does not keep files: --sandbox auto does with what there is");
	rc = violations_report(e);
	if (!rc)
		rc = threads_call(c->threads, enter_thread, c, e);
	if (rc)
		return rc;
	s->landlock = c->landlock;
	rc = load_filter(c);
	s->calls = !rc;
	if (rc && strict)
		return err_errno(e, -rc, "could not install a system-call filter");
	return 0;
}
