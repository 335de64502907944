// SPDX-License-Identifier: Apache-2.0
/* The monitor's socket; see monitor.h. */
#include "mgmt/monitor.h"
#include "base/line_server.h"
#include "machine/vm.h"
#include "mgmt/monitor_command.h"
#include "mgmt/socket_spec.h"
#include "mgmt/vm_commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT	"(qemu) "

struct monitor_server {
	struct vm_access at;
	char *path;
	int listener;
	struct line_server *server;
};

static void opened(void *arg, struct line_client *client)
{
	(void)arg;
	line_send(client, "Vireo " VIREO_VERSION " monitor - type 'help' for more information\r");
	line_send_part(client, PROMPT);
}

static void line(void *arg, struct line_client *client, char *text, size_t len)
{
	struct monitor_server *s = arg;
	char *answer = monitor_command(&s->at, text);

	(void)len;
	/* A terminal's echo, which clients skip until the first newline. */
	text[strcspn(text, "\r")] = '\0';
	line_send_part(client, text);
	line_send(client, "\r");
	if (answer)
		line_send_part(client, answer);
	line_send_part(client, PROMPT);
	free(answer);
}

int monitor_create(struct monitor_server **out, const struct vm_access *at, const char *where,
		   struct err *e)
{
	static const struct line_server_ops ops = { .opened = opened, .line = line };
	struct monitor_server *s = calloc(1, sizeof(*s));
	struct socket_spec spec;
	int rc;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for --monitor");
	s->at = *at;
	s->listener = -1;
	rc = socket_spec_parse(&spec, "--monitor", where, e);
	if (!rc)
		rc = s->listener = socket_spec_listen(&spec, e);
	if (rc >= 0) {
		s->path = strdup(spec.path);
		rc = line_server_create(&s->server, vm_loop(at->vm), s->listener, &ops, s, e);
	}
	if (rc) {
		monitor_destroy(s);
		return rc;
	}
	*out = s;
	return 0;
}

void monitor_destroy(struct monitor_server *s)
{
	if (!s)
		return;
	line_server_destroy(s->server);
	if (s->listener >= 0) {
		close(s->listener);
		unlink(s->path);
	}
	free(s->path);
	free(s);
}
