/* SPDX-License-Identifier: Apache-2.0 */
/* Within the process of user-mode networking; for its files only. */
#ifndef VIREO_BACKEND_USER_PRIV_H
#define VIREO_BACKEND_USER_PRIV_H

#include "backend/frame_stream.h"
#include "backend/net_user.h"

/* The size of a TCP segment between libslirp and us: several, so that they overlap in flight. */
#define USER_LARGE_MSS	21900U
/* A guest's link takes this much in one frame; what is larger is marked or fragmented. */
#define USER_MTU	1500U
#define USER_FLOWS	4096U		/* a power of two */

/* The segment size that a connection's guest side asked for, by the connection's hash. */
struct user_flows {
	struct user_flow {
		uint32_t key;
		uint16_t mss;
	} flow[USER_FLOWS];
};

/* --- user_frame.c --- */

/*
 * Makes a frame of the guest what libslirp takes: checksum filled in, and a large segment
 * size asked for.  False: drop it.
 */
bool user_from_guest(struct user_flows *u, struct net_in *f);
/* Queues a frame of libslirp's for the guest: large TCP marked, other large IP fragmented. */
void user_to_guest(struct user_flows *u, struct frame_stream *s, const uint8_t *frame,
		   size_t len);

/* The same for a TCP frame with the pseudo header's checksum alone, which is changed. */
void user_tcp_to_guest(struct user_flows *u, struct frame_stream *s, uint8_t *frame, size_t len);

/* --- user_confine.c --- */

/*
 * No new privileges, no files but what names are resolved with, no system calls but those of
 * sockets and memory.  @unix_sockets: may connect to Unix sockets (guestfwd).
 */
int user_confine(bool unix_sockets, struct err *e);

#endif
