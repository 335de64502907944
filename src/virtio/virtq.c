// SPDX-License-Identifier: Apache-2.0
/*
 * Queues, whatever their rings look like: registers, chains, interrupts.
 *
 * Source: VIRTIO 1.2, "Virtqueues".
 *
 * A driver that breaks the rules gets DEVICE_NEEDS_RESET.  A queue's memory is where it was
 * when the queue was enabled: writes to its registers are ignored until it is reset.
 */
#include "virtio/core_priv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

bool virtq_has(const struct virtq *q, unsigned int feature)
{
	return atomic_load_explicit(&q->core->features, memory_order_relaxed) & BIT(feature);
}

/* Data was written to guest memory behind the engine's back. */
void guest_written(struct virtio_core *core, gpa_t gpa, uint64_t len)
{
	gpa_written(core->space, gpa, len);
}

/* --- registers --- */

uint16_t virtq_get_size(struct virtq *q)
{
	uint16_t size;

	pthread_mutex_lock(&q->lock);
	size = q->size;
	pthread_mutex_unlock(&q->lock);
	return size;
}

void virtq_set_size(struct virtq *q, uint16_t size)
{
	pthread_mutex_lock(&q->lock);
	if (!q->enabled)
		q->size = size;
	pthread_mutex_unlock(&q->lock);
}

uint64_t virtq_get_area(struct virtq *q, enum virtq_area which)
{
	uint64_t at;

	pthread_mutex_lock(&q->lock);
	at = q->area[which];
	pthread_mutex_unlock(&q->lock);
	return at;
}

void virtq_set_area(struct virtq *q, enum virtq_area which, unsigned int half, uint32_t value)
{
	const unsigned int shift = 32 * half;

	pthread_mutex_lock(&q->lock);
	if (!q->enabled)
		q->area[which] = (q->area[which] & ~((uint64_t)UINT32_MAX << shift)) |
				 (uint64_t)value << shift;
	pthread_mutex_unlock(&q->lock);
}

uint16_t virtq_get_vector(struct virtq *q)
{
	uint16_t vector;

	pthread_mutex_lock(&q->lock);
	vector = q->vector;
	pthread_mutex_unlock(&q->lock);
	return vector;
}

void virtq_set_vector(struct virtq *q, uint16_t vector)
{
	pthread_mutex_lock(&q->lock);
	q->vector = vector;
	pthread_mutex_unlock(&q->lock);
}

bool virtq_map_area(struct virtq *q, enum virtq_area which, uint64_t size, unsigned int align)
{
	struct ram_extent *x = gpa_to_extent(q->core->space, q->area[which]);

	if (q->area[which] % align || !x || x->readonly)
		return false;
	q->mem[which] = gpa_to_hva(q->core->space, q->area[which], size);
	return q->mem[which];
}

void virtq_enable(struct virtq *q)
{
	bool good, now = false;

	pthread_mutex_lock(&q->lock);
	if (q->enabled) {
		pthread_mutex_unlock(&q->lock);
		return;
	}
	q->packed = virtq_has(q, VIRTIO_F_RING_PACKED);
	good = q->size && q->size <= q->core->queue_size &&
	       (q->packed ? packed_map(q) : split_map(q));
	if (good) {
		q->avail = q->used = q->told = 0;
		q->avail_wrap = q->used_wrap = true;
		q->told_valid = true;
		q->quiet = false;
		q->enabled = now = true;
	}
	pthread_mutex_unlock(&q->lock);
	if (!good)
		virtio_broken(q->core->dev, "queue %u: no ring of %u can be at 0x%llx, 0x%llx, 0x%llx",
			      q->index, q->size, (unsigned long long)q->area[AREA_DESC],
			      (unsigned long long)q->area[AREA_DRIVER],
			      (unsigned long long)q->area[AREA_DEVICE]);
	/* After a reset of this queue alone the device goes on with it at once. */
	if (now && virtio_running(q->core->dev))
		virtq_kick_again(q);
}

bool virtq_enabled(struct virtq *q)
{
	bool enabled;

	pthread_mutex_lock(&q->lock);
	enabled = q->enabled;
	pthread_mutex_unlock(&q->lock);
	return enabled;
}

