// SPDX-License-Identifier: Apache-2.0
/*
 * Running a machine that is kept; see machine_run.h.  `vireo machine DIR`, which nobody types,
 * is the process that `vireo start` leaves behind.
 */
#include "mgmt/machine_run.h"
#include "backend/spawn.h"
#include "mgmt/command.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"
#include "mgmt/vm_config.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct running {
	const struct machine *m;
	FILE *ready;
	int end;			/* MACHINE_END, or -1 */
};

/* --- what is left in the directory --- */

/*
 * How the run ended, for those who come later: in a file that is open, whatever the sandbox lets
 * the process do by now.
 */
static void note_end(const struct running *r, int status, const char *how)
{
	const time_t now = time(NULL);
	char when[32] = "";
	struct tm tm;
	json_t *end;
	char *text;

	if (gmtime_r(&now, &tm))
		strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	end = json_pack("{s:i,s:s,s:s}", "status", status, "how", how, "time", when);
	text = json_dumps(end, JSON_COMPACT);
	if (text && r->end >= 0)
		dprintf(r->end, "%s\n", text);
	free(text);
	json_decref(end);
}

/* The log of the run before is kept beside that of this one, whose end is not known yet. */
static void begin_files(struct running *r)
{
	const int dir = r->m->dir;

	renameat(dir, MACHINE_SERIAL_LOG, dir, MACHINE_SERIAL_LOG ".1");
	r->end = openat(dir, MACHINE_END, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* --- in the process that runs it --- */

static void runs(void *arg)
{
	struct running *r = arg;

	if (!r->ready)
		return;
	fputs(MACHINE_RUNS, r->ready);
	fclose(r->ready);
	r->ready = NULL;
}

static void fails(void *arg, const struct err *e)
{
	struct running *r = arg;

	note_end(r, STATUS_HOST, e->text);
	if (!r->ready)
		return;
	fputs(e->text, r->ready);
	fclose(r->ready);
	r->ready = NULL;
}

static void ended(void *arg, int status, const char *how)
{
	note_end(arg, status, how);
}

static int run_locked(struct running *r)
{
	const struct run_events events = { .runs = runs, .fails = fails, .ended = ended, .arg = r };
	struct vm_config_file c;
	struct err e = { 0 };
	char what[128];
	int status;

	begin_files(r);
	snprintf(what, sizeof(what), "%s/" MACHINE_CONFIG, r->m->name);
	if (fchdir(r->m->dir))
		err_errno(&e, errno, "could not go to '%.300s'", r->m->path);
	else
		vm_config_read(&c, r->m->dir, what, &e);
	if (e.code) {
		fails(r, &e);
		status = command_fail(&e, STATUS_USAGE);
	} else {
		c.options.name = r->m->name;
		c.options.kept = true;
		c.options.events = &events;
		status = run_vm(&c.options);
	}
	vm_config_free(&c);
	if (r->end >= 0)
		close(r->end);
	return status;
}

int machine_run(const struct machine *m, FILE *ready)
{
	struct running r = { .m = m, .ready = ready };
	struct err e = { 0 };
	int lock, log, status;

	lock = machine_lock(m, &e);
	if (lock < 0) {
		if (!ready)
			return command_fail(&e, STATUS_USAGE);
		fputs(e.text, ready);
		fclose(ready);
		return STATUS_USAGE;
	}
	if (ready) {	/* nobody will look at where stderr goes */
		log = openat(m->dir, MACHINE_LOG, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC |
			     O_NOFOLLOW, 0600);
		if (log >= 0) {
			dup2(log, STDERR_FILENO);
			close(log);
		}
	}
	status = run_locked(&r);
	close(lock);
	return status;
}

static int machine_main(const struct command *c, int argc, char **argv)
{
	const char *dir = NULL;
	struct machine m;
	struct err e = { 0 };
	FILE *ready;
	int status;

	if (options_parse(c, argc, argv, NULL, &dir, &e) || machine_open(&m, dir, &e))
		return command_fail(&e, STATUS_USAGE);
	prctl(PR_SET_NAME, "vireo");	/* started by another name, that of its file in /proc */
	fcntl(SPAWN_FD, F_SETFD, FD_CLOEXEC);
	ready = fdopen(SPAWN_FD, "w");
	if (!ready) {
		err_errno(&e, errno, "'vireo machine' is started by 'vireo start'");
		machine_close(&m);
		return command_fail(&e, STATUS_USAGE);
	}
	status = machine_run(&m, ready);
	machine_close(&m);
	return status;
}

const struct command command_machine = {
	.name = "machine",
	.operand = "DIRECTORY",
	.hidden = true,
	.summary = "run a machine in the background",
	.about = "Started by 'vireo start'.",
	.run = machine_main,
};

/* --- starting that process --- */

/* What it has to say, to the end. */
static void listen_to(int fd, char *said, size_t size)
{
	size_t n = 0;
	ssize_t got;

	while (n < size - 1 && ((got = read(fd, said + n, size - 1 - n)) > 0 ||
				(got < 0 && errno == EINTR)))
		n += MAX(got, (ssize_t)0);
	said[n] = '\0';
}

static int judge(const struct machine *m, pid_t pid, const char *said, int *status, struct err *e)
{
	int how = 0;

	if (!strcmp(said, MACHINE_RUNS))
		return 0;
	while (waitpid(pid, &how, 0) < 0 && errno == EINTR)
		;
	*status = WIFEXITED(how) && WEXITSTATUS(how) ? WEXITSTATUS(how) : STATUS_HOST;
	if (said[0])
		return err_set(e, EIO, "%s", said);
	if (WIFSIGNALED(how))
		return err_set(e, EIO, "VM '%s' was ended by a signal (%s) while it started; "
			       "'vireo logs --vmm %s' may say more", m->name, strsignal(WTERMSIG(how)),
			       m->name);
	return err_set(e, EIO, "VM '%s' ended while it started; 'vireo logs --vmm %s' may say more",
		       m->name, m->name);
}

int machine_start(const struct machine *m, int *status, struct err *e)
{
	char program[] = "vireo", command[] = "machine", path[PATH_MAX];
	char *const argv[] = { program, command, path, NULL };
	char said[sizeof(e->text)];
	int fds[2];
	pid_t pid;

	*status = STATUS_HOST;
	strcpy(path, m->path);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return err_errno(e, errno, "could not make a pair of sockets");
	pid = spawn(NULL, argv, fds[1], 1, e);
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return pid;
	}
	listen_to(fds[0], said, sizeof(said));
	close(fds[0]);
	return judge(m, pid, said, status, e);
}
