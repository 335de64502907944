// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo create`: makes a machine's directory from options of `vireo run`.  What they name is
 * copied in, so that the directory is the whole machine; vm.json comes last, so that there is no
 * machine before it is whole.
 */
#include "backend/block.h"
#include "mgmt/command.h"
#include "mgmt/image_priv.h"
#include "mgmt/machine.h"
#include "mgmt/run_devices.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"
#include "mgmt/vm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FORMAT_MAX	16

enum create_disks { DISKS_COPY, DISKS_OVERLAY, DISKS_IN_PLACE };

struct create_options {
	struct run_options run;		/* first: options of `vireo run` are set in it */
	enum create_disks disks;
	const char *description;
	json_t *root;			/* of vm.json */
	char folder[PATH_MAX];		/* the present one */
};

/* --- copying --- */

static char *absolute(const struct create_options *o, const char *path)
{
	char *out;

	if (path[0] == '/')
		return strdup(path);
	return asprintf(&out, "%s/%s", o->folder, path) < 0 ? NULL : out;
}

static int copy_bytes(int from, int to, struct progress *p)
{
	struct stat st;
	uint64_t done = 0;
	ssize_t n;

	if (fstat(from, &st))
		return -errno;
	while ((n = copy_file_range(from, NULL, to, NULL, 1 << 20, 0)) > 0) {
		done += n;
		progress_at(p, done, st.st_size);
		if (copy_interrupted())
			return -EINTR;
	}
	if (n < 0 && !done) {	/* not between these file systems */
		static const size_t room = 1 << 20;
		char *buf = malloc(room);

		while (buf && (n = read(from, buf, room)) > 0 && write(to, buf, n) == n) {
			done += n;
			progress_at(p, done, st.st_size);
		}
		free(buf);
	}
	return n ? -(errno ? errno : EIO) : 0;
}

