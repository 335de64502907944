// SPDX-License-Identifier: Apache-2.0
/*
 * What an appliance's vm.json may say.  Whoever made it decides what its guest is, and nothing of
 * the host it comes to: no shared directories, no devices, sockets or ports of the host, no less
 * of a sandbox.  Its disks are files beside it that depend on no others.
 */
#include "mgmt/appliance_priv.h"
#include "backend/block.h"
#include "backend/image.h"
#include "backend/qcow2.h"
#include "mgmt/command.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const kept_keys[] = {
	"version", "description", "kernel", "initrd", "cmdline", "cpu", "cpus", "max-cpus",
	"memory", "disk", "net", "no-reboot", "transport", "watchdog", "engine",
	"debug-exit",
};
static const char *const file_keys[] = { "kernel", "initrd" };

static bool is_kept(const char *key)
{
	for (size_t i = 0; i < ARRAY_SIZE(kept_keys); i++)
		if (!strcmp(key, kept_keys[i]))
			return true;
	return false;
}

/* A user's network alone, without ports of the host or a way to its files. */
static bool net_ok(const char *text)
{
	return !strcmp(text, "user") || (!strncmp(text, "user,mac=", 9) && !strchr(text + 9, ','));
}

static void tell(bool told, const char *key, const char *value)
{
	if (told)
		command_note("left out of the machine: %s%s%.100s (it reaches beyond the machine; "
			     "vireo edit can add it)", key, value ? " " : "", value ? value : "");
}

static void clean_nets(json_t *root, bool told)
{
	json_t *nets = json_object_get(root, "net");

	for (size_t i = json_array_size(nets); i-- > 0; ) {
		const char *text = json_string_value(json_array_get(nets, i));

		if (text && net_ok(text))
			continue;
		tell(told, "net", text);
		json_array_remove(nets, i);
	}
	if (json_is_string(nets) && !net_ok(json_string_value(nets))) {
		tell(told, "net", json_string_value(nets));
		json_object_del(root, "net");
	}
}

void appliance_clean(json_t *root, bool told)
{
	const char *key;
	json_t *value;
	void *next;

	json_object_foreach_safe(root, next, key, value) {
		if (is_kept(key))
			continue;
		tell(told, key, json_string_value(value));
		json_object_del(root, key);
	}
	clean_nets(root, told);
}

/* --- the files that it names --- */

static int file_of_disk(const json_t *disk, struct block_options *o, struct err *e)
{
	const char *text = json_string_value(disk);

	if (!text)
		return err_set(e, EINVAL, "\"disk\" in vm.json is a list of texts");
	return block_options_parse(o, text, e);
}

int appliance_each_file(const json_t *root, int (*fn)(void *arg, const char *name, struct err *e),
			void *arg, struct err *e)
{
	const json_t *disks = json_object_get(root, "disk");
	struct block_options o;
	int rc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(file_keys) && !rc; i++) {
		const char *name = json_string_value(json_object_get(root, file_keys[i]));

		if (name)
			rc = fn(arg, name, e);
	}
	if (json_is_string(disks)) {
		rc = rc ? rc : file_of_disk(disks, &o, e);
		return rc ? rc : fn(arg, o.path, e);
	}
	for (size_t i = 0; i < json_array_size(disks) && !rc; i++) {
		rc = file_of_disk(json_array_get(disks, i), &o, e);
		if (!rc)
			rc = fn(arg, o.path, e);
	}
	return rc;
}

struct place {
	int dir;
	const char *path;
};

static int check_file(void *arg, const char *name, struct err *e)
{
	const struct place *p = arg;
	struct stat st;

	if (!appliance_name_ok(name))
		return err_set(e, EINVAL, "'%.200s' is not in the machine's directory itself: 'vireo create "
			       "--disks copy' makes a machine whose files are", name);
	if (fstatat(p->dir, name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode))
		return err_set(e, ENOENT, "there is no file '%s' in '%.300s'", name, p->path);
	return 0;
}

static int check_disk(const struct place *p, const struct block_options *o, struct err *e)
{
	char path[PATH_MAX + APPLIANCE_NAME_MAX + 2];
	struct image_open how = {
		.path = path, .format = o->format, .read_only = true, .no_backing = true,
	};
	struct qcow2_info info;
	struct image *img;
	int rc;

	snprintf(path, sizeof(path), "%s/%s", p->path, o->path);
	rc = image_open(&img, &how, e);
	if (rc)
		return rc;
	if (qcow2_info(img, &info) && info.backing)
		rc = err_set(e, EINVAL, "the disk '%.60s' lies on another file, '%.120s'; it stands alone after: "
			     "cd '%.120s' && vireo image convert %.60s whole.qcow2 && mv whole.qcow2 %.60s",
			     o->path, info.backing, p->path, o->path, o->path);
	image_close(img);
	return rc;
}

int appliance_check(const json_t *root, int dir, const char *path, struct err *e)
{
	const json_t *disks = json_object_get(root, "disk");
	struct place p = { dir, path };
	struct block_options o;
	int rc = appliance_each_file(root, check_file, &p, e);

	if (!rc && json_is_string(disks))
		rc = file_of_disk(disks, &o, e) ? -EINVAL : check_disk(&p, &o, e);
	for (size_t i = 0; i < json_array_size(disks) && !rc; i++) {
		rc = file_of_disk(json_array_get(disks, i), &o, e);
		if (!rc)
			rc = check_disk(&p, &o, e);
	}
	return rc;
}
