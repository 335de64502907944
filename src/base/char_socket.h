/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend on a stream socket: one that listens and serves one client at a time (the
 * next one waits until the first has gone), or one that is connected.
 */
#ifndef VIREO_BASE_CHAR_SOCKET_H
#define VIREO_BASE_CHAR_SOCKET_H

#include "base/char_backend.h"
#include "base/loop.h"

/*
 * Makes the unix socket @path, which only our user may connect to; a socket that is left over
 * from an earlier run is replaced, anything else is not.  -EADDRINUSE, -EEXIST, -ENAMETOOLONG.
 */
int char_socket_create(struct char_backend **out, struct loop *l, const char *path,
		       struct err *e);
/*
 * Serves at @listener, a listening, nonblocking descriptor, which is taken over, also after a
 * failure.  @path: removed at the end; NULL: nothing is.
 */
int char_socket_serve(struct char_backend **out, struct loop *l, int listener, const char *path,
		      struct err *e);
/* On @fd, which is connected and taken over; when the peer has gone nobody comes any more. */
int char_socket_connected(struct char_backend **out, struct loop *l, int fd, struct err *e);

#endif
