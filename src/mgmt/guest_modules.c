// SPDX-License-Identifier: Apache-2.0
/*
 * Modules for a guest's initramfs; see guest_modules.h.  What a module needs is read from the
 * module itself ("depends=" in its .modinfo), or, if it is compressed, from modules.dep.
 */
#include "mgmt/guest_modules.h"
#include "base/types.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define FOLDERS_MAX	5
#define NAME_MAX_HERE	64
#define NEEDS_MAX	64

struct modules {
	struct initramfs *initramfs;
	char folder[FOLDERS_MAX][PATH_MAX];	/* with modules.dep or modules.order, or flat */
	unsigned int count;
};

/* What one module needs, in the order of loading, and itself at the end. */
struct chain {
	char name[NEEDS_MAX][NAME_MAX_HERE];
	char path[NEEDS_MAX][PATH_MAX];
	unsigned int count;
};

static const char *map_file(const char *path, size_t *size)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	void *data = MAP_FAILED;

	if (fd >= 0 && !fstat(fd, &st) && S_ISREG(st.st_mode) && st.st_size)
		data = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (fd >= 0)
		close(fd);
	*size = data == MAP_FAILED ? 0 : st.st_size;
	return data == MAP_FAILED ? NULL : data;
}

/* --- the kernel's version --- */

static int take_version(const char *at, size_t room, char version[KERNEL_VERSION_MAX])
{
	size_t n = 0;

	while (n < room && n < KERNEL_VERSION_MAX - 1 && at[n] > ' ' && at[n] != '/' && at[n] < 127)
		n++;
	memcpy(version, at, n);
	version[n] = '\0';
	return n > 0;
}

int kernel_version(const char *kernel, char version[KERNEL_VERSION_MAX])
{
	static const char words[] = "Linux version ";
	size_t size, at;
	const char *k = map_file(kernel, &size), *found;
	uint16_t offset;
	int ok = 0;

	if (!k)
		return 0;
	if (size > 0x210 && !memcmp(k + 0x202, "HdrS", 4)) {
		memcpy(&offset, k + 0x20e, sizeof(offset));
		at = offset + 0x200;
		ok = offset && at < size && take_version(k + at, size - at, version);
	} else {
		found = memmem(k, size, words, sizeof(words) - 1);
		at = found ? found - k + sizeof(words) - 1 : size;
		ok = found && take_version(k + at, size - at, version);
	}
	munmap((void *)k, size);
	return ok;
}

/* --- where a module is --- */

/* '-' and '_' are the same in a module's name. */
static bool same_name(const char *a, const char *b, size_t n)
{
	for (; n; n--, a++, b++)
		if (*a != *b && (!*a || !*b || !strchr("-_", *a) || !strchr("-_", *b)))
			return false;
	return true;
}

/* Is @path, of @len bytes, that of the module @name: ".../NAME.ko*"? (modules.order may say .o) */
static bool is_path_of(const char *path, size_t len, const char *name)
{
	const char *slash = memrchr(path, '/', len), *base = slash ? slash + 1 : path;
	const size_t n = strlen(name), room = path + len - base;

	return room > n && same_name(base, name, n) &&
	       ((room >= n + 3 && !memcmp(base + n, ".ko", 3)) || !memcmp(base + n, ".o", 2));
}

/* In the lines of @folder/@index; what else the line of modules.dep has goes to @rest. */
static bool find_indexed(const char *folder, const char *index, const char *name,
			 char path[PATH_MAX], char *rest, size_t rest_size)
{
	char file[PATH_MAX + 32], *line = NULL;
	bool found = false;
	size_t room = 0;
	FILE *f;

	snprintf(file, sizeof(file), "%s/%s", folder, index);
	f = fopen(file, "re");
	while (f && !found && getline(&line, &room, f) > 0) {
		const size_t n = strcspn(line, ":\n");

		found = is_path_of(line, n, name);
		if (!found)
			continue;
		if (n > 2 && !strncmp(line + n - 2, ".o", 2))
			snprintf(path, PATH_MAX, "%s/%.*s.ko", folder, (int)n - 2, line);
		else
			snprintf(path, PATH_MAX, "%s/%.*s", folder, (int)n, line);
		snprintf(rest, rest_size, "%s", line[n] == ':' ? line + n + 1 : "");
	}
	if (f)
		fclose(f);
	free(line);
	return found;
}

static bool find_flat(const char *folder, const char *name, char path[PATH_MAX])
{
	char other[NAME_MAX_HERE];

	snprintf(path, PATH_MAX, "%s/%s.ko", folder, name);
	if (!access(path, R_OK))
		return true;
	snprintf(other, sizeof(other), "%s", name);
	for (char *p = other; *p; p++)
		*p = *p == '-' ? '_' : *p == '_' ? '-' : *p;
	snprintf(path, PATH_MAX, "%s/%s.ko", folder, other);
	return !access(path, R_OK);
}

