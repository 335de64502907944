// SPDX-License-Identifier: Apache-2.0
/* QMP's connections and events; see qmp.h. */
#include "mgmt/qmp.h"
#include "machine/vm.h"
#include "mgmt/qmp_priv.h"
#include "mgmt/run_devices.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

/* A client's mark: has it said qmp_capabilities?  Only then it hears of events. */
enum { GREETED, READY };

/* --- events --- */

const char *const qmp_event_names[] = {
	"STOP", "RESUME", "RESET", "POWERDOWN", "SHUTDOWN", "GUEST_PANICKED", "WATCHDOG",
	"DEVICE_DELETED", NULL,
};

void qmp_event(struct qmp *q, const char *name, json_t *data)
{
	struct timeval now;
	json_t *event;
	char *text;

	gettimeofday(&now, NULL);
	event = json_pack("{s:s,s:{s:I,s:I}}", "event", name, "timestamp",
			  "seconds", (json_int_t)now.tv_sec,
			  "microseconds", (json_int_t)now.tv_usec);
	if (event && data)
		json_object_set(event, "data", data);
	json_decref(data);
	text = event ? json_dumps(event, JSON_COMPACT) : NULL;
	for (unsigned int i = 0; text && i < q->places; i++)
		line_tell(q->place[i].server, READY, text);
	free(text);
	json_decref(event);
}

static const char *shutdown_reason(const struct vm_news *n)
{
	switch (n->exit) {
	case VM_EXIT_STOPPED:
		return "host-qmp-quit";
	case VM_EXIT_PANIC:
		return "guest-panic";
	case VM_EXIT_RESET:
		return n->by_host ? "host-qmp-system-reset" : "guest-reset";
	case VM_EXIT_ERROR:
		return "host-error";
	default:
		return "guest-shutdown";
	}
}

static json_t *watchdog_data(enum vm_watchdog action)
{
	static const char *const names[] = {
		[WATCHDOG_RESET] = "reset", [WATCHDOG_POWEROFF] = "poweroff",
		[WATCHDOG_PAUSE] = "pause", [WATCHDOG_NONE] = "none",
	};

	return json_pack("{s:s}", "action", names[action]);
}

static void told(void *arg, const struct vm_news *n)
{
	struct qmp *q = arg;

	switch (n->kind) {
	case VM_NEWS_STOP:
		qmp_event(q, "STOP", NULL);
		break;
	case VM_NEWS_RESUME:
		qmp_event(q, "RESUME", NULL);
		break;
	case VM_NEWS_RESET:
		qmp_event(q, "RESET", json_pack("{s:b,s:s}", "guest", !n->by_host, "reason",
						n->by_host ? "host-qmp-system-reset"
							   : "guest-reset"));
		break;
	case VM_NEWS_POWERDOWN:
		qmp_event(q, "POWERDOWN", NULL);
		break;
	case VM_NEWS_PANIC:
		qmp_event(q, "GUEST_PANICKED", json_pack("{s:s}", "action", "poweroff"));
		break;
	case VM_NEWS_WATCHDOG:
		qmp_event(q, "WATCHDOG", watchdog_data(n->action));
		break;
	case VM_NEWS_SHUTDOWN:
		qmp_event(q, "SHUTDOWN", json_pack("{s:b,s:s}", "guest", !n->by_host, "reason",
						   shutdown_reason(n)));
		break;
	}
}

static void device_gone(void *arg, const char *id)
{
	char path[128];

	snprintf(path, sizeof(path), "/machine/peripheral/%s", id);
	qmp_event(arg, "DEVICE_DELETED", json_pack("{s:s,s:s}", "device", id, "path", path));
}

/* --- requests --- */

static void opened(void *arg, struct line_client *client)
{
	(void)arg;
	json_command_reply(client, json_pack("{s:{s:o,s:[]}}", "QMP", "version", qmp_version(),
					     "capabilities"), NULL);
}

/* NULL: the object has what a request has, and nothing else. */
static json_t *wrong_members(const json_t *request)
{
	char text[128];
	const char *key;
	json_t *value;

	if (!json_is_object(request))
		return json_refuse("GenericError", "QMP input must be a JSON object");
	json_object_foreach((json_t *)request, key, value) {
		if (!strcmp(key, "execute") || !strcmp(key, "arguments") || !strcmp(key, "id"))
			continue;
		snprintf(text, sizeof(text), "QMP input member '%.60s' is unexpected", key);
		return json_refuse("GenericError", text);
	}
	return NULL;
}

static json_t *negotiate(struct line_client *client, const json_t *request)
{
	const json_t *enable = json_object_get(json_object_get(request, "arguments"), "enable");

	if (enable && (!json_is_array(enable) || json_array_size(enable)))
		return json_refuse("GenericError", "this server has no capabilities to enable");
	line_mark(client, READY);
	return json_pack("{s:{}}", "return");
}

static json_t *answer(struct qmp *q, struct line_client *client, const json_t *request)
{
	const char *name = json_string_value(json_object_get(request, "execute"));
	const bool capabilities = name && !strcmp(name, "qmp_capabilities");
	json_t *wrong = wrong_members(request);

	if (wrong)
		return wrong;
	if (capabilities && line_marked(client) == GREETED)
		return negotiate(client, request);
	if (capabilities)
		return json_refuse("CommandNotFound", "capabilities are negotiated once");
	if (name && line_marked(client) == GREETED)
		return json_refuse("CommandNotFound",
				   "capabilities come first: say 'qmp_capabilities'");
	return json_command_answer(&qmp_commands, q, request);
}

static void request(void *arg, struct line_client *client, char *line, size_t len)
{
	json_t *request, *reply;

	if (strspn(line, " \t\r\n") == len)
		return;
	request = json_command_read(line, len, &reply);
	if (request)
		reply = answer(arg, client, request);
	json_command_reply(client, reply, request);
	json_decref(request);
}

static void too_long(void *arg, struct line_client *client)
{
	(void)arg;
	json_command_reply(client, json_refuse("GenericError", "this request is too long"), NULL);
}

/* --- making --- */

static int serve(struct qmp *q, const char *where, struct err *e)
{
	static const struct line_server_ops ops = {
		.opened = opened, .line = request, .too_long = too_long, .json = true,
	};
	int rc;

	rc = line_place_open(&q->place[q->places], q->at.chars, "--qmp", where, &ops, q, e);
	if (rc)
		line_place_close(&q->place[q->places]);
	else
		q->places++;
	return rc;
}

int qmp_create(struct qmp **out, const struct vm_access *at, struct err *e)
{
	struct qmp *q = calloc(1, sizeof(*q));
	int rc = 0;

	if (!q)
		return err_set(e, ENOMEM, "out of memory for --qmp");
	q->at = *at;
	json_object_seed(0);	/* which opens a file, now and not later */
	q->watcher = (struct vm_watcher){ .told = told, .arg = q };
	vm_watch(at->vm, &q->watcher);
	run_disks_watch(at->disks, device_gone, q);
	run_nets_watch(at->nets, device_gone, q);
	for (unsigned int i = 0; i < at->options->qmp_count && !rc; i++)
		rc = serve(q, at->options->qmp[i], e);
	if (rc)
		qmp_destroy(q);
	else
		*out = q;
	return rc;
}

void qmp_destroy(struct qmp *q)
{
	if (!q)
		return;
	run_disks_watch(q->at.disks, NULL, NULL);
	run_nets_watch(q->at.nets, NULL, NULL);
	vm_unwatch(q->at.vm, &q->watcher);
	while (q->places)
		line_place_close(&q->place[--q->places]);
	free(q);
}
