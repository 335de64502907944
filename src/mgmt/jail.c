// SPDX-License-Identifier: Apache-2.0
/*
 * The jail: namespaces(7), user_namespaces(7), pivot_root(2); see jail.h.
 *
 * User, mount, process, IPC and host-name namespaces come first, while there is one thread. The
 * network goes when everything is open, and with it all files: an empty tmpfs becomes the root,
 * with the directories in it that the VM opens files of later.  The user keeps his number.
 */
#include "mgmt/jail.h"
#include "mgmt/jail_group.h"
#include "mgmt/privileges.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SPACES	(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS)
#define SAFE	(MS_NOSUID | MS_NODEV | MS_NOEXEC)
#define SELF_FD	"/proc/self/fd/%d"

/* --- entering --- */

static int write_text(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);
	const ssize_t n = fd < 0 ? -1 : write(fd, text, strlen(text));
	const int rc = n < 0 ? -errno : 0;

	if (fd >= 0)
		close(fd);
	return rc;
}

int jail_enter(struct err *e)
{
	const unsigned int uid = geteuid(), gid = getegid();
	char text[64];
	int rc;

	if (unshare(SPACES))
		return err_errno(e, errno, "--jail cannot have namespaces here (a container's or the "
				 "host's policy forbids them; 'vireo doctor' tries): without --jail the "
				 "sandbox still holds");
	snprintf(text, sizeof(text), "%u %u 1", uid, uid);
	rc = write_text("/proc/self/setgroups", "deny");
	if (!rc)
		rc = write_text("/proc/self/uid_map", text);
	snprintf(text, sizeof(text), "%u %u 1", gid, gid);
	if (!rc)
		rc = write_text("/proc/self/gid_map", text);
	if (rc)
		return err_errno(e, -rc, "--jail could not map its user");
	/* What is mounted here is nobody else's business, and the other way round. */
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return err_errno(e, errno, "--jail could not have its own mounts");
	return 0;
}

/* --- what the inside shows --- */

void jail_files_add(struct jail_files *f, const char *path, bool writable)
{
	char *cwd = NULL, *absolute = NULL;

	if (path[0] == '/') {
		absolute = strdup(path);
	} else {
		cwd = getcwd(NULL, 0);
		if (!cwd || asprintf(&absolute, "%s/%s", cwd, path) < 0)
			absolute = NULL;
		free(cwd);
	}
	for (unsigned int i = 0; absolute && i < f->count; i++)
		if (!strcmp(f->path[i].path, absolute)) {
			f->path[i].writable |= writable;
			free(absolute);
			return;
		}
	if (absolute && f->count < JAIL_PATHS_MAX)
		f->path[f->count++] = (struct jail_path){ absolute, writable };
	else
		free(absolute);
}

void jail_files_free(struct jail_files *f)
{
	for (unsigned int i = 0; i < f->count; i++)
		free(f->path[i].path);
	f->count = 0;
}

