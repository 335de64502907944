// SPDX-License-Identifier: Apache-2.0
/* `vireo doctor` on sandboxes: everything is tried, in child processes. */
#include "base/confine.h"
#include "mgmt/doctor_priv.h"
#include "mgmt/jail_group.h"
#include "mgmt/jail_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

/* What @try returns in a child process: a status, 255 if it died. */
static int in_child(int (*try)(void))
{
	const pid_t pid = fork();
	int status;

	if (!pid)
		_exit(try());
	while (pid > 0 && waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return 255;
	return pid > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

static int try_filter(void)
{
	struct confine_state s;
	struct confine *c;

	if (confine_create(&c, false, NULL))
		return 1;
	confine_runtime(c);
	return confine_enter(c, false, &s, NULL) || !s.calls;
}

static void doctor_filter(struct doctor *d)
{
	if (!in_child(try_filter)) {
		doctor_say(d, "yes", "system-call filter", "a VM's process is left the calls that it makes");
		return;
	}
	doctor_say(d, "no", "system-call filter", "cannot be installed: --sandbox has no effect on system calls");
	doctor_fix(d, "a kernel with CONFIG_SECCOMP_FILTER, a container that allows seccomp()");
}

static void doctor_landlock(struct doctor *d)
{
	const unsigned int version = confine_landlock_version();
	char text[96];

	if (version) {
		snprintf(text, sizeof(text), "version %u: a VM's process opens only files that it was given",
			 version);
		doctor_say(d, "yes", "Landlock", text);
		return;
	}
	doctor_say(d, "-", "Landlock", "not here: VMs that may add disks or share directories can open "
		   "the user's other files");
	doctor_fix(d, "Linux 5.13 or later with landlock among its lsm=, a container that allows it");
}

static int try_jail(void)
{
	struct err e;

	return jail_enter(&e) || mount("doctor", "/tmp", "tmpfs", 0, "size=64k");
}

static void doctor_jail(struct doctor *d)
{
	if (!in_child(try_jail)) {
		doctor_say(d, "yes", "namespaces", "--jail works");
		return;
	}
	doctor_say(d, "-", "namespaces", "not for this user here: --jail does not work");
	doctor_fix(d, "sysctl kernel.unprivileged_userns_clone=1 or user.max_user_namespaces, AppArmor's "
		   "or the container's policy");
}

static void doctor_group(struct doctor *d)
{
	struct err e;

	if (jail_group_probe(&e))
		doctor_say(d, "-", "control group", e.text);
	else
		doctor_say(d, "yes", "control group", "--limit works if nobody else is in this group");
}

void doctor_sandbox(struct doctor *d)
{
	doctor_filter(d);
	doctor_landlock(d);
	doctor_jail(d);
	doctor_group(d);
}
