// SPDX-License-Identifier: Apache-2.0
/*
 * Multiboot 1: a header in the file's first 8 KiB; loaded as ELF or by the addresses in
 * the header; entered in flat protected mode, paging off, EBX at the information
 * structure.
 *
 * Source: "Multiboot Specification version 0.6.96", chapter "Specification".  Not offered:
 * video modes (the request is passed over), drives, APM, symbols.
 */
#include "boot/boot_priv.h"

#include <errno.h>
#include <string.h>

#define HEADER_MAGIC		0x1badb002
#define HEADER_SEARCH		8192
#define HEADER_SIZE		12		/* magic, flags, checksum */
#define HEADER_ADDR_SIZE	32		/* with the address fields */
#define BOOTED_MAGIC		0x2badb002

#define HDR_REQUIRED		0xffffU		/* what a loader must understand ... */
#define HDR_KNOWN		0x0007U		/* ... page align, memory info, video */
#define HDR_ADDRESSES		BIT(16)

#define INFO_MEMORY		BIT(0)
#define INFO_CMDLINE		BIT(2)
#define INFO_MODS		BIT(3)
#define INFO_MMAP		BIT(6)
#define INFO_LOADER_NAME	BIT(9)

struct mb_info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline;
	uint32_t mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table;
	uint32_t loader_name, apm_table, vbe[4];
};

struct mb_module {
	uint32_t start, end, string, reserved;
};

struct mb_mmap {
	uint32_t size;		/* of the rest of the entry */
	uint64_t base, length;
	uint32_t type;
} __attribute__((packed));

static bool find_header(const struct boot_file *f, uint64_t *at)
{
	const uint64_t end = MIN(f->size, HEADER_SEARCH);

	for (uint64_t off = 0; off + HEADER_SIZE <= end; off += 4) {
		if (image_u32(f, off) == HEADER_MAGIC &&
		    HEADER_MAGIC + image_u32(f, off + 4) + image_u32(f, off + 8) == 0) {
			*at = off;
			return true;
		}
	}
	return false;
}

bool multiboot1_detect(const struct boot_file *f)
{
	uint64_t at;

	return find_header(f, &at);
}

/* The addresses in the header say where the file goes; @at is the header's offset. */
static int load_by_header(struct boot_plan *p, const struct boot_file *f, uint64_t at,
			  struct err *e)
{
	uint64_t header, load, load_end, bss_end, off, size;

	if (f->size - at < HEADER_ADDR_SIZE)
		return err_set(e, EINVAL, "'%s' is truncated: its Multiboot header is not whole",
			       f->name);
	header = image_u32(f, at + 12);
	load = image_u32(f, at + 16);
	load_end = image_u32(f, at + 20);
	bss_end = image_u32(f, at + 24);
	p->rip = image_u32(f, at + 28);
	if (load > header || header - load > at)
		return err_set(e, EINVAL, "'%s' is damaged: its Multiboot header would load from "
			       "before the file", f->name);
	off = at - (header - load);
	size = load_end ? load_end - load : f->size - off;
	if ((load_end && load_end <= load) || size > f->size - off)
		return err_set(e, EINVAL, "'%s' is truncated or damaged: its Multiboot header loads "
			       "bytes that the file does not have", f->name);
	if (bss_end && bss_end < load + size)
		return err_set(e, EINVAL, "'%s' is damaged: its Multiboot header ends bss before "
			       "the data", f->name);
	if (p->rip < load || p->rip >= load + size)
		return err_set(e, EINVAL, "'%s' cannot be started: its entry point is outside what "
			       "it loads", f->name);
	return plan_add_image(p, "the kernel", load, bss_end ? bss_end - load : size,
			      f->data + off, size, e);
}

static int load_elf(struct boot_plan *p, const struct boot_file *f, struct err *e)
{
	struct elf_image img;
	int rc;

	if (!elf_magic(f))
		return err_set(e, EINVAL, "'%s' has a Multiboot header without addresses and is no "
			       "ELF file", f->name);
	rc = elf_parse(&img, f, e);
	if (rc)
		return rc;
	if (!elf_covers(&img, img.entry))
		return err_set(e, EINVAL, "'%s' cannot be started: its entry point is outside what "
			       "it loads", f->name);
	p->rip = img.entry;
	return elf_add(p, &img, f, e);
}

