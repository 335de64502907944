// SPDX-License-Identifier: Apache-2.0
/* The console's escape key; see escape.h. */
#include "mgmt/escape.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

static const struct {
	enum escape_action what;
	const char *help;
} actions[] = {
	{ ESCAPE_END, "end the VM at once" },
	{ ESCAPE_POWER, "press the power button" },
	{ ESCAPE_RESET, "press the reset button" },
	{ ESCAPE_BREAK, "send a break on the serial line (SysRq)" },
	{ ESCAPE_HELP, "show this help" },
};

int escape_parse_key(uint8_t *key, const char *text, struct err *e)
{
	const int c = toupper((unsigned char)text[0] == '^' ? (unsigned char)text[1] : 0);

	if (!strcmp(text, "none")) {
		*key = ESCAPE_NONE;
		return 0;
	}
	/* Ctrl-A to Ctrl-_, as caret notation. */
	if (c < 'A' || c > '_' || text[2] != '\0')
		return err_set(e, EINVAL, "'%s' is no escape key: write ^] or ^A (a caret and a "
			       "character), or none", text);
	*key = c & 0x1f;
	return 0;
}

void escape_key_name(uint8_t key, char name[8])
{
	snprintf(name, 8, "Ctrl-%c", key | 0x40);
}

static bool known(uint8_t c)
{
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		if (actions[i].what == c)
			return true;
	return false;
}

size_t escape_filter(void *arg, uint8_t *buf, size_t len)
{
	struct escape *esc = arg;
	size_t kept = 0;

	if (esc->key == ESCAPE_NONE)
		return len;
	for (size_t i = 0; i < len; i++) {
		const uint8_t c = buf[i];

		if (!esc->pending) {
			if (c == esc->key)
				esc->pending = true;
			else
				buf[kept++] = c;
			continue;
		}
		esc->pending = false;
		if (c == esc->key)
			buf[kept++] = c;
		else
			esc->act(esc->arg, known(c) ? c : ESCAPE_HELP);
	}
	return kept;
}

void escape_print_help(const struct escape *esc, FILE *out)
{
	char name[8];

	escape_key_name(esc->key, name);
	fprintf(out, "\n");
	for (size_t i = 0; i < ARRAY_SIZE(actions); i++)
		fprintf(out, "  %s %c       %s\n", name, actions[i].what, actions[i].help);
	fprintf(out, "  %s %s  send %s to the guest\n", name, name, name);
	fflush(out);
}
