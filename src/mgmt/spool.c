// SPDX-License-Identifier: Apache-2.0
/* `vireo spool`: the print jobs of VMs: ls, rm, hold, release, put-out. */
#include "backend/spool_queue.h"
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX	64U	/* on one command line */
#define NUMBER_MAX	99999999UL

/* The operands of a subcommand: a queue, and jobs of it. */
struct spool_args {
	const char *operands[1 + JOBS_MAX];
	unsigned int count;
	json_t *list;			/* --format json of ls; NULL: text */
};

/* --- ls --- */

static const char *state_of(const struct spool_job *j)
{
	return !j->number ? "printing" : j->held ? "held" : "waiting";
}

static void list_job(json_t *list, const char *queue, const struct spool_job *j)
{
	json_t *job = json_pack("{s:s,s:s,s:I,s:I,s:s}", "queue", queue, "state", state_of(j),
				"bytes", (json_int_t)j->size, "time", (json_int_t)j->time, "vm", j->vm);

	if (j->number)
		json_object_set_new(job, "job", json_integer(j->number));
	json_array_append_new(list, job);
}

static void print_job(const char *queue, const struct spool_job *j)
{
	const time_t when = j->time;
	char text[32] = "", number[16] = "-";
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	if (j->number)
		snprintf(number, sizeof(number), "%u", j->number);
	printf("%-16s  %-8s  %-9s %12llu  %-19s  %s\n", queue, number,
	       state_of(j), (unsigned long long)j->size, text, j->vm);
}

static int list_queue(const char *name, json_t *list, struct err *e)
{
	const int queue = spool_queue_open(name, false, e);
	struct spool_job *jobs;
	int count;

	if (queue < 0)
		return queue;
	count = spool_queue_list(queue, &jobs);
	close(queue);
	if (count < 0)
		return err_errno(e, -count, "could not read the print queue '%s'", name);
	for (int i = 0; i < count; i++)
		if (list)
			list_job(list, name, &jobs[i]);
		else
			print_job(name, &jobs[i]);
	free(jobs);
	return 0;
}

static int spool_ls(const struct spool_args *a, struct err *e)
{
	char **names = NULL;
	int count, rc = 0;

	count = a->count ? 0 : spool_queue_names(&names, e);
	if (count < 0)
		return count;
	if (!a->list)
		printf("%-16s  %-8s  %-9s %12s  %-19s  %s\n", "QUEUE", "JOB", "STATE", "BYTES", "TIME",
		       "VM");
	if (a->count)
		rc = list_queue(a->operands[0], a->list, e);
	for (int i = 0; i < count; i++) {
		rc = rc ? rc : list_queue(names[i], a->list, e);
		free(names[i]);
	}
	free(names);
	if (a->list && !rc) {
		json_dumpf(a->list, stdout, JSON_INDENT(2));
		printf("\n");
	}
	return rc;
}

/* --- changing --- */

static int parse_job(const char *text, unsigned int *number, struct err *e)
{
	char *end;
	const unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || !n || n > NUMBER_MAX)
		return err_set(e, EINVAL, "'%s' is no job's number: 'vireo spool ls' lists them", text);
	*number = n;
	return 0;
}

/* All numbers are read before anything is done. */
static int parse_jobs(const struct spool_args *a, unsigned int *numbers, struct err *e)
{
	int rc = 0;

	for (unsigned int i = 1; i < a->count && !rc; i++)
		rc = parse_job(a->operands[i], &numbers[i - 1], e);
	return rc;
}

static int change(const struct spool_args *a, enum spool_action action, bool put_out,
		  struct err *e)
{
	unsigned int numbers[JOBS_MAX];
	int queue, rc;

	rc = parse_jobs(a, numbers, e);
	if (rc)
		return rc;
	queue = spool_queue_open(a->operands[0], false, e);
	if (queue < 0)
		return queue;
	for (unsigned int i = 0; i + 1 < a->count && !rc; i++) {
		rc = spool_queue_change(queue, numbers[i], action);
		if (rc == -ENOENT)
			err_set(e, ENOENT, "there is no job %u in the queue '%s'", numbers[i],
				a->operands[0]);
		else if (rc)
			err_errno(e, -rc, "could not change job %u", numbers[i]);
	}
	if (!rc && put_out)
		rc = spool_queue_drain(queue, e);
	close(queue);
	return rc;
}

