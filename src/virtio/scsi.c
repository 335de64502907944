// SPDX-License-Identifier: Apache-2.0
/*
 * The SCSI host adapter.
 *
 * Source: VIRTIO 1.2, "SCSI Host Device".
 *
 * The device's thread takes requests from the queues; the disks' workers complete those that
 * read and write.  What a command means is in scsi_command.c.  A request that has no room for a
 * response breaks the device, as in virtio-blk.  Aborting one request of a disk aborts all of
 * it: it has no tags that it could tell apart.
 * Not modelled: hot plug (what is there at power-on is there), asynchronous notifications but
 * the change of a disk's size, protection information, data in both directions.
 */
#include "virtio/scsi.h"
#include "virtio/scsi_priv.h"

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define F_CHANGE	2

#define QUEUE_CONTROL	0U
#define QUEUE_EVENT	1U
#define QUEUE_REQUEST	2U
#define QUEUE_SIZE	256U

/* Responses. */
#define R_OK		0U
#define R_OVERRUN	1U
#define R_ABORTED	2U
#define R_BAD_TARGET	3U
#define R_FAILURE	9U
#define R_REJECTED	11U
#define R_BAD_LUN	12U

/* Requests of the control queue. */
#define T_TMF		0U
#define T_AN_QUERY	1U
#define T_AN_SUBSCRIBE	2U
#define TMF_ABORT_TASK	0U
#define TMF_ABORT_TASK_SET 1U
#define TMF_CLEAR_TASK_SET 3U
#define TMF_NEXUS_RESET	4U
#define TMF_UNIT_RESET	5U
#define TMF_QUERY_TASK	6U
#define TMF_QUERY_TASK_SET 7U

#define EVENT_PARAM_CHANGE 3U
#define EVENT_MISSED	BIT(31)
#define REASON_CAPACITY	0x092aU		/* CAPACITY DATA HAS CHANGED: qualifier, code */

#define SENSE_SIZE_AT	20
#define SENSE_SIZE	96U
#define SIZE_MAX_OF	255U		/* of sense and command, which the driver may choose */

struct scsi_space {
	uint32_t num_queues, seg_max, max_sectors, cmd_per_lun, event_info_size;
	uint32_t sense_size, cdb_size;
	uint16_t max_channel, max_target;
	uint32_t max_lun;
} __attribute__((packed));

struct scsi_request_head {
	uint8_t lun[8];
	uint64_t id;
	uint8_t task_attr, prio, crn;
} __attribute__((packed));

struct scsi_response {
	uint32_t sense_len, residual;
	uint16_t status_qualifier;
	uint8_t status, response;
	uint8_t sense[SIZE_MAX_OF];	/* of which the driver has sense_size */
} __attribute__((packed));

#define RESPONSE_HEAD	offsetof(struct scsi_response, sense)

struct scsi_control {
	uint32_t type, subtype;
	uint8_t lun[8];
	uint64_t id;
} __attribute__((packed));

struct scsi_event {
	uint32_t event;
	uint8_t lun[8];
	uint32_t reason;
} __attribute__((packed));

struct target {
	struct virtio_scsi *scsi;	/* NULL: there is no disk */
	struct virtio_scsi_disk disk;
	_Atomic bool resized;		/* ... which the driver has not been told */
};

struct virtio_scsi {
	struct virtio_device virtio;
	struct target target[VIRTIO_SCSI_TARGETS];
	unsigned int count;
	uint32_t sense_size, cdb_size;
	bool missed;			/* an event, for want of a buffer */
	struct loop_work event_work;
	_Atomic bool resetting;		/* nothing is submitted any more */
	_Atomic unsigned int submitting; /* threads between the look at it and the submission */
};

struct scsi_request {
	struct block_request block;
	struct virtio_scsi *scsi;
	struct target *target;
	struct virtq_chain *chain;
	/* The chain's buffers for the response, as they were before the data was cut out of them. */
	struct iovec *in, cut;
	unsigned int in_count, cut_at;
	size_t in_len, data_len;	/* data_len: what the driver has buffers for */
	size_t moved;			/* ... and what of it is used where all goes well */
	bool to_driver;
	struct scsi_action *action;	/* with pieces, malloc'ed; or NULL */
	unsigned int piece;
	bool through, flushing;
};

static struct virtio_scsi *to_scsi(struct virtio_device *d)
{
	return container_of(d, struct virtio_scsi, virtio);
}

/* --- responses, on any thread --- */

