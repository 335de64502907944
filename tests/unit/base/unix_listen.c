// SPDX-License-Identifier: Apache-2.0
/* Accepting when there are no descriptors left: who waits is turned away, and nobody spins. */
#include "base/unix_listen.h"
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct bench {
	struct sockaddr_un address;
	int listener, spare;
	int client[4];
};

static int client(const struct bench *b)
{
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (const struct sockaddr *)&b->address, sizeof(b->address)), 0);
	return fd;
}

static void begin(struct bench *b)
{
	*b = (struct bench){ .address.sun_family = AF_UNIX };
	snprintf(b->address.sun_path, sizeof(b->address.sun_path), "/tmp/vireo-listen-%d", (int)getpid());
	b->listener = unix_listen(b->address.sun_path, 4, NULL);
	assert_true(b->listener >= 0);
	b->spare = unix_spare(b->listener);
	assert_true(b->spare >= 0);
	for (unsigned int i = 0; i < 4; i++)
		b->client[i] = client(b);
}

static void end(struct bench *b)
{
	for (unsigned int i = 0; i < 4; i++)
		close(b->client[i]);
	close(b->listener);
	close(b->spare);
	unlink(b->address.sun_path);
}

static bool waits(const struct bench *b)
{
	struct pollfd p = { .fd = b->listener, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* From now on the process gets no new descriptor; the limit that was. */
static struct rlimit use_up(void)
{
	struct rlimit was, now;
	int fd;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &was), 0);
	fd = dup(0);	/* the lowest that is free */
	assert_true(fd >= 0);
	close(fd);
	now = was;
	now.rlim_cur = fd;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
	return was;
}

static void turned_away(void **state)
{
	struct rlimit was;
	struct bench b;
	char c;
	int fd;

	(void)state;
	begin(&b);
	was = use_up();
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(unix_accept(b.listener, &b.spare), -EMFILE);
		assert_true(b.spare >= 0);
		assert_int_equal(read(b.client[i], &c, 1), 0);
	}
	assert_true(waits(&b));
	setrlimit(RLIMIT_NOFILE, &was);
	fd = unix_accept(b.listener, &b.spare);
	assert_true(fd >= 0);
	assert_false(waits(&b));
	assert_int_equal(unix_accept(b.listener, &b.spare), -EAGAIN);
	close(fd);
	end(&b);
}

/* Somebody else took the spare one: the connection waits, and so does the caller, a little. */
static void without_spare(void **state)
{
	struct rlimit was;
	struct bench b;
	int fd;

	(void)state;
	begin(&b);
	close(b.spare);
	fd = dup(0);
	was = use_up();
	b.spare = -1;
	assert_int_equal(unix_accept(b.listener, &b.spare), -EMFILE);
	assert_true(waits(&b));
	setrlimit(RLIMIT_NOFILE, &was);
	close(fd);
	fd = unix_accept(b.listener, &b.spare);
	assert_true(fd >= 0);
	close(fd);
	end(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(turned_away),
		cmocka_unit_test(without_spare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