/* The file @path as @name in the machine's directory. */
static int copy_file(const struct machine *m, const char *path, const char *name, struct err *e)
{
	const int from = open(path, O_RDONLY | O_CLOEXEC);
	struct progress p;
	int to, rc;

	if (from < 0)
		return err_errno(e, errno, "could not open '%.300s'", path);
	to = openat(m->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (to < 0) {
		close(from);
		return err_errno(e, errno, "could not make '%.300s/%s'", m->path, name);
	}
	progress_begin(&p, name);
	errno = 0;
	rc = copy_bytes(from, to, &p);
	close(from);
	if (close(to) && !rc)
		rc = -errno;
	if (rc == -EINTR)
		return err_set(e, EINTR, "interrupted");
	if (rc)
		return err_errno(e, -rc, "could not copy '%.300s' to '%.150s'", path, m->path);
	progress_end(&p);
	return 0;
}

/* A disk that a copy would not be the same as, or that nothing is lost by not copying. */
static bool stays(const struct block_options *d)
{
	struct stat st;

	return d->read_only || d->part || d->extent_count || stat(d->path, &st) || !S_ISREG(st.st_mode);
}

/* @format gets the new disk's. */
static int make_copy(const struct machine *m, const struct block_options *d, const char *name,
		     bool overlay, char format[FORMAT_MAX], struct err *e)
{
	const struct image_open how = {
		.path = d->path, .format = d->format[0] ? d->format : NULL, .read_only = true,
	};
	struct image *from, *to;
	char path[PATH_MAX + 32], type[FORMAT_MAX];
	struct image_args a = { .type = type };
	int rc = image_open(&from, &how, e);

	if (rc)
		return rc;
	snprintf(path, sizeof(path), "%s/%s", m->path, name);
	snprintf(type, sizeof(type), "%s", overlay ? "qcow2" : from->ops->format);
	if (overlay) {
		a.backing = d->path;
		a.backing_type = from->ops->format;
	}
	rc = image_make(&to, path, from->size, &a, e);
	if (!rc) {
		rc = overlay ? 0 : image_copy(from, to, name, e);
		rc = image_make_end(to, path, rc, e);
	}
	snprintf(format, FORMAT_MAX, "%s", type);
	image_close(from);
	return rc;
}

/*
 * The text for --disk that says what @d does of the image @name; its type is named, since a guest
 * could make a raw disk look like one of the other.
 */
static char *disk_text(const struct block_options *d, const char *name, const char *format)
{
	char threads[32] = "", *text;

	if (d->threads)
		snprintf(threads, sizeof(threads), ",threads=%u", d->threads);
	if (asprintf(&text, "%s,format=%s%s%s%s%s%s%s", name, format, d->serial[0] ? ",serial=" : "",
		     d->serial, d->snapshot ? ",snapshot=on" : "",
		     d->werror == BLOCK_WERROR_REPORT ? ",werror=report" : "", threads, d->io_uring ? ",aio=io_uring" : "") < 0)
		return NULL;
	return text;
}

/* Disk @i of vm.json, whose text has an absolute path by now. */
static int take_disk(const struct create_options *o, const struct machine *m, size_t i,
		     struct err *e)
{
	json_t *disks = json_object_get(o->root, "disk");
	const char *text = json_string_value(json_array_get(disks, i));
	struct block_options d;
	char name[32], format[FORMAT_MAX], *moved;
	int rc = block_options_parse(&d, text, e);

	if (rc || stays(&d))
		return rc;
	snprintf(name, sizeof(name), "disk%zu.img", i);
	rc = make_copy(m, &d, name, o->disks == DISKS_OVERLAY, format, e);
	if (rc)
		return rc;
	moved = disk_text(&d, name, format);
	if (!moved)
		return err_set(e, ENOMEM, "out of memory");
	json_array_set_new(disks, i, json_string(moved));
	free(moved);
	return 0;
}

/* A file that is only read, as @name; @path: as the options name it. */
static int take_file(const struct create_options *o, const struct machine *m, const char *key,
		     const char *path, const char *name, struct err *e)
{
	char *whole;
	int rc;

	if (!path)
		return 0;
	whole = absolute(o, path);
	if (!whole)
		return err_set(e, ENOMEM, "out of memory");
	/* A kernel for --root has its modules around it. */
	if (o->disks == DISKS_IN_PLACE || o->run.root) {
		rc = json_object_set_new(o->root, key, json_string(whole));
	} else {
		rc = copy_file(m, whole, name, e);
		if (!rc)
			rc = json_object_set_new(o->root, key, json_string(name));
	}
	free(whole);
	return rc;
}

/* All that the machine needs; kernels that lie beside the first disk among it. */
static int fill(struct create_options *o, const struct machine *m, struct err *e)
{
	int rc = o->run.root ? 0 : run_boot_beside(&o->run, e);

	if (!rc)
		rc = take_file(o, m, "kernel", o->run.kernel, "kernel", e);
	if (!rc)
		rc = take_file(o, m, "initrd", o->run.initrd, "initrd", e);
	if (!rc && o->run.cmdline)
		json_object_set_new(o->root, "cmdline", json_string(o->run.cmdline));
	for (size_t i = 0; !rc && o->disks != DISKS_IN_PLACE && i < o->run.disk_count; i++)
		rc = take_disk(o, m, i, e);
	run_boot_free(&o->run);
	return rc;
}

/* --- the directory --- */

static int write_config(const struct create_options *o, const struct machine *m, struct err *e)
{
	char *text = json_dumps(o->root, JSON_INDENT(8));
	struct vm_config_file c;
	char what[128];
	int rc, fd;

	if (!text)
		return err_set(e, ENOMEM, "out of memory");
	/* What is not right now will not be when it starts. */
	snprintf(what, sizeof(what), "%s/%s", m->name, MACHINE_CONFIG);
	rc = vm_config_parse(&c, text, strlen(text), what, e);
	vm_config_free(&c);
	fd = rc ? -1 : openat(m->dir, MACHINE_CONFIG ".part", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
			      0600);
	if (!rc && (fd < 0 || dprintf(fd, "%s\n", text) < 0 || fsync(fd) ||
		    renameat(m->dir, MACHINE_CONFIG ".part", m->dir, MACHINE_CONFIG)))
		rc = err_errno(e, errno, "could not write '%.300s/%s'", m->path, MACHINE_CONFIG);
	if (fd >= 0)
		close(fd);
	free(text);
	return rc;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path) ? -1 : 0;
}

