// SPDX-License-Identifier: Apache-2.0
/* Commands that have commands of their own, as `vireo image create`. */
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

#define SUBS_MAX	16

/* Their last words. */
static unsigned int sub_names(const struct command *c, const char **names)
{
	unsigned int n = 0;

	for (const struct command *s; n < SUBS_MAX && (s = c->sub(n)); n++)
		names[n] = s->name + strlen(c->name) + 1;
	return n;
}

/* "a, b or c" */
static void join(char *text, size_t size, const char *const *names, unsigned int count)
{
	size_t len = 0;

	for (unsigned int i = 0; i < count && len < size; i++)
		len += snprintf(text + len, size - len, "%s%s",
				!i ? "" : i + 1 < count ? ", " : " or ", names[i]);
}

static int not_said(const struct command *c, const char *const *names, unsigned int count)
{
	struct err e = { 0 };
	char text[256];

	join(text, sizeof(text), names, count);
	err_set(&e, EINVAL, "'vireo %s' needs to be told what to do: %s", c->name, text);
	return command_fail(&e, STATUS_USAGE);
}

static int not_known(const struct command *c, const char *word, const char *const *names,
		     unsigned int count)
{
	const char *near = nearest_word(word, names, count);
	struct err e = { 0 };

	if (near)
		err_set(&e, EINVAL, "'vireo %s' has no '%s'; did you mean '%s'?", c->name, word, near);
	else
		err_set(&e, EINVAL, "'vireo %s' has no '%s'; 'vireo %s --help' lists what it has",
			c->name, word, c->name);
	return command_fail(&e, STATUS_USAGE);
}

int command_run_sub(const struct command *c, int argc, char **argv)
{
	const char *names[SUBS_MAX];
	const unsigned int count = sub_names(c, names);

	if (argc < 2)
		return not_said(c, names, count);
	for (unsigned int i = 0; i < count; i++)
		if (!strcmp(argv[1], names[i]))
			return c->sub(i)->run(c->sub(i), argc - 1, argv + 1);
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
		command_print_help(c, stdout);
		return STATUS_OK;
	}
	return not_known(c, argv[1], names, count);
}
