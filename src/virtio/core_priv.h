/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The core of a virtio device, between its transport and its queues; for src/virtio's core and
 * transports only.
 *
 * Locks, in the order of taking: core->lock, virtq.lock, then those of a transport and of the
 * interrupt controllers.  A transport holds none of its own while it calls the core.
 */
#ifndef VIREO_VIRTIO_CORE_PRIV_H
#define VIREO_VIRTIO_CORE_PRIV_H

#include "virtio/virtio.h"

#include <pthread.h>
#include <stdatomic.h>

#define STATUS_ACKNOWLEDGE	0x01
#define STATUS_DRIVER		0x02
#define STATUS_DRIVER_OK	0x04
#define STATUS_FEATURES_OK	0x08
#define STATUS_NEEDS_RESET	0x40
#define STATUS_FAILED		0x80

#define NO_VECTOR		0xffff	/* VIRTIO_MSI_NO_VECTOR */
#define CONFIG_CHANGED		(-1)	/* in place of a queue's index */

/* What a transport does for the core; called on any thread. */
struct virtio_transport {
	/* Queue @q has used buffers, or CONFIG_CHANGED.  @vector is the driver's choice. */
	void (*interrupt)(void *t, int q, uint16_t vector);
	/* The device was reset: vectors are the core's, the rest is the transport's. */
	void (*reset)(void *t);
};

enum virtq_area { AREA_DESC, AREA_DRIVER, AREA_DEVICE, AREA_COUNT };

/* (c) set by the driver while the queue is not enabled; (q) under lock */
struct virtq {
	struct virtio_core *core;
	unsigned int index;
	struct loop_work kick_work, reset_work;
	int bell;			/* eventfd that rings it, or -1; constant while attached */
	pthread_mutex_t lock;
	uint16_t size;			/* (q,c) */
	gpa_t area[AREA_COUNT];		/* (q,c) */
	uint16_t vector;		/* (q) for the transport */
	bool enabled;			/* (q) */
	bool packed;			/* (q) */
	uint8_t *mem[AREA_COUNT];	/* (q) host addresses, valid while enabled */
	uint16_t avail;			/* (q) next available entry; packed: ring position */
	uint16_t used;			/* (q) next used entry; packed: ring position */
	bool avail_wrap, used_wrap;	/* (q) packed */
	uint16_t told;			/* (q) 'used' at the last interrupt's decision */
	bool told_valid;		/* (q) packed: no wrap since then */
	bool quiet;			/* (q) the driver was told not to ring */
	uint32_t generation;		/* (q) counts resets: older chains are stale */
	unsigned int in_flight;		/* (q) chains popped and not given back, stale or not */
	pthread_cond_t idle;		/* (q) in_flight became 0 */
};

/* (i) constant; (k) under lock; (t) the device's thread */
struct virtio_core {
	struct virtio_device *dev;	/* (i) */
	struct gpa_space *space;	/* (i) */
	struct log *log;		/* (i) */
	struct loop *loop;		/* (i) */
	uint64_t offered;		/* (i) */
	unsigned int queue_count;	/* (i) */
	uint16_t queue_size;		/* (i) */
	struct virtq *queues;		/* (i) */
	const struct virtio_transport *transport;	/* (i) once the thread runs */
	void *transport_arg;
	pthread_t thread;
	bool threaded;
	struct loop_work start_work, reset_work, config_work;

	_Atomic uint32_t status;
	_Atomic uint64_t features;	/* the driver's; frozen by FEATURES_OK */
	_Atomic bool started;		/* (t) ops->start() was called */
	_Atomic uint32_t generation;	/* of the configuration space */
	_Atomic uint16_t config_vector;

	pthread_mutex_t lock;
	pthread_cond_t reset_done;
	bool resetting;			/* (k) a reset is posted and not done */
	uint8_t config[VIRTIO_CONFIG_MAX];	/* (k) */
	uint16_t config_len;		/* (i) */
};

/* A chain and what the core knows of it. */
struct chain {
	struct virtq_chain c;
	uint32_t generation;
	uint16_t id;			/* what is told to the driver */
	uint16_t span;			/* ring entries it came in */
	unsigned int mark_count;
	struct mark {			/* guest memory that may have been written */
		gpa_t gpa;
		uint64_t len;
	} *mark;
};

/* What a ring's walk finds, before a chain is made of it; large: lives on the stack only. */
struct walk {
	unsigned int count, in_first;	/* pieces; those from in_first on are to be written */
	size_t out_len, in_len;
	uint16_t id, span;
	unsigned int seen;		/* descriptors */
	struct iovec iov[VIRTQ_CHAIN_MAX];
	gpa_t gpa[VIRTQ_CHAIN_MAX];
};

