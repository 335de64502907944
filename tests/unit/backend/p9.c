// SPDX-License-Identifier: Apache-2.0
/* The 9P server: every request, the security models, and the ways out that there must not be. */
#include "p9_client.h"

#include <pthread.h>
#include <sys/prctl.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

struct bench {
	struct yard yard;
	struct p9 *server;
	struct client c;
};

static void bench_open(struct bench *b, const struct p9_config *more)
{
	struct p9_config config = more ? *more : (struct p9_config){ 0 };
	struct err e;

	yard_init(&b->yard);
	config.path = b->yard.share;
	if (p9_create(&b->server, &config, &e))
		fail_msg("%s", e.text);
	client_init(&b->c, b->server);
	assert_int_equal(version(&b->c, P9_MSIZE_MAX), 0);
	assert_int_equal(attach(&b->c, ROOT_FID, 0), 0);
}

static void bench_close(struct bench *b)
{
	yard_check(&b->yard);
	client_done(&b->c);
	p9_destroy(b->server);
	yard_destroy(&b->yard);
}

/* A link of the host in the share; @target may be anything. */
static void host_link(struct bench *b, const char *target, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", b->yard.share, name);
	assert_int_equal(symlink(target, path), 0);
}

static bool keeps_attributes(const struct yard *y)
{
	return !setxattr(y->share, "user.try", "", 0, 0) && !removexattr(y->share, "user.try");
}

/* --- sessions --- */

static void test_session(void **state)
{
	struct attributes a;
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	assert_int_equal(getattr(&b.c, ROOT_FID, &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 0755);
	begin(&b.c, TSTATFS);
	put(&b.c, 4, ROOT_FID);
	assert_int_equal(call(&b.c), 0);
	assert_int_equal(attach(&b.c, ROOT_FID, 0), -EBADF);
	assert_int_equal(clunk(&b.c, 99), -EBADF);
	assert_int_equal(version(&b.c, 100), -EMSGSIZE);
	assert_int_equal(version(&b.c, 8192), 0);
	assert_int_equal(get(&b.c, 4), 8192);
	assert_int_equal(getattr(&b.c, ROOT_FID, &a), -EBADF);	/* a new session has no fids */
	begin(&b.c, TVERSION);
	put(&b.c, 4, 8192);
	put_string(&b.c, "9P2000");
	assert_int_equal(call(&b.c), 0);
	b.c.at += 4 + 2;
	assert_memory_equal(b.c.r + b.c.at, "unknown", 7);
	begin(&b.c, 102);	/* Tauth */
	assert_int_equal(call(&b.c), -EOPNOTSUPP);
	begin(&b.c, TFLUSH);
	put(&b.c, 2, 1);	/* itself: nothing to wait for */
	assert_int_equal(call(&b.c), 0);
	bench_close(&b);
}

static void test_create_refuses(void **state)
{
	struct p9_config c = { .path = "/proc/nonexistent" };
	struct p9 *s;
	struct err e;

	(void)state;
	assert_int_equal(p9_create(&s, &c, &e), -ENOENT);
	assert_non_null(strstr(e.text, "/proc/nonexistent"));
	c.path = "/etc/passwd";
	assert_int_equal(p9_create(&s, &c, &e), -ENOTDIR);
}

/* --- files --- */

static void test_file_data(void **state)
{
	static uint8_t data[P9_MSIZE_MAX - 23];
	struct attributes a;
	struct bench b;
	char text[64];

	(void)state;
	bench_open(&b, NULL);
	assert_int_equal(walk(&b.c, ROOT_FID, 2, ""), 0);
	assert_int_equal(lcreate(&b.c, 2, "file", O_RDWR | O_EXCL, 0640, 0), 0);
	assert_int_equal(write_at(&b.c, 2, 0, "hello", 5), 5);
	host_read(b.yard.share, "file", text, sizeof(text));
	assert_string_equal(text, "hello");
	assert_int_equal(read_at(&b.c, 2, 1, 100), 4);
	assert_memory_equal(b.c.r + b.c.at, "ello", 4);
	assert_int_equal(read_at(&b.c, 2, 5, 100), 0);

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = i * 7 + (i >> 8);
	b.c.piece = 1013;	/* pieces that fit nothing */
	assert_int_equal(write_at(&b.c, 2, 3, data, sizeof(data)), sizeof(data));
	assert_int_equal(read_at(&b.c, 2, 3, P9_MSIZE_MAX), sizeof(data));
	assert_memory_equal(b.c.r + b.c.at, data, sizeof(data));
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.size, 3 + sizeof(data));
	assert_int_equal(a.mode, S_IFREG | 0640);
	assert_int_equal(setattr(&b.c, 2, 8, 0, 0, 0, 2), 0);
	b.c.piece = 1;
	assert_int_equal(read_at(&b.c, 2, 0, 100), 2);
	assert_memory_equal(b.c.r + b.c.at, "he", 2);
	begin(&b.c, TFSYNC);
	put(&b.c, 4, 2);
	put(&b.c, 4, 1);
	assert_int_equal(call(&b.c), 0);
	assert_int_equal(lcreate(&b.c, ROOT_FID, "file", O_RDWR | O_EXCL, 0640, 0), -EEXIST);
	assert_int_equal(write_at(&b.c, ROOT_FID, 0, "x", 1), -EBADF);
	bench_close(&b);
}

