/* SPDX-License-Identifier: Apache-2.0 */
/* Character devices of `vireo run`: places, and those that several share (--mux). */
#ifndef VIREO_MGMT_RUN_CHAR_H
#define VIREO_MGMT_RUN_CHAR_H

#include "mgmt/char_place.h"
#include "mgmt/run_options.h"

struct run_chars;
struct line_server_ops;
struct line_server;

/* Opens what --mux names.  *out is set, also after a failure, unless there was no memory. */
int run_chars_create(struct run_chars **out, struct vm *vm, const struct run_options *o,
		     struct err *e);
/* Before the VM and the monitors go: there will be no more ports. */
void run_chars_free(struct run_chars *c);
/*
 * What @text names, for @option ("COM1": what the log calls it).  @visited: see char_mux_port().
 * Not for none.
 */
int run_char_open(struct run_chars *c, struct char_backend **out, const char *option,
		  const char *what, const char *text, bool visited, struct err *e);

/*
 * A server of lines at @text: of any number of clients if that is a socket that listens, else of
 * who is at the other end.  *listener is to be closed, and *path, if not NULL, removed and freed.
 */
struct line_place {
	struct line_server *server;
	int listener;
	char *path;
};

int line_place_open(struct line_place *p, struct run_chars *c, const char *option,
		    const char *text, const struct line_server_ops *ops, void *arg, struct err *e);
void line_place_close(struct line_place *p);

/* Does @text lead to standard input?  Perhaps through a --mux of @o's. */
bool run_char_is_stdio(const struct run_options *o, const char *text);
/* Is this a text for --mux? */
int run_mux_check(const char *text, struct err *e);

#endif
