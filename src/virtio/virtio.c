// SPDX-License-Identifier: Apache-2.0
/*
 * The core of a virtio device: status, features, configuration space, its thread.
 *
 * Source: VIRTIO 1.2, "Device Status Field", "Feature Bits", "Device Configuration Space",
 * "Device Initialization", "Device Cleanup".
 *
 * One thread a device, not one for all: a device may block in the host (a file server, a slow
 * pipe) without the others' noticing, and needs no locks of its own.  A thread that has nothing
 * to do costs its stack's pages.
 *
 * A reset is carried out by the device's thread.  The driver's write waits for it a moment, as
 * drivers expect it to be done; if the host takes longer, the status reads as it was until it
 * is, which drivers have to poll for.
 */
#include "virtio/core_priv.h"
#include "base/thread.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define RESET_PATIENCE_NS	500000000L	/* for Linux on virtio-mmio, which does not ask */
#define QUEUE_SIZE_DEFAULT	256
#define STATUS_DRIVERS		(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_DRIVER_OK | \
				 STATUS_FEATURES_OK | STATUS_FAILED)

/* --- what devices ask --- */

struct loop *virtio_loop(struct virtio_device *d)
{
	return d->core->loop;
}

struct gpa_space *virtio_space(struct virtio_device *d)
{
	return d->core->space;
}

struct log *virtio_log(struct virtio_device *d)
{
	return d->core->log;
}

struct virtq *virtio_queue(struct virtio_device *d, unsigned int index)
{
	assert(index < d->core->queue_count);
	return &d->core->queues[index];
}

bool virtio_has(struct virtio_device *d, unsigned int bit)
{
	return atomic_load(&d->core->status) & STATUS_FEATURES_OK &&
	       atomic_load(&d->core->features) & BIT(bit);
}

bool virtio_running(struct virtio_device *d)
{
	const uint32_t status = atomic_load(&d->core->status);

	return (status & (STATUS_DRIVER_OK | STATUS_NEEDS_RESET)) == STATUS_DRIVER_OK;
}

static void config_interrupt(struct virtio_core *core)
{
	if (core->transport && atomic_load(&core->status) & STATUS_DRIVER_OK)
		core->transport->interrupt(core->transport_arg, CONFIG_CHANGED,
					   atomic_load(&core->config_vector));
}

void virtio_broken(struct virtio_device *d, const char *fmt, ...)
{
	struct virtio_core *core = d->core;
	char text[200];
	va_list ap;

	if (atomic_fetch_or(&core->status, STATUS_NEEDS_RESET) & STATUS_NEEDS_RESET)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	log_guest(core->log, "%s needs a reset: %s", d->ops->name, text);
	config_interrupt(core);
}

/* --- configuration space --- */

void virtio_config_read(struct virtio_device *d, unsigned int off, void *buf, unsigned int len)
{
	struct virtio_core *core = d->core;

	assert(off + len <= core->config_len);
	pthread_mutex_lock(&core->lock);
	memcpy(buf, core->config + off, len);
	pthread_mutex_unlock(&core->lock);
}

void virtio_config_write(struct virtio_device *d, unsigned int off, const void *buf,
			 unsigned int len, bool tell)
{
	struct virtio_core *core = d->core;

	assert(off + len <= core->config_len);
	pthread_mutex_lock(&core->lock);
	memcpy(core->config + off, buf, len);
	atomic_fetch_add(&core->generation, 1);
	pthread_mutex_unlock(&core->lock);
	if (tell)
		config_interrupt(core);
}

uint32_t virtio_generation(struct virtio_device *d)
{
	return atomic_load(&d->core->generation);
}

uint16_t virtio_set_config_vector(struct virtio_device *d, uint16_t vector)
{
	atomic_store(&d->core->config_vector, vector);
	return vector;
}

void virtio_driver_config_read(struct virtio_device *d, unsigned int off, void *buf,
			       unsigned int len)
{
	struct virtio_core *core = d->core;

	memset(buf, 0, len);
	pthread_mutex_lock(&core->lock);
	if (off < core->config_len)
		memcpy(buf, core->config + off, MIN(len, core->config_len - off));
	pthread_mutex_unlock(&core->lock);
}

