// SPDX-License-Identifier: Apache-2.0
/*
 * ELF executables for loaders: program headers and notes, 32 and 64 bit.  Sections,
 * relocations and symbols are not looked at.
 *
 * Source: "Executable and Linking Format (ELF) Specification" 1.2, chapter "Program
 * Loading"; the Xen note's number from Xen's public header elfnote.h.
 */
#include "boot/boot_priv.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

#define XEN_ELFNOTE_PHYS32_ENTRY	18

bool elf_magic(const struct boot_file *f)
{
	return f->size >= EI_NIDENT && !memcmp(f->data, ELFMAG, SELFMAG);
}

/* The fields of both classes' headers that we use. */
struct elf_header {
	uint16_t type, machine, phentsize, phnum;
	uint64_t entry, phoff;
};

struct elf_phdr {
	uint32_t type;
	uint64_t off, vaddr, paddr, filesz, memsz;
};

static bool read_header(struct elf_header *h, const struct boot_file *f, bool is64)
{
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;

	if (f->size < (is64 ? sizeof(e64) : sizeof(e32)))
		return false;
	if (is64) {
		memcpy(&e64, f->data, sizeof(e64));
		*h = (struct elf_header){ e64.e_type, e64.e_machine, e64.e_phentsize,
					  e64.e_phnum, e64.e_entry, e64.e_phoff };
	} else {
		memcpy(&e32, f->data, sizeof(e32));
		*h = (struct elf_header){ e32.e_type, e32.e_machine, e32.e_phentsize,
					  e32.e_phnum, e32.e_entry, e32.e_phoff };
	}
	return true;
}

/* @off is checked. */
static struct elf_phdr read_phdr(const struct boot_file *f, uint64_t off, bool is64)
{
	Elf64_Phdr p64;
	Elf32_Phdr p32;

	if (is64) {
		memcpy(&p64, f->data + off, sizeof(p64));
		return (struct elf_phdr){ p64.p_type, p64.p_offset, p64.p_vaddr, p64.p_paddr,
					  p64.p_filesz, p64.p_memsz };
	}
	memcpy(&p32, f->data + off, sizeof(p32));
	return (struct elf_phdr){ p32.p_type, p32.p_offset, p32.p_vaddr, p32.p_paddr,
				  p32.p_filesz, p32.p_memsz };
}

static bool in_file(const struct boot_file *f, uint64_t off, uint64_t size)
{
	return off <= f->size && size <= f->size - off;
}

/* Looks for the PVH entry in a note segment that is within the file. */
static void scan_notes(struct elf_image *img, const uint8_t *p, uint64_t left)
{
	Elf32_Nhdr n;	/* the same in both classes */

	while (left >= sizeof(n)) {
		uint64_t name_size, desc_size;
		uint32_t value;

		memcpy(&n, p, sizeof(n));
		p += sizeof(n);
		left -= sizeof(n);
		name_size = ALIGN_UP((uint64_t)n.n_namesz, 4);
		desc_size = ALIGN_UP((uint64_t)n.n_descsz, 4);
		if (name_size > left || desc_size > left - name_size)
			return;
		if (n.n_type == XEN_ELFNOTE_PHYS32_ENTRY && n.n_namesz == 4 &&
		    !memcmp(p, "Xen", 4) && n.n_descsz >= sizeof(value)) {
			memcpy(&value, p + name_size, sizeof(value));
			img->has_pvh = true;
			img->pvh_entry = value;
		}
		p += name_size + desc_size;
		left -= name_size + desc_size;
	}
}

static int add_phdr(struct elf_image *img, const struct elf_phdr *ph, const struct boot_file *f,
		    unsigned int index, struct err *e)
{
	if (ph->type == PT_NOTE && in_file(f, ph->off, ph->filesz))
		scan_notes(img, f->data + ph->off, ph->filesz);
	if (ph->type != PT_LOAD || ph->memsz == 0)
		return 0;
	if (!in_file(f, ph->off, ph->filesz))
		return err_set(e, EINVAL, "'%s' is truncated: segment %u ends beyond the file",
			       f->name, index);
	if (ph->filesz > ph->memsz)
		return err_set(e, EINVAL, "'%s' is damaged: segment %u is larger in the file than "
			       "in memory", f->name, index);
	if (ph->paddr + ph->memsz < ph->paddr || ph->paddr + ph->memsz > BOOT_LIMIT)
		return err_set(e, EINVAL, "'%s': segment %u wants memory above 4 GiB", f->name,
			       index);
	if (img->load_count == ELF_SEGMENTS_MAX)
		return err_set(e, EINVAL, "'%s' has more than %u segments", f->name,
			       ELF_SEGMENTS_MAX);
	img->load[img->load_count++] = (struct elf_segment){
		.data = f->data + ph->off, .file_size = ph->filesz, .mem_size = ph->memsz,
		.paddr = ph->paddr, .vaddr = ph->vaddr,
	};
	return 0;
}

static int check_header(const struct elf_header *h, const struct boot_file *f, bool is64,
			struct err *e)
{
	const uint64_t phentsize = is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (h->machine != EM_X86_64 && h->machine != EM_386)
		return err_set(e, EINVAL, "'%s' is an ELF file for another processor (machine %u)",
			       f->name, h->machine);
	if (h->type != ET_EXEC)
		return err_set(e, EINVAL, "'%s' is an ELF file but not a fixed-address executable "
			       "(type %u), so not a kernel", f->name, h->type);
	if (h->phentsize != phentsize || !in_file(f, h->phoff, h->phnum * phentsize))
		return err_set(e, EINVAL, "'%s' is truncated or damaged: its program headers are "
			       "not in the file", f->name);
	return 0;
}

int elf_parse(struct elf_image *img, const struct boot_file *f, struct err *e)
{
	struct elf_header h;
	int rc;

	memset(img, 0, sizeof(*img));
	img->is64 = f->data[EI_CLASS] == ELFCLASS64;
	if (!read_header(&h, f, img->is64))
		return err_set(e, EINVAL, "'%s' is truncated: its ELF header is not whole",
			       f->name);
	rc = check_header(&h, f, img->is64, e);
	for (unsigned int i = 0; i < h.phnum && !rc; i++) {
		const struct elf_phdr ph = read_phdr(f, h.phoff + (uint64_t)i * h.phentsize,
						     img->is64);

		rc = add_phdr(img, &ph, f, i, e);
	}
	if (!rc && img->load_count == 0)
		rc = err_set(e, EINVAL, "'%s' is an ELF file with nothing to load", f->name);
	img->entry = h.entry;
	return rc;
}

int elf_add(struct boot_plan *p, const struct elf_image *img, const struct boot_file *f,
	    struct err *e)
{
	for (unsigned int i = 0; i < img->load_count; i++) {
		const struct elf_segment *l = &img->load[i];
		int rc;

		rc = plan_add_image(p, "a segment of the kernel", l->paddr, l->mem_size, l->data,
				    l->file_size, e);
		if (rc) {
			err_prefix(e, "'%s'", f->name);
			return rc;
		}
	}
	return 0;
}

bool elf_covers(const struct elf_image *img, gpa_t addr)
{
	for (unsigned int i = 0; i < img->load_count; i++)
		if (addr - img->load[i].paddr < img->load[i].mem_size)
			return true;
	return false;
}
