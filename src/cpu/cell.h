/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A cell: a process of its own in which a guest's user code runs on the processor itself, at its
 * own addresses.
 *
 * In its address space there is nothing but pages of the guest's RAM, which its owner has mapped
 * there, and the gate: some pages of ours at CELL_GATE.  One thread, the runner, runs the guest's
 * code.  Whatever that does that the processor refuses, and every system call, is a signal; its
 * handler, in the gate, leaves the registers in memory that is shared with the owner, and makes a
 * system call that its owner is notified of, and answers when the runner is to go on.  A second thread, the
 * mapper, makes and takes away mappings, as calls that the owner writes where the runner can but read.
 *
 * What holds the runner is a filter of system calls: it may make three, from one address each; any
 * other is the guest's, and a signal.  It may jump into the gate, write to the gate's stack, call
 * what it may call.  But the owner takes it for stopped only while the kernel holds it in that one call,
 * which nothing but the owner's answer or a signal, and so the gate again, ends.  And what it finds in the shared
 * memory is what a program could have had in its registers, in whatever state it ended up, and is
 * taken as no more than that.
 *
 * CPUID, RDTSC and their like are no signals: whoever maps code for execution sees to it that there
 * are none (cell_map.h).
 *
 * A cell is made early, while its owner's process is small, and ends with it.
 *
 * Source: seccomp(2), seccomp_unotify(2), sigaltstack(2).
 */
#ifndef VIREO_CPU_CELL_H
#define VIREO_CPU_CELL_H

#include "base/types.h"

#include <sys/types.h>

struct vcpu;

#define CELL_GATE	0x6f0000000000ULL
#define CELL_GATE_SIZE	(16 * 4096ULL)
#define CELL_TOP	0x7ffffffff000ULL	/* of what a process can map */

#define CELL_COPIES	32	/* pages that are not of the guest's RAM but of the cell's own memory */

struct cell;

/* Why the runner stopped. */
enum cell_stop {
	CELL_KICKED,	/* somebody wants the owner */
	CELL_FAULT,	/* a page fault: see cell_fault_address() */
	CELL_CALL,	/* a system call: RIP is at its instruction */
	CELL_BREAK,	/* INT3 or INT1, and RIP is at it */
	CELL_STEPPED,	/* TF is set, and RIP behind the instruction that it was set for */
	CELL_OTHER,	/* something else that the processor refused: RIP is at it */
	CELL_REFUSED,	/* the host does not map what it was asked to: it has not run */
	CELL_ENDED,	/* the cell has ended by what its program did; the registers are those of before */
	CELL_KILLED,	/* the host has killed it */
	CELL_STOPS
};

/* Can there be cells here?  If not, *why says what is missing. */
bool cell_possible(const char **why);

/*
 * A cell for @v, which can show the RAM that its space has by now.  NULL: the host refuses.  To be
 * called before @v runs.
 */
struct cell *cell_create(struct vcpu *v);
void cell_destroy(struct cell *c);
/*
 * Filters that we run under, as a container's, are the cell's, too: does it live on whatever system
 * call its program makes?  For a new one; @v is as before.
 */
bool cell_survives_calls(struct cell *c, struct vcpu *v);
/* False: it has ended, or the host has refused it a mapping; it is not to be used. */
bool cell_alive(const struct cell *c);

/*
 * From the next run on: [hva, hva + bytes) of RAM is at @gva, with PROT_* @prot; or nothing is there.
 * All are page multiples outside of the gate.  False: the host's memory is in no file of the cell's.
 */
bool cell_map(struct cell *c, gva_t gva, const uint8_t *hva, uint64_t bytes, int prot);
/* Likewise, of the cell's own pages. */
void cell_map_copy(struct cell *c, gva_t gva, unsigned int copy, int prot);
/* The owner's view of such a page. */
uint8_t *cell_copy(const struct cell *c, unsigned int copy);
void cell_unmap(struct cell *c, gva_t gva, uint64_t bytes);
void cell_unmap_all(struct cell *c);

/*
 * Runs @v's registers, SIMD state included, which must be of 64-bit user code with Linux's
 * selectors, until something stops it.
 */
enum cell_stop cell_run(struct cell *c, struct vcpu *v);
/* How many mappings were made and taken away before the last run. */
unsigned int cell_calls_made(const struct cell *c);
/* Behind CELL_FAULT: the address, whether it was written to, and whether code was to be there. */
gva_t cell_fault_address(const struct cell *c, bool *write, bool *fetch);

/* Nanoseconds of processor time that it had; any thread. */
uint64_t cell_ran(const struct cell *c);
/* The numbers of its two threads. */
void cell_threads(const struct cell *c, pid_t tid[2]);
/* Its threads run on the host's processor @cpu. */
void cell_place(struct cell *c, int cpu);

/* From any thread: if the runner runs, it stops. */
void cell_kick(struct cell *c);

#endif