void virtio_driver_config_write(struct virtio_device *d, unsigned int off, const void *buf,
				unsigned int len)
{
	struct virtio_core *core = d->core;
	const unsigned int first = d->ops->config_writable;
	const unsigned int end = first + d->ops->config_writable_len;
	bool changed = false;

	pthread_mutex_lock(&core->lock);
	for (unsigned int i = 0; i < len; i++) {
		if (off + i < first || off + i >= end)
			continue;
		core->config[off + i] = ((const uint8_t *)buf)[i];
		changed = true;
	}
	pthread_mutex_unlock(&core->lock);
	if (changed)
		loop_post(core->loop, &core->config_work);
}

/* --- features --- */

uint64_t virtio_offered(struct virtio_device *d)
{
	return d->core->offered;
}

void virtio_set_features(struct virtio_device *d, unsigned int word, uint32_t bits)
{
	struct virtio_core *core = d->core;
	const unsigned int shift = 32 * word;

	pthread_mutex_lock(&core->lock);
	if (word < 2 && !(core->status & STATUS_FEATURES_OK))
		core->features = (core->features & ~((uint64_t)UINT32_MAX << shift)) |
				 (uint64_t)bits << shift;
	pthread_mutex_unlock(&core->lock);
}

uint32_t virtio_driver_features(struct virtio_device *d, unsigned int word)
{
	return word < 2 ? atomic_load(&d->core->features) >> (32 * word) : 0;
}

/* --- status --- */

/*
 * The driver waits for a zero after a reset, and the status may have been zero before it: what it
 * wrote in the meantime would be lost.
 */
uint32_t virtio_status(struct virtio_device *d)
{
	struct virtio_core *core = d->core;
	uint32_t status;

	pthread_mutex_lock(&core->lock);
	status = core->status | (core->resetting ? STATUS_NEEDS_RESET : 0);
	pthread_mutex_unlock(&core->lock);
	return status;
}

static bool features_good(const struct virtio_core *core)
{
	const uint64_t features = core->features;

	return !(features & ~core->offered) && features & BIT(VIRTIO_F_VERSION_1);
}

/* Until the posted reset is done, or for @ns (0: without end). */
static void wait_for_reset(struct virtio_core *core, long ns)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += ns;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&core->lock);
	while (core->resetting) {
		if (!ns)
			pthread_cond_wait(&core->reset_done, &core->lock);
		else if (pthread_cond_timedwait(&core->reset_done, &core->lock, &until))
			break;
	}
	pthread_mutex_unlock(&core->lock);
}

static void request_reset(struct virtio_core *core, long patience_ns)
{
	pthread_mutex_lock(&core->lock);
	core->resetting = true;
	pthread_mutex_unlock(&core->lock);
	loop_post(core->loop, &core->reset_work);
	wait_for_reset(core, patience_ns);
}

void virtio_reset(struct virtio_device *d)
{
	request_reset(d->core, 0);
}

void virtio_set_status(struct virtio_device *d, uint8_t status)
{
	struct virtio_core *core = d->core;
	uint32_t fresh, old;

	if (!status) {
		request_reset(core, RESET_PATIENCE_NS);
		return;
	}
	pthread_mutex_lock(&core->lock);
	old = core->status;
	/* The driver only ever adds bits; those of the device stay. */
	fresh = old | (status & STATUS_DRIVERS);
	if (core->resetting)
		fresh = old;
	if (fresh & ~old & STATUS_FEATURES_OK && !features_good(core))
		fresh &= ~STATUS_FEATURES_OK;
	if (!(fresh & STATUS_FEATURES_OK))
		fresh &= ~STATUS_DRIVER_OK;
	atomic_fetch_or(&core->status, fresh);
	pthread_mutex_unlock(&core->lock);
	if (fresh & ~old & STATUS_DRIVER_OK)
		loop_post(core->loop, &core->start_work);
}

void virtio_doorbell(struct virtio_device *d, unsigned int index)
{
	if (index < d->core->queue_count && virtio_running(d))
		virtq_kick_again(&d->core->queues[index]);
}

struct io_doorbell *virtio_doorbells(struct virtio_device *d, uint64_t off, unsigned int step)
{
	struct io_doorbell *list = calloc(d->core->queue_count, sizeof(*list));

