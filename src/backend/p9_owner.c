// SPDX-License-Identifier: Apache-2.0
/*
 * Who owns a file in the eyes of a 9P client: the three security models.
 *
 * The attributes user.virtfs.uid, .gid, .mode (32 bits) and .rdev (64 bits), little-endian, are
 * those of QEMU's security_model=mapped-xattr, so a directory can go from one to the other.
 * There, symbolic links, device nodes, FIFOs and sockets are regular files on the host.
 */
#include "backend/p9_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAPPED_PREFIX	"user.virtfs."
#define ACL_PREFIX	"system.posix_acl_"
#define MAPPED_FILE	0600
#define MAPPED_DIR	0700

struct p9_proc_path p9_proc_path(int fd)
{
	struct p9_proc_path p;

	snprintf(p.s, sizeof(p.s), "/proc/self/fd/%d", fd);
	return p;
}

int p9_owner_probe(struct p9 *s, int fd, struct err *e)
{
	uint32_t uid;

	if (s->security == P9_PASSTHROUGH && s->euid)
		return err_set(e, EPERM, "security=passthrough gives files away to the guest's users, "
			       "which only root can: use security=mapped-xattr or none for %s", s->path);
	if (s->security != P9_MAPPED)
		return 0;
	if (getxattr(p9_proc_path(fd).s, MAPPED_PREFIX "uid", &uid, sizeof(uid)) < 0 &&
	    errno == EOPNOTSUPP)
		return err_set(e, EOPNOTSUPP, "the file system of %s keeps no user attributes, which "
			       "security=mapped-xattr needs: use security=none", s->path);
	return 0;
}

/* --- looking --- */

static bool get_number(const char *path, const char *name, unsigned int bytes, uint64_t *value)
{
	uint8_t b[8];

	if (getxattr(path, name, b, sizeof(b)) != (ssize_t)bytes)
		return false;
	*value = 0;
	for (unsigned int i = 0; i < bytes; i++)
		*value |= (uint64_t)b[i] << (8 * i);
	return true;
}

/* A regular file may stand for anything but a directory. */
static bool type_fits(mode_t host, mode_t mapped)
{
	switch (mapped & S_IFMT) {
	case S_IFREG: case S_IFLNK: case S_IFCHR: case S_IFBLK: case S_IFIFO: case S_IFSOCK:
		return S_ISREG(host);
	default:
		return false;
	}
}

static void apply_mapped(int fd, struct stat *st)
{
	const struct p9_proc_path p = p9_proc_path(fd);
	uint64_t v;

	if (!S_ISREG(st->st_mode) && !S_ISDIR(st->st_mode))
		return;
	if (get_number(p.s, MAPPED_PREFIX "uid", 4, &v))
		st->st_uid = v;
	if (get_number(p.s, MAPPED_PREFIX "gid", 4, &v))
		st->st_gid = v;
	if (!get_number(p.s, MAPPED_PREFIX "mode", 4, &v))
		return;
	st->st_mode = (type_fits(st->st_mode, v) ? v & S_IFMT : st->st_mode & S_IFMT) | (v & 07777);
	if ((S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode)) &&
	    get_number(p.s, MAPPED_PREFIX "rdev", 8, &v))
		st->st_rdev = v;
}

int p9_stat(struct p9 *s, int fd, struct stat *st)
{
	if (fstat(fd, st))
		return -errno;
	if (s->security == P9_MAPPED)
		apply_mapped(fd, st);
	return 0;
}

/* Inodes of other file systems below the directory are kept apart by the upper bits. */
uint64_t p9_qid_path(struct p9 *s, dev_t dev, ino_t ino)
{
	if (dev == s->root->dev)
		return ino;
	return ino ^ (dev * 0x9e3779b97f4a7c15ULL | BIT(63));
}

struct p9_qid p9_qid(struct p9 *s, const struct stat *st)
{
	struct p9_qid q = { .path = p9_qid_path(s, st->st_dev, st->st_ino) };

	q.version = st->st_mtim.tv_sec ^ st->st_mtim.tv_nsec ^ (uint32_t)st->st_size << 8;
	if (S_ISDIR(st->st_mode))
		q.type = 0x80;
	else if (S_ISLNK(st->st_mode))
		q.type = 0x02;
	return q;
}

int p9_qid_of(struct p9 *s, int fd, struct p9_qid *q)
{
	struct stat st;
	int rc = p9_stat(s, fd, &st);

	if (!rc)
		*q = p9_qid(s, &st);
	return rc;
}

