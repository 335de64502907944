// SPDX-License-Identifier: Apache-2.0
/* The 9P server's requests on attributes: Tgetattr, Tsetattr, Tstatfs, Txattrwalk, Txattrcreate. */
#include "backend/p9_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#define GETATTR_BASIC	0x7ffU	/* all that stat() tells */

#define SETATTR_MODE	0x001U
#define SETATTR_UID	0x002U
#define SETATTR_GID	0x004U
#define SETATTR_SIZE	0x008U
#define SETATTR_ATIME	0x010U
#define SETATTR_MTIME	0x020U
#define SETATTR_ATIME_SET 0x080U
#define SETATTR_MTIME_SET 0x100U

static void put_time(struct p9_out *out, const struct timespec *t)
{
	p9_put(out, 8, t->tv_sec);
	p9_put(out, 8, t->tv_nsec);
}

static void put_stat(struct p9 *s, struct p9_out *out, const struct stat *st)
{
	static const struct timespec never;
	const struct p9_qid q = p9_qid(s, st);

	p9_put(out, 8, GETATTR_BASIC);
	p9_put_qid(out, &q);
	p9_put(out, 4, st->st_mode);
	p9_put(out, 4, st->st_uid);
	p9_put(out, 4, st->st_gid);
	p9_put(out, 8, st->st_nlink);
	p9_put(out, 8, st->st_rdev);
	p9_put(out, 8, st->st_size);
	p9_put(out, 8, st->st_blksize);
	p9_put(out, 8, st->st_blocks);
	put_time(out, &st->st_atim);
	put_time(out, &st->st_mtim);
	put_time(out, &st->st_ctim);
	put_time(out, &never);		/* birth */
	p9_put(out, 8, 0);		/* generation */
	p9_put(out, 8, 0);		/* data version */
}

int p9_getattr(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	struct p9_use u;
	struct stat st;
	int rc;

	p9_get(&r->in, 8);	/* what is asked for; all of it is told */
	if (r->in.bad)
		return -EPROTO;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	rc = p9_stat(r->s, u.fd, &st);
	p9_unuse(r->s, &u);
	if (!rc)
		put_stat(r->s, &r->out, &st);
	return rc;
}

struct setattr {
	uint32_t valid;
	struct p9_owner owner;
	uint64_t size;
	struct timespec time[2];
};

static struct timespec get_time(struct p9_in *in, bool change, bool given)
{
	const uint64_t sec = p9_get(in, 8), nsec = p9_get(in, 8);

	if (!change)
		return (struct timespec){ .tv_nsec = UTIME_OMIT };
	if (!given)
		return (struct timespec){ .tv_nsec = UTIME_NOW };
	return (struct timespec){ .tv_sec = sec, .tv_nsec = MIN(nsec, 999999999ULL) };
}

static int set_owner(struct p9 *s, int fd, struct setattr *a)
{
	unsigned int what = 0;
	struct stat st;
	int rc;

	if (a->valid & SETATTR_UID)
		what |= OWNER_UID;
	if (a->valid & SETATTR_GID)
		what |= OWNER_GID;
	if (a->valid & SETATTR_MODE)
		what |= OWNER_MODE;
	if (!what)
		return 0;
	rc = p9_stat(s, fd, &st);
	if (rc)
		return rc;
	a->owner.mode = (st.st_mode & S_IFMT) | (a->owner.mode & 07777);
	return p9_owner_set(s, fd, &a->owner, what);
}

