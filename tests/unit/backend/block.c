// SPDX-License-Identifier: Apache-2.0
/*
 * struct block: options, locks, requests from several threads, cancelling, a host without
 * room, throwaway overlays; and a writer that is killed again and again.
 */
#include "backend/block.h"
#include "backend/image.h"
#include "backend/qcow2.h"
#include "disk_rig.h"
#include "unit.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* --- options --- */

static void test_options(void **state)
{
	static const char *const wrong[] = {
		"", ",ro", "a,format=vmdk", "a,readonly=yes", "a,part=0", "a,part=x", "a,offset=x",
		"a,map=1", "a,map=1+", "a,map=1M+0", "a,map=1M+1M:", "a,part=1,offset=0", "a,nope=1",
		"a,werror=pause", "a,aio=native", "a,aio=", "a,serial=123456789012345678901", "a,threads=65", "a,size=9999999T",
	};
	struct block_options o;
	struct err e;

	(void)state;
	assert_int_equal(block_options_parse(&o, "a,,b,format=raw,snapshot=on,serial=S,werror=report", &e), 0);
	assert_string_equal(o.path, "a,b");
	assert_string_equal(o.format, "raw");
	assert_string_equal(o.serial, "S");
	assert_true(o.snapshot && o.werror == BLOCK_WERROR_REPORT && !o.read_only);
	assert_false(o.io_uring);
	assert_int_equal(block_options_parse(&o, "d,aio=io_uring,aio=threads", &e), 0);
	assert_false(o.io_uring);
	assert_int_equal(block_options_parse(&o, "d,aio=io_uring,map=1M+64K:0x200+512", &e), 0);
	assert_true(o.io_uring);
	assert_int_equal(o.extent_count, 2);
	assert_int_equal(o.extents[0].offset, MIB);
	assert_int_equal(o.extents[1].offset, 512);
	for (unsigned int i = 0; i < ARRAY_SIZE(wrong); i++) {
		memset(&e, 0, sizeof(e));
		assert_int_equal(block_options_parse(&o, wrong[i], &e), -EINVAL);
		assert_true(strlen(e.text) > 10);
	}
}

/* --- locks --- */

static void test_locks(void **state)
{
	struct bench *b = *state;
	struct block *one, *two;
	struct err e;
	char line[256];

	for (int qcow2 = 0; qcow2 < 2; qcow2++) {
		make_disk(b->path, MIB, qcow2);
		one = open_text("%s", b->path);
		assert_int_equal(try_open(&e, "%s", b->path), -EBUSY);
		assert_non_null(strstr(e.text, b->path));
		assert_non_null(strstr(e.text, "in use"));
		assert_int_equal(try_open(&e, "%s,readonly=on", b->path), -EBUSY);
		assert_int_equal(try_open(&e, "%s,snapshot=on", b->path), -EBUSY);
		/* QEMU notices too. */
		snprintf(line, sizeof(line), "! command -v qemu-io >/dev/null || "
			 "! qemu-io -f %s -c 'write 0 512' %s >/dev/null 2>&1",
			 qcow2 ? "qcow2" : "raw", b->path);
		assert_int_equal(system(line), 0);
		assert_int_equal(block_close(one), 0);
		one = open_text("%s,readonly=on", b->path);
		two = open_text("%s,snapshot=on", b->path);
		assert_int_equal(try_open(&e, "%s", b->path), -EBUSY);
		assert_int_equal(block_close(one), 0);
		assert_int_equal(block_close(two), 0);
		assert_int_equal(try_open(&e, "%s", b->path), 0);
	}
}

/* --- requests --- */

