// SPDX-License-Identifier: Apache-2.0
/*
 * Symbol files; see symbols.h.  The file is read whole and believed in nothing: offsets and
 * sizes are checked, a line that is none of a symbol is passed over.
 *
 * Source: "Executable and Linking Format (ELF) Specification" 1.2, chapter "Symbol Table";
 * nm(1), "Symbol Value, Type, Name", for the text form.
 */
#include "mgmt/symbols.h"
#include "boot/boot.h"

#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct symbols {
	struct symbol { uint64_t addr; const char *name; } *list;
	size_t count, room;
	struct boot_file file;	/* an ELF file's names are in it */
	char *text;
};

static bool add(struct symbols *s, uint64_t addr, const char *name)
{
	if (s->count == s->room) {
		size_t room = s->room ? 2 * s->room : 4096;
		struct symbol *list = realloc(s->list, room * sizeof(*list));

		if (!list)
			return false;
		s->list = list;
		s->room = room;
	}
	s->list[s->count++] = (struct symbol){ addr, name };
	return true;
}

/* "ffffffff81000000 T _text", perhaps followed by a tab and a module. */
static bool read_text(struct symbols *s)
{
	char *rest, *line, *end, *name;
	uint64_t addr;

	s->text = malloc(s->file.size + 1);
	if (!s->text)
		return false;
	memcpy(s->text, s->file.data, s->file.size);
	s->text[s->file.size] = '\0';
	rest = s->text;
	while ((line = strsep(&rest, "\n"))) {
		addr = strtoull(line, &end, 16);
		if (end == line || end[0] != ' ' || !end[1] || end[2] != ' ')
			continue;
		name = end + 3;
		name[strcspn(name, " \t\r")] = '\0';
		if (*name && !add(s, addr, name))
			return false;
	}
	return true;
}

/* [off, off + count * size) is in the file. */
static bool in_file(const struct symbols *s, uint64_t off, uint64_t count, uint64_t size)
{
	return off <= s->file.size && count <= (s->file.size - off) / size;
}

static bool read_symtab(struct symbols *s, const Elf64_Shdr *table, const Elf64_Shdr *names)
{
	uint64_t count = table->sh_size / sizeof(Elf64_Sym);
	const char *strings = (const char *)s->file.data + names->sh_offset;

	if (!in_file(s, table->sh_offset, count, sizeof(Elf64_Sym)) ||
	    !in_file(s, names->sh_offset, names->sh_size, 1) || !names->sh_size ||
	    strings[names->sh_size - 1])
		return true;
	for (uint64_t i = 0; i < count; i++) {
		Elf64_Sym y;

		memcpy(&y, s->file.data + table->sh_offset + i * sizeof(y), sizeof(y));
		if (y.st_name && y.st_name < names->sh_size && y.st_shndx != SHN_UNDEF &&
		    ELF64_ST_TYPE(y.st_info) <= STT_FUNC && !add(s, y.st_value, strings + y.st_name))
			return false;
	}
	return true;
}

static Elf64_Shdr section(const struct symbols *s, const Elf64_Ehdr *h, unsigned int i)
{
	Elf64_Shdr sh;

	memcpy(&sh, s->file.data + h->e_shoff + i * sizeof(sh), sizeof(sh));
	return sh;
}

static bool read_elf(struct symbols *s)
{
	Elf64_Ehdr h;

	memcpy(&h, s->file.data, sizeof(h));
	if (h.e_ident[EI_CLASS] != ELFCLASS64 || h.e_shentsize != sizeof(Elf64_Shdr) ||
	    !in_file(s, h.e_shoff, h.e_shnum, sizeof(Elf64_Shdr)))
		return true;
	for (unsigned int i = 0; i < h.e_shnum; i++) {
		Elf64_Shdr sh = section(s, &h, i), names;

		if (sh.sh_type != SHT_SYMTAB || sh.sh_link >= h.e_shnum)
			continue;
		names = section(s, &h, sh.sh_link);
		if (!read_symtab(s, &sh, &names))
			return false;
	}
	return true;
}

int symbols_read(struct symbols **out, const char *path, struct err *e)
{
	struct symbols *s = calloc(1, sizeof(*s));
	bool elf, done;
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for the symbols of %s", path);
	rc = boot_file_read(&s->file, path, "symbol file", e);
	if (rc)
		goto fail;
	elf = s->file.size >= sizeof(Elf64_Ehdr) && !memcmp(s->file.data, ELFMAG, SELFMAG);
	done = elf ? read_elf(s) : read_text(s);
	if (!done)
		rc = err_set(e, ENOMEM, "out of memory for the symbols of %s", path);
	else if (!s->count)
		rc = err_set(e, EINVAL, "%s has no symbols: give a System.map, a copy of "
			     "/proc/kallsyms or a vmlinux that is not stripped", path);
	if (rc)
		goto fail;
	*out = s;
	return 0;
fail:
	symbols_free(s);
	return rc;
}

void symbols_free(struct symbols *s)
{
	if (!s)
		return;
	boot_file_free(&s->file);
	free(s->text);
	free(s->list);
	free(s);
}

bool symbols_find(const struct symbols *s, const char *name, uint64_t *addr)
{
	for (size_t i = 0; i < s->count; i++)
		if (!strcmp(s->list[i].name, name)) {
			*addr = s->list[i].addr;
			return true;
		}
	return false;
}

const char *symbols_name(const struct symbols *s, uint64_t addr, uint64_t *off)
{
	const struct symbol *best = NULL;

	for (size_t i = 0; s && i < s->count; i++)
		if (s->list[i].addr <= addr && (!best || s->list[i].addr > best->addr))
			best = &s->list[i];
	if (!best)
		return NULL;
	*off = addr - best->addr;
	return best->name;
}
