/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Instructions that the host's processor executes for the guest: x87, MMX, SSE, AVX, bit
 * manipulation.  See host.c.
 */
#ifndef VIREO_ENGINE_SOFT_HOST_H
#define VIREO_ENGINE_SOFT_HOST_H

#include "engine/soft/exec.h"
#include "engine/soft/trap.h"

struct soft_vcpu;

#define HOST_OPERAND_MAX	128	/* bytes of a memory operand; FSAVE's are 108 */

/* The handler of a decoded HOW_HOST instruction; may fill @i->host. */
exec_fn host_select(struct soft_vcpu *sv, struct insn *i);

/*
 * For those that are not simply run: FXSAVE, XSAVE and their inverses, MASKMOVQ and
 * MASKMOVDQU.  NULL: not one of them.
 */
exec_fn host_special(const struct insn *i);

/* What the control registers say of x87, SSE and AVX instructions: #UD, #NM. */
int host_check_x87(struct vcpu *v);
int host_check_sse(struct vcpu *v);
int host_check_avx(struct vcpu *v);
int host_check_avx512(struct vcpu *v);

/* Runs @i's snippet on @mem. */
int host_call(struct vcpu *v, const struct insn *i, void *mem);

/* vector.c: memory operands that are masked, gathered or scattered. */
bool vector_is_masked(const struct insn *i);
/* Touches only the elements that the mask selects; v->rip stays for the caller to advance. */
int vector_run_masked(struct vcpu *v, const struct insn *i);
exec_fn vector_gather_scatter(const struct insn *i);

/* trap_region.redirect of the cache that snippets are in. */
bool host_redirect(const struct trap_region *r, int sig, long long *regs);

#endif
