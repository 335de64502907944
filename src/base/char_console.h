/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend for a serial console that people come to and leave: all output goes to
 * a log file, and to every client of a unix socket; what clients send is input.
 *
 * The log takes everything the guest says, at the guest's pace.  A client that reads slowly
 * loses the middle of what it missed, and never holds up the guest.  A new one is shown the
 * end of what was said, so that it sees a prompt.
 */
#ifndef VIREO_BASE_CHAR_CONSOLE_H
#define VIREO_BASE_CHAR_CONSOLE_H

#include "base/char_backend.h"
#include "base/loop.h"

/*
 * Appends to the file @log, and listens at @socket, which only our user may connect to; a socket
 * left over there is replaced.
 */
int char_console_create(struct char_backend **out, struct loop *l, const char *log,
			const char *socket, struct err *e);

#endif
