// SPDX-License-Identifier: Apache-2.0
/*
 * QMP's commands that give a VM disks and take them: blockdev-add describes a file, device_add makes
 * a virtio-blk of it, device_del has the guest let go of it, blockdev-del forgets the file.
 */
#include "mgmt/qmp_priv.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define TEXT_MAX	4600
#define RAW		",format=raw"	/* of a node's text: no format */

static json_t *refuse(const char *fmt, const char *what)
{
	char text[512];

	snprintf(text, sizeof(text), fmt, what);
	return json_refuse("GenericError", text);
}

static const char *string_of(const json_t *arguments, const char *key)
{
	return json_string_value(json_object_get(arguments, key));
}

/* Each key of @node is one of the space-separated @keys; NULL: so it is. */
static json_t *unexpected(const json_t *node, const char *keys)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)node, key, value) {
		const char *at = keys;

		while (*at && (strncmp(at, key, strcspn(at, " ")) || key[strcspn(at, " ")])) {
			at += strcspn(at, " ");
			at += *at == ' ';
		}
		if (!*at)
			return refuse("Parameter '%.100s' is unexpected", key);
	}
	return NULL;
}

/* --- blockdev-add --- */

/* Two commas for one; false: there is no room. */
static bool put_path(char *out, size_t size, const char *path)
{
	size_t n = 0;

	for (; *path; path++) {
		if (n + 3 > size)
			return false;
		if (*path == ',')
			out[n++] = ',';
		out[n++] = *path;
	}
	out[n] = '\0';
	return true;
}

/* The file below a format: an object, or the name of a node that is one. */
static json_t *file_text(struct qmp *q, const json_t *file, char *out, size_t size)
{
	const char *name = json_string_value(file), *text = name ? run_node_text(q->at.disks, name) : NULL;
	json_t *wrong;

	if (name && !text)
		return refuse("Cannot find device='' nor node-name='%.100s'", name);
	if (text) {
		const size_t n = strlen(text), tail = strlen(RAW);

		/* A file's own text ends in its format, which is none. */
		if (n < tail || strcmp(text + n - tail, RAW))
			return refuse("node '%.100s' has a format already, so nothing can be over it", name);
		snprintf(out, size, "%.*s", (int)(n - tail), text);
		return NULL;
	}
	wrong = unexpected(file, "driver filename node-name read-only auto-read-only cache discard aio locking");
	if (wrong)
		return wrong;
	if (!string_of(file, "driver") || strcmp(string_of(file, "driver"), "file") || !string_of(file, "filename"))
		return json_refuse("GenericError", "\"file\" is a node's name, or has \"driver\": \"file\" and a "
				   "\"filename\"");
	return put_path(out, size, string_of(file, "filename")) ? NULL :
	       json_refuse("GenericError", "the file's name is too long");
}

static json_t *blockdev_add(void *arg, const json_t *arguments)
{
	const char *driver = string_of(arguments, "driver"), *name = string_of(arguments, "node-name");
	const char *filename = string_of(arguments, "filename");
	const json_t *file = json_object_get(arguments, "file");
	char path[TEXT_MAX - 100], text[TEXT_MAX];
	struct qmp *q = arg;
	struct err e = { 0 };
	json_t *wrong = NULL;

	if (!driver || !name)
		return json_refuse("GenericError", "\"driver\" and \"node-name\" are strings");
	if (!strcmp(driver, "file") && filename)
		wrong = put_path(path, sizeof(path), filename) ? NULL :
			json_refuse("GenericError", "the file's name is too long");
	else if (strcmp(driver, "raw") && strcmp(driver, "qcow2"))
		return refuse("Parameter 'driver' does not accept value '%.100s': there are file, raw, qcow2", driver);
	else
		wrong = file_text(q, file, path, sizeof(path));
	if (wrong)
		return wrong;
	snprintf(text, sizeof(text), "%s%s,format=%s", path,
		 json_is_true(json_object_get(arguments, "read-only")) ? ",readonly=on" : "",
		 strcmp(driver, "file") ? driver : "raw");
	if (run_node_add(q->at.disks, name, text, &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

static json_t *blockdev_del(void *arg, const json_t *arguments)
{
	const char *name = string_of(arguments, "node-name");
	struct err e = { 0 };

	if (!name)
		return json_refuse("GenericError", "\"node-name\" is a string");
	if (run_node_remove(((struct qmp *)arg)->at.disks, name, &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

/* --- device_add, device_del --- */

json_t *vm_device_add(struct vm_access *at, const char *driver, const char *drive, const char *id,
		      const char *serial)
{
	const char *node = run_node_text(at->disks, drive);
	char text[TEXT_MAX + 256];
	struct err e = { 0 };
	int slot;

	if (strcmp(driver, "virtio-blk-pci") && strcmp(driver, "virtio-blk"))
		return refuse("'%.100s' is not a device that can be plugged in here: virtio-blk-pci is", driver);
	if (!node)
		return refuse("Property 'virtio-blk-device.drive' can't find value '%.100s'", drive);
	if (strpbrk(id, ",") || (serial && strpbrk(serial, ",")) || strlen(id) > 60)
		return json_refuse("GenericError", "an id has at most 60 characters, and no comma");
	snprintf(text, sizeof(text), "%s,node=%.60s%s%s%s%.20s", node, drive, id[0] ? ",id=" : "", id,
		 serial ? ",serial=" : "", serial ? serial : "");
	slot = run_disks_add(at->disks, text, &e);
	return slot < 0 ? json_refuse("GenericError", e.text) : json_object();
}

json_t *vm_device_del(struct vm_access *at, const char *id)
{
	struct err e = { 0 };

	if (!run_disks_remove_id(at->disks, id, &e))
		return json_object();
	return json_refuse(e.code == -ENOENT ? "DeviceNotFound" : "GenericError", e.text);
}

static json_t *device_add(void *arg, const json_t *arguments)
{
	const char *driver = string_of(arguments, "driver"), *drive = string_of(arguments, "drive");
	const char *id = string_of(arguments, "id");
	json_t *wrong = unexpected(arguments, "driver drive id serial bus addr bootindex write-cache num-queues "
					      "disable-legacy");

	if (wrong)
		return wrong;
	if (!driver || !drive)
		return json_refuse("GenericError", "\"driver\" and \"drive\" are strings");
	return vm_device_add(&((struct qmp *)arg)->at, driver, drive, id ? id : "",
			     string_of(arguments, "serial"));
}

static json_t *device_del(void *arg, const json_t *arguments)
{
	const char *id = string_of(arguments, "id");

	if (!id)
		return json_refuse("GenericError", "Parameter 'id' is a string");
	return vm_device_del(&((struct qmp *)arg)->at, id);
}

static void tell_node(void *arg, const char *name, const char *text)
{
	json_array_append_new(arg, json_pack("{s:s,s:s}", "node-name", name, "file", text));
}

static json_t *query_nodes(void *arg, const json_t *arguments)
{
	json_t *list = json_array();

	(void)arguments;
	run_nodes_list(((struct qmp *)arg)->at.disks, tell_node, list);
	return list;
}

static const struct json_command rows[] = {
	{ "blockdev-add", "driver! node-name! file filename read-only auto-read-only discard cache "
	  "detect-zeroes aio locking", blockdev_add },
	{ "blockdev-del", "node-name!", blockdev_del },
	{ "device_add", NULL, device_add },
	{ "device_del", "id!", device_del },
	{ "query-named-block-nodes", "flat", query_nodes },
};

const struct json_commands qmp_device_commands = {
	.rows = rows, .count = ARRAY_SIZE(rows), .more = &vm_commands,
};
