// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo top`: where the time of running VMs goes, by processor, and what else they use; live on a
 * terminal, else one sample.  Only clearing the screen and bold are asked of the terminal, so
 * there is nothing of it to restore but its settings, which terminal.h sees to.
 */
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/roster.h"
#include "mgmt/status.h"
#include "mgmt/terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define REASONS_SHOWN	6

struct top_options {
	double interval;
	unsigned long count;		/* samples; 0: until it is left, or one */
	bool json;
	const char *names[COMMAND_NAMES_MAX];
	unsigned int name_count;	/* 0: all */
};

/* --- asking --- */

static bool wanted(const struct top_options *o, const char *name)
{
	for (unsigned int i = 0; i < o->name_count; i++)
		if (!strcmp(o->names[i], name))
			return true;
	return !o->name_count;
}

/* An object of what each VM tells, by name. */
static json_t *look(const struct top_options *o, struct err *e)
{
	json_t *list = roster(true, e), *all = json_object(), *vm;
	size_t i;

	json_array_foreach(list, i, vm) {
		const char *name = json_string_value(json_object_get(vm, "name"));
		const char *dir = json_string_value(json_object_get(vm, "directory"));
		struct err why = { 0 };
		json_t *told;
		FILE *f;

		if (!wanted(o, name) || control_connect(&f, dir ? dir : name, &why))
			continue;
		told = control_ask(f, "query-top", NULL, &why);
		fclose(f);
		if (told)
			json_object_set_new(all, name, told);
	}
	json_decref(list);
	return all;
}

static double number(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

/* --- one sample: what went by between two looks --- */

static json_t *vcpu_shares(const json_t *now, const json_t *before, double seconds)
{
	static const char *const places[] = { "user", "kernel", "translation", "vmm" };
	json_t *out = json_object();
	double sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		const double part = (number(now, places[i]) - number(before, places[i])) / seconds;

		json_object_set_new(out, places[i], json_real(MAX(part, 0.0)));
		sum += MAX(part, 0.0);
	}
	json_object_set_new(out, "idle", json_real(sum < 1 ? 1 - sum : 0));
	return out;
}

/* Those that are events and no sizes, a second. */
static json_t *rates(json_t *now, const json_t *before, double seconds)
{
	json_t *out = json_object(), *value;
	const char *name;

	json_object_foreach(now, name, value) {
		const double rate = (json_number_value(value) - number(before, name)) / seconds;

		if (rate > 0)
			json_object_set_new(out, name, json_real(rate));
	}
	return out;
}

/* The same of each device that is there at both looks. */
static json_t *device_rates(json_t *now, const json_t *before, double seconds)
{
	json_t *out = json_object(), *device, *one, *value;
	const char *id, *name;

	json_object_foreach(now, id, device) {
		const json_t *old = json_object_get(before, id);

		if (!old)
			continue;
		one = json_object();
		json_object_foreach(device, name, value) {
			const double more = json_number_value(value) - number(old, name);

			json_object_set_new(one, name, json_real(more / seconds));
		}
		json_object_set_new(out, id, one);
	}
	return out;
}

static json_t *sample_vm(const char *name, json_t *now, const json_t *before)
{
	const double seconds = MAX(number(now, "time") - number(before, "time"), 0.001);
	const json_t *old = json_object_get(before, "vcpus");
	json_t *vcpus = json_array(), *v;
	size_t i;

	json_array_foreach(json_object_get(now, "vcpus"), i, v)
		json_array_append_new(vcpus, vcpu_shares(v, json_array_get(old, i), seconds));
	return json_pack("{s:s,s:O,s:O,s:O,s:O,s:f,s:f,s:o,s:O*,s:O*,s:o,s:o,s:o,s:o}", "name", name,
			 "status", json_object_get(now, "status"), "engine", json_object_get(now, "engine"),
			 "memory", json_object_get(now, "memory"),
			 "resident", json_object_get(now, "resident"), "seconds", seconds,
			 "cpu", (number(now, "cpu-seconds") - number(before, "cpu-seconds")) / seconds,
			 "vcpus", vcpus, "limits", json_object_get(now, "limits"),
			 "vcpu-limits", json_object_get(now, "vcpu-limits"),
			 "io", rates(json_object_get(now, "io"), json_object_get(before, "io"), seconds),
			 "disks", device_rates(json_object_get(now, "disks"), json_object_get(before, "disks"),
					       seconds),
			 "nets", device_rates(json_object_get(now, "nets"), json_object_get(before, "nets"),
					      seconds),
			 "rates", rates(json_object_get(now, "counters"),
					json_object_get(before, "counters"), seconds));
}

/* A list of the VMs of both looks. */
static json_t *sample(json_t *now, const json_t *before)
{
	json_t *list = json_array(), *vm;
	const char *name;

	json_object_foreach(now, name, vm)
		if (json_object_get(before, name))
			json_array_append_new(list, sample_vm(name, vm, json_object_get(before, name)));
	return list;
}

