/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend on file descriptors: a terminal, a pipe, a file.
 *
 * Output is gathered in a buffer and leaves when it is half full or about a
 * millisecond old, so a guest that prints byte by byte costs few system calls; or, on a socket,
 * in the pieces in which it comes, single bytes in those of a UART's FIFO.
 * Input is read only as far as the front end takes it, but for a buffer's worth; with a
 * filter it is read on, so that the filter sees all of it, and what there is no room for is
 * dropped, as terminals do.
 */
#ifndef VIREO_BASE_CHAR_FD_H
#define VIREO_BASE_CHAR_FD_H

#include "base/char_backend.h"
#include "base/loop.h"

struct char_fd_config {
	int in;		/* -1: no input; duplicated, its flags stay as they are */
	int out;	/* -1: output is dropped; the same */
	bool pieces;	/* out is a socket whose reader cares which text comes together */
	/*
	 * May be NULL.  Looks at input before the guest sees it, on the loop's thread:
	 * may change @buf in place and returns the bytes left of it (an escape key).
	 */
	size_t (*filter)(void *arg, uint8_t *buf, size_t len);
	void *arg;
	/* May be NULL.  Input came to its end, or reading failed. */
	void (*closed)(void *arg);
};

int char_fd_create(struct char_backend **out, struct loop *l, const struct char_fd_config *c,
		   struct err *e);

#endif
