/* SPDX-License-Identifier: Apache-2.0 */
/* The text after --qmp and --monitor: unix:PATH[,server=on][,wait=on|off], a listening socket. */
#ifndef VIREO_MGMT_SOCKET_SPEC_H
#define VIREO_MGMT_SOCKET_SPEC_H

#include "base/err.h"
#include "base/types.h"

#define SOCKET_PATH_MAX	108	/* with its zero */

struct socket_spec {
	char path[SOCKET_PATH_MAX];
	bool wait;		/* for a client, before the guest's first instruction */
};

/* @option: what the sentence of an error calls it. */
int socket_spec_parse(struct socket_spec *s, const char *option, const char *text, struct err *e);
/* Listens; with s->wait, comes back when somebody is there.  Returns the descriptor. */
int socket_spec_listen(const struct socket_spec *s, struct err *e);

#endif
