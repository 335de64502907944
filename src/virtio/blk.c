// SPDX-License-Identifier: Apache-2.0
/*
 * The block device.
 *
 * Source: VIRTIO 1.2, "Block Device".
 *
 * The device's thread takes requests from the queues and submits them; the back end's workers
 * complete them, push and interrupt.  A request that says nothing sensible gets an error status;
 * one without room for a status, or without a header, breaks the device.
 * Not modelled: zoned storage, secure erase, lifetime (none of them is offered).
 */
#include "virtio/blk.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define F_SEG_MAX	2
#define F_RO		5
#define F_BLK_SIZE	6
#define F_FLUSH		9
#define F_TOPOLOGY	10
#define F_CONFIG_WCE	11
#define F_MQ		12
#define F_DISCARD	13
#define F_WRITE_ZEROES	14

#define T_IN		0U
#define T_OUT		1U
#define T_FLUSH		4U
#define T_GET_ID	8U
#define T_DISCARD	11U
#define T_WRITE_ZEROES	13U

#define S_OK		0U
#define S_IOERR		1U
#define S_UNSUPP	2U

#define SECTOR_SHIFT	9
#define SECTOR		512U
#define ID_SIZE		20U
#define HEADER_SIZE	16U
#define SEGMENT_SIZE	16U
#define SEGMENTS_MAX	64U		/* of a discard */
#define SEGMENT_SECTORS	0x400000U	/* 2 GiB */
#define SEGMENT_UNMAP	1U
#define QUEUE_SIZE	256U
#define CONFIG_WCE_AT	32

struct header {
	uint32_t type, reserved;
	uint64_t sector;
};

struct segment {
	uint64_t sector;
	uint32_t sectors, flags;
};

/* struct virtio_blk_config of the specification. */
struct blk_space {
	uint64_t capacity;
	uint32_t size_max, seg_max;
	uint16_t cylinders;
	uint8_t heads, sectors;
	uint32_t blk_size;
	uint8_t physical_block_exp, alignment_offset;
	uint16_t min_io_size;
	uint32_t opt_io_size;
	uint8_t writeback, unused0;
	uint16_t num_queues;
	uint32_t max_discard_sectors, max_discard_seg, discard_sector_alignment;
	uint32_t max_write_zeroes_sectors, max_write_zeroes_seg;
	uint8_t write_zeroes_may_unmap, unused1[3];
} __attribute__((packed));

struct virtio_blk {
	struct virtio_device virtio;
	struct block *block;
	char id[ID_SIZE];
	void (*stopped)(void *arg, int errnum, const char *why);
	void (*closed)(void *arg);
	void *arg;
	_Atomic bool write_through;	/* a write is done when it is on the disk */
	_Atomic bool resetting;		/* nothing is submitted any more */
	_Atomic unsigned int submitting; /* threads between the look at it and the submission */
};

/* A request, in its chain. */
struct blk_request {
	struct block_request block;
	struct virtio_blk *blk;
	struct virtq_chain *chain;
	uint8_t *status;		/* the last byte of what the guest gave to write */
	uint32_t type;
	unsigned int segment;		/* of a discard: those done */
	bool flushing;			/* a write that goes through: the second half */
};

static struct virtio_blk *to_blk(struct virtio_device *d)
{
	return container_of(d, struct virtio_blk, virtio);
}

/* --- completion, on any thread --- */

static void blk_finish(struct blk_request *r, uint8_t status, size_t written)
{
	struct virtq *q = r->chain->q;

	*r->status = status;
	virtq_push(r->chain, written + 1);	/* frees r */
	virtq_notify(q);
}

static void submit(struct blk_request *r)
{
	struct virtio_blk *blk = r->blk;

	/* The reset raises its flag first and looks at the count second. */
	atomic_fetch_add(&blk->submitting, 1);
	if (atomic_load(&blk->resetting))
		blk_finish(r, S_IOERR, 0);
	else
		block_submit(blk->block, &r->block);
	atomic_fetch_sub(&blk->submitting, 1);
}

/* The next piece of a discard; false: it makes no sense, *status says which kind. */
static bool next_segment(struct blk_request *r, uint8_t *status)
{
	struct segment s;

	chain_read(r->chain, (size_t)r->segment * SEGMENT_SIZE, &s, sizeof(s));
	*status = S_IOERR;
	if (s.flags & ~(r->type == T_WRITE_ZEROES ? SEGMENT_UNMAP : 0)) {
		*status = S_UNSUPP;
		return false;
	}
	if (s.sectors > SEGMENT_SECTORS || s.sector > UINT64_MAX >> SECTOR_SHIFT)
		return false;
	r->block.op = r->type == T_DISCARD ? BLOCK_DISCARD : BLOCK_WRITE_ZEROES;
	r->block.unmap = s.flags & SEGMENT_UNMAP;
	r->block.offset = s.sector << SECTOR_SHIFT;
	r->block.len = (uint64_t)s.sectors << SECTOR_SHIFT;
	return true;
}

