// SPDX-License-Identifier: Apache-2.0
/* Where characters come from and go to; see char_place.h. */
#include "mgmt/char_place.h"
#include "base/char_fd.h"
#include "base/char_socket.h"
#include "base/char_tty.h"
#include "base/stream_socket.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* --- text --- */

static int unknown(const char *option, const char *text, struct err *e)
{
	return err_set(e, EINVAL, "%s knows no '%s': it takes stdio, none, pty, file:PATH, pipe:PATH, "
		       "unix:PATH, tcp:HOST:PORT, socket:PATH, fd:N, /dev/NAME or mux:NAME", option, text);
}

static int set_item(struct char_place *p, const char *option, const char *item, struct err *e)
{
	const bool on = !strcmp(item + strlen(item) - MIN(strlen(item), 3), "=on");

	if (!strcmp(item, "server=on") || !strcmp(item, "server=off"))
		p->connects = !on;
	else if (!strcmp(item, "wait=on") || !strcmp(item, "wait=off"))
		p->wait = on;
	else if (strcmp(item, "server"))
		return err_set(e, EINVAL, "%s knows no '%s': after a socket's name may follow "
			       "server=on|off, wait=on|off", option, item);
	return 0;
}

/* @rest, which is written into, begins with the socket's name. */
static int parse_socket(struct char_place *p, const char *option, char *rest, struct err *e)
{
	const size_t room = p->kind == CHAR_UNIX ? sizeof(((struct sockaddr_un *)0)->sun_path)
						 : sizeof(p->path);
	char *path = strsep(&rest, ","), *item;
	int rc = 0;

	if (!path[0])
		return err_set(e, EINVAL, "%s: the name of a socket is missing", option);
	if (strlen(path) >= room)
		return err_set(e, ENAMETOOLONG, "the name of a socket has at most %zu bytes (a relative one "
			       "may do): %s", room - 1, path);
	strcpy(p->path, path);
	while (!rc && (item = strsep(&rest, ",")))
		rc = set_item(p, option, item, e);
	if (!rc && p->connects && p->wait)
		rc = err_set(e, EINVAL, "%s: wait=on is for server=on", option);
	return rc;
}

static int parse_fd(struct char_place *p, const char *option, const char *text, struct err *e)
{
	char *end;
	const unsigned long fd = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || fd > INT32_MAX || fcntl(fd, F_GETFD) < 0)
		return err_set(e, EBADF, "%s: '%s' is no open descriptor", option, text);
	p->fd = fd;
	return 0;
}

static void parse_file(struct char_place *p, char *text)
{
	static const char truncate[] = ",truncate=on";
	const size_t n = strlen(text), m = sizeof(truncate) - 1;

	p->truncate = n > m && !strcmp(text + n - m, truncate);
	if (p->truncate)
		text[n - m] = '\0';
	strcpy(p->path, text);
}

int char_place_parse(struct char_place *p, const char *option, const char *text, struct err *e)
{
	static const struct {
		const char *name;
		enum char_kind kind;
		bool whole;		/* nothing follows */
	} kinds[] = {
		{ "none", CHAR_NONE, true }, { "stdio", CHAR_STDIO, true }, { "pty", CHAR_PTY, true },
		{ "fd:", CHAR_FD, false }, { "mux:", CHAR_MUX, false }, { "file:", CHAR_FILE, false },
		{ "pipe:", CHAR_PIPE, false }, { "socket:", CHAR_UNIX, false },
		{ "unix:", CHAR_UNIX, false }, { "tcp:", CHAR_TCP, false }, { "/", CHAR_TTY, false },
	};
	char copy[sizeof(p->path)], *rest = NULL;

	*p = (struct char_place){ .fd = -1 };
	if (strlen(text) >= sizeof(copy))
		return err_set(e, ENAMETOOLONG, "%s: the text is too long", option);
	strcpy(copy, text);
	for (size_t i = 0; i < ARRAY_SIZE(kinds) && !rest; i++) {
		const size_t n = strlen(kinds[i].name);

		if (strncmp(text, kinds[i].name, n) || (kinds[i].whole && text[n]))
			continue;
		p->kind = kinds[i].kind;
		rest = copy + n;
	}
	if (!rest || (!*rest && p->kind >= CHAR_MUX))
		return unknown(option, text, e);
	switch (p->kind) {
	case CHAR_UNIX:
	case CHAR_TCP:
		return parse_socket(p, option, rest, e);
	case CHAR_FD:
		return parse_fd(p, option, rest, e);
	case CHAR_FILE:
		parse_file(p, rest);
		return 0;
	default:
		strcpy(p->path, p->kind == CHAR_TTY ? copy : rest);
		return 0;
	}
}

