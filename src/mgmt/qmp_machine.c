// SPDX-License-Identifier: Apache-2.0
/*
 * QMP's questions that programs ask when they connect, to learn what this QEMU can do; most of the
 * answers are the same for every VM.
 */
#include "mgmt/qmp_priv.h"
#include "mgmt/run_devices.h"
#include "virtio/balloon.h"

#include <string.h>

static json_t *query_target(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return json_pack("{s:s}", "arch", "x86_64");
}

static json_t *query_machines(void *arg, const json_t *arguments)
{
	static const char *const names[] = { "pc", "q35", "microvm" };
	json_t *list = json_array();

	(void)arg;
	(void)arguments;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		json_array_append_new(list, json_pack("{s:s,s:i,s:b,s:b,s:b,s:b}", "name", names[i], "cpu-max",
			VM_CPUS_MAX, "hotpluggable-cpus", 0, "numa-mem-supported", 0, "deprecated", 0,
			"is-default", i == 0));
	return list;
}

static json_t *query_current_machine(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return json_pack("{s:b}", "wakeup-suspend-support", 0);
}

static json_t *query_cpu_definitions(void *arg, const json_t *arguments)
{
	static const char *const names[] = { "qemu64", "kvm64", "max", "host", "vireo-v1", "vireo-v0" };
	json_t *list = json_array();
	char type[64];

	(void)arg;
	(void)arguments;
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		snprintf(type, sizeof(type), "%s-x86_64-cpu", names[i]);
		json_array_append_new(list, json_pack("{s:s,s:s,s:b,s:b,s:b,s:[]}", "name", names[i], "typename",
			type, "static", 0, "migration-safe", 0, "deprecated", 0, "unavailable-features"));
	}
	return list;
}

static json_t *query_events(void *arg, const json_t *arguments)
{
	json_t *list = json_array();

	(void)arg;
	(void)arguments;
	for (size_t i = 0; qmp_event_names[i]; i++)
		json_array_append_new(list, json_pack("{s:s}", "name", qmp_event_names[i]));
	return list;
}

/* Which commands and events there are; of their arguments only that there are some. */
static json_t *query_schema(void *arg, const json_t *arguments)
{
	json_t *list = json_pack("[{s:s,s:s,s:[]},{s:s,s:s,s:s}]", "name", "0", "meta-type", "object", "members",
				 "name", "any", "meta-type", "builtin", "json-type", "value");
	json_t *commands = json_commands_list(&qmp_commands), *command;
	size_t i;

	(void)arg;
	(void)arguments;
	json_array_foreach(commands, i, command)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s,s:s,s:b}", "name",
			json_string_value(json_object_get(command, "name")), "meta-type", "command", "arg-type",
			"0", "ret-type", "any", "allow-oob", 0));
	for (i = 0; qmp_event_names[i]; i++)
		json_array_append_new(list, json_pack("{s:s,s:s,s:s}", "name", qmp_event_names[i], "meta-type",
						      "event", "arg-type", "0"));
	json_decref(commands);
	return list;
}

/* --- objects --- */

static void tell_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	(void)info;
	json_array_append_new(arg, json_pack("{s:s,s:s}", "name", disk->id, "type",
					     disk->target < 0 ? "child<virtio-blk-pci>" : "child<scsi-hd>"));
}

static void tell_net(void *arg, const struct run_net_info *net)
{
	json_array_append_new(arg, json_pack("{s:s,s:s}", "name", net->id, "type", "child<virtio-net-pci>"));
}

/* Of the tree of objects there is what leads to the devices. */
static json_t *qom_list(void *arg, const json_t *arguments)
{
	const char *path = json_string_value(json_object_get(arguments, "path"));
	json_t *list;

	if (!path)
		return json_refuse("GenericError", "Parameter 'path' is a string");
	if (!strcmp(path, "/"))
		return json_pack("[{s:s,s:s}]", "name", "machine", "type", "child<pc-machine>");
	if (!strcmp(path, "/machine"))
		return json_pack("[{s:s,s:s},{s:s,s:s}]", "name", "peripheral", "type", "child<container>", "name",
				 "peripheral-anon", "type", "child<container>");
	if (strcmp(path, "/machine/peripheral") && strcmp(path, "/machine/peripheral-anon"))
		return json_refuse("DeviceNotFound", "there is no such object");
	list = json_array();
	if (!strcmp(path, "/machine/peripheral")) {
		run_disks_list(((struct qmp *)arg)->at.disks, tell_disk, list);
		run_nets_list(((struct qmp *)arg)->at.nets, tell_net, list);
	}
	return list;
}

/* --- memory --- */

static json_t *query_memory(void *arg, const json_t *arguments)
{
	const struct qmp *q = arg;

	(void)arguments;
	return json_pack("{s:I,s:i}", "base-memory", (json_int_t)vm_memory_size(q->at.vm), "plugged-memory", 0);
}

static json_t *no_balloon(void)
{
	return json_refuse("DeviceNotActive", "No balloon device has been activated");
}

static json_t *query_balloon(void *arg, const json_t *arguments)
{
	struct vm *vm = ((struct qmp *)arg)->at.vm;
	struct balloon_state s;

	(void)arguments;
	if (!vm_balloon(vm))
		return no_balloon();
	balloon_state(vm_balloon(vm), &s);
	return json_pack("{s:I}", "actual", (json_int_t)(vm_memory_size(vm) - s.actual));
}

static json_t *balloon(void *arg, const json_t *arguments)
{
	struct vm *vm = ((struct qmp *)arg)->at.vm;
	const json_t *value = json_object_get(arguments, "value");

	if (!vm_balloon(vm))
		return no_balloon();
	if (!json_is_integer(value) || json_integer_value(value) < 1)
		return json_refuse("GenericError", "Parameter 'value' expects a size: what the guest is to keep");
	balloon_set_target(vm_balloon(vm), vm_memory_size(vm) - MIN((uint64_t)json_integer_value(value),
								    vm_memory_size(vm)));
	return json_object();
}

/* --- what is never there --- */

static json_t *empty_list(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return json_array();
}

static json_t *empty_object(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return json_object();
}

static const struct json_command rows[] = {
	{ "balloon", "value!", balloon },
	{ "qom-list", "path!", qom_list },
	{ "query-balloon", "", query_balloon },
	{ "query-block-jobs", "", empty_list },
	{ "query-cpu-definitions", "", query_cpu_definitions },
	{ "query-current-machine", "", query_current_machine },
	{ "query-events", "", query_events },
	{ "query-iothreads", "", empty_list },
	{ "query-jobs", "", empty_list },
	{ "query-machines", "", query_machines },
	{ "query-memory-devices", "", empty_list },
	{ "query-memory-size-summary", "", query_memory },
	{ "query-mice", "", empty_list },
	{ "query-migrate", "", empty_object },
	{ "query-qmp-schema", "", query_schema },
	{ "query-target", "", query_target },
};

const struct json_commands qmp_machine_commands = {
	.rows = rows, .count = ARRAY_SIZE(rows), .more = &qmp_device_commands,
};
