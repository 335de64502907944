// SPDX-License-Identifier: Apache-2.0
/* `vireo set`: changes what a running VM may have of the host, asked at its socket. */
#include "base/named_socket.h"
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/control.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define ANSWER_S	5	/* a VM's loop answers at once; this is for one that is stopped */

struct set_options {
	const char *weight, *cap, *pin;		/* NULL: as it is */
};

/* The values are looked at here, too, so that a wrong one is a mistake in the command. */
static int set_weight(void *dest, const char *value, struct err *e)
{
	struct cpu_limits l;

	((struct set_options *)dest)->weight = value;
	return cpu_weight_parse(&l, value, e);
}

static int set_cap(void *dest, const char *value, struct err *e)
{
	struct cpu_limits l;

	((struct set_options *)dest)->cap = value;
	return cpu_cap_parse(&l, value, e);
}

static int set_pin(void *dest, const char *value, struct err *e)
{
	struct cpu_limits l;

	((struct set_options *)dest)->pin = value;
	return cpu_pin_parse(&l, value, e);
}

static char *question(const struct set_options *o)
{
	json_t *arguments = json_object(), *q;
	char *text;

	if (o->weight)
		json_object_set_new(arguments, "weight", json_string(o->weight));
	if (o->cap)
		json_object_set_new(arguments, "cap", json_string(o->cap));
	if (o->pin)
		json_object_set_new(arguments, "pin", json_string(o->pin));
	q = json_pack("{s:s,s:o}", "execute", "set-cpu", "arguments", arguments);
	text = json_dumps(q, JSON_COMPACT);
	json_decref(q);
	return text;
}

/* Sends one line and judges the one that comes back. */
static int ask(FILE *vm, const char *text, struct err *e)
{
	char *line = NULL;
	const char *desc;
	size_t room = 0;
	json_t *reply;

	if (!text || send(fileno(vm), text, strlen(text), MSG_NOSIGNAL) < 0 ||
	    send(fileno(vm), "\n", 1, MSG_NOSIGNAL) < 0 || getline(&line, &room, vm) < 0) {
		free(line);
		return err_set(e, ETIMEDOUT, "the VM does not answer: is its process stopped?");
	}
	reply = json_loads(line, 0, NULL);
	free(line);
	desc = json_string_value(json_object_get(json_object_get(reply, "error"), "desc"));
	if (desc)
		err_set(e, EINVAL, "%s", desc);
	else if (!json_object_get(reply, "return"))
		err_set(e, EPROTO, "the VM's answer is not understood: it is of another version");
	json_decref(reply);
	return e->code;
}

static int set_main(const struct command *c, int argc, char **argv)
{
	const struct timeval limit = { .tv_sec = ANSWER_S };
	struct set_options o = { 0 };
	const char *name = NULL;
	struct err e = { 0 };
	char *text;
	FILE *vm;
	int rc, fd;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = control_name_check(name, &e);
	if (!rc && !o.weight && !o.cap && !o.pin)
		rc = err_set(&e, EINVAL, "nothing is to be set: see 'vireo set --help'");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	fd = named_socket_connect(name, &e);
	if (fd < 0)
		return command_fail(&e, STATUS_USAGE);
	named_socket_limit(fd, &limit);
	vm = fdopen(fd, "r");
	if (!vm) {
		close(fd);
		err_set(&e, ENOMEM, "out of memory");
		return command_fail(&e, STATUS_HOST);
	}
	text = question(&o);
	rc = ask(vm, text, &e);
	free(text);
	fclose(vm);
	if (rc)
		return command_fail(&e, e.code == -EINVAL ? STATUS_USAGE : STATUS_HOST);
	return STATUS_OK;
}

static const struct option_def option_defs[] = {
	{ "cpu-weight", "N", "share of the processors beside other VMs, or none", set_weight },
	{ "cpu-cap", "N%", "at most so much of one processor, or none", set_cap },
	{ "cpu-pin", "LIST", "run on these processors of the host only, or none", set_pin },
};

const struct command command_set = {
	.name = "set",
	.operand = "NAME",
	.summary = "change what a running VM may have of the host's processors",
	.about =
	"Changes the limits of a VM that runs with --name NAME, as the options of 'vireo run' with\n"
	"the same names set them at the start.\n"
	"\n"
	"Example:\n"
	"  vireo set web --cpu-weight 512 --cpu-cap 150% --cpu-pin 0-1",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = set_main,
};
