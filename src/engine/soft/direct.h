/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct execution: user code runs on the processor itself, in cells (cpu/cell.h).
 *
 * What leaves a cell costs some seven microseconds, and so it is for programs that compute: an
 * address space is given a cell when its code has run for a while, and loses it when it leaves it
 * too often.  All other user code is translated, and so is code that may not run in a cell.
 */
#ifndef VIREO_ENGINE_SOFT_DIRECT_H
#define VIREO_ENGINE_SOFT_DIRECT_H

#include "base/err.h"
#include "base/types.h"
#include "cpu/except.h"
#include "engine/config.h"

#include <sys/types.h>

struct direct;
struct vcpu;

struct direct_stats {
	uint64_t given;		/* cells */
	uint64_t taken;		/* ... from who left them too often */
	uint64_t runs, faults, fills, calls, others, kicks;
};

/* For @v, before it runs; *out NULL: the host has no cells, or they are not wanted. */
int direct_create(struct direct **out, struct vcpu *v, enum direct_choice choice, struct err *e);
void direct_destroy(struct direct *x);

/* Should the code at v's RIP run in a cell?  It is user code, and nothing is to be seen to. */
bool direct_wanted(struct direct *x, struct vcpu *v);
/*
 * Runs v's user code until the kernel's is to run, or the loop has to look up.  @step has the interpreter
 * execute one instruction.
 */
enum exec_status direct_run(struct direct *x, struct vcpu *v,
			    enum exec_status (*step)(void *arg, struct vcpu *v), void *arg);
/* Is the code at v's RIP, which is not for cells, to be interpreted, so that it is noticed where it ends? */
bool direct_interprets(struct direct *x, struct vcpu *v);
/*
 * To be called now and then while translated code runs.  True: the present space has a cell, or is going to have
 * one when it has run for longer; or it is too early to say.
 */
bool direct_sample(struct direct *x, struct vcpu *v);
/* v leaves the guest: its thread may run on any of its processors again. */
void direct_leave(struct direct *x);
/* From any thread: attention was set. */
void direct_kick(struct direct *x);

/* Of its cells, as in struct engine_ops; any thread. */
uint64_t direct_ran(const struct direct *x);
unsigned int direct_threads(const struct direct *x, pid_t *tid, unsigned int max);

const struct direct_stats *direct_get_stats(const struct direct *x);

#endif
