/* SPDX-License-Identifier: Apache-2.0 */
/*
 * User-mode networking: a private network of the guest's own, whose gateway turns its
 * connections into ordinary sockets of the user, without privileges.  libslirp does it, in a
 * process of its own (user_serve.c) that a filter keeps from everything but sockets.
 *
 * The guest gets by DHCP 10.0.2.15; 10.0.2.2 is the gateway and this host's loopback, 10.0.2.3
 * the name server.  The text that describes it travels to the process as it is.
 */
#ifndef VIREO_BACKEND_NET_USER_H
#define VIREO_BACKEND_NET_USER_H

#include "backend/net.h"

#include <netinet/in.h>

#define USER_FORWARDS_MAX	64U
#define USER_GUESTFWDS_MAX	16U

union user_addr {
	struct sockaddr sa;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* A port of the host that leads to one of the guest. */
struct user_forward {
	bool udp;
	union user_addr host, guest;	/* the same family */
};

/* An address and TCP port in the guest's network that lead to a Unix socket of the host. */
struct user_guestfwd {
	struct in_addr addr;
	uint16_t port;
	char path[108];
};

struct user_config {
	bool restricted;	/* the guest reaches nothing but what is forwarded */
	bool ipv6;
	struct in_addr net, mask;
	char hostname[64];	/* the guest's, told by DHCP */
	struct user_forward forwards[USER_FORWARDS_MAX];
	unsigned int forward_count;
	struct user_guestfwd guestfwds[USER_GUESTFWDS_MAX];
	unsigned int guestfwd_count;
};

/*
 * Reads what follows "user" in --net: nothing, or "hostfwd=...,restrict=on,...".  -EINVAL with
 * a sentence.
 */
int user_config_parse(struct user_config *c, const char *text, struct err *e);
/* Adds one forwarding in hostfwd's syntax. */
int user_config_forward(struct user_config *c, const char *text, struct err *e);

/*
 * Starts the process: this program again, as "PROGRAM net-user TEXT"; waits until its sockets
 * are bound, so that a port that is taken is told here.  @program: NULL for this program.
 */
int net_user_create(struct net_backend **out, const char *program, const char *text,
		    struct log *log, struct err *e);

/*
 * The process's life, on the stream socket @fd: returns its exit status when the VM is gone.
 * @confined: under the filter.
 */
int user_serve(int fd, const struct user_config *c, bool confined);

#endif
