// SPDX-License-Identifier: Apache-2.0
/* The host's end of a command in a guest, with guests that behave and guests that do not. */
#include "base/session_wire.h"
#include "mgmt/session.h"
#include "unit.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct bench {
	int port;			/* the guest's end */
	void (*guest)(struct bench *b);
	int in[2], out[2], err[2];
	uint8_t start[4096];		/* what SESSION_START had */
	size_t start_len;
	unsigned int seed;
};

static void put(struct bench *b, uint8_t type, const void *data, uint32_t len)
{
	const struct session_head h = { .type = type, .len = len };

	if (write(b->port, &h, sizeof(h)) != sizeof(h) || write(b->port, data, len) != (ssize_t)len)
		close(b->port);
}

static void put_number(struct bench *b, uint8_t type, uint32_t n)
{
	put(b, type, &n, sizeof(n));
}

/* The next message that is not a greeting; 0: the host has gone. */
static uint8_t get(struct bench *b, uint8_t *buf, size_t *len)
{
	struct session_head h;

	do {
		if (recv(b->port, &h, sizeof(h), MSG_WAITALL) != sizeof(h))
			return 0;
		if (h.len && recv(b->port, buf, h.len, MSG_WAITALL) != (ssize_t)h.len)
			return 0;
	} while (h.type == SESSION_GREET);
	*len = h.len;
	return h.type;
}

static void *guest_thread(void *arg)
{
	struct bench *b = arg;

	b->guest(b);
	close(b->port);
	return NULL;
}

/* Runs a command in @guest; its status. */
static int run(struct bench *b, void (*guest)(struct bench *b), int wait_ms, struct err *e)
{
	char *const words[] = { "a", "b c", "", NULL }, *const environment[] = { "X=1", NULL };
	struct session s = { .words = words, .environment = environment, .folder = "/f" };
	pthread_t thread;
	int fds[2], status;

	*e = (struct err){ 0 };
	b->guest = guest;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	assert_false(pipe(b->in) || pipe(b->out) || pipe(b->err));
	b->port = fds[1];
	s.in = b->in[0];
	s.out = b->out[1];
	s.err = b->err[1];
	assert_int_equal(write(b->in[1], "typed", 5), 5);
	close(b->in[1]);
	pthread_create(&thread, NULL, guest_thread, b);
	status = session_run(&s, fds[0], wait_ms, e);
	close(fds[0]);
	pthread_join(thread, NULL);
	close(b->in[0]);
	close(b->out[1]);
	close(b->err[1]);
	return status;
}

static void reads(int fd, const char *wanted)
{
	char buf[256] = "";

	assert_int_equal(read(fd, buf, sizeof(buf) - 1), strlen(wanted));
	assert_string_equal(buf, wanted);
	close(fd);
}

static void done(struct bench *b)
{
	close(b->out[0]);
	close(b->err[0]);
}

static void good_guest(struct bench *b)
{
	uint8_t buf[4096], typed[64];
	size_t len, n = 0;
	uint8_t type;

	put_number(b, SESSION_READY, SESSION_VERSION);
	put_number(b, SESSION_READY, SESSION_VERSION);
	if (get(b, b->start, &b->start_len) != SESSION_START)
		return;
	while ((type = get(b, buf, &len)) == SESSION_IN) {
		memcpy(typed + n, buf, len);
		n += len;
	}
	if (type != SESSION_IN_END)
		return;
	put(b, SESSION_OUT, typed, n);
	put(b, SESSION_ERR, "err", 3);
	put(b, SESSION_OUT, "", 0);
	put_number(b, SESSION_EXIT, 42);
}

static void test_good(void **state)
{
	static const char words[] = "a\0b c\0\0X=1\0/f";
	struct session_start s;
	struct bench b = { 0 };
	struct err e;

	(void)state;
	assert_int_equal(run(&b, good_guest, -1, &e), 42);
	assert_int_equal(e.code, 0);
	reads(b.out[0], "typed");
	reads(b.err[0], "err");
	assert_int_equal(b.start_len, sizeof(s) + sizeof(words));
	memcpy(&s, b.start, sizeof(s));
	assert_int_equal(s.words, 3);
	assert_int_equal(s.environment, 1);
	assert_int_equal(s.window.rows, 0);
	assert_memory_equal(b.start + sizeof(s), words, sizeof(words));
}

