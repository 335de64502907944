// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-scsi on raw images in temporary files: commands that ask, read, write and give back,
 * what drivers can get wrong about them, tasks that are aborted, growing, resets; and commands of
 * random bytes, whose answers must stay inside of the disk.
 */
#include "virtio_rig.h"

#include "virtio/scsi.h"
#include "virtio/scsi_priv.h"

#include <unistd.h>

#define SIZE		(1U << 20)
#define BLOCKS		(SIZE / 512)
#define REQUEST		0x40000ULL
#define RESPONSE	0x40800ULL
#define DATA		0x41000ULL
#define HEAD		(19 + 32)	/* of a request; of a response the next */
#define TAIL		(12 + 96)

#define OK		0
#define OVERRUN		1
#define BAD_TARGET	3
#define GOOD		0
#define CHECK		2

struct scsi_bench {
	struct bench b;
	struct block *block[2];
	struct ring control, event, r;
	int fd[2];
};

static void add_disk(struct scsi_bench *k, struct virtio_device *d, unsigned int i,
		     const char *options)
{
	char path[] = "/tmp/vireo-scsi-XXXXXX", text[128];
	struct virtio_scsi_disk disk = { 0 };
	struct block_options o;
	struct err e;

	k->fd[i] = mkstemp(path);
	assert_true(k->fd[i] >= 0);
	assert_int_equal(ftruncate(k->fd[i], SIZE), 0);
	for (unsigned int n = 0; n < BLOCKS; n++)
		assert_int_equal(pwrite(k->fd[i], &n, 4, n * 512), 4);
	snprintf(text, sizeof(text), "%s,format=raw%s", path, options);
	if (block_options_parse(&o, text, &e) || block_open(&disk.block, &o, &e))
		fail_msg("%s", e.text);
	unlink(path);
	k->block[i] = disk.block;
	assert_int_equal(virtio_scsi_add(d, &disk, NULL), i);
}

static void setup(struct scsi_bench *k, const char *options)
{
	struct virtio_device *d;

	bench_init(&k->b);
	assert_int_equal(virtio_scsi_create(&d, &k->b.rig.space, NULL, 2, NULL), 0);
	add_disk(k, d, 0, options);
	add_disk(k, d, 1, ",readonly=on");
	bench_plug(&k->b, d);
	bench_features(&k->b, bench_offered(&k->b) & ~BIT(VIRTIO_F_RING_PACKED));
	ring_init(&k->control, &k->b, 0, false, 16);
	ring_init(&k->event, &k->b, 1, false, 16);
	ring_init(&k->r, &k->b, 2, false, 16);
	bench_driver_ok(&k->b);
}

static void done(struct scsi_bench *k)
{
	bench_done(&k->b);
	close(k->fd[0]);
	close(k->fd[1]);
}

static uint32_t wait_for(struct ring *r, unsigned int n)
{
	uint32_t id, len;

	ring_kick(r);
	for (unsigned int i = 0; !ring_take(r, n, &id, &len); i++) {
		assert_true(i < 20000);
		usleep(500);
	}
	return len;
}

struct reply {
	uint8_t response, status, key;
	uint16_t code;
	uint32_t residual, written;
};

/* The command in @cdb to @target's unit @lun, with @len bytes at DATA. */
static struct reply ask(struct scsi_bench *k, unsigned int target, unsigned int lun,
			const uint8_t *cdb, unsigned int cdb_len, uint32_t len, bool in)
{
	const struct seg s[] = {
		{ REQUEST, HEAD, 0 }, { in ? RESPONSE : DATA, in ? TAIL : len, in ? D_WRITE : 0 },
		{ in ? DATA : RESPONSE, in ? len : TAIL, D_WRITE },
	};
	const struct seg none[] = { { REQUEST, HEAD, 0 }, { RESPONSE, TAIL, D_WRITE } };
	uint8_t *p = mem(&k->b, REQUEST), *q = mem(&k->b, RESPONSE);
	struct reply r;

	memset(p, 0, HEAD);
	memset(q, 0xee, TAIL);
	p[0] = 1;
	p[1] = target;
	p[2] = 0x40 | lun >> 8;
	p[3] = lun;
	memcpy(p + 19, cdb, cdb_len);
	ring_add(&k->r, len ? s : none, len ? 3 : 2, 0);
	r.written = wait_for(&k->r, len ? 3 : 2) - TAIL;
	r.response = q[11];
	r.status = q[10];
	r.residual = peek32(&k->b, RESPONSE + 4);
	r.key = r.status == CHECK ? q[12 + 2] & 15 : 0;
	r.code = r.status == CHECK ? q[12 + 12] << 8 | q[12 + 13] : 0;
	return r;
}

