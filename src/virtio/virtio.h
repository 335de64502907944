/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a virtio device is written against: queues of buffers in guest memory, feature bits,
 * the device's configuration space.  The transports (virtio/pci.h, virtio/mmio.h) are on the
 * other side and know no device.
 *
 * Source: OASIS Virtual I/O Device (VIRTIO) Version 1.2, "Basic Facilities of a Virtio Device".
 * Only the modern interface: VIRTIO_F_VERSION_1 is always offered and required.
 *
 * Threads.  Each device has one thread, which runs a struct loop (virtio_loop()).  All
 * functions of struct virtio_ops are called on it, one at a time; a vCPU's doorbell only posts
 * to it.  So a device needs no lock of its own for what only these functions touch, may use
 * system calls that take a while, and watches its descriptors on its own loop.  What it must
 * not do is wait without end: a reset by the guest waits for it.
 * Functions marked [any] may be called on every thread (a back end's completion on a worker),
 * the others on the device's thread only.  No lock of the core is held in a callback.
 *
 * Life.	foo_create() allocates a struct that begins with (or embeds) struct virtio_device,
 *		calls virtio_init(), returns &foo->virtio.
 *		virtio_pci_create() or virtio_mmio_create() takes it over and starts its thread.
 *		The guest's driver sets DRIVER_OK: ops->start().
 *		The guest rings a queue: ops->kick(), which pops chains until there is none.
 *		Each chain is pushed back in any order, at once or later [any].
 *		The guest or the machine resets: ops->reset().
 *		The machine goes: ops->reset(), the thread ends, ops->destroy().
 *
 * A device that answers at once:
 *
 *	static void echo_kick(struct virtio_device *d, struct virtq *q)
 *	{
 *		struct virtq_chain *c;
 *		uint8_t buf[64];
 *		size_t n;
 *
 *		while ((c = virtq_pop(q))) {
 *			n = chain_read(c, 0, buf, sizeof(buf));
 *			virtq_push(c, chain_write(c, 0, buf, n));
 *		}
 *		virtq_notify(q);
 *	}
 *
 * Memory.  The iovecs of a chain are host addresses of guest RAM, checked: reading @out and
 * writing @in stays inside of guest memory whatever the guest does.  Their contents change
 * under the reader's hands: copy what is decided upon (chain_read) and decide on the copy.
 * Lengths are the guest's too: any number of pieces from none to VIRTQ_CHAIN_MAX, of any sizes;
 * @out_len and @in_len do not overflow.  A request that makes no sense is pushed back with the
 * device type's error status; where there is no such status, virtio_broken().
 * Translated guest code in the written buffers is seen to by virtq_push().
 */
#ifndef VIREO_VIRTIO_VIRTIO_H
#define VIREO_VIRTIO_VIRTIO_H

#include "base/err.h"
#include "base/log.h"
#include "base/loop.h"
#include "base/types.h"
#include "mem/space.h"

#include <sys/uio.h>

#define VIRTIO_QUEUES_MAX	64U
#define VIRTIO_CONFIG_MAX	1024U
#define VIRTQ_SIZE_MAX		1024U	/* of a queue; a power of two */
#define VIRTQ_CHAIN_MAX		1024U	/* descriptors of one chain */

/* Feature bits that the core sees to; a device offers only those of its own type (0-23, 50-). */
#define VIRTIO_F_INDIRECT_DESC	28
#define VIRTIO_F_EVENT_IDX	29
#define VIRTIO_F_VERSION_1	32
#define VIRTIO_F_ACCESS_PLATFORM 33
#define VIRTIO_F_RING_PACKED	34
#define VIRTIO_F_RING_RESET	40

/* Device types: "Device Types" in the specification. */
enum virtio_id {
	VIRTIO_ID_NET = 1, VIRTIO_ID_BLOCK = 2, VIRTIO_ID_CONSOLE = 3, VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5, VIRTIO_ID_SCSI = 8, VIRTIO_ID_9P = 9, VIRTIO_ID_VSOCK = 19,
};

struct virtio_device;
struct virtio_core;
struct virtq;

/* Only kick, reset and destroy are needed. */
struct virtio_ops {
	enum virtio_id id;
	const char *name;	/* "virtio-blk": for logs */
	size_t request_size;	/* of virtq_chain.request, zeroed for each chain; 0: none */
	/* Bytes of the configuration space that the driver may write; the rest ignores it. */
	uint16_t config_writable, config_writable_len;

	/* The driver is ready; virtio_has() and virtq_enabled() are final until reset(). */
	void (*start)(struct virtio_device *d);
	/* There may be new buffers in @q.  Also called once for each queue after start(). */
	void (*kick)(struct virtio_device *d, struct virtq *q);
	/*
	 * Back to the state after virtio_init().  When it returns, nothing of the host
	 * touches a chain's memory any more, and each chain was pushed or forgotten
	 * (virtq_push() is harmless here: what comes late is dropped).
	 */
	void (*reset)(struct virtio_device *d);
	/*
	 * One queue alone is reset (VIRTIO_F_RING_RESET): the same promise for @q's chains.
	 * The feature is offered by devices that have this.
	 */
	void (*queue_reset)(struct virtio_device *d, struct virtq *q);
	/* The driver wrote to the writable part of the configuration space. */
	void (*config_written)(struct virtio_device *d);
	/* The thread has ended; frees what the device's struct has, and the struct. */
	void (*destroy)(struct virtio_device *d);
};

struct virtio_device {
	const struct virtio_ops *ops;
	struct virtio_core *core;
};

struct virtio_setup {
	struct gpa_space *space;	/* borrowed, outlives the device */
	struct log *log;		/* borrowed; may be NULL */
	uint64_t features;		/* offered bits of the device's type, BIT(n) */
	unsigned int queues;		/* 1 to VIRTIO_QUEUES_MAX */
	uint16_t queue_size;		/* the largest that the driver may choose; 0: 256 */
	const void *config;		/* the configuration space at first; copied */
	uint16_t config_len;
};

/* Sets d->ops and makes d->core, without a thread yet.  -ENOMEM, -errno of the loop. */
int virtio_init(struct virtio_device *d, const struct virtio_ops *ops,
		const struct virtio_setup *s, struct err *e);
/*
 * Takes down what virtio_init() made, for a foo_create() that fails later, and as the last but
 * one step of ops->destroy().
 */
void virtio_fini(struct virtio_device *d);

/* --- the device --- */

struct loop *virtio_loop(struct virtio_device *d);	/* watch before the thread starts, or on it */
struct gpa_space *virtio_space(struct virtio_device *d);	/* [any] */
struct log *virtio_log(struct virtio_device *d);		/* [any] may be NULL */
/* Queue @index; constant for the device's life.  [any] */
struct virtq *virtio_queue(struct virtio_device *d, unsigned int index);
/* The driver has accepted feature @bit.  False until start().  [any] */
bool virtio_has(struct virtio_device *d, unsigned int bit);
/* The driver has set DRIVER_OK and nothing is broken.  [any] */
bool virtio_running(struct virtio_device *d);
/*
 * The driver broke the rules and the device cannot go on: DEVICE_NEEDS_RESET; every queue
 * stands still until the driver resets.  The format says what was wrong, for the log.  [any]
 */
void virtio_broken(struct virtio_device *d, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/*
 * The configuration space is the core's copy: the driver's reads are answered from it.  A
 * write by the device raises the generation and, with @tell, the configuration interrupt.  [any]
 */
void virtio_config_read(struct virtio_device *d, unsigned int off, void *buf, unsigned int len);
void virtio_config_write(struct virtio_device *d, unsigned int off, const void *buf,
			 unsigned int len, bool tell);

/* --- queues --- */

/*
 * A request of the driver: what it gives to read (@out), then what it wants written (@in).
 * The device may change the four fields and the iovecs themselves, as chain_skip_*() do.
 */
struct virtq_chain {
	struct iovec *out, *in;
	unsigned int out_count, in_count;
	size_t out_len, in_len;		/* bytes, the sums */
	void *request;			/* ops->request_size bytes of the device's, or NULL */
	struct virtq *q;
};

/*
 * The next chain, the device's until it is pushed, unpopped or forgotten; NULL: there is none
 * now, and kick() will come with the next.  (A device that stops popping before it gets NULL
 * gets no kick for what it left; it calls virtq_pop() again by itself once it can go on.)
 */
struct virtq_chain *virtq_pop(struct virtq *q);
/* Gives the chain back; the driver may take @written bytes of @in for set.  Frees @c.  [any] */
void virtq_push(struct virtq_chain *c, uint32_t written);
/*
 * The same for 1 to VIRTQ_SIZE_MAX chains of one queue, popped in this order: the driver sees
 * all of them or none, as virtio-net's frames in several buffers need it.  [any]
 */
void virtq_push_all(struct virtq_chain *const *chains, const uint32_t *written,
		    unsigned int count);
/* Interrupts the driver if it wants to hear of what was pushed since the last time.  [any] */
void virtq_notify(struct virtq *q);
/* Takes back the pop of the newest chain (the newest first, if several).  Frees @c. */
void virtq_unpop(struct virtq_chain *c);
/* Frees @c without telling the driver: for reset() only.  [any] */
void virtq_forget(struct virtq_chain *c);
/*
 * Waits until every chain of @q that was popped is pushed or forgotten: for reset(), in devices
 * whose back end completes on threads of its own (never on the device's loop).
 */
void virtq_wait_idle(struct virtq *q);
/* Has kick() called soon, as if the driver had rung.  [any] */
void virtq_kick_again(struct virtq *q);

unsigned int virtq_index(const struct virtq *q);	/* [any] */
struct virtio_device *virtq_device(const struct virtq *q); /* [any] */
/* The driver has set the queue up and enabled it.  [any] */
bool virtq_enabled(struct virtq *q);

/* --- bytes of a chain; these look at the iovecs as they are now  [any] --- */

/* Copies from byte @off of @out; returns how much there was, at most @len. */
size_t chain_read(const struct virtq_chain *c, size_t off, void *buf, size_t len);
/* Copies to byte @off of @in; returns how much there was room for, at most @len. */
size_t chain_write(struct virtq_chain *c, size_t off, const void *buf, size_t len);
/* Cut a header off the front, or all but @len bytes off the end.  @len at most the length. */
void chain_skip_out(struct virtq_chain *c, size_t len);
void chain_skip_in(struct virtq_chain *c, size_t len);
void chain_trim_out(struct virtq_chain *c, size_t len);
void chain_trim_in(struct virtq_chain *c, size_t len);

/* --- for transports and tests --- */

/* Waits until the device's thread has done what was posted to it so far.  Not on that thread. */
void virtio_sync(struct virtio_device *d);

#endif
