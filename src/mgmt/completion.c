// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo completion`: scripts for shells that complete vireo's commands, options, the words
 * that some take, and the names of VMs, made from the tables that parse them.
 */
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define WORDS_MAX	16

/* "create|info|check ...": the words, cut from a copy; 0: it is no such list. */
static unsigned int choices(const char *text, char *copy, size_t size, char *words[WORDS_MAX])
{
	unsigned int n = 0;
	char *rest = copy, *word;

	if (!text || !strchr(text, '|') || strlen(text) >= size)
		return 0;
	snprintf(copy, size, "%.*s", (int)strcspn(text, " "), text);
	while (n < WORDS_MAX && (word = strsep(&rest, "|")))
		words[n++] = word;
	return n;
}

/* Is the operand the name of a VM? */
static bool names_vm(const struct command *c)
{
	return c->operand && (!strncmp(c->operand, "NAME", 4) || !strncmp(c->operand, "[NAME", 5)) &&
	       c != &command_create && c != &command_switch;
}

static bool takes_file(const struct option_def *o)
{
	return o->value && (!strncmp(o->value, "FILE", 4) || !strncmp(o->value, "DIR", 3) ||
			    !strncmp(o->value, "IMAGE", 5) || !strncmp(o->value, "PATH", 4));
}

/* Has one of @c's commands before @i the option @name? */
static bool told(const struct command *c, unsigned int i, const char *name)
{
	while (i--)
		for (unsigned int k = 0; k < c->sub(i)->option_count; k++)
			if (!strcmp(c->sub(i)->options[k].name, name))
				return true;
	return false;
}

/*
 * Calls @tell for each option of @c, those that it takes over among them, and once for each of
 * its own commands'.
 */
static void each_option(const struct command *c,
			void (*tell)(const struct command *c, const struct option_def *o))
{
	for (const struct command *k = c; k; k = k->more)
		for (unsigned int i = 0; i < k->option_count; i++)
			tell(c, &k->options[i]);
	for (unsigned int n = 0; c->sub && c->sub(n); n++)
		for (unsigned int i = 0; i < c->sub(n)->option_count; i++)
			if (!told(c, n, c->sub(n)->options[i].name) &&
			    strcmp(c->sub(n)->options[i].name, command_format.name))
				tell(c, &c->sub(n)->options[i]);
	if (!command_has_format(c))
		tell(c, &command_format);
}

/* The help's first line in a shell's single quotes, without what @special means something to. */
static void print_line(const char *help, const char *special)
{
	for (const char *p = help; *p && *p != '\n'; p++)
		if (!strchr(special, *p))
			fputc(*p == '\'' ? '`' : *p, stdout);
}

/* --- bash --- */

static void bash_option(const struct command *c, const struct option_def *o)
{
	(void)c;
	printf(" %s%s", o->name[1] ? "--" : "-", o->name);
}

static void bash_value(const struct command *c, const struct option_def *o)
{
	char copy[256], *words[WORDS_MAX];
	const unsigned int n = choices(o->value, copy, sizeof(copy), words);

	if (!n)
		return;
	printf("\t'%s --%s') words='", c->name, o->name);
	for (unsigned int i = 0; i < n; i++)
		printf("%s%s", i ? " " : "", words[i]);
	printf("' ;;\n");
}

static void print_bash(void)
{
	char copy[256], *words[WORDS_MAX];

	printf("# bash completion of vireo, printed by 'vireo completion bash'\n"
	       "_vireo() {\n"
	       "\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal words= options= vm=\n"
	       "\tCOMPREPLY=()\n"
	       "\tif [ \"$COMP_CWORD\" = 1 ]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W 'help");
	for (unsigned int i = 0; i < command_count; i++)
		if (!all_commands[i]->hidden)
			printf(" %s", all_commands[i]->name);
	printf("' -- \"$cur\"))\n\t\treturn\n\tfi\n\tcase ${COMP_WORDS[1]} in\n");
	for (unsigned int i = 0; i < command_count; i++) {
		const struct command *c = all_commands[i];
		const unsigned int n = choices(c->operand, copy, sizeof(copy), words);

		if (c->hidden)
			continue;
		printf("\t%s) options='--help", c->name);
		each_option(c, bash_option);
		printf("'");
		if (names_vm(c))
			printf(" vm=1");
		for (unsigned int k = 0; k < n; k++)
			printf("%s%s", k ? " " : " words='", words[k]);
		printf("%s ;;\n", n ? "'" : "");
	}
	printf("\tesac\n\tcase \"${COMP_WORDS[1]} $prev\" in\n");
	for (unsigned int i = 0; i < command_count; i++)
		if (!all_commands[i]->hidden)
			each_option(all_commands[i], bash_value);
	printf("\tesac\n"
	       "\tcase $cur in\n"
	       "\t-*) COMPREPLY=($(compgen -W \"$options\" -- \"$cur\")) ;;\n"
	       "\t*)\n"
	       "\t\t[ -z \"$vm\" ] || [[ $prev == --* ]] ||\n"
	       "\t\t\twords=$(vireo ls 2>/dev/null | sed '1d; s/ .*//')\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
	       "\tesac\n"
	       "}\n"
	       "complete -o default -F _vireo vireo\n");
}

