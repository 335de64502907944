// SPDX-License-Identifier: Apache-2.0
/*
 * `vireo net-user OPTIONS`: the process of user-mode networking, started by a VM with its
 * socket as descriptor 3.  Not for people, so not in the help.
 */
#include "backend/net_user.h"
#include "backend/spawn.h"
#include "mgmt/command.h"
#include "mgmt/status.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>

static int net_user_main(const struct command *c, int argc, char **argv)
{
	struct user_config config;
	struct err e = { 0 };
	int type;
	socklen_t len = sizeof(type);

	(void)c;
	if (argc != 2 || getsockopt(SPAWN_FD, SOL_SOCKET, SO_TYPE, &type, &len)) {
		err_set(&e, EINVAL, "'vireo net-user' is started by 'vireo run --net user'");
		return command_fail(&e, STATUS_USAGE);
	}
	/* The socket's end says the same, but only to one that still listens to it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	if (user_config_parse(&config, argv[1], &e))
		return command_fail(&e, STATUS_USAGE);
	return user_serve(SPAWN_FD, &config, true) ? STATUS_HOST : STATUS_OK;
}

const struct command command_net_user = {
	.name = "net-user", .hidden = true, .run = net_user_main,
};
