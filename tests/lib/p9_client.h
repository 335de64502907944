/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A 9P client for tests: builds a message field by field, has it served, reads the reply field
 * by field.  And a directory to share that lies beside one that must stay as it is.
 */
#ifndef VIREO_TESTS_P9_CLIENT_H
#define VIREO_TESTS_P9_CLIENT_H

#include "backend/p9.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ROOT_FID	1U

enum {
	TSTATFS = 8, TLOPEN = 12, TLCREATE = 14, TSYMLINK = 16, TMKNOD = 18, TRENAME = 20,
	TREADLINK = 22, TGETATTR = 24, TSETATTR = 26, TXATTRWALK = 30, TXATTRCREATE = 32,
	TREADDIR = 40, TFSYNC = 50, TLOCK = 52, TGETLOCK = 54, TLINK = 70, TMKDIR = 72,
	TRENAMEAT = 74, TUNLINKAT = 76, TVERSION = 100, TATTACH = 104, TFLUSH = 108, TWALK = 110,
	TREAD = 116, TWRITE = 118, TCLUNK = 120, TREMOVE = 122,
};

struct client {
	struct p9 *server;
	uint8_t *t, *r;		/* request, reply: P9_MSIZE_MAX each */
	size_t t_len, r_len, at;
	size_t room;		/* for the reply */
	size_t piece;		/* iovecs of this many bytes; 0: one */
};

static inline void client_init(struct client *c, struct p9 *server)
{
	*c = (struct client){ .server = server, .room = P9_MSIZE_MAX };
	c->t = malloc(P9_MSIZE_MAX);
	c->r = malloc(P9_MSIZE_MAX);
	assert_true(c->t && c->r);
}

static inline void client_done(struct client *c)
{
	free(c->t);
	free(c->r);
}

static inline void put(struct client *c, unsigned int bytes, uint64_t value)
{
	for (unsigned int i = 0; i < bytes; i++)
		c->t[c->t_len++] = value >> (8 * i);
}

static inline void put_string(struct client *c, const char *s)
{
	put(c, 2, strlen(s));
	memcpy(c->t + c->t_len, s, strlen(s));
	c->t_len += strlen(s);
}

static inline void begin(struct client *c, unsigned int type)
{
	c->t_len = 0;
	put(c, 4, 0);
	put(c, 1, type);
	put(c, 2, 1);
}

static inline uint64_t get(struct client *c, unsigned int bytes)
{
	uint64_t value = 0;

	assert_true(c->at + bytes <= c->r_len);
	for (unsigned int i = 0; i < bytes; i++)
		value |= (uint64_t)c->r[c->at++] << (8 * i);
	return value;
}

static inline unsigned int pieces(struct iovec *iov, uint8_t *p, size_t len, size_t piece)
{
	unsigned int n = 0;

	while (len) {
		const size_t part = piece && n < P9_IOV_MAX - 1 ? MIN(piece, len) : len;

		iov[n++] = (struct iovec){ p, part };
		p += part;
		len -= part;
	}
	return n;
}

/* As it is, without any look at it. */
static inline size_t serve_raw(struct client *c)
{
	struct iovec out[P9_IOV_MAX], in[P9_IOV_MAX];
	const struct p9_message m = {
		.out = out, .in = in, .out_count = pieces(out, c->t, c->t_len, c->piece),
		.in_count = pieces(in, c->r, c->room, c->piece),
	};

	return p9_serve(c->server, &m);
}

/* 0, or what Rlerror says, negative; the reply is then read with get(). */
static inline int call(struct client *c)
{
	uint32_t size;
	unsigned int type;

	for (unsigned int i = 0; i < 4; i++)
		c->t[i] = c->t_len >> (8 * i);
	c->r_len = serve_raw(c);
	assert_true(c->r_len >= 7);
	c->at = 0;
	size = get(c, 4);
	assert_int_equal(size, c->r_len);
	type = get(c, 1);
	assert_int_equal(get(c, 2), 1);
	if (type == 7)
		return -(int)get(c, 4);
	assert_int_equal(type, c->t[4] + 1);
	return 0;
}

/* --- requests --- */

