// SPDX-License-Identifier: Apache-2.0
/* `vireo appliance export`: a machine's directory as one file; appliance_priv.h has the format. */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"
#include "mgmt/vm_config.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define PIECE	(1U << 20)

struct export {
	struct machine m;
	json_t *root;			/* vm.json */
	json_t *files;			/* of the manifest */
	struct archive *archive;
	uint8_t *buf;			/* PIECE bytes */
};

/* --- checksums --- */

static int digest_file(struct export *x, int fd, uint64_t size, char text[DIGEST_TEXT])
{
	struct sha256_ctx h;
	uint64_t at = 0;

	sha256_init(&h);
	while (at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		ssize_t n;

		if (data < 0 || (uint64_t)data > size)
			data = data < 0 && errno != ENXIO ? (off_t)at : (off_t)size;
		digest_zeroes(&h, data - at);
		at = data;
		n = at < size ? pread(fd, x->buf, MIN(PIECE, size - at), at) : 0;
		if (n < 0 || copy_interrupted())
			return n < 0 ? -errno : -EINTR;
		if (at < size && !n)
			return -EIO;
		sha256_update(&h, n, x->buf);
		at += n;
	}
	digest_text(&h, text);
	return 0;
}

static int open_file(struct export *x, const char *name, uint64_t *size, struct err *e)
{
	const int fd = openat(x->m.dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st)) {
		const int rc = err_errno(e, errno, "could not open '%.300s/%s'", x->m.path, name);

		if (fd >= 0)
			close(fd);
		return rc;
	}
	*size = st.st_size;
	return fd;
}

static int list_file(void *arg, const char *name, struct err *e)
{
	struct export *x = arg;
	char digest[DIGEST_TEXT];
	uint64_t size;
	int fd, rc;

	for (size_t i = 0; i < json_array_size(x->files); i++)
		if (!strcmp(json_string_value(json_object_get(json_array_get(x->files, i), "name")), name))
			return 0;
	fd = open_file(x, name, &size, e);
	if (fd < 0)
		return fd;
	rc = digest_file(x, fd, size, digest);
	close(fd);
	if (rc)
		return rc == -EINTR ? err_set(e, EINTR, "interrupted") :
		       err_errno(e, -rc, "could not read '%s'", name);
	json_array_append_new(x->files, json_pack("{s:s,s:I,s:s}", "name", name, "size",
						  (json_int_t)size, "sha256", digest));
	return 0;
}

/* --- the archive --- */

static int failed(struct export *x, struct err *e)
{
	const int why = archive_errno(x->archive);

	return err_errno(e, why > 0 ? why : EIO, "could not write the appliance (%s)",
			 archive_error_string(x->archive));
}

static struct archive_entry *make_entry(const char *name, uint64_t size)
{
	struct archive_entry *t = archive_entry_new();

	archive_entry_set_pathname(t, name);
	archive_entry_set_size(t, size);
	archive_entry_set_filetype(t, AE_IFREG);
	archive_entry_set_perm(t, 0600);
	archive_entry_set_mtime(t, time(NULL), 0);
	return t;
}

static void add_extents(struct archive_entry *t, int fd, uint64_t size)
{
	off_t data = lseek(fd, 0, SEEK_DATA), hole;
	const bool empty = data < 0 && errno == ENXIO;

	while (data >= 0 && (uint64_t)data < size) {
		hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			break;
		archive_entry_sparse_add_entry(t, data, hole - data);
		data = lseek(fd, hole, SEEK_DATA);
	}
	/* All of it a hole: one extent of nothing at the end. */
	if (size && empty)
		archive_entry_sparse_add_entry(t, size, 0);
}

static int write_text(struct export *x, const char *name, const char *text, struct err *e)
{
	struct archive_entry *t = make_entry(name, strlen(text));
	int rc = 0;

	if (archive_write_header(x->archive, t) != ARCHIVE_OK ||
	    archive_write_data(x->archive, text, strlen(text)) != (ssize_t)strlen(text))
		rc = failed(x, e);
	archive_entry_free(t);
	return rc;
}

