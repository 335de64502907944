// SPDX-License-Identifier: Apache-2.0
/*
 * aio=io_uring: what goes by the ring and what the workers do, data against a model, many
 * requests in flight, what the kernel lets the ring do, and a host that lets us have none.
 */
#include "backend/block_ring.h"
#include "disk_rig.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <seccomp.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PIECES	100U		/* more than a slot of the ring takes */

struct one {
	struct block_request r;
	struct iovec v[PIECES];
	uint8_t *buf;
	_Atomic int done;
	int rc;
	bool by_ring;		/* done() was called on the ring's thread */
};

static void one_done(struct block_request *r, int rc)
{
	struct one *o = r->arg;
	char name[16] = "";

	pthread_getname_np(pthread_self(), name, sizeof(name));
	o->by_ring = !strcmp(name, "disk ring");
	o->rc = rc;
	o->done++;
}

/* @len bytes of o->buf as @pieces buffers. */
static void submit(struct block *d, struct one *o, enum block_op op, uint64_t offset, size_t len,
		   unsigned int pieces)
{
	for (unsigned int i = 0; i < pieces; i++)
		o->v[i] = (struct iovec){ o->buf + len / pieces * i, len / pieces };
	o->v[pieces - 1].iov_len += len % pieces;
	o->done = 0;
	o->r = (struct block_request){
		.op = op, .offset = offset, .len = len, .iov = o->v, .iov_count = pieces,
		.done = one_done, .arg = o,
	};
	block_submit(d, &o->r);
}

/* One request, alone: its result; *by_ring: who did it. */
static int alone(struct block *d, struct one *o, enum block_op op, uint64_t offset, size_t len,
		 unsigned int pieces)
{
	submit(d, o, op, offset, len, pieces);
	block_drain(d);
	assert_int_equal(o->done, 1);
	return o->rc;
}

static void one_init(struct one *o)
{
	memset(o, 0, sizeof(*o));
	o->buf = calloc(1, 65536);
	assert_non_null(o->buf);
}

/* --- who does what --- */

static void test_who(void **state)
{
	struct bench *b = *state;
	struct block *d;
	struct one o;

	if (!ring_allowed())
		skip();
	one_init(&o);
	make_disk(b->path, MIB, false);
	d = open_text("%s,aio=io_uring", b->path);
	memset(o.buf, 5, 65536);
	assert_true(!alone(d, &o, BLOCK_WRITE, 512, 65536, 3) && o.by_ring);
	memset(o.buf, 0, 65536);
	assert_true(!alone(d, &o, BLOCK_READ, 512, 65536, 64) && o.by_ring);
	assert_true(o.buf[0] == 5 && o.buf[65535] == 5);
	assert_true(!alone(d, &o, BLOCK_READ, 512, 65536, PIECES) && !o.by_ring);
	assert_true(!alone(d, &o, BLOCK_FLUSH, 0, 0, 1) && !o.by_ring);
	assert_true(!alone(d, &o, BLOCK_READ, 0, 512, 1) && o.by_ring);
	/* The head of a disk whose format was guessed is looked at. */
	assert_true(!alone(d, &o, BLOCK_WRITE, 0, 512, 1) && !o.by_ring);
	memcpy(o.buf, "QFI\xfb", 4);
	assert_true(alone(d, &o, BLOCK_WRITE, 0, 512, 1) == -EPERM && !o.by_ring);
	assert_int_equal(alone(d, &o, BLOCK_WRITE, MIB - 512, 1024, 1), -EINVAL);
	assert_int_equal(alone(d, &o, BLOCK_READ, UINT64_MAX - 511, 1024, 1), -EINVAL);
	assert_int_equal(block_resize(d, 2 * MIB, NULL), 0);
	assert_true(!alone(d, &o, BLOCK_WRITE, 2 * MIB - 512, 512, 1) && o.by_ring);
	assert_int_equal(block_close(d), 0);
	d = open_text("%s,format=raw,aio=io_uring", b->path);
	assert_true(!alone(d, &o, BLOCK_WRITE, 0, 512, 1) && o.by_ring);
	assert_int_equal(block_close(d), 0);
	d = open_text("%s,format=raw,readonly=on,aio=io_uring", b->path);
	assert_true(!alone(d, &o, BLOCK_READ, 0, 512, 1) && o.by_ring);
	assert_int_equal(alone(d, &o, BLOCK_WRITE, 0, 512, 1), -EROFS);
	assert_int_equal(block_close(d), 0);
	free(o.buf);
}

