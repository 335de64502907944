// SPDX-License-Identifier: Apache-2.0
/*
 * Image locks; see lock.h.  Byte 100 + n is locked by who uses permission n, byte 200 + n by who
 * does not want others to use it.  All locks are shared ones: each asks whether the others'
 * bytes are locked, after having locked its own, so that of two who come at the same time at
 * least one notices.
 */
#include "backend/lock.h"
#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PERM_READ = 0, PERM_WRITE = 1, PERM_RESIZE = 3 };

#define USED		100
#define NOT_SHARED	200

static int lock_byte(int fd, int command, short type, off_t byte, struct flock *l)
{
	*l = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };
	return fcntl(fd, command, l) ? -errno : 0;
}

/* Is @byte locked through another open file description? */
static int byte_taken(int fd, off_t byte, bool *taken)
{
	struct flock l;
	const int rc = lock_byte(fd, F_OFD_GETLK, F_WRLCK, byte, &l);

	*taken |= !rc && l.l_type != F_UNLCK;
	return rc;
}

int image_lock(int fd, const char *path, bool write, struct err *e)
{
	static const int used[] = { PERM_READ, PERM_WRITE, PERM_RESIZE };
	const unsigned int count = write ? ARRAY_SIZE(used) : 1;
	bool taken = false;
	struct flock l;
	int rc = 0;

	for (unsigned int i = 0; i < count && !rc; i++)
		rc = lock_byte(fd, F_OFD_SETLK, F_RDLCK, USED + used[i], &l);
	for (unsigned int i = 1; i < ARRAY_SIZE(used) && !rc; i++)
		rc = lock_byte(fd, F_OFD_SETLK, F_RDLCK, NOT_SHARED + used[i], &l);
	for (unsigned int i = 0; i < count && !rc; i++)
		rc = byte_taken(fd, NOT_SHARED + used[i], &taken);
	for (unsigned int i = 1; i < ARRAY_SIZE(used) && !rc; i++)
		rc = byte_taken(fd, USED + used[i], &taken);
	if (taken || rc == -EAGAIN || rc == -EACCES)
		return err_set(e, EBUSY, "disk '%s' is in use by another VM or program%s", path,
			       write ? "" : ", which writes to it");
	if (rc)
		return err_errno(e, -rc, "cannot lock disk '%s'", path);
	return 0;
}
