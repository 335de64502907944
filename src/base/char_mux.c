// SPDX-License-Identifier: Apache-2.0
/*
 * Several front ends on one character backend; see char_mux.h.
 *
 * Input is kept for the front end that has it, up to INPUT_MAX bytes, so that Ctrl-A is seen
 * although the guest does not read.  What goes out passes straight through.
 */
#include "base/char_mux.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_MAX	4096U

struct port {
	struct char_backend backend;
	struct char_mux *mux;		/* NULL: this one is free */
	bool visited;
	bool refused;			/* (o) a write was short: writable() is due */
	uint8_t in[INPUT_MAX];
	size_t in_len;
};

/* (o) under lock; the rest belongs to the loop's thread */
struct char_mux {
	struct char_backend *real;
	struct loop *loop;
	void (*end)(void *arg);
	void *arg;
	pthread_mutex_t lock;
	struct port port[CHAR_MUX_PORTS];
	unsigned int ports, focus;
	bool released;
	uint8_t escape;			/* Ctrl-A, or what takes its place */
	bool escaped;			/* it came, its letter has not */
	struct loop_work input_work;
};

static void show_help(struct char_mux *m)
{
	const char key = '@' + m->escape;
	char text[256];
	int n = snprintf(text, sizeof(text),
			 "\r\n"
			 "Ctrl-%c h      this help\r\n"
			 "Ctrl-%c x      end the VM\r\n"
			 "Ctrl-%c b      send a break\r\n"
			 "Ctrl-%c c      go to the next of the console and the monitor\r\n"
			 "Ctrl-%c Ctrl-%c send Ctrl-%c\r\n", key, key, key, key, key, key, key);

	m->real->ops->write(m->real, (const uint8_t *)text, n);
}

static bool is_open(const struct port *p)
{
	return p->mux && p->backend.front;
}

static void tell_connected(struct port *p, bool yes)
{
	if (is_open(p) && p->backend.front->connected)
		p->backend.front->connected(p->backend.front_dev, yes);
}

/* --- input --- */

/* What is kept goes to the front end, as far as it takes it. */
static void feed(struct port *p)
{
	size_t n;

	if (!p->in_len || !is_open(p))
		return;
	n = p->backend.front->receive(p->backend.front_dev, p->in, p->in_len);
	p->in_len -= n;
	memmove(p->in, p->in + n, p->in_len);
}

static void switch_focus(struct char_mux *m)
{
	struct port *old = &m->port[m->focus];

	if (old->visited)
		tell_connected(old, false);
	do
		m->focus = (m->focus + 1) % CHAR_MUX_PORTS;
	while (!m->port[m->focus].mux);
	if (m->port[m->focus].visited)
		tell_connected(&m->port[m->focus], true);
}

static void keep(struct char_mux *m, uint8_t c)
{
	struct port *p = &m->port[m->focus];

	p->in[p->in_len++] = c;
}

static void obey(struct char_mux *m, uint8_t c)
{
	struct port *p = &m->port[m->focus];

	if (c == m->escape) {
		keep(m, c);
		return;
	}
	switch (c) {
	case 'b':
		if (is_open(p) && p->backend.front->line_break)
			p->backend.front->line_break(p->backend.front_dev);
		break;
	case 'c':
		feed(p);
		switch_focus(m);
		break;
	case 'x':
		m->end(m->arg);
		break;
	default:
		show_help(m);
	}
}

static size_t real_receive(void *arg, const uint8_t *buf, size_t len)
{
	struct char_mux *m = arg;
	size_t n;

	for (n = 0; n < len; n++) {
		if (m->port[m->focus].in_len == INPUT_MAX)
			feed(&m->port[m->focus]);
		if (m->port[m->focus].in_len == INPUT_MAX)
			break;
		if (m->escaped) {
			m->escaped = false;
			obey(m, buf[n]);
		} else if (buf[n] == m->escape) {
			m->escaped = true;
		} else {
			keep(m, buf[n]);
		}
	}
	feed(&m->port[m->focus]);
	return n;
}

static void input_again(void *arg)
{
	struct char_mux *m = arg;

	for (unsigned int i = 0; i < CHAR_MUX_PORTS; i++)
		feed(&m->port[i]);
	m->real->ops->input_wanted(m->real);
}

