/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Helper processes: this program again with a sub-command of its own, which shares nothing
 * with the VM but one socket.  A fresh program and not a fork, so that it knows neither guest
 * memory nor our addresses, and so that it may be started while threads run.
 */
#ifndef VIREO_BACKEND_SPAWN_H
#define VIREO_BACKEND_SPAWN_H

#include "base/err.h"

#include <sys/types.h>

#define SPAWN_FD	3	/* the helper's socket */

/*
 * Starts @program (NULL: this one) with @argv, stdin and stdout on /dev/null, @fd (or -1) as
 * SPAWN_FD, no signal blocked or ignored; @session: in a session of its own.  The child's pid
 * or -errno.  @fd stays the caller's.
 */
pid_t spawn(const char *program, char *const argv[], int fd, int session, struct err *e);

#endif
