// SPDX-License-Identifier: Apache-2.0
/* `vireo set`: changes what a running VM has of the host, asked at its socket. */
#include "base/types.h"
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

struct set_options {
	const char *weight, *cap, *pin, *engine;	/* NULL: as it is */
	cpu_set_t vcpus;				/* whose weight, cap and pin; none: the VM's */
	unsigned int cpus;				/* 0: as it is */
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

static int set_engine(void *dest, const char *value, struct err *e)
{
	((struct set_options *)dest)->engine = value;
	if (engine_named(value))
		return 0;
	return err_set(e, EINVAL, "'%s' is no value for --engine; a running VM can be moved to soft "
		       "or kvm", value);
}

static int set_cpus(void *dest, const char *value, struct err *e)
{
	return cpus_parse(&((struct set_options *)dest)->cpus, value, e);
}

static int set_vcpu(void *dest, const char *value, struct err *e)
{
	return cpu_list_parse(&((struct set_options *)dest)->vcpus, value, VM_CPUS_MAX, e);
}

/* @vcpu -1: the VM's. */
static json_t *cpu_arguments(const struct set_options *o, int vcpu)
{
	json_t *a = json_object();

	if (vcpu >= 0)
		json_object_set_new(a, "vcpu", json_integer(vcpu));
	if (o->weight)
		json_object_set_new(a, "weight", json_string(o->weight));
	if (o->cap)
		json_object_set_new(a, "cap", json_string(o->cap));
	if (o->pin)
		json_object_set_new(a, "pin", json_string(o->pin));
	return a;
}

static int ask(FILE *vm, const char *command, json_t *arguments, struct err *e)
{
	json_t *answer = control_ask(vm, command, arguments, e);

	json_decref(answer);
	return answer ? 0 : e->code;
}

static bool sets_limits(const struct set_options *o)
{
	return o->weight || o->cap || o->pin;
}

static int ask_limits(FILE *vm, const struct set_options *o, struct err *e)
{
	int rc = 0;

	if (!CPU_COUNT(&o->vcpus))
		return ask(vm, "set-cpu", cpu_arguments(o, -1), e);
	for (int i = 0; !rc && i < VM_CPUS_MAX; i++)
		if (CPU_ISSET(i, &o->vcpus))
			rc = ask(vm, "set-cpu", cpu_arguments(o, i), e);
	return rc;
}

static int ask_all(FILE *vm, const struct set_options *o, struct err *e)
{
	int rc = 0;

	if (sets_limits(o))
		rc = ask_limits(vm, o, e);
	if (!rc && o->cpus)
		rc = ask(vm, "set-cpus", json_pack("{s:i}", "count", (int)o->cpus), e);
	if (!rc && o->engine)
		rc = ask(vm, "set-engine", json_pack("{s:s}", "engine", o->engine), e);
	return rc;
}

static int set_main(const struct command *c, int argc, char **argv)
{
	struct set_options o = { 0 };
	const char *name = NULL;
	struct err e = { 0 };
	FILE *vm;
	int rc;

	rc = options_parse(c, argc, argv, &o, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && !sets_limits(&o) && CPU_COUNT(&o.vcpus))
		rc = err_set(&e, EINVAL, "--vcpu says whose --cpu-weight, --cpu-cap or --cpu-pin is to be set: "
			     "give one of them");
	else if (!rc && !sets_limits(&o) && !o.engine && !o.cpus)
		rc = err_set(&e, EINVAL, "nothing is to be set: see 'vireo set --help'");
	if (!rc)
		rc = control_connect(&vm, name, &e);
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	rc = ask_all(vm, &o, &e);
	fclose(vm);
	if (rc)
		return command_fail(&e, e.code == -EINVAL ? STATUS_USAGE : STATUS_HOST);
	command_done("name", name);
	return STATUS_OK;
}

static const struct option_def option_defs[] = {
	{ "cpus", "N", "so many processors: some come, or the guest lets go of some",
	  set_cpus },
	{ "cpu-weight", "N", "share of the processors beside other VMs, or none", set_weight },
	{ "cpu-cap", "N%", "at most so much of one processor, or none", set_cap },
	{ "cpu-pin", "LIST", "run on these processors of the host only, or none", set_pin },
	{ "vcpu", "LIST", "set these three for single processors of the VM: 0-1,4", set_vcpu },
	{ "engine", "NAME", "go on with the engine soft or kvm", set_engine },
};

const struct command command_set = {
	.name = "set",
	.operand = "NAME",
	.summary = "change a running VM's engine, its processors, and what it may have of the host's",
	.about =
	"Changes the processors and limits of a VM that runs, as the options of 'vireo run' with\n"
	"the same names set them at the start, and moves its guest from engine to engine, which the\n"
	"guest does not notice.\n"
	"\n"
	"Example:\n"
	"  vireo set web --cpu-weight 512 --cpu-cap 150% --cpu-pin 0-1\n"
	"  vireo set web --vcpu 1 --cpu-cap 50% --cpu-weight 50\n"
	"  vireo set web --cpus 4\n"
	"  vireo set web --engine kvm",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = set_main,
};
