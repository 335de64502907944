// SPDX-License-Identifier: Apache-2.0
/*
 * QMP's commands that give a VM disks and network cards and take them: blockdev-add describes a
 * file, netdev_add opens a network, device_add makes a device of it, device_del has the guest let
 * go of it, blockdev-del and netdev_del forget what it was of.
 */
#include "mgmt/qemu_priv.h"
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

static json_t *add_disk(struct vm_access *at, const char *driver, const char *id, const json_t *arguments)
{
	const char *drive = string_of(arguments, "drive"), *serial = string_of(arguments, "serial"), *node;
	const bool scsi = !strcmp(driver, "scsi-hd");
	char text[TEXT_MAX + 256];
	struct err e = { 0 };
	json_t *wrong = unexpected(arguments, "driver drive id serial bus addr bootindex write-cache num-queues "
				   "disable-legacy disable-modern channel scsi-id lun device_id");

	if (wrong)
		return wrong;
	if (!drive)
		return json_refuse("GenericError", "\"drive\" is a string");
	node = run_node_text(at->disks, drive);
	if (!node)
		return refuse(scsi ? "Property 'scsi-hd.drive' can't find value '%.100s'" :
			      "Property 'virtio-blk-device.drive' can't find value '%.100s'", drive);
	if (serial && (strpbrk(serial, ",") || strlen(serial) > 20))
		return json_refuse("GenericError", "a serial number has at most 20 characters, and no comma");
	snprintf(text, sizeof(text), "%s,node=%.60s%s%s%s%s%s", node, drive, id[0] ? ",id=" : "", id,
		 serial ? ",serial=" : "", serial ? serial : "", scsi ? ",bus=scsi" : "");
	if (run_disks_add(at->disks, text, &e) < 0)
		return json_refuse("GenericError", e.text);
	return json_object();
}

static json_t *add_net(struct vm_access *at, const char *id, const json_t *arguments)
{
	const char *netdev = string_of(arguments, "netdev"), *mac = string_of(arguments, "mac");
	struct err e = { 0 };
	json_t *wrong = unexpected(arguments, "driver netdev id mac bus addr bootindex disable-legacy disable-modern "
				   "romfile");

	if (wrong)
		return wrong;
	if (!netdev)
		return json_refuse("GenericError", "\"netdev\" is a string");
	if (mac && strpbrk(mac, ","))
		return refuse("Property 'virtio-net-device.mac' doesn't take value '%.100s'", mac);
	if (run_nets_add(at->nets, netdev, id, mac, &e) < 0)
		return json_refuse("GenericError", e.text);
	return json_object();
}

struct same {
	const char *id;
	bool found;
};

static void same_disk(void *arg, const struct run_disk_info *disk, const struct block_info *info)
{
	struct same *s = arg;

	(void)info;
	s->found |= !strcmp(disk->id, s->id);
}

static void same_net(void *arg, const struct run_net_info *net)
{
	struct same *s = arg;

	s->found |= !strcmp(net->id, s->id);
}

static bool id_taken(const struct vm_access *at, const char *id)
{
	struct same s = { .id = id };

	run_disks_list(at->disks, same_disk, &s);
	run_nets_list(at->nets, same_net, &s);
	return s.found;
}

json_t *vm_device_add(struct vm_access *at, const json_t *arguments)
{
	const char *driver = string_of(arguments, "driver"), *id = string_of(arguments, "id");

	if (!driver)
		return json_refuse("GenericError", "\"driver\" is a string");
	id = id ? id : "";
	if (strpbrk(id, ",") || strlen(id) > 60)
		return json_refuse("GenericError", "an id has at most 60 characters, and no comma");
	if (id[0] && id_taken(at, id))
		return refuse("Duplicate device ID '%.100s'", id);
	if (!strcmp(driver, "virtio-net-pci") || !strcmp(driver, "virtio-net"))
		return add_net(at, id, arguments);
	if (!strcmp(driver, "virtio-blk-pci") || !strcmp(driver, "virtio-blk") || !strcmp(driver, "scsi-hd"))
		return add_disk(at, driver, id, arguments);
	return refuse("'%.100s' is not a device that can be plugged in here: virtio-blk-pci, virtio-net-pci and "
		      "scsi-hd are", driver);
}

json_t *vm_device_del(struct vm_access *at, const char *id)
{
	struct err e = { 0 };
	int rc = run_disks_remove_id(at->disks, id, &e);

	if (rc == -ENOENT)
		rc = run_nets_remove_id(at->nets, id, &e);
	if (!rc)
		return json_object();
	return json_refuse(e.code == -ENOENT ? "DeviceNotFound" : "GenericError", e.text);
}

