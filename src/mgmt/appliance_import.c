// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo appliance import`: what it is that comes, and reading an appliance of ours.  Everything in
 * it is hostile until each file has the size and checksum that the manifest, which comes first,
 * says; a name that is not in the manifest, one that is there twice, a link or a folder ends it.
 */
#include "mgmt/appliance_priv.h"
#include "mgmt/command.h"
#include "mgmt/vm_config.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
	const char *name, *digest;	/* the manifest's */
	uint64_t size;
	bool seen;
};

struct import {
	const char *path;
	struct archive *archive;
	json_t *manifest, *root;
	struct file file[APPLIANCE_FILES_MAX];
	unsigned int count;
	struct install install;
};

/* --- the manifest --- */

static int take_listed(struct import *m, const json_t *item, struct err *e)
{
	const json_t *size = json_object_get(item, "size");
	struct file *f = &m->file[m->count];

	*f = (struct file){ .name = json_string_value(json_object_get(item, "name")),
			    .digest = json_string_value(json_object_get(item, "sha256")),
			    .size = json_integer_value(size) };
	if (!f->name || !appliance_name_ok(f->name) || !f->digest ||
	    strlen(f->digest) != DIGEST_TEXT - 1 || !json_is_integer(size) ||
	    json_integer_value(size) < 0)
		return err_set(e, EINVAL, "'%.300s': its manifest names a file '%.100s' that cannot be one of "
			       "an appliance", m->path, f->name ? f->name : "");
	for (unsigned int i = 0; i < m->count; i++)
		if (!strcmp(m->file[i].name, f->name))
			return err_set(e, EINVAL, "'%.300s': its manifest names '%s' twice", m->path, f->name);
	if (f->size > m->install.left)
		return err_set(e, EFBIG, "'%.300s' would become larger than --max-size allows", m->path);
	m->install.left -= f->size;
	m->count++;
	return 0;
}

static int read_manifest(struct import *m, const char *text, struct err *e)
{
	const json_t *files;
	json_error_t where;
	int rc = 0;

	m->manifest = json_loads(text, JSON_REJECT_DUPLICATES, &where);
	files = json_object_get(m->manifest, "files");
	if (!json_is_array(files) || !json_array_size(files) ||
	    json_array_size(files) > APPLIANCE_FILES_MAX ||
	    strcmp(json_string_value(json_object_get(m->manifest, "format")) ?: "", APPLIANCE_FORMAT))
		return err_set(e, EINVAL, "'%.300s': its manifest is none of an appliance", m->path);
	if (json_integer_value(json_object_get(m->manifest, "version")) != APPLIANCE_VERSION)
		return err_set(e, ENOTSUP, "'%.300s' is of a later version of vireo", m->path);
	for (size_t i = 0; i < json_array_size(files) && !rc; i++)
		rc = take_listed(m, json_array_get(files, i), e);
	return rc;
}

/* --- entries --- */

static int next_entry(struct import *m, struct archive_entry **t, struct err *e)
{
	const int rc = archive_read_next_header(m->archive, t);

	if (rc == ARCHIVE_EOF)
		return 0;
	if (rc != ARCHIVE_OK)
		return appliance_broken(m->archive, m->path, e);
	if (archive_entry_filetype(*t) != AE_IFREG || archive_entry_hardlink(*t) ||
	    archive_entry_symlink(*t) || !archive_entry_pathname(*t))
		return err_set(e, EINVAL, "'%.300s' has something in it that is no plain file: '%.100s'",
			       m->path, archive_entry_pathname(*t) ?: "");
	return 1;
}

static int take_entry(struct import *m, struct archive_entry *t, struct err *e)
{
	const char *name = archive_entry_pathname(t);
	char digest[DIGEST_TEXT];
	struct file *f = NULL;
	int fd, rc;

	for (unsigned int i = 0; i < m->count; i++)
		if (!strcmp(m->file[i].name, name))
			f = &m->file[i];
	if (!f || f->seen)
		return err_set(e, EINVAL, "'%.300s': '%.100s' is %s", m->path, name,
			       f ? "there twice" : "not in its manifest");
	f->seen = true;
	fd = install_file(&m->install, name, e);
	if (fd < 0)
		return fd;
	rc = appliance_take_data(m->archive, f->name, fd, f->size, NULL, digest, e);
	close(fd);
	if (!rc && strcasecmp(digest, f->digest))
		rc = err_set(e, EBADMSG, "'%.300s' is damaged: the checksum of '%s' is not the manifest's",
			     m->path, name);
	return rc;
}

