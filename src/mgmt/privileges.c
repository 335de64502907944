// SPDX-License-Identifier: Apache-2.0
/* Giving capabilities up; see privileges.h.  They are a thread's own. */
#include "mgmt/privileges.h"
#include "base/thread.h"

#include <errno.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct __user_cap_header_struct own_header(void)
{
	return (struct __user_cap_header_struct){ .version = _LINUX_CAPABILITY_VERSION_3 };
}

bool privileges_any(void)
{
	struct __user_cap_header_struct header = own_header();
	struct __user_cap_data_struct has[2] = { 0 };

	return !syscall(SYS_capget, &header, has) && (has[0].permitted || has[1].permitted);
}

/* In a signal handler: nothing but system calls. */
int privileges_drop_thread(const void *mask)
{
	const uint64_t keep = *(const uint64_t *)mask;
	struct __user_cap_header_struct header = own_header();
	struct __user_cap_data_struct has[2] = { 0 };

	/* What nobody here could gain anyway, as nothing is executed; a container may forbid it. */
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		if (!(keep >> cap & 1))
			prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (syscall(SYS_capget, &header, has))
		return errno;
	for (int i = 0; i < 2; i++) {
		has[i].permitted &= keep >> 32 * i;
		has[i].effective &= keep >> 32 * i;
		has[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, has) ? errno : 0;
}

static int drop_thread(void *arg)
{
	return privileges_drop_thread(arg);
}

int privileges_drop(uint64_t keep, int threads, struct err *e)
{
	return threads_call(threads, drop_thread, &keep, e);
}