static void failing_guest(struct bench *b)
{
	static const char text[] = "\x7f\0\0\0'x' cannot be run";

	put_number(b, SESSION_READY, SESSION_VERSION);
	put(b, SESSION_FAIL, text, sizeof(text) - 1);
}

static void silent_guest(struct bench *b)
{
	uint8_t buf[4096];
	size_t len;

	get(b, buf, &len);
}

static void dying_guest(struct bench *b)
{
	put_number(b, SESSION_READY, SESSION_VERSION);
}

static void old_guest(struct bench *b)
{
	put_number(b, SESSION_READY, SESSION_VERSION + 1);
}

static void long_guest(struct bench *b)
{
	const struct session_head h = { .type = SESSION_OUT, .len = SESSION_DATA_MAX + 1 };

	put_number(b, SESSION_READY, SESSION_VERSION);
	if (write(b->port, &h, sizeof(h)) < 0)
		return;
}

static void strange_guest(struct bench *b)
{
	put_number(b, SESSION_READY, SESSION_VERSION);
	put(b, SESSION_START, "", 0);
}

static void short_guest(struct bench *b)
{
	put_number(b, SESSION_READY, SESSION_VERSION);
	put(b, SESSION_EXIT, "", 0);
}

static void test_bad(void **state)
{
	static const struct {
		void (*guest)(struct bench *b);
		int status, code;
	} bad[] = {
		{ failing_guest, 127, -ENOEXEC }, { silent_guest, SESSION_NOT_RUN, -ETIMEDOUT },
		{ dying_guest, SESSION_NOT_RUN, -EPIPE }, { old_guest, SESSION_NOT_RUN, -EPROTO },
		{ long_guest, SESSION_NOT_RUN, -EPROTO }, { strange_guest, SESSION_NOT_RUN, -EPROTO },
		{ short_guest, SESSION_NOT_RUN, -EPROTO },
	};
	struct bench b = { 0 };
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(run(&b, bad[i].guest, 300, &e), bad[i].status);
		assert_int_equal(e.code, bad[i].code);
		assert_true(e.text[0]);
		done(&b);
	}
}

/* A guest that ends at once, when there is still something for it: its status arrives all the same. */
static void hasty_guest(struct bench *b)
{
	put_number(b, SESSION_READY, SESSION_VERSION);
	put_number(b, SESSION_EXIT, 7);
}

static void test_hasty(void **state)
{
	struct bench b = { 0 };
	struct err e;

	(void)state;
	for (unsigned int i = 0; i < 3000; i++) {
		assert_int_equal(run(&b, hasty_guest, -1, &e), 7);
		done(&b);
	}
}

/* Messages of all kinds and lengths, some of them no messages; small, so that no pipe is full. */
static void random_guest(struct bench *b)
{
	static const uint8_t types[] = "ROEXFsiewkg\0\xff";
	uint8_t data[600];

	put_number(b, SESSION_READY, SESSION_VERSION);
	for (int i = 0; i < 40; i++) {
		const size_t n = rand_r(&b->seed) % sizeof(data);

		for (size_t k = 0; k < n; k++)
			data[k] = rand_r(&b->seed);
		if (rand_r(&b->seed) % 4)
			put(b, types[rand_r(&b->seed) % (rand_r(&b->seed) % 3 ? 3 : sizeof(types))], data, n);
		else if (send(b->port, data, n, MSG_NOSIGNAL) < 0)
			return;
	}
}

static void test_random(void **state)
{
	struct bench b = { 0 };
	struct err e;

	(void)state;
	for (unsigned int i = 0; i < 300; i++) {
		b.seed = i;
		assert_in_range(run(&b, random_guest, 300, &e), 0, 255);
		done(&b);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_hasty),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