static int spool_rm(const struct spool_args *a, struct err *e)
{
	return change(a, SPOOL_REMOVE, false, e);
}

static int spool_hold(const struct spool_args *a, struct err *e)
{
	return change(a, SPOOL_HOLD, false, e);
}

static int spool_release(const struct spool_args *a, struct err *e)
{
	return change(a, SPOOL_RELEASE, true, e);
}

static int spool_put_out(const struct spool_args *a, struct err *e)
{
	return change(a, SPOOL_RELEASE, true, e);	/* of no job */
}

/* --- the command --- */

static int set_format(void *dest, const char *value, struct err *e)
{
	struct spool_args *a = dest;

	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	json_decref(a->list);
	a->list = strcmp(value, "json") ? NULL : json_array();
	return 0;
}

static const struct option_def ls_options[] = {
	{ "format", "text|json", "text (default), or json: a list of objects", set_format },
};

struct subcommand {
	struct command command;
	unsigned int min, max;
	int (*run)(const struct spool_args *a, struct err *e);
};

static int run_subcommand(const struct command *c, int argc, char **argv)
{
	const struct subcommand *s = container_of(c, const struct subcommand, command);
	struct spool_args a = { 0 };
	struct err e = { 0 };
	int rc;

	rc = options_parse_between(c, argc, argv, &a, a.operands, s->min, s->max, &a.count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = s->run(&a, &e);
	json_decref(a.list);
	if (!rc)
		return STATUS_OK;
	return command_fail(&e, rc == -EINVAL || rc == -ENOENT ? STATUS_USAGE : STATUS_HOST);
}

static const struct subcommand subcommands[] = {
	{ {
		.run = run_subcommand,
		.name = "spool ls", .operand = "[QUEUE]",
		.about =
		"Lists the print jobs in a queue, or in all of them, in the order in which they leave it.\n"
		"\n"
		"Example:\n"
		"  vireo spool ls office",
		.options = ls_options, .option_count = ARRAY_SIZE(ls_options) },
	  0, 1, spool_ls },
	{ {
		.run = run_subcommand,
		.name = "spool rm", .operand = "QUEUE JOB...",
		.about =
		"Removes jobs.\n"
		"\n"
		"Example:\n"
		"  vireo spool rm office 17 18" },
	  2, 1 + JOBS_MAX, spool_rm },
	{ {
		.run = run_subcommand,
		.name = "spool hold", .operand = "QUEUE JOB...",
		.about =
		"Keeps jobs from being put out.\n"
		"\n"
		"Example:\n"
		"  vireo spool hold office 17" },
	  2, 1 + JOBS_MAX, spool_hold },
	{ {
		.run = run_subcommand,
		.name = "spool release", .operand = "QUEUE JOB...",
		.about =
		"Lets held jobs go, and puts out what waits.\n"
		"\n"
		"Example:\n"
		"  vireo spool release office 17" },
	  2, 1 + JOBS_MAX, spool_release },
	{ {
		.run = run_subcommand,
		.name = "spool put-out", .operand = "QUEUE",
		.about =
		"Puts out what waits now, to where the last VM with out= or lp= said.\n"
		"\n"
		"Example:\n"
		"  vireo spool put-out office" },
	  1, 1, spool_put_out },
};

static const struct command *spool_sub(unsigned int i)
{
	return i < ARRAY_SIZE(subcommands) ? &subcommands[i].command : NULL;
}

const struct command command_spool = {
	.name = "spool",
	.operand = "ls|rm|hold|release|put-out ...",
	.summary = "list and change the print jobs of VMs",
	.about =
	"The print jobs of VMs that run with --printer QUEUE.  Each of these has --help:\n"
	"  vireo spool ls        the jobs of a queue, or of all\n"
	"  vireo spool rm        remove jobs\n"
	"  vireo spool hold      keep jobs from being put out\n"
	"  vireo spool release   let them go, and put out what waits\n"
	"  vireo spool put-out   put out what waits now\n"
	"\n"
	"Examples:\n"
	"  vireo spool ls\n"
	"  vireo spool hold office 17",
	.sub = spool_sub,
	.run = command_run_sub,
};