/* An answer that does not fit is an error, and where not even that fits, nothing. */
static void test_small_replies(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	host_write(b.yard.share, "file", "0123456789");
	assert_int_equal(walk(&b.c, ROOT_FID, 2, "file"), 0);
	assert_int_equal(lopen(&b.c, 2, O_RDONLY), 0);
	b.c.room = 11 + 4;
	assert_int_equal(read_at(&b.c, 2, 0, 10), 4);
	b.c.room = 11;
	assert_int_equal(walk(&b.c, ROOT_FID, 3, "file"), -EMSGSIZE);
	b.c.room = 10;
	begin(&b.c, TCLUNK);
	put(&b.c, 4, 99);
	b.c.t[0] = b.c.t_len;
	assert_int_equal(serve_raw(&b.c), 0);
	b.c.room = 0;
	assert_int_equal(serve_raw(&b.c), 0);
	bench_close(&b);
}

static void test_names(void **state)
{
	struct attributes a;
	struct bench b;
	struct stat st;
	int n;

	(void)state;
	bench_open(&b, NULL);
	assert_int_equal(mkdir_in(&b.c, ROOT_FID, "d", 0750), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 2, "d"), 0);
	assert_int_equal(symlink_in(&b.c, 2, "s", "../../outside/secret"), 0);
	assert_int_equal(walk(&b.c, 2, 3, "s"), 0);
	n = readlink_of(&b.c, 3);
	assert_int_equal(n, 20);
	assert_memory_equal(b.c.r + b.c.at, "../../outside/secret", n);
	host_write(b.yard.share, "f", "text");
	assert_int_equal(walk(&b.c, ROOT_FID, 4, "f"), 0);
	assert_int_equal(link_in(&b.c, 2, 4, "hard"), 0);
	assert_int_equal(getattr(&b.c, 4, &a), 0);
	assert_int_equal(a.nlink, 2);
	assert_int_equal(renameat_in(&b.c, ROOT_FID, "f", 2, "g"), 0);
	assert_int_equal(getattr(&b.c, 4, &a), 0);	/* the fid goes along */
	assert_int_equal(unlink_in(&b.c, 2, "g", 0), 0);
	assert_int_equal(mknod_in(&b.c, 2, "fifo", S_IFIFO | 0600, 0, 0), 0);
	host_lstat(b.yard.share, "d/fifo", &st);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(unlink_in(&b.c, ROOT_FID, "d", AT_REMOVEDIR), -ENOTEMPTY);
	assert_int_equal(unlink_in(&b.c, ROOT_FID, "d", 0), -EISDIR);
	assert_int_equal(unlink_in(&b.c, 2, "fifo", 0x80), -EINVAL);
	begin(&b.c, TREMOVE);
	put(&b.c, 4, 3);
	assert_int_equal(call(&b.c), 0);
	assert_int_equal(clunk(&b.c, 3), -EBADF);
	assert_int_equal(walk(&b.c, 2, 3, "s"), -ENOENT);
	begin(&b.c, TRENAME);
	put(&b.c, 4, 2);
	put(&b.c, 4, ROOT_FID);
	put_string(&b.c, "e");
	assert_int_equal(call(&b.c), 0);
	host_lstat(b.yard.share, "e/hard", &st);
	assert_int_equal(readlink_of(&b.c, 2), -EINVAL);
	bench_close(&b);
}

