// SPDX-License-Identifier: Apache-2.0
/* Drives of QEMU's command line as --disk; -blockdev's, which name the node below, too. */
#include "mgmt/qemu_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DRIVE_KEYS	"file if format id index readonly read-only snapshot serial werror driver node-name " \
			"filename aio"

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

/* Keys of nodes below ("file.", "file.file.", "file.backing.") are those of a drive, too. */
static int check_keys(const char *text, struct err *e)
{
	char copy[QEMU_TEXT_MAX], *to = copy;

	if (strlen(text) >= sizeof(copy))
		return err_set(e, ENAMETOOLONG, "-drive: the text is too long");
	for (const char *at = text; *at;) {
		const bool start = at == text || (at[-1] == ',' && (at - text < 2 || at[-2] != ','));

		if (start && !strncmp(at, "file.", 5))
			while (!strncmp(at, "file.", 5) || !strncmp(at, "backing.", 8))
				at += at[0] == 'f' ? 5 : 8;
		*to++ = *at++;
	}
	*to = '\0';
	return qemu_check_keys("drive", copy, DRIVE_KEYS, e);
}

/* What names no file of the host. */
static bool is_protocol(const char *path)
{
	static const char *const words[] = { "json:", "nbd:", "fat:", "ssh:", "rbd:", "iscsi:", "nfs:",
					     "http:", "https:", "blkdebug:", "null-co:" };

	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (!strncmp(path, words[i], strlen(words[i])))
			return true;
	return strstr(path, "://");
}

/* The file's name; a drive without one may name the node below it. */
static int find_path(struct qemu *q, const char *drive, char *path, size_t size, struct err *e)
{
	static const char *const keys[] = { "file.file.filename", "file.filename", "filename" };
	const char *text = drive, *node;
	char below[1024];

	for (unsigned int depth = 0; depth < QEMU_ITEMS_MAX; depth++) {
		for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
			if (qemu_value(text, keys[i], path, size))
				return 0;
		if (!qemu_value(text, "file", below, sizeof(below)))
			break;
		node = qemu_with_id(&q->drives, below);
		if (!node || node == text) {
			snprintf(path, size, "%s", below);
			return 0;
		}
		text = node;
	}
	return err_set(e, EINVAL, "a drive without a file: '%.300s'", drive);
}

/* A node of these has the bytes of the file as they are. */
static bool is_plain_driver(const char *driver)
{
	return !strcmp(driver, "file") || !strcmp(driver, "host_device");
}

/* "raw" above another format is that format. */
static int find_format(const char *drive, char *format, size_t size, struct err *e)
{
	char below[64] = "";

	if (!qemu_value(drive, "format", format, size))
		qemu_value(drive, "driver", format, size);
	qemu_value(drive, "file.driver", below, sizeof(below));
	if (is_plain_driver(format))
		snprintf(format, size, "raw");
	if (below[0] && !is_plain_driver(below) && (!format[0] || !strcmp(format, "raw")))
		snprintf(format, size, "%s", below);
	if (format[0] && strcmp(format, "raw") && strcmp(format, "qcow2"))
		return err_set(e, EINVAL, "Unknown driver '%s'; there are raw and qcow2", format);
	return 0;
}

/* "enospc" is what is done: the VM stops where the host has no room, else the guest is told. */
static int find_werror(const char *drive, const char *device, const char **text, struct err *e)
{
	char value[32] = "";

	if (!device || !qemu_value(device, "werror", value, sizeof(value)))
		qemu_value(drive, "werror", value, sizeof(value));
	*text = !strcmp(value, "report") ? ",werror=report" : "";
	if (!value[0] || !strcmp(value, "report") || !strcmp(value, "enospc"))
		return 0;
	return err_set(e, EINVAL, "werror=%s: there are report and enospc here", value);
}

