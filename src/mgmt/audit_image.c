// SPDX-License-Identifier: Apache-2.0
/*
 * What `vireo audit` reads: executable sections or segments of an ELF file, the payload of
 * a bzImage, or plain bytes.  The file is taken as hostile: every range is checked.
 *
 * Source: the ELF specification; Linux's Documentation/x86/boot.rst (payload_offset).
 */
#include "mgmt/audit_image.h"
#include "cpu/vcpu.h"

#include <elf.h>
#include <errno.h>
#include <string.h>

/* The fields that the two classes share, widened. */
struct range {
	uint64_t off, size, address;
	bool code;
};

static bool in_file(uint64_t off, uint64_t len, uint64_t size)
{
	return off <= size && len <= size - off;
}

static struct range section64(const uint8_t *p)
{
	Elf64_Shdr s;

	memcpy(&s, p, sizeof(s));
	return (struct range){ s.sh_offset, s.sh_size, s.sh_addr,
			       s.sh_type == SHT_PROGBITS && s.sh_flags & SHF_EXECINSTR };
}

static struct range section32(const uint8_t *p)
{
	Elf32_Shdr s;

	memcpy(&s, p, sizeof(s));
	return (struct range){ s.sh_offset, s.sh_size, s.sh_addr,
			       s.sh_type == SHT_PROGBITS && s.sh_flags & SHF_EXECINSTR };
}

static struct range segment64(const uint8_t *p)
{
	Elf64_Phdr s;

	memcpy(&s, p, sizeof(s));
	return (struct range){ s.p_offset, s.p_filesz, s.p_vaddr,
			       s.p_type == PT_LOAD && s.p_flags & PF_X };
}

static struct range segment32(const uint8_t *p)
{
	Elf32_Phdr s;

	memcpy(&s, p, sizeof(s));
	return (struct range){ s.p_offset, s.p_filesz, s.p_vaddr,
			       s.p_type == PT_LOAD && s.p_flags & PF_X };
}

struct table {
	uint64_t off;
	unsigned int count;
	unsigned int entry_size;
	struct range (*read)(const uint8_t *p);
};

static int read_table(struct audit_image *img, const uint8_t *data, uint64_t size,
		      const struct table *t, const char *name, struct err *e)
{
	if (!in_file(t->off, (uint64_t)t->count * t->entry_size, size))
		return err_set(e, EINVAL, "'%s' is truncated: its headers are not in the file", name);
	for (unsigned int i = 0; i < t->count; i++) {
		const struct range r = t->read(data + t->off + (uint64_t)i * t->entry_size);

		if (!r.code || !r.size)
			continue;
		if (!in_file(r.off, r.size, size))
			return err_set(e, EINVAL, "'%s' is truncated: its code ends beyond the file",
				       name);
		if (img->count == AUDIT_PARTS_MAX)
			return err_set(e, EINVAL, "'%s' has more than %u pieces of code", name,
				       AUDIT_PARTS_MAX);
		img->part[img->count++] = (struct audit_part){ data + r.off, r.size, r.address };
	}
	return 0;
}

static int read_elf(struct audit_image *img, const uint8_t *data, uint64_t size,
		    const char *name, struct err *e)
{
	const bool is64 = data[EI_CLASS] == ELFCLASS64;
	struct table sections, segments;
	Elf64_Ehdr e64;
	Elf32_Ehdr e32;
	int rc;

	if (size < (is64 ? sizeof(e64) : sizeof(e32)))
		return err_set(e, EINVAL, "'%s' is truncated: its ELF header is not whole", name);
	if (is64) {
		memcpy(&e64, data, sizeof(e64));
		sections = (struct table){ e64.e_shoff, e64.e_shnum, sizeof(Elf64_Shdr), section64 };
		segments = (struct table){ e64.e_phoff, e64.e_phnum, sizeof(Elf64_Phdr), segment64 };
	} else {
		memcpy(&e32, data, sizeof(e32));
		sections = (struct table){ e32.e_shoff, e32.e_shnum, sizeof(Elf32_Shdr), section32 };
		segments = (struct table){ e32.e_phoff, e32.e_phnum, sizeof(Elf32_Phdr), segment32 };
	}
	img->is_elf = true;
	img->code_size = is64 ? CODE_64 : CODE_32;
	rc = read_table(img, data, size, &sections, name, e);
	if (!rc && img->count == 0)
		rc = read_table(img, data, size, &segments, name, e);
	if (!rc && img->count == 0)
		rc = err_set(e, EINVAL, "'%s' is an ELF file without code", name);
	return rc;
}

int audit_image_read(struct audit_image *img, const uint8_t *data, uint64_t size,
		     const char *name, struct err *e)
{
	memset(img, 0, sizeof(*img));
	img->code_size = CODE_64;
	if (size > EI_NIDENT && !memcmp(data, ELFMAG, SELFMAG))
		return read_elf(img, data, size, name, e);
	img->part[img->count++] = (struct audit_part){ data, size, 0 };
	return 0;
}
