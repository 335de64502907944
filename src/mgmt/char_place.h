/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a serial port, a console, a monitor leads, as text:
 *
 *	none  stdio  pty  fd:N  /dev/NAME  mux:NAME
 *	file:PATH[,truncate=on]		output only, appended
 *	pipe:PATH			PATH.in and PATH.out, or PATH both ways
 *	socket:PATH			unix:PATH
 *	unix:PATH  tcp:HOST:PORT	[,server=on|off][,wait=on|off]
 */
#ifndef VIREO_MGMT_CHAR_PLACE_H
#define VIREO_MGMT_CHAR_PLACE_H

#include "base/char_backend.h"
#include "base/err.h"
#include "base/loop.h"

enum char_kind {
	CHAR_NONE, CHAR_STDIO, CHAR_PTY, CHAR_FD, CHAR_TTY, CHAR_MUX, CHAR_FILE, CHAR_PIPE, CHAR_UNIX,
	CHAR_TCP,
};

struct char_place {
	enum char_kind kind;
	char path[512];		/* of a file or socket; HOST:PORT; the name of a mux */
	int fd;
	bool connects;		/* server=off: somebody else listens */
	bool wait;		/* server=on: for a client, before the guest's first instruction */
	bool truncate;
};

/* @option: what the sentence of an error begins with. */
int char_place_parse(struct char_place *p, const char *option, const char *text, struct err *e);
/*
 * Opens what is neither CHAR_NONE nor CHAR_MUX; waits for a client if that is asked for.  *pty,
 * which may be NULL, is the name of a new terminal.
 */
int char_place_open(struct char_backend **out, struct loop *l, const char *option,
		    const struct char_place *p, const char **pty, struct err *e);
/* Is it a socket that listens?  Then char_place_listen() gives its descriptor. */
bool char_place_listens(const struct char_place *p);
int char_place_listen(const char *option, const struct char_place *p, int backlog, struct err *e);
/* The file that goes when the VM does, in @p->path; NULL: none. */
const char *char_place_leaves(const struct char_place *p);

#endif
