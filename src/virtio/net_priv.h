/* SPDX-License-Identifier: Apache-2.0 */
/* Within the network card; for its files only. */
#ifndef VIREO_VIRTIO_NET_PRIV_H
#define VIREO_VIRTIO_NET_PRIV_H

#include "backend/net.h"
#include "virtio/net.h"

/* Feature bits: "Network Device", "Feature bits" */
#define NET_F_CSUM		0
#define NET_F_GUEST_CSUM	1
#define NET_F_MTU		3
#define NET_F_MAC		5
#define NET_F_GUEST_TSO4	7
#define NET_F_GUEST_TSO6	8
#define NET_F_GUEST_ECN		9
#define NET_F_HOST_TSO4		11
#define NET_F_HOST_TSO6		12
#define NET_F_HOST_ECN		13
#define NET_F_MRG_RXBUF		15
#define NET_F_STATUS		16
#define NET_F_CTRL_VQ		17
#define NET_F_CTRL_RX		18
#define NET_F_CTRL_VLAN		19
#define NET_F_CTRL_RX_EXTRA	20
#define NET_F_GUEST_ANNOUNCE	21
#define NET_F_CTRL_MAC_ADDR	23

#define NET_S_LINK_UP		1U
#define NET_S_ANNOUNCE		2U

#define NET_MACS_MAX		64U	/* of the filter's table; more: all are let through */
#define NET_VLANS		4096U

/* The configuration space; little-endian. */
struct net_config {
	uint8_t mac[NET_MAC_LEN];
	uint16_t status;
	uint16_t pairs;
	uint16_t mtu;
};

/* What the driver wants to receive; at first everything. */
struct net_filter {
	uint8_t mac[NET_MAC_LEN];
	bool promisc, all_multi, all_uni, no_multi, no_uni, no_broadcast;
	bool uni_overflow, multi_overflow;
	unsigned int uni_count, multi_count;
	uint8_t uni[NET_MACS_MAX][NET_MAC_LEN], multi[NET_MACS_MAX][NET_MAC_LEN];
	uint64_t vlans[NET_VLANS / 64];
};

/* (i) constant; the rest is the device's thread's, but for the counts, which anybody reads. */
struct virtio_net {
	struct virtio_device virtio;
	struct net_backend *backend;
	struct log *log;
	struct virtq *rx, *tx, *control;
	uint8_t given_mac[NET_MAC_LEN];
	uint16_t status;
	bool running;		/* between start and reset */
	bool blocked;		/* the back end took no more frames to send */
	bool starved;		/* the driver has no buffers for frames that came */
	bool mergeable;		/* agreed: a frame may take several buffers */
	bool vlan_filter;	/* agreed */
	struct net_filter filter;
	_Atomic uint64_t received_frames, received_bytes, sent_frames, sent_bytes;
	void (*closed)(void *arg);	/* (i) or NULL */
	void *closed_arg;		/* (i) */
	uint8_t segment[NET_FRAME_MAX];
};

/* --- net_rx.c --- */

void net_rx_start(struct virtio_net *n);
unsigned int net_receive(void *dev, struct net_in *frames, unsigned int count);

/* --- net_control.c --- */

void net_control(struct virtio_net *n);
void net_filter_reset(struct virtio_net *n);
/* Does the driver want this frame? */
bool net_filter_pass(const struct virtio_net *n, const uint8_t *frame, size_t len);

/* --- net.c --- */

void net_announced(struct virtio_net *n);

#endif
