// SPDX-License-Identifier: Apache-2.0
/*
 * Devices of QEMU's command line as options of `vireo run`.  The bus is no choice: each device is
 * where this PC has it.
 */
#include "mgmt/qemu_priv.h"
#include "base/named_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- disks --- */

static int add_blk(struct qemu *q, const char *device, struct err *e)
{
	const char *drive;
	int rc = qemu_named(&drive, &q->drives, device, "drive", e);

	return rc ? rc : qemu_add_disk(q, drive, device, false, e);
}

static int add_scsi_adapter(struct qemu *q, const char *device, struct err *e)
{
	(void)device;
	if (q->scsi_adapter)
		return err_set(e, EINVAL, "-device %s: there is one SCSI adapter here", device);
	q->scsi_adapter = true;
	return 0;
}

/* Each disk is logical unit 0 of the next target. */
static int add_scsi_disk(struct qemu *q, const char *device, struct err *e)
{
	char value[32];
	const char *drive;
	int rc;

	if (!q->scsi_adapter)
		return err_set(e, EINVAL, "-device %s: No 'SCSI' bus found: -device virtio-scsi-pci comes first",
			       device);
	if ((qemu_value(device, "scsi-id", value, sizeof(value)) && strtoul(value, NULL, 0) != q->scsi_disks) ||
	    (qemu_value(device, "channel", value, sizeof(value)) && strcmp(value, "0")) ||
	    (qemu_value(device, "lun", value, sizeof(value)) && strcmp(value, "0")))
		return err_set(e, EINVAL, "-device %s: this disk is channel 0, target %u, unit 0", device,
			       q->scsi_disks);
	rc = qemu_named(&drive, &q->drives, device, "drive", e);
	q->scsi_disks++;
	return rc ? rc : qemu_add_disk(q, drive, device, true, e);
}

/* --- ports --- */

static int add_port(struct qemu *q, const char *device, struct err *e)
{
	char id[64], place[512], name[128] = "";
	int rc;

	if (!qemu_value(device, "chardev", id, sizeof(id)))
		return err_set(e, EINVAL, "-device %s: chardev= is missing", device);
	rc = qemu_chardev_place(q, "-device", id, place, sizeof(place), e);
	if (rc)
		return rc;
	if (!qemu_value(device, "name", name, sizeof(name)) && strncmp(device, "virtconsole", 11))
		snprintf(name, sizeof(name), "port");
	return qemu_push(q, e, "--console", "%s%s%s%s", strcmp(place, "none") ? "at=" : "out=/dev/null",
			 strcmp(place, "none") ? place : "", name[0] ? ",name=" : "", name);
}

static int add_isa_serial(struct qemu *q, const char *device, struct err *e)
{
	(void)q;	/* qemu_char.c has it among the serial ports */
	(void)device;
	(void)e;
	return 0;
}

/* The host's side is a unix socket (vireo-run's --vsock), not the host's AF_VSOCK. */
static int add_vsock(struct qemu *q, const char *device, struct err *e)
{
	char cid[32] = "3", path[128], name[64];
	struct sockaddr_un a;
	int rc;

	qemu_value(device, "guest-cid", cid, sizeof(cid));
	if (qemu_value(device, "x-socket", path, sizeof(path)))
		return qemu_push(q, e, "--vsock", "%s,cid=%s", path, cid);
	snprintf(name, sizeof(name), "vsock-%.20s", cid);
	rc = named_socket_address(&a, "", name, ".sock", e);
	return rc ? rc : qemu_push(q, e, "--vsock", "%s,cid=%s", a.sun_path, cid);
}

/* --- other devices --- */

static int add_9p(struct qemu *q, const char *device, struct err *e)
{
	char path[1024], tag[64], model[32] = "none";
	const char *fs = device;
	int rc = strncmp(device, "local", 5) ? qemu_named(&fs, &q->fsdevs, device, "fsdev", e) : 0;

	if (rc)
		return rc;
	qemu_value(fs, "security_model", model, sizeof(model));
	if (!strcmp(model, "mapped"))
		strcpy(model, "mapped-xattr");
	if (strncmp(fs, "local", 5) || !qemu_value(fs, "path", path, sizeof(path)) ||
	    !qemu_value(device, "mount_tag", tag, sizeof(tag)))
		return err_set(e, EINVAL, "'%s': a shared directory is local, with path= and mount_tag=", fs);
	return qemu_push(q, e, "--share", "%s,tag=%s,security=%s%s", path, tag, model,
			 qemu_on(fs, "readonly", false) ? ",readonly" : "");
}

/* What is not said is as vireo has it, which gives more back than QEMU does. */
static int add_balloon(struct qemu *q, const char *device, struct err *e)
{
	char value[16];
	const char *oom = "", *reporting = "";

	if (qemu_value(device, "deflate-on-oom", value, sizeof(value)))
		oom = qemu_on(device, "deflate-on-oom", true) ? ",deflate-on-oom=on" : ",deflate-on-oom=off";
	if (qemu_value(device, "free-page-reporting", value, sizeof(value)))
		reporting = qemu_on(device, "free-page-reporting", true) ? ",reporting=on" : ",reporting=off";
	return qemu_push(q, e, "--balloon", "0%s%s", oom, reporting);
}

