// SPDX-License-Identifier: Apache-2.0
/*
 * Raw images: a regular file or a block device, byte for byte.  Also what other formats are
 * stored in.
 *
 * Reads beyond the file's end give zeroes, so a file whose length is no multiple of 512 has a
 * last sector that is filled up with zeroes.
 *
 * After fdatasync() failed once with EIO the kernel may have forgotten which pages it could not
 * write, and the next call would report success; such an image fails every flush from then on.
 */
#include "backend/image.h"
#include "backend/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define RAW_IOV		64U
#define ZERO_CHUNK	(64U << 10)
#define HEAD_BYTES	4U		/* that tell the format */

struct raw {
	struct image img;
	int fd;
	bool device;		/* a block device: its size is fixed */
	bool guard;		/* was taken for raw by its head, which must stay so */
	bool fleeting;		/* nobody reads it after this process */
	_Atomic bool sync_failed;
};

static struct raw *raw_of(struct image *img)
{
	return container_of(img, struct raw, img);
}

static int raw_read(struct image *img, uint64_t off, const struct span *s)
{
	struct raw *r = raw_of(img);
	struct span left = *s;
	struct iovec v[RAW_IOV];
	unsigned int n;
	size_t bytes;
	ssize_t got;

	while ((n = span_iov(&left, v, RAW_IOV, &bytes))) {
		got = preadv(r->fd, v, n, off);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got) {
			span_zero(&left);
			break;
		}
		span_skip(&left, got);
		off += got;
	}
	return 0;
}

/* Would this write make the image look like a qcow2 image? */
static bool head_forged(struct image *img, uint64_t off, const struct span *s)
{
	uint8_t head[HEAD_BYTES];
	const struct iovec v = { head, sizeof(head) };
	const struct span old = span_of(&v, 1, sizeof(head));
	struct span part;

	if (off >= sizeof(head) || raw_read(img, 0, &old))
		return false;
	part = span_part(s, 0, MIN(s->len, sizeof(head) - off));
	span_copy_out(&part, head + off);
	return !memcmp(head, "QFI\xfb", 4);
}

static int raw_write(struct image *img, uint64_t off, const struct span *s)
{
	struct raw *r = raw_of(img);
	struct span left = *s;
	struct iovec v[RAW_IOV];
	unsigned int n;
	size_t bytes;
	ssize_t put;

	if (r->guard && head_forged(img, off, s))
		return -EPERM;
	while ((n = span_iov(&left, v, RAW_IOV, &bytes))) {
		put = pwritev(r->fd, v, n, off);
		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put ? -errno : -EIO;
		span_skip(&left, put);
		off += put;
	}
	return 0;
}

static int raw_write_zeroes(struct image *img, uint64_t off, uint64_t len)
{
	static const uint8_t zeroes[ZERO_CHUNK];
	int rc = 0;

	while (len && !rc) {
		const struct iovec v = { (void *)zeroes, MIN(len, ZERO_CHUNK) };
		const struct span s = span_of(&v, 1, v.iov_len);

		rc = raw_write(img, off, &s);
		off += s.len;
		len -= s.len;
	}
	return rc;
}

static int raw_fallocate(struct raw *r, int mode, uint64_t off, uint64_t len)
{
	int rc;

	do
		rc = fallocate(r->fd, mode | FALLOC_FL_KEEP_SIZE, off, len);
	while (rc && errno == EINTR);
	return rc ? -errno : 0;
}

/* What a file system says when it has no such operation. */
static bool unsupported(int rc)
{
	return rc == -EOPNOTSUPP || rc == -ENOSYS || rc == -ENODEV || rc == -EINVAL;
}

static int raw_zero(struct image *img, uint64_t off, uint64_t len, bool unmap)
{
	struct raw *r = raw_of(img);
	int rc = -EOPNOTSUPP;

	if (unmap)
		rc = raw_fallocate(r, FALLOC_FL_PUNCH_HOLE, off, len);
	if (unsupported(rc))
		rc = raw_fallocate(r, FALLOC_FL_ZERO_RANGE, off, len);
	return unsupported(rc) ? raw_write_zeroes(img, off, len) : rc;
}

