// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo exec` and `vireo cp`: commands and files in a guest that vireo's own program began
 * (run_root.h).  cp is tar, here and there, or cat for a file that gets another name.
 */
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/session.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define WAIT_MS	5000

/* --- exec --- */

struct exec_options {
	const char *folder;
};

static int set_workdir(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct exec_options *)dest)->folder = value;
	return 0;
}

/* What can be said better than that nobody in the guest answers. */
static int check_runs(const char *name, struct err *e)
{
	struct err ignored = { 0 };
	json_t *told;
	FILE *vm;
	int rc;

	rc = control_connect(&vm, name, e);
	if (rc)
		return rc;
	told = control_ask(vm, "query-status", NULL, &ignored);
	fclose(vm);
	if (told && json_is_false(json_object_get(told, "running")))
		rc = err_set(e, EBUSY, "VM '%.100s' is paused: let it go on with vireo resume %.100s", name, name);
	json_decref(told);
	return rc;
}

static int run_session(const char *name, const struct session *s)
{
	struct err e = { 0 };
	const int port = session_open(name, &e);
	int status;

	if (port < 0)
		return command_fail(&e, SESSION_NOT_RUN);
	status = session_run(s, port, WAIT_MS, &e);
	close(port);
	return e.code ? command_fail(&e, status) : status;
}

static int exec_main(const struct command *c, int argc, char **argv)
{
	const char *term = getenv("TERM");
	char text[128] = "TERM=linux", *environment[] = { text, NULL };
	struct exec_options o = { .folder = "" };
	char **words = command_words_after_name(c, &argc, argv);
	struct session s = {
		.environment = environment, .in = STDIN_FILENO, .out = STDOUT_FILENO,
		.err = STDERR_FILENO,
	};
	const char *name = NULL;
	struct err e = { 0 };
	unsigned int count;
	int rc;

	if (term)
		snprintf(text, sizeof(text), "TERM=%.100s", term);
	rc = options_parse_many(c, argc, argv, &o, &name, 1, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc && (!count || !words || !words[0]))
		rc = err_set(&e, EINVAL, "'vireo exec' needs a NAME and a command: vireo exec NAME -- "
			     "COMMAND");
	if (rc)
		return command_fail(&e, SESSION_NOT_RUN);
	s.words = words;
	s.folder = o.folder;
	rc = check_runs(name, &e);
	return rc ? command_fail(&e, SESSION_NOT_RUN) : run_session(name, &s);
}

static const struct option_def exec_options[] = {
	{ "workdir", "DIR", "run it in this folder of the guest", set_workdir },
};

const struct command command_exec = {
	.name = "exec",
	.operand = "NAME",
	.rest = "[--] COMMAND [ARGUMENT...]",
	.summary = "run a command in a VM that runs",
	.about =
	"Runs a command in the guest of a VM that was booted with an image (vireo run --name NAME\n"
	"IMAGE, or --root), with its streams apart, or on a terminal if this is one.  Ends with its\n"
	"exit status; 125: it was not run, 126: not executable, 127: not found.\n"
	"\n"
	"Example:\n"
	"  vireo exec web uname -a",
	.options = exec_options,
	.option_count = ARRAY_SIZE(exec_options),
	.exits = "that of COMMAND, 128 + N after signal N, 127 it was not found, 126 it could not\n"
		 "be executed, 125 wrong usage, no such VM, or it did not come to its end.",
	.run = exec_main,
};

/* --- cp --- */

/* Starts `tar` with @words; its stdin or stdout is the other end of *fd. */
static pid_t start_tar(char *const *words, int *fd, bool reads)
{
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(p[reads ? 0 : 1], reads ? STDIN_FILENO : STDOUT_FILENO);
		execvp("tar", words);
		command_note("tar cannot be run here: %s", strerror(errno));
		_exit(127);
	}
	close(p[reads ? 0 : 1]);
	*fd = p[reads ? 1 : 0];
	return pid;
}

