// SPDX-License-Identifier: Apache-2.0
/*
 * Confinement, in child processes: what was allowed works, everything else ends the process with
 * a sentence; all threads are under it, those of before too.
 */
#include "base/confine.h"
#include "base/thread.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static const int allowed[] = {
	SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(close), SCMP_SYS(openat), SCMP_SYS(fstat),
	SCMP_SYS(newfstatat), SCMP_SYS(clock_nanosleep), SCMP_SYS(unlinkat), SCMP_SYS(prctl),
	SCMP_SYS(madvise), SCMP_SYS(set_robust_list), SCMP_SYS(rseq),
};

struct outcome {
	int status;
	char text[512];
};

/* Runs @deed in a child, its stderr in the outcome's text. */
static struct outcome in_child(void (*deed)(void))
{
	struct outcome o = { 0 };
	size_t at = 0;
	ssize_t n;
	int fd[2];
	pid_t pid;

	assert_int_equal(pipe(fd), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		dup2(fd[1], STDERR_FILENO);
		close(fd[0]);
		deed();
		_exit(0);
	}
	close(fd[1]);
	while ((n = read(fd[0], o.text + at, sizeof(o.text) - 1 - at)) > 0)
		at += n;
	close(fd[0]);
	assert_int_equal(waitpid(pid, &o.status, 0), pid);
	return o;
}

static void must(bool ok)
{
	if (!ok)
		_exit(1);
}

/* With @path readable and the directory @dir writable, either NULL. */
static void enter(const char *path, const char *dir, struct confine_state *s)
{
	struct confine *c;

	must(!confine_create(&c, false, NULL));
	confine_runtime(c);
	confine_memory(c, false);
	confine_calls(c, allowed, ARRAY_SIZE(allowed));
	confine_call_fails(c, SCMP_SYS(acct), EPERM);
	if (path)
		confine_path(c, path, CONFINE_READ);
	if (dir)
		confine_path(c, dir, CONFINE_WRITE);
	confine_path(c, "/does/not/exist", CONFINE_WRITE);
	must(!confine_enter(c, false, s, NULL));
	confine_free(c);
	if (!s->calls)
		_exit(77);
}

static void ends(struct outcome o, const char *call)
{
	if (WIFEXITED(o.status) && WEXITSTATUS(o.status) == 77)
		skip();
	assert_true(WIFEXITED(o.status));
	assert_int_equal(WEXITSTATUS(o.status), CONFINE_STATUS);
	assert_non_null(strstr(o.text, call));
	assert_ptr_equal(strchr(o.text, '\n'), o.text + strlen(o.text) - 1);
}

static void succeeds(struct outcome o)
{
	if (WIFEXITED(o.status) && WEXITSTATUS(o.status) == 77)
		skip();
	assert_true(WIFEXITED(o.status));
	assert_int_equal(WEXITSTATUS(o.status), 0);
	assert_string_equal(o.text, "");
}

/* --- deeds --- */

static void forbidden(void)
{
	struct confine_state s;

	enter(NULL, NULL, &s);
	syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
}

static void unknown(void)
{
	struct confine_state s;

	enter(NULL, NULL, &s);
	syscall(999);
}

static void executable(void)
{
	struct confine_state s;

	enter(NULL, NULL, &s);
	mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void permitted(void)
{
	struct confine_state s;
	void *p;

	enter(NULL, NULL, &s);
	must(syscall(SYS_acct, NULL) == -1 && errno == EPERM);
	must(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(p != MAP_FAILED && !munmap(p, 4096));
}

static char dir[] = "/tmp/confine-XXXXXX";	/* made by the parent */

static void files(void)
{
	char inside[64];
	struct confine_state s;
	int fd;

	snprintf(inside, sizeof(inside), "%s/file", dir);
	enter("/etc/passwd", dir, &s);
	must(open("/etc/passwd", O_RDONLY) >= 0);
	fd = open(inside, O_RDWR | O_CREAT, 0600);
	must(fd >= 0 && write(fd, "x", 1) == 1);
	must(!s.landlock || open("/etc/passwd", O_RDWR) < 0);
	must(!s.landlock || (open("/etc/group", O_RDONLY) < 0 && errno == EACCES));
	must(!s.landlock || (open("/tmp/confine-other", O_RDWR | O_CREAT, 0600) < 0));
	must(!unlinkat(AT_FDCWD, inside, 0));
}

/* --- threads --- */

struct early {
	bool call;			/* makes the forbidden call, else opens a file */
	atomic_bool go;
	int result;
};

static void *early_thread(void *arg)
{
	struct early *t = arg;

	while (!atomic_load(&t->go))
		usleep(1000);
	if (t->call)
		syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
	t->result = open("/etc/group", O_RDONLY) < 0 ? errno : 0;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
		t->result = -1;
	return NULL;
}

static int of_early_thread(bool call)
{
	struct early t = { .call = call };
	struct confine_state s;
	pthread_t thread;

	must(!thread_create(&thread, "early", early_thread, &t));
	enter("/etc/passwd", NULL, &s);
	atomic_store(&t.go, true);
	must(!pthread_join(thread, NULL));
	return s.landlock ? t.result : EACCES;
}

static void thread_calls(void)
{
	of_early_thread(true);
}

static void thread_opens(void)
{
	must(of_early_thread(false) == EACCES);
}

/* --- tests --- */

static void test_forbidden_call_ends(void **state)
{
	(void)state;
	ends(in_child(forbidden), "system call 41 (socket)");
}

static void test_call_without_a_name(void **state)
{
	(void)state;
	ends(in_child(unknown), "system call 999,");
}

static void test_no_executable_memory(void **state)
{
	(void)state;
	ends(in_child(executable), "(mmap)");
}

static void test_what_is_allowed_works(void **state)
{
	(void)state;
	succeeds(in_child(permitted));
}

static void test_files(void **state)
{
	(void)state;
	assert_non_null(mkdtemp(dir));
	succeeds(in_child(files));
	assert_int_equal(rmdir(dir), 0);
}

static void test_threads_of_before(void **state)
{
	(void)state;
	ends(in_child(thread_calls), "system call 41 (socket)");
	succeeds(in_child(thread_opens));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_forbidden_call_ends),
		cmocka_unit_test(test_call_without_a_name),
		cmocka_unit_test(test_no_executable_memory),
		cmocka_unit_test(test_what_is_allowed_works),
		cmocka_unit_test(test_files),
		cmocka_unit_test(test_threads_of_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
