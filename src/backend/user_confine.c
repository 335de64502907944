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

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* --- files --- */

static void allow_reading(int ruleset, const char *dir)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE,
		.parent_fd = open(dir, O_PATH | O_CLOEXEC),
	};

	if (rule.parent_fd < 0)
		return;
	syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(rule.parent_fd);
}

/* The file's directories and not the file, which is replaced when the network changes. */
static void confine_files(void)
{
	const struct landlock_ruleset_attr attr = {
		/* All rights of the interface's first version. */
		.handled_access_fs = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1,
	};
	char path[PATH_MAX];
	int ruleset;

	ruleset = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0)
		return;		/* an older kernel: the filter alone must do */
	allow_reading(ruleset, "/etc");
	if (realpath("/etc/resolv.conf", path))
		allow_reading(ruleset, dirname(path));
	syscall(SYS_landlock_restrict_self, ruleset, 0);
	close(ruleset);
}

/* --- system calls --- */

static const int plain_calls[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(close),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(listen), SCMP_SYS(accept), SCMP_SYS(accept4),
	SCMP_SYS(shutdown), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
	SCMP_SYS(setsockopt), SCMP_SYS(getsockopt), SCMP_SYS(ioctl), SCMP_SYS(fcntl),
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(clock_gettime), SCMP_SYS(gettimeofday),
	SCMP_SYS(time), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(stat), SCMP_SYS(lseek),
	SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
	SCMP_SYS(futex), SCMP_SYS(getrandom), SCMP_SYS(getpid), SCMP_SYS(gettid),
	SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),
	SCMP_SYS(restart_syscall), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(tgkill),
#ifdef __SANITIZE_ADDRESS__
	/* Its runtime's, for reports at the end. */
	SCMP_SYS(sigaltstack), SCMP_SYS(readlink), SCMP_SYS(prctl), SCMP_SYS(clone),
	SCMP_SYS(sched_yield), SCMP_SYS(wait4), SCMP_SYS(ptrace), SCMP_SYS(getdents64),
#endif
};

/* The same call with a forbidden argument fails, so that a library may try and go on. */
static int allow_sockets(scmp_filter_ctx f, bool unix_sockets)
{
	const int call = SCMP_SYS(socket);
	int rc;

	rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, AF_INET, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, call, 1, SCMP_A0(SCMP_CMP_EQ, AF_INET6, 0));
	if (!rc)
		rc = seccomp_rule_add(f, unix_sockets ? SCMP_ACT_ALLOW :
				      SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1,
				      SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), call, 1,
				      SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0));
	return rc;
}

static int allow_memory_and_files(scmp_filter_ctx f)
{
	const scmp_datum_t exec = PROT_EXEC;
	int rc;

	rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
			      SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(mprotect), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, exec, 0));
	/* Only to read, and nothing is created. */
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(openat), 1,
				      SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC,
					      O_RDONLY));
	return rc;
}

int user_confine(bool unix_sockets, struct err *e)
{
	scmp_filter_ctx f;
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return err_errno(e, errno, "could not give up new privileges");
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	confine_files();
	f = seccomp_init(SCMP_ACT_KILL_PROCESS);
	if (!f)
		return err_set(e, ENOMEM, "out of memory for the network's seccomp filter");
	rc = allow_sockets(f, unix_sockets);
	if (!rc)
		rc = allow_memory_and_files(f);
	for (size_t i = 0; i < ARRAY_SIZE(plain_calls) && !rc; i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, plain_calls[i], 0);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc ? err_errno(e, -rc, "could not put the network's process under a seccomp filter")
		  : 0;
}
