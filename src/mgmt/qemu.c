// SPDX-License-Identifier: Apache-2.0
/*
 * The QEMU personality; see qemu.h: a command line of QEMU's becomes one of `vireo run`, which is
 * run.  There is no firmware: a guest is booted by -kernel, or from beside its first disk; with
 * neither the processor stands still, as it does where QEMU's firmware finds nothing to boot.
 */
#include "mgmt/qemu.h"
#include "machine/vm.h"
#include "mgmt/command.h"
#include "mgmt/qemu_priv.h"
#include "mgmt/run_priv.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define VERSION_TEXT	"QEMU emulator version 7.2.0 (Vireo " VIREO_VERSION ")"
#define PROGRAM		"qemu-system-x86_64"

bool qemu_is_name(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');

	return !strcmp(slash ? slash + 1 : argv0, PROGRAM);
}

/* -S is also what makes sure that somebody can say cont. */
static int finish(struct qemu *q, struct err *e)
{
	int rc = qemu_choose_cpu(q, e);

	if (!rc)
		rc = qemu_choose_engine(q, e);
	if (!rc && q->microvm)
		rc = qemu_push(q, e, "--transport", "mmio");
	if (!rc && q->stopped)
		rc = qemu_push(q, e, q->gdb ? "--gdb-wait" : "--paused", NULL);
	if (!rc)
		rc = qemu_push(q, e, "--log-level", "warn");
	if (!rc)
		rc = qemu_add_devices(q, e);
	if (!rc && q->stopped && !q->gdb && !qemu_can_be_asked(q))
		rc = err_set(e, EINVAL, "-S: nobody could let the VM go on: say where with -qmp, -monitor or -gdb");
	return rc;
}

/* --- running --- */

struct daemon {
	const char *pidfile;
	int ready;		/* who waits for the VM to run reads here; -1: nobody */
};

static void runs(void *arg)
{
	const struct daemon *d = arg;
	const int null = d->ready >= 0 ? open("/dev/null", O_RDWR | O_CLOEXEC) : -1;

	if (d->ready < 0)
		return;
	for (int fd = 0; fd < 3 && null >= 0; fd++)
		dup2(null, fd);
	if (write(d->ready, "", 1) != 1)
		return;
	close(d->ready);
}

static void fails(void *arg, const struct err *e)
{
	(void)arg;
	(void)e;
}

static void ended(void *arg, int status, const char *how)
{
	(void)arg;
	(void)status;
	(void)how;
}

/* The parent stays until the VM runs and ends with its status. */
static int go_behind(struct daemon *d, struct err *e)
{
	int fds[2];
	char byte;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC))
		return err_errno(e, errno, "could not make a pipe");
	pid = fork();
	if (pid < 0)
		return err_errno(e, errno, "could not start a process");
	if (pid) {
		close(fds[1]);
		_exit(read(fds[0], &byte, 1) == 1 ? 0 : 1);
	}
	setsid();
	close(fds[0]);
	d->ready = fds[1];
	return 0;
}

static int write_pid(const char *path, struct err *e)
{
	FILE *f = fopen(path, "we");

	if (!f)
		return err_errno(e, errno, "cannot create PID file %s", path);
	fprintf(f, "%ld\n", (long)getpid());
	return fclose(f) ? err_errno(e, errno, "cannot write PID file %s", path) : 0;
}

/* What QEMU's users look at: 0 however it ended, unless the guest gave a status. */
static int status_for_clients(const struct qemu *q, int status)
{
	switch (status) {
	case STATUS_OK:
	case STATUS_RESET:
	case STATUS_STOPPED:
		return 0;
	case STATUS_PANIC:
		return q->panic_fails;
	default:
		return status & 1 ? status : 1;
	}
}

