/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest-virtual memory: page walks, checked accesses, TLB maintenance.
 *
 * Addresses here are linear: segmentation has been applied.  MEM_FAULT means that
 * v->fault describes the exception (#PF, #GP or #SS for non-canonical); the caller
 * returns EXEC_FAULT and nothing of the access was committed, page-crossing ones
 * included.  MEM_HOST fills v->err.
 *
 * Source: Intel SDM volume 3, "Paging" and "Caching Translation Information".
 */
#ifndef VIREO_CPU_MMU_H
#define VIREO_CPU_MMU_H

#include "cpu/vcpu.h"

enum {
	ACC_READ = 0,
	ACC_WRITE = BIT(0),
	ACC_FETCH = BIT(1),
	ACC_SUPER = BIT(2),	/* implicit supervisor access: descriptor tables, TSS, IDT */
	ACC_PROBE = BIT(3),	/* check only: set no A/D, fill no TLB */
	ACC_STACK = BIT(4),	/* non-canonical is #SS instead of #GP */
};

/*
 * Walks the guest's tables for one address at the present CPL and AC, sets A and D,
 * gives the guest-physical address.  Does not fill the tables.
 */
enum mem_result gva_to_gpa(struct vcpu *v, gva_t gva, unsigned int access, gpa_t *gpa);

/* Is @gva, for execution at the present CPL, on a global page of at most 2 MiB? */
bool gva_is_global(struct vcpu *v, gva_t gva);

/*
 * The slow path behind tlb_lookup: walks, fills the tables where that is allowed (this
 * page and, cheaply, neighbours), and gives a host pointer for an access within one
 * page.  NULL with MEM_OK: the access must go through mem_read/mem_write (a device, a
 * code page, a breakpoint, a page crossing).
 */
enum mem_result mem_fill(struct vcpu *v, gva_t gva, unsigned int size, unsigned int access,
			 void **hva);

/*
 * Accesses of any size up to 64 KiB, devices included (those in aligned pieces of at
 * most 8 bytes).  A write is checked whole before its first byte is stored.
 */
enum mem_result mem_read(struct vcpu *v, gva_t gva, void *buf, unsigned int size,
			 unsigned int access);
enum mem_result mem_write(struct vcpu *v, gva_t gva, const void *buf, unsigned int size,
			  unsigned int access);

/* Checks that a write of @size bytes would succeed; sets A and D. */
enum mem_result mem_probe_write(struct vcpu *v, gva_t gva, unsigned int size,
				unsigned int access);

/* RAM that an instruction reads and writes in place. */
struct mem_pin {
	void *hva;
	gpa_t gpa[2];		/* of the two pages' parts ... */
	unsigned int len[2];	/* ... and their lengths; the second may be 0 */
	bool code;		/* mem_unpin() has to tell of the write */
};

/*
 * Locked read-modify-write and other in-place use: a host pointer for [gva, gva+size),
 * at most 64 bytes, with write permission (A and D set), contiguous even where it crosses
 * pages; hva NULL with MEM_OK if it is not all RAM: the caller then reads and writes (and the
 * access is not atomic with regard to other vCPUs).  Valid until the next call.
 * After the write: mem_unpin(), if pin.code.
 */
enum mem_result mem_pin_write(struct vcpu *v, gva_t gva, unsigned int size, struct mem_pin *pin);
void mem_unpin(struct vcpu *v, const struct mem_pin *pin);

/* Bytes for the decoder: up to @max bytes at linear @gva, without crossing into a page
 * that would fault unless nothing precedes it.  *got >= 1 on MEM_OK. */
enum mem_result mem_fetch(struct vcpu *v, gva_t gva, uint8_t *buf, unsigned int max,
			  unsigned int *got);

/* Sizes 1, 2, 4, 8 at the present privilege: the fast path in line. */
#define DEFINE_MEM_RW(bits) \
static inline enum mem_result mem_read##bits(struct vcpu *v, gva_t gva, uint##bits##_t *out) \
{ \
	const void *p = tlb_lookup(v->view, gva, bits / 8, TLB_READ); \
	if (likely(p != NULL)) { \
		__builtin_memcpy(out, p, bits / 8); \
		return MEM_OK; \
	} \
	return mem_read(v, gva, out, bits / 8, ACC_READ); \
} \
static inline enum mem_result mem_write##bits(struct vcpu *v, gva_t gva, uint##bits##_t value) \
{ \
	void *p = tlb_lookup(v->view, gva, bits / 8, TLB_WRITE); \
	if (likely(p != NULL)) { \
		__builtin_memcpy(p, &value, bits / 8); \
		return MEM_OK; \
	} \
	return mem_write(v, gva, &value, bits / 8, ACC_WRITE); \
}
DEFINE_MEM_RW(8)
DEFINE_MEM_RW(16)
DEFINE_MEM_RW(32)
DEFINE_MEM_RW(64)

/* --- TLB maintenance --- */

int tlb_init(struct vcpu *v, struct err *e);
void tlb_destroy(struct vcpu *v);
/* Everything, all address spaces, global pages too. */
void tlb_flush_all(struct vcpu *v);
/* All entries of the current address space that are not global. */
void tlb_flush_nonglobal(struct vcpu *v);
/* INVLPG: one address in the current space, and global in all. */
void tlb_flush_page(struct vcpu *v, gva_t gva);
/* INVPCID types 0-3; @pcid is valid. */
void tlb_invpcid(struct vcpu *v, unsigned int type, uint16_t pcid, gva_t gva);
/* After CR3 changed: selects (or makes) the space of its PCID; @keep: bit 63 was set. */
void tlb_switch_space(struct vcpu *v, bool keep);
/* With PCIDs, the root of the tables that the current space was last filled from; another one is another program. */
gpa_t tlb_space_root(const struct vcpu *v);
/*
 * The engine cached code from the RAM page at @gpa: takes it out of all write tables.
 * (Entries for a page are found by a scan of recorded fills or a flush: rare.)
 */
void tlb_protect_code_page(struct vcpu *v, gpa_t gpa);
/* The same without the flag, which another vCPU has set. */
void tlb_drop_page_writes(struct vcpu *v, gpa_t gpa);
/* The present address space's tables of one kind. */
struct tlb_view *tlb_view_of(struct vcpu *v, enum tlb_view_kind kind);
/* Selects v->view from CPL, AC, SMAP; part of vcpu_update_mode. */
void tlb_select_view(struct vcpu *v);

#endif
