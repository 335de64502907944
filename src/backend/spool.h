/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A printer that spools: what a guest prints is gathered in a job of its own, and goes into the
 * host's queue (spool_queue.h) when the job is finished.
 */
#ifndef VIREO_BACKEND_SPOOL_H
#define VIREO_BACKEND_SPOOL_H

#include "base/char_backend.h"
#include "base/log.h"
#include "base/loop.h"

struct spool_config {
	const char *vm;			/* a name as of spool_name_check(); copied */
	int queue;			/* of spool_queue_open(); taken over where it succeeds */
	unsigned int idle_ms;		/* a job ends when nothing came for so long */
	bool form_feed;			/* and after a form feed */
	struct errand *put_out;		/* puts the queue's jobs out; taken over likewise */
	struct log *log;		/* borrowed; may be NULL */
};

/* On @l's thread. */
int spool_create(struct char_backend **out, struct loop *l, const struct spool_config *c,
		 struct err *e);

#endif