static bool find_module(const struct modules *m, const char *name, char path[PATH_MAX],
			char *rest, size_t rest_size)
{
	rest[0] = '\0';
	for (unsigned int i = 0; i < m->count; i++)
		if (find_indexed(m->folder[i], "modules.dep", name, path, rest, rest_size) ||
		    find_indexed(m->folder[i], "modules.order", name, path, rest, rest_size) ||
		    find_flat(m->folder[i], name, path))
			return true;
	return false;
}

/* --- what it needs --- */

/* The names in "depends=", cut at commas; false: it is compressed. */
static bool read_needs(const char *path, char *needs, size_t size)
{
	static const char key[] = "\0depends=";
	size_t len;
	const char *data = map_file(path, &len), *at;

	needs[0] = '\0';
	if (!data)
		return true;
	if (len < 4 || memcmp(data, "\177ELF", 4)) {
		munmap((void *)data, len);
		return false;
	}
	at = memmem(data, len, key, sizeof(key) - 1);
	if (at) {
		at += sizeof(key) - 1;
		snprintf(needs, size, "%.*s", (int)strnlen(at, data + len - at), at);
	}
	munmap((void *)data, len);
	return true;
}

static bool has_name(const struct chain *c, const char *name)
{
	for (unsigned int i = 0; i < c->count; i++)
		if (strlen(c->name[i]) == strlen(name) && same_name(c->name[i], name, strlen(name)))
			return true;
	return false;
}

/* "kernel/net/9p/9pnet.ko.xz" in place: "9pnet". */
static char *name_of_path(char *path)
{
	char *base = strrchr(path, '/'), *dot;

	base = base ? base + 1 : path;
	dot = strstr(base, ".ko");
	if (dot)
		*dot = '\0';
	return base;
}

static void add_chain(const struct modules *m, struct chain *c, const char *name, int depth)
{
	char path[PATH_MAX], needs[4096], rest[4096], *list = needs, *word;

	if (depth > 8 || c->count == NEEDS_MAX || has_name(c, name) ||
	    !find_module(m, name, path, rest, sizeof(rest)))
		return;
	if (!read_needs(path, needs, sizeof(needs)))
		list = rest;
	while ((word = strsep(&list, ", \n")))
		if (word[0])
			add_chain(m, c, name_of_path(word), depth + 1);
	if (c->count == NEEDS_MAX)
		return;
	snprintf(c->name[c->count], NAME_MAX_HERE, "%s", name);
	memcpy(c->path[c->count], path, sizeof(path));
	c->count++;
}

/* --- into the initramfs --- */

static void put_module(const struct modules *m, const char *name, struct chain *c,
		       struct chain *all)
{
	char path[128], *needs = NULL;
	size_t size = 0;
	FILE *f = open_memstream(&needs, &size);

	c->count = 0;
	add_chain(m, c, name, 0);
	for (unsigned int i = 0; f && i < c->count; i++) {
		if (i + 1 < c->count)
			fprintf(f, "%s\n", c->name[i]);
		if (has_name(all, c->name[i]) || all->count == NEEDS_MAX)
			continue;
		snprintf(path, sizeof(path), "modules/%s.ko", c->name[i]);
		if (initramfs_copy(m->initramfs, path, c->path[i], 0644))
			strcpy(all->name[all->count++], c->name[i]);
	}
	if (f && !fclose(f) && c->count) {
		snprintf(path, sizeof(path), "modules/%s.needs", name);
		initramfs_file(m->initramfs, path, needs, size, 0644);
	}
	free(needs);
}

static void add_folder(struct modules *m, const char *folder, const char *more)
{
	if (m->count < FOLDERS_MAX &&
	    snprintf(m->folder[m->count], PATH_MAX, "%s%s", folder, more) < PATH_MAX &&
	    !access(m->folder[m->count], R_OK | X_OK))
		m->count++;
}

void guest_modules_add(struct initramfs *i, const char *kernel, const char *root)
{
	static const char *const names[] = {
		"virtio_pci", "virtio_mmio", "button", "virtio_console", "virtio-rng", "9p", "9pnet_virtio",
		"overlay", "virtio_blk", "virtio_net", "crc32c_generic", "ext4", "xfs", "vfat", "squashfs",
	};
	struct chain *c = malloc(sizeof(*c)), *all = calloc(1, sizeof(*all));
	char beside[PATH_MAX], whole[PATH_MAX], version[KERNEL_VERSION_MAX], more[256];
	struct modules *m = calloc(1, sizeof(*m));

	if (!c || !all || !m)
		goto out;
	m->initramfs = i;
	snprintf(beside, sizeof(beside), "%s", realpath(kernel, whole) ? whole : kernel);
	dirname(beside);
	initramfs_folder(i, "modules");
	if (kernel_version(kernel, version)) {
		snprintf(more, sizeof(more), "/../lib/modules/%s", version);
		add_folder(m, beside, more);
		if (root)
			add_folder(m, root, more + 3);
		add_folder(m, "", more + 3);
	}
	if (strstr(beside, "/arch/x86"))
		add_folder(m, beside, "/../../..");
	add_folder(m, beside, "");
	for (size_t k = 0; k < ARRAY_SIZE(names); k++)
		put_module(m, names[k], c, all);
out:
	free(c);
	free(all);
	free(m);
}