static int add_mmap(struct boot_plan *p, struct mb_info *mi, struct err *e)
{
	const struct e820_map *m = &p->map;
	struct mb_mmap *t;
	gpa_t at;
	void *buf;
	int rc;

	rc = plan_add_own(p, "the memory map", m->count * sizeof(*t), 8, &at, &buf, e);
	if (rc)
		return rc;
	t = buf;
	for (unsigned int i = 0; i < m->count; i++) {
		const struct e820_entry *r = &m->entry[i];

		t[i] = (struct mb_mmap){ sizeof(*t) - 4, r->base, r->size, r->type };
		if (r->type != E820_RAM)
			continue;
		if (r->base == 0)
			mi->mem_lower = MIN(r->size, 640ULL << 10) >> 10;
		if (r->base <= 1 << 20 && r->base + r->size > 1 << 20)
			mi->mem_upper = MIN(r->base + r->size - (1 << 20), BOOT_LIMIT) >> 10;
	}
	mi->mmap_addr = at;
	mi->mmap_length = m->count * sizeof(*t);
	mi->flags |= INFO_MMAP | INFO_MEMORY;
	return 0;
}

static int add_module(struct boot_plan *p, struct mb_info *mi, const struct boot_file *initrd,
		      struct err *e)
{
	struct mb_module *m;
	gpa_t base, list, name;
	void *buf;
	int rc;

	mi->flags |= INFO_MODS;
	rc = plan_add_initrd(p, initrd, BOOT_LIMIT, &base, e);
	if (rc || initrd->size == 0)
		return rc;
	rc = plan_add_string(p, "the module's name", initrd->name, &name, e);
	if (!rc)
		rc = plan_add_own(p, "the module list", sizeof(*m), 8, &list, &buf, e);
	if (rc)
		return rc;
	m = buf;
	*m = (struct mb_module){ .start = base, .end = base + initrd->size, .string = name };
	mi->mods_count = 1;
	mi->mods_addr = list;
	return 0;
}

static int add_info(struct boot_plan *p, const struct boot_request *rq, struct err *e)
{
	struct mb_info *mi;
	gpa_t cmdline, loader;
	void *buf;
	int rc;

	rc = plan_add_own(p, "the Multiboot information", sizeof(*mi), 8, &p->rbx, &buf, e);
	if (rc)
		return rc;
	mi = buf;
	rc = plan_add_string(p, "the command line", rq->cmdline ? rq->cmdline : "", &cmdline, e);
	if (!rc)
		rc = plan_add_string(p, "the loader's name", "vireo", &loader, e);
	if (!rc)
		rc = add_mmap(p, mi, e);
	if (!rc)
		rc = add_module(p, mi, &rq->initrd, e);
	if (rc)
		return rc;
	mi->cmdline = cmdline;
	mi->loader_name = loader;
	mi->flags |= INFO_CMDLINE | INFO_LOADER_NAME;
	return 0;
}

int multiboot1_plan(struct boot_plan *p, const struct boot_request *rq, struct err *e)
{
	const struct boot_file *f = &rq->kernel;
	uint32_t flags, unknown;
	uint64_t at = 0;
	int rc;

	p->format = "Multiboot 1";
	if (!find_header(f, &at))
		return err_set(e, ENOEXEC, "'%s' has no Multiboot header", f->name);
	flags = image_u32(f, at + 4);
	unknown = flags & HDR_REQUIRED & ~HDR_KNOWN;
	if (unknown)
		return err_set(e, EINVAL, "'%s' requires Multiboot features (0x%x) that do not "
			       "exist here", f->name, unknown);
	rc = flags & HDR_ADDRESSES ? load_by_header(p, f, at, e) : load_elf(p, f, e);
	if (!rc)
		rc = add_info(p, rq, e);
	p->mode = ENTRY_FLAT32;
	p->rax = BOOTED_MAGIC;
	return rc;
}
