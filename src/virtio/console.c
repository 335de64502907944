// SPDX-License-Identifier: Apache-2.0
/*
 * The console device, multiport.
 *
 * Source: VIRTIO 1.2, "Console Device".
 *
 * Port p has queues 2p and 2p + 1 (the first port), or 2p + 2 and 2p + 3 (the others): what the
 * driver receives, what it transmits; queues 2 and 3 are those of the control messages.
 * Both directions push back: output that the host does not take keeps its chain, input that
 * the guest does not take stays with the host.
 * Not modelled: the size of a console, emergency write.
 */
#include "virtio/console.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define F_MULTIPORT	1

#define CONTROL_RX	2U
#define CONTROL_TX	3U
#define INPUT_SIZE	4096U
#define MESSAGE_SIZE	8U

enum control_event {
	DEVICE_READY, DEVICE_ADD, DEVICE_REMOVE, PORT_READY, CONSOLE_PORT, RESIZE, PORT_OPEN,
	PORT_NAME,
};

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct console_space {
	uint16_t cols, rows;
	uint32_t max_nr_ports, emerg_wr;
} __attribute__((packed));

struct console;

/* (i) constant; (t) the device's thread; (o) under lock */
struct port {
	struct console *con;		/* (i) */
	unsigned int index;		/* (i) */
	char name[CONSOLE_NAME_MAX];	/* (i) */
	struct char_backend *b;		/* (i) */
	struct virtq *rx, *tx;		/* (i) */
	struct virtq_chain *out;	/* (t) output that is under way */
	bool guest_open;		/* (t) */
	uint32_t due;			/* (t) control messages for the driver, bits of the events */
	_Atomic bool host_open;
	_Atomic bool open_changed;
	pthread_mutex_t lock;
	uint8_t in[INPUT_SIZE];		/* (o) ring: what the guest has not taken */
	size_t in_at, in_count;		/* (o) */
	bool refused;			/* (o) the host was told that there is no room */
};

struct console {
	struct virtio_device virtio;
	unsigned int count;
	struct port port[];
};

static struct console *to_console(struct virtio_device *d)
{
	return container_of(d, struct console, virtio);
}

static bool multiport(struct console *con)
{
	return virtio_has(&con->virtio, F_MULTIPORT);
}

/* --- output --- */

/* Gives the host what it takes of @p->out; false: it is full. */
static bool drain_chain(struct port *p)
{
	struct virtq_chain *c = p->out;
	size_t n;

	while (c->out_len) {
		const struct iovec *v = c->out;

		n = p->b->ops->write(p->b, v->iov_base, v->iov_len);
		chain_skip_out(c, n);
		if (!n)
			return false;
	}
	p->out = NULL;
	virtq_push(c, 0);
	return true;
}

static void transmit(struct port *p)
{
	while ((p->out || (p->out = virtq_pop(p->tx))) && drain_chain(p))
		;
	virtq_notify(p->tx);
}

/* --- input --- */

static size_t take_input(struct port *p, uint8_t *buf, size_t size)
{
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = MIN(size, p->in_count);
	for (size_t i = 0; i < n; i++)
		buf[i] = p->in[(p->in_at + i) % INPUT_SIZE];
	p->in_at = (p->in_at + n) % INPUT_SIZE;
	p->in_count -= n;
	pthread_mutex_unlock(&p->lock);
	return n;
}

static bool input_waits(struct port *p)
{
	bool waits;

	pthread_mutex_lock(&p->lock);
	waits = p->in_count;
	pthread_mutex_unlock(&p->lock);
	return waits;
}

static void ask_for_input(struct port *p)
{
	bool ask;

	pthread_mutex_lock(&p->lock);
	ask = p->refused && p->in_count < INPUT_SIZE;
	if (ask)
		p->refused = false;
	pthread_mutex_unlock(&p->lock);
	if (ask)
		p->b->ops->input_wanted(p->b);
}

static void receive_to_guest(struct port *p)
{
	uint8_t buf[INPUT_SIZE];
	struct virtq_chain *c;
	size_t n;

	/* A port that nobody in the guest has opened keeps its input outside. */
	while ((p->guest_open || !multiport(p->con)) && input_waits(p) && (c = virtq_pop(p->rx))) {
		n = take_input(p, buf, MIN(sizeof(buf), c->in_len));
		virtq_push(c, chain_write(c, 0, buf, n));
	}
	virtq_notify(p->rx);
	ask_for_input(p);
}

/* --- the host's side, on the back end's thread --- */

static size_t port_receive(void *dev, const uint8_t *buf, size_t len)
{
	struct port *p = dev;
	size_t n;

	pthread_mutex_lock(&p->lock);
	n = MIN(len, INPUT_SIZE - p->in_count);
	for (size_t i = 0; i < n; i++)
		p->in[(p->in_at + p->in_count + i) % INPUT_SIZE] = buf[i];
	p->in_count += n;
	if (n < len)
		p->refused = true;
	pthread_mutex_unlock(&p->lock);
	virtq_kick_again(p->rx);
	return n;
}

static void port_writable(void *dev)
{
	virtq_kick_again(((struct port *)dev)->tx);
}

static void port_connected(void *dev, bool yes)
{
	struct port *p = dev;

	atomic_store(&p->host_open, yes);
	atomic_store(&p->open_changed, true);
	virtq_kick_again(virtio_queue(&p->con->virtio, CONTROL_RX));
}

static const struct char_front_ops port_front = {
	.receive = port_receive,
	.writable = port_writable,
	.connected = port_connected,
};

