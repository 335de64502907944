/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The back end that joins VMs, QEMU's among them, by a socket: a stream on which each frame comes
 * behind its length (4 bytes, big-endian), or datagrams of a frame each, to one peer or to a
 * multicast group.  That is QEMU's -netdev socket (and stream, dgram).
 *
 * One peer at a time; who listens takes the next one when the first has gone.  The frames have no
 * offload header, so checksums and segments are made here.
 */
#ifndef VIREO_BACKEND_NET_SOCKET_H
#define VIREO_BACKEND_NET_SOCKET_H

#include "backend/net.h"

enum net_socket_how {
	NET_SOCKET_NONE, NET_SOCKET_LISTEN, NET_SOCKET_CONNECT, NET_SOCKET_FD, NET_SOCKET_MCAST,
	NET_SOCKET_UDP,
};

struct net_socket_config {
	enum net_socket_how how;
	char where[128];	/* HOST:PORT or unix:PATH */
	char local[128];	/* HOST:PORT of UDP; the interface's address of a group; or "" */
	int fd;
};

/*
 * listen=WHERE  connect=WHERE  fd=N  mcast=GROUP:PORT[,localaddr=HOST]
 * udp=HOST:PORT,localaddr=HOST:PORT
 */
int net_socket_config_parse(struct net_socket_config *c, const char *text, struct err *e);
int net_socket_create(struct net_backend **out, const struct net_socket_config *c, struct log *log,
		      struct err *e);
/* The unix socket that listens there, in @c->where; NULL: none. */
const char *net_socket_leaves(const struct net_socket_config *c);

#endif
