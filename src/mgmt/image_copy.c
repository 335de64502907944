// SPDX-License-Identifier: Apache-2.0
/* `vireo image`: making images, convert, commit. */
#include "backend/qcow2.h"
#include "mgmt/image_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define CHUNK	(2U << 20)	/* at most one cluster of the largest size */
#define GRAIN	4096U		/* zeroes are found in pieces of this */

/* --- progress --- */

void progress_begin(struct progress *p, const char *what)
{
	*p = (struct progress){ .what = what, .shown = isatty(STDERR_FILENO), .last = -1 };
}

void progress_at(struct progress *p, uint64_t done, uint64_t all)
{
	const int percent = all ? done / (all / 100 + 1) : 100;

	if (!p->shown || percent == p->last)
		return;
	p->last = percent;
	fprintf(stderr, "\r%s: %3d %%", p->what, percent);
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->shown && p->last >= 0)
		fprintf(stderr, "\r%s: 100 %%\n", p->what);
}

/* --- making --- */

const char *image_type(const struct image_args *a, const char *path)
{
	const char *dot = strrchr(path, '.');

	if (a->type)
		return a->type;
	return dot && (!strcmp(dot, ".raw") || !strcmp(dot, ".img")) ? "raw" : "qcow2";
}

/* It is made beside its place and moved there when it is whole; a device is written itself. */
static char *part_name(const char *path)
{
	struct stat st;
	char *part;

	if (!stat(path, &st) && S_ISBLK(st.st_mode))
		return strdup(path);
	return asprintf(&part, "%s.part", path) < 0 ? NULL : part;
}

static int check_place(const char *path, bool force, struct err *e)
{
	struct stat st;

	if (stat(path, &st))
		return 0;
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_set(e, EINVAL, "'%s' exists and is neither a file nor a block device", path);
	if (!force)
		return err_set(e, EEXIST, "'%s' exists; --force replaces it", path);
	return 0;
}

/* Is the image that is to be replaced in use? */
static int check_unused(const char *path, struct err *e)
{
	const struct image_open how = { .path = path, .format = "raw" };
	struct image *img;
	int rc;

	if (access(path, F_OK))
		return 0;
	rc = image_open(&img, &how, e);
	return rc ? rc : image_close(img);
}

static int make_in(struct image **out, struct image *file, uint64_t size, const struct image_args *a,
		   struct err *e)
{
	const struct qcow2_create c = {
		.size = size, .cluster_bits = a->cluster ? __builtin_ctzll(a->cluster) : 0,
		.backing = a->backing, .backing_format = a->backing_type,
	};
	const struct image_open how = { .path = file->path, .no_backing = true };
	int rc = qcow2_create(file, &c, e);

	return rc ? rc : qcow2_open(out, file, &how, e);
}

int image_make(struct image **out, const char *path, uint64_t size, const struct image_args *a,
	       struct err *e)
{
	const bool raw = !strcmp(image_type(a, path), "raw");
	struct image *file = NULL;
	char *part;
	int rc = check_place(path, a->force, e);

	if (!rc)
		rc = check_unused(path, e);
	if (rc)
		return rc;
	part = part_name(path);
	if (!part)
		return err_errno(e, ENOMEM, "'%s'", path);
	rc = raw_create(&file, part, raw ? size : 0, true, e);
	if (!rc && raw)
		*out = file;
	if (!rc && !raw)
		rc = make_in(out, file, size, a, e);
	if (rc && file) {
		image_close(file);
		if (strcmp(part, path))
			unlink(part);
	}
	free(part);
	return rc;
}

int image_make_end(struct image *img, const char *path, int rc, struct err *e)
{
	char *part = strdup(img->path);
	const int rc2 = image_close(img);

	if (!rc && rc2)
		rc = err_errno(e, -rc2, "cannot write '%s'", path);
	if (!part)
		return rc ? rc : err_errno(e, ENOMEM, "'%s'", path);
	if (strcmp(part, path)) {
		if (!rc && rename(part, path))
			rc = err_errno(e, errno, "cannot give '%s' its name", path);
		if (rc)
			unlink(part);
	}
	free(part);
	return rc;
}

/* --- copying --- */

static void stop_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGHUP);
}

