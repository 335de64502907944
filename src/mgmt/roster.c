// SPDX-License-Identifier: Apache-2.0
/* Which VMs there are; see roster.h. */
#include "mgmt/roster.h"
#include "base/named_socket.h"
#include "mgmt/control_client.h"
#include "mgmt/machine.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char socket_end[] = ".sock";

/* What a VM that runs tells of itself, in @entry; false: it does not run. */
static bool ask(json_t *entry, const char *name)
{
	struct err e = { 0 };
	json_t *told;
	FILE *vm;

	if (control_connect(&vm, name, &e))
		return false;
	told = control_ask(vm, "query-vm", NULL, &e);
	/* As seen from here: in a jail it takes itself for the first. */
	if (told && control_pid(vm))
		json_object_set_new(told, "pid", json_integer(control_pid(vm)));
	fclose(vm);
	if (!told) {
		json_object_set_new(entry, "state", json_string("unresponsive"));
		return e.code != -EPIPE;
	}
	json_object_update(entry, told);
	json_object_set(entry, "state", json_object_get(told, "status"));
	json_object_del(entry, "status");
	json_decref(told);
	return true;
}

static json_t *kept_entry(const struct machine *m)
{
	static const char *const states[] = {
		[MACHINE_STOPPED] = "stopped", [MACHINE_RUNNING] = "starting",
		[MACHINE_CRASHED] = "crashed",
	};
	const enum machine_state state = machine_state(m);
	json_t *entry = json_pack("{s:s,s:s,s:s}", "name", m->name, "state", states[state],
				  "directory", m->path);

	/* Nothing is asked of a socket that a dead process left. */
	if (state == MACHINE_RUNNING) {
		ask(entry, m->path);
		json_object_set_new(entry, "name", json_string(m->name));
	}
	return entry;
}

static void add_kept(json_t *all, bool only_running)
{
	char home[PATH_MAX];
	struct dirent *d;
	struct machine m;
	DIR *dir;

	if (machine_home(home, NULL))
		return;
	dir = opendir(home);
	while (dir && (d = readdir(dir))) {
		if (machine_name_check(d->d_name, NULL) || machine_open(&m, d->d_name, NULL))
			continue;
		if (!only_running || machine_state(&m) == MACHINE_RUNNING)
			json_array_append_new(all, kept_entry(&m));
		machine_close(&m);
	}
	if (dir)
		closedir(dir);
}

/* Those that run with --name are found by their sockets. */
static void add_named(json_t *all)
{
	struct sockaddr_un folder;
	struct dirent *d;
	DIR *dir;

	if (named_socket_address(&folder, "", "", "", NULL))
		return;
	dir = opendir(folder.sun_path);
	while (dir && (d = readdir(dir))) {
		char name[MACHINE_NAME_MAX + 1];
		const size_t n = strlen(d->d_name), end = sizeof(socket_end) - 1;
		struct machine m;
		json_t *entry;

		if (n <= end || n - end > MACHINE_NAME_MAX || strcmp(d->d_name + n - end, socket_end))
			continue;
		snprintf(name, sizeof(name), "%.*s", (int)(n - end), d->d_name);
		if (machine_name_check(name, NULL))
			continue;
		if (!machine_open(&m, name, NULL)) {	/* listed already */
			machine_close(&m);
			continue;
		}
		entry = json_pack("{s:s,s:n}", "name", name, "directory");
		if (ask(entry, name))
			json_array_append(all, entry);
		json_decref(entry);
	}
	if (dir)
		closedir(dir);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(json_string_value(json_object_get(*(json_t *const *)a, "name")),
		      json_string_value(json_object_get(*(json_t *const *)b, "name")));
}

/* A new array with the same, sorted. */
static json_t *sorted(json_t *all)
{
	const size_t n = json_array_size(all);
	json_t **entry = calloc(n + 1, sizeof(json_t *)), *out = json_array();

	for (size_t i = 0; entry && i < n; i++)
		entry[i] = json_array_get(all, i);
	if (entry)
		qsort(entry, n, sizeof(json_t *), by_name);
	for (size_t i = 0; entry && i < n; i++)
		json_array_append(out, entry[i]);
	free(entry);
	json_decref(all);
	return out;
}

json_t *roster(bool only_running, struct err *e)
{
	json_t *all = json_array();

	if (!all) {
		err_set(e, ENOMEM, "out of memory");
		return NULL;
	}
	add_kept(all, only_running);
	add_named(all);
	return sorted(all);
}

json_t *roster_entry(const char *name, struct err *e)
{
	struct machine m;
	json_t *entry;
	int rc = machine_open(&m, name, e);

	if (!rc) {
		entry = kept_entry(&m);
		machine_close(&m);
		return entry;
	}
	entry = json_pack("{s:s,s:n}", "name", name, "directory");
	if (rc == -ENOENT && !strchr(name, '/') && ask(entry, name))
		return entry;
	json_decref(entry);
	return NULL;
}
