// SPDX-License-Identifier: Apache-2.0
/* `vireo image`: its subcommands, their options and their help. */
#include "backend/block.h"
#include "mgmt/image_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

/* --- values --- */

int image_parse_size(uint64_t *bytes, const char *text, struct err *e)
{
	const char *end;

	if (!block_parse_size(text, bytes, &end) || *end || !*bytes || *bytes % 512)
		return err_set(e, EINVAL, "'%s' is no size of a disk: write 512M or 10G, or a number "
			       "of bytes that is a multiple of 512", text);
	return 0;
}

static int parse_type(const char **out, const char *option, const char *value, struct err *e)
{
	if (strcmp(value, "raw") && strcmp(value, "qcow2"))
		return err_set(e, EINVAL, "'%s' is no value for --%s; it takes one of raw, qcow2", value,
			       option);
	*out = value;
	return 0;
}

static int set_type(void *dest, const char *value, struct err *e)
{
	return parse_type(&((struct image_args *)dest)->type, "type", value, e);
}

static int set_source(void *dest, const char *value, struct err *e)
{
	return parse_type(&((struct image_args *)dest)->source, "source", value, e);
}

static int set_backing_type(void *dest, const char *value, struct err *e)
{
	return parse_type(&((struct image_args *)dest)->backing_type, "backing-type", value, e);
}

static int set_format(void *dest, const char *value, struct err *e)
{
	if (strcmp(value, "json") && strcmp(value, "text"))
		return err_set(e, EINVAL, "'%s' is no value for --format; it takes one of text, json",
			       value);
	((struct image_args *)dest)->json = !strcmp(value, "json");
	return 0;
}

static int set_cluster(void *dest, const char *value, struct err *e)
{
	uint64_t n = 0;
	const char *end;

	if (!block_parse_size(value, &n, &end) || *end || n < 512 || n > 2 << 20 || n & (n - 1))
		return err_set(e, EINVAL, "'%s' is no cluster size: a power of two from 512 to 2M",
			       value);
	((struct image_args *)dest)->cluster = n;
	return 0;
}

static int set_size(void *dest, const char *value, struct err *e)
{
	return image_parse_size(&((struct image_args *)dest)->size, value, e);
}

#define SET_TEXT(field) \
static int set_##field(void *dest, const char *value, struct err *e) \
{ \
	(void)e; \
	((struct image_args *)dest)->field = value; \
	return 0; \
}

#define SET_FLAG(field) \
static int set_##field(void *dest, const char *value, struct err *e) \
{ \
	(void)value; \
	(void)e; \
	((struct image_args *)dest)->field = true; \
	return 0; \
}

SET_TEXT(backing)
SET_TEXT(name)
SET_TEXT(password)
SET_TEXT(ssh_key)
SET_TEXT(mirror)
SET_TEXT(packages)
SET_FLAG(force)
SET_FLAG(repair)
SET_FLAG(shrink)

/* --- subcommands --- */

#define OPTION_TYPE	{ "type", "TYPE", "qcow2 (default) or raw; a name that ends in .raw or .img " \
			  "is\nraw unless this says otherwise", set_type }
#define OPTION_FORCE	{ "force", NULL, "replace a file that exists", set_force }
#define OPTION_FORMAT	{ "format", "text|json", "how to print the answer", set_format }
#define OPTION_SOURCE	{ "source", "TYPE", "the type of IMAGE, raw or qcow2, instead of what it " \
			  "looks like", set_source }
#define OPTION_CLUSTER	{ "cluster-size", "SIZE", "of qcow2: 512 to 2M (default 64K)", set_cluster }

static const struct option_def create_options[] = {
	OPTION_TYPE,
	OPTION_CLUSTER,
	{ "backing", "IMAGE", "qcow2: what was not written is read from there; a relative name is\n"
	  "meant from the new image's folder", set_backing },
	{ "backing-type", "TYPE", "of the backing image: raw or qcow2", set_backing_type },
	OPTION_FORCE,
	{ "size", "SIZE", "debian12: of the disk (default 8G; it takes what is in it)", set_size },
	{ "name", "NAME", "debian12: of the host (default debian)", set_name },
	{ "password", "TEXT", "debian12: root's; without it the console asks for none, and ssh\n"
	  "takes keys only", set_password },
	{ "ssh-key", "FILE", "debian12: public keys that may log in as root", set_ssh_key },
	{ "mirror", "ADDRESS", "debian12: where packages come from (default: where this host's apt\n"
	  "gets them)", set_mirror },
	{ "packages", "LIST", "debian12: more packages, with commas between", set_packages },
};

static const struct option_def info_options[] = { OPTION_FORMAT, OPTION_SOURCE };

static const struct option_def check_options[] = {
	OPTION_FORMAT,
	{ "repair", NULL, "correct wrong refcounts and leaks", set_repair },
};

static const struct option_def convert_options[] = {
	OPTION_TYPE, OPTION_SOURCE, OPTION_CLUSTER, OPTION_FORCE,
};

