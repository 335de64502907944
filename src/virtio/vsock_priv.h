/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The inside of virtio-vsock: vsock.c has the queues and packets, vsock_conn.c the connections.
 * Everything runs on the device's thread.
 */
#ifndef VIREO_VIRTIO_VSOCK_PRIV_H
#define VIREO_VIRTIO_VSOCK_PRIV_H

#include "virtio/vsock.h"

#include <sys/un.h>

#define VSOCK_CONNS_MAX	256U
#define VSOCK_RESETS_MAX 64U
#define VSOCK_BUF	131072U		/* what we let the guest send ahead, a connection */
#define VSOCK_LINE	32U

enum vsock_op {
	VSOCK_REQUEST = 1, VSOCK_RESPONSE, VSOCK_RST, VSOCK_SHUTDOWN, VSOCK_RW,
	VSOCK_CREDIT_UPDATE, VSOCK_CREDIT_REQUEST
};

#define VSOCK_TYPE_STREAM 1
#define VSOCK_SHUT_RCV	1U	/* will not receive any more */
#define VSOCK_SHUT_SEND	2U
#define VSOCK_SHUT_BOTH	3U

/* Little-endian, as is the host. */
struct vsock_hdr {
	uint64_t src_cid, dst_cid;
	uint32_t src_port, dst_port, len;
	uint16_t type, op;
	uint32_t flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum conn_state {
	CONN_HANDSHAKE,		/* the host's program has not said "CONNECT" yet */
	CONN_REQUESTED,		/* the guest has not answered yet */
	CONN_OPEN,
	CONN_CLOSING,		/* the host's side is gone, the guest was told */
};

struct virtio_vsock;

struct vsock_conn {
	struct virtio_vsock *v;
	struct vsock_conn *prev, *next;
	enum conn_state state;
	uint32_t guest_port, host_port;
	int fd;				/* -1: closed */
	bool watched;
	bool readable;			/* there may be input or an end to read */
	bool eof, hung_up;
	bool asked;			/* for credit */
	unsigned int pending;		/* packets to send: bits of enum vsock_op */
	unsigned int guest_shut;	/* what the guest does no more */
	unsigned int told_shut;		/* what we do no more, as the guest was told */
	uint32_t peer_alloc, peer_fwd;	/* the guest's room */
	uint32_t sent;			/* bytes to the guest so far */
	uint32_t received, forwarded, told_forwarded;	/* bytes from the guest so far */
	uint8_t *out;			/* VSOCK_BUF bytes that the host did not take yet, or NULL */
	uint32_t out_at, out_count;
	char line[VSOCK_LINE];
	unsigned int line_len;
};

struct vsock_reset { uint32_t guest_port, host_port; };

struct virtio_vsock {
	struct virtio_device virtio;
	uint32_t cid;
	struct sockaddr_un address;
	int listener, spare;	/* spare: see unix_accept() */
	bool listening;			/* it is watched */
	uint32_t next_port;
	struct vsock_conn *first, *last;
	unsigned int count;
	struct vsock_reset resets[VSOCK_RESETS_MAX];	/* for what has no connection */
	unsigned int reset_count;
};

/* --- vsock.c --- */

/* Sends what there is to send, as far as the guest has buffers. */
void vsock_pump(struct virtio_vsock *v);
/* Notes that the guest is to hear of it; lost where a hostile guest asks for too many. */
void vsock_reset_port(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port);

/* --- vsock_conn.c --- */

int vsock_listen(struct virtio_vsock *v, struct err *e);
struct vsock_conn *vsock_find(struct virtio_vsock *v, uint32_t guest_port, uint32_t host_port);
void vsock_close(struct vsock_conn *c);
void vsock_close_all(struct virtio_vsock *v);
/* The guest wants to connect; a reset is noted where that fails. */
void vsock_guest_connects(struct virtio_vsock *v, const struct vsock_hdr *h);
/* The guest has accepted what a program of the host wanted. */
void vsock_accepted(struct vsock_conn *c);
/* @chain's bytes, without its header, are for the host's program. */
void vsock_receive(struct vsock_conn *c, struct virtq_chain *chain);
void vsock_guest_shuts(struct vsock_conn *c, uint32_t flags);
/* What the guest may still be sent. */
uint32_t vsock_credit(const struct vsock_conn *c);
/* Watches for what the connection can do now. */
void vsock_watch(struct vsock_conn *c);
/* Reads up to @len bytes for the guest; 0: nothing now, and *c says why. */
size_t vsock_read(struct vsock_conn *c, void *buf, size_t len);

#endif
