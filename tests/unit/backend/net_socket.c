// SPDX-License-Identifier: Apache-2.0
/*
 * The network on a socket: its texts; frames in halves, short ones, lengths that cannot be; a
 * large frame that is cut; a peer that does not read; peers that come and go; datagrams, and a
 * group that gives back what it was sent; random bytes (FUZZ_SECONDS, FUZZ_SEED).
 */
#include "fake_net.h"

#include "backend/net_socket.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

struct rig {
	struct loop *loop;
	struct net_backend *net;
	int peer;
	/* What the front end got, and how it behaves. */
	unsigned int room, frames, writable;
	size_t last_len;
	uint8_t last[NET_FRAME_MAX];
	int link;			/* -1: nothing was said */
};

static unsigned int take(void *dev, struct net_in *frames, unsigned int count)
{
	struct rig *r = dev;
	unsigned int i;

	for (i = 0; i < count && r->room; i++, r->room--) {
		assert_true(frames[i].len >= NET_ETH_LEN && frames[i].len <= NET_FRAME_MAX);
		r->last_len = frames[i].len;
		memcpy(r->last, frames[i].data, frames[i].len);
		r->frames++;
	}
	return i;
}

static void writable(void *dev)
{
	((struct rig *)dev)->writable++;
}

static void link_is(void *dev, bool up)
{
	((struct rig *)dev)->link = up;
}

static const struct net_front_ops front = { .receive = take, .writable = writable, .link = link_is };

static void open_net(struct rig *r, const char *text)
{
	struct net_socket_config c;
	struct err e;

	r->room = ~0U;
	r->link = -1;
	assert_int_equal(loop_create(&r->loop, NULL, NULL), 0);
	if (net_socket_config_parse(&c, text, &e) || net_socket_create(&r->net, &c, NULL, &e))
		fail_msg("%s", e.text);
	assert_int_equal(net_attach(r->net, r->loop, &front, r, NULL), 0);
}

static void setup(struct rig *r, int type)
{
	char text[32];
	int fds[2];

	memset(r, 0, sizeof(*r));
	assert_int_equal(socketpair(AF_UNIX, type, 0, fds), 0);
	snprintf(text, sizeof(text), "fd=%d", fds[0]);
	open_net(r, text);
	close(fds[0]);
	r->peer = fds[1];
}

static void done(struct rig *r)
{
	r->net->ops->destroy(r->net);
	loop_destroy(r->loop);
	if (r->peer >= 0)
		close(r->peer);
}

static void quit(void *arg)
{
	loop_quit(arg);
}

static void turn(struct rig *r)
{
	for (int i = 0; i < 3; i++) {
		struct loop_work end = { .run = quit, .arg = r->loop };

		loop_post(r->loop, &end);
		assert_int_equal(loop_run(r->loop, NULL), 0);
	}
}

static void put(struct rig *r, const void *data, size_t len)
{
	assert_int_equal(send(r->peer, data, len, MSG_NOSIGNAL), (ssize_t)len);
	turn(r);
}

/* A frame with its length before it; its size. */
static size_t framed(uint8_t *buf, size_t len, uint8_t fill)
{
	const uint32_t n = htonl(len);

	memcpy(buf, &n, 4);
	memset(buf + 4, fill, len);
	return 4 + len;
}

static void send_plain(struct rig *r, uint8_t *data, size_t len, unsigned int taken)
{
	struct iovec iov[2] = { { data, 10 }, { data + 10, len - 10 } };
	const struct net_out f = { .iov = iov, .count = 2, .len = len };

	assert_int_equal(net_send(r->net, &f, 1), taken);
}

static void test_text(void **state)
{
	static const char *const good[] = {
		"listen=:1234", "listen=127.0.0.1:1", "listen=unix:/x", "connect=[::1]:5", "connect=unix:/x",
		"mcast=230.0.0.1:1234", "mcast=230.0.0.1:1234,localaddr=127.0.0.1",
		"udp=127.0.0.1:5,localaddr=:6", "fd=0",
	};
	static const char *const bad[] = {
		"", "listen", "listen=", "listen=1234", "listen=host:80", "listen=:99999", "listen=:x",
		"connect=:1,listen=:2", "udp=:5", "fd=x", "fd=999", "colour=red", "listen=:1,localaddr=:2",
		"connect=[::1:5",
	};
	struct net_socket_config c;
	struct err e;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		if (net_socket_config_parse(&c, good[i], &e))
			fail_msg("%s: %s", good[i], e.text);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (!net_socket_config_parse(&c, bad[i], &e))
			fail_msg("'%s' is taken", bad[i]);
}

