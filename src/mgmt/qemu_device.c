// SPDX-License-Identifier: Apache-2.0
/*
 * Drives, devices, character devices and networks of QEMU's command line as options of
 * `vireo run`.  The bus is no choice: each device is where this PC has it.
 */
#include "mgmt/qemu_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVE_KEYS	"file if format id index media cache aio discard detect-zeroes readonly read-only " \
			"snapshot serial werror rerror driver node-name filename file.filename file.driver " \
			"file.locking auto-read-only locking cache.direct cache.no-flush file.cache.direct " \
			"file.node-name"
#define BUS_KEYS	"id bus addr disable-legacy disable-modern bootindex romfile iommu_platform " \
			"packed max-ports multifunction ioeventfd event_idx num-queues queues mq vectors "

/* The one of @items whose id is @id, or NULL. */
static const char *with_id(const struct qemu_items *items, const char *id)
{
	char found[256];

	for (unsigned int i = 0; i < items->count; i++)
		if ((qemu_value(items->text[i], "id", found, sizeof(found)) ||
		     qemu_value(items->text[i], "node-name", found, sizeof(found))) &&
		    !strcmp(found, id))
			return items->text[i];
	return NULL;
}

/* What @key of @device names among @items. */
static int named(const char **text, const struct qemu_items *items, const char *device,
		 const char *key, struct err *e)
{
	char id[256];

	if (!qemu_value(device, key, id, sizeof(id)))
		return err_set(e, EINVAL, "-device %s: %s= is missing", device, key);
	*text = with_id(items, id);
	return *text ? 0 : err_set(e, EINVAL, "-device %s: there is no %s '%s'", device, key, id);
}

/* --- disks --- */

static bool is_on(const char *text, const char *key)
{
	char value[16];

	return qemu_value(text, key, value, sizeof(value)) &&
	       (!strcmp(value, "on") || !strcmp(value, "true"));
}

/* Two commas for one. */
static void double_commas(char *out, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text && n + 3 < size; text++) {
		if (*text == ',')
			out[n++] = ',';
		out[n++] = *text;
	}
	out[n] = '\0';
}

/* @drive without a file may name the node below it, as -blockdev's have it. */
static int add_disk(struct qemu *q, const char *drive, const char *device, struct err *e)
{
	char path[1024], name[2048], format[64] = "", serial[64] = "", below[256];
	const char *file = drive, *node;

	while (!qemu_value(file, "file.filename", path, sizeof(path)) &&
	       !qemu_value(file, "filename", path, sizeof(path))) {
		if (!qemu_value(file, "file", below, sizeof(below)))
			return err_set(e, EINVAL, "a drive without a file: '%s'", drive);
		node = with_id(&q->drives, below);
		if (!node || node == file) {
			strcpy(path, below);
			if (qemu_value(file, "file", path, sizeof(path)))
				break;
		}
		file = node;
	}
	double_commas(name, sizeof(name), path);
	if (!qemu_value(drive, "format", format, sizeof(format)))
		qemu_value(drive, "driver", format, sizeof(format));
	if (!strcmp(format, "file") || !strcmp(format, "host_device"))
		strcpy(format, "raw");
	if (!device || !qemu_value(device, "serial", serial, sizeof(serial)))
		qemu_value(drive, "serial", serial, sizeof(serial));
	return qemu_push(q, e, "--disk", "%s%s%s%s%s%s%s", name, format[0] ? ",format=" : "", format,
			 is_on(drive, "readonly") || is_on(drive, "read-only") ? ",readonly=on" : "",
			 q->snapshot || is_on(drive, "snapshot") ? ",snapshot=on" : "",
			 serial[0] ? ",serial=" : "", serial);
}

static int add_drives(struct qemu *q, struct err *e)
{
	int rc = 0;

	for (unsigned int i = 0; i < q->drives.count && !rc; i++) {
		const char *text = q->drives.text[i];
		char where[64] = "ide";

		rc = qemu_check_keys("-drive", text, DRIVE_KEYS, e);
		if (rc || (qemu_value(text, "driver", where, sizeof(where)) &&
			   !qemu_value(text, "if", where, sizeof(where))))
			continue;
		qemu_value(text, "if", where, sizeof(where));
		if (!strcmp(where, "virtio"))
			rc = add_disk(q, text, NULL, e);
		else if (strcmp(where, "none"))
			rc = err_set(e, EINVAL, "-drive %s: there is no %s here, only if=virtio and "
				     "if=none", text, where);
	}
	return rc;
}

static int add_blk(struct qemu *q, const char *device, struct err *e)
{
	const char *drive;
	int rc = named(&drive, &q->drives, device, "drive", e);

	return rc ? rc : add_disk(q, drive, device, e);
}

/* --- networks --- */

