// SPDX-License-Identifier: Apache-2.0
/* The text that describes a user-mode network; see net_user.h. */
#include "backend/net_user.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ITEM_MAX	256U

static int parse_port(uint16_t *port, const char *text)
{
	unsigned long n = 0;

	if (!*text || strlen(text) > 5)
		return -EINVAL;
	for (; *text; text++) {
		if (!isdigit((unsigned char)*text))
			return -EINVAL;
		n = n * 10 + (*text - '0');
	}
	if (!n || n > 65535)
		return -EINVAL;
	*port = n;
	return 0;
}

/* "ADDR:PORT", "[V6]:PORT" or ":PORT", which leaves the address as it is.  Changes @text. */
static int parse_endpoint(union user_addr *a, char *text)
{
	char *colon = strrchr(text, ':');
	uint16_t port;

	if (!colon || parse_port(&port, colon + 1))
		return -EINVAL;
	*colon = '\0';
	if (text[0] == '[' && colon[-1] == ']') {
		colon[-1] = '\0';
		*a = (union user_addr){ .v6 = { .sin6_family = AF_INET6 } };
		if (inet_pton(AF_INET6, text + 1, &a->v6.sin6_addr) != 1)
			return -EINVAL;
	} else if (*text && inet_pton(AF_INET, text, &a->v4.sin_addr) != 1) {
		return -EINVAL;
	}
	/* At the same place in both. */
	a->v4.sin_port = htons(port);
	return 0;
}

/* Takes a leading "tcp:" or "udp:" (or only ":") off. */
static char *skip_protocol(char *text, bool *udp)
{
	*udp = !strncmp(text, "udp:", 4);
	if (*udp || !strncmp(text, "tcp:", 4))
		return text + 4;
	return text[0] == ':' ? text + 1 : NULL;
}

/* "[tcp|udp]:[hostaddr]:hostport-[guestaddr]:guestport" */
static int parse_long(struct user_forward *f, char *text)
{
	char *host = skip_protocol(text, &f->udp);
	char *guest = host ? strchr(host, '-') : NULL;

	if (!guest)
		return -EINVAL;
	*guest++ = '\0';
	f->host.v4.sin_family = f->guest.v4.sin_family = AF_INET;
	if (parse_endpoint(&f->host, host) || parse_endpoint(&f->guest, guest))
		return -EINVAL;
	return f->host.sa.sa_family == f->guest.sa.sa_family ? 0 : -EINVAL;
}

