/* SPDX-License-Identifier: Apache-2.0 */
/* Parts of the socket network: net_socket.c (frames), net_socket_open.c (text and sockets). */
#ifndef VIREO_BACKEND_NET_SOCKET_PRIV_H
#define VIREO_BACKEND_NET_SOCKET_PRIV_H

#include "backend/net_socket.h"

#include <sys/socket.h>

struct net_socket_opened {
	int fd, listener;		/* -1: none */
	bool datagrams, group;
	struct sockaddr_storage to;	/* of datagrams; to_len 0: the socket is connected */
	socklen_t to_len;
};

/* Also after a failure what is open in *o is the caller's. */
int net_socket_open(struct net_socket_opened *o, const struct net_socket_config *c, struct err *e);

#endif