static int raw_discard(struct image *img, uint64_t off, uint64_t len)
{
	const int rc = raw_fallocate(raw_of(img), FALLOC_FL_PUNCH_HOLE, off, len);

	return unsupported(rc) ? 0 : rc;
}

static int raw_flush(struct image *img)
{
	struct raw *r = raw_of(img);
	int rc;

	if (r->fleeting)
		return 0;
	if (r->sync_failed)
		return -EIO;
	do
		rc = fdatasync(r->fd);
	while (rc && errno == EINTR);
	if (!rc)
		return 0;
	rc = -errno;
	if (rc == -EIO)
		r->sync_failed = true;
	return rc;
}

static int raw_resize(struct image *img, uint64_t size, struct err *e)
{
	struct raw *r = raw_of(img);

	if (r->device)
		return err_set(e, ENOTSUP, "'%s' is a device and has the size that it has", img->path);
	if (ftruncate(r->fd, size))
		return err_errno(e, errno, "cannot give '%s' %llu bytes", img->path,
				 (unsigned long long)size);
	img->size = size;
	return 0;
}

static int raw_map(struct image *img, uint64_t off, uint64_t len, struct image_extent *x)
{
	struct raw *r = raw_of(img);
	off_t data = lseek(r->fd, off, SEEK_DATA), hole;

	if (r->device || (data < 0 && errno != ENXIO))
		return 0;	/* cannot be told: all data */
	if (data < 0 || (uint64_t)data > off) {
		x->zero = true;
		if (data > 0)
			x->len = MIN(len, (uint64_t)data - off);
		return 0;
	}
	hole = lseek(r->fd, off, SEEK_HOLE);
	if (hole > 0 && (uint64_t)hole > off)
		x->len = MIN(len, (uint64_t)hole - off);
	return 0;
}

static int raw_close(struct image *img)
{
	struct raw *r = raw_of(img);
	const int rc = img->read_only ? 0 : raw_flush(img);

	close(r->fd);
	free(img->path);
	free(r);
	return rc;
}

static const struct image_ops raw_ops = {
	.format = "raw",
	.read = raw_read,
	.write = raw_write,
	.zero = raw_zero,
	.discard = raw_discard,
	.flush = raw_flush,
	.resize = raw_resize,
	.map = raw_map,
	.close = raw_close,
};

/* Takes @fd over if it returns 0. */
static int raw_make(struct image **out, int fd, const char *path, bool read_only, struct err *e)
{
	struct raw *r;
	struct stat st;
	uint64_t size;

	if (fstat(fd, &st))
		return err_errno(e, errno, "cannot look at disk '%s'", path);
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "disk '%s' is neither a regular file nor a block device",
			       path);
	size = st.st_size;
	if (S_ISBLK(st.st_mode) && ioctl(fd, BLKGETSIZE64, &size))
		return err_errno(e, errno, "cannot find out the size of '%s'", path);
	r = calloc(1, sizeof(*r));
	if (!r)
		return err_errno(e, ENOMEM, "disk '%s'", path);
	r->fd = fd;
	r->device = S_ISBLK(st.st_mode);
	r->img = (struct image){
		.ops = &raw_ops, .size = ALIGN_UP(size, 512), .read_only = read_only,
		.can_discard = !read_only, .cluster = r->device ? 512 : st.st_blksize,
		.path = strdup(path),
	};
	if (!r->img.path) {
		free(r);
		return err_errno(e, ENOMEM, "disk '%s'", path);
	}
	*out = &r->img;
	return 0;
}

/* The chain above must not have the same file in it, nor go on for ever. */
static int raw_check_chain(int fd, const struct image_open *how, struct err *e)
{
	struct stat st;

	if (fstat(fd, &st))
		return err_errno(e, errno, "cannot look at disk '%s'", how->path);
	if (how->depth >= IMAGE_CHAIN_MAX)
		return err_set(e, ELOOP, "disk '%s': more than %u images on top of each other",
			       how->path, IMAGE_CHAIN_MAX);
	for (const struct image_open *a = how->above; a; a = a->above)
		if (a->dev == st.st_dev && a->ino == st.st_ino)
			return err_set(e, ELOOP, "disk '%s' is its own backing image", how->path);
	return 0;
}

