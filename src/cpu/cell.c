// SPDX-License-Identifier: Apache-2.0
/*
 * The owner's side of a cell; see cell.h.
 *
 * What is in the gate's memory is looked at only while the runner stands still, and believed
 * nowhere: registers are made into some that a program can have (take_registers()).
 *
 * Source: Linux's arch/x86/include/uapi/asm/sigcontext.h, "struct sigcontext" and "_fpstate_64".
 */
#include "cpu/cell_priv.h"

#include "cpu/cpuid.h"
#include "cpu/fpu.h"
#include "cpu/vcpu.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <asm/hwcap2.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PROCESS_CLOCK(pid) ((clockid_t)((~(unsigned int)(pid) << 3) | 2)) /* of the scheduler */
#define CALL_NUMBERS	480	/* of system calls that Linux has by now */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP	/* Linux 6.6 */
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1UL
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#define LOOK_MS	500	/* between two looks at a runner that does not stop, ... */
#define DEFIANCE_NS	1000000000ULL	/* ... which has so much processor time to do it */
#define START_MS	2000	/* so long a cell may take to come up */
#define XSAVE_LEGACY	464	/* bytes of it that are registers: what follows is the kernel's */
#define FP_XSTATE_MAGIC1 0x46505853U
#define XSAVE_HEADER	512
#define XSAVE_PARTS	576	/* where AVX and the others begin */
#define MXCSR_VALID	0xffffU
#define ERROR_WRITE	BIT(1)	/* of a page fault's error code */
#define ERROR_FETCH	BIT(4)
#define FLAGS_TAKEN	(RFLAGS_ARITH | RFLAGS_DF | RFLAGS_TF | RFLAGS_AC)
#define FLAGS_GIVEN	(RFLAGS_ARITH | RFLAGS_DF | RFLAGS_IF | RFLAGS_FIXED)

/* libc's memcpy may use registers that are the guest's. */
static void copy(void *to, const void *from, uint64_t count)
{
	asm volatile("rep movsb" : "+D" (to), "+S" (from), "+c" (count) : : "memory");
}

static uint8_t *in_gate(const struct cell *c, uint64_t address)
{
	return (uint8_t *)c->gate + (address - CELL_GATE);
}

static struct cell_context *context(const struct cell *c)
{
	return (struct cell_context *)in_gate(c, c->context);
}

/* --- telling and hearing --- */

/* By how many bytes there are: CELL_DO, CELL_KICK.  If it has ended, its owner hears that elsewhere. */
static void tell_mapper(struct cell *c, unsigned int count)
{
	static const uint8_t bytes[CELL_DO + CELL_KICK];
	ssize_t n;

	do
		n = write(c->to_mapper, bytes, count);
	while (n < 0 && errno == EINTR);
}

/* The mapper has done its calls. */
static bool mapper_done(struct cell *c)
{
	uint8_t byte[16];
	ssize_t n;

	do
		n = read(c->from_mapper, byte, sizeof(byte));
	while (n < 0 && errno == EINTR);
	if (n < 1)
		c->dead = true;
	else if (n > 1)
		c->refused = true;
	return n == 1;
}

enum heard { HEARD_RUNNER, HEARD_REFUSAL, HEARD_END };

static enum heard take_notice(struct cell *c)
{
	struct seccomp_notif n;

	__builtin_memset(&n, 0, sizeof(n));
	if (ioctl(c->listener, SECCOMP_IOCTL_NOTIF_RECV, &n))
		return HEARD_END;
	c->gate->calls.answer = (struct seccomp_notif_resp){ .id = n.id, .val = 1 };
	return HEARD_RUNNER;
}

static struct cell_call *add_call(struct cell *c, uint64_t number);

static void end(struct cell *c)
{
	c->gate->calls.count = 0;
	add_call(c, SYS_exit_group);
	tell_mapper(c, CELL_DO);
}

/*
 * A program can block signals, and so the one that stops it (by rt_sigreturn() of a frame of its own).
 * Then it is to end; but not one that had no time to stop.
 */
static void look_for_defiance(struct cell *c)
{
	uint64_t ran = cell_ran(c);

	if (!atomic_load(&c->kicked))
		return;
	if (!c->ran_at_kick)
		c->ran_at_kick = ran + 1;
	if (ran - c->ran_at_kick < DEFIANCE_NS || ran < c->ran_at_kick)
		return;
	end(c);
}

