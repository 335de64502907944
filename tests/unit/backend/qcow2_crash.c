// SPDX-License-Identifier: Apache-2.0
/*
 * The host dies at any moment: what was written before the last flush of the file is there, of
 * what came later any sectors are or are not.  However it is, the image has no errors (leaks
 * are allowed), and each sector of the disk has what it had at the last acknowledged flush, or
 * something that was written to it later.
 */
#include "backend/image.h"
#include "backend/qcow2.h"
#include "mem_image.h"
#include "unit.h"

#include <stdio.h>

#define DISK		(256U << 10)
#define SECTORS		(DISK / 512)
#define OPS		400U
#define VALUES		64U

/* The values that a sector may have: the last flushed one, then the later ones. */
struct history {
	uint32_t value[VALUES];
	unsigned int count;
};

struct bench {
	struct mem_image *file;
	struct image *img;
	uint64_t seed;
	uint32_t next;
	uint32_t now[SECTORS];
	/* For each operation: how long the journal was when it was acknowledged, what it did. */
	struct step {
		size_t journal;
		bool flush;
		uint32_t first, count, value;
	} steps[OPS];
};

static uint64_t rnd(struct bench *b, uint64_t n)
{
	return test_random(&b->seed) % n;
}

static void start(struct bench *b, unsigned int bits, struct image *backing)
{
	const struct qcow2_create c = { .size = DISK, .cluster_bits = bits };
	const struct image_open how = { .path = "memory" };
	struct err e = { 0 };

	memset(b, 0, sizeof(*b));
	b->seed = 1234567 + bits;
	b->file = mem_image_new(NULL, 0);
	assert_int_equal(qcow2_create(&b->file->img, &c, &e), 0);
	if (backing)
		assert_int_equal(qcow2_open_over(&b->img, &b->file->img, backing, &how, &e), 0);
	else
		assert_int_equal(qcow2_open(&b->img, &b->file->img, &how, &e), 0);
	b->file->journal = true;
}

static void write_sectors(struct bench *b, struct step *s)
{
	static uint32_t buf[32 * 128];

	s->first = rnd(b, SECTORS);
	s->count = 1 + rnd(b, rnd(b, 3) ? 4 : 32);
	s->count = MIN(s->count, SECTORS - s->first);
	s->value = rnd(b, 5) ? ++b->next : 0;
	for (unsigned int i = 0; i < s->count * 128; i++)
		buf[i] = s->value;
	if (s->value)
		assert_int_equal(image_pwrite(b->img, 512 * s->first, buf, 512 * s->count), 0);
	else
		assert_int_equal(image_zero(b->img, 512 * s->first, 512 * s->count, rnd(b, 2)), 0);
	for (unsigned int i = 0; i < s->count; i++)
		b->now[s->first + i] = s->value;
}

static void run(struct bench *b)
{
	for (unsigned int n = 0; n < OPS; n++) {
		struct step *s = &b->steps[n];

		s->flush = !rnd(b, 12);
		if (s->flush)
			assert_int_equal(image_flush(b->img), 0);
		else
			write_sectors(b, s);
		s->journal = b->file->write_count;
	}
}

/* The file as it may be after @length entries of the journal. */
static struct mem_image *crashed(struct bench *b, size_t length, const struct mem_image *initial)
{
	struct mem_image *m = mem_image_new(initial->data, initial->size);
	size_t flushed = 0;

	for (size_t i = 0; i < length; i++)
		if (!b->file->writes[i].data)
			flushed = i;
	for (size_t i = 0; i < length; i++) {
		const struct mem_write *w = &b->file->writes[i];

		for (uint64_t at = 0; w->data && at < w->len; at += 512) {
			const struct iovec v = { w->data + at, MIN(512, w->len - at) };
			const struct span s = span_of(&v, 1, v.iov_len);

			/* An entry of the table of refcounts may be written alone. */
			if (i < flushed || rnd(b, 2))
				assert_int_equal(mem_write_at(m, w->off + at, &s), 0);
		}
	}
	return m;
}

static void history_add(struct history *h, uint32_t value)
{
	if (h->count < VALUES)
		h->value[h->count++] = value;
}