static void test_walk_far(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	mkdir_in(&b.c, ROOT_FID, "a", 0755);
	walk(&b.c, ROOT_FID, 2, "a");
	mkdir_in(&b.c, 2, "b", 0755);
	begin(&b.c, TWALK);
	put(&b.c, 4, ROOT_FID);
	put(&b.c, 4, 3);
	put(&b.c, 2, 5);
	put_string(&b.c, "a");
	put_string(&b.c, "b");
	put_string(&b.c, "..");
	put_string(&b.c, "b");
	put_string(&b.c, "missing");
	assert_int_equal(call(&b.c), 0);
	assert_int_equal(get(&b.c, 2), 4);	/* as far as it went, and no fid */
	assert_int_equal(clunk(&b.c, 3), -EBADF);
	begin(&b.c, TWALK);
	put(&b.c, 4, ROOT_FID);
	put(&b.c, 4, 3);
	put(&b.c, 2, 17);
	assert_int_equal(call(&b.c), -EINVAL);
	assert_int_equal(walk(&b.c, ROOT_FID, ROOT_FID, "a"), 0);	/* in place */
	assert_int_equal(walk(&b.c, ROOT_FID, 3, "b"), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 3, "b"), -EBADF);	/* 3 is taken */
	bench_close(&b);
}

/* --- no way out --- */

static void test_no_escape(void **state)
{
	static const char *const bad[] = { "/", "a/b", "../outside", "/etc", "..", "." };
	struct attributes root = { 0 }, up = { 0 };
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	assert_int_equal(getattr(&b.c, ROOT_FID, &root), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 2, ".."), 0);
	assert_int_equal(getattr(&b.c, 2, &up), 0);
	assert_memory_equal(&root, &up, sizeof(root));
	assert_int_equal(walk(&b.c, 2, 3, "outside"), -ENOENT);
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(walk(&b.c, ROOT_FID, 3, bad[i]), -EINVAL);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(mkdir_in(&b.c, ROOT_FID, bad[i], 0755), -EEXIST);
		assert_int_equal(symlink_in(&b.c, ROOT_FID, bad[i], "x"), -EEXIST);
		assert_int_equal(lcreate(&b.c, ROOT_FID, bad[i], O_RDWR, 0644, 0), -EEXIST);
		assert_int_equal(link_in(&b.c, ROOT_FID, 2, bad[i]), -EEXIST);
		assert_int_equal(unlink_in(&b.c, ROOT_FID, bad[i], 0), -EINVAL);
		assert_int_equal(renameat_in(&b.c, ROOT_FID, bad[i], ROOT_FID, "x"), -EINVAL);
		assert_int_equal(renameat_in(&b.c, ROOT_FID, "x", ROOT_FID, bad[i]), -EINVAL);
	}
	bench_close(&b);
}

/* Links of the host that lead out are texts to a client, whatever it does with them. */
static void test_links_are_not_followed(void **state)
{
	static const char *const names[] = { "dir", "file", "proc" };
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	host_link(&b, "../outside", "dir");
	host_link(&b, "../outside/secret", "file");
	host_link(&b, "/proc/self/root", "proc");
	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		const uint32_t fid = 10 + i;

		assert_int_equal(walk(&b.c, ROOT_FID, fid, names[i]), 0);
		assert_int_equal(walk(&b.c, fid, 50, "secret"), -ENOTDIR);
		assert_int_equal(mkdir_in(&b.c, fid, "new", 0755), -ENOTDIR);
		assert_int_equal(unlink_in(&b.c, fid, "secret", 0), -ENOTDIR);
		assert_int_equal(lcreate(&b.c, fid, "new", O_RDWR, 0644, 0), -ENOTDIR);
		assert_int_equal(lopen(&b.c, fid, O_RDWR), -ELOOP);
		assert_int_equal(setattr(&b.c, fid, 8, 0, 0, 0, 0), -EINVAL);
		assert_int_equal(setattr(&b.c, fid, 1, 0777, 0, 0, 0), -EOPNOTSUPP);
		walk(&b.c, ROOT_FID, 51, "");
		assert_int_equal(lcreate(&b.c, 51, names[i], O_RDWR | O_TRUNC, 0644, 0), -ELOOP);
		clunk(&b.c, 51);
		assert_int_equal(renameat_in(&b.c, fid, "secret", ROOT_FID, "x"), -ENOTDIR);
		assert_int_equal(setattr(&b.c, fid, 6, 0, 0, 0, 0), 0);	/* the link's own owner */
	}
	bench_close(&b);
}

