// SPDX-License-Identifier: Apache-2.0
/*
 * virtio-console against a driver: the control messages of two ports, output and input with
 * room and without, clients that come and go, resets; and the one port of a driver that knows
 * of no others.
 */
#include "virtio_rig.h"
#include "fake_char.h"

#include "virtio/console.h"

#define MULTIPORT	BIT(1)
#define CONTROL		0x60000ULL	/* buffers for control messages, 64 bytes each */
#define BUFFER		0x70000ULL

enum { DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN,
       PORT_NAME };

struct con_bench {
	struct bench b;
	struct fake_char host[2];	/* a console, and the port "side" */
	struct ring rx[2], tx[2], control_rx, control_tx;
	unsigned int next;		/* control buffer */
};

static void setup(struct con_bench *k)
{
	struct virtio_console_port port[2] = { { .name = "" }, { .name = "side" } };
	struct virtio_device *d;

	memset(k, 0, sizeof(*k));
	bench_init(&k->b);
	for (unsigned int i = 0; i < 2; i++) {
		fake_char_init(&k->host[i]);
		port[i].backend = &k->host[i].backend;
	}
	k->host[1].backend.nobody = true;
	assert_int_equal(virtio_console_create(&d, &k->b.rig.space, NULL, port, 2, NULL), 0);
	bench_plug(&k->b, d);
}

static void start(struct con_bench *k, uint64_t features)
{
	struct ring *r[] = { &k->rx[0], &k->tx[0], &k->control_rx, &k->control_tx, &k->rx[1],
			     &k->tx[1] };

	bench_features(&k->b, features);
	for (unsigned int i = 0; i < 6; i++)
		ring_init(r[i], &k->b, i, false, 16);
	bench_driver_ok(&k->b);
	k->next = 0;
}

/* --- control messages --- */

static void offer_control(struct con_bench *k, unsigned int count)
{
	while (count--) {
		const struct seg s = { CONTROL + 64 * (k->next++ % 16), 64, D_WRITE };

		ring_add(&k->control_rx, &s, 1, 0);
	}
	ring_kick(&k->control_rx);
}

static void say(struct con_bench *k, uint32_t id, uint16_t event, uint16_t value)
{
	const struct seg s = { BUFFER, 8, 0 };
	uint8_t *p = mem(&k->b, BUFFER);
	uint32_t head, len;

	memcpy(p, &id, 4);
	memcpy(p + 4, &event, 2);
	memcpy(p + 6, &value, 2);
	ring_add(&k->control_tx, &s, 1, 0);
	ring_kick(&k->control_tx);
	assert_true(ring_take(&k->control_tx, 1, &head, &len));
}

static void hears(struct con_bench *k, uint32_t id, uint16_t event, uint16_t value,
		  const char *name)
{
	uint32_t head, len;
	gpa_t at;

	bench_sync(&k->b);
	assert_true(ring_take(&k->control_rx, 1, &head, &len));
	memcpy(&at, mem(&k->b, k->control_rx.desc + 16 * head), 8);
	assert_int_equal(len, 8 + strlen(name));
	assert_int_equal(peek32(&k->b, at), id);
	assert_int_equal(peek16(&k->b, at + 4), event);
	assert_int_equal(peek16(&k->b, at + 6), value);
	assert_memory_equal(mem(&k->b, at + 8), name, strlen(name));
}

static void hears_nothing(struct con_bench *k)
{
	uint32_t head, len;

	bench_sync(&k->b);
	assert_false(ring_take(&k->control_rx, 1, &head, &len));
}

static void introduce(struct con_bench *k)
{
	offer_control(k, 12);
	say(k, 0, DEVICE_READY, 1);
	hears(k, 0, DEVICE_ADD, 1, "");
	hears(k, 1, DEVICE_ADD, 1, "");
	say(k, 0, PORT_READY, 1);
	hears(k, 0, CONSOLE_PORT, 1, "");
	hears(k, 0, PORT_OPEN, 1, "");
	say(k, 1, PORT_READY, 1);
	hears(k, 1, PORT_NAME, 1, "side");
	hears(k, 1, PORT_OPEN, 0, "");
	hears_nothing(k);
}

static void test_control(void **state)
{
	struct con_bench k;

	(void)state;
	setup(&k);
	assert_int_equal(rd(&k.b, DEVCFG(4), 4), 2);
	assert_int_equal(rd(&k.b, COMMON(0x12), 2), 6);
	start(&k, MULTIPORT);
	introduce(&k);
	/* Somebody comes and goes at the other end. */
	k.host[1].backend.front->connected(k.host[1].backend.front_dev, true);
	hears(&k, 1, PORT_OPEN, 1, "");
	k.host[1].backend.front->connected(k.host[1].backend.front_dev, false);
	hears(&k, 1, PORT_OPEN, 0, "");
	/* Nonsense is swallowed. */
	say(&k, 2, PORT_READY, 1);
	say(&k, UINT32_MAX, PORT_OPEN, 1);
	say(&k, 0, PORT_READY, 0);
	say(&k, 0, 77, 1);
	hears_nothing(&k);
	/* Messages wait for buffers. */
	bench_reset(&k.b);
	start(&k, MULTIPORT);
	say(&k, 0, DEVICE_READY, 1);
	hears_nothing(&k);
	offer_control(&k, 1);
	hears(&k, 0, DEVICE_ADD, 1, "");
	hears_nothing(&k);
	offer_control(&k, 1);
	hears(&k, 1, DEVICE_ADD, 1, "");
	bench_done(&k.b);
}

