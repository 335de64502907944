/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A learning switch: ports that are network back ends, frames from one to another, whole, with
 * their offload headers, so that between two VMs nothing is summed or cut.
 *
 * It learns which addresses are behind a port from the frames that come from there.  An
 * address stays with its port until the port goes or was silent under it for five minutes, so
 * that no VM takes another's.  What is addressed to nobody known goes to all.
 *
 * A port that does not take its frames loses them; it slows nobody down.  Bounded are the
 * ports, and the addresses of each.
 *
 * All on one loop's thread.
 */
#ifndef VIREO_BACKEND_SWITCH_H
#define VIREO_BACKEND_SWITCH_H

#include "backend/net.h"

#define SWITCH_PORTS_MAX	64U
#define SWITCH_MACS_PER_PORT	64U

struct net_switch;

int net_switch_create(struct net_switch **out, struct loop *loop, struct log *log,
		      struct err *e);
void net_switch_destroy(struct net_switch *s);
/*
 * Plugs @b in, which is the switch's from now on, also after a failure.  An uplink stays when
 * its link goes down; any other port is unplugged then.  -ENOSPC: all ports are taken.
 */
int net_switch_plug(struct net_switch *s, struct net_backend *b, bool uplink, struct err *e);
/* How many ports are in use, uplinks not counted. */
unsigned int net_switch_ports(const struct net_switch *s);

#endif
