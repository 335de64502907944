// SPDX-License-Identifier: Apache-2.0
/*
 * Hostile drivers: random registers, rings and buffers, at random times, against each virtio
 * device.  Nothing may crash, hang, or write outside of guest memory (run it with SAN=1); and
 * after every session a reset works, and a driver that behaves is served.
 *
 * FUZZ_SECONDS and FUZZ_SEED in the environment run it longer and elsewhere; LONG=1 takes a
 * minute a device.
 */
#include "virtio_rig.h"
#include "fake_char.h"
#include "fake_net.h"

#include "backend/p9.h"
#include "base/unix_listen.h"
#include "virtio/blk.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/p9.h"
#include "virtio/rng.h"
#include "virtio/scsi.h"
#include "virtio/vsock.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define RINGS		0x10000ULL	/* and 0x4000 a queue: where rings usually are */
#define QUEUES		6
#define BUFFERS		0x60000ULL
#define TABLES		0x50000ULL

struct fuzz {
	struct bench b;
	uint64_t seed;
	const struct target *target;
	struct fake_char chars[3];
	struct fake_net net;
	struct block *block;
};

struct target {
	const char *name;
	struct virtio_device *(*make)(struct fuzz *f);
	/* Writes the beginning of a sensible request to @p, so that deeper code is reached. */
	void (*header)(struct fuzz *f, uint8_t *p);
	void (*poke)(struct fuzz *f);	/* something the host does meanwhile; may be NULL */
	unsigned int head, tail;	/* bytes of a request before its data, and of its answer */
};

static uint64_t rnd(struct fuzz *f)
{
	return rig_random(&f->seed);
}

static uint64_t below(struct fuzz *f, uint64_t n)
{
	return rnd(f) % n;
}

static uint64_t env(const char *name, uint64_t otherwise)
{
	const char *s = getenv(name);

	return s ? strtoull(s, NULL, 0) : otherwise;
}

/* Small numbers, extremes, powers, anything. */
static uint64_t value(struct fuzz *f)
{
	switch (below(f, 6)) {
	case 0:
		return rnd(f);
	case 1:
		return -below(f, 16);
	case 2:
		return BIT(below(f, 64));
	case 3:
		return below(f, 0x10000);
	default:
		return below(f, 16);
	}
}

static gpa_t address(struct fuzz *f)
{
	switch (below(f, 16)) {
	case 0:
		return value(f);
	case 1:
		return BENCH_RAM - below(f, 4096);
	case 2:
		return BENCH_ROM + below(f, 4096);
	case 3:
		return BENCH_RAM2 + BENCH_RAM2_SIZE - below(f, 64);
	case 4:
		return RINGS + below(f, 0x4000 * QUEUES);	/* rings as buffers */
	case 5:
		return BENCH_BARS + below(f, 0x10000);
	default:
		return BUFFERS + below(f, 0x80000);
	}
}

static uint32_t length(struct fuzz *f)
{
	static const uint32_t usual[] = { 0, 1, 8, 12, 16, 20, 512, 4096, 65536 };

	return below(f, 8) ? usual[below(f, ARRAY_SIZE(usual))] : (uint32_t)value(f);
}

/* --- rings --- */

static uint16_t random_flags(struct fuzz *f, bool packed, bool wrap)
{
	uint16_t flags = below(f, 8) ? below(f, 4) : below(f, 8);

	if (!below(f, 64))
		return rnd(f);
	return packed ? flags | packed_flags(wrap) : flags;
}

