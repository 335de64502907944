// SPDX-License-Identifier: Apache-2.0
/* The network cards of `vireo run`: --net and --publish. */
#include "backend/net_user.h"
#include "mgmt/net_spec.h"
#include "mgmt/run_devices.h"
#include "virtio/net.h"

#include <errno.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

/* Adds the ports of --publish to the first network, which must be a user's. */
static int publish(struct net_spec *s, const struct run_options *o, struct err *e)
{
	struct user_config check;
	size_t used = strlen(s->text);

	for (unsigned int i = 0; i < o->publish_count; i++) {
		if (strchr(o->publish[i], ',') ||
		    used + strlen(o->publish[i]) + 10 >= sizeof(s->text))
			return err_set(e, EINVAL, "'%s' publishes no port: write 2222:22 or 53:53/udp",
				       o->publish[i]);
		used += sprintf(s->text + used, "%shostfwd=%s", used ? "," : "", o->publish[i]);
	}
	return user_config_parse(&check, s->text, e);
}

/* Card @i as text; --publish alone makes a user's network. */
static int get_spec(struct net_spec *s, const struct run_options *o, unsigned int i,
		    struct err *e)
{
	int rc = net_spec_parse(s, o->net_count ? o->net[i] : "user", e);

	if (rc || i || !o->publish_count)
		return rc;
	if (s->kind != NET_USER)
		return err_set(e, EINVAL, "--publish forwards ports of the first network, which must "
			       "be 'user', not '%s'", o->net[i]);
	return publish(s, o, e);
}

static unsigned int card_count(const struct run_options *o)
{
	return o->net_count ? o->net_count : o->publish_count > 0;
}

int run_net_check(const struct run_options *o, struct err *e)
{
	struct net_spec s;
	int rc = 0;

	for (unsigned int i = 0; i < card_count(o) && !rc; i++)
		rc = get_spec(&s, o, i, e);
	return rc;
}

/* The end of a kept machine's address: its own on this host, in each run, and not its copy's. */
static bool kept_mac(uint8_t end[3], unsigned int i)
{
	uint8_t digest[SHA256_DIGEST_SIZE];
	char host[64] = "", folder[PATH_MAX];
	struct sha256_ctx h;
	FILE *f = fopen("/etc/machine-id", "re");

	if (f && !fgets(host, sizeof(host), f))
		host[0] = '\0';
	if (f)
		fclose(f);
	if (!getcwd(folder, sizeof(folder)))
		return false;
	sha256_init(&h);
	sha256_update(&h, sizeof(host), (const uint8_t *)host);
	sha256_update(&h, strlen(folder), (const uint8_t *)folder);
	sha256_update(&h, sizeof(i), (const uint8_t *)&i);
	sha256_digest(&h, sizeof(digest), digest);
	memcpy(end, digest, 3);
	return true;
}

/*
 * Alone on a user's network the same address serves every VM, and is the same in each run;
 * where cards meet, it must differ.
 */
static void choose_mac(struct net_spec *s, unsigned int i, bool kept)
{
	static const uint8_t first[NET_MAC_LEN] = { 0x52, 0x54, 0x00, 0x12, 0x34, 0x56 };

	if (s->mac_given)
		return;
	memcpy(s->mac, first, NET_MAC_LEN);
	if (s->kind != NET_USER && kept && kept_mac(s->mac + 3, i))
		return;
	if (s->kind == NET_USER || getrandom(s->mac + 3, 3, 0) != 3)
		s->mac[5] += i;
}

static int add_card(struct vm *vm, struct net_spec *s, struct err *e)
{
	struct virtio_net_setup setup = {
		.space = vm_space(vm), .log = vm_log(vm), .mtu = s->mtu,
	};
	struct virtio_device *d;
	int rc;

	memcpy(setup.mac, s->mac, NET_MAC_LEN);
	rc = net_spec_open(&setup.backend, s, vm_log(vm), e);
	if (!rc)
		rc = virtio_net_create(&d, &setup, e);
	return rc ? rc : vm_add_virtio(vm, d, e);
}

int run_add_nets(struct vm *vm, const struct run_options *o, struct err *e)
{
	struct net_spec s;
	int rc = 0;

	for (unsigned int i = 0; i < card_count(o) && !rc; i++) {
		rc = get_spec(&s, o, i, e);
		if (rc || s.kind == NET_NONE)
			continue;
		choose_mac(&s, i, o->kept);
		rc = add_card(vm, &s, e);
	}
	return rc;
}
