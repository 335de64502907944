// SPDX-License-Identifier: Apache-2.0
/* `vireo image`: create, info, check, resize. */
#include "backend/qcow2.h"
#include "mgmt/image_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

int image_error(struct image *img, int rc, const char *doing, struct err *e)
{
	char why[256];

	if (!rc)
		return 0;
	qcow2_damage(img, why, sizeof(why));
	if (why[0])
		return err_set(e, -rc, "cannot %s disk '%.200s': the image is damaged: %s", doing,
			       img->path, why);
	return err_errno(e, -rc, "cannot %s disk '%s'", doing, img->path);
}

/* The user's fault, or the host's? */
static int fail(const struct err *e)
{
	return command_fail(e, e->code == -ENOMEM || e->code == -ENOSPC || e->code == -EDQUOT ?
			    STATUS_HOST : STATUS_USAGE);
}

static int open_path(struct image **img, const char *path, const char *type, bool read_only,
		     struct err *e)
{
	const struct image_open how = { .path = path, .format = type, .read_only = read_only };

	return image_open(img, &how, e);
}

/* --- create --- */

/* The size of what is to be below the new image @path. */
static int backing_size(const struct image_args *a, const char *path, uint64_t *size, struct err *e)
{
	const char *slash = a->backing[0] == '/' ? NULL : strrchr(path, '/');
	struct image *img;
	char *name;
	int rc;

	if (asprintf(&name, "%.*s%s", slash ? (int)(slash - path + 1) : 0, path, a->backing) < 0)
		return err_errno(e, ENOMEM, "backing image '%s'", a->backing);
	rc = open_path(&img, name, a->backing_type, true, e);
	free(name);
	if (rc)
		return rc;
	*size = img->size;
	image_close(img);
	return 0;
}

static int create_check(const struct image_args *a, const char *path, uint64_t *size, struct err *e)
{
	if (a->backing && !a->backing_type)
		return err_set(e, EINVAL, "say of which type the backing image '%s' is: --backing-type "
			       "raw or qcow2", a->backing);
	if (a->backing && !strcmp(image_type(a, path), "raw"))
		return err_set(e, EINVAL, "a raw image cannot have a backing image: make it qcow2");
	if (a->backing && !*size)
		return backing_size(a, path, size, e);
	if (!*size)
		return err_set(e, EINVAL, "a new image needs a size: vireo image create %s 10G", path);
	return 0;
}

int image_create(const struct image_args *a)
{
	const char *path = a->operands[0];
	struct image *img;
	uint64_t size = 0;
	struct err e = { 0 };
	int rc = 0;

	if (!strcmp(path, "debian12") && a->count > 1)
		return image_debian(a);
	if (a->count > 2)
		return command_fail(&(struct err){ .text = "'vireo image create' takes IMAGE and SIZE, "
				    "or debian12 and IMAGE" }, STATUS_USAGE);
	if (a->count > 1)
		rc = image_parse_size(&size, a->operands[1], &e);
	if (!rc)
		rc = create_check(a, path, &size, &e);
	if (!rc)
		rc = image_make(&img, path, size, a, &e);
	if (!rc)
		rc = image_make_end(img, path, 0, &e);
	if (!rc)
		command_done("image", path);
	return rc ? fail(&e) : STATUS_OK;
}

/* --- info --- */

static void print_json_string(const char *key, const char *s)
{
	printf("  \"%s\": \"", key);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putchar('\\');
		if ((unsigned char)*s < ' ')
			printf("\\u%04x", *s);
		else
			putchar(*s);
	}
	printf("\"");
}

static void info_json(struct image *img, const struct qcow2_info *q, uint64_t length, uint64_t taken)
{
	printf("{\n");
	print_json_string("path", img->path);
	printf(",\n");
	print_json_string("type", img->ops->format);
	printf(",\n  \"size\": %" PRIu64 ",\n  \"file_length\": %" PRIu64 ",\n  \"file_taken\": %" PRIu64,
	       (uint64_t)img->size, length, taken);
	if (q) {
		printf(",\n  \"version\": %u,\n  \"cluster_size\": %u,\n  \"refcount_bits\": %u,\n"
		       "  \"snapshots\": %u,\n  \"lazy_refcounts\": %s,\n  \"dirty\": %s,\n"
		       "  \"corrupt\": %s,\n", q->version, 1U << q->cluster_bits, q->refcount_bits,
		       q->snapshots, q->lazy_refcounts ? "true" : "false", q->dirty ? "true" : "false",
		       q->corrupt ? "true" : "false");
		print_json_string("compression", q->compression);
		if (q->backing) {
			printf(",\n");
			print_json_string("backing", q->backing);
		}
		if (q->backing && q->backing_format) {
			printf(",\n");
			print_json_string("backing_type", q->backing_format);
		}
	}
	printf("\n}\n");
}

