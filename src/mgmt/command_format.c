// SPDX-License-Identifier: Apache-2.0
/*
 * How commands say what they have to say: sentences for people, or JSON.  Which of them is in the
 * environment, where commands that this one starts find it too, and where a person can put it.
 */
#include "mgmt/command.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define VARIABLE	"VIREO_FORMAT"

static int set_format(void *dest, const char *value, struct err *e)
{
	(void)dest;
	if (!strcmp(value, "text") || !strcmp(value, "json"))
		return 0;
	return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json", value);
}

const struct option_def command_format = {
	"format", "text|json", "json: what vireo itself says is JSON, an object a line", set_format,
};

bool command_has_format(const struct command *c)
{
	for (unsigned int i = 0; i < c->option_count; i++)
		if (!strcmp(c->options[i].name, command_format.name))
			return true;
	return c->more && command_has_format(c->more);
}

bool command_json(void)
{
	const char *format = getenv(VARIABLE);

	return format && !strcmp(format, "json");
}

void command_format_note(const char *name, const char *value)
{
	if (!strcmp(name, command_format.name))
		setenv(VARIABLE, value, 1);
}

/* Names of files need not be UTF-8. */
static json_t *text_of(const char *text)
{
	json_t *s = json_string(text);
	char copy[1024];

	if (s)
		return s;
	snprintf(copy, sizeof(copy), "%s", text);
	for (char *at = copy; *at; at++)
		if ((unsigned char)*at >= 0x80)
			*at = '?';
	return json_string(copy);
}

/* One line, which takes @o over. */
static void print(FILE *out, json_t *o)
{
	if (o)
		json_dumpf(o, out, JSON_COMPACT);
	fputc('\n', out);
	json_decref(o);
}

void command_done(const char *what, const char *name)
{
	if (command_json())
		print(stdout, json_pack("{s:o,s:i}", what, text_of(name), "status", 0));
}

void command_note(const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (command_json())
		print(stderr, json_pack("{s:o}", "note", text_of(text)));
	else
		fprintf(stderr, "vireo: %s\n", text);
}

int command_fail(const struct err *e, int status)
{
	if (command_json())
		print(stderr, json_pack("{s:o,s:i}", "error", text_of(e->text), "status", status));
	else
		fprintf(stderr, "vireo: %s\n", e->text);
	return status;
}