static void random_desc(struct fuzz *f, gpa_t table, unsigned int i, bool packed, bool wrap,
			unsigned int entries)
{
	struct seg s = { address(f), length(f), 0 };
	uint16_t flags = random_flags(f, packed, wrap);

	if (flags & D_INDIRECT) {
		s.addr = TABLES + 16 * below(f, 256);
		s.len = 16 * below(f, 8);
		if (!below(f, 8))
			s.len = value(f);
	}
	if (packed)
		put_packed(&f->b, table, i, &s, flags, below(f, 64));
	else
		put_desc(&f->b, table, i, &s, flags, below(f, entries + 1));
	if (!(flags & D_INDIRECT) && s.len >= 16 && gpa_to_hva(&f->b.rig.space, s.addr, 64) &&
	    s.addr >= BUFFERS)
		f->target->header(f, gpa_to_hva(&f->b.rig.space, s.addr, 64));
}

/* A request as the device expects it: a header to read, a buffer, a byte or so to write. */
static void decent_chain(struct fuzz *f, struct ring *r)
{
	struct seg s[4] = { { BUFFERS + 64 * below(f, 64), f->target->head, 0 } };
	unsigned int n = 1, out = below(f, 3);

	if (r->size < 4)
		return;
	f->target->header(f, mem(&f->b, s[0].addr));
	for (; n < 3; n++)
		s[n] = (struct seg){ BUFFERS + below(f, 0x8000), 512 * below(f, 9),
				     n <= out ? 0 : D_WRITE };
	s[n++] = (struct seg){ BUFFERS + 0x9000 + below(f, 64), f->target->tail + 1 + below(f, 4), D_WRITE };
	ring_add(r, s + below(f, 2), n - 1, below(f, 64));
}

static void random_ring(struct fuzz *f, struct ring *r)
{
	const unsigned int count = below(f, 8);

	for (unsigned int i = 0; i < count; i++) {
		random_desc(f, r->desc, below(f, r->size), r->packed,
			    below(f, 8) ? r->avail_wrap : below(f, 2), r->size);
		random_desc(f, TABLES, below(f, 256), r->packed, r->avail_wrap, 256);
		if (!r->packed)
			offer(r, below(f, r->size + 1));
	}
	if (!below(f, 32))
		poke16(&f->b, r->driver + 2, value(f));
	if (!below(f, 16))
		poke16(&f->b, r->driver, value(f));
}

/* --- a session: negotiate somehow, do things, reset --- */

static void random_register(struct fuzz *f)
{
	const unsigned int size = 1U << below(f, 4);
	const uint64_t off = below(f, 4) ? COMMON(below(f, 0x40)) :
			     below(f, 2) ? DEVCFG(below(f, 0x40)) : below(f, 0x4000);

	if (below(f, 3))
		rd(&f->b, MIN(off, 0x4000 - size), size);
	else if (off < 0x14 || off > 0x15 || !below(f, 8))
		wr(&f->b, MIN(off, 0x4000 - size), size, value(f));
}

/* The BARs back to where they were. */
static void restore(struct fuzz *f)
{
	cfg_wr(&f->b, 0x10, 4, BENCH_BARS);
	cfg_wr(&f->b, 0x14, 4, 0);
	cfg_wr(&f->b, 0x18, 4, BENCH_BARS + 0x4000);
	bench_enable(&f->b);
}

static void random_config(struct fuzz *f)
{
	const unsigned int size = 1U << below(f, 3), off = below(f, 256) & ~(size - 1);

	if (below(f, 2))
		cfg_rd(&f->b, off, size);
	else
		cfg_wr(&f->b, off, size, value(f));
	if (!below(f, 4))
		restore(f);
}

static void act(struct fuzz *f, struct ring *r, unsigned int rings)
{
	struct ring *one = &r[below(f, rings)];

	switch (below(f, 16)) {
	case 0:
		random_register(f);
		break;
	case 1:
		random_config(f);
		break;
	case 2 ... 6:
		random_ring(f, one);
		break;
	case 7 ... 10:
		decent_chain(f, one);
		break;
	case 11:
		if (f->target->poke)
			f->target->poke(f);
		break;
	case 12:
		if (!below(f, 4))
			ring_registers(one);	/* moved while it runs */
		break;
	default:
		wr(&f->b, NOTIFY(one->index), 2, one->index);
	}
}

