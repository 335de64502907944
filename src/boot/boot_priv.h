/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The plan of a boot, as the loaders build it: the guest's memory map, the pieces of
 * memory to write, and the state in which the processor enters.
 */
#ifndef VIREO_BOOT_BOOT_PRIV_H
#define VIREO_BOOT_BOOT_PRIV_H

#include "boot/boot.h"

#define PLAN_PIECES_MAX		48
#define BOOT_LIMIT		(1ULL << 32)	/* everything a loader places is below */
#define RNG_SEED_SIZE		32

/* Guest memory that the plan claims.  The first data_size bytes are written. */
struct boot_piece {
	gpa_t base;
	uint64_t size;
	const uint8_t *data;	/* of an image, or our own: then owned is it */
	uint64_t data_size;
	struct boot_source {	/* data NULL: they are read from here */
		const char *name;
		int fd;
		uint64_t offset;
	} from;
	uint8_t *owned;
	bool zero;		/* the rest is cleared (else left as it is) */
};

enum entry_mode {
	ENTRY_FLAT32,		/* protected mode, flat segments, paging off */
	ENTRY_LINUX32,		/* the same, with a GDT and the selectors that Linux names */
	ENTRY_LONG64,		/* long mode, identity-mapped below 4 GiB */
};

struct boot_plan {
	const char *format;
	struct e820_map map;
	struct boot_piece piece[PLAN_PIECES_MAX];
	unsigned int piece_count;
	enum entry_mode mode;
	uint64_t rip, rax, rbx, rsi;
	gpa_t gdt;		/* ENTRY_LINUX32, ENTRY_LONG64 */
	gpa_t page_tables;	/* ENTRY_LONG64: the PML4 */
	gpa_t rng_seed;		/* RNG_SEED_SIZE fresh random bytes go here; 0: nowhere */
};

/* --- place.c --- */

/* Bytes of RAM that the guest is told of. */
uint64_t plan_ram(const struct boot_plan *p);

/* True if [@base, @base + @size) is RAM in one range and no piece claims any of it. */
bool plan_is_free(const struct boot_plan *p, gpa_t base, uint64_t size);
/* Finds free RAM at or above @from (below @limit); @align is a power of two. */
bool plan_find_low(const struct boot_plan *p, uint64_t size, uint64_t align, gpa_t from,
		   gpa_t limit, gpa_t *base);
/* The same from the top, ending at or below @limit. */
bool plan_find_high(const struct boot_plan *p, uint64_t size, uint64_t align, gpa_t limit,
		    gpa_t *base);

/*
 * Claims memory for image data at @base.  -EINVAL with a sentence about @what if it is not
 * free there.
 */
int plan_add_image(struct boot_plan *p, const char *what, gpa_t base, uint64_t size,
		   const uint8_t *data, uint64_t data_size, struct err *e);
/* Claims low memory for @size bytes of our own; *buf is zeroed and the plan's. */
int plan_add_own(struct boot_plan *p, const char *what, uint64_t size, uint64_t align,
		 gpa_t *base, void **buf, struct err *e);
/* The command line, with its end. */
int plan_add_string(struct boot_plan *p, const char *what, const char *text, gpa_t *base,
		    struct err *e);
/* The initrd as high as possible, ending at or below @limit; *base is 0 without one. */
int plan_add_initrd(struct boot_plan *p, const struct boot_file *initrd, gpa_t limit,
		    gpa_t *base, struct err *e);
/* The GDT for ENTRY_LINUX32. */
int plan_add_flat_mode(struct boot_plan *p, struct err *e);
/* GDT and identity page tables for ENTRY_LONG64. */
int plan_add_long_mode(struct boot_plan *p, struct err *e);

/* --- elf.c --- */

#define ELF_SEGMENTS_MAX	32

struct elf_segment {
	const uint8_t *data;
	uint64_t file_size, mem_size;
	gpa_t paddr;
	uint64_t vaddr;
};

struct elf_image {
	bool is64;
	uint64_t entry;
	struct elf_segment load[ELF_SEGMENTS_MAX];
	unsigned int load_count;
	bool has_pvh;
	uint32_t pvh_entry;
};

static inline uint32_t image_u32(const struct boot_file *f, uint64_t off)
{
	uint32_t v;

	__builtin_memcpy(&v, f->data + off, sizeof(v));
	return v;
}

bool elf_magic(const struct boot_file *f);
/* Reads the headers and notes; everything in @img is within the file. */
int elf_parse(struct elf_image *img, const struct boot_file *f, struct err *e);
/* Claims memory for each segment. */
int elf_add(struct boot_plan *p, const struct elf_image *img, const struct boot_file *f,
	    struct err *e);
/* True if @addr is inside a loaded segment's physical range. */
bool elf_covers(const struct elf_image *img, gpa_t addr);

/* --- the loaders --- */

bool linux_detect(const struct boot_file *f);
int linux_plan(struct boot_plan *p, const struct boot_request *rq, struct err *e);
/* A 64-bit vmlinux without any other boot header. */
int linux_plan_elf(struct boot_plan *p, const struct boot_request *rq,
		     const struct elf_image *img, struct err *e);
int pvh_plan(struct boot_plan *p, const struct boot_request *rq, const struct elf_image *img,
	     struct err *e);
bool multiboot1_detect(const struct boot_file *f);
int multiboot1_plan(struct boot_plan *p, const struct boot_request *rq, struct err *e);

#endif
