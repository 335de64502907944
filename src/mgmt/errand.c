// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo errand KIND NAME`: a helper process of a VM (backend/errand.h), its socket descriptor 3.
 * Not for people, so not in the help.
 */
#include "backend/errand.h"
#include "backend/spawn.h"
#include "backend/spool_queue.h"
#include "backend/switch_socket.h"
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

/* The jobs of the queue NAME go where they are to go. */
static int print(void *arg, struct err *e)
{
	const int queue = spool_queue_open(arg, false, e);
	int rc;

	if (queue < 0)
		return queue;
	rc = spool_queue_drain(queue, e);
	close(queue);
	return rc;
}

/* The switch NAME is there. */
static int start_switch(void *arg, struct err *e)
{
	return net_switch_start(NULL, arg, e);
}

static const struct {
	const char *kind;
	int (*check)(const char *name, struct err *e);
	int (*run)(void *arg, struct err *e);
} errands[] = {
	{ "print", spool_name_check, print },
	{ "switch", switch_name_check, start_switch },
};

static int errand_main(const struct command *c, int argc, char **argv)
{
	struct err e = { 0 };
	int type;
	socklen_t len = sizeof(type);

	(void)c;
	if (argc != 3 || getsockopt(SPAWN_FD, SOL_SOCKET, SO_TYPE, &type, &len)) {
		err_set(&e, EINVAL, "'vireo errand' is started by 'vireo run'");
		return command_fail(&e, STATUS_USAGE);
	}
	signal(SIGINT, SIG_IGN);	/* the VM's to answer; its end is ours */
	signal(SIGHUP, SIG_IGN);
	prctl(PR_SET_NAME, "vireo-errand", 0, 0, 0);
	for (size_t i = 0; i < ARRAY_SIZE(errands); i++) {
		if (strcmp(argv[1], errands[i].kind))
			continue;
		if (errands[i].check(argv[2], &e))
			return command_fail(&e, STATUS_USAGE);
		return errand_serve(SPAWN_FD, errands[i].run, argv[2]);
	}
	err_set(&e, EINVAL, "there is no errand '%s'", argv[1]);
	return command_fail(&e, STATUS_USAGE);
}

const struct command command_errand = {
	.name = "errand", .hidden = true, .run = errand_main,
};
