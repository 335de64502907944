// SPDX-License-Identifier: Apache-2.0
/* Errands, both sides; see errand.h.  A request is a byte, the answer a byte and a sentence. */
#include "backend/errand.h"
#include "backend/spawn.h"
#include "base/types.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

struct errand {
	int fd;
	pid_t pid;
};

struct answer {
	uint8_t failed;
	char text[sizeof(((struct err *)NULL)->text)];
};

int errand_create(struct errand **out, const char *program, const char *kind, const char *name,
		  struct err *e)
{
	char *argv[] = { "vireo", "errand", (char *)kind, (char *)name, NULL };
	struct errand *x = calloc(1, sizeof(*x));
	int fd[2];

	if (!x)
		return err_set(e, ENOMEM, "out of memory for a helper process");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd)) {
		free(x);
		return err_errno(e, errno, "could not create a socket for a helper process");
	}
	x->fd = fd[0];
	x->pid = spawn(program, argv, fd[1], 0, e);
	close(fd[1]);
	if (x->pid < 0) {
		const int rc = x->pid;

		close(x->fd);
		free(x);
		return rc;
	}
	*out = x;
	return 0;
}

int errand_run(struct errand *x, struct err *e)
{
	const char request = 'x';
	struct answer a;
	ssize_t n = -1;

	if (send(x->fd, &request, 1, MSG_NOSIGNAL) == 1) {
		do
			n = recv(x->fd, &a, sizeof(a), 0);
		while (n < 0 && errno == EINTR);
	}
	if (n < 1)
		return err_set(e, EPIPE, "the helper process is gone");
	if (!a.failed)
		return 0;
	return err_set(e, EIO, "%.*s", (int)n - 1, a.text);
}

void errand_destroy(struct errand *x)
{
	if (!x)
		return;
	close(x->fd);		/* which ends it */
	waitpid(x->pid, NULL, 0);
	free(x);
}

int errand_serve(int fd, int (*run)(void *arg, struct err *e), void *arg)
{
	struct answer a;
	size_t len;
	char request;

	while (recv(fd, &request, 1, 0) == 1) {
		struct err e = { 0 };

		a.failed = run(arg, &e) != 0;
		len = a.failed ? strlen(e.text) : 0;
		memcpy(a.text, e.text, len);
		if (send(fd, &a, 1 + len, MSG_NOSIGNAL) < 0)
			break;
	}
	return 0;
}
