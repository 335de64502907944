// SPDX-License-Identifier: Apache-2.0
/*
 * A running VM's control socket; see control.h.  A request is looked at whole, by a JSON
 * parser with a limit on depth, before anything is done.
 */
#include "mgmt/control.h"
#include "base/line_server.h"
#include "base/named_socket.h"
#include "base/unix_listen.h"
#include "base/types.h"
#include "backend/block.h"
#include "machine/profile.h"
#include "machine/vm.h"
#include "mgmt/cpu_limits.h"
#include "mgmt/io_json.h"
#include "mgmt/machine.h"
#include "mgmt/vm_commands.h"
#include "mgmt/run_devices.h"
#include "mgmt/run_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BACKLOG	16

struct control {
	struct vm_access at;
	struct named_socket socket;	/* of its name; not if it is kept */
	int listener;			/* in its directory, or -1 */
	time_t began;			/* CLOCK_MONOTONIC seconds */
	int statm, io;			/* open, since the sandbox opens nothing; or -1 */
	struct line_server *server;
};

/* --- commands: see struct json_command --- */

/* Counters of the same name, of several processors, are added up. */
static void add_counter(void *arg, const char *name, uint64_t value)
{
	json_t *all = arg, *old = json_object_get(all, name);

	json_object_set_new(all, name, json_integer(value + (old ? json_integer_value(old) : 0)));
}

static json_t *query_stats(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	json_t *counters = json_object();

	(void)arguments;
	vm_counters(c->at.vm, add_counter, counters);
	io_json_flatten(counters, &c->at);
	return json_pack("{s:o}", "counters", counters);
}

static json_t *query_name(void *arg, const json_t *arguments)
{
	struct control *c = arg;

	(void)arguments;
	return json_pack("{s:s}", "name", c->at.options->name);
}

static void tell_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	json_array_append_new(arg, json_pack("{s:i,s:s,s:s,s:s,s:I,s:b,s:s}", "slot", disk->slot, "id",
					     disk->id, "file", info->path, "format", info->format, "size",
					     (json_int_t)info->size, "readonly", info->read_only,
					     "serial", info->serial));
}

static json_t *query_disks(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	json_t *list = json_array();

	(void)arguments;
	run_disks_list(c->at.disks, tell_disk, list);
	return list;
}

static json_t *disk_add(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	const char *text = json_string_value(json_object_get(arguments, "disk"));
	struct err e;
	int slot;

	if (!text)
		return json_refuse("GenericError", "\"disk\" is missing: what --disk takes");
	slot = run_disks_add(c->at.disks, text, &e);
	return slot < 0 ? json_refuse("GenericError", e.text) : json_pack("{s:i}", "slot", slot);
}

