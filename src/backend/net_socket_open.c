// SPDX-License-Identifier: Apache-2.0
/* Opens what a socket network's text says; see net_socket.h. */
#include "backend/net_socket_priv.h"
#include "base/stream_socket.h"
#include "base/unix_listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WHAT	"a socket network"

/* --- text --- */

static int set_fd(struct net_socket_config *c, const char *value, struct err *e)
{
	char *end;

	c->fd = strtol(value, &end, 10);
	if (value[0] < '0' || value[0] > '9' || *end || fcntl(c->fd, F_GETFD) < 0)
		return err_set(e, EBADF, WHAT ": '%s' is no open descriptor", value);
	return 0;
}

static int set_item(struct net_socket_config *c, const char *key, const char *value, struct err *e)
{
	static const struct { const char *key; enum net_socket_how how; } hows[] = {
		{ "listen", NET_SOCKET_LISTEN }, { "connect", NET_SOCKET_CONNECT }, { "fd", NET_SOCKET_FD },
		{ "mcast", NET_SOCKET_MCAST }, { "udp", NET_SOCKET_UDP },
	};
	char *to = c->where;

	if (strlen(value) >= sizeof(c->where))
		return err_set(e, ENAMETOOLONG, WHAT ": '%s' is too long", value);
	if (!strcmp(key, "localaddr")) {
		strcpy(c->local, value);
		return 0;
	}
	for (size_t i = 0; i < ARRAY_SIZE(hows); i++) {
		if (strcmp(key, hows[i].key))
			continue;
		if (c->how != NET_SOCKET_NONE)
			return err_set(e, EINVAL, WHAT " is one of listen, connect, fd, mcast, udp");
		c->how = hows[i].how;
		strcpy(to, value);
		return c->how == NET_SOCKET_FD ? set_fd(c, value, e) : 0;
	}
	return err_set(e, EINVAL, WHAT " knows no '%s': it takes listen=HOST:PORT, connect=HOST:PORT, "
		       "fd=N, mcast=GROUP:PORT, udp=HOST:PORT, localaddr=HOST:PORT", key);
}

/* Do the addresses read as such?  Nothing is opened. */
static int check(const struct net_socket_config *c, struct err *e)
{
	struct sockaddr_storage a;
	socklen_t len;

	if (c->how == NET_SOCKET_NONE)
		return err_set(e, EINVAL, WHAT " needs one of listen=, connect=, fd=, mcast=, udp=");
	if (c->how == NET_SOCKET_UDP && !c->local[0])
		return err_set(e, EINVAL, WHAT ": udp= needs localaddr=HOST:PORT, where its frames come in");
	if (c->local[0] && c->how != NET_SOCKET_UDP && c->how != NET_SOCKET_MCAST)
		return err_set(e, EINVAL, WHAT ": localaddr= is for mcast= and udp=");
	if (c->how == NET_SOCKET_FD || !strncmp(c->where, "unix:", 5))
		return 0;
	return inet_address(&a, &len, WHAT, c->where, e);
}

int net_socket_config_parse(struct net_socket_config *c, const char *text, struct err *e)
{
	char copy[1024], *rest = copy, *item, *value;
	int rc = 0;

	*c = (struct net_socket_config){ .fd = -1 };
	if (strlen(text) >= sizeof(copy))
		return err_set(e, ENAMETOOLONG, WHAT ": the text is too long");
	strcpy(copy, text);
	while (!rc && (item = strsep(&rest, ","))) {
		value = strchr(item, '=');
		if (value)
			*value++ = '\0';
		rc = set_item(c, item, value ? value : "", e);
	}
	return rc ? rc : check(c, e);
}

const char *net_socket_leaves(const struct net_socket_config *c)
{
	return c->how == NET_SOCKET_LISTEN && !strncmp(c->where, "unix:", 5) ? c->where + 5 : NULL;
}

/* --- sockets --- */