static void test_receive(void **state)
{
	uint8_t buf[1024];
	struct rig r;
	size_t n;

	(void)state;
	setup(&r, SOCK_STREAM);
	n = framed(buf, 60, 1);
	n += framed(buf + n, 3, 9);		/* no frame */
	n += framed(buf + n, 0, 9);
	n += framed(buf + n, 70, 2);
	for (size_t i = 0; i < n; i++)		/* a byte at a time */
		put(&r, buf + i, 1);
	assert_int_equal(r.frames, 2);
	assert_int_equal(r.last_len, 70);
	assert_int_equal(r.last[69], 2);
	put(&r, buf, n);
	assert_int_equal(r.frames, 4);
	/* The front end refuses, and takes them later. */
	r.room = 1;
	put(&r, buf, n);
	assert_int_equal(r.frames, 5);
	r.room = ~0U;
	r.net->ops->input_wanted(r.net);
	turn(&r);
	assert_int_equal(r.frames, 6);
	/* More short ones than the buffer holds. */
	memset(buf, 0, sizeof(buf));
	for (int i = 0; i < 400; i++)
		put(&r, buf, sizeof(buf));
	put(&r, buf, framed(buf, 64, 5));
	assert_int_equal(r.frames, 7);
	assert_int_equal(r.link, -1);
	/* What cannot be a length. */
	memset(buf, 0xff, 4);
	put(&r, buf, 4);
	assert_int_equal(r.link, 0);
	send_plain(&r, buf, 60, 1);
	done(&r);
}

