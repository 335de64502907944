// SPDX-License-Identifier: Apache-2.0
/* See kick.h. */
#include "engine/kvm/kick.h"

#include <errno.h>
#include <signal.h>

static int kick_signal(void)
{
	return SIGRTMIN;
}

static void kicked(int signo)
{
	(void)signo;	/* it only has to arrive */
}

int kick_init(struct err *e)
{
	/* KVM_RUN ends all the same; other calls of the thread go on. */
	struct sigaction act = { .sa_handler = kicked, .sa_flags = SA_RESTART };

	if (sigaction(kick_signal(), &act, NULL))
		return err_errno(e, errno, "could not set up the signal that interrupts KVM");
	return 0;
}

void kick_accept(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, kick_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void kick_send(pthread_t thread)
{
	pthread_kill(thread, kick_signal());
}
