// SPDX-License-Identifier: Apache-2.0
/*
 * RFLAGS: POPF, PUSHF, CLI, STI, and what follows from a change.  VME and PVI are not
 * modelled: their CPUID bit is clear, and CR4 refuses them.
 *
 * Source: Intel SDM volume 2, "POPF", "PUSHF", "CLI", "STI".
 */
#include "cpu/system_priv.h"

#define FLAGS_POPF	(RFLAGS_ARITH | RFLAGS_TF | RFLAGS_DF | RFLAGS_NT)
#define FLAGS_MODE	(RFLAGS_TF | RFLAGS_AC | RFLAGS_VM)

void flags_commit(struct vcpu *v, uint64_t rflags)
{
	uint64_t changed = v->rflags ^ rflags;

	v->rflags = rflags;
	if (changed & FLAGS_MODE)
		vcpu_update_mode(v);
	vcpu_recheck_interrupts(v);
}

/* May the present privilege change IF? */
static bool io_privileged(const struct vcpu *v)
{
	return v->cpl <= rflags_iopl(v);
}

enum exec_status sys_popf(struct vcpu *v, uint64_t value, unsigned int opsize)
{
	uint64_t mask = FLAGS_POPF;

	if (in_vm86(v) && !io_privileged(v))
		return raise_gp(v, 0);
	if (opsize > 2)
		mask |= RFLAGS_AC | RFLAGS_ID;
	if (io_privileged(v))
		mask |= RFLAGS_IF;
	if (v->cpl == 0)
		mask |= RFLAGS_IOPL;
	flags_commit(v, (v->rflags & ~(mask | RFLAGS_RF)) | (value & mask));
	return EXEC_OK;
}

enum exec_status sys_pushf(struct vcpu *v, uint64_t *value)
{
	if (in_vm86(v) && !io_privileged(v))
		return raise_gp(v, 0);
	*value = v->rflags & ~(RFLAGS_VM | RFLAGS_RF);
	return EXEC_OK;
}

enum exec_status sys_cli(struct vcpu *v)
{
	if (!io_privileged(v))
		return raise_gp(v, 0);
	v->rflags &= ~RFLAGS_IF;
	return EXEC_OK;
}

enum exec_status sys_sti(struct vcpu *v)
{
	if (!io_privileged(v))
		return raise_gp(v, 0);
	if (v->rflags & RFLAGS_IF)
		return EXEC_OK;
	v->rflags |= RFLAGS_IF;
	v->shadow_mov_ss = false;
	atomic_fetch_or_explicit(&v->attention, ATTN_SHADOW, memory_order_relaxed);
	vcpu_recheck_interrupts(v);
	return EXEC_OK;
}
