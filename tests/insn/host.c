// SPDX-License-Identifier: Apache-2.0
/*
 * Runs cases on the host's processor.  A child process takes one signal after the other:
 * the handler notes how the last case ended, writes the next case's registers into the
 * signal frame and returns into it, so the kernel's signal return loads every register
 * and its delivery saves them again; no code of ours runs between.  The INT3 bytes around
 * the instruction make sure that there is a next signal.
 *
 * Nothing in the handler may use thread-local storage: FS belongs to the case.  A child
 * that a case kills is replaced, that case is reported as not run.
 */
#undef _GNU_SOURCE		/* <ucontext.h> would take our REG_ names */
#define _DEFAULT_SOURCE
#include "case.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define UC_SS_FLAGS	6	/* UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS */
#define FLAGS_OURS	(RFLAGS_ARITH | RFLAGS_DF | RFLAGS_AC | RFLAGS_TF)

const struct ldt_entry ldt_entries[LDT_COUNT] = {
	[LDT_CODE32] = { .base = ARENA_VA, .limit = 0xffff, .big = true, .code = true },
	[LDT_CODE16] = { .base = ARENA_VA, .limit = 0xffff, .code = true },
	[LDT_DATA32] = { .base = ARENA_VA + 0x10, .limit = 0x4fff, .big = true },
	[LDT_DATA16] = { .base = ARENA_VA, .limit = 0xffff },
	[LDT_RO] = { .base = ARENA_VA, .limit = 0xffff, .no_write = true },
	[LDT_DOWN] = { .base = ARENA_VA, .limit = 0x2fff, .down = true },
	[LDT_ABSENT] = { .base = ARENA_VA, .limit = 0xffff, .absent = true },
	[LDT_XONLY] = { .base = ARENA_VA, .limit = 0xffff, .big = true, .code = true,
			.no_write = true },
	[LDT_TLS] = { .base = PAGE_VA(DATA_PAGE) + 0x345, .limit = 0xfffff, .pages = true, .big = true },
};

struct host_slot {
	struct test_case c;
	struct outcome o;
};

/* Shared by the parent and its children; the handler has no other way to find it. */
static struct host {
	struct host_slot *slots;
	uint8_t *arena;
	struct { unsigned int next, end; bool fresh; } *run;
	void *stack;
} host;

struct test_case *host_case(unsigned int i)
{
	return &host.slots[i].c;
}

struct outcome *host_outcome(unsigned int i)
{
	return &host.slots[i].o;
}

/* Where struct sigcontext keeps our registers, and the rest of its indices. */
static const uint8_t greg_of[16] = { 13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7 };
enum { G_RIP = 16, G_RFLAGS, G_SEL, G_ERR, G_TRAPNO, G_OLDMASK, G_CR2 };

static const unsigned int xfeatures[] = { 2, 5, 6, 7 };

static void copy_xsave(uint8_t *to, const uint8_t *from)
{
	unsigned int i;

	memcpy(to, from, 464);	/* the rest of 512 belongs to the signal frame */
	memcpy(to + 512, from + 512, 8);
	for (i = 0; i < ARRAY_SIZE(xfeatures); i++) {
		struct xpart p = xstate_part(xfeatures[i]);

		memcpy(to + p.offset, from + p.offset, p.size);
	}
}

