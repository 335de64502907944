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

/*
 * May guest state stay in the host's registers between instructions?  Sanitizers put
 * calls into their run-time, which uses SSE, at any memory access: there the engine does
 * fpu_put() after each host-executed instruction instead.  (For the thread sanitizer the Makefile
 * says so: the files that execute them are not instrumented, and would not know.)
 */
#if defined(__SANITIZE_ADDRESS__)
#define FPU_KEEP_LIVE 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FPU_KEEP_LIVE 0
#endif
#endif
#ifndef FPU_KEEP_LIVE
#define FPU_KEEP_LIVE 1
#endif

/* Chooses v->fpu_mask for the host and the model; part of vcpu_init. */
void fpu_init(struct vcpu *v);
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
