// SPDX-License-Identifier: Apache-2.0
/* Finding a free session of a running VM; see session.h. */
#include "mgmt/session.h"
#include "base/named_socket.h"
#include "base/session_wire.h"
#include "mgmt/machine.h"
#include "mgmt/run_root.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define GREET_MS	1000	/* for an answer; then it serves another */

static int connect_to(const struct sockaddr_un *a)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return -errno;
	if (!connect(fd, (const struct sockaddr *)a, sizeof(*a)))
		return fd;
	rc = -errno;
	close(fd);
	return rc;
}

/* Socket @i of the VM, kept in @m or not; -errno. */
static int connect_session(const struct machine *m, const char *name, unsigned int i)
{
	struct sockaddr_un a;
	char file[32];

	snprintf(file, sizeof(file), m ? RUN_ROOT_SOCKET : RUN_ROOT_NAMED, i);
	if (m)
		return machine_connect(m, file, NULL);
	return named_socket_address(&a, "", name, file, NULL) ? -ENOENT : connect_to(&a);
}

/* Is somebody there who answers?  Nothing of the answer is taken. */
static bool greets(int fd)
{
	const struct session_head greet = { .type = SESSION_GREET };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	char byte;

	return send(fd, &greet, sizeof(greet), MSG_NOSIGNAL) == sizeof(greet) &&
	       poll(&p, 1, GREET_MS) > 0 && recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

int session_open(const char *name, struct err *e)
{
	bool there = false;
	struct machine m;
	int fd = -ENOENT, rc;

	rc = machine_open(&m, name, e);
	if (rc && (rc != -ENOENT || strchr(name, '/')))
		return rc;
	*e = (struct err){ 0 };
	for (unsigned int i = 1; i < SESSION_PORTS; i++) {
		fd = connect_session(rc ? NULL : &m, name, i);
		if (fd < 0)
			continue;
		there = true;
		if (greets(fd))
			break;
		close(fd);
		fd = -EBUSY;
	}
	if (!rc)
		machine_close(&m);
	if (fd >= 0)
		return fd;
	if (there)
		return err_set(e, EBUSY, "nobody in '%.100s' answers: its guest is still starting, is paused, or "
			       "runs %d commands already", name, SESSION_PORTS - 1);
	return err_set(e, ENOENT, "'%.100s' does not run, or its guest has nobody who runs commands: only one "
		       "that vireo run IMAGE or --root booted has", name);
}
