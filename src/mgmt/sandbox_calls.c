// SPDX-License-Identifier: Apache-2.0
/*
 * The system calls of a VM's process once everything is open, by what needs them.  What is here
 * is what the tests were seen to need; strace -f -c beside a VM shows more when something new is
 * stopped.
 */
#include "mgmt/sandbox_priv.h"

#include <asm/termbits.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/kvm.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#define THREAD_FLAGS	(CLONE_VM | CLONE_THREAD | CLONE_SIGHAND | CLONE_FS | CLONE_FILES)
#define NAMESPACE_FLAGS	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | \
			 CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)
#define KVM_TYPE	(KVMIO << _IOC_TYPESHIFT)
#define TYPE_MASK	(((1U << _IOC_TYPEBITS) - 1) << _IOC_TYPESHIFT)

/* Descriptors that are open, sockets among them, which are accepted but not connected. */
static const int on_descriptors[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64),
	SCMP_SYS(pwrite64), SCMP_SYS(preadv), SCMP_SYS(pwritev), SCMP_SYS(preadv2),
	SCMP_SYS(pwritev2), SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(close_range), SCMP_SYS(dup),
	SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(fstat), SCMP_SYS(fstatfs), SCMP_SYS(flock),
	SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(fallocate), SCMP_SYS(ftruncate),
	SCMP_SYS(fadvise64), SCMP_SYS(sync_file_range), SCMP_SYS(sendfile),
	SCMP_SYS(copy_file_range), SCMP_SYS(pipe2), SCMP_SYS(memfd_create),
	SCMP_SYS(recvfrom), SCMP_SYS(sendto), SCMP_SYS(recvmsg), SCMP_SYS(sendmsg),
	SCMP_SYS(recvmmsg), SCMP_SYS(sendmmsg), SCMP_SYS(accept), SCMP_SYS(accept4),
	SCMP_SYS(shutdown), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(getsockname),
	SCMP_SYS(getpeername),
	/* fstat() of newer C libraries; only of descriptors unless files are needed. */
	SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(stat), SCMP_SYS(lstat),
};

static const int waiting[] = {
	SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_create1), SCMP_SYS(eventfd2), SCMP_SYS(timerfd_create),
	SCMP_SYS(timerfd_settime), SCMP_SYS(timerfd_gettime), SCMP_SYS(nanosleep),
	SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_getres), SCMP_SYS(select), SCMP_SYS(pselect6),
	SCMP_SYS(wait4),
};

static const int on_threads[] = {
	SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(membarrier),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_setaffinity), SCMP_SYS(getrusage),
	SCMP_SYS(getcpu), SCMP_SYS(sched_getparam), SCMP_SYS(sched_getscheduler),
	SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
	SCMP_SYS(getrlimit), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getpgrp),
	SCMP_SYS(set_tid_address),
};

/* Names in the file system; Landlock says which. */
static const int on_names[] = {
	SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
	SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(getdents64),
	SCMP_SYS(statfs), SCMP_SYS(getcwd), SCMP_SYS(rename), SCMP_SYS(renameat),
	SCMP_SYS(renameat2), SCMP_SYS(mkdir), SCMP_SYS(mkdirat), SCMP_SYS(fchmod),
};

/* The rest of what a shared directory's client may ask for. */
static const int on_shares[] = {
	SCMP_SYS(linkat), SCMP_SYS(symlinkat), SCMP_SYS(mknodat), SCMP_SYS(fchmodat),
	SCMP_SYS(chmod), SCMP_SYS(fchown), SCMP_SYS(fchownat), SCMP_SYS(truncate),
	SCMP_SYS(utimensat), SCMP_SYS(getxattr), SCMP_SYS(lgetxattr), SCMP_SYS(fgetxattr),
	SCMP_SYS(setxattr), SCMP_SYS(lsetxattr), SCMP_SYS(fsetxattr), SCMP_SYS(listxattr),
	SCMP_SYS(llistxattr), SCMP_SYS(flistxattr), SCMP_SYS(removexattr),
	SCMP_SYS(lremovexattr), SCMP_SYS(fremovexattr), SCMP_SYS(setfsuid), SCMP_SYS(setfsgid),
	SCMP_SYS(umask),
};

static const unsigned int ioctls[] = {
	TCGETS, TCSETS, TCSETSW, TCSETSF, TCSBRK, TCFLSH, TIOCGWINSZ, TIOCMGET, TIOCMSET,
	TIOCMBIS, TIOCMBIC, TIOCSBRK, TIOCCBRK, TIOCEXCL, TIOCNXCL, TIOCGPGRP, TIOCOUTQ, FIONREAD,
	FIONBIO, TCGETS2, TCSETS2, TCSETSW2, TCSETSF2, BLKGETSIZE64, BLKSSZGET,
	/* The owner of cells (cpu/cell.h). */
	SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND,
};