/* An open descriptor may still write what its owner may not any more. */
static int set_size(struct p9_use *u, uint64_t size)
{
	struct stat st;

	if (size > INT64_MAX)
		return -EFBIG;
	if (u->fid->fd >= 0 && !ftruncate(u->fid->fd, size))
		return 0;
	if (fstat(u->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EINVAL;
	return truncate(p9_proc_path(u->fd).s, size) ? -errno : 0;
}

static int set_attributes(struct p9 *s, struct p9_use *u, struct setattr *a)
{
	int rc = 0;

	if (a->valid & SETATTR_SIZE)
		rc = set_size(u, a->size);
	if (!rc)
		rc = set_owner(s, u->fd, a);
	if (!rc && a->valid & (SETATTR_ATIME | SETATTR_MTIME) &&
	    utimensat(u->fd, "", a->time, AT_EMPTY_PATH))
		rc = -errno;
	return rc;
}

int p9_setattr(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	struct setattr a = { .valid = p9_get(&r->in, 4) };
	struct p9_use u;
	int rc;

	a.owner.mode = p9_get(&r->in, 4);
	a.owner.uid = p9_get(&r->in, 4);
	a.owner.gid = p9_get(&r->in, 4);
	a.size = p9_get(&r->in, 8);
	a.time[0] = get_time(&r->in, a.valid & SETATTR_ATIME, a.valid & SETATTR_ATIME_SET);
	a.time[1] = get_time(&r->in, a.valid & SETATTR_MTIME, a.valid & SETATTR_MTIME_SET);
	if (r->in.bad)
		return -EPROTO;
	if (r->s->readonly)
		return -EROFS;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	rc = set_attributes(r->s, &u, &a);
	p9_unuse(r->s, &u);
	return rc;
}

int p9_statfs(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	struct p9_use u;
	struct statfs st;
	uint64_t fsid = 0;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	rc = fstatfs(u.fd, &st) ? -errno : 0;
	p9_unuse(r->s, &u);
	if (rc)
		return rc;
	memcpy(&fsid, &st.f_fsid, sizeof(fsid));
	p9_put(&r->out, 4, st.f_type);
	p9_put(&r->out, 4, st.f_bsize);
	p9_put(&r->out, 8, st.f_blocks);
	p9_put(&r->out, 8, st.f_bfree);
	p9_put(&r->out, 8, st.f_bavail);
	p9_put(&r->out, 8, st.f_files);
	p9_put(&r->out, 8, st.f_ffree);
	p9_put(&r->out, 8, fsid);
	p9_put(&r->out, 4, st.f_namelen);
	return 0;
}

/* --- extended attributes --- */

/* Keeps those names of a list that the client may see, as it calls them; returns the length. */
static size_t shown_names(struct p9 *s, uint8_t *list, size_t len)
{
	size_t kept = 0, at = 0;

	while (at < len) {
		const char *host = (const char *)list + at;
		const size_t size = strlen(host) + 1;
		const char *shown = p9_xattr_shown(s, host);

		if (shown) {
			const size_t n = strlen(shown) + 1;

			memmove(list + kept, shown, n);
			kept += n;
		}
		at += size;
	}
	return kept;
}

/* The value of @name, or all names where it is empty; *@value is malloc'ed. */
static ssize_t get_value(struct p9 *s, int fd, const char *name, uint8_t **value)
{
	const struct p9_proc_path p = p9_proc_path(fd);
	char host[XATTR_NAME_MAX + 1];
	ssize_t n;

	if (*name) {
		const int rc = p9_xattr_name(s, name, host);

		if (rc)
			return rc == -EOPNOTSUPP ? -ENODATA : rc;
	}
	*value = malloc(P9_XATTR_MAX);
	if (!*value)
		return -ENOMEM;
	n = *name ? getxattr(p.s, host, *value, P9_XATTR_MAX)
		  : listxattr(p.s, (char *)*value, P9_XATTR_MAX);
	if (n < 0) {
		n = -errno;
		free(*value);
		return n;
	}
	return *name ? n : (ssize_t)shown_names(s, *value, n);
}

/* A fid for an attribute of @of; takes @value over. */
static int insert_xattr(struct p9 *s, struct p9_fid *of, struct p9_fid *instead, uint32_t id,
			enum p9_fid_kind kind, uint8_t *value, size_t size, struct p9_fid **out)
{
	struct p9_fid *f;
	int rc = p9_take_xattr(s);

	if (rc) {
		free(value);
		return rc;
	}
	f = p9_fid_create(s, id, p9_node_get(s, of->node), of->uid);
	if (!f) {
		pthread_mutex_lock(&s->lock);
		s->xattrs--;
		pthread_mutex_unlock(&s->lock);
		free(value);
		return -ENOMEM;
	}
	f->kind = kind;
	f->value = value;
	f->size = size;
	*out = f;
	return instead ? 0 : p9_fid_insert(s, f, NULL);
}

int p9_xattrwalk(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4), fresh = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	uint8_t *value = NULL;
	struct p9_fid *f = NULL;
	struct p9_use u;
	ssize_t n;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	n = get_value(r->s, u.fd, name, &value);
	rc = n < 0 ? n : insert_xattr(r->s, u.fid, NULL, fresh, FID_XATTR_READ, value, n, &f);
	if (f)
		p9_fid_put(r->s, f);
	p9_unuse(r->s, &u);
	p9_put(&r->out, 8, n);
	return rc;
}

/* The fid becomes one that gathers the value, which is set when it is clunked. */
static int start_xattr(struct p9 *s, struct p9_fid *old, const char *host, size_t size, int flags)
{
	uint8_t *value = malloc(size + 1);
	struct p9_fid *f = NULL;
	int rc;

	if (!value)
		return -ENOMEM;
	rc = insert_xattr(s, old, old, old->id, FID_XATTR_WRITE, value, size, &f);
	if (rc)
		return rc;
	f->xattr_flags = flags;
	f->xattr = strdup(host);
	rc = f->xattr ? p9_fid_insert(s, f, old) : -ENOMEM;
	p9_fid_put(s, f);
	return rc;
}

int p9_xattrcreate(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	const uint64_t size = p9_get(&r->in, 8);
	const uint32_t flags = p9_get(&r->in, 4);
	char host[XATTR_NAME_MAX + 1];
	struct p9_fid *f;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	if (r->s->readonly)
		return -EROFS;
	if (size > P9_XATTR_MAX)
		return -E2BIG;
	if (flags & ~(uint32_t)(XATTR_CREATE | XATTR_REPLACE))
		return -EINVAL;
	rc = p9_xattr_name(r->s, name, host);
	if (rc)
		return rc;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	rc = f->kind == FID_FILE && f->fd < 0 ? start_xattr(r->s, f, host, size, flags) : -EBADF;
	p9_fid_put(r->s, f);
	return rc;
}

/* An empty value that has to be there already is how clients ask for a removal. */
int p9_xattr_commit(struct p9 *s, struct p9_fid *f)
{
	const int fd = p9_node_pin(s, f->node);
	struct p9_proc_path p;
	int rc;

	if (fd < 0)
		return fd;
	p = p9_proc_path(fd);
	pthread_mutex_lock(&f->lock);
	if (f->filled != f->size)
		rc = -EINVAL;
	else if (!f->size && f->xattr_flags == XATTR_REPLACE)
		rc = removexattr(p.s, f->xattr) ? -errno : 0;
	else
		rc = setxattr(p.s, f->xattr, f->value, f->size, f->xattr_flags) ? -errno : 0;
	pthread_mutex_unlock(&f->lock);
	p9_node_unpin(s, f->node);
	return rc;
}
