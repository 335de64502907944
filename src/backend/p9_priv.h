/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of the 9P server; for src/backend/p9_*.c only.
 *
 * A *node* is a place in the tree as a client came to it: a name below a parent node, and the
 * inode that was found there.  It has an O_PATH descriptor, which may be closed when there are
 * too many, and is then opened again by walking the names; if another inode is there by now, the
 * answer is ESTALE.  A *fid* is the client's number for a node, with what is open on it.
 *
 * Names are resolved one component at a time, with O_NOFOLLOW, relative to a descriptor of the
 * directory, and no component is "..": so there is nothing to race with.
 *
 * One lock, p9.lock, protects the table of fids, the nodes, and all reference counts.  No system
 * call that may wait for data is made under it; opening a name again is.
 */
#ifndef VIREO_BACKEND_P9_PRIV_H
#define VIREO_BACKEND_P9_PRIV_H

#include "backend/p9.h"

#include <limits.h>
#include <linux/limits.h>
#include <pthread.h>
#include <sys/stat.h>

#define P9_FLAT_MAX	16384U	/* of a request but for written data */
#define P9_REPLY_MAX	36864U	/* of a reply but for read data */
#define P9_HEADER	7U	/* size, type, tag */
#define P9_BUCKETS	4096U
#define P9_WALK_MAX	16U	/* names in one Twalk */
#define P9_XATTR_MAX	65536U	/* bytes of a value or of a list */
#define P9_XATTRS_MAX	64U	/* fids that hold one */
#define P9_DEPTH_MAX	1024U

enum p9_type {
	P9_RLERROR = 7, P9_TSTATFS = 8, P9_TLOPEN = 12, P9_TLCREATE = 14, P9_TSYMLINK = 16,
	P9_TMKNOD = 18, P9_TRENAME = 20, P9_TREADLINK = 22, P9_TGETATTR = 24, P9_TSETATTR = 26,
	P9_TXATTRWALK = 30, P9_TXATTRCREATE = 32, P9_TREADDIR = 40, P9_TFSYNC = 50, P9_TLOCK = 52,
	P9_TGETLOCK = 54, P9_TLINK = 70, P9_TMKDIR = 72, P9_TRENAMEAT = 74, P9_TUNLINKAT = 76,
	P9_TVERSION = 100, P9_TAUTH = 102, P9_TATTACH = 104, P9_TFLUSH = 108, P9_TWALK = 110,
	P9_TREAD = 116, P9_TWRITE = 118, P9_TCLUNK = 120, P9_TREMOVE = 122, P9_TYPES = 124,
};

/* (s) under p9.lock; the rest is constant */
struct p9_node {
	unsigned int refs;		/* (s) fids, children, requests */
	struct p9_node *parent;		/* (s) NULL: the root */
	char *name;			/* (s) in the parent; NULL: the root */
	int fd;				/* (s) O_PATH, -1: closed for now */
	unsigned int pins;		/* (s) requests that use fd */
	dev_t dev;
	ino_t ino;
	struct p9_node *prev, *next;	/* (s) all nodes */
	struct p9_node *newer, *older;	/* (s) those with a descriptor that may be closed */
	bool idle;			/* (s) it is among the latter */
};

enum p9_fid_kind { FID_FILE, FID_XATTR_READ, FID_XATTR_WRITE };

/* (s) under p9.lock, (o) under lock; the rest is constant */
struct p9_fid {
	uint32_t id;
	unsigned int refs;		/* (s) */
	struct p9_fid *chain;		/* (s) next of the bucket */
	struct p9_node *node;
	uid_t uid;			/* who attached */
	enum p9_fid_kind kind;
	pthread_mutex_t lock;
	_Atomic int fd;			/* what Tlopen opened, -1; set once, under (o) */
	uint8_t *value;			/* (o) of an extended attribute */
	size_t size, filled;		/* (o) of it */
	char *xattr;			/* its name, while it is written */
	int xattr_flags;
};

struct p9_flight;

