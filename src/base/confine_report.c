// SPDX-License-Identifier: Apache-2.0
/*
 * What a violation of the system-call filter does: the kernel does not carry the call out but
 * sends SIGSYS, whose handler says which it was and ends the process.  Who has taken the
 * process over may change the handler, but gets no forbidden call by that.
 */
#include "base/confine_priv.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Made by the Makefile out of <asm/unistd_64.h>: [number] = "name". */
static const char *const call_names[] = {
#include <syscall_names.inc>
};

/* Only what a signal handler may call. */
static char *append(char *to, const char *text)
{
	while (*text)
		*to++ = *text++;
	return to;
}

static char *append_number(char *to, unsigned int n)
{
	if (n >= 10)
		to = append_number(to, n / 10);
	*to++ = '0' + n % 10;
	return to;
}

static void violated(int signo, siginfo_t *info, void *context)
{
	const unsigned int n = info->si_syscall;
	char text[320], *p = text;

	(void)signo;
	(void)context;
	p = append(p, "vireo: the sandbox stopped system call ");
	p = append_number(p, n);
	if (n < ARRAY_SIZE(call_names) && call_names[n]) {
		p = append(p, " (");
		p = append(p, call_names[n]);
		p = append(p, ")");
	}
	p = append(p, ", which vireo never makes: this is an error in vireo, or a guest got out of "
		      "its VM; the process ends (--sandbox off runs without)\n");
	if (write(STDERR_FILENO, text, p - text) < 0)
		_exit(CONFINE_STATUS);
	_exit(CONFINE_STATUS);
}

int violations_report(struct err *e)
{
	struct sigaction act = { .sa_sigaction = violated, .sa_flags = SA_SIGINFO };
	sigset_t set;

	sigfillset(&act.sa_mask);
	if (sigaction(SIGSYS, &act, NULL))
		return err_errno(e, errno, "could not set up the report of violations");
	sigemptyset(&set);
	sigaddset(&set, SIGSYS);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return 0;
}