/* Special files of the host are never opened: a FIFO would block, a device act. */
static void test_special_files(void **state)
{
	char path[256];
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	snprintf(path, sizeof(path), "%s/fifo", b.yard.share);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 2, "fifo"), 0);
	assert_int_equal(lopen(&b.c, 2, O_RDONLY), -ENXIO);
	assert_int_equal(setattr(&b.c, 2, 8, 0, 0, 0, 0), -EINVAL);
	assert_int_equal(lcreate(&b.c, ROOT_FID, "fifo", O_RDONLY, 0644, 0), -ENXIO);
	bench_close(&b);
}

static void test_readonly(void **state)
{
	const struct p9_config config = { .readonly = true };
	struct bench b;

	(void)state;
	bench_open(&b, &config);
	host_write(b.yard.share, "f", "text");
	assert_int_equal(walk(&b.c, ROOT_FID, 2, "f"), 0);
	assert_int_equal(lopen(&b.c, 2, O_RDWR), -EROFS);
	assert_int_equal(lopen(&b.c, 2, O_TRUNC), -EROFS);
	assert_int_equal(lopen(&b.c, 2, O_RDONLY), 0);
	assert_int_equal(read_at(&b.c, 2, 0, 10), 4);
	assert_int_equal(write_at(&b.c, 2, 0, "x", 1), -EBADF);
	assert_int_equal(setattr(&b.c, 2, 8, 0, 0, 0, 0), -EROFS);
	assert_int_equal(mkdir_in(&b.c, ROOT_FID, "d", 0755), -EROFS);
	assert_int_equal(symlink_in(&b.c, ROOT_FID, "s", "f"), -EROFS);
	assert_int_equal(mknod_in(&b.c, ROOT_FID, "n", S_IFREG | 0644, 0, 0), -EROFS);
	assert_int_equal(lcreate(&b.c, ROOT_FID, "n", O_RDWR, 0644, 0), -EROFS);
	assert_int_equal(link_in(&b.c, ROOT_FID, 2, "l"), -EROFS);
	assert_int_equal(renameat_in(&b.c, ROOT_FID, "f", ROOT_FID, "g"), -EROFS);
	assert_int_equal(unlink_in(&b.c, ROOT_FID, "f", 0), -EROFS);
	begin(&b.c, TXATTRCREATE);
	put(&b.c, 4, ROOT_FID);
	put_string(&b.c, "user.x");
	put(&b.c, 8, 1);
	put(&b.c, 4, 0);
	assert_int_equal(call(&b.c), -EROFS);
	begin(&b.c, TREMOVE);
	put(&b.c, 4, 2);
	assert_int_equal(call(&b.c), -EROFS);
	bench_close(&b);
}

/* --- owners --- */

static void check_mapped(struct bench *b, const char *name, const void *value, size_t len,
			 const char *attribute)
{
	char path[256];
	uint8_t got[16];

	snprintf(path, sizeof(path), "%s/%s", b->yard.share, name);
	assert_int_equal(getxattr(path, attribute, got, sizeof(got)), len);
	assert_memory_equal(got, value, len);
}

