// SPDX-License-Identifier: Apache-2.0
/* `vireo stats`: a running VM's counters, and how fast they count, asked at its socket. */
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct stats_options {
	double interval;
	unsigned long count;		/* samples, 0: until the VM ends */
	bool json;
};

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static int set_interval(void *dest, const char *value, struct err *e)
{
	char *end;
	double d = strtod(value, &end);

	if (end == value || *end || !(d >= 0.01) || d > 86400)
		return err_set(e, EINVAL, "'%s' is no value for --interval: give seconds, 0.01 to 86400",
			       value);
	((struct stats_options *)dest)->interval = d;
	return 0;
}

static int set_count(void *dest, const char *value, struct err *e)
{
	char *end;
	unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !n)
		return err_set(e, EINVAL, "'%s' is no value for --count: give a number from 1", value);
	((struct stats_options *)dest)->count = n;
	return 0;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct stats_options *)dest)->json = !strcmp(value, "json");
	return 0;
}

/* The counters, a new reference; NULL: the VM has gone, or @e says what else. */
static json_t *ask(FILE *vm, struct err *e)
{
	json_t *reply = control_ask(vm, "query-stats", NULL, e);
	json_t *counters = json_object_get(reply, "counters");

	json_incref(counters);
	if (reply && !json_is_object(counters)) {
		err_set(e, EPROTO, "this VM's answer has no counters: it is of another version");
		json_decref(counters);
		counters = NULL;
	}
	json_decref(reply);
	if (e->code == -EPIPE)
		*e = (struct err){ 0 };
	return counters;
}

static double rate_of(json_t *old, const char *name, json_int_t value, double seconds)
{
	return old && seconds > 0 ? (value - json_integer_value(json_object_get(old, name))) / seconds : 0;
}

static void print_text(json_t *counters, json_t *old, double seconds)
{
	const char *name;
	json_t *value;

	printf("%18s %14s\n", "total", "a second");
	json_object_foreach(counters, name, value) {
		const json_int_t n = json_integer_value(value);

		if (!n)
			continue;
		printf("%18" JSON_INTEGER_FORMAT, n);
		if (old)
			printf(" %14.0f", rate_of(old, name, n, seconds));
		else
			printf(" %14s", "-");
		printf("  %s\n", name);
	}
	printf("\n");
}

static void print_json(json_t *counters, json_t *old, double seconds)
{
	json_t *rates = json_object(), *all, *value;
	const char *name;

	json_object_foreach(counters, name, value)
		json_object_set_new(rates, name, json_real(rate_of(old, name, json_integer_value(value),
								   seconds)));
	all = json_pack("{s:f,s:O,s:o}", "seconds", seconds, "counters", counters, "rates", rates);
	json_dumpf(all, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
	printf("\n");
	json_decref(all);
}

/* Until @o->count samples were printed, the VM ends, or nobody reads. */
static int watch(FILE *vm, const struct stats_options *o, struct err *e)
{
	json_t *old = NULL, *counters;
	double before = 0, t;

	for (unsigned long n = 0; !o->count || n < o->count; n++) {
		if (n)
			usleep(o->interval * 1e6);
		counters = ask(vm, e);
		t = now();
		if (!counters)
			break;
		(o->json ? print_json : print_text)(counters, old, old ? t - before : 0);
		json_decref(old);
		old = counters;
		before = t;
		if (fflush(stdout))
			break;
	}
	json_decref(old);
	return e->code;
}

static int stats_main(const struct command *c, int argc, char **argv)
{
	struct stats_options o = { .interval = 1 };
	const char *name = NULL;
	struct err e = { 0 };
	FILE *vm;
	int rc;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = control_connect(&vm, name, &e);
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	rc = watch(vm, &o, &e);
	fclose(vm);
	return rc ? command_fail(&e, STATUS_HOST) : STATUS_OK;
}

static const struct option_def option_defs[] = {
	{ "interval", "SECONDS", "between samples (default 1)", set_interval },
	{ "count", "N", "end after N samples; without it when the VM ends", set_count },
	{ "format", "text|json", "text (default), or json: an object a line", set_format },
};

const struct command command_stats = {
	.name = "stats",
	.operand = "NAME",
	.summary = "show what a running VM counts, and how fast",
	.about =
	"Asks a VM that runs for its counters: instructions interpreted, blocks and\n"
	"chains, exits of translated code by reason, TLB fills, invalidations, interrupts, requests\n"
	"and bytes of each disk, frames and bytes of each network card.  Prints those that are not\n"
	"zero, and how much was added in a second since the sample before.\n"
	"\n"
	"Example:\n"
	"  vireo run --name web --kernel vmlinuz ... &\n"
	"  vireo stats web --interval 2",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = stats_main,
};