void virtq_clear(struct virtq *q)
{
	pthread_mutex_lock(&q->lock);
	q->enabled = false;
	q->generation++;
	q->size = q->core->queue_size;
	memset(q->area, 0, sizeof(q->area));
	memset(q->mem, 0, sizeof(q->mem));
	q->vector = NO_VECTOR;
	pthread_mutex_unlock(&q->lock);
}

void virtq_disable(struct virtq *q)
{
	pthread_mutex_lock(&q->lock);
	if (q->enabled)
		q->generation++;
	q->enabled = false;
	pthread_mutex_unlock(&q->lock);
}

unsigned int virtq_index(const struct virtq *q)
{
	return q->index;
}

struct virtio_device *virtq_device(const struct virtq *q)
{
	return q->core->dev;
}

void virtq_kick_again(struct virtq *q)
{
	loop_post(q->core->loop, &q->kick_work);
}

/* --- walking a chain --- */

bool walk_add(struct virtq *q, struct walk *w, const struct desc *d, const char **why)
{
	const bool in = d->flags & DESC_WRITE;
	struct ram_extent *x;
	void *p;

	if (++w->seen > VIRTQ_CHAIN_MAX) {
		*why = "a chain is endless";
		return false;
	}
	if (!in && w->in_len) {
		*why = "a buffer to read follows one to write";
		return false;
	}
	if (!d->len)
		return true;
	x = gpa_to_extent(q->core->space, d->addr);
	p = gpa_to_hva(q->core->space, d->addr, d->len);
	if (!p || (in && x->readonly)) {
		*why = "a buffer is not in RAM";
		return false;
	}
	w->iov[w->count] = (struct iovec){ p, d->len };
	w->gpa[w->count] = d->addr;
	w->count++;
	if (in) {
		w->in_len += d->len;
	} else {
		w->out_len += d->len;
		w->in_first = w->count;
	}
	return true;
}

const uint8_t *walk_table(struct virtq *q, const struct desc *d, uint32_t *entries,
			  const char **why)
{
	const uint8_t *table = NULL;

	*entries = d->len / DESC_SIZE;
	if (!virtq_has(q, VIRTIO_F_INDIRECT_DESC))
		*why = "a table was not agreed upon";
	else if (d->flags & DESC_NEXT)
		*why = "something follows a table";
	else if (!d->len || d->len % DESC_SIZE)
		*why = "a table's length is odd";
	else if (!(table = gpa_to_hva(q->core->space, d->addr, d->len)))
		*why = "a table is not in RAM";
	return table;
}

/* One allocation: the chain, its pieces, its marks, the device's request. */
static struct chain *make_chain(struct virtq *q, const struct walk *w)
{
	const size_t request = q->core->dev->ops->request_size;
	const unsigned int in_count = w->count - w->in_first;
	size_t at_iov = ALIGN_UP(sizeof(struct chain) + request, 16);
	size_t at_mark = at_iov + w->count * sizeof(struct iovec);
	struct chain *c = malloc(at_mark + in_count * sizeof(struct mark));

	if (!c)
		return NULL;
	memset(c, 0, at_iov);
	c->c.q = q;
	c->c.request = request ? c + 1 : NULL;
	c->c.out = (struct iovec *)((char *)c + at_iov);
	c->c.in = c->c.out + w->in_first;
	memcpy(c->c.out, w->iov, w->count * sizeof(struct iovec));
	c->c.out_count = w->in_first;
	c->c.in_count = in_count;
	c->c.out_len = w->out_len;
	c->c.in_len = w->in_len;
	c->mark = (struct mark *)((char *)c + at_mark);
	c->mark_count = in_count;
	for (unsigned int i = 0; i < in_count; i++)
		c->mark[i] = (struct mark){ w->gpa[w->in_first + i], w->iov[w->in_first + i].iov_len };
	c->generation = q->generation;
	c->id = w->id;
	c->span = w->span;
	return c;
}

static void unpop_locked(struct virtq *q, uint16_t span)
{
	if (q->packed)
		packed_unpop(q, span);
	else
		split_unpop(q, span);
}

