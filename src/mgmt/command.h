/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Subcommands and their options: parsing, help, and a suggestion for what was mistyped.
 * Options are long (--name VALUE or --name=VALUE), one may have a letter too (-p VALUE), and one
 * whose name is a letter is that alone (-v VALUE); what is wrong is one sentence.
 */
#ifndef VIREO_MGMT_COMMAND_H
#define VIREO_MGMT_COMMAND_H

#include "base/err.h"
#include "base/types.h"

#include <stdio.h>

struct option_def {
	const char *name;	/* without the dashes */
	const char *value;	/* what the value is called in the help; NULL: takes none */
	const char *help;	/* lines after the first are indented by the printer */
	/* Stores it; @value is NULL for options without one. */
	int (*set)(void *dest, const char *value, struct err *e);
};

struct command {
	const char *name;
	const char *operand;	/* "FILE", or NULL: takes none */
	const char *rest;	/* "[-- COMMAND...]", behind it; NULL: nothing comes there */
	const char *summary;	/* one line */
	const char *about;	/* for --help: what it does, with an example */
	const struct option_def *options;
	unsigned int option_count;
	const struct command *more;	/* its options are taken too; NULL: none */
	/* Its commands of its own, "image create" and so on, by number; NULL after the last. */
	const struct command *(*sub)(unsigned int i);
	char letter;			/* another name of a long option: -p VALUE; 0: none */
	const char *letter_option;	/* what it is short for */
	/* May be NULL.  Told of each option that was taken, with its text, after its set(). */
	int (*note)(void *dest, const struct option_def *o, const char *value, struct err *e);
	bool hidden;		/* started by other commands, not by people */
	const char *exits;	/* its exit statuses, for --help; NULL: 0, 2 and 12 */
	/* Runs it; @argv[0] is the command's name.  Returns the process's exit status. */
	int (*run)(const struct command *c, int argc, char **argv);
};

extern const struct command command_run;
extern const struct command command_trace;
extern const struct command command_stats;
extern const struct command command_set;
extern const struct command command_spool;
extern const struct command command_doctor;
extern const struct command command_audit;
extern const struct command command_net_user;
extern const struct command command_errand;
extern const struct command command_image;
extern const struct command command_appliance;
extern const struct command command_switch;
extern const struct command command_create;
extern const struct command command_start;
extern const struct command command_stop;
extern const struct command command_kill;
extern const struct command command_pause;
extern const struct command command_resume;
extern const struct command command_reset;
extern const struct command command_rm;
extern const struct command command_console;
extern const struct command command_ls;
extern const struct command command_ps;
extern const struct command command_inspect;
extern const struct command command_logs;
extern const struct command command_edit;
extern const struct command command_machine;
extern const struct command command_kernel;
extern const struct command command_exec;
extern const struct command command_top;
extern const struct command command_completion;
extern const struct command command_cp;

/* All of them, the hidden ones too (commands.c). */
extern const struct command *const all_commands[];
extern const unsigned int command_count;

#define OPTIONS_HELP	1	/* --help was given and answered */

/*
 * Parses @argv[1..] into @dest through the options' set functions; the operand, if the
 * command takes one, goes to *operand (it must be there).  0, OPTIONS_HELP, or -EINVAL.
 */
int options_parse(const struct command *c, int argc, char **argv, void *dest,
		  const char **operand, struct err *e);
/*
 * The same for a command with several operands: those that are there go to @operands, at most
 * @max, and their number to *count.
 */
int options_parse_many(const struct command *c, int argc, char **argv, void *dest,
		       const char **operands, unsigned int max, unsigned int *count, struct err *e);
/* Cuts argv at a "--"; the words behind it, NULL at their end, or NULL: there is none. */
char **command_words(int *argc, char **argv);
/*
 * The same for a command that takes one NAME first: the words behind it, with or without a "--"
 * between them, are none of @c's options.
 */
char **command_words_after_name(const struct command *c, int *argc, char **argv);
/* And at least @min of them, or a sentence says which. */
int options_parse_between(const struct command *c, int argc, char **argv, void *dest,
			  const char **operands, unsigned int min, unsigned int max,
			  unsigned int *count, struct err *e);
#define COMMAND_NAMES_MAX	64
/* The same with one to COMMAND_NAMES_MAX operands. */
int options_parse_names(const struct command *c, int argc, char **argv, void *dest,
			const char **names, unsigned int *count, struct err *e);
void command_print_help(const struct command *c, FILE *out);
/* Runs the one of @c's commands (sub) that @argv[1] names, or says which there are. */
int command_run_sub(const struct command *c, int argc, char **argv);

/* The one of @count @names nearest to @word, or NULL if none is near. */
const char *nearest_word(const char *word, const char *const *names, unsigned int count);

/* Prints @e as a sentence on stderr and returns @status. */
int command_fail(const struct err *e, int status);

/* --- command_format.c: --format of all commands --- */

/* What a command takes as --format that has no such option of its own. */
extern const struct option_def command_format;
/* Has @c one of its own? */
bool command_has_format(const struct command *c);
/* What is said is JSON, an object a line: --format json, or VIREO_FORMAT in the environment. */
bool command_json(void);
/* Looks at @value of an option @name that was taken, or NULL for what the environment says. */
void command_format_note(const char *name, const char *value);
/* Something was done to @name, which is a @what: nothing for people, a line of JSON on stdout. */
void command_done(const char *what, const char *name);
/* A sentence on stderr that is no error. */
void command_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
