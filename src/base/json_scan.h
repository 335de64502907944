/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a JSON object ends in a stream of bytes, without a parser's help: brackets are counted
 * outside of strings.  What is no object ends at its newline, so that whoever reads it can say
 * what is wrong; the byte 0xff, which no JSON holds, ends everything.
 */
#ifndef VIREO_BASE_JSON_SCAN_H
#define VIREO_BASE_JSON_SCAN_H

#include "base/types.h"

struct json_scan {
	unsigned int depth;
	bool in_string, escaped;
};

/* True: @c is the last byte of something whole; the scan then begins anew. */
static inline bool json_scan(struct json_scan *s, char c)
{
	bool end = c == (char)0xff;

	if (s->in_string && !end) {
		if (s->escaped)
			s->escaped = false;
		else if (c == '\\')
			s->escaped = true;
		else if (c == '"')
			s->in_string = false;
		return false;
	}
	if (c == '"' && s->depth)
		s->in_string = true;
	else if (c == '{' || c == '[')
		s->depth++;
	else if (c == '}' || c == ']')
		end = s->depth <= 1;
	else if (c == '\n')
		end = !s->depth;
	if ((c == '}' || c == ']') && s->depth)
		s->depth--;
	if (end)
		*s = (struct json_scan){ 0 };
	return end;
}

#endif