static int wait_tar(pid_t pid)
{
	int how = 0;

	while (pid > 0 && waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	return pid > 0 && WIFEXITED(how) && !WEXITSTATUS(how) ? 0 : -1;
}

/* Runs @script with @args in the guest. */
static int in_guest(const char *name, const char *script, const char *a, const char *b, int in,
		    int out, const char *progress)
{
	char sh[] = "sh", c[] = "-c";
	char *const words[] = { sh, c, (char *)script, sh, (char *)a, (char *)b, NULL };
	const struct session s = {
		.words = words, .folder = "", .in = in, .out = out, .err = STDERR_FILENO,
		.no_terminal = true, .progress = progress,
	};

	return run_session(name, &s);
}

/* Into a folder of the guest, or as a file of another name. */
static int copy_in(const char *from, const char *name, const char *to)
{
	static const char unpack[] = "[ -d \"$1\" ] && exec tar -xf - -C \"$1\"; exit 9";
	static const char write_file[] = "cat >\"$1\" && chmod \"$2\" \"$1\"";
	static const char is_folder[] = "[ -d \"$1\" ]";
	char parent[PATH_MAX], base[PATH_MAX], mode[16];
	char tar[] = "tar", c_flag[] = "-C", create[] = "-cf", dash[] = "-", end[] = "--";
	char *words[] = { tar, c_flag, NULL, create, dash, end, NULL, NULL };
	struct stat st;
	struct err e = { 0 };
	int fd = -1, status;
	pid_t pid;

	snprintf(parent, sizeof(parent), "%s", from);
	snprintf(base, sizeof(base), "%s", from);
	words[2] = dirname(parent);
	words[6] = basename(base);
	if (stat(from, &st)) {
		err_errno(&e, errno, "could not find '%.300s'", from);
		return command_fail(&e, STATUS_USAGE);
	}
	status = in_guest(name, is_folder, to, "", -1, -1, NULL);
	if (status > 1)
		return status;
	if (status && S_ISDIR(st.st_mode)) {
		err_set(&e, ENOTDIR, "'%.200s' is no folder in '%.100s': a folder is copied into one", to,
			name);
		return command_fail(&e, STATUS_USAGE);
	}
	if (!status) {
		pid = start_tar(words, &fd, false);
		status = in_guest(name, unpack, to, "", fd, -1, "copying");
		close(fd);
		return wait_tar(pid) && !status ? STATUS_HOST : status;
	}
	snprintf(mode, sizeof(mode), "%o", st.st_mode & 0777);
	fd = open(from, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		err_errno(&e, errno, "could not open '%.300s'", from);
		return command_fail(&e, STATUS_USAGE);
	}
	status = in_guest(name, write_file, to, mode, fd, -1, "copying");
	close(fd);
	return status;
}

/* What a guest sends is not believed: tar here keeps to the folder, and takes no owners. */
static int copy_out(const char *name, const char *from, const char *to)
{
	static const char pack[] = "cd \"$1\" && exec tar -cf - -- \"$2\"";
	static const char read_file[] = "cat <\"$1\"";
	char parent[PATH_MAX], base[PATH_MAX];
	char tar[] = "tar", c_flag[] = "-C", extract[] = "-xf", dash[] = "-", own[] = "--no-same-owner";
	char *const words[] = { tar, own, c_flag, (char *)to, extract, dash, NULL };
	struct stat st;
	struct err e = { 0 };
	int fd = -1, status;
	pid_t pid;

	snprintf(parent, sizeof(parent), "%s", from);
	snprintf(base, sizeof(base), "%s", from);
	if (!stat(to, &st) && S_ISDIR(st.st_mode)) {
		pid = start_tar(words, &fd, true);
		status = in_guest(name, pack, dirname(parent), basename(base), -1, fd, "copying");
		close(fd);
		return wait_tar(pid) && !status ? STATUS_HOST : status;
	}
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
	if (fd < 0) {
		err_errno(&e, errno, "could not make '%.300s'", to);
		return command_fail(&e, STATUS_USAGE);
	}
	status = in_guest(name, read_file, from, "", -1, fd, "copying");
	close(fd);
	return status;
}

/* "NAME:PATH": cuts it, and gives PATH; NULL: it is a path here. */
static char *guest_path(char *operand)
{
	char *colon = strchr(operand, ':');

	if (!colon || operand[0] == '/' || operand[0] == '.')
		return NULL;
	*colon = '\0';
	return colon + 1;
}

static int cp_main(const struct command *c, int argc, char **argv)
{
	const char *operands[2] = { NULL };
	struct err e = { 0 };
	unsigned int count;
	char *from, *to;
	int rc;

	rc = options_parse_many(c, argc, argv, NULL, operands, 2, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	from = count == 2 ? guest_path((char *)operands[0]) : NULL;
	to = count == 2 ? guest_path((char *)operands[1]) : NULL;
	if (!rc && !from == !to)
		rc = err_set(&e, EINVAL, "'vireo cp' needs two places, one of them in a guest: vireo cp "
			     "FILE NAME:PATH, or vireo cp NAME:PATH FILE");
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	if (check_runs(operands[from ? 0 : 1], &e))
		return command_fail(&e, SESSION_NOT_RUN);
	rc = from ? copy_out(operands[0], from, operands[1]) : copy_in(operands[0], operands[1], to);
	if (!rc)
		command_done("file", from ? operands[1] : to);
	return rc;
}

const struct command command_cp = {
	.name = "cp",
	.operand = "FROM TO",
	.summary = "copy files into or out of a VM that runs",
	.about =
	"Copies a file or a folder between here and the guest of a VM that was booted with an image,\n"
	"as NAME:PATH.  What it is copied to is a folder that is there, or a file's new name.  The\n"
	"guest needs sh, cat, and for folders tar.\n"
	"\n"
	"Examples:\n"
	"  vireo cp program web:/usr/local/bin\n"
	"  vireo cp web:/var/log/messages log",
	.exits = "0 copied, 2 wrong usage or a file that is not there, 12 the host failed, 125 nobody\n"
		 "in the guest answers, else that of cat or tar in the guest.",
	.run = cp_main,
};
