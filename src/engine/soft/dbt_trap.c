// SPDX-License-Identifier: Apache-2.0
/*
 * Host exceptions in translated code: a non-canonical address, a misaligned SSE operand,
 * a division, an unmasked floating-point exception.  The guest's state is that before
 * the instruction, so the interpreter takes over there and raises what is to be raised.
 * An overflow of the private stack empties it and tries again.
 */
#include "engine/soft/dbt_priv.h"

static bool stack_overflow(const struct side *s, uint64_t rsp)
{
	uint64_t low = s->stack_base + 64 - PRIVATE_STACK;

	return rsp - 8 < low && rsp - 8 >= low - 4096;
}

static bool redirect(const struct trap_region *r, int sig, long long *regs)
{
	struct dbt *d = container_of(r, struct dbt, trap);
	struct vcpu *v = d->vcpu;
	struct dbt_hot *hot = dbt_hot(v);

	(void)sig;
	if (stack_overflow(present_side(v), regs[TRAP_RSP])) {
		dbt_empty_private_stack(d, present_side(v));
		regs[TRAP_RSP] = present_side(v)->stack_sp;
		return true;
	}
	if (!dbt_block_at(d, (void *)regs[TRAP_RIP]))
		return false;
	hot->fault_pc = regs[TRAP_RIP];
	hot->fault_rcx = regs[TRAP_RCX];
	hot->fault_addr = regs[TRAP_VECTOR] == EXC_PF ? regs[TRAP_CR2] : 0;
	regs[TRAP_RIP] = (uint64_t)d->exit_signal;
	return true;
}

void dbt_trap_init(struct dbt *d)
{
	d->trap = (struct trap_region){
		.start = (uint64_t)d->rx, .size = d->size, .redirect = redirect,
	};
}

struct trap_region *dbt_trap_region(struct dbt *d)
{
	return &d->trap;
}