#define CDB(...)	(const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ })

static void check(struct reply r, uint8_t key, uint16_t code)
{
	assert_int_equal(r.response, OK);
	assert_int_equal(r.status, key ? CHECK : GOOD);
	assert_int_equal(r.key, key);
	assert_int_equal(r.code, code);
}

static uint32_t on_disk(struct scsi_bench *k, unsigned int sector)
{
	uint32_t v;

	assert_int_equal(pread(k->fd[0], &v, 4, sector * 512), 4);
	return v;
}

static void test_questions(void **state)
{
	struct scsi_bench k;
	const uint8_t *data;
	struct reply r;

	(void)state;
	setup(&k, ",serial=unit");
	data = mem(&k.b, DATA);
	assert_int_equal(cfg_rd(&k.b, 2, 2), 0x1048);
	assert_int_equal(rd(&k.b, DEVCFG(0), 4), 2);
	assert_int_equal(rd(&k.b, DEVCFG(20), 4), 96);
	assert_int_equal(rd(&k.b, DEVCFG(24), 4), 32);
	check(ask(&k, 0, 0, CDB(0x00), 0, true), 0, 0);
	r = ask(&k, 0, 0, CDB(0x12, 0, 0, 0, 255), 255, true);
	check(r, 0, 0);
	assert_int_equal(r.written, 36);
	assert_int_equal(r.residual, 255 - 36);
	assert_int_equal(data[0], 0);
	assert_memory_equal(data + 8, "VIREO   ", 8);
	/* Less room than there is to say. */
	r = ask(&k, 0, 0, CDB(0x12, 0, 0, 0, 5), 255, true);
	assert_int_equal(r.written, 5);
	r = ask(&k, 0, 0, CDB(0x12, 1, 0x80, 0, 255), 255, true);
	assert_int_equal(r.written, 8);
	assert_memory_equal(data + 4, "unit", 4);
	r = ask(&k, 0, 0, CDB(0x12, 1, 0, 0, 255), 255, true);
	assert_int_equal(r.written, 4 + 6);
	check(ask(&k, 0, 0, CDB(0x12, 1, 0xc0, 0, 255), 255, true), 5, 0x2400);
	check(ask(&k, 0, 0, CDB(0x12, 0, 0x80, 0, 255), 255, true), 5, 0x2400);
	check(ask(&k, 0, 0, CDB(0x25), 8, true), 0, 0);
	assert_memory_equal(data, "\0\0\x07\xff\0\0\x02\0", 8);
	check(ask(&k, 0, 0, CDB(0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32), 32, true), 0, 0);
	assert_memory_equal(data, "\0\0\0\0\0\0\x07\xff\0\0\x02\0\0\3\x80", 15);
	check(ask(&k, 0, 0, CDB(0x9e, 0x11), 0, true), 5, 0x2400);
	check(ask(&k, 0, 0, CDB(0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 16), 16, true), 0, 0);
	assert_memory_equal(data, "\0\0\0\x08\0\0\0\0\0\0\0\0\0\0\0\0", 16);
	check(ask(&k, 0, 0, CDB(0x1a, 0, 0x3f, 0, 255), 255, true), 0, 0);
	assert_int_equal(data[2], 0x10);
	assert_int_equal(data[3], 8);
	assert_int_equal(data[0], 3 + 8 + 0x14 + 0x0c);
	check(ask(&k, 1, 0, CDB(0x5a, 8, 0x08, 0, 0, 0, 0, 0, 255), 255, true), 0, 0);
	assert_int_equal(data[3], 0x90);
	assert_int_equal(data[8], 0x08);
	check(ask(&k, 0, 0, CDB(0x1a, 0, 0x01, 0, 255), 255, true), 5, 0x2400);
	check(ask(&k, 0, 0, CDB(0x03, 0, 0, 0, 18), 18, true), 0, 0);
	assert_int_equal(data[0], 0x70);
	check(ask(&k, 0, 0, CDB(0xff), 0, true), 5, 0x2000);
	done(&k);
}

