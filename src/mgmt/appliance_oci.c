// SPDX-License-Identifier: Apache-2.0
/*
 * An OCI image's root file system: Open Container Initiative's "Image Format Specification",
 * Image Layout and Image Layer.  index.json names a manifest, that its layers, tars which are
 * unpacked one over the other; ".wh.NAME" removes NAME, ".wh..wh..opq" what earlier layers had in
 * its folder.
 *
 * Every blob is what its SHA-256 digest says before anything of it is used.  Layers are unpacked
 * below one folder, by a library that follows no link and takes no "..".  What only root may
 * make (owners, device nodes) is left out for others.
 */
#include "mgmt/appliance_priv.h"
#include "mgmt/image_priv.h"
#include "backend/spawn.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAYERS_MAX	256U
#define DEPTH_MAX	4		/* indexes that name indexes */
#define WHITEOUT	".wh."
#define OPAQUE		".wh..wh..opq"
#define SPARE		(256ULL << 20)	/* in an ext4 image, beside what is in it */

struct oci {
	const char *path;
	uint64_t left;
	int root;			/* the folder that layers are unpacked into */
	char folder[PATH_MAX];
};

/* --- blobs --- */

/* An open blob whose contents are what @descriptor's digest says; *size gets its length. */
static int open_blob(const struct oci *o, const json_t *descriptor, uint64_t *size, struct err *e)
{
	const char *digest = json_string_value(json_object_get(descriptor, "digest"));
	char path[PATH_MAX + 80], text[DIGEST_TEXT], buf[65536];
	struct sha256_ctx h;
	struct stat st;
	ssize_t n = 0;
	int fd;

	if (!digest || strncmp(digest, "sha256:", 7) || strlen(digest + 7) != DIGEST_TEXT - 1 ||
	    strspn(digest + 7, "0123456789abcdef") != DIGEST_TEXT - 1)
		return err_set(e, EINVAL, "'%.300s' names a blob by something that is no SHA-256 digest",
			       o->path);
	snprintf(path, sizeof(path), "%s/blobs/sha256/%s", o->path, digest + 7);
	fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		if (fd >= 0)
			close(fd);
		return err_set(e, ENOENT, "'%.300s' has no blob %.20s...", o->path, digest);
	}
	sha256_init(&h);
	while ((n = read(fd, buf, sizeof(buf))) > 0 && !copy_interrupted())
		sha256_update(&h, n, (uint8_t *)buf);
	digest_text(&h, text);
	if (n || strcmp(text, digest + 7)) {
		close(fd);
		return copy_interrupted() ? err_set(e, EINTR, "interrupted") :
		       err_set(e, EBADMSG, "'%.300s' is damaged: the blob %.20s... has another digest",
			       o->path, digest);
	}
	*size = st.st_size;
	return lseek(fd, 0, SEEK_SET) ? -EIO : fd;
}

static int load_fd(const struct oci *o, int fd, json_t **out, struct err *e)
{
	char *text = calloc(1, APPLIANCE_TEXT_MAX);
	json_error_t where;
	ssize_t n, at = 0;

	while (text && (n = read(fd, text + at, APPLIANCE_TEXT_MAX - 1 - at)) > 0)
		at += n;
	*out = text ? json_loadb(text, at, JSON_REJECT_DUPLICATES, &where) : NULL;
	free(text);
	return *out ? 0 : err_set(e, EINVAL, "'%.300s' has something in it that is not the JSON it should be",
				  o->path);
}

static int load_blob(const struct oci *o, const json_t *descriptor, json_t **out, struct err *e)
{
	uint64_t size;
	int fd = open_blob(o, descriptor, &size, e), rc;

	if (fd < 0)
		return fd;
	rc = load_fd(o, fd, out, e);
	close(fd);
	return rc;
}

/* --- whiteouts --- */

/* Removes @name below @dir, a folder with all in it; only what is in it if @keep. */
static void remove_below(int dir, const char *name, bool keep)
{
	char path[64];
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		if (!keep)
			unlinkat(dir, name, 0);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d/.", fd);
	appliance_remove(path);		/* all but the folder, which is not empty by this name */
	close(fd);
	if (!keep)
		unlinkat(dir, name, AT_REMOVEDIR);
}