/* --- control messages --- */

/* Sends @event of @p; false: the driver has no room for it now. */
static bool send_control(struct port *p, struct virtq *q, enum control_event event)
{
	const struct control m = {
		.id = p->index, .event = event,
		.value = event == PORT_OPEN ? atomic_load(&p->host_open) : 1,
	};
	struct virtq_chain *c = virtq_pop(q);
	size_t n;

	if (!c)
		return false;
	n = chain_write(c, 0, &m, sizeof(m));
	if (event == PORT_NAME)
		n += chain_write(c, n, p->name, strlen(p->name));
	virtq_push(c, n);
	p->due &= ~(1U << event);
	return true;
}

static void send_due(struct console *con)
{
	static const enum control_event order[] = { DEVICE_ADD, CONSOLE_PORT, PORT_NAME, PORT_OPEN };
	struct virtq *q = virtio_queue(&con->virtio, CONTROL_RX);
	bool room = true;

	for (unsigned int i = 0; i < con->count && room; i++) {
		struct port *p = &con->port[i];

		if (atomic_exchange(&p->open_changed, false))
			p->due |= 1U << PORT_OPEN;
		for (unsigned int k = 0; k < ARRAY_SIZE(order) && room; k++)
			if (p->due & 1U << order[k])
				room = send_control(p, q, order[k]);
	}
	virtq_notify(q);
}

static void hear_port(struct port *p, const struct control *m)
{
	switch (m->event) {
	case PORT_READY:
		if (m->value == 1)
			p->due |= (p->name[0] ? 1U << PORT_NAME : 1U << CONSOLE_PORT) |
				  1U << PORT_OPEN;
		break;
	case PORT_OPEN:
		p->guest_open = m->value;
		virtq_kick_again(p->rx);
		break;
	}
}

static void hear(struct console *con, const struct control *m)
{
	if (m->event == DEVICE_READY && m->value == 1) {
		for (unsigned int i = 0; i < con->count; i++)
			con->port[i].due |= 1U << DEVICE_ADD;
	} else if (m->id < con->count) {
		hear_port(&con->port[m->id], m);
	}
}

static void hear_control(struct console *con, struct virtq *q)
{
	struct virtq_chain *c;
	struct control m;

	while ((c = virtq_pop(q))) {
		if (chain_read(c, 0, &m, sizeof(m)) == MESSAGE_SIZE)
			hear(con, &m);
		virtq_push(c, 0);
	}
	virtq_notify(q);
	send_due(con);
}

/* --- the device --- */

static void console_kick(struct virtio_device *d, struct virtq *q)
{
	struct console *con = to_console(d);
	const unsigned int index = virtq_index(q);
	struct port *p;

	if (index == CONTROL_RX) {
		send_due(con);
	} else if (index == CONTROL_TX) {
		hear_control(con, q);
	} else {
		p = &con->port[index < CONTROL_RX ? 0 : index / 2 - 1];
		if (index & 1)
			transmit(p);
		else
			receive_to_guest(p);
	}
}

static void console_reset(struct virtio_device *d)
{
	struct console *con = to_console(d);

	for (unsigned int i = 0; i < con->count; i++) {
		struct port *p = &con->port[i];

		if (p->out)
			virtq_forget(p->out);
		p->out = NULL;
		p->guest_open = false;
		p->due = 0;
	}
}

static void console_destroy(struct virtio_device *d)
{
	struct console *con = to_console(d);

	for (unsigned int i = 0; i < con->count; i++) {
		con->port[i].b->ops->destroy(con->port[i].b);
		pthread_mutex_destroy(&con->port[i].lock);
	}
	virtio_fini(d);
	free(con);
}

static const struct virtio_ops console_ops = {
	.id = VIRTIO_ID_CONSOLE,
	.name = "virtio-console",
	.kick = console_kick,
	.reset = console_reset,
	.destroy = console_destroy,
};

static void init_port(struct console *con, unsigned int i, const struct virtio_console_port *from)
{
	struct port *p = &con->port[i];

	p->con = con;
	p->index = i;
	memcpy(p->name, from->name, sizeof(p->name));
	p->name[sizeof(p->name) - 1] = '\0';
	p->rx = virtio_queue(&con->virtio, i ? 2 * i + 2 : 0);
	p->tx = virtio_queue(&con->virtio, i ? 2 * i + 3 : 1);
	p->host_open = !from->backend->nobody;
	pthread_mutex_init(&p->lock, NULL);
	p->b = from->backend;
	char_attach(p->b, &port_front, p);
}

int virtio_console_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			  const struct virtio_console_port *ports, unsigned int count,
			  struct err *e)
{
	struct console *con = calloc(1, sizeof(*con) + count * sizeof(struct port));
	const struct console_space config = { .max_nr_ports = count };
	const struct virtio_setup setup = {
		.space = s, .log = log, .features = BIT(F_MULTIPORT), .queues = 2 * count + 2,
		.queue_size = 128, .config = &config, .config_len = sizeof(config),
	};
	int rc;

	rc = con ? virtio_init(&con->virtio, &console_ops, &setup, e)
		 : err_set(e, ENOMEM, "out of memory for virtio-console");
	if (rc) {
		for (unsigned int i = 0; i < count; i++)
			ports[i].backend->ops->destroy(ports[i].backend);
		free(con);
		return rc;
	}
	con->count = count;
	for (unsigned int i = 0; i < count; i++)
		init_port(con, i, &ports[i]);
	*out = &con->virtio;
	return 0;
}
