/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aio=io_uring of a raw disk: reads and writes that the kernel carries out by itself, submitted
 * and reaped by one thread.  For struct block only, which has its workers do whatever does not
 * come out whole here.
 *
 * The ring is made before the process is confined (base/confine.h), and is restricted by the
 * kernel to READV and WRITEV of the one file that it was made for; afterwards the thread needs
 * io_uring_enter() alone.
 */
#ifndef VIREO_BACKEND_BLOCK_RING_H
#define VIREO_BACKEND_BLOCK_RING_H

#include "backend/block.h"
#include "backend/image.h"

struct block_ring;
struct io_uring;

/*
 * Called on the ring's thread without a lock of the ring's, once for each request taken.
 * @whole: all bytes were read or written; else nothing is known of them, and the request is to
 * be done again.
 */
typedef void block_ring_done(void *arg, struct block_request *r, bool whole);

/*
 * For the file of @img, which must stay open.  -errno with a sentence that names the disk where
 * the host has no io_uring for this process.  *out is NULL, and 0 returned, if @img is not a
 * raw image itself.
 */
int block_ring_open(struct block_ring **out, struct image *img, block_ring_done *done, void *arg,
		    struct err *e);
/* Nothing of it is in flight any more, and nobody submits; NULL is allowed. */
void block_ring_close(struct block_ring *ring);

/* [any] thread.  Takes @r over, or returns false: it is nothing for a ring, or there is no room. */
bool block_ring_submit(struct block_ring *ring, struct block_request *r);

/*
 * For the above and for tests: *ring, restricted to reads and writes of @fd as its file 0, whose
 * completions add to the eventfd @event; -errno.
 */
int block_ring_make(struct io_uring *ring, int fd, int event);

#endif
