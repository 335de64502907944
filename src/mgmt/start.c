// SPDX-License-Identifier: Apache-2.0
/* `vireo start`: runs a machine that is kept, in the background unless told otherwise. */
#include "mgmt/command.h"
#include "mgmt/console_client.h"
#include "mgmt/machine_run.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

struct start_options {
	bool console, foreground;
};

static int set_console(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct start_options *)dest)->console = true;
	return 0;
}

static int set_foreground(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct start_options *)dest)->foreground = true;
	return 0;
}

static int start(const char *name, const struct start_options *o)
{
	struct machine m;
	struct err e = { 0 };
	int status = STATUS_OK, rc;

	if (machine_open(&m, name, &e))
		return command_fail(&e, STATUS_USAGE);
	if (o->foreground) {
		status = machine_run(&m, NULL);
		machine_close(&m);
		return status;
	}
	rc = machine_start(&m, &status, &e);
	if (!rc && o->console) {
		status = console_attach(&m, ESCAPE_DEFAULT, &e);
	} else if (!rc) {
		command_done("name", name);
		status = STATUS_OK;
	}
	machine_close(&m);
	if (e.code && !strstr(e.text, name))	/* it may be one of several */
		err_prefix(&e, "VM '%.100s'", name);
	return e.code ? command_fail(&e, status) : status;
}

static int start_main(const struct command *c, int argc, char **argv)
{
	struct start_options o = { 0 };
	const char *names[COMMAND_NAMES_MAX];
	struct err e = { 0 };
	unsigned int count;
	int status = STATUS_OK, one;
	int rc;

	rc = options_parse_names(c, argc, argv, &o, names, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && count > 1 && (o.console || o.foreground))
		rc = err_set(&e, EINVAL, "--console and --foreground are for one VM at a time");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	for (unsigned int i = 0; i < count; i++) {
		one = start(names[i], &o);
		status = status ? status : one;
	}
	return status;
}

static const struct option_def option_defs[] = {
	{ "console", NULL, "then connect this terminal to its serial console", set_console },
	{ "foreground", NULL, "run it in this process, which ends with it (for service managers)",
	  set_foreground },
};

const struct command command_start = {
	.name = "start",
	.operand = "NAME...",
	.summary = "start VMs in the background",
	.about =
	"Starts VMs that 'vireo create' made, each in a process of its own, and returns when\n"
	"their guests run, or says why one does not.\n"
	"\n"
	"Example:\n"
	"  vireo start web --console",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.exits = "0 all run, 2 wrong usage, no such VM or a wrong vm.json, 12 the host failed;\n"
		 "with --foreground that of 'vireo run'.",
	.run = start_main,
};
