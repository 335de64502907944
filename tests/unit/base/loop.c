// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop: descriptors, timers, work from other threads, signals; and the character
 * backend on descriptors that stands on it.
 */
#include "base/char_fd.h"
#include "base/loop.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct bench {
	struct clock clock;
	struct loop *loop;
	struct timer timer, limit;
	struct loop_work work[3];
	unsigned int fired, ready, caught;
	uint64_t at;
	char order[16];
	int fds[2];
};

static void too_late(void *arg)
{
	struct bench *b = arg;

	b->at = UINT64_MAX;	/* tests look at it */
	loop_quit(b->loop);
}

static void init(struct bench *b)
{
	memset(b, 0, sizeof(*b));
	clock_init(&b->clock, false);
	assert_int_equal(loop_create(&b->loop, &b->clock, NULL), 0);
	timer_init(&b->limit, &b->clock, too_late, b);
	timer_set(&b->limit, 5 * NS_PER_SEC);
	assert_int_equal(pipe(b->fds), 0);
}

static void run(struct bench *b)
{
	assert_int_equal(loop_run(b->loop, NULL), 0);
	assert_true(b->at != UINT64_MAX);
}

static void done(struct bench *b)
{
	timer_cancel(&b->limit);
	loop_destroy(b->loop);
	clock_destroy(&b->clock);
	close(b->fds[0]);
	close(b->fds[1]);
}

/* --- timers --- */

static void fire(void *arg)
{
	struct bench *b = arg;

	b->at = clock_now(&b->clock);
	if (++b->fired < 3)
		timer_set(&b->timer, b->at + 2000000);
	else
		loop_quit(b->loop);
}

static void test_timers(void **state)
{
	uint64_t start;
	struct bench b;

	(void)state;
	init(&b);
	timer_init(&b.timer, &b.clock, fire, &b);
	start = clock_now(&b.clock);
	timer_set(&b.timer, start + 2000000);
	run(&b);
	assert_int_equal(b.fired, 3);
	assert_true(b.at - start >= 6000000);
	done(&b);
}

static void *set_timer_later(void *arg)
{
	struct bench *b = arg;

	usleep(20000);
	b->fired = 2;
	timer_set(&b->timer, clock_now(&b->clock) + 1000000);
	return NULL;
}

/* A timer that another thread sets while the loop sleeps until a later one. */
static void test_earlier_timer(void **state)
{
	pthread_t thread;
	struct bench b;

	(void)state;
	init(&b);
	timer_init(&b.timer, &b.clock, fire, &b);
	pthread_create(&thread, NULL, set_timer_later, &b);
	run(&b);
	pthread_join(thread, NULL);
	assert_int_equal(b.fired, 3);
	done(&b);
}

/* --- work --- */

static void note_a(void *arg)
{
	strcat(((struct bench *)arg)->order, "a");
}

static void note_b(void *arg)
{
	strcat(((struct bench *)arg)->order, "b");
}

static void note_end(void *arg)
{
	struct bench *b = arg;

	strcat(b->order, ".");
	loop_quit(b->loop);
}

static void *post_later(void *arg)
{
	struct bench *b = arg;

	usleep(20000);
	loop_post(b->loop, &b->work[0]);
	loop_post(b->loop, &b->work[0]);
	loop_post(b->loop, &b->work[1]);
	loop_post(b->loop, &b->work[2]);
	return NULL;
}

static void test_posted(void **state)
{
	pthread_t thread;
	struct bench b;

	(void)state;
	init(&b);
	b.work[0] = (struct loop_work){ .run = note_a, .arg = &b };
	b.work[1] = (struct loop_work){ .run = note_b, .arg = &b };
	b.work[2] = (struct loop_work){ .run = note_end, .arg = &b };
	pthread_create(&thread, NULL, post_later, &b);
	run(&b);
	pthread_join(thread, NULL);
	/* A second post may have come after the first had run. */
	assert_true(!strcmp(b.order, "ab.") || !strcmp(b.order, "aab."));
	b.order[0] = '\0';
	loop_post(b.loop, &b.work[1]);
	loop_post(b.loop, &b.work[0]);
	loop_unpost(b.loop, &b.work[0]);
	loop_unpost(b.loop, &b.work[0]);
	loop_post(b.loop, &b.work[2]);
	run(&b);
	assert_string_equal(b.order, "b.");
	done(&b);
}

