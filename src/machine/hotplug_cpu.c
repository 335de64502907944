// SPDX-License-Identifier: Apache-2.0
/*
 * Processors that come and go while the VM runs.
 *
 * All that a VM may ever have are made at its creation, each with its thread and local APIC.
 * One that is not there stays behind the gate: whatever the guest sends it, it does not run.
 * When it comes it is as after power-on and waits for a SIPI; how the guest hears of it is
 * dev/cpu_hotplug.h's.
 */
#include "machine/vm_priv.h"

#include "dev/cpu_hotplug.h"

#include <errno.h>

static uint64_t present_mask(const struct vm *vm)
{
	uint64_t mask = 0;

	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		if (atomic_load(&vm->vcpus[i].present))
			mask |= BIT(i);
	return mask;
}

/* The first @n processors. */
static uint64_t first(unsigned int n)
{
	return n >= 64 ? UINT64_MAX : BIT(n) - 1;
}

static void set_present(struct vm_vcpu *c, bool present)
{
	pthread_mutex_lock(&c->vm->gate_lock);
	atomic_store(&c->present, present);
	pthread_cond_broadcast(&c->vm->gate);
	pthread_mutex_unlock(&c->vm->gate_lock);
}

/* What it was sent while it was not there is forgotten. */
static void power_up(struct vm *vm, struct vm_vcpu *c)
{
	struct vcpu *v = c->vcpu;

	vcpu_reset(v, false);
	atomic_fetch_and(&v->attention, ~(uint32_t)(ATTN_INTR | ATTN_NMI | ATTN_INIT | ATTN_SIPI));
	c->lapic->ops->reset(c->lapic);
	v->tsc_offset = v->tsc_boot_offset = vm->vcpus[0].vcpu->tsc_boot_offset;
	v->mtrr_def_type = vm->vcpus[0].vcpu->mtrr_def_type;
	set_present(c, true);
}

void vm_power_on_cpus(struct vm *vm)
{
	for (unsigned int i = 0; i < vm->vcpu_count; i++) {
		const bool present = i < vm->cpus_wanted;

		set_present(&vm->vcpus[i], present);
		acpi_set_present(&vm->acpi, i, present);
	}
	cpu_hotplug_set(vm->pc.cpu_hotplug, present_mask(vm));
}

int vm_set_cpus(struct vm *vm, unsigned int n, struct err *e)
{
	const uint64_t have = present_mask(vm), wanted = first(n);

	if (!n || n > vm->vcpu_count)
		return err_set(e, EINVAL, "this VM can have 1 to %u processors: --max-cpus said so at "
			       "its start", vm->vcpu_count);
	vm->cpus_wanted = n;
	if (vm->state != VM_RUNNING)
		return 0;	/* power-on looks at it */
	if (wanted & ~have) {
		vcpus_pause(vm);
		for (unsigned int i = 0; i < n; i++)
			if (~have & BIT(i))
				power_up(vm, &vm->vcpus[i]);
		vcpus_resume(vm);
		cpu_hotplug_added(vm->pc.cpu_hotplug, wanted & ~have);
	}
	if (have & ~wanted)
		cpu_hotplug_remove(vm->pc.cpu_hotplug, have & ~wanted);
	return 0;
}

unsigned int vm_cpus(const struct vm *vm)
{
	return __builtin_popcountll(present_mask(vm));
}

/* On the loop's thread. */
static void take_out(void *arg)
{
	struct vm *vm = arg;
	const uint64_t gone = atomic_exchange(&vm->cpus_ejected, 0);
	const bool runs = vm->state == VM_RUNNING;

	if (runs)
		vcpus_pause(vm);
	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		if (gone & BIT(i))
			set_present(&vm->vcpus[i], false);
	if (runs)
		vcpus_resume(vm);
}

/* On a vCPU's thread. */
static void ejected(void *arg, uint64_t cpus)
{
	struct vm *vm = arg;

	atomic_fetch_or(&vm->cpus_ejected, cpus);
	loop_post(vm->loop, &vm->cpus_work);
}

void vm_init_cpu_hotplug(struct vm *vm)
{
	vm->cpus_work = (struct loop_work){ .run = take_out, .arg = vm };
	vm->pc.eject_cpus = ejected;
}
