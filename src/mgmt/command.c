// SPDX-License-Identifier: Apache-2.0
/* Options, help and suggestions; see command.h. */
#include "mgmt/command.h"

#include <errno.h>
#include <string.h>

#define WORD_MAX	64	/* longer words get no suggestion */
#define OPTIONS_MAX	128
#define HELP_COLUMN	26

/* Edit distance (insert, delete, replace); both words shorter than WORD_MAX. */
static unsigned int word_distance(const char *a, const char *b)
{
	const size_t n = strlen(b);
	unsigned int row[WORD_MAX + 1];

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; *a; i++, a++) {
		unsigned int diagonal = row[0];

		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			const unsigned int replace = diagonal + (*a != b[j - 1]);
			const unsigned int other = MIN(row[j], row[j - 1]) + 1;

			diagonal = row[j];
			row[j] = MIN(replace, other);
		}
	}
	return row[n];
}

const char *nearest_word(const char *word, const char *const *names, unsigned int count)
{
	const char *best = NULL;
	unsigned int best_distance = 3;	/* further than two slips is another word */

	if (strlen(word) >= WORD_MAX)
		return NULL;
	for (unsigned int i = 0; i < count; i++) {
		const unsigned int d = word_distance(word, names[i]);

		if (d < best_distance && d < strlen(names[i])) {
			best = names[i];
			best_distance = d;
		}
	}
	return best;
}

static int unknown_option(const struct command *c, const char *name, struct err *e)
{
	const char *names[OPTIONS_MAX];
	const char *near;
	unsigned int n = 0;

	for (const struct command *k = c; k; k = k->more)
		for (unsigned int i = 0; i < k->option_count && n < OPTIONS_MAX - 2; i++)
			names[n++] = k->options[i].name;
	names[n++] = "help";
	names[n++] = command_format.name;
	near = nearest_word(name, names, n);
	if (near)
		return err_set(e, EINVAL, "'vireo %s' has no option '--%s'; did you mean '--%s'?",
			       c->name, name, near);
	return err_set(e, EINVAL, "'vireo %s' has no option '--%s'; 'vireo %s --help' lists them",
		       c->name, name, c->name);
}

static const struct option_def *find_option(const struct command *c, const char *name)
{
	for (unsigned int i = 0; i < c->option_count; i++)
		if (!strcmp(c->options[i].name, name))
			return &c->options[i];
	if (c->more)
		return find_option(c->more, name);
	return strcmp(name, command_format.name) ? NULL : &command_format;
}

static const struct option_def *find_letter(const struct command *c, const char *arg)
{
	const struct option_def *o;

	if (arg[0] != '-' || !arg[1] || arg[2])
		return NULL;
	if (c->letter && arg[1] == c->letter)
		return find_option(c, c->letter_option);
	o = find_option(c, arg + 1);
	return o || !c->more ? o : find_letter(c->more, arg);
}

static const char *dashes(const struct option_def *o)
{
	return o->name[1] ? "--" : "-";
}

/* Stores @o's value, which is @value or the next argument. */
static int take_value(const struct command *c, const struct option_def *o, int argc,
		      char **argv, int *at, char *value, void *dest, struct err *e)
{
	int rc;

	if (!o->value && value)
		return err_set(e, EINVAL, "option '--%s' takes no value", o->name);
	if (o->value && !value) {
		if (*at + 1 == argc)
			return err_set(e, EINVAL, "option '%s%s' needs a value: %s%s %s", dashes(o),
				       o->name, dashes(o), o->name, o->value);
		value = argv[++*at];
	}
	rc = o->set(dest, value, e);
	if (rc)
		return rc;
	command_format_note(o->name, value);
	return c->note && o != &command_format ? c->note(dest, o, value, e) : 0;
}

/* The option at argv[*at], and its value, which may be the next argument. */
static int parse_option(const struct command *c, int argc, char **argv, int *at, void *dest,
			struct err *e)
{
	char *name = argv[*at] + 2;
	char *value = strchr(name, '=');
	const struct option_def *o;

	if (value)
		*value++ = '\0';
	o = find_option(c, name);
	if (!o)
		return unknown_option(c, name, e);
	return take_value(c, o, argc, argv, at, value, dest, e);
}

/* Before anything can be wrong: how that would be said. */
static int format_first(const struct command *c, int argc, char **argv, void *dest, struct err *e)
{
	for (int i = 1; i < argc; i++)
		if (!strcmp(argv[i], "--format=json") ||
		    (!strcmp(argv[i], "--format") && i + 1 < argc && !strcmp(argv[i + 1], "json")))
			command_format_note("format", "json");
	return command_json() && command_has_format(c) ?
	       find_option(c, command_format.name)->set(dest, "json", e) : 0;
}