static int push_net(struct qemu *q, const char *netdev, const char *mac, struct err *e)
{
	char kind[32] = "", value[256], text[QEMU_TEXT_MAX];
	size_t n;

	qemu_value(netdev, "", kind, sizeof(kind));
	if (!strcmp(kind, "tap")) {
		if (!qemu_value(netdev, "ifname", value, sizeof(value)))
			return err_set(e, EINVAL, "-netdev tap: name the interface, ifname=tap0");
		n = snprintf(text, sizeof(text), "tap,ifname=%s", value);
	} else if (!strcmp(kind, "user")) {
		char copy[QEMU_TEXT_MAX], *rest = copy, *item;

		n = snprintf(text, sizeof(text), "user");
		snprintf(copy, sizeof(copy), "%s", netdev + strcspn(netdev, ","));
		while ((item = strsep(&rest, ",")))
			if (item[0] && strncmp(item, "id=", 3) && strncmp(item, "model=", 6) &&
			    strncmp(item, "mac=", 4))
				n += snprintf(text + n, sizeof(text) - n, ",%s", item);
	} else {
		return err_set(e, EINVAL, "-netdev %s: there are user and tap here; between VMs "
			       "'vireo run --net switch=NAME'", netdev);
	}
	if (mac)
		snprintf(text + n, sizeof(text) - n, ",mac=%s", mac);
	return qemu_push(q, e, "--net", "%s", text);
}

static int add_net(struct qemu *q, const char *device, struct err *e)
{
	char mac[32];
	const char *netdev;
	int rc = named(&netdev, &q->netdevs, device, "netdev", e);

	if (rc)
		return rc;
	return push_net(q, netdev, qemu_value(device, "mac", mac, sizeof(mac)) ? mac : NULL, e);
}

/* Those of -nic and -net, which have a card with them, and what QEMU does without any option. */
static int add_cards(struct qemu *q, struct err *e)
{
	char mac[32], id[64];
	int rc = 0;

	for (unsigned int i = 0; i < q->netdevs.count && !rc; i++) {
		const char *text = q->netdevs.text[i];

		if (!qemu_value(text, "id", id, sizeof(id)))
			rc = push_net(q, text, qemu_value(text, "mac", mac, sizeof(mac)) ? mac : NULL, e);
	}
	if (!rc && !q->net_given && !q->no_defaults)
		rc = qemu_push(q, e, "--net", "user");
	return rc;
}

/* --- character devices --- */

/* @text of -chardev, or NULL with *plain as -serial has it. */
static int serial_text(struct qemu *q, const char *spec, char *out, size_t size, struct err *e)
{
	char kind[64] = "", path[1024] = "";

	if (!strncmp(spec, "chardev:", 8)) {
		spec = with_id(&q->chardevs, spec + 8);
		if (!spec)
			return err_set(e, EINVAL, "-serial: there is no such chardev");
		qemu_value(spec, "", kind, sizeof(kind));
		qemu_value(spec, "path", path, sizeof(path));
		if (!strcmp(kind, "socket") && path[0] && is_on(spec, "server"))
			return snprintf(out, size, "socket:%s", path), 0;
		if (!strcmp(kind, "file") && path[0])
			return snprintf(out, size, "file:%s", path), 0;
		spec = kind;
	}
	if (!strcmp(spec, "mon:stdio") || !strcmp(spec, "stdio"))
		return snprintf(out, size, "stdio"), 0;
	if (!strcmp(spec, "null") || !strcmp(spec, "none"))
		return snprintf(out, size, "none"), 0;
	if (!strcmp(spec, "pty") || !strncmp(spec, "file:", 5) || spec[0] == '/')
		return snprintf(out, size, "%s", spec), 0;
	if (!strncmp(spec, "unix:", 5) && strstr(spec, ",server")) {
		qemu_value(spec + 5, "", path, sizeof(path));
		return snprintf(out, size, "socket:%s", path), 0;
	}
	return err_set(e, EINVAL, "-serial: '%s' is not there; there are stdio, mon:stdio, null, none, pty, "
		       "file:PATH, unix:PATH,server=on, /dev/NAME and chardev:ID of these", spec);
}

static int add_serials(struct qemu *q, struct err *e)
{
	bool monitor = q->nographic && !q->serials.count;
	char text[1100];
	int rc = 0;

	if (!q->serials.count && q->nographic && !q->no_defaults)
		rc = qemu_keep(&q->serials, "-serial", "mon:stdio", e);
	if (!q->serials.count)
		rc = qemu_keep(&q->serials, "-serial", "none", e);
	for (unsigned int i = 0; i < q->serials.count && !rc; i++) {
		monitor |= !strncmp(q->serials.text[i], "mon:", 4);
		rc = serial_text(q, q->serials.text[i], text, sizeof(text), e);
		if (!rc)
			rc = qemu_push(q, e, "--serial", "%s", text);
	}
	if (!rc)
		rc = qemu_push(q, e, "--console-escape", "%s", monitor ? "^A" : "none");
	return rc;
}

