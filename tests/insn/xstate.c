// SPDX-License-Identifier: Apache-2.0
/*
 * Where the host's XSAVE area (standard format) keeps what we compare.
 * Source: Intel SDM volume 1, "Managing State Using the XSAVE Feature Set".
 */
#include "case.h"

#include <cpuid.h>
#include <string.h>

/* Asked once: where CPUID exits to a hypervisor it costs 10 us. */
static struct xpart xparts[8] = { [1] = { 160, 256 } };	/* SSE: always there */

struct xpart xstate_part(unsigned int feature)
{
	struct xpart *p = &xparts[feature];
	uint32_t c, d;

	if (p->offset)
		return *p;
	p->offset = 576;
	if (xstate_host_features() >> feature & 1)
		__cpuid_count(0xd, feature, p->size, p->offset, c, d);
	if (p->offset + p->size > XSAVE_MAX)
		p->size = 0;
	return *p;
}

uint64_t xstate_host_features(void)
{
	uint32_t lo, hi;

	asm volatile("xgetbv" : "=a" (lo), "=d" (hi) : "c" (0));
	return ((uint64_t)hi << 32 | lo) & XFEATURES;
}
