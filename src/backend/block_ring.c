// SPDX-License-Identifier: Apache-2.0
/*
 * A disk's ring of io_uring; see block_ring.h.
 *
 * Linux's io_uring(7), io_uring_register(2).  One thread does all that the ring sees: the kernel
 * lets a completion's last part run in the thread that submitted, and a vCPU should neither be
 * interrupted for that nor copy data itself.  The thread sleeps in read() of an eventfd, which
 * is written to by block_ring_submit() and, for completions, by the kernel.
 *
 * There are as many slots as the submission queue has entries, and the completion queue has
 * twice as many, so neither can overflow.
 */
#include "backend/block_ring.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define SLOTS		128U	/* a power of two */
#define SLOT_IOV	64U
#define RETRY_MS	10	/* where the kernel had no memory for a submission */

struct slot {
	struct block_request *r;
	struct slot *next;			/* while it is free */
	struct iovec iov[SLOT_IOV];		/* read by the kernel until it is submitted */
};

struct block_ring {
	struct image *img;			/* (i) */
	block_ring_done *done;			/* (i) */
	void *arg;				/* (i) */
	int event;				/* (i) */
	pthread_t thread;

	struct io_uring ring;			/* (t) the thread's alone */
	struct slot *free;			/* (t) */
	struct slot slots[SLOTS];		/* (t) */

	pthread_mutex_t lock;			/* (l) what follows */
	struct block_request *first, **last;	/* (l) taken, not submitted */
	unsigned int room;			/* (l) slots for which nothing was taken */
	bool ending;				/* (l) */
};

/* --- the thread --- */

static void submit_one(struct block_ring *ring, struct block_request *r)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->ring);
	const struct span all = span_of(r->iov, r->iov_count, r->len);
	struct slot *slot = ring->free;
	unsigned int count;
	size_t bytes;

	ring->free = slot->next;
	slot->r = r;
	count = span_iov(&all, slot->iov, SLOT_IOV, &bytes);
	/* File 0 is the one that was registered. */
	if (r->op == BLOCK_READ)
		io_uring_prep_readv(sqe, 0, slot->iov, count, r->offset);
	else
		io_uring_prep_writev(sqe, 0, slot->iov, count, r->offset);
	sqe->flags |= IOSQE_FIXED_FILE;
	io_uring_sqe_set_data(sqe, slot);
}

/* False: the ring is to end. */
static bool submit_taken(struct block_ring *ring)
{
	struct block_request *r, *next;
	bool ending;

	pthread_mutex_lock(&ring->lock);
	r = ring->first;
	ring->first = NULL;
	ring->last = &ring->first;
	ending = ring->ending;
	pthread_mutex_unlock(&ring->lock);
	for (; r; r = next) {
		next = r->next;
		submit_one(ring, r);
	}
	/* It stops behind an entry that it refuses; what there is no memory for stays. */
	while (io_uring_sq_ready(&ring->ring) && io_uring_submit(&ring->ring) > 0)
		;
	return !ending;
}

static void reap(struct block_ring *ring)
{
	struct block_request *r;
	struct io_uring_cqe *cqe;
	struct slot *slot;
	bool whole;

	while (!io_uring_peek_cqe(&ring->ring, &cqe)) {
		slot = io_uring_cqe_get_data(cqe);
		r = slot->r;
		whole = cqe->res >= 0 && (uint64_t)cqe->res == r->len;
		io_uring_cqe_seen(&ring->ring, cqe);
		slot->next = ring->free;
		ring->free = slot;
		pthread_mutex_lock(&ring->lock);
		ring->room++;
		pthread_mutex_unlock(&ring->lock);
		ring->done(ring->arg, r, whole);
	}
}

static void *run(void *arg)
{
	struct block_ring *ring = arg;
	struct pollfd p = { .fd = ring->event, .events = POLLIN };
	uint64_t count;

	while (submit_taken(ring)) {
		reap(ring);
		if (io_uring_sq_ready(&ring->ring) && !poll(&p, 1, RETRY_MS))
			continue;
		/* Interrupted, it is only a look too many. */
		if (read(ring->event, &count, sizeof(count)) < 0)
			assert(errno == EINTR);
	}
	return NULL;
}

