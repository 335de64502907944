/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The local APIC of one vCPU.
 */
#ifndef VIREO_DEV_LAPIC_H
#define VIREO_DEV_LAPIC_H

#include "cpu/vcpu.h"
#include "dev/apic_bus.h"
#include "dev/device.h"

/*
 * Creates the local APIC of @v, joins it to @bus under APIC ID v->index and connects
 * v->intc_ops and v->intc; so before vcpu_init().  v->index, v->clock and v->tsc_hz must
 * be set.  @bsp: the bootstrap processor's.  -EINVAL: no such APIC ID, or it is taken.
 */
int lapic_create(struct device **out, struct vcpu *v, struct apic_bus *bus, bool bsp,
		 struct err *e);

/*
 * The state in which firmware hands the bootstrap processor to a system (MP
 * Specification, "Virtual Wire Mode"): enabled, LINT0 ExtINT, LINT1 NMI.  For boots that
 * skip the firmware; before the vCPU runs, after each reset.
 */
void lapic_set_virtual_wire(struct device *lapic);

#endif
