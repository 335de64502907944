// SPDX-License-Identifier: Apache-2.0
/*
 * Making a cell: the process, its two threads, their filters, the gate's code.
 *
 * The process is a child that shares nothing with us but the gate's memory, the guest's RAM and
 * three pipes; it goes on in the gate, and then its owner has the mapper take everything else from
 * its address space, this code too.
 */
#include "cpu/cell_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEBUG_TRAP	1
#define PAGE_FAULT	14
#define RSEQ_BYTES	32	/* as libc registers it */

/* --- the gate's code --- */

extern const uint8_t cell_gate_code[], cell_gate_end[];
extern const uint8_t cell_gate_runner[], cell_gate_mapper[];
/* Behind the system calls of the runner. */
extern const uint8_t cell_gate_waits[], cell_gate_returns[], cell_gate_exits[];

#define TEXT2(x) #x
#define TEXT(x) TEXT2(x)

/* Its place is fixed, but not where it is linked. */
__asm__(
	"	.pushsection .rodata\n"
	"	.globl cell_gate_code, cell_gate_end, cell_gate_runner, cell_gate_mapper\n"
	"	.globl cell_gate_waits, cell_gate_returns, cell_gate_exits\n"
	/* The handler of all signals: rdi = signal, rdx = ucontext_t *, on a stack of its own. */
	"cell_gate_code:\n"
	"	movabs $" TEXT(CELL_GATE) " + 5 * 4096, %rbx\n"
	"	mov %rdx, 0(%rbx)\n"
	"	rdfsbase %rax\n"
	"	mov %rax, 8(%rbx)\n"
	"	rdgsbase %rax\n"
	"	mov %rax, 16(%rbx)\n"
	"	mov %rdi, 24(%rbx)\n"
	"	xor %eax, %eax\n"		/* read(), of which the owner is notified */
	"	syscall\n"
	"cell_gate_waits:\n"
	"	cmp $1, %rax\n"
	"	jne 9f\n"
	"	mov 8(%rbx), %rax\n"
	"	wrfsbase %rax\n"
	"	mov 16(%rbx), %rax\n"
	"	wrgsbase %rax\n"
	"	mov 0(%rbx), %rsp\n"
	"	mov $15, %eax\n"		/* rt_sigreturn() */
	"	syscall\n"
	"cell_gate_returns:\n"
	"9:	mov $231, %eax\n"		/* exit_group(0) */
	"	xor %edi, %edi\n"
	"	syscall\n"
	"cell_gate_exits:\n"
	"	hlt\n"
	/* The runner begins: r12 = its filter, r13 = its signals' stack. */
	"cell_gate_runner:\n"
	"	movabs $" TEXT(CELL_GATE) " + 5 * 4096, %rbx\n"
	"	mov $131, %eax\n"		/* sigaltstack(r13, NULL) */
	"	mov %r13, %rdi\n"
	"	xor %esi, %esi\n"
	"	syscall\n"
	"	test %eax, %eax\n"
	"	jne 9b\n"
	"	mov $317, %eax\n"		/* seccomp(SECCOMP_SET_MODE_FILTER, ..., r12) */
	"	mov $1, %edi\n"
	"	mov $12, %esi\n"		/* SPEC_ALLOW, NEW_LISTENER */
	"	mov %r12, %rdx\n"
	"	syscall\n"
	"	add $4096, %rax\n"
	"	mov %rax, 96(%rbx)\n"
	"	ud2\n"
	"cell_gate_mapper:\n"
	"	movabs $" TEXT(CELL_GATE) " + 5 * 4096, %r14\n"
	"	movabs $" TEXT(CELL_GATE) " + 4096, %rbx\n"
	"1:	xor %eax, %eax\n"		/* read(CELL_FROM_OWNER, bytes, 64) */
	"	mov $" TEXT(CELL_FROM_OWNER) ", %edi\n"
	"	lea 32(%r14), %rsi\n"
	"	mov $64, %edx\n"
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jle 9b\n"
	"	mov %eax, %r15d\n"
	"	test $1, %r15b\n"
	"	jz 3f\n"
	"	mov 0(%rbx), %r13\n"
	"	lea 56(%rbx), %rbp\n"
	"2:	mov 0(%rbp), %rax\n"
	"	mov 8(%rbp), %rdi\n"
	"	mov 16(%rbp), %rsi\n"
	"	mov 24(%rbp), %rdx\n"
	"	mov 32(%rbp), %r10\n"
	"	mov 40(%rbp), %r8\n"
	"	mov 48(%rbp), %r9\n"
	"	syscall\n"
	"	cmp $-4095, %rax\n"
	"	jae 4f\n"
	"	add $56, %rbp\n"
	"	dec %r13\n"
	"	jnz 2b\n"
	"3:	cmp $2, %r15d\n"
	"	jb 1b\n"
	"	mov $234, %eax\n"		/* tgkill(pid, runner, SIGUSR1) */
	"	mov 8(%rbx), %rdi\n"
	"	mov 16(%rbx), %rsi\n"
	"	mov $10, %edx\n"
	"	syscall\n"
	"	jmp 1b\n"
	"4:	mov $1, %eax\n"			/* a call failed: two bytes */
	"	mov $" TEXT(CELL_TO_OWNER) ", %edi\n"
	"	lea 32(%r14), %rsi\n"
	"	mov $2, %edx\n"
	"	syscall\n"
	"	jmp 1b\n"
	"cell_gate_end:\n"
	"	.popsection\n");