static void wake(struct block_ring *ring)
{
	const uint64_t one = 1;

	while (write(ring->event, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

/* --- for struct block --- */

/* What fails for certain, or needs more care than this, is the workers'. */
static bool suits(const struct block_ring *ring, const struct block_request *r)
{
	const uint64_t size = ring->img->size;

	if ((r->op != BLOCK_READ && r->op != BLOCK_WRITE) || !r->len || r->offset > size ||
	    r->len > size - r->offset || r->iov_count > SLOT_IOV ||
	    iov_bytes(r->iov, r->iov_count) < r->len)
		return false;
	return r->op == BLOCK_READ ||
	       (!ring->img->read_only && !raw_head_guarded(ring->img, r->offset));
}

bool block_ring_submit(struct block_ring *ring, struct block_request *r)
{
	bool taken, first;

	if (!suits(ring, r))
		return false;
	pthread_mutex_lock(&ring->lock);
	first = !ring->first;
	taken = ring->room > 0;
	if (taken) {
		ring->room--;
		r->next = NULL;
		*ring->last = r;
		ring->last = &r->next;
	}
	pthread_mutex_unlock(&ring->lock);
	if (taken && first)
		wake(ring);
	return taken;
}

/* --- opening and closing --- */

/*
 * Reads and writes of the registered file, and nothing is registered any more.  Version 2.3 of
 * the library declares functions for this which the shared one does not have.
 */
static int restrict_and_enable(struct io_uring *ring)
{
	struct io_uring_restriction only[] = {
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_READV },
		{ .opcode = IORING_RESTRICTION_SQE_OP, .sqe_op = IORING_OP_WRITEV },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED, .sqe_flags = IOSQE_FIXED_FILE },
		{ .opcode = IORING_RESTRICTION_SQE_FLAGS_REQUIRED, .sqe_flags = IOSQE_FIXED_FILE },
	};
	int rc = io_uring_register(ring->ring_fd, IORING_REGISTER_RESTRICTIONS, only,
				   ARRAY_SIZE(only));

	if (!rc)
		rc = io_uring_register(ring->ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
	/* A container's filter may know this call alone: better to hear of it now. */
	if (!rc)
		rc = io_uring_get_events(ring);
	return MIN(rc, 0);
}

int block_ring_make(struct io_uring *ring, int fd, int event)
{
	struct io_uring_params p = { .flags = IORING_SETUP_R_DISABLED };
	int rc = io_uring_queue_init_params(SLOTS, ring, &p);

	if (rc)
		return rc;
	rc = io_uring_register_files(ring, &fd, 1);
	if (!rc)
		rc = io_uring_register_eventfd(ring, event);
	if (!rc)
		rc = restrict_and_enable(ring);
	if (rc)
		io_uring_queue_exit(ring);
	return rc;
}

/*
 * The kernel may give the file back some time after the ring is gone, and the image's lock with
 * it: so it gets the file opened once more, which no lock is on.  Nor is O_NONBLOCK, with which it
 * may give up instead of waiting.
 */
static int open_again(struct image *img)
{
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", raw_fd(img));
	fd = open(path, (img->read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOCTTY);
	return fd < 0 ? -errno : fd;
}

static int ring_start(struct block_ring *ring)
{
	const int fd = open_again(ring->img);
	int rc;

	if (fd < 0)
		return fd;
	ring->event = eventfd(0, EFD_CLOEXEC);
	rc = ring->event < 0 ? -errno : block_ring_make(&ring->ring, fd, ring->event);
	close(fd);
	if (rc)
		return rc;
	rc = thread_create(&ring->thread, "disk ring", run, ring);
	if (rc)
		io_uring_queue_exit(&ring->ring);
	return rc;
}

static void ring_free(struct block_ring *ring)
{
	if (ring->event >= 0)
		close(ring->event);
	pthread_mutex_destroy(&ring->lock);
	free(ring);
}

int block_ring_open(struct block_ring **out, struct image *img, block_ring_done *done, void *arg,
		    struct err *e)
{
	struct block_ring *ring;
	int rc;

	*out = NULL;
	if (img->file || raw_fd(img) < 0)
		return 0;
	ring = calloc(1, sizeof(*ring));
	if (!ring)
		return err_errno(e, ENOMEM, "disk '%s'", img->path);
	ring->img = img;
	ring->done = done;
	ring->arg = arg;
	ring->last = &ring->first;
	ring->room = SLOTS;
	for (unsigned int i = 0; i < SLOTS; i++) {
		ring->slots[i].next = ring->free;
		ring->free = &ring->slots[i];
	}
	pthread_mutex_init(&ring->lock, NULL);
	ring->event = -1;
	rc = ring_start(ring);
	if (!rc) {
		*out = ring;
		return 0;
	}
	ring_free(ring);
	return err_set(e, -rc, "disk '%s': this host does not let vireo use io_uring (%s); "
		       "aio=threads does without", img->path, strerror(-rc));
}

void block_ring_close(struct block_ring *ring)
{
	if (!ring)
		return;
	pthread_mutex_lock(&ring->lock);
	ring->ending = true;
	pthread_mutex_unlock(&ring->lock);
	wake(ring);
	pthread_join(ring->thread, NULL);
	io_uring_queue_exit(&ring->ring);
	ring_free(ring);
}
