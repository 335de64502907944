// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo stop`, `kill`, `pause`, `resume`, `reset`, `rm`: what is done to VMs by name.  All but rm
 * are for VMs that run with --name, too.
 */
#include "mgmt/command.h"
#include "mgmt/control_client.h"
#include "mgmt/machine.h"
#include "mgmt/status.h"

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STOP_S		60
#define PRESS_MS	5000ULL	/* between presses of the power button */
#define QUIT_MS		3000	/* for a process that answers to put its disks away */
#define KILL_MS		5000

struct life_options {
	unsigned int timeout;		/* seconds */
	bool force;
};

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000ULL + t.tv_nsec / 1000000;
}

/* Until the process at the other end of @vm has gone; false: it has not, in @ms. */
static bool wait_gone(FILE *vm, pid_t pid, uint64_t ms)
{
	const uint64_t end = now_ms() + ms;
	const int fd = syscall(SYS_pidfd_open, pid, 0);
	uint64_t now;
	bool gone = fd < 0 && errno == ESRCH;
	char text[256];

	while (!gone && (now = now_ms()) < end) {
		/* The process itself where that can be watched, else its socket. */
		struct pollfd p = { .fd = fd >= 0 ? fd : fileno(vm), .events = POLLIN };

		if (poll(&p, 1, end - now) > 0)
			gone = fd >= 0 || read(fileno(vm), text, sizeof(text)) <= 0;
	}
	if (fd >= 0)
		close(fd);
	return gone;
}

/* Sends @signo to the process that was at the other end of @vm when it connected. */
static int signal_process(FILE *vm, pid_t pid, int signo, struct err *e)
{
	const int fd = syscall(SYS_pidfd_open, pid, 0);
	int rc;

	/* The socket is still open, so the process lives and the number is still its own. */
	if (pid != control_pid(vm))
		rc = -1;
	else if (fd >= 0)
		rc = syscall(SYS_pidfd_send_signal, fd, signo, NULL, 0);
	else
		rc = errno == ESRCH ? 0 : kill(pid, signo);
	rc = rc && errno != ESRCH ? err_errno(e, errno, "could not signal process %d", (int)pid) : 0;
	if (fd >= 0)
		close(fd);
	return rc;
}

/* --- the commands, for one VM; 0 or an exit status with @e --- */

/*
 * The button is pressed now and then, since a guest that is still booting may not have heard it.
 * 1: it has gone; 0: not in time; else -errno.
 */
static int press_until_gone(FILE *vm, pid_t pid, unsigned int seconds, struct err *e)
{
	const uint64_t end = now_ms() + seconds * 1000ULL;
	struct err why = { 0 };
	uint64_t now;

	do {
		json_t *answer = control_ask(vm, "system_powerdown", NULL, &why);

		json_decref(answer);
		now = now_ms();
		if (!answer && why.code != -EPIPE) {
			*e = why;
			return why.code;
		}
		if (wait_gone(vm, pid, MIN(end - MIN(now, end), PRESS_MS)))
			return 1;
		now = now_ms();
	} while (now < end && !why.code);
	return 0;
}

static bool is_paused(FILE *vm)
{
	struct err ignored = { 0 };
	json_t *answer = control_ask(vm, "query-status", NULL, &ignored);
	const char *status = json_string_value(json_object_get(answer, "status"));
	const bool paused = status && !strcmp(status, "paused");

	json_decref(answer);
	return paused;
}

static int stop(const char *name, const struct life_options *o, struct err *e)
{
	FILE *vm;
	int rc;

	if (control_connect(&vm, name, e))
		return STATUS_USAGE;
	if (is_paused(vm)) {
		fclose(vm);
		err_set(e, EINVAL, "'%.100s' is paused, so its guest cannot power off: 'vireo resume %.100s' "
			"first, or 'vireo kill %.100s' ends it at once", name, name, name);
		return STATUS_USAGE;
	}
	rc = press_until_gone(vm, control_pid(vm), o->timeout, e);
	fclose(vm);
	if (rc < 0)
		return STATUS_HOST;
	if (rc)
		return 0;
	err_set(e, ETIMEDOUT, "the guest of '%.100s' was asked to power off and has not in %u s: it may "
		"be slow (wait and look with 'vireo ls') or without ACPI ('vireo kill %.100s' ends it at "
		"once)", name, o->timeout, name);
	return STATUS_TIMEOUT;
}

/* One that answers ends itself; whatever does not is ended by the kernel. */
static int kill_one(const char *name, const struct life_options *o, struct err *e)
{
	struct err ignored = { 0 };
	json_t *answer;
	FILE *vm;
	pid_t pid;
	int rc = 0;

	(void)o;
	if (control_connect(&vm, name, e))
		return STATUS_USAGE;
	pid = control_pid(vm);
	answer = control_ask(vm, "quit", NULL, &ignored);
	json_decref(answer);
	if (!answer || !wait_gone(vm, pid, QUIT_MS)) {
		rc = signal_process(vm, pid, SIGKILL, e);
		if (!rc && !wait_gone(vm, pid, KILL_MS))
			rc = err_set(e, ETIMEDOUT, "process %d of '%.100s' was killed and does not go: "
				     "the host's kernel holds it", (int)pid, name);
	}
	fclose(vm);
	return rc ? STATUS_HOST : 0;
}

static int tell(const char *name, const char *command, struct err *e)
{
	const int rc = control_tell(name, command, e);

	return rc == -EPIPE || rc == -ETIMEDOUT ? STATUS_HOST : rc ? STATUS_USAGE : 0;
}

static int pause_one(const char *name, const struct life_options *o, struct err *e)
{
	(void)o;
	return tell(name, "stop", e);
}

