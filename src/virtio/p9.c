// SPDX-License-Identifier: Apache-2.0
/*
 * The 9P transport device: hands requests to a server and its replies back.
 *
 * Source: VIRTIO 1.2 reserves device type 9; what it is, is in Linux's net/9p/trans_virtio.c and
 * include/uapi/linux/virtio_9p.h: one queue, a chain is a request and the room for its reply.
 *
 * A request may take as long as the host's file system does, so requests are served by a few
 * threads of the device's own, begun in the order in which they came.  A reset waits for those
 * that were begun.
 */
#include "virtio/p9.h"
#include "backend/p9.h"
#include "base/thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define WORKERS		4U
#define QUEUE_SIZE	128U
#define F_MOUNT_TAG	0

/* Lies in a chain's request. */
struct job {
	struct virtq_chain *chain;
	struct job *next;
};

/* (o) under lock; the rest is constant or the device's thread's */
struct virtio_p9 {
	struct virtio_device virtio;
	struct p9 *server;
	pthread_t worker[WORKERS];
	unsigned int workers;
	pthread_mutex_t lock;
	pthread_cond_t work;		/* there is a job, or it ends */
	struct job *first, **last;	/* (o) */
	bool ending;			/* (o) */
};

static struct virtio_p9 *to_p9(struct virtio_device *d)
{
	return container_of(d, struct virtio_p9, virtio);
}

/* --- workers --- */

static void send_reply(void *arg, size_t len)
{
	struct virtq_chain *c = arg;
	struct virtq *q = c->q;

	virtq_push(c, len);
	virtq_notify(q);
}

static struct job *take_job_locked(struct virtio_p9 *p)
{
	struct job *j = p->first;

	if (j) {
		p->first = j->next;
		if (!p->first)
			p->last = &p->first;
	}
	return j;
}

static void *worker(void *arg)
{
	struct virtio_p9 *p = arg;
	struct job *j;

	p9_thread_init();
	pthread_mutex_lock(&p->lock);
	while (!p->ending) {
		j = take_job_locked(p);
		if (!j) {
			pthread_cond_wait(&p->work, &p->lock);
			continue;
		}
		pthread_mutex_unlock(&p->lock);
		p9_serve(p->server, &(struct p9_message){
			.out = j->chain->out, .out_count = j->chain->out_count,
			.in = j->chain->in, .in_count = j->chain->in_count,
			.send = send_reply, .arg = j->chain,
		});
		pthread_mutex_lock(&p->lock);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int start_workers(struct virtio_p9 *p, struct err *e)
{
	int rc = 0;

	while (p->workers < WORKERS && !rc) {
		rc = thread_create(&p->worker[p->workers], "share", worker, p);
		p->workers += !rc;
	}
	return rc ? err_errno(e, -rc, "could not start the threads of virtio-9p") : 0;
}

static void stop_workers(struct virtio_p9 *p)
{
	pthread_mutex_lock(&p->lock);
	p->ending = true;
	pthread_cond_broadcast(&p->work);
	pthread_mutex_unlock(&p->lock);
	while (p->workers)
		pthread_join(p->worker[--p->workers], NULL);
}

/* --- the device --- */

static void p9_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtio_p9 *p = to_p9(d);
	struct virtq_chain *c;

	while ((c = virtq_pop(q))) {
		struct job *j = c->request;

		*j = (struct job){ .chain = c };
		pthread_mutex_lock(&p->lock);
		*p->last = j;
		p->last = &j->next;
		pthread_cond_signal(&p->work);
		pthread_mutex_unlock(&p->lock);
	}
}

static void p9_queue_reset(struct virtio_device *d, struct virtq *q)
{
	struct virtio_p9 *p = to_p9(d);
	struct job *j, *next;

	pthread_mutex_lock(&p->lock);
	j = p->first;
	p->first = NULL;
	p->last = &p->first;
	pthread_mutex_unlock(&p->lock);
	for (; j; j = next) {
		next = j->next;
		virtq_forget(j->chain);
	}
	virtq_wait_idle(q);
}

/* A worker that has sent its reply may still be on its way out of p9_serve(): that is harmless. */
static void p9_device_reset(struct virtio_device *d)
{
	p9_queue_reset(d, virtio_queue(d, 0));
	p9_reset(to_p9(d)->server);
}

static void p9_device_destroy(struct virtio_device *d)
{
	struct virtio_p9 *p = to_p9(d);

	stop_workers(p);
	p9_destroy(p->server);
	virtio_fini(d);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

static const struct virtio_ops p9_ops = {
	.id = VIRTIO_ID_9P,
	.name = "virtio-9p",
	.request_size = sizeof(struct job),
	.kick = p9_kick,
	.reset = p9_device_reset,
	.queue_reset = p9_queue_reset,
	.destroy = p9_device_destroy,
};

int virtio_p9_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		     struct p9 *server, const char *tag, struct err *e)
{
	const size_t len = strlen(tag);
	uint8_t config[2 + P9_TAG_MAX] = { len, len >> 8 };
	const struct virtio_setup setup = {
		.space = s, .log = log, .features = BIT(F_MOUNT_TAG), .queues = 1,
		.queue_size = QUEUE_SIZE, .config = config, .config_len = 2 + len,
	};
	struct virtio_p9 *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return err_set(e, ENOMEM, "out of memory for virtio-9p");
	memcpy(config + 2, tag, len);
	rc = virtio_init(&p->virtio, &p9_ops, &setup, e);
	if (rc) {
		free(p);
		return rc;
	}
	p->last = &p->first;
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->work, NULL);
	rc = start_workers(p, e);
	if (rc) {
		p9_device_destroy(&p->virtio);	/* the server stays the caller's */
		return rc;
	}
	p->server = server;
	*out = &p->virtio;
	return 0;
}
