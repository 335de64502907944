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

#define READ		BIT(0)
#define WRITE		BIT(1)
#define RESIZE		BIT(3)
#define PERMISSIONS	4U

#define USED		100
#define NOT_SHARED	200
/* Parts are locked this far behind where they are, away from the bytes above. */
#define PARTS		(1ULL << 62)

/* What each mode uses, and what it does not want others to use. */
static const struct {
	unsigned int used, refused;
} modes[] = {
	[LOCK_READ] = { READ, WRITE | RESIZE },
	[LOCK_WRITE] = { READ | WRITE | RESIZE, WRITE | RESIZE },
	[LOCK_PART_READ] = { READ, RESIZE },
	[LOCK_PART_WRITE] = { READ | WRITE, RESIZE },
};

static int lock_range(int fd, int command, short type, uint64_t start, uint64_t len,
		      struct flock *l)
{
	*l = (struct flock){ .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = len };
	return fcntl(fd, command, l) ? -errno : 0;
}

/* Locks @base + n for each permission n of @bits. */
static int lock_bytes(int fd, off_t base, unsigned int bits)
{
	struct flock l;
	int rc = 0;

	for (unsigned int n = 0; n < PERMISSIONS && !rc; n++)
		if (bits & BIT(n))
			rc = lock_range(fd, F_OFD_SETLK, F_RDLCK, base + n, 1, &l);
	return rc;
}

/* Is one of the bytes locked through another open file description? */
static int bytes_taken(int fd, off_t base, unsigned int bits, bool *taken)
{
	struct flock l;
	int rc = 0;

	for (unsigned int n = 0; n < PERMISSIONS && !rc; n++) {
		if (!(bits & BIT(n)))
			continue;
		rc = lock_range(fd, F_OFD_GETLK, F_WRLCK, base + n, 1, &l);
		*taken |= !rc && l.l_type != F_UNLCK;
	}
	return rc;
}

int image_lock(int fd, const char *path, enum lock_mode mode, struct err *e)
{
	const unsigned int used = modes[mode].used, refused = modes[mode].refused;
	bool taken = false;
	int rc;

	rc = lock_bytes(fd, USED, used);
	if (!rc)
		rc = lock_bytes(fd, NOT_SHARED, refused);
	if (!rc)
		rc = bytes_taken(fd, NOT_SHARED, used, &taken);
	if (!rc)
		rc = bytes_taken(fd, USED, refused, &taken);
	if (taken || rc == -EAGAIN || rc == -EACCES)
		return err_set(e, EBUSY, "disk '%s' is in use by another VM or program%s", path,
			       used & WRITE ? "" : ", which writes to it");
	if (rc)
		return err_errno(e, -rc, "cannot lock disk '%s'", path);
	return 0;
}

int image_lock_part(int fd, const char *path, uint64_t offset, uint64_t size, bool write,
		    struct err *e)
{
	struct flock l;
	int rc;

	if (offset >= PARTS - 1 || size > PARTS - 1 - offset)
		return err_set(e, EFBIG, "disk '%s' is too large", path);
	rc = lock_range(fd, F_OFD_SETLK, write ? F_WRLCK : F_RDLCK, PARTS + offset, size, &l);
	if (rc == -EAGAIN || rc == -EACCES)
		return err_set(e, EBUSY, "that part of disk '%s' is in use by another VM", path);
	return rc ? err_errno(e, -rc, "cannot lock disk '%s'", path) : 0;
}