/* The layout on the host is QEMU's: little-endian numbers, private modes, stand-ins. */
static void test_mapped(void **state)
{
	const struct p9_config config = { .security = P9_MAPPED };
	struct attributes a;
	struct bench b;
	struct yard try;
	struct stat st;
	char text[64];
	bool can;

	(void)state;
	yard_init(&try);
	can = keeps_attributes(&try);
	yard_destroy(&try);
	if (!can) {
		print_message("# no user attributes in the temporary directory\n");
		skip();
	}
	bench_open(&b, &config);
	assert_int_equal(attach(&b.c, 2, 1234), 0);
	assert_int_equal(lcreate(&b.c, 2, "f", O_RDWR, 04751, 100), 0);
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 04751);
	assert_int_equal(a.uid, 1234);
	assert_int_equal(a.gid, 100);
	host_lstat(b.yard.share, "f", &st);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_uid, geteuid());
	check_mapped(&b, "f", "\xd2\x04\0\0", 4, "user.virtfs.uid");
	check_mapped(&b, "f", "\x64\0\0\0", 4, "user.virtfs.gid");
	check_mapped(&b, "f", "\xe9\x89\0\0", 4, "user.virtfs.mode");

	assert_int_equal(mknod_in(&b.c, ROOT_FID, "null", S_IFCHR | 0666, 1, 3), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 3, "null"), 0);
	assert_int_equal(getattr(&b.c, 3, &a), 0);
	assert_int_equal(a.mode, S_IFCHR | 0666);
	assert_int_equal(a.rdev, makedev(1, 3));
	host_lstat(b.yard.share, "null", &st);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	check_mapped(&b, "null", "\x03\x01\0\0\0\0\0\0", 8, "user.virtfs.rdev");

	assert_int_equal(symlink_in(&b.c, ROOT_FID, "s", "/etc/passwd"), 0);
	assert_int_equal(walk(&b.c, ROOT_FID, 4, "s"), 0);
	assert_int_equal(readlink_of(&b.c, 4), 11);
	assert_memory_equal(b.c.r + b.c.at, "/etc/passwd", 11);
	host_lstat(b.yard.share, "s", &st);
	assert_true(S_ISREG(st.st_mode));
	host_read(b.yard.share, "s", text, sizeof(text));
	assert_string_equal(text, "/etc/passwd");

	assert_int_equal(mkdir_in(&b.c, ROOT_FID, "d", 01777), 0);
	host_lstat(b.yard.share, "d", &st);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	assert_int_equal(walk(&b.c, ROOT_FID, 5, "d"), 0);
	assert_int_equal(setattr(&b.c, 5, 7, 02755, 5, 6, 0), 0);
	assert_int_equal(getattr(&b.c, 5, &a), 0);
	assert_int_equal(a.mode, S_IFDIR | 02755);
	assert_int_equal(a.uid, 5);
	assert_int_equal(a.gid, 6);
	host_lstat(b.yard.share, "d", &st);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	bench_close(&b);
}

/* An ordinary user's share with "none": what the host refuses is left undone in silence. */
static void test_none(void **state)
{
	const bool root = !geteuid();
	struct attributes a;
	struct bench b;

	(void)state;
	if (root && (seteuid(65534) || prctl(PR_SET_DUMPABLE, 1)))
		skip();
	bench_open(&b, NULL);
	assert_int_equal(attach(&b.c, 2, 4321), 0);
	assert_int_equal(lcreate(&b.c, 2, "f", O_RDWR, 06755, 4321), 0);
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0755);
	assert_int_equal(a.uid, geteuid());
	assert_int_equal(setattr(&b.c, 2, 6, 0, 1, 1, 0), 0);
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.uid, geteuid());
	assert_int_equal(setattr(&b.c, 2, 1, 04711, 0, 0, 0), 0);
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.mode, S_IFREG | 0711);
	assert_int_equal(mknod_in(&b.c, ROOT_FID, "null", S_IFCHR | 0666, 1, 3), -EPERM);
	assert_int_equal(mknod_in(&b.c, ROOT_FID, "disk", S_IFBLK | 0666, 8, 0), -EPERM);
	bench_close(&b);
	if (root)
		assert_int_equal(seteuid(0), 0);
}