static void test_requests(void **state)
{
	struct bench *b = *state;
	struct block_count n[BLOCK_OPS];
	struct block_info info;
	struct block *d;
	uint8_t buf[1024];

	for (int qcow2 = 0; qcow2 < 2; qcow2++) {
		make_disk(b->path, MIB, qcow2);
		d = open_text("%s,serial=X", b->path);
		block_info(d, &info);
		assert_int_equal(info.size, MIB);
		assert_true(info.can_discard && info.can_write_zeroes && !info.read_only);
		assert_string_equal(info.serial, "X");
		memset(buf, 7, sizeof(buf));
		assert_int_equal(block_rw(d, BLOCK_WRITE, MIB - 1024, buf, 1024), 0);
		assert_int_equal(block_rw(d, BLOCK_WRITE, MIB - 512, buf, 1024), -EINVAL);
		assert_int_equal(block_rw(d, BLOCK_READ, UINT64_MAX - 511, buf, 1024), -EINVAL);
		assert_int_equal(block_rw(d, BLOCK_DISCARD, MIB, NULL, 512), -EINVAL);
		assert_int_equal(block_rw(d, BLOCK_WRITE_ZEROES, 0, NULL, MIB + 1), -EINVAL);
		assert_int_equal(block_rw(d, BLOCK_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(block_rw(d, BLOCK_WRITE_ZEROES, MIB - 512, NULL, 512), 0);
		assert_int_equal(block_rw(d, BLOCK_READ, MIB - 1024, buf, 1024), 0);
		assert_int_equal(buf[511], 7);
		assert_int_equal(buf[512], 0);
		/* What failed does not count. */
		block_counts(d, n);
		assert_true(n[BLOCK_WRITE].requests == 1 && n[BLOCK_WRITE].bytes == 1024);
		assert_true(n[BLOCK_READ].requests == 1 && n[BLOCK_READ].bytes == 1024);
		assert_true(n[BLOCK_WRITE_ZEROES].requests == 1 && n[BLOCK_WRITE_ZEROES].bytes == 512);
		assert_true(n[BLOCK_FLUSH].requests == 1 && !n[BLOCK_FLUSH].bytes && !n[BLOCK_DISCARD].requests);
		assert_int_equal(block_resize(d, 2 * MIB, NULL), 0);
		assert_int_equal(block_rw(d, BLOCK_WRITE, 2 * MIB - 512, buf, 512), 0);
		assert_int_equal(block_close(d), 0);
		d = open_text("%s,readonly=on", b->path);
		assert_int_equal(block_rw(d, BLOCK_WRITE, 0, buf, 512), -EROFS);
		assert_int_equal(block_rw(d, BLOCK_DISCARD, 0, NULL, 512), -EROFS);
		assert_int_equal(block_close(d), 0);
	}
}

/* A guest cannot turn its raw disk into an image of another format. */
static void test_forged_head(void **state)
{
	struct bench *b = *state;
	struct block *d;

	make_disk(b->path, MIB, false);
	d = open_text("%s", b->path);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, (char *)"QFI", 3), 0);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 3, (char *)"\xfb", 1), -EPERM);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, (char *)"QFI\xfb", 4), -EPERM);
	assert_int_equal(block_close(d), 0);
	d = open_text("%s,format=raw", b->path);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, (char *)"QFI\xfb", 4), 0);
	assert_int_equal(block_close(d), 0);
}

/* A damaged image is told of once, with the place; what the guest does wrong is not. */
static void failed(void *arg, const char *why)
{
	strncat(arg, why, 255);
}

static void test_damaged(void **state)
{
	static const struct block_events events = { .failed = failed };
	struct bench *b = *state;
	const uint64_t entry = htobe64(0x8000000000000000ULL | 0x123450000ULL);
	char why[512] = "";
	struct block *d;
	uint8_t buf[512];
	int fd;

	make_disk(b->path, MIB, true);
	fd = open(b->path, O_WRONLY);
	assert_int_equal(pwrite(fd, &entry, 8, 3 * 65536), 8);	/* the first L1 entry */
	close(fd);
	d = open_text("%s", b->path);
	block_set_events(d, &events, why);
	assert_int_equal(block_rw(d, BLOCK_READ, MIB, buf, 512), -EINVAL);
	assert_string_equal(why, "");
	assert_int_equal(block_rw(d, BLOCK_READ, 0, buf, 512), -EIO);
	assert_non_null(strstr(why, b->path));
	assert_non_null(strstr(why, "the L1 entry at offset 0x30000"));
	why[0] = '\0';
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, buf, 512), -EIO);
	assert_string_equal(why, "");
	assert_int_equal(block_close(d), 0);
}

