// SPDX-License-Identifier: Apache-2.0
/* Image files: opening them and reading them whole; see boot.h. */
#include "boot/boot.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX	(4ULL << 30)

static int read_all(int fd, uint8_t *buf, uint64_t size)
{
	uint64_t got = 0;

	while (got < size) {
		const ssize_t n = pread(fd, buf + got, size - got, got);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EIO;	/* it shrank meanwhile */
		got += n;
	}
	return 0;
}

static int check_file(const struct stat *st, const char *path, const char *what, struct err *e)
{
	if (!S_ISREG(st->st_mode))
		return err_set(e, EINVAL, "%s '%s' is not a regular file", what, path);
	if (st->st_size == 0)
		return err_set(e, EINVAL, "%s '%s' is empty", what, path);
	if ((uint64_t)st->st_size >= FILE_MAX)
		return err_set(e, EFBIG, "%s '%s' is larger than 4 GiB", what, path);
	return 0;
}

int boot_file_open(struct boot_file *f, const char *path, const char *what, struct err *e)
{
	struct stat st;
	int rc;

	*f = (struct boot_file){ .name = path };
	/* O_NONBLOCK: a FIFO must not hang the open; it means nothing for regular files. */
	f->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (f->fd < 0)
		return err_errno(e, errno, "cannot open %s '%s'", what, path);
	f->open = true;
	rc = fstat(f->fd, &st) ? err_errno(e, errno, "cannot read %s '%s'", what, path) :
				 check_file(&st, path, what, e);
	if (rc)
		boot_file_free(f);
	else
		f->size = st.st_size;
	return rc;
}

int boot_file_load(struct boot_file *f, const char *what, struct err *e)
{
	uint8_t *buf = malloc(f->size);
	int rc = buf ? read_all(f->fd, buf, f->size) : -ENOMEM;

	if (rc) {
		free(buf);
		return err_errno(e, -rc, "cannot read %s '%s'", what, f->name);
	}
	f->data = buf;
	return 0;
}

void boot_file_unload(struct boot_file *f)
{
	free((void *)f->data);
	f->data = NULL;
}

int boot_file_read(struct boot_file *f, const char *path, const char *what, struct err *e)
{
	int rc = boot_file_open(f, path, what, e);

	if (rc)
		return rc;
	rc = boot_file_load(f, what, e);
	if (rc) {
		boot_file_free(f);
		return rc;
	}
	close(f->fd);
	f->open = false;
	return 0;
}

void boot_file_free(struct boot_file *f)
{
	boot_file_unload(f);
	if (f->open)
		close(f->fd);
	*f = (struct boot_file){ 0 };
}
