// SPDX-License-Identifier: Apache-2.0
/*
 * A cpio archive in memory; see initramfs.h.
 *
 * Source: Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
 */
#include "mgmt/initramfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static void pad(FILE *out)
{
	while (ftell(out) % 4)
		fputc(0, out);
}

static void entry(struct initramfs *i, const char *path, unsigned int mode, const void *data,
		  size_t size)
{
	fprintf(i->out, "070701%08x%08x%08x%08x%08x%08x%08zx%08x%08x%08x%08x%08zx%08x", i->inode++,
		mode, 0, 0, 1, 0, size, 0, 0, 0, 0, strlen(path) + 1, 0);
	fwrite(path, 1, strlen(path) + 1, i->out);
	pad(i->out);
	fwrite(data, 1, size, i->out);
	pad(i->out);
}

static int copy_before(FILE *out, const char *before, struct err *e)
{
	FILE *in = fopen(before, "re");
	char buf[65536];
	size_t n;
	int rc = 0;

	if (!in)
		return err_errno(e, errno, "could not open the initrd '%.300s'", before);
	while ((n = fread(buf, 1, sizeof(buf), in)))
		fwrite(buf, 1, n, out);
	if (ferror(in))
		rc = err_errno(e, EIO, "could not read the initrd '%.300s'", before);
	fclose(in);
	pad(out);
	return rc;
}

int initramfs_begin(struct initramfs *i, const char *before, struct err *e)
{
	int rc = 0;

	*i = (struct initramfs){ .inode = 1, .fd = memfd_create("initramfs", MFD_CLOEXEC) };
	i->out = i->fd < 0 ? NULL : fdopen(dup(i->fd), "w");
	if (!i->out)
		rc = err_errno(e, errno, "could not make an initramfs in memory");
	if (!rc && before)
		rc = copy_before(i->out, before, e);
	if (rc) {
		if (i->out)
			fclose(i->out);
		if (i->fd >= 0)
			close(i->fd);
	}
	return rc;
}

void initramfs_folder(struct initramfs *i, const char *path)
{
	entry(i, path, S_IFDIR | 0755, "", 0);
}

void initramfs_file(struct initramfs *i, const char *path, const void *data, size_t size,
		    unsigned int mode)
{
	entry(i, path, S_IFREG | mode, data, size);
}

int initramfs_copy(struct initramfs *i, const char *path, const char *from, unsigned int mode)
{
	const int fd = open(from, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *data = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size)
		data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	if (data == MAP_FAILED)
		return 0;
	initramfs_file(i, path, data, st.st_size, mode);
	munmap(data, st.st_size);
	return 1;
}

int initramfs_end(struct initramfs *i, struct err *e)
{
	i->inode = 0;
	entry(i, "TRAILER!!!", 0, "", 0);
	if (!(ferror(i->out) | fclose(i->out)))
		return i->fd;
	close(i->fd);
	return err_set(e, ENOMEM, "there is no memory for an initramfs");
}
