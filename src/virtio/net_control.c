// SPDX-License-Identifier: Apache-2.0
/*
 * The network card's control queue: what the driver wants to receive, its address,
 * the announcement's acknowledgement.
 *
 * Source: VIRTIO 1.2, "Network Device", "Control Virtqueue".
 */
#include "virtio/net_priv.h"

#include <string.h>

#define CLASS_RX	0U
#define CLASS_MAC	1U
#define CLASS_VLAN	2U
#define CLASS_ANNOUNCE	3U

#define ACK_OK		0U
#define ACK_ERR		1U

void net_filter_reset(struct virtio_net *n)
{
	n->filter = (struct net_filter){ .promisc = true };
	memcpy(n->filter.mac, n->given_mac, NET_MAC_LEN);
}

/* --- commands; each returns whether it was understood --- */

static bool set_mode(struct net_filter *f, uint8_t command, bool on)
{
	bool *const mode[] = {
		&f->promisc, &f->all_multi, &f->all_uni, &f->no_multi, &f->no_uni,
		&f->no_broadcast,
	};

	if (command >= ARRAY_SIZE(mode))
		return false;
	*mode[command] = on;
	return true;
}

/* One table of addresses at *@at; what does not fit our table only widens the filter. */
static bool read_table(const struct virtq_chain *c, size_t *at, uint8_t table[][NET_MAC_LEN],
		       unsigned int *count, bool *overflow)
{
	uint32_t n;

	if (chain_read(c, *at, &n, sizeof(n)) < sizeof(n))
		return false;
	*at += sizeof(n);
	if (n > (c->out_len - *at) / NET_MAC_LEN)
		return false;
	*overflow = n > NET_MACS_MAX;
	*count = *overflow ? 0 : n;
	chain_read(c, *at, table, *count * NET_MAC_LEN);
	*at += (size_t)n * NET_MAC_LEN;
	return true;
}

static bool set_tables(struct net_filter *f, const struct virtq_chain *c)
{
	struct net_filter new = *f;
	size_t at = 2;

	if (!read_table(c, &at, new.uni, &new.uni_count, &new.uni_overflow) ||
	    !read_table(c, &at, new.multi, &new.multi_count, &new.multi_overflow))
		return false;
	*f = new;
	return true;
}

static bool set_address(struct virtio_net *n, const struct virtq_chain *c)
{
	uint8_t mac[NET_MAC_LEN];

	if (chain_read(c, 2, mac, sizeof(mac)) < sizeof(mac))
		return false;
	memcpy(n->filter.mac, mac, sizeof(mac));
	virtio_config_write(&n->virtio, offsetof(struct net_config, mac), mac, sizeof(mac), false);
	return true;
}

static bool set_vlan(struct net_filter *f, const struct virtq_chain *c, uint8_t command)
{
	uint16_t id;

	if (chain_read(c, 2, &id, sizeof(id)) < sizeof(id) || id >= NET_VLANS || command > 1)
		return false;
	if (command == 0)
		f->vlans[id / 64] |= BIT(id % 64);
	else
		f->vlans[id / 64] &= ~BIT(id % 64);
	return true;
}

static bool execute(struct virtio_net *n, const struct virtq_chain *c)
{
	uint8_t head[3] = { 0 };
	const size_t len = chain_read(c, 0, head, sizeof(head));

	if (len < 2)
		return false;
	switch (head[0]) {
	case CLASS_RX:
		return len == 3 && set_mode(&n->filter, head[1], head[2]);
	case CLASS_MAC:
		if (head[1] == 0)
			return set_tables(&n->filter, c);
		return head[1] == 1 && set_address(n, c);
	case CLASS_VLAN:
		return set_vlan(&n->filter, c, head[1]);
	case CLASS_ANNOUNCE:
		if (head[1] != 0)
			return false;
		net_announced(n);
		return true;
	}
	return false;
}

void net_control(struct virtio_net *n)
{
	struct virtq_chain *c;
	uint8_t ack;

	while ((c = virtq_pop(n->control))) {
		ack = execute(n, c) ? ACK_OK : ACK_ERR;
		virtq_push(c, chain_write(c, 0, &ack, 1));
	}
	virtq_notify(n->control);
}

/* --- the filter --- */

static bool in_table(const uint8_t table[][NET_MAC_LEN], unsigned int count, const uint8_t *mac)
{
	for (unsigned int i = 0; i < count; i++)
		if (!memcmp(table[i], mac, NET_MAC_LEN))
			return true;
	return false;
}

static bool vlan_passes(const struct virtio_net *n, const uint8_t *frame, size_t len)
{
	unsigned int id;

	if (len < 16 || frame[12] != 0x81 || frame[13] != 0)
		return true;
	id = (frame[14] & 15) << 8 | frame[15];
	return n->filter.vlans[id / 64] & BIT(id % 64);
}

bool net_filter_pass(const struct virtio_net *n, const uint8_t *frame, size_t len)
{
	static const uint8_t broadcast[NET_MAC_LEN] = { 255, 255, 255, 255, 255, 255 };
	const struct net_filter *f = &n->filter;

	if (f->promisc)
		return true;
	if (n->vlan_filter && !vlan_passes(n, frame, len))
		return false;
	if (!memcmp(frame, broadcast, NET_MAC_LEN))
		return !f->no_broadcast;
	if (frame[0] & 1)
		return !f->no_multi && (f->all_multi || f->multi_overflow ||
					in_table(f->multi, f->multi_count, frame));
	return !f->no_uni && (f->all_uni || f->uni_overflow ||
			      !memcmp(frame, f->mac, NET_MAC_LEN) ||
			      in_table(f->uni, f->uni_count, frame));
}