static void info_text(struct image *img, const struct qcow2_info *q, uint64_t length, uint64_t taken)
{
	printf("image:        %s\ntype:         %s\nsize:         %" PRIu64 " bytes (%.1f MiB)\n"
	       "on the host:  %.1f MiB in a file of %.1f MiB\n", img->path, img->ops->format,
	       (uint64_t)img->size, img->size / 1048576.0, taken / 1048576.0, length / 1048576.0);
	if (!q)
		return;
	printf("version:      %u\nclusters:     %u bytes, refcounts of %u bits\ncompression:  %s\n",
	       q->version, 1U << q->cluster_bits, q->refcount_bits, q->compression);
	if (q->backing)
		printf("backing:      %s (%s)\n", q->backing,
		       q->backing_format ? q->backing_format : "of no named type");
	if (q->snapshots)
		printf("snapshots:    %u inside\n", q->snapshots);
	if (q->dirty)
		printf("state:        not closed; refcounts are corrected when it is opened\n");
	if (q->corrupt)
		printf("state:        marked as corrupt\n");
}

int image_info(const struct image_args *a)
{
	const struct image_open how = {
		.path = a->operands[0], .format = a->source, .read_only = true, .no_backing = true,
		.unlocked = true,
	};
	uint64_t length = 0, taken = 0;
	struct qcow2_info q;
	struct image *img;
	struct err e = { 0 };
	bool is_qcow2;

	if (image_open(&img, &how, &e))
		return fail(&e);
	raw_usage(img, &length, &taken);
	is_qcow2 = qcow2_info(img, &q);
	(a->json ? info_json : info_text)(img, is_qcow2 ? &q : NULL, length, taken);
	image_close(img);
	return STATUS_OK;
}

/* --- check --- */

static void check_print(const struct image_args *a, const struct qcow2_check *c)
{
	if (a->json) {
		printf("{\n  \"errors\": %" PRIu64 ",\n  \"leaks\": %" PRIu64 ",\n  \"fixed\": %" PRIu64
		       ",\n  \"clusters\": %" PRIu64 ",\n  \"allocated\": %" PRIu64 ",\n  \"zero\": %"
		       PRIu64 ",\n  \"compressed\": %" PRIu64 ",\n  \"end\": %" PRIu64 ",\n", c->errors,
		       c->leaks, c->fixed, c->clusters, c->allocated, c->zero, c->compressed, c->end);
		print_json_string("first_error", c->first);
		printf("\n}\n");
		return;
	}
	printf("%" PRIu64 " of %" PRIu64 " clusters allocated, %" PRIu64 " zero, %" PRIu64
	       " compressed\n", c->allocated, c->clusters, c->zero, c->compressed);
	if (c->errors)
		printf("%" PRIu64 " errors; the first: %s\n", c->errors, c->first);
	if (c->leaks)
		printf("%" PRIu64 " clusters leaked, which wastes room and harms nothing\n", c->leaks);
	if (c->fixed)
		printf("%" PRIu64 " of these repaired\n", c->fixed);
	if (!c->errors && !c->leaks)
		printf("no errors, no leaks\n");
}

int image_check(const struct image_args *a)
{
	const struct image_open how = {
		.path = a->operands[0], .read_only = !a->repair, .no_backing = true, .damaged = true,
	};
	struct qcow2_check c, again;
	struct qcow2_info q;
	struct image *img;
	struct err e = { 0 };
	int rc;

	if (image_open(&img, &how, &e))
		return fail(&e);
	if (!qcow2_info(img, &q)) {
		err_set(&e, EINVAL, "disk '%s' is %s, which has nothing that could be checked",
			img->path, img->ops->format);
		image_close(img);
		return fail(&e);
	}
	rc = qcow2_check(img, a->repair, &c, &e);
	if (!rc && a->repair)	/* is it good now? */
		rc = qcow2_check(img, true, &again, &e);
	image_close(img);
	if (rc)
		return fail(&e);
	check_print(a, &c);
	return (a->repair ? again.errors : c.errors) ? STATUS_USAGE : STATUS_OK;
}

/* --- resize --- */

static int new_size(const struct image *img, const char *text, uint64_t *size, struct err *e)
{
	const int rc = image_parse_size(size, text + (text[0] == '+'), e);

	if (!rc && text[0] == '+')
		*size += img->size;
	return rc;
}

int image_resize_to(const struct image_args *a)
{
	struct image *img;
	struct err e = { 0 };
	uint64_t size;
	int rc, rc2;

	if (open_path(&img, a->operands[0], a->source, false, &e))
		return fail(&e);
	rc = new_size(img, a->operands[1], &size, &e);
	if (!rc && size < img->size && !a->shrink)
		rc = err_set(&e, EINVAL, "disk '%s' would become smaller and lose what is behind %" PRIu64
			     " bytes: --shrink allows it", img->path, size);
	if (!rc)
		rc = image_resize(img, size, &e);
	rc2 = image_close(img);
	if (!rc && rc2)
		rc = err_errno(&e, -rc2, "cannot write disk '%s'", a->operands[0]);
	if (!rc)
		command_done("image", a->operands[0]);
	return rc ? fail(&e) : STATUS_OK;
}
