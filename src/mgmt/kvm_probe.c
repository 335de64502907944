// SPDX-License-Identifier: Apache-2.0
/*
 * A look behind /dev/kvm.  It may open and still be useless: on nested hosts without
 * hardware support every guest instruction may be emulated, or nothing may run at all.
 * So a tiny real-mode guest counts down a register in a child process that a limit ends; the
 * child answers through a pipe.  What is timed is the thread's time on a processor, a guest's
 * included, so that a busy host does not look like one that emulates.
 *
 * Source: Linux's Documentation/virt/kvm/api.rst.
 */
#include "mgmt/kvm_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define TURNS		20000U
#define LIMIT_MS	1000
/* A processor takes well under 5 ns a turn; an emulating KVM takes microseconds. */
#define SLOW_PS		50000
#define GUEST_CODE	0x1000

/* mov ecx, TURNS; again: dec ecx; jnz again; hlt -- in real mode */
static const uint8_t guest_code[] = {
	0x66, 0xb9, TURNS & 0xff, TURNS >> 8 & 0xff, TURNS >> 16 & 0xff, TURNS >> 24,
	0x66, 0x49,
	0x75, 0xfc,
	0xf4,
};

static void fail(struct kvm_probe *p, const char *step)
{
	p->state = KVM_BROKEN;
	p->error = errno;
	p->step = step;
}

static uint64_t spent_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static bool set_registers(const struct kvm_sys *sys, int vcpu)
{
	struct kvm_regs regs = { .rip = GUEST_CODE, .rflags = 2 };
	struct kvm_sregs sregs;

	if (sys->ioctl(vcpu, KVM_GET_SREGS, (uintptr_t)&sregs))
		return false;
	sregs.cs.base = 0;
	sregs.cs.selector = 0;
	return !sys->ioctl(vcpu, KVM_SET_SREGS, (uintptr_t)&sregs) &&
	       !sys->ioctl(vcpu, KVM_SET_REGS, (uintptr_t)&regs);
}

static void time_guest(struct kvm_probe *p, const struct kvm_sys *sys, int vcpu,
		       const struct kvm_run *run)
{
	const uint64_t start = spent_ns();

	if (sys->ioctl(vcpu, KVM_RUN, 0)) {
		fail(p, "KVM_RUN");
		return;
	}
	p->turn_ps = (spent_ns() - start) * 1000 / TURNS;
	errno = EIO;
	if (run->exit_reason != KVM_EXIT_HLT)
		fail(p, "the guest's code");
	else
		p->state = p->turn_ps > SLOW_PS ? KVM_SLOW : KVM_WORKS;
}

static void run_guest(struct kvm_probe *p, const struct kvm_sys *sys, int kvm)
{
	struct kvm_userspace_memory_region ram = { .memory_size = 2 * GUEST_CODE };
	struct kvm_run *run;
	int vm, vcpu, size;
	uint8_t *mem;

	vm = sys->ioctl(kvm, KVM_CREATE_VM, 0);
	if (vm < 0)
		return fail(p, "KVM_CREATE_VM");
	mem = mmap(NULL, ram.memory_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		   -1, 0);
	if (mem == MAP_FAILED)
		return fail(p, "mmap");
	memcpy(mem + GUEST_CODE, guest_code, sizeof(guest_code));
	ram.userspace_addr = (uintptr_t)mem;
	if (sys->ioctl(vm, KVM_SET_USER_MEMORY_REGION, (uintptr_t)&ram))
		return fail(p, "KVM_SET_USER_MEMORY_REGION");
	vcpu = sys->ioctl(vm, KVM_CREATE_VCPU, 0);
	if (vcpu < 0)
		return fail(p, "KVM_CREATE_VCPU");
	size = sys->ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	run = size < 0 ? MAP_FAILED : sys->map(vcpu, size, 0);
	if (run == MAP_FAILED)
		return fail(p, "KVM_GET_VCPU_MMAP_SIZE");
	if (!set_registers(sys, vcpu))
		return fail(p, "KVM_SET_SREGS");
	time_guest(p, sys, vcpu, run);
}

/* The child's answer; p->step is a string of the same program, so a pointer will do. */
static bool wait_answer(struct kvm_probe *p, int fd)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };

	return poll(&poll_fd, 1, LIMIT_MS) > 0 && read(fd, p, sizeof(*p)) == sizeof(*p);
}

static void probe_in_child(struct kvm_probe *p, const struct kvm_sys *sys, int kvm)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return fail(p, "pipe");
	pid = fork();
	if (pid < 0) {
		fail(p, "fork");
	} else if (pid == 0) {
		run_guest(p, sys, kvm);
		_exit(write(fds[1], p, sizeof(*p)) != sizeof(*p));
	}
	close(fds[1]);
	if (pid > 0 && !wait_answer(p, fds[0])) {
		errno = ETIME;
		fail(p, "KVM_RUN");
	}
	close(fds[0]);
	if (pid > 0) {
		kill(pid, SIGKILL);
		while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
}

void kvm_probe_by(struct kvm_probe *p, const struct kvm_sys *sys)
{
	int kvm;

	memset(p, 0, sizeof(*p));
	kvm = sys->open("/dev/kvm");
	if (kvm < 0) {
		p->error = errno;
		p->state = errno == EACCES || errno == EPERM ? KVM_DENIED : KVM_ABSENT;
		if (errno != ENOENT && p->state == KVM_ABSENT)
			p->state = KVM_BROKEN;
		p->step = "open";
		return;
	}
	errno = EPROTO;
	if (sys->ioctl(kvm, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
		fail(p, "KVM_GET_API_VERSION");
	else
		probe_in_child(p, sys, kvm);
	sys->close(kvm);
}

void kvm_probe(struct kvm_probe *p)
{
	kvm_probe_by(p, &kvm_sys_linux);
}