int options_parse_many(const struct command *c, int argc, char **argv, void *dest,
		       const char **operands, unsigned int max, unsigned int *count, struct err *e)
{
	const struct option_def *letter;
	int rc;

	*count = 0;
	rc = format_first(c, argc, argv, dest, e);
	for (int i = 1; i < argc && !rc; i++) {
		if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h")) {
			command_print_help(c, stdout);
			return OPTIONS_HELP;
		}
		if (!strncmp(argv[i], "--", 2) && argv[i][2]) {
			rc = parse_option(c, argc, argv, &i, dest, e);
			if (rc)
				return rc;
		} else if ((letter = find_letter(c, argv[i]))) {
			rc = take_value(c, letter, argc, argv, &i, NULL, dest, e);
			if (rc)
				return rc;
		} else if (argv[i][0] == '-' && argv[i][1]) {
			return err_set(e, EINVAL, "'%s' is no option; options are long, like --%s",
				       argv[i], c->option_count ? c->options[0].name : "help");
		} else if (*count == max) {
			return err_set(e, EINVAL, "'vireo %s' does not know what to do with '%s'; "
				       "'vireo %s --help' shows its usage", c->name, argv[i],
				       c->name);
		} else {
			operands[(*count)++] = argv[i];
		}
	}
	return rc;
}

int options_parse_between(const struct command *c, int argc, char **argv, void *dest,
			  const char **operands, unsigned int min, unsigned int max,
			  unsigned int *count, struct err *e)
{
	const int rc = options_parse_many(c, argc, argv, dest, operands, max, count, e);

	if (!rc && *count < min)
		return err_set(e, EINVAL, "'vireo %s' needs %s; 'vireo %s --help' shows an example",
			       c->name, c->operand, c->name);
	return rc;
}

int options_parse(const struct command *c, int argc, char **argv, void *dest,
		  const char **operand, struct err *e)
{
	const char *found = NULL;
	unsigned int count;
	const int rc = options_parse_many(c, argc, argv, dest, &found, c->operand ? 1 : 0, &count, e);

	if (rc)
		return rc;
	if (c->operand && !found)
		return err_set(e, EINVAL, "'vireo %s' needs a %s; 'vireo %s --help' shows an example",
			       c->name, c->operand, c->name);
	if (operand)
		*operand = found;
	return 0;
}

char **command_words(int *argc, char **argv)
{
	for (int i = 1; i < *argc; i++)
		if (!strcmp(argv[i], "--")) {
			*argc = i;
			argv[i] = NULL;
			return argv + i + 1;
		}
	return NULL;
}

/* How many arguments the option @arg is, with its value; 0: it is none. */
static int option_length(const struct command *c, const char *arg)
{
	const struct option_def *o;
	char name[64];

	if (arg[0] != '-' || !arg[1])
		return 0;
	if (strncmp(arg, "--", 2)) {
		o = find_letter(c, arg);
		return o && o->value ? 2 : 1;
	}
	snprintf(name, sizeof(name), "%s", arg + 2);
	o = find_option(c, name);
	return o && o->value ? 2 : 1;
}

char **command_words_after_name(const struct command *c, int *argc, char **argv)
{
	int i = 1, n;

	while (i < *argc && strcmp(argv[i], "--") && (n = option_length(c, argv[i])))
		i += n;
	if (i >= *argc || !strcmp(argv[i], "--"))
		return command_words(argc, argv);
	i++;
	if (i == *argc)
		return NULL;
	*argc = i;
	return argv + i + !strcmp(argv[i], "--");
}

int options_parse_names(const struct command *c, int argc, char **argv, void *dest,
			const char **names, unsigned int *count, struct err *e)
{
	const int rc = options_parse_many(c, argc, argv, dest, names, COMMAND_NAMES_MAX, count, e);

	if (rc || *count)
		return rc;
	return err_set(e, EINVAL, "'vireo %s' needs a NAME; 'vireo %s --help' shows an example",
		       c->name, c->name);
}

/* @help, with its further lines under the first. */
static void print_lines(const char *help, FILE *out)
{
	for (; *help; help++) {
		fputc(*help, out);
		if (*help == '\n')
			fprintf(out, "%*s", HELP_COLUMN, "");
	}
	fputc('\n', out);
}

static void print_option(const struct command *c, const struct option_def *o, FILE *out)
{
	const char letter[] = { '-', c->letter, ',', ' ', '\0' };
	const bool has = c->letter && !strcmp(o->name, c->letter_option);
	char left[64];

	snprintf(left, sizeof(left), "  %s%s%s%s%s", has ? letter : "", dashes(o), o->name,
		 o->value ? " " : "", o->value ? o->value : "");
	fprintf(out, "%-*s", HELP_COLUMN, left);
	if (strlen(left) >= HELP_COLUMN)
		fprintf(out, "\n%*s", HELP_COLUMN, "");
	print_lines(o->help, out);
}

void command_print_help(const struct command *c, FILE *out)
{
	fprintf(out, "usage: vireo %s%s%s%s%s%s\n\n%s\n", c->name, c->sub ? "" : " [options]",
		c->operand ? " " : "", c->operand ? c->operand : "", c->rest ? " " : "",
		c->rest ? c->rest : "", c->about);
	if (c->sub)		/* its commands have options and statuses */
		return;
	fprintf(out, "\nOptions%s%s%s:\n", c->more ? ", besides those of 'vireo " : "",
		c->more ? c->more->name : "", c->more ? "'" : "");
	for (unsigned int i = 0; i < c->option_count; i++)
		print_option(c, &c->options[i], out);
	if (!command_has_format(c))
		print_option(c, &command_format, out);
	fprintf(out, "\nExit status: %s\n", c->exits ? c->exits :
		"0 done, 2 wrong usage or input, 12 the host failed.");
}
