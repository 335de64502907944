// SPDX-License-Identifier: Apache-2.0
/* Networks of QEMU's command line as --net. */
#include "mgmt/qemu_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define CARD_KEYS	"id model mac macaddr name"

/* Keys that our own text has under the same name are left to it. */
static int user_text(const char *netdev, char *out, size_t size, struct err *e)
{
	static const char *const card[] = { "id=", "model=", "mac=", "macaddr=", "name=" };
	char copy[QEMU_TEXT_MAX], *rest = copy, *item;
	size_t n = snprintf(out, size, "user");

	if (snprintf(copy, sizeof(copy), "%s", netdev + strcspn(netdev, ",")) >= (int)sizeof(copy))
		return err_set(e, EINVAL, "-netdev %.40s...: the text is too long", netdev);
	while ((item = strsep(&rest, ","))) {
		bool ours = item[0];

		for (size_t i = 0; i < ARRAY_SIZE(card); i++)
			ours &= strncmp(item, card[i], strlen(card[i])) != 0;
		if (ours && n < size)
			n += snprintf(out + n, size - n, ",%s", item);
	}
	return 0;
}

static int tap_text(const char *netdev, char *out, size_t size, struct err *e)
{
	char value[256];
	int rc;

	rc = qemu_check_keys("net", netdev, CARD_KEYS " ifname fd", e);
	if (rc)
		return rc;
	if (qemu_value(netdev, "fd", value, sizeof(value)))
		snprintf(out, size, "tap,fd=%s", value);
	else if (qemu_value(netdev, "ifname", value, sizeof(value)))
		snprintf(out, size, "tap,ifname=%s", value);
	else
		return err_set(e, EINVAL, "-netdev tap: name the interface, ifname=tap0");
	return 0;
}

static int socket_text(const char *netdev, char *out, size_t size, struct err *e)
{
	static const char *const keys[] = { "listen", "connect", "mcast", "udp", "fd", "localaddr" };
	char value[256];
	size_t n = snprintf(out, size, "socket");
	int rc;

	rc = qemu_check_keys("net", netdev, CARD_KEYS " listen connect mcast udp fd localaddr", e);
	for (size_t i = 0; i < ARRAY_SIZE(keys) && !rc; i++)
		if (qemu_value(netdev, keys[i], value, sizeof(value)))
			n += snprintf(out + n, size - n, ",%s=%s", keys[i], value);
	return rc;
}

/* "unix:PATH" or "HOST:PORT" of @side's keys (addr., local., remote.); false: there are none. */
static bool address_text(const char *netdev, const char *side, char *out, size_t size)
{
	char key[64], kind[16], host[128] = "", port[32];

	snprintf(key, sizeof(key), "%s.type", side);
	if (!qemu_value(netdev, key, kind, sizeof(kind)))
		return false;
	snprintf(key, sizeof(key), "%s.path", side);
	if (!strcmp(kind, "unix") && qemu_value(netdev, key, host, sizeof(host)))
		return snprintf(out, size, "unix:%s", host) < (int)size;
	snprintf(key, sizeof(key), "%s.host", side);
	qemu_value(netdev, key, host, sizeof(host));
	snprintf(key, sizeof(key), "%s.port", side);
	return !strcmp(kind, "inet") && qemu_value(netdev, key, port, sizeof(port)) &&
	       snprintf(out, size, "%s:%s", host, port) < (int)size;
}

static int stream_text(const char *netdev, char *out, size_t size, struct err *e)
{
	char where[200], fd[16];
	int rc;

	rc = qemu_check_keys("net", netdev, "id server addr.type addr.path addr.host addr.port addr.str", e);
	if (rc)
		return rc;
	if (qemu_value(netdev, "addr.str", fd, sizeof(fd)))
		snprintf(out, size, "socket,fd=%s", fd);
	else if (address_text(netdev, "addr", where, sizeof(where)))
		snprintf(out, size, "socket,%s=%s", qemu_on(netdev, "server", false) ? "listen" : "connect",
			 where);
	else
		return err_set(e, EINVAL, "-netdev %s: addr.type is unix, inet or fd", netdev);
	return 0;
}