static void test_addresses(void **state)
{
	struct scsi_bench k;

	(void)state;
	setup(&k, "");
	assert_int_equal(ask(&k, 2, 0, CDB(0x00), 0, true).response, BAD_TARGET);
	assert_int_equal(ask(&k, 255, 0, CDB(0x00), 0, true).response, BAD_TARGET);
	check(ask(&k, 0, 7, CDB(0x00), 0, true), 5, 0x2500);
	check(ask(&k, 0, 7, CDB(0x12, 0, 0, 0, 36), 36, true), 0, 0);
	assert_int_equal(*(uint8_t *)mem(&k.b, DATA), 0x7f);
	check(ask(&k, 0, 0x123, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 1), 512, true), 5, 0x2500);
	done(&k);
}

static void test_read_write(void **state)
{
	struct scsi_bench k;
	struct reply r;

	(void)state;
	setup(&k, "");
	r = ask(&k, 0, 0, CDB(0x28, 0, 0, 0, 0, 7, 0, 0, 2), 1024, true);
	check(r, 0, 0);
	assert_int_equal(r.written, 1024);
	assert_int_equal(r.residual, 0);
	assert_int_equal(peek32(&k.b, DATA), 7);
	assert_int_equal(peek32(&k.b, DATA + 512), 8);
	check(ask(&k, 0, 0, CDB(0x08, 0, 0, 9, 1, 0), 512, true), 0, 0);
	assert_int_equal(peek32(&k.b, DATA), 9);
	r = ask(&k, 0, 0, CDB(0x88, 0, 0, 0, 0, 0, 0, 0, 0, 11, 0, 0, 0, 1), 2048, true);
	assert_int_equal(r.residual, 2048 - 512);
	assert_int_equal(peek32(&k.b, DATA), 11);
	memset(mem(&k.b, DATA), 0x5a, 4096);
	r = ask(&k, 0, 0, CDB(0x2a, 8, 0, 0, 0, 100, 0, 0, 8), 4096, false);	/* FUA */
	check(r, 0, 0);
	assert_int_equal(r.written, 0);
	assert_int_equal(r.residual, 0);
	assert_int_equal(on_disk(&k, 99), 99);
	assert_int_equal(on_disk(&k, 100), 0x5a5a5a5a);
	assert_int_equal(on_disk(&k, 107), 0x5a5a5a5a);
	assert_int_equal(on_disk(&k, 108), 108);
	check(ask(&k, 0, 0, CDB(0xaa, 0, 0, 0, 0, 1, 0, 0, 0, 1), 512, false), 0, 0);
	assert_int_equal(on_disk(&k, 1), 0x5a5a5a5a);
	check(ask(&k, 0, 0, CDB(0x35), 0, true), 0, 0);
	check(ask(&k, 0, 0, CDB(0x8f, 0, 0, 0, 0, 0, 0, 0, 7, 0xff, 0, 0, 0, 1), 0, true), 0, 0);
	/* Nothing, the last block, beyond it, too few buffers, both ways. */
	check(ask(&k, 0, 0, CDB(0x28), 0, true), 0, 0);
	check(ask(&k, 0, 0, CDB(0x28, 0, 0, 0, 7, 0xff, 0, 0, 1), 512, true), 0, 0);
	check(ask(&k, 0, 0, CDB(0x28, 0, 0, 0, 7, 0xff, 0, 0, 2), 1024, true), 5, 0x2100);
	check(ask(&k, 0, 0, CDB(0x8a, 0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 1), 512,
		  false), 5, 0x2100);
	assert_int_equal(ask(&k, 0, 0, CDB(0x28, 0, 0, 0, 0, 0, 0, 0, 2), 512, true).response, OVERRUN);
	assert_int_equal(ask(&k, 0, 0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 2), 512, false).response, OVERRUN);
	assert_int_equal(ask(&k, 0, 0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), 512, true).response, OVERRUN);
	check(ask(&k, 0, 0, CDB(0x28, 0x20), 0, true), 5, 0x2400);
	check(ask(&k, 1, 0, CDB(0x2a, 0, 0, 0, 0, 0, 0, 0, 1), 512, false), 7, 0x2700);
	assert_false(status(&k.b) & ST_NEEDS_RESET);
	done(&k);
}