static void real_writable(void *arg)
{
	struct char_mux *m = arg;

	for (unsigned int i = 0; i < CHAR_MUX_PORTS; i++) {
		struct port *p = &m->port[i];
		bool tell;

		pthread_mutex_lock(&m->lock);
		tell = p->refused;
		p->refused = false;
		pthread_mutex_unlock(&m->lock);
		if (tell && is_open(p))
			p->backend.front->writable(p->backend.front_dev);
	}
}

static void real_break(void *arg)
{
	struct char_mux *m = arg;

	obey(m, 'b');
}

static void real_connected(void *arg, bool yes)
{
	struct char_mux *m = arg;

	for (unsigned int i = 0; i < CHAR_MUX_PORTS; i++)
		if (!m->port[i].visited || i == m->focus)
			tell_connected(&m->port[i], yes);
}

static const struct char_front_ops real_front = {
	.receive = real_receive,
	.writable = real_writable,
	.line_break = real_break,
	.connected = real_connected,
};

/* --- a port --- */

static size_t port_write(struct char_backend *b, const uint8_t *buf, size_t len)
{
	struct port *p = container_of(b, struct port, backend);
	struct char_mux *m = p->mux;
	size_t n;

	/* Raised first: the other thread may tell of room before this one has looked. */
	pthread_mutex_lock(&m->lock);
	p->refused = true;
	pthread_mutex_unlock(&m->lock);
	n = m->real->ops->write(m->real, buf, len);
	if (n == len) {
		pthread_mutex_lock(&m->lock);
		p->refused = false;
		pthread_mutex_unlock(&m->lock);
	}
	return n;
}

static void port_input_wanted(struct char_backend *b)
{
	struct port *p = container_of(b, struct port, backend);

	loop_post(p->mux->loop, &p->mux->input_work);
}

static void port_set_line(struct char_backend *b, const struct char_line *line)
{
	struct port *p = container_of(b, struct port, backend);

	if (p->mux->real->ops->set_line)
		p->mux->real->ops->set_line(p->mux->real, line);
}

static void mux_free(struct char_mux *m)
{
	m->real->ops->destroy(m->real);
	loop_unpost(m->loop, &m->input_work);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static void port_destroy(struct char_backend *b)
{
	struct port *p = container_of(b, struct port, backend);
	struct char_mux *m = p->mux;

	p->mux = NULL;
	if (--m->ports == 0 && m->released)
		mux_free(m);
	else if (m->ports && p == &m->port[m->focus])
		switch_focus(m);
}

static const struct char_backend_ops port_ops = {
	.write = port_write,
	.input_wanted = port_input_wanted,
	.set_line = port_set_line,
	.destroy = port_destroy,
};

int char_mux_port(struct char_mux *m, struct char_backend **out, bool visited, struct err *e)
{
	struct port *p = m->port;

	while (p < m->port + CHAR_MUX_PORTS && p->mux)
		p++;
	if (p == m->port + CHAR_MUX_PORTS)
		return err_set(e, E2BIG, "at most %u devices and monitors share a character device",
			       CHAR_MUX_PORTS);
	*p = (struct port){ .mux = m, .visited = visited };
	p->backend.ops = &port_ops;
	p->backend.nobody = m->real->nobody || (visited && p != &m->port[m->focus]);
	m->ports++;
	*out = &p->backend;
	return 0;
}

/* --- making --- */

void char_mux_release(struct char_mux *m)
{
	m->released = true;
	if (!m->ports)
		mux_free(m);
}

int char_mux_create(struct char_mux **out, struct loop *l, struct char_backend *backend, char key,
		    void (*end)(void *arg), void *arg, struct err *e)
{
	struct char_mux *m = calloc(1, sizeof(*m));

	if (!m) {
		backend->ops->destroy(backend);
		return err_set(e, ENOMEM, "out of memory for a shared character device");
	}
	m->real = backend;
	m->loop = l;
	m->escape = key - 'a' + 1;
	m->end = end;
	m->arg = arg;
	m->input_work = (struct loop_work){ .run = input_again, .arg = m };
	pthread_mutex_init(&m->lock, NULL);
	char_attach(backend, &real_front, m);
	*out = m;
	return 0;
}
