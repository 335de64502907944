// SPDX-License-Identifier: Apache-2.0
/* The learning switch; see switch.h. */
#include "backend/switch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define TABLE_SIZE	8192U		/* a power of two, twice what all ports may fill */
#define PROBES		16U
#define SILENCE_S	300
#define AT_ONCE		64U

struct port {
	struct net_switch *sw;
	struct net_backend *backend;	/* NULL: free */
	bool uplink;
	bool gone;			/* its link is down: to be unplugged */
	unsigned int macs;		/* entries of the table */
};

struct entry {
	uint8_t mac[NET_MAC_LEN];
	struct port *port;		/* NULL: free */
	time_t seen;
};

struct net_switch {
	struct loop *loop;
	struct log *log;
	struct loop_work sweep_work;
	struct port ports[SWITCH_PORTS_MAX];
	struct entry table[TABLE_SIZE];
};

/* --- addresses --- */

static time_t now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return t.tv_sec;
}

static unsigned int hash(const uint8_t *mac)
{
	uint32_t h = 2166136261U;	/* FNV-1a */

	for (unsigned int i = 0; i < NET_MAC_LEN; i++)
		h = (h ^ mac[i]) * 16777619U;
	return (h ^ h >> 16) % TABLE_SIZE;
}

static struct entry *find(struct net_switch *s, const uint8_t *mac)
{
	unsigned int at = hash(mac);

	for (unsigned int i = 0; i < PROBES; i++) {
		struct entry *t = &s->table[(at + i) % TABLE_SIZE];

		if (t->port && !memcmp(t->mac, mac, NET_MAC_LEN))
			return t;
	}
	return NULL;
}

/* A place for a new address: a free one, or one of a long silence. */
static struct entry *find_room(struct net_switch *s, const uint8_t *mac, time_t now)
{
	unsigned int at = hash(mac);

	for (unsigned int i = 0; i < PROBES; i++) {
		struct entry *t = &s->table[(at + i) % TABLE_SIZE];

		if (!t->port || now - t->seen > SILENCE_S)
			return t;
	}
	return NULL;
}

static void learn(struct port *p, const uint8_t *mac, time_t now)
{
	struct entry *t = find(p->sw, mac);

	if (mac[0] & 1)
		return;		/* a group's address is nobody's */
	if (t && t->port == p) {
		t->seen = now;
		return;
	}
	if (t && now - t->seen <= SILENCE_S)
		return;
	if (p->macs == SWITCH_MACS_PER_PORT && !p->uplink)
		return;
	if (!t)
		t = find_room(p->sw, mac, now);
	if (!t)
		return;
	if (t->port)
		t->port->macs--;
	*t = (struct entry){ .port = p, .seen = now };
	memcpy(t->mac, mac, NET_MAC_LEN);
	p->macs++;
}

static void forget(struct port *p)
{
	for (unsigned int i = 0; i < TABLE_SIZE; i++)
		if (p->sw->table[i].port == p)
			p->sw->table[i].port = NULL;
	p->macs = 0;
}

/* --- forwarding --- */

static void flood(struct port *from, const struct net_out *f)
{
	for (unsigned int i = 0; i < SWITCH_PORTS_MAX; i++) {
		struct port *p = &from->sw->ports[i];

		if (p != from && p->backend && !p->gone)
			net_send(p->backend, f, 1);
	}
}

/* Where a frame goes: a port, @from itself (nowhere), or NULL (to all). */
static struct port *way(struct port *from, const struct net_in *f)
{
	struct entry *t = f->data[0] & 1 ? NULL : find(from->sw, f->data);

	return t ? t->port : NULL;
}

/* Frames that follow each other on the same way go together. */
static unsigned int receive(void *dev, struct net_in *frames, unsigned int count)
{
	struct port *from = dev, *to = NULL;
	struct net_out out[AT_ONCE];
	struct iovec iov[AT_ONCE];
	const time_t now = now_s();
	unsigned int n = 0;

	for (unsigned int i = 0; i < count; i++) {
		struct port *next;

		learn(from, frames[i].data + NET_MAC_LEN, now);
		next = way(from, &frames[i]);
		if (n && (next != to || n == AT_ONCE)) {
			net_send(to->backend, out, n);
			n = 0;
		}
		to = next;
		iov[n] = (struct iovec){ frames[i].data, frames[i].len };
		out[n] = (struct net_out){
			.hdr = frames[i].hdr, .iov = &iov[n], .count = 1, .len = frames[i].len,
		};
		if (!to)
			flood(from, &out[0]);
		else if (to != from && !to->gone)
			n++;
	}
	if (n)
		net_send(to->backend, out, n);
	return count;
}

/* --- ports --- */

/* Not in link(): the back end is in the middle of something. */
static void sweep(void *arg)
{
	struct net_switch *s = arg;

	for (unsigned int i = 0; i < SWITCH_PORTS_MAX; i++) {
		struct port *p = &s->ports[i];

		if (!p->backend || !p->gone)
			continue;
		forget(p);
		p->backend->ops->destroy(p->backend);
		*p = (struct port){ 0 };
		log_info(s->log, "switch: port %u was unplugged", i);
	}
}

static void link_changed(void *dev, bool up)
{
	struct port *p = dev;

	if (up || p->uplink)
		return;
	p->gone = true;
	loop_post(p->sw->loop, &p->sw->sweep_work);
}

/* What a full port did not take is lost already. */
static void writable(void *dev)
{
	(void)dev;
}

static const struct net_front_ops front_ops = {
	.receive = receive, .writable = writable, .link = link_changed,
};

int net_switch_plug(struct net_switch *s, struct net_backend *b, bool uplink, struct err *e)
{
	unsigned int i;
	int rc;

	for (i = 0; i < SWITCH_PORTS_MAX && s->ports[i].backend; i++)
		;
	if (i == SWITCH_PORTS_MAX) {
		b->ops->destroy(b);
		return err_set(e, ENOSPC, "all %u ports of the switch are taken", SWITCH_PORTS_MAX);
	}
	rc = net_attach(b, s->loop, &front_ops, &s->ports[i], e);
	if (rc) {
		b->ops->destroy(b);
		return rc;
	}
	s->ports[i] = (struct port){ .sw = s, .backend = b, .uplink = uplink };
	log_info(s->log, "switch: port %u was plugged in%s", i, uplink ? " (uplink)" : "");
	return 0;
}

unsigned int net_switch_ports(const struct net_switch *s)
{
	unsigned int n = 0;

	for (unsigned int i = 0; i < SWITCH_PORTS_MAX; i++)
		n += s->ports[i].backend && !s->ports[i].uplink;
	return n;
}

int net_switch_create(struct net_switch **out, struct loop *loop, struct log *log,
		      struct err *e)
{
	struct net_switch *s = calloc(1, sizeof(*s));

	if (!s)
		return err_set(e, ENOMEM, "out of memory for a switch");
	s->loop = loop;
	s->log = log;
	s->sweep_work = (struct loop_work){ .run = sweep, .arg = s };
	*out = s;
	return 0;
}

void net_switch_destroy(struct net_switch *s)
{
	if (!s)
		return;
	loop_unpost(s->loop, &s->sweep_work);
	for (unsigned int i = 0; i < SWITCH_PORTS_MAX; i++)
		if (s->ports[i].backend)
			s->ports[i].backend->ops->destroy(s->ports[i].backend);
	free(s);
}