static void test_passthrough(void **state)
{
	const struct p9_config config = { .security = P9_PASSTHROUGH };
	struct p9_config refused = config;
	struct attributes a;
	struct bench b;
	struct err e;
	struct stat st;

	(void)state;
	if (geteuid()) {
		refused.path = "/";
		assert_int_equal(p9_create(&b.server, &refused, &e), -EPERM);
		return;
	}
	bench_open(&b, &config);
	assert_int_equal(chmod(b.yard.share, 0777), 0);
	assert_int_equal(attach(&b.c, 2, 1234), 0);
	assert_int_equal(walk(&b.c, 2, 3, ""), 0);
	assert_int_equal(lcreate(&b.c, 2, "f", O_RDWR, 0640, 100), 0);
	host_lstat(b.yard.share, "f", &st);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(st.st_gid, 100);
	assert_int_equal(mkdir_in(&b.c, 3, "d", 0700), 0);
	host_lstat(b.yard.share, "d", &st);
	assert_int_equal(st.st_uid, 1234);
	assert_int_equal(setattr(&b.c, 2, 6, 0, 0, 0, 0), 0);
	assert_int_equal(getattr(&b.c, 2, &a), 0);
	assert_int_equal(a.uid, 0);
	assert_int_equal(chmod(b.yard.share, 0755), 0);
	assert_int_equal(geteuid(), 0);
	bench_close(&b);
}

/* --- extended attributes --- */

static int set_xattr(struct client *c, uint32_t fid, const char *name, const char *value,
		     uint32_t flags)
{
	int rc;

	walk(c, fid, 90, "");
	begin(c, TXATTRCREATE);
	put(c, 4, 90);
	put_string(c, name);
	put(c, 8, strlen(value));
	put(c, 4, flags);
	rc = call(c);
	if (!rc && *value && write_at(c, 90, 0, value, strlen(value)) != (int)strlen(value))
		rc = -EIO;
	if (rc) {
		clunk(c, 90);
		return rc;
	}
	return clunk(c, 90);
}

/* The value's first 64 bytes lie behind c->at. */
static int get_xattr(struct client *c, uint32_t fid, const char *name)
{
	uint8_t keep[64];
	int rc;

	begin(c, TXATTRWALK);
	put(c, 4, fid);
	put(c, 4, 91);
	put_string(c, name);
	rc = call(c);
	if (rc)
		return rc;
	rc = get(c, 8);
	assert_int_equal(read_at(c, 91, 0, 65536), rc);
	memcpy(keep, c->r + c->at, MIN(rc, 64));
	assert_int_equal(read_at(c, 91, rc, 100), 0);
	assert_int_equal(clunk(c, 91), 0);
	memcpy(c->r, keep, MIN(rc, 64));
	c->at = 0;
	return rc;
}

static void test_xattrs(void **state)
{
	const struct p9_config config = { .security = P9_MAPPED };
	struct yard try;
	struct bench b;
	bool can;
	int n;

	(void)state;
	yard_init(&try);
	can = keeps_attributes(&try);
	yard_destroy(&try);
	if (!can)
		skip();
	bench_open(&b, &config);
	walk(&b.c, ROOT_FID, 2, "");
	assert_int_equal(lcreate(&b.c, 2, "f", O_RDWR, 0644, 0), 0);
	walk(&b.c, ROOT_FID, 3, "f");
	assert_int_equal(set_xattr(&b.c, 3, "user.colour", "blue", 0), 0);
	n = get_xattr(&b.c, 3, "user.colour");
	assert_int_equal(n, 4);
	assert_memory_equal(b.c.r + b.c.at, "blue", 4);
	n = get_xattr(&b.c, 3, "");
	assert_int_equal(n, 12);	/* the mapped ones are not shown */
	assert_memory_equal(b.c.r + b.c.at, "user.colour", 12);
	assert_int_equal(set_xattr(&b.c, 3, "user.colour", "x", XATTR_CREATE), -EEXIST);
	assert_int_equal(set_xattr(&b.c, 3, "user.virtfs.uid", "1234", 0), -EOPNOTSUPP);
	assert_int_equal(set_xattr(&b.c, 3, "security.capability", "1234", 0), -EOPNOTSUPP);
	assert_int_equal(get_xattr(&b.c, 3, "user.virtfs.uid"), -ENODATA);
	assert_int_equal(set_xattr(&b.c, 3, "user.colour", "", XATTR_REPLACE), 0);
	assert_int_equal(get_xattr(&b.c, 3, "user.colour"), -ENODATA);
	begin(&b.c, TXATTRCREATE);
	put(&b.c, 4, 3);
	put_string(&b.c, "user.big");
	put(&b.c, 8, 1ULL << 40);
	put(&b.c, 4, 0);
	assert_int_equal(call(&b.c), -E2BIG);
	bench_close(&b);
}

