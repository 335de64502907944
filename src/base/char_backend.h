/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stream of bytes between a device's front end (a UART) and something on the
 * host (a terminal, a pipe, a test).  Both directions push back: each side says
 * how much it took, and tells the other when there is room again.
 *
 * Threads: write() and input_wanted() are called by the device, on any thread and
 * with the device's lock held, so they never block and never call the front end
 * back; they note what is wanted and act on the backend's own thread (the event
 * loop).  The front end's functions are called from there, without a backend lock.
 */
#ifndef VIREO_BASE_CHAR_BACKEND_H
#define VIREO_BASE_CHAR_BACKEND_H

#include "base/types.h"

struct char_backend;

/* The speed and format of a serial line. */
struct char_line {
	unsigned int baud;
	unsigned int data_bits;		/* 5 to 8 */
	unsigned int stop_bits;		/* 1, 2 */
	char parity;			/* 'E', 'O', or 0 */
};

struct char_backend_ops {
	/*
	 * Takes at most @len bytes and says how many; less than @len means that
	 * front->writable() will be called when there is room again.
	 */
	size_t (*write)(struct char_backend *b, const uint8_t *buf, size_t len);
	/* The front end, having refused input before, can take some again. */
	void (*input_wanted)(struct char_backend *b);
	/* The front end was programmed for this line.  May be NULL; as write(). */
	void (*set_line)(struct char_backend *b, const struct char_line *line);
	/* Frees @b after sending out what it holds, as far as the host takes it soon. */
	void (*destroy)(struct char_backend *b);
};

struct char_front_ops {
	/*
	 * Takes at most @len bytes of input and says how many; after less than @len
	 * it calls input_wanted() once it can take more.
	 */
	size_t (*receive)(void *dev, const uint8_t *buf, size_t len);
	/* There is room again after a short write(). */
	void (*writable)(void *dev);
	/* The other end sent a break condition.  May be NULL. */
	void (*line_break)(void *dev);
	/*
	 * Somebody is at the other end now, or nobody any more; a backend that never says so
	 * always has somebody.  May be NULL.
	 */
	void (*connected)(void *dev, bool yes);
};

struct char_backend {
	const struct char_backend_ops *ops;
	const struct char_front_ops *front;	/* NULL: nobody listens */
	void *front_dev;
	bool nobody;			/* is at the other end at first; see connected() */
};

static inline void char_attach(struct char_backend *b, const struct char_front_ops *front,
			       void *dev)
{
	b->front = front;
	b->front_dev = dev;
}

#endif
