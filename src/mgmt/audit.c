// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo audit`: the instructions of a file by Popek and Goldberg's classes, from the
 * instruction table that every engine reads.  A linear sweep: data between functions is
 * counted as what it looks like, and bytes that do not decode are skipped one by one.
 * INT3 after a transfer of control, or next to another, is padding and not counted.
 */
#include "boot/boot.h"
#include "cpu/vcpu.h"
#include "mgmt/audit_image.h"
#include "mgmt/command.h"
#include "mgmt/status.h"
#include "x86/decode.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#define CLASSES		8	/* all combinations of CLASS_* */
#define MODE_OF_FILE	(-1)

struct audit {
	uint64_t base;
	int mode;		/* enum code_size, or MODE_OF_FILE */
	bool list, json;
	json_t *found;		/* with list and json: what was listed */
	uint64_t per_id[INSN_ID_COUNT];
	uint64_t per_class[CLASSES];
	uint64_t insns, skipped, padding;
};

static const char *class_name(unsigned int class)
{
	static const char *const names[CLASSES] = {
		[CLASS_INNOCUOUS] = "innocuous",
		[CLASS_PRIVILEGED] = "privileged",
		[CLASS_CONTROL] = "control-sensitive",
		[CLASS_BEHAVIOUR] = "behaviour-sensitive",
		[CLASS_CONTROL | CLASS_BEHAVIOUR] = "control- and behaviour-sensitive",
		[CLASS_PRIVILEGED | CLASS_CONTROL] = "privileged, control-sensitive",
		[CLASS_PRIVILEGED | CLASS_BEHAVIOUR] = "privileged, behaviour-sensitive",
		[CLASS_PRIVILEGED | CLASS_CONTROL | CLASS_BEHAVIOUR] =
			"privileged, control- and behaviour-sensitive",
	};

	return names[class & (CLASSES - 1)];
}

static void count(struct audit *a, const struct insn *i, uint64_t address)
{
	const struct insn_info *info = i->info;

	a->insns++;
	a->per_class[info->insn_class & (CLASSES - 1)]++;
	a->per_id[info->id]++;
	if (!a->list || info->insn_class == CLASS_INNOCUOUS)
		return;
	if (a->json)
		json_array_append_new(a->found, json_pack("{s:I,s:s,s:s}", "address", (json_int_t)address,
							  "mnemonic", info->name, "class",
							  class_name(info->insn_class)));
	else
		printf("%016" PRIx64 "  %-12s %s\n", address, info->name,
		       class_name(info->insn_class));
}

#define INT3	0xcc

static void sweep(struct audit *a, const struct audit_part *p, unsigned int code_size)
{
	bool unreachable = false;	/* the last instruction never goes on to the next */
	struct insn insn;
	uint64_t at = 0;

	while (at < p->size) {
		const unsigned int avail = MIN(p->size - at, INSN_MAX_LEN);

		if (p->data[at] == INT3 && (unreachable || (avail > 1 && p->data[at + 1] == INT3))) {
			a->padding++;
			at++;
			unreachable = true;
			continue;
		}
		if (insn_decode(&insn, p->data + at, avail, code_size) == DECODE_OK && insn.info) {
			count(a, &insn, a->base + p->address + at);
			at += insn.len;
			unreachable = insn.flags & INSN_BRANCH;
		} else {
			a->skipped++;
			at++;
			unreachable = false;
		}
	}
}

static void print_classes(const struct audit *a)
{
	printf("\n%12s  class\n", "instructions");
	for (unsigned int c = 0; c < CLASSES; c++)
		if (a->per_class[c])
			printf("%12" PRIu64 "  %s\n", a->per_class[c], class_name(c));
}

/* Sensitive but not privileged: what a classical trap-and-emulate monitor would miss. */
static uint64_t unvirtualizable(const struct audit *a)
{
	uint64_t sum = 0;

	for (unsigned int c = 0; c < CLASSES; c++)
		if (!(c & CLASS_PRIVILEGED))
			sum += a->per_class[c];
	return sum - a->per_class[CLASS_INNOCUOUS];
}

static void print_mnemonics(const struct audit *a)
{
	printf("\n%12s  %-12s class\n", "instructions", "mnemonic");
	for (unsigned int id = 0; id < INSN_ID_COUNT; id++) {
		const struct insn_info *info = a->per_id[id] ? insn_info(id) : NULL;

		if (info && info->insn_class != CLASS_INNOCUOUS)
			printf("%12" PRIu64 "  %-12s %s\n", a->per_id[id], info->name,
			       class_name(info->insn_class));
	}
	printf("\n%" PRIu64 " are sensitive without being privileged: trapping would not catch "
	       "them.\n", unvirtualizable(a));
}

/* What the file is, and where the sum of it came from. */
struct audit_source {
	const char *name;
	bool unpacked, is_elf;
	unsigned int parts;
	uint64_t bytes;
};

static void print_text(const struct audit *a, const struct audit_source *s)
{
	printf("%s: %s%s, %u piece%s of code, %" PRIu64 " bytes: %" PRIu64
	       " instructions, %" PRIu64 " bytes of padding, %" PRIu64 " that are neither\n",
	       s->name, s->unpacked ? "bzImage, " : "", s->is_elf ? "ELF" : "plain bytes", s->parts,
	       s->parts == 1 ? "" : "s", s->bytes, a->insns, a->padding, a->skipped);
	print_classes(a);
	print_mnemonics(a);
}