/* Waits until the kernel holds the runner; or the mapper could not do its calls; or all has ended. */
static enum heard hear(struct cell *c)
{
	struct pollfd p[2] = {
		{ .fd = c->listener, .events = POLLIN }, { .fd = c->from_mapper, .events = POLLIN },
	};
	uint8_t bytes[16];
	enum heard h;
	int n;

	for (;;) {
		n = poll(p, 2, LOOK_MS);
		if (n == 0)
			look_for_defiance(c);
		if (n <= 0)
			continue;
		if (p[1].revents & POLLIN && read(c->from_mapper, bytes, sizeof(bytes)) > 0) {
			c->refused = true;
			return HEARD_REFUSAL;
		}
		if (p[1].revents || !(p[0].revents & POLLIN)) {
			c->dead = true;
			return HEARD_END;
		}
		h = take_notice(c);
		if (h == HEARD_RUNNER)	/* else a signal has ended its call, and it makes another one */
			return h;
	}
}

/* --- mappings --- */

static bool do_calls(struct cell *c)
{
	struct cell_call *k = add_call(c, SYS_write);
	bool done;

	k->arg[0] = CELL_TO_OWNER;
	k->arg[1] = CELL_STATE;
	k->arg[2] = 1;
	tell_mapper(c, CELL_DO);
	done = mapper_done(c);
	c->gate->calls.count = 0;
	return done;
}

static struct cell_call *add_call(struct cell *c, uint64_t number)
{
	struct cell_calls *k = &c->gate->calls;

	if (k->count >= CELL_CALLS_MAX - 1 && number != SYS_write && number != SYS_ioctl && !do_calls(c))
		k->count = 0;	/* it will not run again */
	k->call[k->count] = (struct cell_call){ .number = number };
	return &k->call[k->count++];
}

void cell_unmap(struct cell *c, gva_t gva, uint64_t bytes)
{
	struct cell_call *k = add_call(c, SYS_munmap);

	k->arg[0] = gva;
	k->arg[1] = bytes;
}

void cell_unmap_all(struct cell *c)
{
	c->gate->calls.count = 0;	/* all that it was asked to is in vain */
	cell_unmap(c, 0, CELL_GATE);
	cell_unmap(c, CELL_GATE + CELL_GATE_SIZE, CELL_TOP - (CELL_GATE + CELL_GATE_SIZE));
}

bool cell_map(struct cell *c, gva_t gva, const uint8_t *hva, uint64_t bytes, int prot)
{
	for (unsigned int i = 0; i < c->ram_count; i++) {
		const struct ram_extent *x = &c->space->ram[i];
		struct cell_call *k;

		if (hva < x->hva || hva >= x->hva + x->size)
			continue;
		k = add_call(c, SYS_mmap);
		k->arg[0] = gva;
		k->arg[1] = bytes;
		k->arg[2] = prot;
		k->arg[3] = MAP_SHARED | MAP_FIXED;
		k->arg[4] = CELL_RAM + i;
		k->arg[5] = hva - x->hva;
		return true;
	}
	return false;
}

uint8_t *cell_copy(const struct cell *c, unsigned int copy)
{
	return c->gate->copy[copy];
}

void cell_map_copy(struct cell *c, gva_t gva, unsigned int copy, int prot)
{
	struct cell_call *k = add_call(c, SYS_mmap);

	k->arg[0] = gva;
	k->arg[1] = sizeof(c->gate->copy[0]);
	k->arg[2] = prot;
	k->arg[3] = MAP_SHARED | MAP_FIXED;
	k->arg[4] = CELL_OWN;
	k->arg[5] = offsetof(struct cell_gate, copy) + copy * sizeof(c->gate->copy[0]);
}

/* --- registers --- */

/* The context has them in this order, from r8 on. */
static const uint8_t order[16] = {
	REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RDI, REG_RSI, REG_RBP,
	REG_RBX, REG_RDX, REG_RAX, REG_RCX, REG_RSP,
};