/* Many in flight; some are cancelled, each is completed once. */
struct many {
	struct block_request r;
	struct iovec v;
	uint8_t buf[4096];
	_Atomic int done, rc;
};

static void many_done(struct block_request *r, int rc)
{
	struct many *m = r->arg;

	m->rc = rc;
	m->done++;
}

static void cancel_many(const struct bench *b, bool ring)
{
	const unsigned int count = 300;
	struct many *m = calloc(count, sizeof(*m));
	struct block *d;

	make_disk(b->path, 4 * MIB, !ring);
	d = open_text("%s%s", b->path, ring ? ",aio=io_uring" : "");
	for (unsigned int round = 0; round < 20; round++) {
		for (unsigned int i = 0; i < count; i++) {
			m[i].done = 0;
			m[i].v = (struct iovec){ m[i].buf, sizeof(m[i].buf) };
			m[i].r = (struct block_request){
				.op = i % 3 ? BLOCK_WRITE : BLOCK_READ, .offset = i * 4096, .len = 4096,
				.iov = &m[i].v, .iov_count = 1, .done = many_done, .arg = &m[i],
			};
			block_submit(d, &m[i].r);
		}
		if (round % 2)
			block_cancel(d);
		else
			block_drain(d);
		for (unsigned int i = 0; i < count; i++) {
			assert_int_equal(m[i].done, 1);
			assert_true(!m[i].rc || (round % 2 && m[i].rc == -ECANCELED));
		}
	}
	assert_int_equal(block_close(d), 0);
	free(m);
}

static void test_cancel(void **state)
{
	cancel_many(*state, false);
	if (ring_allowed())
		cancel_many(*state, true);
}

/* --- a host without room --- */

struct stop {
	struct block *d;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int times;
	int errnum;
};

