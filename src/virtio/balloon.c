// SPDX-License-Identifier: Apache-2.0
/*
 * The traditional memory balloon device: inflating, deflating, statistics, deflating when the
 * guest is out of memory, reporting of free pages.
 *
 * Source: VIRTIO 1.2, "Traditional Memory Balloon Device".
 * Not there: free page hinting, page poisoning.
 *
 * A page that is given back becomes a hole in the memfd behind guest memory.  It stays mapped,
 * so no translation of an address has to change; whoever touches it gets a page of zeros.  Code
 * that was decoded or translated from it is dropped (gpa_written()).
 */
#include "virtio/balloon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define F_STATS		1
#define F_DEFLATE_ON_OOM 2
#define F_REPORTING	5
#define PFN_SHIFT	12
#define PFNS		256U	/* read at a time */
#define STAT_SIZE	10U	/* of an entry: tag, value */
#define STATS_ENTRIES_MAX 64U

enum { QUEUE_INFLATE, QUEUE_DEFLATE, QUEUE_OTHERS, QUEUES = 4 };

struct config {
	uint32_t num_pages, actual, hint_command, poison;
};

/* (o) under lock; the rest belongs to the device's thread */
struct virtio_balloon {
	struct virtio_device virtio;
	struct virtq_chain *waiting;	/* the statistics' buffer, until the next are wanted */
	struct loop_work ask_work;
	_Atomic uint64_t given_back;
	pthread_mutex_t lock;
	uint64_t target;		/* (o) bytes */
	uint64_t stat[BALLOON_STATS];	/* (o) */
	uint64_t updates;		/* (o) */
};

static struct virtio_balloon *to_balloon(struct virtio_device *d)
{
	return container_of(d, struct virtio_balloon, virtio);
}

/* --- giving back --- */

/* The whole pages of [@off, @off + @len) of @x. */
static void punch(struct virtio_balloon *b, const struct ram_extent *x, uint64_t off, uint64_t len)
{
	const uint64_t first = ALIGN_UP(off, GUEST_PAGE_SIZE);
	const uint64_t end = ALIGN_DOWN(off + len, GUEST_PAGE_SIZE);

	if (end <= first || x->readonly)
		return;
	if (fallocate(x->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, first, end - first))
		return;		/* then it stays where it is: nothing is lost */
	atomic_fetch_add(&b->given_back, end - first);
	gpa_written(virtio_space(&b->virtio), x->base + first, end - first);
}

/* @pages pages from @pfn on, as far as they are RAM; a run may cross no extent's end. */
static void give_back(struct virtio_balloon *b, uint32_t pfn, uint32_t pages)
{
	const gpa_t gpa = (uint64_t)pfn << PFN_SHIFT;
	const uint64_t len = (uint64_t)pages << PFN_SHIFT;
	const struct ram_extent *x = gpa_to_extent(virtio_space(&b->virtio), gpa);

	if (x)
		punch(b, x, gpa - x->base, MIN(len, x->size - (gpa - x->base)));
}

/* Neighbours, in rising or falling order, are one hole. */
static void give_back_list(struct virtio_balloon *b, const uint32_t *pfn, unsigned int count)
{
	uint32_t first = 0, pages = 0;

	for (unsigned int i = 0; i < count; i++) {
		if (pages && pfn[i] == first + pages) {
			pages++;
		} else if (pages && pfn[i] + 1 == first) {
			first--;
			pages++;
		} else {
			give_back(b, first, pages);
			first = pfn[i];
			pages = 1;
		}
	}
	give_back(b, first, pages);
}

static void inflate(struct virtio_balloon *b, const struct virtq_chain *c)
{
	uint32_t pfn[PFNS];
	size_t n;

	for (size_t off = 0; (n = chain_read(c, off, pfn, sizeof(pfn))) >= sizeof(pfn[0]); off += n)
		give_back_list(b, pfn, n / sizeof(pfn[0]));
}

/* The buffer itself is what is free; its former contents need not come back. */
static void report(struct virtio_balloon *b, const struct virtq_chain *c)
{
	const struct gpa_space *s = virtio_space(&b->virtio);

	for (unsigned int i = 0; i < c->in_count; i++) {
		const uint8_t *p = c->in[i].iov_base;

		for (unsigned int j = 0; j < s->ram_count; j++)
			if (p >= s->ram[j].hva && p < s->ram[j].hva + s->ram[j].size)
				punch(b, &s->ram[j], p - s->ram[j].hva, c->in[i].iov_len);
	}
}

/* --- statistics --- */

static void read_stats(struct virtio_balloon *b, const struct virtq_chain *c)
{
	uint8_t entry[STAT_SIZE];

	pthread_mutex_lock(&b->lock);
	for (unsigned int i = 0; i < STATS_ENTRIES_MAX &&
	     chain_read(c, i * STAT_SIZE, entry, STAT_SIZE) == STAT_SIZE; i++) {
		uint16_t tag;
		uint64_t value;

		memcpy(&tag, entry, sizeof(tag));
		memcpy(&value, entry + sizeof(tag), sizeof(value));
		if (tag < BALLOON_STATS)
			b->stat[tag] = value;
	}
	b->updates++;
	pthread_mutex_unlock(&b->lock);
}

