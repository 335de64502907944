/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server of lines of text on an event loop: many clients, each sends lines and gets lines.
 * Clients are not believed: a line has a greatest length, who sends a longer one is told and
 * cut off, and so is who sends requests and does not read the answers.  Everything happens on
 * the loop's thread.
 *
 * Where lines are JSON objects that need no newline (@json) a line ends with the object, however
 * many newlines are in it.
 */
#ifndef VIREO_BASE_LINE_SERVER_H
#define VIREO_BASE_LINE_SERVER_H

#include "base/char_backend.h"
#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

#define LINE_LENGTH_MAX	65536	/* of a request, without its newline */

struct line_server;
struct line_client;

struct line_server_ops {
	/* May be NULL.  A client has come: what it is greeted with is sent here. */
	void (*opened)(void *arg, struct line_client *c);
	/* A whole line of @len bytes, which may be zeros too, then a zero. */
	void (*line)(void *arg, struct line_client *c, char *line, size_t len);
	/* May be NULL.  The line has become too long; the client goes after what is sent here. */
	void (*too_long)(void *arg, struct line_client *c);
	bool json;
	/* Clients type: what they send is echoed, a backspace takes back, a CR ends a line too. */
	bool echo;
};

/* On @listener, a nonblocking stream socket that stays the caller's; -1: there is none. */
int line_server_create(struct line_server **out, struct loop *l, int listener,
		       const struct line_server_ops *ops, void *arg, struct err *e);
/*
 * One more client, at the other end of @b, which is the server's from now on and lives on its
 * loop; it is greeted whenever somebody comes there, and never cut off.
 */
int line_server_attach(struct line_server *s, struct char_backend *b, struct err *e);
void line_server_destroy(struct line_server *s);

/* Sends @text and a newline, soon.  Only from the ops, as the next one. */
void line_send(struct line_client *c, const char *text);
/* The same without a newline. */
void line_send_part(struct line_client *c, const char *text);

/* A client's number, 0 at first, for the owner of the server. */
void line_mark(struct line_client *c, unsigned int mark);
unsigned int line_marked(const struct line_client *c);
/* Sends @text and a newline to all clients with this @mark; may be called in the ops, too. */
void line_tell(struct line_server *s, unsigned int mark, const char *text);

#endif
