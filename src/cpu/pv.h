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
#define PV_CLOCK_STABLE		BIT(24)	/* all processors' records agree */
#define PV_FEATURES		(PV_CLOCK | PV_STEAL_TIME | PV_CLOCK_STABLE)

#define MSR_PV_WALL_CLOCK	0x4b564d00
#define MSR_PV_SYSTEM_TIME	0x4b564d01
#define MSR_PV_STEAL_TIME	0x4b564d03

/* False: not one of these registers, or a value it does not take. */
bool pv_read_msr(const struct vcpu *v, uint32_t index, uint64_t *value);
bool pv_write_msr(struct vcpu *v, uint32_t index, uint64_t value);

/* After tsc_offset was changed. */
void pv_tsc_changed(struct vcpu *v);

/* Brings the steal record up to date, at most once a millisecond. */
void pv_account(struct vcpu *v);

#endif