static void respond(struct scsi_request *r, struct scsi_response *s, size_t moved)
{
	struct virtq_chain *c = r->chain;
	struct virtq *q = c->q;

	free(r->action);
	c->in = r->in;
	c->in_count = r->in_count;
	c->in_len = r->in_len;
	if (r->cut_at < r->in_count)
		c->in[r->cut_at] = r->cut;
	s->residual = r->data_len - moved;
	chain_write(c, 0, s, RESPONSE_HEAD + r->scsi->sense_size);
	virtq_push(c, RESPONSE_HEAD + r->scsi->sense_size + (r->to_driver ? moved : 0));
	virtq_notify(q);
}

static void respond_action(struct scsi_request *r, const struct scsi_action *a, size_t moved)
{
	struct scsi_response s = { .response = R_OK, .status = a->status };

	if (a->status == SCSI_CHECK_CONDITION) {
		s.sense_len = MIN(SCSI_SENSE_SIZE, r->scsi->sense_size);
		memcpy(s.sense, a->sense, SCSI_SENSE_SIZE);
	}
	respond(r, &s, moved);
}

static void respond_code(struct scsi_request *r, uint8_t code)
{
	struct scsi_response s = { .response = code };

	respond(r, &s, 0);
}

/* An operation of the block's failed. */
static void respond_error(struct scsi_request *r, int rc)
{
	const bool read = r->block.op == BLOCK_READ;
	struct scsi_action a;

	if (rc == -ECANCELED) {
		respond_code(r, R_ABORTED);
		return;
	}
	if (rc == -EROFS)
		scsi_refuse(&a, SENSE_DATA_PROTECT, ASC_WRITE_PROTECTED);
	else if (rc == -ENOSPC)
		scsi_refuse(&a, SENSE_DATA_PROTECT, ASC_SPACE_ALLOCATION);
	else if (rc == -EINVAL)		/* it has shrunk meanwhile */
		scsi_refuse(&a, SENSE_ILLEGAL_REQUEST, ASC_LBA_OUT_OF_RANGE);
	else
		scsi_refuse(&a, SENSE_MEDIUM_ERROR, read ? ASC_READ_ERROR : ASC_WRITE_ERROR);
	respond_action(r, &a, 0);
}

/* --- operations --- */

static void submit(struct scsi_request *r)
{
	struct virtio_scsi *scsi = r->scsi;

	/* The reset raises its flag first and looks at the count second. */
	atomic_fetch_add(&scsi->submitting, 1);
	if (atomic_load(&scsi->resetting))
		respond_code(r, R_ABORTED);
	else
		block_submit(r->target->disk.block, &r->block);
	atomic_fetch_sub(&scsi->submitting, 1);
}

static void operation_done(struct block_request *b, int rc)
{
	struct scsi_request *r = container_of(b, struct scsi_request, block);
	const struct scsi_action good = { .status = SCSI_GOOD };

	/* What cannot be discarded stays: that is allowed. */
	if (rc && !(rc == -ENOTSUP && b->op == BLOCK_DISCARD)) {
		respond_error(r, rc);
		return;
	}
	if (r->action && ++r->piece < r->action->pieces) {
		b->offset = r->action->piece[r->piece].offset;
		b->len = r->action->piece[r->piece].len;
		submit(r);
		return;
	}
	if (r->through && !r->flushing) {
		r->flushing = true;
		b->op = BLOCK_FLUSH;
		submit(r);
		return;
	}
	respond_action(r, &good, r->moved);
}

/* Remembers the buffers as they are, and leaves of them what is data. */
static void cut_response(struct scsi_request *r, size_t head)
{
	struct virtq_chain *c = r->chain;
	size_t off = head;

	r->in = c->in;
	r->in_count = c->in_count;
	r->in_len = c->in_len;
	while (r->cut_at < c->in_count && off >= c->in[r->cut_at].iov_len)
		off -= c->in[r->cut_at++].iov_len;
	if (r->cut_at < c->in_count)
		r->cut = c->in[r->cut_at];
	chain_skip_in(c, head);
}

static void start_transfer(struct scsi_request *r, const struct scsi_action *a)
{
	struct virtq_chain *c = r->chain;
	const bool read = a->what == SCSI_READ;

	if (a->len > (read ? c->in_len : c->out_len)) {
		respond_code(r, R_OVERRUN);
		return;
	}
	if (!a->len) {
		respond_action(r, a, 0);
		return;
	}
	if (read)
		chain_trim_in(c, a->len);
	else
		chain_trim_out(c, a->len);
	r->block.op = read ? BLOCK_READ : BLOCK_WRITE;
	r->block.iov = read ? c->in : c->out;
	r->block.iov_count = read ? c->in_count : c->out_count;
	r->through = a->through;
	r->moved = a->len;
	submit(r);
}