static void session(struct fuzz *f)
{
	const bool packed = below(f, 2);
	const unsigned int queues = rd(&f->b, COMMON(0x12), 2), rings = MIN(queues, QUEUES);
	uint64_t features = bench_offered(&f->b) & (below(f, 4) ? UINT64_MAX : rnd(f));
	struct ring r[QUEUES];

	features &= ~BIT(VIRTIO_F_RING_PACKED);
	if (packed)
		features |= BIT(VIRTIO_F_RING_PACKED);
	bench_features(&f->b, features);
	for (unsigned int i = 0; i < rings; i++)
		ring_init(&r[i], &f->b, i, packed, below(f, 8) ? 1U << below(f, 7) : 1 + below(f, 79));
	set_status(&f->b, 15);
	for (unsigned int n = below(f, 200); n; n--)
		act(f, r, rings);
	if (below(f, 2))
		bench_sync(&f->b);
	if (!below(f, 8))
		f->b.pci->ops->reset(f->b.pci);
	restore(f);
	bench_reset(&f->b);
}

/* After all that: queue 0 still takes a buffer that a driver offers. */
static void still_works(struct fuzz *f)
{
	struct ring r;

	bench_features(&f->b, 0);
	ring_init(&r, &f->b, 0, false, 8);
	bench_driver_ok(&f->b);
	assert_int_equal(status(&f->b), 15);
	bench_reset(&f->b);
}

static void run(const struct target *t)
{
	const uint64_t seconds = env("FUZZ_SECONDS", getenv("LONG") ? 60 : 1);
	const uint64_t seed = env("FUZZ_SEED", 0x9e3779b97f4a7c15);
	const time_t end = time(NULL) + seconds;
	struct fuzz *f = calloc(1, sizeof(*f));
	unsigned long sessions = 0;

	assert_non_null(f);
	do {
		memset(f, 0, sizeof(*f));
		f->seed = seed + sessions;
		f->target = t;
		bench_init(&f->b);
		f->b.hostile = true;	/* a moved BAR may come to lie under random writes */
		bench_plug(&f->b, t->make(f));
		for (unsigned int i = 0; i < 50 && time(NULL) < end; i++, sessions++)
			session(f);
		still_works(f);
		bench_done(&f->b);
	} while (time(NULL) < end);
	print_message("# %s: %lu sessions\n", t->name, sessions);
	free(f);
}

/* --- the devices --- */

static struct virtio_device *make_rng(struct fuzz *f)
{
	struct virtio_device *d;

	assert_int_equal(virtio_rng_create(&d, &f->b.rig.space, NULL, NULL), 0);
	return d;
}

static void no_header(struct fuzz *f, uint8_t *p)
{
	(void)f;
	(void)p;
}

static struct virtio_device *make_console(struct fuzz *f)
{
	struct virtio_console_port port[3] = { { .name = "first" }, { .name = "second" } };
	struct virtio_device *d;

	for (unsigned int i = 0; i < 3; i++) {
		fake_char_init(&f->chars[i]);
		port[i].backend = &f->chars[i].backend;
	}
	assert_int_equal(virtio_console_create(&d, &f->b.rig.space, NULL, port, 3, NULL), 0);
	return d;
}

static void console_header(struct fuzz *f, uint8_t *p)
{
	uint32_t id = below(f, 4);
	uint16_t event = below(f, 9), on = below(f, 2);

	memcpy(p, &id, 4);
	memcpy(p + 4, &event, 2);
	memcpy(p + 6, &on, 2);
}

/* The host's side: input, room, somebody who comes or goes.  The test's fake has no lock. */
static void console_poke(struct fuzz *f)
{
	struct char_backend *b = &f->chars[below(f, 3)].backend;
	uint8_t text[300] = "typed";

	switch (below(f, 3)) {
	case 0:
		b->front->receive(b->front_dev, text, below(f, sizeof(text)));
		break;
	case 1:
		bench_sync(&f->b);
		container_of(b, struct fake_char, backend)->room = below(f, 5000);
		container_of(b, struct fake_char, backend)->out_len = 0;
		b->front->writable(b->front_dev);
		break;
	default:
		b->front->connected(b->front_dev, below(f, 2));
	}
}

