/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-balloon: the guest lends memory to the host, which really gets it.
 */
#ifndef VIREO_VIRTIO_BALLOON_H
#define VIREO_VIRTIO_BALLOON_H

#include "virtio/virtio.h"

struct balloon_config {
	uint64_t target;	/* bytes to take at first */
	bool deflate_on_oom;	/* the guest may take them back before it runs out of memory */
	bool reporting;		/* it tells which pages are free, without a balloon */
};

/* What the guest said of itself, in the order of the specification's tags. */
enum balloon_stat {
	BALLOON_SWAP_IN, BALLOON_SWAP_OUT, BALLOON_MAJOR_FAULTS, BALLOON_MINOR_FAULTS,
	BALLOON_FREE, BALLOON_TOTAL, BALLOON_AVAILABLE, BALLOON_CACHES, BALLOON_HUGE_ALLOCATIONS,
	BALLOON_HUGE_FAILURES, BALLOON_STATS
};

struct balloon_state {
	uint64_t target, actual;	/* bytes: wanted, and in the balloon as the guest says */
	uint64_t given_back;		/* bytes given to the host so far, in all ways */
	uint64_t stat[BALLOON_STATS];	/* UINT64_MAX: not told (yet) */
	uint64_t updates;		/* how often they were told */
};

int virtio_balloon_create(struct virtio_device **out, struct gpa_space *s, struct log *log,
			  const struct balloon_config *c, struct err *e);

/* The guest should lend @bytes (rounded to pages); it takes its time.  [any] */
void balloon_set_target(struct virtio_device *d, uint64_t bytes);
/* What is known now; the guest is asked for new statistics, which come later.  [any] */
void balloon_state(struct virtio_device *d, struct balloon_state *state);

#endif