bool char_place_listens(const struct char_place *p)
{
	return (p->kind == CHAR_UNIX || p->kind == CHAR_TCP) && !p->connects;
}

const char *char_place_leaves(const struct char_place *p)
{
	return p->kind == CHAR_UNIX && !p->connects ? p->path : NULL;
}

/* --- opening --- */

int char_place_listen(const char *option, const struct char_place *p, int backlog, struct err *e)
{
	const int fd = p->kind == CHAR_UNIX ? unix_listen(p->path, backlog, e)
					    : inet_listen(option, p->path, backlog, e);

	if (fd >= 0 && p->wait)
		wait_for_client(fd);
	return fd;
}

static int open_socket(struct char_backend **out, struct loop *l, const char *option,
		       const struct char_place *p, struct err *e)
{
	int fd;

	if (!p->connects) {
		fd = char_place_listen(option, p, 1, e);
		return fd < 0 ? fd : char_socket_serve(out, l, fd, char_place_leaves(p), e);
	}
	fd = p->kind == CHAR_UNIX ? unix_connect(p->path, e) : inet_connect(option, p->path, e);
	return fd < 0 ? fd : char_socket_connected(out, l, fd, e);
}

static int open_on(struct char_backend **out, struct loop *l, int in, int in_out, struct err *e)
{
	const struct char_fd_config c = { .in = in, .out = in_out };

	return char_fd_create(out, l, &c, e);
}

static int open_file(struct char_backend **out, struct loop *l, const struct char_place *p,
		     struct err *e)
{
	const int how = p->truncate ? O_TRUNC : O_APPEND;
	const int fd = open(p->path, O_WRONLY | O_CREAT | how | O_CLOEXEC | O_NOCTTY, 0666);
	int rc;

	if (fd < 0)
		return err_errno(e, errno, "could not open %s", p->path);
	rc = open_on(out, l, -1, fd, e);
	close(fd);		/* the back end has a duplicate */
	return rc;
}

/* Both ways, so that neither end waits for the other. */
static int open_fifo(const char *path, const char *end, struct err *e)
{
	char name[sizeof(((struct char_place *)0)->path) + 8];
	struct stat st;
	int fd;

	snprintf(name, sizeof(name), "%s%s", path, end);
	fd = open(name, O_RDWR | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_errno(e, errno, "could not open %s", name);
	if (!fstat(fd, &st) && S_ISFIFO(st.st_mode))
		return fd;
	close(fd);
	return err_set(e, EINVAL, "%s is no named pipe", name);
}

static int open_pipe(struct char_backend **out, struct loop *l, const struct char_place *p,
		     struct err *e)
{
	int in = open_fifo(p->path, ".in", NULL), outfd = -1, rc;

	if (in >= 0)
		outfd = open_fifo(p->path, ".out", e);
	else
		in = outfd = open_fifo(p->path, "", e);
	rc = outfd < 0 ? outfd : open_on(out, l, in, outfd, e);
	if (in >= 0)
		close(in);
	if (outfd >= 0 && outfd != in)
		close(outfd);
	return rc;
}

/* A descriptor that is not open reads and writes nothing. */
static int open_stdio(struct char_backend **out, struct loop *l, struct err *e)
{
	return open_on(out, l, fcntl(STDIN_FILENO, F_GETFD) < 0 ? -1 : STDIN_FILENO,
		       fcntl(STDOUT_FILENO, F_GETFD) < 0 ? -1 : STDOUT_FILENO, e);
}

int char_place_open(struct char_backend **out, struct loop *l, const char *option,
		    const struct char_place *p, const char **pty, struct err *e)
{
	const char *name;

	switch (p->kind) {
	case CHAR_STDIO:
		return open_stdio(out, l, e);
	case CHAR_PTY:
		return char_pty_create(out, l, pty ? pty : &name, e);
	case CHAR_FD:
		return open_on(out, l, p->fd, p->fd, e);
	case CHAR_TTY:
		return char_tty_create(out, l, p->path, e);
	case CHAR_FILE:
		return open_file(out, l, p, e);
	case CHAR_PIPE:
		return open_pipe(out, l, p, e);
	case CHAR_UNIX:
	case CHAR_TCP:
		return open_socket(out, l, option, p, e);
	case CHAR_NONE:
	case CHAR_MUX:
		break;
	}
	return err_set(e, EINVAL, "%s: there is nothing to open", option);
}