static int add_debug_exit(struct qemu *q, const char *device, struct err *e)
{
	char base[32] = "0x501";

	qemu_value(device, "iobase", base, sizeof(base));
	if (strtoul(base, NULL, 0) != 0xf4)
		return err_set(e, EINVAL, "-device isa-debug-exit: it is at iobase=0xf4 here");
	return qemu_push(q, e, "--debug-exit", NULL);
}

static int add_pvpanic(struct qemu *q, const char *device, struct err *e)
{
	char port[32] = "0x505";

	(void)q;
	qemu_value(device, "ioport", port, sizeof(port));
	if (strtoul(port, NULL, 0) != 0x505)
		return err_set(e, EINVAL, "-device pvpanic: it is at ioport=0x505 here");
	return 0;
}

static int add_watchdog(struct qemu *q, const char *device, struct err *e)
{
	(void)device;
	(void)e;
	q->watchdog = true;
	return 0;
}

static int add_rng(struct qemu *q, const char *device, struct err *e)
{
	(void)q;	/* it is always there */
	(void)device;
	(void)e;
	return 0;
}

/* Ports bring their bus. */
static int add_bus(struct qemu *q, const char *device, struct err *e)
{
	(void)q;
	(void)device;
	(void)e;
	return 0;
}

static const struct {
	const char *name;	/* without what says on which bus it is */
	const char *keys;	/* that do something */
	bool bus;		/* which may follow */
	int (*add)(struct qemu *q, const char *device, struct err *e);
} devices[] = {
	{ "virtio-blk", "id drive serial werror", true, add_blk },
	{ "virtio-scsi", "", true, add_scsi_adapter },
	{ "scsi-hd", "id drive serial werror scsi-id channel lun", false, add_scsi_disk },
	{ "virtio-net", "netdev mac host_mtu", true, qemu_add_net },
	{ "virtio-rng", "rng", true, add_rng },
	{ "virtio-serial", "", true, add_bus },
	{ "virtconsole", "chardev name", false, add_port },
	{ "virtserialport", "chardev name", false, add_port },
	{ "isa-serial", "chardev", false, add_isa_serial },
	{ "virtio-9p", "fsdev mount_tag", true, add_9p },
	{ "vhost-vsock", "guest-cid x-socket", true, add_vsock },
	{ "virtio-vsock", "guest-cid x-socket", true, add_vsock },
	{ "virtio-balloon", "deflate-on-oom free-page-reporting", true, add_balloon },
	{ "isa-debug-exit", "iobase", false, add_debug_exit },
	{ "pvpanic", "ioport", false, add_pvpanic },
	{ "i6300esb", "", false, add_watchdog },
};

static const char *const buses[] = { "", "-pci", "-device", "-pci-non-transitional" };

void qemu_print_devices(void)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++)
		for (unsigned int b = devices[i].bus; b < (devices[i].bus ? ARRAY_SIZE(buses) : 1); b++)
			printf("name \"%s%s\"\n", devices[i].name, buses[b]);
}

static int add_device(struct qemu *q, const char *text, struct err *e)
{
	char name[64] = "";

	qemu_value(text, "", name, sizeof(name));
	for (unsigned int i = 0; i < ARRAY_SIZE(devices); i++) {
		const size_t n = strlen(devices[i].name);

		for (unsigned int b = 0; b < (devices[i].bus ? ARRAY_SIZE(buses) : 1); b++) {
			int rc;

			if (strncmp(name, devices[i].name, n) || strcmp(name + n, buses[b]))
				continue;
			rc = qemu_check_keys("device", text, devices[i].keys, e);
			return rc ? rc : devices[i].add(q, text, e);
		}
	}
	return err_set(e, EINVAL, "-device %s: '%s' is not a valid device model name here", text, name);
}

int qemu_add_devices(struct qemu *q, struct err *e)
{
	int rc = qemu_add_chars(q, e);

	if (!rc)
		rc = qemu_add_drives(q, e);
	for (unsigned int i = 0; i < q->devices.count && !rc; i++)
		rc = add_device(q, q->devices.text[i], e);
	for (unsigned int i = 0; i < q->fsdevs.count && !rc; i++) {
		rc = qemu_check_keys("fsdev", q->fsdevs.text[i], "id path security_model readonly mount_tag", e);
		if (!rc && strstr(q->fsdevs.text[i], "mount_tag="))
			rc = add_9p(q, q->fsdevs.text[i], e);
	}
	if (!rc)
		rc = qemu_add_cards(q, e);
	if (!rc)
		rc = qemu_add_spare_drives(q, e);
	if (!rc)
		rc = qemu_add_spare_nets(q, e);
	if (!rc)
		rc = qemu_check_chardevs(q, e);
	if (!rc && q->watchdog)
		rc = qemu_push(q, e, "--watchdog", "%s", q->watchdog_action ? q->watchdog_action : "reset");
	return rc;
}
