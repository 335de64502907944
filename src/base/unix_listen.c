// SPDX-License-Identifier: Apache-2.0
/* Listening on a unix socket; see unix_listen.h. */
#include "base/unix_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Is there a socket that nobody listens on?  Then it is a dead VM's. */
static bool is_left_over(const struct sockaddr_un *address)
{
	struct stat st;
	bool dead;
	int fd;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	dead = connect(fd, (const struct sockaddr *)address, sizeof(*address)) && errno == ECONNREFUSED;
	close(fd);
	return dead;
}

int unix_listen(const char *path, int backlog, struct err *e)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(address.sun_path))
		return err_set(e, ENAMETOOLONG, "the name of a socket has at most %zu bytes (a relative one "
			       "may do): %s",
			       sizeof(address.sun_path) - 1, path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket");
	if (is_left_over(&address))
		unlink(path);
	/* The mode of the descriptor becomes the socket's: no moment in which others may connect. */
	fchmod(fd, 0600);
	if (bind(fd, (const struct sockaddr *)&address, sizeof(address)))
		rc = err_errno(e, errno, "could not make the socket %s", path);
	else if (listen(fd, backlog))
		rc = err_errno(e, errno, "could not listen on %s", path);
	else
		return fd;
	close(fd);
	return rc;
}

int unix_spare(int listener)
{
	return fcntl(listener, F_DUPFD_CLOEXEC, 0);
}

static int accept_one(int listener)
{
	const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static bool is_exhausted(int rc)
{
	return rc == -EMFILE || rc == -ENFILE || rc == -ENOBUFS || rc == -ENOMEM;
}

int unix_accept(int listener, int *spare)
{
	int fd = accept_one(listener), refused = -1;

	if (!is_exhausted(fd))
		return fd;
	if (*spare >= 0) {
		close(*spare);
		refused = accept_one(listener);
		if (refused >= 0)
			close(refused);
		*spare = unix_spare(listener);
	}
	/* Another thread took the spare one, or the host has nothing: at least no endless turns. */
	if (refused < 0)
		poll(NULL, 0, 10);
	return fd;
}