/* --- bounds --- */

/* More fids than descriptors: names are opened again, also after renames above them. */
static void test_reclaim(void **state)
{
	const struct p9_config config = { .fds_max = 4, .fids_max = 300 };
	struct attributes a;
	struct bench b;
	char name[32];
	int rc = 0;

	(void)state;
	bench_open(&b, &config);
	mkdir_in(&b.c, ROOT_FID, "d", 0755);
	walk(&b.c, ROOT_FID, 2, "d");
	for (unsigned int i = 0; i < 100; i++) {
		snprintf(name, sizeof(name), "d/f%u", i);
		host_write(b.yard.share, name, name);
		assert_int_equal(walk(&b.c, 2, 100 + i, name + 2), 0);
	}
	assert_int_equal(renameat_in(&b.c, ROOT_FID, "d", ROOT_FID, "e"), 0);
	assert_int_equal(renameat_in(&b.c, 2, "f7", ROOT_FID, "seven"), 0);
	for (unsigned int i = 0; i < 100; i++) {
		assert_int_equal(getattr(&b.c, 100 + i, &a), 0);
		assert_int_equal(a.size, i < 10 ? 4 : 5);
	}
	for (unsigned int i = 0; i < 4; i++)
		assert_int_equal(lopen(&b.c, 100 + i, O_RDONLY), 0);
	assert_int_equal(lopen(&b.c, 110, O_RDONLY), -ENFILE);
	assert_int_equal(clunk(&b.c, 100), 0);
	assert_int_equal(lopen(&b.c, 110, O_RDONLY), 0);
	/* The host put something else in its place. */
	for (unsigned int i = 60; i < 70; i++)
		getattr(&b.c, 100 + i, &a);
	host_write(b.yard.share, "other", "!");
	{
		char from[128], to[128];

		snprintf(from, sizeof(from), "%s/other", b.yard.share);
		snprintf(to, sizeof(to), "%s/e/f50", b.yard.share);
		assert_int_equal(rename(from, to), 0);
	}
	assert_int_equal(getattr(&b.c, 150, &a), -ESTALE);
	for (unsigned int i = 0; i < 400 && !rc; i++)
		rc = walk(&b.c, ROOT_FID, 1000 + i, "");
	assert_int_equal(rc, -ENFILE);
	p9_reset(b.server);
	assert_int_equal(attach(&b.c, ROOT_FID, 0), 0);
	bench_close(&b);
}

static void test_readdir(void **state)
{
	const unsigned int files = 5000;
	uint8_t *seen = calloc(files, 1);
	unsigned int found = 0, calls = 0;
	uint64_t off = 0;
	struct bench b;
	char name[32];
	int n;

	(void)state;
	bench_open(&b, NULL);
	for (unsigned int i = 0; i < files; i++) {
		snprintf(name, sizeof(name), "file-%u", i);
		host_write(b.yard.share, name, "");
	}
	walk(&b.c, ROOT_FID, 2, "");
	assert_int_equal(readdir_at(&b.c, 2, 0, 4096), -EBADF);
	assert_int_equal(lopen(&b.c, 2, O_RDONLY | O_DIRECTORY), 0);
	assert_int_equal(readdir_at(&b.c, 2, 0, 20), -EINVAL);
	while ((n = readdir_at(&b.c, 2, off, calls++ % 2 ? 500 : 60000)) > 0) {
		const size_t end = b.c.at + n;

		while (b.c.at < end) {
			unsigned int len, i;

			b.c.at += 13;
			off = get(&b.c, 8);
			get(&b.c, 1);
			len = get(&b.c, 2);
			memcpy(name, b.c.r + b.c.at, len);
			name[len] = '\0';
			b.c.at += len;
			if (sscanf(name, "file-%u", &i) != 1)
				continue;
			assert_int_equal(seen[i], 0);
			seen[i] = 1;
			found++;
		}
	}
	assert_int_equal(n, 0);
	assert_int_equal(found, files);
	free(seen);
	bench_close(&b);
}

