// SPDX-License-Identifier: Apache-2.0
/*
 * Writes an initramfs (cpio "newc") from a list on stdin, without root: owners, modes and
 * device nodes are only numbers in the archive.  The same list gives the same bytes.
 *
 *	mkinitramfs OUTPUT <LIST
 *
 * Lines of the list; blank lines and lines that start with # are skipped:
 *	dir PATH MODE
 *	file PATH HOSTFILE MODE
 *	link PATH TARGET
 *	char PATH MODE MAJOR MINOR
 *
 * Source: Linux's Documentation/driver-api/early-userspace/buffer-format.rst.
 * Not written: hard links, checksums, compression.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FIELDS_MAX	5

struct archive {
	FILE *out;
	uint32_t inode;
};

struct entry {
	const char *path;
	uint32_t mode;
	uint32_t major, minor;
	const void *data;
	uint32_t size;
};

static void pad(FILE *out)
{
	while (ftell(out) % 4)
		fputc(0, out);
}

static void write_entry(struct archive *a, const struct entry *e)
{
	const char *name = e->path + strspn(e->path, "/");

	fprintf(a->out, "070701%08" PRIx32 "%08" PRIx32 "%08x%08x%08x%08x%08" PRIx32 "%08x%08x"
		"%08" PRIx32 "%08" PRIx32 "%08zx%08x", a->inode++, e->mode, 0, 0, 1, 0, e->size, 0, 0,
		e->major, e->minor, strlen(name) + 1, 0);
	fwrite(name, 1, strlen(name) + 1, a->out);
	pad(a->out);
	if (e->size)
		fwrite(e->data, 1, e->size, a->out);
	pad(a->out);
}

/* The whole file, malloc'ed; NULL with errno. */
static void *read_file(const char *path, uint32_t *size)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	void *data = NULL;

	if (!f)
		return NULL;
	if (fstat(fileno(f), &st) == 0 && st.st_size < UINT32_MAX) {
		data = malloc(st.st_size + 1);
		if (data && fread(data, 1, st.st_size, f) != (size_t)st.st_size) {
			free(data);
			data = NULL;
			errno = EIO;
		}
		*size = st.st_size;
	}
	fclose(f);
	return data;
}

static uint32_t octal(const char *s)
{
	return strtoul(s, NULL, 8) & 07777;
}

/* One line, cut into words; returns what is wrong with it, or NULL. */
static const char *add_line(struct archive *a, char *const *word, int words)
{
	struct entry e = { .path = word[1] };
	void *data = NULL;

	if (words == 3 && !strcmp(word[0], "dir")) {
		e.mode = S_IFDIR | octal(word[2]);
	} else if (words == 4 && !strcmp(word[0], "file")) {
		data = read_file(word[2], &e.size);
		if (!data)
			return strerror(errno);
		e.mode = S_IFREG | octal(word[3]);
		e.data = data;
	} else if (words == 3 && !strcmp(word[0], "link")) {
		e.mode = S_IFLNK | 0777;
		e.data = word[2];
		e.size = strlen(word[2]);
	} else if (words == 5 && !strcmp(word[0], "char")) {
		e.mode = S_IFCHR | octal(word[2]);
		e.major = strtoul(word[3], NULL, 10);
		e.minor = strtoul(word[4], NULL, 10);
	} else {
		return "not a line of a list";
	}
	write_entry(a, &e);
	free(data);
	return NULL;
}

static int cut(char *line, char **word)
{
	int n = 0;
	char *save;

	for (char *w = strtok_r(line, " \t\n", &save); w; w = strtok_r(NULL, " \t\n", &save)) {
		if (n == FIELDS_MAX)
			return FIELDS_MAX + 1;
		word[n++] = w;
	}
	return n;
}

static int write_archive(struct archive *a, FILE *list)
{
	const struct entry trailer = { .path = "TRAILER!!!" };
	char *line = NULL;
	size_t room = 0;
	int rc = 0;

	for (unsigned int at = 1; !rc && getline(&line, &room, list) > 0; at++) {
		char *word[FIELDS_MAX] = { NULL };
		const int words = cut(line, word);
		const char *wrong;

		if (words == 0 || word[0][0] == '#')
			continue;
		wrong = add_line(a, word, words);
		if (wrong) {
			fprintf(stderr, "mkinitramfs: line %u (%s %s): %s\n", at, word[0],
				word[1] ? word[1] : "", wrong);
			rc = 1;
		}
	}
	free(line);
	a->inode = 0;
	write_entry(a, &trailer);
	return rc;
}

int main(int argc, char **argv)
{
	struct archive a = { .inode = 1 };
	int rc;

	if (argc != 2) {
		fprintf(stderr, "usage: mkinitramfs OUTPUT <LIST\n");
		return 2;
	}
	a.out = fopen(argv[1], "we");
	if (!a.out) {
		fprintf(stderr, "mkinitramfs: cannot write %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	rc = write_archive(&a, stdin);
	if (ferror(a.out) | fclose(a.out)) {
		fprintf(stderr, "mkinitramfs: cannot write %s\n", argv[1]);
		rc = 1;
	}
	if (rc)
		remove(argv[1]);
	return rc;
}
