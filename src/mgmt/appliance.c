// SPDX-License-Identifier: Apache-2.0
/* `vireo appliance`: its subcommands and options. */
#include "mgmt/appliance_priv.h"
#include "mgmt/command.h"
#include "mgmt/image_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

static int set_max_size(void *dest, const char *value, struct err *e)
{
	return image_parse_size(&((struct appliance_args *)dest)->max_size, value, e);
}

#define EXITS	"0 done, 2 wrong usage or input, 10 interrupted, 12 the host failed."

static const struct option_def import_options[] = {
	{ "max-size", "SIZE", "refuse what would become larger, holes of disks counted (default 256G)",
	  set_max_size },
};

struct subcommand {
	struct command command;
	unsigned int min, max;
	int (*run)(const struct appliance_args *a, struct err *e);
};

static int run_subcommand(const struct command *c, int argc, char **argv)
{
	const struct subcommand *s = container_of(c, const struct subcommand, command);
	struct appliance_args a = { .max_size = APPLIANCE_SIZE_DEFAULT };
	struct err e = { 0 };
	int rc;

	rc = options_parse_between(c, argc, argv, &a, a.operands, s->min, s->max, &a.count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = s->run(&a, &e);
	if (!rc)
		return STATUS_OK;
	return command_fail(&e, rc == -EINTR ? STATUS_STOPPED :
			    rc == -ENOSPC || rc == -ENOMEM || rc == -EIO ? STATUS_HOST : STATUS_USAGE);
}

static const struct subcommand subcommands[] = {
	{ {
		.run = run_subcommand,
		.name = "appliance export", .operand = "NAME FILE",
		.about =
		"Writes the VM NAME, which must not run, into one file: vm.json and all that it names,\n"
		"with checksums, holes of disks left out, compressed by zstd.\n"
		"\n"
		"Example:\n"
		"  vireo appliance export web web.vap",
		.exits = EXITS },
	  2, 2, appliance_export },
	{ {
		.run = run_subcommand,
		.name = "appliance import", .operand = "FILE [NAME]",
		.about =
		"Makes a VM of an appliance: one of 'vireo appliance export' or an OVF or OVA of another\n"
		"product.  Nothing is there before every checksum is right, and what would reach the\n"
		"host (shared directories, ports, sockets) is left out and named.\n"
		"Of the folder of an OCI image (oci-layout) it makes a root file system: the folder\n"
		"NAME, or an ext4 image where NAME ends with .img or .ext4.\n"
		"\n"
		"Examples:\n"
		"  vireo appliance import web.vap web2\n"
		"  vireo appliance import router.ova\n"
		"  vireo appliance import debian-oci root.img",
		.exits = EXITS,
		.options = import_options, .option_count = ARRAY_SIZE(import_options) },
	  1, 2, appliance_import },
};

static const struct command *appliance_sub(unsigned int i)
{
	return i < ARRAY_SIZE(subcommands) ? &subcommands[i].command : NULL;
}

const struct command command_appliance = {
	.name = "appliance",
	.operand = "export|import ...",
	.summary = "make one file of a VM, and a VM of one, also of other products'",
	.about =
	"Machines as single files.  Each of these has --help:\n"
	"  vireo appliance export    a VM's directory as one file\n"
	"  vireo appliance import    that, an OVF or OVA, or an OCI image's root file system\n"
	"\n"
	"Examples:\n"
	"  vireo appliance export web web.vap\n"
	"  vireo appliance import web.vap web2",
	.sub = appliance_sub,
	.run = command_run_sub,
};
