// SPDX-License-Identifier: Apache-2.0
/* `vireo ls`, `vireo ps`, `vireo inspect`: what VMs there are, and what they are. */
#include "mgmt/command.h"
#include "mgmt/machine.h"
#include "mgmt/roster.h"
#include "mgmt/status.h"
#include "mgmt/vm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct list_options {
	bool json, schema;
};

/* --- tables --- */

static const char *text_of(const json_t *vm, const char *key)
{
	const char *text = json_string_value(json_object_get(vm, key));

	return text ? text : "-";
}

/* A number of @unit bytes, or a dash. */
static void print_size(const json_t *vm, const char *key, int width)
{
	const json_int_t n = json_integer_value(json_object_get(vm, key));
	char text[32] = "-";

	if (n)
		snprintf(text, sizeof(text), "%lldM", (long long)n >> 20);
	printf(" %*s", width, text);
}

static void print_number(const json_t *vm, const char *key, int width)
{
	const json_t *n = json_object_get(vm, key);

	if (n)
		printf(" %*lld", width, (long long)json_integer_value(n));
	else
		printf(" %*s", width, "-");
}

/* "3d04h", "2h05m", "1m09s" */
static void print_time(const json_t *vm, const char *key, int width)
{
	const unsigned long s = json_number_value(json_object_get(vm, key));
	char text[32];

	if (s >= 86400)
		snprintf(text, sizeof(text), "%lud%02luh", s / 86400, s / 3600 % 24);
	else if (s >= 3600)
		snprintf(text, sizeof(text), "%luh%02lum", s / 3600, s / 60 % 60);
	else
		snprintf(text, sizeof(text), "%lum%02lus", s / 60, s % 60);
	printf(" %*s", width, text);
}

static void print_ls(const json_t *all)
{
	const json_t *vm;
	size_t i;

	printf("%-20s %-12s %5s %8s %8s  %s\n", "NAME", "STATE", "CPUS", "MEMORY", "PID", "DIRECTORY");
	json_array_foreach(all, i, vm) {
		printf("%-20s %-12s", text_of(vm, "name"), text_of(vm, "state"));
		print_number(vm, "cpus", 5);
		print_size(vm, "memory", 8);
		print_number(vm, "pid", 8);
		printf("  %s\n", text_of(vm, "directory"));
	}
}

static void print_ps(const json_t *all)
{
	const json_t *vm;
	size_t i;

	printf("%8s %-20s %-12s %-6s %5s %8s %9s %8s %8s\n", "PID", "NAME", "STATE", "ENGINE", "CPUS",
	       "MEMORY", "RESIDENT", "CPU", "UP");
	json_array_foreach(all, i, vm) {
		printf("%8lld %-20s %-12s %-6s", (long long)json_integer_value(json_object_get(vm, "pid")),
		       text_of(vm, "name"), text_of(vm, "state"), text_of(vm, "engine"));
		print_number(vm, "cpus", 5);
		print_size(vm, "memory", 8);
		print_size(vm, "resident", 9);
		print_time(vm, "cpu-seconds", 8);
		print_time(vm, "uptime", 8);
		printf("\n");
	}
}

/* One that does not run is what its vm.json says. */
static void add_config(json_t *vm, bool whole)
{
	const char *dir = json_string_value(json_object_get(vm, "directory"));
	struct vm_config_file c;
	struct err e = { 0 };
	int fd;

	if (!dir)
		return;
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (vm_config_read(&c, fd, MACHINE_CONFIG, &e)) {
		json_object_set_new(vm, "error", json_string(e.text));
	} else {
		json_object_set_new(vm, "cpus", json_integer(c.options.cpus));
		json_object_set_new(vm, "memory", json_integer(c.options.memory));
	}
	if (whole && c.root)
		json_object_set(vm, "config", c.root);
	vm_config_free(&c);
	if (whole) {
		const int end = openat(fd, MACHINE_END, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		json_t *last = end < 0 ? NULL : json_loadfd(end, 0, NULL);

		if (last)
			json_object_set_new(vm, "last-end", last);
		if (end >= 0)
			close(end);
	}
	if (fd >= 0)
		close(fd);
}

/* --- the command line --- */

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct list_options *)dest)->json = !strcmp(value, "json");
	return 0;
}