static bool changes_disk(const struct blk_request *r)
{
	return r->type == T_OUT || r->type == T_DISCARD || r->type == T_WRITE_ZEROES;
}

static void request_done(struct block_request *b, int rc)
{
	struct blk_request *r = container_of(b, struct blk_request, block);
	uint8_t status;

	if (rc) {
		blk_finish(r, rc == -ENOTSUP ? S_UNSUPP : S_IOERR, 0);
		return;
	}
	if ((r->type == T_DISCARD || r->type == T_WRITE_ZEROES) && !r->flushing &&
	    ++r->segment < r->chain->out_len / SEGMENT_SIZE) {
		if (next_segment(r, &status))
			submit(r);
		else
			blk_finish(r, status, 0);
		return;
	}
	if (changes_disk(r) && !r->flushing && atomic_load(&r->blk->write_through)) {
		r->flushing = true;
		r->block.op = BLOCK_FLUSH;
		submit(r);
		return;
	}
	blk_finish(r, S_OK, r->type == T_IN ? r->block.len : 0);
}

/* --- requests, on the device's thread --- */

static void start_transfer(struct blk_request *r, uint64_t sector)
{
	const bool read = r->type == T_IN;
	const struct virtq_chain *c = r->chain;

	r->block.op = read ? BLOCK_READ : BLOCK_WRITE;
	r->block.iov = read ? c->in : c->out;
	r->block.iov_count = read ? c->in_count : c->out_count;
	r->block.len = read ? c->in_len : c->out_len;
	r->block.offset = sector << SECTOR_SHIFT;
	if (r->block.len % SECTOR || sector > UINT64_MAX >> SECTOR_SHIFT)
		blk_finish(r, S_IOERR, 0);
	else if (!r->block.len)
		blk_finish(r, S_OK, 0);
	else
		submit(r);
}

static void start_segments(struct blk_request *r)
{
	const size_t len = r->chain->out_len;
	uint8_t status = S_IOERR;

	if (len && len % SEGMENT_SIZE == 0 && len / SEGMENT_SIZE <= SEGMENTS_MAX &&
	    next_segment(r, &status))
		submit(r);
	else
		blk_finish(r, status, 0);
}

static void start_request(struct blk_request *r, const struct header *h)
{
	r->type = h->type;
	switch (h->type) {
	case T_IN:
	case T_OUT:
		start_transfer(r, h->sector);
		break;
	case T_FLUSH:
		r->block.op = BLOCK_FLUSH;
		submit(r);
		break;
	case T_GET_ID:
		blk_finish(r, S_OK, chain_write(r->chain, 0, r->blk->id, ID_SIZE));
		break;
	case T_DISCARD:
	case T_WRITE_ZEROES:
		start_segments(r);
		break;
	default:
		blk_finish(r, S_UNSUPP, 0);
	}
}

/* False: neither a header nor a place for the answer. */
static bool take_request(struct virtio_blk *blk, struct virtq_chain *c)
{
	struct blk_request *r = c->request;
	struct iovec *last = &c->in[c->in_count - 1];
	struct header h;

	if (!c->in_len || chain_read(c, 0, &h, sizeof(h)) < sizeof(h))
		return false;
	r->blk = blk;
	r->chain = c;
	r->block.done = request_done;
	r->status = (uint8_t *)last->iov_base + last->iov_len - 1;
	chain_trim_in(c, c->in_len - 1);
	chain_skip_out(c, HEADER_SIZE);
	start_request(r, &h);
	return true;
}

static void blk_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtq_chain *c;

	while ((c = virtq_pop(q))) {
		if (take_request(to_blk(d), c))
			continue;
		virtq_forget(c);
		virtio_broken(d, "queue %u: a request without a header or a status",
			      virtq_index(q));
	}
}

/* --- device --- */

static void update_cache_mode(struct virtio_blk *blk)
{
	struct virtio_device *d = &blk->virtio;
	uint8_t writeback;

	virtio_config_read(d, CONFIG_WCE_AT, &writeback, 1);
	/* A driver that cannot flush is told of nothing that is not on the disk. */
	atomic_store(&blk->write_through,
		     virtio_has(d, F_CONFIG_WCE) ? !writeback : !virtio_has(d, F_FLUSH));
}

static void blk_start(struct virtio_device *d)
{
	atomic_store(&to_blk(d)->resetting, false);
	update_cache_mode(to_blk(d));
}

static void blk_config_written(struct virtio_device *d)
{
	const uint8_t one = 1;
	uint8_t writeback;

	virtio_config_read(d, CONFIG_WCE_AT, &writeback, 1);
	if (writeback > 1)	/* it reads as what it means */
		virtio_config_write(d, CONFIG_WCE_AT, &one, 1, false);
	update_cache_mode(to_blk(d));
}