static int lock_file(struct client *c, uint32_t fid, unsigned int type)
{
	int rc;

	begin(c, TLOCK);
	put(c, 4, fid);
	put(c, 1, type);
	put(c, 4, 0);
	put(c, 8, 0);
	put(c, 8, 0);
	put(c, 4, 77);
	put_string(c, "vm");
	rc = call(c);
	return rc ? rc : (int)get(c, 1);
}

static void test_locks(void **state)
{
	struct bench b;

	(void)state;
	bench_open(&b, NULL);
	host_write(b.yard.share, "f", "text");
	for (uint32_t fid = 2; fid < 4; fid++) {
		walk(&b.c, ROOT_FID, fid, "f");
		assert_int_equal(lopen(&b.c, fid, O_RDWR), 0);
	}
	assert_int_equal(lock_file(&b.c, 2, 1), 0);
	assert_int_equal(lock_file(&b.c, 3, 1), 1);
	begin(&b.c, TGETLOCK);
	put(&b.c, 4, 3);
	put(&b.c, 1, 0);
	put(&b.c, 8, 5);
	put(&b.c, 8, 1);
	put(&b.c, 4, 78);
	put_string(&b.c, "vm");
	assert_int_equal(call(&b.c), 0);
	assert_int_equal(get(&b.c, 1), 1);
	assert_int_equal(lock_file(&b.c, 2, 2), 0);
	assert_int_equal(lock_file(&b.c, 3, 0), 0);
	assert_int_equal(lock_file(&b.c, 2, 0), 0);
	assert_int_equal(lock_file(&b.c, 2, 3), -EINVAL);
	bench_close(&b);
}

/* --- several at once --- */

struct worker {
	struct p9 *server;
	unsigned int number;
};

/* Its own directory, its own fids, and renames in what all share. */
static void *work(void *arg)
{
	const struct worker *w = arg;
	const uint32_t dir = 1000 * (w->number + 1), file = dir + 1;
	char name[32], other[32];
	struct client c;

	p9_thread_init();
	client_init(&c, w->server);
	snprintf(name, sizeof(name), "dir-%u", w->number);
	assert_int_equal(mkdir_in(&c, ROOT_FID, name, 0755), 0);
	assert_int_equal(walk(&c, ROOT_FID, dir, name), 0);
	for (unsigned int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "f%u", i % 10);
		snprintf(other, sizeof(other), "shared-%u", i % 3);
		assert_int_equal(walk(&c, dir, file, ""), 0);
		assert_int_equal(lcreate(&c, file, name, O_RDWR | O_TRUNC, 0666, 0), 0);
		assert_int_equal(write_at(&c, file, 0, name, strlen(name)), strlen(name));
		assert_int_equal(clunk(&c, file), 0);
		assert_int_equal(renameat_in(&c, dir, name, ROOT_FID, other), 0);
		unlink_in(&c, ROOT_FID, other, 0);
	}
	client_done(&c);
	return NULL;
}

static void test_threads(void **state)
{
	const struct p9_config config = { .fds_max = 8 };
	struct worker w[4];
	pthread_t thread[4];
	struct bench b;

	(void)state;
	bench_open(&b, &config);
	for (unsigned int i = 0; i < 4; i++) {
		w[i] = (struct worker){ b.server, i };
		assert_int_equal(pthread_create(&thread[i], NULL, work, &w[i]), 0);
	}
	for (unsigned int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	bench_close(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_session),
		cmocka_unit_test(test_create_refuses),
		cmocka_unit_test(test_file_data),
		cmocka_unit_test(test_small_replies),
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_walk_far),
		cmocka_unit_test(test_no_escape),
		cmocka_unit_test(test_links_are_not_followed),
		cmocka_unit_test(test_special_files),
		cmocka_unit_test(test_readonly),
		cmocka_unit_test(test_mapped),
		cmocka_unit_test(test_none),
		cmocka_unit_test(test_passthrough),
		cmocka_unit_test(test_xattrs),
		cmocka_unit_test(test_reclaim),
		cmocka_unit_test(test_readdir),
		cmocka_unit_test(test_locks),
		cmocka_unit_test(test_threads),
	};

	p9_thread_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
