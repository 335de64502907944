// SPDX-License-Identifier: Apache-2.0
/*
 * struct block: the queue, the worker threads, what is put aside while the host is full; with
 * aio=io_uring a ring beside the workers, which do whatever it does not do whole.  See block.h.
 */
#include "backend/block.h"
#include "backend/block_ring.h"
#include "backend/extents.h"
#include "backend/image.h"
#include "backend/qcow2.h"
#include "base/thread.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS_DEFAULT	4U
#define THREADS_MAX	64U

struct list {
	struct block_request *first, **last;
};

struct block {
	struct image *img;
	struct block_ring *ring;	/* (i) or NULL */
	char serial[sizeof(((struct block_options *)NULL)->serial)];
	enum block_werror werror;
	const struct block_events *events;
	void *events_arg;

	pthread_mutex_t lock;		/* (b) what follows */
	pthread_cond_t work, idle;
	struct list queue;		/* (b) not begun */
	struct list aside;		/* (b) waiting for room on the host */
	unsigned int running;		/* (b) requests on workers, or in the ring */
	bool stopped;			/* (b) stopped() was called, block_resume() not yet */
	bool ending;			/* (b) */
	atomic_flag told;		/* failed() was called */
	_Atomic uint64_t requests[BLOCK_OPS], bytes[BLOCK_OPS];	/* done, by enum block_op */
	pthread_t threads[THREADS_MAX];
	unsigned int thread_count;
};

/* --- lists --- */

static void list_init(struct list *l)
{
	l->first = NULL;
	l->last = &l->first;
}

static void list_add(struct list *l, struct block_request *r)
{
	r->next = NULL;
	*l->last = r;
	l->last = &r->next;
}

static struct block_request *list_take(struct list *l)
{
	struct block_request *r = l->first;

	if (r) {
		l->first = r->next;
		if (!l->first)
			l->last = &l->first;
	}
	return r;
}

/* All of @from goes behind @to's end. */
static void list_move(struct list *to, struct list *from)
{
	if (!from->first)
		return;
	*to->last = from->first;
	to->last = from->last;
	list_init(from);
}

/* --- workers --- */

static int carry_out(struct block *b, const struct block_request *r)
{
	struct span s;

	switch (r->op) {
	case BLOCK_READ:
	case BLOCK_WRITE:
		if (iov_bytes(r->iov, r->iov_count) < r->len)
			return -EINVAL;
		s = span_of(r->iov, r->iov_count, r->len);
		return (r->op == BLOCK_READ ? image_read : image_write)(b->img, r->offset, &s);
	case BLOCK_FLUSH:
		return image_flush(b->img);
	case BLOCK_DISCARD:
		return image_discard(b->img, r->offset, r->len);
	case BLOCK_WRITE_ZEROES:
		return image_zero(b->img, r->offset, r->len, r->unmap);
	}
	return -EINVAL;
}

static bool host_full(const struct block *b, int rc)
{
	return b->werror == BLOCK_WERROR_STOP && (rc == -ENOSPC || rc == -EDQUOT);
}

static void tell_stopped(struct block *b, int rc)
{
	char why[512];

	snprintf(why, sizeof(why), "the host has no room for disk '%.380s': %s", b->img->path,
		 strerror(-rc));
	if (b->events && b->events->stopped)
		b->events->stopped(b->events_arg, -rc, why);
}

/* Says once that the host or the image fails; what the guest asks wrongly is its own affair. */
static void tell_failed(struct block *b, int rc)
{
	char why[768], damage[256];

	if (rc == -EINVAL || rc == -EROFS || !b->events || !b->events->failed ||
	    atomic_flag_test_and_set(&b->told))
		return;
	qcow2_damage(b->img, damage, sizeof(damage));
	snprintf(why, sizeof(why), "disk '%.380s' fails: %s", b->img->path,
		 damage[0] ? damage : strerror(-rc));
	b->events->failed(b->events_arg, why);
}

static void finish(struct block *b, struct block_request *r, int rc)
{
	if (!rc) {
		atomic_fetch_add_explicit(&b->requests[r->op], 1, memory_order_relaxed);
		atomic_fetch_add_explicit(&b->bytes[r->op], r->op == BLOCK_FLUSH ? 0 : r->len,
					  memory_order_relaxed);
	}
	r->done(r, rc);
}

