// SPDX-License-Identifier: Apache-2.0
/*
 * The server of lines, with clients that send halves, floods and zeros, that vanish and that do
 * not read.  Whatever they do, the next client is answered.
 */
#include "base/line_server.h"
#include "base/types.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct rig {
	struct loop *loop;
	struct line_server *server;
	struct sockaddr_un address;
	socklen_t address_len;
	int listener;
	pthread_t thread;
};

/* Answers with the line's length; "big" with half a MiB. */
static void line(void *arg, struct line_client *c, char *text, size_t len)
{
	char reply[64];

	(void)arg;
	assert_int_equal(text[len], 0);
	if (!strcmp(text, "big")) {
		char *big = malloc(1 << 19);

		memset(big, 'x', (1 << 19) - 1);
		big[(1 << 19) - 1] = '\0';
		line_send(c, big);
		free(big);
		return;
	}
	snprintf(reply, sizeof(reply), "%zu", len);
	line_send(c, reply);
}

static void too_long(void *arg, struct line_client *c)
{
	(void)arg;
	line_send(c, "too long");
}

static void *run(void *arg)
{
	struct rig *r = arg;

	loop_run(r->loop, NULL);
	return NULL;
}

static int setup(void **state)
{
	static const struct line_server_ops ops = { .line = line, .too_long = too_long };
	struct rig *r = calloc(1, sizeof(*r));

	r->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	r->address.sun_family = AF_UNIX;	/* the kernel chooses an abstract name */
	assert_int_equal(bind(r->listener, (struct sockaddr *)&r->address, sizeof(sa_family_t)), 0);
	r->address_len = sizeof(r->address);
	getsockname(r->listener, (struct sockaddr *)&r->address, &r->address_len);
	assert_int_equal(listen(r->listener, 64), 0);
	assert_int_equal(loop_create(&r->loop, NULL, NULL), 0);
	assert_int_equal(line_server_create(&r->server, r->loop, r->listener, &ops, r, NULL), 0);
	assert_int_equal(pthread_create(&r->thread, NULL, run, r), 0);
	*state = r;
	alarm(60);
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	loop_quit(r->loop);
	pthread_join(r->thread, NULL);
	line_server_destroy(r->server);
	loop_destroy(r->loop);
	close(r->listener);
	free(r);
	alarm(0);
	return 0;
}

static int client(struct rig *r)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&r->address, r->address_len), 0);
	return fd;
}

static void put(int fd, const void *data, size_t len)
{
	assert_int_equal(send(fd, data, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* A line, its newline replaced; what came before the end of the connection if none did. */
static void get(int fd, char *text, size_t size)
{
	size_t n = 0;

	while (n + 1 < size && recv(fd, text + n, 1, 0) == 1 && text[n] != '\n')
		n++;
	text[n] = '\0';
}

static void answers(int fd, const char *send_this, size_t len, const char *expected)
{
	char text[64];

	put(fd, send_this, len);
	get(fd, text, sizeof(text));
	assert_string_equal(text, expected);
}

static void still_serves(struct rig *r)
{
	int fd = client(r);

	answers(fd, "hello\n", 6, "5");
	close(fd);
}

static void test_lines(void **state)
{
	int fd = client(*state);
	char text[64];

	answers(fd, "abc\n", 4, "3");
	answers(fd, "\n", 1, "0");
	answers(fd, "a\0b\n", 4, "3");
	put(fd, "1\n22\n333\n", 9);
	for (int i = 1; i <= 3; i++) {
		get(fd, text, sizeof(text));
		assert_int_equal(atoi(text), i);
	}
	close(fd);
}

static void test_half_lines(void **state)
{
	int fd = client(*state), other = client(*state);

	put(fd, "ab", 2);
	answers(other, "x\n", 2, "1");
	usleep(2000);
	answers(fd, "cd\n", 3, "4");
	close(other);
	close(fd);
}

static void test_longest_line(void **state)
{
	int fd = client(*state);
	char *text = malloc(LINE_LENGTH_MAX + 1);

	memset(text, 'a', LINE_LENGTH_MAX);
	text[LINE_LENGTH_MAX] = '\n';
	answers(fd, text, LINE_LENGTH_MAX + 1, "65536");
	free(text);
	close(fd);
}

/* 100 MB without a newline: told once, cut off, not kept. */
static void test_endless_line(void **state)
{
	int fd = client(*state);
	char *part = malloc(1 << 20), text[64];
	size_t sent = 0;

	memset(part, 'a', 1 << 20);
	while (sent < 100 << 20) {
		ssize_t n = send(fd, part, 1 << 20, MSG_NOSIGNAL);

		if (n < 0)
			break;
		sent += n;
	}
	assert_true(sent < 16 << 20);
	get(fd, text, sizeof(text));
	assert_true(!strcmp(text, "too long") || !text[0]);
	free(part);
	close(fd);
	still_serves(*state);
}

static void test_vanishing(void **state)
{
	for (int i = 0; i < 500; i++) {
		int fd = client(*state);

		if (i % 3 == 1)
			put(fd, "half", 4);
		else if (i % 3 == 2)
			put(fd, "whole\nbig\nhalf", 14);
		close(fd);
	}
	still_serves(*state);
}

/* More at once than are served: those who waited come when others go. */
static void test_many(void **state)
{
	int fd[60];

	for (unsigned int i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = client(*state);
	for (unsigned int i = 0; i < ARRAY_SIZE(fd); i++) {
		answers(fd[i], "four\n", 5, "4");
		close(fd[i]);
	}
	still_serves(*state);
}

/* Asks for much and reads nothing: cut off at the queue's end, others do not wait. */
static void test_not_reading(void **state)
{
	int fd = client(*state);

	for (int i = 0; i < 64 && send(fd, "big\n", 4, MSG_NOSIGNAL) == 4; i++)
		usleep(200);
	still_serves(*state);
	close(fd);
	still_serves(*state);
}

static void test_noise(void **state)
{
	unsigned int seed = 1;
	char noise[3000];

	for (int i = 0; i < 300; i++) {
		int fd = client(*state);

		for (unsigned int k = 0; k < sizeof(noise); k++)
			noise[k] = rand_r(&seed) >> 8;
		for (int part = 0; part < i % 5; part++)
			if (send(fd, noise, rand_r(&seed) % sizeof(noise), MSG_NOSIGNAL) < 0)
				break;
		close(fd);
	}
	still_serves(*state);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_lines), T(test_half_lines), T(test_longest_line), T(test_endless_line),
		T(test_vanishing), T(test_many), T(test_not_reading), T(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
