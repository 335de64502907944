// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-blk on raw images in a temporary file: each kind of request, what drivers can get
 * wrong about it, cache modes, growing, and resets with requests under way.
 */
#include "virtio_rig.h"

#include "virtio/blk.h"

#include <fcntl.h>
#include <unistd.h>

#define SIZE		(1U << 20)
#define HEADER		0x40000ULL
#define DATA		0x41000ULL
#define STATUS		0x40800ULL

#define T_IN		0
#define T_OUT		1
#define T_FLUSH		4
#define T_GET_ID	8
#define T_DISCARD	11
#define T_WRITE_ZEROES	13
#define OK		0
#define IOERR		1
#define UNSUPP		2

struct blk_bench {
	struct bench b;
	struct block *block;
	struct ring r;
	char path[64];
	int fd;			/* the image, from outside */
};

static void setup(struct blk_bench *k, const char *options, unsigned int queues)
{
	struct virtio_blk_config c = { .queues = queues };
	struct block_options o;
	struct virtio_device *d;
	char text[128];
	struct err e;

	strcpy(k->path, "/tmp/vireo-blk-XXXXXX");
	k->fd = mkstemp(k->path);
	assert_true(k->fd >= 0);
	assert_int_equal(ftruncate(k->fd, SIZE), 0);
	for (unsigned int i = 0; i < SIZE / 512; i++)
		assert_int_equal(pwrite(k->fd, &i, 4, i * 512), 4);
	snprintf(text, sizeof(text), "%s,format=raw%s", k->path, options);
	bench_init(&k->b);
	if (block_options_parse(&o, text, &e) || block_open(&c.block, &o, &e))
		fail_msg("%s", e.text);
	k->block = c.block;
	assert_int_equal(virtio_blk_create(&d, &k->b.rig.space, NULL, &c, NULL), 0);
	bench_plug(&k->b, d);
}

static void done(struct blk_bench *k)
{
	bench_done(&k->b);
	close(k->fd);
	unlink(k->path);
}

static void start(struct blk_bench *k, uint64_t features)
{
	bench_features(&k->b, features);
	ring_init(&k->r, &k->b, 0, false, 16);
	bench_driver_ok(&k->b);
}

static uint64_t all_features(struct blk_bench *k)
{
	return bench_offered(&k->b) & ~BIT(VIRTIO_F_RING_PACKED);
}

static void put_header(struct blk_bench *k, uint32_t type, uint64_t sector)
{
	uint8_t *p = mem(&k->b, HEADER);

	memset(p, 0, 16);
	memcpy(p, &type, 4);
	memcpy(p + 8, &sector, 8);
}

/* Waits for the worker; returns the status, *len what the driver is told was written. */
static uint8_t await_status(struct blk_bench *k, unsigned int n, uint32_t *len)
{
	uint32_t id;

	ring_kick(&k->r);
	for (unsigned int i = 0; !ring_take(&k->r, n, &id, len); i++) {
		assert_true(i < 20000);
		usleep(500);
	}
	return *(uint8_t *)mem(&k->b, STATUS);
}

/* A request with @len bytes at DATA, in the direction that @type has. */
static uint8_t do_request(struct blk_bench *k, uint32_t type, uint64_t sector, uint32_t len)
{
	const bool in = type == T_IN || type == T_GET_ID;
	const struct seg s[] = { { HEADER, 16, 0 }, { DATA, len, in ? D_WRITE : 0 },
				 { STATUS, 1, D_WRITE } };
	uint32_t written;
	uint8_t status;

	*(uint8_t *)mem(&k->b, STATUS) = 0xee;
	put_header(k, type, sector);
	ring_add(&k->r, s, 3, 0);
	status = await_status(k, 3, &written);
	assert_int_equal(written, status == OK && in ? len + 1 : 1);
	return status;
}

static uint8_t segment(struct blk_bench *k, uint32_t type, uint64_t sector, uint32_t sectors,
		       uint32_t flags)
{
	uint8_t *p = mem(&k->b, DATA);

	memcpy(p, &sector, 8);
	memcpy(p + 8, &sectors, 4);
	memcpy(p + 12, &flags, 4);
	return do_request(k, type, 0, 16);
}

static uint32_t on_disk(struct blk_bench *k, unsigned int sector)
{
	uint32_t v;

	assert_int_equal(pread(k->fd, &v, 4, sector * 512), 4);
	return v;
}

