// SPDX-License-Identifier: Apache-2.0
/*
 * Random operations on qcow2 images, made by us and by qemu-img in many shapes, against a model
 * in memory; then qemu-img check finds neither an error nor a leak, and qemu-img compare no
 * difference from the model.
 */
#include "backend/image.h"
#include "backend/qcow2.h"
#include "mem_image.h"
#include "unit.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DISK	(3ULL << 20)

struct bench {
	char dir[64];
	bool qemu;
	uint64_t seed;
	uint8_t *model;
	uint64_t size;
};

static int sh(const struct bench *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int sh(const struct bench *b, const char *fmt, ...)
{
	char line[1024], text[800];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "cd %s && { %s; } >out 2>&1 </dev/null || { cat out; false; }",
		 b->dir, text);
	return system(line);
}

static int setup(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	strcpy(b->dir, access("/dev/shm", W_OK) ? "/tmp/qcow2.XXXXXX" : "/dev/shm/qcow2.XXXXXX");
	assert_non_null(mkdtemp(b->dir));
	b->qemu = !system("command -v qemu-img >/dev/null && command -v qemu-io >/dev/null");
	b->seed = 88172645463325252ULL;
	b->model = calloc(1, 2 * DISK);
	b->size = DISK;
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct bench *b = *state;
	char line[128];

	snprintf(line, sizeof(line), "rm -rf %s", b->dir);
	assert_int_equal(system(line), 0);
	free(b->model);
	free(b);
	return 0;
}

static struct image *open_image(const struct bench *b, const char *name)
{
	char path[128];
	struct image_open how = { .path = path };
	struct image *img;
	struct err e = { 0 };

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	if (image_open(&img, &how, &e))
		fail_msg("%s", e.text);
	return img;
}

static void model_save(const struct bench *b)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/model.raw", b->dir);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(b->model, 1, b->size, f), b->size);
	fclose(f);
}

static void model_load(struct bench *b, const char *name)
{
	struct image *img = open_image(b, name);

	b->size = img->size;
	assert_true(b->size <= 2 * DISK);
	memset(b->model, 0, 2 * DISK);
	assert_int_equal(image_pread(img, 0, b->model, b->size), 0);
	assert_int_equal(image_close(img), 0);
}

static uint64_t rnd(struct bench *b, uint64_t n)
{
	return test_random(&b->seed) % n;
}

static void fill(struct bench *b, uint8_t *buf, size_t len)
{
	for (size_t i = 0; i < len; i++)
		buf[i] = i % 64 ? 0x11 * (1 + i / 64 % 13) : rnd(b, 256);
}

static void range(struct bench *b, uint64_t *off, uint64_t *len, uint64_t max)
{
	*len = 1 + rnd(b, rnd(b, 4) ? 3000 : max);
	if (rnd(b, 2))
		*len = ALIGN_UP(*len, 512);
	*len = MIN(*len, b->size);
	*off = rnd(b, b->size - *len + 1);
	if (rnd(b, 2))
		*off = ALIGN_DOWN(*off, 512);
}

/* One random operation on both. */
static void operate(struct bench *b, struct image *img, bool may_resize)
{
	static uint8_t buf[512 << 10];
	const unsigned int what = rnd(b, 20);
	struct err e;
	uint64_t off, len;

	range(b, &off, &len, sizeof(buf));
	if (what < 8) {
		fill(b, buf, len);
		assert_int_equal(image_pwrite(img, off, buf, len), 0);
		memcpy(b->model + off, buf, len);
	} else if (what < 13) {
		assert_int_equal(image_pread(img, off, buf, len), 0);
		assert_memory_equal(buf, b->model + off, len);
	} else if (what < 16) {
		assert_int_equal(image_zero(img, off, len, rnd(b, 2)), 0);
		memset(b->model + off, 0, len);
	} else if (what < 18) {
		assert_int_equal(image_discard(img, off, len), 0);
		/* Either is right, but it has to stay so. */
		assert_int_equal(image_pread(img, off, buf, len), 0);
		for (uint64_t i = 0; i < len; i++)
			assert_true(!buf[i] || buf[i] == b->model[off + i]);
		memcpy(b->model + off, buf, len);
	} else if (what < 19) {
		assert_int_equal(image_flush(img), 0);
	} else if (may_resize && !rnd(b, 4)) {
		const uint64_t size = ALIGN_UP(DISK / 2 + rnd(b, 3 * DISK / 2 - 512), 512);

		if (image_resize(img, size, &e))
			fail_msg("%s", e.text);
		if (size > b->size)
			memset(b->model + b->size, 0, size - b->size);
		b->size = size;
	}
}

