/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands as JSON objects, {"execute": NAME, "arguments": {...}, "id": ...}, found in tables,
 * and their answers: {"return": ...} or {"error": {"class": ..., "desc": ...}}, with the same
 * "id".  For the control socket and for QMP.
 */
#ifndef VIREO_MGMT_JSON_COMMAND_H
#define VIREO_MGMT_JSON_COMMAND_H

#include "base/line_server.h"

#include <jansson.h>

struct json_command {
	const char *name;
	/* Its arguments' names, with a ! behind those that must be there; NULL: it looks itself. */
	const char *arguments;
	/* Returns its answer, json_refuse()'s, or NULL: out of memory.  @arguments may be NULL. */
	json_t *(*run)(void *arg, const json_t *arguments);
};

struct json_commands {
	const struct json_command *rows;
	unsigned int count;
	const struct json_commands *more;	/* NULL: no others */
};

/* @kind: GenericError, CommandNotFound. */
json_t *json_refuse(const char *kind, const char *desc);
/* [{"name": ...}] of all. */
json_t *json_commands_list(const struct json_commands *all);
/* The answer to a command that is to be one of @all. */
json_t *json_command_answer(const struct json_commands *all, void *arg, const json_t *request);
/* What one line asks for, or NULL with *reply filled. */
json_t *json_command_read(const char *line, size_t len, json_t **reply);
/* Sends @reply, which is given away, with the @request's id, if it has one; both may be NULL. */
void json_command_reply(struct line_client *client, json_t *reply, const json_t *request);

#endif