/* Not those that send signals to other processes (F_SETOWN and its kin). */
static const unsigned int fcntls[] = {
	F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK, F_SETLK, F_SETLKW,
	F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW, F_ADD_SEALS, F_GET_SEALS, F_GETPIPE_SZ,
	F_SETPIPE_SZ,
};

static const unsigned int prctls[] = {
	PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_GET_DUMPABLE,
};

/* Argument @arg is one of @values. */
static void allow_values(struct confine *c, int call, unsigned int arg, const unsigned int *values,
			 size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct scmp_arg_cmp is = SCMP_CMP(arg, SCMP_CMP_EQ, values[i], 0);

		confine_call_if(c, call, &is, 1);
	}
}

static void allow_threads(struct confine *c)
{
	const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ,
						   THREAD_FLAGS | NAMESPACE_FLAGS, THREAD_FLAGS);
	const struct scmp_arg_cmp exists = SCMP_A1(SCMP_CMP_EQ, 0, 0);
	const struct scmp_arg_cmp own = SCMP_A0(SCMP_CMP_EQ, 0, 0);

	confine_calls(c, on_threads, ARRAY_SIZE(on_threads));
	/* Its flags are in memory, where a filter does not see them; the C library then uses clone. */
	confine_call_fails(c, SCMP_SYS(clone3), ENOSYS);
	confine_call_if(c, SCMP_SYS(clone), &thread, 1);
	confine_call_if(c, SCMP_SYS(kill), &exists, 1);
	confine_call_if(c, SCMP_SYS(prlimit64), &own, 1);
}

static void allow_sockets(struct confine *c)
{
	const struct scmp_arg_cmp local = SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0);
	static const int connect = SCMP_SYS(connect);

	confine_call_if(c, SCMP_SYS(socket), &local, 1);
	confine_calls(c, &connect, 1);
}

/* Of rings that are there: none is made or changed, and nobody registers a ring's descriptor. */
static void allow_rings(struct confine *c)
{
	const struct scmp_arg_cmp plain =
		SCMP_A3(SCMP_CMP_MASKED_EQ, 0xffffffff & ~IORING_ENTER_GETEVENTS, 0);

	confine_call_if(c, SCMP_SYS(io_uring_enter), &plain, 1);
}

static void allow_removal(struct confine *c)
{
	static const int calls[] = { SCMP_SYS(unlink), SCMP_SYS(unlinkat) };

	confine_calls(c, calls, ARRAY_SIZE(calls));
}

static void refuse_names(struct confine *c)
{
	/* The C library looks at files now and then, and lives without. */
	static const int calls[] = {
		SCMP_SYS(openat), SCMP_SYS(open), SCMP_SYS(access), SCMP_SYS(readlink),
		SCMP_SYS(readlinkat), SCMP_SYS(statfs), SCMP_SYS(getcwd),
	};

	for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
		confine_call_fails(c, calls[i], EACCES);
}

void sandbox_allow_calls(struct confine *c, const struct sandbox_needs *n)
{
	const struct scmp_arg_cmp kvm = SCMP_A1(SCMP_CMP_MASKED_EQ, TYPE_MASK, KVM_TYPE);

	confine_runtime(c);
	confine_memory(c, true);
	confine_calls(c, on_descriptors, ARRAY_SIZE(on_descriptors));
	confine_calls(c, waiting, ARRAY_SIZE(waiting));
	allow_values(c, SCMP_SYS(ioctl), 1, ioctls, ARRAY_SIZE(ioctls));
	allow_values(c, SCMP_SYS(fcntl), 1, fcntls, ARRAY_SIZE(fcntls));
	allow_values(c, SCMP_SYS(prctl), 0, prctls, ARRAY_SIZE(prctls));
	allow_threads(c);
	if (n->kvm)
		confine_call_if(c, SCMP_SYS(ioctl), &kvm, 1);
	if (n->shares)
		confine_calls(c, on_shares, ARRAY_SIZE(on_shares));
	if (n->sockets)
		allow_sockets(c);
	if (n->rings)
		allow_rings(c);
	if (n->removal || n->names || n->shares)
		allow_removal(c);
	if (n->names || n->shares)
		confine_calls(c, on_names, ARRAY_SIZE(on_names));
	else
		refuse_names(c);
	/* The workers of a shared directory try it when they start, and go on without. */
	if (n->shares)
		confine_call_fails(c, SCMP_SYS(unshare), EPERM);
}
