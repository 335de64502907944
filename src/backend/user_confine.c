// SPDX-License-Identifier: Apache-2.0
/*
 * The confinement of user-mode networking's process.
 *
 * Landlock, where the kernel has it, leaves of the file system the directories of
 * /etc/resolv.conf, which libslirp reads whenever it changes.  A seccomp filter leaves the
 * system calls of sockets, memory and reading a file; Unix sockets, by which a desktop's
 * services are reached, only where guestfwd names one.  Anything else ends the process, and
 * with it the link, not the VM.
 */
#include "backend/user_priv.h"
#include "base/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static const int plain_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
	SCMP_SYS(shutdown), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt), SCMP_SYS(getsockopt), SCMP_SYS(fcntl),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat),
	SCMP_SYS(lseek),
};

/* The same call with a forbidden argument fails, so that a library may try and go on. */
static void allow_sockets(struct confine *c, bool unix_sockets)
{
	const struct scmp_arg_cmp unix_kind = SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0);
	const struct scmp_arg_cmp kinds[] = {
		SCMP_A0(SCMP_CMP_EQ, AF_INET, 0), SCMP_A0(SCMP_CMP_EQ, AF_INET6, 0),
	};
	const struct scmp_arg_cmp requests[] = {
		SCMP_A1(SCMP_CMP_EQ, FIONREAD, 0), SCMP_A1(SCMP_CMP_EQ, FIONBIO, 0),
		SCMP_A1(SCMP_CMP_EQ, SIOCGIFINDEX, 0),	/* of a name server's scope */
	};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++)
		confine_call_if(c, SCMP_SYS(socket), &kinds[i], 1);
	for (size_t i = 0; i < ARRAY_SIZE(requests); i++)
		confine_call_if(c, SCMP_SYS(ioctl), &requests[i], 1);
	if (unix_sockets)
		confine_call_if(c, SCMP_SYS(socket), &unix_kind, 1);
	else
		confine_call_fails_if(c, SCMP_SYS(socket), EAFNOSUPPORT, unix_kind);
	confine_call_fails_if(c, SCMP_SYS(socket), EAFNOSUPPORT,
			      (struct scmp_arg_cmp)SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0));
}

/* The file's directories and not the file, which is replaced when the network changes. */
static void allow_files(struct confine *c)
{
	/* Only to read, and nothing is created. */
	const struct scmp_arg_cmp reading = SCMP_A2(SCMP_CMP_MASKED_EQ,
						    O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY);
	char path[PATH_MAX];

	confine_call_if(c, SCMP_SYS(openat), &reading, 1);
	confine_path(c, "/etc", CONFINE_READ);
	if (realpath("/etc/resolv.conf", path))
		confine_path(c, dirname(path), CONFINE_READ);
}

int user_confine(bool unix_sockets, struct err *e)
{
	struct confine_state state;
	struct confine *c;
	int rc;

	rc = confine_create(&c, true, e);
	if (rc)
		return rc;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	confine_runtime(c);
	confine_memory(c, false);
	confine_calls(c, plain_calls, ARRAY_SIZE(plain_calls));
	allow_sockets(c, unix_sockets);
	allow_files(c);
	rc = confine_enter(c, false, &state, e);
	confine_free(c);
	return rc;
}