static void blk_reset(struct virtio_device *d)
{
	struct virtio_blk *blk = to_blk(d);
	const uint8_t writeback = 1;

	atomic_store(&blk->resetting, true);
	block_cancel(blk->block);
	/* A completion that was about to go on: its next step is the last. */
	while (atomic_load(&blk->submitting))
		sched_yield();
	block_cancel(blk->block);
	virtio_config_write(d, CONFIG_WCE_AT, &writeback, 1, false);
}

static void blk_destroy(struct virtio_device *d)
{
	struct virtio_blk *blk = to_blk(d);
	struct block_info info;
	int rc;

	block_info(blk->block, &info);
	rc = block_close(blk->block);
	if (rc)
		log_error(virtio_log(d), "%s: the last flush failed: %s", info.path, strerror(-rc));
	if (blk->closed)
		blk->closed(blk->arg);
	virtio_fini(d);
	free(blk);
}

static const struct virtio_ops blk_ops = {
	.id = VIRTIO_ID_BLOCK,
	.name = "virtio-blk",
	.request_size = sizeof(struct blk_request),
	.config_writable = CONFIG_WCE_AT,
	.config_writable_len = 1,
	.start = blk_start,
	.kick = blk_kick,
	.reset = blk_reset,
	.config_written = blk_config_written,
	.destroy = blk_destroy,
};

/* --- making, and what the back end reports --- */

static void fill_config(struct blk_space *s, const struct block_info *info, unsigned int queues)
{
	const uint32_t cluster = MAX(info->cluster, SECTOR);

	*s = (struct blk_space){
		.capacity = info->size >> SECTOR_SHIFT,
		.seg_max = QUEUE_SIZE - 2,
		.blk_size = SECTOR,
		.physical_block_exp = 3,	/* 4 KiB: what pages and hosts' disks have */
		.min_io_size = 8,
		.opt_io_size = cluster > 4096 ? cluster / SECTOR : 0,
		.writeback = 1,
		.num_queues = queues,
		.max_discard_sectors = SEGMENT_SECTORS,
		.max_discard_seg = SEGMENTS_MAX,
		.discard_sector_alignment = cluster / SECTOR,
		.max_write_zeroes_sectors = SEGMENT_SECTORS,
		.max_write_zeroes_seg = SEGMENTS_MAX,
		.write_zeroes_may_unmap = info->can_discard,
	};
}

static uint64_t features_of(const struct block_info *info, unsigned int queues)
{
	uint64_t f = BIT(F_SEG_MAX) | BIT(F_BLK_SIZE) | BIT(F_FLUSH) | BIT(F_TOPOLOGY) |
		     BIT(F_CONFIG_WCE);

	if (queues > 1)
		f |= BIT(F_MQ);
	if (info->read_only)
		return f | BIT(F_RO);
	if (info->can_discard)
		f |= BIT(F_DISCARD);
	if (info->can_write_zeroes)
		f |= BIT(F_WRITE_ZEROES);
	return f;
}

static void blk_stopped(void *arg, int errnum, const char *why)
{
	struct virtio_blk *blk = arg;

	if (blk->stopped)
		blk->stopped(blk->arg, errnum, why);
}

static void blk_resized(void *arg)
{
	struct virtio_blk *blk = arg;
	struct block_info info;
	uint64_t capacity;

	block_info(blk->block, &info);
	capacity = info.size >> SECTOR_SHIFT;
	virtio_config_write(&blk->virtio, 0, &capacity, sizeof(capacity), true);
}

static void blk_failed(void *arg, const char *why)
{
	struct virtio_blk *blk = arg;

	log_error(virtio_log(&blk->virtio), "%s; the guest gets I/O errors", why);
}

static const struct block_events blk_events = {
	.stopped = blk_stopped,
	.failed = blk_failed,
	.resized = blk_resized,
};

int virtio_blk_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		      const struct virtio_blk_config *c, struct err *e)
{
	struct virtio_blk *blk = calloc(1, sizeof(*blk));
	const unsigned int queues = MIN(MAX(c->queues, 1U), VIRTIO_QUEUES_MAX);
	struct virtio_setup setup = { .space = s, .log = log, .queues = queues,
				      .queue_size = QUEUE_SIZE };
	struct block_info info;
	struct blk_space config;
	int rc;

	block_info(c->block, &info);
	fill_config(&config, &info, queues);
	setup.config = &config;
	setup.config_len = sizeof(config);
	setup.features = features_of(&info, queues);
	rc = blk ? virtio_init(&blk->virtio, &blk_ops, &setup, e)
		 : err_set(e, ENOMEM, "out of memory for virtio-blk");
	if (rc) {
		block_close(c->block);
		free(blk);
		return rc;
	}
	blk->block = c->block;
	blk->stopped = c->stopped;
	blk->closed = c->closed;
	blk->arg = c->arg;
	memcpy(blk->id, info.serial, MIN(strlen(info.serial), sizeof(blk->id)));
	block_set_events(c->block, &blk_events, blk);
	*out = &blk->virtio;
	return 0;
}
