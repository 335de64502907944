// SPDX-License-Identifier: Apache-2.0
/* The monitor's socket; see monitor.h. */
#include "mgmt/monitor.h"
#include "base/line_server.h"
#include "machine/vm.h"
#include "mgmt/monitor_command.h"
#include "mgmt/run_char.h"
#include "mgmt/vm_commands.h"

#include <errno.h>
#include <stdlib.h>

#define PROMPT	"(qemu) "

struct monitor_server {
	struct vm_access at;
	struct line_place place[RUN_MONITORS_MAX];
	unsigned int places;
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
	if (answer)
		line_send_part(client, answer);
	line_send_part(client, PROMPT);
	free(answer);
}

static int serve(struct monitor_server *s, const char *where, struct err *e)
{
	static const struct line_server_ops ops = { .opened = opened, .line = line, .echo = true };
	int rc;

	rc = line_place_open(&s->place[s->places], s->at.chars, "--monitor", where, &ops, s, e);
	if (rc)
		line_place_close(&s->place[s->places]);
	else
		s->places++;
	return rc;
}

int monitor_create(struct monitor_server **out, const struct vm_access *at, struct err *e)
{
	struct monitor_server *s = calloc(1, sizeof(*s));
	int rc = 0;

	if (!s)
		return err_set(e, ENOMEM, "out of memory for --monitor");
	s->at = *at;
	for (unsigned int i = 0; i < at->options->monitor_count && !rc; i++)
		rc = serve(s, at->options->monitor[i], e);
	if (rc)
		monitor_destroy(s);
	else
		*out = s;
	return rc;
}

void monitor_destroy(struct monitor_server *s)
{
	if (!s)
		return;
	while (s->places)
		line_place_close(&s->place[--s->places]);
	free(s);
}
