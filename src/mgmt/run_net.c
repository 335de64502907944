// SPDX-License-Identifier: Apache-2.0
/* The network cards of `vireo run`: --net and --publish, and those that come and go while it runs. */
#include "backend/net_user.h"
#include "mgmt/net_spec.h"
#include "mgmt/run_devices.h"
#include "virtio/net.h"

#include <errno.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

struct run_net {
	struct run_nets *all;
	bool used;
	unsigned int slot;
	enum net_kind kind;
	char id[64], netdev[64];
	struct virtio_device *device;
};

/* A network that QMP has named: its back end waits for a card, or a card has it or had it. */
struct run_netdev {
	char name[64];
	char *text;			/* --net's; NULL: this entry is free */
	struct net_backend *backend;	/* NULL: the next card's is made of the text */
};

struct run_nets {
	struct vm *vm;
	bool kept, confined;
	void (*gone)(void *arg, const char *id);	/* a card is; or NULL */
	void *gone_arg;
	unsigned int made;		/* cards until now: no two have an address */
	struct run_net net[RUN_NETS_MAX];
	struct run_netdev netdev[RUN_NETS_MAX];
};

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

static void closed(void *arg)
{
	struct run_net *n = arg;
	struct run_nets *all = n->all;

	if (all->gone && n->slot)
		all->gone(all->gone_arg, n->id);
	n->used = false;
}

/* A free entry for what @s says; its id is nobody else's. */
static int take_entry(struct run_nets *all, struct run_net **out, const struct net_spec *s, struct err *e)
{
	struct run_net *n = NULL;

	for (unsigned int i = 0; i < RUN_NETS_MAX; i++) {
		if (!all->net[i].used)
			n = n ? n : &all->net[i];
		else if (s->id[0] && !strcmp(all->net[i].id, s->id))
			return err_set(e, EEXIST, "Duplicate device ID '%s'", s->id);
	}
	if (!n)
		return err_set(e, E2BIG, "a VM has at most %d network cards", RUN_NETS_MAX);
	*n = (struct run_net){ .all = all, .kind = s->kind };
	strcpy(n->id, s->id);
	strcpy(n->netdev, s->netdev);
	*out = n;
	return 0;
}

/* *backend, if it is made already, is the card's and NULL from when nothing is wrong with @s. */
static int add_card(struct run_nets *all, struct net_spec *s, struct net_backend **backend, struct err *e)
{
	struct vm *vm = all->vm;
	struct virtio_net_setup setup = {
		.space = vm_space(vm), .log = vm_log(vm), .backend = *backend, .mtu = s->mtu, .closed = closed,
	};
	struct virtio_device *d;
	struct run_net *n = NULL;
	int rc;

	rc = take_entry(all, &n, s, e);
	if (!rc && !*backend)
		rc = net_spec_open(&setup.backend, s, vm_log(vm), e);
	if (rc)
		return rc;
	*backend = NULL;
	memcpy(setup.mac, s->mac, NET_MAC_LEN);
	setup.arg = n;
	rc = virtio_net_create(&d, &setup, e);
	if (!rc)
		rc = vm_plug_virtio(vm, d, e);
	if (rc < 0)
		return rc;
	all->made++;
	n->used = true;
	n->device = d;
	n->slot = rc;
	if (!n->id[0])
		snprintf(n->id, sizeof(n->id), "net%u", (unsigned int)(n - all->net));
	return n->slot;
}

static struct run_netdev *find_netdev(struct run_nets *all, const char *name)
{
	for (unsigned int i = 0; i < RUN_NETS_MAX; i++)
		if (all->netdev[i].text ? !strcmp(all->netdev[i].name, name) : !name[0])
			return &all->netdev[i];
	return NULL;
}

static const struct run_net *user_of(const struct run_nets *all, const char *netdev)
{
	for (unsigned int i = 0; i < RUN_NETS_MAX; i++)
		if (all->net[i].used && !strcmp(all->net[i].netdev, netdev))
			return &all->net[i];
	return NULL;
}

static int open_netdev(struct run_nets *all, const char *name, const char *text, struct err *e)
{
	struct run_netdev *n;
	struct net_spec s;
	int rc;

	if (!name[0] || strlen(name) > 60 || strchr(name, ','))
		return err_set(e, EINVAL, "Parameter 'id' expects an identifier");
	if (find_netdev(all, name) || user_of(all, name))
		return err_set(e, EEXIST, "Duplicate ID '%s' for netdev", name);
	n = find_netdev(all, "");
	if (!n)
		return err_set(e, E2BIG, "at most %d networks can wait for a card", RUN_NETS_MAX);
	rc = net_spec_parse(&s, text, e);
	if (!rc)
		rc = net_spec_open(&n->backend, &s, vm_log(all->vm), e);
	if (rc)
		return rc;
	n->text = strdup(text);
	if (!n->text) {
		n->backend->ops->destroy(n->backend);
		*n = (struct run_netdev){ 0 };
		return err_set(e, ENOMEM, "out of memory for a network");
	}
	strcpy(n->name, name);
	return 0;
}

