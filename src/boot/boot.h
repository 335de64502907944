/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Direct boot: a kernel image and what goes with it becomes guest memory and a
 * vCPU's entry state, without firmware.
 *
 * Two steps.  boot_prepare() reads the (hostile) images whole, checks them and decides
 * where everything goes; it touches no guest memory.  boot_enter() carries the plan out
 * and cannot be refused by the images any more; it is called for every reset.  Between the two
 * nothing of an open file is kept in memory: boot_enter() reads it again.  Whoever changes
 * the file meanwhile gives the guest other contents, or ends it, and harms nobody else.
 *
 * Formats: Linux bzImage, 64-bit and 32-bit, and 64-bit vmlinux (linux.c), ELF with a PVH note (pvh.c),
 * Multiboot 1 (multiboot1.c).
 */
#ifndef VIREO_BOOT_BOOT_H
#define VIREO_BOOT_BOOT_H

#include "base/err.h"
#include "mem/e820.h"

struct gpa_space;
struct vcpu;

/* A file; @name is for sentences. */
struct boot_file {
	const char *name;
	const uint8_t *data;	/* its contents, NULL: not in memory */
	uint64_t size;		/* 0: there is none */
	bool open;		/* contents are read from fd when they are wanted */
	int fd;
};

struct boot_request {
	struct boot_file kernel;
	struct boot_file initrd;
	const char *cmdline;		/* NULL: empty */
	gpa_t rsdp;			/* guest address of the ACPI RSDP, 0: none */
	const struct e820_map *map;	/* what the guest is told; only E820_RAM is used */
};

struct boot_plan;

/*
 * Opens the file at @path: regular, not empty.  @f->name points to @path.  -ENOENT,
 * -EINVAL and so on with a sentence.  Free with boot_file_free().
 */
int boot_file_open(struct boot_file *f, const char *path, const char *what, struct err *e);
/* Reads an open file whole, and forgets its contents again. */
int boot_file_load(struct boot_file *f, const char *what, struct err *e);
void boot_file_unload(struct boot_file *f);
/* Opens, reads and closes. */
int boot_file_read(struct boot_file *f, const char *path, const char *what, struct err *e);
void boot_file_free(struct boot_file *f);

/*
 * Checks the images and plans the boot; the kernel's contents must be in memory, the initrd's
 * need not be.  The files must outlive the plan; of a file that is open only the descriptor.
 * -EINVAL: an image is wrong; -ENOEXEC: no known format; -ENOMEM: it does not fit the
 * guest's memory.
 */
int boot_prepare(struct boot_plan **out, const struct boot_request *rq, struct err *e);
void boot_plan_free(struct boot_plan *p);

/* "Linux 64-bit boot protocol" and so on, for the log. */
const char *boot_plan_format(const struct boot_plan *p);

/*
 * Writes the plan into guest memory and sets the freshly reset boot processor @v to the
 * entry state.  RAM contents that the plan does not cover are left alone.
 */
int boot_enter(const struct boot_plan *p, struct gpa_space *s, struct vcpu *v, struct err *e);
/* There is nothing to boot: the processor halts in real mode, with interrupts off. */
int boot_nothing(struct gpa_space *s, struct vcpu *v, struct err *e);

#endif