static void test_config(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, ",serial=unit", 3);
	assert_int_equal(cfg_rd(&k.b, 2, 2), 0x1042);
	assert_int_equal(rd(&k.b, COMMON(0x12), 2), 3);
	assert_int_equal(rd(&k.b, DEVCFG(0), 8), SIZE / 512);
	assert_int_equal(rd(&k.b, DEVCFG(12), 4), 254);
	assert_int_equal(rd(&k.b, DEVCFG(20), 4), 512);
	assert_int_equal(rd(&k.b, DEVCFG(24), 1), 3);
	assert_int_equal(rd(&k.b, DEVCFG(32), 1), 1);
	assert_int_equal(rd(&k.b, DEVCFG(34), 2), 3);
	assert_true(bench_offered(&k.b) & BIT(9));
	assert_true(bench_offered(&k.b) & BIT(12));
	assert_false(bench_offered(&k.b) & BIT(5));
	done(&k);
	setup(&k, ",readonly=on", 1);
	assert_true(bench_offered(&k.b) & BIT(5));
	assert_false(bench_offered(&k.b) & (BIT(13) | BIT(14) | BIT(12)));
	done(&k);
}

static void test_read_write(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, ",serial=unit", 1);
	start(&k, all_features(&k));
	assert_int_equal(do_request(&k, T_IN, 7, 1024), OK);
	assert_int_equal(peek32(&k.b, DATA), 7);
	assert_int_equal(peek32(&k.b, DATA + 512), 8);
	memset(mem(&k.b, DATA), 0x5a, 4096);
	assert_int_equal(do_request(&k, T_OUT, 100, 4096), OK);
	assert_int_equal(on_disk(&k, 99), 99);
	assert_int_equal(on_disk(&k, 100), 0x5a5a5a5a);
	assert_int_equal(on_disk(&k, 107), 0x5a5a5a5a);
	assert_int_equal(on_disk(&k, 108), 108);
	assert_int_equal(do_request(&k, T_FLUSH, 0, 0), OK);
	assert_int_equal(do_request(&k, T_GET_ID, 0, 20), OK);
	assert_string_equal(mem(&k.b, DATA), "unit");
	/* The last sector, and beyond it. */
	assert_int_equal(do_request(&k, T_IN, SIZE / 512 - 1, 512), OK);
	assert_int_equal(do_request(&k, T_IN, SIZE / 512 - 1, 1024), IOERR);
	assert_int_equal(do_request(&k, T_OUT, SIZE / 512, 512), IOERR);
	assert_int_equal(do_request(&k, T_IN, UINT64_MAX, 512), IOERR);
	assert_int_equal(do_request(&k, T_OUT, UINT64_MAX / 512, 512), IOERR);
	assert_int_equal(do_request(&k, T_OUT, UINT64_MAX / 512 + 1, 512), IOERR);
	assert_int_equal(do_request(&k, T_IN, 0, 511), IOERR);
	assert_int_equal(do_request(&k, T_IN, 0, 0), OK);
	assert_int_equal(do_request(&k, 2, 0, 512), UNSUPP);
	assert_int_equal(do_request(&k, UINT32_MAX, 0, 512), UNSUPP);
	assert_false(status(&k.b) & ST_NEEDS_RESET);
	done(&k);
}

static void test_read_only(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, ",readonly=on", 1);
	start(&k, all_features(&k));
	memset(mem(&k.b, DATA), 0x5a, 512);
	assert_int_equal(do_request(&k, T_OUT, 5, 512), IOERR);
	assert_int_equal(segment(&k, T_DISCARD, 5, 1, 0), IOERR);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, 5, 1, 0), IOERR);
	assert_int_equal(on_disk(&k, 5), 5);
	assert_int_equal(do_request(&k, T_IN, 5, 512), OK);
	done(&k);
}

static void test_zeroes(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, "", 1);
	start(&k, all_features(&k));
	assert_int_equal(segment(&k, T_WRITE_ZEROES, 16, 8, 0), OK);
	assert_int_equal(on_disk(&k, 15), 15);
	assert_int_equal(on_disk(&k, 16), 0);
	assert_int_equal(on_disk(&k, 23), 0);
	assert_int_equal(on_disk(&k, 24), 24);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, 32, 8, 1), OK);
	assert_int_equal(on_disk(&k, 39), 0);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, 32, 8, 2), UNSUPP);
	assert_int_equal(segment(&k, T_DISCARD, 32, 8, 1), UNSUPP);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, SIZE / 512, 1, 0), IOERR);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, UINT64_MAX, UINT32_MAX, 0), IOERR);
	assert_int_equal(segment(&k, T_WRITE_ZEROES, 0, UINT32_MAX, 0), IOERR);
	assert_int_equal(do_request(&k, T_DISCARD, 0, 24), IOERR);
	assert_int_equal(do_request(&k, T_WRITE_ZEROES, 0, 0), IOERR);
	/* Two pieces, the second of which is wrong. */
	segment(&k, T_FLUSH, 64, 1, 0);
	memset(mem(&k.b, DATA + 16), 0xff, 12);
	memset(mem(&k.b, DATA + 28), 0, 4);
	assert_int_equal(do_request(&k, T_WRITE_ZEROES, 0, 32), IOERR);
	assert_int_equal(on_disk(&k, 64), 0);
	done(&k);
}