static const struct option_def resize_options[] = {
	OPTION_SOURCE,
	{ "shrink", NULL, "allow a smaller size: what is behind it is lost", set_shrink },
};

struct subcommand {
	struct command command;
	unsigned int min, max;
	int (*run)(const struct image_args *a);
};

static int run_subcommand(const struct command *c, int argc, char **argv)
{
	const struct subcommand *s = container_of(c, const struct subcommand, command);
	struct image_args a = { 0 };
	struct err e = { 0 };
	const int rc = options_parse_between(c, argc, argv, &a, a.operands, s->min, s->max,
					     &a.count, &e);

	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	return rc ? command_fail(&e, STATUS_USAGE) : s->run(&a);
}

static const struct subcommand subcommands[] = {
	{ {
		.run = run_subcommand,
		.name = "image create", .operand = "[debian12] IMAGE [SIZE]",
		.about =
		"Makes an empty image of SIZE bytes; with --backing SIZE may be left out.\n"
		"\n"
		"With 'debian12', makes a disk with a whole Debian 12 system on it: systemd, ssh,\n"
		"DHCP on every network card, a login on the console.  The packages come through the\n"
		"mirror that this host's apt uses.  Root is not needed; mmdebstrap, e2fsprogs and,\n"
		"without root, fakeroot are.  Beside IMAGE are left IMAGE.kernel, IMAGE.initrd and\n"
		"IMAGE.cmdline, which boot it.\n"
		"\n"
		"Examples:\n"
		"  vireo image create disk.qcow2 10G\n"
		"  vireo image create --backing debian.qcow2 --backing-type qcow2 clone.qcow2\n"
		"  vireo image create debian12 debian.qcow2 --ssh-key ~/.ssh/id_ed25519.pub",
		.options = create_options, .option_count = ARRAY_SIZE(create_options) },
	  1, 3, image_create },
	{ {
		.run = run_subcommand,
		.name = "image info", .operand = "IMAGE",
		.about =
		"Says what an image is; it may be in use.\n"
		"\n"
		"Example:\n"
		"  vireo image info --format json disk.qcow2",
		.options = info_options, .option_count = ARRAY_SIZE(info_options) },
	  1, 1, image_info },
	{ {
		.run = run_subcommand,
		.name = "image check", .operand = "IMAGE",
		.about =
		"Compares a qcow2 image's refcounts with what its tables refer to.  Status 0 without\n"
		"errors (leaks only waste room), 2 with errors.\n"
		"\n"
		"Example:\n"
		"  vireo image check --repair disk.qcow2",
		.exits = "0 no errors, 2 errors, or wrong usage, 12 the host failed.",
		.options = check_options, .option_count = ARRAY_SIZE(check_options) },
	  1, 1, image_check },
	{ {
		.run = run_subcommand,
		.name = "image convert", .operand = "IMAGE NEW",
		.about =
		"Copies an image, with all that its backing images show, to a new one; what is zero\n"
		"takes no room there.\n"
		"\n"
		"Example:\n"
		"  vireo image convert disk.qcow2 disk.raw",
		.exits = "0 copied, 2 wrong usage or input, 10 interrupted, 12 the host failed.",
		.options = convert_options, .option_count = ARRAY_SIZE(convert_options) },
	  2, 2, image_convert },
	{ {
		.run = run_subcommand,
		.name = "image resize", .operand = "IMAGE [+]SIZE",
		.about =
		"Gives an image another size, or one that is larger by +SIZE.\n"
		"\n"
		"Example:\n"
		"  vireo image resize disk.qcow2 +5G",
		.options = resize_options, .option_count = ARRAY_SIZE(resize_options) },
	  2, 2, image_resize_to },
	{ {
		.run = run_subcommand,
		.name = "image commit", .operand = "IMAGE",
		.about =
		"Writes what is in a qcow2 image into its backing image, which then shows the same.\n"
		"\n"
		"Example:\n"
		"  vireo image commit clone.qcow2" },
	  1, 1, image_commit },
};

static const struct command *image_sub(unsigned int i)
{
	return i < ARRAY_SIZE(subcommands) ? &subcommands[i].command : NULL;
}

const struct command command_image = {
	.name = "image",
	.operand = "create|info|check|convert|resize|commit ...",
	.summary = "make, look at and change disk images, or make a whole Debian 12 disk",
	.about =
	"Disk images, raw and qcow2.  Each of these has --help:\n"
	"  vireo image create    an empty image, an overlay, or a disk with Debian 12 on it\n"
	"  vireo image info      what an image is\n"
	"  vireo image check     is its metadata right; repair\n"
	"  vireo image convert   to the other type, or a chain of images into one\n"
	"  vireo image resize    larger or smaller\n"
	"  vireo image commit    an overlay's contents into its backing image\n"
	"\n"
	"Examples:\n"
	"  vireo image create disk.qcow2 10G\n"
	"  vireo image create debian12 debian.qcow2\n"
	"  vireo image convert disk.qcow2 disk.raw",
	.sub = image_sub,
	.run = command_run_sub,
};