/* What is not a raw image itself has no ring, and works. */
static void test_others(void **state)
{
	static const char *const options[] = { ",format=raw,snapshot=on", ",format=raw,size=64K", "" };
	struct bench *b = *state;
	struct block *d;
	struct one o;

	one_init(&o);
	for (unsigned int i = 0; i < ARRAY_SIZE(options); i++) {
		make_disk(b->path, MIB, !options[i][0]);
		d = open_text("%s%s,aio=io_uring", b->path, options[i]);
		memset(o.buf, 9, 512);
		assert_true(!alone(d, &o, BLOCK_WRITE, 4096, 512, 1) && !o.by_ring);
		memset(o.buf, 0, 512);
		assert_true(!alone(d, &o, BLOCK_READ, 4096, 512, 1) && !o.by_ring);
		assert_true(o.buf[0] == 9 && o.buf[511] == 9);
		assert_int_equal(block_close(d), 0);
	}
	free(o.buf);
}

/* The last sector of a file with an odd length; one that somebody cut short. */
static void test_short(void **state)
{
	struct bench *b = *state;
	struct block *d;
	struct one o;

	if (!ring_allowed())
		skip();
	one_init(&o);
	make_disk(b->path, MIB, false);
	memset(o.buf, 3, 8192);
	d = open_text("%s,format=raw,aio=io_uring", b->path);
	assert_int_equal(alone(d, &o, BLOCK_WRITE, 0, 8192, 1), 0);
	assert_int_equal(block_close(d), 0);
	assert_int_equal(truncate(b->path, 7000), 0);
	d = open_text("%s,format=raw,aio=io_uring", b->path);
	memset(o.buf, 7, 8192);
	assert_true(!alone(d, &o, BLOCK_READ, 4096, 3072, 3) && !o.by_ring);
	assert_true(o.buf[7000 - 4096 - 1] == 3 && !o.buf[7000 - 4096] && !o.buf[3071]);
	assert_int_equal(truncate(b->path, 512), 0);
	memset(o.buf, 7, 8192);
	assert_true(!alone(d, &o, BLOCK_READ, 1024, 4096, 1) && !o.by_ring);
	assert_true(!o.buf[0] && !o.buf[4095]);
	memset(o.buf, 8, 512);
	assert_true(!alone(d, &o, BLOCK_WRITE, 6656, 512, 1) && o.by_ring);
	assert_true(!alone(d, &o, BLOCK_READ, 6656, 512, 1) && o.by_ring);
	assert_true(o.buf[0] == 8 && o.buf[511] == 8);
	assert_int_equal(block_close(d), 0);
	free(o.buf);
}

/* --- many at once --- */

#define UNIT	4096U
#define UNITS	1024U
#define MANY	300U

/* Requests of a round touch different units; the model says what each reads. */
static unsigned int round_of(struct block *d, struct one *all, uint8_t *model, unsigned int *seed)
{
	static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_READ, BLOCK_WRITE_ZEROES };
	const unsigned int first = rand_r(seed) % UNITS;
	unsigned int ringed = 0;

	for (unsigned int i = 0; i < MANY; i++) {
		const unsigned int unit = (first + i * 3) % UNITS;	/* 3 has no factor of UNITS */
		const enum block_op op = ops[rand_r(seed) % ARRAY_SIZE(ops)];
		const uint8_t value = op == BLOCK_WRITE ? rand_r(seed) : 0;

		memset(all[i].buf, value, UNIT);
		if (op != BLOCK_READ)
			model[unit] = value;
		submit(d, &all[i], op, unit * UNIT, UNIT, 1 + rand_r(seed) % PIECES);
	}
	block_drain(d);
	for (unsigned int i = 0; i < MANY; i++) {
		assert_true(all[i].done == 1 && !all[i].rc);
		ringed += all[i].by_ring;
		for (unsigned int n = 0; all[i].r.op == BLOCK_READ && n < UNIT; n++)
			if (all[i].buf[n] != model[all[i].r.offset / UNIT])
				fail_msg("offset %llu", (unsigned long long)all[i].r.offset + n);
	}
	return ringed;
}

