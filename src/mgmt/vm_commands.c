// SPDX-License-Identifier: Apache-2.0
/* Commands of several servers; see vm_commands.h. */
#include "mgmt/vm_commands.h"
#include "base/types.h"
#include "machine/vm.h"

static json_t *stop(void *arg, const json_t *arguments)
{
	(void)arguments;
	vm_pause(((struct vm_access *)arg)->vm);
	return json_object();
}

static json_t *cont(void *arg, const json_t *arguments)
{
	struct vm *vm = ((struct vm_access *)arg)->vm;

	(void)arguments;
	if (vm_is_off(vm))
		return json_refuse("GenericError", "the guest has powered off: reset the VM first "
				   "(system_reset)");
	vm_resume(vm);
	return json_object();
}

static json_t *quit(void *arg, const json_t *arguments)
{
	(void)arguments;
	vm_stop(((struct vm_access *)arg)->vm);
	return json_object();
}

static json_t *system_reset(void *arg, const json_t *arguments)
{
	(void)arguments;
	vm_reset(((struct vm_access *)arg)->vm);
	return json_object();
}

static json_t *system_powerdown(void *arg, const json_t *arguments)
{
	(void)arguments;
	vm_power_button(((struct vm_access *)arg)->vm);
	return json_object();
}

static const struct json_command rows[] = {
	{ "cont", "", cont },
	{ "quit", "", quit },
	{ "stop", "", stop },
	{ "system_powerdown", "", system_powerdown },
	{ "system_reset", "", system_reset },
};

const struct json_commands vm_commands = { .rows = rows, .count = ARRAY_SIZE(rows) };
