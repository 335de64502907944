// SPDX-License-Identifier: Apache-2.0
/*
 * The socket device: packets between the queues and the connections (vsock_conn.c).
 *
 * Source: VIRTIO 1.2, "Socket Device"; the protocol on the unix sockets is Firecracker's.
 * Not there: SOCK_SEQPACKET, datagrams, events (a VM does not change its CID).
 *
 * Packets to the guest are not queued but remembered: each connection has a bit for each kind
 * that is due, so a guest that gives no buffers costs nothing.
 */
#include "virtio/vsock_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX	16384U	/* of one packet */

enum { QUEUE_RX, QUEUE_TX, QUEUE_EVENT, QUEUES };

static struct virtio_vsock *to_vsock(struct virtio_device *d)
{
	return container_of(d, struct virtio_vsock, virtio);
}

/* --- to the guest --- */

void vsock_reset_port(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port)
{
	if (v->reset_count < VSOCK_RESETS_MAX)
		v->resets[v->reset_count++] = (struct vsock_reset){ guest_port, host_port };
}

static struct vsock_hdr header(const struct virtio_vsock *v, uint32_t host_port,
			       uint32_t guest_port, enum vsock_op op)
{
	return (struct vsock_hdr){
		.src_cid = VSOCK_CID_HOST, .dst_cid = v->cid, .src_port = host_port,
		.dst_port = guest_port, .type = VSOCK_TYPE_STREAM, .op = op,
	};
}

static struct vsock_hdr conn_header(struct vsock_conn *c, enum vsock_op op)
{
	struct vsock_hdr h = header(c->v, c->host_port, c->guest_port, op);

	h.buf_alloc = VSOCK_BUF;
	h.fwd_cnt = c->told_forwarded = c->forwarded;
	c->pending &= ~BIT(VSOCK_CREDIT_UPDATE);
	return h;
}

/* What is due but for data; an end comes after all data. */
static unsigned int due(const struct vsock_conn *c)
{
	return c->readable ? c->pending & ~BIT(VSOCK_SHUTDOWN) : c->pending;
}

static bool take_pending(struct vsock_conn *c, struct vsock_hdr *h)
{
	for (enum vsock_op op = VSOCK_REQUEST; op <= VSOCK_CREDIT_REQUEST; op++) {
		if (!(due(c) & BIT(op)))
			continue;
		c->pending &= ~BIT(op);
		*h = conn_header(c, op);
		if (op == VSOCK_SHUTDOWN)
			h->flags = c->told_shut;
		return true;
	}
	return false;
}

/* Something that needs a buffer of the guest; data that has no credit asks for some. */
static bool wants_to_send(struct vsock_conn *c)
{
	if (c->state == CONN_OPEN && c->readable && !vsock_credit(c) && !c->asked) {
		c->asked = true;
		c->pending |= BIT(VSOCK_CREDIT_REQUEST);
	}
	return due(c) || (c->state == CONN_OPEN && c->readable && vsock_credit(c));
}

static size_t fill(struct vsock_conn *c, struct virtq_chain *chain)
{
	uint8_t data[READ_MAX];
	struct vsock_hdr h;
	size_t n, room;

	if (take_pending(c, &h))
		return chain_write(chain, 0, &h, sizeof(h));
	room = MIN(chain->in_len - sizeof(h), MIN(vsock_credit(c), READ_MAX));
	if (c->state != CONN_OPEN || !c->readable || !room)
		return 0;
	n = vsock_read(c, data, room);
	if (!n)
		return take_pending(c, &h) ? chain_write(chain, 0, &h, sizeof(h)) : 0;
	h = conn_header(c, VSOCK_RW);
	h.len = n;
	chain_write(chain, 0, &h, sizeof(h));
	return sizeof(h) + chain_write(chain, sizeof(h), data, n);
}

/* Who was served goes to the end of the line. */
static void rotate(struct vsock_conn *c)
{
	struct virtio_vsock *v = c->v;

	if (!c->next)
		return;
	*(c->prev ? &c->prev->next : &v->first) = c->next;
	c->next->prev = c->prev;
	c->prev = v->last;
	c->next = NULL;
	v->last->next = c;
	v->last = c;
}

static struct vsock_conn *next_sender(struct virtio_vsock *v)
{
	for (struct vsock_conn *c = v->first; c; c = c->next)
		if (wants_to_send(c))
			return c;
	return NULL;
}

static size_t fill_reset(struct virtio_vsock *v, struct virtq_chain *chain)
{
	const struct vsock_reset r = v->resets[0];
	const struct vsock_hdr h = header(v, r.host_port, r.guest_port, VSOCK_RST);

	memmove(v->resets, v->resets + 1, --v->reset_count * sizeof(r));
	return chain_write(chain, 0, &h, sizeof(h));
}

