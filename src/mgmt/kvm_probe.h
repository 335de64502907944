/* SPDX-License-Identifier: Apache-2.0 */
/* Does /dev/kvm really run guest code, and how fast? */
#ifndef VIREO_MGMT_KVM_PROBE_H
#define VIREO_MGMT_KVM_PROBE_H

#include "engine/kvm/sys.h"

enum kvm_state {
	KVM_ABSENT,	/* no /dev/kvm */
	KVM_DENIED,	/* it is there and may not be opened */
	KVM_BROKEN,	/* it opens, but a guest does not run */
	KVM_SLOW,	/* a guest runs, emulated */
	KVM_WORKS,
};

struct kvm_probe {
	enum kvm_state state;
	int error;		/* errno of what failed */
	const char *step;	/* what failed */
	uint64_t turn_ps;	/* KVM_SLOW, KVM_WORKS: picoseconds a turn of a 2-instruction loop */
};

/* Takes at most about a second: a tiny guest runs in a child process. */
void kvm_probe(struct kvm_probe *p);
/* The same by other system calls: a test's. */
void kvm_probe_by(struct kvm_probe *p, const struct kvm_sys *sys);

#endif