/* Opened with O_EXCL to be written, a device that is mounted is refused. */
static bool is_device(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISBLK(st.st_mode);
}

int raw_open(struct image **out, const struct image_open *how, struct err *e)
{
	int fd, rc, flags = how->read_only ? O_RDONLY : O_RDWR;

	if (!how->read_only && !how->part && is_device(how->path))
		flags |= O_EXCL;
	/* A FIFO would block the open, a terminal become ours. */
	fd = open(how->path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_errno(e, errno, "cannot open disk '%s'%s", how->path,
				 how->read_only ? "" : " for writing");
	rc = raw_check_chain(fd, how, e);
	if (!rc)
		rc = raw_make(out, fd, how->path, how->read_only, e);
	if (rc) {
		close(fd);
		return rc;
	}
	if (!how->unlocked)
		rc = image_lock(fd, how->path, how->part ?
				how->read_only ? LOCK_PART_READ : LOCK_PART_WRITE :
				how->read_only ? LOCK_READ : LOCK_WRITE, e);
	if (rc)
		raw_close(*out);
	return rc;
}

int raw_create(struct image **out, const char *path, uint64_t size, bool replace, struct err *e)
{
	int fd, rc, flags = O_CREAT | (replace ? 0 : O_EXCL);

	if (is_device(path))
		flags = O_EXCL;
	fd = open(path, flags | O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
	if (fd < 0)
		return err_errno(e, errno, "cannot make '%s'", path);
	rc = image_lock(fd, path, LOCK_WRITE, e);	/* before it is emptied */
	if (!rc)
		rc = raw_make(out, fd, path, false, e);
	if (rc) {
		close(fd);
		return rc;
	}
	if (!raw_of(*out)->device && ftruncate(fd, 0)) {
		rc = err_errno(e, errno, "cannot empty '%s'", path);
		raw_close(*out);
		return rc;
	}
	if (raw_of(*out)->device && (*out)->size >= size)
		return 0;
	rc = raw_resize(*out, size, e);
	if (rc)
		raw_close(*out);
	return rc;
}

int raw_temporary(struct image **out, uint64_t size, struct err *e)
{
	const char *dir = secure_getenv("TMPDIR");
	int fd, rc;

	if (!dir || dir[0] != '/')
		dir = "/var/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC | O_EXCL, 0600);
	if (fd < 0)
		return err_errno(e, errno, "cannot make a temporary file in '%s' (TMPDIR names "
				 "another folder)", dir);
	rc = raw_make(out, fd, dir, false, e);
	if (rc) {
		close(fd);
		return rc;
	}
	rc = raw_resize(*out, size, e);
	if (rc)
		raw_close(*out);
	return rc;
}

static struct raw *raw_bottom(struct image *img)
{
	while (img && img->ops != &raw_ops)
		img = img->file;
	return img ? raw_of(img) : NULL;
}

int raw_usage(struct image *img, uint64_t *length, uint64_t *allocated)
{
	struct raw *r = raw_bottom(img);
	struct stat st;

	if (!r)
		return -ENOTSUP;
	if (fstat(r->fd, &st))
		return -errno;
	*length = r->device ? (uint64_t)r->img.size : (uint64_t)st.st_size;
	*allocated = r->device ? *length : (uint64_t)st.st_blocks * 512;
	return 0;
}

int raw_fd(struct image *img)
{
	struct raw *r = raw_bottom(img);

	return r ? r->fd : -1;
}

int raw_lock_part(struct image *img, uint64_t offset, uint64_t size, struct err *e)
{
	return image_lock_part(raw_of(img)->fd, img->path, offset, size, !img->read_only, e);
}

int raw_lock_whole(struct image *img, struct err *e)
{
	return image_lock(raw_of(img)->fd, img->path, img->read_only ? LOCK_READ : LOCK_WRITE, e);
}

void raw_never_sync(struct image *img)
{
	raw_of(img)->fleeting = true;
}

void raw_guard_head(struct image *img)
{
	raw_of(img)->guard = true;
}

bool raw_head_guarded(struct image *img, uint64_t off)
{
	return raw_of(img)->guard && off < HEAD_BYTES;
}
