/* SPDX-License-Identifier: Apache-2.0 */
/* Small kernel images for the loader tests, made in memory; and a guest's memory map. */
#ifndef VIREO_TESTS_BOOT_IMAGES_H
#define VIREO_TESTS_BOOT_IMAGES_H

#include "boot/boot_priv.h"

#include <asm/bootparam.h>
#include <elf.h>
#include <string.h>

#define MIB (1ULL << 20)

/* As the machine tells it: low RAM, the hole below 1 MiB, RAM up to @mib. */
static inline struct e820_map test_map(uint64_t mib)
{
	return (struct e820_map){ .count = 3, .entry = {
		{ 0, 0x9fc00, E820_RAM },
		{ 0x9fc00, 0x60400, E820_RESERVED },
		{ MIB, (mib - 1) * MIB, E820_RAM },
	} };
}

/* A bzImage: one boot sector, four setup sectors, @code_size bytes of kernel. */
static inline uint64_t make_bzimage(uint8_t *buf, uint64_t code_size)
{
	struct setup_header h = {
		.setup_sects = 4, .syssize = code_size / 16, .boot_flag = 0xaa55,
		.jump = 0x6aeb, .header = 0x53726448, .version = 0x020f,
		.loadflags = LOADED_HIGH | CAN_USE_HEAP, .initrd_addr_max = 0x7fffffff,
		.kernel_alignment = 0x200000, .relocatable_kernel = 1,
		.xloadflags = XLF_KERNEL_64, .cmdline_size = 2047,
		.pref_address = 16 * MIB, .init_size = 8 * MIB,
	};

	memset(buf, 0, 5 * 512);
	memcpy(buf + 0x1f1, &h, sizeof(h));
	for (uint64_t i = 0; i < code_size; i++)
		buf[5 * 512 + i] = i * 7 + 1;
	return 5 * 512 + code_size;
}

static inline struct setup_header *bzimage_header(uint8_t *buf)
{
	return (struct setup_header *)(buf + 0x1f1);
}

#define ELF_CODE_AT	0x1000
#define ELF_NOTE_AT	0x200

/* An ELF64 file: one segment of @filesz bytes (@memsz in memory) at @paddr, one PVH note. */
static inline uint64_t make_elf64(uint8_t *buf, uint64_t paddr, uint64_t filesz, uint64_t memsz,
				  bool pvh)
{
	Elf64_Ehdr eh = {
		.e_ident = { ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, 1 },
		.e_type = ET_EXEC, .e_machine = EM_X86_64, .e_version = 1, .e_entry = paddr + 0x10,
		.e_phoff = sizeof(eh), .e_ehsize = sizeof(eh), .e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = pvh ? 2 : 1,
	};
	const Elf64_Phdr ph[2] = {
		{ .p_type = PT_LOAD, .p_offset = ELF_CODE_AT, .p_paddr = paddr, .p_vaddr = paddr,
		  .p_filesz = filesz, .p_memsz = memsz, .p_flags = PF_R | PF_X },
		{ .p_type = PT_NOTE, .p_offset = ELF_NOTE_AT, .p_filesz = 20, .p_align = 4 },
	};
	const uint32_t note[5] = { 4, 4, 18, 0x006e6558 /* "Xen" */, paddr + 0x20 };

	memset(buf, 0, ELF_CODE_AT);
	memcpy(buf, &eh, sizeof(eh));
	memcpy(buf + sizeof(eh), ph, sizeof(ph));
	memcpy(buf + ELF_NOTE_AT, note, sizeof(note));
	memset(buf + ELF_CODE_AT, 0x90, filesz);
	return ELF_CODE_AT + filesz;
}

/* A Multiboot image with addresses in its header: loaded at 1 MiB, header at 0x40. */
static inline uint64_t make_multiboot(uint8_t *buf, uint32_t flags, uint64_t size)
{
	const uint32_t load = MIB;
	const uint32_t header[8] = {
		0x1badb002, flags, -(0x1badb002 + flags), load + 0x40, load, load + size,
		load + size + 0x1000, load + 0x60,
	};

	memset(buf, 0x90, size);
	memcpy(buf + 0x40, header, sizeof(header));
	return size;
}

/* The piece of the plan that starts at @base, or NULL. */
static inline const struct boot_piece *piece_of(const struct boot_plan *p, gpa_t base)
{
	for (unsigned int i = 0; i < p->piece_count; i++)
		if (p->piece[i].base == base)
			return &p->piece[i];
	return NULL;
}

#endif
