// SPDX-License-Identifier: Apache-2.0
/*
 * The entropy device: fills what the guest gives with getrandom()'s bytes.
 *
 * Source: VIRTIO 1.2, "Entropy Device".
 */
#include "virtio/rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define AT_ONCE		65536U	/* of one request; the device may give less than was asked for */

struct virtio_rng {
	struct virtio_device virtio;
};

static uint32_t rng_fill(struct virtq_chain *c)
{
	uint32_t done = 0;

	chain_trim_in(c, MIN(c->in_len, (size_t)AT_ONCE));
	while (c->in_len) {
		ssize_t n = getrandom(c->in->iov_base, c->in->iov_len, 0);

		if (n < 0 && errno != EINTR)
			break;
		if (n > 0) {
			done += n;
			chain_skip_in(c, n);
		}
	}
	return done;
}

static void rng_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtq_chain *c;

	(void)d;
	while ((c = virtq_pop(q)))
		virtq_push(c, rng_fill(c));
	virtq_notify(q);
}

static void rng_reset(struct virtio_device *d)
{
	(void)d;	/* every request is answered before rng_kick() returns */
}

static void rng_queue_reset(struct virtio_device *d, struct virtq *q)
{
	(void)d;
	(void)q;
}

static void rng_destroy(struct virtio_device *d)
{
	virtio_fini(d);
	free(container_of(d, struct virtio_rng, virtio));
}

static const struct virtio_ops rng_ops = {
	.id = VIRTIO_ID_RNG,
	.name = "virtio-rng",
	.kick = rng_kick,
	.reset = rng_reset,
	.queue_reset = rng_queue_reset,
	.destroy = rng_destroy,
};

int virtio_rng_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		      struct err *e)
{
	const struct virtio_setup setup = { .space = s, .log = log, .queues = 1, .queue_size = 8 };
	struct virtio_rng *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, ENOMEM, "out of memory for virtio-rng");
	rc = virtio_init(&r->virtio, &rng_ops, &setup, e);
	if (rc) {
		free(r);
		return rc;
	}
	*out = &r->virtio;
	return 0;
}
