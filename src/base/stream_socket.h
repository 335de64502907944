/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stream and datagram sockets by name: HOST:PORT, where HOST is an address in digits, localhost,
 * or nothing (loopback), and [HOST]:PORT of IPv6.
 */
#ifndef VIREO_BASE_STREAM_SOCKET_H
#define VIREO_BASE_STREAM_SOCKET_H

#include "base/err.h"

#include <sys/socket.h>

/* @what: what the sentence of an error begins with.  -EINVAL. */
int inet_address(struct sockaddr_storage *a, socklen_t *len, const char *what, const char *text,
		 struct err *e);
/* A listening, nonblocking descriptor. */
int inet_listen(const char *what, const char *text, int backlog, struct err *e);
/* A connected one; waits until it is. */
int inet_connect(const char *what, const char *text, struct err *e);
/* The same of a unix socket. */
int unix_connect(const char *path, struct err *e);
/* Waits until somebody is there to be accepted. */
void wait_for_client(int listener);

#endif
