// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run --disk IMAGE` without --kernel: boots IMAGE.kernel with IMAGE.initrd and the words
 * in IMAGE.cmdline, which `vireo image create debian12` puts there.  If they are not beside the
 * image, they may be beside the one that backs it.
 */
#include "backend/block.h"
#include "backend/qcow2.h"
#include "boot/boot.h"
#include "mgmt/run_priv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* @path.@what, malloc'ed, if there is such a file; NULL otherwise. */
static char *beside(const char *path, const char *what)
{
	char *name;

	if (asprintf(&name, "%s.%s", path, what) < 0)
		return NULL;
	if (!access(name, F_OK))
		return name;
	free(name);
	return NULL;
}

/* The image below @path, malloc'ed, or NULL. */
static char *below(const char *path, const char *format)
{
	const struct image_open how = {
		.path = path, .format = format, .read_only = true, .no_backing = true, .unlocked = true,
	};
	struct image *img;
	char *name;

	if (image_open(&img, &how, NULL))
		return NULL;
	name = qcow2_backing_path(img);
	image_close(img);
	return name;
}

/* The first line of the file @name, with @more behind it. */
static int read_words(char **out, const char *name, const char *more, struct err *e)
{
	struct boot_file f;
	const char *end;
	int rc = boot_file_read(&f, name, "command line", e);

	if (rc)
		return rc;
	end = memchr(f.data, '\n', f.size);
	rc = asprintf(out, "%.*s%s%s", (int)(end ? end - (const char *)f.data : (long)f.size),
		      (const char *)f.data, more ? " " : "", more ? more : "");
	boot_file_free(&f);
	return rc < 0 ? err_errno(e, ENOMEM, "command line '%s'", name) : 0;
}

/* What lies beside the image @path, in @o; true if its kernel does. */
static bool take(struct run_options *o, const char *path, struct err *e, int *rc)
{
	char *words;

	o->beside[0] = beside(path, "kernel");
	if (!o->beside[0])
		return false;
	o->kernel = o->beside[0];
	if (!o->initrd) {
		o->beside[1] = beside(path, "initrd");
		o->initrd = o->beside[1];
	}
	words = beside(path, "cmdline");
	if (words) {
		*rc = read_words(&o->beside[2], words, o->cmdline, e);
		o->cmdline = *rc ? NULL : o->beside[2];
		free(words);
	}
	return true;
}

int run_boot_beside(struct run_options *o, struct err *e)
{
	struct block_options disk;
	char *path, *next;
	bool found = false;
	int rc;

	if (o->kernel || !o->disk_count)
		return 0;
	rc = block_options_parse(&disk, o->disk[0], e);
	if (rc)
		return rc;
	path = strdup(disk.path);
	for (unsigned int i = 0; path && i < IMAGE_CHAIN_MAX; i++) {
		found = take(o, path, e, &rc);
		next = found ? NULL : below(path, i ? NULL : disk.format);
		free(path);
		path = next;
	}
	free(path);
	if (!found && access(disk.path, F_OK))
		return err_errno(e, errno, "could not open disk '%.300s'", disk.path);
	if (!found)
		return err_set(e, EINVAL, "no kernel is named, and '%.400s.kernel' is not there: "
			       "vireo run --kernel FILE", disk.path);
	return rc;
}

void run_boot_free(struct run_options *o)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(o->beside); i++)
		free(o->beside[i]);
}