/* The descriptor as it is: a stream or datagrams, connected. */
static int take_fd(struct net_socket_opened *o, int fd, struct err *e)
{
	socklen_t len = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) ||
	    (type != SOCK_STREAM && type != SOCK_DGRAM))
		return err_set(e, ENOTSOCK, "descriptor %d is no stream or datagram socket", fd);
	o->datagrams = type == SOCK_DGRAM;
	o->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return o->fd < 0 ? err_errno(e, errno, "could not take descriptor %d", fd) : 0;
}

/* A UDP socket at @local; -errno. */
static int udp_at(const struct sockaddr_storage *local, socklen_t len, const char *text, struct err *e)
{
	const int fd = socket(local->ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), yes = 1;
	int rc;

	if (fd < 0)
		return err_errno(e, errno, WHAT ": could not create a socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (!bind(fd, (const struct sockaddr *)local, len))
		return fd;
	rc = err_errno(e, errno, WHAT ": could not use %s", text);
	close(fd);
	return rc;
}

static int join_group(struct net_socket_opened *o, const struct net_socket_config *c, struct err *e)
{
	const struct sockaddr_in *group = (const struct sockaddr_in *)&o->to;
	struct ip_mreq m = { 0 };
	int rc;

	rc = inet_address(&o->to, &o->to_len, WHAT, c->where, e);
	if (rc)
		return rc;
	if (group->sin_family != AF_INET || !IN_MULTICAST(ntohl(group->sin_addr.s_addr)))
		return err_set(e, EINVAL, WHAT ": '%s' is no multicast group, such as 230.0.0.1:1234",
			       c->where);
	m.imr_multiaddr = group->sin_addr;
	if (c->local[0] && inet_pton(AF_INET, c->local, &m.imr_interface) != 1)
		return err_set(e, EINVAL, WHAT ": localaddr=%s is no address of an interface here", c->local);
	o->fd = udp_at(&o->to, o->to_len, c->where, e);
	if (o->fd < 0)
		return o->fd;
	if (setsockopt(o->fd, IPPROTO_IP, IP_ADD_MEMBERSHIP, &m, sizeof(m)) ||
	    (c->local[0] && setsockopt(o->fd, IPPROTO_IP, IP_MULTICAST_IF, &m.imr_interface,
				       sizeof(m.imr_interface))))
		return err_errno(e, errno, WHAT ": could not join the group %s", c->where);
	return 0;
}

static int open_udp(struct net_socket_opened *o, const struct net_socket_config *c, struct err *e)
{
	struct sockaddr_storage local;
	socklen_t len;
	int rc;

	rc = inet_address(&local, &len, WHAT, c->local, e);
	if (!rc)
		rc = inet_address(&o->to, &o->to_len, WHAT, c->where, e);
	if (!rc)
		rc = o->fd = udp_at(&local, len, c->local, e);
	return MIN(rc, 0);
}

static int open_stream(struct net_socket_opened *o, const struct net_socket_config *c, struct err *e)
{
	const char *path = strncmp(c->where, "unix:", 5) ? NULL : c->where + 5;

	if (c->how == NET_SOCKET_LISTEN) {
		o->listener = path ? unix_listen(path, 1, e) : inet_listen(WHAT, c->where, 1, e);
		return MIN(o->listener, 0);
	}
	o->fd = path ? unix_connect(path, e) : inet_connect(WHAT, c->where, e);
	return MIN(o->fd, 0);
}

int net_socket_open(struct net_socket_opened *o, const struct net_socket_config *c, struct err *e)
{
	*o = (struct net_socket_opened){ .fd = -1, .listener = -1 };
	switch (c->how) {
	case NET_SOCKET_FD:
		return take_fd(o, c->fd, e);
	case NET_SOCKET_MCAST:
		o->datagrams = o->group = true;
		return join_group(o, c, e);
	case NET_SOCKET_UDP:
		o->datagrams = true;
		return open_udp(o, c, e);
	default:
		return open_stream(o, c, e);
	}
}