/* A directory with nothing beside it: what a hostile 9P client tries is in backend/p9_fuzz.c. */
static struct virtio_device *make_p9(struct fuzz *f)
{
	const struct p9_config config = { .path = "/proc/self/task", .readonly = true };
	struct virtio_device *d;
	struct p9 *server;

	assert_int_equal(p9_create(&server, &config, NULL), 0);
	assert_int_equal(virtio_p9_create(&d, &f->b.rig.space, NULL, server, "tag", NULL), 0);
	return d;
}

/* Tversion, Tattach, Twalk, Tgetattr, Treaddir, Tread, Tlopen, Tflush, with small numbers. */
static void p9_header(struct fuzz *f, uint8_t *p)
{
	static const uint8_t types[] = { 100, 104, 110, 24, 40, 116, 12, 108 };
	const uint32_t size = 7 + below(f, 30);

	memset(p, 0, 40);
	memcpy(p, &size, 4);
	p[4] = types[below(f, ARRAY_SIZE(types))];
	p[5] = below(f, 4);
	for (unsigned int i = 7; i < 40; i += 4)
		p[i] = below(f, 4);
}

static struct block *open_image(struct fuzz *f)
{
	char path[] = "/tmp/vireo-fuzz-XXXXXX", text[64];
	struct block_options o;
	int fd = mkstemp(path);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, 1 << 20), 0);
	close(fd);
	snprintf(text, sizeof(text), "%s,format=raw,werror=report", path);
	assert_int_equal(block_options_parse(&o, text, NULL), 0);
	assert_int_equal(block_open(&f->block, &o, NULL), 0);
	unlink(path);
	return f->block;
}

static struct virtio_device *make_blk(struct fuzz *f)
{
	struct virtio_blk_config c = { .queues = 3, .block = open_image(f) };
	struct virtio_device *d;

	assert_int_equal(virtio_blk_create(&d, &f->b.rig.space, NULL, &c, NULL), 0);
	return d;
}

/* A request's header, or a discard's segment. */
static void blk_header(struct fuzz *f, uint8_t *p)
{
	uint32_t type = below(f, 15), zero = 0;
	uint64_t sector = below(f, 8) ? below(f, 2100) : value(f);

	memcpy(p, &type, 4);
	memcpy(p + 4, &zero, 4);
	memcpy(p + 8, &sector, 8);
}

static void blk_poke(struct fuzz *f)
{
	if (!below(f, 8))
		block_resize(f->block, (1 + below(f, 4)) << 19, NULL);
}

/* Two disks; the second of them is resized. */
static struct virtio_device *make_scsi(struct fuzz *f)
{
	struct virtio_device *d;

	assert_int_equal(virtio_scsi_create(&d, &f->b.rig.space, NULL, 2, NULL), 0);
	for (unsigned int i = 0; i < 2; i++) {
		struct virtio_scsi_disk disk = { .block = open_image(f) };

		assert_int_equal(virtio_scsi_add(d, &disk, NULL), i);
	}
	return d;
}

/* A request to one of three targets, or a task to manage. */
static void scsi_header(struct fuzz *f, uint8_t *p)
{
	static const uint8_t opcodes[] = {
		0x00, 0x08, 0x0a, 0x12, 0x1a, 0x25, 0x28, 0x2a, 0x35, 0x41, 0x42, 0x88, 0x8a, 0x93, 0xa0,
	};

	memset(p, 0, 19 + 32);
	p[0] = below(f, 4) != 0;
	p[1] = below(f, 3);
	p[2] = 0x40;
	p[3] = !below(f, 8);
	p[9] = below(f, 3);
	p[19] = opcodes[below(f, ARRAY_SIZE(opcodes))];
	for (unsigned int i = 20; i < 35; i++)
		p[i] = below(f, 4) ? 0 : below(f, 16);
}