/* @path below @below, a directory or an empty file to be mounted over. */
static int make_place(const char *below, const char *path, bool directory, char out[PATH_MAX])
{
	int fd;

	if (snprintf(out, PATH_MAX, "%s/%s", below, path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (char *at = out + strlen(below) + 1; (at = strchr(at + 1, '/')); ) {
		*at = '\0';
		if (mkdir(out, 0755) && errno != EEXIST)
			return -errno;
		*at = '/';
	}
	if (directory)
		return mkdir(out, 0755) && errno != EEXIST ? -errno : 0;
	fd = open(out, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	if (fd < 0)
		return errno == EEXIST ? 0 : -errno;
	close(fd);
	return 0;
}

/* Flags that a mount already has may not be taken off here. */
static unsigned long flags_of(int fd)
{
	struct statvfs v;
	unsigned long flags = 0;

	if (fstatvfs(fd, &v))
		return 0;
	flags |= v.f_flag & ST_RDONLY ? MS_RDONLY : 0;
	flags |= v.f_flag & ST_NOATIME ? MS_NOATIME : 0;
	flags |= v.f_flag & ST_NODIRATIME ? MS_NODIRATIME : 0;
	flags |= v.f_flag & ST_RELATIME ? MS_RELATIME : 0;
	return flags;
}

static int show(const char *root, const struct jail_path *p, int fd)
{
	char source[64], target[PATH_MAX];
	struct stat st;
	int rc;

	if (fstat(fd, &st))
		return -errno;
	rc = make_place(root, p->path, S_ISDIR(st.st_mode), target);
	if (rc)
		return rc;
	snprintf(source, sizeof(source), SELF_FD, fd);
	if (mount(source, target, NULL, MS_BIND | MS_REC, NULL) ||
	    mount(NULL, target, NULL, MS_REMOUNT | MS_BIND | SAFE | flags_of(fd) |
		  (p->writable ? 0 : MS_RDONLY), NULL))
		return -errno;
	return 0;
}

static int show_proc(const char *root, struct err *e)
{
	char target[PATH_MAX];

	if (make_place(root, "proc", true, target) || mount("proc", target, "proc", SAFE, NULL))
		return err_errno(e, errno, "shared directories in a jail need /proc, which cannot be "
				 "mounted here");
	return 0;
}

/* What is shown is opened before the new root hides what lies below its place. */
static int show_all(const char *root, const struct jail_files *f, const int *fds, struct err *e)
{
	char cwd[PATH_MAX];
	int rc;

	for (unsigned int i = 0; i < f->count; i++) {
		rc = fds[i] < 0 ? 0 : show(root, &f->path[i], fds[i]);
		if (rc)
			return err_errno(e, -rc, "could not show '%s' in the jail", f->path[i].path);
	}
	/* Relative names go on meaning what they did. */
	if (getcwd(cwd, sizeof(cwd)) && cwd[0] == '/') {
		char target[PATH_MAX];

		make_place(root, cwd, true, target);
	}
	return f->proc ? show_proc(root, e) : 0;
}

static int change_root(const char *root, struct err *e)
{
	char cwd[PATH_MAX];

	if (!getcwd(cwd, sizeof(cwd)) || cwd[0] != '/')
		strcpy(cwd, "/");
	/* The old root is put on top of the new one, and then taken off. */
	if (chdir(root) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) ||
	    mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | SAFE, NULL))
		return err_errno(e, errno, "could not make an empty directory the jail's root");
	return chdir(cwd) && chdir("/") ? err_errno(e, errno, "could not enter the jail") : 0;
}

static int change_files(const struct jail_files *f, struct err *e)
{
	static const char root[] = "/tmp";
	int fds[JAIL_PATHS_MAX], rc = 0;

	for (unsigned int i = 0; i < f->count; i++)
		fds[i] = open(f->path[i].path, O_PATH | O_CLOEXEC);
	if (mount("jail", root, "tmpfs", SAFE, "size=64k,nr_inodes=1k,mode=0755"))
		rc = err_errno(e, errno, "could not mount a file system for the jail");
	if (!rc)
		rc = show_all(root, f, fds, e);
	if (!rc)
		rc = change_root(root, e);
	for (unsigned int i = 0; i < f->count; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	return rc;
}

/* --- what is a thread's own --- */

struct leave {
	int network;		/* the empty namespace */
	char cwd[PATH_MAX];
};

static int leave_thread(void *arg)
{
	static const uint64_t none = 0;
	const struct leave *l = arg;

	/* The root may have been changed below a thread, not where it stood. */
	if (syscall(SYS_chdir, l->cwd) || syscall(SYS_setns, l->network, CLONE_NEWNET))
		return errno;
	return privileges_drop_thread(&none);
}

int jail_close(const struct jail_files *f, int threads, struct err *e)
{
	struct leave l;
	int rc;

	if (unshare(CLONE_NEWNET))
		return err_errno(e, errno, "--jail could not take the network away");
	l.network = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (l.network < 0)
		return err_errno(e, errno, "--jail could not open its network's namespace");
	rc = change_files(f, e);
	if (!rc && !getcwd(l.cwd, sizeof(l.cwd)))
		rc = err_errno(e, errno, "--jail has no working directory");
	if (!rc)
		rc = threads_call(threads, leave_thread, &l, e);
	close(l.network);
	return rc;
}