static void print_json(const struct audit *a, const struct audit_source *s)
{
	json_t *classes = json_object(), *mnemonics = json_array(), *all;

	for (unsigned int c = 0; c < CLASSES; c++)
		if (a->per_class[c])
			json_object_set_new(classes, class_name(c), json_integer(a->per_class[c]));
	for (unsigned int id = 0; id < INSN_ID_COUNT; id++) {
		const struct insn_info *info = a->per_id[id] ? insn_info(id) : NULL;

		if (info && info->insn_class != CLASS_INNOCUOUS)
			json_array_append_new(mnemonics, json_pack(
				"{s:s,s:s,s:I}", "mnemonic", info->name, "class",
				class_name(info->insn_class), "instructions", (json_int_t)a->per_id[id]));
	}
	all = json_pack("{s:s,s:s,s:b,s:i,s:I,s:I,s:I,s:I,s:o,s:o,s:I}", "file", s->name,
			"type", s->is_elf ? "ELF" : "plain", "unpacked", s->unpacked,
			"pieces", (int)s->parts, "bytes", (json_int_t)s->bytes,
			"instructions", (json_int_t)a->insns, "padding", (json_int_t)a->padding,
			"undecoded", (json_int_t)a->skipped, "classes", classes,
			"mnemonics", mnemonics, "sensitive-unprivileged", (json_int_t)unvirtualizable(a));
	if (a->list)
		json_object_set(all, "list", a->found);
	json_dumpf(all, stdout, JSON_INDENT(2));
	printf("\n");
	json_decref(all);
}

static int audit_file(struct audit *a, const struct boot_file *f, struct err *e)
{
	const uint8_t *data = f->data;
	struct audit_image img;
	uint8_t *unpacked;
	uint64_t size = f->size, bytes = 0;
	int rc;

	rc = audit_unpack_bzimage(&unpacked, &size, data, f->size, f->name, e);
	if (rc)
		return rc;
	if (unpacked)
		data = unpacked;
	rc = audit_image_read(&img, data, unpacked ? size : f->size, f->name, e);
	if (!rc) {
		if (a->mode != MODE_OF_FILE)
			img.code_size = a->mode;
		for (unsigned int i = 0; i < img.count; i++) {
			sweep(a, &img.part[i], img.code_size);
			bytes += img.part[i].size;
		}
		(a->json ? print_json : print_text)(a, &(struct audit_source){
			f->name, unpacked, img.is_elf, img.count, bytes });
	}
	free(unpacked);
	return rc;
}

static int set_base(void *dest, const char *value, struct err *e)
{
	char *end;

	errno = 0;
	((struct audit *)dest)->base = strtoull(value, &end, 0);
	if (errno || *end || end == value || *value == '-')
		return err_set(e, EINVAL, "'%s' is no address: write --base 0x1000", value);
	return 0;
}

static int set_mode(void *dest, const char *value, struct err *e)
{
	static const char *const names[] = { [CODE_16] = "16", [CODE_32] = "32", [CODE_64] = "64" };

	for (unsigned int i = 0; i < ARRAY_SIZE(names); i++) {
		if (!strcmp(value, names[i])) {
			((struct audit *)dest)->mode = i;
			return 0;
		}
	}
	return err_set(e, EINVAL, "'%s' is no mode; it is 16, 32 or 64", value);
}

static int set_list(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct audit *)dest)->list = true;
	return 0;
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "text") && strcmp(value, "json"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct audit *)dest)->json = !strcmp(value, "json");
	return 0;
}

static const struct option_def option_defs[] = {
	{ "format", "text|json", "text (default), or json: one object", set_format },
	{ "list", NULL, "list each sensitive or privileged instruction with its address", set_list },
	{ "mode", "BITS", "16, 32 or 64 (default: the ELF file's, else 64)", set_mode },
	{ "base", "ADDRESS", "address of a plain file's first byte; added to an ELF file's",
	  set_base },
};

static int audit_main(const struct command *c, int argc, char **argv)
{
	struct audit *a = calloc(1, sizeof(*a));
	struct boot_file f = { 0 };
	const char *path = NULL;
	struct err e = { 0 };
	int rc;

	if (!a)
		return STATUS_HOST;
	a->mode = MODE_OF_FILE;
	a->found = json_array();
	rc = options_parse(c, argc, argv, a, &path, &e);
	if (!rc)
		rc = boot_file_read(&f, path, "file", &e);
	if (!rc)
		rc = audit_file(a, &f, &e);
	boot_file_free(&f);
	json_decref(a->found);
	free(a);
	if (rc < 0)
		return command_fail(&e, STATUS_USAGE);
	return STATUS_OK;
}

const struct command command_audit = {
	.name = "audit",
	.operand = "FILE",
	.summary = "count a program's sensitive instructions",
	.about =
	"Disassembles the code in FILE (an ELF file, a bzImage, or plain bytes) and counts its\n"
	"instructions by Popek and Goldberg's classes: privileged ones trap in user mode;\n"
	"control-sensitive ones change the machine's resources, behaviour-sensitive ones depend\n"
	"on them.  What is sensitive without being privileged is what a virtual machine without\n"
	"the hardware's help must find and rewrite.\n"
	"\n"
	"Example:\n"
	"  vireo audit --list vmlinuz | less",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.exits = "0 counted, 2 wrong usage or input.",
	.run = audit_main,
};