static void compare_all(struct bench *b, struct image *img)
{
	uint8_t *buf = malloc(b->size);

	assert_int_equal(img->size, b->size);
	assert_int_equal(image_pread(img, 0, buf, b->size), 0);
	assert_memory_equal(buf, b->model, b->size);
	free(buf);
}

static void verify(struct bench *b, const char *name)
{
	struct qcow2_check check;
	struct image *img = open_image(b, name);
	struct err e;

	compare_all(b, img);
	assert_int_equal(qcow2_check(img, false, &check, &e), 0);
	if (check.errors || check.leaks)
		fail_msg("%s: %llu errors, %llu leaks: %s", name, (unsigned long long)check.errors,
			 (unsigned long long)check.leaks, check.first);
	assert_int_equal(image_close(img), 0);
	if (!b->qemu)
		return;
	model_save(b);
	assert_int_equal(sh(b, "qemu-img check %s", name), 0);
	assert_int_equal(sh(b, "qemu-img compare -f raw model.raw %s", name), 0);
}

static void work(struct bench *b, const char *name, unsigned int rounds, bool may_resize)
{
	for (unsigned int i = 0; i < rounds; i++) {
		struct image *img = open_image(b, name);

		for (unsigned int n = 0; n < 250; n++)
			operate(b, img, may_resize);
		compare_all(b, img);
		assert_int_equal(image_close(img), 0);
		verify(b, name);
	}
}

static void make_own(struct bench *b, const char *name, unsigned int bits, const char *backing)
{
	const struct qcow2_create c = { .size = DISK, .cluster_bits = bits, .backing = backing,
					.backing_format = backing ? "qcow2" : NULL };
	char path[128];
	struct image *file;
	struct err e;

	snprintf(path, sizeof(path), "%s/%s", b->dir, name);
	assert_int_equal(raw_create(&file, path, 0, true, &e), 0);
	assert_int_equal(qcow2_create(file, &c, &e), 0);
	assert_int_equal(image_close(file), 0);
}

static void test_own(void **state)
{
	struct bench *b = *state;

	for (unsigned int bits = 9; bits <= 17; bits += bits == 9 ? 3 : 4) {
		make_own(b, "own", bits, NULL);
		b->size = DISK;
		memset(b->model, 0, 2 * DISK);
		work(b, "own", 3, true);
	}
}

static void test_backing(void **state)
{
	struct bench *b = *state;

	make_own(b, "base", 16, NULL);
	b->size = DISK;
	memset(b->model, 0, 2 * DISK);
	work(b, "base", 1, false);
	make_own(b, "middle", 12, "base");
	work(b, "middle", 2, true);
	make_own(b, "top", 9, "middle");
	b->size = DISK;
	model_load(b, "top");
	work(b, "top", 2, true);
}

static void needs_qemu(const struct bench *b)
{
	if (!b->qemu) {
		print_message("qemu-img and qemu-io (package qemu-utils) are not installed\n");
		skip();
	}
}

/* What QEMU makes, in every shape that changes the format. */
static void test_foreign(void **state)
{
	static const char *const shapes[] = {
		"compat=0.10", "compat=1.1", "refcount_bits=1", "refcount_bits=2", "refcount_bits=8",
		"refcount_bits=64,cluster_size=512", "lazy_refcounts=on", "preallocation=metadata",
		"preallocation=full", "cluster_size=2M",
	};
	struct bench *b = *state;

	needs_qemu(b);
	for (unsigned int i = 0; i < ARRAY_SIZE(shapes); i++) {
		assert_int_equal(sh(b, "qemu-img create -f qcow2 -o %s foreign %llu", shapes[i], DISK), 0);
		assert_int_equal(sh(b, "qemu-io -c 'write -P 5 100k 300k' -c 'write -z 200k 64k' foreign"),
				 0);
		model_load(b, "foreign");
		assert_int_equal(b->model[100 << 10], 5);
		assert_int_equal(b->model[210 << 10], 0);
		work(b, "foreign", 1, true);
	}
}

