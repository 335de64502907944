// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo kernel`: a command, or a shell, under a kernel that was just built, with this host's
 * files: they are shared over 9p and only read; what the guest changes stays in its memory.
 */
#include "mgmt/command.h"
#include "mgmt/run_command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a command expects to find as it is here. */
static void fill_environment(char *environment[], char texts[][1024], unsigned int max)
{
	static const char *const names[] = { "PATH", "HOME", "TERM", "LANG", "LC_ALL", "SHELL" };
	unsigned int n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(names) && n < max - 1; i++) {
		const char *value = getenv(names[i]);

		if (!value || snprintf(texts[n], 1024, "%s=%s", names[i], value) >= 1024)
			continue;
		environment[n] = texts[n];
		n++;
	}
	environment[n] = NULL;
}

static int kernel_main(const struct command *c, int argc, char **argv)
{
	static char shell[] = "/bin/sh";
	char *const default_words[] = { shell, NULL }, *environment[16], texts[16][1024];
	char **words = command_words(&argc, argv), folder[PATH_MAX];
	struct session s = { .in = STDIN_FILENO, .out = STDOUT_FILENO, .err = STDERR_FILENO };
	struct run_options o;
	const char *kernel = NULL;
	struct err e = { 0 };
	int rc;

	run_options_init(&o);
	o.log_level = LOG_WARN;
	o.root = "/";
	o.overlay = true;
	rc = options_parse(c, argc, argv, &o, &kernel, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && strcmp(o.root, "/"))
		rc = err_set(&e, EINVAL, "vireo kernel has this host's root: for another use vireo run "
			     "IMAGE --kernel %.200s", kernel);
	if (!rc && (o.kernel || !getcwd(folder, sizeof(folder))))
		rc = err_set(&e, EINVAL, o.kernel ? "the kernel is named twice" :
			     "the current folder is not there any more");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	o.kernel = kernel;
	fill_environment(environment, texts, ARRAY_SIZE(environment));
	s.words = words && words[0] ? words : default_words;
	s.environment = environment;
	s.folder = folder;
	return run_command(&o, &s);
}

const struct command command_kernel = {
	.name = "kernel",
	.operand = "KERNEL",
	.rest = "[-- COMMAND...]",
	.summary = "run a command under a kernel, with this host's files",
	.about =
	"Boots KERNEL, as a build leaves it in arch/x86/boot/bzImage, in a VM whose root is this\n"
	"host's, shared over 9p and only read: what the guest changes stays in its memory (with\n"
	"CONFIG_OVERLAY_FS).  Runs COMMAND in the current folder, or a shell, and ends with its exit\n"
	"status.  The kernel needs 9P_FS, NET_9P_VIRTIO, VIRTIO_PCI and VIRTIO_CONSOLE, built in or as\n"
	"modules: of the tree that it was built in, beside it, or in /lib/modules.\n"
	"\n"
	"Example:\n"
	"  vireo kernel arch/x86/boot/bzImage -- sh -c 'uname -r; dmesg | tail'",
	.more = &command_run,
	.exits = "that of COMMAND, 128 + N after signal N, 127 it was not found, 126 it could not\n"
		 "be executed, 125 it did not come to its end; 2 wrong usage, 12 the host failed.",
	.run = kernel_main,
};