static void test_scsi(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-scsi", make_scsi, scsi_header, blk_poke, 19 + 32, 12 + 96 });
}

static void test_blk(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-blk", make_blk, blk_header, blk_poke, 16, 0 });
}

/* The test looks at what a device sends only here: the fake would keep it. */
static unsigned int swallow(struct net_backend *b, const struct net_out *frames,
			    unsigned int count)
{
	struct fake_net *n = container_of(b, struct fake_net, net);
	const unsigned int taken = MIN(count, n->room);

	for (unsigned int i = 0; i < taken; i++) {
		volatile uint8_t sum = 0;

		for (unsigned int p = 0; p < frames[i].count; p++)
			for (size_t at = 0; at < frames[i].iov[p].iov_len; at += 64)
				sum ^= ((uint8_t *)frames[i].iov[p].iov_base)[at];
		(void)sum;
	}
	n->room -= taken;
	return taken;
}

static struct virtio_device *make_net(struct fuzz *f)
{
	static const struct net_backend_ops ops = {
		.name = "fake", .attach = fake_attach, .send = swallow,
		.input_wanted = fake_input_wanted, .destroy = fake_destroy,
	};
	struct virtio_net_setup setup = {
		.space = &f->b.rig.space, .backend = &f->net.net, .mac = { 0x52 }, .mtu = 1500,
	};
	struct virtio_device *d;

	fake_net_init(&f->net);
	f->net.net.ops = &ops;
	assert_int_equal(virtio_net_create(&d, &setup, NULL), 0);
	return d;
}

/* A header and a frame to cut, a little wrong; or a command. */
static void net_header(struct fuzz *f, uint8_t *p)
{
	uint8_t frame[64];
	struct net_hdr h;

	if (below(f, 4) == 0) {
		for (int i = 0; i < 8; i++)
			p[i] = below(f, 4);
		return;
	}
	make_tcp(frame, false, 0, 0x10);
	be16(frame + 16, 40 + below(f, 4096));
	h = tcp_hdr(frame, false, sizeof(frame), below(f, 2) ? 1460 : 0);
	memcpy(p, &h, sizeof(h));
	memcpy(p + sizeof(h), frame, 52);
	p[below(f, 64)] ^= BIT(below(f, 8));
}

/* On the device's thread: frames come, there is room again, the link changes. */
static void net_deed(void *arg)
{
	struct fuzz *f = arg;
	const struct net_front_ops *front = f->net.net.front;
	static uint8_t frame[NET_FRAME_MAX];
	struct net_in in = { .data = frame };

	switch (below(f, 4)) {
	case 0:
		f->net.room = below(f, 100);
		front->writable(f->net.net.front_dev);
		break;
	case 1:
		front->link(f->net.net.front_dev, below(f, 2));
		break;
	default:
		in.len = make_tcp(frame, below(f, 2), below(f, 3) ? below(f, 9000) : 0, 0x10);
		in.hdr = tcp_hdr(frame, frame[12] == 0x86, in.len, below(f, 2) ? 1460 : 0);
		if (!below(f, 4))
			((uint8_t *)&in.hdr)[below(f, sizeof(in.hdr))] = rnd(f);
		front->receive(f->net.net.front_dev, &in, 1);
	}
}

static void net_poke(struct fuzz *f)
{
	bench_sync(&f->b);
	f->net.work = (struct loop_work){ .run = net_deed, .arg = f };
	loop_post(f->net.loop, &f->net.work);
	bench_sync(&f->b);
}

static void test_rng(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-rng", make_rng, no_header, NULL, 16, 0 });
}

static void test_console(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-console", make_console, console_header, console_poke, 16, 0 });
}

static struct virtio_device *make_balloon(struct fuzz *f)
{
	const struct balloon_config c = { .reporting = true };
	struct virtio_device *d;

