// SPDX-License-Identifier: Apache-2.0
/* Sockets as text; see socket_spec.h. */
#include "mgmt/socket_spec.h"
#include "base/unix_listen.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define BACKLOG	16

static int set_item(struct socket_spec *s, const char *option, const char *item, struct err *e)
{
	if (!strcmp(item, "server") || !strcmp(item, "server=on"))
		return 0;
	if (!strcmp(item, "wait=on") || !strcmp(item, "wait=off")) {
		s->wait = !strcmp(item, "wait=on");
		return 0;
	}
	return err_set(e, EINVAL, "%s knows no '%s': it takes unix:PATH[,server=on][,wait=on|off]",
		       option, item);
}

int socket_spec_parse(struct socket_spec *s, const char *option, const char *text, struct err *e)
{
	char copy[512], *rest = copy, *path, *item;
	int rc = 0;

	*s = (struct socket_spec){ 0 };
	if (strlen(text) >= sizeof(copy))
		return err_set(e, ENAMETOOLONG, "%s: the text is too long", option);
	strcpy(copy, text);
	path = strsep(&rest, ",");
	if (strncmp(path, "unix:", 5) || !path[5])
		return err_set(e, EINVAL, "%s: '%s' is no unix:PATH", option, text);
	if (strlen(path + 5) >= sizeof(s->path))
		return err_set(e, ENAMETOOLONG, "the name of a socket has at most %zu bytes (a relative one "
			       "may do): %s",
			       sizeof(s->path) - 1, path + 5);
	strcpy(s->path, path + 5);
	while (!rc && (item = strsep(&rest, ",")))
		rc = set_item(s, option, item, e);
	return rc;
}

int socket_spec_listen(const struct socket_spec *s, struct err *e)
{
	struct pollfd client = { .events = POLLIN };

	client.fd = unix_listen(s->path, BACKLOG, e);
	if (client.fd < 0 || !s->wait)
		return client.fd;
	while (poll(&client, 1, -1) < 0 && errno == EINTR)
		;
	return client.fd;
}
