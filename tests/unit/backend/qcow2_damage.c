// SPDX-License-Identifier: Apache-2.0
/*
 * Damaged and hostile qcow2 images: each known way is an error whose sentence says what and
 * where, and the file stays as it was; then metadata changed at random, on which every
 * operation must end and reach nothing outside.
 */
#include "backend/image.h"
#include "backend/qcow2.h"
#include "mem_image.h"
#include "unit.h"

#include <stdio.h>
#include <time.h>

#define CLUSTER	4096U
#define DISK	(4U << 20)
/* Of an image with clusters of 4 KiB: table of refcounts, a block of them, L1, then clusters. */
#define REFTABLE	(1 * CLUSTER)
#define BLOCK		(2 * CLUSTER)
#define L1		(3 * CLUSTER)
#define L2		(12 * CLUSTER)	/* behind the data that was written first */

static struct mem_image *good_image(void)
{
	const struct qcow2_create c = { .size = DISK, .cluster_bits = 12 };
	const struct image_open how = { .path = "memory" };
	struct mem_image *m = mem_image_new(NULL, 0), *copy;
	uint8_t buf[8 * CLUSTER];
	struct image *img;

	memset(buf, 0x5a, sizeof(buf));
	assert_int_equal(qcow2_create(&m->img, &c, NULL), 0);
	assert_int_equal(qcow2_open(&img, &m->img, &how, NULL), 0);
	assert_int_equal(image_pwrite(img, 0, buf, sizeof(buf)), 0);
	assert_int_equal(image_zero(img, CLUSTER, CLUSTER, false), 0);
	assert_int_equal(image_flush(img), 0);
	copy = mem_image_new(m->data, m->size);
	assert_int_equal(image_close(img), 0);
	return copy;
}

static void put_be(struct mem_image *m, uint64_t off, unsigned int bytes, uint64_t value)
{
	for (unsigned int i = 0; i < bytes; i++)
		m->data[off + i] = value >> 8 * (bytes - 1 - i);
}

/* A big-endian number of some bytes at an offset, and what the error says. */
struct damage {
	uint64_t off;
	unsigned int bytes;
	uint64_t value;
	const char *says;
};

static void test_open(void **state)
{
	static const struct damage damages[] = {
		{ 4, 4, 4, "version 4" },
		{ 4, 4, 1, "version 1" },
		{ 20, 4, 8, "offset 20" },
		{ 20, 4, 22, "offset 20" },
		{ 20, 4, 0xffffffff, "offset 20" },
		{ 24, 8, UINT64_MAX, "offset 24" },
		{ 24, 8, 1ULL << 40, "offset 36" },
		{ 32, 4, 1, "encrypted" },
		{ 36, 4, 0x10000000, "offset 36" },
		{ 40, 8, 100, "offset 40" },
		{ 40, 8, 1ULL << 40, "offset 40" },
		{ 40, 8, 0, "share the cluster at offset 0" },
		{ 40, 8, REFTABLE, "share the cluster at offset 0x1000" },
		{ 48, 8, 0, "offset 48" },
		{ 48, 8, 1ULL << 50, "offset 48" },
		{ 56, 4, 0, "offset 56" },
		{ 56, 4, 0x7fffffff, "offset 56" },
		{ 60, 4, 70000, "offset 60" },
		{ 64, 8, 77, "offset 60" },
		{ 72, 8, 2, "marked as corrupt" },
		{ 72, 8, 4, "external data file" },
		{ 72, 8, 16, "extended L2" },
		{ 72, 8, 1ULL << 40, "feature bit 40" },
		{ 96, 4, 7, "offset 96" },
		{ 100, 4, 50, "offset 100" },
		{ 100, 4, 1 << 20, "offset 100" },
		{ 8, 8, 1 << 20, "offset 8" },
		{ 112, 4, 0xe2792aca, "an extension is too long" },
		{ L1, 8, 0x8000000000000000ULL | REFTABLE, "share the cluster at offset 0x1000" },
		{ L1 + 8, 8, 0x8000000000000000ULL | L2, "share the cluster at offset 0xc000" },
		{ REFTABLE, 8, L1, "share the cluster at offset 0x3000" },
		{ REFTABLE, 8, 100, "entry at offset 0x1000" },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(damages); i++) {
		const struct damage *d = &damages[i];
		const struct image_open how = { .path = "memory" };
		struct mem_image *m = good_image();
		struct image *img;
		struct err e = { 0 };

		put_be(m, d->off, d->bytes, d->value);
		if (d->off == 112)
			put_be(m, 116, 4, 0xfffffff0);
		if (!qcow2_open(&img, &m->img, &how, &e))
			fail_msg("%u: opened although: %s", i, d->says);
		if (!strstr(e.text, d->says))
			fail_msg("%u: '%s' does not say '%s'", i, e.text, d->says);
		assert_int_equal(m->write_calls, 0);
		image_close(&m->img);
	}
}