/* The writer takes holes as zeroes and leaves them out. */
static int write_data(struct export *x, int fd, uint64_t size, const char *name, struct err *e)
{
	struct progress p;

	progress_begin(&p, name);
	for (uint64_t at = 0; at < size; ) {
		const size_t want = MIN(PIECE, size - at);
		const ssize_t n = pread(fd, x->buf, want, at);

		if (n <= 0)
			return err_errno(e, n ? errno : EIO, "could not read '%s'", name);
		if (archive_write_data(x->archive, x->buf, n) != n)
			return failed(x, e);
		if (copy_interrupted())
			return err_set(e, EINTR, "interrupted");
		at += n;
		progress_at(&p, at, size);
	}
	progress_end(&p);
	return 0;
}

static int write_file(struct export *x, const json_t *file, struct err *e)
{
	const char *name = json_string_value(json_object_get(file, "name"));
	struct archive_entry *t;
	uint64_t size;
	int rc, fd = open_file(x, name, &size, e);

	if (fd < 0)
		return fd;
	t = make_entry(name, size);
	add_extents(t, fd, size);
	rc = archive_write_header(x->archive, t) == ARCHIVE_OK ? 0 : failed(x, e);
	if (!rc)
		rc = write_data(x, fd, size, name, e);
	archive_entry_free(t);
	close(fd);
	return rc;
}

static int write_archive(struct export *x, const char *path, struct err *e)
{
	json_t *manifest = json_pack("{s:s,s:i,s:s,s:O}", "format", APPLIANCE_FORMAT, "version",
				     APPLIANCE_VERSION, "name", x->m.name, "files", x->files);
	char *text = manifest ? json_dumps(manifest, JSON_INDENT(2)) : NULL;
	int rc = text ? 0 : err_set(e, ENOMEM, "out of memory");

	x->archive = archive_write_new();
	archive_write_set_format_pax(x->archive);
	archive_write_add_filter_zstd(x->archive);
	if (!rc && archive_write_open_filename(x->archive, path) != ARCHIVE_OK)
		rc = failed(x, e);
	if (!rc)
		rc = write_text(x, APPLIANCE_MANIFEST, text, e);
	for (size_t i = 0; i < json_array_size(x->files) && !rc; i++)
		rc = write_file(x, json_array_get(x->files, i), e);
	if (archive_write_close(x->archive) != ARCHIVE_OK && !rc)
		rc = failed(x, e);
	archive_write_free(x->archive);
	free(text);
	json_decref(manifest);
	return rc;
}

/* --- the whole --- */

static int read_config(struct export *x, struct err *e)
{
	struct vm_config_file c;
	char what[128];
	int rc;

	snprintf(what, sizeof(what), "%s/%s", x->m.name, MACHINE_CONFIG);
	rc = vm_config_read(&c, x->m.dir, what, e);
	if (!rc)
		x->root = json_incref(c.root);
	vm_config_free(&c);
	return rc ? rc : appliance_check(x->root, x->m.dir, x->m.path, e);
}

static int export_locked(struct export *x, const char *path, struct err *e)
{
	char part[PATH_MAX];
	struct stat st;
	int rc;

	if (!lstat(path, &st))
		return err_set(e, EEXIST, "'%.300s' exists already: remove it first", path);
	if (snprintf(part, sizeof(part), "%s.part", path) >= (int)sizeof(part))
		return err_set(e, ENAMETOOLONG, "the name of the appliance is too long");
	rc = read_config(x, e);
	if (!rc)
		rc = list_file(x, MACHINE_CONFIG, e);
	if (!rc)
		rc = appliance_each_file(x->root, list_file, x, e);
	if (!rc)
		rc = write_archive(x, part, e);
	if (!rc && rename(part, path))
		rc = err_errno(e, errno, "could not give '%.300s' its name", path);
	if (rc)
		unlink(part);
	return rc;
}

int appliance_export(const struct appliance_args *a, struct err *e)
{
	struct export x = { .files = json_array(), .buf = malloc(PIECE) };
	int lock, rc;

	if (!x.files || !x.buf) {
		rc = err_set(e, ENOMEM, "out of memory");
	} else {
		rc = machine_open(&x.m, a->operands[0], e);
		if (!rc) {
			/* Nobody writes to its disks meanwhile. */
			lock = rc = machine_lock(&x.m, e);
			copy_hold_signals();
			if (lock >= 0) {
				rc = export_locked(&x, a->operands[1], e);
				close(lock);
			}
			machine_close(&x.m);
		}
	}
	json_decref(x.root);
	json_decref(x.files);
	free(x.buf);
	return rc;
}
