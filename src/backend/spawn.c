// SPDX-License-Identifier: Apache-2.0
/* Starting helper processes; see spawn.h. */
#include "backend/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <unistd.h>

static int set_attributes(posix_spawnattr_t *a, int session)
{
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	sigset_t none, all;

	if (session)
		flags |= POSIX_SPAWN_SETSID;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_setsigmask(a, &none);
	posix_spawnattr_setsigdefault(a, &all);
	return posix_spawnattr_setflags(a, flags);
}

static int set_files(posix_spawn_file_actions_t *f, int fd)
{
	int rc = 0;

	/* The socket first: its number may be 0 or 1. */
	if (fd >= 0)
		rc = posix_spawn_file_actions_adddup2(f, fd, SPAWN_FD);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(f, 0, "/dev/null", O_RDONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_addopen(f, 1, "/dev/null", O_WRONLY, 0);
	if (!rc)
		rc = posix_spawn_file_actions_addclosefrom_np(f, SPAWN_FD + (fd >= 0));
	return rc;
}

pid_t spawn(const char *program, char *const argv[], int fd, int session, struct err *e)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	pid_t pid;
	int rc;

	if (!program)
		program = "/proc/self/exe";
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_init(&files);
	rc = set_attributes(&attr, session);
	if (!rc)
		rc = set_files(&files, fd);
	if (!rc)
		rc = posix_spawn(&pid, program, &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	if (rc)
		return err_errno(e, rc, "could not start '%s %s'", program, argv[1]);
	return pid;
}
