// SPDX-License-Identifier: Apache-2.0
/* Sockets by name; see stream_socket.h.  No names of hosts: nothing is asked of a name server. */
#include "base/stream_socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define CONNECT_SECONDS	10

static int bad_address(const char *what, const char *text, struct err *e)
{
	return err_set(e, EINVAL, "%s: '%s' is no HOST:PORT, with the host's address in digits", what, text);
}

int inet_address(struct sockaddr_storage *a, socklen_t *len, const char *what, const char *text,
		 struct err *e)
{
	struct sockaddr_in *four = (struct sockaddr_in *)a;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)a;
	const char *colon = strrchr(text, ':');
	char host[64], *end;
	unsigned long port;

	if (!colon || colon - text >= (ptrdiff_t)sizeof(host))
		return bad_address(what, text, e);
	port = strtoul(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port > UINT16_MAX)
		return bad_address(what, text, e);
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	memset(a, 0, sizeof(*a));
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		*len = sizeof(*six);
		return inet_pton(AF_INET6, host + 1, &six->sin6_addr) == 1 ? 0 : bad_address(what, text, e);
	}
	if (!host[0] || !strcmp(host, "localhost"))
		strcpy(host, "127.0.0.1");
	four->sin_family = AF_INET;
	four->sin_port = htons(port);
	*len = sizeof(*four);
	return inet_pton(AF_INET, host, &four->sin_addr) == 1 ? 0 : bad_address(what, text, e);
}

/* A socket for the address @text, which is written to @a. */
static int inet_socket(struct sockaddr_storage *a, socklen_t *len, const char *what,
		       const char *text, int flags, struct err *e)
{
	const int rc = inet_address(a, len, what, text, e);
	int fd;

	if (rc)
		return rc;
	fd = socket(a->ss_family, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);
	return fd < 0 ? err_errno(e, errno, "%s: could not create a socket", what) : fd;
}

int inet_listen(const char *what, const char *text, int backlog, struct err *e)
{
	struct sockaddr_storage a;
	const int yes = 1;
	socklen_t len;
	int rc, fd = inet_socket(&a, &len, what, text, SOCK_NONBLOCK, e);

	if (fd < 0)
		return fd;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (!bind(fd, (struct sockaddr *)&a, len) && !listen(fd, backlog))
		return fd;
	rc = err_errno(e, errno, "%s: could not listen on %s", what, text);
	close(fd);
	return rc;
}

/* connect(), but no longer than CONNECT_SECONDS: a host that answers nothing must not stop ours. */
static int connect_soon(int fd, const struct sockaddr *a, socklen_t len)
{
	const struct timeval limit = { .tv_sec = CONNECT_SECONDS }, none = { 0 };
	int rc;

	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	rc = connect(fd, a, len) ? errno : 0;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none));
	errno = rc == EINPROGRESS || rc == EAGAIN ? ETIMEDOUT : rc;
	return errno ? -1 : 0;
}

int inet_connect(const char *what, const char *text, struct err *e)
{
	struct sockaddr_storage a;
	const int yes = 1;
	socklen_t len;
	int rc, fd = inet_socket(&a, &len, what, text, 0, e);

	if (fd < 0)
		return fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	if (!connect_soon(fd, (struct sockaddr *)&a, len))
		return fd;
	rc = err_errno(e, errno, "%s: could not connect to %s", what, text);
	close(fd);
	return rc;
}

int unix_connect(const char *path, struct err *e)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, rc;

	if (strlen(path) >= sizeof(a.sun_path))
		return err_set(e, ENAMETOOLONG, "the name of a socket has at most %zu bytes (a relative one "
			       "may do): %s", sizeof(a.sun_path) - 1, path);
	strcpy(a.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket");
	if (!connect_soon(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	rc = err_errno(e, errno, "could not connect to the socket %s", path);
	close(fd);
	return rc;
}

void wait_for_client(int listener)
{
	struct pollfd client = { .fd = listener, .events = POLLIN };

	while (poll(&client, 1, -1) < 0 && errno == EINTR)
		;
}
