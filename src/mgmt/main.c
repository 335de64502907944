// SPDX-License-Identifier: Apache-2.0
/* The vireo command: finds the subcommand. */
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <string.h>

static const struct command *const commands[] = {
	&command_run, &command_kernel, &command_create, &command_start, &command_stop, &command_kill,
	&command_pause, &command_resume, &command_reset, &command_exec, &command_cp, &command_console, &command_ls,
	&command_ps, &command_inspect, &command_logs, &command_edit, &command_rm,
	&command_stats, &command_set, &command_trace, &command_image, &command_switch,
	&command_spool, &command_doctor, &command_audit, &command_net_user, &command_machine,
	&command_errand,
};

static void print_help(FILE *out)
{
	fprintf(out, "vireo runs x86-64 virtual machines, with or without help from the hardware.\n"
		"\n"
		"usage: vireo COMMAND [options]\n"
		"\n"
		"Commands (each has --help, with an example):\n");
	for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
		if (!commands[i]->hidden)
			fprintf(out, "  %-8s %s\n", commands[i]->name, commands[i]->summary);
	fprintf(out, "  help     show this, or with a command's name its help\n"
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
	const char *names[ARRAY_SIZE(commands) + 1];
	const char *near;

	for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
		names[i] = commands[i]->hidden ? "" : commands[i]->name;
		if (!strcmp(name, commands[i]->name))
			return commands[i];
	}
	names[ARRAY_SIZE(commands)] = "help";
	near = nearest_word(name, names, ARRAY_SIZE(names));
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
	c = find_command(argv[1], &e);
	if (!c)
		return command_fail(&e, STATUS_USAGE);
	return c->run(c, argc - 1, argv + 1);
}