/* --- showing it --- */

/* Why translated code and the guest were left: not how much was done in them. */
static bool is_reason(const char *name)
{
	static const char *const reasons[] = {
		"translator: exits", "port accesses", "device memory", "halts", "interrupts", "page faults",
		"TLB fills", "exits",
	};

	for (size_t i = 0; i < ARRAY_SIZE(reasons); i++)
		if (!strncmp(name, reasons[i], strlen(reasons[i])))
			return true;
	return false;
}

static void print_reasons(FILE *out, json_t *all, unsigned int lines)
{
	double limit = 1e300;

	for (unsigned int n = 0; n < MIN(lines, REASONS_SHOWN); n++) {
		const char *name, *best = NULL;
		json_t *value;
		double most = 0;

		json_object_foreach(all, name, value) {
			const double rate = json_number_value(value);

			if (rate > most && rate < limit && is_reason(name)) {
				most = rate;
				best = name;
			}
		}
		if (!best)
			return;
		fprintf(out, "%14.0f/s  %s\n", most, best);
		limit = most;
	}
}

static void print_limits(FILE *out, const json_t *limits)
{
	static const char *const names[] = { "weight", "cap", "pin" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *value = json_string_value(json_object_get(limits, names[i]));

		if (value)
			fprintf(out, "  %s %s", names[i], value);
	}
}

struct column {
	const char *what, *bytes, *events;
};

/* A line for each device: what it did a second. */
static void print_devices(FILE *out, json_t *devices, const struct column columns[2])
{
	const char *id;
	json_t *d;

	json_object_foreach(devices, id, d) {
		fprintf(out, "  %-12.20s", id);
		for (unsigned int i = 0; i < 2; i++)
			fprintf(out, "  %s %9.1f KiB/s %7.0f/s", columns[i].what, number(d, columns[i].bytes) / 1024,
				number(d, columns[i].events));
		fprintf(out, "\n");
	}
}

static void print_vm(FILE *out, const json_t *vm, bool bold)
{
	static const char *const places[] = { "user", "kernel", "translation", "vmm", "idle" };
	static const struct column disk_columns[2] = {
		{ "read", "read-bytes", "reads" }, { "written", "written-bytes", "writes" },
	}, net_columns[2] = {
		{ "in  ", "received-bytes", "received-frames" }, { "out    ", "sent-bytes", "sent-frames" },
	};
	const json_t *vcpus = json_object_get(vm, "vcpus"), *v;
	const json_t *io = json_object_get(vm, "io"), *limits = json_object_get(vm, "limits");
	char number_text[24];
	size_t i;

	fprintf(out, "%s%-20s %-8s %-5s %6.1f %7.0fM %8.0fM %9.1f %9.1f%s\n", bold ? "\033[1m" : "",
	       json_string_value(json_object_get(vm, "name")),
	       json_string_value(json_object_get(vm, "status")),
	       json_string_value(json_object_get(vm, "engine")), 100 * number(vm, "cpu"),
	       number(vm, "memory") / (1 << 20), number(vm, "resident") / (1 << 20),
	       number(io, "read") / 1024, number(io, "written") / 1024, bold ? "\033[0m" : "");
	if (limits) {
		fprintf(out, "  limits:");
		print_limits(out, limits);
		fprintf(out, "\n");
	}
	json_array_foreach(vcpus, i, v) {
		fprintf(out, "  cpu %-3zu", i);
		for (size_t p = 0; p < ARRAY_SIZE(places); p++)
			fprintf(out, "  %s %5.1f%%", places[p], 100 * number(v, places[p]));
		snprintf(number_text, sizeof(number_text), "%zu", i);
		print_limits(out, json_object_get(json_object_get(vm, "vcpu-limits"), number_text));
		fprintf(out, "\n");
	}
	print_devices(out, json_object_get(vm, "disks"), disk_columns);
	print_devices(out, json_object_get(vm, "nets"), net_columns);
	print_reasons(out, json_object_get(vm, "rates"),
		      json_array_size(vcpus) > 16 ? 2 : REASONS_SHOWN);
}

static void print_text(FILE *out, const json_t *list, bool live)
{
	const json_t *vm;
	size_t i;

	fprintf(out, "%-20s %-8s %-5s %6s %8s %9s %9s %9s\n", "NAME", "STATE", "ENG", "CPU%", "MEMORY",
	       "RESIDENT", "KiB/s in", "out");
	json_array_foreach(list, i, vm)
		print_vm(out, vm, live);
	if (!json_array_size(list))
		fprintf(out, "no VM runs\n");
}