	for (unsigned int i = 0; list && i < d->core->queue_count; i++)
		list[i] = (struct io_doorbell){
			.off = off + i * step, .size = step ? 0 : 4, .match = !step, .value = i,
			.fd = d->core->queues[i].bell,
		};
	return list;
}

struct virtq *virtio_queue_or_null(struct virtio_device *d, unsigned int index)
{
	return index < d->core->queue_count ? &d->core->queues[index] : NULL;
}

/* --- on the device's thread --- */

static void run_start(void *arg)
{
	struct virtio_core *core = arg;

	if (!virtio_running(core->dev) || core->started)
		return;
	core->started = true;
	if (core->dev->ops->start)
		core->dev->ops->start(core->dev);
	for (unsigned int i = 0; i < core->queue_count; i++)
		virtq_kick_again(&core->queues[i]);
}

static void run_kick(void *arg)
{
	struct virtq *q = arg;

	if (q->core->started && virtio_running(q->core->dev) && virtq_enabled(q))
		q->core->dev->ops->kick(q->core->dev, q);
}

/* Rung by an engine that has no need of virtio_doorbell(). */
static void bell_rung(void *arg, uint32_t events)
{
	struct virtq *q = arg;
	eventfd_t times;

	(void)events;
	if (!eventfd_read(q->bell, &times))
		run_kick(q);
}

/* Without a bell the driver's write comes by the register. */
static void hang_bells(struct virtio_core *core)
{
	for (unsigned int i = 0; i < core->queue_count; i++) {
		struct virtq *q = &core->queues[i];

		q->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		if (q->bell < 0 || !loop_watch(core->loop, q->bell, EPOLLIN, bell_rung, q, NULL))
			continue;
		close(q->bell);
		q->bell = -1;
	}
}

static void run_config(void *arg)
{
	struct virtio_core *core = arg;

	if (core->dev->ops->config_written)
		core->dev->ops->config_written(core->dev);
}

static void stop_device(struct virtio_core *core)
{
	if (core->started)
		core->dev->ops->reset(core->dev);
	core->started = false;
	for (unsigned int i = 0; i < core->queue_count; i++)
		virtq_clear(&core->queues[i]);
}

static void run_reset(void *arg)
{
	struct virtio_core *core = arg;

	/* No pop gives a chain from here on. */
	atomic_fetch_or(&core->status, STATUS_NEEDS_RESET);
	stop_device(core);
	core->transport->reset(core->transport_arg);
	pthread_mutex_lock(&core->lock);
	core->features = 0;
	core->config_vector = NO_VECTOR;
	core->status = 0;
	core->resetting = false;
	pthread_cond_broadcast(&core->reset_done);
	pthread_mutex_unlock(&core->lock);
}

static void run_queue_reset(void *arg)
{
	struct virtq *q = arg;
	struct virtio_device *d = q->core->dev;

	if (q->core->started)
		d->ops->queue_reset(d, q);
	virtq_clear(q);
}

void virtq_driver_reset(struct virtq *q)
{
	if (virtio_has(q->core->dev, VIRTIO_F_RING_RESET))
		loop_post(q->core->loop, &q->reset_work);
}

/* --- the thread --- */

static void *device_thread(void *arg)
{
	struct virtio_core *core = arg;
	struct err e;

	if (loop_run(core->loop, &e)) {
		log_error(core->log, "%s: %s", core->dev->ops->name, e.text);
		virtio_broken(core->dev, "its thread ended");
	}
	return NULL;
}

static int start_thread(struct virtio_core *core)
{
	const int rc = thread_create(&core->thread, NULL, device_thread, core);

	core->threaded = !rc;
	return rc;
}

int virtio_attach(struct virtio_device *d, const struct virtio_transport *t, void *arg,
		  struct err *e)
{
	int rc;

	d->core->transport = t;
	d->core->transport_arg = arg;
	hang_bells(d->core);
	rc = start_thread(d->core);
	return rc ? err_errno(e, -rc, "could not start the thread of %s", d->ops->name) : 0;
}

void virtio_detach(struct virtio_device *d)
{
	if (d->core->threaded) {
		virtio_reset(d);
		loop_quit(d->core->loop);
		pthread_join(d->core->thread, NULL);
	}
	d->ops->destroy(d);
}

