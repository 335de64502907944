/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A TAP interface: frames go to the host's kernel, which may bridge or route them.
 */
#ifndef VIREO_BACKEND_NET_TAP_H
#define VIREO_BACKEND_NET_TAP_H

#include "backend/net.h"

#include <net/if.h>

struct tap_config {
	char ifname[IFNAMSIZ];	/* "": fd is given */
	int fd;			/* open /dev/net/tun with an interface; -1: ifname is given */
};

/* Reads "ifname=tap0" or "fd=5". */
int tap_config_parse(struct tap_config *c, const char *text, struct err *e);
/* Opens the interface, or takes c->fd over where it succeeds. */
int net_tap_create(struct net_backend **out, const struct tap_config *c, struct log *log,
		   struct err *e);

#endif