void vsock_pump(struct virtio_vsock *v)
{
	struct virtq *q = virtio_queue(&v->virtio, QUEUE_RX);
	struct vsock_conn *c = NULL;
	struct virtq_chain *chain;
	size_t n;

	while ((v->reset_count || (c = next_sender(v))) && (chain = virtq_pop(q))) {
		if (chain->in_len < sizeof(struct vsock_hdr)) {
			virtq_unpop(chain);
			virtio_broken(&v->virtio, "a buffer for packets has no room for a header");
			break;
		}
		n = v->reset_count ? fill_reset(v, chain) : fill(c, chain);
		if (n)
			virtq_push(chain, n);
		else
			virtq_unpop(chain);
		if (c && n)
			rotate(c);
		c = NULL;
	}
	virtq_notify(q);
}

/* --- from the guest --- */

static void conn_packet(struct vsock_conn *c, const struct vsock_hdr *h, struct virtq_chain *chain)
{
	c->peer_alloc = h->buf_alloc;
	c->peer_fwd = h->fwd_cnt;
	c->asked = c->asked && !vsock_credit(c);
	switch (h->op) {
	case VSOCK_RESPONSE:
		if (c->state == CONN_REQUESTED)
			vsock_accepted(c);
		break;
	case VSOCK_RST:
		vsock_close(c);
		break;
	case VSOCK_SHUTDOWN:
		vsock_guest_shuts(c, h->flags);
		break;
	case VSOCK_RW:
		vsock_receive(c, chain);
		break;
	case VSOCK_CREDIT_REQUEST:
		c->pending |= BIT(VSOCK_CREDIT_UPDATE);
		break;
	case VSOCK_CREDIT_UPDATE:
		break;
	default:	/* a request for what is there already, or nonsense */
		vsock_reset_port(c->v, c->guest_port, c->host_port);
		vsock_close(c);
	}
}

static void packet(struct virtio_vsock *v, struct virtq_chain *chain)
{
	struct vsock_conn *c;
	struct vsock_hdr h;

	if (chain_read(chain, 0, &h, sizeof(h)) != sizeof(h) ||
	    h.len > chain->out_len - sizeof(h)) {
		virtio_broken(&v->virtio, "a packet is shorter than its header says");
		return;
	}
	chain_skip_out(chain, sizeof(h));
	chain_trim_out(chain, h.len);
	if (h.src_cid != v->cid || h.dst_cid != VSOCK_CID_HOST)
		return;		/* not from here, or to another machine */
	c = h.type == VSOCK_TYPE_STREAM ? vsock_find(v, h.src_port, h.dst_port) : NULL;
	if (c)
		conn_packet(c, &h, chain);
	else if (h.type == VSOCK_TYPE_STREAM && h.op == VSOCK_REQUEST)
		vsock_guest_connects(v, &h);
	else if (h.op != VSOCK_RST)
		vsock_reset_port(v, h.src_port, h.dst_port);
}

static void vsock_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtio_vsock *v = to_vsock(d);
	struct virtq_chain *chain;

	if (virtq_index(q) == QUEUE_TX) {
		while ((chain = virtq_pop(q))) {
			packet(v, chain);
			virtq_push(chain, 0);
		}
		virtq_notify(q);
	}
	if (virtq_index(q) != QUEUE_EVENT)
		vsock_pump(v);
}

/* --- the device --- */

static void vsock_reset(struct virtio_device *d)
{
	vsock_close_all(to_vsock(d));
	to_vsock(d)->reset_count = 0;
}

/* No chain is held from one callback to the next. */
static void vsock_queue_reset(struct virtio_device *d, struct virtq *q)
{
	(void)d;
	(void)q;
}

static void vsock_destroy(struct virtio_device *d)
{
	struct virtio_vsock *v = to_vsock(d);

	vsock_close_all(v);
	if (v->listening)
		loop_unwatch(virtio_loop(d), v->listener);
	if (v->listener >= 0) {
		close(v->listener);
		close(v->spare);
		unlink(v->address.sun_path);
	}
	virtio_fini(d);
	free(v);
}

static const struct virtio_ops vsock_ops = {
	.id = VIRTIO_ID_VSOCK,
	.name = "virtio-vsock",
	.kick = vsock_kick,
	.reset = vsock_reset,
	.queue_reset = vsock_queue_reset,
	.destroy = vsock_destroy,
};

int virtio_vsock_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			uint32_t cid, const char *path, struct err *e)
{
	const uint64_t config = cid;
	const struct virtio_setup setup = {
		.space = s, .log = log, .queues = QUEUES, .queue_size = 256,
		.config = &config, .config_len = sizeof(config),
	};
	const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path) - sizeof("_4294967295");
	struct virtio_vsock *v = calloc(1, sizeof(*v));
	int rc;

	if (!v)
		return err_set(e, ENOMEM, "out of memory for virtio-vsock");
	if (strlen(path) > room) {
		free(v);
		return err_set(e, ENAMETOOLONG, "the name of a vsock's socket has at most %zu bytes: "
			       "%s", room, path);
	}
	v->listener = -1;
	v->cid = cid;
	v->next_port = 1U << 30;
	v->address.sun_family = AF_UNIX;
	strcpy(v->address.sun_path, path);
	rc = virtio_init(&v->virtio, &vsock_ops, &setup, e);
	if (rc) {
		free(v);
		return rc;
	}
	rc = vsock_listen(v, e);
	if (rc) {
		vsock_destroy(&v->virtio);
		return rc;
	}
	*out = &v->virtio;
	return 0;
}
