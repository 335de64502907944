// SPDX-License-Identifier: Apache-2.0
/*
 * Linux by its boot protocol: a bzImage's protected-mode part at its preferred address,
 * entered at +0x200 in long mode with RSI at the zero page, or if it is a 32-bit kernel at its
 * beginning in flat protected mode with ESI there; a 64-bit vmlinux as the former at its ELF
 * entry.  The real-mode part is not run.  The initrd goes as high as the header allows.  A
 * fresh random seed is handed over at each boot (setup_data).
 *
 * Source: Linux's Documentation/x86/boot.rst, "32-bit Boot Protocol" and "64-bit Boot
 * Protocol", and zero-page.rst.  Not done: EFI hand-over, kernels before protocol 2.12 (Linux
 * 3.8), loading above 4 GiB.
 */
#include "boot/boot_priv.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_AT		offsetof(struct boot_params, hdr)	/* 0x1f1, in the file too */
#define HEADER_MAGIC		0x53726448	/* "HdrS" */
#define BOOT_FLAG		0xaa55
#define PROTOCOL_2_12		0x020c
#define SECTOR			512
#define SETUP_SECTS_DEFAULT	4		/* a 0 in the header means 4 */
#define ENTRY_64		0x200
#define LOADER_UNDEFINED	0xff
#define CMDLINE_MAX		(64 * 1024)	/* ours, for kernels that name no limit */

struct bzimage {
	struct setup_header hdr;
	uint64_t header_size;		/* bytes of it that the image really has */
	const uint8_t *code;		/* the protected-mode part */
	uint64_t code_size;
	uint64_t run_size;		/* what it needs from its load address on */
};

bool linux_detect(const struct boot_file *f)
{
	struct setup_header hdr;

	if (f->size < HEADER_AT + sizeof(hdr))
		return false;
	memcpy(&hdr, f->data + HEADER_AT, sizeof(hdr));
	return hdr.boot_flag == BOOT_FLAG && hdr.header == HEADER_MAGIC;
}

static int check_version(const struct setup_header *h, const char *name, struct err *e)
{
	if (h->version < PROTOCOL_2_12)
		return err_set(e, EINVAL, "'%s' speaks Linux boot protocol %u.%u; 2.12 (Linux 3.8) "
			       "or later is needed", name, h->version >> 8, h->version & 0xff);
	if (!(h->loadflags & LOADED_HIGH))
		return err_set(e, EINVAL, "'%s' is a zImage; only a bzImage can be booted", name);
	if (h->relocatable_kernel &&
	    (h->kernel_alignment == 0 || (h->kernel_alignment & (h->kernel_alignment - 1))))
		return err_set(e, EINVAL, "'%s' is damaged: its header asks for an alignment of "
			       "0x%x", name, h->kernel_alignment);
	return 0;
}

/* @f has passed linux_detect(). */
static int bzimage_parse(struct bzimage *b, const struct boot_file *f, struct err *e)
{
	uint64_t setup_size, promised;
	int rc;

	memcpy(&b->hdr, f->data + HEADER_AT, sizeof(b->hdr));
	rc = check_version(&b->hdr, f->name, e);
	if (rc)
		return rc;
	/* The byte after the jump's opcode says where the header ends. */
	b->header_size = 0x202 + f->data[0x201] - HEADER_AT;
	b->header_size = MIN(b->header_size, sizeof(b->hdr));
	setup_size = (b->hdr.setup_sects ? b->hdr.setup_sects : SETUP_SECTS_DEFAULT) + 1;
	setup_size *= SECTOR;
	promised = (uint64_t)b->hdr.syssize * 16;
	if (f->size < setup_size || promised > ALIGN_UP(f->size - setup_size, 16))
		return err_set(e, EINVAL, "'%s' is truncated: %llu bytes, but its header promises "
			       "%llu", f->name, (unsigned long long)f->size,
			       (unsigned long long)(setup_size + promised));
	b->code = f->data + setup_size;
	b->code_size = MIN(promised, f->size - setup_size);
	if (b->code_size <= ENTRY_64)
		return err_set(e, EINVAL, "'%s' is damaged: its kernel has only %llu bytes",
			       f->name, (unsigned long long)b->code_size);
	b->run_size = MAX((uint64_t)b->hdr.init_size, b->code_size);
	return 0;
}

/* The preferred address if that is free, else (relocatable) the lowest that is. */
static int place_kernel(struct boot_plan *p, const struct bzimage *b, const char *name,
			struct err *e)
{
	gpa_t at = b->hdr.pref_address;
	struct boot_piece *q;
	int rc;

	if (at + b->run_size > BOOT_LIMIT || !plan_is_free(p, at, b->run_size)) {
		if (!b->hdr.relocatable_kernel ||
		    !plan_find_low(p, b->run_size, MAX(b->hdr.kernel_alignment, 1U), 1 << 20,
				   BOOT_LIMIT, &at))
			return err_set(e, ENOMEM, "kernel '%s' needs %llu MiB of memory in one piece "
				       "at 0x%llx to start; the guest has %llu MiB", name,
				       (unsigned long long)(b->run_size + 0xfffff) >> 20,
				       (unsigned long long)b->hdr.pref_address,
				       (unsigned long long)plan_ram(p) >> 20);
	}
	rc = plan_add_image(p, "the kernel", at, b->run_size, b->code, b->code_size, e);
	if (rc)
		return rc;
	q = &p->piece[p->piece_count - 1];
	q->zero = false;	/* the kernel clears what it needs */
	p->mode = b->hdr.xloadflags & XLF_KERNEL_64 ? ENTRY_LONG64 : ENTRY_LINUX32;
	p->rip = at + (p->mode == ENTRY_LONG64 ? ENTRY_64 : 0);
	return 0;
}

