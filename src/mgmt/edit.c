// SPDX-License-Identifier: Apache-2.0
/* `vireo edit`: a machine's vm.json in an editor, checked before it takes the old one's place. */
#include "mgmt/command.h"
#include "mgmt/machine.h"
#include "mgmt/status.h"
#include "mgmt/vm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DRAFT	MACHINE_CONFIG ".edit"

/* The whole file, malloc'ed and ended by a zero; NULL: @e says why. */
static char *read_text(const struct machine *m, const char *name, struct err *e)
{
	const int fd = openat(m->dir, name, O_RDONLY | O_CLOEXEC);
	char *text = malloc(VM_CONFIG_SIZE_MAX + 1);
	ssize_t n = fd < 0 || !text ? -1 : read(fd, text, VM_CONFIG_SIZE_MAX);

	if (n < 0) {
		err_errno(e, errno, "could not read '%.300s/%s'", m->path, name);
		free(text);
		text = NULL;
	} else {
		text[n] = '\0';
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static int write_draft(const struct machine *m, const char *text, struct err *e)
{
	const size_t len = strlen(text);
	const int fd = openat(m->dir, DRAFT, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	int rc = 0;

	if (fd < 0 || write(fd, text, len) != (ssize_t)len)
		rc = err_errno(e, errno, "could not write '%.300s/%s'", m->path, DRAFT);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* $VISUAL and $EDITOR may be commands with arguments. */
static int run_editor(const struct machine *m, struct err *e)
{
	const char *editor = getenv("VISUAL");
	char command[1024], path[PATH_MAX + 32];
	pid_t pid;
	int how;

	if (!editor || !editor[0])
		editor = getenv("EDITOR");
	if (!editor || !editor[0])
		editor = "vi";
	snprintf(command, sizeof(command), "%.1000s \"$1\"", editor);
	snprintf(path, sizeof(path), "%s/%s", m->path, DRAFT);
	pid = fork();
	if (pid < 0)
		return err_errno(e, errno, "could not start the editor");
	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, "sh", path, NULL);
		_exit(127);
	}
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	if (!WIFEXITED(how) || WEXITSTATUS(how))
		return err_set(e, ECANCELED, "the editor '%.200s' failed: '%s' is as it was", editor,
			       m->name);
	return 0;
}

static bool again(const struct err *why)
{
	char answer[16];

	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO))
		return false;
	fprintf(stderr, "vireo: %s\nEdit again? [Y/n] ", why->text);
	return fgets(answer, sizeof(answer), stdin) && !strchr("nN", answer[0]);
}

/* The draft, edited until it is right or given up. */
static int edit_draft(const struct machine *m, char **text, struct err *e)
{
	struct vm_config_file c;
	char what[128];
	int rc;

	snprintf(what, sizeof(what), "%s/%s", m->name, MACHINE_CONFIG);
	do {
		rc = run_editor(m, e);
		if (rc)
			return rc;
		free(*text);
		*text = read_text(m, DRAFT, e);
		if (!*text)
			return e->code;
		rc = vm_config_parse(&c, *text, strlen(*text), what, e);
		vm_config_free(&c);
	} while (rc && again(e));
	return rc ? err_prefix(e, "'%s' is as it was", m->name) : 0;
}

static int edit(const struct machine *m, struct err *e)
{
	char *before = read_text(m, MACHINE_CONFIG, e);
	char *text = before ? strdup(before) : NULL;
	int rc;

	if (!text) {
		free(before);
		return e->code ? e->code : err_set(e, ENOMEM, "out of memory");
	}
	rc = write_draft(m, before, e);
	if (!rc)
		rc = edit_draft(m, &text, e);
	if (!rc && strcmp(before, text) &&
	    renameat(m->dir, DRAFT, m->dir, MACHINE_CONFIG))
		rc = err_errno(e, errno, "could not replace '%.300s/%s'", m->path, MACHINE_CONFIG);
	else if (!rc && !strcmp(before, text))
		command_note("nothing was changed");
	else if (!rc && machine_state(m) == MACHINE_RUNNING)
		command_note("'%s' runs: it will be so when it is started next", m->name);
	unlinkat(m->dir, DRAFT, 0);
	free(before);
	free(text);
	return rc;
}

static int edit_main(const struct command *c, int argc, char **argv)
{
	const char *name = NULL;
	struct machine m;
	struct err e = { 0 };
	int rc;

	rc = options_parse(c, argc, argv, NULL, &name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc || machine_open(&m, name, &e))
		return command_fail(&e, STATUS_USAGE);
	rc = edit(&m, &e);
	machine_close(&m);
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	command_done("name", name);
	return STATUS_OK;
}

const struct command command_edit = {
	.name = "edit",
	.operand = "NAME",
	.summary = "change what a VM is made of, in an editor",
	.about =
	"Opens a VM's vm.json in $VISUAL, $EDITOR or vi.  What is not right is named with its key and\n"
	"line, and does not take the old one's place.  A VM that runs stays as it is until it is\n"
	"started again.\n"
	"\n"
	"Example:\n"
	"  vireo edit web",
	.run = edit_main,
};
