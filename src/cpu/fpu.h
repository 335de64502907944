/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIMD and x87 state.  While v->fpu_live the guest's state is in the host's own
 * registers, and only code compiled with -mgeneral-regs-only may run on this thread
 * (src/cpu, src/engine, src/x86, src/mem; no libc memcpy, no Zydis, no device).  Code
 * that calls out does fpu_put() first; whoever needs guest registers live does
 * fpu_get().  Both are cheap when there is nothing to do.
 */
#ifndef VIREO_CPU_FPU_H
#define VIREO_CPU_FPU_H

#include "cpu/vcpu.h"

void fpu_load(struct vcpu *v);	/* xrstor of v->xsave */
void fpu_save(struct vcpu *v);	/* xsave to v->xsave, then the host's control words */

static inline void fpu_get(struct vcpu *v)
{
	if (!v->fpu_live)
		fpu_load(v);
}

static inline void fpu_put(struct vcpu *v)
{
	if (v->fpu_live)
		fpu_save(v);
}

/* Power-on state into v->xsave; @init: after INIT (x87 and SSE keep their contents). */
void fpu_reset(struct vcpu *v, bool init);

#endif
