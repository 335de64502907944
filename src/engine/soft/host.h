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

/* What CR0 says of x87 instructions: #NM. */
int host_check_x87(struct vcpu *v);
int host_check_sse(struct vcpu *v);

/* trap_region.redirect of the cache that snippets are in. */
bool host_redirect(const struct trap_region *r, int sig, long long *regs);

#endif