static int add_port(struct qemu *q, const char *device, struct err *e)
{
	char kind[64] = "", path[1024] = "", name[128] = "";
	const char *chardev, *at;
	int rc = named(&chardev, &q->chardevs, device, "chardev", e);

	if (rc)
		return rc;
	qemu_value(chardev, "", kind, sizeof(kind));
	qemu_value(chardev, "path", path, sizeof(path));
	if (!qemu_value(device, "name", name, sizeof(name)) && strncmp(device, "virtconsole", 11))
		snprintf(name, sizeof(name), "port");
	if (!strcmp(kind, "socket") && path[0] && is_on(chardev, "server"))
		at = "socket=";
	else if (!strcmp(kind, "file") && path[0])
		at = "out=";
	else if (!strcmp(kind, "null"))
		at = "out=/dev/null";
	else if (!strcmp(kind, "stdio"))
		at = "in=/dev/fd/0,out=/dev/fd/1";
	else
		return err_set(e, EINVAL, "-chardev %s: a console or port is on a file, null, stdio or a "
			       "socket with server=on", chardev);
	return qemu_push(q, e, "--console", "%s%s%s%s", at, path, name[0] ? ",name=" : "", name);
}

/* --- other devices --- */

static int add_9p(struct qemu *q, const char *device, struct err *e)
{
	char path[1024], tag[64], model[32] = "none";
	const char *fs = device;
	int rc = strncmp(device, "local", 5) ? named(&fs, &q->fsdevs, device, "fsdev", e) : 0;

	if (rc)
		return rc;
	qemu_value(fs, "security_model", model, sizeof(model));
	if (!strcmp(model, "mapped"))
		strcpy(model, "mapped-xattr");
	if (strncmp(fs, "local", 5) || !qemu_value(fs, "path", path, sizeof(path)) ||
	    !qemu_value(device, "mount_tag", tag, sizeof(tag)))
		return err_set(e, EINVAL, "'%s': a shared directory is local, with path= and mount_tag=", fs);
	return qemu_push(q, e, "--share", "%s,tag=%s,security=%s%s", path, tag, model,
			 is_on(fs, "readonly") ? ",readonly" : "");
}

static int add_balloon(struct qemu *q, const char *device, struct err *e)
{
	(void)device;
	return qemu_push(q, e, "--balloon", "0");
}

static int add_debug_exit(struct qemu *q, const char *device, struct err *e)
{
	char base[32] = "0x501";

	qemu_value(device, "iobase", base, sizeof(base));
	if (strtoul(base, NULL, 0) != 0xf4)
		return err_set(e, EINVAL, "-device isa-debug-exit: it is at iobase=0xf4 here");
	return qemu_push(q, e, "--debug-exit", NULL);
}

static int add_watchdog(struct qemu *q, const char *device, struct err *e)
{
	(void)device;
	(void)e;
	q->watchdog = true;
	return 0;
}

/* What needs no device of its own: it is there, or is only the bus of others. */
static int add_nothing(struct qemu *q, const char *device, struct err *e)
{
	(void)q;
	(void)device;
	(void)e;
	return 0;
}

static const struct {
	const char *name;	/* without what says on which bus it is */
	const char *keys;	/* beside BUS_KEYS */
	int (*add)(struct qemu *q, const char *device, struct err *e);
} devices[] = {
	{ "virtio-blk", "drive serial write-cache scsi config-wce", add_blk },
	{ "virtio-net", "netdev mac", add_net },
	{ "virtio-rng", "rng max-bytes period", add_nothing },
	{ "virtio-serial", "", add_nothing },
	{ "virtconsole", "chardev name nr", add_port },
	{ "virtserialport", "chardev name nr", add_port },
	{ "virtio-9p", "fsdev mount_tag", add_9p },
	{ "virtio-balloon", "deflate-on-oom free-page-reporting", add_balloon },
	{ "isa-debug-exit", "iobase iosize", add_debug_exit },
	{ "pvpanic", "ioport events", add_nothing },
	{ "i6300esb", "", add_watchdog },
};

static int add_device(struct qemu *q, const char *text, struct err *e)
{
	static const char *const buses[] = { "", "-pci", "-device", "-pci-non-transitional" };
	char name[64] = "", keys[1024];

	qemu_value(text, "", name, sizeof(name));
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++) {
		const size_t n = strlen(devices[i].name);

		for (unsigned int b = 0; b < ARRAY_SIZE(buses); b++) {
			int rc;

			if (strncmp(name, devices[i].name, n) || strcmp(name + n, buses[b]))
				continue;
			snprintf(keys, sizeof(keys), BUS_KEYS "%s", devices[i].keys);
			rc = qemu_check_keys("-device", text, keys, e);
			return rc ? rc : devices[i].add(q, text, e);
		}
	}
	return err_set(e, EINVAL, "-device %s: '%s' is not a valid device model name here", text, name);
}

int qemu_add_devices(struct qemu *q, struct err *e)
{
	int rc = add_serials(q, e);

	if (!rc)
		rc = add_drives(q, e);
	for (unsigned int i = 0; i < q->devices.count && !rc; i++)
		rc = add_device(q, q->devices.text[i], e);
	for (unsigned int i = 0; i < q->fsdevs.count && !rc; i++)
		if (strstr(q->fsdevs.text[i], "mount_tag="))
			rc = add_9p(q, q->fsdevs.text[i], e);
	if (!rc)
		rc = add_cards(q, e);
	if (!rc && q->watchdog)
		rc = qemu_push(q, e, "--watchdog", "%s", q->watchdog_action ? q->watchdog_action : "reset");
	return rc;
}
