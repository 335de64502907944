// SPDX-License-Identifier: Apache-2.0
/* Named Unix sockets; see named_socket.h. */
#include "base/named_socket.h"
#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define BACKLOG	16

/* A folder that others may write to could have another's socket in it. */
static int check_folder(const char *path, struct err *e)
{
	struct stat st;

	if (mkdir(path, 0700) && errno != EEXIST)
		return err_errno(e, errno, "could not make the folder '%s' for sockets", path);
	if (lstat(path, &st) || !S_ISDIR(st.st_mode))
		return err_set(e, ENOTDIR, "'%s' is no folder; sockets belong there", path);
	if (st.st_uid != geteuid() || st.st_mode & 022)
		return err_set(e, EPERM, "the folder '%s' is not yours alone to write: chmod 700 it",
			       path);
	return 0;
}

int named_socket_address(struct sockaddr_un *a, const char *before, const char *name,
			 const char *after, struct err *e)
{
	const char *run = getenv("XDG_RUNTIME_DIR"), *home = getenv("HOME");
	char folder[512];
	int rc, n;

	if (run && run[0] == '/') {
		snprintf(folder, sizeof(folder), "%s/vireo", run);
	} else if (home && home[0] == '/') {
		/* The folders above are the user's to have made; most have. */
		snprintf(folder, sizeof(folder), "%s/.local", home);
		mkdir(folder, 0700);
		snprintf(folder, sizeof(folder), "%s/.local/share", home);
		mkdir(folder, 0700);
		snprintf(folder, sizeof(folder), "%s/.local/share/vireo", home);
	} else {
		return err_set(e, ENOENT, "neither XDG_RUNTIME_DIR nor HOME says where sockets belong");
	}
	rc = check_folder(folder, e);
	if (rc)
		return rc;
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	n = snprintf(a->sun_path, sizeof(a->sun_path), "%s/%s%s%s", folder, before, name, after);
	if (n >= (int)sizeof(a->sun_path))
		return err_set(e, ENAMETOOLONG, "the path '%s/%s%s%s' is too long for a socket: set "
			       "XDG_RUNTIME_DIR to a shorter one", folder, before, name, after);
	return 0;
}

/* Is @fd what lies at @path, and not one that was removed by who had it before? */
static bool is_at(int fd, const char *path)
{
	struct stat open_file, there;

	return !fstat(fd, &open_file) && !lstat(path, &there) && open_file.st_ino == there.st_ino &&
	       open_file.st_dev == there.st_dev;
}

static int take_lock(struct named_socket *s, const char *name, struct err *e)
{
	int rc = named_socket_address(&s->lock_path, "", name, ".lock", e);
	const char *path = s->lock_path.sun_path;

	while (!rc) {
		s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (s->lock < 0)
			return err_errno(e, errno, "could not open '%s'", path);
		if (flock(s->lock, LOCK_EX | LOCK_NB))
			return err_set(e, EBUSY, "the name '%s' is taken by a running VM ('%s' is locked)", name,
				       path);
		if (is_at(s->lock, path))
			return 0;
		close(s->lock);
		s->lock = -1;
	}
	return rc;
}

int named_socket_listen(struct named_socket *s, const char *name, struct err *e)
{
	mode_t mask;
	int rc;

	*s = (struct named_socket){ .fd = -1, .lock = -1 };
	rc = named_socket_address(&s->address, "", name, ".sock", e);
	if (!rc)
		rc = take_lock(s, name, e);
	mask = umask(0177);	/* the folder, made by now, is another matter */
	if (!rc) {
		/* The lock is ours: whoever made it is dead. */
		unlink(s->address.sun_path);
		s->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&s->address, sizeof(s->address)) ||
		    listen(s->fd, BACKLOG))
			rc = err_errno(e, errno, "could not listen at '%s'", s->address.sun_path);
	}
	umask(mask);
	if (rc)
		named_socket_close(s);
	return rc;
}

void named_socket_close(struct named_socket *s)
{
	const bool locked = s->fd >= 0;	/* by us: else another has it */

	if (s->fd >= 0) {
		unlink(s->address.sun_path);
		close(s->fd);
	}
	/* It goes while it is locked, so that who has opened it already notices (is_at()). */
	if (s->lock >= 0 && locked)
		unlink(s->lock_path.sun_path);
	if (s->lock >= 0)
		close(s->lock);
	s->fd = s->lock = -1;
}

int named_socket_connect(const char *name, struct err *e)
{
	struct sockaddr_un a;
	int fd, rc;

	rc = named_socket_address(&a, "", name, ".sock", e);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket");
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	rc = errno == ENOENT || errno == ECONNREFUSED ?
	     err_set(e, ENOENT, "no VM with the name '%s' runs here: start one with vireo run --name %s",
		     name, name) :
	     err_errno(e, errno, "could not connect to '%s'", a.sun_path);
	close(fd);
	return rc;
}

void named_socket_limit(int fd, const struct timeval *limit)
{
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit, sizeof(*limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit, sizeof(*limit));
}
