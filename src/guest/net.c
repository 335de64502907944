// SPDX-License-Identifier: Apache-2.0
/*
 * The network that `vireo run -p` makes has one guest, whose address is always the same; asking
 * for it by DHCP would only take time.
 */
#include "guest/guest.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <net/route.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct sockaddr address(const char *text)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct sockaddr out;

	inet_pton(AF_INET, text, &a.sin_addr);
	memcpy(&out, &a, sizeof(out));
	return out;
}

/* Brings @name up with an address, if one is given. */
static int bring_up(int fd, const char *name, const char *addr, const char *mask)
{
	struct ifreq r = { 0 };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (addr) {
		r.ifr_addr = address(addr);
		if (ioctl(fd, SIOCSIFADDR, &r))
			return -1;
		r.ifr_netmask = address(mask);
		if (ioctl(fd, SIOCSIFNETMASK, &r))
			return -1;
	}
	if (ioctl(fd, SIOCGIFFLAGS, &r))
		return -1;
	r.ifr_flags |= IFF_UP | IFF_RUNNING;
	return ioctl(fd, SIOCSIFFLAGS, &r);
}

/* The first that is not the loopback. */
static int find_card(char name[IFNAMSIZ])
{
	DIR *dir = opendir("/sys/class/net");
	struct dirent *d;
	int found = 0;

	while (dir && !found && (d = readdir(dir))) {
		found = d->d_name[0] != '.' && strcmp(d->d_name, "lo");
		if (found)
			snprintf(name, IFNAMSIZ, "%.*s", IFNAMSIZ - 1, d->d_name);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* The root's may be a symbolic link to nowhere. */
static void name_server(void)
{
	static const char text[] = "nameserver 10.0.2.3\n";
	int fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);

	if (fd < 0 && errno == ELOOP && !unlink("/etc/resolv.conf"))
		fd = open("/etc/resolv.conf", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
	if (fd < 0)
		return;
	if (write(fd, text, sizeof(text) - 1) < 0)
		guest_say("no name server could be named: %s", strerror(errno));
	close(fd);
}

void guest_network(void)
{
	const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct rtentry route = { .rt_flags = RTF_UP | RTF_GATEWAY };
	char name[IFNAMSIZ];
	int found = 0;

	if (fd < 0)
		return;
	bring_up(fd, "lo", NULL, NULL);
	for (int ms = 0; !(found = find_card(name)) && ms < 2000; ms += 20)
		guest_sleep_ms(20);
	route.rt_dst = address("0.0.0.0");
	route.rt_genmask = address("0.0.0.0");
	route.rt_gateway = address("10.0.2.2");
	if (!found)
		guest_say("there is no network card (does this kernel have VIRTIO_NET?)");
	else if (bring_up(fd, name, "10.0.2.15", "255.255.255.0") || ioctl(fd, SIOCADDRT, &route))
		guest_say("the network card '%s' cannot be set up: %s", name, strerror(errno));
	else
		name_server();
	close(fd);
}
