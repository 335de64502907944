/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The user's terminal as a guest's console: raw mode while the VM runs, the settings as
 * they were afterwards, whatever ends this process.
 *
 * A small guard process holds the old settings and waits at a pipe.  When the pipe closes
 * without a word, this process died, be it by SIGSEGV or SIGKILL, and the guard puts the
 * terminal back, if nobody else has changed it meanwhile.
 */
#ifndef VIREO_MGMT_TERMINAL_H
#define VIREO_MGMT_TERMINAL_H

#include "base/err.h"
#include "base/types.h"

#include <stdio.h>

struct terminal;

/* Is @fd a terminal that this process may use now (not in the background)? */
bool terminal_usable(int fd);

/* Makes the terminal at @fd raw, but for the keys of signals if @signals; starts the guard. */
int terminal_open(struct terminal **out, int fd, bool signals, struct err *e);
/* Restores the terminal, ends the guard.  NULL is fine. */
void terminal_close(struct terminal *t);

/*
 * A stream to stderr for the time of raw mode: ends lines with CR LF if stderr is a
 * terminal.  Closed by terminal_close().
 */
FILE *terminal_stderr(struct terminal *t);

#endif
