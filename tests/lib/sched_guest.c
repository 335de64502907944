// SPDX-License-Identifier: Apache-2.0
/*
 * What runs in the guests of tests/sched: sched_guest MODE [N].
 *
 *	yield	runs 1.8 ms and sleeps, for ever: always gone when the host's clock ticks
 *	wake N	sleeps N times; how late it woke, in us: median, 95 %, 99 %, worst
 *	clock	a line of the time of day, in ns, for each line that it reads
 *	vdso	reads the clocks on each processor where a system call would be its death
 *	stable	reads the clocks on all processors at once; none may go back
 *	spin	takes all of a processor
 *	locks	a thread on each processor takes one spinlock for some microseconds, 4 s long: how
 *		often it was taken; then the same with a lock of the kernel's, that of memory maps
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define NS	1000000000LL

static int64_t now(clockid_t id)
{
	struct timespec t;

	clock_gettime(id, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

static void nap(int64_t ns)
{
	const struct timespec t = { .tv_sec = ns / NS, .tv_nsec = ns % NS };

	nanosleep(&t, NULL);
}

static void become_first(void)
{
	const struct sched_param p = { .sched_priority = 50 };

	if (sched_setscheduler(0, SCHED_FIFO, &p))
		perror("sched_setscheduler");
}

static void yield(void)
{
	become_first();
	for (;;) {
		const int64_t from = now(CLOCK_MONOTONIC);

		while (now(CLOCK_MONOTONIC) - from < 1800000)
			;
		nap(50000);
	}
}

static int by_size(const void *a, const void *b)
{
	const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void wake(int n)
{
	int64_t *late = calloc(n, sizeof(*late));

	become_first();
	for (int i = 0; i < n; i++) {
		const int64_t from = now(CLOCK_MONOTONIC), wait = (11 + i % 7) * 1000000LL;

		nap(wait);
		late[i] = (now(CLOCK_MONOTONIC) - from - wait) / 1000;
	}
	qsort(late, n, sizeof(*late), by_size);
	printf("late %ld %ld %ld %ld\n", (long)late[n / 2], (long)late[n * 95 / 100],
	       (long)late[n * 99 / 100], (long)late[n - 1]);
}

static void tell_clock(void)
{
	struct termios t;
	char line[64];

	if (!tcgetattr(0, &t)) {
		t.c_lflag &= ~ECHO;
		tcsetattr(0, TCSANOW, &t);
	}
	printf("ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (!strncmp(line, "end", 3))
			return;
		printf("time %ld\n", (long)now(CLOCK_REALTIME));
		fflush(stdout);
	}
}

static int go_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set);
}

/* (The strict mode would forbid RDTSC.) */
static int forbid_system_calls(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog all = { .len = 4, .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all);
}

static void read_clocks(int cpu)
{
	int64_t last = 0, t;

	if (go_to(cpu) || forbid_system_calls())
		_exit(2);
	for (int i = 0; i < 20000; i++) {
		t = now(CLOCK_MONOTONIC);
		if (t < last || !now(CLOCK_REALTIME))
			syscall(SYS_exit, 3);
		last = t;
	}
	syscall(SYS_exit, 0);
}

static void vdso(void)
{
	const int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	int status, bad = 0;
	int64_t from;

	for (int i = 0; i < cpus; i++) {
		if (!fork())
			read_clocks(i);
		wait(&status);
		bad += status != 0;
	}
	from = now(CLOCK_MONOTONIC);
	for (int i = 0; i < 100000; i++)
		now(CLOCK_MONOTONIC);
	printf("vdso %d of %d wrong, %ld ns a call\n", bad, cpus,
	       (long)(now(CLOCK_MONOTONIC) - from) / 100000);
}

struct shared {
	_Atomic int64_t last;		/* the latest time that somebody has read */
	_Atomic uint64_t last_tsc, reads, back, tsc_back;
	int64_t until;
	_Atomic int next;
};

static void *compare(void *arg)
{
	struct shared *s = arg;

	go_to(s->next++);
	while (now(CLOCK_MONOTONIC) < s->until) {
		const int64_t seen = s->last;
		const int64_t t = now(CLOCK_MONOTONIC);
		const uint64_t seen_tsc = s->last_tsc;
		uint64_t tsc;

		__builtin_ia32_lfence();
		tsc = __builtin_ia32_rdtsc();
		s->back += t < seen;
		s->tsc_back += tsc < seen_tsc;
		s->reads++;
		s->last = t;
		s->last_tsc = tsc;
	}
	return NULL;
}

static void stable(void)
{
	struct shared s = { .until = now(CLOCK_MONOTONIC) + 3 * NS };
	const int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t t[64];

	for (int i = 0; i < cpus && i < 64; i++)
		pthread_create(&t[i], NULL, compare, &s);
	for (int i = 0; i < cpus && i < 64; i++)
		pthread_join(t[i], NULL);
	printf("stable %lu %lu back, enough reads: %d\n", (unsigned long)s.back,
	       (unsigned long)s.tsc_back, s.reads > 1000);
}

struct locks {
	pthread_spinlock_t lock;
	int64_t until;
	_Atomic uint64_t taken;
	_Atomic int next;
	bool kernel;
	char *page;
};

static void *take_locks(void *arg)
{
	struct locks *l = arg;
	uint64_t n = 0;

	go_to(l->next++);
	while (now(CLOCK_MONOTONIC) < l->until) {
		if (l->kernel) {
			mprotect(l->page, 4096, n & 1 ? PROT_READ : PROT_READ | PROT_WRITE);
		} else {
			pthread_spin_lock(&l->lock);
			for (int i = 0; i < 2000; i++)
				__asm__ volatile("");
			pthread_spin_unlock(&l->lock);
			for (int i = 0; i < 500; i++)
				__asm__ volatile("");
		}
		n++;
	}
	l->taken += n;
	return NULL;
}

static uint64_t count_locks(bool kernel)
{
	struct locks l = { .until = now(CLOCK_MONOTONIC) + 4 * NS, .kernel = kernel };
	const int cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t t[64];

	l.page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	pthread_spin_init(&l.lock, PTHREAD_PROCESS_PRIVATE);
	for (int i = 0; i < cpus && i < 64; i++)
		pthread_create(&t[i], NULL, take_locks, &l);
	for (int i = 0; i < cpus && i < 64; i++)
		pthread_join(t[i], NULL);
	return l.taken;
}

static void tell_locks(void)
{
	printf("locks %lu user", (unsigned long)count_locks(false));
	fflush(stdout);
	printf(" %lu kernel\n", (unsigned long)count_locks(true));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";

	if (!strcmp(mode, "yield"))
		yield();
	else if (!strcmp(mode, "wake") && argc > 2)
		wake(atoi(argv[2]));
	else if (!strcmp(mode, "clock"))
		tell_clock();
	else if (!strcmp(mode, "vdso"))
		vdso();
	else if (!strcmp(mode, "stable"))
		stable();
	else if (!strcmp(mode, "locks"))
		tell_locks();
	else if (!strcmp(mode, "spin"))
		for (;;)
			;
	else
		return 2;
	return 0;
}