/* "HOSTPORT:GUESTPORT[/udp]", on the host's loopback only. */
static int parse_short(struct user_forward *f, char *text)
{
	char *guest = strchr(text, ':');
	char *slash = strchr(text, '/');
	uint16_t host_port, guest_port;

	if (!guest)
		return -EINVAL;
	*guest++ = '\0';
	if (slash) {
		*slash++ = '\0';
		f->udp = !strcmp(slash, "udp");
		if (!f->udp && strcmp(slash, "tcp"))
			return -EINVAL;
	}
	if (parse_port(&host_port, text) || parse_port(&guest_port, guest))
		return -EINVAL;
	f->host.v4 = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(host_port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	f->guest.v4 = (struct sockaddr_in){
		.sin_family = AF_INET, .sin_port = htons(guest_port),
	};
	return 0;
}

int user_config_forward(struct user_config *c, const char *text, struct err *e)
{
	struct user_forward f = { 0 };
	char copy[ITEM_MAX];

	if (c->forward_count == USER_FORWARDS_MAX)
		return err_set(e, EINVAL, "a network forwards at most %u ports; '%s' is one too many",
			       USER_FORWARDS_MAX, text);
	if (strlen(text) >= sizeof(copy))
		return err_set(e, EINVAL, "a port forwarding is too long: '%.40s...'", text);
	strcpy(copy, text);
	if (strchr(text, '-') ? parse_long(&f, copy) : parse_short(&f, copy))
		return err_set(e, EINVAL, "'%s' forwards no port: write 2222:22, or "
			       "tcp:127.0.0.1:2222-:22 ([tcp|udp]:[hostaddr]:hostport-"
			       "[guestaddr]:guestport)", text);
	c->forwards[c->forward_count++] = f;
	return 0;
}

/* "[tcp]:ADDR:PORT-unix:PATH" */
static int set_guestfwd(struct user_config *c, const char *text, struct err *e)
{
	struct user_guestfwd *g = &c->guestfwds[c->guestfwd_count];
	union user_addr a = { .v4.sin_family = AF_INET };
	char copy[ITEM_MAX], *at, *path = NULL;
	bool udp = false;

	if (c->guestfwd_count == USER_GUESTFWDS_MAX)
		return err_set(e, EINVAL, "a network has at most %u guestfwd; '%s' is one too many",
			       USER_GUESTFWDS_MAX, text);
	snprintf(copy, sizeof(copy), "%s", text);
	at = skip_protocol(copy, &udp);
	if (at)
		path = strstr(at, "-unix:");
	if (path)
		*path = '\0';
	if (!path || udp || parse_endpoint(&a, at) || a.sa.sa_family != AF_INET ||
	    !a.v4.sin_addr.s_addr)
		return err_set(e, EINVAL, "guestfwd '%s' leads nowhere: write "
			       "tcp:10.0.2.100:80-unix:/run/a.sock", text);
	path += strlen("-unix:");
	if (!*path || strlen(path) >= sizeof(g->path))
		return err_set(e, EINVAL, "guestfwd needs the path of a Unix socket, of at most "
			       "%zu bytes: '%s'", sizeof(g->path) - 1, text);
	g->addr = a.v4.sin_addr;
	g->port = ntohs(a.v4.sin_port);
	strcpy(g->path, path);
	c->guestfwd_count++;
	return 0;
}

/* "10.0.2.0/24" */
static int set_net(struct user_config *c, const char *text, struct err *e)
{
	char copy[ITEM_MAX], *slash;
	unsigned long bits = 24;
	char *end;

	snprintf(copy, sizeof(copy), "%s", text);
	slash = strchr(copy, '/');
	if (slash) {
		*slash++ = '\0';
		bits = strtoul(slash, &end, 10);
		if (!isdigit((unsigned char)*slash) || *end)
			bits = 0;
	}
	if (inet_pton(AF_INET, copy, &c->net) != 1 || bits < 8 || bits > 27)
		return err_set(e, EINVAL, "'%s' is no network: write net=10.0.2.0/24, the mask of 8 "
			       "to 27 bits", text);
	c->mask.s_addr = htonl(~0U << (32 - bits));
	c->net.s_addr &= c->mask.s_addr;
	return 0;
}

static int set_hostname(struct user_config *c, const char *text, struct err *e)
{
	if (!*text || strlen(text) >= sizeof(c->hostname))
		return err_set(e, EINVAL, "a host name has 1 to %zu characters, not as '%s'",
			       sizeof(c->hostname) - 1, text);
	strcpy(c->hostname, text);
	return 0;
}

static int parse_switch(bool *to, const char *name, const char *value, struct err *e)
{
	*to = !*value || !strcmp(value, "on");
	if (!*to && strcmp(value, "off"))
		return err_set(e, EINVAL, "%s is on or off, not '%s'", name, value);
	return 0;
}

static int parse_item(struct user_config *c, char *item, struct err *e)
{
	char *value = strchr(item, '=');

	if (value)
		*value++ = '\0';
	else
		value = item + strlen(item);
	if (!strcmp(item, "hostfwd"))
		return user_config_forward(c, value, e);
	if (!strcmp(item, "guestfwd"))
		return set_guestfwd(c, value, e);
	if (!strcmp(item, "restrict"))
		return parse_switch(&c->restricted, item, value, e);
	if (!strcmp(item, "ipv6"))
		return parse_switch(&c->ipv6, item, value, e);
	if (!strcmp(item, "net"))
		return set_net(c, value, e);
	if (!strcmp(item, "hostname"))
		return set_hostname(c, value, e);
	return err_set(e, EINVAL, "user networking has no option '%s'; it has hostfwd=, guestfwd=, "
		       "restrict=on, ipv6=off, net=ADDR/BITS, hostname=", item);
}

int user_config_parse(struct user_config *c, const char *text, struct err *e)
{
	char item[ITEM_MAX];
	size_t n;
	int rc = 0;

	*c = (struct user_config){ .ipv6 = true, .hostname = "vireo" };
	inet_pton(AF_INET, "10.0.2.0", &c->net);
	inet_pton(AF_INET, "255.255.255.0", &c->mask);
	while (*text && !rc) {
		n = strcspn(text, ",");
		if (n >= sizeof(item))
			return err_set(e, EINVAL, "an option of user networking is too long: "
				       "'%.40s...'", text);
		memcpy(item, text, n);
		item[n] = '\0';
		if (n)
			rc = parse_item(c, item, e);
		text += n + (text[n] == ',');
	}
	return rc;
}
