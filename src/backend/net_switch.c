// SPDX-License-Identifier: Apache-2.0
/* A VM's side of a named switch; see switch_socket.h. */
#include "backend/net_stream.h"
#include "backend/spawn.h"
#include "backend/switch_priv.h"
#include "backend/switch_socket.h"
#include "base/named_socket.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAME_MAX_LEN	32U
#define TRIES		40
#define TRY_NS		50000000L

struct client {
	char *program;		/* NULL: this one */
	char name[NAME_MAX_LEN + 1];
};

int switch_name_check(const char *name, struct err *e)
{
	static const char chars[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	const size_t n = strlen(name);

	if (n && n <= NAME_MAX_LEN && strspn(name, chars) == n && name[0] != '.' && name[0] != '-')
		return 0;
	return err_set(e, EINVAL, "'%s' is no switch's name: it has 1 to %u letters, digits, '-', '_' "
		       "or '.'", name, NAME_MAX_LEN);
}

int switch_address(struct sockaddr_un *a, const char *name, struct err *e)
{
	return named_socket_address(a, "switch-", name, "", e);
}

/* A connected descriptor or -errno. */
static int try_connect(const struct client *c, struct err *e)
{
	struct sockaddr_un a;
	int fd, rc;

	rc = switch_address(&a, c->name, e);
	if (rc)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket for the switch");
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fd;
	rc = err_errno(e, errno, "could not connect to the switch '%s' at '%s'", c->name, a.sun_path);
	close(fd);
	return rc;
}

/* Returns when the switch listens, or another process is about to serve it, or it failed. */
static int start_switch(const struct client *c, struct err *e)
{
	char *argv[] = { "vireo", "switch", "--background", (char *)c->name, NULL };
	const pid_t pid = spawn(c->program, argv, -1, 1, e);
	int status;

	if (pid < 0)
		return pid;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, EIO, "the process of the switch '%s' did not start", c->name);
	return 0;
}

static int reopen(void *arg)
{
	const struct client *c = arg;
	int fd = try_connect(c, NULL);

	if (fd < 0 && !start_switch(c, NULL))
		fd = try_connect(c, NULL);
	return fd;
}

static int first_connect(const struct client *c, struct err *e)
{
	const struct timespec pause = { .tv_nsec = TRY_NS };
	int rc = -EAGAIN;

	for (int i = 0; i < TRIES; i++) {
		rc = try_connect(c, e);
		if (rc >= 0 || (rc != -ENOENT && rc != -ECONNREFUSED && rc != -EAGAIN))
			return rc;
		rc = start_switch(c, e);
		if (rc)
			return rc;
		rc = try_connect(c, e);
		if (rc >= 0)
			return rc;
		/* Another VM's switch is about to listen. */
		nanosleep(&pause, NULL);
	}
	return rc;
}

static void client_free(void *arg)
{
	struct client *c = arg;

	free(c->program);
	free(c);
}

int net_switch_connect(struct net_backend **out, const char *program, const char *name,
		       struct log *log, struct err *e)
{
	struct net_stream_config s = {
		.name = "switch", .log = log, .reopen = reopen, .free = client_free,
	};
	struct client *c;
	int rc;

	rc = switch_name_check(name, e);
	if (rc)
		return rc;
	c = calloc(1, sizeof(*c));
	if (!c || (program && !(c->program = strdup(program)))) {
		free(c);
		return err_set(e, ENOMEM, "out of memory for the switch '%s'", name);
	}
	strcpy(c->name, name);
	rc = first_connect(c, e);
	if (rc < 0) {
		client_free(c);
		return rc;
	}
	s.fd = rc;
	s.arg = c;
	return net_stream_create(out, &s, e);
}
