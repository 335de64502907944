// SPDX-License-Identifier: Apache-2.0
/* A console with a log and clients: who gets what, and that no client holds up the guest. */
#include "base/char_console.h"
#include "base/clock.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct bench {
	char dir[64], log[96], socket[96];
	struct loop *loop;
	struct char_backend *console;
	char got[4096];			/* input */
	size_t got_len, takes;		/* and how much of it the front end takes now */
	unsigned int writable;
	struct loop_work quit;
};

static size_t receive(void *dev, const uint8_t *buf, size_t len)
{
	struct bench *b = dev;
	const size_t n = MIN(len, b->takes);

	memcpy(b->got + b->got_len, buf, n);
	b->got_len += n;
	b->takes -= n;
	return n;
}

static void writable(void *dev)
{
	((struct bench *)dev)->writable++;
}

static const struct char_front_ops front = { .receive = receive, .writable = writable };

static void open_bench(struct bench *b)
{
	struct err e = { 0 };

	*b = (struct bench){ .dir = "/tmp/vireo-console-XXXXXX", .takes = 4096 };
	assert_non_null(mkdtemp(b->dir));
	snprintf(b->log, sizeof(b->log), "%s/log", b->dir);
	snprintf(b->socket, sizeof(b->socket), "%s/socket", b->dir);
	assert_int_equal(loop_create(&b->loop, NULL, &e), 0);
	assert_int_equal(char_console_create(&b->console, b->loop, b->log, b->socket, &e), 0);
	char_attach(b->console, &front, b);
}

static void close_bench(struct bench *b)
{
	b->console->ops->destroy(b->console);
	loop_destroy(b->loop);
	assert_int_equal(access(b->socket, F_OK), -1);
	unlink(b->log);
	rmdir(b->dir);
}

static void do_quit(void *arg)
{
	loop_quit(((struct bench *)arg)->loop);
}

/* Lets the loop do what it has to, some milliseconds of it. */
static void turn(struct bench *b)
{
	for (int i = 0; i < 8; i++) {
		b->quit = (struct loop_work){ .run = do_quit, .arg = b };
		usleep(2000);
		loop_post(b->loop, &b->quit);
		assert_int_equal(loop_run(b->loop, NULL), 0);
	}
}

static int client(struct bench *b)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, b->socket);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	turn(b);
	return fd;
}

static void say(struct bench *b, const char *text)
{
	assert_int_equal(b->console->ops->write(b->console, (const uint8_t *)text, strlen(text)),
			 strlen(text));
	turn(b);
}

static void hears(int fd, const char *text)
{
	char buf[4096] = "";
	const ssize_t n = read(fd, buf, sizeof(buf) - 1);

	assert_int_equal(n, *text ? (ssize_t)strlen(text) : -1);
	if (n > 0)
		assert_string_equal(buf, text);
}

static void test_all_hear(void **state)
{
	struct bench b;
	int one, two, log;

	(void)state;
	open_bench(&b);
	say(&b, "first\n$ ");
	one = client(&b);
	hears(one, "first\n$ ");	/* what was said before */
	two = client(&b);
	hears(two, "first\n$ ");
	say(&b, "second");
	hears(one, "second");
	hears(two, "second");
	close(one);
	turn(&b);
	say(&b, "third");
	hears(two, "third");
	log = open(b.log, O_RDONLY);
	hears(log, "first\n$ secondthird");
	close(log);
	close(two);
	close_bench(&b);
}

/* Input of each, also of one that has hung up, comes as the guest takes it. */
static void test_input(void **state)
{
	struct bench b;
	int fd;

	(void)state;
	open_bench(&b);
	fd = client(&b);
	assert_int_equal(write(fd, "abc", 3), 3);
	turn(&b);
	assert_memory_equal(b.got, "abc", 3);
	b.takes = 2;
	assert_int_equal(write(fd, "defgh", 5), 5);
	close(fd);
	turn(&b);
	assert_int_equal(b.got_len, 5);
	b.takes = 100;
	b.console->ops->input_wanted(b.console);
	turn(&b);
	assert_int_equal(b.got_len, 8);
	assert_memory_equal(b.got, "abcdefgh", 8);
	close_bench(&b);
}

/* One that reads nothing: the log has all of it, and the guest is never refused for long. */
static void test_slow_client(void **state)
{
	static uint8_t block[10000];
	size_t sent = 0, refused = 0;
	struct stat st;
	struct bench b;
	int fd, quick;
	char last[16];

	(void)state;
	open_bench(&b);
	fd = client(&b);
	memset(block, 'x', sizeof(block));
	while (sent < 4000000) {
		const size_t n = b.console->ops->write(b.console, block, sizeof(block));

		sent += n;
		refused += n < sizeof(block);
		if (n < sizeof(block))
			turn(&b);
	}
	assert_true(refused > 0 && b.writable > 0);
	turn(&b);
	assert_int_equal(stat(b.log, &st), 0);
	assert_int_equal(st.st_size, sent);
	/* Another hears what comes; and the slow one the end of it, when it reads at last. */
	quick = client(&b);
	while (read(quick, block, sizeof(block)) > 0)
		;
	say(&b, "the end");
	hears(quick, "the end");
	for (size_t got = 1, idle = 0; idle < 3; idle += !got) {
		const ssize_t n = read(fd, block, sizeof(block));

		got = n > 0 ? n : 0;
		if (n >= 7)
			memcpy(last, block + n - 7, 7);
		turn(&b);
	}
	assert_memory_equal(last, "the end", 7);
	close(fd);
	close(quick);
	close_bench(&b);
}

/* A socket that a dead process left is replaced; a file is not. */
static void test_places(void **state)
{
	struct char_backend *other;
	struct err e = { 0 };
	struct bench b;
	char path[256];

	(void)state;
	open_bench(&b);
	assert_int_equal(char_console_create(&other, b.loop, b.dir, b.socket, &e), -EISDIR);
	assert_int_equal(char_console_create(&other, b.loop, b.log, b.log, &e), -EADDRINUSE);
	memset(path, 'x', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_int_equal(char_console_create(&other, b.loop, b.log, path, &e), -ENAMETOOLONG);
	close_bench(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_hear),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_slow_client),
		cmocka_unit_test(test_places),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