static void start_unmap(struct scsi_request *r, const struct scsi_action *a)
{
	r->action = malloc(sizeof(*r->action));
	if (!r->action) {
		respond_code(r, R_FAILURE);
		return;
	}
	*r->action = *a;
	r->block.op = BLOCK_DISCARD;
	r->block.offset = a->piece[0].offset;
	r->block.len = a->piece[0].len;
	submit(r);
}

static void start(struct scsi_request *r, const struct scsi_action *a)
{
	r->block.done = operation_done;
	r->block.offset = a->offset;
	r->block.len = a->len;
	r->moved = r->data_len;
	switch (a->what) {
	case SCSI_ANSWER:
		respond_action(r, a, chain_write(r->chain, 0, a->answer, a->answer_len));
		break;
	case SCSI_READ:
	case SCSI_WRITE:
		start_transfer(r, a);
		break;
	case SCSI_FLUSH:
		r->block.op = BLOCK_FLUSH;
		submit(r);
		break;
	case SCSI_ZERO:
		r->block.op = BLOCK_WRITE_ZEROES;
		r->block.unmap = a->unmap;
		submit(r);
		break;
	case SCSI_UNMAP:
		start_unmap(r, a);
		break;
	}
}

/* --- requests, on the device's thread --- */

/*
 * The target that @lun names, NULL: none; *unit is the number behind it.  The well-known unit
 * that lists the others is any target's.
 */
static struct target *find_target(struct virtio_scsi *scsi, const uint8_t *lun, unsigned int *unit)
{
	struct target *t = &scsi->target[lun[1] % VIRTIO_SCSI_TARGETS];

	*unit = (lun[2] & 0x3f) << 8 | lun[3];
	if (lun[0] != 1 || lun[1] >= VIRTIO_SCSI_TARGETS || !t->scsi)
		return NULL;
	return t;
}

static void run_command(struct scsi_request *r, const uint8_t *lun, const uint8_t *cdb)
{
	uint8_t param[SCSI_PARAMETERS_MAX];
	struct scsi_action a;
	struct block_info info;
	unsigned int unit;
	size_t n;

	r->target = find_target(r->scsi, lun, &unit);
	if (!r->target) {
		respond_code(r, R_BAD_TARGET);
		return;
	}
	n = chain_read(r->chain, 0, param, MIN(scsi_parameters(cdb), sizeof(param)));
	block_info(r->target->disk.block, &info);
	scsi_command(&a, unit ? NULL : &info, cdb, param, n);
	start(r, &a);
}

/* False: neither a command nor a place for the response. */
static bool take_request(struct virtio_scsi *scsi, struct virtq_chain *c)
{
	const size_t head = sizeof(struct scsi_request_head) + scsi->cdb_size;
	struct scsi_request *r = c->request;
	uint8_t cdb[SCSI_CDB_SIZE] = { 0 };
	struct scsi_request_head h;

	if (c->out_len < head || c->in_len < RESPONSE_HEAD + scsi->sense_size)
		return false;
	chain_read(c, 0, &h, sizeof(h));
	chain_read(c, sizeof(h), cdb, MIN(scsi->cdb_size, sizeof(cdb)));
	r->scsi = scsi;
	r->chain = c;
	cut_response(r, RESPONSE_HEAD + scsi->sense_size);
	chain_skip_out(c, head);
	r->to_driver = c->in_len;
	r->data_len = r->to_driver ? c->in_len : c->out_len;
	if (r->to_driver && c->out_len)
		respond_code(r, R_FAILURE);	/* both directions were not offered */
	else
		run_command(r, h.lun, cdb);
	return true;
}

/* --- the control queue --- */

static uint8_t manage_task(struct virtio_scsi *scsi, const struct scsi_control *h)
{
	unsigned int unit;
	struct target *t = find_target(scsi, h->lun, &unit);

	if (!t)
		return R_BAD_TARGET;
	if (unit && h->subtype != TMF_NEXUS_RESET)
		return R_BAD_LUN;
	switch (h->subtype) {
	case TMF_ABORT_TASK:
	case TMF_ABORT_TASK_SET:
	case TMF_CLEAR_TASK_SET:
	case TMF_NEXUS_RESET:
	case TMF_UNIT_RESET:
		block_cancel(t->disk.block);
		return R_OK;
	case TMF_QUERY_TASK:
	case TMF_QUERY_TASK_SET:
		return R_OK;			/* it is not known any more */
	default:
		return R_REJECTED;
	}
}