static void test_entries(void **state)
{
	static const struct damage damages[] = {
		{ L2, 8, 0x8000000000000000ULL | L1, "entry at offset 0xc000 (guest offset 0) points at "
		  "metadata, to 0x3000" },
		{ L2, 8, 0x8000000000000000ULL, NULL },		/* copied, and nothing: not allocated */
		{ L2, 8, 0x8000000000000000ULL | 0x100000000ULL, "behind the end of the file, to 0x100000000" },
		{ L2, 8, 0x8000000000000000ULL | 0x6200, "into the middle of a cluster" },
		{ L2, 8, 0x8000000000006002ULL, "bits that mean nothing" },
		{ L2, 8, 0x4000000000000000ULL | REFTABLE, "points at metadata, to 0x1000" },
		{ L2, 8, 0x7fffffffffffffffULL, "behind the end of the file" },
		{ L2, 8, 0x40000000000050f0ULL, "cannot be unpacked" },
		{ L1, 8, 0x8000000000000000ULL | 0x12340000000ULL, "L1 entry at offset 0x3000" },
		{ L1, 8, 0x8000000000004200ULL, "L1 entry at offset 0x3000" },
		{ L1, 8, 0x8000000000004001ULL, "L1 entry at offset 0x3000" },
	};

	(void)state;
	for (unsigned int i = 0; i < ARRAY_SIZE(damages); i++) {
		const struct damage *d = &damages[i];
		const struct image_open how = { .path = "memory" };
		struct mem_image *m = good_image();
		struct image *img;
		struct err e = { 0 };
		uint8_t buf[512] = { 0 };
		char why[256];

		put_be(m, d->off, d->bytes, d->value);
		if (qcow2_open(&img, &m->img, &how, &e))
			fail_msg("%u: %s", i, e.text);
		if (image_pread(img, 0, buf, sizeof(buf)) != (d->says ? -EIO : 0))
			fail_msg("%u: not '%s'", i, d->says);
		if (d->says) {
			assert_int_equal(image_pwrite(img, 512, buf, sizeof(buf)), -EIO);
			/* What does not touch the entry's contents may still replace it. */
			if (!strstr(d->says, "unpacked")) {
				assert_int_equal(image_discard(img, 0, CLUSTER), -EIO);
				assert_int_equal(image_zero(img, 0, CLUSTER, true), -EIO);
			}
			qcow2_damage(img, why, sizeof(why));
			if (!strstr(why, d->says))
				fail_msg("%u: '%s' does not say '%s'", i, why, d->says);
			assert_memory_equal(m->data + d->off, (uint8_t[]){ d->value >> 56 }, 1);
		}
		image_close(img);
	}
}

/* A refcount of 0 for a piece of metadata: it would be given to guest data. */
static void test_free_metadata(void **state)
{
	const struct image_open how = { .path = "memory" };
	struct mem_image *m = good_image();
	uint8_t buf[CLUSTER] = { 1 };
	struct image *img;
	char why[256];

	(void)state;
	put_be(m, BLOCK + 2 * (L1 / CLUSTER), 2, 0);
	assert_int_equal(qcow2_open(&img, &m->img, &how, NULL), 0);
	assert_int_equal(image_pwrite(img, DISK - CLUSTER, buf, sizeof(buf)), -EIO);
	qcow2_damage(img, why, sizeof(why));
	assert_non_null(strstr(why, "the metadata at offset 0x3000 is counted as free"));
	image_close(img);
}