/* What each sector may be after @length entries of the journal. */
static void allowed(const struct bench *b, size_t length, struct history *h, const uint32_t *at_first)
{
	for (unsigned int i = 0; i < SECTORS; i++) {
		h[i].count = 0;
		history_add(&h[i], at_first[i]);
	}
	for (unsigned int n = 0; n < OPS; n++) {
		const struct step *s = &b->steps[n];

		/* Acknowledged or begun: a step begins where the one before ended. */
		if (n && b->steps[n - 1].journal > length)
			return;
		for (unsigned int i = s->first; i < s->first + s->count; i++)
			history_add(&h[i], s->value);
		if (!s->flush || s->journal > length)
			continue;
		for (unsigned int i = 0; i < SECTORS; i++) {
			h[i].value[0] = h[i].value[h[i].count - 1];
			h[i].count = 1;
		}
	}
}

static bool one_of(const struct history *h, uint32_t value)
{
	for (unsigned int i = 0; i < h->count; i++)
		if (h->value[i] == value)
			return true;
	return h->count == VALUES;
}

static void inspect(struct bench *b, size_t length, const struct mem_image *initial,
		    struct image *backing, const uint32_t *at_first)
{
	static struct history h[SECTORS];
	static uint32_t data[SECTORS * 128];
	struct mem_image *m = crashed(b, length, initial);
	const struct image_open how = { .path = "memory" };
	struct qcow2_check check;
	struct image *img;
	struct err e = { 0 };

	if (qcow2_open(&img, &m->img, &how, &e))
		fail_msg("after %zu writes: %s", length, e.text);
	assert_int_equal(qcow2_check(img, false, &check, &e), 0);
	if (check.errors)
		fail_msg("after %zu writes: %s", length, check.first);
	image_close(img);
	m = crashed(b, length, initial);
	assert_int_equal(backing ? qcow2_open_over(&img, &m->img, backing, &how, &e) :
			 qcow2_open(&img, &m->img, &how, &e), 0);
	assert_int_equal(image_pread(img, 0, data, DISK), 0);
	allowed(b, length, h, at_first);
	for (unsigned int i = 0; i < SECTORS; i++) {
		if (!one_of(&h[i], data[i * 128]))
			fail_msg("after %zu of %zu writes: sector %u has %u, not %u or later", length,
				 b->file->write_count, i, data[i * 128], h[i].value[0]);
		for (unsigned int k = 1; k < 128; k++)
			assert_int_equal(data[i * 128 + k], data[i * 128]);
	}
	img->backing = NULL;	/* the test's own */
	image_close(img);
}

static void play(unsigned int bits, struct image *backing, const uint32_t *at_first)
{
	static struct bench b;
	struct mem_image *initial;
	size_t step;

	start(&b, bits, backing);
	initial = mem_image_new(b.file->data, b.file->size);
	run(&b);
	step = 1 + b.file->write_count / 400;
	for (size_t length = 0; length <= b.file->write_count; length += step)
		inspect(&b, length, initial, backing, at_first);
	b.img->backing = NULL;
	image_close(b.img);
	mem_close(&initial->img);
}

static void test_plain(void **state)
{
	static const uint32_t zeroes[SECTORS];

	(void)state;
	for (unsigned int bits = 9; bits <= 14; bits++)
		play(bits, NULL, zeroes);
}

/* Clusters are first filled from below; an early L2 entry would show half of them. */
static void test_over_backing(void **state)
{
	static uint32_t data[SECTORS * 128], at_first[SECTORS];
	struct mem_image *backing;

	(void)state;
	for (unsigned int i = 0; i < SECTORS * 128; i++)
		data[i] = 1000000 + i / 128;
	for (unsigned int i = 0; i < SECTORS; i++)
		at_first[i] = 1000000 + i;
	backing = mem_image_new(data, sizeof(data));
	backing->img.read_only = true;
	play(12, &backing->img, at_first);
	play(9, &backing->img, at_first);
	mem_close(&backing->img);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_plain),
		cmocka_unit_test(test_over_backing),
	};

	return cmocka_run_group_tests_name("qcow2_crash", tests, NULL, NULL);
}
