// SPDX-License-Identifier: Apache-2.0
/* Networks as text; see net_spec.h. */
#include "mgmt/net_spec.h"
#include "backend/net_socket.h"
#include "backend/net_tap.h"
#include "backend/net_user.h"
#include "backend/switch_socket.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int parse_mac(uint8_t mac[NET_MAC_LEN], const char *text, struct err *e)
{
	unsigned int b[NET_MAC_LEN];
	int end = 0;

	if (sscanf(text, "%2x:%2x:%2x:%2x:%2x:%2x%n", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6 || text[end])
		return err_set(e, EINVAL, "'%s' is no MAC address: write mac=52:54:00:12:34:56", text);
	if (b[0] & 1)
		return err_set(e, EINVAL, "%s is a group's address; a card's has an even first byte",
			       text);
	for (unsigned int i = 0; i < NET_MAC_LEN; i++)
		mac[i] = b[i];
	return 0;
}

static int parse_mtu(uint16_t *mtu, const char *text, struct err *e)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (*end || end == text || n < 68 || n > 65535)
		return err_set(e, EINVAL, "'%s' is no MTU: write mtu=1500, between 68 and 65535", text);
	*mtu = n;
	return 0;
}

static int parse_name(char out[64], const char *text, struct err *e)
{
	if (!*text || strlen(text) > 60)
		return err_set(e, EINVAL, "'%.70s' is no name of a network card: it has 1 to 60 characters", text);
	strcpy(out, text);
	return 0;
}

/* Takes the card's options out of @text, which is "a,b,c"; the rest goes to s->text. */
static int split_items(struct net_spec *s, const char *text, struct err *e)
{
	char item[NET_SPEC_MAX];
	size_t used = 0;
	int rc = 0;

	while (*text && !rc) {
		const size_t n = strcspn(text, ",");

		memcpy(item, text, n);
		item[n] = '\0';
		text += n + (text[n] == ',');
		if (!strncmp(item, "mac=", 4)) {
			rc = parse_mac(s->mac, item + 4, e);
			s->mac_given = true;
		} else if (!strncmp(item, "mtu=", 4)) {
			rc = parse_mtu(&s->mtu, item + 4, e);
		} else if (!strncmp(item, "id=", 3)) {
			rc = parse_name(s->id, item + 3, e);
		} else if (!strncmp(item, "netdev=", 7)) {
			rc = parse_name(s->netdev, item + 7, e);
		} else {
			used += snprintf(s->text + used, sizeof(s->text) - used, "%s%s",
					 used ? "," : "", item);
		}
	}
	return rc;
}

static int parse_kind(struct net_spec *s, const char **text, struct err *e)
{
	static const struct { const char *name; enum net_kind kind; } kinds[] = {
		{ "none", NET_NONE }, { "user", NET_USER }, { "tap", NET_TAP },
		{ "switch", NET_SWITCH }, { "socket", NET_SOCKET },
	};
	const size_t n = strcspn(*text, ",=");

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		if (strlen(kinds[i].name) != n || strncmp(*text, kinds[i].name, n))
			continue;
		s->kind = kinds[i].kind;
		*text += n;
		if ((s->kind == NET_SWITCH) != (**text == '='))
			break;
		*text += **text != '\0';
		return 0;
	}
	return err_set(e, EINVAL, "'%s' is no network: write user, user,hostfwd=2222:22, "
		       "tap,ifname=tap0, switch=NAME, socket,listen=HOST:PORT or none", *text);
}

int net_spec_parse(struct net_spec *s, const char *text, struct err *e)
{
	struct net_socket_config socket;
	struct user_config user;
	struct tap_config tap;
	int rc;

	*s = (struct net_spec){ 0 };
	if (strlen(text) >= sizeof(s->text))
		return err_set(e, EINVAL, "the text of --net is too long: '%.40s...'", text);
	rc = parse_kind(s, &text, e);
	if (!rc)
		rc = split_items(s, text, e);
	if (rc)
		return rc;
	switch (s->kind) {
	case NET_NONE:
		return s->text[0] ? err_set(e, EINVAL, "'none' takes no options: '%s'", s->text) : 0;
	case NET_USER:
		return user_config_parse(&user, s->text, e);
	case NET_TAP:
		return tap_config_parse(&tap, s->text, e);
	case NET_SWITCH:
		return switch_name_check(s->text, e);
	case NET_SOCKET:
		return net_socket_config_parse(&socket, s->text, e);
	}
	return 0;
}

int net_spec_open(struct net_backend **out, const struct net_spec *s, struct log *log,
		  struct err *e)
{
	struct net_socket_config socket;
	struct tap_config tap;
	int rc;

	switch (s->kind) {
	case NET_SOCKET:
		rc = net_socket_config_parse(&socket, s->text, e);
		return rc ? rc : net_socket_create(out, &socket, log, e);
	case NET_USER:
		return net_user_create(out, NULL, s->text, log, e);
	case NET_TAP:
		rc = tap_config_parse(&tap, s->text, e);
		return rc ? rc : net_tap_create(out, &tap, log, e);
	case NET_SWITCH:
		return net_switch_connect(out, NULL, s->text, log, e);
	default:
		return err_set(e, EINVAL, "no network is named");
	}
}
