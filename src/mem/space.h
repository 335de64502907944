/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest-physical address space of one VM, and its I/O ports: RAM extents
 * backed by sealed memfds, and device regions.  Built before the vCPUs run;
 * later changes (BARs that move) take the write side of the region lock.
 *
 * RAM accesses by the VMM and its devices go through gpa_read/gpa_write, which
 * know nothing of guest-virtual addresses.  After a write to a page that holds
 * translated or cached guest code the engine is told (code_written); who writes
 * through a host pointer calls gpa_written().
 */
#ifndef VIREO_MEM_SPACE_H
#define VIREO_MEM_SPACE_H

#include "base/err.h"
#include "base/types.h"

#include <pthread.h>

#define GPA_BITS	46	/* physical address width that CPUID reports */
#define RAM_EXTENTS_MAX	16

/* Three answers of an access to guest memory. */
enum mem_result {
	MEM_OK,
	MEM_FAULT,	/* the guest's fault: nothing is there, or not allowed */
	MEM_HOST,	/* the host failed us; struct err or errno says how */
};

/*
 * A register, @off into its region, whose writes do no more than signal @fd, an eventfd: an
 * engine may have the kernel do that, and the device's write() is not called then.
 */
struct io_doorbell {
	uint64_t off;
	unsigned int size;	/* of the writes that count: 1, 2, 4, 8; 0: any */
	bool match;		/* only those of @value */
	uint64_t value;
	int fd;			/* -1: not this one */
};

/*
 * A device's registers.  @off is relative to the region's start, @size 1, 2, 4
 * or 8 and within the region.  Reads of nothing return all ones.  Called on a
 * vCPU thread; the device takes its own lock.
 */
struct io_ops {
	uint64_t (*read)(void *dev, uint64_t off, unsigned int size);
	void (*write)(void *dev, uint64_t off, unsigned int size, uint64_t value);
	bool posted;	/* writes may come late, but before the vCPU's next access elsewhere */
	/* The region's doorbells, constant while it is there; the device watches them.  May be NULL. */
	unsigned int (*doorbells)(void *dev, const struct io_doorbell **list);
};

struct io_region {
	const char *name;	/* static string, for logs and vireo inspect */
	uint64_t base;
	uint64_t size;
	const struct io_ops *ops;
	void *dev;
};

struct ram_extent {
	gpa_t base;
	uint64_t size;		/* bytes, page multiple */
	uint8_t *hva;		/* host mapping, guard pages on both sides */
	int fd;			/* sealed memfd (no shrink, no grow) */
	uint8_t *page_flags;	/* one byte a page: PAGE_* */
	bool readonly;		/* ROM: guest writes are dropped */
};

/* Told of each region that comes and goes, with the region lock held. */
struct region_watch {
	void (*changed)(void *arg, const struct io_region *r, bool port, bool there);
	void *arg;
	struct region_watch *next;
};

#define PAGE_CODE	BIT(0)	/* the engine cached or translated code from it */
#define PAGE_SETTLED	BIT(1)	/* ... and since then every store to it was told */

struct gpa_space {
	struct ram_extent ram[RAM_EXTENTS_MAX];
	unsigned int ram_count;
	pthread_rwlock_t lock;		/* (r) protects the region arrays */
	struct io_region *mmio;		/* (r) sorted by base, not overlapping */
	unsigned int mmio_count;
	struct io_region *pio;		/* (r) the same for ports, 0-0xffff */
	unsigned int pio_count;
	struct region_watch *watches;	/* (r) */
	/* Called after a write to a PAGE_CODE page; @writer: the vCPU, NULL: somebody else. */
	void (*code_written)(void *arg, void *writer, gpa_t gpa, uint64_t len);
	void *code_written_arg;
	/* Reserved zeros that all vCPUs' TLBs use (cpu/tlb_space.c), or NULL; made with the first. */
	void *zeros;
	uint64_t zeros_bytes;
};

int gpa_space_init(struct gpa_space *s, struct err *e);
void gpa_space_destroy(struct gpa_space *s);

/*
 * Adds zeroed RAM at @base; both page multiples, overlapping nothing.
 * -ENOMEM, -EINVAL, -ENOSPC (too many extents), -EEXIST.
 */
int gpa_space_add_ram(struct gpa_space *s, gpa_t base, uint64_t size, struct err *e);
/* The same, but the guest cannot write it; the caller fills it through gpa_to_hva. */
int gpa_space_add_rom(struct gpa_space *s, gpa_t base, uint64_t size, struct err *e);

/* Devices: -EEXIST where the range overlaps another, -ENOMEM. */
int gpa_space_add_mmio(struct gpa_space *s, const struct io_region *r, struct err *e);
int gpa_space_add_pio(struct gpa_space *s, const struct io_region *r, struct err *e);
void gpa_space_remove_mmio(struct gpa_space *s, uint64_t base);
void gpa_space_remove_pio(struct gpa_space *s, uint64_t base);

/* @w, the caller's, is told of the regions that are there, and then of changes, until forgotten. */
void gpa_space_watch(struct gpa_space *s, struct region_watch *w);
void gpa_space_forget(struct gpa_space *s, struct region_watch *w);

/* The RAM extent holding @gpa, or NULL. */
struct ram_extent *gpa_to_extent(struct gpa_space *s, gpa_t gpa);
/* Host address of @gpa if [@gpa, @gpa+@len) is within one RAM extent, else NULL. */
void *gpa_to_hva(struct gpa_space *s, gpa_t gpa, uint64_t len);

/* Copies; a range that is not all RAM is MEM_FAULT and nothing is copied. */
enum mem_result gpa_read(struct gpa_space *s, gpa_t gpa, void *buf, uint64_t len);
enum mem_result gpa_write(struct gpa_space *s, gpa_t gpa, const void *buf, uint64_t len);

/* [@gpa, @gpa+@len) was just written through a host pointer, not by a vCPU. */
void gpa_written(struct gpa_space *s, gpa_t gpa, uint64_t len);

/*
 * Device accesses by a vCPU.  @size 1, 2, 4, 8; an access that no region
 * claims reads all ones and drops writes.  An access that straddles the end of
 * a region is split into bytes.
 */
uint64_t mmio_read(struct gpa_space *s, gpa_t gpa, unsigned int size);
void mmio_write(struct gpa_space *s, gpa_t gpa, unsigned int size, uint64_t value);
uint64_t pio_read(struct gpa_space *s, uint16_t port, unsigned int size);
void pio_write(struct gpa_space *s, uint16_t port, unsigned int size, uint64_t value);

#endif