static void test_largest(void **state)
{
	static uint8_t buf[NET_FRAME_MAX + 4];
	struct rig r;
	size_t n, at = 0;

	(void)state;
	setup(&r, SOCK_STREAM);
	n = framed(buf, NET_FRAME_MAX, 7);
	while (at < n) {
		const ssize_t sent = send(r.peer, buf + at, n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		assert_true(sent > 0);
		at += sent;
		turn(&r);
	}
	assert_int_equal(r.frames, 1);
	assert_int_equal(r.last_len, NET_FRAME_MAX);
	done(&r);
}

static void test_send(void **state)
{
	uint8_t frame[8192], got[16384];
	struct iovec iov = { .iov_base = frame };
	struct net_out f = { .iov = &iov, .count = 1 };
	unsigned int pieces = 0;
	struct rig r;
	ssize_t n;

	(void)state;
	setup(&r, SOCK_STREAM);
	memset(frame, 0x33, 60);
	send_plain(&r, frame, 60, 1);
	assert_int_equal(recv(r.peer, got, sizeof(got), 0), 64);
	assert_memory_equal(got, "\0\0\0\x3c\x33", 5);
	/* A large one leaves in segments with their sums. */
	f.len = iov.iov_len = make_tcp(frame, false, 5000, 0x10);
	f.hdr = tcp_hdr(frame, false, f.len, 1460);
	assert_int_equal(net_send(r.net, &f, 1), 1);
	n = recv(r.peer, got, sizeof(got), 0);
	for (ssize_t at = 0; at < n; pieces++) {
		const size_t len = got[at + 2] << 8 | got[at + 3];

		assert_true(len <= 14 + 40 + 1460);
		assert_int_equal(tcp_sum_of(got + at + 4, false, len), 0xffff);
		at += 4 + len;
	}
	assert_int_equal(pieces, 4);
	done(&r);
}

static void test_full(void **state)
{
	uint8_t frame[1500], got[65536];
	unsigned int sent = 0, bytes = 0;
	struct iovec iov = { frame, sizeof(frame) };
	const struct net_out f = { .iov = &iov, .count = 1, .len = sizeof(frame) };
	struct rig r;
	ssize_t n;

	(void)state;
	setup(&r, SOCK_STREAM);
	memset(frame, 0x44, sizeof(frame));
	while (net_send(r.net, &f, 1))
		assert_true(sent++ < 100000);
	turn(&r);
	assert_int_equal(r.writable, 0);
	do {
		n = recv(r.peer, got, sizeof(got), MSG_DONTWAIT);
		bytes += MAX(n, 0);
		turn(&r);
	} while (n > 0);
	assert_true(r.writable > 0);
	assert_int_equal(bytes, sent * 1504);
	/* It goes while the socket is full. */
	while (net_send(r.net, &f, 1))
		;
	close(r.peer);
	r.peer = -1;
	turn(&r);
	assert_int_equal(r.link, 0);
	assert_int_equal(net_send(r.net, &f, 1), 1);
	done(&r);
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(a.sun_path, path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

static void test_listen(void **state)
{
	char path[64], text[128], byte;
	uint8_t buf[128];
	struct rig r;
	int second;

	(void)state;
	memset(&r, 0, sizeof(r));
	snprintf(path, sizeof(path), "/tmp/vireo-net-%d", (int)getpid());
	snprintf(text, sizeof(text), "listen=unix:%s", path);
	open_net(&r, text);
	for (int i = 0; i < 2; i++) {
		r.peer = connect_to(path);
		turn(&r);
		assert_int_equal(r.link, 1);
		put(&r, buf, framed(buf, 60, 1));
		assert_int_equal(r.frames, i + 1);
		second = connect_to(path);
		turn(&r);
		assert_int_equal(recv(second, &byte, 1, 0), 0);
		close(second);
		close(r.peer);
		turn(&r);
		assert_int_equal(r.link, 0);
	}
	r.peer = -1;
	done(&r);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_datagrams(void **state)
{
	uint8_t frame[128], got[256];
	struct rig r;

	(void)state;
	setup(&r, SOCK_DGRAM);
	memset(frame, 0x55, sizeof(frame));
	put(&r, frame, 100);
	put(&r, frame, 5);
	assert_int_equal(r.frames, 1);
	assert_int_equal(r.last_len, 100);
	r.room = 0;
	put(&r, frame, 90);
	r.room = 1;
	r.net->ops->input_wanted(r.net);
	turn(&r);
	assert_int_equal(r.last_len, 90);
	send_plain(&r, frame, 60, 1);
	assert_int_equal(recv(r.peer, got, sizeof(got), 0), 60);
	done(&r);
}

/* Two on a group hear each other, and not themselves. */
static void test_group(void **state)
{
	static struct rig r[2];
	struct net_socket_config c;
	struct net_backend *probe;
	uint8_t frame[64];
	char text[64];

	(void)state;
	snprintf(text, sizeof(text), "mcast=239.9.8.7:%d,localaddr=127.0.0.1", 20000 + getpid() % 20000);
	assert_int_equal(net_socket_config_parse(&c, text, NULL), 0);
	if (net_socket_create(&probe, &c, NULL, NULL)) {
		print_message("# no multicast here\n");
		skip();
	}
	probe->ops->destroy(probe);
	memset(r, 0, sizeof(r));
	for (int i = 0; i < 2; i++) {
		open_net(&r[i], text);
		r[i].peer = -1;
	}
	memset(frame, 0x66, sizeof(frame));
	send_plain(&r[0], frame, sizeof(frame), 1);
	for (int i = 0; i < 100 && !r[1].frames; i++) {
		usleep(10000);
		turn(&r[0]);
		turn(&r[1]);
	}
	assert_int_equal(r[1].frames, 1);
	assert_int_equal(r[0].frames, 0);
	done(&r[0]);
	done(&r[1]);
}

static void test_random(void **state)
{
	const char *seconds = getenv("FUZZ_SECONDS"), *seed = getenv("FUZZ_SEED");
	const time_t end = time(NULL) + (seconds ? atoi(seconds) : 1);
	uint8_t buf[300];
	struct rig r;

	(void)state;
	srand(seed ? atoi(seed) : 1);
	do {
		setup(&r, rand() % 4 ? SOCK_STREAM : SOCK_DGRAM);
		for (int i = 0; i < 300 && r.link != 0; i++) {
			const size_t n = 1 + rand() % sizeof(buf);

			for (size_t k = 0; k < n; k++)
				buf[k] = rand() % 8 ? 0 : rand();
			r.room = rand() % 3 ? ~0U : (unsigned int)rand() % 4;
			put(&r, buf, n);
			if (rand() % 2)
				r.net->ops->input_wanted(r.net);
			turn(&r);
		}
		done(&r);
	} while (time(NULL) < end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_largest),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_full),
		cmocka_unit_test(test_listen),
		cmocka_unit_test(test_datagrams),
		cmocka_unit_test(test_group),
		cmocka_unit_test(test_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