int run_add_nets(struct run_nets **out, struct vm *vm, const struct run_options *o, struct err *e)
{
	struct run_nets *all = calloc(1, sizeof(*all));
	struct net_backend *none = NULL;
	struct net_spec s;
	int rc = 0;

	if (!all)
		return err_set(e, ENOMEM, "out of memory for the network cards");
	*out = all;
	all->vm = vm;
	all->kept = o->kept;
	all->confined = o->sandbox != SANDBOX_OFF || o->jail;
	for (unsigned int i = 0; i < card_count(o) && rc >= 0; i++) {
		rc = get_spec(&s, o, i, e);
		if (rc || s.kind == NET_NONE)
			continue;
		choose_mac(&s, i, o->kept);
		rc = add_card(all, &s, &none, e);
	}
	for (unsigned int i = 0; i < o->spare_net_count && rc >= 0; i++) {
		rc = net_spec_parse(&s, o->spare_net[i], e);
		if (!rc && !s.netdev[0])
			rc = err_set(e, EINVAL, "--spare-net %s: netdev=NAME is missing", o->spare_net[i]);
		if (!rc)
			rc = open_netdev(all, s.netdev, o->spare_net[i], e);
	}
	return MIN(rc, 0);
}

void run_nets_free(struct run_nets *all)
{
	for (unsigned int i = 0; all && i < RUN_NETS_MAX; i++) {
		if (all->netdev[i].backend)
			all->netdev[i].backend->ops->destroy(all->netdev[i].backend);
		free(all->netdev[i].text);
	}
	free(all);
}

/* --- while the VM runs --- */

void run_nets_watch(struct run_nets *all, void (*gone)(void *arg, const char *id), void *arg)
{
	all->gone = gone;
	all->gone_arg = arg;
}

void run_nets_list(struct run_nets *all, void (*tell)(void *arg, const struct run_net_info *net), void *arg)
{
	static const char *const kinds[] = {
		[NET_NONE] = "none", [NET_USER] = "user", [NET_TAP] = "tap", [NET_SWITCH] = "switch",
		[NET_SOCKET] = "socket",
	};

	for (unsigned int i = 0; i < RUN_NETS_MAX; i++) {
		const struct run_net *n = &all->net[i];
		struct run_net_info info = {
			.slot = n->slot, .id = n->id, .netdev = n->netdev, .kind = kinds[n->kind],
		};

		if (!n->used)
			continue;
		virtio_net_counts(n->device, &info.counts);
		tell(arg, &info);
	}
}

static int confined(struct err *e)
{
	return err_set(e, EPERM, "the sandbox lets this VM open no network while it runs: start it with it "
		       "(--spare-net, QEMU's -netdev without a card), or with --sandbox off");
}

int run_netdev_add(struct run_nets *all, const char *name, const char *text, struct err *e)
{
	return all->confined ? confined(e) : open_netdev(all, name, text, e);
}

int run_netdev_remove(struct run_nets *all, const char *name, struct err *e)
{
	struct run_netdev *n = name[0] ? find_netdev(all, name) : NULL;

	if (!n)
		return err_set(e, ENOENT, "Device '%.100s' not found", name);
	if (user_of(all, name))
		return err_set(e, EBUSY, "Device '%s' is in use", name);
	if (n->backend)
		n->backend->ops->destroy(n->backend);
	free(n->text);
	*n = (struct run_netdev){ 0 };
	return 0;
}

int run_nets_add(struct run_nets *all, const char *netdev, const char *id, const char *mac, struct err *e)
{
	struct run_netdev *n = netdev[0] ? find_netdev(all, netdev) : NULL;
	char text[NET_SPEC_MAX];
	struct net_spec s;
	int rc;

	if (!n)
		return err_set(e, ENOENT, "Property 'virtio-net-device.netdev' can't find value '%.100s'", netdev);
	if (user_of(all, netdev))
		return err_set(e, EBUSY, "Property 'virtio-net-device.netdev' can't take value '%s', it's in use",
			       netdev);
	if (snprintf(text, sizeof(text), "%s%s%s%s%s,netdev=%s", n->text, id[0] ? ",id=" : "", id, mac ? ",mac=" : "",
		     mac ? mac : "", netdev) >= (int)sizeof(text))
		return err_set(e, EINVAL, "the names of a network card are too long");
	rc = net_spec_parse(&s, text, e);
	if (rc)
		return rc;
	if (!n->backend && all->confined)
		return confined(e);
	choose_mac(&s, all->made, all->kept);
	return add_card(all, &s, &n->backend, e);
}

int run_nets_remove_id(struct run_nets *all, const char *id, struct err *e)
{
	for (unsigned int i = 0; i < RUN_NETS_MAX; i++)
		if (all->net[i].used && !strcmp(all->net[i].id, id))
			return vm_unplug_slot(all->vm, all->net[i].slot, e);
	return err_set(e, ENOENT, "Device '%.100s' not found", id);
}
