// SPDX-License-Identifier: Apache-2.0
/* Chains of backing images: names, formats, loops, depth, sizes. */
#include "backend/image.h"
#include "backend/qcow2.h"
#include "unit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE	(1U << 20)

static int setup(void **state)
{
	char *dir = strdup("/tmp/chain.XXXXXX");
	char path[128];

	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/sub", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	*state = dir;
	return 0;
}

static int teardown(void **state)
{
	char line[128];

	snprintf(line, sizeof(line), "rm -rf %s", (char *)*state);
	free(*state);
	return system(line);
}

static void make(const char *dir, const char *name, const char *backing, const char *format)
{
	const struct qcow2_create c = { .size = SIZE, .backing = backing, .backing_format = format };
	struct image *file;
	char path[128];
	struct err e;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(raw_create(&file, path, 0, true, &e), 0);
	assert_int_equal(qcow2_create(file, &c, &e), 0);
	assert_int_equal(image_close(file), 0);
}

static int open_name(struct image **img, const char *dir, const char *name, struct err *e)
{
	char path[128];
	const struct image_open how = { .path = path };

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	memset(e, 0, sizeof(*e));
	return image_open(img, &how, e);
}

static void write_byte(const char *dir, const char *name, uint64_t off, uint8_t value)
{
	struct image *img;
	struct err e;

	if (open_name(&img, dir, name, &e))
		fail_msg("%s", e.text);
	assert_int_equal(image_pwrite(img, off, &value, 1), 0);
	assert_int_equal(image_close(img), 0);
}

static uint8_t read_byte(const char *dir, const char *name, uint64_t off)
{
	struct image *img;
	uint8_t value;
	struct err e;

	if (open_name(&img, dir, name, &e))
		fail_msg("%s", e.text);
	assert_int_equal(image_pread(img, off, &value, 1), 0);
	assert_int_equal(image_close(img), 0);
	return value;
}

static void refused(const char *dir, const char *name, int errnum, const char *says)
{
	struct image *img;
	struct err e;

	assert_int_equal(open_name(&img, dir, name, &e), -errnum);
	if (!strstr(e.text, says))
		fail_msg("'%s' does not say '%s'", e.text, says);
}

/* A relative name is meant from the folder of the image, not from where the program is. */
static void test_names(void **state)
{
	const char *dir = *state;
	char path[128];

	make(dir, "base", NULL, NULL);
	write_byte(dir, "base", 70000, 1);
	make(dir, "sub/relative", "../base", "qcow2");
	assert_int_equal(read_byte(dir, "sub/relative", 70000), 1);
	snprintf(path, sizeof(path), "%s/base", dir);
	make(dir, "sub/absolute", path, "qcow2");
	write_byte(dir, "sub/absolute", 70001, 2);
	assert_int_equal(read_byte(dir, "sub/absolute", 70000), 1);
	assert_int_equal(read_byte(dir, "sub/absolute", 70001), 2);
	assert_int_equal(read_byte(dir, "base", 70001), 0);
	make(dir, "lost", "nowhere", "raw");
	refused(dir, "lost", ENOENT, "/lost': cannot open disk '");
	refused(dir, "lost", ENOENT, "/nowhere'");
}

static void test_loops(void **state)
{
	const char *dir = *state;
	char name[16], below[16];

	make(dir, "self", "self", "qcow2");
	refused(dir, "self", ELOOP, "its own backing image");
	make(dir, "a", "b", "qcow2");
	make(dir, "b", "./a", "qcow2");
	refused(dir, "a", ELOOP, "its own backing image");
	make(dir, "d0", NULL, NULL);
	write_byte(dir, "d0", 5, 9);
	for (unsigned int i = 1; i <= IMAGE_CHAIN_MAX; i++) {
		snprintf(name, sizeof(name), "d%u", i);
		snprintf(below, sizeof(below), "d%u", i - 1);
		make(dir, name, below, "qcow2");
		if (i < IMAGE_CHAIN_MAX)
			assert_int_equal(read_byte(dir, name, 5), 9);
	}
	refused(dir, name, ELOOP, "on top of each other");
}

/* Without a named format: raw is raw, and qcow2 could be a raw guest's work. */
static void test_formats(void **state)
{
	const char *dir = *state;
	char path[128];
	struct image *raw;

	snprintf(path, sizeof(path), "%s/raw", dir);
	assert_int_equal(raw_create(&raw, path, SIZE / 2, true, NULL), 0);
	assert_int_equal(image_close(raw), 0);
	write_byte(dir, "raw", SIZE / 2 - 1, 3);
	make(dir, "over-raw", "raw", "raw");
	assert_int_equal(read_byte(dir, "over-raw", SIZE / 2 - 1), 3);
	assert_int_equal(read_byte(dir, "over-raw", SIZE / 2), 0);
	make(dir, "over-nothing", "raw", "");
	assert_int_equal(read_byte(dir, "over-nothing", SIZE / 2 - 1), 3);
	make(dir, "base2", NULL, NULL);
	make(dir, "over-guess", "base2", "");
	refused(dir, "over-guess", EINVAL, "does not say of which format");
	make(dir, "over-vhdx", "raw", "vhdx");
	refused(dir, "over-vhdx", EINVAL, "'vhdx' is no format");
}

/* What grows over a longer backing image is zero, not what the backing image has there. */
static void test_grow(void **state)
{
	const char *dir = *state;
	struct image *img;
	struct err e;

	make(dir, "long", NULL, NULL);
	write_byte(dir, "long", SIZE - 1, 4);
	write_byte(dir, "long", SIZE / 2 + 1, 4);
	make(dir, "over", "long", "qcow2");
	assert_int_equal(open_name(&img, dir, "over", &e), 0);
	assert_int_equal(image_resize(img, SIZE / 2, &e), 0);
	assert_int_equal(image_resize(img, 2 * SIZE, &e), 0);
	assert_int_equal(image_close(img), 0);
	assert_int_equal(read_byte(dir, "over", SIZE - 1), 0);
	assert_int_equal(read_byte(dir, "over", SIZE / 2 + 1), 0);
	assert_int_equal(read_byte(dir, "over", 2 * SIZE - 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_loops),
		cmocka_unit_test(test_formats),
		cmocka_unit_test(test_grow),
	};

	return cmocka_run_group_tests_name("qcow2_chain", tests, setup, teardown);
}