/* Headers and statuses in pieces, and none at all. */
static void test_layouts(void **state)
{
	const struct seg pieces[] = {
		{ HEADER, 5, 0 }, { HEADER + 5, 11, 0 }, { DATA, 100, D_WRITE },
		{ DATA + 100, 412, D_WRITE }, { STATUS, 1, D_WRITE },
	};
	const struct seg joined[] = { { HEADER, 16, 0 }, { DATA, 513, D_WRITE } };
	const struct seg no_status[] = { { HEADER, 16, 0 }, { DATA, 512, 0 } };
	const struct seg short_header[] = { { HEADER, 15, 0 }, { STATUS, 1, D_WRITE } };
	const struct seg only_in[] = { { STATUS, 1, D_WRITE } };
	struct blk_bench k;
	uint32_t len;

	(void)state;
	setup(&k, "", 1);
	start(&k, all_features(&k));
	put_header(&k, T_IN, 9);
	ring_add(&k.r, pieces, 5, 0);
	assert_int_equal(await_status(&k, 5, &len), OK);
	assert_int_equal(len, 513);
	assert_int_equal(peek32(&k.b, DATA), 9);
	*(uint8_t *)mem(&k.b, DATA + 512) = 0xee;
	ring_add(&k.r, joined, 2, 0);
	await_status(&k, 2, &len);
	assert_int_equal(*(uint8_t *)mem(&k.b, DATA + 512), OK);
	for (unsigned int i = 0; i < 3; i++) {
		const struct seg *s[] = { no_status, short_header, only_in };

		ring_add(&k.r, s[i], i == 2 ? 1 : 2, 0);
		ring_kick(&k.r);
		assert_true(status(&k.b) & ST_NEEDS_RESET);
		bench_reset(&k.b);
		start(&k, all_features(&k));
	}
	put_header(&k, T_IN, 9);
	ring_add(&k.r, pieces, 5, 0);
	assert_int_equal(await_status(&k, 5, &len), OK);
	done(&k);
}

/* Without a cache (or a driver that cannot flush) a write is followed by a flush of ours. */
static void test_write_through(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, "", 1);
	start(&k, all_features(&k));
	wr(&k.b, DEVCFG(32), 1, 0);
	bench_sync(&k.b);
	assert_int_equal(do_request(&k, T_OUT, 1, 512), OK);
	wr(&k.b, DEVCFG(32), 1, 77);
	bench_sync(&k.b);
	assert_int_equal(rd(&k.b, DEVCFG(32), 1), 1);
	bench_reset(&k.b);
	start(&k, 0);
	assert_int_equal(do_request(&k, T_OUT, 1, 512), OK);
	assert_int_equal(do_request(&k, T_OUT, SIZE / 512, 512), IOERR);
	done(&k);
}

static void test_resize(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, "", 1);
	wr(&k.b, COMMON(0x10), 2, 0);
	start(&k, all_features(&k));
	assert_int_equal(do_request(&k, T_IN, SIZE / 512, 512), IOERR);
	assert_int_equal(block_resize(k.block, 2 * SIZE, NULL), 0);
	assert_int_equal(k.b.messages[0], 1);
	assert_int_equal(rd(&k.b, DEVCFG(0), 8), 2 * SIZE / 512);
	assert_int_equal(do_request(&k, T_IN, SIZE / 512, 512), OK);
	done(&k);
}

/* The driver lets go of the device while the workers are busy; then all is as new. */
static void test_reset_in_flight(void **state)
{
	struct blk_bench k;

	(void)state;
	setup(&k, "", 1);
	for (unsigned int turn = 0; turn < 100; turn++) {
		start(&k, turn & 1 ? all_features(&k) : BIT(VIRTIO_F_INDIRECT_DESC));
		for (unsigned int i = 0; i < 5; i++) {
			const struct seg s[] = { { HEADER, 16, 0 },
						 { DATA, 65536, turn & 1 ? D_WRITE : 0 },
						 { STATUS, 1, D_WRITE } };

			put_header(&k, turn & 1 ? T_IN : T_OUT, i);
			ring_add(&k.r, s, 3, 0);
			wr(&k.b, NOTIFY(0), 2, 0);
		}
		if (turn % 3 == 0)
			k.b.pci->ops->reset(k.b.pci);
		bench_enable(&k.b);
		bench_reset(&k.b);
	}
	start(&k, all_features(&k));
	memset(mem(&k.b, DATA), 0x77, 512);
	assert_int_equal(do_request(&k, T_OUT, 3, 512), OK);
	assert_int_equal(on_disk(&k, 3), 0x77777777);
	done(&k);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_read_only),
		cmocka_unit_test(test_zeroes),
		cmocka_unit_test(test_layouts),
		cmocka_unit_test(test_write_through),
		cmocka_unit_test(test_resize),
		cmocka_unit_test(test_reset_in_flight),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