/* --- zsh --- */

static void zsh_option(const struct command *c, const struct option_def *o)
{
	char copy[256], *words[WORDS_MAX];
	const unsigned int n = choices(o->value, copy, sizeof(copy), words);

	(void)c;
	printf(" \\\n\t\t'*%s%s[", o->name[1] ? "--" : "-", o->name);
	print_line(o->help, "[]:\\");
	printf("]");
	if (n) {
		printf(":value:(");
		for (unsigned int i = 0; i < n; i++)
			printf("%s%s", i ? " " : "", words[i]);
		printf(")");
	} else if (o->value) {
		printf(":value:%s", takes_file(o) ? "_files" : "");
	}
	printf("'");
}

static void print_zsh(void)
{
	char copy[256], *words[WORDS_MAX];

	printf("#compdef vireo\n# zsh completion of vireo, printed by 'vireo completion zsh'\n"
	       "_vireo_vms() {\n\tlocal -a vms\n"
	       "\tvms=(${(f)\"$(vireo ls 2>/dev/null | sed '1d; s/ .*//')\"})\n"
	       "\tcompadd -a vms\n}\n"
	       "_vireo() {\n\tlocal -a commands\n\tif ((CURRENT == 2)); then\n\t\tcommands=(\n");
	for (unsigned int i = 0; i < command_count; i++) {
		if (all_commands[i]->hidden)
			continue;
		printf("\t\t'%s:", all_commands[i]->name);
		print_line(all_commands[i]->summary, ":\\");
		printf("'\n");
	}
	printf("\t\t'help:show help')\n\t\t_describe command commands\n\t\treturn\n\tfi\n"
	       "\tshift words\n\t((CURRENT--))\n\tcase $words[1] in\n");
	for (unsigned int i = 0; i < command_count; i++) {
		const struct command *c = all_commands[i];
		const unsigned int n = choices(c->operand, copy, sizeof(copy), words);

		if (c->hidden)
			continue;
		printf("\t%s) _arguments '--help[show help]'", c->name);
		each_option(c, zsh_option);
		printf(" \\\n\t\t");
		for (unsigned int k = 0; k < n; k++)
			printf("%s%s", k ? " " : "'1:what:(", words[k]);
		printf("%s'*:operand:%s' ;;\n", n ? ")' " : "", names_vm(c) ? "_vireo_vms" : "_files");
	}
	printf("\tesac\n}\n_vireo \"$@\"\n");
}

/* --- fish --- */

static void fish_option(const struct command *c, const struct option_def *o)
{
	char copy[256], *words[WORDS_MAX];
	const unsigned int n = choices(o->value, copy, sizeof(copy), words);

	printf("complete -c vireo -n '__fish_seen_subcommand_from %s' %s %s", c->name,
	       o->name[1] ? "-l" : "-s", o->name);
	if (o->value)
		printf(takes_file(o) ? " -rF" : " -x");
	for (unsigned int i = 0; i < n; i++)
		printf("%s%s", i ? " " : " -a '", words[i]);
	printf("%s -d '", n ? "'" : "");
	print_line(o->help, "\\");
	printf("'\n");
}

static void print_fish(void)
{
	char copy[256], *words[WORDS_MAX];

	printf("# fish completion of vireo, printed by 'vireo completion fish'\n");
	for (unsigned int i = 0; i < command_count; i++) {
		const struct command *c = all_commands[i];
		const unsigned int n = choices(c->operand, copy, sizeof(copy), words);

		if (c->hidden)
			continue;
		printf("complete -c vireo -n __fish_use_subcommand -f -a %s -d '", c->name);
		print_line(c->summary, "\\");
		printf("'\n");
		if (names_vm(c))
			printf("complete -c vireo -n '__fish_seen_subcommand_from %s' -f "
			       "-a \"(vireo ls 2>/dev/null | sed '1d; s/ .*//')\"\n", c->name);
		for (unsigned int k = 0; k < n; k++)
			printf("complete -c vireo -n '__fish_seen_subcommand_from %s' -f -a %s\n", c->name,
			       words[k]);
		each_option(c, fish_option);
	}
}

static int completion_main(const struct command *c, int argc, char **argv)
{
	static const struct { const char *name; void (*print)(void); } shells[] = {
		{ "bash", print_bash }, { "zsh", print_zsh }, { "fish", print_fish },
	};
	const char *shell = NULL;
	struct err e = { 0 };
	int rc;

	rc = options_parse(c, argc, argv, NULL, &shell, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	for (size_t i = 0; !rc && i < ARRAY_SIZE(shells); i++)
		if (!strcmp(shell, shells[i].name)) {
			shells[i].print();
			return STATUS_OK;
		}
	if (!rc)
		err_set(&e, EINVAL, "'%s' is no shell that vireo knows: bash, zsh or fish", shell);
	return command_fail(&e, STATUS_USAGE);
}

const struct command command_completion = {
	.name = "completion",
	.operand = "bash|zsh|fish",
	.summary = "print a shell's script for completing vireo's commands",
	.about =
	"Prints a script with which a shell completes vireo's commands, options and VMs' names.\n"
	"'make install' puts it where shells find it.\n"
	"\n"
	"Example:\n"
	"  source <(vireo completion bash)",
	.run = completion_main,
};
