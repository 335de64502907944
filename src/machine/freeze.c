// SPDX-License-Identifier: Apache-2.0
/* A VM that a debugger stops, steps and lets go; see vm.h. */
#include "machine/vm_priv.h"

#include "cpu/debugger.h"
#include "cpu/mmu.h"

void vm_freeze(struct vm *vm)
{
	vcpus_freeze(vm, true);
}

void vm_thaw(struct vm *vm)
{
	vcpus_freeze(vm, false);
}

void vm_step(struct vm *vm, unsigned int vcpu)
{
	struct vcpu *v = vm->vcpus[vcpu].vcpu;

	if (!vm->config.engine->vcpu_step || v->shutdown || v->wait_sipi || v->halted)
		return;
	/* A step does not look at attention: a new watchpoint's pages leave the TLB now. */
	if (atomic_fetch_and(&v->attention, ~(uint32_t)ATTN_FLUSH) & ATTN_FLUSH)
		tlb_flush_all(v);
	vm->config.engine->vcpu_step(vm->engine, v);
}

void vm_set_debugger(struct vm *vm, const struct debugger *d, struct loop_work *hit)
{
	vm->debug_work = hit;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		struct vcpu *v = vm->vcpus[i].vcpu;

		v->debugger = d && (d->break_count || d->watch_count) ? d : NULL;
		v->debug_hit = (struct debug_hit){ .kind = DEBUG_NONE };
		vcpu_attention(v, ATTN_FLUSH);
	}
}