/* With the lock held, which is let go for the work itself. */
static void run_one(struct block *b, struct block_request *r)
{
	bool first = false, aside;
	int rc;

	b->running++;
	pthread_mutex_unlock(&b->lock);
	rc = carry_out(b, r);
	aside = host_full(b, rc);
	if (rc && !aside)
		tell_failed(b, rc);
	if (!aside)
		finish(b, r, rc);
	pthread_mutex_lock(&b->lock);
	if (aside) {
		list_add(&b->aside, r);
		first = !b->stopped;
		b->stopped = true;
	}
	if (first) {
		pthread_mutex_unlock(&b->lock);
		tell_stopped(b, rc);
		pthread_mutex_lock(&b->lock);
	}
	if (!--b->running && !b->queue.first)
		pthread_cond_broadcast(&b->idle);
}

static void *worker(void *arg)
{
	struct block *b = arg;
	struct block_request *r;

	pthread_mutex_lock(&b->lock);
	for (;;) {
		r = list_take(&b->queue);
		if (r)
			run_one(b, r);
		else if (b->ending)
			break;
		else
			pthread_cond_wait(&b->work, &b->lock);
	}
	pthread_mutex_unlock(&b->lock);
	return NULL;
}

/* On the ring's thread.  The workers find out what is wrong with a request, and answer. */
static void ring_done(void *arg, struct block_request *r, bool whole)
{
	struct block *b = arg;

	if (whole)
		finish(b, r, 0);
	pthread_mutex_lock(&b->lock);
	if (!whole) {
		list_add(&b->queue, r);
		pthread_cond_signal(&b->work);
	}
	if (!--b->running && !b->queue.first)
		pthread_cond_broadcast(&b->idle);
	pthread_mutex_unlock(&b->lock);
}

static int start_workers(struct block *b, unsigned int count, struct err *e)
{
	int rc = 0;

	count = count ? MIN(count, THREADS_MAX) : THREADS_DEFAULT;
	while (b->thread_count < count && !rc) {
		rc = thread_create(&b->threads[b->thread_count], "disk", worker, b);
		b->thread_count += !rc;
	}
	return rc ? err_errno(e, -rc, "cannot start threads for disk '%s'", b->img->path) : 0;
}

static void stop_workers(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	b->ending = true;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
	for (unsigned int i = 0; i < b->thread_count; i++)
		pthread_join(b->threads[i], NULL);
}

/* --- opening and closing --- */

/* @img with what @o says about parts and overlays put on top; takes it over. */
static int dress(struct image **img, const struct block_options *o, struct err *e)
{
	int rc = 0;

	if (o->part)
		rc = extents_open_part(img, o->part, e);
	else if (o->extent_count)
		rc = extents_open(img, o->extents, o->extent_count, e);
	if (!rc && o->snapshot)
		rc = overlay_open(img, e);
	return rc;
}

static int open_image(struct image **img, const struct block_options *o, struct err *e)
{
	const struct image_open how = {
		.path = o->path, .format = o->format, .read_only = o->read_only || o->snapshot,
		.part = o->part || o->extent_count,
	};
	int rc = image_open(img, &how, e);

	if (rc)
		return rc;
	rc = dress(img, o, e);
	if (!rc && !(*img)->size)
		rc = err_set(e, EINVAL, "disk '%s' is empty", o->path);
	if (rc)
		image_close(*img);
	return rc;
}

static void block_free(struct block *b)
{
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->work);
	pthread_cond_destroy(&b->idle);
	free(b);
}

int block_open(struct block **out, const struct block_options *o, struct err *e)
{
	struct block *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return err_errno(e, ENOMEM, "disk '%s'", o->path);
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->work, NULL);
	pthread_cond_init(&b->idle, NULL);
	atomic_flag_clear(&b->told);
	list_init(&b->queue);
	list_init(&b->aside);
	memcpy(b->serial, o->serial, sizeof(b->serial));
	b->werror = o->werror;
	rc = open_image(&b->img, o, e);
	if (rc) {
		block_free(b);
		return rc;
	}
	rc = o->io_uring ? block_ring_open(&b->ring, b->img, ring_done, b, e) : 0;
	if (!rc)
		rc = start_workers(b, o->threads, e);
	if (!rc) {
		*out = b;
		return 0;
	}
	stop_workers(b);
	block_ring_close(b->ring);
	image_close(b->img);
	block_free(b);
	return rc;
}

int block_close(struct block *b)
{
	int rc;

	block_cancel(b);
	block_ring_close(b->ring);
	stop_workers(b);
	rc = image_close(b->img);
	block_free(b);
	return rc;
}