static bool take_control(struct virtio_scsi *scsi, struct virtq_chain *c)
{
	const uint8_t no_events[5] = { 0 };	/* which would come; then the response */
	struct scsi_control h = { 0 };
	uint8_t response;

	if (chain_read(c, 0, &h, sizeof(h)) < sizeof(h.type) || !c->in_len)
		return false;
	if (h.type == T_AN_QUERY || h.type == T_AN_SUBSCRIBE) {
		virtq_push(c, chain_write(c, 0, no_events, sizeof(no_events)));
		return true;
	}
	response = h.type == T_TMF ? manage_task(scsi, &h) : R_FAILURE;
	virtq_push(c, chain_write(c, 0, &response, 1));
	return true;
}

/* --- events --- */

static void tell_event(struct virtio_scsi *scsi, struct target *t)
{
	struct scsi_event ev = { .event = EVENT_PARAM_CHANGE, .reason = REASON_CAPACITY };
	struct virtq *q = virtio_queue(&scsi->virtio, QUEUE_EVENT);
	struct virtq_chain *c = virtq_pop(q);

	atomic_store(&t->resized, false);
	if (!c) {
		scsi->missed = true;
		return;
	}
	if (scsi->missed)
		ev.event |= EVENT_MISSED;
	scsi->missed = false;
	ev.lun[0] = 1;
	ev.lun[1] = t - scsi->target;
	ev.lun[2] = 0x40;
	virtq_push(c, chain_write(c, 0, &ev, sizeof(ev)));
	virtq_notify(q);
}

static void tell_events(void *arg)
{
	struct virtio_scsi *scsi = arg;

	if (!virtio_running(&scsi->virtio) || !virtio_has(&scsi->virtio, F_CHANGE))
		return;
	for (unsigned int i = 0; i < scsi->count; i++)
		if (atomic_load(&scsi->target[i].resized))
			tell_event(scsi, &scsi->target[i]);
}

/* --- device --- */

static void scsi_kick(struct virtio_device *d, struct virtq *q)
{
	struct virtio_scsi *scsi = to_scsi(d);
	struct virtq_chain *c;
	bool good;

	if (virtq_index(q) == QUEUE_EVENT)
		return;			/* its buffers wait until there is something to tell */
	while ((c = virtq_pop(q))) {
		good = virtq_index(q) == QUEUE_CONTROL ? take_control(scsi, c) : take_request(scsi, c);
		if (good)
			continue;
		virtq_forget(c);
		virtio_broken(d, "queue %u: a request without a command or room for a response",
			      virtq_index(q));
	}
	if (virtq_index(q) == QUEUE_CONTROL)
		virtq_notify(q);
}

/* The driver's choice of sizes; what cannot be reads as what it is. */
static void scsi_config_written(struct virtio_device *d)
{
	struct virtio_scsi *scsi = to_scsi(d);
	uint32_t size[2];

	virtio_config_read(d, SENSE_SIZE_AT, size, sizeof(size));
	if (!virtio_running(d)) {
		if (size[0] >= SCSI_SENSE_SIZE && size[0] <= SIZE_MAX_OF)
			scsi->sense_size = size[0];
		if (size[1] >= 16 && size[1] <= SIZE_MAX_OF)
			scsi->cdb_size = size[1];
	}
	size[0] = scsi->sense_size;
	size[1] = scsi->cdb_size;
	virtio_config_write(d, SENSE_SIZE_AT, size, sizeof(size), false);
}

static void scsi_start(struct virtio_device *d)
{
	atomic_store(&to_scsi(d)->resetting, false);
}

static void cancel_all(struct virtio_scsi *scsi)
{
	for (unsigned int i = 0; i < scsi->count; i++)
		block_cancel(scsi->target[i].disk.block);
}

static void scsi_reset(struct virtio_device *d)
{
	struct virtio_scsi *scsi = to_scsi(d);
	const uint32_t size[2] = { SENSE_SIZE, SCSI_CDB_SIZE };

	atomic_store(&scsi->resetting, true);
	cancel_all(scsi);
	/* A completion that was about to go on: its next step is the last. */
	while (atomic_load(&scsi->submitting))
		sched_yield();
	cancel_all(scsi);
	scsi->missed = false;
	scsi->sense_size = SENSE_SIZE;
	scsi->cdb_size = SCSI_CDB_SIZE;
	virtio_config_write(d, SENSE_SIZE_AT, size, sizeof(size), false);
}