static inline int version(struct client *c, uint32_t msize)
{
	begin(c, TVERSION);
	put(c, 4, msize);
	put_string(c, "9P2000.L");
	return call(c);
}

static inline int attach(struct client *c, uint32_t fid, uint32_t uid)
{
	begin(c, TATTACH);
	put(c, 4, fid);
	put(c, 4, UINT32_MAX);
	put_string(c, "somebody");
	put_string(c, "/");
	put(c, 4, uid);
	return call(c);
}

/* One name; "" clones. */
static inline int walk(struct client *c, uint32_t fid, uint32_t fresh, const char *name)
{
	int rc;

	begin(c, TWALK);
	put(c, 4, fid);
	put(c, 4, fresh);
	put(c, 2, *name != 0);
	if (*name)
		put_string(c, name);
	rc = call(c);
	if (!rc)
		assert_int_equal(get(c, 2), *name != 0);
	return rc;
}

static inline int clunk(struct client *c, uint32_t fid)
{
	begin(c, TCLUNK);
	put(c, 4, fid);
	return call(c);
}

static inline int lopen(struct client *c, uint32_t fid, uint32_t flags)
{
	begin(c, TLOPEN);
	put(c, 4, fid);
	put(c, 4, flags);
	return call(c);
}

static inline int lcreate(struct client *c, uint32_t fid, const char *name, uint32_t flags,
			  uint32_t mode, uint32_t gid)
{
	begin(c, TLCREATE);
	put(c, 4, fid);
	put_string(c, name);
	put(c, 4, flags);
	put(c, 4, mode);
	put(c, 4, gid);
	return call(c);
}

static inline int write_at(struct client *c, uint32_t fid, uint64_t off, const void *data,
			   size_t len)
{
	int rc;

	begin(c, TWRITE);
	put(c, 4, fid);
	put(c, 8, off);
	put(c, 4, len);
	memcpy(c->t + c->t_len, data, len);
	c->t_len += len;
	rc = call(c);
	return rc ? rc : (int)get(c, 4);
}

/* The data lies behind c->at. */
static inline int read_at(struct client *c, uint32_t fid, uint64_t off, size_t len)
{
	int rc;

	begin(c, TREAD);
	put(c, 4, fid);
	put(c, 8, off);
	put(c, 4, len);
	rc = call(c);
	return rc ? rc : (int)get(c, 4);
}

static inline int mkdir_in(struct client *c, uint32_t fid, const char *name, uint32_t mode)
{
	begin(c, TMKDIR);
	put(c, 4, fid);
	put_string(c, name);
	put(c, 4, mode);
	put(c, 4, 0);
	return call(c);
}

static inline int symlink_in(struct client *c, uint32_t fid, const char *name, const char *target)
{
	begin(c, TSYMLINK);
	put(c, 4, fid);
	put_string(c, name);
	put_string(c, target);
	put(c, 4, 0);
	return call(c);
}

static inline int mknod_in(struct client *c, uint32_t fid, const char *name, uint32_t mode,
			   uint32_t major, uint32_t minor)
{
	begin(c, TMKNOD);
	put(c, 4, fid);
	put_string(c, name);
	put(c, 4, mode);
	put(c, 4, major);
	put(c, 4, minor);
	put(c, 4, 0);
	return call(c);
}

static inline int link_in(struct client *c, uint32_t dir, uint32_t fid, const char *name)
{
	begin(c, TLINK);
	put(c, 4, dir);
	put(c, 4, fid);
	put_string(c, name);
	return call(c);
}

static inline int renameat_in(struct client *c, uint32_t from, const char *name, uint32_t to,
			      const char *fresh)
{
	begin(c, TRENAMEAT);
	put(c, 4, from);
	put_string(c, name);
	put(c, 4, to);
	put_string(c, fresh);
	return call(c);
}

static inline int unlink_in(struct client *c, uint32_t fid, const char *name, uint32_t flags)
{
	begin(c, TUNLINKAT);
	put(c, 4, fid);
	put_string(c, name);
	put(c, 4, flags);
	return call(c);
}

struct attributes {
	uint32_t mode, uid, gid;
	uint64_t nlink, rdev, size;
};

