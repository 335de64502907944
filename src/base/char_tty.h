/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character backend on a serial device of the host, which is ours alone while we have it and
 * takes the speed and format that the front end's registers say; or on a new pseudo-terminal.
 */
#ifndef VIREO_BASE_CHAR_TTY_H
#define VIREO_BASE_CHAR_TTY_H

#include "base/char_backend.h"
#include "base/loop.h"

/* -EBUSY: somebody has it; -ENOTTY: it is no serial device. */
int char_tty_create(struct char_backend **out, struct loop *l, const char *path, struct err *e);
/* *name is the other end's, valid as long as the backend.  Output that nobody reads is lost. */
int char_pty_create(struct char_backend **out, struct loop *l, const char **name, struct err *e);

#endif