_Static_assert(CELL_STATE == CELL_GATE + 5 * 4096 && CELL_CALLS == CELL_GATE + 4096 &&
	       offsetof(struct cell_state, fs_base) == 8 && offsetof(struct cell_state, signal) == 24 &&
	       offsetof(struct cell_state, bytes) == 32 && offsetof(struct cell_state, listener) == 96 &&
	       sizeof(struct cell_call) == 56 && offsetof(struct cell_calls, call) == 56 &&
	       offsetof(struct cell_calls, pid) == 8 && offsetof(struct cell_calls, runner) == 16 &&
	       SIGUSR1 == 10 && SYS_tgkill == 234 && SYS_seccomp == 317 && SYS_exit_group == 231 &&
	       SYS_sigaltstack == 131 && SYS_read == 0 &&
	       (SECCOMP_FILTER_FLAG_SPEC_ALLOW | SECCOMP_FILTER_FLAG_NEW_LISTENER) == 12,
	       "the gate's code has these as numbers");

static uint64_t gate_address(const uint8_t *place)
{
	return CELL_CODE + (place - cell_gate_code);
}

/* --- the filters --- */

#define AT(field)	offsetof(struct seccomp_data, field)
#define LOAD(field)	BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(field))
#define LOAD_HIGH(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, AT(field) + 4)
#define UNLESS(k, skip)	BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(k), 0, skip)
#define RETURN(what)	BPF_STMT(BPF_RET | BPF_K, what)

#define ADDRESS_HIGH	(CELL_GATE >> 32)

/* At @ip, which the accumulator has the lower half of: the call @nr_. */
#define AT_PLACE(ip, nr_, result) \
	UNLESS(ip, 4), LOAD(nr), UNLESS(nr_, 1), RETURN(result), RETURN(SECCOMP_RET_TRAP)

/* The runner: a call that is not the gate's is the guest's. */
static int fill_runner_filter(struct sock_filter *to)
{
	const struct sock_filter code[] = {
		LOAD(arch), UNLESS(AUDIT_ARCH_X86_64, 2),
		LOAD_HIGH(instruction_pointer),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ADDRESS_HIGH, 1, 0),
		RETURN(SECCOMP_RET_TRAP),
		LOAD(instruction_pointer),
		AT_PLACE(gate_address(cell_gate_waits), SYS_read, SECCOMP_RET_USER_NOTIF),
		AT_PLACE(gate_address(cell_gate_returns), SYS_rt_sigreturn, SECCOMP_RET_ALLOW),
		AT_PLACE(gate_address(cell_gate_exits), SYS_exit_group, SECCOMP_RET_ALLOW),
		RETURN(SECCOMP_RET_TRAP),
	};

	__builtin_memcpy(to, code, sizeof(code));
	return ARRAY_SIZE(code);
}