static void stopped(void *arg, int errnum, const char *why)
{
	struct stop *s = arg;

	assert_non_null(strstr(why, "no room"));
	pthread_mutex_lock(&s->lock);
	s->times++;
	s->errnum = errnum;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static void check_pattern(struct block *d, uint64_t size)
{
	uint8_t *buf = malloc(65536);

	for (uint64_t off = 0; off < size; off += 65536) {
		assert_int_equal(block_rw(d, BLOCK_READ, off, buf, 65536), 0);
		for (unsigned int i = 0; i < 65536; i++)
			if (buf[i] != (uint8_t)(1 + off / 65536))
				fail_msg("offset %llu: %u", (unsigned long long)off + i, buf[i]);
	}
	free(buf);
}

/* Writes more than there is room for; removes what takes the room; goes on. */
static void fill_up(const char *dir, bool qcow2, const char *options)
{
	static const struct block_events events = { .stopped = stopped };
	struct stop s = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
	const unsigned int count = 96;	/* of 64 KiB */
	struct many *m = calloc(count, sizeof(*m));
	struct qcow2_check check;
	uint8_t *data = malloc(count * 65536);
	char path[128], ballast[128], line[300];
	struct image *img;
	struct err e;

	snprintf(path, sizeof(path), "%s/disk", dir);
	snprintf(ballast, sizeof(ballast), "%s/ballast", dir);
	snprintf(line, sizeof(line), "head -c 5M /dev/zero >%s", ballast);
	make_disk(path, 8 * MIB, qcow2);
	assert_int_equal(system(line), 0);
	s.d = open_text("%s%s", path, options);
	block_set_events(s.d, &events, &s);
	for (unsigned int i = 0; i < count; i++) {
		memset(data + i * 65536, 1 + i, 65536);
		m[i].v = (struct iovec){ data + i * 65536, 65536 };
		m[i].r = (struct block_request){
			.op = BLOCK_WRITE, .offset = i * 65536, .len = 65536, .iov = &m[i].v,
			.iov_count = 1, .done = many_done, .arg = &m[i],
		};
		block_submit(s.d, &m[i].r);
	}
	block_drain(s.d);
	assert_true(block_stopped(s.d));
	assert_int_equal(s.times, 1);
	assert_int_equal(s.errnum, ENOSPC);
	block_resume(s.d);		/* in vain */
	block_drain(s.d);
	assert_true(block_stopped(s.d));
	assert_int_equal(s.times, 2);
	assert_int_equal(unlink(ballast), 0);
	block_resume(s.d);
	block_drain(s.d);
	assert_false(block_stopped(s.d));
	for (unsigned int i = 0; i < count; i++)
		assert_true(m[i].done == 1 && !m[i].rc);
	assert_int_equal(block_rw(s.d, BLOCK_FLUSH, 0, NULL, 0), 0);
	check_pattern(s.d, count * 65536);
	assert_int_equal(block_close(s.d), 0);
	s.d = open_text("%s", path);
	check_pattern(s.d, count * 65536);
	assert_int_equal(block_close(s.d), 0);
	if (qcow2) {
		const struct image_open how = { .path = path, .read_only = true };

		assert_int_equal(image_open(&img, &how, &e), 0);
		assert_int_equal(qcow2_check(img, false, &check, &e), 0);
		assert_int_equal(check.errors + check.leaks, 0);
		image_close(img);
	}
	unlink(path);
	free(data);
	free(m);
}

static void test_full(void **state)
{
	struct bench *b = *state;
	struct block *d;
	char dir[96];
	uint8_t *buf = calloc(1, 9 * MIB);

	snprintf(dir, sizeof(dir), "%s/small", b->dir);
	mkdir(dir, 0700);
	if (mount("tmpfs", dir, "tmpfs", 0, "size=8M")) {
		print_message("a small tmpfs cannot be mounted: %s\n", strerror(errno));
		free(buf);
		skip();
	}
	fill_up(dir, false, "");
	fill_up(dir, true, "");
	if (ring_allowed())
		fill_up(dir, false, ",aio=io_uring");
	/* The other policy says so at once. */
	snprintf(b->path, sizeof(b->path), "%s/disk", dir);
	make_disk(b->path, 16 * MIB, true);
	d = open_text("%s,werror=report", b->path);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, buf, 9 * MIB), -ENOSPC);
	assert_int_equal(block_rw(d, BLOCK_WRITE, 0, buf, MIB), 0);
	block_close(d);
	assert_int_equal(umount2(dir, MNT_DETACH), 0);
	snprintf(b->path, sizeof(b->path), "%s/disk", b->dir);
	free(buf);
}

/* --- throwaway overlays --- */

static void test_snapshot(void **state)
{
	struct bench *b = *state;
	uint8_t buf[1024];
	struct block *d, *other;

	for (int qcow2 = 0; qcow2 < 2; qcow2++) {
		make_disk(b->path, MIB, qcow2);
		d = open_text("%s", b->path);
		memset(buf, 1, sizeof(buf));
		assert_int_equal(block_rw(d, BLOCK_WRITE, 4096, buf, 1024), 0);
		assert_int_equal(block_close(d), 0);
		assert_int_equal(chmod(b->path, 0400), 0);
		d = open_text("%s,snapshot=on", b->path);
		other = open_text("%s,snapshot=on", b->path);
		memset(buf, 2, sizeof(buf));
		assert_int_equal(block_rw(d, BLOCK_WRITE, 4608, buf, 512), 0);
		assert_int_equal(block_rw(d, BLOCK_FLUSH, 0, NULL, 0), 0);
		assert_int_equal(block_rw(d, BLOCK_READ, 4096, buf, 1024), 0);
		assert_true(buf[511] == 1 && buf[512] == 2);
		assert_int_equal(block_rw(other, BLOCK_READ, 4096, buf, 1024), 0);
		assert_true(buf[511] == 1 && buf[512] == 1);
		assert_int_equal(block_close(d), 0);
		assert_int_equal(block_close(other), 0);
		d = open_text("%s,readonly=on", b->path);
		assert_int_equal(block_rw(d, BLOCK_READ, 4096, buf, 1024), 0);
		assert_true(buf[512] == 1);
		assert_int_equal(block_close(d), 0);
		assert_int_equal(chmod(b->path, 0600), 0);
	}
}

