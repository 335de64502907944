// SPDX-License-Identifier: Apache-2.0
/* Machines as directories; see machine.h. */
#include "mgmt/machine.h"
#include "base/named_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

int machine_name_check(const char *name, struct err *e)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const size_t n = strlen(name);

	if (n && n <= MACHINE_NAME_MAX && strspn(name, chars) == n && name[0] != '.' &&
	    name[0] != '-')
		return 0;
	return err_set(e, EINVAL, "'%.200s' is no VM's name: it has 1 to %u letters, digits, '-', '_' "
		       "or '.'", name, MACHINE_NAME_MAX);
}

/* mkdir -p */
static int make_folders(char *path, struct err *e)
{
	for (char *p = path + 1; ; p++) {
		const char c = *p;

		if (c && c != '/')
			continue;
		*p = '\0';
		if (mkdir(path, 0700) && errno != EEXIST)
			return err_errno(e, errno, "could not make the folder '%.300s' for VMs", path);
		*p = c;
		if (!c)
			return 0;
	}
}

static int home_path(char path[PATH_MAX], struct err *e)
{
	const char *data = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
	int n;

	if (data && data[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/vireo", data);
	else if (home && home[0] == '/')
		n = snprintf(path, PATH_MAX, "%s/.local/share/vireo", home);
	else
		return err_set(e, ENOENT, "neither XDG_DATA_HOME nor HOME says where VMs are");
	if (n >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "the path of the folder for VMs is too long");
	return 0;
}

int machine_home(char path[PATH_MAX], struct err *e)
{
	const int rc = home_path(path, e);

	return rc ? rc : make_folders(path, e);
}

/* The last part of a path is the machine's name. */
static int name_of_path(struct machine *m, struct err *e)
{
	size_t n = strlen(m->path);
	const char *slash;

	while (n > 1 && m->path[n - 1] == '/')
		m->path[--n] = '\0';
	slash = strrchr(m->path, '/');
	if (machine_name_check(slash + 1, e))
		return e ? e->code : -EINVAL;
	snprintf(m->name, sizeof(m->name), "%s", slash + 1);
	return 0;
}

int machine_path(struct machine *m, const char *name, struct err *e)
{
	char home[PATH_MAX] = "";
	int n, rc;

	m->dir = -1;
	if (strchr(name, '/')) {
		if (name[0] != '/' && !getcwd(home, sizeof(home)))
			return err_errno(e, errno, "could not tell the current folder");
		n = snprintf(m->path, sizeof(m->path), "%s%s%s", home, home[0] ? "/" : "", name);
		if (n >= (int)sizeof(m->path))
			return err_set(e, ENAMETOOLONG, "the path of this VM is too long");
		return name_of_path(m, e);
	}
	rc = machine_name_check(name, e);
	if (!rc)
		rc = home_path(home, e);
	if (rc)
		return rc;
	snprintf(m->name, sizeof(m->name), "%s", name);
	if (snprintf(m->path, sizeof(m->path), "%s/%s", home, name) >= (int)sizeof(m->path))
		return err_set(e, ENAMETOOLONG, "the path of VM '%s' is too long", name);
	return 0;
}

/* Is there one that runs under that name and has no directory? */
static bool runs_unkept(const char *name)
{
	const int fd = strchr(name, '/') ? -1 : named_socket_connect(name, NULL);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

int machine_open(struct machine *m, const char *name, struct err *e)
{
	int rc = machine_path(m, name, e);

	if (rc)
		return rc;
	m->dir = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (m->dir < 0 && errno != ENOENT && errno != ENOTDIR)
		return err_errno(e, errno, "could not open the VM's directory '%.300s'", m->path);
	if (m->dir >= 0 && !faccessat(m->dir, MACHINE_CONFIG, F_OK, 0))
		return 0;
	machine_close(m);
	if (e && runs_unkept(name))
		return err_set(e, ENOENT, "VM '%.100s' runs, but 'vireo run --name' keeps nothing of it: this is for "
			       "those that 'vireo create' made", name);
	return err_set(e, ENOENT, "there is no VM '%.100s' ('%.300s/vm.json' is not there): 'vireo ls' "
		       "lists VMs, 'vireo create' makes one", name, m->path);
}

void machine_close(struct machine *m)
{
	if (m->dir >= 0)
		close(m->dir);
	m->dir = -1;
}

/* --- the lock: of an open file, so it is this process's alone and goes with it --- */

int machine_lock(const struct machine *m, struct err *e)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char text[32];
	int fd, n;

	fd = openat(m->dir, MACHINE_LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(e, errno, "could not open '%.300s/%s'", m->path, MACHINE_LOCK);
	if (fcntl(fd, F_OFD_SETLK, &l)) {
		const int why = errno;
		const pid_t pid = machine_pid(m);

		close(fd);
		if (why != EAGAIN && why != EACCES)
			return err_errno(e, why, "could not lock '%.300s/%s'", m->path, MACHINE_LOCK);
		if (pid)
			return err_set(e, EBUSY, "VM '%s' runs already, as process %d", m->name, (int)pid);
		return err_set(e, EBUSY, "VM '%s' is in use by another process", m->name);
	}
	/* For people, and for vireo kill; it says nothing without the lock. */
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(fd, 0) || pwrite(fd, text, n, 0) != n) {
		const int rc = err_errno(e, errno, "could not write '%.300s/%s'", m->path, MACHINE_LOCK);

		close(fd);
		return rc;
	}
	return fd;
}

/* Is the lock of the open file @fd held by another? */
static bool is_held(int fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return !fcntl(fd, F_OFD_GETLK, &l) && l.l_type != F_UNLCK;
}

static int open_lock(const struct machine *m)
{
	return openat(m->dir, MACHINE_LOCK, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

enum machine_state machine_state(const struct machine *m)
{
	const int fd = open_lock(m);
	struct stat st;
	bool held;

	if (fd < 0)
		return MACHINE_STOPPED;
	held = is_held(fd);
	close(fd);
	if (held)
		return MACHINE_RUNNING;
	return !fstatat(m->dir, MACHINE_END, &st, AT_SYMLINK_NOFOLLOW) && !st.st_size ?
	       MACHINE_CRASHED : MACHINE_STOPPED;
}

pid_t machine_pid(const struct machine *m)
{
	const int fd = open_lock(m);
	char text[32] = "";
	pid_t pid = 0;

	if (fd < 0)
		return 0;
	/* Whoever holds the lock wrote it; read before asking, so that it is not a later one's. */
	if (pread(fd, text, sizeof(text) - 1, 0) > 0 && is_held(fd))
		pid = atoi(text);
	close(fd);
	return pid > 1 ? pid : 0;
}

int machine_connect(const struct machine *m, const char *name, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, rc;

	/* Where too many wait already, EAGAIN and not another who waits. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket");
	snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/%s", m->dir, name);
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)) && !fcntl(fd, F_SETFL, 0))
		return fd;
	rc = errno == ENOENT || errno == ECONNREFUSED ?
	     err_set(e, ENOENT, "VM '%s' does not run: start it with vireo start %s", m->name, m->name) :
	     err_errno(e, errno, "could not connect to '%.300s/%s'", m->path, name);
	close(fd);
	return rc;
}
