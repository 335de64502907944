/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of spooling: a queue of finished print jobs, which several VMs put theirs into
 * and which come out whole, one after the other, in the order in which they were finished.
 *
 * A queue is a folder; everything in it changes by rename(), under the lock of its file "lock":
 *
 *	00000017.NAME.job	a finished job of VM NAME
 *	00000018.NAME.held	the same, not to be put out
 *	incoming.PID.N.NAME	what a VM is still printing; locked by it
 *	next			the number of the next job
 *	destination		where jobs go: "dir /path" or "lp printer"; without it they stay
 *
 * A VM that dies leaves its unfinished job, which becomes a held one.
 */
#ifndef VIREO_BACKEND_SPOOL_QUEUE_H
#define VIREO_BACKEND_SPOOL_QUEUE_H

#include "base/err.h"
#include "base/types.h"

#include <limits.h>

#define SPOOL_NAME_MAX	32U	/* of a VM or a queue */

struct spool_job {
	unsigned int number;		/* 0: still printing */
	bool held;
	char vm[SPOOL_NAME_MAX + 1];
	char file[NAME_MAX + 1];	/* in the queue's folder */
	uint64_t size;
	int64_t time;			/* last written, seconds since 1970 */
};

/* a-z, 0-9, - and _: -EINVAL with a sentence if @name is none. */
int spool_name_check(const char *name, struct err *e);
/* The path of the folder of queue @name. */
int spool_queue_path(char path[PATH_MAX], const char *name, struct err *e);
/* All queues' names in order, malloc'ed as is each; returns how many, -errno. */
int spool_queue_names(char ***names, struct err *e);
/* That folder, made if @make; returns a descriptor.  -ENOENT. */
int spool_queue_open(const char *name, bool make, struct err *e);
/* Puts the finished file @incoming into the queue as a job of @vm. */
int spool_queue_add(int queue, const char *incoming, const char *vm);
/* Takes over what dead VMs left, then puts out every job that is not held.  May take long. */
int spool_queue_drain(int queue, struct err *e);
/* All jobs in order, malloc'ed; returns how many, -errno. */
int spool_queue_list(int queue, struct spool_job **jobs);

enum spool_action { SPOOL_REMOVE, SPOOL_HOLD, SPOOL_RELEASE };
/* -ENOENT: there is no such job. */
int spool_queue_change(int queue, unsigned int number, enum spool_action what);
/* @kind "dir" or "lp". */
int spool_queue_set_destination(int queue, const char *kind, const char *value, struct err *e);

#endif
