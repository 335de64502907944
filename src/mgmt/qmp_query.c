// SPDX-License-Identifier: Apache-2.0
/* QMP's commands; see qmp.h.  What has no counterpart here is left out of an answer. */
#include "backend/block.h"
#include "mgmt/dump.h"
#include "mgmt/io_json.h"
#include "mgmt/monitor_command.h"
#include "mgmt/qmp_priv.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

json_t *qmp_version(void)
{
	return json_pack("{s:{s:i,s:i,s:i},s:s}", "qemu", "major", QMP_MAJOR, "minor", QMP_MINOR,
			 "micro", QMP_MICRO, "package", "Vireo " VIREO_VERSION);
}

static json_t *query_version(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return qmp_version();
}

static json_t *query_status(void *arg, const json_t *arguments)
{
	const struct qmp *q = arg;
	const bool paused = vm_is_paused(q->at.vm);

	(void)arguments;
	return json_pack("{s:s,s:b,s:b}", "status", vm_is_off(q->at.vm) ? "shutdown" :
			 paused ? "paused" : "running", "running", !paused, "singlestep", false);
}

static json_t *query_kvm(void *arg, const json_t *arguments)
{
	const struct qmp *q = arg;

	(void)arguments;
	return json_pack("{s:b,s:b}", "enabled", !strcmp(vm_engine_name(q->at.vm), "kvm"),
			 "present", true);
}

static json_t *query_name(void *arg, const json_t *arguments)
{
	const struct run_options *o = ((const struct qmp *)arg)->at.options;

	(void)arguments;
	if (o->label || o->name)
		return json_pack("{s:s}", "name", o->label ? o->label : o->name);
	return json_object();
}

static json_t *query_uuid(void *arg, const json_t *arguments)
{
	const struct run_options *o = ((const struct qmp *)arg)->at.options;

	(void)arguments;
	return json_pack("{s:s}", "UUID", o->uuid ? o->uuid : "00000000-0000-0000-0000-000000000000");
}

static json_t *query_cpus_fast(void *arg, const json_t *arguments)
{
	const struct qmp *q = arg;
	json_t *list = json_array();
	char path[64];

	(void)arguments;
	for (unsigned int i = 0; i < vm_cpus(q->at.vm); i++) {
		snprintf(path, sizeof(path), "/machine/unattached/device[%u]", i);
		json_array_append_new(list, json_pack("{s:i,s:s,s:i,s:s,s:{s:i,s:i,s:i}}",
			"cpu-index", i, "qom-path", path, "thread-id", vm_vcpu_thread(q->at.vm, i),
			"target", "x86_64", "props", "socket-id", 0, "core-id", i, "thread-id", 0));
	}
	return list;
}

static void tell_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	json_t *image, *inserted;
	char path[160];

	snprintf(path, sizeof(path), "/machine/peripheral/%s%s", disk->id,
		 disk->target < 0 ? "/virtio-backend" : "");
	image = json_pack("{s:s,s:s,s:I}", "filename", info->path, "format", info->format,
			  "virtual-size", (json_int_t)info->size);
	inserted = json_pack("{s:s,s:s,s:s,s:b,s:b,s:o}", "node-name",
			     disk->node[0] ? disk->node : disk->id, "file", info->path, "drv", info->format,
			     "ro", info->read_only, "encrypted", false, "image", image);
	json_array_append_new(arg, json_pack("{s:s,s:s,s:s,s:b,s:b,s:o}", "device",
					     disk->node[0] ? disk->node : disk->id, "qdev", path,
					     "type", "unknown", "locked", false, "removable", false,
					     "inserted", inserted));
}

static json_t *query_block(void *arg, const json_t *arguments)
{
	json_t *list = json_array();

	(void)arguments;
	run_disks_list(((struct qmp *)arg)->at.disks, tell_disk, list);
	return list;
}

static json_t *query_blockstats(void *arg, const json_t *arguments)
{
	(void)arguments;
	return io_json_blockstats(&((struct qmp *)arg)->at);
}

