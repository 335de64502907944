/* SPDX-License-Identifier: Apache-2.0 */
/* For tests of struct block: a folder, disks in it, opened from the text of --disk. */
#ifndef TESTS_LIB_DISK_RIG_H
#define TESTS_LIB_DISK_RIG_H

#include "backend/block.h"
#include "backend/image.h"
#include "backend/qcow2.h"
#include "unit.h"

#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIB	(1U << 20)

struct bench {
	char dir[64];
	char path[128];
};

static inline int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	strcpy(b->dir, "/tmp/block.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->path, sizeof(b->path), "%s/disk", b->dir);
	*state = b;
	return 0;
}

static inline int teardown(void **state)
{
	struct bench *b = *state;
	char line[128];

	snprintf(line, sizeof(line), "rm -rf %s", b->dir);
	assert_int_equal(system(line), 0);
	free(b);
	return 0;
}

static inline void make_disk(const char *path, uint64_t size, bool qcow2)
{
	const struct qcow2_create c = { .size = size };
	struct image *file;
	struct err e;

	assert_int_equal(raw_create(&file, path, qcow2 ? 0 : size, true, &e), 0);
	if (qcow2)
		assert_int_equal(qcow2_create(file, &c, &e), 0);
	assert_int_equal(image_close(file), 0);
}

static inline struct block *open_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline struct block *open_text(const char *fmt, ...)
{
	struct block_options o;
	struct block *b = NULL;
	struct err e;
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (block_options_parse(&o, text, &e) || block_open(&b, &o, &e))
		fail_msg("%s", e.text);
	return b;
}

/* True: aio=io_uring can be tried here; says why not. */
static inline bool ring_allowed(void)
{
	struct io_uring ring;
	const int rc = io_uring_queue_init(1, &ring, 0);

	if (rc)
		print_message("this host has no io_uring for us: %s\n", strerror(-rc));
	else
		io_uring_queue_exit(&ring);
	return !rc;
}

static inline int try_open(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline int try_open(struct err *e, const char *fmt, ...)
{
	struct block_options o;
	struct block *b;
	char text[512];
	va_list ap;
	int rc;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	rc = block_options_parse(&o, text, e);
	if (!rc)
		rc = block_open(&b, &o, e);
	if (!rc)
		block_close(b);
	return rc;
}

#endif
