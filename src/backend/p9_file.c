// SPDX-License-Identifier: Apache-2.0
/*
 * The 9P server's requests on open files: Tlopen, Tlcreate, Tread, Twrite, Treaddir, Tfsync,
 * Tlock, Tgetlock.
 *
 * Locks are the host's open-file-description locks, so they hold between VMs and against the
 * host's programs.  Between two fids of one client they hold too, also where the guest's process
 * is the same: programs that lock a file through two descriptors of theirs see a difference.
 * (QEMU's server grants every lock.)
 */
#include "backend/p9_priv.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define DIRENTS		32768U
#define OFLAGS_WRITE(flags) (((flags) & O_ACCMODE) != O_RDONLY || (flags) & O_TRUNC)

enum lock_status { GRANTED, BLOCKED, FAILED };
enum lock_type { READ_LOCK, WRITE_LOCK, NO_LOCK };

/* The protocol's numbers are those of Linux on x86. */
int p9_open_flags(uint32_t flags)
{
	return flags & (O_ACCMODE | O_TRUNC | O_APPEND | O_DSYNC | O_SYNC | O_DIRECTORY | O_EXCL);
}

int p9_reopen(int fd, int flags)
{
	const struct p9_proc_path p = p9_proc_path(fd);
	struct stat st;
	int opened;

	if (fstat(fd, &st))
		return -errno;
	if (S_ISLNK(st.st_mode))
		return -ELOOP;
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return -ENXIO;
	flags = (flags & ~O_EXCL) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
	/* A look from inside leaves no trace, where the host allows that. */
	opened = open(p.s, flags | O_NOATIME);
	if (opened < 0 && errno == EPERM)
		opened = open(p.s, flags);
	return opened < 0 ? -errno : opened;
}

/* Gives @f what was opened for it; takes @fd over. */
static int fid_opened(struct p9 *s, struct p9_fid *f, int fd)
{
	int rc = 0;

	pthread_mutex_lock(&f->lock);
	if (f->fd >= 0 || f->kind != FID_FILE)
		rc = -EBADF;
	else
		f->fd = fd;
	pthread_mutex_unlock(&f->lock);
	if (rc) {
		close(fd);
		p9_drop_open(s);
	}
	return rc;
}

static int open_fid(struct p9 *s, struct p9_use *u, int flags)
{
	int fd, rc;

	if (u->fid->fd >= 0)
		return -EBADF;
	rc = p9_take_open(s);
	if (rc)
		return rc;
	fd = p9_reopen(u->fd, flags);
	if (fd < 0) {
		p9_drop_open(s);
		return fd;
	}
	return fid_opened(s, u->fid, fd);
}

int p9_lopen(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const int flags = p9_open_flags(p9_get(&r->in, 4));
	struct p9_use u;
	struct p9_qid q;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	if (r->s->readonly && OFLAGS_WRITE(flags))
		return -EROFS;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	rc = p9_qid_of(r->s, u.fd, &q);
	if (!rc)
		rc = open_fid(r->s, &u, flags);
	p9_unuse(r->s, &u);
	p9_put_qid(&r->out, &q);
	p9_put(&r->out, 4, 0);
	return rc;
}

/* --- creating --- */

static int open_new(struct p9 *s, int dir, const char *name, int flags, const struct p9_owner *o)
{
	const int add = O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY;
	int fd, rc;

	rc = p9_creds_enter(s, o);
	if (rc)
		return rc;
	fd = openat(dir, name, (flags & ~O_DIRECTORY) | add, p9_host_mode(s, o->mode));
	rc = fd < 0 ? -errno : 0;
	p9_creds_leave(s);
	if (!rc && s->security == P9_MAPPED)
		rc = p9_owner_set(s, fd, o, OWNER_UID | OWNER_GID | OWNER_MODE);
	if (rc && fd >= 0) {
		unlinkat(dir, name, 0);
		close(fd);
	}
	return rc ? rc : fd;
}

