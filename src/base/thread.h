/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads that leave signals to the main loop, and a way to have every thread of the process do
 * something: what confines a process is often a thread's own in Linux.
 */
#ifndef VIREO_BASE_THREAD_H
#define VIREO_BASE_THREAD_H

#include "base/err.h"

#include <pthread.h>

/*
 * pthread_create() for a thread that takes no signal but SIGSYS, by which a sandbox speaks, and
 * the one of threads_call().  @name: at most 15 characters, or NULL.  0 or -errno.
 */
int thread_create(pthread_t *t, const char *name, void *(*run)(void *), void *arg);

/* A descriptor for threads_call(), to be had while there is a /proc; -errno. */
int threads_list(struct err *e);

/*
 * Calls @fn(@arg) in the calling thread first, then in a signal handler of every other thread;
 * @fn returns 0 or an errno.  The threads must have been made by thread_create(), and no
 * thread makes another meanwhile.  -errno of the first that failed.
 */
int threads_call(int list, int (*fn)(void *arg), void *arg, struct err *e);

#endif
