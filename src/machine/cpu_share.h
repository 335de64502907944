/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much of the host's processors a VM may have: its weight among the VMs of this user, a
 * cap, and on which processors it runs; and the same of each vCPU, whose weight is one among
 * the vCPUs of its VM.
 */
#ifndef VIREO_MACHINE_CPU_SHARE_H
#define VIREO_MACHINE_CPU_SHARE_H

#include "base/err.h"
#include "base/types.h"

#include <sched.h>

#define CPU_WEIGHT_MAX	10000U
#define CPU_CAP_MAX	6400U

struct vm;

struct cpu_limits {
	unsigned int weight;	/* 1 to CPU_WEIGHT_MAX; 0: takes no part in the sharing, a vCPU: 100 */
	unsigned int cap;	/* per cent of one processor, 0: none */
	bool pinned;
	cpu_set_t pin;		/* if pinned */
};

/*
 * Sets them, also while the VM runs; on the loop's thread or before vm_run().  -EINVAL where
 * the host does not let it run on these processors.
 */
int vm_set_cpu_limits(struct vm *vm, const struct cpu_limits *l, struct err *e);
/*
 * Opens what VMs share processors by, for a vm_set_cpu_limits() at a time when this process may
 * open nothing more.
 */
int vm_open_cpu_share(struct vm *vm, struct err *e);
const struct cpu_limits *vm_cpu_limits(const struct vm *vm);
/*
 * The same of vCPU @index, also of one that is not plugged yet.  Its pinning has to lie within the
 * VM's, and the VM's may not leave it: -EINVAL.
 */
int vm_set_vcpu_limits(struct vm *vm, unsigned int index, const struct cpu_limits *l, struct err *e);
const struct cpu_limits *vm_vcpu_limits(const struct vm *vm, unsigned int index);

#endif