/* --- changing --- */

static int set_number(const char *path, const char *name, unsigned int bytes, uint64_t value)
{
	uint8_t b[8];

	for (unsigned int i = 0; i < bytes; i++)
		b[i] = value >> (8 * i);
	return setxattr(path, name, b, bytes, 0) ? -errno : 0;
}

static int set_mapped(int fd, const struct p9_owner *o, unsigned int what)
{
	const struct p9_proc_path p = p9_proc_path(fd);
	int rc = 0;

	if (what & OWNER_UID)
		rc = set_number(p.s, MAPPED_PREFIX "uid", 4, o->uid);
	if (!rc && what & OWNER_GID)
		rc = set_number(p.s, MAPPED_PREFIX "gid", 4, o->gid);
	if (!rc && what & OWNER_MODE)
		rc = set_number(p.s, MAPPED_PREFIX "mode", 4, o->mode);
	if (!rc && what & OWNER_RDEV)
		rc = set_number(p.s, MAPPED_PREFIX "rdev", 8, o->rdev);
	return rc;
}

mode_t p9_host_mode(struct p9 *s, mode_t mode)
{
	if (s->security == P9_MAPPED)
		return S_ISDIR(mode) ? MAPPED_DIR : MAPPED_FILE;
	if (s->security == P9_NONE && !S_ISDIR(mode))
		mode &= ~(S_ISUID | S_ISGID);
	return mode & 07777;
}

int p9_owner_set(struct p9 *s, int fd, const struct p9_owner *o, unsigned int what)
{
	const uid_t uid = what & OWNER_UID ? o->uid : (uid_t)-1;
	const gid_t gid = what & OWNER_GID ? o->gid : (gid_t)-1;

	if (s->security == P9_MAPPED)
		return set_mapped(fd, o, what);
	if (what & (OWNER_UID | OWNER_GID) && fchownat(fd, "", uid, gid, AT_EMPTY_PATH) &&
	    !(s->security == P9_NONE && errno == EPERM))
		return -errno;
	if (what & OWNER_MODE && chmod(p9_proc_path(fd).s, p9_host_mode(s, o->mode)))
		return -errno;
	return 0;
}

/*
 * Of this thread alone.  The kernel takes root's file capabilities away with the id, so the
 * host's permissions hold for the guest's user too.
 */
int p9_creds_enter(struct p9 *s, const struct p9_owner *o)
{
	if (s->security == P9_MAPPED)
		return 0;
	setfsgid(o->gid);
	setfsuid(o->uid);
	if (s->security == P9_PASSTHROUGH &&
	    (setfsuid(-1) != (int)o->uid || setfsgid(-1) != (int)o->gid)) {
		p9_creds_leave(s);
		return -EPERM;
	}
	return 0;
}

void p9_creds_leave(struct p9 *s)
{
	if (s->security == P9_MAPPED)
		return;
	setfsuid(s->euid);
	setfsgid(s->egid);
}

/* --- names of attributes --- */

int p9_xattr_name(struct p9 *s, const char *name, char host[XATTR_NAME_MAX + 1])
{
	const bool acl = !strncmp(name, ACL_PREFIX, strlen(ACL_PREFIX));
	const bool user = !strncmp(name, "user.", 5) &&
			  strncmp(name, MAPPED_PREFIX, strlen(MAPPED_PREFIX)) != 0;
	const char *prefix = acl && s->security == P9_MAPPED ? MAPPED_PREFIX : "";

	if (!user && !acl && s->security != P9_PASSTHROUGH)
		return -EOPNOTSUPP;
	if (strlen(prefix) + strlen(name) > XATTR_NAME_MAX)
		return -ERANGE;
	strcpy(host, prefix);
	strcat(host, name);
	return 0;
}

const char *p9_xattr_shown(struct p9 *s, const char *host)
{
	const bool mapped = !strncmp(host, MAPPED_PREFIX, strlen(MAPPED_PREFIX));
	const char *rest = host + strlen(MAPPED_PREFIX);

	if (s->security == P9_PASSTHROUGH)
		return host;
	if (mapped)
		return s->security == P9_MAPPED && !strncmp(rest, ACL_PREFIX, strlen(ACL_PREFIX)) ?
		       rest : NULL;
	if (s->security == P9_NONE && !strncmp(host, ACL_PREFIX, strlen(ACL_PREFIX)))
		return host;
	return strncmp(host, "user.", 5) ? NULL : host;
}