/* --- a writer that is killed --- */

#define SLOTS	512U

/* Shared with the writer: which value of each slot a flush has acknowledged, which was begun. */
struct ledger {
	_Atomic uint32_t flushed[SLOTS], begun[SLOTS];
};

static void write_until_killed(const char *path, struct ledger *l, unsigned int seed)
{
	struct block *d = open_text("%s,format=qcow2", path);
	uint32_t buf[512], written[SLOTS];

	for (unsigned int i = 0; i < SLOTS; i++)
		written[i] = l->begun[i];
	srandom(seed);
	for (;;) {
		for (unsigned int n = random() % 20; n; n--) {
			const unsigned int slot = random() % SLOTS;

			written[slot] = ++l->begun[slot];
			for (unsigned int i = 0; i < 512; i++)
				buf[i] = written[slot];
			/* Slots share clusters. */
			if (block_rw(d, BLOCK_WRITE, slot * 10240ULL, buf, sizeof(buf)))
				_exit(1);
		}
		if (block_rw(d, BLOCK_FLUSH, 0, NULL, 0))
			_exit(1);
		for (unsigned int i = 0; i < SLOTS; i++)
			l->flushed[i] = written[i];
	}
}

static void check_after_kill(const char *path, struct ledger *l)
{
	const struct image_open how = { .path = path, .read_only = true };
	struct qcow2_check check;
	uint32_t buf[512];
	struct image *img;
	struct err e = { 0 };

	if (image_open(&img, &how, &e))
		fail_msg("%s", e.text);
	assert_int_equal(qcow2_check(img, false, &check, &e), 0);
	if (check.errors)
		fail_msg("%s", check.first);
	for (unsigned int i = 0; i < SLOTS; i++) {
		assert_int_equal(image_pread(img, i * 10240ULL, buf, sizeof(buf)), 0);
		if (buf[0] < l->flushed[i] || buf[0] > l->begun[i])
			fail_msg("slot %u has %u; %u was flushed, %u begun", i, buf[0], l->flushed[i],
				 l->begun[i]);
		l->flushed[i] = l->begun[i] = MAX(buf[0], l->flushed[i]);
	}
	image_close(img);
}

static bool any_flushed(const struct ledger *l)
{
	return l->flushed[0] + l->flushed[1] + l->flushed[2] > 0;
}

static void test_killed(void **state)
{
	struct bench *b = *state;
	const unsigned int rounds = getenv("LONG") ? 300 : 30;
	struct ledger *l = mmap(NULL, sizeof(*l), PROT_READ | PROT_WRITE,
				MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	char line[256];
	int status;

	make_disk(b->path, 16 * MIB, true);
	/* On a busy host more of them, until some writers had time for a flush. */
	for (unsigned int n = 0; n < rounds || (n < 20 * rounds && !any_flushed(l)); n++) {
		const struct timespec wait = { .tv_nsec = 5000000 + n * 7919 % 97 * 500000 };
		const pid_t pid = fork();

		if (!pid)
			write_until_killed(b->path, l, n);
		nanosleep(&wait, NULL);
		kill(pid, SIGKILL);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
		check_after_kill(b->path, l);
	}
	assert_true(any_flushed(l));
	/* 3: leaks, which are allowed. */
	snprintf(line, sizeof(line), "! command -v qemu-img >/dev/null || qemu-img check %s "
		 ">/dev/null 2>&1 || [ $? = 3 ]", b->path);
	assert_int_equal(system(line), 0);
	munmap(l, sizeof(*l));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_options),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_forged_head),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_snapshot),
		cmocka_unit_test(test_killed),
	};

	return cmocka_run_group_tests_name("block", tests, setup, teardown);
}
