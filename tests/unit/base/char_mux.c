// SPDX-License-Identifier: Apache-2.0
/*
 * Several front ends on one character backend: who has the input, Ctrl-A's letters, room that is
 * short, front ends that do not read; and a server of lines that has such a port.
 */
#include "base/char_mux.h"
#include "base/line_server.h"

#include <stdlib.h>
#include <string.h>

#include "fake_char.h"
#include "unit.h"

struct front {
	struct char_backend *port;
	char in[8192];
	size_t in_len, room;
	unsigned int writable, breaks, came, went;
};

struct rig {
	struct loop *loop;
	struct fake_char real;
	struct char_mux *mux;
	struct front front[3];
	unsigned int ends;
};

static size_t receive(void *dev, const uint8_t *buf, size_t len)
{
	struct front *f = dev;
	const size_t n = MIN(len, f->room);

	memcpy(f->in + f->in_len, buf, n);
	f->in_len += n;
	f->room -= n;
	return n;
}

static void writable(void *dev)
{
	((struct front *)dev)->writable++;
}

static void line_break(void *dev)
{
	((struct front *)dev)->breaks++;
}

static void connected(void *dev, bool yes)
{
	struct front *f = dev;

	f->came += yes;
	f->went += !yes;
}

static const struct char_front_ops front_ops = {
	.receive = receive, .writable = writable, .line_break = line_break, .connected = connected,
};

static void quit(void *arg)
{
	loop_quit(arg);
}

static void turn(struct rig *r)
{
	struct loop_work end = { .run = quit, .arg = r->loop };

	loop_post(r->loop, &end);
	assert_int_equal(loop_run(r->loop, NULL), 0);
}

static void ends(void *arg)
{
	((struct rig *)arg)->ends++;
}

/* The last of @ports is a visited one. */
static void setup_key(struct rig *r, unsigned int ports, char key)
{
	memset(r, 0, sizeof(*r));
	assert_int_equal(loop_create(&r->loop, NULL, NULL), 0);
	fake_char_init(&r->real);
	assert_int_equal(char_mux_create(&r->mux, r->loop, &r->real.backend, key, ends, r, NULL), 0);
	for (unsigned int i = 0; i < ports; i++) {
		struct front *f = &r->front[i];

		f->room = sizeof(f->in);
		assert_int_equal(char_mux_port(r->mux, &f->port, i && i + 1 == ports, NULL), 0);
		char_attach(f->port, &front_ops, f);
	}
}

static void setup(struct rig *r, unsigned int ports)
{
	setup_key(r, ports, 'a');
}

static void done(struct rig *r, unsigned int ports)
{
	char_mux_release(r->mux);
	for (unsigned int i = 0; i < ports; i++)
		r->front[i].port->ops->destroy(r->front[i].port);
	loop_destroy(r->loop);
}

static void type(struct rig *r, const char *text)
{
	fake_char_type(&r->real, text);
	turn(r);
}

static void expect(struct rig *r, unsigned int i, const char *text)
{
	struct front *f = &r->front[i];

	assert_int_equal(f->in_len, strlen(text));
	assert_memory_equal(f->in, text, f->in_len);
	f->in_len = 0;
}

static void test_focus(void **state)
{
	struct rig r;

	(void)state;
	setup(&r, 3);
	assert_false(r.front[0].port->nobody);
	assert_true(r.front[2].port->nobody);
	type(&r, "one");
	expect(&r, 0, "one");
	type(&r, "\001ctwo\001");
	expect(&r, 1, "two");
	type(&r, "cthree");
	expect(&r, 2, "three");
	assert_int_equal(r.front[2].came, 1);
	type(&r, "\001cagain\001\001");
	expect(&r, 0, "again\001");
	assert_int_equal(r.front[2].went, 1);
	type(&r, "\001b");
	assert_int_equal(r.front[0].breaks, 1);
	type(&r, "\001x");
	assert_int_equal(r.ends, 1);
	type(&r, "\001h");
	assert_non_null(strstr(r.real.out, "Ctrl-A h"));
	expect(&r, 0, "");
	/* Who has the input goes: the next one has it. */
	r.front[0].port->ops->destroy(r.front[0].port);
	type(&r, "left");
	expect(&r, 1, "left");
	assert_int_equal(char_mux_port(r.mux, &r.front[0].port, false, NULL), 0);
	done(&r, 3);
}

/* Ctrl-T in place of Ctrl-A, which is the guest's then. */
static void test_other_key(void **state)
{
	struct rig r;

	(void)state;
	setup_key(&r, 2, 't');
	type(&r, "\001x\024\024");
	expect(&r, 0, "\001x\024");
	type(&r, "\024ctwo");
	expect(&r, 1, "two");
	type(&r, "\024h");
	assert_non_null(strstr(r.real.out, "Ctrl-T h"));
	type(&r, "\024x");
	assert_int_equal(r.ends, 1);
	done(&r, 2);
}

