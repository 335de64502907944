// SPDX-License-Identifier: Apache-2.0
/* The vireo command: finds the subcommand. */
#include "mgmt/command.h"
#include "mgmt/qemu.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

static void print_help(FILE *out)
{
	fprintf(out, "vireo runs x86-64 virtual machines, with or without help from the hardware.\n"
		"\n"
		"usage: vireo COMMAND [options]\n"
		"\n"
		"Commands (each has --help, with an example):\n");
	for (size_t i = 0; i < command_count; i++)
		if (!all_commands[i]->hidden)
			fprintf(out, "  %-10s %s\n", all_commands[i]->name, all_commands[i]->summary);
	fprintf(out, "  help       show this, or with a command's name its help\n"
		"\n"
		"Example:\n"
		"  vireo run --kernel vmlinuz --initrd initramfs.cpio "
		"--cmdline console=ttyS0\n"
		"\n"
		"Exit status:\n");
	status_print_table(out);
}

static const struct command *find_command(const char *name, struct err *e)
{
	const char *names[COMMAND_NAMES_MAX];
	const char *near;

	for (size_t i = 0; i < command_count; i++) {
		names[i] = all_commands[i]->hidden ? "" : all_commands[i]->name;
		if (!strcmp(name, all_commands[i]->name))
			return all_commands[i];
	}
	names[command_count] = "help";
	near = nearest_word(name, names, command_count + 1);
	if (near)
		err_set(e, EINVAL, "there is no command '%s'; did you mean '%s'?", name, near);
	else
		err_set(e, EINVAL, "there is no command '%s'; 'vireo help' lists them", name);
	return NULL;
}

static int help(int argc, char **argv)
{
	const struct command *c;
	struct err e;

	if (argc < 2) {
		print_help(stdout);
		return STATUS_OK;
	}
	c = find_command(argv[1], &e);
	if (!c)
		return command_fail(&e, STATUS_USAGE);
	command_print_help(c, stdout);
	return STATUS_OK;
}

int main(int argc, char **argv)
{
	const struct command *c;
	struct err e;

	if (argc && qemu_is_name(argv[0]))
		return qemu_main(argc, argv);
	if (argc < 2) {
		print_help(stderr);
		return STATUS_USAGE;
	}
	if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
		return help(argc - 1, argv + 1);
	if (!strcmp(argv[1], "--version")) {
		printf("vireo " VIREO_VERSION "\n");
		return STATUS_OK;
	}
	if (!strcmp(argv[1], "qemu"))
		return qemu_main(argc - 1, argv + 1);
	c = find_command(argv[1], &e);
	if (!c)
		return command_fail(&e, STATUS_USAGE);
	if (c->hidden)		/* what it says is for logs */
		command_format_note("format", "text");
	return c->run(c, argc - 1, argv + 1);
}
