// SPDX-License-Identifier: Apache-2.0
/*
 * A program that means harm, run by root in a Linux guest: linux KIND SEED SECONDS.
 *
 *	ports	in and out at random ports, with the right to all of them
 *	mem	reads and writes of devices through /dev/mem
 *	code	children that execute random bytes as an ordinary user
 */
#include "random.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static sigjmp_buf back;

static void caught(int signo)
{
	siglongjmp(back, signo);
}

/* Deeds return whether they could be done. */
static bool deed_port(void)
{
	uint16_t port = rnd_port();
	uint64_t value = rnd_value();

	if (port_ends_it(port) && rnd_below(5000))
		return true;
	switch (rnd_below(6)) {
	case 0: inb(port); break;
	case 1: inw(port); break;
	case 2: inl(port); break;
	case 3: outb(value, port); break;
	case 4: outw(value, port); break;
	case 5: outl(value, port); break;
	}
	return true;
}

static bool deed_mem(void)
{
	static int fd = -1;
	uint64_t at = rnd_device_address(), value = rnd_value();
	volatile uint8_t *page, *p;

	if (fd < 0 && (fd = open("/dev/mem", O_RDWR | O_SYNC)) < 0)
		return false;
	page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, at & ~4095ULL);
	if (page == MAP_FAILED)
		return false;
	p = page + at % 4096;
	switch (rnd_below(8)) {
	case 0: (void)*p; break;
	case 1: (void)*(volatile uint16_t *)p; break;
	case 2: (void)*(volatile uint32_t *)p; break;
	case 3: (void)*(volatile uint64_t *)p; break;
	case 4: *p = value; break;
	case 5: *(volatile uint32_t *)p = value; break;
	case 6: *(volatile uint64_t *)p = value; break;
	case 7: memset((void *)p, value, 1 + rnd_below(64)); break;
	}
	munmap((void *)page, 8192);
	return true;
}

static void child(uint8_t *code)
{
	static uint8_t other[16384] __attribute__((aligned(16)));
	const stack_t stack = { .ss_sp = other, .ss_size = sizeof(other) };
	static const int signals[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS,
				       SIGALRM };
	struct sigaction sa = { .sa_handler = caught, .sa_flags = SA_ONSTACK | SA_NODEFER };

	sigaltstack(&stack, NULL);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		sigaction(signals[i], &sa, NULL);
	if (setgid(65534) || setuid(65534))
		_exit(1);
	for (volatile int i = 0; i < 50; i++) {
		ualarm(50000, 0);
		if (sigsetjmp(back, 1))
			continue;
		code_make(code, sizeof(long) * 8, false);
		((void (*)(void))code)();
	}
	_exit(0);
}

static bool deed_code(void)
{
	static uint8_t *code;
	pid_t pid;

	if (!code)
		code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	rnd();
	pid = fork();
	if (!pid)
		child(code);
	while (waitpid(pid, NULL, 0) > 0)
		;
	return pid > 0;
}

int main(int argc, char **argv)
{
	static const struct { const char *name; bool (*deed)(void); } kinds[] = {
		{ "ports", deed_port }, { "mem", deed_mem }, { "code", deed_code },
	};
	unsigned long done = 0;
	time_t end;
	size_t k = 0;

	if (argc != 4)
		return 2;
	while (k < 3 && strcmp(argv[1], kinds[k].name))
		k++;
	seed = (strtoull(argv[2], NULL, 0) + 1) * 0x9e3779b97f4a7c15;
	if (k == 3 || (k == 0 && iopl(3)))
		return 2;
	for (end = time(NULL) + atoi(argv[3]); time(NULL) < end;) {
		done += kinds[k].deed();
		if (done == 1)
			printf("%s: begun\n", argv[1]);
		fflush(stdout);
	}
	printf("%s: %lu deeds\n", argv[1], done);
	return 0;
}