static void give_registers(struct cell *c, struct vcpu *v)
{
	struct cell_context *x = context(c);
	uint8_t *fp = c->fp;

	fpu_put(v);
	copy(x, &c->pristine, sizeof(c->pristine));
	for (unsigned int i = 0; i < 16; i++)
		x->gpr[i] = v->gpr[order[i]];
	x->rip = v->rip;
	x->rflags = v->rflags & FLAGS_GIVEN;
	copy(fp, v->xsave, XSAVE_LEGACY);
	copy(fp + XSAVE_HEADER, v->xsave + XSAVE_HEADER, 64);
	copy(fp + XSAVE_PARTS, v->xsave + XSAVE_PARTS, c->fp_parts);
	c->gate->state.context = c->context;
	c->gate->state.fs_base = v->seg[SEG_FS].base;
	c->gate->state.gs_base = v->seg[SEG_GS].base;
}

/* XRSTOR of @v's area is not to fail. */
static void make_valid(struct vcpu *v)
{
	uint64_t *header = (uint64_t *)(v->xsave + XSAVE_HEADER);
	uint32_t *mxcsr = (uint32_t *)(v->xsave + 24);

	header[0] &= v->fpu_mask;
	for (unsigned int i = 1; i < 8; i++)
		header[i] = 0;
	*mxcsr &= MXCSR_VALID;
}

static uint64_t canonical(uint64_t address)
{
	return (uint64_t)((int64_t)(address << 16) >> 16);
}

static void take_registers(struct cell *c, struct vcpu *v)
{
	const uint8_t *fp = c->fp;
	const struct cell_context *x = context(c);

	for (unsigned int i = 0; i < 16; i++)
		v->gpr[order[i]] = x->gpr[i];
	v->rip = canonical(x->rip);
	v->rflags = (v->rflags & ~FLAGS_TAKEN) | (x->rflags & FLAGS_TAKEN);
	v->seg[SEG_FS].base = canonical(c->gate->state.fs_base);
	v->seg[SEG_GS].base = canonical(c->gate->state.gs_base);
	copy(v->xsave, fp, XSAVE_LEGACY);
	copy(v->xsave + XSAVE_HEADER, fp + XSAVE_HEADER, 64);
	copy(v->xsave + XSAVE_PARTS, fp + XSAVE_PARTS, c->fp_parts);
	make_valid(v);
	if (v->rflags & (RFLAGS_TF | RFLAGS_AC))	/* by its POPF */
		vcpu_update_mode(v);
}

/* --- running --- */

/*
 * The runner goes on, behind what the mapper has to do.  (If its call has ended meanwhile by a signal, it is
 * in the gate again, and heard of.)
 */
static void go(struct cell *c)
{
	struct cell_call *k;

	if (!c->gate->calls.count) {
		ioctl(c->listener, SECCOMP_IOCTL_NOTIF_SEND, &c->gate->calls.answer);
		return;
	}
	k = add_call(c, SYS_ioctl);
	k->arg[0] = CELL_LISTENER;
	k->arg[1] = SECCOMP_IOCTL_NOTIF_SEND;
	k->arg[2] = CELL_CALLS + offsetof(struct cell_calls, answer);
	tell_mapper(c, CELL_DO);
}

static enum cell_stop why_stopped(const struct cell *c, struct vcpu *v)
{
	enum cell_stop stop = cell_stop_of(c->gate->state.signal, context(c)->trap);

	if (stop == CELL_STEPPED && !(v->rflags & RFLAGS_TF))	/* INT1 */
		stop = CELL_BREAK;
	if (stop == CELL_BREAK)
		v->rip -= 1;
	if (stop == CELL_CALL && !(v->rip >> 47))	/* else from the vsyscall page */
		v->rip -= 2;
	return stop;
}

enum cell_stop cell_run(struct cell *c, struct vcpu *v)
{
	enum heard heard;

	if (c->dead)
		return cell_reap(c) ? CELL_KILLED : CELL_ENDED;
	if (c->refused)
		return CELL_REFUSED;
	give_registers(c, v);
	c->ran_at_kick = 0;
	atomic_store(&c->kicked, false);
	atomic_store(&c->running, true);
	/* Pairs with vcpu_attention: a kick comes, or we see what it was for. */
	if (v->attention) {
		atomic_store(&c->running, false);
		return CELL_KICKED;
	}
	c->calls_made = c->gate->calls.count;
	go(c);
	heard = hear(c);
	atomic_store(&c->running, false);
	c->gate->calls.count = 0;
	if (heard == HEARD_END)
		return cell_reap(c) ? CELL_KILLED : CELL_ENDED;
	if (heard == HEARD_REFUSAL)
		return CELL_REFUSED;
	take_registers(c, v);
	return why_stopped(c, v);
}

