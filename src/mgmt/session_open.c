// SPDX-License-Identifier: Apache-2.0
/* Finding a free session of a running VM; see session.h. */
#include "mgmt/session.h"
#include "base/named_socket.h"
#include "base/session_wire.h"
#include "mgmt/machine.h"
#include "mgmt/run_root.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define GREET_MS	20000	/* for an answer: a guest that was just started may be slow */
#define TURN_MS		5

static int connect_to(const struct sockaddr_un *a)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
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

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

/* Asks all at once; the first that answers, of whose answer nothing is taken; -EBUSY. */
static int first_answer(int p[SESSION_PORTS])
{
	const struct session_head greet = { .type = SESSION_GREET };
	const struct timespec turn = { .tv_nsec = TURN_MS * 1000000L };
	const uint64_t end = now_ms() + GREET_MS;
	char byte;

	for (unsigned int i = 1; i < SESSION_PORTS; i++)
		if (p[i] >= 0 && send(p[i], &greet, sizeof(greet), MSG_NOSIGNAL) < 0) {
			close(p[i]);
			p[i] = -1;
		}
	while (now_ms() < end) {
		for (unsigned int i = 1; i < SESSION_PORTS; i++)
			if (p[i] >= 0 && recv(p[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1)
				return i;
		nanosleep(&turn, NULL);
	}
	return -EBUSY;
}

int session_open(const char *name, struct err *e)
{
	int p[SESSION_PORTS];
	bool there = false;
	struct machine m;
	int first, fd, rc;

	rc = machine_open(&m, name, e);
	if (rc && (rc != -ENOENT || strchr(name, '/')))
		return rc;
	*e = (struct err){ 0 };
	for (unsigned int i = 1; i < SESSION_PORTS; i++) {
		p[i] = connect_session(rc ? NULL : &m, name, i);
		there |= p[i] >= 0 || p[i] == -EAGAIN;
	}
	if (!rc)
		machine_close(&m);
	first = there ? first_answer(p) : -ENOENT;
	fd = first > 0 ? p[first] : -1;
	for (int i = 1; i < SESSION_PORTS; i++)
		if (p[i] >= 0 && i != first)
			close(p[i]);
	if (fd >= 0)
		return fd;
	if (there)
		return err_set(e, EBUSY, "nobody in '%.100s' answers: its guest is still starting, is paused, "
			       "or runs %d commands already", name, SESSION_PORTS - 1);
	return err_set(e, ENOENT, "the guest of '%.100s' has nobody who runs commands: only one that vireo run "
		       "IMAGE or --root booted has", name);
}