static void add_chardev(json_t *list, const char *label, unsigned int n, const char *where)
{
	char name[32];

	snprintf(name, sizeof(name), "%s%u", label, n);
	json_array_append_new(list, json_pack("{s:s,s:s,s:b}", "label", name, "filename", where,
					      "frontend-open", true));
}

static json_t *query_chardev(void *arg, const json_t *arguments)
{
	const struct qmp *q = arg;
	const struct run_options *o = q->at.options;
	json_t *list = json_array();

	(void)arguments;
	if (!o->serial_count)
		add_chardev(list, "serial", 0, "stdio");
	for (unsigned int i = 0; i < o->serial_count; i++)
		add_chardev(list, "serial", i, o->serial[i]);
	for (unsigned int i = 0; i < o->console_count; i++)
		add_chardev(list, "console", i, o->console[i]);
	for (unsigned int i = 0; i < o->monitor_count; i++)
		add_chardev(list, "compat_monitor", i, o->monitor[i]);
	for (unsigned int i = 0; i < o->qmp_count; i++)
		add_chardev(list, "qmp", i, o->qmp[i]);
	return list;
}

static json_t *query_commands(void *arg, const json_t *arguments)
{
	json_t *list = json_commands_list(&qmp_commands);

	(void)arg;
	(void)arguments;
	json_array_append_new(list, json_pack("{s:s}", "name", "qmp_capabilities"));
	return list;
}

static json_t *human_monitor_command(void *arg, const json_t *arguments)
{
	const char *line = json_string_value(json_object_get(arguments, "command-line"));
	json_t *reply;
	char *text;

	if (!line)
		return json_refuse("GenericError", "Parameter 'command-line' is a string");
	text = monitor_command(arg, line);
	reply = text ? json_string(text) : NULL;
	free(text);
	return reply;
}

/* --- dump-guest-memory --- */

static int dump_to(struct qmp *q, const char *path, bool paging, struct err *e)
{
	const bool was_paused = vm_is_paused(q->at.vm);
	int fd, rc;

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0 && errno == EACCES)
		return err_set(e, EACCES, "could not open %s: the sandbox lets files be written where "
			       "--sandbox dir=DIR said", path);
	if (fd < 0)
		return err_errno(e, errno, "could not open %s", path);
	vm_pause(q->at.vm);
	rc = dump_guest_memory(q->at.vm, fd, paging, e);
	if (!was_paused)
		vm_resume(q->at.vm);
	if (close(fd) && !rc)
		rc = err_errno(e, errno, "could not write %s", path);
	return rc;
}

static json_t *dump(void *arg, const json_t *arguments)
{
	const char *protocol = json_string_value(json_object_get(arguments, "protocol"));
	const json_t *paging = json_object_get(arguments, "paging");
	const json_t *format = json_object_get(arguments, "format");
	struct err e = { 0 };

	if (!protocol || !json_is_boolean(paging))
		return json_refuse("GenericError", "\"protocol\" is a string, \"paging\" is true or false");
	if (strncmp(protocol, "file:", 5))
		return json_refuse("GenericError", "a dump is written to file:PATH");
	if (format && (!json_is_string(format) || strcmp(json_string_value(format), "elf")))
		return json_refuse("GenericError", "a dump's format is elf");
	if (json_is_true(json_object_get(arguments, "detach")))
		return json_refuse("GenericError", "a dump is not made in the background: leave out detach");
	if (dump_to(arg, protocol + 5, json_is_true(paging), &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

static const struct json_command rows[] = {
	{ "dump-guest-memory", "paging! protocol! detach format", dump },
	{ "human-monitor-command", "command-line! cpu-index", human_monitor_command },
	{ "query-block", "", query_block },
	{ "query-blockstats", "query-nodes", query_blockstats },
	{ "query-chardev", "", query_chardev },
	{ "query-commands", "", query_commands },
	{ "query-cpus-fast", "", query_cpus_fast },
	{ "query-kvm", "", query_kvm },
	{ "query-name", "", query_name },
	{ "query-status", "", query_status },
	{ "query-uuid", "", query_uuid },
	{ "query-version", "", query_version },
};

const struct json_commands qmp_commands = {
	.rows = rows, .count = ARRAY_SIZE(rows), .more = &qmp_machine_commands,
};
