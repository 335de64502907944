// SPDX-License-Identifier: Apache-2.0
/*
 * The confinement of a switch's process: frames of open descriptors, new VMs at its socket, memory,
 * and removing that socket at the end.
 */
#include "backend/switch_priv.h"
#include "base/confine.h"

#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <sys/prctl.h>

static const int calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(accept), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(getsockopt),
	SCMP_SYS(setsockopt), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(poll),
	SCMP_SYS(ppoll), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_ctl),
	SCMP_SYS(timerfd_create), SCMP_SYS(timerfd_settime), SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(wait4), SCMP_SYS(geteuid), SCMP_SYS(unlink),
};
static const unsigned int fcntls[] = { F_GETFL, F_SETFL, F_GETFD, F_SETFD, F_DUPFD_CLOEXEC };

int switch_confine(const char *path, struct err *e)
{
	const struct scmp_arg_cmp slack = SCMP_A0(SCMP_CMP_EQ, PR_SET_TIMERSLACK, 0);
	struct confine_state state;
	struct confine *c;
	char copy[128];
	int rc;

	rc = confine_create(&c, false, e);
	if (rc)
		return rc;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	confine_runtime(c);
	confine_memory(c, false);
	confine_calls(c, calls, ARRAY_SIZE(calls));
	confine_call_if(c, SCMP_SYS(prctl), &slack, 1);
	for (size_t i = 0; i < ARRAY_SIZE(fcntls); i++) {
		const struct scmp_arg_cmp is = SCMP_A1(SCMP_CMP_EQ, fcntls[i], 0);

		confine_call_if(c, SCMP_SYS(fcntl), &is, 1);
	}
	snprintf(copy, sizeof(copy), "%s", path);	/* a socket's name is no longer */
	confine_path(c, dirname(copy), CONFINE_REMOVE);
	rc = confine_enter(c, false, &state, e);
	confine_free(c);
	return rc;
}
