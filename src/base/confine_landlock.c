// SPDX-License-Identifier: Apache-2.0
/*
 * Landlock: which files a process may open, without privileges.
 *
 * Linux's Documentation/userspace-api/landlock.rst.  The numbers of interfaces newer than
 * this system's headers stand here.
 */
#include "base/confine_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FS_REFER	BIT(13)		/* version 2 */
#define FS_TRUNCATE	BIT(14)		/* version 3 */
#define FS_IOCTL_DEV	BIT(15)		/* version 5 */
#define NET_ALL		3U		/* version 4: binding and connecting of TCP */
#define SCOPE_ABSTRACT	BIT(0)		/* version 6: Unix sockets without a file */

/* As it is from version 6 on; older kernels know the front of it. */
struct ruleset_attr {
	uint64_t fs, net, scoped;
};

unsigned int confine_landlock_version(void)
{
	const long v = syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);

	/* Threads that entered by themselves may not trace each other, which leaks' search does. */
	return v > 0 && !CONFINE_SANITIZED ? v : 0;
}

static uint64_t all_rights(unsigned int version)
{
	uint64_t rights = (LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;

	if (version >= 2)
		rights |= FS_REFER;
	if (version >= 3)
		rights |= FS_TRUNCATE;
	if (version >= 5)
		rights |= FS_IOCTL_DEV;
	return rights;
}

static uint64_t rights_of(enum confine_access access, bool directory)
{
	const uint64_t read = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	const uint64_t of_files = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE |
				  FS_TRUNCATE | FS_IOCTL_DEV;
	uint64_t rights = read;

	if (access == CONFINE_WRITE)
		rights = ~(uint64_t)LANDLOCK_ACCESS_FS_EXECUTE;
	else if (access == CONFINE_REMOVE)
		rights = LANDLOCK_ACCESS_FS_REMOVE_FILE;
	return directory ? rights : rights & of_files;
}

int landlock_open(unsigned int version, bool network)
{
	const struct ruleset_attr attr = {
		.fs = all_rights(version), .net = network ? 0 : NET_ALL, .scoped = SCOPE_ABSTRACT,
	};
	const size_t size = version < 4 ? offsetof(struct ruleset_attr, net) :
			    version < 6 ? offsetof(struct ruleset_attr, scoped) : sizeof(attr);
	const int fd = syscall(SYS_landlock_create_ruleset, &attr, size, 0);

	return fd < 0 ? -errno : fd;
}

int landlock_allow(int ruleset, unsigned int version, const char *path,
		   enum confine_access access)
{
	struct landlock_path_beneath_attr rule;
	struct stat st;
	int rc = 0;

	rule.parent_fd = open(path, O_PATH | O_CLOEXEC);
	if (rule.parent_fd < 0)
		return errno == ENOENT || errno == EACCES ? 0 : -errno;
	if (fstat(rule.parent_fd, &st))
		rc = -errno;
	rule.allowed_access = all_rights(version) & rights_of(access, S_ISDIR(st.st_mode));
	if (!rc && rule.allowed_access &&
	    syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0))
		rc = -errno;
	close(rule.parent_fd);
	return rc;
}

int landlock_enter(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) ? errno : 0;
}
