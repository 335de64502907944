/* SPDX-License-Identifier: Apache-2.0 */
/* The host's end of a command that runs in a guest (base/session_wire.h). */
#ifndef VIREO_MGMT_SESSION_H
#define VIREO_MGMT_SESSION_H

#include "base/err.h"
#include "base/types.h"

#define SESSION_NOT_RUN	125	/* the exit status when the command was not run, or its end is not known */

struct session {
	char *const *words;		/* the command's, NULL at their end */
	char *const *environment;	/* NAME=VALUE; NULL: none */
	const char *folder;		/* to run it in; "": the root's */
	int in, out, err;		/* its streams here; -1: none */
	bool no_terminal;		/* also if these are one */
	const char *progress;		/* what is copied, shown on a terminal; NULL: nothing is shown */
};

/*
 * Runs @s through @port, a stream socket, until it ends: its exit status.  SESSION_NOT_RUN and
 * @e: -EPIPE if the guest went away, -ETIMEDOUT if it says nothing in @wait_ms (-1: waits).
 */
/* A port of the VM @name that is free, for session_run(); or -errno. */
int session_open(const char *name, struct err *e);

int session_run(const struct session *s, int port, int wait_ms, struct err *e);

#endif