static void post_self(void *arg)
{
	struct bench *b = arg;

	b->fired++;
	loop_post(b->loop, &b->work[0]);
}

/* Work that posts itself again starves neither timers nor descriptors. */
static void test_greedy_work(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	b.work[0] = (struct loop_work){ .run = post_self, .arg = &b };
	loop_post(b.loop, &b.work[0]);
	timer_init(&b.timer, &b.clock, note_end, &b);
	timer_set(&b.timer, clock_now(&b.clock) + 5000000);
	run(&b);
	assert_true(b.fired > 1);
	loop_unpost(b.loop, &b.work[0]);
	done(&b);
}

static void test_early_quit(void **state)
{
	struct bench b;

	(void)state;
	init(&b);
	loop_quit(b.loop);
	run(&b);
	done(&b);
}

/* --- descriptors and signals --- */

static void ready(void *arg, uint32_t events)
{
	struct bench *b = arg;
	char c;

	assert_true(events & EPOLLIN);
	assert_int_equal(read(b->fds[0], &c, 1), 1);
	if (++b->ready == 2) {
		loop_unwatch(b->loop, b->fds[0]);
		loop_quit(b->loop);
	}
}

static void test_watch(void **state)
{
	struct bench b;
	struct err e;
	FILE *file;

	(void)state;
	init(&b);
	assert_int_equal(loop_watch(b.loop, b.fds[0], EPOLLIN, ready, &b, &e), 0);
	assert_int_equal(loop_watch(b.loop, b.fds[0], EPOLLIN, ready, &b, &e), -EEXIST);
	assert_int_equal(loop_rewatch(b.loop, b.fds[1], 0), -ENOENT);
	file = tmpfile();
	assert_int_equal(loop_watch(b.loop, fileno(file), EPOLLIN, ready, &b, &e), -EPERM);
	fclose(file);
	assert_int_equal(write(b.fds[1], "xyz", 3), 3);
	run(&b);
	assert_int_equal(b.ready, 2);
	done(&b);
}

static void caught(void *arg, int signo)
{
	struct bench *b = arg;

	b->caught = signo;
	loop_quit(b->loop);
}

static void test_signal(void **state)
{
	static const int set[] = { SIGUSR1, SIGUSR2 };
	struct bench b;

	(void)state;
	init(&b);
	assert_int_equal(loop_watch_signals(b.loop, set, 2, caught, &b, NULL), 0);
	assert_int_equal(loop_watch_signals(b.loop, set, 2, caught, &b, NULL), -EEXIST);
	kill(getpid(), SIGUSR2);
	run(&b);
	assert_int_equal(b.caught, SIGUSR2);
	done(&b);
}

/* --- the character backend --- */

/* A front end that takes @room bytes at most, then asks again. */
struct front {
	struct bench *b;
	struct char_backend *backend;
	char got[20000];
	size_t count, room, expect;
	unsigned int writable;
	bool closed;
};

static size_t front_receive(void *dev, const uint8_t *buf, size_t len)
{
	struct front *f = dev;
	size_t n = MIN(len, f->room);

	memcpy(f->got + f->count, buf, n);
	f->count += n;
	if (n < len)
		f->backend->ops->input_wanted(f->backend);
	if (f->count == f->expect)
		loop_quit(f->b->loop);
	return n;
}

static void front_writable(void *dev)
{
	struct front *f = dev;

	f->writable++;
	loop_quit(f->b->loop);
}

static const struct char_front_ops front_ops = {
	.receive = front_receive, .writable = front_writable,
};

/* Drops '#', as an escape key would be. */
static size_t filter(void *arg, uint8_t *buf, size_t len)
{
	size_t n = 0;

	(void)arg;
	for (size_t i = 0; i < len; i++)
		if (buf[i] != '#')
			buf[n++] = buf[i];
	return n;
}

static void closed(void *arg)
{
	((struct front *)arg)->closed = true;
}

