/* SPDX-License-Identifier: Apache-2.0 */
/* Between cell.c, which owns a cell, and cell_start.c, which makes its process. */
#ifndef VIREO_CPU_CELL_PRIV_H
#define VIREO_CPU_CELL_PRIV_H

#include "cpu/cell.h"
#include "mem/space.h"

#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/types.h>

/* The gate's pages: code, calls for the mapper, what the runner may write, its signals' stack. */
#define CELL_CODE	CELL_GATE
#define CELL_CALLS	(CELL_GATE + 4096)
#define CELL_CALLS_SIZE	(4 * 4096)
#define CELL_STATE	(CELL_CALLS + CELL_CALLS_SIZE)
#define CELL_STACK	(CELL_STATE + 4096)
#define CELL_STACK_SIZE	(CELL_GATE + CELL_GATE_SIZE - CELL_STACK)

/* Descriptors of the cell's process. */
#define CELL_TO_OWNER	3	/* from the mapper: a pipe, */
#define CELL_FROM_OWNER	4	/* to the mapper: another one */
#define CELL_SOCKET	5	/* takes the listener to the owner, then it is closed */
#define CELL_LISTENER	6	/* of the runner's filter: seccomp_unotify(2) */
#define CELL_OWN	7	/* the gate's memory */
#define CELL_RAM	8	/* and the following ones */

/* A ucontext_t as the kernel has it. */
struct cell_context {
	uint64_t flags, link, stack[3];
	uint64_t gpr[16];		/* R8-R15, RDI RSI RBP RBX RDX RAX RCX RSP */
	uint64_t rip, rflags, selectors, error, trap, mask, cr2;
	uint64_t fp;		/* address of the XSAVE area */
	uint64_t reserved[8], signals;
};

/* A byte for the mapper: do the calls; and two: the owner is wanted. */
#define CELL_DO		1
#define CELL_KICK	2

struct cell_call {
	uint64_t number, arg[6];
};

#define CELL_CALLS_MAX	((CELL_CALLS_SIZE - 64) / sizeof(struct cell_call))

struct cell_calls {
	uint64_t count, pid, runner, unused;
	struct seccomp_notif_resp answer;	/* to the runner */
	struct cell_call call[CELL_CALLS_MAX];
};
_Static_assert(sizeof(struct cell_calls) <= CELL_CALLS_SIZE, "the calls have their pages");

/* As the gate's handler leaves it, and takes it back. */
struct cell_state {
	uint64_t context;	/* address of the signal's cell_context */
	uint64_t fs_base, gs_base;
	uint64_t signal;
	uint64_t bytes[8];	/* what is read from pipes and written to them */
	uint64_t listener;	/* or a negative error, plus 4096; while it starts */
};

/* The gate as the owner has it mapped. */
struct cell_gate {
	uint8_t code[4096];
	union {
		struct cell_calls calls;
		uint8_t calls_pages[CELL_CALLS_SIZE];
	};
	union {
		struct cell_state state;
		uint8_t state_page[4096];
	};
	uint8_t stack[CELL_STACK_SIZE];
	uint8_t copy[CELL_COPIES][4096];	/* behind it in memory alone */
};
_Static_assert(offsetof(struct cell_gate, copy) == CELL_GATE_SIZE, "the gate's pages");

struct cell {
	struct cell_gate *gate;
	pid_t pid, runner;	/* the process, and so the mapper; its other thread */
	int fd;			/* the gate's memory */
	int from_mapper, to_mapper, socket;
	int mapper_end;		/* of to_mapper, kept so that writing to a mapper that has ended is no SIGPIPE */
	int listener;		/* tells of the runner's calls */
	_Atomic bool running;	/* the runner, or it is going to */
	_Atomic bool kicked;	/* since it began to */
	uint64_t ran_at_kick;	/* ns of its processor time, plus 1, when it was seen not to have stopped; or 0 */
	unsigned int calls_made;	/* before the last run */
	bool refused;		/* calls of the mapper's were not done, perhaps unmappings: it is not to run again */
	bool dead;
	int cpu;		/* on which it was placed, or -1 */
	const struct gpa_space *space;
	unsigned int ram_count;	/* so many of its extents can be mapped */
	uint64_t context;	/* where the runner's signals leave their context: always the same */
	uint8_t *fp;		/* there, its SIMD state in XSAVE's standard format, */
	uint64_t fp_parts;	/* bytes of SIMD state behind the XSAVE header */
	struct cell_context pristine; /* what is there but for the registers */
};

/*
 * Makes c's process; the owner's ends of the pipes and the gate are there, @theirs are the other ends: of
 * from_mapper, to_mapper, socket.  Negative errno.
 */
int cell_start(struct cell *c, const int theirs[3]);
/* Makes it end; not for who is confined. */
void cell_stop_now(const struct cell *c);
/* Waits for its end; true: somebody killed it. */
bool cell_reap(struct cell *c);
/* What a signal with this number, and of this exception, is. */
enum cell_stop cell_stop_of(uint64_t signal, uint64_t trap);

#endif