/* As much as the terminal shows: lines of a raw terminal end with CR LF. */
static void show_live(const json_t *list)
{
	struct winsize w = { 0 };
	char *text = NULL, *line, *rest;
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);
	int lines = 23;

	if (!f)
		return;
	if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) && w.ws_row > 2)
		lines = w.ws_row - 1;
	print_text(f, list, true);
	fclose(f);
	rest = text;
	printf("\033[H\033[J");
	while (lines-- > 0 && (line = strsep(&rest, "\n")) && *line)
		printf("%s\r\n", line);
	printf("\033[7m q ends \033[0m");
	fflush(stdout);
	free(text);
}

/* --- the whole --- */

/* Until it is time; true: the user wants to leave. */
static bool wait_or_leave(double seconds, int keys, int signals)
{
	struct pollfd p[2] = { { .fd = keys, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	char key = 0;

	if (poll(p, 2, seconds * 1000) <= 0)
		return false;
	if (p[1].revents)
		return true;
	return read(keys, &key, 1) <= 0 || strchr("qQ\003\033", key);
}

/* Does each that was named run? */
static int check_names(const struct top_options *o, json_t *running, struct err *e)
{
	for (unsigned int i = 0; i < o->name_count; i++)
		if (!json_object_get(running, o->names[i]))
			return err_set(e, ENOENT, "no VM with the name '%.100s' runs here: 'vireo ls' lists those "
				       "that there are", o->names[i]);
	return 0;
}

static int watch(const struct top_options *o, bool live, int signals, struct err *e)
{
	const int keys = live ? STDIN_FILENO : -1;
	json_t *before = look(o, e), *now, *list;

	if (!e->code)
		check_names(o, before, e);
	for (unsigned long n = 0; !e->code && (!o->count || n < o->count); n++) {
		/* The first look of a live view is soon followed by another. */
		if (wait_or_leave(live && !n ? MIN(o->interval, 0.3) : o->interval, keys, signals))
			break;
		now = look(o, e);
		list = sample(now, before);
		if (live)
			show_live(list);
		else if (o->json)
			json_dumpf(list, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
		else
			print_text(stdout, list, false);
		if (o->json)
			printf("\n");
		json_decref(list);
		json_decref(before);
		before = now;
		if (fflush(stdout))
			break;
	}
	json_decref(before);
	return e->code;
}

static int run_top(struct top_options *o, struct err *e)
{
	const bool live = !o->json && !o->count && isatty(STDOUT_FILENO) && terminal_usable(STDIN_FILENO);
	struct terminal *terminal = NULL;
	sigset_t set;
	int signals, rc = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (!live && !o->count)
		o->count = 1;
	if (live)
		rc = terminal_open(&terminal, STDIN_FILENO, false, e);
	if (!rc)
		rc = watch(o, live, signals, e);
	terminal_close(terminal);
	if (live)
		printf("\n");
	close(signals);
	return rc;
}

static int set_interval(void *dest, const char *value, struct err *e)
{
	char *end;
	const double d = strtod(value, &end);

	if (end == value || *end || !(d >= 0.1) || d > 86400)
		return err_set(e, EINVAL, "'%s' is no value for --interval: give seconds, 0.1 to 86400",
			       value);
	((struct top_options *)dest)->interval = d;
	return 0;
}

static int set_count(void *dest, const char *value, struct err *e)
{
	char *end;
	const unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || !n)
		return err_set(e, EINVAL, "'%s' is no value for --count: give a number from 1", value);
	((struct top_options *)dest)->count = n;
	return 0;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct top_options *)dest)->json = !strcmp(value, "json");
	return 0;
}

static int top_main(const struct command *c, int argc, char **argv)
{
	struct top_options o = { .interval = 1 };
	struct err e = { 0 };
	int rc;

	rc = options_parse_many(c, argc, argv, &o, o.names, COMMAND_NAMES_MAX, &o.name_count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	rc = run_top(&o, &e);
	return rc ? command_fail(&e, rc == -ENOENT ? STATUS_USAGE : STATUS_HOST) : STATUS_OK;
}

static const struct option_def option_defs[] = {
	{ "interval", "SECONDS", "between samples (default 1)", set_interval },
	{ "count", "N", "end after N samples (without a terminal: 1)", set_count },
	{ "format", "text|json", "text (default), or json: a list a line", set_format },
};

const struct command command_top = {
	.name = "top",
	.operand = "[NAME...]",
	.summary = "show live where the time of VMs goes",
	.about =
	"Shows, for each VM that runs (or those that are named) and each of its processors, where the\n"
	"host's time went: the guest's user programs, its kernel, translating its code, vireo's\n"
	"devices, or nowhere; the most frequent reasons why the guest's code was left; memory; what\n"
	"the process, each disk and each network card read and wrote.  It samples each processor while it\n"
	"looks.  q ends it; without a terminal it prints one sample.\n"
	"\n"
	"Example:\n"
	"  vireo top --interval 2",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = top_main,
};
