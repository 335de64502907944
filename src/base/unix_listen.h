/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening on a unix socket that only our user may connect to; accepting who does.
 */
#ifndef VIREO_BASE_UNIX_LISTEN_H
#define VIREO_BASE_UNIX_LISTEN_H

#include "base/err.h"

/*
 * Makes the socket @path and listens; returns a non-blocking descriptor.  A socket that is left
 * over from an earlier run is replaced, anything else is not.  -EADDRINUSE, -ENAMETOOLONG.
 */
int unix_listen(const char *path, int backlog, struct err *e);

/*
 * Accepts who waits at @listener: a non-blocking descriptor, or -errno.  Where there are no
 * descriptors left he is turned away, as the loop would tell of him again and again.  *spare is
 * kept for that: unix_spare() makes it, the owner of the listener closes it.
 */
int unix_accept(int listener, int *spare);
/* A descriptor to spare, or -1. */
int unix_spare(int listener);

#endif
