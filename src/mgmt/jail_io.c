// SPDX-License-Identifier: Apache-2.0
/*
 * The block devices whose rates --limit io-read= and io-write= limit: those under a VM's disks and
 * shared directories.  io.max (Linux's Documentation/admin-guide/cgroup-v2.rst) wants whole disks,
 * so a partition's is looked for in sysfs.
 */
#include "mgmt/jail.h"

#include <errno.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The number in "DIR/MAJOR:MINOR/REST"; false: there is no such file. */
static bool read_number(const char *sys, dev_t dev, const char *rest, unsigned int *a, unsigned int *b)
{
	char path[256];
	bool ok;
	FILE *f;

	snprintf(path, sizeof(path), "%.150s/%u:%u/%s", sys, major(dev), minor(dev), rest);
	f = fopen(path, "re");
	if (!f)
		return false;
	ok = fscanf(f, "%u:%u", a, b) >= 1;
	fclose(f);
	return ok;
}

/* A partition's disk; others are what they are. */
static dev_t whole_disk(const char *sys, dev_t dev)
{
	unsigned int a, b = 0;

	if (!read_number(sys, dev, "partition", &a, &b) || !read_number(sys, dev, "../dev", &a, &b))
		return dev;
	return makedev(a, b);
}

int jail_io_add(struct jail_limits *l, const char *path, const char *sys, struct err *e)
{
	struct stat st;
	dev_t dev;

	if (stat(path, &st))
		return err_errno(e, errno, "could not find '%.300s'", path);
	dev = whole_disk(sys, S_ISBLK(st.st_mode) ? st.st_rdev : st.st_dev);
	if (!major(dev))
		return err_set(e, ENOTSUP, "--limit io-read= and io-write= cannot be had for '%.200s': its file "
			       "system is on no block device of its own (overlay, tmpfs, btrfs, a network): put "
			       "it elsewhere, or use io-weight=", path);
	for (unsigned int i = 0; i < l->io_device_count; i++)
		if (l->io_device[i] == dev)
			return 0;
	if (l->io_device_count == JAIL_IO_DEVICES_MAX)
		return err_set(e, E2BIG, "--limit io-read= and io-write= are for at most %d devices",
			       JAIL_IO_DEVICES_MAX);
	l->io_device[l->io_device_count++] = dev;
	return 0;
}
