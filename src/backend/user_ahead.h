/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Acknowledging ahead: larger windows for TCP from libslirp to the guest.
 *
 * libslirp knows no window scaling, so a connection has at most 64 KiB on the way to the guest,
 * and its speed is that divided by how long three threads take to be woken.  Here, between
 * libslirp and the guest, stands somebody who takes libslirp's data at once, acknowledges it in
 * the guest's name, and sees to it that the guest gets it: within the guest's own window, which
 * is scaled (the option is put into libslirp's SYN), again if it is lost, and followed by the
 * FIN.  Sequence numbers stay as they are, and so does the other direction.
 *
 * A connection whose guest offers no scaling, or for which there is no place, passes by.
 *
 * Source: RFC 9293; RFC 7323, "TCP Window Scale Option"; RFC 1624.
 * Not here: congestion control (the link is a socket), SACK, time stamps.
 *
 * One thread.
 */
#ifndef VIREO_BACKEND_USER_AHEAD_H
#define VIREO_BACKEND_USER_AHEAD_H

#include "backend/net.h"

struct user_ahead;

struct user_ahead_ops {
	/* A frame for libslirp, made here. */
	void (*to_slirp)(void *arg, const uint8_t *frame, size_t len);
	/*
	 * A frame for the guest: TCP, its checksum not filled in but for the pseudo header's,
	 * perhaps large.  False: no room now; try again with the next user_ahead_run().
	 */
	bool (*to_guest)(void *arg, uint8_t *frame, size_t len);
	/* Milliseconds of any clock that does not stop. */
	int64_t (*now)(void *arg);
};

/* NULL: no memory. */
struct user_ahead *user_ahead_create(const struct user_ahead_ops *ops, void *arg);
void user_ahead_destroy(struct user_ahead *a);

/*
 * A frame of the guest's, its checksums filled in, on its way to libslirp.  It may be changed;
 * false: it goes no further.
 */
bool user_ahead_from_guest(struct user_ahead *a, uint8_t *frame, size_t len);
/*
 * A frame of libslirp's on its way to the guest; true: it was taken.  If false, *out and *out_len
 * are what is to go on in its place: the frame itself, or one that is valid until the next call.
 */
bool user_ahead_from_slirp(struct user_ahead *a, const uint8_t *frame, size_t len,
			   const uint8_t **out, size_t *out_len);

/* Sends what is due; after frames were handed over, when there is room again, at the deadline. */
void user_ahead_run(struct user_ahead *a);
/* When user_ahead_run() is due even if nothing happens; INT64_MAX: never. */
int64_t user_ahead_deadline(const struct user_ahead *a);

#endif