/* --- data --- */

static void print(struct con_bench *k, unsigned int port, const char *text)
{
	const struct seg s[] = { { BUFFER, strlen(text) / 2, 0 },
				 { BUFFER + strlen(text) / 2, strlen(text) - strlen(text) / 2, 0 } };

	strcpy(mem(&k->b, BUFFER), text);
	ring_add(&k->tx[port], s, 2, 0);
	ring_kick(&k->tx[port]);
}

static void test_output(void **state)
{
	struct con_bench k;
	uint32_t id, len;

	(void)state;
	setup(&k);
	start(&k, MULTIPORT);
	introduce(&k);
	print(&k, 0, "to the console");
	print(&k, 1, "aside");
	assert_string_equal(k.host[0].out, "to the console");
	assert_string_equal(k.host[1].out, "aside");
	assert_true(ring_take(&k.tx[0], 2, &id, &len));
	assert_int_equal(len, 0);
	/* The host takes five bytes, then four, then all; the chain is the device's until then. */
	k.host[0].room = 5;
	print(&k, 0, "0123456789");
	assert_string_equal(k.host[0].out, "to the console01234");
	assert_false(ring_take(&k.tx[0], 2, &id, &len));
	k.host[0].room = 4;
	k.host[0].backend.front->writable(k.host[0].backend.front_dev);
	bench_sync(&k.b);
	assert_string_equal(k.host[0].out, "to the console012345678");
	assert_false(ring_take(&k.tx[0], 2, &id, &len));
	k.host[0].room = 100;
	k.host[0].backend.front->writable(k.host[0].backend.front_dev);
	bench_sync(&k.b);
	assert_string_equal(k.host[0].out, "to the console0123456789");
	assert_true(ring_take(&k.tx[0], 2, &id, &len));
	/* A reset in the middle of that. */
	k.host[0].room = 3;
	print(&k, 0, "abcdef");
	bench_reset(&k.b);
	k.host[0].room = 100;
	k.host[0].backend.front->writable(k.host[0].backend.front_dev);
	bench_sync(&k.b);
	assert_string_equal(k.host[0].out, "to the console0123456789abc");
	start(&k, MULTIPORT);
	print(&k, 0, "!");
	assert_string_equal(k.host[0].out, "to the console0123456789abc!");
	bench_done(&k.b);
}

static void offer_input(struct con_bench *k, unsigned int port, uint32_t size)
{
	const struct seg s = { BUFFER + 0x1000, size, D_WRITE };

	memset(mem(&k->b, BUFFER + 0x1000), 0, size + 1);
	ring_add(&k->rx[port], &s, 1, 0);
	ring_kick(&k->rx[port]);
}

static void test_input(void **state)
{
	static const char text[] = "some words that are typed";
	struct con_bench k;
	uint32_t id, len;
	char big[5000];

	(void)state;
	setup(&k);
	start(&k, MULTIPORT);
	introduce(&k);
	/* Nobody in the guest has opened it: the words stay outside. */
	offer_input(&k, 0, 10);
	fake_char_type(&k.host[0], text);
	bench_sync(&k.b);
	assert_false(ring_take(&k.rx[0], 1, &id, &len));
	say(&k, 0, PORT_OPEN, 1);
	bench_sync(&k.b);
	assert_true(ring_take(&k.rx[0], 1, &id, &len));
	assert_int_equal(len, 10);
	assert_string_equal(mem(&k.b, BUFFER + 0x1000), "some words");
	offer_input(&k, 0, 100);
	assert_true(ring_take(&k.rx[0], 1, &id, &len));
	assert_string_equal(mem(&k.b, BUFFER + 0x1000), " that are typed");
	/* More than the device holds: the rest is asked for once there is room. */
	memset(big, 'x', sizeof(big));
	big[sizeof(big) - 1] = '\0';
	fake_char_type(&k.host[0], big);
	bench_sync(&k.b);
	assert_int_equal(strlen(k.host[0].in), sizeof(big) - 1 - 4096);
	assert_false(k.host[0].wanted);
	offer_input(&k, 0, 4096);
	bench_sync(&k.b);
	assert_true(ring_take(&k.rx[0], 1, &id, &len));
	assert_int_equal(len, 4096);
	assert_true(k.host[0].wanted);
	fake_char_pump(&k.host[0]);
	offer_input(&k, 0, 4096);
	assert_true(ring_take(&k.rx[0], 1, &id, &len));
	assert_int_equal(len, sizeof(big) - 1 - 4096);
	bench_done(&k.b);
}

/* Without the feature there is one port, always open. */
static void test_single(void **state)
{
	struct con_bench k;
	uint32_t id, len;

	(void)state;
	setup(&k);
	start(&k, 0);
	offer_input(&k, 0, 10);
	fake_char_type(&k.host[0], "in");
	bench_sync(&k.b);
	assert_true(ring_take(&k.rx[0], 1, &id, &len));
	assert_int_equal(len, 2);
	print(&k, 0, "out");
	assert_string_equal(k.host[0].out, "out");
	bench_done(&k.b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_output),
		cmocka_unit_test(test_input),
		cmocka_unit_test(test_single),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
