// SPDX-License-Identifier: Apache-2.0
/*
 * Samples of what vCPUs do; see profile.h.  A timer of the VM's clock takes them, so a paused VM
 * has none; its period varies, or it would meet a guest's ticks always at the same place.
 */
#include "machine/profile.h"

#include "cpu/cpuid.h"
#include "machine/vm_priv.h"


#define PERIOD		4000000ULL	/* ns */
#define PERIOD_VARIES	2000000ULL

/* One that sleeps has come from the guest's HLT, which is the kernel's. */
static enum profile_place place_of(const struct vm_vcpu *c)
{
	switch (__atomic_load_n(&c->vcpu->doing, __ATOMIC_RELAXED)) {
	case VCPU_TRANSLATION:
		return PROFILE_TRANSLATION;
	case VCPU_DEVICE:
		return PROFILE_VMM;
	}
	return __atomic_load_n(&c->vcpu->cpl, __ATOMIC_RELAXED) == 3 && !atomic_load(&c->sleeping) ?
	       PROFILE_USER : PROFILE_KERNEL;
}

static void sample(struct vm_vcpu *c)
{
	uint64_t ran = vcpu_ran(c);

	if (c->sampled && ran > c->sampled)
		c->profile.ns[place_of(c)] += ran - c->sampled;
	c->sampled = ran;
}

static void tick(void *arg)
{
	struct vm *vm = arg;
	const uint64_t now = clock_now(&vm->clock);

	for (unsigned int i = 0; i < vm->vcpu_count; i++)
		sample(&vm->vcpus[i]);
	if (now < vm->profile_until)
		timer_set(&vm->profile_timer, now + PERIOD + now / 1000 % PERIOD_VARIES);
}

void profile_init(struct vm *vm)
{
	timer_init(&vm->profile_timer, &vm->clock, tick, vm);
}

void profile_destroy(struct vm *vm)
{
	timer_cancel(&vm->profile_timer);
}

void vm_profile(struct vm *vm, unsigned int index, struct vcpu_profile *out)
{
	struct vm_vcpu *c = &vm->vcpus[index];

	if (!timer_pending(&vm->profile_timer)) {
		/* What went by while nobody asked is not known. */
		for (unsigned int i = 0; i < vm->vcpu_count; i++)
			vm->vcpus[i].sampled = 0;
		timer_set(&vm->profile_timer, clock_now(&vm->clock) + PERIOD);
	}
	vm->profile_until = clock_now(&vm->clock) + PROFILE_LEASE * NS_PER_SEC;
	*out = c->profile;
	out->halted = atomic_load(&c->sleeping);
}