static void test_give_back(void **state)
{
	struct scsi_bench k;
	uint8_t *p;

	(void)state;
	setup(&k, "");
	p = mem(&k.b, DATA);
	memset(p, 0, 4096);
	p[3] = 32;			/* two descriptors: 10 and 2 from 20 */
	p[8 + 7] = 10;
	p[8 + 11] = 1;
	p[24 + 7] = 20;
	p[24 + 11] = 2;
	check(ask(&k, 0, 0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 40), 40, false), 0, 0);
	assert_int_equal(on_disk(&k, 10), 0);
	assert_int_equal(on_disk(&k, 11), 11);
	assert_int_equal(on_disk(&k, 20), 0);
	assert_int_equal(on_disk(&k, 21), 0);
	p[24] = 0x80;			/* ... of which one is beyond the end: nothing is done */
	p[8 + 7] = 30;
	check(ask(&k, 0, 0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 40), 40, false), 5, 0x2100);
	assert_int_equal(on_disk(&k, 30), 30);
	check(ask(&k, 0, 0, CDB(0x42, 0, 0, 0, 0, 0, 0, 0, 40), 20, false), 5, 0x1a00);
	check(ask(&k, 0, 0, CDB(0x42, 1, 0, 0, 0, 0, 0, 0, 40), 40, false), 5, 0x2400);
	memset(p, 0, 512);
	check(ask(&k, 0, 0, CDB(0x41, 0, 0, 0, 0, 40, 0, 0, 4), 512, false), 0, 0);
	assert_int_equal(on_disk(&k, 40), 0);
	assert_int_equal(on_disk(&k, 43), 0);
	assert_int_equal(on_disk(&k, 44), 44);
	check(ask(&k, 0, 0, CDB(0x93, 9, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 1), 0, false), 0, 0);
	assert_int_equal(on_disk(&k, 50), 0);
	p[100] = 1;
	check(ask(&k, 0, 0, CDB(0x41, 0, 0, 0, 0, 60, 0, 0, 1), 512, false), 5, 0x2400);
	check(ask(&k, 0, 0, CDB(0x41, 0, 0, 0, 0, 60), 512, false), 5, 0x2400);
	check(ask(&k, 1, 0, CDB(0x93, 1, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 1), 0, false), 7, 0x2700);
	done(&k);
}

static uint8_t manage(struct scsi_bench *k, uint32_t type, uint32_t subtype, unsigned int target)
{
	const struct seg s[] = { { REQUEST, 24, 0 }, { RESPONSE, 5, D_WRITE } };
	uint8_t *p = mem(&k->b, REQUEST), *q = mem(&k->b, RESPONSE);

	memset(p, 0, 24);
	memset(q, 0xee, 5);
	memcpy(p, &type, 4);
	memcpy(p + 4, &subtype, 4);
	p[8] = 1;
	p[9] = target;
	ring_add(&k->control, s, 2, 0);
	return wait_for(&k->control, 2) == 5 ? q[4] : q[0];
}

static void test_control(void **state)
{
	struct scsi_bench k;

	(void)state;
	setup(&k, "");
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(manage(&k, 0, i, 0), i == 2 ? 11 : 0);
	assert_int_equal(manage(&k, 0, 99, 0), 11);
	assert_int_equal(manage(&k, 0, 5, 9), BAD_TARGET);
	assert_int_equal(manage(&k, 1, 0, 0), 0);
	assert_int_equal(manage(&k, 77, 0, 0), 9);
	check(ask(&k, 0, 0, CDB(0x28, 0, 0, 0, 0, 7, 0, 0, 1), 512, true), 0, 0);
	done(&k);
}

static void test_event(void **state)
{
	const struct seg s[] = { { DATA, 16, D_WRITE } };
	struct scsi_bench k;

	(void)state;
	setup(&k, "");
	assert_int_equal(block_resize(k.block[0], SIZE / 2, NULL), 0);
	bench_sync(&k.b);		/* nobody was there to hear it */
	ring_add(&k.event, s, 1, 0);
	ring_kick(&k.event);
	assert_int_equal(block_resize(k.block[0], SIZE / 4, NULL), 0);
	assert_int_equal(wait_for(&k.event, 1), 16);
	assert_int_equal(peek32(&k.b, DATA), 0x80000003);
	assert_int_equal(peek32(&k.b, DATA + 12), 0x092a);
	check(ask(&k, 0, 0, CDB(0x25), 8, true), 0, 0);
	assert_memory_equal(mem(&k.b, DATA), "\0\0\x01\xff", 4);
	done(&k);
}

