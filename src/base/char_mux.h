/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One character backend for several front ends: all of them write to it, one of them gets its
 * input.  Ctrl-A (or another control character) and a letter are for the multiplexer: c gives the
 * input to the next front end, b sends a break, x ends what the owner ends, h tells these, Ctrl-A
 * is sent itself.
 */
#ifndef VIREO_BASE_CHAR_MUX_H
#define VIREO_BASE_CHAR_MUX_H

#include "base/char_backend.h"
#include "base/err.h"
#include "base/loop.h"

#define CHAR_MUX_PORTS	8U

struct char_mux;

/*
 * On @backend, which is taken over, also after a failure.  @key: the letter, a to z, that is its
 * own together with Ctrl.  @end is called for x, on the loop's thread.  The multiplexer goes with
 * the last of its ports, after char_mux_release().
 */
int char_mux_create(struct char_mux **out, struct loop *l, struct char_backend *backend, char key,
		    void (*end)(void *arg), void *arg, struct err *e);
/*
 * A backend for one front end.  The first one has the input at first.  @visited: it is told that
 * somebody is there only while it has the input (a monitor, which then greets).
 */
int char_mux_port(struct char_mux *m, struct char_backend **out, bool visited, struct err *e);
/* There will be no more ports. */
void char_mux_release(struct char_mux *m);

#endif