static void test_compressed(void **state)
{
	static const char *const how[] = { "compression_type=zlib", "compression_type=zstd",
					   "cluster_size=4k", "compat=0.10" };
	struct bench *b = *state;

	needs_qemu(b);
	for (unsigned int i = 0; i < ARRAY_SIZE(how); i++) {
		b->size = DISK;
		fill(b, b->model, DISK);
		model_save(b);
		assert_int_equal(sh(b, "qemu-img convert -c -f raw -O qcow2 -o %s model.raw packed",
				    how[i]), 0);
		verify(b, "packed");
		work(b, "packed", 2, true);
	}
}

static void test_snapshots(void **state)
{
	struct bench *b = *state;
	uint8_t *before = malloc(DISK);

	needs_qemu(b);
	make_own(b, "kept", 12, NULL);
	b->size = DISK;
	memset(b->model, 0, 2 * DISK);
	work(b, "kept", 1, false);
	memcpy(before, b->model, DISK);
	assert_int_equal(sh(b, "qemu-img snapshot -c one kept"), 0);
	work(b, "kept", 2, false);
	assert_int_equal(sh(b, "qemu-img snapshot -c two kept"), 0);
	work(b, "kept", 2, false);
	/* The first snapshot is what it was. */
	assert_int_equal(sh(b, "qemu-img snapshot -a one kept"), 0);
	memcpy(b->model, before, DISK);
	verify(b, "kept");
	work(b, "kept", 1, false);
	assert_int_equal(sh(b, "qemu-img snapshot -d one kept && qemu-img snapshot -d two kept"), 0);
	verify(b, "kept");
	free(before);
}

/* A writer that died with lazy refcounts: repaired when opened. */
static void test_dirty(void **state)
{
	struct bench *b = *state;
	struct qcow2_info info;
	struct image *img;

	needs_qemu(b);
	assert_int_equal(sh(b, "qemu-img create -f qcow2 -o lazy_refcounts=on lazy %llu", DISK), 0);
	sh(b, "qemu-io -c 'write -P 7 0 1M' -c 'flush' -c 'abort' lazy; true");
	img = open_image(b, "lazy");
	assert_true(qcow2_info(img, &info));
	assert_false(info.dirty);
	assert_int_equal(image_close(img), 0);
	model_load(b, "lazy");
	assert_int_equal(b->model[1000], 7);
	work(b, "lazy", 1, true);
}

/* One disk, several threads, each with its own part, with neighbours in the same clusters. */
struct job {
	struct image *img;
	uint8_t *model;
	uint64_t seed, lane;
};

static void *job_run(void *arg)
{
	struct job *j = arg;
	uint8_t buf[512], got[512];

	for (unsigned int n = 0; n < 3000; n++) {
		const uint64_t off = (test_random(&j->seed) % (DISK / 2048) * 4 + j->lane) * 512;
		const unsigned int what = test_random(&j->seed) % 8;

		if (what < 4) {
			memset(buf, test_random(&j->seed), sizeof(buf));
			if (image_pwrite(j->img, off, buf, sizeof(buf)))
				return arg;
			memcpy(j->model + off, buf, sizeof(buf));
		} else if (what < 5) {
			if (image_zero(j->img, off, sizeof(buf), true))
				return arg;
			memset(j->model + off, 0, sizeof(buf));
		} else if (what < 6 && !(n % 16)) {
			if (image_flush(j->img))
				return arg;
		} else {
			if (image_pread(j->img, off, got, sizeof(got)) ||
			    memcmp(got, j->model + off, sizeof(got)))
				return arg;
		}
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct bench *b = *state;
	pthread_t threads[4];
	struct job jobs[4];
	void *wrong;

	for (unsigned int bits = 9; bits <= 16; bits += 7) {
		make_own(b, "many", bits, NULL);
		b->size = DISK;
		memset(b->model, 0, DISK);
		jobs[0].img = open_image(b, "many");
		for (unsigned int i = 0; i < 4; i++) {
			jobs[i] = (struct job){ jobs[0].img, b->model, 7919 + i, i };
			pthread_create(&threads[i], NULL, job_run, &jobs[i]);
		}
		for (unsigned int i = 0; i < 4; i++) {
			pthread_join(threads[i], &wrong);
			assert_null(wrong);
		}
		compare_all(b, jobs[0].img);
		assert_int_equal(image_close(jobs[0].img), 0);
		verify(b, "many");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_own),
		cmocka_unit_test(test_backing),
		cmocka_unit_test(test_foreign),
		cmocka_unit_test(test_compressed),
		cmocka_unit_test(test_snapshots),
		cmocka_unit_test(test_dirty),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests_name("qcow2_model", tests, setup, teardown);
}
