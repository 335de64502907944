/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend that listens on a unix socket and serves one client at a time; the
 * next one waits until the first has gone.
 */
#ifndef VIREO_BASE_CHAR_SOCKET_H
#define VIREO_BASE_CHAR_SOCKET_H

#include "base/char_backend.h"
#include "base/loop.h"

/*
 * Makes the socket @path, which only our user may connect to; a socket that is left over from
 * an earlier run is replaced, anything else is not.  -EADDRINUSE, -EEXIST, -ENAMETOOLONG.
 */
int char_socket_create(struct char_backend **out, struct loop *l, const char *path,
		       struct err *e);

#endif
