// SPDX-License-Identifier: Apache-2.0
/*
 * The 9P server's requests on names: Tsymlink, Tmknod, Tmkdir, Tlink, Treadlink, Trename,
 * Trenameat, Tunlinkat, Tremove.
 */
#include "backend/p9_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* A directory of the client that is going to change, with a name in it. */
static int use_dir(struct p9_req *r, struct p9_use *u, uint32_t id, const char *name)
{
	int rc;

	if (r->in.bad)
		return -EPROTO;
	if (r->s->readonly)
		return -EROFS;
	rc = p9_name_check(name);
	return rc ? rc : p9_use(r->s, u, id);
}

/* The new file's owner where the host does not keep it, then its qid. */
static int finish_new(struct p9 *s, int dir, const char *name, const struct p9_owner *o,
		      unsigned int what, struct p9_qid *q)
{
	const int fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	int rc = fd < 0 ? -errno : 0;

	if (!rc && s->security == P9_MAPPED)
		rc = p9_owner_set(s, fd, o, what);
	if (!rc)
		rc = p9_qid_of(s, fd, q);
	if (fd >= 0)
		close(fd);
	if (rc)
		unlinkat(dir, name, S_ISDIR(o->mode) ? AT_REMOVEDIR : 0);
	return rc;
}

/* A regular file of the host that stands for something, with @text in it. */
static int make_stand_in(int dir, const char *name, mode_t mode, const char *text)
{
	const int fd = openat(dir, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, mode);
	const size_t len = strlen(text);
	ssize_t n;
	int rc = 0;

	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n != (ssize_t)len)
		rc = n < 0 ? -errno : -ENOSPC;
	close(fd);
	if (rc)
		unlinkat(dir, name, 0);
	return rc;
}

/* --- making --- */

struct making {
	uint32_t dir;
	const char *name;
	const char *target;	/* of a symbolic link */
	struct p9_owner owner;	/* its type says what is made */
};

static int make_on_host(struct p9 *s, int dir, const struct making *m)
{
	const mode_t type = m->owner.mode & S_IFMT, mode = p9_host_mode(s, m->owner.mode);
	int rc;

	if (type == S_IFDIR)
		rc = mkdirat(dir, m->name, mode);
	else if (s->security == P9_MAPPED)
		return make_stand_in(dir, m->name, mode, m->target ? m->target : "");
	else if (type == S_IFLNK)
		rc = symlinkat(m->target, dir, m->name);
	else if (s->security == P9_NONE && (type == S_IFCHR || type == S_IFBLK))
		return -EPERM;
	else
		rc = mknodat(dir, m->name, type | mode, m->owner.rdev);
	return rc ? -errno : 0;
}

static int make(struct p9_req *r, struct making *m)
{
	unsigned int what = OWNER_UID | OWNER_GID | OWNER_MODE;
	struct p9_qid q = { 0 };
	struct p9_use u;
	int rc;

	rc = use_dir(r, &u, m->dir, m->name);
	if (rc)
		return rc == -EINVAL ? -EEXIST : rc;
	if (S_ISCHR(m->owner.mode) || S_ISBLK(m->owner.mode))
		what |= OWNER_RDEV;
	m->owner.uid = u.fid->uid;
	rc = p9_creds_enter(r->s, &m->owner);
	if (!rc) {
		rc = make_on_host(r->s, u.fd, m);
		p9_creds_leave(r->s);
	}
	if (!rc)
		rc = finish_new(r->s, u.fd, m->name, &m->owner, what, &q);
	p9_unuse(r->s, &u);
	p9_put_qid(&r->out, &q);
	return rc;
}

int p9_symlink(struct p9_req *r)
{
	struct making m = { .dir = p9_get(&r->in, 4), .owner.mode = S_IFLNK | 0777 };

	m.name = p9_get_string(&r->in);
	m.target = p9_get_string(&r->in);
	m.owner.gid = p9_get(&r->in, 4);
	if (strlen(m.target) >= PATH_MAX)
		return -ENAMETOOLONG;
	return *m.target ? make(r, &m) : -ENOENT;
}

int p9_mknod(struct p9_req *r)
{
	struct making m = { .dir = p9_get(&r->in, 4) };
	uint32_t major;

	m.name = p9_get_string(&r->in);
	m.owner.mode = p9_get(&r->in, 4);
	major = p9_get(&r->in, 4);
	m.owner.rdev = makedev(major, (uint32_t)p9_get(&r->in, 4));
	m.owner.gid = p9_get(&r->in, 4);
	switch (m.owner.mode & S_IFMT) {
	case 0:
		m.owner.mode |= S_IFREG;
		break;
	case S_IFREG: case S_IFIFO: case S_IFSOCK: case S_IFCHR: case S_IFBLK:
		break;
	default:
		return -EINVAL;
	}
	m.owner.mode &= S_IFMT | 07777;
	return make(r, &m);
}

int p9_mkdir(struct p9_req *r)
{
	struct making m = { .dir = p9_get(&r->in, 4) };

	m.name = p9_get_string(&r->in);
	m.owner.mode = S_IFDIR | (p9_get(&r->in, 4) & 07777);
	m.owner.gid = p9_get(&r->in, 4);
	return make(r, &m);
}

/* Through the descriptor's name in /proc: the inode itself, whatever it is called by now. */
int p9_link(struct p9_req *r)
{
	const uint32_t dir_id = p9_get(&r->in, 4), id = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	struct p9_use dir, u;
	int rc;

	rc = use_dir(r, &dir, dir_id, name);
	if (rc)
		return rc == -EINVAL ? -EEXIST : rc;
	rc = p9_use(r->s, &u, id);
	if (!rc) {
		if (linkat(AT_FDCWD, p9_proc_path(u.fd).s, dir.fd, name, AT_SYMLINK_FOLLOW))
			rc = -errno;
		p9_unuse(r->s, &u);
	}
	p9_unuse(r->s, &dir);
	return rc;
}