/* The folder of @path below @root, no link followed; -errno. *base gets the last part. */
static int open_parent(int root, char *path, const char **base)
{
	char *rest = path, *part, *slash = strrchr(path, '/');
	int dir = dup(root), next;

	*base = slash ? slash + 1 : path;
	if (!slash)
		return dir;
	*slash = '\0';
	while (dir >= 0 && (part = strsep(&rest, "/"))) {
		if (!*part || !strcmp(part, "."))
			continue;
		next = strcmp(part, "..") ? openat(dir, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1;
		close(dir);
		dir = next;
	}
	return dir < 0 ? -ENOENT : dir;
}

/* Was it a whiteout? */
static bool white_out(const struct oci *o, const char *name)
{
	char *path = strdup(name);
	const char *base;
	bool is = false;
	int dir = path ? open_parent(o->root, path, &base) : -1;

	if (dir >= 0 && !strcmp(base, OPAQUE)) {
		remove_below(dir, ".", true);
		is = true;
	} else if (dir >= 0 && !strncmp(base, WHITEOUT, strlen(WHITEOUT))) {
		base += strlen(WHITEOUT);
		if (*base && strcmp(base, ".") && strcmp(base, ".."))
			remove_below(dir, base, false);
		is = true;
	}
	if (dir >= 0)
		close(dir);
	free(path);
	return is || strstr(name, "/" WHITEOUT) || !strncmp(name, WHITEOUT, strlen(WHITEOUT));
}

/* --- layers --- */

static int copy_entry(struct oci *o, struct archive *from, struct archive *to, struct err *e)
{
	const void *buf;
	la_int64_t offset;
	size_t len;
	int rc;

	while ((rc = archive_read_data_block(from, &buf, &len, &offset)) == ARCHIVE_OK) {
		if (len > o->left)
			return err_set(e, EFBIG, "'%.300s' would become larger than --max-size allows", o->path);
		o->left -= len;
		if (archive_write_data_block(to, buf, len, offset) != ARCHIVE_OK)
			return err_set(e, EIO, "could not write the root: %.200s", archive_error_string(to));
		if (copy_interrupted())
			return err_set(e, EINTR, "interrupted");
	}
	return rc == ARCHIVE_EOF ? 0 : appliance_broken(from, o->path, e);
}

/* What may not be made by this user is left out: devices, whatever is refused. */
static int unpack_entry(struct oci *o, struct archive *from, struct archive *to, struct archive_entry *t,
			struct err *e)
{
	const mode_t type = archive_entry_filetype(t);
	const char *name = archive_entry_pathname(t);
	int rc;

	if (!name || white_out(o, name))
		return 0;
	if (geteuid() && (type == AE_IFBLK || type == AE_IFCHR))
		return 0;
	/* Each entry costs a place, so that millions of empty ones end too. */
	if (o->left < 512)
		return err_set(e, EFBIG, "'%.300s' would become larger than --max-size allows", o->path);
	o->left -= 512;
	rc = archive_write_header(to, t);
	if (rc == ARCHIVE_FATAL || rc == ARCHIVE_FAILED)
		return err_set(e, EINVAL, "'%.300s': '%.100s' cannot be unpacked: %.150s", o->path, name,
			       archive_error_string(to));
	return archive_entry_size(t) > 0 && type == AE_IFREG ? copy_entry(o, from, to, e) : 0;
}

static int unpack_layer(struct oci *o, int fd, struct err *e)
{
	struct archive *from = archive_read_new(), *to = archive_write_disk_new();
	int flags = ARCHIVE_EXTRACT_PERM | ARCHIVE_EXTRACT_TIME | ARCHIVE_EXTRACT_UNLINK |
		    ARCHIVE_EXTRACT_SECURE_SYMLINKS | ARCHIVE_EXTRACT_SECURE_NODOTDOT |
		    ARCHIVE_EXTRACT_SECURE_NOABSOLUTEPATHS | ARCHIVE_EXTRACT_XATTR;
	struct archive_entry *t;
	int rc = 0;

	if (!geteuid())
		flags |= ARCHIVE_EXTRACT_OWNER;
	archive_write_disk_set_options(to, flags);
	archive_read_support_format_tar(from);
	archive_read_support_filter_gzip(from);
	archive_read_support_filter_zstd(from);
	if (archive_read_open_fd(from, fd, 1 << 16) != ARCHIVE_OK)
		rc = appliance_broken(from, o->path, e);
	while (!rc && (rc = archive_read_next_header(from, &t)) == ARCHIVE_OK)
		rc = unpack_entry(o, from, to, t, e);
	if (rc == ARCHIVE_EOF)
		rc = 0;
	else if (!e->code)
		rc = appliance_broken(from, o->path, e);
	archive_write_free(to);		/* folders' modes and times */
	archive_read_free(from);
	return rc;
}

static int unpack_layers(struct oci *o, const json_t *manifest, struct err *e)
{
	const json_t *layers = json_object_get(manifest, "layers");
	uint64_t size;
	int rc = 0, fd;

	if (!json_is_array(layers) || json_array_size(layers) > LAYERS_MAX)
		return err_set(e, EINVAL, "'%.300s' has a manifest without layers", o->path);
	/* The library unpacks below the present folder. */
	if (fchdir(o->root))
		return err_errno(e, errno, "could not enter '%.300s'", o->folder);
	for (size_t i = 0; i < json_array_size(layers) && !rc; i++) {
		fd = open_blob(o, json_array_get(layers, i), &size, e);
		if (fd < 0)
			return fd;
		rc = unpack_layer(o, fd, e);
		close(fd);
	}
	return rc;
}

/* --- which manifest --- */

/* The one for this machine, or the only one. */
static const json_t *choose(const json_t *index)
{
	const json_t *list = json_object_get(index, "manifests");

	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *m = json_array_get(list, i), *p = json_object_get(m, "platform");
		const char *cpu = json_string_value(json_object_get(p, "architecture"));
		const char *os = json_string_value(json_object_get(p, "os"));

		if ((!cpu || !strcmp(cpu, "amd64")) && (!os || !strcmp(os, "linux")))
			return m;
	}
	return NULL;
}

