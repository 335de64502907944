/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Named switches of one user: a process each, which VMs reach at a Unix socket.
 *
 * The socket is $XDG_RUNTIME_DIR/vireo/switch-NAME (else ~/.local/share/vireo/switch-NAME), of
 * mode 0600 in a folder of mode 0700.  Beside it, switch-NAME.lock is locked by the process
 * that serves, for its life, so that there is never a second; a socket that a killed process
 * left is replaced by the next.
 *
 * The first VM that names a switch starts it; it ends when the last has gone.  Should it die
 * meanwhile, each VM's link goes down, and the first that notices starts it again.
 */
#ifndef VIREO_BACKEND_SWITCH_SOCKET_H
#define VIREO_BACKEND_SWITCH_SOCKET_H

#include "backend/net.h"
#include "backend/switch.h"

/* "a-z, 0-9 and so on": -EINVAL with a sentence if @name is no switch's name. */
int switch_name_check(const char *name, struct err *e);

/* A VM's connection to switch @name; @program as of spawn(). */
int net_switch_connect(struct net_backend **out, const char *program, const char *name,
		       struct log *log, struct err *e);

/* Returns once switch @name listens, or another process is about to serve it. */
int net_switch_start(const char *program, const char *name, struct err *e);

struct switch_server;

/*
 * Takes the name and listens, on @loop.  -EBUSY: another process serves it.  @unused is called
 * once no VM has been connected for a while (NULL: it stays).
 */
int switch_server_create(struct switch_server **out, struct net_switch *sw, const char *name,
			 struct loop *loop, void (*unused)(void *arg), void *arg,
			 struct err *e);
/* Leaves the process nothing but this switch's work, for the rest of its life. */
int switch_server_confine(const struct switch_server *s, struct err *e);
void switch_server_destroy(struct switch_server *s);

#endif