static void open_fd(struct front *f, struct bench *b, int in, int out)
{
	const struct char_fd_config c = {
		.in = in, .out = out, .filter = filter, .closed = closed, .arg = f,
	};

	f->b = b;
	assert_int_equal(char_fd_create(&f->backend, b->loop, &c, NULL), 0);
	char_attach(f->backend, &front_ops, f);
}

/* Slow input, by seven bytes at a time; the filter works; the end is told. */
static void test_input(void **state)
{
	static struct front f;
	char text[3000];
	struct bench b;

	(void)state;
	init(&b);
	for (unsigned int i = 0; i < sizeof(text); i++)
		text[i] = i % 10 ? 'a' + i % 26 : '#';
	assert_int_equal(write(b.fds[1], text, sizeof(text)), sizeof(text));
	f = (struct front){ .room = 7, .expect = 2700 };
	open_fd(&f, &b, b.fds[0], -1);
	run(&b);
	assert_int_equal(f.count, 2700);
	for (unsigned int i = 0, n = 0; i < sizeof(text); i++)
		if (i % 10)
			assert_int_equal(f.got[n++], text[i]);
	close(b.fds[1]);
	timer_init(&b.timer, &b.clock, note_end, &b);
	timer_set(&b.timer, clock_now(&b.clock) + 20000000);
	run(&b);
	assert_true(f.closed);
	f.backend->ops->destroy(f.backend);
	b.fds[1] = dup(b.fds[0]);
	done(&b);
}

/* A regular file, which epoll cannot watch. */
static void test_file_input(void **state)
{
	static struct front f;
	FILE *file = tmpfile();
	struct bench b;

	(void)state;
	init(&b);
	for (unsigned int i = 0; i < 10000; i++)
		fputc('a' + i % 26, file);
	rewind(file);
	f = (struct front){ .room = 100, .expect = 10000 };
	open_fd(&f, &b, fileno(file), -1);
	run(&b);
	assert_int_equal(f.count, 10000);
	assert_int_equal(f.got[9999], 'a' + 9999 % 26);
	f.backend->ops->destroy(f.backend);
	fclose(file);
	done(&b);
}

/* Output leaves by itself, in few pieces; a full pipe pushes back and opens again. */
static void test_output(void **state)
{
	static uint8_t text[200000];
	static struct front f;
	size_t taken, n;
	struct bench b;
	char piece[65536];
	ssize_t got;

	(void)state;
	init(&b);
	f = (struct front){ .room = 1 };
	open_fd(&f, &b, -1, b.fds[1]);
	for (int i = 0; i < 5; i++)
		assert_int_equal(f.backend->ops->write(f.backend, (uint8_t *)"x", 1), 1);
	timer_init(&b.timer, &b.clock, note_end, &b);
	timer_set(&b.timer, clock_now(&b.clock) + 20000000);
	run(&b);
	assert_int_equal(read(b.fds[0], piece, sizeof(piece)), 5);
	/* More than the pipe and the backend hold together. */
	memset(text, 'y', sizeof(text));
	for (taken = 0; taken < sizeof(text); taken += n) {
		f.writable = 0;
		n = f.backend->ops->write(f.backend, text + taken, sizeof(text) - taken);
		timer_set(&b.timer, clock_now(&b.clock) + 5000000);
		run(&b);
		if (!n && !f.writable)
			break;
	}
	assert_in_range(taken, 16384 + 32768, 16384 + 65536);
	f.writable = 0;
	timer_cancel(&b.timer);
	fcntl(b.fds[0], F_SETFL, O_NONBLOCK);
	for (n = 0; (got = read(b.fds[0], piece, sizeof(piece))) > 0; n += got)
		;
	run(&b);	/* until front_writable() */
	assert_int_equal(f.writable, 1);
	f.backend->ops->destroy(f.backend);	/* sends the rest */
	close(b.fds[1]);
	while ((got = read(b.fds[0], piece, sizeof(piece))) > 0)
		n += got;
	assert_int_equal(n, taken);
	b.fds[1] = dup(b.fds[0]);
	done(&b);
}

/* What @f wrote, as far as it has arrived. */
static ssize_t arrived(int fd, char *buf, size_t size)
{
	const ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);

	return n < 0 ? 0 : n;
}