static void test_wrong(void **state)
{
	struct scsi_bench k;

	(void)state;
	for (unsigned int i = 0; i < 3; i++) {
		const struct seg short_request[] = { { REQUEST, HEAD - 1, 0 }, { RESPONSE, TAIL, D_WRITE } };
		const struct seg short_response[] = { { REQUEST, HEAD, 0 }, { RESPONSE, TAIL - 1, D_WRITE } };
		const struct seg nothing[] = { { REQUEST, 3, 0 } };

		setup(&k, "");
		if (i < 2)
			ring_add(&k.r, i ? short_response : short_request, 2, 0);
		else
			ring_add(&k.control, nothing, 1, 0);
		ring_kick(i < 2 ? &k.r : &k.control);
		assert_true(status(&k.b) & ST_NEEDS_RESET);
		bench_reset(&k.b);
		bench_features(&k.b, 0);
		ring_init(&k.r, &k.b, 2, false, 16);
		bench_driver_ok(&k.b);
		check(ask(&k, 0, 0, CDB(0x00), 0, true), 0, 0);
		done(&k);
	}
}

/* A driver that wants less sense and longer commands; one that wants what cannot be. */
static void test_sizes(void **state)
{
	struct scsi_bench k;

	(void)state;
	setup(&k, "");
	wr(&k.b, DEVCFG(20), 4, 18);	/* while it runs: no */
	bench_sync(&k.b);
	assert_int_equal(rd(&k.b, DEVCFG(20), 4), 96);
	bench_reset(&k.b);
	wr(&k.b, DEVCFG(20), 4, 0);
	wr(&k.b, DEVCFG(24), 4, 0x10000);
	bench_sync(&k.b);
	assert_int_equal(rd(&k.b, DEVCFG(20), 4), 96);
	assert_int_equal(rd(&k.b, DEVCFG(24), 4), 32);
	wr(&k.b, DEVCFG(20), 4, 20);
	wr(&k.b, DEVCFG(24), 4, 64);
	bench_sync(&k.b);
	assert_int_equal(rd(&k.b, DEVCFG(20), 4), 20);
	assert_int_equal(rd(&k.b, DEVCFG(24), 4), 64);
	bench_features(&k.b, 0);
	bench_driver_ok(&k.b);
	bench_reset(&k.b);
	assert_int_equal(rd(&k.b, DEVCFG(24), 4), 32);
	done(&k);
}

static void test_random_commands(void **state)
{
	const struct block_info disks[] = {
		{ .size = SIZE, .can_discard = true, .cluster = 65536, .serial = "01234567890123456789" },
		{ .size = 512, .read_only = true, .cluster = 512 },
		{ .size = 0, .cluster = 512 },
		{ .size = 1ULL << 62, .can_discard = true, .cluster = 4096, .serial = "x" },
	};
	static const uint8_t opcodes[] = {
		0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x5a, 0x88,
		0x8a, 0x8f, 0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa,
	};
	uint8_t cdb[SCSI_CDB_SIZE], param[SCSI_PARAMETERS_MAX];
	struct scsi_action a;

	(void)state;
	srand(1);
	for (unsigned int n = 0; n < 300000; n++) {
		const struct block_info *disk = &disks[n % 4];

		for (size_t i = 0; i < sizeof(cdb); i++)
			cdb[i] = rand() % 3 ? 0 : rand();
		if (rand() % 8)
			cdb[0] = opcodes[rand() % sizeof(opcodes)];
		for (size_t i = 0; i < sizeof(param); i++)
			param[i] = n % 16 || i > 80 ? 0 : rand() % 2 ? rand() : 0;
		scsi_command(&a, n % 5 ? disk : NULL, cdb, param, rand() % sizeof(param));
		assert_true(a.answer_len <= sizeof(a.answer) && a.pieces <= SCSI_UNMAP_MAX);
		assert_true(a.status == GOOD || (a.status == CHECK && a.what == SCSI_ANSWER));
		if (a.what == SCSI_READ || a.what == SCSI_WRITE || a.what == SCSI_ZERO)
			assert_true(a.offset <= disk->size && a.len <= disk->size - a.offset);
		assert_true(!disk->read_only || a.what < SCSI_WRITE || a.what == SCSI_FLUSH);
		for (unsigned int i = 0; i < a.pieces; i++)
			assert_true(a.piece[i].len <= disk->size - a.piece[i].offset);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_questions),
		cmocka_unit_test(test_addresses),
		cmocka_unit_test(test_read_write),
		cmocka_unit_test(test_give_back),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_event),
		cmocka_unit_test(test_wrong),
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_random_commands),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