static void test_room(void **state)
{
	static char flood[5000];
	struct rig r;

	(void)state;
	setup(&r, 2);
	/* Output: both are told of room. */
	r.real.room = 3;
	assert_int_equal(r.front[0].port->ops->write(r.front[0].port, (uint8_t *)"abcde", 5), 3);
	assert_int_equal(r.front[1].port->ops->write(r.front[1].port, (uint8_t *)"x", 1), 0);
	r.real.room = 100;
	r.real.backend.front->writable(r.real.backend.front_dev);
	assert_int_equal(r.front[0].writable, 1);
	assert_int_equal(r.front[1].writable, 1);
	/* Input: a front end that does not read does not hide Ctrl-A. */
	r.front[0].room = 0;
	type(&r, "kept\001x");
	assert_int_equal(r.ends, 1);
	expect(&r, 0, "");
	r.front[0].room = 100;
	r.front[0].port->ops->input_wanted(r.front[0].port);
	turn(&r);
	expect(&r, 0, "kept");
	/* ... and in the end holds back who types. */
	r.front[0].room = 0;
	memset(flood, 'f', sizeof(flood) - 1);
	type(&r, flood);
	assert_int_equal(strlen(r.real.in), sizeof(flood) - 1 - 4096);
	r.front[0].room = sizeof(flood);
	r.front[0].port->ops->input_wanted(r.front[0].port);
	turn(&r);
	fake_char_pump(&r.real);
	turn(&r);
	assert_int_equal(r.front[0].in_len, sizeof(flood) - 1);
	done(&r, 2);
}

static void test_too_many(void **state)
{
	struct char_backend *port[CHAR_MUX_PORTS + 1];
	struct rig r;

	(void)state;
	setup(&r, 0);
	for (unsigned int i = 0; i < CHAR_MUX_PORTS; i++)
		assert_int_equal(char_mux_port(r.mux, &port[i], false, NULL), 0);
	assert_true(char_mux_port(r.mux, &port[CHAR_MUX_PORTS], false, NULL) < 0);
	for (unsigned int i = 0; i < CHAR_MUX_PORTS; i++)
		port[i]->ops->destroy(port[i]);
	done(&r, 0);
}

/* --- lines --- */

static void opened(void *arg, struct line_client *c)
{
	(void)arg;
	line_send_part(c, "hello>");
}

static void line(void *arg, struct line_client *c, char *text, size_t len)
{
	(void)arg;
	(void)len;
	line_send_part(c, "[");
	line_send_part(c, text);
	line_send_part(c, "]>");
}

static void said(struct rig *r, const char *text)
{
	turn(r);
	assert_int_equal(r->real.out_len, strlen(text));
	assert_memory_equal(r->real.out, text, strlen(text));
	r->real.out_len = 0;
}

/* Until nothing more is said. */
static void drain(struct rig *r)
{
	do {
		r->real.room = sizeof(r->real.out);
		r->real.out_len = 0;
		r->real.backend.front->writable(r->real.backend.front_dev);
		turn(r);
		fake_char_pump(&r->real);
		turn(r);
	} while (r->real.out_len);
}

static void test_lines(void **state)
{
	static const struct line_server_ops ops = { .opened = opened, .line = line, .echo = true };
	static char flood[3 * LINE_LENGTH_MAX / 2];
	struct line_server *s;
	struct char_backend *b;
	struct rig r;

	(void)state;
	setup(&r, 1);
	assert_int_equal(char_mux_port(r.mux, &b, true, NULL), 0);
	assert_int_equal(line_server_create(&s, r.loop, -1, &ops, NULL, NULL), 0);
	assert_int_equal(line_server_attach(s, b, NULL), 0);
	said(&r, "");
	type(&r, "\001cab\177c\r\nd\n");
	said(&r, "hello>ab\b \bc\r\n[ac]>d\r\n[d]>");
	/* What was half typed is forgotten when the input goes elsewhere. */
	type(&r, "half\001cto the guest\001c");
	expect(&r, 0, "to the guest");
	said(&r, "halfhello>");
	type(&r, "x\n");
	said(&r, "x\r\n[x]>");
	/* No room for the answer: what is typed waits. */
	r.real.room = 2;
	type(&r, "y\nz\n");
	said(&r, "y\r");
	r.real.room = 4000;
	r.real.backend.front->writable(r.real.backend.front_dev);
	turn(&r);
	fake_char_pump(&r.real);
	said(&r, "\n[y]>z\r\n[z]>");
	/* A line without end is dropped; its rest is a line. */
	memset(flood, 'f', sizeof(flood) - 1);
	type(&r, flood);
	drain(&r);
	type(&r, "\n");
	drain(&r);
	type(&r, "end\n");
	said(&r, "end\r\n[end]>");
	line_server_destroy(s);
	done(&r, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_focus), cmocka_unit_test(test_other_key),
		cmocka_unit_test(test_room),
		cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_lines),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
