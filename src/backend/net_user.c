// SPDX-License-Identifier: Apache-2.0
/* Starting user-mode networking's process; see net_user.h. */
#include "backend/net_stream.h"
#include "backend/net_user.h"
#include "backend/spawn.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define START_MS	10000

/* All of @len bytes, or false: the process died, or says nothing. */
static bool read_all(int fd, void *buf, size_t len)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	size_t at = 0;
	ssize_t n;

	while (at < len) {
		if (poll(&p, 1, START_MS) <= 0)
			return false;
		n = read(fd, (char *)buf + at, len - at);
		if (n <= 0)
			return false;
		at += n;
	}
	return true;
}

/* What the process says about its start. */
static int read_report(int fd, struct err *e)
{
	char text[sizeof(e->text)];
	uint32_t len;

	if (!read_all(fd, &len, sizeof(len)))
		return err_set(e, EIO, "the process of user networking ended, or did not answer, "
			       "while it started");
	if (!len)
		return 0;
	if (len >= sizeof(text) || !read_all(fd, text, len))
		return err_set(e, EIO, "the process of user networking failed to start");
	text[len] = '\0';
	return err_set(e, EIO, "%s", text);
}

int net_user_create(struct net_backend **out, const char *program, const char *text,
		    struct log *log, struct err *e)
{
	char *argv[] = { "vireo", "net-user", (char *)text, NULL };
	struct net_stream_config c = { .name = "user", .log = log };
	int fd[2], rc;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return err_errno(e, errno, "could not create a socket for user networking");
	pid = spawn(program, argv, fd[1], 0, e);
	close(fd[1]);
	if (pid < 0) {
		close(fd[0]);
		return pid;
	}
	rc = read_report(fd[0], e);
	if (rc) {
		close(fd[0]);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		return rc;
	}
	c.fd = fd[0];
	c.child = pid;
	rc = net_stream_create(out, &c, e);
	if (rc) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return rc;
}
