/* SPDX-License-Identifier: Apache-2.0 */
/* Code for `vireo audit`: the executable parts of a file, with their addresses. */
#ifndef VIREO_MGMT_AUDIT_IMAGE_H
#define VIREO_MGMT_AUDIT_IMAGE_H

#include "base/err.h"
#include "base/types.h"

#define AUDIT_PARTS_MAX	64

struct audit_part {
	const uint8_t *data;
	uint64_t size;
	uint64_t address;	/* of the first byte, as linked */
};

struct audit_image {
	struct audit_part part[AUDIT_PARTS_MAX];
	unsigned int count;
	unsigned int code_size;		/* enum code_size the file implies */
	bool is_elf;
};

/*
 * Executable sections of an ELF file (or its executable segments, if it has no sections);
 * otherwise the file as one part at address 0.  @data must outlive @img.
 */
int audit_image_read(struct audit_image *img, const uint8_t *data, uint64_t size,
		     const char *name, struct err *e);

/*
 * If @data is a bzImage whose payload is xz, gzip, zstd ... : its ELF file, unpacked with
 * the tool of that name.  *out is malloc'ed; 0 with *out NULL: it is no bzImage.
 */
int audit_unpack_bzimage(uint8_t **out, uint64_t *out_size, const uint8_t *data, uint64_t size,
			 const char *name, struct err *e);

#endif