static int list_main(const struct command *c, int argc, char **argv)
{
	const bool ps = c == &command_ps;
	struct list_options o = { 0 };
	struct err e = { 0 };
	json_t *all, *vm;
	size_t i;
	int rc;

	rc = options_parse(c, argc, argv, &o, NULL, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	all = roster(ps, &e);
	if (!all)
		return command_fail(&e, STATUS_HOST);
	json_array_foreach(all, i, vm)
		if (!json_object_get(vm, "cpus"))
			add_config(vm, false);
	if (o.json) {
		json_dumpf(all, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		printf("\n");
	} else {
		(ps ? print_ps : print_ls)(all);
	}
	json_decref(all);
	return STATUS_OK;
}

static int set_schema(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct list_options *)dest)->schema = true;
	return 0;
}

static void print_value(const char *key, const json_t *value, unsigned int depth)
{
	const char *inner;
	json_t *v;
	char *text;
	size_t i;

	printf("%*s%s:", 2 * depth, "", key);
	if (json_is_object(value)) {
		printf("\n");
		json_object_foreach((json_t *)value, inner, v)
			print_value(inner, v, depth + 1);
		return;
	}
	if (json_is_string(value)) {
		printf(" %s\n", json_string_value(value));
		return;
	}
	if (json_is_array(value)) {
		printf("\n");
		json_array_foreach(value, i, v)
			printf("%*s- %s\n", 2 * (depth + 1), "", json_string_value(v));
		return;
	}
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
	printf(" %s\n", text ? text : "");
	free(text);
}

static void print_all(json_t *vm, bool json)
{
	const char *key;
	json_t *value;

	if (json) {
		json_dumpf(vm, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
		printf("\n");
		return;
	}
	json_object_foreach(vm, key, value)
		print_value(key, value, 0);
}

static int inspect_main(const struct command *c, int argc, char **argv)
{
	struct list_options o = { .json = true };
	const char *name = NULL;
	struct err e = { 0 };
	unsigned int count;
	json_t *vm;
	int rc;

	rc = options_parse_many(c, argc, argv, &o, &name, 1, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && !count && !o.schema)
		rc = err_set(&e, EINVAL, "'vireo inspect' needs a NAME, or --schema");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	vm = o.schema ? vm_config_schema() : roster_entry(name, &e);
	if (!vm)
		return command_fail(&e, STATUS_USAGE);
	if (!o.schema)
		add_config(vm, true);
	print_all(vm, o.json || o.schema);
	json_decref(vm);
	return STATUS_OK;
}

#define OPTION_FORMAT(text)	{ "format", "text|json", text, set_format }

static const struct option_def list_options[] = {
	OPTION_FORMAT("text (default), or json: a list of objects"),
};

static const struct option_def inspect_options[] = {
	OPTION_FORMAT("json (default), or text"),
	{ "schema", NULL, "print the JSON schema of vm.json instead", set_schema },
};

const struct command command_ls = {
	.name = "ls",
	.summary = "list all VMs",
	.about =
	"Lists VMs that 'vireo create' made, and those that run with --name.  One is stopped,\n"
	"starting, running, paused, crashed (its process ended without a word) or unresponsive.\n"
	"\n"
	"Example:\n"
	"  vireo ls --format json",
	.options = list_options,
	.option_count = ARRAY_SIZE(list_options),
	.run = list_main,
};

const struct command command_ps = {
	.name = "ps",
	.summary = "list VMs that run, with what they use",
	.about =
	"Lists VMs that run: their processes, engines, how much memory their guests have and how\n"
	"much of the host's their processes take, processor time, and since when they run.\n"
	"\n"
	"Example:\n"
	"  vireo ps",
	.options = list_options,
	.option_count = ARRAY_SIZE(list_options),
	.run = list_main,
};

const struct command command_inspect = {
	.name = "inspect",
	.operand = "NAME",
	.summary = "show all that is known of a VM",
	.about =
	"Prints a VM's state, what it is made of (its vm.json), and how it ended last.\n"
	"\n"
	"Example:\n"
	"  vireo inspect web",
	.options = inspect_options,
	.option_count = ARRAY_SIZE(inspect_options),
	.run = inspect_main,
};