static void note_outcome(struct outcome *o, const ucontext_t *uc)
{
	const uint64_t *g = (const uint64_t *)uc->uc_mcontext.gregs;
	struct cpu_image *out = &o->out;
	unsigned int i;

	for (i = 0; i < 16; i++)
		out->gpr[i] = g[greg_of[i]];
	out->rip = g[G_RIP];
	out->rflags = g[G_RFLAGS];
	out->vector = g[G_TRAPNO];
	out->error = g[G_ERR];
	out->cr2 = g[G_CR2];
	out->sel[SEG_CS] = g[G_SEL];
	out->sel[SEG_SS] = g[G_SEL] >> 48;
	asm volatile("mov %%ds, %0" : "=rm" (out->sel[SEG_DS]));
	asm volatile("mov %%es, %0" : "=rm" (out->sel[SEG_ES]));
	asm volatile("mov %%fs, %0" : "=rm" (out->sel[SEG_FS]));
	asm volatile("mov %%gs, %0" : "=rm" (out->sel[SEG_GS]));
	asm volatile("rdfsbase %0" : "=r" (out->fs_base));
	asm volatile("rdgsbase %0" : "=r" (out->gs_base));
	copy_xsave(out->xsave, (const uint8_t *)uc->uc_mcontext.fpregs);
	for (i = 0; i < ARENA_PAGES; i++) {
		if (ARENA_MAPPED >> i & 1)
			memcpy(o->arena + i * GUEST_PAGE_SIZE,
			       host.arena + i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	}
	o->valid = true;
}

static void start_case(const struct test_case *c, ucontext_t *uc)
{
	uint64_t *g = (uint64_t *)uc->uc_mcontext.gregs;
	const struct cpu_image *in = &c->in;
	unsigned int i;

	for (i = 0; i < ARENA_PAGES; i++) {
		if (ARENA_MAPPED >> i & 1)
			memcpy(host.arena + i * GUEST_PAGE_SIZE,
			       c->arena + i * GUEST_PAGE_SIZE, GUEST_PAGE_SIZE);
	}
	for (i = 0; i < 16; i++)
		g[greg_of[i]] = in->gpr[i];
	g[G_RIP] = in->rip;
	g[G_RFLAGS] = (in->rflags & FLAGS_OURS) | RFLAGS_FIXED | RFLAGS_IF;
	g[G_SEL] = in->sel[SEG_CS] | (uint64_t)in->sel[SEG_SS] << 48;
	uc->uc_flags |= UC_SS_FLAGS;
	copy_xsave((uint8_t *)uc->uc_mcontext.fpregs, in->xsave);
	asm volatile("mov %0, %%ds" : : "r" (in->sel[SEG_DS]));
	asm volatile("mov %0, %%es" : : "r" (in->sel[SEG_ES]));
	asm volatile("mov %0, %%fs" : : "r" (in->sel[SEG_FS]));
	asm volatile("mov %0, %%gs" : : "r" (in->sel[SEG_GS]));
	if (!in->sel[SEG_FS])
		asm volatile("wrfsbase %0" : : "r" (in->fs_base));
	if (!in->sel[SEG_GS])
		asm volatile("wrgsbase %0" : : "r" (in->gs_base));
}

/* Called with the third argument of a signal handler, on the alternate stack. */
__attribute__((used, no_sanitize("address", "undefined")))
static void host_signal(ucontext_t *uc)
{
	unsigned int n = host.run->next++;

	if (!host.run->fresh)
		note_outcome(&host.slots[n - 1].o, uc);
	host.run->fresh = false;
	if (n == host.run->end)
		asm volatile("syscall" : : "a" (SYS_exit_group), "D" (0) : "memory");
	start_case(&host.slots[n].c, uc);
}

/* A case's AC flag would make our own accesses fault, its NT would stay for the next one. */
asm(".text\n"
    "host_signal_entry:\n"
    "	pushq $2\n"
    "	popfq\n"
    "	mov %rdx, %rdi\n"
    "	jmp host_signal\n");
void host_signal_entry(int sig, siginfo_t *info, void *uc);

static int set_ldt(void)
{
	unsigned int i;

	for (i = 0; i < LDT_COUNT; i++) {
		const struct ldt_entry *e = &ldt_entries[i];
		struct user_desc d = {
			.entry_number = i, .base_addr = e->base, .limit = e->limit,
			.limit_in_pages = e->pages, .seg_32bit = e->big, .contents = e->code ? 2 : e->down ? 1 : 0,
			.read_exec_only = e->no_write, .seg_not_present = e->absent,
			.useable = 1,
		};

		if (syscall(SYS_modify_ldt, 0x11, &d, sizeof(d)))
			return -errno;
	}
	return 0;
}

static void child_main(void)
{
	static const int signals[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
	struct sigaction sa = { .sa_sigaction = host_signal_entry,
				.sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t st = { .ss_sp = host.stack, .ss_size = 65536 };
	unsigned int i;

	/* What the engines have where MAP_32BIT goes is not there for 32-bit code. */
	munmap((void *)0x40000000, 0x40000000);
	/* A fork does not copy the page-table entries of shared pages: an entry that is not
	 * there yet would show in the error codes of page faults. */
	for (i = 0; i < ARENA_PAGES; i++)
		if (ARENA_MAPPED >> i & 1)
			*(volatile uint8_t *)PAGE_VA(i);
	sigaltstack(&st, NULL);
	for (i = 0; i < ARRAY_SIZE(signals); i++)
		sigaction(signals[i], &sa, NULL);
	signal(SIGALRM, SIG_DFL);
	alarm(5);
	asm volatile("int3");
	_exit(1);
}

int host_run(unsigned int n)
{
	unsigned int i;
	int status;
	pid_t pid;

	for (i = 0; i < n; i++)
		host.slots[i].o.valid = false;
	host.run->next = 0;
	host.run->end = n;
	while (host.run->next < n) {
		/* A successor starts behind the case that ended its predecessor. */
		host.run->fresh = true;
		pid = fork();
		if (pid < 0)
			return -errno;
		if (!pid)
			child_main();
		if (waitpid(pid, &status, 0) < 0)
			return -errno;
		if (!host.run->next)
			return -EIO;
	}
	return 0;
}

static int map_arena(void)
{
	int fd = syscall(SYS_memfd_create, "arena", 0);
	unsigned int i;

	if (fd < 0 || ftruncate(fd, ARENA_SIZE))
		return -errno;
	host.arena = mmap(NULL, ARENA_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
			  fd, 0);
	if (host.arena == MAP_FAILED)
		return -errno;
	for (i = 0; i < ARENA_PAGES; i++) {
		void *at = (void *)PAGE_VA(i);
		int prot = i < 2 ? PROT_READ | PROT_WRITE | PROT_EXEC :
			   i == RO_PAGE ? PROT_READ : PROT_READ | PROT_WRITE;

		if (!(ARENA_MAPPED >> i & 1))
			continue;
		if (mmap(at, GUEST_PAGE_SIZE, prot,
			 MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd,
			 i * GUEST_PAGE_SIZE) != at)
			return -errno;
	}
	close(fd);
	return 0;
}

int host_open(unsigned int batch)
{
	size_t size = batch * sizeof(struct host_slot);
	int flags = MAP_SHARED | MAP_ANONYMOUS;
	int r = map_arena();

	if (r)
		return r;
	host.slots = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
	host.run = mmap(NULL, 4096, PROT_READ | PROT_WRITE, flags, -1, 0);
	host.stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, flags | MAP_POPULATE, -1, 0);
	if (host.slots == MAP_FAILED || host.run == MAP_FAILED || host.stack == MAP_FAILED)
		return -errno;
	/* The LDT is inherited by every child. */
	return set_ldt();
}
