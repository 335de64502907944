/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unix sockets of one user that are found by a name: $XDG_RUNTIME_DIR/vireo/FILE, else
 * ~/.local/share/vireo/FILE, of mode 0600 in a folder of mode 0700.
 */
#ifndef VIREO_BASE_NAMED_SOCKET_H
#define VIREO_BASE_NAMED_SOCKET_H

#include "base/err.h"

#include <sys/un.h>

/* The address of the socket FILE, @before @name @after in one; makes the folder. */
int named_socket_address(struct sockaddr_un *a, const char *before, const char *name,
			 const char *after, struct err *e);

struct named_socket {
	struct sockaddr_un address, lock_path;
	int fd;			/* listens; -1: nothing is open */
	int lock;		/* of FILE.lock: there is never a second who serves */
};

/*
 * Listens at NAME.sock, nonblocking.  A socket that a dead process left is replaced; -EBUSY:
 * a living one serves it.
 */
int named_socket_listen(struct named_socket *s, const char *name, struct err *e);
void named_socket_close(struct named_socket *s);
/* A connected, blocking descriptor, or -errno: -ENOENT where nobody serves. */
int named_socket_connect(const char *name, struct err *e);
/* Reads and writes of @fd fail with EAGAIN after this time. */
struct timeval;
void named_socket_limit(int fd, const struct timeval *limit);

#endif
