// SPDX-License-Identifier: Apache-2.0
/* Commands as JSON objects; see json_command.h. */
#include "mgmt/json_command.h"
#include "base/types.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

json_t *json_refuse(const char *kind, const char *desc)
{
	return json_pack("{s:{s:s,s:s}}", "error", "class", kind, "desc", desc);
}

json_t *json_commands_list(const struct json_commands *all)
{
	json_t *list = json_array();

	for (; all; all = all->more)
		for (unsigned int i = 0; i < all->count; i++)
			json_array_append_new(list, json_pack("{s:s}", "name", all->rows[i].name));
	return list;
}

static const struct json_command *find(const struct json_commands *all, const char *name)
{
	for (; all; all = all->more)
		for (unsigned int i = 0; i < all->count; i++)
			if (!strcmp(all->rows[i].name, name))
				return &all->rows[i];
	return NULL;
}

/* Is @name one of the space-separated words of @list, which may have a ! behind them? */
static bool is_listed(const char *list, const char *name)
{
	const size_t n = strlen(name);

	for (const char *at = list; *at; at += *at == ' ') {
		const size_t word = strcspn(at, " ");
		const size_t bare = word && at[word - 1] == '!' ? word - 1 : word;

		if (n && n == bare && !strncmp(at, name, n))
			return true;
		at += word;
	}
	return false;
}

/* NULL: all that must be there is, and nothing else. */
static json_t *wrong_arguments(const char *list, const json_t *arguments)
{
	char text[128];
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)arguments, key, value) {
		if (is_listed(list, key))
			continue;
		snprintf(text, sizeof(text), "Parameter '%.60s' is unexpected", key);
		return json_refuse("GenericError", text);
	}
	for (const char *at = list; *at; at += *at == ' ') {
		const int word = strcspn(at, " ");

		if (word && at[word - 1] == '!') {
			snprintf(text, sizeof(text), "%.*s", word - 1, at);
			if (!json_object_get(arguments, text)) {
				snprintf(text, sizeof(text), "Parameter '%.*s' is missing", word - 1, at);
				return json_refuse("GenericError", text);
			}
		}
		at += word;
	}
	return NULL;
}

json_t *json_command_answer(const struct json_commands *all, void *arg, const json_t *request)
{
	const json_t *arguments = json_object_get(request, "arguments");
	const char *name = json_string_value(json_object_get(request, "execute"));
	const struct json_command *c;
	json_t *r;

	if (!json_is_object(request) || !name)
		return json_refuse("GenericError", "a request is an object with \"execute\", a string");
	if (arguments && !json_is_object(arguments))
		return json_refuse("GenericError", "\"arguments\" is an object");
	c = find(all, name);
	if (!c)
		return json_refuse("CommandNotFound", "there is no such command; query-commands lists them");
	r = c->arguments ? wrong_arguments(c->arguments, arguments) : NULL;
	if (!r)
		r = c->run(arg, arguments);
	if (json_object_get(r, "error"))
		return r;
	return r ? json_pack("{s:o}", "return", r) : NULL;
}

json_t *json_command_read(const char *line, size_t len, json_t **reply)
{
	json_error_t where;
	json_t *request = json_loadb(line, len, JSON_REJECT_DUPLICATES, &where);

	*reply = request ? NULL : json_refuse("GenericError", "this is no JSON object");
	return request;
}

void json_command_reply(struct line_client *client, json_t *reply, const json_t *request)
{
	json_t *id = json_object_get(request, "id");
	char *text;

	if (reply && id)
		json_object_set(reply, "id", id);
	text = reply ? json_dumps(reply, JSON_COMPACT) : NULL;
	if (text)
		line_send(client, text);
	free(text);
	json_decref(reply);
}
