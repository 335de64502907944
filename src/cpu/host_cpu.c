// SPDX-License-Identifier: Apache-2.0
/*
 * What is asked of the host's processor: its TSC frequency and its register state.
 *
 * Source: Intel SDM volume 3, "Determining the Processor Base Frequency"; volume 1,
 * "Enabling the XSAVE Feature Set".
 */
#include "base/clock.h"
#include "cpu/cpuid.h"

#include <cpuid.h>
#include <time.h>

#define MEASURE_NS	20000000
#define ATTEMPTS	16

struct sample {
	uint64_t tsc;
	uint64_t ns;
};

/* The TSC at a time; of some attempts the one that was interrupted least. */
static struct sample take_sample(void)
{
	struct sample best = { 0 };
	uint64_t window = UINT64_MAX;

	for (int i = 0; i < ATTEMPTS; i++) {
		struct timespec ts;
		uint64_t before, after;

		before = __builtin_ia32_rdtsc();
		clock_gettime(CLOCK_MONOTONIC, &ts);
		after = __builtin_ia32_rdtsc();
		if (after - before >= window)
			continue;
		window = after - before;
		best.tsc = before + window / 2;
		best.ns = ts.tv_sec * NS_PER_SEC + ts.tv_nsec;
	}
	return best;
}

uint64_t host_tsc_hz(void)
{
	struct timespec pause = { .tv_nsec = MEASURE_NS };
	struct sample first, last;
	uint32_t a, b, c, d;

	if (__get_cpuid(0x15, &a, &b, &c, &d) && a && b && c)
		return (uint64_t)c * b / a;
	first = take_sample();
	nanosleep(&pause, NULL);	/* cut short by a signal, it is only less exact */
	last = take_sample();
	return muldiv64(last.tsc - first.tsc, NS_PER_SEC, last.ns - first.ns);
}

uint64_t host_xcr0(void)
{
	uint32_t a, b, c, d;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	asm volatile("xgetbv" : "=a" (a), "=d" (d) : "c" (0));
	return a | (uint64_t)d << 32;
}