static int run(struct qemu *q, struct err *e)
{
	struct daemon d = { .ready = -1 };
	const struct run_events events = { .runs = runs, .fails = fails, .ended = ended, .arg = &d };
	const char *operand = NULL;
	struct run_options o;
	unsigned int count;
	int rc, status;

	run_options_init(&o);
	o.memory = 128ULL << 20;
	rc = options_parse_many(&command_run, q->words, q->word, &o, &operand, 1, &count, e);
	if (!rc && q->daemonize)
		rc = go_behind(&d, e);
	if (!rc && q->pidfile)
		rc = write_pid(q->pidfile, e);
	if (rc)
		return rc;
	o.label = q->name;
	o.uuid = q->uuid;
	o.stay_off = q->no_shutdown;
	o.triple_fault = TRIPLE_FAULT_RESET;
	o.events = &events;
	o.terminal_signals = q->signals;
	o.nothing_to_boot = !q->kernel && !o.disk_count;
	status = run_vm(&o);
	if (q->pidfile)
		unlink(q->pidfile);
	return status_for_clients(q, status);
}

static void print_words(const struct qemu *q)
{
	printf("vireo run");
	for (unsigned int i = 1; i < q->words; i++)
		printf(q->word[i][0] && !strpbrk(q->word[i], " '\"$\\") ? " %s" : " '%s'", q->word[i]);
	printf("\n");
}

static void print_help(void)
{
	printf(VERSION_TEXT "\n\nusage: " PROGRAM " [options]\n\nOptions that are known:\n");
	qemu_print_options();
}

/* "-device help", "-cpu ?" and their kin: true, it was answered. */
static bool listed(const char *option, const char *value)
{
	if (strcmp(value, "help") && strcmp(value, "?"))
		return false;
	if (!strcmp(option, "device"))
		qemu_print_devices();
	else if (!strcmp(option, "cpu"))
		qemu_print_cpus();
	else if (!strcmp(option, "machine") || !strcmp(option, "M"))
		printf("Supported machines are:\npc       Vireo's PC (default)\nq35      the same\n"
		       "microvm  the same, virtio on MMIO\n");
	else if (!strcmp(option, "accel"))
		printf("Accelerators supported in QEMU binary:\ntcg\nkvm\n");
	else if (!strcmp(option, "netdev"))
		printf("Available netdev backend types:\nuser\ntap\nsocket\nstream\ndgram\n");
	else if (!strcmp(option, "chardev"))
		printf("Available chardev backend types:\n  socket\n  file\n  pipe\n  stdio\n  pty\n  null\n"
		       "  serial\n");
	else
		return false;
	return true;
}

/* -version, -help, -OPTION help: true, it was answered. */
static bool answered(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		const char *name = argv[i] + strspn(argv[i], "-");

		if (argv[i][0] != '-')
			continue;
		if (!strcmp(name, "version")) {
			printf(VERSION_TEXT "\nWhat runs is Vireo, not QEMU.\n");
			return true;
		}
		if (!strcmp(name, "help") || !strcmp(argv[i], "-h")) {
			print_help();
			return true;
		}
		if (i + 1 < argc && listed(name, argv[i + 1]))
			return true;
		i += qemu_option_takes(name);	/* whose value may be any word */
	}
	return false;
}

int qemu_main(int argc, char **argv)
{
	struct qemu *q = calloc(1, sizeof(*q));
	struct err e = { 0 };
	int rc = q ? 0 : err_set(&e, ENOMEM, "out of memory");

	if (answered(argc, argv)) {
		free(q);
		return 0;
	}
	if (!rc)
		rc = qemu_push(q, &e, "run", NULL);
	if (!rc)
		rc = qemu_parse(q, argc, argv, &e);
	if (!rc)
		rc = finish(q, &e);
	if (!rc && q->print)
		print_words(q);
	else if (!rc)
		rc = run(q, &e);
	if (rc < 0)
		fprintf(stderr, "%s: %s\n", basename(argv[0]), e.text);
	for (unsigned int i = 0; q && i < q->words; i++)
		free(q->word[i]);
	free(q);
	return rc < 0 ? 1 : rc;
}
