/* SPDX-License-Identifier: Apache-2.0 */
/* `vireo image`: what its parts (image_*.c) share. */
#ifndef VIREO_MGMT_IMAGE_PRIV_H
#define VIREO_MGMT_IMAGE_PRIV_H

#include "backend/image.h"
#include "mgmt/command.h"

struct image_args {
	const char *operands[3];
	unsigned int count;
	bool json, force, repair, shrink;
	const char *type;		/* "raw", "qcow2" or NULL */
	const char *source;		/* the format of what is read, or NULL */
	const char *backing, *backing_type;
	uint64_t cluster;		/* bytes; 0: the default */
	uint64_t size;			/* of a system's disk; 0: the default */
	const char *name, *password, *ssh_key, *mirror, *packages;
};

/* A percentage on stderr if that is a terminal, nothing otherwise. */
struct progress {
	const char *what;
	bool shown;
	int last;
};

void progress_begin(struct progress *p, const char *what);
void progress_at(struct progress *p, uint64_t done, uint64_t all);
void progress_end(struct progress *p);

/* The type that --type or the file's name asks for. */
const char *image_type(const struct image_args *a, const char *path);
int image_parse_size(uint64_t *bytes, const char *text, struct err *e);
/* A new image of @type and @size; *finish puts it in its place, or removes it. */
int image_make(struct image **out, const char *path, uint64_t size, const struct image_args *a,
	       struct err *e);
int image_make_end(struct image *img, const char *path, int rc, struct err *e);
/* All of @from to the new image @to, holes left out. */
int image_copy(struct image *from, struct image *to, const char *what, struct err *e);
/* From now on SIGINT and the like only end copying, so that what was begun can be removed. */
void copy_hold_signals(void);
bool copy_interrupted(void);
/* What went wrong with @img, with the place if its metadata is damaged. */
int image_error(struct image *img, int rc, const char *doing, struct err *e);

/* The subcommands; the process's exit status. */
int image_create(const struct image_args *a);
int image_info(const struct image_args *a);
int image_check(const struct image_args *a);
int image_convert(const struct image_args *a);
int image_resize_to(const struct image_args *a);
int image_commit(const struct image_args *a);
int image_debian(const struct image_args *a);

#endif