gva_t cell_fault_address(const struct cell *c, bool *write, bool *fetch)
{
	const struct cell_context *x = context(c);

	*write = x->error & ERROR_WRITE;
	*fetch = x->error & ERROR_FETCH;
	return x->cr2;
}

unsigned int cell_calls_made(const struct cell *c)
{
	return c->calls_made;
}

uint64_t cell_ran(const struct cell *c)
{
	struct timespec t;

	if (c->dead || clock_gettime(PROCESS_CLOCK(c->pid), &t))
		return 0;
	return t.tv_sec * 1000000000ULL + t.tv_nsec;
}

void cell_threads(const struct cell *c, pid_t tid[2])
{
	tid[0] = c->pid;
	tid[1] = c->runner;
}

void cell_place(struct cell *c, int cpu)
{
	cpu_set_t one;

	if (c->cpu == cpu || cpu < 0 || cpu >= CPU_SETSIZE)
		return;
	c->cpu = cpu;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(c->pid, sizeof(one), &one);
	sched_setaffinity(c->runner, sizeof(one), &one);
}

void cell_kick(struct cell *c)
{
	if (atomic_load(&c->running) && !atomic_exchange(&c->kicked, true))
		tell_mapper(c, CELL_KICK);
}

/* --- life --- */

bool cell_possible(const char **why)
{
	*why = NULL;
#ifdef __SANITIZE_THREAD__
	*why = "the thread sanitizer does not survive a fork";
#endif
	if (*why)
		return false;
	if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE))
		*why = "the kernel does not allow FSGSBASE";
	else if (!host_xcr0())
		*why = "the processor has no XSAVE";
	return !*why;
}

static void close_all(int *fd, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (fd[i] >= 0)
			close(fd[i]);
}

/* From the mapper, to it, and a socket for once; theirs are the child's ends. */
static bool open_pipes(struct cell *c, int theirs[3])
{
	int p[6] = { -1, -1, -1, -1, -1, -1 };

	if (pipe2(p, O_CLOEXEC) || pipe2(p + 2, O_CLOEXEC) ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p + 4)) {
		close_all(p, 6);
		return false;
	}
	c->from_mapper = p[0];
	theirs[0] = p[1];
	theirs[1] = c->mapper_end = p[2];
	c->to_mapper = p[3];
	c->socket = p[4];
	theirs[2] = p[5];
	return true;
}

static bool make_gate(struct cell *c)
{
	c->fd = memfd_create("vireo-cell", MFD_CLOEXEC);
	if (c->fd < 0 || ftruncate(c->fd, sizeof(struct cell_gate)))
		return false;
	c->gate = mmap(NULL, sizeof(struct cell_gate), PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (c->gate == MAP_FAILED)
		c->gate = NULL;
	return c->gate;
}

/* Where @bytes of them fit between the end of the context and that of the stack. */
static bool in_stack(uint64_t address, uint64_t bytes)
{
	return address - CELL_STACK < CELL_STACK_SIZE &&
	       bytes <= CELL_STACK_SIZE - (address - CELL_STACK);
}

/* Within START_MS something is to be read from @fd. */
static bool comes(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, START_MS) > 0 && p.revents & POLLIN;
}

static bool receive_listener(struct cell *c)
{
	uint8_t byte, control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(8)));
	struct iovec data = { &byte, 1 };
	struct msghdr m = {
		.msg_iov = &data, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control),
	};
	const struct cmsghdr *h;

	if (!comes(c->socket) || recvmsg(c->socket, &m, MSG_CMSG_CLOEXEC) != 1)
		return false;
	h = CMSG_FIRSTHDR(&m);
	if (!h || h->cmsg_type != SCM_RIGHTS || h->cmsg_len != CMSG_LEN(sizeof(int)))
		return false;
	__builtin_memcpy(&c->listener, CMSG_DATA(h), sizeof(c->listener));
	/* One processor is enough for both; older kernels do not know. */
	ioctl(c->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
	return true;
}