void copy_hold_signals(void)
{
	sigset_t set;

	stop_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

bool copy_interrupted(void)
{
	const struct timespec at_once = { 0 };
	sigset_t set, blocked;

	stop_signals(&set);
	sigprocmask(SIG_BLOCK, NULL, &blocked);
	return sigismember(&blocked, SIGINT) && sigtimedwait(&set, NULL, &at_once) > 0;
}

/* How many of @len bytes are alike: zero or not, in grains. */
static size_t run_of(const uint8_t *buf, size_t len, bool *zero)
{
	size_t n = 0;

	for (; n < len; n += MIN(GRAIN, len - n)) {
		const size_t piece = MIN(GRAIN, len - n);
		const bool z = !buf[n] && !memcmp(buf + n, buf + n + 1, piece - 1);

		if (!n)
			*zero = z;
		else if (z != *zero)
			break;
	}
	return n;
}

/* Writes what is not zero; @fresh: the target reads as zeroes already. */
static int put(struct image *to, uint64_t off, const uint8_t *buf, size_t len, bool fresh)
{
	int rc = 0;

	for (size_t at = 0, n; at < len && !rc; at += n) {
		bool zero = false;

		n = run_of(buf + at, len - at, &zero);
		if (!zero)
			rc = image_pwrite(to, off + at, buf + at, n);
		else if (!fresh)
			rc = image_zero(to, off + at, n, true);
	}
	return rc;
}

/* @only_here: what backing images show is left out, and zeroes are written as such. */
static int copy_extents(struct image *from, struct image *to, bool only_here, struct progress *p,
			uint8_t *buf, struct err *e)
{
	struct image_extent x;
	uint64_t n;
	int rc;

	for (uint64_t off = 0; off < from->size; off += n) {
		progress_at(p, off, from->size);
		if (copy_interrupted())
			return err_set(e, EINTR, "interrupted");
		rc = image_map(from, off, from->size - off, &x);
		if (rc)
			return image_error(from, rc, "read", e);
		n = x.len;
		if (only_here && !x.here)
			continue;
		if (x.zero) {
			rc = only_here ? image_zero(to, off, n, true) : 0;
			if (rc)
				return image_error(to, rc, "write", e);
			continue;
		}
		n = MIN(n, CHUNK);
		rc = image_pread(from, off, buf, n);
		if (rc)
			return image_error(from, rc, "read", e);
		rc = put(to, off, buf, n, !only_here);
		if (rc)
			return image_error(to, rc, "write", e);
	}
	return 0;
}

static int copy_with_progress(struct image *from, struct image *to, bool only_here,
			      const char *what, struct err *e)
{
	uint8_t *buf = malloc(CHUNK);
	struct progress p;
	int rc;

	if (!buf)
		return err_errno(e, ENOMEM, "%s", what);
	progress_begin(&p, what);
	rc = copy_extents(from, to, only_here, &p, buf, e);
	if (!rc)
		progress_end(&p);
	free(buf);
	return rc;
}

int image_copy(struct image *from, struct image *to, const char *what, struct err *e)
{
	return copy_with_progress(from, to, false, what, e);
}

static int fail(const struct err *e)
{
	if (e->code == -EINTR)
		return command_fail(e, STATUS_STOPPED);
	return command_fail(e, e->code == -ENOMEM || e->code == -ENOSPC || e->code == -EDQUOT ?
			    STATUS_HOST : STATUS_USAGE);
}

int image_convert(const struct image_args *a)
{
	const struct image_open how = {
		.path = a->operands[0], .format = a->source, .read_only = true,
	};
	struct image *from, *to;
	struct err e = { 0 };
	int rc;

	if (image_open(&from, &how, &e))
		return fail(&e);
	copy_hold_signals();
	rc = image_make(&to, a->operands[1], from->size, a, &e);
	if (!rc) {
		rc = image_copy(from, to, "converting", &e);
		rc = image_make_end(to, a->operands[1], rc, &e);
	}
	image_close(from);
	if (!rc)
		command_done("image", a->operands[1]);
	return rc ? fail(&e) : STATUS_OK;
}

/* --- commit --- */

static int commit_to(struct image *top, const char *path, const char *type, struct err *e)
{
	const struct image_open how = { .path = path, .format = type };
	struct image *below;
	int rc = image_open(&below, &how, e), rc2;

	if (rc)
		return rc;
	if (below->size < top->size)
		rc = image_resize(below, top->size, e);
	if (!rc)
		rc = copy_with_progress(top, below, true, "committing", e);
	rc2 = image_close(below);
	if (!rc && rc2)
		rc = err_errno(e, -rc2, "cannot write '%s'", path);
	return rc;
}

int image_commit(const struct image_args *a)
{
	/* The backing image is opened for writing, so not at the same time for reading. */
	const struct image_open how = {
		.path = a->operands[0], .read_only = true, .no_backing = true,
	};
	struct qcow2_info q;
	struct image *top;
	struct err e = { 0 };
	char *path;
	int rc;

	if (image_open(&top, &how, &e))
		return fail(&e);
	copy_hold_signals();
	path = qcow2_backing_path(top);
	if (!path || !qcow2_info(top, &q))
		rc = err_set(&e, EINVAL, "disk '%s' has no backing image", top->path);
	else if (!q.backing_format)
		rc = err_set(&e, EINVAL, "disk '%s' does not say of which type its backing image is",
			     top->path);
	else
		rc = commit_to(top, path, q.backing_format, &e);
	free(path);
	image_close(top);
	if (!rc)
		command_done("image", a->operands[0]);
	return rc ? fail(&e) : STATUS_OK;
}