#define ALLOW(nr_) UNLESS(nr_, 1), RETURN(SECCOMP_RET_ALLOW)

/* The mapper: what its owner asks for has no other form. */
static const struct sock_filter mapper_filter[] = {
	LOAD(arch), UNLESS(AUDIT_ARCH_X86_64, 17), LOAD(nr),
	ALLOW(SYS_read), ALLOW(SYS_write), ALLOW(SYS_mmap), ALLOW(SYS_munmap), ALLOW(SYS_tgkill),
	ALLOW(SYS_exit_group),
	UNLESS(SYS_ioctl, 3), LOAD(args[1]), UNLESS(SECCOMP_IOCTL_NOTIF_SEND, 1), RETURN(SECCOMP_RET_ALLOW),
	RETURN(SECCOMP_RET_KILL_PROCESS),
};

/* --- the child --- */

/* Descriptors get the numbers that the filters know, and no other stays open. */
static int arrange_descriptors(const struct cell *c, const int theirs[3])
{
	const unsigned int high = 512;
	int from[CELL_RAM + RAM_EXTENTS_MAX] = {
		[CELL_TO_OWNER] = theirs[0], [CELL_FROM_OWNER] = theirs[1], [CELL_SOCKET] = theirs[2],
		[CELL_LISTENER] = c->fd, [CELL_OWN] = c->fd,
	};
	unsigned int count = CELL_RAM + c->ram_count;

	for (unsigned int i = 0; i < c->ram_count; i++)
		from[CELL_RAM + i] = c->space->ram[i].fd;
	for (unsigned int i = CELL_TO_OWNER; i < count; i++)
		if (dup3(from[i], high + i, O_CLOEXEC) < 0)
			return -1;
	if (close_range(0, high - 1, 0))
		return -1;
	for (unsigned int i = CELL_TO_OWNER; i < count; i++)
		if (dup2(high + i, i) < 0)
			return -1;
	return close_range(high, ~0U, 0);
}

static bool map_part(uint64_t address, uint64_t bytes, int prot)
{
	return mmap((void *)address, bytes, prot, MAP_SHARED | MAP_FIXED, CELL_OWN,
		    address - CELL_GATE) == (void *)address;
}

static bool map_gate(void)
{
	return map_part(CELL_CODE, 4096, PROT_READ | PROT_EXEC) &&
	       map_part(CELL_CALLS, CELL_CALLS_SIZE, PROT_READ) &&
	       map_part(CELL_STATE, 4096 + CELL_STACK_SIZE, PROT_READ | PROT_WRITE);
}

/* As the kernel takes it, without libc's way back. */
struct kernel_sigaction {
	uint64_t handler, flags, restorer, mask;
};

static bool catch_signals(void)
{
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS, SIGUSR1 };
	const struct kernel_sigaction action = {
		.handler = CELL_CODE, .flags = SA_SIGINFO | SA_ONSTACK | 0x04000000, /* SA_RESTORER */
		.restorer = CELL_CODE, .mask = ~0ULL,
	};
	uint64_t blocked = ~0ULL;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		blocked &= ~BIT(signals[i] - 1);
		if (syscall(SYS_rt_sigaction, signals[i], &action, NULL, 8))
			return false;
	}
	return !syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8);
}

/* The kernel would write to places that are going to be the guest's. */
static bool forget_libc(void)
{
	if (__rseq_size && syscall(SYS_rseq, (char *)__builtin_thread_pointer() + __rseq_offset, RSEQ_BYTES,
				   RSEQ_FLAG_UNREGISTER, RSEQ_SIG))
		return false;
	syscall(SYS_set_robust_list, NULL, 24);
	syscall(SYS_set_tid_address, NULL);
	return true;
}