/* Opens what is there already, as the client asked for no O_EXCL. */
static int open_old(int dir, const char *name, int flags)
{
	const int path = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int fd;

	if (path < 0)
		return -errno;
	fd = p9_reopen(path, flags);
	close(path);
	return fd;
}

/* The node of what was opened as @fd below @dir: still there under its name? */
static int node_of_new(struct p9 *s, struct p9_node *dir, const char *name, int fd,
		       struct p9_node **out)
{
	struct stat st;
	int rc = p9_node_walk(s, dir, name, out);

	if (rc)
		return rc;
	if (fstat(fd, &st) || st.st_ino != (*out)->ino || st.st_dev != (*out)->dev) {
		p9_node_put(s, *out);
		return -ESTALE;
	}
	return 0;
}

/* Fid @dir becomes the new file, open as @fd, which is taken over. */
static int become_file(struct p9 *s, struct p9_fid *dir, const char *name, int fd)
{
	struct p9_node *n;
	struct p9_fid *f;
	int rc;

	rc = node_of_new(s, dir->node, name, fd, &n);
	if (!rc) {
		f = p9_fid_create(s, dir->id, n, dir->uid);
		if (!f)
			rc = -ENOMEM;
	}
	if (rc) {
		close(fd);
		p9_drop_open(s);
		return rc;
	}
	f->fd = fd;
	rc = p9_fid_insert(s, f, dir);
	p9_fid_put(s, f);
	return rc;
}

static int create_file(struct p9 *s, struct p9_use *u, const char *name, int flags,
		       const struct p9_owner *o, struct p9_qid *q)
{
	int fd, rc;

	rc = p9_take_open(s);
	if (rc)
		return rc;
	fd = open_new(s, u->fd, name, flags, o);
	if (fd == -EEXIST && !(flags & O_EXCL))
		fd = open_old(u->fd, name, flags);
	rc = fd < 0 ? fd : p9_qid_of(s, fd, q);
	if (rc) {
		if (fd >= 0)
			close(fd);
		p9_drop_open(s);
		return rc;
	}
	return become_file(s, u->fid, name, fd);
}

int p9_lcreate(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	const int flags = p9_open_flags(p9_get(&r->in, 4));
	struct p9_owner o = { .mode = S_IFREG | (p9_get(&r->in, 4) & 07777) };
	struct p9_qid q = { 0 };
	struct p9_use u;
	int rc;

	o.gid = p9_get(&r->in, 4);
	if (r->in.bad)
		return -EPROTO;
	if (r->s->readonly)
		return -EROFS;
	rc = p9_name_check(name);
	if (!rc)
		rc = p9_use(r->s, &u, id);
	if (rc)
		return rc == -EINVAL ? -EEXIST : rc;
	o.uid = u.fid->uid;
	rc = u.fid->fd >= 0 ? -EBADF : create_file(r->s, &u, name, flags, &o, &q);
	p9_unuse(r->s, &u);
	p9_put_qid(&r->out, &q);
	p9_put(&r->out, 4, 0);
	return rc;
}

/* --- data --- */

static ssize_t read_value(struct p9_req *r, struct p9_fid *f, uint64_t off, size_t count)
{
	size_t n = 0;

	pthread_mutex_lock(&f->lock);
	if (off < f->size)
		n = p9_iov_write(r->in_iov, r->in_count, P9_HEADER + 4, f->value + off,
				 MIN(count, f->size - off));
	pthread_mutex_unlock(&f->lock);
	return n;
}