static json_t *device_add(void *arg, const json_t *arguments)
{
	return vm_device_add(&((struct qmp *)arg)->at, arguments);
}

static json_t *device_del(void *arg, const json_t *arguments)
{
	const char *id = string_of(arguments, "id");

	if (!id)
		return json_refuse("GenericError", "Parameter 'id' is a string");
	return vm_device_del(&((struct qmp *)arg)->at, id);
}

/* --- netdev_add, netdev_del --- */

struct text {
	char *at;
	size_t n, size;
};

/* ",KEY=VALUE", the commas in it twice. */
static void put_item(struct text *t, const char *key, const char *value)
{
	t->n += snprintf(t->at + MIN(t->n, t->size), t->size - MIN(t->n, t->size), ",%s=", key);
	for (; *value; value++)
		t->n += snprintf(t->at + MIN(t->n, t->size), t->size - MIN(t->n, t->size), *value == ',' ? ",," : "%c",
				 *value);
}

/* A member of an object as QEMU's command line has it; false: it has none of these. */
static bool put_value(struct text *t, const char *key, const json_t *value)
{
	char number[32], name[64];
	json_t *inner;
	const char *k;
	size_t i;

	switch (json_typeof(value)) {
	case JSON_STRING:
		put_item(t, key, json_string_value(value));
		return true;
	case JSON_INTEGER:
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(value));
		put_item(t, key, number);
		return true;
	case JSON_TRUE:
	case JSON_FALSE:
		put_item(t, key, json_is_true(value) ? "on" : "off");
		return true;
	case JSON_ARRAY:	/* of strings in objects: hostfwd */
		json_array_foreach(value, i, inner) {
			if (!string_of(inner, "str"))
				return false;
			put_item(t, key, string_of(inner, "str"));
		}
		return true;
	case JSON_OBJECT:	/* addresses */
		json_object_foreach((json_t *)value, k, inner) {
			if (json_is_object(inner) || json_is_array(inner) ||
			    snprintf(name, sizeof(name), "%s.%s", key, k) >= (int)sizeof(name) ||
			    !put_value(t, name, inner))
				return false;
		}
		return true;
	default:
		return false;
	}
}

json_t *vm_netdev_add(struct vm_access *at, const json_t *arguments)
{
	const char *type = string_of(arguments, "type"), *id = string_of(arguments, "id"), *key;
	char netdev[TEXT_MAX - 600], text[TEXT_MAX];
	struct text t = { netdev, 0, sizeof(netdev) };
	struct err e = { 0 };
	json_t *value;

	if (!type || !id)
		return json_refuse("GenericError", "\"type\" and \"id\" are strings");
	t.n = snprintf(netdev, sizeof(netdev), "%.32s", type);
	json_object_foreach((json_t *)arguments, key, value) {
		if (!strcmp(key, "type") || !strcmp(key, "id"))
			continue;
		if (!put_value(&t, key, value))
			return refuse("Invalid parameter type for '%.100s'", key);
	}
	if (t.n >= t.size)
		return json_refuse("GenericError", "the text of this network is too long");
	if (qemu_net_text(netdev, text, sizeof(text), &e) || run_netdev_add(at->nets, id, text, &e))
		return json_refuse("GenericError", e.text);
	return json_object();
}

json_t *vm_netdev_del(struct vm_access *at, const char *id)
{
	struct err e = { 0 };

	if (!run_netdev_remove(at->nets, id, &e))
		return json_object();
	return json_refuse(e.code == -ENOENT ? "DeviceNotFound" : "GenericError", e.text);
}

static json_t *netdev_add(void *arg, const json_t *arguments)
{
	return vm_netdev_add(&((struct qmp *)arg)->at, arguments);
}

static json_t *netdev_del(void *arg, const json_t *arguments)
{
	const char *id = string_of(arguments, "id");

	if (!id)
		return json_refuse("GenericError", "Parameter 'id' is a string");
	return vm_netdev_del(&((struct qmp *)arg)->at, id);
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
	{ "netdev_add", NULL, netdev_add },
	{ "netdev_del", "id!", netdev_del },
	{ "query-named-block-nodes", "flat", query_nodes },
};

const struct json_commands qmp_device_commands = {
	.rows = rows, .count = ARRAY_SIZE(rows), .more = &vm_commands,
};
