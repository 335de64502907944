/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening on a unix socket that only our user may connect to.
 */
#ifndef VIREO_BASE_UNIX_LISTEN_H
#define VIREO_BASE_UNIX_LISTEN_H

#include "base/err.h"

/*
 * Makes the socket @path and listens; returns a non-blocking descriptor.  A socket that is left
 * over from an earlier run is replaced, anything else is not.  -EADDRINUSE, -ENAMETOOLONG.
 */
int unix_listen(const char *path, int backlog, struct err *e);

#endif
