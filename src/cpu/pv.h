/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the guest is told through records in its own memory: time of day and time since
 * power-on as functions of the TSC, and the time that its processors were kept waiting.
 */
#ifndef VIREO_CPU_PV_H
#define VIREO_CPU_PV_H

#include "cpu/vcpu.h"

/* CPUID 0x40000001, EAX */
#define PV_CLOCK		BIT(3)	/* MSR_PV_WALL_CLOCK, MSR_PV_SYSTEM_TIME */
#define PV_STEAL_TIME		BIT(5)	/* MSR_PV_STEAL_TIME */
#define PV_UNHALT		BIT(7)	/* PV_KICK_CPU */
#define PV_TLB_FLUSH		BIT(9)	/* asked for in the steal record of who does not run */
#define PV_YIELD		BIT(13)	/* PV_SCHED_YIELD */
#define PV_CLOCK_STABLE		BIT(24)	/* all processors' records agree */
#define PV_CALLS		(PV_UNHALT | PV_YIELD)
#define PV_FEATURES		(PV_CLOCK | PV_STEAL_TIME | PV_UNHALT | PV_TLB_FLUSH | PV_YIELD | \
				 PV_CLOCK_STABLE)

#define MSR_PV_WALL_CLOCK	0x4b564d00
#define MSR_PV_SYSTEM_TIME	0x4b564d01
#define MSR_PV_STEAL_TIME	0x4b564d03

/* Hypercalls: RAX, with the APIC ID of a processor in RCX or RBX. */
#define PV_KICK_CPU		5	/* end its HLT, or the next one if it does not halt */
#define PV_SCHED_YIELD		11	/* it is waited for: let it run */

/* False: not one of these registers, or a value it does not take. */
bool pv_read_msr(const struct vcpu *v, uint32_t index, uint64_t *value);
bool pv_write_msr(struct vcpu *v, uint32_t index, uint64_t value);

/* After tsc_offset was changed. */
void pv_tsc_changed(struct vcpu *v);

/* VMCALL at privilege level 0: the answer goes to RAX. */
void pv_hypercall(struct vcpu *v);

/*
 * Might it wait for a kick, with interrupts off?  Linux does only with a steal record, and if it
 * read at its start that there are calls.
 */
bool pv_may_wait(const struct vcpu *v);

/*
 * For engines whose TLB is ours, before and after a time in which the vCPU does not run: the steal
 * record says so meanwhile, and others may ask there for a flush.  pv_returns() says if it was away.
 */
void pv_leaves(struct vcpu *v);
bool pv_returns(struct vcpu *v);

/* From engine to engine, with the vCPU stopped: kicks may have been lost, and it is there again. */
void pv_moved(struct vcpu *v);

/* Brings the steal record up to date, at most once a millisecond. */
void pv_account(struct vcpu *v);

#endif
