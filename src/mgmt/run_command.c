// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo run IMAGE -- COMMAND` and `vireo kernel KERNEL -- COMMAND`: the VM runs in a process of
 * its own, and this one is the command's: its streams, its signals, its exit status.  What the
 * guest's kernel says is shown only if the command was not run to its end.
 */
#include "mgmt/run_command.h"
#include "mgmt/run_priv.h"
#include "mgmt/session.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define LAST_LINES	12
#define END_MS		10000	/* for the guest to write its disks and power off */

/* In the child: never returns. */
static void __attribute__((noreturn)) run_child(struct run_options *o, int console, pid_t parent)
{
	char serial[64];
	int null;

	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != parent)
		_exit(STATUS_STOPPED);
	setpgid(0, 0);		/* the terminal's signals are for the command */
	null = open("/dev/null", O_RDWR);
	dup2(null, STDIN_FILENO);
	dup2(null, STDOUT_FILENO);
	close(null);
	snprintf(serial, sizeof(serial), "file:/proc/self/fd/%d", console);
	if (!o->serial_count)
		o->serial[o->serial_count++] = serial;
	o->no_reboot = true;
	exit(run_vm(o));
}

/* Waits for the VM's end; past its time it is killed. */
static int wait_for(pid_t pid, int ms)
{
	const int fd = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int how;

	if (fd < 0 || poll(&p, 1, ms) <= 0)
		kill(pid, SIGKILL);
	if (fd >= 0)
		close(fd);
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(how) ? WEXITSTATUS(how) : STATUS_HOST;
}

/* The last lines of the guest's console. */
static void show_console(int console)
{
	char text[8192];
	const off_t end = lseek(console, 0, SEEK_END);
	const off_t from = end > (off_t)sizeof(text) - 1 ? end - (off_t)sizeof(text) + 1 : 0;
	const ssize_t n = pread(console, text, sizeof(text) - 1, from);
	unsigned int lines = 0;
	char *at;

	if (n <= 0)
		return;
	text[n] = '\0';
	for (at = text + n - 1; at > text; at--)
		if (at[-1] == '\n' && ++lines > LAST_LINES - 1)
			break;
	command_note("the last lines of the guest's console:");
	for (char *line; (line = strsep(&at, "\n")) && (*line || at); ) {
		line[strcspn(line, "\r")] = '\0';
		if (command_json())
			command_note("%s", line);
		else
			fprintf(stderr, "%s\n", line);
	}
}

/* Why the command did not end, when the VM has. */
static int explain(const struct err *e, int vm_status, int console)
{
	const char *meaning = vm_status == STATUS_OK ? "the guest powered off" : status_meaning(vm_status);

	if (vm_status == STATUS_USAGE || vm_status == STATUS_HOST)
		return vm_status;	/* it has said itself why */
	command_fail(e, 0);
	if (e->code == -EPIPE) {
		if (meaning)
			command_note("%s", meaning);
		show_console(console);
	}
	return e->code == -EINTR ? STATUS_STOPPED : SESSION_NOT_RUN;
}

int run_command(struct run_options *o, const struct session *s)
{
	const int console = memfd_create("console", MFD_CLOEXEC);
	const pid_t self = getpid();
	struct err e = { 0 };
	int fds[2], status, vm_status;
	pid_t pid;

	if (console < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds)) {
		err_errno(&e, errno, "could not prepare for a VM");
		return command_fail(&e, STATUS_HOST);
	}
	o->session = fds[1];
	fflush(NULL);
	pid = fork();
	if (!pid) {
		close(fds[0]);
		run_child(o, console, self);
	}
	close(fds[1]);
	if (pid < 0) {
		err_errno(&e, errno, "could not start a process for the VM");
		return command_fail(&e, STATUS_HOST);
	}
	status = session_run(s, fds[0], -1, &e);
	close(fds[0]);
	if (e.code && e.code != -ENOEXEC && e.code != -EPIPE)
		kill(pid, SIGTERM);
	vm_status = wait_for(pid, END_MS);
	if (e.code == -ENOEXEC)
		command_fail(&e, status);
	else if (e.code)
		status = explain(&e, vm_status, console);
	close(console);
	return status;
}
