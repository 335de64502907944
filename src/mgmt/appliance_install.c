// SPDX-License-Identifier: Apache-2.0
/* Making a machine out of something foreign: in a folder beside its place, put there when whole. */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"
#include "mgmt/vm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path) ? -1 : 0;
}

void appliance_remove(const char *folder)
{
	nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

int install_begin(struct install *i, const char *name, uint64_t max_size, struct err *e)
{
	char home[PATH_MAX];
	struct stat st;
	int rc = strchr(name, '/') ? 0 : machine_home(home, e);

	i->m.dir = -1;
	i->part[0] = '\0';
	i->left = max_size;
	if (!rc)
		rc = machine_path(&i->m, name, e);
	if (rc)
		return rc;
	if (!lstat(i->m.path, &st))
		return err_set(e, EEXIST, "there is a VM '%s' already ('%.300s'): import it under another name",
			       i->m.name, i->m.path);
	snprintf(i->part, sizeof(i->part), "%.*s.import-%d", PATH_MAX - 32, i->m.path, (int)getpid());
	copy_hold_signals();
	if (mkdir(i->part, 0700))
		return err_errno(e, errno, "could not make the folder '%.300s'", i->part);
	i->m.dir = open(i->part, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return i->m.dir < 0 ? err_errno(e, errno, "could not open '%.300s'", i->part) : 0;
}

int install_file(struct install *i, const char *name, struct err *e)
{
	const int fd = appliance_name_ok(name) ?
		       openat(i->m.dir, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600) : -1;

	if (fd >= 0)
		return fd;
	if (!appliance_name_ok(name))
		return err_set(e, EINVAL, "'%.200s' is no name for a file of an appliance: letters, digits, "
			       "'.', '_' and '-' only, and no folders", name);
	return err_errno(e, errno, "could not make the file '%s'", name);
}

static int write_config(struct install *i, const json_t *root, struct err *e)
{
	char *text = json_dumps(root, JSON_INDENT(8));
	struct vm_config_file c;
	char what[128];
	int fd, rc;

	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	snprintf(what, sizeof(what), "%s/%s", i->m.name, MACHINE_CONFIG);
	rc = vm_config_parse(&c, text, strlen(text), what, e);
	vm_config_free(&c);
	unlinkat(i->m.dir, MACHINE_CONFIG, 0);
	fd = rc ? rc : install_file(i, MACHINE_CONFIG, e);
	if (fd >= 0) {
		if (dprintf(fd, "%s\n", text) < 0 || fsync(fd))
			rc = err_errno(e, errno, "could not write vm.json");
		close(fd);
	} else {
		rc = fd;
	}
	free(text);
	return rc;
}

int install_end(struct install *i, const json_t *root, int rc, struct err *e)
{
	if (!rc)
		rc = appliance_check(root, i->m.dir, i->part, e);
	if (!rc)
		rc = write_config(i, root, e);
	if (i->m.dir >= 0)
		close(i->m.dir);
	i->m.dir = -1;
	if (!rc && renameat2(AT_FDCWD, i->part, AT_FDCWD, i->m.path, RENAME_NOREPLACE))
		rc = err_errno(e, errno, "could not put the machine at '%.300s'", i->m.path);
	if (rc && i->part[0])
		appliance_remove(i->part);
	return rc;
}
