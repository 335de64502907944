// SPDX-License-Identifier: Apache-2.0
/* A VM's side of a named switch; see switch_socket.h. */
#include "backend/errand.h"
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
	const char *program;	/* NULL: this one; only until it is connected */
	struct errand *starts;	/* the switch, should it die */
	char name[NAME_MAX_LEN + 1];
	struct sockaddr_un address;
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
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return err_errno(e, errno, "could not create a socket for the switch");
	if (!connect(fd, (const struct sockaddr *)&c->address, sizeof(c->address)))
		return fd;
	rc = err_errno(e, errno, "could not connect to the switch '%s' at '%s'", c->name,
		       c->address.sun_path);
	close(fd);
	return rc;
}

int net_switch_start(const char *program, const char *name, struct err *e)
{
	char *argv[] = { "vireo", "switch", "--background", (char *)name, NULL };
	const pid_t pid = spawn(program, argv, -1, 1, e);
	int status;

	if (pid < 0)
		return pid;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status))
		return err_set(e, EIO, "the process of the switch '%s' did not start", name);
	return 0;
}

static int reopen(void *arg)
{
	const struct client *c = arg;
	int fd = try_connect(c, NULL);

	if (fd < 0 && !errand_run(c->starts, NULL))
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
		rc = net_switch_start(c->program, c->name, e);
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

	errand_destroy(c->starts);
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
	if (!c)
		return err_set(e, ENOMEM, "out of memory for the switch '%s'", name);
	c->program = program;
	strcpy(c->name, name);
	rc = switch_address(&c->address, name, e);
	if (!rc)
		rc = errand_create(&c->starts, program, "switch", name, e);
	if (!rc)
		rc = first_connect(c, e);
	if (rc < 0) {
		client_free(c);
		return rc;
	}
	c->program = NULL;
	s.fd = rc;
	s.arg = c;
	return net_stream_create(out, &s, e);
}