static int dgram_text(const char *netdev, char *out, size_t size, struct err *e)
{
	char local[200], remote[200];
	int rc;

	rc = qemu_check_keys("net", netdev, "id local.type local.host local.port remote.type remote.host "
			     "remote.port", e);
	if (rc)
		return rc;
	if (!address_text(netdev, "remote", remote, sizeof(remote)) || !strncmp(remote, "unix:", 5) ||
	    !address_text(netdev, "local", local, sizeof(local)))
		return err_set(e, EINVAL, "-netdev %s: remote and local are of type inet; a group's is -netdev "
			       "socket,mcast=", netdev);
	snprintf(out, size, "socket,udp=%s,localaddr=%s", remote, local);
	return 0;
}

int qemu_net_text(const char *netdev, char *out, size_t size, struct err *e)
{
	char kind[32] = "";

	qemu_value(netdev, "", kind, sizeof(kind));
	if (!strcmp(kind, "tap"))
		return tap_text(netdev, out, size, e);
	if (!strcmp(kind, "user"))
		return user_text(netdev, out, size, e);
	if (!strcmp(kind, "socket"))
		return socket_text(netdev, out, size, e);
	if (!strcmp(kind, "stream"))
		return stream_text(netdev, out, size, e);
	if (!strcmp(kind, "dgram"))
		return dgram_text(netdev, out, size, e);
	return err_set(e, EINVAL, "-netdev %.200s: there are user, tap, socket, stream and dgram here; between "
		       "VMs 'vireo run --net switch=NAME', too", netdev);
}

static int push_net(struct qemu *q, const char *netdev, const char *card, struct err *e)
{
	char text[QEMU_TEXT_MAX], mac[32] = "", mtu[16] = "", id[64] = "", name[64] = "";
	int rc;

	rc = qemu_net_text(netdev, text, sizeof(text), e);
	if (rc)
		return rc;
	if (!qemu_value(card, "mac", mac, sizeof(mac)))
		qemu_value(card, "macaddr", mac, sizeof(mac));
	qemu_value(card, "host_mtu", mtu, sizeof(mtu));
	/* What QMP calls them; a card of -nic's has no name. */
	if (card != netdev && qemu_value(card, "netdev", name, sizeof(name)))
		qemu_value(card, "id", id, sizeof(id));
	return qemu_push(q, e, "--net", "%s%s%s%s%s%s%s%s%s", text, mac[0] ? ",mac=" : "", mac, mtu[0] ? ",mtu=" : "",
			 mtu, id[0] ? ",id=" : "", id, name[0] ? ",netdev=" : "", name);
}

int qemu_add_net(struct qemu *q, const char *device, struct err *e)
{
	const char *netdev;
	const int rc = qemu_named(&netdev, &q->netdevs, device, "netdev", e);

	if (rc)
		return rc;
	q->netdevs_used |= BIT(qemu_place_among(&q->netdevs, netdev));
	return push_net(q, netdev, device, e);
}

int qemu_add_spare_nets(struct qemu *q, struct err *e)
{
	char text[QEMU_TEXT_MAX], id[64];
	int rc = 0;

	for (unsigned int i = 0; i < q->netdevs.count && !rc; i++) {
		if (q->netdevs_used & BIT(i))
			continue;
		rc = qemu_net_text(q->netdevs.text[i], text, sizeof(text), e);
		if (!rc && qemu_can_be_asked(q) && qemu_value(q->netdevs.text[i], "id", id, sizeof(id)))
			rc = qemu_push(q, e, "--spare-net", "%s,netdev=%s", text, id);
	}
	return rc;
}

/* Those of -nic and -net, which have a card with them, and what QEMU does without any option. */
int qemu_add_cards(struct qemu *q, struct err *e)
{
	char model[64];
	int rc = 0;

	for (unsigned int i = 0; i < q->nics.count && !rc; i++) {
		const char *text = q->nics.text[i];

		if (qemu_value(text, "model", model, sizeof(model)) && strncmp(model, "virtio", 6))
			rc = err_set(e, EINVAL, "-nic model=%s: there is virtio-net-pci here", model);
		if (!rc)
			rc = push_net(q, text, strstr(text, "mac=") || strstr(text, "macaddr=") || !q->nic_mac ? text :
				      q->nic_mac, e);
	}
	if (!rc && !q->net_given && !q->no_defaults)
		rc = qemu_push(q, e, "--net", "user");
	return rc;
}