static ssize_t read_file(struct p9_req *r, int fd, uint64_t off, size_t count)
{
	struct iovec part[P9_IOV_MAX];
	const unsigned int n = p9_iov_slice(part, r->in_iov, r->in_count, P9_HEADER + 4, count);
	ssize_t done;

	if (!n)
		return 0;
	do {
		done = preadv(fd, part, n, off);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

int p9_read(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const uint64_t off = p9_get(&r->in, 8);
	size_t count = p9_get(&r->in, 4);
	struct p9_fid *f;
	ssize_t n = -EBADF;

	if (r->in.bad || r->reply_room < P9_HEADER + 4)
		return -EPROTO;
	count = MIN(count, r->reply_room - P9_HEADER - 4);
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	if (f->kind == FID_XATTR_READ)
		n = read_value(r, f, off, count);
	else if (f->fd >= 0)
		n = read_file(r, f->fd, off, count);
	p9_fid_put(r->s, f);
	if (n < 0)
		return n;
	p9_put(&r->out, 4, n);
	r->direct = n;
	return 0;
}

static ssize_t write_value(struct p9_req *r, struct p9_fid *f, uint64_t off, size_t count)
{
	ssize_t n = -ENOSPC;

	pthread_mutex_lock(&f->lock);
	if (off <= f->size && count <= f->size - off) {
		n = p9_iov_read(r->out_iov, r->out_count, P9_HEADER + 16, f->value + off, count);
		f->filled = MAX(f->filled, off + n);
	}
	pthread_mutex_unlock(&f->lock);
	return n;
}

static ssize_t write_file(struct p9_req *r, int fd, uint64_t off, size_t count)
{
	struct iovec part[P9_IOV_MAX];
	const unsigned int n = p9_iov_slice(part, r->out_iov, r->out_count, P9_HEADER + 16, count);
	ssize_t done;

	if (!n)
		return 0;
	do {
		done = pwritev(fd, part, n, off);
	} while (done < 0 && errno == EINTR);
	return done < 0 ? -errno : done;
}

int p9_write(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const uint64_t off = p9_get(&r->in, 8);
	const size_t count = p9_get(&r->in, 4);
	struct p9_fid *f;
	ssize_t n = -EBADF;

	if (r->in.bad || count > r->size - P9_HEADER - 16)
		return -EPROTO;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	if (f->kind == FID_XATTR_WRITE)
		n = write_value(r, f, off, count);
	else if (f->fd >= 0)
		n = write_file(r, f->fd, off, count);
	p9_fid_put(r->s, f);
	if (n < 0)
		return n;
	p9_put(&r->out, 4, n);
	return 0;
}

int p9_fsync(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const uint32_t data_only = p9_get(&r->in, 4);
	struct p9_fid *f;
	int rc = -EBADF;

	if (r->in.bad)
		return -EPROTO;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	if (f->fd >= 0)
		rc = (data_only ? fdatasync(f->fd) : fsync(f->fd)) ? -errno : 0;
	p9_fid_put(r->s, f);
	return rc;
}

/* --- directories --- */

/*
 * With mapped owners a regular file may stand for something else: the client looks for itself.
 * What lies above the root is not shown.
 */
static void put_entry(struct p9_req *r, struct p9_fid *f, const struct dirent64 *d)
{
	const bool above = !f->node->parent && !strcmp(d->d_name, "..");
	const bool known = r->s->security != P9_MAPPED || d->d_type == DT_DIR;
	struct p9_qid q = {
		.path = p9_qid_path(r->s, f->node->dev, above ? f->node->ino : d->d_ino),
		.type = d->d_type == DT_DIR ? 0x80 : known && d->d_type == DT_LNK ? 0x02 : 0,
	};

	p9_put_qid(&r->out, &q);
	p9_put(&r->out, 8, d->d_off);
	p9_put(&r->out, 1, known ? d->d_type : DT_UNKNOWN);
	p9_put_string(&r->out, d->d_name);
}

/* Returns the bytes put, at most @count; -EINVAL where not even one entry fits. */
static ssize_t put_entries(struct p9_req *r, struct p9_fid *f, uint64_t off, size_t count)
{
	const size_t start = r->out.at;
	char *buf = malloc(DIRENTS);
	ssize_t len = -ENOMEM, done = 0;

	if (!buf)
		return -ENOMEM;
	pthread_mutex_lock(&f->lock);
	if (lseek(f->fd, off, SEEK_SET) < 0 || (len = getdents64(f->fd, buf, DIRENTS)) < 0)
		len = -errno;
	pthread_mutex_unlock(&f->lock);
	for (ssize_t at = 0; at < len;) {
		const struct dirent64 *d = (const struct dirent64 *)(buf + at);

		if (r->out.at - start + 24 + strlen(d->d_name) > count) {
			done = at ? 0 : -EINVAL;
			break;
		}
		put_entry(r, f, d);
		at += d->d_reclen;
	}
	free(buf);
	if (len < 0)
		return len;
	return done ? done : (ssize_t)(r->out.at - start);
}

int p9_readdir(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const uint64_t off = p9_get(&r->in, 8);
	size_t count = p9_get(&r->in, 4);
	const size_t at = r->out.at;
	struct p9_fid *f;
	ssize_t n = -EBADF;

	if (r->in.bad || r->reply_room < P9_HEADER + 4)
		return -EPROTO;
	count = MIN(count, r->reply_room - P9_HEADER - 4);
	count = MIN(count, r->out.room - at - 4);
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	p9_put(&r->out, 4, 0);
	if (f->fd >= 0)
		n = put_entries(r, f, off, count);
	p9_fid_put(r->s, f);
	if (n < 0)
		return n;
	for (unsigned int i = 0; i < 4; i++)
		r->out.data[at + i] = (size_t)n >> (8 * i);
	return 0;
}

/* --- locks --- */

static int lock_fields(struct flock *l, unsigned int type, uint64_t start, uint64_t length)
{
	static const short types[] = {
		[READ_LOCK] = F_RDLCK, [WRITE_LOCK] = F_WRLCK, [NO_LOCK] = F_UNLCK,
	};

	if (type >= ARRAY_SIZE(types) || start > INT64_MAX || length > INT64_MAX)
		return -EINVAL;
	*l = (struct flock){
		.l_type = types[type], .l_whence = SEEK_SET, .l_start = start, .l_len = length,
	};
	return 0;
}

/* What the host cannot lock, such as for writing a file open for reading, is left to the guest. */
static unsigned int take_lock(struct p9 *s, int fd, struct flock *l)
{
	if (s->readonly || !fcntl(fd, F_OFD_SETLK, l) || errno == EBADF)
		return GRANTED;
	return errno == EAGAIN || errno == EACCES ? BLOCKED : FAILED;
}

int p9_lock(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const unsigned int type = p9_get(&r->in, 1);
	struct p9_fid *f;
	struct flock l;
	uint64_t start;
	int rc;

	p9_get(&r->in, 4);	/* to wait: the client asks again by itself */
	start = p9_get(&r->in, 8);
	rc = lock_fields(&l, type, start, p9_get(&r->in, 8));
	if (r->in.bad || rc)
		return r->in.bad ? -EPROTO : rc;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	rc = f->fd < 0 ? -EBADF : 0;
	if (!rc)
		p9_put(&r->out, 1, take_lock(r->s, f->fd, &l));
	p9_fid_put(r->s, f);
	return rc;
}

int p9_getlock(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const unsigned int type = p9_get(&r->in, 1);
	const uint64_t start = p9_get(&r->in, 8), length = p9_get(&r->in, 8);
	const uint32_t process = p9_get(&r->in, 4);
	const char *client = p9_get_string(&r->in);
	struct p9_fid *f;
	struct flock l;
	int rc;

	rc = lock_fields(&l, type, start, length);
	if (r->in.bad || rc)
		return r->in.bad ? -EPROTO : rc;
	f = p9_fid_get(r->s, id);
	if (!f)
		return -EBADF;
	rc = f->fd < 0 ? -EBADF : 0;
	if (!rc && (r->s->readonly || fcntl(f->fd, F_OFD_GETLK, &l)))
		l.l_type = F_UNLCK;
	p9_fid_put(r->s, f);
	if (rc)
		return rc;
	p9_put(&r->out, 1, l.l_type == F_UNLCK ? NO_LOCK :
			   l.l_type == F_WRLCK ? WRITE_LOCK : READ_LOCK);
	p9_put(&r->out, 8, l.l_type == F_UNLCK ? start : (uint64_t)l.l_start);
	p9_put(&r->out, 8, l.l_type == F_UNLCK ? length : (uint64_t)l.l_len);
	p9_put(&r->out, 4, process);
	p9_put_string(&r->out, client);
	return 0;
}
