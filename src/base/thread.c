// SPDX-License-Identifier: Apache-2.0
/* Threads and what all of them do; see thread.h. */
#include "base/thread.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_NS		1000000L
#define WAITS		10000		/* 10 s: a thread may wait for a slow disk */

struct call {
	int (*fn)(void *arg);
	void *arg;
	atomic_uint done;
	atomic_int failed;
};

/* The next one after what interrupts KVM. */
static int call_signal(void)
{
	return SIGRTMIN + 1;
}

int thread_create(pthread_t *t, const char *name, void *(*run)(void *), void *arg)
{
	sigset_t quiet, old;
	int rc;

	sigfillset(&quiet);
	sigdelset(&quiet, SIGSYS);
	sigdelset(&quiet, call_signal());
	pthread_sigmask(SIG_SETMASK, &quiet, &old);
	rc = pthread_create(t, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (!rc && name)
		pthread_setname_np(*t, name);
	return -rc;
}

/* --- in all of them --- */

static void called(int signo, siginfo_t *info, void *context)
{
	struct call *c = info->si_value.sival_ptr;
	const int saved = errno;
	int rc;

	(void)signo;
	(void)context;
	if (info->si_code != SI_QUEUE || info->si_pid != getpid())
		return;
	rc = c->fn(c->arg);
	if (rc)
		atomic_store(&c->failed, rc);
	atomic_fetch_add(&c->done, 1);
	errno = saved;
}

/* 1: the thread was asked; 0: it has ended; else -errno. */
static int ask(pid_t tid, struct call *c)
{
	siginfo_t info = { .si_code = SI_QUEUE };

	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_ptr = c;
	if (!syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, call_signal(), &info))
		return 1;
	return errno == ESRCH ? 0 : -errno;
}

/* How many were asked, or -errno. */
static int ask_all(DIR *threads, struct call *c)
{
	const struct dirent *entry;
	int rc, asked = 0;

	while ((entry = readdir(threads))) {
		const pid_t tid = atoi(entry->d_name);

		if (tid <= 0 || tid == gettid())
			continue;
		rc = ask(tid, c);
		if (rc < 0) {
			asked = rc;
			break;
		}
		asked += rc;
	}
	return asked;
}

static int wait_for(struct call *c, unsigned int asked)
{
	const struct timespec pause = { .tv_nsec = WAIT_NS };

	for (int i = 0; i < WAITS && atomic_load(&c->done) < asked; i++)
		nanosleep(&pause, NULL);
	return atomic_load(&c->done) < asked ? -ETIMEDOUT : -atomic_load(&c->failed);
}

int threads_call(int (*fn)(void *arg), void *arg, struct err *e)
{
	struct sigaction act = { .sa_sigaction = called, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct call *c = calloc(1, sizeof(*c));
	DIR *threads;
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for the threads' confinement");
	/* Opened first: @fn may be what takes files away. */
	threads = opendir("/proc/self/task");
	if (!threads) {
		free(c);
		return err_errno(e, errno, "could not list the threads in /proc");
	}
	c->fn = fn;
	c->arg = arg;
	rc = -fn(arg);
	sigfillset(&act.sa_mask);
	if (!rc && sigaction(call_signal(), &act, NULL))
		rc = -errno;
	if (!rc) {
		rc = ask_all(threads, c);
		if (rc >= 0)
			rc = wait_for(c, rc);
		signal(call_signal(), SIG_IGN);
	}
	closedir(threads);
	/* A thread that has not answered may still do so. */
	if (rc != -ETIMEDOUT)
		free(c);
	return rc ? err_errno(e, -rc, "could not confine all threads") : 0;
}