static void open_socket(struct front *f, struct bench *b, int fds[2])
{
	struct char_fd_config c = { .in = -1, .pieces = true, .arg = f };

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	c.out = fds[1];
	*f = (struct front){ .b = b, .room = 1 };
	assert_int_equal(char_fd_create(&f->backend, b->loop, &c, NULL), 0);
	char_attach(f->backend, &front_ops, f);
}

/* On a socket each write is there when it returns; single bytes come by sixteen, or soon. */
static void test_pieces(void **state)
{
	static struct front f;
	char piece[64];
	struct bench b;
	int fds[2];

	(void)state;
	init(&b);
	open_socket(&f, &b, fds);
	assert_int_equal(f.backend->ops->write(f.backend, (uint8_t *)"/bin/python3\r\n", 14), 14);
	assert_int_equal(arrived(fds[0], piece, sizeof(piece)), 14);
	for (int i = 0; i < 17; i++)
		assert_int_equal(f.backend->ops->write(f.backend, (uint8_t *)"x", 1), 1);
	assert_int_equal(arrived(fds[0], piece, sizeof(piece)), 16);
	timer_init(&b.timer, &b.clock, note_end, &b);
	timer_set(&b.timer, clock_now(&b.clock) + 20000000);
	run(&b);
	assert_int_equal(arrived(fds[0], piece, sizeof(piece)), 1);
	/* The timer can start again; what is held goes out with what comes. */
	assert_int_equal(f.backend->ops->write(f.backend, (uint8_t *)"y", 1), 1);
	assert_int_equal(f.backend->ops->write(f.backend, (uint8_t *)"zz", 2), 2);
	assert_int_equal(arrived(fds[0], piece, sizeof(piece)), 3);
	assert_memory_equal(piece, "yzz", 3);
	f.backend->ops->destroy(f.backend);
	close(fds[0]);
	close(fds[1]);
	done(&b);
}

/* A socket that nobody reads pushes back; then everything comes, in order. */
static void test_full_socket(void **state)
{
	static uint8_t text[4 << 20];
	static char got[sizeof(text)];
	static struct front f;
	size_t taken, n = 0;
	struct bench b;
	int fds[2];

	(void)state;
	init(&b);
	for (size_t i = 0; i < sizeof(text); i++)
		text[i] = i * 7 >> 3;
	open_socket(&f, &b, fds);
	taken = f.backend->ops->write(f.backend, text, sizeof(text));
	assert_in_range(taken, 65536, sizeof(text) - 1);
	while (n < sizeof(text)) {
		f.writable = 0;
		for (ssize_t more = 1; more; n += more)
			more = arrived(fds[0], got + n, sizeof(got) - n);
		if (taken < sizeof(text) || n < taken) {
			timer_init(&b.timer, &b.clock, note_end, &b);
			timer_set(&b.timer, clock_now(&b.clock) + 5000000);
			run(&b);
		}
		assert_true(n < taken || taken == sizeof(text) || f.writable);
		taken += f.backend->ops->write(f.backend, text + taken, sizeof(text) - taken);
	}
	assert_memory_equal(got, text, sizeof(text));
	f.backend->ops->destroy(f.backend);
	close(fds[0]);
	close(fds[1]);
	done(&b);
}

/* A reader that is gone stops nothing. */
static void test_reader_gone(void **state)
{
	static struct front f;
	struct bench b;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	init(&b);
	f = (struct front){ .room = 1 };
	open_fd(&f, &b, -1, b.fds[1]);
	close(b.fds[0]);
	timer_init(&b.timer, &b.clock, note_end, &b);
	for (int i = 0; i < 3; i++) {
		static uint8_t text[16384];

		assert_int_equal(f.backend->ops->write(f.backend, text, sizeof(text)),
				 sizeof(text));
		timer_set(&b.timer, clock_now(&b.clock) + 10000000);
		run(&b);
	}
	f.backend->ops->destroy(f.backend);
	b.fds[0] = dup(b.fds[1]);
	done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_timers),
		cmocka_unit_test(test_earlier_timer),
		cmocka_unit_test(test_posted),
		cmocka_unit_test(test_greedy_work),
		cmocka_unit_test(test_early_quit),
		cmocka_unit_test(test_watch),
		cmocka_unit_test(test_signal),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_file_input),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_full_socket),
		cmocka_unit_test(test_reader_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
