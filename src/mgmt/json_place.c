// SPDX-License-Identifier: Apache-2.0
/*
 * Lines of members; see json_place.h.  This walks over a text that is known to be right, but
 * relies on that for nothing worse than its answer.
 */
#include "mgmt/json_place.h"

#include <jansson.h>
#include <stdbool.h>
#include <string.h>

struct walk {
	const char *at, *end;
	unsigned int line;
};

static void skip_blanks(struct walk *w)
{
	for (; w->at < w->end && strchr(" \t\r\n", *w->at) && *w->at; w->at++)
		w->line += *w->at == '\n';
}

/* Takes @c if it comes next. */
static bool take(struct walk *w, char c)
{
	skip_blanks(w);
	if (w->at == w->end || *w->at != c)
		return false;
	w->at++;
	return true;
}

/* The string that comes next, with its quotes; false: none does. */
static bool take_string(struct walk *w, const char **from, size_t *len)
{
	skip_blanks(w);
	*from = w->at;
	if (!take(w, '"'))
		return false;
	while (w->at < w->end && *w->at != '"')
		w->at += 1 + (*w->at == '\\' && w->end - w->at > 1);
	w->at += w->at < w->end;
	*len = w->at - *from;
	return true;
}

/* Whatever comes next, to the comma or bracket behind it. */
static void skip_value(struct walk *w)
{
	unsigned int depth = 0;
	const char *from;
	size_t len;

	for (skip_blanks(w); w->at < w->end; skip_blanks(w)) {
		const char c = *w->at;

		if (c == '"') {
			take_string(w, &from, &len);
			continue;
		}
		if (!depth && (c == ',' || c == ']' || c == '}'))
			return;
		depth += c == '[' || c == '{';
		depth -= c == ']' || c == '}';
		w->at++;
	}
}

static bool is_key(const char *from, size_t len, const char *key)
{
	json_t *s = json_loadb(from, len, JSON_DECODE_ANY, NULL);
	const bool same = s && json_is_string(s) && !strcmp(json_string_value(s), key);

	json_decref(s);
	return same;
}

static unsigned int line_of_item(struct walk *w, int item)
{
	if (!take(w, '['))
		return w->line;
	while (item-- > 0) {
		skip_value(w);
		if (!take(w, ','))
			return 0;
	}
	skip_blanks(w);
	return w->line;
}

unsigned int json_line_of(const char *text, size_t len, const char *key, int item)
{
	struct walk w = { .at = text, .end = text + len, .line = 1 };
	const char *from;
	size_t n;

	if (!take(&w, '{'))
		return 0;
	while (take_string(&w, &from, &n)) {
		const unsigned int line = w.line;

		if (!take(&w, ':'))
			return 0;
		skip_blanks(&w);
		if (is_key(from, n, key))
			return item < 0 ? line : line_of_item(&w, item);
		skip_value(&w);
		if (!take(&w, ','))
			return 0;
	}
	return 0;
}
