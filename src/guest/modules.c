// SPDX-License-Identifier: Apache-2.0
/*
 * Kernel modules: from /modules of the initramfs, where "NAME.ko" lies beside "NAME.needs", which
 * lists what it needs in the order of loading; else from /lib/modules/VERSION with its modules.dep,
 * of an initramfs that came before ours or of the root.
 */
#include "guest/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#define COMPRESSED	4	/* MODULE_INIT_COMPRESSED_FILE */

/* Already there counts.  The kernel may be able to unpack what is compressed. */
static int load_file(const char *path)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ok;

	if (fd < 0)
		return 0;
	ok = !syscall(SYS_finit_module, fd, "", 0) || errno == EEXIST ||
	     (errno == ENOEXEC && !syscall(SYS_finit_module, fd, "", COMPRESSED));
	close(fd);
	return ok;
}

static int load_own(const char *name)
{
	char path[256], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/modules/%s.needs", name);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s.ko", line);
		load_file(path);
	}
	if (f)
		fclose(f);
	snprintf(path, sizeof(path), "/modules/%s.ko", name);
	return load_file(path);
}

/* '-' and '_' are the same in a module's name. */
static int same_name(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b && !(strchr("-_", *a) && strchr("-_", *b) && *a && *b))
			return 0;
	return 1;
}

/* "kernel/fs/ext4/ext4.ko.xz: needed..." is the line of @name. */
static int is_line_of(const char *line, const char *name)
{
	const char *colon = strchr(line, ':'), *base = line;
	const size_t n = strlen(name);

	if (!colon)
		return 0;
	for (const char *p = line; p < colon; p++)
		if (*p == '/')
			base = p + 1;
	return (size_t)(colon - base) > n && same_name(base, name, n) && !strncmp(base + n, ".ko", 3);
}

/* What a module needs is listed behind it, what is needed first at the end. */
static int load_line(const char *folder, char *line)
{
	char path[1024], *at = line + strcspn(line, "\n");
	int ok = 0;

	*at = '\0';
	*strchr(line, ':') = ' ';
	while (at > line) {
		char *from = at;

		while (from > line && from[-1] != ' ')
			from--;
		if (from < at) {
			snprintf(path, sizeof(path), "%s/%.*s", folder, (int)(at - from), from);
			ok = load_file(path);
		}
		at = from > line ? from - 1 : line;
	}
	return ok;
}

static int load_from(const char *root, const char *name)
{
	char folder[256], path[300], line[8192];
	struct utsname u;
	int ok = 0;
	FILE *f;

	uname(&u);
	snprintf(folder, sizeof(folder), "%s/lib/modules/%s", root, u.release);
	snprintf(path, sizeof(path), "%s/modules.dep", folder);
	f = fopen(path, "re");
	while (f && !ok && fgets(line, sizeof(line), f))
		if (is_line_of(line, name))
			ok = load_line(folder, line);
	if (f)
		fclose(f);
	return ok;
}

/* The root's folder, noted by its name in the initramfs: there is no state here to keep it in. */
void guest_root_modules(const char *root)
{
	unlink("/modules.root");
	if (symlink(root, "/modules.root"))
		guest_say("the root's modules are not used: %s", strerror(errno));
}

int guest_load(const char *name)
{
	return load_own(name) || load_from("", name) || load_from("/modules.root", name);
}
