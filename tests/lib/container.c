// SPDX-License-Identifier: Apache-2.0
/*
 * Runs a program as a container's default confinement would: container PROGRAM [ARGS...], or
 * container --verify, which tries what must not work.  container --old PROGRAM... knows no
 * Landlock either, as containers of before 2022.
 *
 * What Docker's default profile comes to on x86-64: what is on no list is refused with EPERM,
 * system calls that are newer than the list too, clone3 with ENOSYS, so that the C library
 * uses clone; clone and personality only with harmless arguments.  Besides: no new
 * privileges, and run by root, no capabilities but Docker's in the bounding set and an
 * ordinary user.  Not modelled: namespaces, control groups, masked paths; 32-bit system calls
 * are all refused.
 */
#include <errno.h>
#include <grp.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NOBODY		65534
#define NEWEST		450	/* the last system call that the list knows */
#define NAMESPACES	0x7e020000U	/* CLONE_NEW* */
#define AF_OF_VMS	40		/* AF_VSOCK */
#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))

static const unsigned short refused[] = {
	SYS_syslog, SYS_uselib, SYS_ustat, SYS_sysfs, SYS_vhangup, SYS_pivot_root, SYS__sysctl,
	SYS_chroot, SYS_acct, SYS_settimeofday, SYS_mount, SYS_umount2, SYS_swapon, SYS_swapoff,
	SYS_reboot, SYS_sethostname, SYS_setdomainname, SYS_iopl, SYS_ioperm, SYS_create_module,
	SYS_init_module, SYS_delete_module, SYS_get_kernel_syms, SYS_query_module, SYS_quotactl,
	SYS_nfsservctl, SYS_getpmsg, SYS_putpmsg, SYS_afs_syscall, SYS_tuxcall, SYS_security,
	SYS_lookup_dcookie, SYS_clock_settime, SYS_vserver, SYS_mbind, SYS_set_mempolicy,
	SYS_get_mempolicy, SYS_kexec_load, SYS_add_key, SYS_request_key, SYS_keyctl,
	SYS_migrate_pages, SYS_unshare, SYS_move_pages, SYS_perf_event_open, SYS_fanotify_init,
	SYS_open_by_handle_at, SYS_setns, SYS_kcmp, SYS_finit_module, SYS_kexec_file_load,
	SYS_bpf, SYS_userfaultfd, SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register,
	SYS_open_tree, SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick,
	SYS_pidfd_getfd, SYS_process_madvise, SYS_mount_setattr, SYS_quotactl_fd,
	SYS_set_mempolicy_home_node,
};
static const unsigned int personalities[] = { 0, 8, 0x20000, 0x20008, 0xffffffff };
static const unsigned char capabilities[] = { 0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31 };

/* --- the filter --- */

struct filter { struct sock_filter i[256]; unsigned short n; };

static void add(struct filter *f, struct sock_filter i)
{
	f->i[f->n++] = i;
}

static void load(struct filter *f, size_t offset)
{
	add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

static void answer(struct filter *f, unsigned int error)
{
	add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, error ? SECCOMP_RET_ERRNO | error
								  : SECCOMP_RET_ALLOW));
}

/* The answer if the accumulator compares so with @k; else on. */
static void answer_if(struct filter *f, unsigned int how, unsigned int k, unsigned int error)
{
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | how | BPF_K, k, 0, 1));
	answer(f, error);
}

/* What follows, @count instructions, is for @call only. */
static void for_call(struct filter *f, unsigned int call, unsigned int count)
{
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, count));
}

static void build(struct filter *f, int old)
{
	const size_t arg0 = offsetof(struct seccomp_data, args[0]);

	load(f, offsetof(struct seccomp_data, arch));
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
	answer(f, EPERM);
	load(f, offsetof(struct seccomp_data, nr));
	answer_if(f, BPF_JGT, NEWEST, EPERM);
	answer_if(f, BPF_JEQ, SYS_clone3, ENOSYS);
	for (size_t k = 0; k < ARRAY_SIZE(refused); k++)
		answer_if(f, BPF_JEQ, refused[k], EPERM);
	for (unsigned int k = 444; old && k <= 446; k++)	/* landlock_* */
		answer_if(f, BPF_JEQ, k, EPERM);
	for_call(f, SYS_clone, 4);
	load(f, arg0);
	answer_if(f, BPF_JSET, NAMESPACES, EPERM);
	answer(f, 0);
	for_call(f, SYS_socket, 4);
	load(f, arg0);
	answer_if(f, BPF_JEQ, AF_OF_VMS, EPERM);
	answer(f, 0);
	for_call(f, SYS_personality, 2 * ARRAY_SIZE(personalities) + 2);
	load(f, arg0);
	for (size_t k = 0; k < ARRAY_SIZE(personalities); k++)
		answer_if(f, BPF_JEQ, personalities[k], 0);
	answer(f, EPERM);
	answer(f, 0);
}

/* --- the rest --- */

static int become_ordinary(void)
{
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if (!memchr(capabilities, cap, sizeof(capabilities)) &&
		    prctl(PR_CAPBSET_DROP, cap))
			return -1;
	return setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY) ? -1 : 0;
}

static int confine(int old)
{
	struct filter f = { .n = 0 };
	struct sock_fprog program = { .filter = f.i };

	build(&f, old);
	program.len = f.n;
	if (!geteuid() && become_ordinary())
		return -1;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static int refuses(const char *name, long result, int error)
{
	if (result == -1 && errno == error)
		return 0;
	printf("%s: not refused with '%s'\n", name, strerror(error));
	return 1;
}

static int verify(void)
{
	int bad = 0;

	bad |= refuses("unshare", syscall(SYS_unshare, 0x10000000), EPERM);
	bad |= refuses("clone", syscall(SYS_clone, 0x10000011, 0, 0, 0, 0), EPERM);
	bad |= refuses("clone3", syscall(SYS_clone3, NULL, 0), ENOSYS);
	bad |= refuses("keyctl", syscall(SYS_keyctl, 0, 0), EPERM);
	bad |= refuses("perf_event_open", syscall(SYS_perf_event_open, NULL, 0, 0, 0, 0), EPERM);
	bad |= refuses("io_uring_setup", syscall(SYS_io_uring_setup, 1, NULL), EPERM);
	bad |= refuses("userfaultfd", syscall(SYS_userfaultfd, 1), EPERM);
	bad |= refuses("mount", syscall(SYS_mount, "a", "/", "tmpfs", 0, NULL), EPERM);
	bad |= refuses("personality", syscall(SYS_personality, 0x40000), EPERM);
	bad |= refuses("a newer system call", syscall(NEWEST + 1), EPERM);
	bad |= refuses("setuid", syscall(SYS_setuid, 0), EPERM);
	return bad;
}

int main(int argc, char **argv)
{
	const int old = argc > 1 && !strcmp(argv[1], "--old");

	argc -= old;
	argv += old;
	if (argc < 2)
		return 2;
	if (confine(old)) {
		perror("container");
		return 77;
	}
	if (!strcmp(argv[1], "--verify"))
		return verify();
	execv(argv[1], argv + 1);
	perror(argv[1]);
	return 127;
}
