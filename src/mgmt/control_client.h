/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Asking a running VM at its control socket (control.h): one that is kept in a directory
 * (machine.h), or one that runs with --name.  A name is one VM's, whichever it is.
 */
#ifndef VIREO_MGMT_CONTROL_CLIENT_H
#define VIREO_MGMT_CONTROL_CLIENT_H

#include "base/err.h"

#include <jansson.h>
#include <stdio.h>
#include <sys/types.h>

/* -ENOENT: no VM @name runs. */
int control_connect(FILE **out, const char *name, struct err *e);
/* The process that serves it; 0: it cannot be told. */
pid_t control_pid(FILE *vm);
/*
 * Sends a request and returns what the answer's "return" holds, a new reference.  Takes
 * @arguments (NULL: none).  NULL and @e: -EPIPE if the VM has gone, -ETIMEDOUT if it says
 * nothing, -EINVAL with the VM's own words if it refuses.
 */
json_t *control_ask(FILE *vm, const char *command, json_t *arguments, struct err *e);
/* All that in one, without an answer of interest. */
int control_tell(const char *name, const char *command, struct err *e);

#endif