struct p9 {
	struct log *log;
	char *path;
	enum p9_security security;
	bool readonly;
	unsigned int fids_max, fds_max;
	uid_t euid;
	gid_t egid;
	struct p9_node *root;
	_Atomic uint32_t msize;
	pthread_mutex_t lock;
	pthread_cond_t landed;			/* (s) a request was answered */
	struct p9_flight *flights;		/* (s) requests under way */
	uint64_t flown;				/* (s) requests so far */
	struct p9_fid *bucket[P9_BUCKETS];	/* (s) */
	unsigned int fids, opens, xattrs;	/* (s) how many there are */
	struct p9_node *nodes;			/* (s) */
	unsigned int node_count, node_fds;	/* (s) */
	struct p9_node *newest, *oldest;	/* (s) idle descriptors */
};

/* --- messages (p9_wire.c) --- */

struct p9_in {
	uint8_t *p, *end;
	bool bad;
};

struct p9_out {
	uint8_t *data;
	size_t at, room;
	bool full;
};

struct p9_qid {
	uint8_t type;
	uint32_t version;
	uint64_t path;
};

/* A request under way; @in and @out are copies, the data of Tread and Twrite is in place. */
struct p9_req {
	struct p9 *s;
	struct p9_in in;
	struct p9_out out;
	const struct iovec *out_iov, *in_iov;
	unsigned int out_count, in_count;
	size_t size;		/* of the request */
	size_t reply_room;	/* of the client's */
	size_t direct;		/* bytes that were put behind @out's already */
	uint16_t tag;
	uint64_t number;	/* in the order of arrival */
};

uint64_t p9_get(struct p9_in *in, unsigned int bytes);
/* A string, ended by a zero, in place; "" where the message is bad. */
char *p9_get_string(struct p9_in *in);
void p9_put(struct p9_out *out, unsigned int bytes, uint64_t value);
void p9_put_bytes(struct p9_out *out, const void *data, size_t len);
void p9_put_string(struct p9_out *out, const char *s);
void p9_put_qid(struct p9_out *out, const struct p9_qid *q);

size_t p9_iov_len(const struct iovec *iov, unsigned int count);
size_t p9_iov_read(const struct iovec *iov, unsigned int count, size_t off, void *buf, size_t len);
size_t p9_iov_write(const struct iovec *iov, unsigned int count, size_t off, const void *buf,
		    size_t len);
/* The pieces of [@off, @off + @len) into @to, of P9_IOV_MAX; returns how many. */
unsigned int p9_iov_slice(struct iovec *to, const struct iovec *iov, unsigned int count,
			  size_t off, size_t len);

/* --- nodes (p9_node.c) --- */

/* A name that can be in a directory: not empty, no slash, neither "." nor "..". */
int p9_name_check(const char *name);
/* The root's node, from a descriptor that it takes over. */
int p9_root_create(struct p9 *s, int fd);
/* The node of @name below @parent, with a reference; -errno. */
int p9_node_walk(struct p9 *s, struct p9_node *parent, const char *name, struct p9_node **out);
struct p9_node *p9_node_get(struct p9 *s, struct p9_node *n);
void p9_node_put(struct p9 *s, struct p9_node *n);
void p9_node_put_locked(struct p9 *s, struct p9_node *n);
/* @n's descriptor, open until p9_node_unpin(); -errno. */
int p9_node_pin(struct p9 *s, struct p9_node *n);
void p9_node_unpin(struct p9 *s, struct p9_node *n);
/* The parent with a reference (NULL: @n is the root) and the name, copied. */
struct p9_node *p9_node_place(struct p9 *s, struct p9_node *n, char name[NAME_MAX + 1]);
/* @from/@name is @to/@fresh now. */
void p9_node_moved(struct p9 *s, struct p9_node *from, const char *name, struct p9_node *to,
		   const char *fresh);

/* --- fids (p9_fid.c) --- */

struct p9_fid *p9_fid_get(struct p9 *s, uint32_t id);
void p9_fid_put(struct p9 *s, struct p9_fid *f);
/* A new fid, not in the table yet, which takes over a reference of @n. */
struct p9_fid *p9_fid_create(struct p9 *s, uint32_t id, struct p9_node *n, uid_t uid);
/* Puts @f into the table; -EBADF where its number is taken, unless by @instead (may be NULL). */
int p9_fid_insert(struct p9 *s, struct p9_fid *f, struct p9_fid *instead);
/* Takes fid @id out of the table and returns it, or NULL. */
struct p9_fid *p9_fid_remove(struct p9 *s, uint32_t id);
void p9_fid_remove_all(struct p9 *s);
/* Counts an open file or an attribute that a fid is going to hold; -ENFILE. */
int p9_take_open(struct p9 *s);
void p9_drop_open(struct p9 *s);
int p9_take_xattr(struct p9 *s);

