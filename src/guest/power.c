// SPDX-License-Identifier: Apache-2.0
/*
 * The power button, which `vireo stop` presses.  The kernel tells of it through generic netlink:
 * the family "acpi_event" and its group (include/linux/acpi.h, drivers/acpi/event.c), which needs
 * neither input devices nor their drivers, only the module "button".
 */
#include "guest/guest.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FAMILY		"acpi_event"
#define ATTR_EVENT	1		/* ACPI_GENL_ATTR_EVENT: begins with the device's class */
#define POWER_CLASS	"button/power"

struct message {
	struct nlmsghdr head;
	struct genlmsghdr generic;
	char attributes[4096];
} __attribute__((aligned(NLMSG_ALIGNTO)));

/* The attribute @type of the @len bytes at @at; NULL: it is not there. */
static const struct nlattr *find(const void *at, size_t len, unsigned int type)
{
	const char *p = at;

	while (len >= NLA_HDRLEN) {
		const struct nlattr *a = (const void *)p;
		const size_t step = NLA_ALIGN(a->nla_len);

		if (a->nla_len < NLA_HDRLEN || a->nla_len > len)
			return NULL;
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return a;
		if (step >= len)
			return NULL;
		p += step;
		len -= step;
	}
	return NULL;
}

static const struct nlattr *inner(const struct nlattr *a, unsigned int type)
{
	return a ? find((const char *)a + NLA_HDRLEN, a->nla_len - NLA_HDRLEN, type) : NULL;
}

/* The next message's attributes; their size, or 0. */
static size_t receive(int fd, struct message *m)
{
	const ssize_t n = recv(fd, m, sizeof(*m), 0);
	const size_t head = NLMSG_HDRLEN + GENL_HDRLEN;

	if (n < (ssize_t)head || m->head.nlmsg_len < head || m->head.nlmsg_len > (size_t)n ||
	    m->head.nlmsg_type == NLMSG_ERROR)
		return 0;
	return m->head.nlmsg_len - head;
}

/* The number of the family's group, of which there is one; 0: this kernel has none. */
static unsigned int find_group(int fd)
{
	struct message m = {
		.head = { .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST },
		.generic = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
	};
	const struct nlattr name = {
		.nla_len = NLA_HDRLEN + sizeof(FAMILY), .nla_type = CTRL_ATTR_FAMILY_NAME,
	};
	const struct nlattr *id;
	unsigned int group;
	size_t n;

	memcpy(m.attributes, &name, sizeof(name));
	memcpy(m.attributes + NLA_HDRLEN, FAMILY, sizeof(FAMILY));
	m.head.nlmsg_len = NLMSG_HDRLEN + GENL_HDRLEN + NLA_ALIGN(name.nla_len);
	if (send(fd, &m, m.head.nlmsg_len, 0) < 0)
		return 0;
	n = receive(fd, &m);
	/* A list of groups, whose members are numbered from 1. */
	id = inner(inner(find(m.attributes, n, CTRL_ATTR_MCAST_GROUPS), 1), CTRL_ATTR_MCAST_GRP_ID);
	if (!n || !id || id->nla_len < NLA_HDRLEN + sizeof(group))
		return 0;
	memcpy(&group, (const char *)id + NLA_HDRLEN, sizeof(group));
	return group;
}

int guest_power_open(void)
{
	const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	const struct sockaddr_nl any = { .nl_family = AF_NETLINK };
	unsigned int group;

	if (fd < 0)
		return -1;
	group = bind(fd, (const struct sockaddr *)&any, sizeof(any)) ? 0 : find_group(fd);
	if (group && !setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)))
		return fd;
	close(fd);
	return -1;
}

void guest_power_wait(int fd)
{
	const struct nlattr *event;
	struct message m;
	size_t n;

	do {
		n = receive(fd, &m);
		event = n ? find(m.attributes, n, ATTR_EVENT) : NULL;
	} while (!event || event->nla_len < NLA_HDRLEN + sizeof(POWER_CLASS) ||
		 memcmp((const char *)event + NLA_HDRLEN, POWER_CLASS, sizeof(POWER_CLASS) - 1));
}
