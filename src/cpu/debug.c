// SPDX-License-Identifier: Apache-2.0
/*
 * Breakpoints of the debug registers on instructions and ports.  Those on data are
 * found by the slow path of memory accesses.
 *
 * Source: Intel SDM volume 3, "Debug Registers".
 */
#include "cpu/system_priv.h"

enum { RW_EXECUTE, RW_WRITE, RW_IO, RW_DATA };

#define DR7_ENABLES	0xffULL

static bool enabled(const struct vcpu *v, unsigned int n)
{
	return v->dr[7] >> n * 2 & 3;
}

static unsigned int kind(const struct vcpu *v, unsigned int n)
{
	return v->dr[7] >> (16 + n * 4) & 3;
}

static unsigned int length(const struct vcpu *v, unsigned int n)
{
	static const uint8_t bytes[] = { 1, 2, 8, 4 };

	return bytes[v->dr[7] >> (18 + n * 4) & 3];
}

bool debug_code_breakpoint(struct vcpu *v, gva_t rip, uint64_t *dr6)
{
	uint64_t hit = 0;
	bool any = false;

	if (!(v->dr[7] & DR7_ENABLES) || v->rflags & RFLAGS_RF)
		return false;
	for (unsigned int n = 0; n < 4; n++) {
		if (kind(v, n) != RW_EXECUTE || v->dr[n] != rip)
			continue;
		/* Conditions that are met are reported for disabled ones as well. */
		hit |= BIT(n);
		any |= enabled(v, n);
	}
	*dr6 = hit;
	return any;
}

void debug_io_breakpoint(struct vcpu *v, uint16_t port, unsigned int size)
{
	uint64_t hit = 0;
	bool any = false;

	if (!(v->dr[7] & DR7_ENABLES) || !(v->cr4 & CR4_DE))
		return;
	for (unsigned int n = 0; n < 4; n++) {
		uint64_t len = length(v, n), start = v->dr[n] & ~(len - 1);

		if (kind(v, n) != RW_IO || start >= port + size || port >= start + len)
			continue;
		hit |= BIT(n);
		any |= enabled(v, n);
	}
	if (any)
		v->db_pending |= hit;
}