static void release_waiting(struct virtio_balloon *b)
{
	struct virtq *q;

	if (!b->waiting)
		return;
	q = b->waiting->q;
	virtq_push(b->waiting, 0);
	b->waiting = NULL;
	virtq_notify(q);
}

/* Giving the buffer back is how the guest is asked. */
static void ask(void *arg)
{
	release_waiting(arg);
}

static void stats_kick(struct virtio_balloon *b, struct virtq *q)
{
	struct virtq_chain *c;

	while ((c = virtq_pop(q))) {
		read_stats(b, c);
		release_waiting(b);	/* there should be only one */
		b->waiting = c;
	}
}

/* --- the device --- */

enum role { INFLATE, DEFLATE, STATS, REPORTING };

/* Queues that were not agreed upon are not counted. */
static enum role role_of(struct virtio_device *d, struct virtq *q)
{
	const unsigned int i = virtq_index(q);

	if (i < QUEUE_OTHERS)
		return i == QUEUE_INFLATE ? INFLATE : DEFLATE;
	return i == QUEUE_OTHERS && virtio_has(d, F_STATS) ? STATS : REPORTING;
}

static void balloon_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtio_balloon *b = to_balloon(d);
	const enum role role = role_of(d, q);
	struct virtq_chain *c;

	if (role == STATS) {
		stats_kick(b, q);
		return;
	}
	while ((c = virtq_pop(q))) {
		if (role == INFLATE)
			inflate(b, c);
		else if (role == REPORTING)
			report(b, c);
		virtq_push(c, 0);
	}
	virtq_notify(q);
}

static void balloon_queue_reset(struct virtio_device *d, struct virtq *q)
{
	struct virtio_balloon *b = to_balloon(d);

	if (b->waiting && b->waiting->q == q) {
		virtq_forget(b->waiting);
		b->waiting = NULL;
	}
}

static void balloon_reset(struct virtio_device *d)
{
	struct virtio_balloon *b = to_balloon(d);
	const uint32_t none = 0;

	if (b->waiting)
		virtq_forget(b->waiting);
	b->waiting = NULL;
	virtio_config_write(d, offsetof(struct config, actual), &none, sizeof(none), false);
	pthread_mutex_lock(&b->lock);
	memset(b->stat, 0xff, sizeof(b->stat));
	b->updates = 0;
	pthread_mutex_unlock(&b->lock);
}

static void balloon_destroy(struct virtio_device *d)
{
	struct virtio_balloon *b = to_balloon(d);

	virtio_fini(d);
	pthread_mutex_destroy(&b->lock);
	free(b);
}

static const struct virtio_ops balloon_ops = {
	.id = VIRTIO_ID_BALLOON,
	.name = "virtio-balloon",
	.config_writable = offsetof(struct config, actual),
	.config_writable_len = sizeof(uint32_t),
	.kick = balloon_kick,
	.reset = balloon_reset,
	.queue_reset = balloon_queue_reset,
	.destroy = balloon_destroy,
};

int virtio_balloon_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			  const struct balloon_config *c, struct err *e)
{
	const struct config config = { .num_pages = MIN(c->target >> PFN_SHIFT, UINT32_MAX) };
	const struct virtio_setup setup = {
		.space = s, .log = log, .queues = QUEUES, .queue_size = 128,
		.features = BIT(F_STATS) | (c->deflate_on_oom ? BIT(F_DEFLATE_ON_OOM) : 0) |
			    (c->reporting ? BIT(F_REPORTING) : 0),
		.config = &config, .config_len = sizeof(config),
	};
	struct virtio_balloon *b = calloc(1, sizeof(*b));
	int rc;

	if (!b)
		return err_set(e, ENOMEM, "out of memory for virtio-balloon");
	rc = virtio_init(&b->virtio, &balloon_ops, &setup, e);
	if (rc) {
		free(b);
		return rc;
	}
	b->ask_work = (struct loop_work){ .run = ask, .arg = b };
	b->target = c->target;
	memset(b->stat, 0xff, sizeof(b->stat));
	pthread_mutex_init(&b->lock, NULL);
	*out = &b->virtio;
	return 0;
}

/* --- the host's side --- */

void balloon_set_target(struct virtio_device *d, uint64_t bytes)
{
	struct virtio_balloon *b = to_balloon(d);
	const uint32_t pages = MIN(bytes >> PFN_SHIFT, UINT32_MAX);

	pthread_mutex_lock(&b->lock);
	b->target = (uint64_t)pages << PFN_SHIFT;
	virtio_config_write(d, offsetof(struct config, num_pages), &pages, sizeof(pages), true);
	pthread_mutex_unlock(&b->lock);
}

void balloon_state(struct virtio_device *d, struct balloon_state *state)
{
	struct virtio_balloon *b = to_balloon(d);
	uint32_t actual;

	virtio_config_read(d, offsetof(struct config, actual), &actual, sizeof(actual));
	pthread_mutex_lock(&b->lock);
	*state = (struct balloon_state){
		.target = b->target, .actual = (uint64_t)actual << PFN_SHIFT,
		.given_back = atomic_load(&b->given_back), .updates = b->updates,
	};
	memcpy(state->stat, b->stat, sizeof(state->stat));
	pthread_mutex_unlock(&b->lock);
	loop_post(virtio_loop(d), &b->ask_work);
}
