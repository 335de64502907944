// SPDX-License-Identifier: Apache-2.0
/* `vireo set`: changes what a running VM may have of the host, asked at its socket. */
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

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

static json_t *arguments(const struct set_options *o)
{
	json_t *a = json_object();

	if (o->weight)
		json_object_set_new(a, "weight", json_string(o->weight));
	if (o->cap)
		json_object_set_new(a, "cap", json_string(o->cap));
	if (o->pin)
		json_object_set_new(a, "pin", json_string(o->pin));
	return a;
}

static int set_main(const struct command *c, int argc, char **argv)
{
	struct set_options o = { 0 };
	const char *name = NULL;
	struct err e = { 0 };
	json_t *answer;
	FILE *vm;
	int rc;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && !o.weight && !o.cap && !o.pin)
		rc = err_set(&e, EINVAL, "nothing is to be set: see 'vireo set --help'");
	if (!rc)
		rc = control_connect(&vm, name, &e);
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	answer = control_ask(vm, "set-cpu", arguments(&o), &e);
	fclose(vm);
	json_decref(answer);
	if (!answer)
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
	"Changes the limits of a VM that runs, as the options of 'vireo run' with\n"
	"the same names set them at the start.\n"
	"\n"
	"Example:\n"
	"  vireo set web --cpu-weight 512 --cpu-cap 150% --cpu-pin 0-1",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = set_main,
};
