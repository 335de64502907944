// SPDX-License-Identifier: Apache-2.0
/*
 * What a debugger sees of guest memory: through the present page tables whatever the privilege
 * and SMAP say, without a trace in them; RAM only, for reading a device's register is an act.
 */
#include "cpu/mmu.h"
#include "mgmt/gdb_priv.h"

static bool to_gpa(struct gdb *g, uint64_t addr, gpa_t *gpa)
{
	struct vcpu *v = vm_vcpu(g->vm, g->thread);
	const struct fault fault = v->fault;
	const uint64_t cr4 = v->cr4;
	bool ok;

	*gpa = addr;
	if (g->physical)
		return true;
	v->cr4 &= ~(uint64_t)CR4_SMAP;
	ok = gva_to_gpa(v, addr, ACC_READ | ACC_SUPER | ACC_PROBE, gpa) == MEM_OK;
	v->cr4 = cr4;
	v->fault = fault;
	return ok;
}

static bool each_page(struct gdb *g, uint64_t addr, uint8_t *buf, unsigned int len,
		      bool write)
{
	while (len) {
		unsigned int n = MIN(len, GUEST_PAGE_SIZE - (addr & GUEST_PAGE_MASK));
		enum mem_result r;
		gpa_t gpa;

		if (!to_gpa(g, addr, &gpa))
			return false;
		r = write ? gpa_write(vm_space(g->vm), gpa, buf, n)
			  : gpa_read(vm_space(g->vm), gpa, buf, n);
		if (r != MEM_OK)
			return false;
		addr += n;
		buf += n;
		len -= n;
	}
	return true;
}

bool gdb_memory_read(struct gdb *g, uint64_t addr, uint8_t *buf, unsigned int len)
{
	return each_page(g, addr, buf, len, false);
}

bool gdb_memory_write(struct gdb *g, uint64_t addr, const uint8_t *buf, unsigned int len)
{
	return each_page(g, addr, (uint8_t *)buf, len, true);
}
