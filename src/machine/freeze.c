// SPDX-License-Identifier: Apache-2.0
/*
 * A VM that stands still, and whoever is told of it: paused, or stopped and stepped by a debugger;
 * see vm.h.
 */
#include "machine/vm_priv.h"

#include "cpu/debugger.h"
#include "cpu/mmu.h"

void vm_watch(struct vm *vm, struct vm_watcher *w)
{
	w->next = vm->watchers;
	vm->watchers = w;
}

void vm_unwatch(struct vm *vm, struct vm_watcher *w)
{
	for (struct vm_watcher **at = &vm->watchers; *at; at = &(*at)->next)
		if (*at == w) {
			*at = w->next;
			return;
		}
}

void vm_tell(struct vm *vm, const struct vm_news *news)
{
	for (struct vm_watcher *w = vm->watchers; w; w = w->next)
		w->told(w->arg, news);
}

bool vm_is_off(const struct vm *vm)
{
	return vm->off;
}

bool vm_is_paused(const struct vm *vm)
{
	return vm->paused;
}

void vm_pause(struct vm *vm)
{
	if (vm->paused)
		return;
	vcpus_hold(vm, true);
	clock_stop(&vm->clock);
	vm->paused_at = __builtin_ia32_rdtsc();
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_STOP });
}

/*
 * The guest's counters and the paravirtual clock, which is a function of them, go on where they
 * stopped.  KVM has the counters itself; there they have moved on.
 */
static void turn_back_counters(struct vm *vm)
{
	const uint64_t passed = __builtin_ia32_rdtsc() - vm->paused_at;

	if (vm->config.engine == &engine_kvm)
		return;
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		vm->vcpus[i].vcpu->tsc_offset -= passed;
		vm->vcpus[i].vcpu->tsc_boot_offset -= passed;
	}
}

void vm_resume(struct vm *vm)
{
	if (!vm->paused || vm->off)
		return;
	turn_back_counters(vm);
	if (vm->state == VM_RUNNING)
		clock_start(&vm->clock);
	vcpus_hold(vm, false);
	vm_tell(vm, &(struct vm_news){ .kind = VM_NEWS_RESUME });
}

void vm_freeze(struct vm *vm)
{
	vcpus_freeze(vm, true);
}

void vm_thaw(struct vm *vm)
{
	vcpus_freeze(vm, false);
}

bool vm_still(struct vm *vm)
{
	const bool runs = vm->state == VM_RUNNING;

	if (runs)
		vcpus_pause(vm);
	return runs;
}

void vm_go_on(struct vm *vm, bool ran)
{
	if (ran)
		vcpus_resume(vm);
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