static json_t *disk_remove(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	const json_t *slot = json_object_get(arguments, "slot");
	struct err e;

	if (!json_is_integer(slot))
		return json_refuse("GenericError", "\"slot\" is missing: a number that query-disks tells");
	if (run_disks_remove(c->at.disks, json_integer_value(slot), &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

/* "count": of processors, of which some may come or go. */
static json_t *set_cpus(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	const json_t *count = json_object_get(arguments, "count");
	struct err e;

	if (!json_is_integer(count) || json_integer_value(count) < 1 ||
	    json_integer_value(count) > VM_CPUS_MAX)
		return json_refuse("GenericError", "\"count\" is a number of processors");
	if (vm_set_cpus(c->at.vm, json_integer_value(count), &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

/* "vcpu", a number, or -1: it is about the VM; false: there is none like that. */
static bool which_vcpu(const struct control *c, const json_t *arguments, json_int_t *index)
{
	const json_t *vcpu = json_object_get(arguments, "vcpu");

	*index = vcpu ? json_integer_value(vcpu) : -1;
	return !vcpu || (json_is_integer(vcpu) && *index >= 0 && *index < vm_vcpu_count(c->at.vm));
}

/*
 * "weight", "cap" and "pin" as `vireo set` takes them, of the VM or of one "vcpu"; what is not
 * named stays as it is.
 */
static json_t *set_cpu(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	static const struct {
		const char *name;
		int (*parse)(struct cpu_limits *l, const char *text, struct err *e);
	} what[] = {
		{ "weight", cpu_weight_parse }, { "cap", cpu_cap_parse }, { "pin", cpu_pin_parse },
	};
	struct err e = { 0 };
	struct cpu_limits l;
	json_int_t vcpu;
	int rc;

	if (!which_vcpu(c, arguments, &vcpu))
		return json_refuse("GenericError", "\"vcpu\" is the number of a processor that this VM can have");
	l = vcpu < 0 ? *vm_cpu_limits(c->at.vm) : *vm_vcpu_limits(c->at.vm, vcpu);

	for (unsigned int i = 0; i < ARRAY_SIZE(what); i++) {
		const json_t *value = json_object_get(arguments, what[i].name);

		if (!value)
			continue;
		if (!json_is_string(value))
			return json_refuse("GenericError", "weight, cap and pin are strings");
		if (what[i].parse(&l, json_string_value(value), &e))
			return json_refuse("GenericError", e.text);
	}
	rc = vcpu < 0 ? vm_set_cpu_limits(c->at.vm, &l, &e) : vm_set_vcpu_limits(c->at.vm, vcpu, &l, &e);
	return rc ? json_refuse("GenericError", e.text) : json_object();
}

static uint64_t resident_bytes(const struct control *c)
{
	unsigned long size, resident;
	char text[128] = "";

	if (c->statm < 0 || pread(c->statm, text, sizeof(text) - 1, 0) <= 0 ||
	    sscanf(text, "%lu %lu", &size, &resident) != 2)
		return 0;
	return resident * sysconf(_SC_PAGESIZE);
}

/* By number, those processors that have limits of their own; NULL: none has. */
static json_t *vcpu_limits(struct vm *vm)
{
	json_t *all = json_object(), *one;
	char number[16];

	for (unsigned int i = 0; i < vm_vcpu_count(vm); i++) {
		one = cpu_limits_json(vm_vcpu_limits(vm, i));
		snprintf(number, sizeof(number), "%u", i);
		if (one)
			json_object_set_new(all, number, one);
	}
	if (json_object_size(all))
		return all;
	json_decref(all);
	return NULL;
}

/* What vireo ls, ps and inspect show of it. */
static json_t *query_vm(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	struct timespec now, cpu;

	(void)arguments;
	clock_gettime(CLOCK_MONOTONIC, &now);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
	return json_pack("{s:s,s:i,s:s,s:s,s:i,s:I,s:I,s:f,s:f,s:o*,s:o*}",
			 "name", c->at.options->name, "pid", (int)getpid(),
			 "status", vm_is_paused(c->at.vm) ? "paused" : "running",
			 "engine", vm_engine_name(c->at.vm), "cpus", (int)vm_cpus(c->at.vm),
			 "memory", (json_int_t)vm_memory_size(c->at.vm),
			 "resident", (json_int_t)resident_bytes(c),
			 "uptime", (double)(now.tv_sec - c->began),
			 "cpu-seconds", cpu.tv_sec + (cpu.tv_nsec + vm_others_ran(c->at.vm)) / 1e9,
			 "limits", cpu_limits_json(vm_cpu_limits(c->at.vm)),
			 "vcpu-limits", vcpu_limits(c->at.vm));
}

/* Moves the guest, which goes on where it was; where that fails it stays. */
static json_t *set_engine(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	const char *name = json_string_value(json_object_get(arguments, "engine"));
	const struct engine_ops *ops = name ? engine_named(name) : NULL;
	struct err e = { 0 };

	if (!ops)
		return json_refuse("GenericError", "\"engine\" is soft or kvm");
	if (!strcmp(name, vm_engine_name(c->at.vm)))
		return json_object();
	if (vm_set_engine(c->at.vm, ops, NULL, &e))
		return json_refuse("GenericError", e.text);
	log_info(vm_log(c->at.vm), "engine %s: chosen at the control socket", name);
	return json_object();
}

/* "rchar: 123" and so on, as /proc/self/io has them. */
static json_t *io_counts(const struct control *c)
{
	unsigned long long in = 0, out = 0;
	char text[512] = "";

	if (c->io >= 0 && pread(c->io, text, sizeof(text) - 1, 0) > 0)
		sscanf(text, "rchar: %llu wchar: %llu", &in, &out);
	return json_pack("{s:I,s:I}", "read", (json_int_t)in, "written", (json_int_t)out);
}

/* What vireo top shows, beside what vireo ps does; asking switches the sampling on. */
static json_t *query_top(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	json_t *all = query_vm(c, arguments), *vcpus = json_array(), *counters = json_object();
	struct vcpu_profile p;
	struct timespec now;

	for (unsigned int i = 0; i < vm_vcpu_count(c->at.vm); i++) {
		vm_profile(c->at.vm, i, &p);
		json_array_append_new(vcpus, json_pack("{s:f,s:f,s:f,s:f,s:b}",
			"user", p.ns[PROFILE_USER] / 1e9, "kernel", p.ns[PROFILE_KERNEL] / 1e9,
			"translation", p.ns[PROFILE_TRANSLATION] / 1e9,
			"vmm", p.ns[PROFILE_VMM] / 1e9, "halted", p.halted));
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	vm_counters(c->at.vm, add_counter, counters);
	json_object_set_new(all, "time", json_real(now.tv_sec + now.tv_nsec / 1e9));
	json_object_set_new(all, "vcpus", vcpus);
	json_object_set_new(all, "counters", counters);
	json_object_set_new(all, "io", io_counts(c));
	json_object_set_new(all, "disks", io_json_disks(&c->at));
	json_object_set_new(all, "nets", io_json_nets(&c->at));
	return all;
}

static json_t *query_status(void *arg, const json_t *arguments)
{
	struct control *c = arg;
	const bool paused = vm_is_paused(c->at.vm);

	(void)arguments;
	return json_pack("{s:s,s:b}", "status", paused ? "paused" : "running", "running", !paused);
}

static json_t *serial_break(void *arg, const json_t *arguments)
{
	struct control *c = arg;

	(void)arguments;
	vm_serial_break(c->at.vm, 0);
	return json_object();
}

static json_t *query_commands(void *arg, const json_t *arguments);

static const struct json_command rows[] = {
	{ "disk-add", NULL, disk_add },
	{ "disk-remove", NULL, disk_remove },
	{ "query-commands", NULL, query_commands },
	{ "query-disks", NULL, query_disks },
	{ "query-name", NULL, query_name },
	{ "query-stats", NULL, query_stats },
	{ "query-status", NULL, query_status },
	{ "query-top", NULL, query_top },
	{ "query-vm", NULL, query_vm },
	{ "serial-break", NULL, serial_break },
	{ "set-cpu", NULL, set_cpu },
	{ "set-cpus", NULL, set_cpus },
	{ "set-engine", NULL, set_engine },
};

static const struct json_commands commands = {
	.rows = rows, .count = ARRAY_SIZE(rows), .more = &vm_commands,
};

static json_t *query_commands(void *arg, const json_t *arguments)
{
	(void)arg;
	(void)arguments;
	return json_commands_list(&commands);
}

/* --- requests --- */

static void request(void *arg, struct line_client *client, char *line, size_t len)
{
	json_t *request, *reply;

	if (strspn(line, " \t\r") == len)
		return;
	request = json_command_read(line, len, &reply);
	if (request)
		reply = json_command_answer(&commands, arg, request);
	json_command_reply(client, reply, request);
	json_decref(request);
}

static void too_long(void *arg, struct line_client *client)
{
	(void)arg;
	json_command_reply(client, json_refuse("GenericError", "this line is too long"), NULL);
}

/* A kept machine's lock is ours: a socket that is there is a dead process's. */
static int listen_at(struct control *c, struct err *e)
{
	if (!c->at.options->kept)
		return named_socket_listen(&c->socket, c->at.options->name, e);
	unlink(MACHINE_CONTROL);
	c->listener = unix_listen(MACHINE_CONTROL, BACKLOG, e);
	return MIN(c->listener, 0);
}

int control_create(struct control **out, const struct vm_access *at, struct err *e)
{
	static const struct line_server_ops ops = { .line = request, .too_long = too_long };
	struct control *c = calloc(1, sizeof(*c));
	struct timespec now;
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for a control socket");
	c->at = *at;
	json_object_seed(0);	/* which opens a file, now and not later */
	clock_gettime(CLOCK_MONOTONIC, &now);
	c->began = now.tv_sec;
	c->statm = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	c->io = open("/proc/self/io", O_RDONLY | O_CLOEXEC);
	c->socket.fd = c->socket.lock = c->listener = -1;
	rc = listen_at(c, e);
	if (!rc)
		rc = line_server_create(&c->server, vm_loop(at->vm),
					at->options->kept ? c->listener : c->socket.fd, &ops, c, e);
	if (rc) {
		control_destroy(c);
		return rc;
	}
	*out = c;
	return 0;
}

void control_destroy(struct control *c)
{
	if (!c)
		return;
	line_server_destroy(c->server);
	named_socket_close(&c->socket);
	if (c->statm >= 0)
		close(c->statm);
	if (c->io >= 0)
		close(c->io);
	if (c->listener >= 0) {
		unlink(MACHINE_CONTROL);
		close(c->listener);
	}
	free(c);
}
