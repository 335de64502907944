/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a VM's processors spend the host's time, by samples: what each thread's CPU clock went on
 * by since the sample before is put down to what it does at the sample.  It costs nothing
 * while nobody asks.
 */
#ifndef VIREO_MACHINE_PROFILE_H
#define VIREO_MACHINE_PROFILE_H

#include "machine/vm.h"

enum profile_place {
	PROFILE_USER,		/* the guest at CPL 3 */
	PROFILE_KERNEL,		/* the guest below that, or, with KVM, all of it */
	PROFILE_TRANSLATION,	/* decoding and translating */
	PROFILE_VMM,		/* devices and whatever else is not the guest */
	PROFILE_PLACES
};

struct vcpu_profile {
	uint64_t ns[PROFILE_PLACES];	/* since somebody first asked */
	bool halted;
};

/*
 * What was counted until now of vCPU @index; goes on counting for PROFILE_LEASE seconds.  On the
 * loop's thread.
 */
#define PROFILE_LEASE	30
void vm_profile(struct vm *vm, unsigned int index, struct vcpu_profile *out);

#endif