static int take_all(struct import *m, struct err *e)
{
	struct archive_entry *t;
	char *text;
	int rc = next_entry(m, &t, e);

	if (rc >= 0 && (!rc || strcmp(archive_entry_pathname(t), APPLIANCE_MANIFEST)))
		rc = err_set(e, EINVAL, "'%.300s' is no appliance: it does not begin with a manifest", m->path);
	if (rc < 0)
		return rc;
	rc = appliance_take_text(m->archive, APPLIANCE_MANIFEST, &text, e);
	if (rc)
		return rc;
	rc = read_manifest(m, text, e);
	free(text);
	while (!rc && (rc = next_entry(m, &t, e)) > 0)
		rc = take_entry(m, t, e);
	for (unsigned int i = 0; i < m->count && !rc; i++)
		if (!m->file[i].seen)
			rc = err_set(e, EINVAL, "'%.300s' ends before '%s'", m->path, m->file[i].name);
	return rc;
}

static int read_config(struct import *m, struct err *e)
{
	struct vm_config_file c;
	int rc = vm_config_read(&c, m->install.m.dir, "vm.json of the appliance", e);

	if (!rc)
		m->root = json_incref(c.root);
	vm_config_free(&c);
	if (!rc)
		appliance_clean(m->root, true);
	return rc;
}

int appliance_import_own(const char *path, const char *name, uint64_t max_size, struct err *e)
{
	struct import m = { .path = path, .archive = archive_read_new() };
	int rc;

	archive_read_support_format_tar(m.archive);
	archive_read_support_filter_zstd(m.archive);
	rc = archive_read_open_filename(m.archive, path, 1 << 16) == ARCHIVE_OK ? 0 :
	     appliance_broken(m.archive, path, e);
	if (!rc) {
		rc = install_begin(&m.install, name, max_size, e);
		if (!rc)
			rc = take_all(&m, e);
		if (!rc)
			rc = read_config(&m, e);
		rc = install_end(&m.install, m.root, rc, e);
	}
	archive_read_free(m.archive);
	json_decref(m.manifest);
	json_decref(m.root);
	return rc;
}

/* --- what it is --- */

static bool ends_with(const char *text, const char *end)
{
	const size_t n = strlen(text), k = strlen(end);

	return n >= k && !strcasecmp(text + n - k, end);
}

/* The file's name without folder and ending. */
static void name_of(const char *path, char name[MACHINE_NAME_MAX + 1])
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	const char *dot = strrchr(base, '.');

	snprintf(name, MACHINE_NAME_MAX + 1, "%.*s", (int)(dot ? dot - base : (int)strlen(base)), base);
}

int appliance_import(const struct appliance_args *a, struct err *e)
{
	const char *path = a->operands[0];
	char name[MACHINE_NAME_MAX + 1];
	const char *vm;
	struct stat st;
	int rc;

	if (stat(path, &st))
		return err_errno(e, errno, "could not open '%.300s'", path);
	name_of(path, name);
	if (S_ISDIR(st.st_mode)) {
		if (a->count < 2)
			return err_set(e, EINVAL, "say where the root of the image '%.200s' is to go: a folder, "
				       "or a file that ends with .img for ext4", path);
		rc = appliance_import_oci(path, a->operands[1], a->max_size, e);
		if (!rc)
			command_done("root", a->operands[1]);
		return rc;
	}
	vm = a->count > 1 ? a->operands[1] : name;
	if (ends_with(path, ".ova") || ends_with(path, ".ovf"))
		rc = appliance_import_ovf(path, vm, a->max_size, e);
	else
		rc = appliance_import_own(path, vm, a->max_size, e);
	if (!rc)
		command_done("name", vm);
	return rc;
}
