// SPDX-License-Identifier: Apache-2.0
/*
 * The process outside of a jail: it starts the VM's, waits, hands signals on, gives the terminal
 * back, removes the control group.  Nothing of a guest's ever reaches it.
 */
#include "mgmt/jail_group.h"
#include "mgmt/jail_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

static const int forwarded[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT };

struct start {
	bool jailed;
	int (*run)(void *arg);
	void *arg;
	int go[2];		/* a byte from outside: the control group is there */
};

/* --- inside --- */

/* The VM's process.  Should the one outside die, it ends in good order. */
static void run_child(const struct start *s, const sigset_t *mask)
{
	int status;
	char byte;
	ssize_t n;

	close(s->go[1]);
	do
		n = read(s->go[0], &byte, 1);
	while (n < 0 && errno == EINTR);
	close(s->go[0]);
	if (n != 1)
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	sigprocmask(SIG_SETMASK, mask, NULL);
	status = s->run(s->arg);
	fflush(NULL);
	_exit(status);	/* what is at the end of a process, is the one outside's */
}

/* --- outside --- */

static void forward(pid_t child, const sigset_t *set)
{
	siginfo_t info;

	while (sigwaitinfo(set, &info) != SIGCHLD || info.si_pid != child)
		if (info.si_signo != SIGCHLD)
			kill(child, info.si_signo);
}

/* The child's exit status; if a signal killed it, that kills us too. */
static int wait_for(pid_t child, const struct jail_group *g, const sigset_t *set,
		    const sigset_t *old)
{
	const bool terminal = isatty(STDIN_FILENO) && tcgetpgrp(STDIN_FILENO) == getpgrp();
	struct termios settings;
	const bool known = terminal && !tcgetattr(STDIN_FILENO, &settings);
	int status;

	/* Pipes and locks are the child's now, and end with it. */
	close_range(STDERR_FILENO + 1, ~0U, 0);
	do
		forward(child, set);
	while (waitpid(child, &status, WNOHANG) == 0);
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	/* Its terminal's guard was in the jail, and went with it. */
	if (known)
		tcsetattr(STDIN_FILENO, TCSANOW, &settings);
	jail_group_remove(g);
	signal(WTERMSIG(status), SIG_DFL);
	sigprocmask(SIG_SETMASK, old, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}

/* Starts the child, in the group and namespaces that it is to have. */
static int start_child(struct start *s, const struct jail_group *g, const sigset_t *mask,
		       struct err *e)
{
	int rc = s->jailed ? jail_enter(e) : 0;
	pid_t child;

	if (rc)
		return rc;
	fflush(NULL);
	child = fork();
	if (child < 0)
		return err_errno(e, errno, "could not start a process for the VM");
	if (!child)
		run_child(s, mask);
	if (g->path[0])
		rc = jail_group_add(g, child, e);
	if (!rc && write(s->go[1], "", 1) != 1)
		rc = err_errno(e, errno, "could not start the VM's process");
	if (rc)
		kill(child, SIGKILL);
	return rc ? rc : child;
}

int jail_run(bool jailed, const struct jail_limits *l, int (*run)(void *arg), void *arg,
	     struct err *e)
{
	struct start s = { .jailed = jailed, .run = run, .arg = arg };
	struct jail_group g = { "" };
	sigset_t set, old;
	int rc;

	if (pipe2(s.go, O_CLOEXEC))
		return err_errno(e, errno, "could not make a pipe for the jail");
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (size_t i = 0; i < ARRAY_SIZE(forwarded); i++)
		sigaddset(&set, forwarded[i]);
	sigprocmask(SIG_BLOCK, &set, &old);
	rc = jail_limits_set(l) ? jail_group_create(&g, l, e) : 0;
	if (!rc)
		rc = start_child(&s, &g, &old, e);
	close(s.go[0]);
	close(s.go[1]);
	/* From here on nothing of the caller's is open any more but stdin, stdout and stderr. */
	if (rc > 0)
		rc = wait_for(rc, &g, &set, &old);
	else
		sigprocmask(SIG_SETMASK, &old, NULL);
	jail_group_remove(&g);
	return rc;
}
