// SPDX-License-Identifier: Apache-2.0
/*
 * Stream-optimised VMDK images made here: read against a model, and damaged at random, after which
 * every read must end, with data or an error.  (tests/cli/appliance.py has qemu-img's.)
 */
#include "backend/vmdk.h"
#include "mem_image.h"
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define SECTOR		512U
#define GRAIN		65536U
#define GRAINS		40U
#define SIZE		(GRAINS * GRAIN - 20 * SECTOR)	/* the last grain is shorter */
#define HEADER_AT_END	1024U

static void put32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof(v));
}

static void put_header(uint8_t *h, uint64_t directory)
{
	put32(h, 0x564d444b);
	put32(h + 4, 3);
	put32(h + 8, 0x30001);
	put64(h + 12, SIZE / SECTOR);
	put64(h + 20, GRAIN / SECTOR);
	put32(h + 44, 512);
	put64(h + 56, directory);
	h[77] = 1;		/* deflate */
}

/* Every third grain is missing; the others' bytes are their index, and a counter. */
static uint8_t model(uint64_t at)
{
	const uint64_t grain = at / GRAIN;

	return grain % 3 == 1 ? 0 : grain + at % GRAIN / 1000;
}

static struct mem_image *good_image(void)
{
	const size_t room = 1 << 20;
	uint8_t *file = calloc(1, room), *data = malloc(GRAIN);
	struct mem_image *m;
	uint32_t table[512] = { 0 };
	size_t at = SECTOR;

	put_header(file, UINT64_MAX);
	for (uint32_t g = 0; g < GRAINS; g++) {
		uLongf len = room - at - 12;

		if (g % 3 == 1)
			continue;
		for (uint32_t i = 0; i < GRAIN; i++)
			data[i] = model((uint64_t)g * GRAIN + i);
		put64(file + at, g * (GRAIN / SECTOR));
		assert_int_equal(compress(file + at + 12, &len, data, GRAIN), Z_OK);
		put32(file + at + 8, len);
		table[g] = htole32(at / SECTOR);
		at = ALIGN_UP(at + 12 + len, SECTOR);
		assert_true(at < room / 2);
	}
	memcpy(file + at, table, sizeof(table));
	put32(file + at + sizeof(table), at / SECTOR);		/* the directory: one table */
	put_header(file + at + sizeof(table) + SECTOR, (at + sizeof(table)) / SECTOR);
	m = mem_image_new(file, at + sizeof(table) + SECTOR + HEADER_AT_END);
	free(file);
	free(data);
	return m;
}

static void test_reads_what_is_there(void **state)
{
	struct mem_image *m = good_image();
	uint64_t random = 1;
	struct image *img;
	struct image_extent x;
	uint8_t buf[3 * GRAIN];

	(void)state;
	assert_int_equal(vmdk_open(&img, &m->img, NULL), 0);
	assert_int_equal(img->size, SIZE);
	assert_true(img->read_only);
	for (int i = 0; i < 500; i++) {
		const uint64_t off = test_random(&random) % SIZE, most = test_random(&random) % sizeof(buf);
		const size_t len = MIN(most, SIZE - off);

		assert_int_equal(image_pread(img, off, buf, len), 0);
		for (size_t k = 0; k < len; k++)
			assert_int_equal(buf[k], model(off + k));
	}
	assert_int_equal(image_map(img, GRAIN, GRAIN, &x), 0);
	assert_true(x.zero && x.len == GRAIN);
	assert_int_equal(image_map(img, 2 * GRAIN + 5, SIZE - 2 * GRAIN - 5, &x), 0);
	assert_true(!x.zero && x.len == 2 * GRAIN - 5);
	assert_int_equal(image_pread(img, SIZE - 1, buf, 2), -EINVAL);
	assert_int_equal(image_pwrite(img, 0, buf, 1), -EROFS);
	image_close(img);
}

/* A header that @change has been done to is refused with a sentence. */
static void refused(size_t at, unsigned int bytes, uint64_t value, const char *why)
{
	struct mem_image *m = good_image();
	struct err e = { 0 };
	struct image *img;

	for (unsigned int i = 0; i < bytes; i++)
		m->data[m->size - HEADER_AT_END + at + i] = value >> 8 * i;
	assert_true(vmdk_open(&img, &m->img, &e) < 0);
	assert_non_null(strstr(e.text, why));
	image_close(&m->img);
}

static void test_refuses_nonsense(void **state)
{
	(void)state;
	refused(0, 4, 0, "its end is missing");
	refused(4, 4, 9, "of a kind");
	refused(8, 4, 1, "of a kind");
	refused(12, 8, 0, "no sense");
	refused(12, 8, 1ULL << 60, "no sense");
	refused(20, 8, 0, "no sense");
	refused(20, 8, 100, "no sense");
	refused(20, 8, 1ULL << 40, "no sense");
	refused(44, 4, 0, "no sense");
	refused(56, 8, 1ULL << 62, "not within");
	refused(56, 8, UINT64_MAX, "not within");
	refused(77, 2, 0, "of a kind");
}

static void test_survives_damage(void **state)
{
	uint64_t random = 42;
	uint8_t *buf = malloc(SIZE);
	struct mem_image *good = good_image();

	(void)state;
	for (int i = 0; i < 400; i++) {
		struct mem_image *m = mem_image_new(good->data, good->size);
		const unsigned int count = 1 + test_random(&random) % 20;
		struct image *img;

		/* Half of it where the metadata is. */
		for (unsigned int k = 0; k < count; k++) {
			const size_t back = k % 2 ? 5000 : m->size;

			m->data[m->size - 1 - test_random(&random) % MIN(back, m->size)] = test_random(&random);
		}
		if (vmdk_open(&img, &m->img, NULL)) {
			image_close(&m->img);
			continue;
		}
		for (uint64_t off = 0; off < MIN(img->size, SIZE); off += GRAIN / 2)
			image_pread(img, off, buf, MIN(GRAIN / 2, img->size - off));
		image_close(img);
	}
	image_close(&good->img);
	free(buf);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reads_what_is_there),
		cmocka_unit_test(test_refuses_nonsense),
		cmocka_unit_test(test_survives_damage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
