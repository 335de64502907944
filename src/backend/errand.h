/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errands: what a VM's process must not do itself, since it may run nothing and open little once it
 * is confined.  A helper process, started before, does one thing, named when it is started, as
 * often as it is asked; the VM can choose neither what nor with what.
 */
#ifndef VIREO_BACKEND_ERRAND_H
#define VIREO_BACKEND_ERRAND_H

#include "base/err.h"

struct errand;

/* Starts "PROGRAM errand KIND NAME"; @program as of spawn(). */
int errand_create(struct errand **out, const char *program, const char *kind, const char *name,
		  struct err *e);
/* Has it done, and waits; its error.  By one thread at a time. */
int errand_run(struct errand *x, struct err *e);
void errand_destroy(struct errand *x);		/* NULL: nothing */

/* The helper's life on the socket @fd: does @run for each request, until the VM is gone. */
int errand_serve(int fd, int (*run)(void *arg, struct err *e), void *arg);

#endif
