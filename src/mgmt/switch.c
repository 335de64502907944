// SPDX-License-Identifier: Apache-2.0
/* `vireo switch NAME`: serves a switch that VMs share with --net switch=NAME. */
#include "backend/switch_socket.h"
#include "mgmt/command.h"
#include "mgmt/net_spec.h"
#include "mgmt/status.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

struct options {
	const char *uplink;
	bool background;
};

struct serving {
	struct options options;
	const char *name;
	struct log log;
	struct loop *loop;
	struct net_switch *sw;
	struct switch_server *server;
	int ready;		/* a pipe to who waits for the start; -1: nobody */
};

static void unused(void *arg)
{
	struct serving *s = arg;

	loop_quit(s->loop);
}

static void caught(void *arg, int signo)
{
	struct serving *s = arg;

	(void)signo;
	loop_quit(s->loop);
}

static int add_uplink(struct serving *s, struct err *e)
{
	struct net_backend *b;
	struct net_spec spec;
	int rc;

	rc = net_spec_parse(&spec, s->options.uplink, e);
	if (!rc && spec.kind != NET_USER && spec.kind != NET_TAP)
		rc = err_set(e, EINVAL, "a switch's uplink is user[,...] or tap,..., not '%s'",
			     s->options.uplink);
	if (!rc)
		rc = net_spec_open(&b, &spec, &s->log, e);
	return rc ? rc : net_switch_plug(s->sw, b, true, e);
}

static int start(struct serving *s, struct err *e)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
	int rc;

	rc = loop_create(&s->loop, NULL, e);
	if (!rc)
		rc = net_switch_create(&s->sw, s->loop, &s->log, e);
	/* The name first: who finds it taken starts no uplink. */
	if (!rc)
		rc = switch_server_create(&s->server, s->sw, s->name, s->loop,
					  s->options.background ? unused : NULL, s, e);
	if (!rc && s->options.uplink)
		rc = add_uplink(s, e);
	if (!rc)
		rc = loop_watch_signals(s->loop, signals, ARRAY_SIZE(signals), caught, s, e);
	return rc;
}

/* From now on nothing is shared with who started us: a pipe on stderr may be waited on. */
static void leave_starter(struct serving *s)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
		dup2(null, fd);
	if (chdir("/") || write(s->ready, "", 1) != 1)
		log_debug(&s->log, "nobody waits for the switch any more");
	close(s->ready);
}

static int serve(struct serving *s)
{
	struct err e = { 0 };
	int rc;

	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_NAME, "vireo-switch", 0, 0, 0);
	rc = start(s, &e);
	/* Another serves it: for one who only wants it served that is as good. */
	if (rc == -EBUSY && !s->server && s->options.background)
		rc = 0;
	else if (rc)
		command_fail(&e, rc);
	if (s->ready >= 0 && !rc)
		leave_starter(s);
	if (!rc && s->server)
		rc = switch_server_confine(s->server, &e);
	if (!rc && s->server) {
		log_info(&s->log, "the switch '%s' is there: vireo run --net switch=%s", s->name,
			 s->name);
		rc = loop_run(s->loop, &e);
	}
	switch_server_destroy(s->server);
	net_switch_destroy(s->sw);
	loop_destroy(s->loop);
	return rc ? STATUS_HOST : STATUS_OK;
}

/* The parent returns once the switch listens, or could not. */
static int serve_in_background(struct serving *s)
{
	struct err e;
	int fd[2];
	pid_t pid;
	char ok;

	if (pipe2(fd, O_CLOEXEC)) {
		err_errno(&e, errno, "could not create a pipe");
		return command_fail(&e, STATUS_HOST);
	}
	pid = fork();
	if (pid < 0) {
		err_errno(&e, errno, "could not start a process for the switch");
		return command_fail(&e, STATUS_HOST);
	}
	if (pid > 0) {
		close(fd[1]);
		return read(fd[0], &ok, 1) == 1 ? STATUS_OK : STATUS_HOST;
	}
	close(fd[0]);
	s->ready = fd[1];
	setsid();
	s->log.out = NULL;
	return serve(s);
}

static int switch_main(const struct command *c, int argc, char **argv)
{
	struct serving s = { .ready = -1 };
	struct err e = { 0 };
	int rc;

	rc = options_parse(c, argc, argv, &s.options, &s.name, &e);
	if (rc == OPTIONS_HELP)
		return STATUS_OK;
	if (!rc)
		rc = switch_name_check(s.name, &e);
	if (rc)
		return command_fail(&e, STATUS_USAGE);
	log_init(&s.log, LOG_INFO, stderr);
	return s.options.background ? serve_in_background(&s) : serve(&s);
}

static int set_uplink(void *dest, const char *value, struct err *e)
{
	(void)e;
	((struct options *)dest)->uplink = value;
	return 0;
}

static int set_background(void *dest, const char *value, struct err *e)
{
	(void)value;
	(void)e;
	((struct options *)dest)->background = true;
	return 0;
}

static const struct option_def option_defs[] = {
	{ "uplink", "NETWORK", "also connect the switch to user[,hostfwd=...] or tap,ifname=NAME, as\n"
	  "--net of vireo run does a VM: its VMs share that network", set_uplink },
	{ "background", NULL, "return when it listens; it ends when its last VM has gone",
	  set_background },
};

const struct command command_switch = {
	.name = "switch",
	.operand = "NAME",
	.summary = "serve a network switch that VMs of yours share",
	.about =
	"Serves the switch NAME, to which VMs of the same user connect with --net switch=NAME,\n"
	"until it is interrupted.  Without this command the first such VM starts the switch, and\n"
	"it ends with the last; it is needed for an uplink.\n"
	"\n"
	"Example:\n"
	"  vireo switch lan --uplink user,hostfwd=2222:22 &\n"
	"  vireo run --net switch=lan --kernel vmlinuz --initrd initramfs.cpio",
	.options = option_defs,
	.option_count = ARRAY_SIZE(option_defs),
	.run = switch_main,
};