/* --- owners (p9_owner.c) --- */

struct p9_owner {
	uid_t uid;
	gid_t gid;
	uint32_t mode;		/* with the file type */
	uint64_t rdev;
};

#define OWNER_UID	BIT(0)
#define OWNER_GID	BIT(1)
#define OWNER_MODE	BIT(2)
#define OWNER_RDEV	BIT(3)

/* "/proc/self/fd/N": how system calls without a *at form reach what @fd is. */
struct p9_proc_path { char s[40]; };
struct p9_proc_path p9_proc_path(int fd);

/* Can the directory @fd do what @s->security needs? */
int p9_owner_probe(struct p9 *s, int fd, struct err *e);
/* What @fd is in the eyes of the client. */
int p9_stat(struct p9 *s, int fd, struct stat *st);
int p9_qid_of(struct p9 *s, int fd, struct p9_qid *q);
struct p9_qid p9_qid(struct p9 *s, const struct stat *st);
uint64_t p9_qid_path(struct p9 *s, dev_t dev, ino_t ino);
/* Changes those fields of @fd's owner that @what names. */
int p9_owner_set(struct p9 *s, int fd, const struct p9_owner *o, unsigned int what);
/* The host's mode for a file that the client wants with @mode. */
mode_t p9_host_mode(struct p9 *s, mode_t mode);
/* From here to p9_creds_leave() files are made as @o's; -EPERM. */
int p9_creds_enter(struct p9 *s, const struct p9_owner *o);
void p9_creds_leave(struct p9 *s);
/* The host's name of an attribute that the client calls @name; -EOPNOTSUPP. */
int p9_xattr_name(struct p9 *s, const char *name, char host[XATTR_NAME_MAX + 1]);
/* The client's name of what the host calls @host, or NULL: it is not shown. */
const char *p9_xattr_shown(struct p9 *s, const char *host);

/* --- requests: each reads its fields, does it, writes the reply's; 0 or -errno --- */

/* The common start: fid @id with its node pinned. */
struct p9_use {
	struct p9_fid *fid;
	int fd;			/* of the node */
};
int p9_use(struct p9 *s, struct p9_use *u, uint32_t id);
void p9_unuse(struct p9 *s, struct p9_use *u);
/* Opens what the O_PATH descriptor @fd is, if that is a file or directory. */
int p9_reopen(int fd, int flags);
/* O_* of the protocol, as far as they are a client's business. */
int p9_open_flags(uint32_t flags);

int p9_version(struct p9_req *r);
int p9_attach(struct p9_req *r);
int p9_flush(struct p9_req *r);
int p9_walk(struct p9_req *r);
int p9_clunk(struct p9_req *r);
/* p9_file.c */
int p9_lopen(struct p9_req *r);
int p9_lcreate(struct p9_req *r);
int p9_read(struct p9_req *r);
int p9_write(struct p9_req *r);
int p9_readdir(struct p9_req *r);
int p9_fsync(struct p9_req *r);
int p9_lock(struct p9_req *r);
int p9_getlock(struct p9_req *r);
/* p9_name.c */
int p9_symlink(struct p9_req *r);
int p9_mknod(struct p9_req *r);
int p9_mkdir(struct p9_req *r);
int p9_link(struct p9_req *r);
int p9_readlink(struct p9_req *r);
int p9_rename(struct p9_req *r);
int p9_renameat(struct p9_req *r);
int p9_unlinkat(struct p9_req *r);
int p9_remove(struct p9_req *r);
/* p9_attr.c */
int p9_statfs(struct p9_req *r);
int p9_getattr(struct p9_req *r);
int p9_setattr(struct p9_req *r);
int p9_xattrwalk(struct p9_req *r);
int p9_xattrcreate(struct p9_req *r);
/* Writes out the attribute that @f has gathered, when it is clunked. */
int p9_xattr_commit(struct p9 *s, struct p9_fid *f);

#endif
