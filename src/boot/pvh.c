// SPDX-License-Identifier: Apache-2.0
/*
 * PVH: an ELF file whose Xen note names a 32-bit entry.  It is entered in flat protected
 * mode, paging off, EBX at the start info with modules, memory map and RSDP.
 *
 * Source: Xen's docs/misc/pvh.pandoc, "x86/HVM direct boot ABI", and its public header
 * arch-x86/hvm/start_info.h (version 1).  Hypercalls are not offered.
 */
#include "boot/boot_priv.h"

#include <errno.h>

#define START_MAGIC	0x336ec578
#define START_VERSION	1

struct pvh_start_info {
	uint32_t magic, version, flags, nr_modules;
	uint64_t modlist_paddr, cmdline_paddr, rsdp_paddr, memmap_paddr;
	uint32_t memmap_entries, reserved;
};

struct pvh_module {
	uint64_t paddr, size, cmdline_paddr, reserved;
};

struct pvh_memmap_entry {
	uint64_t addr, size;
	uint32_t type, reserved;
};

static int add_memmap(struct boot_plan *p, struct pvh_start_info *si, struct err *e)
{
	struct pvh_memmap_entry *t;
	void *buf;
	int rc;

	rc = plan_add_own(p, "the memory map", p->map.count * sizeof(*t), 8, &si->memmap_paddr,
			  &buf, e);
	if (rc)
		return rc;
	t = buf;
	for (unsigned int i = 0; i < p->map.count; i++)
		t[i] = (struct pvh_memmap_entry){ .addr = p->map.entry[i].base,
						  .size = p->map.entry[i].size,
						  .type = p->map.entry[i].type };
	si->memmap_entries = p->map.count;
	return 0;
}

static int add_module(struct boot_plan *p, struct pvh_start_info *si,
		      const struct boot_file *initrd, struct err *e)
{
	struct pvh_module *m;
	gpa_t base;
	void *buf;
	int rc;

	rc = plan_add_initrd(p, initrd, BOOT_LIMIT, &base, e);
	if (rc || initrd->size == 0)
		return rc;
	rc = plan_add_own(p, "the module list", sizeof(*m), 8, &si->modlist_paddr, &buf, e);
	if (rc)
		return rc;
	m = buf;
	m->paddr = base;
	m->size = initrd->size;
	si->nr_modules = 1;
	return 0;
}

int pvh_plan(struct boot_plan *p, const struct boot_request *rq, const struct elf_image *img,
	     struct err *e)
{
	struct pvh_start_info *si;
	void *buf;
	int rc;

	p->format = "ELF, PVH entry";
	if (!elf_covers(img, img->pvh_entry))
		return err_set(e, EINVAL, "'%s' cannot be started: its PVH entry 0x%x is outside "
			       "what it loads", rq->kernel.name, img->pvh_entry);
	rc = elf_add(p, img, &rq->kernel, e);
	if (!rc)
		rc = plan_add_own(p, "the start info", sizeof(*si), 8, &p->rbx, &buf, e);
	if (rc)
		return rc;
	si = buf;
	*si = (struct pvh_start_info){ .magic = START_MAGIC, .version = START_VERSION,
				       .rsdp_paddr = rq->rsdp };
	rc = plan_add_string(p, "the command line", rq->cmdline ? rq->cmdline : "",
			     &si->cmdline_paddr, e);
	if (!rc)
		rc = add_memmap(p, si, e);
	if (!rc)
		rc = add_module(p, si, &rq->initrd, e);
	p->mode = ENTRY_FLAT32;
	p->rip = img->pvh_entry;
	return rc;
}
