// SPDX-License-Identifier: Apache-2.0
/* `vireo spool QUEUE`: the print jobs of VMs. */
#include "backend/spool_queue.h"
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct options {
	unsigned int number;		/* 0: list, or put out */
	enum spool_action action;
	bool put_out;
};

static int set_action(struct options *o, const char *value, enum spool_action action,
		      struct err *e)
{
	char *end;
	const unsigned long n = strtoul(value, &end, 10);

	if (value[0] < '0' || value[0] > '9' || *end || !n || n >= 100000000UL)
		return err_set(e, EINVAL, "'%s' is no job's number: 'vireo spool QUEUE' lists them", value);
	if (o->number)
		return err_set(e, EINVAL, "one job and one deed at a time");
	o->number = n;
	o->action = action;
	return 0;
}

static int set_rm(void *dest, const char *value, struct err *e)
{
	return set_action(dest, value, SPOOL_REMOVE, e);
}

static int set_hold(void *dest, const char *value, struct err *e)
{
	return set_action(dest, value, SPOOL_HOLD, e);
}

static int set_release(void *dest, const char *value, struct err *e)
{
	((struct options *)dest)->put_out = true;
	return set_action(dest, value, SPOOL_RELEASE, e);
}

static int set_put_out(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct options *)dest)->put_out = true;
	return 0;
}

static void print_job(const struct spool_job *j)
{
	const time_t when = j->time;
	char text[32] = "";
	struct tm tm;

	if (localtime_r(&when, &tm))
		strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
	if (j->number)
		printf("%-8u  %-9s %12llu  %s  %s\n", j->number, j->held ? "held" : "waiting",
		       (unsigned long long)j->size, text, j->vm);
	else
		printf("%-8s  %-9s %12llu  %s  %s\n", "-", "printing", (unsigned long long)j->size,
		       text, j->vm);
}

static int list(int queue, struct err *e)
{
	struct spool_job *jobs;
	const int count = spool_queue_list(queue, &jobs);

	if (count < 0)
		return err_errno(e, -count, "could not read the print queue");
	printf("%-8s  %-9s %12s  %-19s  %s\n", "JOB", "STATE", "BYTES", "TIME", "VM");
	for (int i = 0; i < count; i++)
		print_job(&jobs[i]);
	free(jobs);
	return 0;
}

static int act(int queue, const struct options *o, struct err *e)
{
	int rc = 0;

	if (!o->number && !o->put_out)
		return list(queue, e);
	if (o->number)
		rc = spool_queue_change(queue, o->number, o->action);
	if (rc == -ENOENT)
		return err_set(e, ENOENT, "there is no job %u in this queue", o->number);
	if (rc)
		return err_errno(e, -rc, "could not change job %u", o->number);
	return o->put_out ? spool_queue_drain(queue, e) : 0;
}

static int spool_main(const struct command *c, int argc, char **argv)
{
	struct options o = { 0 };
	struct err e = { 0 };
	const char *name;
	int queue, rc;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	queue = spool_queue_open(name, false, &e);
	if (queue < 0)
		return command_fail(&e, STATUS_USAGE);
	rc = act(queue, &o, &e);
	close(queue);
	if (rc)
		return command_fail(&e, rc == -ENOENT ? STATUS_USAGE : STATUS_HOST);
	return STATUS_OK;
}

static const struct option_def option_defs[] = {
	{ "rm", "JOB", "remove a job", set_rm },
	{ "hold", "JOB", "keep a job from being put out", set_hold },
	{ "release", "JOB", "let it go, and put out what waits", set_release },
	{ "put-out", NULL, "put out what waits now", set_put_out },
};

const struct command command_spool = {
	.name = "spool",
	.operand = "QUEUE",
	.summary = "list and change the print jobs of VMs",
	.about =
	"Lists the print jobs in a queue, which VMs with --printer QUEUE have filled, in the order\n"
	"in which they leave it; or changes one.\n"
	"\n"
	"Example:\n"
	"  vireo spool office\n"
	"  vireo spool office --hold 17",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = spool_main,
};
