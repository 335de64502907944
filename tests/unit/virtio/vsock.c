// SPDX-License-Identifier: Apache-2.0
/* virtio-vsock from the driver's side: credit in both directions, refusals, ends. */
#include "virtio_rig.h"

#include "virtio/vsock.h"

#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define RX_BUF	0x80000ULL
#define TX_BUF	0xa0000ULL
#define RX_SIZE	(44U + 256U)
#define CHUNK	65536U

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

struct vm {
	struct bench b;
	struct ring rx, tx;
	unsigned int given;	/* receive buffers so far */
	char path[64];
	struct hdr h;		/* the last packet */
	uint32_t port;		/* the host's, of the connection */
};

static void give(struct vm *v)
{
	const struct seg s = { RX_BUF + (v->given++ % 16) * 512, RX_SIZE, D_WRITE };

	ring_add(&v->rx, &s, 1, 0);
}

static void vm_open(struct vm *v)
{
	struct virtio_device *d;

	memset(v, 0, sizeof(*v));
	snprintf(v->path, sizeof(v->path), "/tmp/vireo-vsock-%d", (int)getpid());
	bench_init(&v->b);
	assert_int_equal(virtio_vsock_create(&d, &v->b.rig.space, NULL, 3, v->path, NULL), 0);
	bench_plug(&v->b, d);
	assert_int_equal(rd(&v->b, DEVCFG(0), 8), 3);
	bench_features(&v->b, 0);
	ring_init(&v->rx, &v->b, 0, false, 16);
	ring_init(&v->tx, &v->b, 1, false, 16);
	for (unsigned int i = 0; i < 16; i++)
		give(v);
	bench_driver_ok(&v->b);
}

static void vm_close(struct vm *v)
{
	bench_done(&v->b);
	assert_int_equal(access(v->path, F_OK), -1);
}

static void send_packet(struct vm *v, unsigned int op, uint32_t len, uint32_t flags,
			uint32_t alloc, uint32_t fwd)
{
	const struct hdr h = { 3, 2, 5, v->port, len, 1, op, flags, alloc, fwd };
	const struct seg s = { TX_BUF, sizeof(h) + len, 0 };
	uint32_t id, n;

	memcpy(mem(&v->b, TX_BUF), &h, sizeof(h));
	ring_add(&v->tx, &s, 1, 0);
	ring_kick(&v->tx);
	assert_true(ring_take(&v->tx, 1, &id, &n));
}

/* The next packet to the guest, after a moment for sockets to become ready; 0: none. */
static unsigned int receive(struct vm *v)
{
	uint32_t id, len;

	for (unsigned int i = 0; i < 100; i++) {
		bench_sync(&v->b);
		if (ring_take(&v->rx, 1, &id, &len)) {
			memcpy(&v->h, mem(&v->b, RX_BUF + ((v->rx.used - 1) % 16) * 512), sizeof(v->h));
			assert_int_equal(len, sizeof(v->h) + v->h.len);
			give(v);
			ring_kick(&v->rx);
			return v->h.op;
		}
		usleep(1000);
	}
	return 0;
}

/* A program of the host that is connected to the guest's port 5. */
static int connected(struct vm *v, uint32_t alloc)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	char text[32] = "", want[32];

	strcpy(a.sun_path, v->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, "CONNECT 5\n", 10), 10);
	assert_int_equal(receive(v), REQUEST);
	assert_int_equal(v->h.dst_port, 5);
	assert_int_equal(v->h.dst_cid, 3);
	v->port = v->h.src_port;
	send_packet(v, RESPONSE, 0, 0, alloc, 0);
	snprintf(want, sizeof(want), "OK %u\n", v->port);
	assert_int_equal(read(fd, text, sizeof(text)), strlen(want));
	assert_string_equal(text, want);
	return fd;
}

static void test_credit_of_the_guest(void **state)
{
	struct vm v;
	int fd;

	(void)state;
	vm_open(&v);
	fd = connected(&v, 10);
	assert_int_equal(write(fd, "0123456789abcdefghijklmnop", 26), 26);
	assert_int_equal(receive(&v), RW);
	assert_int_equal(v.h.len, 10);
	assert_int_equal(receive(&v), CREDIT_REQUEST);
	assert_int_equal(receive(&v), 0);
	send_packet(&v, CREDIT_UPDATE, 0, 0, 10, 4);
	assert_int_equal(receive(&v), RW);
	assert_int_equal(v.h.len, 4);
	assert_int_equal(receive(&v), CREDIT_REQUEST);
	send_packet(&v, CREDIT_UPDATE, 0, 0, 100, 14);
	assert_int_equal(receive(&v), RW);
	assert_int_equal(v.h.len, 12);
	close(fd);
	assert_int_equal(receive(&v), SHUTDOWN);
	assert_int_equal(v.h.flags, 3);
	send_packet(&v, RST, 0, 0, 0, 0);
	send_packet(&v, RW, 4, 0, 0, 0);	/* to nobody */
	assert_int_equal(receive(&v), RST);
	vm_close(&v);
}

/* What nobody reads is kept up to the credit; more is the guest's fault. */
static void test_credit_of_the_host(void **state)
{
	uint32_t alloc, sent = 0;
	struct vm v;
	int fd;

	(void)state;
	vm_open(&v);
	fd = connected(&v, 1000);
	alloc = v.h.buf_alloc;
	for (;;) {
		send_packet(&v, RW, CHUNK, 0, 1000, 0);
		sent += CHUNK;
		send_packet(&v, CREDIT_REQUEST, 0, 0, 1000, 0);
		while (receive(&v))
			assert_int_equal(v.h.op, CREDIT_UPDATE);
		if (v.h.fwd_cnt != sent)
			break;
		assert_true(sent < 64U << 20);
	}
	/* Not all of the last went on; the rest of the credit fits, and no more. */
	while (sent - v.h.fwd_cnt + CHUNK <= alloc) {
		send_packet(&v, RW, CHUNK, 0, 1000, 0);
		sent += CHUNK;
	}
	send_packet(&v, RW, CHUNK, 0, 1000, 0);
	while (receive(&v) == CREDIT_UPDATE)
		;
	assert_int_equal(v.h.op, RST);
	close(fd);
	vm_close(&v);
}

static void test_refusals(void **state)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	struct vm v;
	char c;
	int fd;

	(void)state;
	vm_open(&v);
	v.port = 52;
	send_packet(&v, REQUEST, 0, 0, 1000, 0);	/* nobody listens there */
	assert_int_equal(receive(&v), RST);
	assert_int_equal(v.h.src_port, 52);
	assert_int_equal(v.h.dst_port, 5);
	send_packet(&v, RST, 0, 0, 0, 0);		/* no answer to that */
	assert_int_equal(receive(&v), 0);
	strcpy(a.sun_path, v.path);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(write(fd, "GET / HTTP/1.1\n", 15), 15);
	assert_true(read(fd, &c, 1) <= 0);
	close(fd);
	fd = connected(&v, 100);
	bench_reset(&v.b);				/* the guest reboots: the end for the host */
	assert_true(read(fd, &c, 1) <= 0);
	close(fd);
	vm_close(&v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_credit_of_the_guest),
		cmocka_unit_test(test_credit_of_the_host),
		cmocka_unit_test(test_refusals),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