static void fill_e820(struct boot_params *zp, const struct e820_map *m)
{
	_Static_assert(E820_MAX <= E820_MAX_ENTRIES_ZEROPAGE, "the map must fit");

	for (unsigned int i = 0; i < m->count; i++)
		zp->e820_table[i] = (struct boot_e820_entry){
			.addr = m->entry[i].base, .size = m->entry[i].size,
			.type = m->entry[i].type,
		};
	zp->e820_entries = m->count;
}

/* A setup_data node whose bytes boot_enter() draws anew each time. */
static int add_seed(struct boot_plan *p, struct boot_params *zp, struct err *e)
{
	struct setup_data *node;
	gpa_t at;
	void *buf;
	int rc;

	rc = plan_add_own(p, "a random seed", sizeof(*node) + RNG_SEED_SIZE, 16, &at, &buf, e);
	if (rc)
		return rc;
	node = buf;
	node->type = SETUP_RNG_SEED;
	node->len = RNG_SEED_SIZE;
	p->rng_seed = at + sizeof(*node);
	zp->hdr.setup_data = at;
	return 0;
}

/* The zero page, the command line, the initrd and the rest; the kernel is placed. */
static int add_params(struct boot_plan *p, const struct boot_request *rq,
		      const struct setup_header *hdr, uint64_t header_size, uint64_t initrd_limit,
		      struct err *e)
{
	struct boot_params *zp;
	gpa_t cmdline, initrd;
	void *buf;
	int rc;

	rc = plan_add_own(p, "the zero page", GUEST_PAGE_SIZE, GUEST_PAGE_SIZE, &p->rsi, &buf, e);
	if (rc)
		return rc;
	zp = buf;
	memcpy(&zp->hdr, hdr, header_size);
	rc = plan_add_string(p, "the command line", rq->cmdline ? rq->cmdline : "", &cmdline, e);
	if (!rc)
		rc = plan_add_initrd(p, &rq->initrd, initrd_limit, &initrd, e);
	if (!rc)
		rc = add_seed(p, zp, e);
	if (!rc)
		rc = p->mode == ENTRY_LONG64 ? plan_add_long_mode(p, e) : plan_add_flat_mode(p, e);
	if (rc)
		return rc;
	zp->hdr.type_of_loader = LOADER_UNDEFINED;
	zp->hdr.loadflags &= ~CAN_USE_HEAP;
	zp->hdr.cmd_line_ptr = cmdline;
	zp->hdr.ramdisk_image = initrd;
	zp->hdr.ramdisk_size = rq->initrd.size;
	zp->acpi_rsdp_addr = rq->rsdp;
	fill_e820(zp, &p->map);
	return 0;
}

static int check_cmdline(const struct boot_request *rq, uint64_t max, struct err *e)
{
	const size_t len = rq->cmdline ? strlen(rq->cmdline) : 0;

	if (len > max)
		return err_set(e, EINVAL, "the kernel command line has %zu characters; '%s' takes "
			       "%llu", len, rq->kernel.name, (unsigned long long)max);
	return 0;
}

int linux_plan(struct boot_plan *p, const struct boot_request *rq, struct err *e)
{
	struct bzimage b;
	int rc;

	rc = bzimage_parse(&b, &rq->kernel, e);
	if (!rc)
		rc = check_cmdline(rq, b.hdr.cmdline_size ? b.hdr.cmdline_size : 255, e);
	if (!rc)
		rc = place_kernel(p, &b, rq->kernel.name, e);
	if (rc)
		return rc;
	p->format = p->mode == ENTRY_LONG64 ? "Linux bzImage, 64-bit boot protocol" :
					      "Linux bzImage, 32-bit boot protocol";
	return add_params(p, rq, &b.hdr, b.header_size, (uint64_t)b.hdr.initrd_addr_max + 1, e);
}

int linux_plan_elf(struct boot_plan *p, const struct boot_request *rq,
		     const struct elf_image *img, struct err *e)
{
	/* A vmlinux has no setup header: what a kernel expects of one that was given. */
	const struct setup_header hdr = {
		.boot_flag = BOOT_FLAG, .header = HEADER_MAGIC, .version = PROTOCOL_2_12,
		.loadflags = LOADED_HIGH, .cmdline_size = CMDLINE_MAX,
		.initrd_addr_max = 0x7fffffff, .kernel_alignment = 0x200000,
	};
	int rc;

	p->format = "64-bit ELF, Linux 64-bit boot protocol";
	if (!elf_covers(img, img->entry))
		return err_set(e, EINVAL, "'%s' cannot be started: its entry point 0x%llx is "
			       "outside what it loads", rq->kernel.name,
			       (unsigned long long)img->entry);
	rc = check_cmdline(rq, CMDLINE_MAX, e);
	if (!rc)
		rc = elf_add(p, img, &rq->kernel, e);
	if (rc)
		return rc;
	p->mode = ENTRY_LONG64;
	p->rip = img->entry;
	return add_params(p, rq, &hdr, sizeof(hdr), (uint64_t)hdr.initrd_addr_max + 1, e);
}