/* --- anything --- */

static void mutate(struct mem_image *m, uint64_t *seed)
{
	static const uint64_t places[] = { 0, REFTABLE, BLOCK, L1, L2, 5 * CLUSTER };

	for (unsigned int n = 1 + test_random(seed) % 4; n; n--) {
		const uint64_t place = places[test_random(seed) % ARRAY_SIZE(places)];
		const uint64_t off = (place + test_random(seed) % (test_random(seed) % 2 ? 112 : 512)) % m->size;

		switch (test_random(seed) % 4) {
		case 0:
			m->data[off] ^= 1 << test_random(seed) % 8;
			break;
		case 1:
			m->data[off] = test_random(seed);
			break;
		case 2:
			if (off + 16 < m->size)
				put_be(m, off & ~7ULL, 8, (test_random(seed) % 3 << 62) |
				       test_random(seed) % 16 * CLUSTER | test_random(seed) % 2);
			break;
		case 3:
			if (off + 16 < m->size)
				put_be(m, off & ~7ULL, 8, test_random(seed) >> test_random(seed) % 64);
			break;
		}
	}
}

static void use(struct image *img, uint64_t *seed)
{
	static uint8_t buf[1 << 17];
	struct image_extent x;
	struct qcow2_check check;
	struct err e;

	for (unsigned int n = 0; n < 30; n++) {
		const uint64_t len = 1 + test_random(seed) % sizeof(buf);
		const uint64_t off = test_random(seed) % (test_random(seed) % 8 ? DISK : img->size + 1);

		switch (test_random(seed) % 9) {
		case 0: case 1:
			image_pread(img, off, buf, len);
			break;
		case 2: case 3:
			image_pwrite(img, off, buf, len);
			break;
		case 4:
			image_zero(img, off, len, test_random(seed) % 2);
			break;
		case 5:
			image_discard(img, off, len);
			break;
		case 6:
			image_flush(img);
			break;
		case 7:
			image_map(img, off, 1 + len, &x);
			break;
		case 8:
			if (!(test_random(seed) % 8))
				image_resize(img, test_random(seed) % (4 * DISK) & ~511ULL, &e);
			else if (!(test_random(seed) % 4))
				qcow2_check(img, test_random(seed) % 2, &check, &e);
			break;
		}
	}
}

static void test_fuzz(void **state)
{
	const char *seconds = getenv("FUZZ_SECONDS");
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : getenv("LONG") ? 60 : 3);
	uint64_t seed = getenv("FUZZ_SEED") ? strtoull(getenv("FUZZ_SEED"), NULL, 0) : 0x9e3779b9ULL;
	struct mem_image *model = good_image();
	unsigned long opened = 0, all = 0;

	(void)state;
	while (time(NULL) < end) {
		const uint64_t first = seed;
		struct image_open how = { .path = "memory", .read_only = !(first & 15),
					  .damaged = !(first & 7), .no_backing = true };
		struct mem_image *m = mem_image_new(model->data, model->size);
		struct image *img;
		struct err e;

		mutate(m, &seed);
		all++;
		if (qcow2_open(&img, &m->img, &how, &e)) {
			image_close(&m->img);
		} else {
			opened++;
			use(img, &seed);
			image_close(img);
		}
		test_random(&seed);
	}
	print_message("%lu images, of which %lu could be opened; FUZZ_SEED=%#llx would be next\n", all,
		      opened, (unsigned long long)seed);
	assert_true(opened > 0 && opened < all);
	image_close(&model->img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open),
		cmocka_unit_test(test_entries),
		cmocka_unit_test(test_free_metadata),
		cmocka_unit_test(test_fuzz),
	};

	return cmocka_run_group_tests_name("qcow2_damage", tests, NULL, NULL);
}