static struct chain *pop_locked(struct virtq *q, const char **why)
{
	struct chain *c;
	struct walk w;

	w.count = w.in_first = w.seen = 0;
	w.out_len = w.in_len = 0;
	switch (q->packed ? packed_walk(q, &w, why) : split_walk(q, &w, why)) {
	case WALK_NONE:
	case WALK_BROKEN:
		return NULL;
	case WALK_CHAIN:
		break;
	}
	if (q->in_flight >= q->size) {
		*why = "there are more buffers than entries";
		return NULL;
	}
	c = make_chain(q, &w);
	if (c)
		q->in_flight++;
	else	/* no memory now: the driver's next doorbell, or the device's next pop */
		unpop_locked(q, w.span);
	return c;
}

struct virtq_chain *virtq_pop(struct virtq *q)
{
	const char *why = NULL;
	struct chain *c = NULL;

	if (!virtio_running(q->core->dev))
		return NULL;
	pthread_mutex_lock(&q->lock);
	if (q->enabled)
		c = pop_locked(q, &why);
	pthread_mutex_unlock(&q->lock);
	if (why)
		virtio_broken(q->core->dev, "queue %u: %s", q->index, why);
	return c ? &c->c : NULL;
}

/* --- giving back --- */

static void landed_locked(struct virtq *q)
{
	if (!--q->in_flight)
		pthread_cond_broadcast(&q->idle);
}

void virtq_push_all(struct virtq_chain *const *chains, const uint32_t *written,
		    unsigned int count)
{
	struct virtq *q = chains[0]->q;
	struct chain *c[VIRTQ_SIZE_MAX];
	bool fresh = true;

	assert(count && count <= ARRAY_SIZE(c));
	for (unsigned int i = 0; i < count; i++) {
		c[i] = container_of(chains[i], struct chain, c);
		for (unsigned int m = 0; m < c[i]->mark_count; m++)
			guest_written(q->core, c[i]->mark[m].gpa, c[i]->mark[m].len);
	}
	pthread_mutex_lock(&q->lock);
	for (unsigned int i = 0; i < count; i++)
		fresh = fresh && c[i]->generation == q->generation;
	if (fresh) {	/* so it is enabled */
		if (q->packed)
			packed_push(q, c, written, count);
		else
			split_push(q, c, written, count);
	}
	for (unsigned int i = 0; i < count; i++)
		landed_locked(q);
	pthread_mutex_unlock(&q->lock);
	for (unsigned int i = 0; i < count; i++)
		free(c[i]);
}

void virtq_push(struct virtq_chain *chain, uint32_t written)
{
	virtq_push_all(&chain, &written, 1);
}

void virtq_unpop(struct virtq_chain *chain)
{
	struct chain *c = container_of(chain, struct chain, c);
	struct virtq *q = chain->q;

	pthread_mutex_lock(&q->lock);
	if (c->generation == q->generation)
		unpop_locked(q, c->span);
	landed_locked(q);
	pthread_mutex_unlock(&q->lock);
	free(c);
}

void virtq_forget(struct virtq_chain *chain)
{
	struct chain *c = container_of(chain, struct chain, c);
	struct virtq *q = chain->q;

	pthread_mutex_lock(&q->lock);
	landed_locked(q);
	pthread_mutex_unlock(&q->lock);
	free(c);
}

void virtq_wait_idle(struct virtq *q)
{
	pthread_mutex_lock(&q->lock);
	while (q->in_flight)
		pthread_cond_wait(&q->idle, &q->lock);
	pthread_mutex_unlock(&q->lock);
}

void virtq_notify(struct virtq *q)
{
	struct virtio_core *core = q->core;
	uint16_t vector = NO_VECTOR;
	bool want = false;

	pthread_mutex_lock(&q->lock);
	if (q->enabled) {
		want = q->packed ? packed_wants_interrupt(q) : split_wants_interrupt(q);
		vector = q->vector;
	}
	pthread_mutex_unlock(&q->lock);
	if (want)
		core->transport->interrupt(core->transport_arg, q->index, vector);
}