static inline int getattr(struct client *c, uint32_t fid, struct attributes *a)
{
	int rc;

	begin(c, TGETATTR);
	put(c, 4, fid);
	put(c, 8, 0x7ff);
	rc = call(c);
	if (rc)
		return rc;
	c->at += 8 + 13;
	a->mode = get(c, 4);
	a->uid = get(c, 4);
	a->gid = get(c, 4);
	a->nlink = get(c, 8);
	a->rdev = get(c, 8);
	a->size = get(c, 8);
	return 0;
}

/* @valid: 1 mode, 2 uid, 4 gid, 8 size */
static inline int setattr(struct client *c, uint32_t fid, uint32_t valid, uint32_t mode,
			  uint32_t uid, uint32_t gid, uint64_t size)
{
	begin(c, TSETATTR);
	put(c, 4, fid);
	put(c, 4, valid);
	put(c, 4, mode);
	put(c, 4, uid);
	put(c, 4, gid);
	put(c, 8, size);
	for (unsigned int i = 0; i < 4; i++)
		put(c, 8, 1000000000);
	return call(c);
}

/* The text lies in the reply, not ended by a zero; returns its length. */
static inline int readlink_of(struct client *c, uint32_t fid)
{
	int rc;

	begin(c, TREADLINK);
	put(c, 4, fid);
	rc = call(c);
	return rc ? rc : (int)get(c, 2);
}

static inline int readdir_at(struct client *c, uint32_t fid, uint64_t off, uint32_t count)
{
	int rc;

	begin(c, TREADDIR);
	put(c, 4, fid);
	put(c, 8, off);
	put(c, 4, count);
	rc = call(c);
	return rc ? rc : (int)get(c, 4);
}

/* --- directories --- */

struct yard {
	char top[64];		/* the test's own */
	char share[96];		/* what is shared */
	char outside[96];	/* beside it, with a file "secret" */
};

static inline void host_write(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline void host_read(const char *dir, const char *name, char *text, size_t room)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "re");
	assert_non_null(f);
	text[fread(text, 1, room - 1, f)] = '\0';
	fclose(f);
}

static inline void host_lstat(const char *dir, const char *name, struct stat *st)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(lstat(path, st), 0);
}

static inline void host_chmod(const char *dir, const char *name, mode_t mode)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(chmod(path, mode), 0);
}

static inline void yard_init(struct yard *y)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(y->top, sizeof(y->top), "%s/vireo-p9-XXXXXX", tmp && strlen(tmp) < 32 ? tmp : "/tmp");
	assert_non_null(mkdtemp(y->top));
	snprintf(y->share, sizeof(y->share), "%s/share", y->top);
	snprintf(y->outside, sizeof(y->outside), "%s/outside", y->top);
	assert_int_equal(mkdir(y->share, 0755), 0);
	assert_int_equal(mkdir(y->outside, 0755), 0);
	host_write(y->outside, "secret", "nobody's business\n");
	host_chmod(y->outside, "secret", 0644);
	host_chmod(y->top, "outside", 0755);
	host_chmod(y->top, "share", 0755);
}

static inline void yard_destroy(struct yard *y)
{
	char command[256];

	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", y->top, y->top);
	assert_int_equal(system(command), 0);
}

/* The outside is as yard_init() made it: one file, its text, its mode, never written since. */
static inline void yard_check(struct yard *y)
{
	char command[256], text[64];
	struct stat st;

	host_read(y->outside, "secret", text, sizeof(text));
	assert_string_equal(text, "nobody's business\n");
	host_lstat(y->outside, "secret", &st);
	assert_int_equal(st.st_mode, S_IFREG | 0644);
	assert_int_equal(st.st_uid, geteuid());
	assert_int_equal(st.st_nlink, 1);
	host_lstat(y->top, "outside", &st);
	assert_int_equal(st.st_mode, S_IFDIR | 0755);
	snprintf(command, sizeof(command), "test \"$(ls -A %s) $(ls -A %s | tr '\\n' ' ')\" = "
		 "'secret outside share '", y->outside, y->top);
	assert_int_equal(system(command), 0);
}

#endif