static int resume(const char *name, const struct life_options *o, struct err *e)
{
	(void)o;
	return tell(name, "cont", e);
}

static int reset(const char *name, const struct life_options *o, struct err *e)
{
	(void)o;
	return tell(name, "system_reset", e);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *at)
{
	(void)st;
	(void)kind;
	(void)at;
	return remove(path) ? -1 : 0;
}

/* vm.json goes first, so that what is left after an interruption is no VM any more. */
static int rm(const char *name, const struct life_options *o, struct err *e)
{
	struct machine m;
	int lock;

	if (machine_open(&m, name, e))
		return STATUS_USAGE;
	lock = machine_lock(&m, e);
	if (lock < 0 && o->force) {
		struct err why = { 0 };

		kill_one(name, o, &why);
		*e = (struct err){ 0 };
		lock = machine_lock(&m, e);
	}
	if (lock < 0) {
		err_prefix(e, "'%s' was not removed (vireo stop %s, or rm --force)", m.name, m.name);
	} else {
		if (unlinkat(m.dir, MACHINE_CONFIG, 0) ||
		    nftw(m.path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT))
			err_errno(e, errno, "could not remove all of '%.300s'", m.path);
		close(lock);
	}
	machine_close(&m);
	return !e->code ? 0 : lock < 0 ? STATUS_USAGE : STATUS_HOST;
}

/* --- the command line --- */

static int life_main(const struct command *c, int argc, char **argv,
		     int (*act)(const char *name, const struct life_options *o, struct err *e))
{
	struct life_options o = { .timeout = STOP_S };
	const char *names[COMMAND_NAMES_MAX];
	struct err e = { 0 };
	unsigned int count;
	int status = STATUS_OK;
	int rc;

	rc = options_parse_names(c, argc, argv, &o, names, &count, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	for (unsigned int i = 0; i < count; i++) {
		e = (struct err){ 0 };
		rc = act(names[i], &o, &e);
		if (rc)
			command_fail(&e, rc);
		else
			command_done("name", names[i]);
		status = status ? status : rc;
	}
	return status;
}

static int set_timeout(void *dest, const char *value, struct err *e)
{
	char *end;
	const unsigned long n = strtoul(value, &end, 10);

	if (*value < '0' || *value > '9' || *end || n > 86400)
		return err_set(e, EINVAL, "'%s' is no value for --timeout: give seconds, 0 to 86400",
			       value);
	((struct life_options *)dest)->timeout = n;
	return 0;
}

static int set_force(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct life_options *)dest)->force = true;
	return 0;
}

static const struct option_def stop_options[] = {
	{ "timeout", "SECONDS", "how long to wait for the guest (default 60)", set_timeout },
};

static const struct option_def rm_options[] = {
	{ "force", NULL, "end it first if it runs", set_force },
};

#define LIFE_COMMAND(id, act) \
static int id##_main(const struct command *c, int argc, char **argv) \
{ \
	return life_main(c, argc, argv, act); \
}

LIFE_COMMAND(stop, stop)
LIFE_COMMAND(kill, kill_one)
LIFE_COMMAND(pause, pause_one)
LIFE_COMMAND(resume, resume)
LIFE_COMMAND(reset, reset)
LIFE_COMMAND(rm, rm)

const struct command command_stop = {
	.name = "stop", .operand = "NAME...",
	.summary = "ask VMs' guests to power off, and wait until they have",
	.about =
	"Presses the power button of VMs and waits until they have ended.  Where a guest does not\n"
	"power off in time the status is 16, and it runs on.\n"
	"\n"
	"Example:\n"
	"  vireo stop web --timeout 20 || vireo kill web",
	.options = stop_options, .option_count = ARRAY_SIZE(stop_options),
	.exits = "0 all have ended, 2 wrong usage or no such VM, 12 the host failed,\n"
		 "16 a guest has not powered off in time.",
	.run = stop_main,
};

const struct command command_kill = {
	.name = "kill", .operand = "NAME...",
	.summary = "end VMs at once",
	.about =
	"Ends VMs as if their plugs were pulled.  What their guests have flushed is on their disks.\n"
	"A process that does not answer is killed.\n"
	"\n"
	"Example:\n"
	"  vireo kill web",
	.run = kill_main,
};

const struct command command_pause = {
	.name = "pause", .operand = "NAME...",
	.summary = "stop VMs and their time",
	.about =
	"Stops VMs and their clocks; 'vireo resume' lets them go on as if nothing had happened,\n"
	"but for the time of day.\n"
	"\n"
	"Example:\n"
	"  vireo pause web",
	.run = pause_main,
};

const struct command command_resume = {
	.name = "resume", .operand = "NAME...",
	.summary = "let paused VMs go on",
	.about =
	"Lets VMs go on that 'vireo pause' stopped.\n"
	"\n"
	"Example:\n"
	"  vireo resume web",
	.run = resume_main,
};

const struct command command_reset = {
	.name = "reset", .operand = "NAME...",
	.summary = "press VMs' reset buttons",
	.about =
	"Resets VMs: their guests boot again, and what they had not written is lost.\n"
	"\n"
	"Example:\n"
	"  vireo reset web",
	.run = reset_main,
};

const struct command command_rm = {
	.name = "rm", .operand = "NAME...",
	.summary = "remove VMs with everything in their directories",
	.about =
	"Removes VMs that 'vireo create' made: their directories, with disks and logs.  What lies\n"
	"elsewhere stays.  One that runs is refused.\n"
	"\n"
	"Example:\n"
	"  vireo rm web",
	.options = rm_options, .option_count = ARRAY_SIZE(rm_options),
	.run = rm_main,
};
