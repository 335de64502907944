// SPDX-License-Identifier: Apache-2.0
/* Threads and what all of them do; see thread.h. */
#include "base/thread.h"
#include "base/types.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WAIT_NS		1000000L
#define WAITS		10000		/* 10 s: a thread may wait for a slow disk */
#define THREADS_MAX	2048

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

/*
 * The number that thread @name of @list has in our own namespace, the last of those in its
 * status; 0: it has ended.
 */
static pid_t own_tid(int list, const char *name)
{
	char path[64], text[4096], *at;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "%.20s/status", name);
	fd = openat(list, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[MAX(n, 0)] = '\0';
	at = strstr(text, "\nNSpid:");
	if (!at)
		return atoi(name);
	at[1 + strcspn(at + 1, "\n")] = '\0';
	return atoi(strrchr(at, '\t') + 1);
}

struct others {
	pid_t tid[THREADS_MAX];
	unsigned int count;
};

static int find_others(int list, struct others *o)
{
	const int fd = openat(list, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;

	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) && o->count < THREADS_MAX) {
		const pid_t tid = entry->d_name[0] == '.' ? 0 : own_tid(list, entry->d_name);

		if (tid > 0 && tid != gettid())
			o->tid[o->count++] = tid;
	}
	closedir(dir);
	return entry ? -E2BIG : 0;
}

/* How many were asked, or -errno. */
static int ask_all(const struct others *o, struct call *c)
{
	int rc, asked = 0;

	for (unsigned int i = 0; i < o->count; i++) {
		rc = ask(o->tid[i], c);
		if (rc < 0)
			return rc;
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

int threads_list(struct err *e)
{
	const int fd = open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_errno(e, errno, "could not list the threads in /proc") : fd;
}

int threads_call(int list, int (*fn)(void *arg), void *arg, struct err *e)
{
	struct sigaction act = { .sa_sigaction = called, .sa_flags = SA_SIGINFO | SA_RESTART };
	struct others others = { .count = 0 };
	struct call *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return err_set(e, ENOMEM, "out of memory for the threads' confinement");
	c->fn = fn;
	c->arg = arg;
	/* The list is read first: @fn may be what takes files away. */
	rc = find_others(list, &others);
	if (!rc)
		rc = -fn(arg);
	sigfillset(&act.sa_mask);
	if (!rc && sigaction(call_signal(), &act, NULL))
		rc = -errno;
	if (!rc) {
		rc = ask_all(&others, c);
		if (rc >= 0)
			rc = wait_for(c, rc);
		signal(call_signal(), SIG_IGN);
	}
	/* A thread that has not answered may still do so. */
	if (rc != -ETIMEDOUT)
		free(c);
	return rc ? err_errno(e, -rc, "could not confine all threads") : 0;
}
