/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text after --net: a kind of network, its own options, and the card's (mac=, mtu=, id=,
 * netdev=).
 */
#ifndef VIREO_MGMT_NET_SPEC_H
#define VIREO_MGMT_NET_SPEC_H

#include "backend/net.h"

#define NET_SPEC_MAX	4096U

enum net_kind { NET_NONE, NET_USER, NET_TAP, NET_SWITCH, NET_SOCKET };

struct net_spec {
	enum net_kind kind;
	char text[NET_SPEC_MAX];	/* the network's own options, without its kind */
	uint8_t mac[NET_MAC_LEN];
	bool mac_given;
	uint16_t mtu;			/* 0: not given */
	char id[64], netdev[64];	/* what QMP calls the card, and the network; or "" */
};

/* Checks the network's own options too. */
int net_spec_parse(struct net_spec *s, const char *text, struct err *e);
/* Makes what @s says; not for NET_NONE. */
int net_spec_open(struct net_backend **out, const struct net_spec *s, struct log *log,
		  struct err *e);

#endif