static void test_many(void **state)
{
	struct bench *b = *state;
	struct one *all = calloc(MANY, sizeof(*all));
	uint8_t model[UNITS] = { 0 };
	unsigned int seed = 1, ringed = 0;
	struct block *d;
	uint8_t buf[UNIT];

	if (!ring_allowed()) {
		free(all);
		skip();
	}
	for (unsigned int i = 0; i < MANY; i++)
		one_init(&all[i]);
	make_disk(b->path, UNITS * UNIT, false);
	d = open_text("%s,aio=io_uring", b->path);
	for (unsigned int round = 0; round < 50; round++)
		ringed += round_of(d, all, model, &seed);
	assert_true(ringed > 0 && ringed < 50 * MANY);
	/* Closed with requests in flight: all that had begun are done, each once. */
	for (unsigned int i = 0; i < MANY; i++)
		submit(d, &all[i], BLOCK_READ, i * UNIT, UNIT, 1);
	assert_int_equal(block_close(d), 0);
	for (unsigned int i = 0; i < MANY; i++)
		assert_true(all[i].done == 1 && (!all[i].rc || all[i].rc == -ECANCELED));
	d = open_text("%s", b->path);
	for (unsigned int unit = 0; unit < UNITS; unit++) {
		assert_int_equal(block_rw(d, BLOCK_READ, unit * UNIT, buf, UNIT), 0);
		assert_true(buf[0] == model[unit] && buf[UNIT - 1] == model[unit]);
	}
	assert_int_equal(block_close(d), 0);
	for (unsigned int i = 0; i < MANY; i++)
		free(all[i].buf);
	free(all);
}

/* --- what is allowed --- */

static int result_of(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	int rc;

	assert_int_equal(io_uring_submit(ring), 1);
	assert_int_equal(io_uring_peek_cqe(ring, &cqe), 0);
	rc = cqe->res;
	io_uring_cqe_seen(ring, cqe);
	return rc;
}

static void test_restricted(void **state)
{
	struct bench *b = *state;
	struct io_uring ring;
	struct io_uring_sqe *sqe;
	uint8_t buf[512];
	struct iovec v = { buf, sizeof(buf) };
	const int event = eventfd(0, EFD_CLOEXEC);
	int fd;

	if (!ring_allowed())
		skip();
	make_disk(b->path, MIB, false);
	fd = open(b->path, O_RDWR | O_CLOEXEC);
	assert_true(fd >= 0 && event >= 0);
	assert_int_equal(block_ring_make(&ring, fd, event), 0);
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_readv(sqe, 0, &v, 1, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	assert_int_equal(result_of(&ring), sizeof(buf));
	/* Another file, by its descriptor. */
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_readv(sqe, fd, &v, 1, 0);
	assert_int_equal(result_of(&ring), -EACCES);
	/* Another operation. */
	sqe = io_uring_get_sqe(&ring);
	io_uring_prep_openat(sqe, 0, "/etc/passwd", O_RDONLY, 0);
	sqe->flags |= IOSQE_FIXED_FILE;
	assert_int_equal(result_of(&ring), -EACCES);
	/* Other files in the place of this one. */
	assert_int_equal(io_uring_register_files_update(&ring, 0, &fd, 1), -EACCES);
	assert_int_equal(io_uring_register_files(&ring, &fd, 1), -EACCES);
	io_uring_queue_exit(&ring);
	close(fd);
	close(event);
}

/* As containers have it: 0 if the sentence names the disk and the way out. */
static int refused(const char *path, int call)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	struct err e = { 0 };
	int rc;

	if (!filter || seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), call, 0) ||
	    seccomp_load(filter))
		return 77;
	seccomp_release(filter);
	rc = try_open(&e, "%s,aio=io_uring", path);
	if (rc != -EPERM || !strstr(e.text, path) || !strstr(e.text, "aio=threads"))
		return 1;
	return try_open(&e, "%s,aio=threads", path) ? 2 : 0;
}

static void test_refused(void **state)
{
	static const int calls[] = {
		SCMP_SYS(io_uring_setup), SCMP_SYS(io_uring_register), SCMP_SYS(io_uring_enter),
	};
	struct bench *b = *state;
	const bool allowed = ring_allowed();
	int status;

	make_disk(b->path, MIB, false);
	for (unsigned int i = 0; i < (allowed ? ARRAY_SIZE(calls) : 1); i++) {
		const pid_t pid = fork();

		if (!pid)
			_exit(refused(b->path, calls[i]));
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) == 77) {
			print_message("no system-call filter can be installed here\n");
			skip();
		}
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_who),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_short),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_restricted),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("block_ring", tests, setup, teardown);
}