void block_info(struct block *b, struct block_info *out)
{
	const struct image *img = b->img;

	*out = (struct block_info){
		.size = img->size, .read_only = img->read_only,
		.can_discard = img->ops->discard && img->can_discard && !img->read_only,
		.can_write_zeroes = img->ops->zero && !img->read_only,
		.cluster = MAX(img->cluster, 512),
	};
	snprintf(out->format, sizeof(out->format), "%s", img->ops->format);
	snprintf(out->path, sizeof(out->path), "%s", img->path);
	memcpy(out->serial, b->serial, sizeof(out->serial));
}

void block_counts(struct block *b, struct block_count out[BLOCK_OPS])
{
	for (unsigned int i = 0; i < BLOCK_OPS; i++)
		out[i] = (struct block_count){
			.requests = atomic_load_explicit(&b->requests[i], memory_order_relaxed),
			.bytes = atomic_load_explicit(&b->bytes[i], memory_order_relaxed),
		};
}

void block_each_backing(struct block *b, void (*tell)(void *arg, const char *path), void *arg)
{
	image_each_backing(b->img, tell, arg);
}

void block_set_events(struct block *b, const struct block_events *events, void *arg)
{
	b->events = events;
	b->events_arg = arg;
}

/* --- requests --- */

void block_submit(struct block *b, struct block_request *r)
{
	pthread_mutex_lock(&b->lock);
	if (b->ring && block_ring_submit(b->ring, r)) {
		b->running++;
	} else {
		list_add(&b->queue, r);
		pthread_cond_signal(&b->work);
	}
	pthread_mutex_unlock(&b->lock);
}

void block_resume(struct block *b)
{
	struct list again;

	pthread_mutex_lock(&b->lock);
	list_init(&again);
	list_move(&again, &b->aside);
	list_move(&again, &b->queue);
	list_move(&b->queue, &again);
	b->stopped = false;
	pthread_cond_broadcast(&b->work);
	pthread_mutex_unlock(&b->lock);
}

bool block_stopped(struct block *b)
{
	bool stopped;

	pthread_mutex_lock(&b->lock);
	stopped = b->stopped;
	pthread_mutex_unlock(&b->lock);
	return stopped;
}

/* With the lock held: what has not begun, or may begin again, is given back. */
static void cancel_waiting(struct block *b)
{
	struct block_request *r;
	struct list gone;

	list_init(&gone);
	list_move(&gone, &b->aside);
	list_move(&gone, &b->queue);
	pthread_mutex_unlock(&b->lock);
	while ((r = list_take(&gone)))
		r->done(r, -ECANCELED);
	pthread_mutex_lock(&b->lock);
}

void block_cancel(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	do {
		cancel_waiting(b);
		while (b->running)
			pthread_cond_wait(&b->idle, &b->lock);
	} while (b->queue.first || b->aside.first);
	b->stopped = false;
	pthread_mutex_unlock(&b->lock);
}

void block_drain(struct block *b)
{
	pthread_mutex_lock(&b->lock);
	while (b->running || b->queue.first)
		pthread_cond_wait(&b->idle, &b->lock);
	pthread_mutex_unlock(&b->lock);
}

int block_resize(struct block *b, uint64_t size, struct err *e)
{
	int rc;

	/* New requests wait at the lock; the ones before are done. */
	pthread_mutex_lock(&b->lock);
	while (b->running || b->queue.first)
		pthread_cond_wait(&b->idle, &b->lock);
	rc = image_resize(b->img, size, e);
	pthread_mutex_unlock(&b->lock);
	if (!rc && b->events && b->events->resized)
		b->events->resized(b->events_arg);
	return rc;
}

/* --- waiting for one request --- */

struct waiter {
	pthread_mutex_t lock;
	pthread_cond_t cond;
	bool done;
	int rc;
};

static void waiter_done(struct block_request *r, int rc)
{
	struct waiter *w = r->arg;

	pthread_mutex_lock(&w->lock);
	w->rc = rc;
	w->done = true;
	pthread_cond_signal(&w->cond);
	pthread_mutex_unlock(&w->lock);
}

int block_rw(struct block *b, enum block_op op, uint64_t offset, void *buf, size_t len)
{
	struct waiter w = { PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0 };
	struct iovec v = { buf, len };
	struct block_request r = {
		.op = op, .unmap = true, .offset = offset, .len = len, .iov = &v, .iov_count = 1,
		.done = waiter_done, .arg = &w,
	};

	block_submit(b, &r);
	pthread_mutex_lock(&w.lock);
	while (!w.done)
		pthread_cond_wait(&w.cond, &w.lock);
	pthread_mutex_unlock(&w.lock);
	pthread_mutex_destroy(&w.lock);
	pthread_cond_destroy(&w.cond);
	return w.rc;
}