/* Begins in the gate, and needs no stack but for signals; its number, or negative. */
static int64_t start_runner(const struct sock_fprog *filter, const stack_t *stack)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
	register const struct sock_fprog *r12 asm("r12") = filter;
	register const stack_t *r13 asm("r13") = stack;
	register uint64_t r10 asm("r10") = 0, r8 asm("r8") = 0;
	int64_t rc;

	asm volatile("syscall\n\t"
		     "test %%rax, %%rax\n\t"
		     "jnz 1f\n\t"
		     "jmp *%[start]\n"
		     "1:"
		     : "=a" (rc)
		     : "a" (SYS_clone), "D" (flags), "S" (CELL_STACK + CELL_STACK_SIZE), "d" (0),
		       "r" (r10), "r" (r8), "r" (r12), "r" (r13),
		       [start] "r" (gate_address(cell_gate_runner))
		     : "rcx", "r11", "memory");
	return rc;
}

/* What tells of the runner's calls, which the runner has made by now, to the owner. */
static bool send_listener(int fd)
{
	uint8_t byte = 0, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8))) = { 0 };
	struct iovec data = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	__builtin_memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	return dup2(fd, CELL_LISTENER) == CELL_LISTENER && sendmsg(CELL_SOCKET, &m, 0) == 1 &&
	       !close(CELL_SOCKET) && !close(fd);
}

/* The runner is in the gate for good; we become the mapper. */
static bool become_mapper(void)
{
	const struct sock_fprog program = { ARRAY_SIZE(mapper_filter), (struct sock_filter *)mapper_filter };
	volatile struct cell_state *state = (struct cell_state *)CELL_STATE;

	while (!state->listener)
		sched_yield();
	return state->listener >= 4096 && send_listener(state->listener - 4096) &&
	       !syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_SPEC_ALLOW, &program);
}

/* What we may do besides because of who we are; and who has none may be placed by an owner without. */
static bool drop_capabilities(void)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	return !syscall(SYS_capset, &header, none);
}

static void child(const struct cell *c, const int theirs[3])
{
	const stack_t stack = {
		.ss_sp = (void *)CELL_STACK, .ss_size = CELL_STACK_SIZE, .ss_flags = 1U << 31, /* SS_AUTODISARM */
	};
	const struct rlimit none = { 0, 0 };
	struct sock_filter code[32];
	const struct sock_fprog filter = { fill_runner_filter(code), code };

	prctl(PR_SET_NAME, "vireo-cell");
	setrlimit(RLIMIT_CORE, &none);
	if (arrange_descriptors(c, theirs) || !map_gate() || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    !drop_capabilities() || !forget_libc() || !catch_signals())
		_exit(1);
	((struct cell_state *)CELL_STATE)->bytes[1] = start_runner(&filter, &stack);
	if (!become_mapper())
		syscall(SYS_exit_group, 1);
	asm volatile("jmp *%0" : : "r" (gate_address(cell_gate_mapper)));
	__builtin_unreachable();
}

int cell_start(struct cell *c, const int theirs[3])
{
	sigset_t all, old;

	for (const uint8_t *p = cell_gate_code; p < cell_gate_end; p++)
		c->gate->code[p - cell_gate_code] = *p;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	/* No signal when it ends: nobody but us knows of it. */
	c->pid = syscall(SYS_clone, 0, NULL, NULL, NULL, 0);
	if (!c->pid)
		child(c, theirs);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return c->pid < 0 ? -errno : 0;
}

void cell_stop_now(const struct cell *c)
{
	if (c->pid > 0)
		kill(c->pid, SIGKILL);
}

bool cell_reap(struct cell *c)
{
	int status = 0;

	if (c->pid <= 0)
		return false;
	while (waitpid(c->pid, &status, __WALL) < 0 && errno == EINTR)
		;
	c->pid = 0;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

enum cell_stop cell_stop_of(uint64_t signal, uint64_t trap)
{
	switch (signal) {
	case SIGUSR1:
		return CELL_KICKED;
	case SIGSYS:
		return CELL_CALL;
	case SIGTRAP:
		return trap == DEBUG_TRAP ? CELL_STEPPED : CELL_BREAK;
	case SIGSEGV:
	case SIGBUS:
		return trap == PAGE_FAULT ? CELL_FAULT : CELL_OTHER;
	default:
		return CELL_OTHER;
	}
}