static void close_disk(struct virtio_scsi *scsi, const struct virtio_scsi_disk *disk)
{
	struct block_info info;
	int rc;

	block_info(disk->block, &info);
	rc = block_close(disk->block);
	if (rc)
		log_error(virtio_log(&scsi->virtio), "%s: the last flush failed: %s", info.path,
			  strerror(-rc));
	if (disk->closed)
		disk->closed(disk->arg);
}

static void scsi_destroy(struct virtio_device *d)
{
	struct virtio_scsi *scsi = to_scsi(d);

	for (unsigned int i = 0; i < scsi->count; i++)
		close_disk(scsi, &scsi->target[i].disk);
	loop_unpost(virtio_loop(d), &scsi->event_work);
	virtio_fini(d);
	free(scsi);
}

void virtio_scsi_free(struct virtio_device *d)
{
	scsi_destroy(d);
}

static const struct virtio_ops scsi_ops = {
	.id = VIRTIO_ID_SCSI,
	.name = "virtio-scsi",
	.request_size = sizeof(struct scsi_request),
	.config_writable = SENSE_SIZE_AT,
	.config_writable_len = 8,
	.start = scsi_start,
	.kick = scsi_kick,
	.reset = scsi_reset,
	.config_written = scsi_config_written,
	.destroy = scsi_destroy,
};

/* --- making, and what the disks report --- */

static void disk_stopped(void *arg, int errnum, const char *why)
{
	const struct target *t = arg;

	if (t->disk.stopped)
		t->disk.stopped(t->disk.arg, errnum, why);
}

static void disk_resized(void *arg)
{
	struct target *t = arg;

	atomic_store(&t->resized, true);
	loop_post(virtio_loop(&t->scsi->virtio), &t->scsi->event_work);
}

static void disk_failed(void *arg, const char *why)
{
	const struct target *t = arg;

	log_error(virtio_log(&t->scsi->virtio), "%s; the guest gets I/O errors", why);
}

static const struct block_events disk_events = {
	.stopped = disk_stopped,
	.failed = disk_failed,
	.resized = disk_resized,
};

int virtio_scsi_add(struct virtio_device *d, const struct virtio_scsi_disk *disk, struct err *e)
{
	struct virtio_scsi *scsi = to_scsi(d);
	struct target *t = &scsi->target[scsi->count];

	if (scsi->count == VIRTIO_SCSI_TARGETS) {
		block_close(disk->block);
		return err_set(e, E2BIG, "an adapter has at most %u SCSI disks", VIRTIO_SCSI_TARGETS);
	}
	t->scsi = scsi;
	t->disk = *disk;
	block_set_events(disk->block, &disk_events, t);
	return scsi->count++;
}

int virtio_scsi_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
		       unsigned int queues, struct err *e)
{
	const unsigned int requests = MIN(MAX(queues, 1U), VIRTIO_QUEUES_MAX - QUEUE_REQUEST);
	const struct scsi_space config = {
		.num_queues = requests, .seg_max = QUEUE_SIZE - 2, .max_sectors = 0xffff,
		.cmd_per_lun = 128, .event_info_size = sizeof(struct scsi_event),
		.sense_size = SENSE_SIZE, .cdb_size = SCSI_CDB_SIZE,
		.max_target = VIRTIO_SCSI_TARGETS - 1,
	};
	const struct virtio_setup setup = {
		.space = s, .log = log, .features = BIT(F_CHANGE),
		.queues = QUEUE_REQUEST + requests, .queue_size = QUEUE_SIZE,
		.config = &config, .config_len = sizeof(config),
	};
	struct virtio_scsi *scsi = calloc(1, sizeof(*scsi));
	int rc;

	rc = scsi ? virtio_init(&scsi->virtio, &scsi_ops, &setup, e)
		  : err_set(e, ENOMEM, "out of memory for virtio-scsi");
	if (rc) {
		free(scsi);
		return rc;
	}
	scsi->sense_size = SENSE_SIZE;
	scsi->cdb_size = SCSI_CDB_SIZE;
	scsi->event_work = (struct loop_work){ .run = tell_events, .arg = scsi };
	*out = &scsi->virtio;
	return 0;
}