struct sync {
	struct loop_work work;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
};

static void run_sync(void *arg)
{
	struct sync *s = arg;

	pthread_mutex_lock(&s->lock);
	s->done = true;
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

void virtio_sync(struct virtio_device *d)
{
	struct sync s = { .work = { .run = run_sync, .arg = &s } };

	pthread_mutex_init(&s.lock, NULL);
	pthread_cond_init(&s.cond, NULL);
	loop_post(d->core->loop, &s.work);
	pthread_mutex_lock(&s.lock);
	while (!s.done)
		pthread_cond_wait(&s.cond, &s.lock);
	pthread_mutex_unlock(&s.lock);
	pthread_cond_destroy(&s.cond);
	pthread_mutex_destroy(&s.lock);
}

/* --- making --- */

static void init_queue(struct virtio_core *core, unsigned int index)
{
	struct virtq *q = &core->queues[index];

	q->core = core;
	q->index = index;
	q->bell = -1;
	q->kick_work = (struct loop_work){ .run = run_kick, .arg = q };
	q->reset_work = (struct loop_work){ .run = run_queue_reset, .arg = q };
	pthread_mutex_init(&q->lock, NULL);
	pthread_cond_init(&q->idle, NULL);
	virtq_clear(q);
}

static void init_locks(struct virtio_core *core)
{
	pthread_condattr_t monotonic;

	pthread_mutex_init(&core->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&core->reset_done, &monotonic);
	pthread_condattr_destroy(&monotonic);
}

static uint64_t features_of(const struct virtio_ops *ops, const struct virtio_setup *s)
{
	uint64_t features = s->features | BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_F_INDIRECT_DESC) |
			    BIT(VIRTIO_F_EVENT_IDX) | BIT(VIRTIO_F_RING_PACKED);

	return ops->queue_reset ? features | BIT(VIRTIO_F_RING_RESET) : features;
}

int virtio_init(struct virtio_device *d, const struct virtio_ops *ops,
		const struct virtio_setup *s, struct err *e)
{
	struct virtio_core *core = calloc(1, sizeof(*core));
	int rc;

	assert(s->queues && s->queues <= VIRTIO_QUEUES_MAX && s->config_len <= VIRTIO_CONFIG_MAX);
	assert(s->queue_size <= VIRTQ_SIZE_MAX && !(s->queue_size & (s->queue_size - 1)));
	d->ops = ops;
	d->core = core;
	if (!core)
		return err_set(e, ENOMEM, "out of memory for %s", ops->name);
	init_locks(core);
	core->dev = d;
	core->space = s->space;
	core->log = s->log;
	core->offered = features_of(ops, s);
	core->queue_size = s->queue_size ? s->queue_size : QUEUE_SIZE_DEFAULT;
	core->config_vector = NO_VECTOR;
	core->config_len = s->config_len;
	if (s->config_len)
		memcpy(core->config, s->config, s->config_len);
	core->start_work = (struct loop_work){ .run = run_start, .arg = core };
	core->reset_work = (struct loop_work){ .run = run_reset, .arg = core };
	core->config_work = (struct loop_work){ .run = run_config, .arg = core };
	core->queues = calloc(s->queues, sizeof(*core->queues));
	rc = core->queues ? loop_create(&core->loop, NULL, e)
			  : err_set(e, ENOMEM, "out of memory for the queues of %s", ops->name);
	if (rc) {
		virtio_fini(d);
		return rc;
	}
	for (; core->queue_count < s->queues; core->queue_count++)
		init_queue(core, core->queue_count);
	return 0;
}

void virtio_fini(struct virtio_device *d)
{
	struct virtio_core *core = d->core;

	if (!core)
		return;
	loop_destroy(core->loop);
	for (unsigned int i = 0; i < core->queue_count; i++) {
		if (core->queues[i].bell >= 0)
			close(core->queues[i].bell);
		pthread_cond_destroy(&core->queues[i].idle);
		pthread_mutex_destroy(&core->queues[i].lock);
	}
	free(core->queues);
	pthread_cond_destroy(&core->reset_done);
	pthread_mutex_destroy(&core->lock);
	free(core);
	d->core = NULL;
}
