// SPDX-License-Identifier: Apache-2.0
/*
 * SIMD and x87 state between v->xsave and the host's registers; see fpu.h.
 *
 * The area has the XSAVE standard format of the host, which has a legacy part that is the
 * same everywhere.  On a host without XSAVE only that part is used.  XSAVE without
 * optimisations is used, so the whole area is valid whenever the state was put away.
 *
 * Source: Intel SDM volume 1, "Managing State Using the XSAVE Feature Set".
 */
#include "cpu/fpu.h"

#include "cpu/cpuid.h"

#include <stddef.h>

#define HOST_FCW	0x37f
#define RESET_FCW	0x40
#define FSW_ES		0x80
#define LEGACY_SIZE	512
#define XSTATE_MASK	(XCR0_X87 | XCR0_SSE | XCR0_AVX | XCR0_AVX512)

/* The legacy part and the header, as far as C code looks at them. */
struct xsave_area {
	uint16_t fcw, fsw;
	uint8_t ftw, reserved0;		/* a bit a register: not empty */
	uint16_t fop;
	uint64_t fip, fdp;
	uint32_t mxcsr, mxcsr_mask;
	uint8_t st[8][16];
	uint8_t xmm[16][16];
	uint8_t reserved1[96];
	uint64_t xstate_bv, xcomp_bv;
};
_Static_assert(offsetof(struct xsave_area, xstate_bv) == LEGACY_SIZE, "XSAVE header");

static struct xsave_area *area(struct vcpu *v)
{
	return (struct xsave_area *)v->xsave;
}

void fpu_init(struct vcpu *v)
{
	v->fpu_mask = host_xcr0() & v->model->xcr0_max & XSTATE_MASK;
}

void fpu_load(struct vcpu *v)
{
	uint32_t low = v->fpu_mask, high = v->fpu_mask >> 32;

	if (v->fpu_mask)
		asm volatile("xrstor64 %0" : : "m" (v->xsave), "a" (low), "d" (high));
	else
		asm volatile("fxrstor64 %0" : : "m" (v->xsave));
	v->fpu_live = true;
}

void fpu_save(struct vcpu *v)
{
	static const uint32_t host_mxcsr = MXCSR_RESET;
	static const uint16_t host_fcw = HOST_FCW;
	uint32_t low = v->fpu_mask, high = v->fpu_mask >> 32;

	if (v->fpu_mask)
		asm volatile("xsave64 %0" : "+m" (v->xsave) : "a" (low), "d" (high));
	else
		asm volatile("fxsave64 %0" : "=m" (v->xsave));
	/*
	 * Our own code must find an empty x87 stack; and FLDCW would raise an exception that
	 * the guest left pending.
	 */
	if (area(v)->ftw || (area(v)->fsw & FSW_ES))
		asm volatile("fninit");
	else
		asm volatile("fldcw %0" : : "m" (host_fcw));
	asm volatile("ldmxcsr %0" : : "m" (host_mxcsr));
	v->fpu_live = false;
}

void fpu_reset(struct vcpu *v, bool init)
{
	uint64_t *p = (uint64_t *)v->xsave, count = XSAVE_AREA_SIZE / 8;

	v->fpu_live = false;
	if (init)
		return;
	asm volatile("rep stosq" : "+D" (p), "+c" (count) : "a" (0) : "memory");
	area(v)->fcw = RESET_FCW;
	area(v)->ftw = 0xff;		/* all registers hold zero, none is empty */
	area(v)->mxcsr = MXCSR_RESET;
	area(v)->xstate_bv = XCR0_X87 | XCR0_SSE;
}
