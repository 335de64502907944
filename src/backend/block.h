/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A disk of a VM, as the device in front of it sees it: an opened image (raw or qcow2, whole or
 * a part of it, with or without a throwaway overlay) and requests to it that complete later.
 *
 * Threads.  Requests may be submitted on any thread, many at once; a pool of worker threads of
 * the block's own, and with aio=io_uring of a raw image the kernel, carries them out in no
 * particular order.  done() is called on a thread of the block's (or, after a cancel, on the
 * thread that cancelled), without a lock of the block's, exactly once
 * for each request; it may submit again.  Requests in flight at the same time that overlap
 * leave one or the other, as on a disk.
 *
 * Durability.  A flush that completes with 0 says that every write, discard and write-zeroes
 * which had completed before the flush was submitted is on stable storage.
 *
 * Hostile input.  Offsets and lengths come from the guest; they are checked, and a request
 * outside of the image with -EINVAL (of a read-only image: writes with -EROFS).  The caller need
 * only see to it that the iovec list is what @len says.
 *
 * A full host (werror=stop, the default): a request for which the host has no room (ENOSPC,
 * EDQUOT) does not complete.  It is put aside, events->stopped() is called, and the VM is
 * expected to pause; block_resume() tries what was put aside again, in order.  With
 * werror=report such a request completes with -ENOSPC at once.
 */
#ifndef VIREO_BACKEND_BLOCK_H
#define VIREO_BACKEND_BLOCK_H

#include "base/err.h"
#include "base/types.h"

#include <sys/uio.h>

struct block;

/* --- opening --- */

enum block_werror { BLOCK_WERROR_STOP, BLOCK_WERROR_REPORT };

#define BLOCK_EXTENTS_MAX	64U

/* A piece of the host's file; the guest's disk is the pieces one after the other. */
struct block_extent {
	uint64_t offset, size;		/* bytes, multiples of 512; size 0: to the end */
};

struct block_options {
	char path[4096];
	char format[16];		/* "raw", "qcow2"; "": probe the file's head */
	char serial[21];		/* for the device; "" if none was given */
	char id[64], node[64];		/* what QMP calls the device, and the drive; or "" */
	bool read_only;
	bool snapshot;			/* writes go to an unlinked temporary file */
	bool scsi;			/* the device in front of it is a SCSI disk, not virtio-blk */
	enum block_werror werror;
	unsigned int threads;		/* workers; 0: the default */
	bool io_uring;			/* reads and writes of a raw image by io_uring */
	unsigned int part;		/* partition number of a GPT or MBR from 1; 0: none */
	unsigned int extent_count;	/* 0: all of the image */
	struct block_extent extents[BLOCK_EXTENTS_MAX];
};

/*
 * Fills @o from the text of --disk: PATH[,KEY=VALUE...].  A comma in the path is written twice.
 *	format=raw|qcow2  readonly=on|off  snapshot=on|off  werror=stop|report  serial=TEXT
 *	threads=N  aio=threads|io_uring  bus=virtio|scsi
 *	id=NAME  node=NAME  part=N  offset=SIZE  size=SIZE  map=OFFSET+SIZE[:OFFSET+SIZE...]
 * -EINVAL with a sentence that names what is wrong.
 */
int block_options_parse(struct block_options *o, const char *text, struct err *e);

/* A size in bytes, or with K, M, G, T; *end is behind it.  False: there is none. */
bool block_parse_size(const char *text, uint64_t *bytes, const char **end);

/*
 * Opens and locks the image.  -EBUSY: another VM has it open for writing (or, asked to write,
 * for reading); the sentence names the file.
 */
int block_open(struct block **out, const struct block_options *o, struct err *e);
/*
 * Cancels what waits, waits for what runs, flushes, closes, frees.  What was put aside for want
 * of room is cancelled.  0, or the error of the last flush.
 */
int block_close(struct block *b);

struct block_info {
	uint64_t size;			/* bytes, a multiple of 512 */
	bool read_only;
	bool can_discard;		/* a discard gives room back to the host */
	bool can_write_zeroes;		/* cheaper than writing zeroes */
	uint32_t cluster;		/* bytes; the unit in which room is taken, at least 512 */
	char format[16];
	char path[4096];
	char serial[21];
};

/* [any] thread; the size may grow while the VM runs (events->resized()). */
void block_info(struct block *b, struct block_info *out);

/* As image_each_backing(). */
void block_each_backing(struct block *b, void (*tell)(void *arg, const char *path), void *arg);

/* Each may be NULL; called on any thread, without a lock of the block's. */
struct block_events {
	/*
	 * Requests were put aside since the host is full: pause the VM, show @why, call
	 * block_resume() when told to go on.  Once until then.
	 */
	void (*stopped)(void *arg, int errnum, const char *why);
	/*
	 * A request failed, and it is not the guest's fault: the first time only.  @why names the
	 * disk, and the offset of what is damaged in its metadata.
	 */
	void (*failed)(void *arg, const char *why);
	/* block_info() has a new size. */
	void (*resized)(void *arg);
};

/* Before the first request. */
void block_set_events(struct block *b, const struct block_events *events, void *arg);
/* Tries again what was put aside. */
void block_resume(struct block *b);
/* True while something is put aside. */
bool block_stopped(struct block *b);

/* Grows or shrinks the image; requests beyond the new end fail from now on. */
int block_resize(struct block *b, uint64_t size, struct err *e);

/* --- requests --- */

enum block_op {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_FLUSH,		/* offset, len and iov are ignored */
	BLOCK_DISCARD,		/* the contents are of no use any more; reads then give zeroes or
				 * what was there */
	BLOCK_WRITE_ZEROES,
};

#define BLOCK_OPS	(BLOCK_WRITE_ZEROES + 1)

/* What was done without an error since the block was opened. */
struct block_count {
	uint64_t requests, bytes;
};

/* [any] thread; by enum block_op. */
void block_counts(struct block *b, struct block_count out[BLOCK_OPS]);

/*
 * Owned by the caller, and so are the iovec list and the memory that it names, until done()
 * is called.
 */
struct block_request {
	enum block_op op;
	bool unmap;			/* BLOCK_WRITE_ZEROES may give room back */
	uint64_t offset, len;		/* bytes */
	const struct iovec *iov;	/* BLOCK_READ, BLOCK_WRITE: together @len bytes */
	unsigned int iov_count;
	/* @rc: 0 or -errno.  After an error of a read the memory may have been written to. */
	void (*done)(struct block_request *r, int rc);
	void *arg;			/* the caller's */

	/* The block's own, while it is in flight. */
	struct block_request *next;
};

/* Never fails: what is wrong comes through done(), perhaps before this returns. */
void block_submit(struct block *b, struct block_request *r);
/*
 * For a device's reset: requests that have not begun, or were put aside, are completed with
 * -ECANCELED; returns when those that have begun are complete too.  Not from done().
 */
void block_cancel(struct block *b);
/* Waits until every request so far is complete or put aside.  Not from done(). */
void block_drain(struct block *b);

/* --- for tools and tests: a request, waited for --- */

int block_rw(struct block *b, enum block_op op, uint64_t offset, void *buf, size_t len);

#endif