	assert_int_equal(virtio_balloon_create(&d, &f->b.rig.space, NULL, &c, NULL), 0);
	return d;
}

static void balloon_header(struct fuzz *f, uint8_t *p)
{
	uint32_t pfn[4] = { 0xa0 + below(f, 16), 0xa0 + below(f, 16), below(f, 0x400), value(f) };

	memcpy(p, pfn, sizeof(pfn));
}

static void balloon_poke(struct fuzz *f)
{
	struct balloon_state s;

	if (below(f, 2))
		balloon_set_target(f->b.d, value(f));
	else
		balloon_state(f->b.d, &s);
}

static void test_balloon(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-balloon", make_balloon, balloon_header, balloon_poke, 16, 0 });
}

/* Ports 0 to 3 of the guest, 1 and 2 of the host, where somebody listens on 1. */
static char vsock_path[2][64];
static int vsock_listener;

static void vsock_names(void)
{
	snprintf(vsock_path[0], sizeof(vsock_path[0]), "/tmp/vireo-fuzz-%d", (int)getpid());
	snprintf(vsock_path[1], sizeof(vsock_path[1]), "/tmp/vireo-fuzz-%d_1", (int)getpid());
}

static struct virtio_device *make_vsock(struct fuzz *f)
{
	struct virtio_device *d;

	assert_int_equal(virtio_vsock_create(&d, &f->b.rig.space, NULL, 3, vsock_path[0], NULL), 0);
	return d;
}

static void vsock_header(struct fuzz *f, uint8_t *p)
{
	const uint64_t cid[2] = { 3, 2 };
	const uint32_t word[7] = {
		below(f, 4), below(f, 3) ? 1 : 1 + (1U << 30) + below(f, 4), below(f, 64),
		1 | (uint32_t)below(f, 9) << 16, below(f, 4), below(f, 2) ? 65536 : value(f),
		below(f, 4) ? 0 : value(f),
	};

	memcpy(p, cid, sizeof(cid));
	memcpy(p + 16, word, sizeof(word));
}

/* Programs of the host that connect, talk nonsense, and leave. */
static void vsock_poke(struct fuzz *f)
{
	static const char *const said[] = { "CONNECT 1\n", "CONNECT 2\nhello", "CONN", "CONNECT x\n",
					    "CONNECT 99999999999999999999999999999999999\n" };
	const char *text = said[below(f, ARRAY_SIZE(said))];
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd, got;

	strcpy(a.sun_path, vsock_path[0]);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (!connect(fd, (struct sockaddr *)&a, sizeof(a)))
		assert_true(send(fd, text, strlen(text), MSG_NOSIGNAL) != 0);
	if (below(f, 2))
		bench_sync(&f->b);
	close(fd);
	got = accept4(vsock_listener, NULL, NULL, SOCK_NONBLOCK);
	if (got < 0)
		return;
	if (below(f, 2))
		bench_sync(&f->b);
	close(got);
}

static void test_vsock(void **state)
{
	(void)state;
	vsock_names();
	vsock_listener = unix_listen(vsock_path[1], 4, NULL);
	assert_true(vsock_listener >= 0);
	run(&(struct target){ "virtio-vsock", make_vsock, vsock_header, vsock_poke, 16, 0 });
	close(vsock_listener);
	unlink(vsock_path[1]);
}

static void test_p9(void **state)
{
	(void)state;
	run(&(struct target){ "virtio-9p", make_p9, p9_header, NULL, 16, 0 });
}

static void test_net(void **state)
{
	static const struct target t = { "virtio-net", make_net, net_header, net_poke, 16, 0 };

	(void)state;
	run(&t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rng),
		cmocka_unit_test(test_console),
		cmocka_unit_test(test_p9),
		cmocka_unit_test(test_blk),
		cmocka_unit_test(test_scsi),
		cmocka_unit_test(test_balloon),
		cmocka_unit_test(test_vsock),
		cmocka_unit_test(test_net),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