static int find_manifest(struct oci *o, json_t **out, struct err *e)
{
	char path[PATH_MAX + 16];
	json_t *now = NULL, *next = NULL;
	int fd, rc;

	snprintf(path, sizeof(path), "%s/oci-layout", o->path);
	if (access(path, R_OK))
		return err_set(e, EINVAL, "'%.300s' is no OCI image: there is no oci-layout in it", o->path);
	snprintf(path, sizeof(path), "%s/index.json", o->path);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	rc = fd < 0 ? err_errno(e, errno, "could not open '%.300s'", path) : load_fd(o, fd, &now, e);
	if (fd >= 0)
		close(fd);
	for (int depth = 0; !rc && json_object_get(now, "manifests"); depth++) {
		const json_t *chosen = depth < DEPTH_MAX ? choose(now) : NULL;

		rc = chosen ? load_blob(o, chosen, &next, e) :
		     err_set(e, ENOTSUP, "'%.300s' has no image for Linux on x86-64", o->path);
		json_decref(now);
		now = rc ? NULL : next;
	}
	*out = rc ? NULL : now;
	return rc;
}

/* --- ext4 --- */

static int make_ext4(const struct oci *o, const char *out, uint64_t used, struct err *e)
{
	char size[32], *argv[] = { "mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", (char *)o->folder,
				   (char *)out, size, NULL };
	int status;
	pid_t pid;

	/* A quarter more for the file system's own. */
	snprintf(size, sizeof(size), "%lluk", (unsigned long long)((used + used / 4 + SPARE) >> 10));
	pid = spawn("/sbin/mke2fs", argv, -1, 0, e);
	if (pid < 0)
		return pid;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return err_errno(e, errno, "could not wait for mke2fs");
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 :
	       err_set(e, EIO, "mke2fs failed (package e2fsprogs 1.43 or later)");
}

static bool is_image(const char *out)
{
	const char *dot = strrchr(out, '.');

	return dot && (!strcmp(dot, ".img") || !strcmp(dot, ".ext4"));
}

static int unpack_to(struct oci *o, const char *out, uint64_t max_size, struct err *e)
{
	json_t *manifest = NULL;
	int rc = find_manifest(o, &manifest, e);

	if (rc)
		return rc;
	rc = unpack_layers(o, manifest, e);
	json_decref(manifest);
	if (!rc && is_image(out))
		return make_ext4(o, out, max_size - o->left, e);
	if (!rc && renameat2(AT_FDCWD, o->folder, AT_FDCWD, out, RENAME_NOREPLACE))
		rc = err_errno(e, errno, "could not put the root at '%.300s'", out);
	return rc;
}

int appliance_import_oci(const char *path, const char *out, uint64_t max_size, struct err *e)
{
	struct oci o = { .left = max_size };
	char *whole = realpath(path, NULL), *cwd = getcwd(NULL, 0), *target = NULL;
	struct stat st;
	int rc = 0;

	o.path = whole;
	if (!whole || !cwd || asprintf(&target, "%s%s%s", out[0] == '/' ? "" : cwd,
				       out[0] == '/' ? "" : "/", out) < 0)
		rc = err_errno(e, errno, "'%.300s'", path);
	if (!rc && !lstat(target, &st))
		rc = err_set(e, EEXIST, "'%.300s' exists already", out);
	if (!rc) {
		snprintf(o.folder, sizeof(o.folder), "%.*s.import-%d", PATH_MAX - 32, target, (int)getpid());
		copy_hold_signals();
		if (mkdir(o.folder, 0755))
			rc = err_errno(e, errno, "could not make the folder '%.300s'", o.folder);
	}
	if (!rc) {
		o.root = open(o.folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		rc = o.root < 0 ? err_errno(e, errno, "could not open '%.300s'", o.folder) :
		     unpack_to(&o, target, max_size, e);
		if (o.root >= 0)
			close(o.root);
		if (rc && is_image(target))
			unlink(target);
		appliance_remove(o.folder);
	}
	free(target);
	free(cwd);
	free(whole);
	return rc;
}