/* --- looking --- */

static ssize_t read_stand_in(int fd, char *text, size_t room)
{
	const int opened = p9_reopen(fd, O_RDONLY);
	ssize_t n;

	if (opened < 0)
		return opened;
	n = pread(opened, text, room, 0);
	if (n < 0)
		n = -errno;
	close(opened);
	return n;
}

int p9_readlink(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	char text[PATH_MAX];
	struct p9_use u;
	struct stat st;
	ssize_t n;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	rc = p9_use(r->s, &u, id);
	if (rc)
		return rc;
	n = p9_stat(r->s, u.fd, &st);
	if (!n && !S_ISLNK(st.st_mode))
		n = -EINVAL;
	if (!n) {
		n = readlinkat(u.fd, "", text, sizeof(text) - 1);
		if (n < 0)	/* ENOENT: not a link on the host */
			n = r->s->security == P9_MAPPED ?
			    read_stand_in(u.fd, text, sizeof(text) - 1) : -errno;
	}
	p9_unuse(r->s, &u);
	if (n < 0)
		return n;
	text[n] = '\0';
	p9_put_string(&r->out, text);
	return 0;
}

/* --- moving and removing --- */

static int move(struct p9 *s, struct p9_node *from, const char *name, struct p9_node *to,
		const char *fresh)
{
	int a, b, rc = 0;

	a = p9_node_pin(s, from);
	if (a < 0)
		return a;
	b = p9_node_pin(s, to);
	if (b >= 0) {
		if (renameat(a, name, b, fresh))
			rc = -errno;
		p9_node_unpin(s, to);
	}
	p9_node_unpin(s, from);
	if (b < 0)
		return b;
	if (!rc)
		p9_node_moved(s, from, name, to, fresh);
	return rc;
}

int p9_renameat(struct p9_req *r)
{
	const uint32_t from = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	const uint32_t to = p9_get(&r->in, 4);
	const char *fresh = p9_get_string(&r->in);
	struct p9_use a, b;
	int rc;

	rc = use_dir(r, &a, from, name);
	if (rc)
		return rc;
	rc = use_dir(r, &b, to, fresh);
	if (!rc) {
		rc = move(r->s, a.fid->node, name, b.fid->node, fresh);
		p9_unuse(r->s, &b);
	}
	p9_unuse(r->s, &a);
	return rc;
}

/* Is @name in @dir still what @n is? */
static int still_there(struct p9 *s, struct p9_node *dir, const char *name,
		       const struct p9_node *n, struct stat *st)
{
	const int fd = p9_node_pin(s, dir);
	int rc = 0;

	if (fd < 0)
		return fd;
	if (fstatat(fd, name, st, AT_SYMLINK_NOFOLLOW))
		rc = -errno;
	else if (st->st_ino != n->ino || st->st_dev != n->dev)
		rc = -ESTALE;
	p9_node_unpin(s, dir);
	return rc;
}

int p9_rename(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4), to = p9_get(&r->in, 4);
	const char *fresh = p9_get_string(&r->in);
	char name[NAME_MAX + 1];
	struct p9_node *dir;
	struct p9_fid *f;
	struct p9_use u;
	struct stat st;
	int rc;

	rc = use_dir(r, &u, to, fresh);
	if (rc)
		return rc;
	f = p9_fid_get(r->s, id);
	dir = f ? p9_node_place(r->s, f->node, name) : NULL;
	if (!dir) {
		rc = f ? -EBUSY : -EBADF;
	} else {
		rc = still_there(r->s, dir, name, f->node, &st);
		if (!rc)
			rc = move(r->s, dir, name, u.fid->node, fresh);
		p9_node_put(r->s, dir);
	}
	if (f)
		p9_fid_put(r->s, f);
	p9_unuse(r->s, &u);
	return rc;
}

int p9_unlinkat(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	const char *name = p9_get_string(&r->in);
	const uint32_t flags = p9_get(&r->in, 4);
	struct p9_use u;
	int rc;

	if (flags & ~(uint32_t)AT_REMOVEDIR)
		return -EINVAL;
	rc = use_dir(r, &u, id, name);
	if (rc)
		return rc;
	rc = unlinkat(u.fd, name, flags) ? -errno : 0;
	p9_unuse(r->s, &u);
	return rc;
}

static int remove_node(struct p9 *s, struct p9_node *n)
{
	char name[NAME_MAX + 1];
	struct p9_node *dir = p9_node_place(s, n, name);
	struct stat st;
	int fd, rc;

	if (!dir)
		return -EBUSY;
	rc = still_there(s, dir, name, n, &st);
	fd = rc ? rc : p9_node_pin(s, dir);
	if (fd >= 0) {
		rc = unlinkat(fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0) ? -errno : 0;
		p9_node_unpin(s, dir);
	}
	p9_node_put(s, dir);
	return fd < 0 ? fd : rc;
}

/* The fid is gone afterwards, whatever the answer. */
int p9_remove(struct p9_req *r)
{
	const uint32_t id = p9_get(&r->in, 4);
	struct p9_fid *f;
	int rc;

	if (r->in.bad)
		return -EPROTO;
	f = p9_fid_remove(r->s, id);
	if (!f)
		return -EBADF;
	rc = r->s->readonly ? -EROFS : remove_node(r->s, f->node);
	p9_fid_put(r->s, f);
	return rc;
}