/* A descriptor's fields, copied once. */
struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next, id;
};

#define DESC_NEXT	1U
#define DESC_WRITE	2U
#define DESC_INDIRECT	4U
#define DESC_SIZE	16U

/* --- rings: virtq_split.c, virtq_packed.c.  All with q->lock held. --- */

enum walk_result { WALK_NONE, WALK_CHAIN, WALK_BROKEN };

/* WALK_BROKEN fills @why. */
enum walk_result split_walk(struct virtq *q, struct walk *w, const char **why);
enum walk_result packed_walk(struct virtq *q, struct walk *w, const char **why);
/* At least one; the driver sees all of them or none. */
void split_push(struct virtq *q, struct chain *const *c, const uint32_t *written,
		unsigned int count);
void packed_push(struct virtq *q, struct chain *const *c, const uint32_t *written,
		 unsigned int count);
/* Should the driver be interrupted?  Resets what it compares with. */
bool split_wants_interrupt(struct virtq *q);
bool packed_wants_interrupt(struct virtq *q);
void split_unpop(struct virtq *q, uint16_t span);
void packed_unpop(struct virtq *q, uint16_t span);
/* Takes the areas' addresses; false: not what a ring can be. */
bool split_map(struct virtq *q);
bool packed_map(struct virtq *q);

/* Adds the buffer of @d to @w; false with @why. */
bool walk_add(struct virtq *q, struct walk *w, const struct desc *d, const char **why);
/* The checked table that @d refers to and its number of entries; NULL with @why. */
const uint8_t *walk_table(struct virtq *q, const struct desc *d, uint32_t *entries,
			  const char **why);
bool virtq_map_area(struct virtq *q, enum virtq_area which, uint64_t size, unsigned int align);
bool virtq_has(const struct virtq *q, unsigned int feature);
/* After writes of ours at @gpa: the engine forgets code that it had from there. */
void guest_written(struct virtio_core *core, gpa_t gpa, uint64_t len);

/* --- for transports --- */

/* Hands @d to a transport and starts its thread. */
int virtio_attach(struct virtio_device *d, const struct virtio_transport *t, void *arg,
		  struct err *e);
/* Resets, ends the thread, destroys the device. */
void virtio_detach(struct virtio_device *d);

uint32_t virtio_status(struct virtio_device *d);
/* The driver writes device_status; 0 resets, which may take longer than this call. */
void virtio_set_status(struct virtio_device *d, uint8_t status);
/* Resets and waits for the end. */
void virtio_reset(struct virtio_device *d);
uint64_t virtio_offered(struct virtio_device *d);
/* The driver's feature bits 32 * @word and up; ignored once they are settled. */
void virtio_set_features(struct virtio_device *d, unsigned int word, uint32_t bits);
uint32_t virtio_driver_features(struct virtio_device *d, unsigned int word);
uint32_t virtio_generation(struct virtio_device *d);
uint16_t virtio_set_config_vector(struct virtio_device *d, uint16_t vector);
void virtio_driver_config_read(struct virtio_device *d, unsigned int off, void *buf,
			       unsigned int len);
void virtio_driver_config_write(struct virtio_device *d, unsigned int off, const void *buf,
				unsigned int len);
/* The doorbell of queue @index; any index. */
void virtio_doorbell(struct virtio_device *d, unsigned int index);
/*
 * One for each queue, for io_ops.doorbells: queue n's at @off + n * @step, any write; with @step 0
 * writes of 4 bytes that say n.  NULL: out of memory.  From virtio_attach() on.
 */
struct io_doorbell *virtio_doorbells(struct virtio_device *d, uint64_t off, unsigned int step);

/* Queue registers.  Writes to an enabled queue are ignored. */
struct virtq *virtio_queue_or_null(struct virtio_device *d, unsigned int index);
uint16_t virtq_get_size(struct virtq *q);
void virtq_set_size(struct virtq *q, uint16_t size);
uint64_t virtq_get_area(struct virtq *q, enum virtq_area which);
/* Half 0 or 1 of the address. */
void virtq_set_area(struct virtq *q, enum virtq_area which, unsigned int half, uint32_t value);
uint16_t virtq_get_vector(struct virtq *q);
void virtq_set_vector(struct virtq *q, uint16_t vector);
void virtq_enable(struct virtq *q);
/* The driver resets this queue alone; done when virtq_enabled() says false. */
void virtq_driver_reset(struct virtq *q);
/* The driver stops it without a reset: chains that are pushed from now on reach nobody. */
void virtq_disable(struct virtq *q);
/* Everything as at first; what is in flight becomes stale. */
void virtq_clear(struct virtq *q);

#endif
