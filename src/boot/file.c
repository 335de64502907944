// SPDX-License-Identifier: Apache-2.0
/* Reading image files whole; see boot.h. */
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
		const ssize_t n = read(fd, buf + got, size - got);

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

int boot_file_read(struct boot_file *f, const char *path, const char *what, struct err *e)
{
	uint8_t *buf = NULL;
	struct stat st;
	int fd, rc;

	*f = (struct boot_file){ .name = path };
	/* O_NONBLOCK: a FIFO must not hang the open; it means nothing for regular files. */
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(e, errno, "cannot open %s '%s'", what, path);
	rc = fstat(fd, &st) ? err_errno(e, errno, "cannot read %s '%s'", what, path) :
			      check_file(&st, path, what, e);
	if (rc)
		goto out;
	buf = malloc(st.st_size);
	if (!buf) {
		rc = err_errno(e, ENOMEM, "cannot read %s '%s'", what, path);
		goto out;
	}
	rc = read_all(fd, buf, st.st_size);
	if (rc) {
		rc = err_errno(e, -rc, "cannot read %s '%s'", what, path);
		free(buf);
		goto out;
	}
	f->data = buf;
	f->size = st.st_size;
out:
	close(fd);
	return rc;
}

void boot_file_free(struct boot_file *f)
{
	free((void *)f->data);
	*f = (struct boot_file){ 0 };
}