static int there_is(const struct machine *m, struct err *e)
{
	struct machine other;

	if (machine_open(&other, m->path, NULL))
		return err_set(e, EEXIST, "'%.300s' is there already and is no VM: choose another name, or "
			       "remove it", m->path);
	machine_close(&other);
	return err_set(e, EEXIST, "there is a VM '%s' already ('%.300s'): choose another name, or vireo rm %s",
		       m->name, m->path, m->name);
}

static int make_directory(struct machine *m, const char *name, struct err *e)
{
	char home[PATH_MAX];
	int rc = strchr(name, '/') ? 0 : machine_home(home, e);

	if (!rc)
		rc = machine_path(m, name, e);
	if (rc)
		return rc;
	if (mkdir(m->path, 0700))
		return errno == EEXIST ? there_is(m, e) :
		       err_errno(e, errno, "could not make the VM's directory '%.300s'", m->path);
	m->dir = open(m->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return m->dir < 0 ? err_errno(e, errno, "could not open '%.300s'", m->path) : 0;
}

static int create(struct create_options *o, const char *name, struct err *e)
{
	struct machine m = { .dir = -1 };
	int rc = make_directory(&m, name, e);

	if (rc)
		return rc;
	copy_hold_signals();
	rc = fill(o, &m, e);
	if (!rc)
		rc = run_net_check(&o->run, e);
	if (!rc)
		rc = write_config(o, &m, e);
	machine_close(&m);
	if (rc)
		nftw(m.path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return rc;
}

/* --- the command line --- */

static int note(void *dest, const struct option_def *def, const char *value, struct err *e)
{
	struct create_options *o = dest;

	for (unsigned int i = 0; i < command_create.option_count; i++)
		if (def == &command_create.options[i])
			return 0;
	return vm_config_add(o->root, def, value, o->folder, e);
}

static int create_main(const struct command *c, int argc, char **argv)
{
	struct create_options o = { 0 };
	const char *name = NULL;
	struct err e = { 0 };
	int rc;

	run_options_init(&o.run);
	o.root = json_pack("{s:i}", "version", 1);
	if (!getcwd(o.folder, sizeof(o.folder)))
		rc = err_errno(&e, errno, "could not tell the current folder");
	else
		rc = options_parse(c, argc, argv, &o, &name, &e);
	if (!rc && o.description)
		json_object_set_new(o.root, "description", json_string(o.description));
	if (!rc)
		rc = create(&o, name, &e);
	json_decref(o.root);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc) {
		command_done("name", name);
		return STATUS_OK;
	}
	return command_fail(&e, rc == -EINTR ? STATUS_STOPPED :
			    rc == -ENOSPC || rc == -ENOMEM ? STATUS_HOST : STATUS_USAGE);
}

static int set_disks(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { "copy", "overlay", "in-place" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++)
		if (!strcmp(value, names[i])) {
			((struct create_options *)dest)->disks = i;
			return 0;
		}
	return err_set(e, EINVAL, "'%s' is no value for --disks; it takes one of copy, overlay, in-place",
		       value);
}

static int set_description(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct create_options *)dest)->description = value;
	return 0;
}

static const struct option_def option_defs[] = {
	{ "disks", "copy|overlay|in-place",
	  "copy (default): kernel, initrd and disks are copied into the directory;\n"
	  "overlay: disks there hold what differs from those that are named;\n"
	  "in-place: all stays where it is", set_disks },
	{ "description", "TEXT", "words for people", set_description },
};

const struct command command_create = {
	.name = "create",
	.operand = "NAME",
	.summary = "make a VM that is kept, in a directory of its own",
	.about =
	"Makes a VM and keeps it: a directory NAME in ~/.local/share/vireo (or, if NAME has a\n"
	"slash, that directory) with vm.json, which the options become, and its disks.  'vireo start'\n"
	"starts it.  A copy of the directory is another VM.\n"
	"\n"
	"Example:\n"
	"  vireo create web --disk debian.qcow2 --memory 1G -p 2222:22\n"
	"  vireo start web",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.more = &command_run,
	.note = note,
	.exits = "0 made, 2 wrong usage or input, 10 interrupted, 12 the host failed;\n"
		 "where it is not 0 nothing was made.",
	.run = create_main,
};