/* The first stop shows where all signals leave what they do, and what is not to be changed of it. */
static bool learn(struct cell *c)
{
	uint32_t *software;
	uint64_t fp;

	if (!receive_listener(c) || !comes(c->listener) || take_notice(c) != HEARD_RUNNER)
		return false;
	c->context = c->gate->state.context;
	if (!in_stack(c->context, sizeof(c->pristine)) || c->context % 8)
		return false;
	fp = context(c)->fp;
	if (!in_stack(fp, XSAVE_PARTS) || fp % 64)
		return false;
	c->fp = in_gate(c, fp);
	software = (uint32_t *)(c->fp + XSAVE_LEGACY);
	if (software[0] != FP_XSTATE_MAGIC1 || software[4] < XSAVE_PARTS || !in_stack(fp, software[4]))
		return false;
	c->fp_parts = MIN(software[4], XSAVE_AREA_SIZE) - XSAVE_PARTS;
	copy(&c->pristine, context(c), sizeof(c->pristine));
	c->runner = c->gate->state.bytes[1];
	c->gate->calls.pid = c->pid;
	c->gate->calls.runner = c->runner;
	return true;
}

bool cell_alive(const struct cell *c)
{
	return !c->dead && !c->refused;
}

struct cell *cell_create(struct vcpu *v)
{
	struct cell *c = calloc(1, sizeof(*c));
	int theirs[3] = { -1, -1, -1 };
	const char *why;
	int rc = -1;

	if (!c)
		return NULL;
	c->fd = c->from_mapper = c->to_mapper = c->mapper_end = c->socket = c->listener = -1;
	c->cpu = -1;
	c->space = v->space;
	c->ram_count = v->space->ram_count;
	if (cell_possible(&why) && make_gate(c) && open_pipes(c, theirs))
		rc = cell_start(c, theirs);
	close_all((int[]){ theirs[0], theirs[2] }, 2);
	if (!rc && learn(c)) {
		close(c->socket);
		c->socket = -1;
		cell_unmap_all(c);
		if (do_calls(c))
			return c;
	}
	cell_stop_now(c);
	cell_destroy(c);
	return NULL;
}

/* One call of the guest's, with its number as the only thing that counts. */
static bool survives_call(struct cell *c, struct vcpu *v, gva_t at, unsigned int number)
{
	enum cell_stop stop;

	v->rip = at;
	v->gpr[REG_RAX] = number;
	stop = cell_run(c, v);
	return stop != CELL_ENDED && stop != CELL_KILLED;
}

bool cell_survives_calls(struct cell *c, struct vcpu *v)
{
	static const uint8_t code[] = { 0x0f, 0x05, 0xcd, 0x80 };	/* syscall; int 0x80 */
	const uint64_t rip = v->rip, rflags = v->rflags;
	uint64_t gpr[ARRAY_SIZE(v->gpr)];
	const gva_t at = CELL_GATE - GUEST_PAGE_SIZE;
	bool alive = true;

	if (prctl(PR_GET_SECCOMP) != SECCOMP_MODE_FILTER)
		return true;
	copy(gpr, v->gpr, sizeof(gpr));
	copy(cell_copy(c, 0), code, sizeof(code));
	cell_map_copy(c, at, 0, PROT_READ | PROT_EXEC);
	for (unsigned int n = 0; alive && n < CALL_NUMBERS; n++)
		alive = survives_call(c, v, at, n);
	alive = alive && survives_call(c, v, at + 2, 0);
	v->rip = rip;
	v->rflags = rflags;
	copy(v->gpr, gpr, sizeof(gpr));
	cell_unmap(c, at, GUEST_PAGE_SIZE);
	return alive;
}

void cell_destroy(struct cell *c)
{
	if (!c)
		return;
	/* Without its pipes the mapper ends, and with it the process; but other children of ours may hold them. */
	if (!c->dead && c->pid > 0 && c->runner > 0)
		end(c);
	close_all((int[]){ c->from_mapper, c->to_mapper, c->mapper_end, c->socket, c->listener }, 5);
	cell_reap(c);
	if (c->gate)
		munmap(c->gate, sizeof(struct cell_gate));
	if (c->fd >= 0)
		close(c->fd);
	free(c);
}