/* "native" is Linux's older interface, for which the workers stand in. */
static int find_aio(const char *drive, const char **text, struct err *e)
{
	char value[32] = "threads";

	if (!qemu_value(drive, "aio", value, sizeof(value)))
		qemu_value(drive, "file.aio", value, sizeof(value));
	*text = !strcmp(value, "io_uring") ? ",aio=io_uring" : "";
	if (**text || !strcmp(value, "threads") || !strcmp(value, "native"))
		return 0;
	return err_set(e, EINVAL, "aio=%s: there are threads, native and io_uring", value);
}

static int push_disk(struct qemu *q, const char *option, const char *drive, const char *device, bool scsi,
		     struct err *e)
{
	char path[1024] = "", name[2060], format[64] = "", serial[64] = "", id[64] = "", node[64] = "";
	const char *werror, *aio;
	int rc;

	rc = find_path(q, drive, path, sizeof(path), e);
	if (!rc && is_protocol(path))
		rc = err_set(e, EINVAL, "'%s': a drive is a file or a device of the host here", path);
	if (!rc)
		rc = find_format(drive, format, sizeof(format), e);
	if (!rc)
		rc = find_werror(drive, device, &werror, e);
	if (!rc)
		rc = find_aio(drive, &aio, e);
	if (rc)
		return rc;
	double_commas(name, sizeof(name), path);
	if (!device || !qemu_value(device, "serial", serial, sizeof(serial)))
		qemu_value(drive, "serial", serial, sizeof(serial));
	if (!qemu_value(drive, "id", node, sizeof(node)))
		qemu_value(drive, "node-name", node, sizeof(node));
	if (device)
		qemu_value(device, "id", id, sizeof(id));
	return qemu_push(q, e, option, "%s%s%s%s%s%s%s%s%s%s%s%s%s%s", name, format[0] ? ",format=" : "", format,
			 qemu_on(drive, "readonly", qemu_on(drive, "read-only", false)) ? ",readonly=on" : "",
			 q->snapshot || qemu_on(drive, "snapshot", false) ? ",snapshot=on" : "",
			 serial[0] ? ",serial=" : "", serial, werror, aio, scsi ? ",bus=scsi" : "",
			 id[0] ? ",id=" : "", id, node[0] ? ",node=" : "", node);
}

int qemu_add_disk(struct qemu *q, const char *drive, const char *device, bool scsi, struct err *e)
{
	q->drives_used |= BIT(qemu_place_among(&q->drives, drive));
	return push_disk(q, "--disk", drive, device, scsi, e);
}

int qemu_add_spare_drives(struct qemu *q, struct err *e)
{
	char id[64];
	int rc = 0;

	for (unsigned int i = 0; i < q->drives.count && !rc && qemu_can_be_asked(q); i++)
		if (!(q->drives_used & BIT(i)) && (qemu_value(q->drives.text[i], "id", id, sizeof(id)) ||
						   qemu_value(q->drives.text[i], "node-name", id, sizeof(id))))
			rc = push_disk(q, "--spare-disk", q->drives.text[i], NULL, false, e);
	return rc;
}

/* Those that are a device too, in their order. */
static int add_plain(struct qemu *q, const char *text, struct err *e)
{
	char index[16];

	if (qemu_value(text, "index", index, sizeof(index)) &&
	    strtoul(index, NULL, 10) != q->plain_drives)
		return err_set(e, EINVAL, "-drive index=%s: drives have the order in which they are given",
			       index);
	q->plain_drives++;
	return qemu_add_disk(q, text, NULL, false, e);
}

int qemu_add_drives(struct qemu *q, struct err *e)
{
	int rc = 0;

	for (unsigned int i = 0; i < q->drives.count && !rc; i++) {
		const char *text = q->drives.text[i];
		char where[64] = "ide";

		rc = check_keys(text, e);
		if (rc || (qemu_value(text, "driver", where, sizeof(where)) &&
			   !qemu_value(text, "if", where, sizeof(where))))
			continue;
		qemu_value(text, "if", where, sizeof(where));
		if (!strcmp(where, "virtio"))
			rc = add_plain(q, text, e);
		else if (strcmp(where, "none"))
			rc = err_set(e, EINVAL, "-drive %s: there is no %s here, only if=virtio and "
				     "if=none", text, where);
	}
	return rc;
}
